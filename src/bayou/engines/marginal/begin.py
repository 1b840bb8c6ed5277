"""Where a maximisation begins: the joint mode, some steps of PQL, and the curvature there."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.starts import starting_effects
from bayou.errors import DataError

ROUNDS = 3
LOOSE = 1e-2  # how far from the mode a round may stay
FIRST = 0.7  # spread of the effects, in their unit
LEAST = 0.2  # by which an entry beside the diagonal may change, in its unit; sds shrink by 70 % at most
DISPERSION_STEPS = 4
ASIDE = 0.1  # of the logarithm of a dispersion, to see its curvature


def begin(of: Laplace) -> tuple[Array, Array]:
    """Return a starting point psi and an inverse Hessian there.

    The fixed effects by the joint mode, the covariances after a few steps by the average information of the working
    response, as PQL takes them; curvature from the same.
    """
    rng = np.random.default_rng(0)
    whole = of.again(True)
    whole.settled = LOOSE
    beta = next(iter(starting_effects(of.model, rng)))
    dispersion = np.full(max(of.levels, 1), of.scale if of.gaussian else 1.0)
    T = of.numbers.factors(FIRST * of.numbers.start())
    whole.point.rest[len(whole.point.rest) - len(beta) :] = beta
    entries = of.numbers.numbers(T)
    for _ in range(ROUNDS):
        if not whole.place(whole.join(beta, of.numbers.factors(entries), dispersion)):
            break
        step = usable_inverse(whole.information()) @ whole.working_slopes()
        longest = np.maximum(0.7 * np.abs(entries), LEAST * (of.numbers.row != of.numbers.column))
        entries = entries + np.clip(step, -longest, 2.0 * longest)
    T = of.numbers.factors(entries)
    P = len(beta)
    if P:
        beta = whole.point.rest[-P:].copy()
    psi = of.join(beta, T, dispersion)
    if of.priors:
        psi = _supported(of, psi)
    H = np.eye(of.size)
    if of.place(psi):
        a, b = of.explicit, of.explicit + of.numbers.size
        H[a:b, a:b] = usable_inverse(of.information())
        if of.explicit:
            try:
                unit = np.outer(of.beta_unit, of.beta_unit)
                H[:a, :a] = of.joint().working_covariance / unit
            except DataError:
                pass
        for i in range(b, of.size):
            H[i, i] = 0.5 / len(of.data.y) if of.gaussian else _settle(of, psi, i)
    return psi, H


def _settle(of: Laplace, psi: Array, i: int) -> float:
    """Bring the logarithm of a dispersion near its maximum given all else, in place; returns its inverse curvature.

    Newton steps of at most two, the curvature by a difference of gradients.
    """
    curvature = float(len(of.data.y))
    for _ in range(DISPERSION_STEPS):
        value, gradient = of.evaluate(psi)
        slope = float(gradient[i])
        aside = psi.copy()
        aside[i] += ASIDE
        found = (float(of.evaluate(aside)[1][i]) - slope) / ASIDE
        curvature = found if found > 0.0 else max(abs(found), 1e-2 * abs(slope), 1e-8)
        step = psi.copy()
        step[i] -= float(np.clip(slope / curvature, -2.0, 2.0))
        if not of.evaluate(step)[0] < value:
            break
        psi[i] = step[i]
        if abs(slope / curvature) < ASIDE:
            break
    return 1.0 / curvature


def _supported(of: Laplace, psi: Array) -> Array:
    """Return psi with sds and dispersions moved up or down together until the priors allow them."""
    T, scale = slice(of.explicit, of.explicit + of.numbers.size), slice(of.explicit + of.numbers.size, None)
    for k in range(40):
        for j in range(40):
            moved = psi.copy()
            moved[T] *= 2.0 ** (-(k // 2) if k % 2 else k // 2)
            moved[scale] += 0.5 * (-(j // 2) if j % 2 else j // 2)
            if np.isfinite(of.log_prior(moved)):
                return moved
    return psi

"""Where a maximisation begins: the joint mode, a little EM, and the curvature there."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.starts import starting_effects
from bayou.errors import DataError


def begin(of: Laplace) -> tuple[Array, Array]:
    """Return a starting point psi and an inverse Hessian there.

    The fixed effects by the joint mode, the covariances after two steps of EM (each level's squared coefficient
    plus its prediction error variance, averaged), curvature from the average information.
    """
    rng = np.random.default_rng(0)
    whole = of if of.integrated else Laplace(of.model, True, of.priors, of.data)
    beta = next(iter(starting_effects(of.model, rng)))
    dispersion = np.full(max(of.levels, 1), of.scale if of.gaussian else 1.0)
    T = of.numbers.factors(0.5 * of.numbers.start())
    whole.point.rest[len(whole.point.rest) - len(beta) :] = beta
    levels = [len(of.model.design.groupings[g].levels) for g in of.data.order]
    for _ in range(2):
        if not whole.place(whole.join(beta, T, dispersion)):
            break
        moments = whole.second_moments()
        for f, J in enumerate(levels):
            p = of.model.design.groupings[of.data.order[f]].Z.shape[1]
            root = np.linalg.cholesky(moments[f, :p, :p] / J + 1e-9 * np.eye(p))
            T[f, :p, :p] = T[f, :p, :p] @ root
        T = of.numbers.factors(of.numbers.numbers(T))  # entries outside the blocks are zero
    P = len(beta)
    if P:
        beta = whole.point.rest[-P:].copy()
    psi = of.join(beta, T, dispersion)
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
            H[i, i] = 2.0 / len(of.data.y)
    return psi, H

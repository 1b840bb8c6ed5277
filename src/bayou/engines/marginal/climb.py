"""From a start to the maximum of a marginal likelihood: descent, borders tried, how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayou._types import Array
from bayou.conditional.parameters import Parameters
from bayou.engines.marginal.descent import (
    CONVERGED,
    DECREMENT,
    GOING,
    ITERATIONS,
    NOISE,
    VALUE,
    advance,
    new_descent,
)
from bayou.engines.marginal.singular import probe, snap
from bayou.packed import packed

Evaluate = Callable[[Array], tuple[float, Array]]
GOOD = 1e-7  # of the gain still promised, where rounding ended a descent before its own tolerance
RESTARTS = 4


@dataclass
class Maximum:
    """Where a climb ended.

    Attributes
    ----------
    psi, value
        The parameters, and minus the criterion there.
    converged
        Whether it is a stationary point.
    iterations
        Quasi-Newton steps.
    promise
        The gain in the criterion that one more step promises: how far from the top, in log likelihood.
    H
        The inverse Hessian that the descent has learnt, (d, d).
    """

    psi: Array
    value: float
    converged: bool
    iterations: int
    promise: float
    H: Array


def descend(evaluate: Evaluate, psi: Array, H: Array, noise: float = 0.0) -> Maximum:
    """Minimise from psi with inverse Hessian H, without a look at borders; ``noise`` as of `climb`."""
    state = new_descent(psi, H)
    state.facts[NOISE] = noise
    handed = packed(state)
    status = GOING if len(psi) else CONVERGED
    if not len(psi):
        state.facts[VALUE] = evaluate(psi)[0]
    while status == GOING:
        status = int(advance(handed, *evaluate(state.trial)))
    value, promise = float(state.facts[VALUE]), 0.5 * float(state.facts[DECREMENT])
    converged = status == CONVERGED or (np.isfinite(value) and promise < max(GOOD, 10.0 * noise))
    return Maximum(state.x.copy(), value, bool(converged), int(state.facts[ITERATIONS]), promise, state.H)


def climb(
    evaluate: Evaluate, numbers: Parameters, at: int, psi: Array, H: Array, noise: float = 0.0
) -> Maximum:
    """Minimise from psi with inverse Hessian H; covariance parameters begin at position ``at``.

    ``noise`` is by how much rounding, or estimates of value and gradient that are not of each other, may raise the
    criterion along a step.

    When it returns, the last evaluation was at the minimum.
    """
    iterations = 0
    for _ in range(RESTARTS):
        found = descend(evaluate, psi, H, noise)
        iterations += found.iterations
        psi, value = found.psi, found.value
        if not numbers.size or not np.isfinite(value):
            break
        settled = snap(lambda x: evaluate(x)[0], numbers, psi, at, value)
        value = evaluate(settled)[0]
        psi = settled
        better = probe(lambda x: evaluate(x)[0], numbers, psi, at, value)
        if better is None:
            break
        psi, H = better, found.H.copy()
    evaluate(psi)
    return Maximum(psi, value, found.converged, iterations, found.promise, found.H)


def hessian(evaluate: Evaluate, psi: Array, H: Array) -> Array:
    """Return the Hessian (d, d) of minus the criterion by central differences of its gradient.

    Steps are a five-hundredth of a standard error, by the inverse Hessian of the descent: their own error stays below
    1e-4 even where a variance is small beside its standard error.
    """
    d = len(psi)
    out = np.empty((d, d))
    for i in range(d):
        step = np.zeros(d)
        step[i] = min(max(2e-3 * float(np.sqrt(max(H[i, i], 0.0))), 1e-5), 2e-3)
        above = np.array(evaluate(psi + step)[1])
        below = np.array(evaluate(psi - step)[1])
        out[i] = (above - below) / (2.0 * step[i])
    evaluate(psi)
    return 0.5 * (out + out.T)


def inverse_of_free(H: Array, free: NDArray[np.bool_]) -> Array:
    """Return the inverse (d, d) of a Hessian in the parameters that are free, zero elsewhere; NaN if it has none."""
    out = np.zeros_like(H)
    within = np.ix_(free, free)
    try:
        out[within] = np.linalg.inv(H[within])
    except np.linalg.LinAlgError:
        out[within] = np.nan
    return out

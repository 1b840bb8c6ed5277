"""The profiled likelihood of a Gaussian mixed model on sufficient sums: value and gradient, ML and REML.

With T the relative factors (b = sigma T u), r² the minimum of the penalised squares and M the whitened precision,

    −2 log L   = log|M_u| + n (1 + log(2 pi r²/n))
    −2 log L_R = log|M_u| + log|M_beta| + (n − P)(1 + log(2 pi r²/(n − P)))

(Bates et al. 2015, equations 34 and 41; prior weights add −Σ log w); with a residual variance s² that is given, the
last terms are r²/s² + n log(2 pi s²). The gradient in T is that of the expected log
density of u: −T⁻ᵀ(Σ_j E[u_j u_j'] − J I), lower triangle, the expectation over u given y.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.information import Averages, average_information, new_averages, scores
from bayou.conditional.parameters import LEAST, Parameters, set_factors
from bayou.conditional.rows import colour
from bayou.jit import kernel
from bayou.linalg.covariances import Inverse, divided, invert_by_hand, new_inverse, second_moments
from bayou.linalg.schur import Arrow, Border, Factor, new_factor
from bayou.linalg.whitened import factorise_whitened, modes
from bayou.sufficient import Sufficient


class Sums(NamedTuple):
    """A Gaussian mixed model without priors."""

    arrow: Arrow
    border: Border
    squares: Array  # (1,) y'Wy
    rows: float
    known: float  # the residual variance where it is given, else 0
    factor: Integers  # (d,) where the parameters stand in T, as in `Parameters`
    row: Integers
    column: Integers
    unit: Array


class Work(NamedTuple):
    """Scratch of one thread."""

    T: Array  # (K, p, p)
    factor: Factor
    inverse: Inverse
    u: Array  # (J, p) whitened modes
    rest: Array  # (R,) whitened modes, fixed effects as they are
    moments: Array  # (K, p, p)
    quotient: Array  # (K, p, p)
    gradient: Array  # (d,)
    facts: Array  # (2,) r², log determinants
    averages: Averages


def gaussian_sums(sums: Sufficient, numbers: Parameters) -> Sums:
    """Bring sufficient sums with one residual sd into the form of the kernels, without the prior of beta."""
    P = len(sums.border.linear)
    border = sums.border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
    n = float(sums.cells.rows[0])
    places = numbers.factor, numbers.row, numbers.column, numbers.unit
    return Sums(sums.pattern, border, sums.cells.squares.copy(), n, 0.0, *places)


def new_work(sums: Sums, numbers: Parameters) -> Work:
    """Allocate for this system."""
    return Work(
        T=np.zeros(numbers.shape),
        factor=new_factor(sums.arrow),
        inverse=new_inverse(sums.arrow),
        u=np.zeros_like(sums.arrow.a),
        rest=np.zeros_like(sums.arrow.d),
        moments=np.zeros(numbers.shape),
        quotient=np.zeros(numbers.shape),
        gradient=np.zeros(numbers.size),
        facts=np.zeros(2),
        averages=new_averages(sums.arrow.a, sums.arrow.d, numbers.size),
    )


@kernel
def deviance(sums: Sums, work: Work, psi: Array, restricted: bool) -> float:
    """Return minus the profiled log likelihood (restricted or not) at parameters psi; factorises and solves."""
    set_factors(sums.factor, sums.row, sums.column, sums.unit, psi, work.T)
    R = work.rest.shape[0]
    P = sums.border.linear.shape[0]
    ok, log_det, log_det_fixed, fitted = factorise_whitened(
        sums.arrow, sums.border, 1.0, work.T, R, work.factor
    )
    left = sums.squares[0] - fitted
    if sums.known > 0.0:
        left = max(left, 0.0)  # a fit without residuals is one like any other where their variance is known
    elif not left > 0.0:
        return math.inf
    if not ok:
        return math.inf
    modes(sums.arrow, work.factor, R, work.u, work.rest)
    work.facts[0] = left
    df = sums.rows - P if restricted else sums.rows
    if restricted:
        log_det += log_det_fixed
    work.facts[1] = log_det
    if sums.known > 0.0:
        return 0.5 * (log_det + left / sums.known + df * math.log(2.0 * math.pi * sums.known))
    return 0.5 * (log_det + df * (1.0 + math.log(2.0 * math.pi * left / df)))


@kernel
def slope(sums: Sums, work: Work, restricted: bool) -> None:
    """Fill ``work.gradient`` of `deviance`; its factor must be there, and the inverse of its Schur complement."""
    J, p = work.u.shape
    R = work.rest.shape[0]
    P = sums.border.linear.shape[0]
    n = R if restricted else R - P
    M, border = work.moments, sums.border
    second_moments(sums.arrow, border, work.factor, n, work.inverse, M)
    df = sums.rows - P if restricted else sums.rows
    precision = df / work.facts[0]
    if sums.known > 0.0:
        precision = 1.0 / sums.known
    for j in range(J):
        for i in range(p):
            for k in range(p):
                M[0, i, k] += precision * work.u[j, i] * work.u[j, k]
    for i in range(p):
        M[0, i, i] -= J
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                for k in range(q):
                    M[f + 1, i, k] += precision * work.rest[at + i] * work.rest[at + k]
        for i in range(q):
            M[f + 1, i, i] -= border.levels[f]
    for f in range(M.shape[0]):
        divided(work.T, f, p if f == 0 else border.size[f - 1], M, work.quotient)
    for a in range(work.gradient.shape[0]):
        f, i, k = sums.factor[a], sums.row[a], sums.column[a]
        # the criterion is even in a column: where it is held off zero, its slope is that at zero
        held = i == k and abs(work.T[f, i, i]) <= 1.5 * LEAST * sums.unit[a]
        for e in range(i + 1, work.T.shape[1]):
            held = held and work.T[f, e, i] == 0.0
        work.gradient[a] = 0.0 if held else -sums.unit[a] * work.quotient[f, i, k]


@kernel
def evaluate_small(sums: Sums, work: Work, psi: Array, restricted: bool) -> float:
    """`deviance` and `slope` in one, for a Schur complement small enough to be inverted by hand."""
    value = deviance(sums, work, psi, restricted)
    if math.isfinite(value):
        R = work.rest.shape[0]
        n = R if restricted else R - sums.border.linear.shape[0]
        invert_by_hand(work.factor.S, n, work.inverse.V)
        slope(sums, work, restricted)
    return value


@kernel
def information(sums: Sums, work: Work, restricted: bool) -> None:
    """Fill ``work.averages.information`` with the average information, sigma profiled out, where `deviance` stood."""
    averages = work.averages
    R = work.rest.shape[0]
    colour(sums.border, work.T, work.u, work.rest, averages.b, averages.coloured)
    scores(sums.arrow, averages.b, averages.coloured, averages.s, averages.s_rest)
    average_information(
        sums.arrow, sums.border, work.factor, R, work.T, sums.factor, sums.row, sums.column, sums.unit,
        work.u, work.rest, averages,
    )  # fmt: skip
    d = sums.unit.shape[0]
    df = sums.rows - sums.border.linear.shape[0] if restricted else sums.rows
    precision = df / work.facts[0]
    for i in range(d):
        for k in range(d):
            if sums.known > 0.0:
                averages.information[i, k] /= sums.known
            else:
                averages.information[i, k] *= precision
                averages.information[i, k] -= averages.mixed[i] * averages.mixed[k] * precision * precision * 2.0 / df

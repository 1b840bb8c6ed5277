"""The mode of all coefficients by damped Newton steps, the equations of each solved with a sparse Schur complement.

The steps, their search and where they end are those of `bayou.conditional.mode`.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.conditional.front import factorise, modes
from bayou.conditional.front_layout import Front, Pieces
from bayou.conditional.mode import (
    FLAT,
    FOUND,
    LIMIT,
    NEAR,
    NOT_DEFINITE,
    NOT_FOUND,
    ROUNDING,
    Point,
    System,
    derivatives,
    penalty,
    promise,
    search,
    set_eta,
    weigh,
)
from bayou.families.codes import GAUSSIAN_IDENTITY
from bayou.jit import kernel


@kernel(entry=True)
def find_mode(
    system: System, point: Point, T: Array, dispersion: float, n: int, q: int, settled: float, front: Front,
    pieces: Pieces,
) -> int:  # fmt: skip
    """Find the mode from where the point stands, and leave the factor of the precision there.

    n columns of the rest take part, q of every row's; it ends where twice the gain that a step promises is below
    ``settled``, for a quadratic log density after one step. Fills ``facts``; returns FOUND or what went wrong.
    """
    rows, border = system.rows, system.border
    set_eta(system, point, T, q)
    value = derivatives(system, point, dispersion)
    last = math.inf
    clip = True
    for _ in range(LIMIT):
        weigh(point, clip)
        ok, log_det, log_det_fixed = factorise(rows, border, T, point.weight, point.working, q, front, pieces)
        if not ok and not clip:
            clip = True
            weigh(point, clip)
            ok, log_det, log_det_fixed = factorise(rows, border, T, point.weight, point.working, q, front, pieces)
        if not ok:
            return NOT_DEFINITE
        modes(front, pieces, point.u_new, point.rest_new)
        gain = promise(system, point, T, n, q)
        if not math.isfinite(gain):
            return NOT_FOUND
        there = gain < settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last)
        if not there:
            last = gain
            clip = gain > NEAR
            value = search(system, point, dispersion, n, gain, value)
        if there or system.code == GAUSSIAN_IDENTITY:
            clipped = False
            for i in range(point.eta.shape[0]):
                clipped = clipped or point.curvature[i] < 0.0
            if clipped:
                weigh(point, False)
                ok, log_det, log_det_fixed = factorise(rows, border, T, point.weight, point.working, q, front, pieces)
                if not ok:
                    return NOT_DEFINITE
            point.facts[0] = value
            point.facts[1] = penalty(border, point.u, point.rest, n)
            point.facts[2] = log_det
            point.facts[3] = log_det_fixed
            return FOUND
    return NOT_FOUND

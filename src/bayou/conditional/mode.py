"""The mode of all coefficients given the hyperparameters: damped Newton in whitened coordinates.

Maximises l(eta) − ½ u'u − ½ (beta − m)'P (beta − m), eta = fixed part + Z T u (+ X beta). Each step solves the
mixed-model equations of the working response, W = −l'' (observed curvature, held at zero where a family is not
log-concave), and is halved until the objective has grown: undamped, it diverges on strongly separated binary data.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array
from bayou.conditional.rows import Rows, accumulate, colour, predictor
from bayou.families.rows import LANES, row_terms
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.whitened import factorise_whitened, modes

LIMIT = 200  # Newton steps
SETTLED = 1e-20  # twice the gain that a step promises, at a mode that a gradient is taken at
FLAT = 1e-9  # below which rounding hides whether the objective grew …
ROUNDING = 1e-15  # … and the share of the log likelihood that it takes
NEAR = 1e-2  # below which the mode is close
FOUND, NOT_DEFINITE, NOT_FOUND = 0, 1, 2


class System(NamedTuple):
    """The rows with their responses, and the equations of the coefficients, filled at each step."""

    code: int
    rows: Rows
    y: Array
    trials: Array
    weights: Array  # prior weights; divided by sigma² for a Gaussian response
    arrow: Arrow
    border: Border
    factor: Factor


class Point(NamedTuple):
    """Where the coefficients stand, and the rows there."""

    u: Array  # (J, p) whitened
    rest: Array  # (R,) whitened; fixed effects as they are (zeros when they are given)
    fixed: Array  # (n,) what of eta is given: the offset, and X beta
    eta: Array  # (n,)
    gradient: Array  # (n,) dl/deta
    curvature: Array  # (n,) −d²l/deta²
    weight: Array  # (n,) the curvature held at zero
    working: Array  # (n,)
    u_new: Array
    rest_new: Array
    b: Array  # (J, p)
    coloured: Array  # (R,)
    change: Array  # (n,) of eta along the step
    there: Array  # (n,)
    lanes: Array  # scratch of the row kernels
    facts: Array  # (4,) log likelihood of the rows, penalty, log determinants of the effects and the fixed effects


def new_point(shapes: dict[str, Any]) -> Point:
    """Allocate: shapes by what they count, rows "n", the eliminated factor's coefficients "Jp", the rest "R"."""
    sizes = {"u": "Jp", "u_new": "Jp", "b": "Jp", "rest": "R", "rest_new": "R", "coloured": "R"}
    arrays = {name: np.zeros(shapes[sizes.get(name, "n")]) for name in Point._fields}
    return Point(**{**arrays, "lanes": np.zeros(LANES), "facts": np.zeros(4)})


@kernel
def penalty(border: Border, u: Array, rest: Array, n: int) -> float:
    """½ u'u + ½ beta'P beta − beta'P m for what takes part."""
    J, p = u.shape
    t = 0.0
    for j in range(J):
        for i in range(p):
            t += 0.5 * u[j, i] * u[j, i]
    for i in range(border.fixed):
        t += 0.5 * rest[i] * rest[i]
    for i in range(n - border.fixed):
        x = rest[border.fixed + i]
        t -= border.linear[i] * x
        for k in range(n - border.fixed):
            t += 0.5 * x * border.precision[max(i, k), min(i, k)] * rest[border.fixed + k]
    return t


@kernel
def set_eta(system: System, point: Point, T: Array, q: int) -> None:
    """Eta of the present coefficients, the first q columns of the rest taking part."""
    colour(system.border, T, point.u, point.rest, point.b, point.coloured)
    for i in range(point.eta.shape[0]):
        point.eta[i] = point.fixed[i]
    predictor(system.rows, point.b, point.coloured, q, point.eta)


@kernel
def weigh(point: Point, clip: bool) -> None:
    """Fill weights and right-hand sides of the working regression at the present eta."""
    for i in range(point.eta.shape[0]):
        w = point.curvature[i]
        w = max(w, 0.0) if clip else w
        point.weight[i] = w
        point.working[i] = point.gradient[i] + w * (point.eta[i] - point.fixed[i])


@kernel
def equations(system: System, point: Point, n: int, q: int, clip: bool) -> None:
    """Fill the sums of the working regression at the present eta."""
    weigh(point, clip)
    accumulate(system.rows, point.weight, point.working, q, system.arrow)


@kernel
def derivatives(system: System, point: Point, dispersion: float) -> float:
    """Log likelihood of the rows at eta, with gradient and curvature."""
    return row_terms(
        system.code, system.y, system.trials, system.weights, point.eta, dispersion, point.gradient,
        point.curvature, point.lanes,
    )  # fmt: skip


@kernel
def promise(system: System, point: Point, T: Array, n: int, q: int) -> float:
    """Fill ``change`` of eta along the step to (u_new, rest_new); returns twice the gain that it promises.

    That is the step's length in the precision, Σ w change² + step'step, which equals gradient times step and, a sum
    of squares, keeps its digits down to the mode.
    """
    colour(system.border, T, point.u_new, point.rest_new, point.b, point.coloured)
    for i in range(point.eta.shape[0]):
        point.there[i] = point.fixed[i]
    predictor(system.rows, point.b, point.coloured, q, point.there)
    # the step solves H step = gradient: step' H step has none of the cancellation of gradient times step
    t = 0.0
    for i in range(point.eta.shape[0]):
        point.change[i] = point.there[i] - point.eta[i]
        t += point.weight[i] * point.change[i] * point.change[i]
    J, p = point.u.shape
    for j in range(J):
        for i in range(p):
            t += (point.u_new[j, i] - point.u[j, i]) ** 2
    border = system.border
    for i in range(border.fixed):
        t += (point.rest_new[i] - point.rest[i]) ** 2
    for i in range(n - border.fixed):
        step = point.rest_new[border.fixed + i] - point.rest[border.fixed + i]
        for k in range(n - border.fixed):
            other = point.rest_new[border.fixed + k] - point.rest[border.fixed + k]
            t += step * border.precision[max(i, k), min(i, k)] * other
    return t


@kernel(inner=True)
def _step(point: Point, length: float, n: int) -> None:
    """Add a multiple of the step, which u_new and rest_new hold."""
    J, p = point.u.shape
    for j in range(J):
        for i in range(p):
            point.u[j, i] += length * point.u_new[j, i]
    for i in range(n):
        point.rest[i] += length * point.rest_new[i]


@kernel
def turn(point: Point, n: int) -> None:
    """Make steps of the places (u_new, rest_new), and note the eta that they are taken from."""
    J, p = point.u.shape
    for j in range(J):
        for i in range(p):
            point.u_new[j, i] -= point.u[j, i]
    for i in range(n):
        point.rest_new[i] -= point.rest[i]
    for i in range(point.eta.shape[0]):
        point.there[i] = point.eta[i]


@kernel
def go(system: System, point: Point, dispersion: float, n: int, length: float) -> float:
    """Go a multiple of the step; returns the log likelihood of the rows there, with derivatives."""
    for i in range(point.eta.shape[0]):
        point.eta[i] = point.there[i] + length * point.change[i]
    _step(point, length, n)
    return derivatives(system, point, dispersion)


@kernel
def go_back(point: Point, n: int, length: float) -> None:
    """Take the coefficients back to where `turn` found them."""
    _step(point, -length, n)


@kernel
def search(system: System, point: Point, dispersion: float, n: int, gain: float, value: float) -> float:
    """Go along the step, halving it until the objective grows; returns the log likelihood of the rows there.

    The rows' derivatives are taken on the way: the whole step is nearly always the one.
    """
    before = value - penalty(system.border, point.u, point.rest, n)
    turn(point, n)
    length = 1.0
    new = value
    flat = FLAT + ROUNDING * abs(value)
    for _ in range(60):
        new = go(system, point, dispersion, n, length)
        grown = new - penalty(system.border, point.u, point.rest, n) - before
        if grown >= 1e-4 * length * gain or (gain < flat and math.isfinite(new)):
            break
        go_back(point, n, length)
        length *= 0.5
    return new


@kernel(entry=True)
def find_mode(system: System, point: Point, T: Array, dispersion: float, n: int, q: int, settled: float) -> int:
    """Find the mode from where the point stands, and leave the factor of the precision there.

    n columns of the rest take part, q of every row's; it ends where twice the gain that a step promises is below
    ``settled``. Fills ``facts``; returns FOUND or what went wrong.
    """
    set_eta(system, point, T, q)
    value = derivatives(system, point, dispersion)
    last = math.inf
    clip = True
    for _ in range(LIMIT):
        equations(system, point, n, q, clip)
        ok, log_det, log_det_fixed, _ = factorise_whitened(system.arrow, system.border, 1.0, T, n, system.factor)
        if not ok and not clip:
            clip = True
            equations(system, point, n, q, clip)
            ok, log_det, log_det_fixed, _ = factorise_whitened(system.arrow, system.border, 1.0, T, n, system.factor)
        if not ok:
            return NOT_DEFINITE
        modes(system.arrow, system.factor, n, point.u_new, point.rest_new)
        gain = promise(system, point, T, n, q)
        if not math.isfinite(gain):
            return NOT_FOUND
        if gain < settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last):
            clipped = False
            for i in range(point.eta.shape[0]):
                clipped = clipped or (clip and point.curvature[i] < 0.0)
            if clipped:
                equations(system, point, n, q, False)
                ok, log_det, log_det_fixed, _ = factorise_whitened(
                    system.arrow, system.border, 1.0, T, n, system.factor
                )
                if not ok:
                    return NOT_DEFINITE
            point.facts[0] = value
            point.facts[1] = penalty(system.border, point.u, point.rest, n)
            point.facts[2] = log_det
            point.facts[3] = log_det_fixed
            return FOUND
        last = gain
        clip = gain > NEAR  # near the mode the whole curvature, which is definite there, makes steps quadratic
        value = search(system, point, dispersion, n, gain, value)
    return NOT_FOUND

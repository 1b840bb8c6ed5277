"""The mode of all coefficients given the hyperparameters, on the constrained subspace: damped Newton.

Maximises l(eta) − ½ x'Qx + x'm, eta = fixed part + A x, subject to C x = 0. Each step solves the working regression
with W = −l'' (observed curvature, held at zero where a family is not log-concave) and is halved until the objective
has grown. For a Gaussian response with identity link one solve is all, and A'WA is summed once. Large systems that move
a little at a time begin with chords: steps with the last factor, which cost a solve and no factorisation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.field.constraint import Constraint, correct, prepare
from bayou.conditional.field.rows import Rows, accumulate, predictor, project
from bayou.conditional.mode import FLAT, FOUND, LIMIT, NEAR, NOT_DEFINITE, NOT_FOUND, ROUNDING
from bayou.families.codes import GAUSSIAN_IDENTITY
from bayou.families.rows import LANES, row_terms
from bayou.jit import kernel
from bayou.linalg.sparse import Factor, backward, factorise_in_place, forward, log_determinant
from bayou.linalg.symbolic import Symbolic

CHORDS = 4  # steps with one factor
FARTHEST = 50.0  # twice the gain that such a step may promise

__all__ = ["Point", "Prior", "System", "find_mode", "new_point", "penalty", "quadratic", "quadratic_slope"]


class Prior(NamedTuple):
    """Q and m of the coefficients: N(x; Q⁻¹m, Q⁻¹) as far as Q goes. Elements of the lower triangle."""

    row: Integers  # (nnz,)
    column: Integers  # (nnz,)
    at: Integers  # (nnz,) place in the factor's layout
    value: Array  # (nnz,)
    linear: Array  # (N,) m


class System(NamedTuple):
    """Everything that does not move with the coefficients."""

    code: int
    y: Array
    trials: Array
    weights: Array  # prior weights; divided by sigma² for a Gaussian response
    rows: Rows
    prior: Prior
    constraint: Constraint
    symbolic: Symbolic
    factor: Factor
    gram: Array  # A'WA at the prior weights, in the factor's layout; empty where weights move with eta
    scale: Array  # (1,) what the weights are of the prior weights


class Point(NamedTuple):
    """Where the coefficients stand, and the rows there."""

    x: Array  # (N,)
    fixed: Array  # (n,) what of eta is given
    eta: Array  # (n,)
    gradient: Array  # (n,) dl/deta
    curvature: Array  # (n,) −d²l/deta²
    weight: Array  # (n,) the curvature held at zero
    working: Array  # (n,)
    right: Array  # (N,)
    x_new: Array  # (N,)
    ordered: Array  # (N,)
    change: Array  # (n,) of eta along the step
    there: Array  # (n,)
    lanes: Array
    facts: Array  # (3,) log likelihood of the rows, ½ x'Qx − x'm, log determinant on the subspace


def new_point(n: int, N: int) -> Point:
    """Allocate for n rows and N coefficients."""
    own = {"x": N, "right": N, "x_new": N, "ordered": N, "lanes": LANES, "facts": 3}
    arrays: dict[str, Any] = {name: np.zeros(own.get(name, n)) for name in Point._fields}
    return Point(**arrays)


@kernel
def quadratic(prior: Prior, x: Array) -> float:
    """Return x'Qx."""
    t = 0.0
    for e in range(prior.value.shape[0]):
        r, c = prior.row[e], prior.column[e]
        t += prior.value[e] * x[r] * x[c] * (1.0 if r == c else 2.0)
    return t


@kernel
def quadratic_slope(prior: Prior, x: Array, out: Array) -> None:
    """Out (N,) += Q x."""
    for e in range(prior.value.shape[0]):
        r, c = prior.row[e], prior.column[e]
        out[r] += prior.value[e] * x[c]
        if r != c:
            out[c] += prior.value[e] * x[r]


@kernel
def penalty(prior: Prior, x: Array) -> float:
    """½ x'Qx − x'm."""
    t = 0.5 * quadratic(prior, x)
    for j in range(x.shape[0]):
        t -= prior.linear[j] * x[j]
    return t


@kernel(inner=True)
def _factorise(system: System, point: Point, clip: bool) -> float:
    """Factorise the precision of the working regression at the present eta; returns its log determinant or nan."""
    values, prior, constraint = system.factor.values, system.prior, system.constraint
    for i in range(point.eta.shape[0]):
        w = point.curvature[i]
        w = max(w, 0.0) if clip else w
        point.weight[i] = w
        point.working[i] = point.gradient[i] + w * (point.eta[i] - point.fixed[i])
    summed = system.gram.shape[0] > 0
    for q in range(values.shape[0]):
        values[q] = system.scale[0] * system.gram[q] if summed else 0.0
    for e in range(prior.value.shape[0]):
        values[prior.at[e]] += prior.value[e]
    for c in range(constraint.anchor.shape[0]):
        constraint.kappa[c] = max(values[constraint.anchor_at[c]], 1e-300)
        values[constraint.anchor_at[c]] += constraint.kappa[c]
    if not summed:
        accumulate(system.rows, point.weight, values)
    if not factorise_in_place(system.symbolic, system.factor):
        return math.nan
    total = log_determinant(system.symbolic, system.factor)
    return total + prepare(system.symbolic, system.factor, constraint)


@kernel(inner=True)
def _solve(system: System, point: Point) -> None:
    """Fill x_new with the solution of the working regression."""
    for j in range(point.right.shape[0]):
        point.right[j] = system.prior.linear[j]
    project(system.rows, point.working, point.right)
    forward(system.symbolic, system.factor, point.right, point.ordered)
    backward(system.symbolic, system.factor, point.ordered, point.x_new)
    correct(system.constraint, point.x_new)


@kernel(inner=True)
def _promise(system: System, point: Point) -> float:
    """Turn x_new into the step, fill ``change`` of eta; returns step'H step, twice the gain that it promises."""
    for i in range(point.change.shape[0]):
        point.change[i] = 0.0
    for j in range(point.x.shape[0]):
        point.x_new[j] -= point.x[j]
    predictor(system.rows, point.x_new, point.change)
    t = quadratic(system.prior, point.x_new)
    for i in range(point.change.shape[0]):
        t += point.weight[i] * point.change[i] * point.change[i]
    return t


@kernel(inner=True)
def _move(system: System, point: Point, dispersion: float, length: float) -> float:
    """Go to a multiple of the step from where ``there`` is; returns the log likelihood of the rows."""
    for i in range(point.eta.shape[0]):
        point.eta[i] = point.there[i] + length * point.change[i]
    return row_terms(
        system.code, system.y, system.trials, system.weights, point.eta, dispersion, point.gradient, point.curvature,
        point.lanes,
    )  # fmt: skip


@kernel(inner=True)
def _search(system: System, point: Point, dispersion: float, gain: float, value: float) -> float:
    """Go along the step, halving it until the objective grows; returns the log likelihood of the rows there."""
    before = value - penalty(system.prior, point.x)
    for i in range(point.eta.shape[0]):
        point.there[i] = point.eta[i]
    flat = FLAT + ROUNDING * abs(value)
    length, moved, new = 1.0, 0.0, value
    for _ in range(60):
        for j in range(point.x.shape[0]):
            point.x[j] += (length - moved) * point.x_new[j]
        moved = length
        new = _move(system, point, dispersion, length)
        grown = new - penalty(system.prior, point.x) - before
        if grown >= 1e-4 * length * gain or (gain < flat and math.isfinite(new)):
            break
        length *= 0.5
    return new


@kernel(inner=True)
def _begin(system: System, point: Point, dispersion: float) -> float:
    for i in range(point.eta.shape[0]):
        point.eta[i] = point.fixed[i]
        point.change[i] = 0.0
    predictor(system.rows, point.x, point.eta)
    for i in range(point.eta.shape[0]):
        point.there[i] = point.eta[i]
    return _move(system, point, dispersion, 0.0)


@kernel(inner=True)
def _leave(system: System, point: Point, value: float, log_det: float) -> int:
    point.facts[0] = value
    point.facts[1] = penalty(system.prior, point.x)
    point.facts[2] = log_det
    return FOUND


@kernel(inner=True)
def _linear(system: System, point: Point) -> int:
    """Solve once: the mode for a Gaussian response with identity link."""
    for i in range(point.eta.shape[0]):
        point.eta[i] = point.fixed[i]
        point.curvature[i] = system.weights[i]
        point.gradient[i] = system.weights[i] * (system.y[i] - point.fixed[i])
    log_det = _factorise(system, point, True)
    if not math.isfinite(log_det):
        return NOT_DEFINITE
    _solve(system, point)
    for j in range(point.x.shape[0]):
        point.x[j] = point.x_new[j]
    return _leave(system, point, _begin(system, point, 1.0), log_det)


@kernel(inner=True)
def _chords(system: System, point: Point, dispersion: float, settled: float) -> float:
    """Step with the factor of the last mode, as long as each promises a fifth of the one before or less.

    Fills ``facts[0]`` with the log likelihood of the rows; returns what one more step would promise.
    """
    last, promise = math.inf, math.inf
    for _ in range(CHORDS):
        for j in range(point.x.shape[0]):
            point.x_new[j] = 0.0
        quadratic_slope(system.prior, point.x, point.x_new)
        for j in range(point.x.shape[0]):
            point.right[j] = system.prior.linear[j] - point.x_new[j]
        project(system.rows, point.gradient, point.right)
        forward(system.symbolic, system.factor, point.right, point.ordered)
        backward(system.symbolic, system.factor, point.ordered, point.x_new)
        correct(system.constraint, point.x_new)
        gain = 0.0
        for j in range(point.x.shape[0]):
            gain += point.right[j] * point.x_new[j]
        if not (0.0 <= gain < 0.2 * last) or gain > FARTHEST:
            break
        promise = gain * gain / last if last < math.inf else math.inf  # the rate of the last two goes on
        for i in range(point.change.shape[0]):
            point.change[i] = 0.0
            point.there[i] = point.eta[i]
        predictor(system.rows, point.x_new, point.change)
        for j in range(point.x.shape[0]):
            point.x[j] += point.x_new[j]
        point.facts[0] = _move(system, point, dispersion, 1.0)
        last = gain
        if promise < settled:
            return promise
    return math.inf


@kernel(entry=True)
def find_mode(system: System, point: Point, dispersion: float, settled: float, chords: bool) -> int:
    """Find the mode from where the point stands, and leave the factor of the precision there.

    It ends where twice the gain that a step promises is below ``settled``; with ``chords`` it begins with steps by the
    factor that is there already. Fills ``facts``; returns FOUND or what went wrong.
    """
    if system.code == GAUSSIAN_IDENTITY:
        return _linear(system, point)
    value = _begin(system, point, dispersion)
    last = math.inf
    clip = True
    if chords and math.isfinite(value):
        point.facts[0] = value
        near = _chords(system, point, dispersion, settled) < settled
        value = point.facts[0]
        if near and math.isfinite(value):
            log_det = _factorise(system, point, False)
            if math.isfinite(log_det):
                return _leave(system, point, value, log_det)
    for _ in range(LIMIT):
        log_det = _factorise(system, point, clip)
        if not math.isfinite(log_det) and not clip:
            clip = True
            log_det = _factorise(system, point, clip)
        if not math.isfinite(log_det):
            return NOT_DEFINITE
        _solve(system, point)
        gain = _promise(system, point)
        if not math.isfinite(gain):
            return NOT_FOUND
        if gain < settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last):
            clipped = False
            for i in range(point.eta.shape[0]):
                clipped = clipped or (clip and point.curvature[i] < 0.0)
            if clipped:
                log_det = _factorise(system, point, False)
                if not math.isfinite(log_det):
                    return NOT_DEFINITE
            return _leave(system, point, value, log_det)
        last = gain
        clip = gain > NEAR
        value = _search(system, point, dispersion, gain, value)
    return NOT_FOUND

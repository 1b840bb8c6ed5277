"""Further starts for the search of the mode: the log density of the hyperparameters may have several.

A prior that puts an sd near zero, against data that put it elsewhere, makes two modes; so may two effects that can
stand in for each other.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.conditional.field import GaussianField
from bayou.engines.nested.climb import Peak, climb, curvature
from bayou.engines.nested.height import height

__all__ = ["peaks"]

RUNGS = {
    "log": (-4.0, -3.0, -2.0, -1.0, 0.5, 1.5),
    "logit": (-4.0, -1.5, 1.5, 4.0),
    "atanh": (-1.2, 0.0, 1.2),
}  # where to look, internal; of sds and dispersions, from where the first search starts
CHEAP = 1500  # rows and coefficients up to which all rungs are looked at
APART = 0.7  # rungs nearer than this say the same
DEEPEST = 40.0  # how far below the top a rung may be: the other coordinates have not moved yet
COUNTS = 8.0  # how far below the top a mode may be
DIP = 0.05  # between two modes
ROUNDS = 3


def peaks(field: GaussianField, first: Peak, start: Array) -> tuple[Peak, tuple[Peak, ...], int]:
    """Return the highest mode, the others that count, and the evaluations.

    From the highest known mode it walks along each coordinate, and climbs wherever the density rises again: no further
    than to the top of a mode that is known. ``first`` is a mode, and ``start`` where the search for it began.
    """
    found, best, used = [first], first, 0
    for _ in range(ROUNDS):
        starts, looked = _starts(field, best, start)
        used += looked
        before = best
        for place in starts:
            try:
                one, steps, _ = climb(field.evaluate, place, tuple(found))
            except ArithmeticError:
                continue
            used += steps
            if one is None or not np.isfinite(one.height):
                continue
            covariance, more = curvature(field.evaluate, one.theta, one.covariance)
            used += more
            one = Peak(one.theta, one.height, covariance)
            if not any(_joined(field, one, other) for other in found):
                found.append(one)
            elif one.height > best.height:
                found = [one if other is best else other for other in found]
            best = max(found, key=lambda p: p.height)
        if best is before:
            break
    kept = [p for p in found if p is not best and p.height > best.height - COUNTS]
    return best, tuple(sorted(kept, key=lambda p: -p.height)), used


def _joined(field: GaussianField, one: Peak, other: Peak) -> bool:
    """Return whether the density between two modes does not fall below both."""
    least = min(one.height, other.height) - DIP
    return all(height(field, other.theta + f * (one.theta - other.theta)) > least for f in (0.25, 0.5, 0.75))


def _starts(field: GaussianField, best: Peak, start: Array) -> tuple[list[Array], int]:
    """Return points from which the density rises away from a mode, and how many were looked at."""
    found: list[Array] = []
    looked = 0
    for k, rungs in enumerate(_rungs(field, start)):
        away = [t for t in rungs if abs(t - best.theta[k]) > APART]
        if len(away) == 1:
            # what one point says shows only beside another
            away.append(0.5 * (away[0] + best.theta[k]))
        for side in (-1.0, 1.0):
            line = sorted((t for t in away if side * (t - best.theta[k]) > 0.0), key=lambda t: side * t)
            heights = [best.height]
            points = []
            for t in line:
                points.append(best.theta.copy())
                points[-1][k] = t
                heights.append(height(field, points[-1]))
            looked += len(line)
            heights.append(-np.inf)
            for i, point in enumerate(points, start=1):
                rising = heights[i] > heights[i - 1] and heights[i] >= heights[i + 1]
                if rising and heights[i] > best.height - DEEPEST:
                    found.append(point)
    return found, looked


def _rungs(field: GaussianField, start: Array) -> list[list[float]]:
    """Return for each hyperparameter where to look: fixed places, and the top of its prior."""
    whole = field.model.design.n + field.count <= CHEAP
    rungs: list[list[float]] = []
    for part in field.parts:
        own = start[part.hyper]
        for i, h in enumerate(part.effect.hyperparameters):
            centre = float(own[i]) if h.scale == "log" else 0.0
            places = [centre + r for r in RUNGS[h.scale]] if whole else []
            if h.scale == "log":
                top = _top(part.log_prior, own, i)
                if all(abs(top - r) > 0.5 * APART for r in places):
                    places.append(top)
            rungs.append(places)
    for s in start[len(start) - field.levels :] if field.levels else ():
        rungs.append([float(s) + r for r in RUNGS["log"]] if whole and field.levels == 1 else [])
    return rungs


def _top(log_prior: object, own: Array, i: int) -> float:
    """Return where the prior is highest along one coordinate, by a search on a grid."""
    assert callable(log_prior)
    best, where = -math.inf, float(own[i])
    at = own.copy()
    for t in np.linspace(own[i] - 9.0, own[i] + 3.0, 25):
        at[i] = t
        value = float(log_prior(at))
        if value > best:
            best, where = value, float(t)
    return where

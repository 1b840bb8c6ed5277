"""From the priors of a model to numbers for kernels: hyperparameters, dispersions and fixed effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from bayou._types import Array, Integers
from bayou.binding import log_density_beta, log_density_structured
from bayou.conditional.field.component import Component, log_density_of_sd, scale_of_block
from bayou.joint.evaluate import BOUNDED, POSITIVE
from bayou.joint.hyper import (
    BETWEEN_ATANH,
    BETWEEN_LOG,
    BETWEEN_LOGIT,
    KNOTS,
    REACH,
    SCALE,
    TABLE,
    WITHIN,
)
from bayou.joint.tables import Fixed, Hyper
from bayou.priors import LKJ, Uniform
from bayou.priors.codes import (
    EXPONENTIAL,
    FLAT_VARIANCE,
    HALF_NORMAL,
    HALF_T,
    OF_PRECISION,
    OF_VARIANCE,
    STUDENT_T,
    UNIFORM,
)
from bayou.priors.table import prior_log_density

if TYPE_CHECKING:
    from bayou.effects.base import Hyperparameter
    from bayou.model import Model
    from bayou.priors import Prior

__all__ = ["bind_fixed", "bind_hyper", "raw_of_fixed", "raw_of_hyper"]


@dataclass
class _Row:
    """One hyperparameter."""

    kind: int = WITHIN
    code: int = 0
    parameters: tuple[float, ...] = (0.0, 0.0, 0.0)
    power: float = 1.0
    low: float = 0.0
    high: float = 1.0
    values: Array | None = None  # at the knots of a table
    mirrored: bool = False
    constant: float = field(default=0.0)


def bind_hyper(model: Model, parts: Sequence[Component], levels: int) -> tuple[Hyper, float]:
    """Return the densities of theta as numbers, and the constants that they leave out."""
    rows: list[_Row] = []
    for part in parts:
        if part.grouping < 0:
            priors = model.bound.structured[part.term]
            rows += [_one(prior, h) for prior, h in zip(priors, part.effect.hyperparameters, strict=True)]
            continue
        block = next(b for b in model.bound.blocks if (b.grouping, b.columns) == (part.grouping, part.columns))
        p = len(part.columns)
        if p == 1:
            rows.append(_scale(*scale_of_block(block)))
        elif block.kind == "sds":
            rows += [_scale(int(c), tuple(v)) for c, v in zip(block.sd_codes, block.sd_parameters, strict=True)]
            # where there are no correlations, and the Jacobian of the partial ones is one
            rows += [_Row() for _ in range(p * (p - 1) // 2)]
            rows[-1].constant = float(LKJ(block.lkj).log_density(np.eye(p)))
        else:
            rows += [_Row() for _ in range(p * (p + 1) // 2)]
    bound = model.bound
    power = 1.0 if model.family.dispersion == "sigma" else -0.5  # otherwise the density is that of 1/√phi
    rows += [_scale(bound.dispersion_code, tuple(bound.dispersion_parameters), power) for _ in range(levels)]
    return _joined(rows), sum(row.constant for row in rows)


def _joined(rows: Sequence[_Row]) -> Hyper:
    tables, places = [np.zeros((0, 4))], []
    for row in rows:
        places.append(sum(len(t) for t in tables) if row.values is not None else -1)
        if row.values is not None:
            knots = np.linspace(0.0 if row.mirrored else -REACH, REACH, len(row.values))
            tables.append(np.ascontiguousarray(CubicSpline(knots, row.values).c[::-1].T))
    return Hyper(
        kind=_integers([row.kind for row in rows]),
        code=_integers([row.code for row in rows]),
        parameters=np.array([row.parameters for row in rows], dtype=np.float64).reshape(-1, 3),
        power=np.array([row.power for row in rows]),
        low=np.array([row.low for row in rows]),
        high=np.array([row.high for row in rows]),
        table=_integers(places),
        mirrored=_integers([row.mirrored for row in rows]),
        tables=np.concatenate(tables),
    )


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)


def _scale(code: int, parameters: Sequence[float], power: float = 1.0) -> _Row:
    """Return the density of s = exp(power theta), a standard deviation or what stands for one."""
    a, b, c = (float(v) for v in parameters)
    on = 1.0 if code < OF_VARIANCE else 2.0 if code < OF_PRECISION else -2.0  # the density is one of s to this power
    if code % OF_VARIANCE == UNIFORM and code != FLAT_VARIANCE:
        low = max(a, 0.0)
        # log value = on log s = on power theta
        constant = math.log((b - low) / (b - a))
        return _Row(BETWEEN_LOG, code, (a, b, c), 1.0 / (on * power), low, b, constant=constant)
    whole = log_density_of_sd(code, (a, b, c))
    for s in (1.0, 1e-2, 1e2, 1e-6, 1e6):
        some = float(prior_log_density(code, a, b, c, s))
        if math.isfinite(some):
            constant = whole(math.log(s)) - some
            break
    return _Row(SCALE, code, (a, b, c), power, constant=constant + math.log(abs(power)))


def _one(prior: Prior, h: Hyperparameter) -> _Row:
    if h.role == "sd":
        return _scale(prior.code, prior.parameters)
    ends = (-1.0 if h.scale == "atanh" else 0.0, 1.0)
    if isinstance(prior, Uniform) and (prior.lower, prior.upper) != ends:
        kind = BETWEEN_ATANH if h.scale == "atanh" else BETWEEN_LOGIT
        return _Row(kind, low=prior.lower, high=prior.upper)
    mirrored = h.scale == "atanh"  # these densities do not mind the sign of a correlation
    knots = np.linspace(0.0 if mirrored else -REACH, REACH, (1 if mirrored else 2) * KNOTS + 1)
    values = np.array([log_density_structured(prior, h, float(t)) for t in knots])
    return _Row(TABLE, values=_continued(values), mirrored=mirrored)


def _continued(values: Array) -> Array:
    """Replace what is not finite at the ends by the line through the last numbers that are."""
    good = np.flatnonzero(np.isfinite(values))
    first, last = int(good[0]), int(good[-1])
    out = values.copy()
    out[:first] = values[first] - (values[first + 1] - values[first]) * np.arange(first, 0, -1)
    after = len(values) - 1 - last
    out[last + 1 :] = values[last] + (values[last] - values[last - 1]) * np.arange(1, after + 1)
    return out


def raw_of_hyper(hyper: Hyper, thetas: Array) -> Array:
    """Return the positions (S, d) of internal coordinates (S, d)."""
    out = np.array(thetas, dtype=np.float64)
    for k in np.flatnonzero(hyper.kind >= BETWEEN_LOG):
        low, high = hyper.low[k], hyper.high[k]
        if hyper.kind[k] == BETWEEN_LOG:
            value = np.exp(thetas[:, k] / hyper.power[k])
            rest = high - value
        elif hyper.kind[k] == BETWEEN_LOGIT:
            e = np.exp(-np.abs(thetas[:, k]))
            share, other = np.where(thetas[:, k] >= 0.0, 1.0, e) / (1.0 + e), np.where(thetas[:, k] >= 0.0, e, 1.0) / (
                1.0 + e
            )
            value, rest = share, (high - 1.0) + other
        else:
            value = np.tanh(thetas[:, k])
            rest = high - value
        out[:, k] = _logit(value - low, rest, high - low)
    return out


def _logit(above: Array, below: Array, width: float) -> Array:
    """Return log(above / below); a value at the very end, by rounding, is taken as close to it."""
    least = 1e-15 * width
    return np.asarray(np.log(np.maximum(above, least)) - np.log(np.maximum(below, least)))


# ---- fixed effects -------------------------------------------------------------------------


def bind_fixed(model: Model) -> tuple[Fixed, float]:
    """Return the priors of the working fixed effects as numbers, and the constant that they leave out."""
    working = model.working
    P, m = len(working.mean), len(working.codes)
    support, low, high = np.zeros(P, dtype=np.int64), np.zeros(P), np.ones(P)
    inside = working.mean.copy()
    for i in range(m):
        k, (a, b, _) = P - m + i, working.parameters[i]
        code = int(working.codes[i])
        inside[k] = working.inside(i)
        if code == UNIFORM:
            support[k], low[k], high[k] = BOUNDED, a, b
        elif code != STUDENT_T and code in (HALF_NORMAL, HALF_T, EXPONENTIAL):
            support[k] = POSITIVE
    fixed = Fixed(
        support, low, high, working.codes, working.parameters.reshape(-1, 3), working.mean, working.precision,
        np.ascontiguousarray(working.to_printed),
    )  # fmt: skip
    d = inside - working.mean
    some = -0.5 * float(d @ working.precision @ d)
    for i in range(m):
        if support[P - m + i] != BOUNDED:
            a, b, c = (float(v) for v in fixed.parameters[i])
            some += float(prior_log_density(int(fixed.codes[i]), a, b, c, float(inside[P - m + i])))
    return fixed, log_density_beta(model.bound, working.to_printed @ inside) - some


def raw_of_fixed(fixed: Fixed, beta: Array) -> Array:
    """Return the coordinates (S, P) of working fixed effects (S, P)."""
    out = np.array(beta, dtype=np.float64)
    for k in np.flatnonzero(fixed.support):
        if fixed.support[k] == POSITIVE:
            out[:, k] = np.log(np.maximum(beta[:, k], 1e-300))
        else:
            above, below = beta[:, k] - fixed.low[k], fixed.high[k] - beta[:, k]
            out[:, k] = _logit(above, below, float(fixed.high[k] - fixed.low[k]))
    return out



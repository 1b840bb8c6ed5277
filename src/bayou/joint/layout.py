"""The rows of a model in the order and the form in which the kernel goes over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.field.at_mode import row_constant
from bayou.conditional.field.component import Component
from bayou.families.custom import outside_address
from bayou.joint.structures import Shape
from bayou.joint.tables import Rows

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["bind_rows"]


def bind_rows(model: Model, parts: Sequence[Component], shapes: Sequence[Shape], levels: int) -> tuple[Rows, float]:
    """Return the rows, and the constant of the log likelihood.

    Rows stand by level of the dispersion, within these by level of the largest factor.
    """
    design = model.design
    weights = design.weights if design.standard_errors is None else design.weights / np.square(design.standard_errors)
    dispersions = max(levels, 1)
    own = design.sigma_codes if levels > 1 else np.zeros(design.n, dtype=np.int64)
    largest = max(design.groupings, key=lambda g: len(g.levels), default=None)
    order = np.lexsort((own if largest is None else largest.codes, own))
    index, value = _slots(model, parts, shapes)
    X, column, lifted, lift = _lifted(model, parts, shapes)
    ones = [bool(np.all(v == 1.0)) for v in value]
    kept = [v[order] for v, one in zip(value, ones, strict=True) if not one]
    at = np.cumsum([not one for one in ones]) - 1
    y, weights = design.y[order], weights[order]
    distinct = [_distinct(y[own[order] == level], weights[own[order] == level]) for level in range(dispersions)]
    rows = Rows(
        code=-1 if model.family.own else model.family.code,
        outside=outside_address(model.family),
        levels=levels,
        y=np.ascontiguousarray(y),
        trials=np.ascontiguousarray(design.trials[order]),
        weights=np.ascontiguousarray(weights),
        offset=np.ascontiguousarray(design.offset[order]),
        level=_starts(np.bincount(own, minlength=dispersions)),
        seen=_stacked([i[order] for i in index], design.n, np.int64),
        value=_stacked(kept, design.n, np.float64),
        value_at=np.where(ones, -1, at).astype(np.int64),
        X=np.ascontiguousarray(X[order].T),
        column=column,
        lifted=lifted,
        lift=lift,
        distinct=np.concatenate([d[0] for d in distinct]),
        distinct_weight=np.concatenate([d[1] for d in distinct]),
        distinct_at=_starts(np.array([len(d[0]) for d in distinct])),
        counted=np.bincount(own[order], weights=weights > 0.0, minlength=dispersions) + design.remainder.count,
        squares=design.remainder.squares,
    )
    whole = model.family.own  # a user's density has every constant
    constant = 0.0 if whole else row_constant(model.family, rows.y, rows.trials, rows.weights)
    return rows, constant + design.remainder.constant


def _starts(counts: Array | Integers) -> Integers:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _stacked(columns: Sequence[Array | Integers], n: int, kind: type) -> np.ndarray:
    return np.asarray(columns, dtype=kind).reshape(len(columns), n)


def _distinct(y: Array, weights: Array) -> tuple[Array, Array]:
    """Return the different responses and the sums of their weights."""
    found, which = np.unique(y, return_inverse=True)
    return found, np.bincount(which.ravel(), weights=weights, minlength=len(found)).astype(np.float64)


def _slots(
    model: Model, parts: Sequence[Component], shapes: Sequence[Shape]
) -> tuple[list[Integers], list[Array]]:
    """Return which coefficients of u each row sees, and times what: (n,) each."""
    index: list[Integers] = []
    value: list[Array] = []
    at = 0
    for part, shape in zip(parts, shapes, strict=True):
        if part.grouping >= 0:
            g = model.design.groupings[part.grouping]
            for k, c in enumerate(part.columns):
                index.append(at + shape.size * g.codes + k)
                value.append(np.ascontiguousarray(g.Z[:, c]))
        else:
            term = model.design.structured[part.term]
            place, count = at + shape.size * term.replicate + term.node, np.diff(term.start)
            for k in range(int(count.max(initial=0))):
                has = k < count
                entry = np.where(has, term.start[:-1] + k, 0)
                index.append(np.where(has, place[entry], at).astype(np.int64))
                value.append(np.where(has, term.value[entry], 0.0))
        at += shape.size * part.effect.replicates
    return index, value


def _lifted(
    model: Model, parts: Sequence[Component], shapes: Sequence[Shape]
) -> tuple[Array, Integers, Integers, Array]:
    """Return the printed columns that rows need, which these are, and how the others are lifted onto factors."""
    design = model.design
    X, n = design.X, design.n
    chosen: list[tuple[int, int, int, int, int]] = []
    values: list[Array] = [np.zeros(0)]
    rest: list[int] = []
    for k in range(X.shape[1]):
        best: tuple[int, int, int, Array] | None = None
        at = 0
        for part, shape in zip(parts, shapes, strict=True):
            if part.grouping >= 0:
                g = design.groupings[part.grouping]
                J = len(g.levels)
                for i, c in enumerate(part.columns):
                    if J >= n or best is not None and J >= len(best[3]):
                        continue
                    ratio = _multiple(X[:, k], g.Z[:, c], g.codes, J)
                    if ratio is not None:
                        best = (at + i, shape.size, J, ratio)
            at += shape.size * part.effect.replicates
        if best is None:
            rest.append(k)
            continue
        chosen.append((k, best[0], best[1], best[2], sum(len(v) for v in values)))
        values.append(best[3])
    lifted = np.array(chosen, dtype=np.int64).reshape(len(chosen), 5)
    return np.ascontiguousarray(X[:, rest]), np.array(rest, dtype=np.int64), lifted, np.concatenate(values)


def _multiple(x: Array, z: Array, codes: Integers, J: int) -> Array | None:
    """Return h (J,) with x = h[level] z exactly, or None."""
    out = np.zeros(J)
    some = z != 0.0
    if np.any(x[~some] != 0.0):
        return None
    out[codes[some]] = x[some] / z[some]
    return out if np.array_equal(out[codes] * z, x) else None

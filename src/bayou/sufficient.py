"""Sufficient statistics of a Gaussian response: what remains of the rows.

Rows add up. Once Z'WZ, Z'WX, Z'Wy, X'WX, X'Wy and y'Wy are known per level of the largest grouping
factor (and per level of `sigma_by`), no sampler needs the rows again, and the cost of a draw does not
depend on their number. The response is taken relative to its offset and, when the model has an
intercept, to its mean, so that sums of squares do not cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.design.passes import PART, cut, parts, require_memory
from bayou.errors import Unsupported
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border
from bayou.linalg.small import fill

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.model import Model

LOG_2PI = math.log(2.0 * math.pi)


class Cells(NamedTuple):
    """The sums by cell = (level of the eliminated factor, level of `sigma_by`)."""

    group: Integers  # (N,)
    level: Integers  # (N,)
    A: Array  # (N, p, p)
    a: Array  # (N, p)
    offset: Integers  # (N + 1,) where a cell's block of C begins
    C: Array
    D: Array  # (S, R, R) by level of sigma
    d: Array  # (S, R)
    squares: Array  # (S,) y'Wy
    rows: Array  # (S,)


@dataclass(frozen=True)
class Sufficient:
    """The sums, and how they are laid out.

    Attributes
    ----------
    order
        Grouping factors by position: the eliminated one (with the most coefficients) first.
    cells, pattern
        Sums by cell, and an `Arrow` whose arrays are the sums themselves if sigma has one level,
        otherwise zeros for `combine` to fill.
    border
        The prior of the rest.
    shift
        What was taken off the response besides its offset.
    log_weights
        ½ Σ log of the prior weights of the rows as given: a constant of the log likelihood.
    """

    order: tuple[int, ...]
    cells: Cells
    pattern: Arrow
    border: Border
    shift: float
    log_weights: float


@kernel
def _accumulate(
    cell: Integers,
    sigma: Integers,
    Z: Array,
    others: Array,
    column: Integers,
    slot: Integers,
    y: Array,
    weights: Array,
    cells: Cells,
    width: Integers,
) -> None:
    """Add every row to its cell.

    ``others`` (n, q) holds the row's numbers in the rest, ``column`` (n, q) their columns there and
    ``slot`` (n, q) their positions among those that the level touches.
    """
    n, p = Z.shape
    q = others.shape[1]
    for i in range(n):
        c, s, w = cell[i], sigma[i], weights[i]
        cells.squares[s] += w * y[i] * y[i]
        cells.rows[s] += 1.0
        if p > 0:
            m = width[c]
            base = cells.offset[c]
            for k in range(p):
                z = w * Z[i, k]
                cells.a[c, k] += z * y[i]
                for e in range(p):
                    cells.A[c, k, e] += z * Z[i, e]
                for e in range(q):
                    cells.C[base + k * m + slot[i, e]] += z * others[i, e]
        for k in range(q):
            x = w * others[i, k]
            cells.d[s, column[i, k]] += x * y[i]
            for e in range(k + 1):
                cells.D[s, column[i, k], column[i, e]] += x * others[i, e]


@kernel(inner=True)
def combine(cells: Cells, start: Integers, w: Array, out: Arrow) -> None:
    """Σ over sigma levels of w_s times their sums, into ``out``."""
    p = out.a.shape[1]
    for j in range(out.a.shape[0]):
        for k in range(p):
            out.a[j, k] = 0.0
            for e in range(p):
                out.A[j, k, e] = 0.0
    for e in range(out.C.shape[0]):
        out.C[e] = 0.0
    fill(out.D, 0.0)
    for i in range(out.d.shape[0]):
        out.d[i] = 0.0
    for c in range(cells.group.shape[0]):
        j = cells.group[c]
        ws = w[cells.level[c]]
        for k in range(p):
            out.a[j, k] += ws * cells.a[c, k]
            for e in range(p):
                out.A[j, k, e] += ws * cells.A[c, k, e]
        base = p * start[j]
        for e in range(cells.offset[c + 1] - cells.offset[c]):
            out.C[base + e] += ws * cells.C[cells.offset[c] + e]
    R = out.d.shape[0]
    for s in range(w.shape[0]):
        for i in range(R):
            out.d[i] += w[s] * cells.d[s, i]
            for k in range(i + 1):
                out.D[i, k] += w[s] * cells.D[s, i, k]


@kernel
def residual_squares(cells: Cells, pattern: Arrow, rest: Array, b: Array, out: Array) -> None:
    """Σ_i w_i (y_i − x_i'(rest, b))² by level of sigma, without the rows."""
    p = b.shape[1]
    R = rest.shape[0]
    for s in range(out.shape[0]):
        t = cells.squares[s]
        for i in range(R):
            e = 0.5 * cells.D[s, i, i] * rest[i]
            for k in range(i):
                e += cells.D[s, i, k] * rest[k]
            t += 2.0 * rest[i] * (e - cells.d[s, i])
        out[s] = t
    for c in range(cells.group.shape[0]):
        j = cells.group[c]
        first = pattern.start[j]
        m = pattern.start[j + 1] - first
        base = cells.offset[c]
        t = 0.0
        for k in range(p):
            e = -2.0 * cells.a[c, k]
            for i in range(p):
                e += cells.A[c, k, i] * b[j, i]
            for i in range(m):
                e += 2.0 * cells.C[base + k * m + i] * rest[pattern.touch[first + i]]
            t += b[j, k] * e
        out[cells.level[c]] += t


@dataclass(frozen=True)
class Plan:
    """Where the coefficients stand: the eliminated factor's, and those of the rest, the fixed effects last.

    Attributes
    ----------
    order
        Grouping factors by position, the eliminated one first.
    start, touch
        Which columns of the rest each of its levels touches: ``touch[start[j] : start[j + 1]]``.
    border
        The rest.
    pairs, places
        For each further factor which (level, its level) occur together, as sorted numbers, and where the first column
        of each stands in the level's list.
    count
        (J,) how many columns of further factors that list has.
    """

    model: Model
    order: tuple[int, ...]
    start: Integers
    touch: Integers
    border: Border
    pairs: tuple[Integers, ...]
    places: tuple[Integers, ...]
    count: Integers

    def rows(self, part: slice) -> tuple[Integers, Array, Array, Integers, Integers]:
        """Return of some rows what `Layout` has of all: codes, Z, others, column, slot."""
        design = self.model.design
        X = self.model.working.part(part)
        m, P = X.shape
        rest = [design.groupings[k] for k in self.order[1:]]
        column = [
            g.codes[part].astype(np.int64)[:, None] * g.Z.shape[1] + int(first) + np.arange(g.Z.shape[1])
            for g, first in zip(rest, self.border.start, strict=True)
        ]
        column.append(np.broadcast_to(self.border.fixed + np.arange(P), (m, P)))
        slots: list[Integers] = []
        if self.order:
            g = design.groupings[self.order[0]]
            codes, Z = g.codes[part].astype(np.int64, copy=False), g.Z[part]
            for other, known, first in zip(rest, self.pairs, self.places, strict=True):
                at = np.searchsorted(known, codes * len(other.levels) + other.codes[part])
                slots += [first[at] + k for k in range(other.Z.shape[1])]
            slots += [self.count[codes] + k for k in range(P)]
        else:
            codes, Z = np.zeros(m, dtype=np.int64), np.zeros((m, 0))
            slots = [np.zeros(m, dtype=np.int64)] * P
        return (
            codes,
            np.ascontiguousarray(Z),
            np.ascontiguousarray(np.hstack([*(g.Z[part] for g in rest), X])),
            np.ascontiguousarray(np.hstack(column), dtype=np.int64),
            np.ascontiguousarray(np.column_stack(slots)) if slots else np.zeros((m, 0), dtype=np.int64),
        )


def _together(codes: Integers, levels: int, other: Integers) -> Integers:
    """Return the numbers code x levels + other code that occur, sorted."""
    found, waiting = np.zeros(0, dtype=np.int64), [np.zeros(0, dtype=np.int64)]
    for part in parts(len(codes)):
        waiting.append(np.unique(codes[part].astype(np.int64) * levels + other[part]))
        if sum(map(len, waiting)) > max(4 * PART, len(found)):
            found, waiting = np.unique(np.concatenate([found, *waiting])), []
    return np.unique(np.concatenate([found, *waiting]))


def plan(model: Model) -> Plan:
    """Lay out the coefficients of a model: the factor with most of them is eliminated, the fixed effects come last.

    Raises
    ------
    Unsupported
        For structured effects, which have no place in it: an engine that cannot take them must not pass them over.
    """
    design, working = model.design, model.working
    if design.structured:
        names = ", ".join(term.text for term in design.structured)
        raise Unsupported(
            f"This takes coefficients of grouping factors, and the model has structured effects: {names}. Engines that "
            "take them are 'gibbs', 'metropolis', 'inla', 'laplace', 'ml' and 'reml'."
        )
    groupings = design.groupings
    P = len(working.mean)
    order = tuple(sorted(range(len(groupings)), key=lambda k: -groupings[k].Z.shape[1] * len(groupings[k].levels)))
    rest = [groupings[k] for k in order[1:]]
    sizes = [g.Z.shape[1] for g in rest]
    levels = [len(g.levels) for g in rest]
    first = np.concatenate([[0], np.cumsum([s * q for s, q in zip(sizes, levels, strict=True)])]).astype(np.int64)
    fixed = int(first[-1])
    J = len(groupings[order[0]].levels) if order else 0
    pairs = [_together(groupings[order[0]].codes, q, g.codes) for g, q in zip(rest, levels, strict=True)]
    count = np.zeros(J, dtype=np.int64)
    places: list[Integers] = []
    for known, size, q in zip(pairs, sizes, levels, strict=True):
        level = known // q
        per_level = np.bincount(level, minlength=J)
        rank = np.arange(len(known)) - np.repeat(np.cumsum(per_level) - per_level, per_level)
        places.append(count[level] + size * rank)
        count = count + size * per_level
    start = np.concatenate([[0], np.cumsum(count + P)]) if order else np.zeros(1, dtype=np.int64)
    touch = np.empty(int(start[-1]), dtype=np.int64)
    for known, place, size, q, low in zip(pairs, places, sizes, levels, first[:-1], strict=True):
        for k in range(size):
            touch[start[known // q] + place + k] = low + size * (known % q) + k
    for k in range(P if order else 0):
        touch[start[:-1] + count + k] = fixed + k
    border = Border(
        first[:-1],
        np.array(levels, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
        fixed,
        working.precision,
        working.precision @ working.mean,
    )
    return Plan(model, order, start, touch, border, tuple(pairs), tuple(places), count)


@dataclass(frozen=True)
class Layout:
    """Where everything of a row goes: the eliminated factor's columns, and those of the rest."""

    order: tuple[int, ...]
    codes: Integers  # (n,) level of the eliminated factor
    Z: Array  # (n, p)
    others: Array  # (n, q) numbers in the rest
    column: Integers  # (n, q) their columns
    slot: Integers  # (n, q) where those stand in what the level touches
    start: Integers
    touch: Integers
    border: Border


def layout(model: Model) -> Layout:
    """Lay out all rows of a model as its `plan` has it."""
    require_memory(model.design, "This engine")
    made = plan(model)
    codes, Z, others, column, slot = made.rows(slice(0, model.design.n))
    return Layout(made.order, codes, Z, others, column, slot, made.start, made.touch, made.border)


def sufficient(model: Model) -> Sufficient:
    """Sum the rows of a Gaussian model.

    Parameters
    ----------
    model
        A model with family Gaussian and identity link; the fixed effects are taken in its working
        coordinates (`Model.working`).

    Returns
    -------
    Sufficient
    """
    design, working = model.design, model.working
    made = plan(model)
    shift = 0.0
    if working.intercept is not None:
        shift = float((design.y - design.offset).mean()) if design.reduced is None else design.moments.level
    S, P = len(design.sigma_levels), len(working.mean)
    start = made.start
    J, p = len(start) - 1, design.groupings[made.order[0]].Z.shape[1] if made.order else 0
    R = made.border.fixed + P
    if S == 1 or not J:
        group = np.arange(J)
        level, known = np.zeros(J, dtype=np.int64), group
    else:
        known = _together(design.groupings[made.order[0]].codes, S, design.sigma_codes)
        group, level = known // S, known % S
    width = np.diff(start)[group] if J else np.zeros(0, dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(p * width)]).astype(np.int64)
    cells = Cells(
        group=group.astype(np.int64),
        level=level.astype(np.int64),
        A=np.zeros((len(group), p, p)),
        a=np.zeros((len(group), p)),
        offset=offset,
        C=np.zeros(int(offset[-1])),
        D=np.zeros((S, R, R)),
        d=np.zeros((S, R)),
        squares=np.zeros(S),
        rows=np.zeros(S),
    )
    for part in parts(design.n):
        codes, Z, others, column, slot = made.rows(part)
        sigma = np.ascontiguousarray(design.sigma_codes[part], dtype=np.int64)
        cell = codes if S == 1 or not J else np.searchsorted(known, codes * S + sigma)
        y = design.y[part] - design.offset[part] - shift
        _accumulate(cell, sigma, Z, others, column, slot, y, _weights(design, part), cells, width)
    left = design.remainder
    np.add(cells.squares, left.squares, out=cells.squares)
    np.add(cells.rows, left.count, out=cells.rows)
    log_weights = 0.5 * sum(float(np.log(_weights(design, part)).sum()) for part in cut(design))
    log_weights += left.constant + 0.5 * LOG_2PI * float(left.count.sum())
    if S == 1:
        pattern = Arrow(cells.A, cells.a, start, made.touch, cells.C, cells.D[0], cells.d[0])
    else:
        size = int(p * start[-1])
        pattern = Arrow(
            np.zeros((J, p, p)), np.zeros((J, p)), start, made.touch, np.zeros(size), np.zeros((R, R)), np.zeros(R)
        )
    linear = made.border.linear - shift * working.precision @ working.shift_direction
    border = made.border._replace(linear=linear)
    return Sufficient(made.order, cells, pattern, border, shift, log_weights)


def _weights(design: Design, part: slice) -> Array:
    """Return prior weights over squared standard errors of some rows."""
    weights = design.weights[part]
    if design.standard_errors is not None:
        weights = weights / design.standard_errors[part] ** 2
    return np.ascontiguousarray(weights)

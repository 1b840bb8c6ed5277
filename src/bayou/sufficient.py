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
from bayou.errors import Unsupported
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border
from bayou.linalg.small import fill

if TYPE_CHECKING:
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


def _positions(
    codes: Integers, others: list[Integers], sizes: list[int], counts: list[int], J: int, P: int
) -> tuple[Integers, Integers, Integers]:
    """Which columns of the rest each level touches, and where each row's columns stand among them."""
    n = codes.shape[0]
    blocks: list[Integers] = []  # pairs (level, first column) of each further factor, one array a factor
    inverses: list[Integers] = []
    at = 0
    for other, size, levels in zip(others, sizes, counts, strict=True):
        pairs, inverse = np.unique(codes * levels + other, return_inverse=True)
        blocks.append(np.column_stack([pairs // levels, at + size * (pairs % levels)]))
        inverses.append(inverse)
        at += size * levels
    count = np.zeros(J, dtype=np.int64)
    firsts: list[Integers] = []  # position of each pair's first column within its level's list
    for block, size in zip(blocks, sizes, strict=True):
        per_level = np.bincount(block[:, 0], minlength=J)
        rank = np.arange(len(block)) - np.repeat(np.cumsum(per_level) - per_level, per_level)
        firsts.append(count[block[:, 0]] + size * rank)
        count += size * per_level
    start = np.concatenate([[0], np.cumsum(count + P)])
    touch = np.empty(int(start[-1]), dtype=np.int64)
    slots: list[Integers] = []
    for block, first, size, inverse in zip(blocks, firsts, sizes, inverses, strict=True):
        for k in range(size):
            touch[start[block[:, 0]] + first + k] = block[:, 1] + k
            slots.append((first + k)[inverse])
    for k in range(P):
        touch[start[:-1] + count + k] = at + k
        slots.append((count + k)[codes])
    slot = np.column_stack(slots) if slots else np.zeros((n, 0), dtype=np.int64)
    return start, touch, np.ascontiguousarray(slot)


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
    n, P = working.X.shape
    order = tuple(sorted(range(len(groupings)), key=lambda k: -groupings[k].Z.shape[1] * len(groupings[k].levels)))
    rest = [groupings[k] for k in order[1:]]
    sizes = [g.Z.shape[1] for g in rest]
    levels = [len(g.levels) for g in rest]
    first = np.concatenate([[0], np.cumsum([s * q for s, q in zip(sizes, levels, strict=True)])]).astype(np.int64)
    fixed = int(first[-1])
    columns = [g.codes[:, None] * s + first[k] + np.arange(s) for k, (g, s) in enumerate(zip(rest, sizes, strict=True))]
    columns.append(np.broadcast_to(fixed + np.arange(P), (n, P)))
    if order:
        g = groupings[order[0]]
        codes, Z, J = g.codes, g.Z, len(g.levels)
        start, touch, slot = _positions(codes, [r.codes for r in rest], sizes, levels, J, P)
    else:
        codes, Z = np.zeros(n, dtype=np.int64), np.zeros((n, 0))
        start, touch, slot = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((n, P), dtype=np.int64)
    border = Border(
        first[:-1],
        np.array(levels, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
        fixed,
        working.precision,
        working.precision @ working.mean,
    )
    return Layout(
        order=order,
        codes=codes,
        Z=np.ascontiguousarray(Z),
        others=np.ascontiguousarray(np.hstack([g.Z for g in rest] + [working.X])),
        column=np.ascontiguousarray(np.hstack(columns), dtype=np.int64),
        slot=slot,
        start=start,
        touch=touch,
        border=border,
    )


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
    plan = layout(model)
    y = design.y - design.offset
    shift = 0.0
    if working.intercept is not None:
        shift = float(y.mean()) if design.reduced is None else design.moments.level
    y = y - shift
    weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
    sigma = design.sigma_codes
    S = len(design.sigma_levels)
    codes, Z, start = plan.codes, plan.Z, plan.start
    J, p, R = len(start) - 1, Z.shape[1], plan.border.fixed + len(plan.border.linear)
    if S == 1:
        group, level, cell = np.arange(J), np.zeros(J, dtype=np.int64), codes
    elif J:
        pairs, cell = np.unique(codes * S + sigma, return_inverse=True)
        group, level = pairs // S, pairs % S
    else:
        group = level = np.zeros(0, dtype=np.int64)
        cell = codes
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
    _accumulate(cell, sigma, Z, plan.others, plan.column, plan.slot, y, weights, cells, width)
    left = design.remainder
    np.add(cells.squares, left.squares, out=cells.squares)
    np.add(cells.rows, left.count, out=cells.rows)
    if S == 1:
        pattern = Arrow(cells.A, cells.a, start, plan.touch, cells.C, cells.D[0], cells.d[0])
    else:
        size = int(p * start[-1])
        pattern = Arrow(
            np.zeros((J, p, p)), np.zeros((J, p)), start, plan.touch, np.zeros(size), np.zeros((R, R)), np.zeros(R)
        )
    linear = plan.border.linear - shift * working.precision @ working.shift_direction
    border = plan.border._replace(linear=linear)
    log_weights = 0.5 * float(np.log(weights).sum()) + left.constant + 0.5 * LOG_2PI * float(left.count.sum())
    return Sufficient(plan.order, cells, pattern, border, shift, log_weights)

"""Where everything stands: the rows' numbers, the elements of Q, the constraints, and the pattern of the precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from bayou._types import Array, Integers
from bayou.conditional.field.component import Component
from bayou.conditional.field.constraint import Constraint, new_constraint
from bayou.conditional.field.rows import Rows
from bayou.linalg.symbolic import Symbolic, analyse, positions

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Layout", "lay_out"]


@dataclass(frozen=True, eq=False)
class Layout:
    """The symbolic side of a model's precision; shared by all copies of a `Field`.

    Attributes
    ----------
    rows
        As kernels take them.
    prior_row, prior_column, prior_at
        (nnz,) elements of Q, component by component and replicate by replicate, then those of the fixed effects.
    symbolic
        The analysis of the pattern.
    constraint_rows
        Start, column, value of the rows of C; and the anchors.
    """

    rows: Rows
    prior_row: Integers
    prior_column: Integers
    prior_at: Integers
    symbolic: Symbolic
    constraint_rows: tuple[Integers, Integers, Array, Integers]
    latent: int
    fixed: int

    def constraint(self) -> Constraint:
        """Return the constraints with scratch of their own."""
        start, column, value, anchor = self.constraint_rows
        at = self.symbolic.start[self.symbolic.inverse[anchor]]
        return new_constraint(start, column, value, anchor, at, self.latent + self.fixed)


def lay_out(model: Model, parts: Sequence[Component], fixed: int) -> Layout:
    """Lay out a model with ``fixed`` fixed effects among the coefficients (all or none)."""
    L = sum(part.size for part in parts)
    A = _rows(model, parts, L)
    row, column = _elements(parts)
    indptr, indices = _pattern(A, row, column, L, fixed)
    symbolic = analyse(indptr, indices, last=fixed)
    a, b = np.tril_indices(fixed)
    row, column = np.concatenate([row, L + a]), np.concatenate([column, L + b])
    X = model.working.X if fixed else np.zeros((A.shape[0], 0))
    rows = _placed(A, np.ascontiguousarray(X), symbolic, L, fixed)
    return Layout(rows, row, column, positions(symbolic, row, column), symbolic, _constraints(parts), L, fixed)


def _rows(model: Model, parts: Sequence[Component], L: int) -> sparse.csr_array:
    """Return the part of A that belongs to effects, (n, L)."""
    n = model.design.n
    found = []
    for part in parts:
        size, J = part.effect.size, part.effect.replicates
        if part.grouping >= 0:
            g = model.design.groupings[part.grouping]
            column = (size * g.codes[:, None] + np.arange(size)).ravel()
            start: Integers = np.arange(0, n * size + 1, size)
            value = np.ascontiguousarray(g.Z[:, list(part.columns)]).ravel()
        else:
            term = model.design.structured[part.term]
            column, value, start = size * term.replicate + term.node, term.value, term.start
        found.append(sparse.csr_array((value, column, start), shape=(n, size * J)))
    if not found:
        return sparse.csr_array((n, 0))
    A = sparse.csr_array(sparse.hstack(found, format="csr"))
    A.sum_duplicates()
    return A


def _elements(parts: Sequence[Component]) -> tuple[Integers, Integers]:
    """Return rows and columns of the elements of Q, every replicate written out."""
    rows, columns = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for part in parts:
        effect = part.effect
        column = np.repeat(np.arange(effect.size), np.diff(effect.indptr))
        shift = part.offset + effect.size * np.arange(effect.replicates)[:, None]
        rows.append((shift + effect.indices).ravel())
        columns.append((shift + column).ravel())
    return np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int64)


def _pattern(A: sparse.csr_array, row: Integers, column: Integers, L: int, P: int) -> tuple[Integers, Integers]:
    """Return the lower triangle of Q + A'WA by columns, the fixed effects full and last."""
    ones = sparse.csr_array((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape)
    whole = sparse.csc_array(ones.T @ ones) + sparse.csc_array((np.ones(len(row)), (row, column)), shape=(L, L))
    lower = sparse.tril(whole, format="csc")
    lower.sort_indices()
    count = np.diff(lower.indptr) + P
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([count, np.arange(P, 0, -1)]))]).astype(np.int64)
    indices = np.empty(indptr[-1], dtype=np.int64)
    own = np.repeat(np.arange(L), np.diff(lower.indptr))
    indices[np.arange(lower.nnz) + P * own] = lower.indices
    indices[(indptr[1 : L + 1, None] - P + np.arange(P)).ravel()] = np.tile(L + np.arange(P), L)
    for k in range(P):
        indices[indptr[L + k] : indptr[L + k + 1]] = np.arange(L + k, L + P)
    return indptr, indices


def _placed(A: sparse.csr_array, X: Array, symbolic: Symbolic, L: int, P: int) -> Rows:
    """Say where the products of each row's numbers stand."""
    start, column = A.indptr.astype(np.int64), A.indices.astype(np.int64)
    count = np.diff(start)
    pairs = count * (count + 1) // 2
    pair_start = np.concatenate([[0], np.cumsum(pairs)]).astype(np.int64)
    pair = np.empty(pair_start[-1], dtype=np.int64)
    for width in np.unique(count):
        a, b = np.tril_indices(int(width))
        i = np.flatnonzero(count == width)
        first = start[i][:, None]
        at = positions(symbolic, column[first + a], column[first + b])
        pair[pair_start[i][:, None] + np.arange(len(a))] = at
    place = symbolic.inverse[: L + P]
    fixed_at = symbolic.start[place[:L]] + symbolic.length[place[:L]] - P
    fixed_start = symbolic.start[place[L:]]
    return Rows(start, column, A.data.astype(np.float64), pair_start, pair, fixed_at, fixed_start, X)


def _constraints(parts: Sequence[Component]) -> tuple[Integers, Integers, Array, Integers]:
    start, column, value, anchor = [0], [], [], []
    for part in parts:
        effect = part.effect
        for r in range(effect.replicates):
            shift = part.offset + r * effect.size
            for c, at in zip(effect.constraints, effect.anchors, strict=True):
                own = np.flatnonzero(c)
                column.append(shift + own)
                value.append(c[own])
                start.append(start[-1] + len(own))
                anchor.append(shift + int(at))
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *column]).astype(np.int64)
    numbers = np.concatenate([np.zeros(0), *value])
    return np.array(start, dtype=np.int64), joined, numbers, np.array(anchor, dtype=np.int64)

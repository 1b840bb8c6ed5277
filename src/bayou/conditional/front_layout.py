"""Where the numbers of a sparse Schur complement stand: its pattern from what levels touch, and room for them.

`bayou.conditional.front` fills them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel
from bayou.linalg import sparse
from bayou.linalg.schur import Border
from bayou.linalg.symbolic import Symbolic, analyse, position, positions
from bayou.packed import packed


class Front(NamedTuple):
    """Where everything goes, for the first n columns of r."""

    symbolic: Symbolic  # of S
    start: Integers  # (J + 1,) as in `bayou.linalg.schur.Arrow`
    touch: Integers
    left: int  # columns of r that take no part: none, or the fixed effects
    pair: Integers  # (J + 1,) where a level's places begin
    place: Integers  # of the lower triangle of F_j among the values of S, row by row
    own: Integers  # places of the diagonal blocks of the other factors' levels, lower triangles row by row
    fixed: Integers  # places of the fixed effects' lower triangle


class Pieces(NamedTuple):
    """The numbers of one factorisation, and scratch."""

    L: Array  # (J, p, p)
    G: Array  # level j: p rows of m_j numbers, from p (start[j] − j left) on
    u: Array  # (J, p) forward-solved right-hand side
    v: Array  # (n,) of S
    x: Array  # (n,) the same forward-solved, in the order of elimination
    sparse: sparse.Factor
    inverse: Array  # elements of S⁻¹ in the layout of S
    F: Array  # lower triangle of the largest level, row by row
    d: Array  # its right-hand side
    z: Array  # (p + q,) a whitened row
    X: Array  # (p, p)
    C: Array  # (p, p)
    H: Array  # (p, m)
    Y: Array  # (p, m)


@kernel
def _union(
    start: Integers, touch: Integers, first: Integers, n: int, pointer: Integers, visited: Integers, begin: Integers,
    through: Integers, rows: Integers, fill: bool,
) -> None:  # fmt: skip
    """Count, or write, the rows of each column of the lower triangle of S.

    Row by row, so that the rows of a column come out increasing; ``begin`` and ``through`` list the levels that touch
    a column. ``first`` (n,) is where the dense diagonal block of each column begins.
    """
    for c in range(n):
        visited[c] = -1
    for row in range(n):
        for c in range(first[row], row + 1):
            visited[c] = row
            if fill:
                rows[pointer[c]] = row
            pointer[c] += 1
        for k in range(begin[row], begin[row + 1]):
            j = through[k]
            for q in range(start[j], start[j + 1]):
                c = touch[q]
                if c > row:
                    break
                if visited[c] != row:
                    visited[c] = row
                    if fill:
                        rows[pointer[c]] = row
                    pointer[c] += 1


def pattern(start: Integers, touch: Integers, border: Border, n: int) -> tuple[Integers, Integers]:
    """Return the lower triangle of S over its first n columns, by columns: pointers and rows.

    Whatever one level touches is joined, and the coefficients of a level of another factor, and the fixed effects.
    """
    first = np.arange(n, dtype=np.int64)
    for at, levels, q in zip(border.start, border.levels, border.size, strict=True):
        first[at : at + levels * q] = at + q * (np.arange(levels * q) // q)
    first[border.fixed :] = border.fixed
    level = np.repeat(np.arange(len(start) - 1, dtype=np.int64), np.diff(start))
    through = level[np.argsort(touch, kind="stable")]
    begin = np.concatenate([[0], np.cumsum(np.bincount(touch, minlength=n))]).astype(np.int64)
    pointer, visited = np.zeros(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    _union(start, touch, first, n, pointer, visited, begin, through, visited, False)
    indptr = np.concatenate([[0], np.cumsum(pointer)]).astype(np.int64)
    rows = np.empty(int(indptr[-1]), dtype=np.int64)
    _union(start, touch, first, n, indptr[:-1].copy(), visited, begin, through, rows, True)
    return indptr, rows


@kernel
def _places(symbolic: Symbolic, start: Integers, touch: Integers, left: int, pair: Integers, place: Integers) -> None:
    for j in range(start.shape[0] - 1):
        first = start[j]
        m = start[j + 1] - first - left
        at = pair[j]
        for t in range(m):
            for c in range(t + 1):
                place[at] = position(symbolic, touch[first + t], touch[first + c])
                at += 1


def _triangles(first: Integers, q: int) -> tuple[Integers, Integers]:
    """Return rows and columns of the lower triangles of blocks of q that begin at these columns."""
    i, k = np.tril_indices(q)
    return (first[:, None] + i).ravel(), (first[:, None] + k).ravel()


def new_front(
    start: Integers, touch: Integers, border: Border, n: int, order: str | Integers = "minimum_degree"
) -> Front:
    """Analyse the Schur complement over the first n columns of r: all of them, or all but the fixed effects."""
    P = len(border.linear)
    left = border.fixed + P - n
    last = P - left
    indptr, indices = pattern(start, touch, border, n)
    symbolic = analyse(indptr, indices, order=order, last=last)
    m = np.diff(start) - left
    pair = np.concatenate([[0], np.cumsum(m * (m + 1) // 2)]).astype(np.int64)
    place = np.empty(int(pair[-1]), dtype=np.int64)
    _places(packed(symbolic), start, touch, left, pair, place)
    own = [np.zeros(0, dtype=np.int64)]
    for at, levels, q in zip(border.start, border.levels, border.size, strict=True):
        own.append(positions(symbolic, *_triangles(at + q * np.arange(levels, dtype=np.int64), int(q))))
    fixed = positions(symbolic, *_triangles(np.array([border.fixed], dtype=np.int64), last))
    return Front(symbolic, start, touch, int(left), pair, place, np.concatenate(own), fixed)


def new_pieces(front: Front, p: int, q: int) -> Pieces:
    """Allocate for this layout; p coefficients a level, q numbers of a row in r."""
    J, n = len(front.start) - 1, front.symbolic.n
    m = int((np.diff(front.start) - front.left).max(initial=0))
    return Pieces(
        L=np.zeros((J, p, p)),
        G=np.zeros(int(p * (front.start[-1] - J * front.left))),
        u=np.zeros((J, p)),
        v=np.zeros(n),
        x=np.zeros(n),
        sparse=sparse.new_factor(front.symbolic),
        inverse=np.zeros(front.symbolic.stored),
        F=np.zeros(m * (m + 1) // 2),
        d=np.zeros(m),
        z=np.zeros(p + q),
        X=np.zeros((p, p)),
        C=np.zeros((p, p)),
        H=np.zeros((p, m)),
        Y=np.zeros((p, m)),
    )

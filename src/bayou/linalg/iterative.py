"""Symmetric positive definite systems too large to factorise, by preconditioned conjugate gradients.

The matrix is S = T − G'G: T sparse, and G the rows that eliminating the blocks of another factor has left
(`schur`), which is nothing for a plain sparse matrix; S itself is never formed. The preconditioner is
M = L L' near S: an incomplete Cholesky factor on the pattern of T, or diagonal blocks.

Sources: Hestenes & Stiefel (1952), J. Res. Nat. Bur. Standards 49; Meijerink & van der Vorst (1977), Math.
Comp. 31, and Manteuffel (1980), Math. Comp. 34 (incomplete factors and their shift); Saad (2003), Iterative
Methods for Sparse Linear Systems, chapters 9 and 10.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.errors import DataError
from bayou.jit import kernel

SHIFTS = 12  # of the diagonal, each ten times the one before, until an incomplete factor exists


class Operator(NamedTuple):
    """S = T − G'G; `bayou.packed.packed` makes it what kernels take."""

    indptr: Integers  # (n + 1,) T by rows, both triangles, columns increasing
    indices: Integers
    values: Array
    p: int  # rows of G for each level eliminated; 0: there is no G
    start: Integers  # (J + 1,) as in `schur.Arrow`
    touch: Integers  # columns that level j touches, increasing
    G: Array  # level j: p rows of m_j numbers, from p start[j] on


class Preconditioner(NamedTuple):
    """M = L L' with L on a pattern of its own: all of T's, or diagonal blocks, where it is exact."""

    indptr: Integers  # (n + 1,) L by rows, each row's diagonal last
    indices: Integers
    values: Array
    source: Integers  # place of each element in T, −1 where T has none
    row: Array  # (n,) scratch


class Run(NamedTuple):
    """Scratch of one thread's iterations."""

    residual: Array  # (n,)
    turned: Array  # (n,) M⁻¹ residual
    direction: Array  # (n,)
    image: Array  # (n,)
    step: Array  # (most,) what each step took; then the diagonal of Lanczos
    ratio: Array  # (most,) what each direction kept; then what is beside that diagonal
    weight: Array  # (most,)


def both_triangles(indptr: Integers, indices: Integers) -> tuple[Integers, Integers, Integers]:
    """Turn a lower triangle by columns into rows of the whole matrix.

    Returns
    -------
    tuple
        Pointers, columns, and the place of each element among the values of the triangle.
    """
    n = len(indptr) - 1
    column = np.repeat(np.arange(n, dtype=np.int64), np.diff(indptr))
    off = np.flatnonzero(indices != column)
    rows, columns = np.concatenate([indices, column[off]]), np.concatenate([column, indices[off]])
    order = np.lexsort((columns, rows))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    return pointers, columns[order], np.concatenate([np.arange(len(indices)), off])[order]


def matrix(indptr: Integers, indices: Integers, values: Array) -> Operator:
    """Return a plain sparse matrix, by rows with both triangles, as an operator."""
    if len(indptr) < 1 or indptr[-1] != len(indices) or len(values) != len(indices):
        raise DataError("A matrix by rows has n + 1 pointers, the last of them its number of columns and of values.")
    nothing = np.zeros(0, dtype=np.int64)
    return Operator(indptr, indices, values, 0, np.zeros(1, dtype=np.int64), nothing, np.zeros(0))


def new_preconditioner(operator: Operator, blocks: Integers | None = None) -> Preconditioner:
    """Return the arrays of a preconditioner, for `precondition` to fill.

    Parameters
    ----------
    operator
        Only the pattern of T is looked at.
    blocks
        First variable of each diagonal block, increasing from 0. By default the pattern of T: an incomplete
        factor.

    Raises
    ------
    DataError
        If the blocks are none, or T lacks an element of the diagonal.
    """
    n = len(operator.indptr) - 1
    row = np.repeat(np.arange(n, dtype=np.int64), np.diff(operator.indptr))
    if blocks is None:
        source = np.flatnonzero(operator.indices <= row)
        rows, columns = row[source], operator.indices[source]
    else:
        if n and (len(blocks) == 0 or blocks[0] != 0 or np.any(np.diff(blocks) < 1) or blocks[-1] >= n):
            raise DataError(f"Blocks are given by their first variables: 0, increasing, below {n}.")
        first = np.repeat(blocks, np.diff(np.append(blocks, n))) if n else np.zeros(0, dtype=np.int64)
        width = np.arange(n) - first + 1
        rows = np.repeat(np.arange(n, dtype=np.int64), width)
        columns = np.arange(len(rows), dtype=np.int64) - np.repeat(np.cumsum(width) - width - first, width)
        known = row * n + operator.indices
        wanted = rows * n + columns
        at = np.searchsorted(known, wanted)
        source = np.where(np.append(known, -1)[at] == wanted, at, -1)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    if n and (np.any(np.diff(indptr) < 1) or np.any(columns[indptr[1:] - 1] != np.arange(n))):
        raise DataError("An incomplete factor needs every element of the diagonal in the pattern.")
    return Preconditioner(indptr, columns, np.zeros(len(rows)), source, np.zeros(n))


def new_run(n: int, most: int) -> Run:
    """Return scratch for iterations of at most ``most`` steps."""
    if most < 1:
        raise DataError(f"Iterations of at most {most} steps; give them at least one.")
    return Run(*(np.zeros(n) for _ in range(4)), *(np.zeros(most) for _ in range(3)))


@kernel
def apply(operator: Operator, x: Array, out: Array) -> None:
    """Out <- S x; two arrays."""
    indptr, indices, values = operator.indptr, operator.indices, operator.values
    start, touch, G, p = operator.start, operator.touch, operator.G, operator.p
    for i in range(indptr.shape[0] - 1):
        t = 0.0
        for q in range(indptr[i], indptr[i + 1]):
            t += values[q] * x[indices[q]]
        out[i] = t
    for j in range(start.shape[0] - 1):
        first = start[j]
        m = start[j + 1] - first
        for i in range(p):
            base = p * first + i * m
            t = 0.0
            for c in range(m):
                t += G[base + c] * x[touch[first + c]]
            for c in range(m):
                out[touch[first + c]] -= G[base + c] * t


@kernel(inner=True)
def _collect(operator: Operator, made: Preconditioner) -> None:
    """Write the elements of S into the pattern of L."""
    indptr, indices, values = made.indptr, made.indices, made.values
    start, touch, G, p = operator.start, operator.touch, operator.G, operator.p
    for q in range(values.shape[0]):
        values[q] = operator.values[made.source[q]] if made.source[q] >= 0 else 0.0
    for j in range(start.shape[0] - 1):
        first = start[j]
        m = start[j + 1] - first
        for t in range(m):
            row = touch[first + t]
            c = 0
            for q in range(indptr[row], indptr[row + 1]):
                column = indices[q]
                while c < t and touch[first + c] < column:
                    c += 1
                if touch[first + c] == column:
                    for i in range(p):
                        base = p * first + i * m
                        values[q] -= G[base + t] * G[base + c]


@kernel(inner=True)
def _incomplete(made: Preconditioner, shift: float) -> bool:
    """Factorise in place row by row, leaving out what the pattern has no place for."""
    indptr, indices, values, row = made.indptr, made.indices, made.values, made.row
    n = row.shape[0]
    for i in range(n):
        row[i] = 0.0
    for i in range(n):
        at, last = indptr[i], indptr[i + 1] - 1
        pivot = values[last] * (1.0 + shift)
        for q in range(at, last):
            k = indices[q]
            t = values[q]
            end = indptr[k + 1] - 1
            for s in range(indptr[k], end):
                t -= values[s] * row[indices[s]]
            t /= values[end]
            values[q] = t
            row[k] = t
            pivot -= t * t
        for q in range(at, last):
            row[indices[q]] = 0.0
        if not (pivot > 0.0 and pivot < math.inf):
            return False
        values[last] = math.sqrt(pivot)
    return True


@kernel
def precondition(operator: Operator, made: Preconditioner) -> bool:
    """Factorise M at the present values of S, its diagonal enlarged where there is no incomplete factor otherwise."""
    shift = 0.0
    for _ in range(SHIFTS):
        _collect(operator, made)
        if _incomplete(made, shift):
            return True
        shift = max(1e-6, 10.0 * shift)
    return False


@kernel(inner=True)
def _forward(made: Preconditioner, x: Array) -> None:
    """X <- L⁻¹ x."""
    indptr, indices, values = made.indptr, made.indices, made.values
    for i in range(x.shape[0]):
        last = indptr[i + 1] - 1
        t = x[i]
        for q in range(indptr[i], last):
            t -= values[q] * x[indices[q]]
        x[i] = t / values[last]


@kernel(inner=True)
def backward(made: Preconditioner, x: Array) -> None:
    """X <- L'⁻¹ x."""
    indptr, indices, values = made.indptr, made.indices, made.values
    for i in range(x.shape[0] - 1, -1, -1):
        last = indptr[i + 1] - 1
        t = x[i] / values[last]
        x[i] = t
        for q in range(indptr[i], last):
            x[indices[q]] -= values[q] * t


@kernel(inner=True)
def iterate(operator: Operator, made: Preconditioner, x: Array, run: Run, goal: float) -> tuple[int, bool]:
    """Conjugate gradients from x, whose residual is in ``run``, until residual' M⁻¹ residual is at most ``goal``.

    Returns the number of steps, and whether the goal was reached.
    """
    r, z, d, image = run.residual, run.turned, run.direction, run.image
    n = x.shape[0]
    size = 0.0
    for k in range(run.step.shape[0] + 1):
        before = size
        for i in range(n):
            z[i] = r[i]
        _forward(made, z)
        size = 0.0
        for i in range(n):
            size += z[i] * z[i]
        if size <= goal:
            return k, True
        if k == run.step.shape[0] or not size < math.inf:
            return k, False
        backward(made, z)
        kept = size / before if k > 0 else 0.0
        if k > 0:
            run.ratio[k - 1] = kept
        for i in range(n):
            d[i] = z[i] + kept * d[i] if k > 0 else z[i]
        apply(operator, d, image)
        bend = 0.0
        for i in range(n):
            bend += d[i] * image[i]
        if not bend > 0.0:
            return k, False
        step = size / bend
        run.step[k] = step
        for i in range(n):
            x[i] += step * d[i]
            r[i] -= step * image[i]
    return 0, False


@kernel
def conjugate_gradients(
    operator: Operator, made: Preconditioner, b: Array, x: Array, run: Run, tolerance: float
) -> tuple[int, bool]:
    """Solve S x = b, starting from x as it is.

    Stops when the residual, in the norm of M⁻¹, is at most ``tolerance`` times b. Returns the number of steps and
    whether that was reached in as many as ``run`` has room for; it is not when S or M is not positive definite.
    """
    n = b.shape[0]
    z = run.turned
    for i in range(n):
        z[i] = b[i]
    _forward(made, z)
    goal = 0.0
    for i in range(n):
        goal += z[i] * z[i]
    if goal == 0.0:
        for i in range(n):
            x[i] = 0.0
        return 0, True
    apply(operator, x, run.image)
    for i in range(n):
        run.residual[i] = b[i] - run.image[i]
    return iterate(operator, made, x, run, goal * tolerance * tolerance)

"""What a sparse Cholesky factorisation can know before it sees a number.

The order of elimination, the elimination tree (the parent of column j is the row of the first entry of L
below its diagonal), its postorder, the pattern of L, and the supernodes: runs of columns that share their
rows below, kept as one dense block. Done once per model; the numeric phase of `sparse` runs per theta.

Sources: Liu (1990), The role of elimination trees in sparse factorization, SIAM J. Matrix Anal. Appl. 11;
Ashcraft & Grimes (1989), The influence of relaxed supernode partitions, ACM TOMS 15; Davis (2006), Direct
Methods for Sparse Linear Systems, chapter 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Integers
from bayou.errors import DataError
from bayou.jit import kernel
from bayou.linalg.ordering import minimum_degree
from bayou.linalg.supernodes import layout, merged, relative_rows, supernodal_rows
from bayou.packed import packed

WORTH_BLOCKS = 8.0  # multiplications for each number of L, from which dense blocks pay
NOTHING = np.empty(0, dtype=np.int64)


class Symbolic(NamedTuple):
    """A symmetric pattern analysed; `bayou.packed.packed` makes it what kernels take.

    Positions ("pivots") count in the order of elimination. The values of L, and of the selected inverse, stand
    in one array: column j from its diagonal at ``start[j]`` on, ``length[j]`` numbers, whose rows are
    ``rows[row_at[j] : row_at[j] + length[j]]``. The columns of a supernode stand side by side as one
    column-major block, whose upper triangle is not used.
    """

    n: int
    last: int  # trailing columns that were held at the end
    supernodal: bool  # numeric phase by dense blocks
    flops: float  # multiplications of one factorisation without padding
    nnz: int  # numbers in L without padding
    stored: int  # numbers kept, with padding and unused triangles
    permutation: Integers  # (n,) variable at each pivot
    inverse: Integers  # (n,) pivot of each variable
    parent: Integers  # (n,) elimination tree; −1 at a root
    target: Integers  # (input nnz,) where each input value goes
    start: Integers  # (n,)
    length: Integers  # (n,)
    row_at: Integers  # (n,)
    rows: Integers  # rows of each supernode, its own columns first
    member: Integers  # (n,) supernode of each column
    first: Integers  # (S + 1,) first column of each supernode
    head: Integers  # (S + 1,) its first place in `rows`
    block: Integers  # (S + 1,) its first place among the values
    child: Integers  # (S,) its first child, −1 without
    sibling: Integers  # (S,) the next child of the same parent, −1 after the last
    relative: Integers  # as `rows`: place of each row among the rows of the parent; empty when not supernodal
    update: Integers  # (S,) where its update matrix stands; empty when not supernodal
    scratch: Integers  # (3,) sizes: all update matrices, the widest block, the largest part below one


@kernel
def _ordered_rows(
    indptr: Integers, indices: Integers, inverse: Integers, last: int, pointer: Integers, columns: Integers
) -> None:
    """Rows of the strict lower triangle in the order of elimination; trailing columns count as dense."""
    n = inverse.shape[0]
    hub = n - last
    for k in range(n + 1):
        pointer[k] = 0
    for turn in range(2):
        for j in range(n):
            b = inverse[j]
            for q in range(indptr[j], indptr[j + 1]):
                a = inverse[indices[q]]
                if a != b:
                    row = max(a, b)
                    if turn > 0:
                        columns[pointer[row]] = min(a, b)
                    pointer[row] += 1
        for row in range(hub + 1, n):
            if turn > 0:
                columns[pointer[row]] = hub
            pointer[row] += 1
        if turn == 0:  # counts to starts
            total = 0
            for row in range(n):
                count = pointer[row]
                pointer[row] = total
                total += count
    # each start has moved to its end
    for row in range(n, 0, -1):
        pointer[row] = pointer[row - 1]
    pointer[0] = 0


@kernel
def _tree(pointer: Integers, columns: Integers, parent: Integers, ancestor: Integers) -> None:
    """Elimination tree by path compression (Liu 1990)."""
    n = parent.shape[0]
    for i in range(n):
        parent[i] = -1
        ancestor[i] = -1
        for q in range(pointer[i], pointer[i + 1]):
            k = columns[q]
            while ancestor[k] != -1 and ancestor[k] != i:
                after = ancestor[k]
                ancestor[k] = i
                k = after
            if ancestor[k] == -1:
                ancestor[k] = i
                parent[k] = i


@kernel
def _postorder(parent: Integers, work: Integers, order: Integers) -> None:
    """Children before parents, each subtree in one run, roots increasing; ``work`` is (2, n)."""
    n = parent.shape[0]
    child, sibling = work[0], work[1]
    for i in range(n):
        child[i] = -1
    for i in range(n - 1, -1, -1):
        if parent[i] >= 0:
            sibling[i] = child[parent[i]]
            child[parent[i]] = i
    done = 0
    for root in range(n):
        if parent[root] >= 0:
            continue
        i = root
        while True:
            while child[i] >= 0:  # down to the first leaf, unhooking the way
                below = child[i]
                child[i] = sibling[below]
                i = below
            order[done] = i
            done += 1
            if i == root:
                break
            i = parent[i]


@kernel
def _column_counts(pointer: Integers, columns: Integers, parent: Integers, mark: Integers, count: Integers) -> None:
    """Numbers in each column of L: row i of L is the subtree that the entries of row i of A span."""
    n = parent.shape[0]
    for i in range(n):
        mark[i] = i
        count[i] = 1
        for q in range(pointer[i], pointer[i + 1]):
            k = columns[q]
            while mark[k] != i:
                mark[k] = i
                count[k] += 1
                k = parent[k]


@kernel
def position(symbolic: Symbolic, row: int, column: int) -> int:
    """Where the element (row, column) of L or of the inverse stands, or −1; in the numbering of the input."""
    a, b = symbolic.inverse[row], symbolic.inverse[column]
    i, j = max(a, b), min(a, b)
    at = symbolic.row_at[j]
    low, high = at, at + symbolic.length[j]
    rows = symbolic.rows
    while high - low > 1:
        middle = (low + high) >> 1
        if rows[middle] <= i:
            low = middle
        else:
            high = middle
    if rows[low] != i:
        return -1
    return symbolic.start[j] + low - at


@kernel
def _positions(symbolic: Symbolic, rows: Integers, columns: Integers, out: Integers) -> None:
    for q in range(rows.shape[0]):
        out[q] = position(symbolic, rows[q], columns[q])


def _checked(indptr: Integers, indices: Integers, last: int) -> int:
    """Raise if the arrays are not the lower triangle, diagonal included, by sorted columns."""
    n = len(indptr) - 1
    if n < 0 or indptr.dtype != np.int64 or indices.dtype != np.int64:
        raise DataError("A sparse pattern is two int64 arrays: n + 1 column pointers, and the rows.")
    if indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 1):
        raise DataError("Column pointers start at 0, end at the number of rows, and give each column its diagonal.")
    if len(indices) and (indices.max() >= n or np.any(indices[indptr[:-1]] != np.arange(n))):
        raise DataError("Each column of a lower triangle starts with its diagonal and has no row past the last.")
    inside = np.ones(max(len(indices) - 1, 0), dtype=bool)
    inside[indptr[1:-1] - 1] = False
    if np.any(np.diff(indices)[inside] < 1):
        raise DataError("The rows of a column must increase; sort them and add up duplicates.")
    if not 0 <= last <= n:
        raise DataError(f"last={last} trailing columns of a matrix with {n} columns.")
    return n


def _ordered(indptr: Integers, indices: Integers, order: str | Integers, n: int, last: int) -> Integers:
    """Return the order of elimination that was asked for."""
    everything = np.arange(n, dtype=np.int64)
    if isinstance(order, str):
        if order == "natural":
            return everything
        if order == "minimum_degree":
            return np.concatenate([minimum_degree(indptr, indices, n - last), everything[n - last :]])
        raise DataError(f"No order is called {order!r}; take 'minimum_degree', 'natural' or a permutation.")
    given = np.array(order, dtype=np.int64)
    if not np.array_equal(np.sort(given), everything) or not np.array_equal(given[n - last :], everything[n - last :]):
        raise DataError(f"An order is a permutation of 0 … {n - 1}, its last {last} numbers in place.")
    return given


def analyse(
    indptr: Integers,
    indices: Integers,
    order: str | Integers = "minimum_degree",
    last: int = 0,
    supernodal: bool | None = None,
) -> Symbolic:
    """Analyse the pattern of a symmetric matrix for Cholesky factorisation.

    Parameters
    ----------
    indptr, indices
        Its lower triangle with the whole diagonal, by columns: int64, rows increasing.
    order
        ``"minimum_degree"``, ``"natural"``, or a permutation (position k: the variable eliminated as the
        k-th). Within what it asks for, subtrees are put together (a postorder): neither the number of
        multiplications nor that of entries changes.
    last
        Trailing columns that stay at the end in the order given, for instance dense ones.
    supernodal
        Dense blocks or single columns; by default as multiplications for each number of L tell.

    Raises
    ------
    DataError
        If the arrays are not such a triangle, or the order is none.

    Examples
    --------
    >>> import numpy as np
    >>> from bayou.linalg.symbolic import analyse
    >>> chain = analyse(np.array([0, 2, 4, 5]), np.array([0, 1, 1, 2, 2]))
    >>> chain.nnz, chain.flops
    (5, 4.0)
    """
    indptr, indices = np.ascontiguousarray(indptr), np.ascontiguousarray(indices)
    n = _checked(indptr, indices, last)
    permutation = _ordered(indptr, indices, order, n, last)
    inverse = np.empty(n, dtype=np.int64)
    pointer = np.empty(n + 1, dtype=np.int64)
    columns = np.empty(len(indices) + last, dtype=np.int64)
    parent, count, post = (np.empty(n, dtype=np.int64) for _ in range(3))
    work = np.empty((2, n), dtype=np.int64)

    def reorder(turn: Integers | None) -> None:
        """Put what is known into a new order of elimination (in which parents still come later)."""
        nonlocal permutation, parent
        if turn is not None:
            place = np.empty(n, dtype=np.int64)
            place[turn] = np.arange(n)
            permutation = permutation[turn]
            parent = np.where(parent[turn] < 0, -1, place[parent[turn]])
        inverse[permutation] = np.arange(n)
        _ordered_rows(indptr, indices, inverse, last, pointer, columns)

    reorder(None)
    _tree(pointer, columns, parent, work[0])
    _postorder(parent, work, post)
    reorder(post)
    _column_counts(pointer, columns, parent, work[0], count)
    below = count - 1.0
    flops, nnz = float(below @ (below + 3.0)) / 2.0, int(count.sum())
    if supernodal is None:
        supernodal = flops > WORTH_BLOCKS * nnz
    if supernodal:
        turn, first, above, beneath = merged(parent, count)
        reorder(turn)
    else:
        first, above, beneath = np.arange(n + 1, dtype=np.int64), parent, count - 1
    member = np.repeat(np.arange(len(first) - 1, dtype=np.int64), np.diff(first))
    head, block, start, length, row_at, child, sibling = layout(first, beneath, above, member)
    rows = supernodal_rows(pointer, columns, member, above, head)
    relative, update, scratch = NOTHING, NOTHING, np.zeros(3, dtype=np.int64)
    if supernodal:
        relative, update, scratch = relative_rows(first, head, rows, above, child)
    symbolic = Symbolic(
        n, last, supernodal, flops, nnz, int(block[-1]), permutation, inverse, parent, np.empty_like(indices),
        start, length, row_at, rows, member, first, head, block, child, sibling, relative, update, scratch,
    )  # fmt: skip
    _fill_target(symbolic, indptr, indices)
    return symbolic


def _fill_target(symbolic: Symbolic, indptr: Integers, indices: Integers) -> None:
    columns = np.repeat(np.arange(symbolic.n, dtype=np.int64), np.diff(indptr))
    symbolic.target[:] = positions(symbolic, indices, columns)


def positions(symbolic: Symbolic, rows: Integers, columns: Integers) -> Integers:
    """Where the elements (row, column) stand among the values of L or of the selected inverse.

    Parameters
    ----------
    rows, columns
        In the numbering of the input; either triangle.

    Returns
    -------
    numpy.ndarray
        Positions; −1 outside the pattern of L.

    Examples
    --------
    >>> import numpy as np
    >>> from bayou.linalg.symbolic import analyse, positions
    >>> chain = analyse(np.array([0, 2, 4, 5]), np.array([0, 1, 1, 2, 2]), order="natural")
    >>> positions(chain, np.array([1, 0, 2]), np.array([0, 1, 0]))
    array([ 1,  1, -1])
    """
    rows, columns = np.broadcast_arrays(np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64))
    out = np.empty(rows.size, dtype=np.int64)
    if rows.size and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= symbolic.n):
        raise DataError(f"Rows and columns of a matrix of {symbolic.n} go from 0 to {symbolic.n - 1}.")
    _positions(packed(symbolic), rows.ravel(), columns.ravel(), out)
    return out.reshape(rows.shape)

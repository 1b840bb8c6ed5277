"""Supernodes of a Cholesky factor: which columns share a dense block, its rows, and where all of it stands.

Column j + 1 belongs to the supernode of column j if it is its parent and L's column j has the same rows but
for its diagonal. Small supernodes are then merged with their parents ("relaxed"): some zeros are stored
and multiplied, and the blocks are larger.

Source: Ashcraft & Grimes (1989), ACM TOMS 15; Liu (1992), The multifrontal method, SIAM Review 34.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Integers
from bayou.jit import kernel

# a merged block may be so wide if at most this fraction of it is zeros
WIDTHS = np.array([4, 16, 48])
ZEROS = np.array([1.0, 0.5, 0.15, 0.05])


@kernel(inner=True)
def _find(into: Integers, s: int) -> int:
    """Return the node that ``s`` was merged into, shortening the way."""
    while into[s] != s:
        into[s] = into[into[s]]
        s = into[s]
    return s


@kernel
def _merge(parent: Integers, count: Integers, node: Integers, work: Integers, order: Integers, first: Integers,
           above: Integers, beneath: Integers) -> int:  # fmt: skip
    """Form and merge supernodes; returns their number. ``work`` is (7, n); see `merged` for the rest."""
    n = parent.shape[0]
    width, below, exact, into, up, child, sibling = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    S = 0
    for j in range(n):
        if j == 0 or parent[j - 1] != j or count[j] != count[j - 1] - 1:
            width[S] = 0
            exact[S] = 0
            S += 1
        node[j] = S - 1
        width[S - 1] += 1
        exact[S - 1] += count[j]
        below[S - 1] = count[j] - 1
        up[S - 1] = parent[j]
    for s in range(S):
        into[s] = s
        if up[s] >= 0:
            up[s] = node[up[s]]
    for s in range(S):
        p = up[s]
        if p < 0:
            continue
        w = width[s] + width[p]
        size = w * (w + 1) // 2 + w * below[p]
        zeros = size - exact[s] - exact[p]
        allowed = ZEROS[3]
        for k in range(2, -1, -1):
            if w <= WIDTHS[k]:
                allowed = ZEROS[k]
        if zeros <= allowed * size:
            into[s] = p
            width[p] = w
            exact[p] += exact[s]
    # a postorder of the merged tree
    for s in range(S):
        child[s] = -1
    for s in range(S - 1, -1, -1):
        if into[s] == s and up[s] >= 0:
            p = _find(into, up[s])
            up[s] = p
            sibling[s] = child[p]
            child[p] = s
    done = 0
    at = 0
    place = exact  # not needed any more
    for root in range(S):
        if into[root] != root or up[root] >= 0:
            continue
        s = root
        while True:
            while child[s] >= 0:
                below_s = child[s]
                child[s] = sibling[below_s]
                s = below_s
            place[s] = done
            first[done] = at
            beneath[done] = below[s]
            above[done] = up[s]
            at += width[s]
            done += 1
            if s == root:
                break
            s = up[s]
    first[done] = n
    for s in range(done):
        child[s] = first[s]
        if above[s] >= 0:
            above[s] = place[above[s]]
    for j in range(n):
        s = place[_find(into, node[j])]
        order[child[s]] = j
        child[s] += 1
    return done


def merged(parent: Integers, count: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """Form the supernodes of a postordered elimination tree.

    Parameters
    ----------
    parent, count
        The tree, and the numbers in each column of L.

    Returns
    -------
    tuple
        The order that puts each supernode's columns side by side, its first column (and n), its parent,
        and the number of its rows below.
    """
    n = len(parent)
    work = np.empty((7, n), dtype=np.int64)
    node, order, above, beneath = (np.empty(n, dtype=np.int64) for _ in range(4))
    first = np.empty(n + 1, dtype=np.int64)
    S = _merge(parent, count, node, work, order, first, above, beneath)
    return order, first[: S + 1].copy(), above[:S].copy(), beneath[:S].copy()


def layout(first: Integers, beneath: Integers, above: Integers, member: Integers) -> tuple[Integers, ...]:
    """Return where each supernode's rows, values and columns stand, and its tree by child and sibling."""
    width = np.diff(first)
    height = width + beneath
    head = np.concatenate([[0], np.cumsum(height)])
    block = np.concatenate([[0], np.cumsum(width * height)])
    within = np.arange(first[-1], dtype=np.int64) - first[member]
    start = block[member] + within * (height[member] + 1)
    child, sibling = np.full(len(above), -1, dtype=np.int64), np.full(len(above), -1, dtype=np.int64)
    _children(above, child, sibling)
    return head, block, start, height[member] - within, head[member] + within, child, sibling


@kernel
def _children(above: Integers, child: Integers, sibling: Integers) -> None:
    for s in range(above.shape[0] - 1, -1, -1):
        p = above[s]
        if p >= 0:
            sibling[s] = child[p]
            child[p] = s


@kernel
def _rows(
    pointer: Integers, columns: Integers, member: Integers, above: Integers, head: Integers, work: Integers,
    rows: Integers,
) -> None:  # fmt: skip
    mark, put = work[0], work[1]
    for s in range(above.shape[0]):
        mark[s] = -1
        put[s] = head[s]
    for i in range(member.shape[0]):
        s = member[i]
        mark[s] = i
        rows[put[s]] = i
        put[s] += 1
        for q in range(pointer[i], pointer[i + 1]):
            s = member[columns[q]]
            while mark[s] != i:
                mark[s] = i
                rows[put[s]] = i
                put[s] += 1
                s = above[s]


def supernodal_rows(
    pointer: Integers, columns: Integers, member: Integers, above: Integers, head: Integers
) -> Integers:
    """Return the rows of every supernode, increasing: row i goes along the tree from the entries of row i of A."""
    rows = np.empty(head[-1], dtype=np.int64)
    _rows(pointer, columns, member, above, head, np.empty((2, len(above)), dtype=np.int64), rows)
    return rows


@kernel
def _relative(
    first: Integers, head: Integers, rows: Integers, above: Integers, child: Integers, relative: Integers,
    update: Integers, level: Integers, top: Integers, scratch: Integers,
) -> None:  # fmt: skip
    """Places among the rows of the parent, and a place for each update matrix.

    A node's matrix lives from its own turn to that of its parent. Nodes of even and of odd depth have a stack
    each: the matrices of a node's children are on top of the one when its own goes onto the other.
    """
    S = above.shape[0]
    for s in range(S - 1, -1, -1):
        level[s] = 1 - level[above[s]] if above[s] >= 0 else 0
    for s in range(S):
        w = first[s + 1] - first[s]
        r = head[s + 1] - head[s] - w
        p = above[s]
        scratch[1] = max(scratch[1], w)
        scratch[2] = max(scratch[2], w * r)
        if p >= 0:
            at = head[p]
            for q in range(head[s] + w, head[s + 1]):
                while rows[at] != rows[q]:
                    at += 1
                relative[q] = at - head[p]
        side = level[s]
        update[s] = top[side]
        top[side] += r * r
        top[2 + side] = max(top[2 + side], top[side])
        if child[s] >= 0:
            top[1 - side] = update[child[s]]
    for s in range(S):
        update[s] += level[s] * top[2]
    scratch[0] = top[2] + top[3]


def relative_rows(
    first: Integers, head: Integers, rows: Integers, above: Integers, child: Integers
) -> tuple[Integers, Integers, Integers]:
    """Return the place of each row among its parent's, of each update matrix, and the sizes of scratch arrays."""
    S = len(above)
    relative, update = np.zeros(len(rows), dtype=np.int64), np.empty(S, dtype=np.int64)
    scratch = np.zeros(3, dtype=np.int64)
    level, top = np.empty(S, dtype=np.int64), np.zeros(4, dtype=np.int64)
    _relative(first, head, rows, above, child, relative, update, level, top, scratch)
    return relative, update, scratch

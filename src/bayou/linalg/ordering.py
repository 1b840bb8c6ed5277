r"""Orders of elimination that keep a sparse Cholesky factor sparse.

`minimum_degree` works on the quotient graph. An eliminated variable becomes an element, which stands for
the clique of its remaining neighbours; a variable keeps a list of elements and a list of variables that no
element joins it with. What an elimination would cost is bounded from above, not counted:

    d_i = min(variables left, d_i of before + |L_p \ i|, |A_i \ i| + |L_p \ i| + Σ_{e in E_i \ p} |L_e \ L_p|)

where p is the pivot just eliminated. Variables that have become indistinguishable are one supervariable,
elements that another one contains are absorbed, and variables whose only neighbours are those of the pivot
are eliminated with it.

Sources: Amestoy, Davis & Duff (1996), An approximate minimum degree ordering algorithm, SIAM J. Matrix
Anal. Appl. 17; Davis (2006), Direct Methods for Sparse Linear Systems, chapter 7.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Integers
from bayou.jit import kernel

VARIABLE, ELEMENT, GONE = 0, 1, 2


@kernel
def _neighbours(indptr: Integers, indices: Integers, n: int, start: Integers, where: Integers, out: Integers) -> int:
    """Write both directions of every edge among the first ``n`` nodes; returns how many numbers that takes."""
    for i in range(n):
        where[i] = 0
    for j in range(n):
        for q in range(indptr[j], indptr[j + 1]):
            i = indices[q]
            if j < i < n:
                where[i] += 1
                where[j] += 1
    total = 0
    for i in range(n):
        start[i] = total
        total += where[i]
        where[i] = start[i]
    for j in range(n):
        for q in range(indptr[j], indptr[j + 1]):
            i = indices[q]
            if j < i < n:
                out[where[i]] = j
                out[where[j]] = i
                where[i] += 1
                where[j] += 1
    return total


@kernel(inner=True)
def _enter(head: Integers, following: Integers, previous: Integers, degree: int, i: int) -> None:
    """Put a variable at the head of the list of its degree."""
    first = head[degree]
    following[i] = first
    previous[i] = -1
    if first >= 0:
        previous[first] = i
    head[degree] = i


@kernel(inner=True)
def _leave(head: Integers, following: Integers, previous: Integers, degree: int, i: int) -> None:
    """Take a variable out of the list of its degree."""
    after, before = following[i], previous[i]
    if after >= 0:
        previous[after] = before
    if before >= 0:
        following[before] = after
    else:
        head[degree] = after


@kernel(inner=True)
def _join(member: Integers, last_member: Integers, into: int, i: int) -> None:
    """Append the variables that ``i`` stands for to those of ``into``."""
    member[last_member[into]] = i
    last_member[into] = last_member[i]


@kernel(inner=True)
def _same_lists(space: Integers, start: int, length: int, marks: Integers, mark: int) -> bool:
    """Tell whether all of a list is marked."""
    for q in range(start, start + length):
        if marks[space[q]] != mark:
            return False
    return True


@kernel
def _eliminate(space: Integers, spare: Integers, free: int, dense: int, work: Integers, order: Integers) -> None:
    """Order all variables; ``work`` (15, n + 1) has the starts and lengths of the lists in its first two rows."""
    start, length, elements = work[0], work[1], work[2]
    weight, degree, state = work[3], work[4], work[5]
    head, following, previous = work[6], work[7], work[8]
    member, last_member = work[9], work[10]
    outside, marks, hashed, chain = work[11], work[12], work[13], work[14]
    n = order.shape[0]
    for i in range(n + 1):
        head[i] = -1
        hashed[i] = -1
        outside[i] = 0
        marks[i] = 0
    left = 0  # variables not yet ordered, other than the dense ones
    for i in range(n):
        elements[i] = 0
        weight[i] = 1
        degree[i] = length[i]
        state[i] = VARIABLE
        member[i] = -1
        last_member[i] = i
        if degree[i] > dense:
            weight[i] = 0  # seen by nobody; it comes last
            state[i] = GONE
            degree[i] = -1
        else:
            left += 1
    for i in range(n - 1, -1, -1):
        if state[i] == VARIABLE:
            _enter(head, following, previous, degree[i], i)
    stamp = 1  # of `outside`: an element is seen in this step if its number is at least this
    mark = 0
    lowest = 0
    done = 0
    while left > 0:
        while head[lowest] < 0:
            lowest += 1
        p = head[lowest]
        _leave(head, following, previous, lowest, p)
        # the element: all neighbours of p, marked by a negative weight
        own = weight[p]
        weight[p] = -own
        bound = length[p] - elements[p]
        for q in range(start[p], start[p] + elements[p]):
            bound += length[space[q]]
        if free + min(bound, left) > space.shape[0]:
            free = 0
            for i in range(n):
                if state[i] != GONE:
                    at = start[i]
                    start[i] = free
                    for q in range(at, at + length[i]):
                        spare[free] = space[q]
                        free += 1
            space, spare = spare, space
        first = free
        size = 0
        for k in range(elements[p] + 1):
            if k < elements[p]:
                e = space[start[p] + k]
                at, stop = start[e], start[e] + length[e]
                state[e] = GONE
            else:
                at, stop = start[p] + elements[p], start[p] + length[p]
            for q in range(at, stop):
                i = space[q]
                if weight[i] > 0:
                    size += weight[i]
                    weight[i] = -weight[i]
                    space[free] = i
                    free += 1
                    _leave(head, following, previous, degree[i], i)
        end = free
        state[p] = ELEMENT
        start[p] = first
        elements[p] = 0
        # how much of each neighbouring element lies outside the new one
        for q in range(first, end):
            i = space[q]
            for t in range(start[i], start[i] + elements[i]):
                e = space[t]
                if state[e] == ELEMENT:
                    if outside[e] < stamp:
                        outside[e] = degree[e] + stamp
                    outside[e] += weight[i]
        # shorter lists, bounds on the degrees, and a number that equal lists share
        for q in range(first, end):
            i = space[q]
            at = start[i]
            tail, until = at + elements[i], at + length[i]
            held = at
            code = p
            total = 0
            for t in range(at, tail):
                e = space[t]
                if state[e] == ELEMENT:
                    beyond = outside[e] - stamp
                    if beyond > 0:
                        total += beyond
                        code += e
                        space[held] = e
                        held += 1
                    else:
                        state[e] = GONE  # all of it is in the new one
            put = tail
            for t in range(tail, until):
                k = space[t]
                if weight[k] > 0:
                    total += weight[k]
                    code += k
                    space[put] = k
                    put += 1
            if held == at and put == tail:
                # nothing but the new element: eliminated with the pivot
                own -= weight[i]
                size += weight[i]
                weight[i] = 0
                state[i] = GONE
                _join(member, last_member, p, i)
                continue
            # p goes after the elements: what led to it, an element or p itself, has left a place
            if held == tail:
                if put > tail:
                    space[put] = space[tail]
                put += 1
            else:
                for t in range(tail, put):
                    space[t - tail + held + 1] = space[t]
                put += held + 1 - tail
            space[held] = p
            elements[i] = held + 1 - at
            length[i] = put - at
            degree[i] = min(degree[i], total)
            code %= n
            previous[i] = code
            chain[i] = hashed[code]
            hashed[code] = i
        # supervariables
        for q in range(first, end):
            if weight[space[q]] == 0:
                continue
            code = previous[space[q]]
            i = hashed[code]
            hashed[code] = -1
            while i >= 0:
                if chain[i] >= 0:
                    mark += 1
                    for t in range(start[i], start[i] + length[i]):
                        marks[space[t]] = mark
                before, j = i, chain[i]
                while j >= 0:
                    after = chain[j]
                    if (
                        length[j] == length[i]
                        and elements[j] == elements[i]
                        and _same_lists(space, start[j], length[j], marks, mark)
                    ):
                        weight[i] += weight[j]
                        weight[j] = 0
                        state[j] = GONE
                        _join(member, last_member, i, j)
                        chain[before] = after
                    else:
                        before = j
                    j = after
                i = chain[i]
        # back into the lists of degrees
        left -= own
        put = first
        for q in range(first, end):
            i = space[q]
            if weight[i] == 0:
                continue
            weight[i] = -weight[i]
            d = min(degree[i] + size - weight[i], left - weight[i])
            degree[i] = d
            lowest = min(lowest, d)
            _enter(head, following, previous, d, i)
            space[put] = i
            put += 1
        length[p] = put - first
        free = put
        degree[p] = size
        weight[p] = 0
        if put == first:
            state[p] = GONE
        stamp += n + 1
        i = p
        while i >= 0:
            order[done] = i
            done += 1
            i = member[i]
    for i in range(n):
        if degree[i] < 0:
            order[done] = i
            done += 1


def minimum_degree(indptr: Integers, indices: Integers, count: int | None = None) -> Integers:
    """Approximate minimum degree order of a symmetric pattern.

    Variables with more than max(16, 10 √n) neighbours come last, in the order given: they would join all
    others anyway, and slow the search down.

    Parameters
    ----------
    indptr, indices
        Lower triangle by columns (entries above the diagonal are not looked at).
    count
        Order the first ``count`` variables as if the others were not there; all by default.

    Returns
    -------
    numpy.ndarray
        Position k holds the variable to be eliminated as the k-th.

    Examples
    --------
    A star: its centre comes among the last two.

    >>> import numpy as np
    >>> from bayou.linalg.ordering import minimum_degree
    >>> order = minimum_degree(np.array([0, 4, 5, 6, 7]), np.array([0, 1, 2, 3, 1, 2, 3]))
    >>> 0 in order[2:]
    True
    """
    n = len(indptr) - 1 if count is None else count
    work = np.empty((15, n + 1), dtype=np.int64)
    order = np.empty(n, dtype=np.int64)
    edges = np.empty(2 * len(indices), dtype=np.int64)
    total = _neighbours(indptr, indices, n, work[0], work[1], edges)
    work[1] -= work[0]  # from ends to lengths
    space = np.empty(total + total // 5 + n + 1, dtype=np.int64)
    space[:total] = edges[:total]
    _eliminate(space, np.empty_like(space), total, max(16, int(10.0 * math.sqrt(n))), work, order)
    return order

"""Cholesky factor of a sparse positive definite matrix: P A P' = L L', for a pattern that `analyse` has seen.

Two numeric phases write the same layout (`Symbolic`): left-looking by columns, for very sparse factors, and
the multifrontal method by dense blocks. There each supernode eliminates its columns from the sum of what A
has there and of the update matrices of its children, U = Σ U_child − L₂ L₂', which stand where the
symbolic phase has put them: nothing is allocated. Blocks beyond a few columns go to BLAS.

Sources: Davis (2006), Direct Methods for Sparse Linear Systems, chapter 4 (left-looking); Duff & Reid (1983),
The multifrontal solution of indefinite sparse symmetric linear equations, ACM TOMS 9; Liu (1992), SIAM
Review 34; Rue (2001), Fast sampling of Gaussian Markov random fields, JRSS B 63.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel, window
from bayou.linalg import blas
from bayou.linalg.symbolic import Symbolic

BY_HAND = 16_000  # multiplications of a block up to which loops beat the calls of BLAS


class Factor(NamedTuple):
    """Numbers of one factorisation and its scratch, for one thread; `bayou.packed.packed` for kernels."""

    values: Array  # (stored,) L, in the layout of the symbolic phase
    updates: Array  # update matrices of the multifrontal phase, and what the selected inverse hands down
    panel: Array  # scratch of one block
    corner: Array
    x: Array  # (n,)
    chains: Integers  # (3, n) of the left-looking phase


def new_factor(symbolic: Symbolic) -> Factor:
    """Return the arrays that `factorise` fills."""
    updates, width, panel = (int(size) for size in symbolic.scratch)
    chains = np.empty((3, 0 if symbolic.supernodal else symbolic.n), dtype=np.int64)
    return Factor(
        np.zeros(symbolic.stored),
        np.zeros(updates),
        np.zeros(panel),
        np.zeros(width * width),
        np.zeros(symbolic.n),
        chains,
    )


@kernel(inner=True)
def _left_looking(symbolic: Symbolic, factor: Factor) -> bool:
    """Factorise in place, column by column; each column waits in the list of the next row it has to update."""
    rows, start, length = symbolic.rows, symbolic.start, symbolic.length
    values, x = factor.values, factor.x
    waiting, following, reached = factor.chains[0], factor.chains[1], factor.chains[2]
    n = symbolic.n
    for j in range(n):
        waiting[j] = -1
    for j in range(n):
        at = start[j]
        end = at + length[j]
        for q in range(at, end):
            x[rows[q]] = values[q]
        k = waiting[j]
        while k >= 0:
            after = following[k]
            q = reached[k]
            stop = start[k] + length[k]
            coefficient = values[q]
            below, numbers = window(rows, q, stop - q), window(values, q, stop - q)
            for t in range(stop - q):
                x[below[t]] -= coefficient * numbers[t]
            q += 1
            if q < stop:
                reached[k] = q
                following[k] = waiting[rows[q]]
                waiting[rows[q]] = k
            k = after
        pivot = x[j]
        if not (pivot > 0.0 and pivot < math.inf):
            return False
        pivot = math.sqrt(pivot)
        values[at] = pivot
        pivot = 1.0 / pivot
        for q in range(at + 1, end):
            values[q] = x[rows[q]] * pivot
        if at + 1 < end:
            reached[j] = at + 1
            following[j] = waiting[rows[at + 1]]
            waiting[rows[at + 1]] = j
    return True


@kernel(inner=True, contract=True)
def subtract_columns(target: Array, at: int, source: Array, first: int, stride: int, count: int, length: int) -> None:
    """target[at + t] −= Σ_k s_k[0] s_k[t] for t < length; s_k starts at ``first + k stride`` of source."""
    y = window(target, at, length)
    k = 0
    while k + 4 <= count:
        p = first + k * stride
        s0 = window(source, p, length)
        s1 = window(source, p + stride, length)
        s2 = window(source, p + 2 * stride, length)
        s3 = window(source, p + 3 * stride, length)
        a0, a1, a2, a3 = s0[0], s1[0], s2[0], s3[0]
        for t in range(length):
            y[t] -= a0 * s0[t] + a1 * s1[t] + (a2 * s2[t] + a3 * s3[t])
        k += 4
    while k < count:
        s0 = window(source, first + k * stride, length)
        a0 = s0[0]
        for t in range(length):
            y[t] -= a0 * s0[t]
        k += 1


@kernel(inner=True)
def _gather_children(symbolic: Symbolic, factor: Factor, s: int) -> None:
    """Add the update matrices of a supernode's children to its columns and to its own update matrix."""
    first, head, relative = symbolic.first, symbolic.head, symbolic.relative
    values, updates = factor.values, factor.updates
    w = first[s + 1] - first[s]
    m = head[s + 1] - head[s]
    r = m - w
    base, own = symbolic.block[s], symbolic.update[s]
    c = symbolic.child[s]
    while c >= 0:
        rows = head[c] + first[c + 1] - first[c]
        rc = head[c + 1] - rows
        given = symbolic.update[c]
        for k in range(rc):
            places = window(relative, rows + k, rc - k)
            source = window(updates, given + k * (rc + 1), rc - k)
            column = places[0]
            if column < w:
                target = window(values, base + column * m, m)
                for t in range(rc - k):
                    target[places[t]] += source[t]
            else:
                target = window(updates, own + (column - w) * r - w, m)
                for t in range(rc - k):
                    target[places[t]] += source[t]
        c = symbolic.sibling[c]


@kernel(inner=True)
def _multifrontal(symbolic: Symbolic, factor: Factor) -> bool:
    """Factorise in place, supernode by supernode."""
    first, head, block = symbolic.first, symbolic.head, symbolic.block
    values, updates = factor.values, factor.updates
    for s in range(first.shape[0] - 1):
        w = first[s + 1] - first[s]
        m = head[s + 1] - head[s]
        r = m - w
        base, own = block[s], symbolic.update[s]
        empty = window(updates, own, r * r)
        for q in range(r * r):
            empty[q] = 0.0
        _gather_children(symbolic, factor, s)
        if w * m * m <= BY_HAND:
            for c in range(w):
                at = base + c * (m + 1)
                subtract_columns(values, at, values, base + c, m, c, m - c)
                pivot = values[at]
                if not (pivot > 0.0 and pivot < math.inf):
                    return False
                pivot = math.sqrt(pivot)
                values[at] = pivot
                pivot = 1.0 / pivot
                below = window(values, at + 1, m - c - 1)
                for t in range(m - c - 1):
                    below[t] *= pivot
            for c in range(r):
                subtract_columns(updates, own + c * (r + 1), values, base + w + c, m, w, r - c)
        else:
            if blas.factor(blas.LOWER, w, values, base, m) != 0:
                return False
            for c in range(w):
                pivot = values[base + c * (m + 1)]
                if not (pivot > 0.0 and pivot < math.inf):
                    return False
            if r > 0:
                blas.triangular_solve(
                    blas.RIGHT, blas.LOWER, blas.TRANSPOSED, blas.NOT_UNIT, r, w, 1.0, values, base, m, values,
                    base + w, m,
                )  # fmt: skip
                blas.symmetric_update(
                    blas.LOWER, blas.PLAIN, r, w, -1.0, values, base + w, m, 1.0, updates, own, r
                )
    return True


@kernel
def factorise(symbolic: Symbolic, values: Array, factor: Factor) -> bool:
    """Factorise the matrix whose lower triangle has these values, in the order of the pattern analysed.

    False if it is not positive definite, or holds nan or infinity; the factor is then of no use.
    """
    L, target = factor.values, symbolic.target
    for q in range(L.shape[0]):
        L[q] = 0.0
    for q in range(target.shape[0]):
        L[target[q]] = values[q]
    return factorise_in_place(symbolic, factor)


@kernel
def factorise_in_place(symbolic: Symbolic, factor: Factor) -> bool:
    """Factorise the matrix whose lower triangle stands in ``factor.values`` already, zeros where it has none."""
    if symbolic.supernodal:
        return _multifrontal(symbolic, factor)
    return _left_looking(symbolic, factor)


@kernel
def log_determinant(symbolic: Symbolic, factor: Factor) -> float:
    """Log |A| = 2 Σ log L_jj."""
    total = 0.0
    for j in range(symbolic.n):
        total += math.log(factor.values[symbolic.start[j]])
    return 2.0 * total


@kernel
def forward(symbolic: Symbolic, factor: Factor, x: Array, out: Array) -> None:
    """Out <- L⁻¹ P x: x in the numbering of the input, out in the order of elimination; two arrays."""
    rows, row_at, start, values = symbolic.rows, symbolic.row_at, symbolic.start, factor.values
    for k in range(symbolic.n):
        out[k] = x[symbolic.permutation[k]]
    for j in range(symbolic.n):
        at = start[j]
        t = out[j] / values[at]
        out[j] = t
        count = symbolic.length[j] - 1
        below, numbers = window(rows, row_at[j] + 1, count), window(values, at + 1, count)
        for q in range(count):
            out[below[q]] -= numbers[q] * t


@kernel
def backward(symbolic: Symbolic, factor: Factor, x: Array, out: Array) -> None:
    """Out <- P' L'⁻¹ x: x in the order of elimination, and overwritten; out in the numbering of the input."""
    rows, row_at, start, values = symbolic.rows, symbolic.row_at, symbolic.start, factor.values
    for j in range(symbolic.n - 1, -1, -1):
        at = start[j]
        t = x[j]
        count = symbolic.length[j] - 1
        below, numbers = window(rows, row_at[j] + 1, count), window(values, at + 1, count)
        for q in range(count):
            t -= numbers[q] * x[below[q]]
        t /= values[at]
        x[j] = t
        out[symbolic.permutation[j]] = t


@kernel
def solve(symbolic: Symbolic, factor: Factor, x: Array) -> None:
    """X <- A⁻¹ x, in the numbering of the input."""
    forward(symbolic, factor, x, factor.x)
    backward(symbolic, factor, factor.x, x)


@kernel
def draw(symbolic: Symbolic, factor: Factor, rng: np.random.Generator, out: Array) -> None:
    """Out <- a draw from N(0, A⁻¹), P' L'⁻¹ z with z standard normal (Rue 2001)."""
    for k in range(symbolic.n):
        factor.x[k] = rng.standard_normal()
    backward(symbolic, factor, factor.x, out)

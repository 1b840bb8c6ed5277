"""Elements of the inverse of a sparse matrix, on the pattern of its Cholesky factor.

With Z = A⁻¹ in the order of elimination and L L' = A, the identity Z L = L'⁻¹ gives, from the last column on,

    Z_ij = [i = j] / L_jj² − Σ_{k > j, L_kj ≠ 0} Z_ik L_kj / L_jj,

which reads nothing but elements on the pattern of L. By blocks, with columns J of a supernode and its rows
R below, Y = L_RJ L_JJ⁻¹:

    Z_RJ = −Z_RR Y,        Z_JJ = (L_JJ L_JJ')⁻¹ − Y' Z_RJ,

where each node hands Z_RR down to its children: the multifrontal factorisation run backwards, in the same
places of memory.

Sources: Takahashi, Fagan & Chin (1973), Formation of a sparse bus impedance matrix; Erisman & Tinney (1975),
Comm. ACM 18; Rue & Martino (2007), J. Statist. Plann. Inference 137.
"""

from __future__ import annotations

from bayou._types import Array
from bayou.jit import kernel, window
from bayou.linalg import blas
from bayou.linalg.sparse import BY_HAND, Factor
from bayou.linalg.symbolic import Symbolic


@kernel(inner=True)
def _by_columns(symbolic: Symbolic, factor: Factor, out: Array) -> None:
    rows, start, length = symbolic.rows, symbolic.start, symbolic.length
    L, place = factor.values, factor.chains[0]
    n = symbolic.n
    for k in range(n):
        place[k] = -1
    for j in range(n - 1, -1, -1):
        at = start[j]
        end = at + length[j]
        for q in range(at + 1, end):
            place[rows[q]] = q
            out[q] = 0.0
        # Z_RR by its columns, each for both triangles
        for q in range(at + 1, end):
            k = rows[q]
            weight = L[q]
            below = start[k]
            total = out[q] - out[below] * weight
            count = length[k] - 1
            beyond, numbers = window(rows, below + 1, count), window(out, below + 1, count)
            for t in range(count):
                p = place[beyond[t]]
                if p >= 0:
                    out[p] -= numbers[t] * weight
                    total -= numbers[t] * L[p]
            out[q] = total
        inverse = 1.0 / L[at]
        total = inverse
        for q in range(at + 1, end):
            place[rows[q]] = -1
            out[q] *= inverse
            total -= out[q] * L[q]
        out[at] = total * inverse


@kernel(inner=True, contract=True)
def _add_columns(
    target: Array, at: int, weights: Array, first: int, source: Array, origin: int, stride: int, count: int, length: int
) -> None:
    """target[at + t] += Σ_k weights[first + k] source[origin + k stride + t] for t < length, k < count."""
    y = window(target, at, length)
    a = window(weights, first, count)
    k = 0
    while k + 4 <= count:
        p = origin + k * stride
        s0 = window(source, p, length)
        s1 = window(source, p + stride, length)
        s2 = window(source, p + 2 * stride, length)
        s3 = window(source, p + 3 * stride, length)
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        for t in range(length):
            y[t] += a0 * s0[t] + a1 * s1[t] + (a2 * s2[t] + a3 * s3[t])
        k += 4
    while k < count:
        s0 = window(source, origin + k * stride, length)
        a0 = a[k]
        for t in range(length):
            y[t] += a0 * s0[t]
        k += 1


@kernel(inner=True, contract=True)
def _inner(x: Array, at: int, y: Array, other: int, length: int) -> float:
    """Return Σ_t x[at + t] y[other + t], by four sums."""
    first, second = window(x, at, length), window(y, other, length)
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    t = 0
    while t + 4 <= length:
        a += first[t] * second[t]
        b += first[t + 1] * second[t + 1]
        c += first[t + 2] * second[t + 2]
        d += first[t + 3] * second[t + 3]
        t += 4
    while t < length:
        a += first[t] * second[t]
        t += 1
    return (a + b) + (c + d)


@kernel(inner=True)
def _block_by_hand(
    L: Array, Z: Array, base: int, w: int, m: int, corner: Array, panel: Array, S: Array, own: int
) -> None:
    """Write Z_RJ and Z_JJ of one small supernode; Z_RR is in the lower triangle of S from ``own`` on."""
    r = m - w
    # corner <- −L_JJ⁻¹, column-major
    for j in range(w):
        at = j * w
        for i in range(j, w):
            corner[at + i] = 0.0
        corner[at + j] = -1.0
        for k in range(j, w):
            x = corner[at + k] / L[base + k * (m + 1)]
            corner[at + k] = x
            for i in range(k + 1, w):
                corner[at + i] -= L[base + k * m + i] * x
    for c in range(r):
        for t in range(c + 1, r):
            S[own + t * r + c] = S[own + c * r + t]
    # panel <- −Y
    for c in range(w):
        below = base + c * m + w
        zero, other = window(panel, c * r, r), window(Z, below, r)
        for t in range(r):
            zero[t] = 0.0
            other[t] = 0.0
        _add_columns(panel, c * r, corner, c * w + c, L, below, m, w - c, r)
        _add_columns(Z, below, panel, c * r, S, own, r, r, r)
    for c in range(w):
        for i in range(c, w):
            Z[base + c * m + i] = _inner(corner, c * w + i, corner, i * w + i, w - i) + _inner(
                panel, c * r, Z, base + i * m + w, r
            )


@kernel(inner=True)
def _block_by_blas(L: Array, Z: Array, base: int, w: int, m: int, panel: Array, S: Array, own: int) -> None:
    """Write Z_RJ and Z_JJ of a large supernode."""
    r = m - w
    for c in range(w):
        column, copied = window(L, base + c * m, m), window(Z, base + c * m, w)
        below = window(panel, c * r, r)
        for t in range(c, w):
            copied[t] = column[t]
        for t in range(r):
            below[t] = column[w + t]
    blas.inverse_of_factored(blas.LOWER, w, Z, base, m)
    if r > 0:
        blas.triangular_solve(
            blas.RIGHT, blas.LOWER, blas.PLAIN, blas.NOT_UNIT, r, w, 1.0, L, base, m, panel, 0, r
        )  # fmt: skip
        blas.symmetric_product(blas.LEFT, blas.LOWER, r, w, -1.0, S, own, r, panel, 0, r, 0.0, Z, base + w, m)
        blas.product(blas.TRANSPOSED, blas.PLAIN, w, w, r, -1.0, panel, 0, r, Z, base + w, m, 1.0, Z, base, m)


@kernel(inner=True)
def _hand_down(symbolic: Symbolic, Z: Array, S: Array, s: int) -> None:
    """Write the part of Z that each child needs, the lower triangle of its Z_RR, where its update matrix stood."""
    first, head, relative = symbolic.first, symbolic.head, symbolic.relative
    w = first[s + 1] - first[s]
    m = head[s + 1] - head[s]
    r = m - w
    base, own = symbolic.block[s], symbolic.update[s]
    c = symbolic.child[s]
    while c >= 0:
        rows = head[c] + first[c + 1] - first[c]
        rc = head[c + 1] - rows
        for k in range(rc):
            places = window(relative, rows + k, rc - k)
            target = window(S, symbolic.update[c] + k * (rc + 1), rc - k)
            column = places[0]
            if column < w:
                source = window(Z, base + column * m, m)
                for t in range(rc - k):
                    target[t] = source[places[t]]
            else:
                source = window(S, own + (column - w) * r - w, m)
                for t in range(rc - k):
                    target[t] = source[places[t]]
        c = symbolic.sibling[c]


@kernel(inner=True)
def _by_blocks(symbolic: Symbolic, factor: Factor, out: Array) -> None:
    first, head, block = symbolic.first, symbolic.head, symbolic.block
    for s in range(first.shape[0] - 2, -1, -1):
        w = first[s + 1] - first[s]
        m = head[s + 1] - head[s]
        base, own = block[s], symbolic.update[s]
        if w * m * m <= BY_HAND:
            _block_by_hand(factor.values, out, base, w, m, factor.corner, factor.panel, factor.updates, own)
        else:
            _block_by_blas(factor.values, out, base, w, m, factor.panel, factor.updates, own)
        _hand_down(symbolic, out, factor.updates, s)


@kernel
def selected_inverse(symbolic: Symbolic, factor: Factor, out: Array) -> None:
    """Out <- the elements of A⁻¹ on the pattern of L, in its layout: see `positions` for where they stand.

    ``out`` has as many numbers as ``factor.values``; those in the unused triangles of blocks mean nothing.
    """
    if symbolic.supernodal:
        _by_blocks(symbolic, factor, out)
    else:
        _by_columns(symbolic, factor, out)


@kernel
def diagonal(symbolic: Symbolic, inverse: Array, out: Array) -> None:
    """Out <- the diagonal of A⁻¹, in the numbering of the input, from what `selected_inverse` has written."""
    for i in range(symbolic.n):
        out[i] = inverse[symbolic.start[symbolic.inverse[i]]]

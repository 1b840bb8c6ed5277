"""The whitened move of a covariance block: its factor L with z_j = L⁻¹ b_j held."""

from __future__ import annotations

import numpy as np

from bayou.engines.lmm.coefficients import cross_products
from bayou.engines.lmm.state import State, Target
from bayou.engines.moves import propose_factor, slice_factor
from bayou.jit import kernel
from bayou.linalg.small import solve_lower

SLICES = 0.1  # share of whitened moves made element by element
WHITENED_ELEMENTS = 6  # elements of L visited a scan: all of a 3 x 3 block, a random part of larger ones


@kernel(inner=True)
def draw_whitened(target: Target, state: State, w: float, rng: np.random.Generator) -> None:
    """Each factor L with z_j = L⁻¹ b_j held: the likelihood is quadratic in the elements of L."""
    blocks, arrow = target.blocks, target.arrow
    J0, p0 = state.b.shape
    g, z = state.vectors[0], state.vectors[1]
    e = state.vectors[2]
    M, before, zeros = state.work[0], state.work[1], state.work[2]
    for r in range(blocks.size.shape[0]):
        f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
        q = p * (p + 1) // 2
        L = state.L[r]
        for i in range(p):
            for k in range(i + 1):
                before[i, k] = L[i, k]
        for i in range(q):
            g[i] = 0.0
            for k in range(q):
                M[i, k] = 0.0
        if f > 0:
            cross_products(target, state, w)
        size, first = target.sizes[f], 0
        if f > 0:
            first = target.border.start[f - 1]
        for j in range(target.levels[f]):
            at = first + j * size + s
            for i in range(p):
                if f == 0:
                    z[i] = state.b[j, s + i]
                    t = arrow.a[j, s + i]
                    for k in range(p0):
                        t -= arrow.A[j, s + i, k] * state.b[j, k]
                    m = arrow.start[j + 1] - arrow.start[j]
                    base = p0 * arrow.start[j] + (s + i) * m
                    for c in range(m):
                        t -= arrow.C[base + c] * state.rest[arrow.touch[arrow.start[j] + c]]
                    e[i] = w * t
                else:
                    z[i] = state.rest[at + i]
                    e[i] = state.residual[at + i]
            solve_lower(L, z, p)
            a = 0
            for i in range(p):
                for k in range(i + 1):
                    g[a] += e[i] * z[k]
                    c = 0
                    for i2 in range(i + 1):
                        A = arrow.A[j, s + i, s + i2] if f == 0 else arrow.D[at + i, at + i2]
                        A *= w * z[k]
                        for k2 in range(i2 + 1):
                            if c <= a:
                                M[a, c] += A * z[k2]
                            c += 1
                    a += 1
        for a in range(q):
            for c in range(a):
                M[c, a] = M[a, c]
        # one number is best sliced; of several a joint proposal is mostly accepted, and a prior that it
        # misses is met by slices now and then
        sliced = p == 1 or rng.random() < SLICES
        if not sliced:
            sliced = not propose_factor(blocks, r, L, g, M, zeros, state.work[3], state.work[4], z, rng)
        if sliced:
            slice_factor(blocks, r, L, 0.0, zeros, g, M, WHITENED_ELEMENTS, state.work[3], rng)
        for j in range(target.levels[f]):
            at = first + j * size + s
            for i in range(p):
                z[i] = state.b[j, s + i] if f == 0 else state.rest[at + i]
            solve_lower(before, z, p)
            for i in range(p):
                t = 0.0
                for k in range(i + 1):
                    t += L[i, k] * z[k]
                if f == 0:
                    state.b[j, s + i] = t
                else:
                    state.rest[at + i] = t

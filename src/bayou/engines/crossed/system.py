"""The equations of all coefficients, applied entry by entry: factor 0 eliminated, the rest never formed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array
from bayou.engines.crossed.coefficients import integrate
from bayou.engines.crossed.layout import Codes, Crossed
from bayou.engines.crossed.state import CrossState
from bayou.jit import kernel
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed

TOLERANCE = 1e-5


class Solver(NamedTuple):
    """What a joint draw needs beside the state."""

    X: Array  # (E P,) mean of the fixed effects' columns over the rows of each entry; empty if they are all one
    within: Array  # (S, P, P) R with R R' = X'WX within the entries
    prior: Array  # (P, P) R with R R' = the prior's precision
    h: Array  # (q,) right-hand side
    g: Array  # (P,)
    x: Array  # (q + P,) solution; like the next ones it has nothing of factor 0
    residual: Array
    turned: Array
    direction: Array
    image: Array
    factors: Array  # (sum J p p) lower factors of w Z'WZ + Q
    fixed: Array  # (P, P) lower factor of the fixed effects' block
    steps: Array  # (2,) solves, and steps they took
    tolerance: float


def root(matrix: Array) -> Array:
    """Return R with R R' = a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.ascontiguousarray(vectors * np.sqrt(np.clip(values, 0.0, None)))


def new_solver(target: Crossed, means: Array, within: Array) -> Solver:
    """Allocate what a chain needs for joint draws; means and scatter of X by entry come from `entry_means`."""
    q, P = int(target.at_b[-1]), len(target.linear)
    return Solver(
        X=means,
        within=np.stack([root(matrix) for matrix in within]) if P else within,
        prior=root(target.precision) if P else target.precision,
        h=np.zeros(q),
        g=np.zeros(P),
        x=np.zeros(q + P),
        residual=np.zeros(q + P),
        turned=np.zeros(q + P),
        direction=np.zeros(q + P),
        image=np.zeros(q + P),
        factors=np.zeros(int(target.at_A[-1])),
        fixed=np.zeros((P, P)),
        steps=np.zeros(2),
        tolerance=TOLERANCE,
    )


@kernel(inner=True)
def solve_block(target: Crossed, solver: Solver, k: int, level: int, x: Array, at: int) -> None:
    """Solve with the factor L of one level's block in place: L'⁻¹ L⁻¹ x."""
    p = target.sizes[k]
    base = target.at_A[k] + level * p * p
    F = solver.factors
    for i in range(p):
        t = x[at + i]
        for e in range(i):
            t -= F[base + i * p + e] * x[at + e]
        x[at + i] = t / F[base + i * p + i]
    for i in range(p - 1, -1, -1):
        t = x[at + i] / F[base + i * p + i]
        x[at + i] = t
        for e in range(i):
            x[at + e] -= F[base + i * p + e] * t


@kernel(inner=True)
def factorise_blocks(target: Crossed, state: CrossState, solver: Solver, w: float) -> bool:
    """Factor every level's block, and that of the fixed effects with factor 0 eliminated."""
    F = solver.factors
    for k in range(target.levels.shape[0]):
        p = target.sizes[k]
        for j in range(target.levels[k]):
            base = target.at_A[k] + j * p * p
            for i in range(p):
                for e in range(i + 1):
                    t = w * state.A[base + i * p + e] + state.Q[k, i, e]
                    for c in range(e):
                        t -= F[base + i * p + c] * F[base + e * p + c]
                    if e < i:
                        F[base + i * p + e] = t / F[base + e * p + e]
                    elif t > 0.0:
                        F[base + i * p + i] = math.sqrt(t)
                    else:
                        return False
    ok, _, _ = integrate(target, state, 0, w)
    return ok and cholesky(state.S, solver.fixed, state.beta.shape[0] - target.beta_codes.shape[0])


@kernel(inner=True)
def precondition(target: Crossed, state: CrossState, solver: Solver, x: Array) -> None:
    """X <- M⁻¹ x."""
    F = solver.factors
    for k in range(1, target.levels.shape[0]):
        p, first, base = target.sizes[k], target.at_b[k], target.at_A[k]
        if p == 1:
            for j in range(target.levels[k]):
                x[first + j] /= F[base + j] * F[base + j]
        else:
            for j in range(target.levels[k]):
                solve_block(target, solver, k, j, x, first + j * p)
    free = state.beta.shape[0] - target.beta_codes.shape[0]
    at = target.at_b[target.levels.shape[0]]
    v = state.v[3]
    for c in range(free):
        v[c] = x[at + c]
    solve_lower(solver.fixed, v, free)
    solve_lower_transposed(solver.fixed, v, free)
    for c in range(free):
        x[at + c] = v[c]


@kernel(inner=True)
def others_at(target: Crossed, codes: Codes, x: Array, e: int, width: int) -> float:
    """Return what factors 1, 2, … add up to at one entry."""
    t = 0.0
    if target.Z.shape[0] == 0:
        for f in range(1, target.levels.shape[0]):
            t += x[target.at_b[f] + codes[f - 1, e]]
        return t
    for f in range(1, target.levels.shape[0]):
        p = target.sizes[f]
        at = target.at_b[f] + codes[f - 1, e] * p
        for i in range(p):
            t += target.Z[e * width + target.at_z[f] + i] * x[at + i]
    return t


@kernel(inner=True)
def spread(target: Crossed, codes: Codes, out: Array, e: int, width: int, t: float) -> None:
    """Out of factors 1, 2, … += their columns at one entry times t."""
    if target.Z.shape[0] == 0:
        for f in range(1, target.levels.shape[0]):
            out[target.at_b[f] + codes[f - 1, e]] += t
        return
    for f in range(1, target.levels.shape[0]):
        p = target.sizes[f]
        at = target.at_b[f] + codes[f - 1, e] * p
        for i in range(p):
            out[at + i] += target.Z[e * width + target.at_z[f] + i] * t


@kernel(inner=True)
def weight_of(target: Crossed, state: CrossState, codes: Codes, e: int, w: float) -> float:
    """Precision of one entry."""
    if target.W.shape[0] > 0:
        w *= target.W[e]
    if target.by_level:
        w *= state.by_sigma[codes[target.levels.shape[0] - 1, e]]
    return w


@kernel(inner=True)
def _fixed_part(target: Crossed, state: CrossState, w: float, x: Array, out: Array) -> None:
    """Add what lies between the fixed effects and factors 1, 2, …, and among the fixed effects."""
    K, P = target.levels.shape[0], state.beta.shape[0]
    free = P - target.beta_codes.shape[0]
    at = target.at_b[K]
    for c in range(free):
        t = 0.0
        for e in range(free):
            t += (w * state.D[c, e] + target.precision[c, e]) * x[at + e]
        out[at + c] += t
    for k in range(1, K):
        first = target.at_b[k]
        for i in range(target.at_b[k + 1] - first):
            base = target.at_B[k] + i * P
            t = 0.0
            for c in range(free):
                B = w * state.B[base + c]
                t += B * x[at + c]
                out[at + c] += B * x[first + i]
            out[first + i] += t


@kernel(inner=True)
def _through_two(
    target: Crossed, state: CrossState, solver: Solver, codes: Codes, w: float, x: Array, out: Array
) -> None:
    """Add the part of `multiply` that goes through factor 0, for two factors of one intercept each."""
    P, end, at = state.beta.shape[0], target.at_b[2], target.at_b[1]
    free = P - target.beta_codes.shape[0]
    start, W, B, F = target.start, target.W, state.B, solver.factors
    weighted = W.shape[0] > 0
    for j in range(start.shape[0] - 1):
        u = 0.0
        if weighted:
            for e in range(start[j], start[j + 1]):
                u += W[e] * x[at + codes[0, e]]
        else:
            for e in range(start[j], start[j + 1]):
                u += x[at + codes[0, e]]
        for c in range(free):
            u += B[j * P + c] * x[end + c]
        u *= w / (F[j] * F[j])
        for c in range(free):
            out[end + c] -= w * B[j * P + c] * u
        if weighted:
            for e in range(start[j], start[j + 1]):
                out[at + codes[0, e]] -= w * W[e] * u
        else:
            for e in range(start[j], start[j + 1]):
                out[at + codes[0, e]] -= w * u
    first = target.at_A[1]
    for j in range(target.levels[1]):
        out[at + j] += w * state.A[first + j] * x[at + j]


@kernel(inner=True)
def multiply(target: Crossed, state: CrossState, solver: Solver, codes: Codes, w: float, x: Array, out: Array) -> None:
    """Out <- S x."""
    K, P, p = target.levels.shape[0], state.beta.shape[0], target.sizes[0]
    free = P - target.beta_codes.shape[0]
    end = target.at_b[K]
    width = target.at_z[K - 1] + target.sizes[K - 1]
    ones = target.Z.shape[0] == 0
    u = state.vectors[0]
    for c in range(free):
        out[end + c] = 0.0
    for k in range(1, K):
        q, at = target.sizes[k], target.at_b[k]
        for _ in range(target.levels[k]):
            for i in range(q):
                t = 0.0
                for e in range(q):
                    t += state.Q[k, i, e] * x[at + e]
                out[at + i] = t
            at += q
    _fixed_part(target, state, w, x, out)
    if K == 2 and ones and not target.by_level:
        _through_two(target, state, solver, codes, w, x, out)
        return
    for j in range(target.levels[0]):
        low, high = target.start[j], target.start[j + 1]
        for i in range(p):
            u[i] = 0.0
            base = target.at_B[0] + (j * p + i) * P
            for c in range(free):
                u[i] += w * state.B[base + c] * x[end + c]
        for e in range(low, high):
            t = weight_of(target, state, codes, e, w) * others_at(target, codes, x, e, width)
            for i in range(p):
                u[i] += t * (1.0 if ones else target.Z[e * width + i])
        solve_block(target, solver, 0, j, u, 0)
        for i in range(p):
            base = target.at_B[0] + (j * p + i) * P
            for c in range(free):
                out[end + c] -= w * state.B[base + c] * u[i]
        for e in range(low, high):
            t = others_at(target, codes, x, e, width)
            for i in range(p):
                t -= u[i] * (1.0 if ones else target.Z[e * width + i])
            spread(target, codes, out, e, width, weight_of(target, state, codes, e, w) * t)

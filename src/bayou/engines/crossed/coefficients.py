"""One factor's coefficients with the fixed effects, given the other factors."""

from __future__ import annotations

import math

import numpy as np

from bayou.engines.crossed.layout import Crossed
from bayou.engines.crossed.state import CrossState
from bayou.engines.lmm.coefficients import slice_coefficient
from bayou.jit import kernel
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed


@kernel
def sum_classes(target: Crossed, state: CrossState, k: int) -> None:
    """Add r² and B r up over the levels of each class."""
    at, P = target.at_alike[k], state.beta.shape[0]
    if at < 0:
        return
    low = target.at_class[k]
    for c in range(low, target.at_class[k + 1]):
        state.class_r[c] = 0.0
        for e in range(P):
            state.class_B[c, e] = 0.0
    r, B = state.r, state.B
    for j in range(target.levels[k]):
        c = low + target.alike[at + j]
        t = r[target.at_b[k] + j]
        state.class_r[c] += t * t
        for e in range(P):
            state.class_B[c, e] += t * B[target.at_B[k] + j * P + e]


@kernel(inner=True)
def integrate(target: Crossed, state: CrossState, k: int, w: float) -> tuple[bool, float, float]:
    """Fill S and m, precision and linear term of beta with b_k integrated out.

    Returns whether all was definite, log |w Z'WZ + Q| and u'u, u the forward-solved right-hand side of b_k.
    """
    P, p, J = state.beta.shape[0], target.sizes[k], target.levels[k]
    S, m, Q = state.S, state.m, state.Q[k]
    for c in range(P):
        t = state.d[c]
        for f in range(target.levels.shape[0]):
            if f != k:
                t -= state.pull[f, c]
        m[c] = w * t + target.linear[c]
        for e in range(c + 1):
            S[c, e] = w * state.D[c, e] + target.precision[c, e]
    log_det, squares, product = 0.0, 0.0, 1.0
    if target.at_alike[k] >= 0:
        q = Q[0, 0]
        for g in range(target.at_class[k], target.at_class[k + 1]):
            h = w * target.value[g] + q
            if not h > 0.0:
                return False, 0.0, 0.0
            log_det += target.alike_levels[g] * math.log(h)
            h = w * w / h
            squares += h * state.class_r[g]
            for c in range(P):
                m[c] -= h * state.class_B[g, c]
                for e in range(c + 1):
                    S[c, e] -= h * target.products[g, c, e]
        return True, log_det, squares
    L, u, V = state.work[0], state.vectors[0], state.V
    for j in range(J):
        base = target.at_A[k] + j * p * p
        for i in range(p):
            u[i] = w * state.r[target.at_b[k] + j * p + i]
            for e in range(i + 1):
                L[i, e] = w * state.A[base + i * p + e] + Q[i, e]
        if not cholesky(L, L, p):
            return False, 0.0, 0.0
        solve_lower(L, u, p)
        at = target.at_B[k] + j * p * P
        for i in range(p):
            squares += u[i] * u[i]
            product *= L[i, i]
            if not 1e-100 < product < 1e100:
                log_det += math.log(product)
                product = 1.0
            for c in range(P):
                t = w * state.B[at + i * P + c]
                for e in range(i):
                    t -= L[i, e] * V[e, c]
                V[i, c] = t / L[i, i]
        for c in range(P):
            for i in range(p):
                m[c] -= V[i, c] * u[i]
                for e in range(c + 1):
                    S[c, e] -= V[i, c] * V[i, e]
    return True, 2.0 * (log_det + math.log(product)), squares


@kernel(inner=True)
def draw_fixed_effects(target: Crossed, state: CrossState, noise: float, rng: np.random.Generator) -> bool:
    """Beta from what `integrate` has left; effects whose priors are not Gaussian come first, by slices."""
    P, known = state.beta.shape[0], target.beta_codes.shape[0]
    free = P - known
    S, m, C, beta, x = state.S, state.m, state.C, state.beta, state.v[0]
    if not cholesky(S, C, free):
        return False
    if known > 0 and noise > 0.0:
        half, X = state.v[1], state.v[2]
        for c in range(free):
            half[c] = m[c]
        solve_lower(C, half, free)
        for _ in range(2):
            for i in range(free, P):
                # row i of the marginal of the known ones: S_ik − S_if S_ff⁻¹ S_fk, at k = i and times beta
                for c in range(free):
                    X[c] = S[i, c]
                solve_lower(C, X, free)
                h, precision = m[i], S[i, i]
                for c in range(free):
                    h -= X[c] * half[c]
                    precision -= X[c] * X[c]
                for e in range(free, P):
                    if e != i:
                        t = S[max(i, e), min(i, e)]
                        for c in range(free):
                            x[c] = S[e, c]
                        solve_lower(C, x, free)
                        for c in range(free):
                            t -= x[c] * X[c]
                        h -= t * beta[e]
                a = i - free
                width = precision + target.ridge[a]
                beta[i] = slice_coefficient(
                    beta[i], h, precision, width, target.beta_codes[a], target.beta_parameters[a], rng
                )
    for c in range(free):
        x[c] = m[c]
        for e in range(free, P):
            x[c] -= S[e, c] * beta[e]
    solve_lower(C, x, free)
    for c in range(free):
        x[c] += noise * rng.standard_normal()
    solve_lower_transposed(C, x, free)
    for c in range(free):
        beta[c] = x[c]
    return True


@kernel(inner=True)
def draw_levels(target: Crossed, state: CrossState, k: int, w: float, noise: float, rng: np.random.Generator) -> bool:
    """Draw b_k given beta and the other factors."""
    P, p = state.beta.shape[0], target.sizes[k]
    b, r, beta, B, A, Q = state.b, state.r, state.beta, state.B, state.A, state.Q[k]
    L, v = state.work[0], state.vectors[0]
    if p == 1:
        q, at_B, at_A, first = Q[0, 0], target.at_B[k], target.at_A[k], target.at_b[k]
        for j in range(target.levels[k]):
            t = r[first + j]
            for c in range(P):
                t -= B[at_B + j * P + c] * beta[c]
            h = w * A[at_A + j] + q
            b[first + j] = w * t / h + noise * rng.standard_normal() / math.sqrt(h)
        return True
    for j in range(target.levels[k]):
        at = target.at_b[k] + j * p
        for i in range(p):
            t = r[at + i]
            for c in range(P):
                t -= B[target.at_B[k] + (j * p + i) * P + c] * beta[c]
            v[i] = w * t
            for e in range(i + 1):
                L[i, e] = w * A[target.at_A[k] + (j * p + i) * p + e] + Q[i, e]
        if not cholesky(L, L, p):
            return False
        solve_lower(L, v, p)
        for i in range(p):
            v[i] += noise * rng.standard_normal()
        solve_lower_transposed(L, v, p)
        for i in range(p):
            b[at + i] = v[i]
    return True

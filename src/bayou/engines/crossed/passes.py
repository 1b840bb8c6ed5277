"""One pass over the entries: what the other factors add up to, summed over the levels of one."""

from __future__ import annotations

from bayou.engines.crossed.layout import Codes, Crossed
from bayou.engines.crossed.state import CrossState
from bayou.jit import kernel


@kernel(inner=True)
def _pass_two(target: Crossed, state: CrossState, codes: Codes, k: int) -> float:
    """`cross_sums` for two factors of one intercept each, sigma of one level."""
    start, W, b, r = target.start, target.W, state.b, state.r
    at = target.at_b[1]
    weighted = W.shape[0] > 0
    quadratic = 0.0
    for j in range(start.shape[0] - 1):
        if k == 0:
            total, squares = 0.0, 0.0
            if weighted:
                for e in range(start[j], start[j + 1]):
                    t = b[at + codes[0, e]]
                    total += W[e] * t
                    squares += W[e] * t * t
            else:
                for e in range(start[j], start[j + 1]):
                    t = b[at + codes[0, e]]
                    total += t
                    squares += t * t
            r[j] -= total
            quadratic += squares
        else:
            t = b[j]
            total = 0.0
            if weighted:
                for e in range(start[j], start[j + 1]):
                    r[at + codes[0, e]] -= W[e] * t
                    total += W[e]
            else:
                for e in range(start[j], start[j + 1]):
                    r[at + codes[0, e]] -= t
                total = float(start[j + 1] - start[j])
            quadratic += total * t * t
    return quadratic


@kernel(inner=True)
def _pass_any(target: Crossed, state: CrossState, codes: Codes, k: int) -> float:
    """`cross_sums` for any factors."""
    start, W, Z, b, r = target.start, target.W, target.Z, state.b, state.r
    K = target.levels.shape[0]
    ones, weighted, by_level = Z.shape[0] == 0, W.shape[0] > 0, target.by_level
    width = target.at_z[K - 1] + target.sizes[K - 1]
    quadratic = 0.0
    for j in range(start.shape[0] - 1):
        for e in range(start[j], start[j + 1]):
            w = W[e] if weighted else 1.0
            if by_level:
                w *= state.by_sigma[codes[K - 1, e]]
            t = 0.0
            for f in range(K):
                if f != k:
                    level = codes[f - 1, e] if f > 0 else j
                    p = target.sizes[f]
                    at = target.at_b[f] + level * p
                    if ones:
                        t += b[at]
                    else:
                        base = e * width + target.at_z[f]
                        for i in range(p):
                            t += Z[base + i] * b[at + i]
            quadratic += w * t * t
            level = codes[k - 1, e] if k > 0 else j
            p = target.sizes[k]
            at = target.at_b[k] + level * p
            if ones:
                r[at] -= w * t
            else:
                base = e * width + target.at_z[k]
                for i in range(p):
                    r[at + i] -= w * t * Z[base + i]
    return quadratic


@kernel
def cross_sums(target: Crossed, state: CrossState, codes: Codes, k: int) -> float:
    """Fill r of factor k: Z_k'W(y − t), t what the other factors add up to; returns t'Wt."""
    for i in range(target.at_b[k], target.at_b[k + 1]):
        state.r[i] = state.a[i]
    if target.levels.shape[0] == 1:
        return 0.0
    if target.levels.shape[0] == 2 and target.Z.shape[0] == 0 and not target.by_level:
        return _pass_two(target, state, codes, k)
    return _pass_any(target, state, codes, k)


@kernel
def remember(target: Crossed, state: CrossState, k: int) -> None:
    """Keep a_k'b_k and B_k'b_k, which the other factors' updates ask for."""
    P = state.beta.shape[0]
    b, a, B = state.b, state.a, state.B
    for c in range(P):
        state.pull[k, c] = 0.0
    total = 0.0
    first = target.at_b[k]
    for i in range(target.at_b[k + 1] - first):
        t = b[first + i]
        total += a[first + i] * t
        at = target.at_B[k] + i * P
        for c in range(P):
            state.pull[k, c] += B[at + c] * t
    state.seen[k] = total

"""Updates of hyperparameters that never touch the rows: shared by the Gibbs and Metropolis samplers.

Given the group coefficients, a covariance block has the scatter Σ_j b_j b_j' as sufficient statistic.
With the whitened coefficients z_j = L⁻¹ b_j held instead, a Gaussian likelihood is quadratic in the
elements of L. Both are drawn here, conjugate where the prior allows it and otherwise by slice sampling
(Neal 2003) one element at a time, on the log scale for the diagonal.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.effects.iid import (
    HUANG_WAND,
    INVERSE_WISHART,
    BlockTable,
    log_prior,
    trace_inverse,
)
from bayou.jit import kernel
from bayou.linalg.small import (
    cholesky,
    draw_inverse_wishart,
    fill,
    inverse_from_factor,
    invert_lower,
    solve_lower,
    solve_lower_transposed,
)
from bayou.priors.codes import (
    FLAT,
    FLAT_VARIANCE,
    GAMMA_PRECISION,
    INVERSE_GAMMA_VARIANCE,
    LOG_FLAT,
)
from bayou.priors.table import prior_log_density

STEPS_OUT = 30


@kernel(inner=True)
def conjugate_scale(code: int, parameters: Array) -> tuple[bool, float, float]:
    """Whether p(s) ∝ s^(−2a−1) exp(−b/s²), that is s² ~ InverseGamma(a, b) or its limit; and a, b."""
    if code == FLAT:
        return True, -0.5, 0.0
    if code == LOG_FLAT:
        return True, 0.0, 0.0
    if code == FLAT_VARIANCE:
        return True, -1.0, 0.0
    if code == GAMMA_PRECISION or code == INVERSE_GAMMA_VARIANCE:
        return True, parameters[0], parameters[1]
    return False, 0.0, 0.0


@kernel(inner=True)
def _scale_target(log_s: float, n: float, squares: float, h: float, m: float, code: int, parameters: Array) -> float:
    """−n log s − squares/(2 s²) + h s − m s²/2 + log p(s) + log s, as a function of log s."""
    if not abs(log_s) < 300.0:
        return -math.inf
    s = math.exp(log_s)
    return (
        (1.0 - n) * log_s
        - 0.5 * squares / (s * s)
        + h * s
        - 0.5 * m * s * s
        + prior_log_density(code, parameters[0], parameters[1], parameters[2], s)
    )


@kernel(inner=True)
def slice_scale(
    s: float,
    n: float,
    squares: float,
    h: float,
    m: float,
    code: int,
    parameters: Array,
    rng: np.random.Generator,
) -> float:
    """One slice update of a standard deviation (see `_scale_target`)."""
    x = math.log(s)
    level = _scale_target(x, n, squares, h, m, code, parameters) - rng.standard_exponential()
    low = x - rng.random()
    high = low + 1.0
    for _ in range(STEPS_OUT):
        if _scale_target(low, n, squares, h, m, code, parameters) <= level:
            break
        low -= 1.0
    for _ in range(STEPS_OUT):
        if _scale_target(high, n, squares, h, m, code, parameters) <= level:
            break
        high += 1.0
    while True:
        t = low + (high - low) * rng.random()
        if _scale_target(t, n, squares, h, m, code, parameters) > level:
            return math.exp(t)
        if t < x:
            low = t
        else:
            high = t
        if high - low < 1e-14 * (1.0 + abs(x)):
            return s


@kernel(inner=True)
def draw_scale(s: float, n: float, squares: float, code: int, parameters: Array, rng: np.random.Generator) -> float:
    """Draw a standard deviation given n residuals of sum of squares ``squares``."""
    conjugate, a, b = conjugate_scale(code, parameters)
    if conjugate and a + 0.5 * n > 0.0:
        return math.sqrt((b + 0.5 * squares) / rng.standard_gamma(a + 0.5 * n))
    return slice_scale(s, n, squares, 0.0, 0.0, code, parameters, rng)


@kernel(inner=True)
def _element_target(
    blocks: BlockTable, r: int, L: Array, inverse: Array, J: float, scatter: Array, i: int, k: int
) -> float:
    """Everything but the quadratic: scatter, prior of Sigma = L L', Jacobian to (log L_ii, L_ik)."""
    p = blocks.size[r]
    total = log_prior(blocks, r, L, inverse)
    if not total > -math.inf:
        return -math.inf
    if i == k:
        total += (p - i + 1.0) * math.log(L[i, i])
    if J > 0.0:
        invert_lower(L, inverse, p)
        for c in range(p):
            total -= J * math.log(L[c, c])
        total -= 0.5 * trace_inverse(scatter, inverse, p)
    return total


@kernel(inner=True)
def slice_factor(
    blocks: BlockTable,
    r: int,
    L: Array,
    J: float,
    scatter: Array,
    g: Array,
    M: Array,
    most: int,
    inverse: Array,
    rng: np.random.Generator,
) -> None:
    """Slice updates of the elements of one block's factor L, in place.

    Target: |L|^{−J} exp(−½ tr(scatter Sigma⁻¹)) p(Sigma) times exp(g'd − ½ d'M d), d the change of the
    elements of L (row by row) from where g was computed; g is kept up to date. At most ``most``
    elements are visited, drawn at random when there are more.
    """
    p = blocks.size[r]
    q = p * (p + 1) // 2
    for visit in range(min(q, most)):
        e = visit if q <= most else int(rng.random() * q)
        i = 0
        while (i + 1) * (i + 2) // 2 <= e:
            i += 1
        k = e - i * (i + 1) // 2
        old = L[i, k]
        diagonal = i == k
        width = 1.0
        x = 0.0
        if diagonal:
            x = math.log(old)
        else:
            x = old
            width = 0.0
            for c in range(i + 1):
                width += L[i, c] * L[i, c]
            width = math.sqrt(width)
        level = _element_target(blocks, r, L, inverse, J, scatter, i, k) - rng.standard_exponential()
        low = x - width * rng.random()
        high = low + width
        phase = 0  # 0: low end out, 1: high end out, 2: shrink
        steps = 0
        while True:
            t = low
            if phase == 1:
                t = high
            elif phase == 2:
                t = low + (high - low) * rng.random()
            value = -math.inf
            if not diagonal or abs(t) < 300.0:
                new = math.exp(t) if diagonal else t
                L[i, k] = new
                d = new - old
                value = g[e] * d - 0.5 * M[e, e] * d * d
                value += _element_target(blocks, r, L, inverse, J, scatter, i, k)
            if phase < 2:
                steps += 1
                if not value > level or steps > STEPS_OUT:
                    phase += 1
                    steps = 0
                elif phase == 0:
                    low -= width
                else:
                    high += width
                continue
            if value > level:
                break
            if t < x:
                low = t
            else:
                high = t
            if high - low < 1e-14 * (width + abs(x)):
                L[i, k] = old
                break
        d = L[i, k] - old
        for c in range(q):
            g[c] -= M[c, e] * d


@kernel(inner=True)
def propose_factor(
    blocks: BlockTable,
    r: int,
    L: Array,
    g: Array,
    M: Array,
    new: Array,
    inverse: Array,
    C: Array,
    step: Array,
    rng: np.random.Generator,
) -> bool:
    """Propose all elements of one block's factor L at once from exp(g'd − ½ d'M d); accept on the prior.

    The likelihood of L with the whitened coefficients held is that Gaussian, so what remains for the
    acceptance is p(Sigma = L L') times the Jacobian Π L_ii^(p − i) (i from 0). False if M is not definite
    (fewer levels than coefficients): nothing was done.
    """
    p = blocks.size[r]
    q = p * (p + 1) // 2
    if not cholesky(M, C, q):
        return False
    for e in range(q):
        step[e] = g[e]
    solve_lower(C, step, q)
    for e in range(q):
        step[e] += rng.standard_normal()
    solve_lower_transposed(C, step, q)
    e = 0
    ratio = 0.0
    for i in range(p):
        for k in range(i + 1):
            new[i, k] = L[i, k] + step[e]
            e += 1
        if not new[i, i] > 0.0:
            return True
        ratio += (p - i) * math.log(new[i, i] / L[i, i])
    ratio += log_prior(blocks, r, new, inverse) - log_prior(blocks, r, L, inverse)
    if -rng.standard_exponential() < ratio:
        for i in range(p):
            for k in range(i + 1):
                L[i, k] = new[i, k]
    return True


@kernel(inner=True)
def draw_block(
    blocks: BlockTable,
    r: int,
    J: float,
    scatter: Array,
    L: Array,
    work: Array,
    zeros: Array,
    rng: np.random.Generator,
) -> bool:
    """Draw L of one block given the scatter of its J levels. ``work`` (3, p, p), ``zeros`` (q, q) scratch.

    Inverse-Wishart: IW(df + J, scale + scatter). Huang-Wand: 1/a_k ~ Gamma((df + p)/2,
    rate df (Sigma⁻¹)_kk + 1/A_k²), then IW(df + p − 1 + J, 2 df diag(1/a) + scatter).
    """
    p = blocks.size[r]
    S = work[0]
    if blocks.kind[r] == INVERSE_WISHART:
        for i in range(p):
            for k in range(p):
                S[i, k] = blocks.scale[r, i, k] + scatter[i, k]
        return draw_inverse_wishart(blocks.df[r] + J, S, L, work[1], work[2], p, rng)
    if blocks.kind[r] == HUANG_WAND:
        df = blocks.df[r]
        inverse_from_factor(L, work[1], work[2], p)
        for i in range(p):
            for k in range(p):
                S[i, k] = scatter[i, k]
        for k in range(p):
            rate = df * work[2, k, k] + 1.0 / (blocks.A[r, k] * blocks.A[r, k])
            S[k, k] += 2.0 * df * rng.standard_gamma(0.5 * (df + p)) / rate
        return draw_inverse_wishart(df + p - 1.0 + J, S, L, work[1], work[2], p, rng)
    if p == 1:
        L[0, 0] = draw_scale(L[0, 0], J, scatter[0, 0], blocks.codes[r, 0], blocks.parameters[r, 0], rng)
        return True
    fill(zeros, 0.0)
    slice_factor(blocks, r, L, J, scatter, zeros[0], zeros, 2 * p, work[1], rng)
    return True

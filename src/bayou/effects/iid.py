"""Exchangeable group coefficients: b_j ~ N(0, Sigma) for the levels j of a grouping factor.

The coefficients of a factor fall into blocks; within a block Sigma is a full matrix, between blocks
it is zero (`(1 + x | g)` is one block of two, `(1 + x || g)` two blocks of one). Kernels hold each
block by its lower Cholesky factor L, Sigma = L L', and its prior as numbers in a `BlockTable`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel
from bayou.linalg.small import invert_lower
from bayou.priors.table import prior_log_density

if TYPE_CHECKING:
    from bayou.binding import BlockPrior

INVERSE_WISHART, HUANG_WAND, STANDARD_DEVIATIONS = 0, 1, 2
KINDS = {"inverse_wishart": INVERSE_WISHART, "huang_wand": HUANG_WAND, "sds": STANDARD_DEVIATIONS}


class BlockTable(NamedTuple):
    """The blocks of all grouping factors, one after the other, padded to the largest size p."""

    grouping: Integers  # (B,) which grouping factor
    start: Integers  # (B,) first column within the factor
    size: Integers  # (B,)
    kind: Integers  # (B,)
    df: Array  # (B,)
    lkj: Array  # (B,)
    scale: Array  # (B, p, p)
    A: Array  # (B, p)
    codes: Integers  # (B, p)
    parameters: Array  # (B, p, 3)


def tabulate(blocks: Sequence[BlockPrior]) -> BlockTable:
    """Return the priors of all blocks as arrays for kernels."""
    B = len(blocks)
    p = max((len(block.columns) for block in blocks), default=1)
    table = BlockTable(
        grouping=np.array([block.grouping for block in blocks], dtype=np.int64),
        start=np.array([block.columns[0] for block in blocks], dtype=np.int64),
        size=np.array([len(block.columns) for block in blocks], dtype=np.int64),
        kind=np.array([KINDS[block.kind] for block in blocks], dtype=np.int64),
        df=np.array([block.df for block in blocks], dtype=np.float64),
        lkj=np.array([block.lkj for block in blocks], dtype=np.float64),
        scale=np.zeros((B, p, p)),
        A=np.ones((B, p)),
        codes=np.zeros((B, p), dtype=np.int64),
        parameters=np.zeros((B, p, 3)),
    )
    for r, block in enumerate(blocks):
        q = len(block.columns)
        table.scale[r, :q, :q] = block.scale
        table.A[r, :q] = block.A
        table.codes[r, :q] = block.sd_codes
        table.parameters[r, :q] = block.sd_parameters
    return table


@kernel
def log_prior(blocks: BlockTable, r: int, L: Array, inverse: Array) -> float:
    """Log p(Sigma), Sigma = L L', up to a constant; ``inverse`` is scratch and left holding L⁻¹.

    Densities with respect to the lower triangle of Sigma. Inverse-Wishart:
    −(df + p + 1)/2 log|Sigma| − tr(scale Sigma⁻¹)/2. Huang & Wand (2013, with the auxiliary scales
    integrated out): −(df + 2p)/2 log|Sigma| − (df + p)/2 Σ_k log(df (Sigma⁻¹)_kk + 1/A_k²).
    Separate sds with LKJ(eta): Σ log p(sd_k) + (eta − 1) log|R| − p Σ log sd_k.
    """
    p = blocks.size[r]
    half_log_det = 0.0
    for k in range(p):
        if not L[k, k] > 0.0:
            return -math.inf
        half_log_det += math.log(L[k, k])
    if blocks.kind[r] == STANDARD_DEVIATIONS:
        total = 2.0 * (blocks.lkj[r] - 1.0) * half_log_det
        for k in range(p):
            s2 = 0.0
            for c in range(k + 1):
                s2 += L[k, c] * L[k, c]
            sd = math.sqrt(s2)
            a, b, c3 = blocks.parameters[r, k, 0], blocks.parameters[r, k, 1], blocks.parameters[r, k, 2]
            total += prior_log_density(blocks.codes[r, k], a, b, c3, sd)
            total -= (p + 2.0 * (blocks.lkj[r] - 1.0)) * math.log(sd)
        return total
    invert_lower(L, inverse, p)
    df = blocks.df[r]
    if blocks.kind[r] == HUANG_WAND:
        total = -(df + 2.0 * p) * half_log_det
        for k in range(p):
            q = 0.0
            for i in range(k, p):
                q += inverse[i, k] * inverse[i, k]
            total -= 0.5 * (df + p) * math.log(df * q + 1.0 / (blocks.A[r, k] * blocks.A[r, k]))
        return total
    return -(df + p + 1.0) * half_log_det - 0.5 * trace_inverse(blocks.scale[r], inverse, p)


@kernel(inner=True)
def trace_inverse(S: Array, inverse: Array, p: int) -> float:
    """tr(S Sigma⁻¹) from L⁻¹: Σ_i (L⁻¹ S L⁻¹')_ii."""
    total = 0.0
    for i in range(p):
        for k in range(i + 1):
            t = 0.0
            for c in range(i + 1):
                t += S[k, c] * inverse[i, c]
            total += inverse[i, k] * t
    return total


@kernel(inner=True)
def coordinate_count(p: int) -> int:
    """P roots of sds and p (p − 1)/2 partial correlations."""
    return p * (p + 1) // 2


@kernel
def factor_from_coordinates(t: Array, at: int, p: int, L: Array) -> float:
    """L from coordinates on the real line, and the log Jacobian |d Sigma / d t|.

    Coordinates: √sd_1 … √sd_p, then atanh of the canonical partial correlations row by row
    (Lewandowski, Kurowicka & Joe 2009). The root, unlike the logarithm, gives a posterior that reaches
    down to sd = 0 no long tail, and still takes the skewness out of one that does not.
    """
    log_jacobian = 0.0
    c = at + p
    for i in range(p):
        if not 0.0 < t[at + i] < 1e100:
            return -math.inf
        sd = t[at + i] * t[at + i]
        log_jacobian += (2.0 * p + 1.0) * math.log(t[at + i])
        left = 1.0  # what the row's squared length still lacks
        for j in range(i):
            z = t[c]
            c += 1
            rho = math.tanh(z)
            # 1 − tanh² without cancellation
            e = math.exp(-2.0 * abs(z))
            one_minus = 4.0 * e / ((1.0 + e) * (1.0 + e))
            if not left * one_minus > 0.0:
                return -math.inf
            L[i, j] = rho * math.sqrt(left)
            log_jacobian += math.log(L[j, j]) - 2.0 * math.log(t[at + j])  # diagonal of the correlation factor
            log_jacobian += 0.5 * math.log(left) + math.log(one_minus)
            left *= one_minus
        L[i, i] = math.sqrt(left)
        for j in range(i + 1):
            L[i, j] *= sd
    return log_jacobian


@kernel
def coordinates_into(L: Array, p: int, t: Array, at: int) -> None:
    """Inverse of `factor_from_coordinates` for one block: t[at : at + p (p + 1) / 2] <- its coordinates."""
    c = at + p
    for i in range(p):
        s2 = 0.0
        for j in range(i + 1):
            s2 += L[i, j] * L[i, j]
        sd = math.sqrt(s2)
        t[at + i] = math.sqrt(sd)
        left = 1.0
        for j in range(i):
            # partial correlations that are one to rounding stay finite
            rho = max(min(L[i, j] / (sd * math.sqrt(left)), 1.0 - 1e-12), -1.0 + 1e-12)
            t[c] = math.atanh(rho)
            c += 1
            left *= 1.0 - rho * rho


def coordinates_from_factor(L: Array) -> Array:
    """Return the coordinates of one block as `coordinates_into` has them."""
    p = L.shape[0]
    t = np.empty(p * (p + 1) // 2)
    coordinates_into(L, p, t, 0)
    return t

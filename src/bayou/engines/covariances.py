"""A factor's covariance on its way: its precision, its coordinates, and proposals for it, wherever the rows are.

The blocks of factor f stand one after the other in a table; Sigma and its precision Q are zero between them.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.effects.iid import BlockTable, coordinates_into, factor_from_coordinates, log_prior
from bayou.jit import kernel
from bayou.linalg.small import cholesky, fill, inverse_from_factor, invert_lower, product_with_transpose


@kernel(inner=True)
def _place_precision(blocks: BlockTable, r: int, L: Array, Q: Array, work: Array) -> bool:
    """Q <- (L L')⁻¹ at the place of block r; False if that is not finite."""
    p, s = blocks.size[r], blocks.start[r]
    inverse_from_factor(L, work[0], work[1], p)
    for i in range(p):
        for k in range(p):
            if not math.isfinite(work[1, i, k]):
                return False
            Q[s + i, s + k] = work[1, i, k]
    return True


@kernel
def precision_from_factors(blocks: BlockTable, L: Array, Q: Array, work: Array) -> bool:
    """Q (K, p, p) <- the precisions of all factors from the lower factors L (B, p, p) of their blocks."""
    for f in range(Q.shape[0]):
        fill(Q[f], 0.0)
    for r in range(blocks.size.shape[0]):
        if not _place_precision(blocks, r, L[r], Q[blocks.grouping[r]], work):
            return False
    return True


@kernel(inner=True)
def coordinates_of(blocks: BlockTable, f: int, L: Array, t: Array) -> int:
    """T <- the coordinates of the blocks of factor f; returns how many there are."""
    at = 0
    for r in range(blocks.size.shape[0]):
        if blocks.grouping[r] == f:
            coordinates_into(L[r], blocks.size[r], t, at)
            at += blocks.size[r] * (blocks.size[r] + 1) // 2
    return at


@kernel(inner=True)
def density_at(blocks: BlockTable, f: int, J: float, t: Array, L: Array, Q: Array, work: Array) -> float:
    """Factors L and precision Q (p, p) of factor f at t; returns log p(Sigma) + log Jacobian − J log|L|, J its levels.

    All of Q is written: between blocks it is zero, whatever another factor has left there.
    """
    at = 0
    value = 0.0
    fill(Q, 0.0)
    for r in range(blocks.size.shape[0]):
        if blocks.grouping[r] != f:
            continue
        p = blocks.size[r]
        value += factor_from_coordinates(t, at, p, L[r])
        if not value > -math.inf:
            return -math.inf
        value += log_prior(blocks, r, L[r], work[0])
        at += p * (p + 1) // 2
        if not _place_precision(blocks, r, L[r], Q, work):
            return -math.inf
        for i in range(p):
            value -= J * math.log(L[r, i, i])
    return value


@kernel(inner=True)
def scaled(L: Array, p: int, c: int, factor: float, new: Array) -> None:
    """Set ``new`` to L with coefficient c times ``factor``."""
    for i in range(p):
        for k in range(i + 1):
            new[i, k] = L[i, k] * (factor if i == c else 1.0)


@kernel(inner=True)
def sheared(
    L: Array, p: int, c: int, e: int, size: float, new: Array, inverse: Array, product: Array
) -> tuple[float, bool]:
    """Set ``new`` to L with b_c + move b_e in place of b_c; returns the move, and whether that is a covariance.

    ``size`` is in units that the shear does not change: sd of the source, sd of the target given the others.
    """
    invert_lower(L, inverse, p)
    precision, variance = 0.0, 0.0
    for k in range(p):
        if k >= c:
            precision += inverse[k, c] * inverse[k, c]
        if k <= e:
            variance += L[e, k] * L[e, k]
    move = size / math.sqrt(precision * variance)
    product_with_transpose(L, product, p)
    for k in range(p):
        product[c, k] += move * product[e, k]
    for k in range(p):
        product[k, c] += move * product[k, e]
    return move, cholesky(product, new, p)

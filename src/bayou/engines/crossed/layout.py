"""Crossed factors as sums over their levels, and the rows as what ties the levels to each other.

Given all but one factor, what its coefficients need of the rows are sums by level, Z'WZ, Z'Wy, Z'WX, and the
cross-products with the other factors' columns. The first are made once; the last cost one pass over the *entries*:
the rows, or, where every factor has an intercept alone, one entry for each combination of levels that occurs. An
entry is four bytes for each factor but the largest, by which they are sorted, and eight for its weight unless that
is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable, tabulate
from bayou.engines.centring import starts_of
from bayou.engines.crossed.translations import Translations, translations_of
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.design import Grouping
    from bayou.model import Model

Codes: TypeAlias = NDArray[np.int32]


class Crossed(NamedTuple):
    """A Gaussian model of crossed factors as the kernels see it; factor 0 has the most coefficients.

    S levels of sigma, K factors of J_k levels and p_k coefficients each, P fixed effects in working coordinates.
    """

    start: Integers  # (J_0 + 1,) entries of each level of factor 0
    Z: Array  # (E sum p,) columns of all factors by entry; empty if all are ones
    at_z: Integers  # (K,) where a factor's columns begin in an entry's
    W: Array  # (E,) weights; empty if all are one
    by_level: bool  # whether sigma has levels: the codes' last row has that of each entry
    levels: Integers  # (K,)
    sizes: Integers  # (K,)
    at_b: Integers  # (K + 1,) first coefficient of each factor
    at_A: Integers  # (K + 1,)
    at_B: Integers  # (K + 1,)
    A: Array  # (S, sum J p p) Z'WZ
    a: Array  # (S, sum J p) Z'Wy
    B: Array  # (S, sum J p P) Z'WX
    D: Array  # (S, P, P)
    d: Array  # (S, P)
    squares: Array  # (S,) y'Wy
    rows: Array  # (S,)
    alike: Integers  # levels of one number whose Z'WZ are the same: their class
    at_alike: Integers  # (K,) where those of a factor begin, -1 where classes do not pay
    at_class: Integers  # (K + 1,)
    value: Array  # (classes,) Z'WZ
    alike_levels: Array  # (classes,) how many
    products: Array  # (classes, P, P) sum of B_j B_j'
    precision: Array  # (P, P) prior of the fixed effects
    linear: Array  # (P,)
    blocks: BlockTable
    sigma_code: int
    sigma_parameters: Array
    sigma_known: bool
    beta_codes: Integers  # (known,) priors of the trailing fixed effects that are not Gaussian
    beta_parameters: Array  # (known, 3)
    ridge: Array  # (known,) about what those priors add to a precision
    translations: Translations


class Rows(NamedTuple):
    """What `crossed` returns beside the sums: how a row becomes an entry."""

    order: tuple[int, ...]  # the factors of the design, by position
    codes: Codes  # (K - 1 or K, E) int32: levels of the further factors, then of sigma
    shift: float  # what was taken off the response besides its offset


@kernel
def _add_rows(
    codes: Integers, sigma: Integers, Z: Array, X: Array, y: Array, weights: Array, A: Array, a: Array, B: Array
) -> None:
    """Add every row to its level's Z'WZ, Z'Wy and Z'WX."""
    n, p = Z.shape
    P = X.shape[1]
    for i in range(n):
        j, s, w = codes[i], sigma[i], weights[i]
        for k in range(p):
            z = w * Z[i, k]
            a[s, j * p + k] += z * y[i]
            for e in range(p):
                A[s, (j * p + k) * p + e] += z * Z[i, e]
            for e in range(P):
                B[s, (j * p + k) * P + e] += z * X[i, e]


@kernel
def _add_fixed(sigma: Integers, X: Array, y: Array, weights: Array, D: Array, d: Array, squares: Array) -> None:
    """Add every row to X'WX, X'Wy and y'Wy."""
    P = X.shape[1]
    for i in range(X.shape[0]):
        s, w = sigma[i], weights[i]
        squares[s] += w * y[i] * y[i]
        for k in range(P):
            x = w * X[i, k]
            d[s, k] += x * y[i]
            for e in range(P):
                D[s, k, e] += x * X[i, e]


@kernel
def _place(codes: Integers, before: NDArray[Any], next_place: Integers, after: NDArray[Any]) -> None:
    """One round of a counting sort: rows in the order ``before`` go to the places of their levels."""
    for i in range(before.shape[0]):
        row = before[i]
        j = codes[row]
        after[next_place[j]] = row
        next_place[j] += 1


def _sorted(keys: list[tuple[Integers, int]]) -> NDArray[Any]:
    """Return the order of the rows by the first key, then the second, …; the time is linear in the rows."""
    n = len(keys[0][0])
    kind = np.int32 if n < 2**31 else np.int64
    before: NDArray[Any] = np.arange(n, dtype=kind)
    after: NDArray[Any] = np.empty(n, dtype=kind)
    for codes, levels in reversed(keys):
        count = np.bincount(codes, minlength=levels)
        _place(codes, before, np.cumsum(count) - count, after)
        before, after = after, before
    return before


def crossed(model: Model) -> tuple[Crossed, Rows]:
    """Sum the rows of a Gaussian model with grouping factors, and lay its entries out.

    Parameters
    ----------
    model
        A model with family Gaussian and identity link, and one grouping factor or more; the fixed effects are taken
        in its working coordinates.
    """
    design, working = model.design, model.working
    groupings = design.groupings
    order = tuple(sorted(range(len(groupings)), key=lambda k: -groupings[k].Z.shape[1] * len(groupings[k].levels)))
    used = [groupings[g] for g in order]
    y = design.y - design.offset
    shift = float(y.mean()) if working.intercept is not None else 0.0
    y -= shift
    weights = row_weights(model)
    sigma, S, P = design.sigma_codes, len(design.sigma_levels), working.X.shape[1]
    remainder = design.remainder
    levels = np.array([len(g.levels) for g in used], dtype=np.int64)
    sizes = np.array([g.Z.shape[1] for g in used], dtype=np.int64)
    at_b, at_A, at_B = (np.append(0, np.cumsum(levels * m)).astype(np.int64) for m in (sizes, sizes**2, sizes * P))
    A, a, B = np.zeros((S, at_A[-1])), np.zeros((S, at_b[-1])), np.zeros((S, at_B[-1]))
    for k, g in enumerate(used):
        parts = [np.zeros((S, int(at[k + 1] - at[k]))) for at in (at_A, at_b, at_B)]
        _add_rows(g.codes, sigma, np.ascontiguousarray(g.Z), working.X, y, weights, *parts)
        for whole, at, part in zip((A, a, B), (at_A, at_b, at_B), parts, strict=True):
            whole[:, at[k] : at[k + 1]] = part
    D, d, squares = np.zeros((S, P, P)), np.zeros((S, P)), np.zeros(S)
    _add_fixed(sigma, working.X, y, weights, D, d, squares)
    start, codes, Z, W = _entries(used, sigma, S, weights)
    alike, at_alike, at_class, value, count, products = _classes(levels, sizes, P, S, at_A, at_B, A[0], B[0])
    blocks = tabulate(model.bound.blocks)
    position = {g: k for k, g in enumerate(order)}
    blocks = blocks._replace(grouping=np.array([position[int(g)] for g in blocks.grouping], dtype=np.int64))
    known = len(working.codes)
    target = Crossed(
        start=start,
        Z=Z,
        at_z=starts_of([int(p) for p in sizes]),
        W=W,
        by_level=S > 1,
        levels=levels,
        sizes=sizes,
        at_b=at_b,
        at_A=at_A,
        at_B=at_B,
        A=A,
        a=a,
        B=B,
        D=D,
        d=d,
        squares=squares + remainder.squares,
        rows=np.bincount(sigma, minlength=S) + remainder.count,
        alike=alike,
        at_alike=at_alike,
        at_class=at_class,
        value=value,
        alike_levels=count,
        products=products,
        precision=working.precision,
        linear=working.precision @ working.mean - shift * working.precision @ working.shift_direction,
        blocks=blocks,
        sigma_code=int(model.bound.dispersion_code),
        sigma_parameters=np.asarray(model.bound.dispersion_parameters, dtype=np.float64),
        sigma_known=model.dispersion_known,
        beta_codes=working.codes,
        beta_parameters=working.parameters,
        ridge=np.ascontiguousarray(working.curvature[P - known :]),
        translations=translations_of(used),
    )
    return target, Rows(order, codes, shift)


def entry_means(model: Model, target: Crossed, rows: Rows) -> tuple[Array, Array]:
    """Return the weighted means of X by entry, (E P,), and X'WX within the entries by level of sigma, (S, P, P).

    The first is empty where X is an intercept alone.
    """
    design, X = model.design, model.working.X
    P, S = X.shape[1], len(design.sigma_levels)
    if P == 0 or (P == 1 and bool((X == 1.0).all())):
        return np.zeros(0), np.zeros((S, P, P))
    order, at = _order([design.groupings[g] for g in rows.order], design.sigma_codes, S)
    weights = row_weights(model)[order]
    means = np.add.reduceat(weights[:, None] * X[order], at) / np.add.reduceat(weights, at)[:, None]
    W = target.W if len(target.W) else np.ones(len(at))
    within = target.D.copy()
    for s in range(S):
        mine = slice(None) if S == 1 else rows.codes[-1] == s
        within[s] -= (means[mine].T * W[mine]) @ means[mine]
    return means.ravel(), within


def row_weights(model: Model) -> Array:
    """Return the weights of the rows: given ones, or from their standard errors."""
    design = model.design
    return design.weights if design.standard_errors is None else design.weights / design.standard_errors**2


def _order(used: list[Grouping], sigma: Integers, S: int) -> tuple[NDArray[Any], Integers]:
    """Return the order of the rows, and where the rows of each entry begin in it."""
    keys = [(g.codes, len(g.levels)) for g in used]
    if S > 1:
        keys.append((sigma, S))
    order = _sorted(keys)
    if not intercepts_alone(used):
        return order, np.arange(len(order))
    first = np.zeros(len(order), dtype=bool)
    first[:1] = True
    for codes, _ in keys:
        mine = codes[order]
        first[1:] |= mine[1:] != mine[:-1]
    return order, np.flatnonzero(first)


def intercepts_alone(used: list[Grouping]) -> bool:
    """Tell whether every factor has an intercept and nothing else."""
    return all(g.Z.shape[1] == 1 and bool((g.Z == 1.0).all()) for g in used)


def _entries(used: list[Grouping], sigma: Integers, S: int, weights: Array) -> tuple[Integers, Codes, Array, Array]:
    """Return where each level of the first factor begins, codes (K - 1 or K, E), columns and weights of the entries.

    Rows of the same levels become one entry where all factors have an intercept alone: what they leave of each other
    is in the sums.
    """
    order, at = _order(used, sigma, S)
    kept, W, Z = order[at], weights[order], np.zeros(0)
    if len(at) < len(order):
        W = np.add.reduceat(W, at)
    if not intercepts_alone(used):
        Z = np.hstack([g.Z for g in used])[order].ravel()
    count = np.bincount(used[0].codes[kept], minlength=len(used[0].levels))
    further = [g.codes for g in used[1:]] + ([sigma] if S > 1 else [])
    codes = np.empty((len(further), len(kept)), dtype=np.int32)
    for row, mine in zip(codes, further, strict=True):
        row[:] = mine[kept]
    if (W == 1.0).all():
        W = np.zeros(0)
    return np.append(0, np.cumsum(count)).astype(np.int64), codes, Z, np.ascontiguousarray(W)


def _classes(
    levels: Integers, sizes: Integers, P: int, S: int, at_A: Integers, at_B: Integers, A: Array, B: Array
) -> tuple[Integers, Integers, Integers, Array, Array, Array]:
    """Find levels with the same Z'WZ: in the density of a factor's sd they come as one.

    Levels of n_j rows of weight one have as many classes as there are different n_j.
    """
    alike: list[Integers] = []
    at_alike, at_class = np.full(len(levels), -1, dtype=np.int64), [0]
    value, count, products = [np.zeros(0)], [np.zeros(0)], [np.zeros((0, P, P))]
    for k, J in enumerate(levels):
        at_class.append(at_class[-1])
        if sizes[k] > 1 or S > 1:
            continue
        found, mine, many = np.unique(A[at_A[k] : at_A[k + 1]], return_inverse=True, return_counts=True)
        if len(found) * P * P > 4 * J * max(P, 1):
            continue
        rows = B[at_B[k] : at_B[k + 1]].reshape(int(J), P)
        sums = np.zeros((len(found), P, P))
        for c in range(P):
            for e in range(P):
                sums[:, c, e] = np.bincount(mine, rows[:, c] * rows[:, e], minlength=len(found))
        at_alike[k] = sum(len(m) for m in alike)
        alike.append(mine.astype(np.int64))
        at_class[-1] += len(found)
        value.append(found)
        count.append(many.astype(np.float64))
        products.append(sums)
    return (
        np.concatenate([np.zeros(0, dtype=np.int64), *alike]),
        at_alike,
        np.array(at_class, dtype=np.int64),
        np.concatenate(value),
        np.concatenate(count),
        np.concatenate(products),
    )

"""What one chain carries from sweep to sweep, and its scratch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array
from bayou.engines.crossed.layout import Crossed
from bayou.jit import kernel

CARRIED = ("b", "beta", "L", "Q", "sigma")  # what of the state outlives a sweep


class CrossState(NamedTuple):
    """What one chain carries from sweep to sweep, and its scratch."""

    b: Array  # (q,) coefficients, factor by factor
    beta: Array  # (P,)
    L: Array  # (B, p, p)
    Q: Array  # (K, p, p)
    sigma: Array  # (S,)
    A: Array  # the sums, at weight one if sigma has one level, otherwise combined over its levels
    a: Array
    B: Array
    D: Array
    d: Array
    r: Array  # (q,) Z'W(y − other factors)
    seen: Array  # (K,) a_k'b_k
    pull: Array  # (K, P) B_k'b_k
    S: Array  # (P, P) precision of beta with one factor integrated out
    m: Array  # (P,)
    C: Array  # (P, P)
    v: Array  # (4, P)
    class_r: Array  # (classes,) sum of r²
    class_B: Array  # (classes, P) sum of B r
    theta: Array  # (4, d) coordinates of one factor's covariance and sigma
    directions: Array  # (K, d, d) rows along which they are sliced
    work: Array  # (7, p, p)
    V: Array  # (p, P)
    vectors: Array  # (3, p)
    shifts: Array  # room for the parts of any pair
    precise: Array  # and for their precisions
    by_sigma: Array  # (S,)


def new_cross_state(target: Crossed, L: Array, sigma: Array) -> CrossState:
    """Allocate the state of one chain, its coefficients at zero."""
    K, P, S = len(target.levels), len(target.linear), len(sigma)
    block = L.shape[1]
    m = int(max([1, block, block * (block + 1) // 2, *target.sizes]))
    p = int(max([1, block, *target.sizes]))
    counts = [numbers_of(target, k) for k in range(K)]
    d = max([1, *counts]) + 1
    one = S == 1
    parts = int(target.translations.parts.max(initial=0))
    return CrossState(
        b=np.zeros(int(target.at_b[-1])),
        beta=np.zeros(P),
        L=L.copy(),
        Q=np.zeros((K, p, p)),
        sigma=sigma.copy(),
        A=target.A[0] if one else np.zeros_like(target.A[0]),
        a=target.a[0] if one else np.zeros_like(target.a[0]),
        B=target.B[0] if one else np.zeros_like(target.B[0]),
        D=target.D[0] if one else np.zeros((P, P)),
        d=target.d[0] if one else np.zeros(P),
        r=np.zeros(int(target.at_b[-1])),
        seen=np.zeros(K),
        pull=np.zeros((K, P)),
        S=np.zeros((P, P)),
        m=np.zeros(P),
        C=np.zeros((P, P)),
        v=np.zeros((4, P)),
        class_r=np.zeros(len(target.value)),
        class_B=np.zeros((len(target.value), P)),
        theta=np.zeros((4, d)),
        directions=np.tile(0.3 * np.eye(d), (K, 1, 1)),
        work=np.zeros((7, m, m)),
        V=np.zeros((p, P)),
        vectors=np.zeros((3, m)),
        shifts=np.zeros(parts),
        precise=np.zeros(parts),
        by_sigma=np.zeros(S),
    )


def numbers_of(target: Crossed, k: int) -> int:
    """Return how many numbers the covariance of factor k has."""
    mine = target.blocks.size[target.blocks.grouping == k]
    return int((mine * (mine + 1) // 2).sum())


@kernel
def combine_levels(target: Crossed, state: CrossState) -> float:
    """Add the sums over the levels of sigma up at weights 1/sigma²; returns the weight that is left to apply."""
    S = state.sigma.shape[0]
    if S == 1:
        return 1.0 / (state.sigma[0] * state.sigma[0])
    for s in range(S):
        w = 1.0 / (state.sigma[s] * state.sigma[s])
        state.by_sigma[s] = w
        _add_scaled(target.A[s], w, s == 0, state.A)
        _add_scaled(target.a[s], w, s == 0, state.a)
        _add_scaled(target.B[s], w, s == 0, state.B)
        _add_scaled(target.d[s], w, s == 0, state.d)
        for i in range(state.d.shape[0]):
            _add_scaled(target.D[s, i], w, s == 0, state.D[i])
    return 1.0


@kernel(inner=True)
def _add_scaled(x: Array, w: float, first: bool, out: Array) -> None:
    for i in range(x.shape[0]):
        out[i] = w * x[i] + (0.0 if first else out[i])

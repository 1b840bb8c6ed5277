"""A Gaussian mixed model and one chain's state, as the Gibbs kernels see them: sums over rows, never rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable
from bayou.engines.centring import Centring
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.sufficient import Cells, combine

CARRIED = ("rest", "b", "L", "Q", "sigma")  # what of the state outlives a scan


class Target(NamedTuple):
    """A Gaussian mixed model as the kernels see it: sums, layout and priors."""

    cells: Cells
    arrow: Arrow
    border: Border
    ridged: Border  # with a ridge for the fixed effects whose priors are not Gaussian, so that all is definite
    blocks: BlockTable
    levels: Integers  # (K,) levels of each factor, eliminated one first
    sizes: Integers  # (K,) coefficients of each factor
    sigma_code: int
    sigma_parameters: Array
    sigma_known: bool
    beta_codes: Integers  # (known,) priors of the trailing fixed effects that are not Gaussian
    beta_parameters: Array  # (known, 3)
    moves: Centring


class State(NamedTuple):
    """What one chain carries from scan to scan, and its scratch."""

    rest: Array  # (R,) coefficients of the further factors, then fixed effects
    b: Array  # (J, p) coefficients of the eliminated factor
    L: Array  # (B, p, p)
    Q: Array  # (K, p, p)
    sigma: Array  # (S,)
    factor: Factor
    residual: Array  # (R,) weighted cross-products of the rest with the residuals
    work: Array  # (7, m, m)
    vectors: Array  # (6, m)
    sums: Array  # room for the levels of any factor
    by_sigma: Array  # (2, S) for weights and sums of squares


def new_state(target: Target, factor: Factor, L: Array, sigma: Array) -> State:
    """Allocate the state of one chain at covariance factors L and residual sds sigma."""
    J, p = target.arrow.a.shape
    R = target.arrow.d.shape[0]
    largest = max([1, p, L.shape[1], *target.sizes])  # a factor of several blocks is wider than any of them
    m = max(largest * (largest + 1) // 2, target.border.precision.shape[0], len(target.moves.at), 1)
    K = max(len(target.levels), 1)
    return State(
        np.zeros(R),
        np.zeros((J, p)),
        L.copy(),
        np.zeros((K, largest, largest)),
        sigma.copy(),
        factor,
        np.zeros(R),
        np.zeros((7, m, m)),
        np.zeros((6, m)),
        np.zeros(int(target.levels.max()) if len(target.levels) else 0),
        np.zeros((2, len(sigma))),
    )


@kernel(inner=True)
def likelihood_weight(target: Target, state: State) -> float:
    """Weight of the sums in ``target.arrow``: 1/sigma², or 1 after combining several levels."""
    sigma, w = state.sigma, state.by_sigma[0]
    if sigma.shape[0] == 1:
        return 1.0 / (sigma[0] * sigma[0])
    for s in range(sigma.shape[0]):
        w[s] = 1.0 / (sigma[s] * sigma[s])
    combine(target.cells, target.arrow.start, w, target.arrow)
    return 1.0


@kernel(inner=True)
def scatter_of(target: Target, state: State, r: int, out: Array) -> None:
    """Out <- Σ_j b_j b_j' of block r."""
    blocks = target.blocks
    f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
    for i in range(p):
        for k in range(i + 1):
            t = 0.0
            if f == 0:
                for j in range(state.b.shape[0]):
                    t += state.b[j, s + i] * state.b[j, s + k]
            else:
                at, q = target.border.start[f - 1] + s, target.sizes[f]
                for j in range(target.levels[f]):
                    t += state.rest[at + j * q + i] * state.rest[at + j * q + k]
            out[i, k] = t
            out[k, i] = t


@kernel(inner=True)
def record(target: Target, state: State, i: int, beta: Array, b: Array, L: Array, sigma: Array) -> None:
    """Write the state as draw i."""
    at = target.border.fixed
    J, p = state.b.shape
    for k in range(beta.shape[1]):
        beta[i, k] = state.rest[at + k]
    for r in range(L.shape[1]):
        for k in range(L.shape[2]):
            for c in range(k + 1):
                L[i, r, k, c] = state.L[r, k, c]
    for s in range(sigma.shape[1]):
        sigma[i, s] = state.sigma[s]
    if b.shape[1] > 0:
        c = 0
        for j in range(J):
            for k in range(p):
                b[i, c] = state.b[j, k]
                c += 1
        for k in range(at):
            b[i, c] = state.rest[k]
            c += 1

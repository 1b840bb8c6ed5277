"""A generalized linear mixed model and one chain's state, as the Metropolis kernels see them.

What follows from the state is kept beside it: the linear predictor eta, the log likelihood of all rows and of
each level's, the precisions and covariance factors of whole factors, the rows' weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable
from bayou.engines.centring import Centring
from bayou.engines.covariances import precision_from_factors
from bayou.engines.glmm.nested import Lineages
from bayou.engines.glmm.regression import Rows, Scratch, add_columns, add_fixed
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.families.rows import row_log_density
from bayou.jit import kernel, window
from bayou.linalg.schur import Border
from bayou.linalg.small import fill

# what of the state outlives a scan; the rest is scratch
CARRIED = (
    "beta", "b", "eta", "L", "Q", "Sigma", "dispersion", "weights", "likelihood", "total", "tune", "walk", "step",
    "accepted", "tries", "counter",
)  # fmt: skip
APPROXIMATION = ("ready", "anchor", "sum", "scans", "centre", "spread", "angle", "tally")


class Target(NamedTuple):
    """A generalized linear mixed model as the kernels see it."""

    rows: Rows
    border: Border
    blocks: BlockTable
    sigma: Integers  # (n,) level of the residual sd, master order; (1,) if there is one
    sigma_step: int
    sigma_rows: Array  # (S,) how many rows have it
    sigma_squares: Array  # (S,) of residuals that no row here has: those of rows that were summed
    prior_weights: Array  # (K, n), or (1, m) of one batch where all rows are alike
    prior_step: int
    dispersion_code: int
    dispersion_parameters: Array
    dispersion_known: bool
    walk_tuned: bool
    curvature: Array  # (P,) about what priors of fixed effects that are not Gaussian add to the precision
    beta_codes: Integers
    beta_parameters: Array
    moves: Centring
    lineages: Lineages


class Carrier(NamedTuple):
    """What `carried.py` knows of the posterior of each factor's hyperparameters, and its scratch."""

    first: Integers  # (K + 1,) coordinates of each factor: its blocks, then the fixed effects if it is the only one
    ready: Integers  # (K,) whether there is an approximation yet
    anchor: Array  # as b
    sum: Array  # as b: of the coefficients since the last fit of the approximation
    scans: Integers  # (1,) that it is over
    centre: Array  # (D,)
    spread: Array  # (K, d, d) lower factors
    angle: Array  # (K,) logit of phi / (pi / 2)
    tally: Array  # (K, 2) steps tried and accepted
    b: Array  # steps of one factor's proposed coefficients from their anchors
    L: Array  # (B, p, p) proposed factors
    t: Array  # (3, d)
    Q: Array  # (4, p, p)
    vectors: Array  # (4, p)
    shift: Array  # (2, E) how far the fixed effects are from the centre, now and as proposed
    step: Array  # (LANES p,) of a batch of levels
    diagonal: Array  # (LANES p,) of their factors
    there: Array  # (m,) a linear predictor of a batch
    change: Array  # (P,) of the fixed effects
    total: Array  # (1,) log likelihood at what is proposed


class State(NamedTuple):
    """What one chain carries from scan to scan, and its scratch."""

    beta: Array  # (P,)
    b: Array  # all coefficients, factor by factor, level by level
    eta: Array  # (n,)
    L: Array  # (B, p, p)
    Q: Array  # (K, p, p)
    Sigma: Array  # (K, p, p) lower factors of the whole covariances
    dispersion: Array  # (S,)
    weights: Array  # prior weights, those of the target; (K, n) and divided by sigma² if the response is Gaussian
    likelihood: Array  # levels of all factors: log likelihood of their rows, or NaN
    total: Array  # (1,)
    tune: Array  # (B, p + 1) log step lengths of scalings, then of shears
    walk: Array  # (K,) log scale of the random walk
    step: Array  # (1,) log step length of the dispersion
    accepted: Array  # levels of all factors
    tries: Array  # (K,) scans whose proposals `accepted` counts
    scratch: Scratch
    Hx: Array  # (P, P)
    vectors: Array  # (5, m)
    work: Array  # (7, m, m)
    counter: Integers  # (1,) scans
    sums: Array  # room for the levels of any factor
    messages: Array  # (2, levels of all members of all lineages)
    carrier: Carrier


@kernel(inner=True)
def forget(state: State) -> None:
    """Drop the kept log likelihoods by level: eta has moved."""
    for j in range(state.likelihood.shape[0]):
        state.likelihood[j] = math.nan


@kernel
def is_gaussian(code: int) -> bool:
    """Whether the rows' weights carry the residual variance."""
    return code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG


@kernel(inner=True)
def row_dispersion_of(target: Target, state: State) -> float:
    """Return the dispersion for the row kernels: sigma is in the weights already."""
    if is_gaussian(target.rows.code) or state.dispersion.shape[0] == 0:
        return 1.0
    return state.dispersion[0]


@kernel(inner=True)
def set_weights(target: Target, state: State) -> None:
    """Weights of the rows from the current residual sds."""
    K, n = state.weights.shape
    prior = window(target.prior_weights, 0, target.prior_weights.size)
    for f in range(K):
        for r in range(n):
            place = r if f == 0 else target.rows.master[f - 1, r]
            s = state.dispersion[target.sigma[place * target.sigma_step]]
            state.weights[f, r] = prior[(f * n + r) * target.prior_step] / (s * s)


@kernel(inner=True)
def set_eta(target: Target, state: State) -> None:
    """Eta from beta and b, and the log likelihoods from eta."""
    rows = target.rows
    n = state.eta.shape[0]
    for r in range(n):
        state.eta[r] = rows.offset[r * rows.offset_step]
    add_fixed(rows, 0, n, state.beta, state.scratch.columns, state.eta)
    for f in range(rows.levels.shape[0]):
        p = rows.sizes[f]
        for j in range(rows.levels[f]):
            a = rows.start[rows.first[f] + j]
            m = rows.start[rows.first[f] + j + 1] - a
            own = window(state.scratch.here, 0, m)
            for r in range(m):
                own[r] = 0.0
            add_columns(rows.Z, rows.at_Z[f] + a, n, m, p, state.b, rows.at_b[f] + j * p, own)
            if f == 0:
                eta = window(state.eta, a, m)
                for r in range(m):
                    eta[r] += own[r]
            else:
                for r in range(m):
                    state.eta[rows.master[f - 1, a + r]] += own[r]
    forget(state)
    state.total[0] = log_likelihood(target, state, state.eta)


@kernel(inner=True)
def log_likelihood(target: Target, state: State, eta: Array) -> float:
    """Log likelihood of all rows, up to what `row_terms` leaves out."""
    rows = target.rows
    return row_log_density(
        rows.code, rows.y[0], rows.trials[0], state.weights[0], eta, row_dispersion_of(target, state),
        state.scratch.work,
    )  # fmt: skip


@kernel(inner=True)
def set_covariances(target: Target, state: State) -> bool:
    """Q and the factors of Sigma of all factors from their blocks."""
    blocks = target.blocks
    if not precision_from_factors(blocks, state.L, state.Q, state.work[3:]):
        return False
    for f in range(state.Sigma.shape[0]):
        fill(state.Sigma[f], 0.0)
    for r in range(blocks.size.shape[0]):
        f, s = blocks.grouping[r], blocks.start[r]
        for i in range(blocks.size[r]):
            for k in range(i + 1):
                state.Sigma[f, s + i, s + k] = state.L[r, i, k]
    return True

"""How to sample a Gaussian model of several factors: which way costs least for an independent draw.

Costs are counted in visits of one entry, about two nanoseconds. At covariances that a few sweeps have found,

- sweeps, factor by factor: one costs S = Σ_k (v E + (12 + 2 P) J_k + slices); without noise they shrink any error of
  the coefficients by rho, measured by repeating them, and a draw worth an independent one takes (1 + rho)/(1 − rho);
- sweeps with a joint draw each: S + (2 v E + 5 q)(steps + 3) + 4 E for q coefficients, the steps of conjugate
  gradients as a first draw takes them;
- a dense Schur complement of R columns: R³/150 + Σ_j m_j²/4, m_j the columns that level j of the largest factor
  touches. Its scans move all covariances at once, and are worth a third of an independent draw. Where that cannot be
  done (many numbers, priors of fixed effects that are not Gaussian) sds are drawn given the coefficients: then they
  are worth no more than the share of the coefficients that comes from the rows, for the column of which the rows say
  least. Sweeps draw sds with the coefficients integrated out.

A pass takes v = 1 visit of an entry for two factors of an intercept each, 2 (K − 1) for K of them, 7 with slopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.crossed.layout import Crossed, Rows, entry_means
from bayou.engines.crossed.state import CrossState, new_cross_state
from bayou.engines.crossed.sweep import run_joint_sweeps, run_sweeps
from bayou.engines.crossed.system import Solver, new_solver
from bayou.engines.gibbs import COLLAPSED_LIMIT
from bayou.engines.starts import starting_factors, starting_scale
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model

LARGEST_DENSE = 6_000  # columns of one: 288 MB a chain
PILOT, REPEATED, MEASURED = 40, 60, 20  # sweeps to find covariances; to find the slowest direction; of these, measured
NOISE, BESIDE = 4.0, 3  # visits for the noise of one entry; passes of a joint draw beside its steps
DENSE_WORTH, LEAST_WORTH = 1.0 / 3.0, 1e-3


@dataclass(frozen=True)
class Way:
    """How a model is sampled, and the costs of an independent draw that decided it, in visits."""

    name: str  # "dense", "crossed" or "joint"
    reason: str
    costs: dict[str, float]


def lay_out_state(model: Model, target: Crossed, spread: float) -> CrossState:
    """Return a state at the usual start: coefficients at zero, covariances ``spread`` times as wide."""
    state = new_cross_state(target, starting_factors(model, target.blocks, spread), starting_scale(model, 1.0))
    known = len(target.beta_codes)
    for i in range(known):
        state.beta[len(state.beta) - known + i] = model.working.inside(i)
    return state


def collapses(target: Crossed) -> bool:
    """Tell whether scans with a dense Schur complement have all coefficients integrated out."""
    numbers = int((target.blocks.size * (target.blocks.size + 1) // 2).sum())
    numbers += 0 if target.sigma_known else len(target.rows)
    return numbers <= COLLAPSED_LIMIT and not len(target.beta_codes)


def heard(target: Crossed, state: CrossState) -> float:
    """Return the share of the coefficients' precision that comes from the rows, least over factors and columns.

    Sds that are drawn given coefficients which are mostly prior stay about where they were.
    """
    w = 1.0 / float(state.sigma[0]) ** 2 if len(state.sigma) == 1 else 1.0  # several are in the sums already
    least = 1.0
    for k, p in enumerate(target.sizes):
        rows = w * np.diagonal(state.A[target.at_A[k] : target.at_A[k + 1]].reshape(-1, p, p), axis1=1, axis2=2)
        least = min(least, float((rows / (rows + np.diagonal(state.Q[k])[:p])).mean(axis=0).min()))
    return least


def dense_cost(target: Crossed, R: int, worth: float = DENSE_WORTH) -> float:
    """Return the cost of an independent draw by a dense Schur complement of R columns, a scan worth a part of it."""
    if R > LARGEST_DENSE:
        return np.inf
    K, P = len(target.levels), len(target.linear)
    p = target.sizes[1:].sum()
    touched = np.minimum(np.diff(target.start) * p, R - P) + P
    return float(R**3 / 150.0 + (touched * touched).sum() * target.sizes[0] / 4.0) / worth if K > 1 else 0.0


def visits(target: Crossed) -> float:
    """Return what one entry costs in a pass: as measured, where the kernels cannot take the short way."""
    K = len(target.levels)
    if len(target.Z):
        return 7.0
    return 1.0 if K == 2 and not target.by_level else 2.0 * max(K - 1, 1)


def sweep_cost(target: Crossed) -> float:
    """Return the cost of one sweep."""
    entries, P = float(target.start[-1]), len(target.linear)
    cost = 0.0
    for k, (J, p) in enumerate(zip(target.levels.astype(float), target.sizes.astype(float), strict=True)):
        terms = float(target.at_class[k + 1] - target.at_class[k]) if target.at_alike[k] >= 0 else J
        slices = 6.0 * min(p * (p + 1) / 2 + 1, 4)
        cost += entries * visits(target) + J * p * (12.0 + 2.0 * P)
        cost += slices * terms * (5.0 + 0.5 * p * (p + P) ** 2)
    return cost


def contraction(target: Crossed, rows: Rows, state: CrossState) -> float:
    """Return by how much a sweep shrinks the slowest error of the coefficients at the covariances of ``state``.

    Sweeps without noise are a linear map whose largest eigenvalue is the rate of convergence (Roberts & Sahu 1997).
    """
    still = {name: np.zeros_like(getattr(target, name)) for name in ("a", "d", "linear")}
    quiet = target._replace(**still)
    rng = np.random.default_rng(0)
    own = new_cross_state(quiet, state.L, state.sigma)
    own.b[:] = rng.standard_normal(len(own.b))
    handed = packed(quiet), packed(own)
    sizes = []
    for sweeps in (REPEATED - MEASURED, MEASURED):
        run_sweeps(*handed, rows.codes, True, 0.0, sweeps, *_nothing(1), rng)
        sizes.append(float(np.linalg.norm(own.b)))
        if not sizes[-1] > 1e-200:
            return 0.0
        own.b[:] /= sizes[-1]
    return float(min(sizes[-1] ** (1.0 / MEASURED), 1.0 - 1e-9))


def _nothing(draws: int) -> tuple[Array, Array, Array, Array]:
    """Return room for draws of which nothing is kept."""
    return np.empty((draws, 0)), np.empty((draws, 0)), np.empty((draws, 0, 0, 0)), np.empty((draws, 0))


def choose(model: Model, target: Crossed, rows: Rows) -> tuple[Way, Solver | None]:
    """Choose between sweeps, sweeps with joint draws, and a dense Schur complement, for two factors or more."""
    R = int(target.at_b[-1] - target.at_b[1]) + len(target.linear)
    state = lay_out_state(model, target, 1.0)
    handed = packed(target), packed(state)
    rng = np.random.default_rng(0)
    run_sweeps(*handed, rows.codes, False, 1.0, PILOT, *_nothing(1), rng)
    rho = contraction(target, rows, state)
    every, entries, once = (1.0 + rho) / (1.0 - rho), float(target.start[-1]), sweep_cost(target)
    worth = DENSE_WORTH if collapses(target) else max(min(DENSE_WORTH, heard(target, state)), LEAST_WORTH)
    costs = {"crossed": once * every, "dense": dense_cost(target, R, worth)}
    reason = f"a sweep shrinks errors to {rho:.2g} of themselves"
    solver = None
    pass_twice = 2.0 * visits(target)  # forth and back in each step
    if once * (every - 1.0) > (pass_twice * BESIDE + NOISE) * entries:  # a joint draw could pay
        solver = joint_solver(model, target, rows)
        run_joint_sweeps(handed[0], handed[1], packed(solver), rows.codes, False, 1, *_nothing(1), rng)
        steps = float(solver.steps[1])
        passes = entries * (pass_twice * (steps + BESIDE) + NOISE) + float(target.at_b[-1]) * 5.0 * (steps + BESIDE)
        costs["joint"] = once + passes
        reason += f", a joint draw takes {steps:.0f} steps"
    name = min(costs, key=lambda key: costs[key])
    return Way(name, reason, costs), solver if name == "joint" else None


def joint_solver(model: Model, target: Crossed, rows: Rows) -> Solver:
    """Return what joint draws need, for one chain."""
    return new_solver(target, *entry_means(model, target, rows))


def own_solver(solver: Solver) -> Solver:
    """Return what another chain needs: scratch of its own."""
    shared = ("X", "within", "prior", "tolerance")
    return solver._replace(**{name: getattr(solver, name).copy() for name in Solver._fields if name not in shared})

"""What the statistics of a Hamiltonian sampler say: divergences, trees that were cut off, and the energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.verdict.sentences import listed

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["cut_trees", "divergences", "energy_fraction", "low_energy"]

ENERGY_BAR = 0.3  # of E-BFMI (Betancourt 2017)
CUT_BAR = 0.01  # share of draws whose tree was cut off
OTHER_ENGINES = "or use engine='gibbs' or 'metropolis'"


def energy_fraction(energy: Array) -> Array:
    """Return the energy Bayesian fraction of missing information of each chain.

    Σ (E_t − E_{t−1})² / Σ (E_t − mean E)²: how much of the energy's spread one new momentum makes up for.

    Parameters
    ----------
    energy
        Shape (chain, draw).

    Returns
    -------
    ndarray
        Shape (chain,); NaN where there are too few draws to say.

    References
    ----------
    Betancourt, Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from bayou.verdict.hamiltonian import energy_fraction
    >>> energy_fraction(np.array([[1.0, 2.0, 1.0, 2.0, 1.0]])).round(2)
    array([3.33])
    """
    if energy.shape[1] < 4:
        return np.full(len(energy), np.nan)
    spread = np.square(energy - energy.mean(axis=1, keepdims=True)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.square(np.diff(energy, axis=1)).sum(axis=1) / spread)


def divergences(posterior: Posterior) -> list[str]:
    """Count the draws that diverged, say near which values, and what to change."""
    diverging = np.asarray(posterior.statistics.get("diverging", np.zeros((1, 0)))).astype(bool)
    count = int(diverging.sum())
    if not count:
        return []
    scales = {name: posterior.values(place) for name, place in posterior.rows.items() if name.startswith("sd_")}
    ranks = {name: float(np.mean(x < np.median(x[diverging]))) for name, x in scales.items()}
    near = [name for name, rank in sorted(ranks.items(), key=lambda pair: pair[1]) if rank < 0.25]
    where = f", mostly where {listed(near)} is small" if near else ""
    look = "" if near or not scales else f"; look at {listed(list(scales))}"
    return [
        f"{count} draws diverged{where}{look}: part of the posterior may be missing. Raise target_accept "
        f"(target_accept=0.95), take other coordinates (coordinates='whitened' or 'laplace'), {OTHER_ENGINES}, or use "
        "firmer priors for the group sds."
    ]


def low_energy(posterior: Posterior) -> list[str]:
    """Say when the momenta move the energy too little for the chain to reach the tails."""
    energy = posterior.statistics.get("energy")
    if energy is None:
        return []
    fractions = energy_fraction(np.asarray(energy, dtype=np.float64))
    low = np.flatnonzero(fractions < ENERGY_BAR)
    if not low.size:
        return []
    return [
        f"E-BFMI is {np.nanmin(fractions):.2f} in chain {listed([str(c + 1) for c in low])} (it should be at least "
        f"{ENERGY_BAR}): the tails are explored slowly. Take coordinates='laplace' or 'whitened', "
        f"firmer priors for the group sds, a longer warmup=, {OTHER_ENGINES}."
    ]


def cut_trees(posterior: Posterior) -> list[str]:
    """Say when many trajectories ended at ``max_depth``: the draws are sound, and far from each other they are not."""
    cut = posterior.statistics.get("reached_max_treedepth")
    if cut is None or not np.size(cut) or np.mean(cut) < CUT_BAR:
        return []
    depth = int(np.max(posterior.statistics.get("tree_depth", 0)))
    return [
        f"{np.mean(cut):.0%} of the draws ended at the largest tree (depth {depth}) and moved less than they might. "
        "Take coordinates='laplace', a longer warmup=, or a larger max_depth=; columns of like scale help too."
    ]

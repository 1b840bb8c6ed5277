"""Simultaneous bands of the cumulative counts of ranks, their p and their power, all without simulation.

If a sampler draws from the posterior, the rank of the true value among L independent draws is uniform on 0 … L. Of N
such ranks, C_k lie below the k-th of some points, and C_{k+1} − C_k | C_k is binomial of the N − C_k that are left.
So the probability that all counts stay within given limits is a product of small matrices, whatever the distribution
of one rank: with uniform ranks it is the level of a band, with those of a wrong sampler one minus its power.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.special import gammaln, ndtr

from bayou._types import Array, Integers

__all__ = ["critical", "least_tail", "limits", "points", "power", "shifted", "tail_probability"]

POINTS = 100
SMALLEST = 1e-9  # least tails below this have p at most points times it, which is all that anybody wants to know


def points(draws: int) -> Integers:
    """Return how many of the values 0 … draws lie below each point at which ranks are counted."""
    count = min(POINTS, draws + 1)
    return np.unique(np.arange(1, count) * (draws + 1) // count)


def least_tail(ranks: Integers, draws: int) -> Array:
    """Return the least two-sided tail probability of the cumulative counts of ranks (…, N), over all points.

    References
    ----------
    Säilynoja, Bürkner & Vehtari (2022), Statistics and Computing 32, section 2.
    """
    at = points(draws)
    ordered = np.sort(np.asarray(ranks), axis=-1)
    N = ordered.shape[-1]
    flat = ordered.reshape(-1, N)
    counts = np.stack([np.searchsorted(row, at, side="left") for row in flat])
    p = at / (draws + 1.0)
    tails = np.minimum(stats.binom.cdf(counts, N, p), stats.binom.sf(counts - 1, N, p))
    return np.asarray(np.minimum(2.0 * tails.min(axis=-1), 1.0).reshape(ordered.shape[:-1]))


def limits(N: int, draws: int, tail: float) -> tuple[Integers, Integers]:
    """Return the lowest and the highest count at each point whose two-sided tail is at least ``tail``."""
    p = points(draws) / (draws + 1.0)
    # the probability of a count is compared as `least_tail` computes it: one step either way of the quantile
    half = 0.5 * tail
    low = stats.binom.ppf(half, N, p).astype(np.int64)
    low = np.where(stats.binom.cdf(low - 1, N, p) >= half, low - 1, low)
    low = np.where(stats.binom.cdf(low, N, p) >= half, low, low + 1)
    high = stats.binom.isf(half, N, p).astype(np.int64)
    high = np.where(stats.binom.sf(high, N, p) >= half, high + 1, high)
    high = np.where(stats.binom.sf(high - 1, N, p) >= half, high, high - 1)
    return np.maximum(low, 0), np.minimum(high, N)


def staying(N: int, low: Integers, high: Integers, cells: Array) -> float:
    """Return the probability that the counts of N independent ranks stay within limits at all points.

    Parameters
    ----------
    N
        Ranks.
    low, high
        At each point, (points,).
    cells
        Probability that one rank lies between two points, (points + 1,); they add up to one.
    """
    counts, chances = np.zeros(1, dtype=np.int64), np.ones(1)
    left = 1.0
    for k in range(len(low)):
        new = np.arange(low[k], high[k] + 1)
        p = min(max(cells[k] / left, 0.0), 1.0) if left > 0.0 else 1.0
        left -= cells[k]
        step = new[None, :] - counts[:, None]
        rest = N - counts[:, None]
        inside = (step >= 0) & (step <= rest)
        x = np.where(inside, step, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            log = gammaln(rest + 1.0) - gammaln(x + 1.0) - gammaln(rest - x + 1.0)
            log = log + np.where(x > 0, x * np.log(p), 0.0) + np.where(rest > x, (rest - x) * np.log1p(-p), 0.0)
        chances = chances @ np.where(inside, np.exp(log), 0.0)
        counts = new
    return float(min(chances.sum(), 1.0))


def uniform_cells(draws: int) -> Array:
    """Return the probabilities of uniform ranks between the points."""
    return np.diff(points(draws), prepend=0, append=draws + 1) / (draws + 1.0)


def tail_probability(tail: float, N: int, draws: int) -> float:
    """Return the probability that uniform ranks (N,) have a least tail of at most ``tail``: the p of that tail."""
    if tail < SMALLEST:
        return float(min(1.0, tail * len(points(draws))))
    if tail >= 1.0:
        return 1.0
    # whatever rounding makes of equal tails, they count as reached
    return 1.0 - staying(N, *limits(N, draws, tail * (1.0 + 1e-9)), uniform_cells(draws))


@lru_cache(maxsize=64)
def critical(N: int, draws: int, level: float) -> float:
    """Return the tail whose limits hold uniform ranks (N,) everywhere with probability at least 1 − level."""
    cells = uniform_cells(draws)
    low, high = np.log(level / len(points(draws)) / 2.0), np.log(level)
    while high - low > 0.005:
        middle = 0.5 * (low + high)
        if 1.0 - staying(N, *limits(N, draws, float(np.exp(middle))), cells) <= level:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def shifted(draws: int, bias: float, ratio: float) -> Array:
    """Return the probabilities of the ranks 0 … draws among the draws of a wrong posterior.

    Where the posterior is N(0, 1) and the draws are from N(bias, ratio²), a true value z has rank
    Binomial(draws, Φ((z − bias) / ratio)).
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z = 8.0 * nodes
    weights = 8.0 * weights * stats.norm.pdf(z)
    chance = np.clip(ndtr((z - bias) / ratio), 1e-300, 1.0 - 1e-16)
    found = stats.binom.pmf(np.arange(draws + 1)[:, None], draws, chance) @ weights
    return np.asarray(found / found.sum())


def power(N: int, draws: int, level: float, bias: float = 0.0, ratio: float = 1.0) -> float:
    """Return the probability that N ranks leave the band of this level if the posterior is wrong by so much.

    Parameters
    ----------
    N, draws
        Simulations, and draws among which each truth is ranked.
    level
        Of the band.
    bias
        Mean of the draws minus that of the posterior, in posterior sds.
    ratio
        Their sd over that of the posterior.

    Examples
    --------
    >>> power(1000, 199, 0.05) <= 0.05
    True
    >>> power(100, 199, 0.05, bias=1.0) > 0.99
    True
    """
    at = points(draws)
    cumulative = np.concatenate([[0.0], np.cumsum(shifted(draws, bias, ratio))])
    cells = np.diff(cumulative[np.concatenate([[0], at, [draws + 1]])])
    return 1.0 - staying(N, *limits(N, draws, critical(N, draws, level)), cells)

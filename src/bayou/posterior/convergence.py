"""R-hat and effective sample sizes of draws, in NumPy alone.

They agree with arviz_stats, whose import takes longer than a fit.
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.special import chdtri, ndtri

from bayou._types import Array

__all__ = ["effective_size", "r_hat", "tail_shape", "agreement_bar"]


def _split(x: Array) -> Array:
    """Cut each chain in two halves (the middle draw of an odd number is left out)."""
    half = x.shape[-1] // 2
    return np.concatenate((x[..., :half], x[..., x.shape[-1] - half :]), axis=-2)


def _average_ranks(flat: Array) -> Array:
    """Ranks from 1 along the last axis, ties sharing their average."""
    size = flat.shape[-1]
    order = np.argsort(flat, axis=-1)
    ordered = np.take_along_axis(flat, order, axis=-1)
    position = np.arange(1.0, size + 1.0)
    ranks = np.empty(flat.shape)
    new = np.diff(ordered, axis=-1) != 0.0
    for row in range(flat.shape[0]):
        averaged = position
        if not new[row].all():
            starts = np.flatnonzero(np.concatenate(([True], new[row])))
            lengths = np.diff(np.append(starts, size))
            averaged = np.repeat(starts + (lengths + 1) / 2.0, lengths)
        ranks[row, order[row]] = averaged
    return ranks


def _normal_scores(x: Array) -> Array:
    """Replace draws by the normal quantiles of their ranks over all chains (Blom's fractions)."""
    flat = x.reshape(x.shape[0], -1)
    return ndtri((_average_ranks(flat) - 0.375) / (flat.shape[1] + 0.25)).reshape(x.shape)  # type: ignore[no-any-return]


def _potential_scale(x: Array) -> Array:
    size = x.shape[-1]
    within = x.var(axis=-1, ddof=1).mean(axis=-1)
    between = x.mean(axis=-1).var(axis=-1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(between / within + (size - 1) / size)  # type: ignore[no-any-return]


def r_hat(draws: Array) -> Array:
    """Rank-normalised split R-hat: the larger of that of the draws and of the folded draws.

    Parameters
    ----------
    draws
        Shape (parameters, chain, draw). A single chain is compared with itself, half against half.

    Returns
    -------
    numpy.ndarray
        One number per parameter; NaN where all draws are equal, or fewer than 4 draws a chain.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Bayesian Analysis 16(2), 667-718.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(1, 4, 1000))
    >>> bool(abs(r_hat(x)[0] - 1.0) < 0.01)
    True
    """
    if draws.shape[-1] < 4:
        return np.full(draws.shape[0], np.nan)
    halves = _split(draws)
    median = np.median(halves, axis=(-2, -1), keepdims=True)
    # draws of two values are all equal when folded: that says nothing, and must not hide what the others say
    larger = np.fmax(
        _potential_scale(_normal_scores(halves)), _potential_scale(_normal_scores(np.abs(halves - median)))
    )
    return np.where(np.isnan(draws).any(axis=(-2, -1)), np.nan, larger)


def effective_size(draws: Array, kind: str = "bulk") -> Array:
    """Effective sample size: of the normal scores (bulk), the 5 and 95 % quantiles (tail) or the mean.

    Autocorrelations are summed over Geyer's initial monotone sequence of positive pairs, with the
    variance between chains in the denominator; split chains throughout.

    Parameters
    ----------
    draws
        Shape (parameters, chain, draw).
    kind
        ``"bulk"``, ``"tail"`` or ``"mean"``.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(2, 4, 500))
    >>> effective_size(x).shape
    (2,)
    """
    if draws.shape[-1] < 4:
        return np.full(draws.shape[0], np.nan)
    if kind == "mean":
        return np.array([_chain_size(x) for x in _split(draws)])
    missing = np.isnan(draws).any(axis=(-2, -1))
    if kind == "bulk":
        return np.where(missing, np.nan, np.array([_chain_size(x) for x in _normal_scores(_split(draws))]))
    cuts = np.quantile(draws.reshape(draws.shape[0], -1), (0.05, 0.95), axis=-1)
    below = [_split((draws <= cut[:, None, None]).astype(np.float64)) for cut in cuts]
    sizes = np.array([[_chain_size(x) for x in side] for side in below]).reshape(2, -1)
    return np.where(missing, np.nan, sizes.min(axis=0))


def _chain_size(x: Array) -> float:
    """Effective number of draws in chains of shape (chain, draw)."""
    chains, size = x.shape
    if not np.isfinite(x).all():
        return np.nan
    if np.ptp(x) < 1e-15:
        return float(x.size)
    centred = x - x.mean(axis=1, keepdims=True)
    length = fft.next_fast_len(2 * size, real=True)
    # only the average over chains is needed, so one inverse transform serves them all
    power = (np.abs(fft.rfft(centred, n=length, axis=1)) ** 2).mean(axis=0)
    covariance = fft.irfft(power, n=length)[:size] / size
    within = covariance[0] * size / (size - 1.0)
    total = covariance[0] + (x.mean(axis=1).var(ddof=1) if chains > 1 else 0.0)
    rho = 1.0 - (within - covariance) / total
    rho[0] = 1.0
    even, odd = rho[: size - size % 2 : 2], rho[1::2]
    pairs = even + odd
    longest = max(0, -(-(size - 2) // 2) - 1)
    stop = np.flatnonzero(pairs[: longest + 1] <= 0.0)
    last = int(stop[0]) if stop.size else longest
    tail = even[last] if even[last] > 0.0 or pairs[last] >= 0.0 else 0.0
    time = -1.0 + 2.0 * np.minimum.accumulate(pairs[:last]).sum() + tail
    return float(x.size / max(time, 1.0 / np.log10(x.size)))


def agreement_bar(draws: Array, false_alarms: float) -> Array:
    """R-hat that chains which agree stay below but with this probability, given how well each one mixes by itself.

    Split in m halves of n effective draws in all, R-hat² is about 1 + (m / n) chi²(m − 1) / (m − 1); n is summed over
    the chains, each looked at alone, so that chains which disagree do not excuse it.
    """
    m = 2 * draws.shape[1]
    alone = [draws[:, c : c + 1] for c in range(draws.shape[1])]
    n = np.fmin(
        np.sum([effective_size(x, "bulk") for x in alone], axis=0),
        np.sum([effective_size(x, "tail") for x in alone], axis=0),
    )
    return np.asarray(np.sqrt(1.0 + m / n * chdtri(m - 1.0, 0.5 * false_alarms) / (m - 1.0)))


def tail_shape(draws: Array) -> Array:
    """Shape k of a generalised Pareto distribution of the heavier tail: no mean from k = 1, no variance from 1/2.

    References
    ----------
    Zhang & Stephens (2009), Technometrics 51(3), 316-325; Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25.
    """
    flat = np.sort(draws.reshape(draws.shape[0], -1), axis=-1)
    size = flat.shape[1]
    count = int(min(0.2 * size, 3.0 * np.sqrt(size)))
    if count < 5:
        return np.full(draws.shape[0], np.nan)
    upper = flat[:, -count:] - flat[:, -count - 1, None]
    lower = (flat[:, count, None] - flat[:, :count])[:, ::-1]
    return np.array([np.fmax(_pareto_shape(a), _pareto_shape(b)) for a, b in zip(upper, lower, strict=True)])


def _pareto_shape(excess: Array) -> float:
    """Posterior mean of k from ascending excesses over a threshold, NaN where they are tied or not finite."""
    n = len(excess)
    quartile = excess[int(n / 4 + 0.5) - 1]
    if not (quartile > 0.0 and np.isfinite(excess[-1])):
        return np.nan
    m = 30 + int(np.sqrt(n))
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * quartile)
    k = np.log1p(-theta[:, None] * excess).mean(axis=1)
    height = n * (np.log(-theta / k) - k - 1.0)
    with np.errstate(over="ignore"):  # a weight of nothing
        weight = 1.0 / np.exp(height - height[:, None]).sum(axis=1)
    k = np.log1p(-(weight @ theta / weight.sum()) * excess).mean()
    return float((n * k + 5.0) / (n + 10.0))

"""Numbers behind the pictures: fewer draws, densities, autocorrelations, chosen parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import fft

from bayou._types import Array
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, listing
from bayou.plot.style import positive
from bayou.posterior import Posterior

__all__ = ["autocorrelations", "chosen_rows", "density", "engine_title", "thinned"]


def thinned(posterior: Posterior, draws: int | None) -> Posterior:
    """Return the same result with about ``draws`` draws in all chains together, evenly spaced.

    Predictions for a picture need no more than a few thousand draws. None takes every draw whose
    group coefficients were kept.
    """
    kept = posterior.effect_draws
    wanted = len(kept) if draws is None else -(-positive("draws", draws) // posterior.chains)
    step = max(1, len(kept) // wanted)
    places = np.arange(len(kept))[::step]
    chosen = {
        key: values[:, kept[places] if values.shape[1] == posterior.size else places]
        for key, values in posterior.draws.items()
    }
    info = {key: value for key, value in posterior.info.items() if key != "effect_draws"}
    return Posterior(posterior.model, posterior.engine, chosen, info=info)


def chosen_rows(posterior: Posterior, parameters: str | Iterable[str] | None, limit: int) -> tuple[list[str], str]:
    """Return the summary rows to show, and a sentence about those left out.

    Parameters
    ----------
    posterior
        The result.
    parameters
        Names of summary rows, or their beginnings (``"beta"``, ``"sd_school"``); None takes the first
        ``limit`` rows.
    limit
        The most rows that are shown unless they are named.

    Raises
    ------
    DataError
        For a name that no row has.
    """
    rows = [name for name, (key, _) in posterior.rows.items() if posterior.draws[key].size]
    if parameters is None:
        shown = rows[: positive("limit", limit)]
        if len(shown) == len(rows):
            return shown, ""
        return shown, f"The first {len(shown)} of {len(rows)} parameters; others can be named with parameters=."
    found: list[str] = []
    for asked in [parameters] if isinstance(parameters, str) else list(parameters):
        own = [name for name in rows if name == asked] or [
            name for name in rows if name.partition("[")[0] == str(asked)
        ]
        if not own:
            raise DataError(
                f"{asked!r} is no row of the summary.{did_you_mean(str(asked), rows)} The rows are {listing(rows)}."
            )
        found += own
    return list(dict.fromkeys(found)), ""


def density(values: Array, grid: Array) -> Array:
    """Return a Gaussian kernel density estimate on an evenly spaced grid (Silverman's bandwidth).

    The values are counted in the cells of the grid and the counts are smoothed, so that a million
    values cost no more than a thousand. References: Silverman (1982), Applied Statistics 31, 93-99.
    """
    step = grid[1] - grid[0]
    quarters = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std()), float(quarters[1] - quarters[0]) / 1.34) or float(values.std())
    width = max(0.9 * spread * len(values) ** -0.2, step)
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    counts = np.histogram(values, edges)[0] / (len(values) * step)
    reach = int(np.ceil(4 * width / step))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * step / width))
    # mass that the kernel carries over an end comes back, so that a density at a border stays whole
    padded = np.pad(counts, reach, mode="constant")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="same")
    return np.asarray(smooth[reach : reach + len(grid)])


def autocorrelations(chains: Array, lags: int) -> Array:
    """Return the autocorrelations at lags 0 to ``lags`` of each chain about its own mean.

    Parameters
    ----------
    chains
        Shape (chain, draw).
    lags
        Fewer than there are draws.

    Returns
    -------
    numpy.ndarray
        Shape (chain, lags + 1); NaN for a chain that never moves.
    """
    size = chains.shape[1]
    centred = chains - chains.mean(axis=1, keepdims=True)
    spectrum = fft.rfft(centred, n=fft.next_fast_len(2 * size, real=True), axis=1)
    covariance = fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : lags + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / np.where(covariance[:, :1] > 0.0, covariance[:, :1], np.nan))


def engine_title(posteriors: Sequence[Posterior]) -> list[str]:
    """Return a short title for each result: its engine and how it sampled."""
    titles = []
    for posterior in posteriors:
        engine = str(posterior.info.get("engine", posterior.engine))
        method = str(posterior.info.get("method", "")).partition(":")[0]
        title = f"{engine}, {method}" if method else engine
        titles.append(title[:1].upper() + title[1:])
    return titles

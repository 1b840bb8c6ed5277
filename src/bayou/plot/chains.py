"""Pictures of the chains: their path and density, their autocorrelation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.plot.numbers import autocorrelations, chosen_rows, density, engine_title
from bayou.plot.style import (
    BLACK,
    BLUE,
    CHAINS,
    GRAY,
    NORMAL,
    SMALL,
    Picture,
    canvas,
    finish,
    grid_shape,
    panels,
    plain,
    positive,
    shortened,
    ticks,
)
from bayou.posterior import Posterior
from bayou.posterior.convergence import effective_size, r_hat

__all__ = ["draw_autocorrelation", "draw_trace"]

POINTS = 1000  # more points of a chain than this cannot be told apart


def _require_chains(picture: str, posteriors: Sequence[Posterior]) -> None:
    for posterior in posteriors:
        if posterior.estimates is not None:
            raise Unsupported(
                f"fit.plot.{picture}() is of Markov chains, and {posterior.estimates.method} has none: its draws are "
                "independent. Look at fit.verdict for its convergence and at fit.plot.coefficients() for its estimates."
            )
        if not posterior.chained:
            engine = posterior.engine.partition("(")[0]
            raise Unsupported(
                f"fit.plot.{picture}() is of Markov chains, and {engine} has none: its draws are independent. Look at "
                "fit.verdict for its check of itself and at fit.plot.marginals() for its densities."
            )


def draw_trace(
    posterior: Posterior,
    parameters: str | Iterable[str] | None,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw densities and paths of parameters; see `bayou.plot.Plots.trace`."""
    _require_chains("trace", [posterior])
    names, left_out = chosen_rows(posterior, parameters, limit)
    chains = posterior.chains
    picture = canvas(8.0, 0.75 + 0.95 * len(names), size)
    axes = panels(picture, len(names), 2, width_ratios=(1, 2.6))
    step = max(1, -(-posterior.size // POINTS))
    shown = np.arange(posterior.size)[::step]
    values = np.array([posterior.values(posterior.rows[name]) for name in names])
    rates, sizes = r_hat(values), effective_size(values)
    for k, name in enumerate(names):
        left, right = axes[2 * k], axes[2 * k + 1]
        _densities(left, values[k])
        for chain in range(chains):
            colour = CHAINS[chain % len(CHAINS)]
            right.plot(shown, values[k, chain, shown], color=colour, linewidth=0.35, alpha=0.85)
        right.set_xlim(0, max(posterior.size - 1, 1))
        right.margins(y=0.04)
        right.yaxis.set_major_locator(ticks(3))
        left.set_title(plain(shortened(name, 60)), loc="left", size=NORMAL, color=BLACK)
        right.set_title(_quality(rates[k], sizes[k]), loc="right", size=SMALL, color=GRAY)
        if k < len(names) - 1:
            right.tick_params(labelbottom=False)
    axes[-1].set_xlabel("draw")
    every = f"Every {_ordinal(step)} draw of a path is drawn." if step > 1 else ""
    handles = [
        (Line2D([], [], color=CHAINS[c % len(CHAINS)], linewidth=1.4), f"chain {c + 1}") for c in range(min(chains, 8))
    ]
    title = f"Draws by {engine_title([posterior])[0]}"
    return finish(picture, title, (left_out, every), handles if chains > 1 else (), save)


def _densities(ax: Axes, chains: Array) -> None:
    low, high = float(chains.min()), float(chains.max())
    room = 0.05 * (high - low) or 0.5
    grid = np.linspace(low - room, high + room, 256)
    for number, chain in enumerate(chains):
        if np.ptp(chain) > 0.0:
            ax.plot(grid, density(chain, grid), color=CHAINS[number % len(CHAINS)], linewidth=0.9)
    ax.set_ylim(bottom=0.0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _quality(rate: float, size: float) -> str:
    if not np.isfinite(rate):
        return "R-hat cannot be computed"
    return f"R-hat {rate:.3f}, effective draws {size:,.0f}"


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def draw_autocorrelation(
    posteriors: Sequence[Posterior],
    parameters: str | Iterable[str] | None,
    lags: int,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw autocorrelations, fits side by side; see `bayou.plot.Plots.autocorrelation`."""
    _require_chains("autocorrelation", posteriors)
    first = posteriors[0]
    names, left_out = chosen_rows(first, parameters, limit)
    common = [name for name in names if all(name in one.rows for one in posteriors)]
    if not common:
        raise DataError("The fits have no parameter in common, so there is nothing to put side by side.")
    last = min(positive("lags", lags), min(one.size for one in posteriors) - 1)
    if last < 1:
        raise DataError("Autocorrelations need at least 2 draws in each chain.")
    count = len(posteriors)
    if count == 1:
        longest = max(map(len, common))
        rows, columns = grid_shape(len(common), 4 if longest < 28 else 3 if longest < 36 else 2)
        width, height = max(2.1, 6.4 / columns) * columns + 0.6, 1.35 * rows + 0.8
    else:
        rows, columns = len(common), count
        width, height = max(3.2 * columns, 6.0), 1.05 * rows + 1.0
    picture = canvas(max(width, 5.0), height, size)
    axes = panels(picture, rows, columns, sharex=True, sharey=True)
    titles = engine_title(posteriors)
    for k, name in enumerate(common):
        for place, posterior in enumerate(posteriors):
            ax = axes[k * count + place]
            _correlogram(ax, posterior.values(posterior.rows[name]), last)
            ax.set_title(plain(shortened(name, int(14.5 * width / columns))), loc="left", size=NORMAL, color=BLACK)
            if count > 1 and k == 0:
                above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (0, 18)}
                ax.annotate(plain(titles[place]), (0, 1), **above, size=NORMAL, color=BLACK, weight="bold")
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(common) * count)
        below = place + columns
        if below >= len(common) * count:
            ax.set_xlabel("lag (draws)")
            ax.tick_params(labelbottom=True)
    axes[0].set_ylim(min(-0.12, axes[0].get_ylim()[0]), 1.02)
    axes[0].set_xlim(-0.5, last + 0.5)
    thins = {int(one.info.get("thin", 1)) for one in posteriors}
    thin = f"Draws are {max(thins)} scans apart." if len(thins) == 1 and max(thins) > 1 else ""
    meaning = "Line: average over chains; gray: each chain."
    title = "Autocorrelation side by side" if count > 1 else f"Autocorrelation of the draws by {titles[0]}"
    return finish(picture, title, (meaning, thin, left_out), save=save)


def _correlogram(ax: Axes, chains: Array, last: int) -> None:
    rho = autocorrelations(chains, last)
    lag = np.arange(last + 1)
    ax.axhline(0.0, color=GRAY, linewidth=0.5)
    moving = rho[np.isfinite(rho).all(axis=1)]
    if not len(moving):
        ax.text(0.5, 0.5, "never moved", transform=ax.transAxes, ha="center", size=SMALL, color=GRAY)
        return
    for one in moving if len(chains) > 1 else ():
        ax.plot(lag, one, color=GRAY, linewidth=0.4, alpha=0.6)
    mean = moving.mean(axis=0)
    ax.fill_between(lag, 0.0, mean, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(lag, mean, color=BLUE, linewidth=1.1)
    effective = float(effective_size(chains[None], "mean")[0])
    ax.text(
        0.98,
        0.93,
        f"{effective:,.0f} of {chains.size:,}\ndraws effective",
        transform=ax.transAxes,
        ha="right",
        va="top",
        size=SMALL - 0.5,
        color=GRAY,
        linespacing=1.3,
    )

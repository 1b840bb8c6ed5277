"""Data that the model would make, beside the data that there are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayou._types import Array
from bayou.design import Design
from bayou.errors import Unsupported
from bayou.plot.forests import percent
from bayou.plot.grids import covariates
from bayou.plot.lines import response_words
from bayou.plot.numbers import density, thinned
from bayou.plot.style import (
    BLACK,
    BLUE,
    GRAY,
    LIGHT,
    NORMAL,
    ORANGE,
    Picture,
    canvas,
    finish,
    panels,
    plain,
    positive,
    ticks,
)
from bayou.posterior import Posterior
from bayou.predict import predict
from bayou.predict.linear import Rows, training_rows
from bayou.predict.prediction import outcomes_of

__all__ = ["draw_predictive_check"]

MOST_ROWS, ROW_PANEL, LINES, BARS, BINS = 5000, 120, 40, 40, 20
DISCRETE = ("bernoulli", "binomial", "poisson", "negative_binomial")


def draw_predictive_check(
    posterior: Posterior,
    interval: float,
    draws: int,
    seed: int | None,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw data and replicated data; see `bayou.plot.Plots.predictive_check`."""
    chance = percent(interval)
    design = posterior.model.design
    usable = np.flatnonzero(design.trials > 0.0)
    some = usable[np.linspace(0, len(usable) - 1, min(len(usable), MOST_ROWS)).round().astype(np.int64)]
    whole = design.reduced is None or design.reduced.how == "blocks"
    sample = thinned(posterior, positive("draws", draws))
    if whole:
        made: Any = predict(sample, covariates(design).frame.take(some), kind="outcome", draws=True, seed=seed)
    else:
        made = outcomes_of(sample, _merged_rows(design).taken(some), seed=seed)
    family = posterior.model.family.name
    # zeros and ones that were merged are counts
    binomial = family == "binomial" or (family == "bernoulli" and not whole)
    discrete = family in DISCRETE
    trials = design.trials[some] if binomial else 1.0
    replicated, y = made.values.reshape(-1, len(some)) / trials, design.y[some] / trials
    picture = canvas(8.2, 3.3, size)
    left, right = panels(picture, 1, 2, width_ratios=(1, 1.25))
    if binomial:
        _frequencies(left, y, replicated, np.linspace(0, 1, 11), interval)
        left.set_title("How many rows have each proportion", loc="left", size=NORMAL)
    elif discrete:
        _counts(left, y, replicated, interval)
    else:
        _densities(left, y, replicated)
    bernoulli = family == "bernoulli" and not binomial
    words = response_words(design)
    left.set_xlabel(plain(design.response_name if bernoulli else words))
    right.set_ylabel(plain(words))
    if bernoulli:
        y, replicated, size_of_bin = _bins(y, replicated)
    inside = _row_by_row(right, y, replicated, interval)
    things = f"bins of {size_of_bin} rows" if bernoulli else "rows" if whole else "merged rows"
    right.set_xlabel(things)
    right.set_title(f"{_share(inside)} of the {things} lie in their {chance} interval", loc="left", size=NORMAL)
    many: tuple[Any, str] = (Line2D([], [], color=BLUE, alpha=0.5, linewidth=0.8), "replicated")
    if discrete:
        many = (Patch(color=BLUE, alpha=0.35, linewidth=0), f"replicated, {chance}")
    data = Line2D([], [], color=BLACK, marker="o", markersize=3, linewidth=0 if discrete else 1.3)
    legend: list[tuple[Any, str]] = [(data, "data"), many]
    if inside < 1.0:
        legend.append((Line2D([], [], color=ORANGE, marker="o", markersize=3, linewidth=0), "data outside"))
    fewer = f"{len(some):,} of {design.n:,} rows, evenly spaced." if len(some) < design.n else ""
    shown = f"{min(len(y), ROW_PANEL):,} {things}"
    caption = (
        f"{len(replicated):,} replicated data sets from the groups that were observed.",
        f"Right: {shown}, in the order of what is predicted.",
        fewer,
    )
    return finish(picture, f"Predictive check of {words}", caption, legend, save)


def _merged_rows(design: Design) -> Rows:
    """Return the rows of a design whose identical rows were merged: their sums are what is replicated.

    Raises
    ------
    Unsupported
        Where rows were summed.
    """
    if design.reduced is not None and design.reduced.distinct is None:
        raise Unsupported(
            f"A predictive check compares rows, and the {design.given:,} rows were summed to {design.n:,} as they were "
            "read. Fit a sample of the rows in memory."
        )
    return training_rows(design)


def _share(inside: float) -> str:
    """Write a share in per cent; 100 is kept for all."""
    return "100 %" if inside == 1.0 else f"{min(100 * inside, 99.9):.1f} %"


def _bins(y: Array, replicated: Array) -> tuple[Array, Array, int]:
    """Average rows of 0 and 1 over bins of similar probability; a row alone says nothing of its fit."""
    size = max(1, -(-len(y) // BINS))
    order = np.argsort(replicated.mean(axis=0), kind="stable")
    starts = np.arange(0, len(y), size)
    counts = np.diff(np.append(starts, len(y)))
    shares = np.add.reduceat(replicated[:, order], starts, axis=1) / counts
    return np.add.reduceat(y[order], starts) / counts, shares, size


def _densities(ax: Axes, y: Array, replicated: Array) -> None:
    low, high = np.quantile(replicated, (0.001, 0.999))
    low, high = min(low, y.min()), max(high, y.max())
    room = 0.05 * (high - low or 1.0)
    grid = np.linspace(low - room, high + room, 512)
    for one in replicated[:: max(1, len(replicated) // LINES)][:LINES]:
        ax.plot(grid, density(one, grid), color=BLUE, linewidth=0.4, alpha=0.35)
    ax.plot(grid, density(y, grid), color=BLACK, linewidth=1.4)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(grid[0], grid[-1])
    ax.set_title("Density of the data and of replicated data", loc="left", size=NORMAL)


def _counts(ax: Axes, y: Array, replicated: Array, interval: float) -> None:
    most = float(max(y.max(), np.quantile(replicated, 0.999)))
    width = max(1, int(np.ceil((most + 1) / BARS)))
    _frequencies(ax, y, replicated, np.arange(0, most + 2 * width, width) - 0.5, interval)
    if most <= 1.0:
        ax.set_xticks([0, 1])
    each = "each value" if width == 1 else f"each {width} values"
    ax.set_title(f"How many rows have {each}", loc="left", size=NORMAL)


def _frequencies(ax: Axes, y: Array, replicated: Array, edges: Array, interval: float) -> None:
    """Draw how many rows fall between edges, in the data and in replicated data."""
    bins, width = len(edges) - 1, edges[1] - edges[0]

    def count(values: Array) -> Array:
        # a value on an edge, such as a proportion of .3, belongs to the bar on its right despite rounding
        places = np.clip(np.floor((values - edges[0]) / width + 1e-9).astype(np.int64), 0, bins - 1)
        return np.array([np.bincount(row, minlength=bins) for row in np.atleast_2d(places)], dtype=np.float64)

    lower, middle, upper = np.quantile(count(replicated), (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=0)
    centres = edges[:-1] + width / 2
    ax.bar(centres, upper - lower, 0.8 * width, bottom=lower, color=BLUE, alpha=0.3, linewidth=0)
    ax.hlines(middle, centres - 0.4 * width, centres + 0.4 * width, color=BLUE, linewidth=1.0)
    ax.plot(centres, count(y)[0], "o", color=BLACK, markersize=3)
    ax.yaxis.set_major_locator(ticks(whole=True))
    ax.set_ylabel("rows")
    ax.set_ylim(bottom=0.0)


def _row_by_row(ax: Axes, y: Array, replicated: Array, interval: float) -> float:
    """Draw intervals of some rows; return the share of all rows that lie in theirs."""
    lower, middle, upper = np.quantile(replicated, (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=0)
    inside = (lower <= y) & (y <= upper)
    order = np.lexsort((replicated.mean(axis=0), middle))
    shown = order[np.linspace(0, len(y) - 1, min(len(y), ROW_PANEL)).round().astype(np.int64)]
    places = np.arange(len(shown))
    ax.vlines(places, lower[shown], upper[shown], color=LIGHT, linewidth=1.1 if len(shown) > 40 else 2.0)
    ax.plot(places, middle[shown], "_", color=GRAY, markersize=2.4, markeredgewidth=0.8)
    for mask, colour in ((inside[shown], BLACK), (~inside[shown], ORANGE)):
        ax.plot(places[mask], y[shown][mask], "o", color=colour, markersize=2.4, markeredgewidth=0)
    ax.set_xticks([])
    return float(inside.mean())

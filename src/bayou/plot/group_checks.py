"""A number of each group's data beside that of replicated data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from matplotlib.lines import Line2D

from bayou._types import Array
from bayou.design import Design
from bayou.errors import DataError, Unsupported
from bayou.formula.words import label_text, plural
from bayou.plot.forests import percent
from bayou.plot.lines import response_words
from bayou.plot.numbers import thinned
from bayou.plot.style import (
    BLACK,
    GRAY,
    LIGHT,
    NORMAL,
    ORANGE,
    SMALL,
    Picture,
    canvas,
    finish,
    panels,
    plain,
    positive,
    shortened,
    spread_out,
)
from bayou.posterior import Posterior
from bayou.predict import Groups, predict
from bayou.predict.leave_out import group_labels
from bayou.predict.linear import training_rows
from bayou.predict.prediction import outcomes_of

__all__ = ["Statistic", "draw_group_check"]

Statistic: TypeAlias = str | Callable[[Array], float]
NUMBERS = 20_000_000  # replicated responses held at a time
FEWEST = 50  # replicated data sets
BINS = 10

STATISTICS: dict[str, Callable[[Array], Any]] = {
    "mean": lambda y: y.mean(axis=-1),
    "sd": lambda y: y.std(axis=-1, ddof=1) if y.shape[-1] > 1 else np.full(y.shape[:-1], np.nan),
    "min": lambda y: y.min(axis=-1),
    "max": lambda y: y.max(axis=-1),
    "median": lambda y: np.median(y, axis=-1),
    "zeros": lambda y: (y == 0.0).mean(axis=-1),
}
FROM = {
    "observed": "from the groups that were observed",
    "new": "from new groups in place of these",
    "population": "from groups whose coefficients are zero",
    "marginal": "whose rows each have a new group",
}
WORDS = {"zeros": "share of zeros", "min": "smallest", "max": "largest"}


def draw_group_check(
    posterior: Posterior,
    by: str,
    statistic: Statistic,
    groups: Groups,
    interval: float,
    draws: int,
    limit: int,
    seed: int | None,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw a statistic of each group in its predictive interval; see `bayou.plot.Plots.predictive_check`."""
    chance, design = percent(interval), posterior.model.design
    _, labels, codes = group_labels(design, by)
    of, word = _chosen(statistic)
    times = _refuse_merged(design, statistic, groups)
    sample = thinned(posterior, max(FEWEST, min(positive("draws", draws), NUMBERS // design.n)))
    if times is None:
        made: Any = predict(sample, kind="outcome", groups=groups, draws=True, seed=seed)
    else:
        made = outcomes_of(sample, training_rows(design), groups, seed)
    family = posterior.model.family.name
    binomial = family == "binomial" or (family == "bernoulli" and times is not None)
    # of a binomial response, each trial is one of the group's values
    replicated, y = made.values.reshape(-1, design.n), design.y
    # where rows were merged, each row as given is one of the values
    counts = design.trials if binomial else times
    pooled = counts is not None and statistic == "mean"
    if binomial and not pooled:
        trials = np.where(design.trials > 0.0, design.trials, 1.0)
        replicated, y = replicated / trials, y / trials
    observed, many = np.empty(len(labels)), np.empty((len(replicated), len(labels)))
    for j in range(len(labels)):
        own = np.flatnonzero(codes == j)
        if pooled:
            assert counts is not None
            total = max(float(counts[own].sum()), 1e-300)
            observed[j], many[:, j] = y[own].sum() / total, replicated[:, own].sum(axis=1) / total
        else:
            observed[j], many[:, j] = of(y[own]), of(replicated[:, own])
    known = np.flatnonzero(np.isfinite(observed) & np.isfinite(many).all(axis=0))
    if not len(known):
        raise DataError(f"statistic={statistic!r} gives no number in any group of {by!r}.")
    lower, middle, upper = np.quantile(many[:, known], (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=0)
    inside = (lower <= observed[known]) & (observed[known] <= upper)
    order = np.lexsort((observed[known], middle))
    shown = order[spread_out(len(order), positive("limit", limit))]
    picture = canvas(7.6, 1.3 + 0.16 * max(len(shown), 9), size)
    left, right = panels(picture, 1, 2, width_ratios=(2.2, 1))
    places = np.arange(len(shown))
    left.hlines(places, lower[shown], upper[shown], color=LIGHT, linewidth=2.6)
    left.plot(middle[shown], places, "|", color=GRAY, markersize=6, markeredgewidth=1.0)
    for mask, colour in ((inside[shown], BLACK), (~inside[shown], ORANGE)):
        left.plot(observed[known][shown][mask], places[mask], "o", color=colour, markersize=3.6, markeredgewidth=0)
    left.set_yticks(places, [plain(shortened(label_text(labels[known[k]]), 18)) for k in shown], fontsize=SMALL)
    left.set_ylim(-0.7, len(shown) - 0.3)
    words = response_words(design)
    left.set_xlabel(plain(f"{word} of {words}"))
    left.set_ylabel(plain(by))
    _ranks(right, observed[known], many[:, known])
    title = f"{int(inside.sum())} of {len(known)} levels of {by} lie in their {chance} interval"
    fewer = f"{len(shown)} of {plural(len(known), 'group')}, evenly spaced in the order of what is predicted."
    lost = len(labels) - len(known)
    caption = (
        f"{len(replicated):,} replicated data sets {FROM[groups]}.",
        fewer if len(shown) < len(known) else "",
        f"{plural(lost, 'group')} without such a number left out." if lost else "",
        "Right: share of replicated data sets below the data, group by group; about as many in each bar if the model "
        "is right, fewer at the ends if it saw the data.",
    )
    legend: list[tuple[Any, str]] = [
        (Line2D([], [], color=BLACK, marker="o", markersize=3.6, linewidth=0), "data"),
        (Line2D([], [], color=LIGHT, linewidth=2.6), f"replicated, {chance}"),
    ]
    if not inside.all():
        legend.append((Line2D([], [], color=ORANGE, marker="o", markersize=3.6, linewidth=0), "data outside"))
    return finish(picture, title, caption, legend, save)


def _refuse_merged(design: Design, statistic: Statistic, groups: Groups) -> Array | None:
    """Return how many rows each stands for where identical ones were merged, None where none were.

    Raises
    ------
    Unsupported
        For what cannot be told from merged or summed rows.
    """
    reduced = design.reduced
    if reduced is None or reduced.how == "blocks":
        return None
    if reduced.distinct is None or statistic != "mean" or groups == "marginal":
        raise Unsupported(
            f"The {design.given:,} rows were {reduced.how} to {design.n:,} as they were read: of merged rows "
            "statistic='mean' can be replicated, from groups='observed', 'new' or 'population'; of summed rows none. "
            "Fit in memory (stream=False), or a sample of the rows."
        )
    return reduced.frequency


def _ranks(ax: Any, observed: Array, many: Array) -> None:
    """Draw how many groups have each share of replicated statistics below theirs; half of ties count."""
    share = (many < observed).mean(axis=0) + 0.5 * (many == observed).mean(axis=0)
    counts, edges = np.histogram(share, BINS, (0.0, 1.0))
    ax.bar(edges[:-1] + 0.5 / BINS, counts, 0.9 / BINS, color=LIGHT, linewidth=0)
    ax.axhline(len(observed) / BINS, color=GRAY, linewidth=0.8, linestyle=(0, (3, 2)))
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel("share below the data")
    ax.set_ylabel("groups")
    ax.title.set_size(NORMAL)


def _chosen(statistic: Statistic) -> tuple[Callable[[Array], Any], str]:
    """Return a function of values (…, n) of one group, and its name."""
    if isinstance(statistic, str):
        if statistic not in STATISTICS:
            raise DataError(
                f"statistic={statistic!r} is not known; give one of {', '.join(STATISTICS)}, or a function of the "
                "values of one group."
            )
        return STATISTICS[statistic], WORDS.get(statistic, statistic)
    if not callable(statistic):
        raise DataError(f"statistic is a {type(statistic).__name__}; give a name or a function of one group's values.")
    function = statistic

    def each(y: Array) -> Any:
        return function(y) if y.ndim == 1 else np.array([function(row) for row in y], dtype=np.float64)

    return each, getattr(function, "__name__", "statistic").replace("<lambda>", "statistic")

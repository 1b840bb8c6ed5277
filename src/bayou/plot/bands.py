"""Three bands side by side: the typical group, a new group, a new outcome (Hoff's figure 11.5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bayou._types import Array
from bayou.formula.words import label_text
from bayou.plot.forests import percent
from bayou.plot.grids import Covariates, covariates
from bayou.plot.lines import response_words, shown_responses
from bayou.plot.numbers import thinned
from bayou.plot.style import BLACK, BLUE, GRAY, NORMAL, Picture, canvas, finish, panels, plain
from bayou.posterior import Posterior
from bayou.predict import predict
from bayou.predict.prediction import Groups, Kind
from bayou.predict.structured import acts_as_group

__all__ = ["draw_bands"]

INVERSES = {"identity": "{}", "log": "exp({})", "logit": "logit\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}({})"}
INVERSES |= {"probit": "\N{GREEK CAPITAL LETTER PHI}({})", "cloglog": "1 \N{MINUS SIGN} exp(\N{MINUS SIGN}exp({}))"}
OUTCOMES = 24_000  # draws of an outcome at each point
THETA, BETA = "\N{GREEK SMALL LETTER THETA}\N{PRIME}x", "\N{GREEK SMALL LETTER BETA}\N{PRIME}x"


@dataclass(frozen=True)
class Panel:
    """One of the three: what is predicted and how it is called."""

    formula: str
    words: str
    kind: Kind
    groups: Groups


def draw_bands(
    posterior: Posterior,
    x: str,
    interval: float,
    draws: int | None,
    seed: int | None,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw the bands along a covariate; see `bayou.plot.Plots.bands`."""
    design = posterior.model.design
    chance = percent(interval)
    known = covariates(design)
    known.known(x)
    template = known.template()
    points = known.points(x)
    table = known.along(x, points, template)
    sample = thinned(posterior, draws)
    trials = design.rebuild(table).trials
    kinds = _panels(posterior)
    picture = canvas(2.5 * len(kinds) + 0.7, 3.2, size)
    axes = panels(picture, 1, len(kinds), sharey=True)
    for ax, panel in zip(axes, kinds, strict=True):
        quantiles = _quantiles(sample, table, panel, interval, seed)
        if panel.kind == "outcome":
            quantiles = quantiles / trials
            _data(ax, known, x)
        _band(ax, points, quantiles, x in known.categories)
        ax.set_title(plain(f"{panel.formula}\n{panel.words}"), loc="left", size=NORMAL, color=BLACK, linespacing=1.4)
        ax.set_xlabel(plain(x))
    axes[0].set_ylabel(plain(response_words(design)))
    _limits(axes, quantiles, shown_responses(design))
    caption = (
        f"{'Posterior median' if posterior.estimates is None else 'Median'} and {chance} interval at each {x}; "
        "dots: the data.",
        known.held(x, template),
        _centre(known, template),
        _trials(posterior, trials),
    )
    title = f"{response_words(design)} along {x}: uncertainty adds up from left to right"
    return finish(picture, title, caption, save=save)


def _quantiles(sample: Posterior, table: dict[str, Any], panel: Panel, interval: float, seed: int | None) -> Array:
    """Return lower, median and upper at each row; outcomes are drawn several times for smooth ends."""
    points = len(next(iter(table.values())))
    times = max(1, OUTCOMES // (sample.chains * sample.size)) if panel.kind == "outcome" else 1
    repeated = {name: list(values) * times for name, values in table.items()}
    draws: Any = predict(sample, repeated, panel.kind, panel.groups, draws=True, seed=seed)
    values = np.asarray(draws.values).reshape(-1, points)
    return np.asarray(np.quantile(values, (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=0))


def _panels(posterior: Posterior) -> list[Panel]:
    design = posterior.model.design
    inverse = INVERSES.get(posterior.model.family.link.name, "mean({})")
    response = "Y | x"
    names_of_groups = [grouping.name for grouping in design.groupings]
    names_of_groups += [term.name for term in design.structured if acts_as_group(term)]
    if not names_of_groups:
        return [
            Panel(inverse.format(BETA), "the mean", "mean", "population"),
            Panel(response, "a new outcome", "outcome", "population"),
        ]
    names = " and ".join(names_of_groups) if len(names_of_groups) <= 2 else "group"
    return [
        Panel(inverse.format(THETA), f"population: the typical {names}", "mean", "population"),
        Panel(inverse.format(BETA), f"the mean of a new {names}", "mean", "new"),
        Panel(response, f"a new outcome of a new {names}", "outcome", "new"),
    ]


def _band(ax: Axes, points: Any, quantiles: Array, levels: bool) -> None:
    lower, middle, upper = quantiles
    if levels:
        places = np.arange(len(points))
        ax.vlines(places, lower, upper, color=BLUE, linewidth=1.4)
        ax.plot(places, middle, "o", color="white", markeredgecolor=BLUE, markeredgewidth=1.2, markersize=5)
        ax.set_xticks(places, [plain(label_text(label)) for label in points])
        ax.set_xlim(-0.5, len(points) - 0.5)
        if sum(len(label_text(label)) for label in points) > 24:
            ax.tick_params(axis="x", labelrotation=60)
        return
    ax.fill_between(points, lower, upper, color=BLUE, alpha=0.16, linewidth=0)
    ax.plot(points, lower, color=BLUE, linewidth=0.7)
    ax.plot(points, upper, color=BLUE, linewidth=0.7)
    ax.plot(points, middle, color=BLACK, linewidth=1.3)
    ax.set_xlim(points[0], points[-1])


def _data(ax: Axes, known: Covariates, x: str) -> None:
    y = shown_responses(known.design)
    if x in known.categories:
        levels = list(known.levels(x))
        places = np.array([levels.index(label) for label in known.frame[x].labels()], dtype=np.float64)
        # beside the interval, spread a little so that equal values can be told apart
        values = places + 0.16 + 0.12 * (np.arange(len(y)) * 0.618 % 1.0)
    else:
        values = known.values(x)
    dots = 2.4 if len(y) <= 300 else 1.4
    ax.plot(values, y, "o", color=GRAY, markersize=dots, alpha=0.5, markeredgewidth=0, zorder=1)


def _limits(axes: list[Axes], outcome: Array, y: Array) -> None:
    """Keep the shared scale to the bands and nearly all of the data."""
    most = np.nanquantile(y, (0.002, 0.998))
    low, high = min(outcome.min(), most[0]), max(outcome.max(), most[1])
    room = 0.04 * (high - low or 1.0)
    axes[0].set_ylim(low - room if low != 0.0 else min(0.0, -room / 2), high + room)


def _centre(known: Covariates, template: dict[str, Any]) -> str:
    if not known.centred_by_group:
        return ""
    names = ", ".join(f"{name} {label_text(template[name])}" for name in known.factors)
    return f"Centred as in {names}, the group nearest to the average."


def _trials(posterior: Posterior, trials: Array) -> str:
    if posterior.model.family.name != "binomial":
        return ""
    return f"Outcomes are proportions out of {trials[0]:g} trials, the median."

"""The lines of the groups: data, each group's fit on its own in blue, the mixed fit in black."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayou._types import Array, Integers
from bayou.design import Design
from bayou.design.levels import match_levels
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, label_text, listing, plural
from bayou.plot.forests import draw_caterpillar, percent
from bayou.plot.grids import Covariates, covariates
from bayou.plot.numbers import thinned
from bayou.plot.separate import separate_fit
from bayou.plot.style import (
    BLACK,
    BLUE,
    GRAY,
    LIGHT,
    SMALL,
    Picture,
    canvas,
    finish,
    grid_shape,
    panels,
    plain,
    positive,
    spread_out,
)
from bayou.posterior import Posterior
from bayou.predict.linear import Sample, new_rows

__all__ = ["draw_groups", "factor_place", "response_words", "shown_responses"]


@dataclass(frozen=True)
class GroupLine:
    """What one panel shows."""

    level: int
    rows: Integers
    x: Any
    middle: Array
    lower: Array
    upper: Array
    alone: Array | None


def draw_groups(
    posterior: Posterior,
    factor: str | None,
    x: str | None,
    levels: Iterable[Any] | None,
    interval: float,
    limit: int,
    draws: int | None,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw the levels of a factor; see `bayou.plot.Plots.groups`."""
    percent(interval)
    design = posterior.model.design
    place = factor_place(design, factor)
    grouping = design.groupings[place]
    known = covariates(design)
    chosen = None if levels is None else _positions(design, place, list(levels))
    along = known.varying(place) if x is None else known.known(x)
    if along is None or (x is not None and along in known.categories):
        sample = thinned(posterior, draws) if posterior.chained else posterior
        return draw_caterpillar(sample, place, chosen, interval, positive("limit", limit), size, save)
    counts = np.bincount(grouping.codes, minlength=len(grouping.levels))
    shown, sentence = _shown(chosen, counts, positive("limit", limit), grouping.name)
    lines = [_line(thinned(posterior, draws), known, place, level, along, interval) for level in shown]
    return _draw(posterior, known, place, along, lines, interval, sentence, size, save)


def factor_place(design: Design, factor: str | None) -> int:
    """Return the position of a grouping factor, the first if none is named.

    Raises
    ------
    DataError
        If the model has no such factor.
    """
    names = [grouping.name for grouping in design.groupings]
    if not names:
        more = " Structured effects are in fit.plot.smooth() and fit.plot.areas()." if design.structured else ""
        raise DataError(f"The model has no grouping factor, so there are no groups to draw.{more}")
    if factor is None:
        return 0
    if factor not in names:
        raise DataError(
            f"{factor!r} is no grouping factor.{did_you_mean(str(factor), names)} The model has {listing(names)}."
        )
    return names.index(factor)


def _positions(design: Design, place: int, levels: list[Any]) -> list[int]:
    grouping = design.groupings[place]
    if not levels:
        raise DataError("levels= is empty: name the levels to draw, or leave it out.")
    found = match_levels(grouping.levels, np.array(levels, dtype=object))
    if (found < 0).any():
        unknown = levels[int(np.flatnonzero(found < 0)[0])]
        raise DataError(f"{unknown!r} is no level of {grouping.name}; it has {listing(list(grouping.levels))}.")
    return [int(level) for level in found]


def _shown(chosen: list[int] | None, counts: Integers, limit: int, name: str) -> tuple[list[int], str]:
    """Return the levels to draw: those asked for, all, or some from the smallest to the largest."""
    if chosen is not None:
        return chosen, f"{len(chosen)} of {plural(len(counts), 'level')} of {name}, as asked."
    if len(counts) <= limit:
        return list(range(len(counts))), ""
    order = np.argsort(counts, kind="stable")
    shown = [int(order[k]) for k in spread_out(len(counts), limit)]
    first, last = counts[shown[0]], counts[shown[-1]]
    if first == last:
        return shown, f"{limit} of {plural(len(counts), 'level')} of {name}, evenly spaced in their order."
    return shown, (
        f"{limit} of {plural(len(counts), 'level')} of {name}, evenly spaced from the smallest "
        f"({plural(int(first), 'row')}) to the largest ({last:,})."
    )


def _line(posterior: Posterior, known: Covariates, place: int, level: int, x: str, interval: float) -> GroupLine:
    design = posterior.model.design
    grouping = design.groupings[place]
    mine = np.flatnonzero(grouping.codes == level).astype(np.int64)
    points = known.points(x, mine)
    rows = new_rows(design, known.along(x, points, known.template(mine)))
    own = [set(g.factors) <= set(grouping.factors) for g in design.groupings]
    # a factor that crosses this one is left at its average level: its columns are set to zero
    alone = tuple(Z if keep else np.zeros_like(Z) for Z, keep in zip(rows.Z, own, strict=True))
    rows = replace(rows, Z=alone, codes=tuple(np.maximum(codes, 0) for codes in rows.codes))
    sample = Sample(posterior, effects=True)
    part = slice(0, rows.n)
    mean = posterior.model.family.mean(sample.fixed(rows, part) + sample.observed(rows, part))
    lower, middle, upper = np.quantile(mean, (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=0)
    columns = np.hstack([design.X, *(g.Z for g, keep in zip(design.groupings, own, strict=True) if keep)])
    there = np.hstack([rows.X, *(Z for Z, keep in zip(rows.Z, own, strict=True) if keep)])
    family = posterior.model.family
    eta = separate_fit(
        family, columns[mine], design.y[mine], design.offset[mine], design.trials[mine], design.weights[mine], there
    )
    single = None if eta is None else np.asarray(family.mean(eta + rows.offset))
    return GroupLine(level, mine, np.asarray(points), middle, lower, upper, single)


def shown_responses(design: Design) -> Array:
    """Return the responses on the scale of the mean: proportions where there are trials."""
    return np.asarray(design.y / np.where(design.trials > 0.0, design.trials, np.nan))


def response_words(design: Design) -> str:
    """Return the name of the response on the scale of the mean, for an axis."""
    response = design.formula.response
    if response.kind == "proportion":
        return f"{response.expressions[0]} / {response.expressions[1]}"
    if response.kind == "cbind":
        return f"proportion of {response.expressions[0]}"
    if response.kind == "measured":
        return response.expressions[0]
    if design.response_levels is not None:
        return f"probability of {design.response_name} = {label_text(design.response_levels[1])}"
    return design.response_name


def _draw(
    posterior: Posterior,
    known: Covariates,
    place: int,
    x: str,
    lines: Sequence[GroupLine],
    interval: float,
    sentence: str,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    design = posterior.model.design
    grouping = design.groupings[place]
    y, values = shown_responses(design), known.values(x)
    shape = grid_shape(len(lines), 6 if len(lines) > 20 else 5 if len(lines) > 8 else 4)
    picture = canvas(max(1.65 * shape[1] + 0.6, 5.2), max(1.4 * shape[0] + 1.0, 2.6), size)
    axes = panels(picture, *shape, sharex=True, sharey=True)
    many = max(len(line.rows) for line in lines) > 60
    for ax, line in zip(axes, lines, strict=False):
        _panel(ax, line, values[line.rows], y[line.rows], many)
        title = f"{label_text(grouping.levels[line.level])}"
        ax.set_title(plain(title), loc="left", size=SMALL + 0.5, color=BLACK, pad=2)
        ax.set_title(f"n = {len(line.rows):,}", loc="right", size=SMALL - 1, color=GRAY, pad=2)
    for k, ax in enumerate(axes):
        ax.set_visible(k < len(lines))
        if k + shape[1] >= len(lines):
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(plain(x))
    # the blue lines of small groups may run far off: they do not set the scale
    mine = np.concatenate([y[line.rows] for line in lines])
    ends = [*(line.lower.min() for line in lines), *(line.upper.max() for line in lines)]
    low, high = min(np.nanmin(mine), *ends), max(np.nanmax(mine), *ends)
    axes[0].set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
    picture.supylabel(plain(response_words(design)), size=8.5, color=BLACK)
    missing = sum(line.alone is None for line in lines)
    gaussian = posterior.model.family.name == "gaussian" and posterior.model.family.link.name == "identity"
    method = "least squares" if gaussian else "maximum likelihood"
    legend = [
        (Line2D([], [], color=BLUE, linewidth=1.1), f"no pooling ({method})"),
        (Line2D([], [], color=BLACK, linewidth=1.3), "mixed model"),
        (Patch(color=LIGHT, alpha=0.6, linewidth=0), f"{percent(interval)} interval"),
    ]
    others = [name for name in (*known.numbers, *known.categories) if name != x]
    crossed = [g.name for g in design.groupings if not set(g.factors) <= set(grouping.factors)]
    caption = (
        sentence,
        f"No blue line in {plural(missing, 'panel')}: the rows there do not determine one." if missing else "",
        f"Other covariates ({listing(others)}) at the group's mean or most frequent level." if others else "",
        f"{listing(crossed)} at the average level." if crossed else "",
    )
    return finish(picture, f"{grouping.name}: each level along {x}", caption, legend, save)


def _panel(ax: Axes, line: GroupLine, x: Array, y: Array, many: bool) -> None:
    ax.plot(x, y, "o", color=GRAY, markersize=1.4 if many else 2.2, alpha=0.45 if many else 0.7, markeredgewidth=0)
    ax.fill_between(line.x, line.lower, line.upper, color=LIGHT, alpha=0.6, linewidth=0)
    if line.alone is not None:
        ax.plot(line.x, line.alone, color=BLUE, linewidth=1.0)
    ax.plot(line.x, line.middle, color=BLACK, linewidth=1.2)

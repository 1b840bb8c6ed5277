"""Estimates with their intervals as dots on lines: coefficients and sds, and the effects of groups."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.special import ndtri

from bayou._types import Array, Labels
from bayou.errors import DataError
from bayou.formula.words import label_text, plural
from bayou.plot.style import (
    BLACK,
    BLUE,
    GRAY,
    LIGHT,
    NORMAL,
    SMALL,
    Picture,
    canvas,
    finish,
    panels,
    plain,
    positive,
    shortened,
    spread_out,
    tidy,
)
from bayou.posterior import Posterior
from bayou.posterior.names import hyperparameter_names

__all__ = ["draw_caterpillar", "draw_coefficients", "percent"]

SDS = "Standard deviations"
SMALLEST = 25.0  # an axis that holds zero is at most this many times longer than the longest interval
APART = 4.0  # an intercept this many times further out than the slopes gets an axis of its own


@dataclass(frozen=True)
class Block:
    """Rows of a forest that share an axis; quantiles are (rows, 5): lower, quarter, median, quarter, upper."""

    title: str
    labels: list[str]
    quantiles: Array
    zero: bool

    @property
    def with_zero(self) -> bool:
        """Whether the axis reaches to zero: not where the intervals would shrink to dots."""
        lengths = self.quantiles[:, 4] - self.quantiles[:, 0]
        ends = min(0.0, float(self.quantiles.min())), max(0.0, float(self.quantiles.max()))
        return self.zero and float(lengths.max()) > (ends[1] - ends[0]) / SMALLEST


def draw_coefficients(
    posterior: Posterior,
    interval: float,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw the forest of fixed effects and sds; see `bayou.plot.Plots.coefficients`."""
    positive("limit", limit)
    blocks, notes = [], []
    for title, labels, rows in _kinds(posterior):
        if len(labels) > limit:
            notes.append(f"The first {limit} of {len(labels)} under {title.lower()}.")
        quantiles = _quantiles(posterior, rows[:limit], interval)
        blocks += _split(Block(title, labels[:limit], quantiles, zero=True))
    if not blocks:
        raise DataError("This model has no coefficients and no sds to show.")
    heights = [len(block.labels) + 1.6 for block in blocks]
    picture = canvas(7.2, 0.9 + 0.21 * sum(heights) + 0.12 * len(blocks), size)
    axes = picture.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, block in zip(axes, blocks, strict=True):
        tidy(ax)
        _forest(ax, block)
    link = posterior.model.family.link.name
    scale = "" if link == "identity" else f"Coefficients and sds between groups are on the {link} scale."
    dot, kind = ("median", "interval") if posterior.estimates is None else ("estimate", "Wald interval")
    meaning = f"Dot: {dot}; thick line: 50 %, thin line: {percent(interval)} {kind}, also in numbers."
    if any(low == high for block in blocks for low, high in block.quantiles[:, (0, 4)]):
        notes.append("A dot alone has no interval.")
    return finish(picture, f"Estimates for {posterior.model.design.response_name}", (meaning, scale, *notes), save=save)


def percent(interval: float) -> str:
    """Write a probability as "95 %"; refuse anything that is none."""
    if isinstance(interval, bool) or not 0.0 < interval < 1.0:
        raise DataError(f"interval={interval!r}: give a probability between 0 and 1, such as 0.95.")
    return f"{100 * interval:g} %"


def _cuts(interval: float) -> tuple[float, float, float, float, float]:
    percent(interval)
    return 0.5 - interval / 2, 0.25, 0.5, 0.75, 0.5 + interval / 2


def _quantiles(posterior: Posterior, names: Sequence[str], interval: float) -> Array:
    """Return the five numbers (rows, 5) of some summary rows; all are the estimate where it has no interval."""
    cuts = _cuts(interval)
    found = posterior.estimates
    if found is None:
        known = {} if posterior.approximation is None else posterior.approximation.marginals
        rows = [
            known[name].quantile(cuts) if name in known else np.quantile(posterior.values(posterior.rows[name]), cuts)
            for name in names
        ]
        return np.array(rows)
    (lower, upper), (first, third) = found.interval(interval), found.interval(0.5)
    every = np.column_stack([lower, first, found.estimate, third, upper])
    every = np.where(np.isnan(every), found.estimate[:, None], every)
    return np.asarray(every[[found.rows.index(name) for name in names]])


def _kinds(posterior: Posterior) -> list[tuple[str, list[str], list[str]]]:
    """Return title, labels and names of the summary rows of fixed effects and of sds."""
    kinds: dict[str, tuple[list[str], list[str]]] = {}
    printed = {f"sd_{posterior.names[g.name]}": g for g in posterior.model.design.groupings}
    effects = {key: term for term in posterior.structured for key in hyperparameter_names(term, posterior.draws)}
    for name, place in posterior.rows.items():
        key, index = place
        if key == "beta":
            title, label = "Fixed effects", posterior.model.design.coefficients[index[0]]
        elif key in printed:
            grouping = printed[key]
            title, label = SDS, f"{grouping.name}: {grouping.coefficients[index[0]]}"
        elif key in effects:
            role, label = key.partition("_")[0], posterior.structured[effects[key]].text or effects[key]
            title, label = (SDS, label) if role == "sd" else ("Correlation and mixing", f"{label}: {role}")
        elif key == posterior.dispersion:
            title, label = (SDS, name.replace("sigma", "residual", 1)) if key == "sigma" else ("Dispersion", name)
        else:
            continue
        labels, names = kinds.setdefault(title, ([], []))
        labels.append(label)
        names.append(name)
    return [(title, labels, names) for title, (labels, names) in kinds.items()]


def _split(block: Block) -> list[Block]:
    """Give the intercept an axis of its own where it would squeeze the other rows."""
    places = [k for k, label in enumerate(block.labels) if label == "Intercept"]
    others = [k for k in range(len(block.labels)) if k not in places]
    if not places or not others:
        return [block]
    low, high = (min(0.0, block.quantiles[others].min()), max(0.0, block.quantiles[others].max()))
    centre = float(block.quantiles[places, 2][0])
    if max(high, centre) - min(low, centre) < APART * (high - low):
        return [block]
    apart = Block(block.title, ["Intercept"], block.quantiles[places], zero=False)
    rest = Block("", [block.labels[k] for k in others], block.quantiles[others], block.zero)
    return [apart, rest]


def _forest(ax: Axes, block: Block) -> None:
    rows = np.arange(len(block.labels))[::-1]
    lower, first, median, third, upper = block.quantiles.T
    if block.with_zero:
        ax.axvline(0.0, color=LIGHT, linewidth=0.7, zorder=0)
    ax.hlines(rows, lower, upper, color=BLUE, linewidth=0.9)
    ax.hlines(rows, first, third, color=BLUE, linewidth=2.6)
    ax.plot(median, rows, "o", color="white", markeredgecolor=BLUE, markeredgewidth=1.1, markersize=4.0)
    for row, low, middle, high in zip(rows, lower, median, upper, strict=True):
        words = _numbers(low, middle, high) if high > low else f"{middle:.4g}".replace("-", "\N{MINUS SIGN}")
        ax.text(1.015, row, words, transform=ax.get_yaxis_transform(), va="center", size=SMALL, color=BLACK)
    ax.set_yticks(rows, [plain(shortened(label, 44)) for label in block.labels])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.tick_params(axis="y", length=0, labelsize=NORMAL)
    ax.spines["left"].set_visible(False)
    if block.title:
        ax.set_title(plain(block.title), loc="left", size=NORMAL, color=GRAY)


def _numbers(low: float, middle: float, high: float) -> str:
    """Write median and interval with the digits that the interval is worth."""
    digits = int(np.clip(2 - np.floor(np.log10(max(high - low, 1e-300))), 0, 8)) if high > low else 3
    if max(abs(low), abs(high)) >= 1e6 or max(abs(low), abs(high)) < 1e-4:
        return f"{middle:.3g}  ({low:.3g} to {high:.3g})".replace("-", "\N{MINUS SIGN}")
    return f"{middle:.{digits}f}  ({low:.{digits}f} to {high:.{digits}f})".replace("-", "\N{MINUS SIGN}")


def draw_caterpillar(
    posterior: Posterior,
    place: int,
    levels: Sequence[int] | None,
    interval: float,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw the coefficients of each level in order, one panel per coefficient; see `Plots.groups`.

    Parameters
    ----------
    posterior
        Its draws of b are needed, or its modes with their prediction errors.
    place
        Which grouping factor.
    levels
        Positions of the levels to show, or None for at most ``limit`` of them, evenly spaced in order of
        the first coefficient.
    interval, limit, size, save
        As for `Plots.groups`.
    """
    grouping = posterior.model.design.groupings[place]
    every = _effect_quantiles(posterior, grouping.name, interval)
    order = np.argsort(every[2, :, 0], kind="stable")
    if levels is None:
        levels = [int(order[k]) for k in spread_out(len(order), limit)]
    else:
        levels = [int(j) for j in order if j in set(levels)]
    columns = min(len(grouping.coefficients), 6)
    picture = canvas(2.2 + 2.3 * columns, 1.25 + 0.17 * max(len(levels), 4), size)
    axes = panels(picture, 1, columns, sharey=True)
    for k, ax in enumerate(axes):
        _caterpillar(ax, every[:, levels, k], grouping.coefficients[k], grouping.levels[levels])
    shown = ""
    if len(levels) < len(order):
        shown = f"{len(levels)} of {plural(len(order), 'level')}, evenly spaced from the lowest to the highest."
    cut = f"The first {columns} of {len(grouping.coefficients)} coefficients."
    link = posterior.model.family.link.name
    scale = "" if link == "identity" else f" ({link} scale)"
    centre = "median" if posterior.estimates is None else "mode"
    meaning = f"Difference from the average level{scale}: {centre}, 50 % and {percent(interval)} intervals."
    legend = [(Line2D([], [], color=LIGHT, linewidth=0.8), "average level")]
    return finish(
        picture,
        f"Levels of {grouping.name}",
        (meaning, shown, cut if columns < len(grouping.coefficients) else ""),
        legend,
        save,
    )


def _effect_quantiles(posterior: Posterior, factor: str, interval: float) -> Array:
    """Return the five numbers (5, J, p) of the coefficients of each level."""
    cuts = _cuts(interval)
    if posterior.estimates is not None and posterior.estimates.effects is not None:
        mode, error = posterior.estimates.group_effects(factor)
        return np.asarray(mode + ndtri(cuts)[:, None, None] * error)
    found = None if posterior.approximation is None else posterior.approximation.effect(f"b_{posterior.names[factor]}")
    if found is not None:
        return np.array([found.quantile(cut) for cut in cuts])
    draws = posterior.effects(factor)
    return np.asarray(np.quantile(draws.reshape(-1, *draws.shape[2:]), cuts, axis=0))


def _caterpillar(ax: Axes, quantiles: Array, title: str, labels: Labels) -> None:
    rows = np.arange(quantiles.shape[1])
    ax.axvline(0.0, color=LIGHT, linewidth=0.8, zorder=0)
    ax.hlines(rows, quantiles[0], quantiles[4], color=BLUE, linewidth=0.8)
    ax.hlines(rows, quantiles[1], quantiles[3], color=BLUE, linewidth=2.2)
    ax.plot(quantiles[2], rows, "o", color="white", markeredgecolor=BLUE, markeredgewidth=0.9, markersize=3.2)
    ax.set_title(plain(shortened(title, 44)), loc="left", size=NORMAL, color=BLACK)
    ax.set_yticks(rows, [plain(shortened(label_text(label), 24)) for label in labels])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)

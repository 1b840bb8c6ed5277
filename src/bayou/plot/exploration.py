"""Looking at the data by group before any model: profiles and their mean, or a regression for each group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from bayou import families
from bayou._types import Array, Integers, Labels
from bayou.design import Design, build
from bayou.errors import DataError
from bayou.formula.tree import names_of
from bayou.formula.words import label_text, plural
from bayou.model import Model
from bayou.plot.grids import covariates, evaluator
from bayou.plot.lines import factor_place, response_words, shown_responses
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
    spread_out,
)

__all__ = ["explore"]

PROFILES, BINS, LINES, LABELS = 60, 15, 200, 30
DASHES = {0: "-", 1: "--", 2: ":"}


@dataclass(frozen=True)
class ByGroup:
    """Numbers to look at: x and y of each row, its group, and the scale on which means are fitted."""

    x: Array
    y: Array
    codes: Integers
    levels: Labels
    x_words: str
    y_words: str
    group: str
    scale: str
    dropped: int


def explore(
    data: Any,
    x: str,
    y: str | None = None,
    group: str | None = None,
    degrees: Sequence[int] = (2, 3, 4),
    *,
    size: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Picture:
    """Draw data by group, before any fit.

    Where the groups share values of x, or the response is no plain number (counts, proportions): the
    profile of each group in gray with the mean profile in black, and beside it polynomials fitted by
    least squares to the mean profile on the scale of the link (log for counts), as in Hoff's figure
    11.4. Otherwise: a least-squares line for each group in gray with that of all rows in black, and
    beside it the slope of each group with its interval, as in the bass example of the lectures.

    Parameters
    ----------
    data
        A table of any kind that `bayou.fit` takes, or a `Model`, whose response and first grouping factor
        are then the defaults.
    x
        A column or an expression of the formula language, such as ``"center(log(length), by=station)"``. Of a
        model, a column that enters through one such expression is drawn through it.
    y
        The response, a column or an expression.
    group
        The column that names the groups.
    degrees
        Of the polynomials.
    size
        Width and height in inches.
    save
        Path to write the picture to.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError, FormulaError
        If there is no such column, or x is no number.

    References
    ----------
    Hoff (2009), A First Course in Bayesian Statistical Methods, figure 11.4.

    Examples
    --------
    >>> import bayou
    >>> from bayou.plot import explore
    >>> picture = explore(bayou.datasets.load("tumor"), "x", "count", "mouse")
    >>> len(picture.axes)
    2
    """
    checked = _degrees(degrees)
    if isinstance(data, Model):
        seen = _of_model(data, x, y, group)
    else:
        if y is None or group is None:
            raise DataError("Name the response and the groups: explore(data, x, y, group).")
        seen = _of_table(data, x, y, group)
    if len(np.unique(seen.x)) < 2:
        raise DataError(f"`{x}` has one value only, so there is nothing to draw along.")
    if seen.scale == "identity" and not _shared(seen):
        return _regressions(seen, size, save)
    return _profiles(seen, checked, size, save)


def _degrees(degrees: Sequence[int]) -> list[int]:
    found = list(degrees)
    if not found or not all(isinstance(d, (int, np.integer)) and 1 <= d <= 20 for d in found):
        raise DataError(f"degrees={degrees!r}: give whole numbers from 1 to 20, such as (2, 3, 4).")
    return [int(degree) for degree in found]


def _of_table(data: Any, x: str, y: str, group: str) -> ByGroup:
    design = build(f"{y} ~ 1 + {x} + (1 | {group})", data, families.Gaussian(), missing="drop")
    if design.X.shape[1] != 2:
        raise DataError(f"`{x}` is no single column of numbers, which is needed to draw along it.")
    values = design.y
    counts = bool((values >= 0.0).all() and (values == np.rint(values)).all() and values.max() > 1.0)
    grouping = design.groupings[0]
    scale = "log" if counts else "logit" if set(np.unique(values)) <= {0.0, 1.0} else "identity"
    words = design.formula.response.text
    return ByGroup(
        design.X[:, 1], values, grouping.codes, grouping.levels, x, words, grouping.name, scale, design.dropped
    )


def _of_model(model: Model, x: str, y: str | None, group: str | None) -> ByGroup:
    design = model.design
    grouping = design.groupings[factor_place(design, group)]
    frame = covariates(design).frame
    rows = evaluator(design, frame)
    text = x
    if x in frame:
        through = [f for f in design.recipe.fixed.factors if x in names_of(rows.tree(f.text), ("at",))]
        single = len(through) == 1 and through[0].levels is None and through[0].width == 1
        text = through[0].text if single else x
    values, words = (shown_responses(design), response_words(design)) if y is None else (rows.vector(y), y)
    link = model.family.link.name if y is None else "identity"
    scale = {"identity": "identity", "log": "log"}.get(link, "logit")
    return ByGroup(
        rows.vector(_read(design, text)), values, grouping.codes, grouping.levels, text, words, grouping.name, scale, 0
    )


def _read(design: Design, text: str) -> str:
    """Check that the columns of an expression are among those of the model."""
    known = covariates(design)
    for name in names_of(evaluator(design, known.frame).tree(text), ("at",)):
        if name not in known.frame:
            raise DataError(f"The model does not read `{name}`; explore(data, x, y, group) takes any column.")
    return text


def _shared(seen: ByGroup) -> bool:
    """Whether the groups were measured at the same few values of x."""
    distinct, place = np.unique(seen.x, return_inverse=True)
    if not 3 <= len(distinct) <= PROFILES:
        return False
    pairs = len(np.unique(seen.codes * np.int64(len(distinct)) + place))
    return pairs >= 0.5 * len(distinct) * len(seen.levels)


# ---- profiles ------------------------------------------------------------------------------


def _profiles(
    seen: ByGroup, degrees: list[int], size: tuple[float, float] | None, save: str | os.PathLike[str] | None
) -> Picture:
    places, at = _places(seen)
    picture = canvas(8.0, 3.3, size)
    left, right = panels(picture, 1, 2)
    shown = spread_out(len(seen.levels), LINES)
    for level in shown:
        mine = seen.codes == level
        found, mean = _means(at[mine], seen.y[mine])
        left.plot(places[found], mean, color=LIGHT, linewidth=0.6)
    found, mean = _means(at, seen.y)
    left.plot(places[found], mean, color=BLACK, linewidth=1.8)
    left.set_title(f"Each {plain(seen.group)}, and the mean of all", loc="left", size=NORMAL)
    left.set_ylabel(plain(seen.y_words))
    scaled, usable = _on_scale(mean, seen.scale)
    along, height = places[found][usable], scaled[usable]
    right.plot(along, height, "o", color=BLACK, markersize=3.2)
    handles: list[tuple[Any, str]] = [
        (Line2D([], [], color=LIGHT, linewidth=1.0), f"one {seen.group}"),
        (Line2D([], [], color=BLACK, linewidth=1.8, marker="o", markersize=3), "mean"),
    ]
    grid = np.linspace(places[found][0], places[found][-1], 201)
    possible = [degree for degree in degrees if degree < len(along)]
    for k, degree in enumerate(possible):
        curve = np.polynomial.Polynomial.fit(along, height, degree)(grid)
        colour = (BLUE, ORANGE, GRAY)[k % 3]
        right.plot(grid, curve, color=colour, linewidth=1.2, linestyle=DASHES[k % 3 if k else 0])
        handles.append((right.lines[-1], f"degree {degree}"))
    prefix = {"identity": "mean", "log": "log mean", "logit": "logit of the mean"}[seen.scale]
    right.set_title(f"Polynomials fitted to the {prefix}", loc="left", size=NORMAL)
    right.set_ylabel(plain(prefix if seen.scale == "logit" else f"{prefix} {seen.y_words}"))
    for ax in (left, right):
        ax.set_xlabel(plain(seen.x_words))
    skipped = int((~usable).sum())
    some = f"{len(shown)} of {len(seen.levels):,} profiles" if len(shown) < len(seen.levels) else ""
    caption = (
        f"{some}, evenly spaced in the order of the levels." if some else "",
        f"{seen.x_words} is cut into {len(places)} parts of equal size." if len(np.unique(seen.x)) > PROFILES else "",
        f"Without the {plural(skipped, 'point')} whose mean has no finite {seen.scale}." if skipped else "",
        _dropped(seen),
    )
    return finish(picture, f"{seen.y_words} along {seen.x_words}", caption, handles, save)


def _places(seen: ByGroup) -> tuple[Array, Integers]:
    """Return the values of x at which profiles are drawn and the place of each row."""
    distinct, place = np.unique(seen.x, return_inverse=True)
    if len(distinct) <= PROFILES:
        return distinct, place
    cuts = np.unique(np.quantile(seen.x, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(cuts, seen.x, side="right")
    _, place = np.unique(place, return_inverse=True)
    return np.asarray(np.bincount(place, seen.x) / np.bincount(place)), place


def _means(at: Integers, y: Array) -> tuple[Integers, Array]:
    """Return the places that occur and the mean response at each; missing ones are left out."""
    known = np.isfinite(y)
    counts = np.bincount(at[known])
    found = np.flatnonzero(counts)
    return found, np.asarray(np.bincount(at[known], y[known])[found] / counts[found])


def _on_scale(mean: Array, scale: str) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    with np.errstate(all="ignore"):
        scaled = {"identity": mean, "log": np.log(mean), "logit": np.log(mean) - np.log1p(-mean)}[scale]
    return scaled, np.isfinite(scaled)


def _dropped(seen: ByGroup) -> str:
    return f"{plural(seen.dropped, 'row')} with missing values left out." if seen.dropped else ""


# ---- a regression for each group -----------------------------------------------------------


def _regressions(seen: ByGroup, size: tuple[float, float] | None, save: str | os.PathLike[str] | None) -> Picture:
    fits = {j: fit for j in range(len(seen.levels)) if (fit := _line(seen.x[seen.codes == j], seen.y[seen.codes == j]))}
    order = sorted(fits, key=lambda j: fits[j].slope)
    labelled = len(order) <= LABELS
    picture = canvas(8.0, max(3.4, 0.9 + 0.15 * len(order)) if labelled else 4.2, size)
    left, right = panels(picture, 1, 2, width_ratios=(1.25, 1))
    dots = 2.0 if len(seen.x) <= 500 else 1.2
    left.plot(seen.x, seen.y, "o", color=LIGHT, markersize=dots, markeredgewidth=0, alpha=0.8)
    wide, faint = (0.7, 1.0) if labelled else (0.5, 0.6)
    for level in [order[k] for k in spread_out(len(order), LINES)]:
        ends = np.array([seen.x[seen.codes == level].min(), seen.x[seen.codes == level].max()])
        left.plot(ends, fits[level].intercept + fits[level].slope * ends, color=GRAY, linewidth=wide, alpha=faint)
    whole = _line(seen.x, seen.y)
    if whole is not None:
        ends = np.array([seen.x.min(), seen.x.max()])
        left.plot(ends, whole.intercept + whole.slope * ends, color=BLACK, linewidth=1.8)
    left.set_xlabel(plain(seen.x_words))
    left.set_ylabel(plain(seen.y_words))
    left.set_title(f"A regression for each {plain(seen.group)}", loc="left", size=NORMAL)
    cut = _slopes(
        right, [fits[j] for j in order], [label_text(seen.levels[j]) for j in order] if labelled else [], whole
    )
    heading = "Their slopes, in order" if labelled else f"Slopes of {len(order):,} levels, in order"
    right.set_title(heading, loc="left", size=NORMAL)
    without = len(seen.levels) - len(fits)
    caption = (
        "Least squares; right: slopes with 95 % confidence intervals, dashed the slope of all rows.",
        f"{plural(without, 'level')} with too few rows for a line." if without else "",
        "Wide intervals are cut off." if cut else "",
        _dropped(seen),
    )
    handles = [
        (Line2D([], [], color=GRAY, linewidth=0.9), f"one {seen.group}"),
        (Line2D([], [], color=BLACK, linewidth=1.8), "all rows together"),
    ]
    return finish(picture, f"{seen.y_words} against {seen.x_words}", caption, handles, save)


@dataclass(frozen=True)
class Line:
    """A least-squares line and the half-width of the 95 % interval of its slope."""

    intercept: float
    slope: float
    half: float


def _line(x: Array, y: Array) -> Line | None:
    centred = x - x.mean()
    spread = float(centred @ centred)
    if len(x) < 3 or spread <= 1e-12 * max(1.0, float(np.abs(x).max()) ** 2):
        return None
    slope = float(centred @ y) / spread
    intercept = float(y.mean() - slope * x.mean())
    residual = y - intercept - slope * x
    error = np.sqrt(float(residual @ residual) / (len(x) - 2) / spread)
    return Line(intercept, slope, float(stats.t.ppf(0.975, len(x) - 2)) * error)


def _slopes(ax: Axes, lines: list[Line], labels: list[str], whole: Line | None) -> bool:
    """Draw slopes in order; return whether some interval does not fit into the panel."""
    rows = np.arange(len(lines))
    slopes, halves = np.array([line.slope for line in lines]), np.array([line.half for line in lines])
    if whole is not None:
        ax.axvline(whole.slope, color=BLACK, linewidth=0.9, linestyle="--", zorder=0)
    ax.hlines(rows, slopes - halves, slopes + halves, color=GRAY, linewidth=0.8 if labels else 0.5)
    ax.plot(slopes, rows, "o", color=BLUE, markersize=3.4 if labels else 1.8, markeredgewidth=0)
    if len(lines) > 4:
        # a group of three rows may have an interval that dwarfs all others
        low, high = np.quantile(slopes - halves, 0.1), np.quantile(slopes + halves, 0.9)
        low, high = min(low, np.quantile(slopes, 0.02)), max(high, np.quantile(slopes, 0.98))
        ax.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    ax.set_yticks(rows if labels else [], [plain(label) for label in labels])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.7, len(lines) - 0.3)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("slope")
    left, right = ax.get_xlim()
    return bool((slopes - halves < left).any() or (slopes + halves > right).any())

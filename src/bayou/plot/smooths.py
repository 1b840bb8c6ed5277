"""Curves of structured effects along their coordinate, with bands, one panel for each copy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayou._types import Array
from bayou.design.structured import StructuredTerm
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, label_text, listing, plural
from bayou.plot.forests import percent
from bayou.plot.lines import response_words, shown_responses
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
    grid_shape,
    panels,
    plain,
    positive,
    shortened,
    spread_out,
)
from bayou.posterior import Posterior
from bayou.predict.structured import is_curve

__all__ = ["Scale", "chosen_term", "draw_smooth"]

Scale: TypeAlias = Literal["link", "response"]
POINTS = 201  # of a spline


@dataclass(frozen=True)
class Curve:
    """One copy: quantiles (5, points) at x, and its data where they are shown."""

    title: str
    quantiles: Array
    x: Array
    y: Array


def chosen_term(posterior: Posterior, name: str | None, curve: bool) -> tuple[int, StructuredTerm]:
    """Return a structured effect by name, the first that fits if none is named.

    Raises
    ------
    DataError
        If there is none of that name, or it is of the other kind.
    """
    terms = posterior.model.design.structured
    fitting = [term.name for term in terms if is_curve(term) == curve]
    what = "smooth effect (rw1, rw2, ar1, seasonal, s)" if curve else "effect of areas (icar, car, leroux, bym2)"
    if name is None and fitting:
        name = fitting[0]
    if name not in fitting:
        other = "areas" if curve else "smooth"
        if any(term.name == name for term in terms):
            raise DataError(f"{name!r} is no {what}: fit.plot.{other}({name!r}) draws it.")
        near = did_you_mean(str(name), fitting)
        there = f"It has {listing(fitting)}." if fitting else "It has none."
        raise DataError(f"The model has no {what} called {name!r}.{near} {there}")
    place = next(k for k, term in enumerate(terms) if term.name == name)
    return place, terms[place]


def draw_smooth(
    posterior: Posterior,
    name: str | None,
    scale: Scale,
    interval: float,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw a curve with its bands; see `bayou.plot.Plots.smooth`."""
    chance = percent(interval)
    if scale not in ("link", "response"):
        raise DataError(f"scale={scale!r}: give 'link' for the effect itself, or 'response' for the scale of the data.")
    _, term = chosen_term(posterior, name, curve=True)
    x, basis = _points(term)
    shown = spread_out(len(term.replicates), positive("limit", limit))
    cuts = (0.5 - interval / 2, 0.25, 0.5, 0.75, 0.5 + interval / 2)
    curves = [_curve(posterior, term, r, x, basis, scale, cuts) for r in shown]
    rows, columns = grid_shape(len(curves), 5 if len(curves) > 8 else 4 if len(curves) > 4 else 3)
    single = len(curves) == 1
    picture = canvas(6.6 if single else max(2.1 * columns + 0.6, 5.2), 3.4 if single else 1.6 * rows + 1.1, size)
    axes = panels(picture, rows, columns, sharex=True, sharey=True)
    for k, ax in enumerate(axes):
        ax.set_visible(k < len(curves))
        if k < len(curves):
            _draw(ax, curves[k], x, scale)
        if k + columns >= len(curves):
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(plain(_coordinate_words(term)))
    _limits(axes[0], curves, scale)
    design, link = posterior.model.design, posterior.model.family.link.name
    words = response_words(design) if scale == "response" else _function(term)
    if scale != "response" and link != "identity":
        words += f", {link} scale"
    (axes[0].set_ylabel if single else picture.supylabel)(plain(words), size=NORMAL)
    centre = "median" if posterior.estimates is None else "mode"
    legend: list[tuple[Any, str]] = [
        (Line2D([], [], color=BLACK, linewidth=1.3), centre),
        (Patch(color=BLUE, alpha=0.42, linewidth=0), "50 %"),
        (Patch(color=BLUE, alpha=0.18, linewidth=0), chance),
    ]
    if scale == "response":
        legend.append((Line2D([], [], color=GRAY, marker="o", markersize=2.4, linewidth=0), "data"))
    caption = (
        _others(posterior, term) if scale == "response" else "",
        f"{len(shown)} of {plural(len(term.replicates), 'level')} of {term.by}, evenly spaced."
        if len(shown) < len(term.replicates)
        else "",
    )
    # options would make it run into the legend
    title = f"{term.kind}({term.column}{f', by={term.by}' if term.by else ''})"
    return finish(
        picture, f"{title}: {'the mean response' if scale == 'response' else 'the effect'}", caption, legend, save
    )


def _points(term: StructuredTerm) -> tuple[Array, Array | None]:
    """Return the coordinates of the curve, and the B-splines there (points, m) of a spline."""
    if term.basis is None:
        assert term.coordinate is not None
        return term.coordinate, None
    x = np.linspace(term.basis.low, term.basis.high, POINTS)
    node, value = term.basis.evaluate(x)
    basis = np.zeros((POINTS, len(term.nodes)))
    np.put_along_axis(basis, node, value, axis=1)
    return x, basis


def _curve(
    posterior: Posterior,
    term: StructuredTerm,
    replicate: int,
    x: Array,
    basis: Array | None,
    scale: Scale,
    cuts: tuple[float, ...],
) -> Curve:
    title = "" if term.by is None else label_text(term.replicates[replicate])
    quantiles = _known_quantiles(posterior, term, replicate, cuts) if basis is None and scale == "link" else None
    design = posterior.model.design
    if quantiles is None:
        draws = posterior.structured_draws(term.name)[:, :, replicate]
        values = draws.reshape(-1, draws.shape[-1])
        values = values if basis is None else values @ basis.T
        if scale == "response":
            values = posterior.model.family.mean(values + _level(posterior)[:, None])
        quantiles = np.quantile(values, cuts, axis=0)
    first = term.start[:-1]
    mine = np.flatnonzero(term.replicate[first] == replicate)
    where = np.zeros(0) if scale == "link" else _row_coordinates(posterior, term)[mine]
    return Curve(title, quantiles, where, shown_responses(design)[mine] if scale == "response" else np.zeros(0))


def _row_coordinates(posterior: Posterior, term: StructuredTerm) -> Array:
    """Return the coordinate of each row."""
    first = term.start[:-1]
    if term.coordinate is not None:
        return np.asarray(term.coordinate[term.node[first]])
    assert term.basis is not None
    # Σ of Greville abscissae times B-splines is x itself
    p, m = term.basis.degree, len(term.nodes)
    greville = np.array([term.basis.knots[k + 1 : k + p + 1].mean() for k in range(m)])
    return np.add.reduceat(term.value * greville[term.node], first)


def _known_quantiles(
    posterior: Posterior, term: StructuredTerm, replicate: int, cuts: tuple[float, ...]
) -> Array | None:
    """Return quantiles from densities or prediction errors, None where there are only draws."""
    own: Any = (Ellipsis,) if term.by is None else (replicate,)
    if posterior.estimates is not None and posterior.estimates.effects is not None:
        from scipy.special import ndtri

        mode, error = (np.asarray(v)[own] for v in posterior.estimates.group_effects(term.name))
        return np.asarray(mode + ndtri(cuts)[:, None] * error)
    found = None if posterior.approximation is None else posterior.approximation.effect(f"f_{term.name}")
    return None if found is None else np.array([found.quantile(cut)[own] for cut in cuts])


def _level(posterior: Posterior) -> Array:
    """Return the rest of the predictor at each draw: fixed effects at their average row, the average offset; (S,)."""
    design = posterior.model.design
    level = np.full(posterior.chains * len(posterior.effect_draws), design.moments.offset)
    if not design.coefficients:
        return level
    beta = posterior.draws["beta"][:, posterior.effect_draws]
    return np.asarray(level + beta.reshape(len(level), -1) @ design.moments.fixed.mean)


def _draw(ax: Axes, curve: Curve, x: Array, scale: Scale) -> None:
    lower, first, middle, third, upper = curve.quantiles
    if scale == "link":
        ax.axhline(0.0, color=LIGHT, linewidth=0.7, zorder=0)
    ax.plot(
        curve.x, curve.y, "o", color=GRAY, markersize=2.4 if len(curve.x) <= 400 else 1.4, alpha=0.5, mew=0, zorder=1
    )
    ax.fill_between(x, lower, upper, color=BLUE, alpha=0.18, linewidth=0)
    ax.fill_between(x, first, third, color=BLUE, alpha=0.28, linewidth=0)
    ax.plot(x, middle, color=BLACK, linewidth=1.3)
    ax.set_xlim(x[0], x[-1])
    ax.set_title(plain(shortened(curve.title, 30)), loc="left", size=SMALL + 0.5, color=BLACK, pad=2)


def _limits(ax: Axes, curves: list[Curve], scale: Scale) -> None:
    low, high = min(c.quantiles.min() for c in curves), max(c.quantiles.max() for c in curves)
    data = np.concatenate([c.y for c in curves])
    if scale == "response" and np.isfinite(data).any():
        ends = np.nanquantile(data, (0.002, 0.998))
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    room = 0.05 * (high - low or 1.0)
    ax.set_ylim(low - room, high + room)


def _function(term: StructuredTerm) -> str:
    return f"f({term.column})"


def _coordinate_words(term: StructuredTerm) -> str:
    """Return the column, with the first time where the axis counts from there."""
    if term.coordinate is None or isinstance(term.nodes[0], (int, float, np.integer, np.floating)):
        return term.column
    return f"{term.column}, days since {label_text(term.nodes[0])}"


def _others(posterior: Posterior, term: StructuredTerm) -> str:
    design = posterior.model.design
    zero = [g.name for g in design.groupings] + [t.name for t in design.structured if t is not term]
    said = "Fixed effects at their average row" if len(design.coefficients) > 1 else ""
    rest = f"{listing(zero)} at zero" if zero else ""
    words = "; ".join(part for part in (said, rest) if part)
    return f"{words}." if words else ""

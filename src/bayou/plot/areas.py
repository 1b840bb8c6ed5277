"""Maps of the effects of areas: their polygons, or the graph that joins them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline

from bayou._types import Array
from bayou.design.levels import match_levels
from bayou.design.structured import StructuredTerm
from bayou.errors import DataError
from bayou.formula.words import label_text, listing, plural
from bayou.plot.forests import percent
from bayou.plot.layouts import layout
from bayou.plot.smooths import chosen_term
from bayou.plot.style import (
    BLACK,
    BLUE,
    LIGHT,
    NORMAL,
    ORANGE,
    PALE,
    SMALL,
    Picture,
    canvas,
    finish,
    grid_shape,
    plain,
    positive,
    shortened,
    spread_out,
)
from bayou.posterior import Posterior
from bayou.posterior.summaries import structured_frame

__all__ = ["draw_areas"]

DIVERGING = LinearSegmentedColormap.from_list("bayou", [BLUE, "#8fb4d9", "#f4f1ec", "#e3a982", ORANGE])
NAMED = 40  # areas up to which their names are written


def draw_areas(
    posterior: Posterior,
    name: str | None,
    geometry: Any,
    interval: float,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw the map of an effect; see `bayou.plot.Plots.areas`."""
    chance = percent(interval)
    _, term = chosen_term(posterior, name, curve=False)
    if term.graph is None and geometry is None:
        raise DataError(
            f"`{term.text}` has no graph to draw; fit.structured({term.name!r}) has its values, and geometry= takes "
            "polygons."
        )
    frame = structured_frame(posterior, term.name, interval)
    m, R = len(term.nodes), len(term.replicates)
    values = frame["mean"].to_numpy(dtype=float).reshape(R, m)
    ends = frame[["lower", "upper"]].to_numpy(dtype=float).reshape(R, m, 2)
    sure = (ends[..., 0] > 0.0) | (ends[..., 1] < 0.0)
    shown = spread_out(R, positive("limit", limit))
    outlines = None if geometry is None else _outlines(geometry, term)
    places = layout(term.graph) if outlines is None and term.graph is not None else None
    rows, columns = grid_shape(len(shown), 4)
    box = np.ptp(places, axis=0) + 1.0 if places is not None else _box(outlines or [])
    tall = float(np.clip(box[1] / max(box[0], 1e-9), 0.45, 1.5))
    width = 5.6 if len(shown) == 1 else 2.6
    picture = canvas(width * columns + 0.9, width * tall * rows + 1.0, size)
    axes = list(picture.subplots(rows, columns, squeeze=False).flat)
    top = float(np.abs(values[shown]).max()) or 1.0
    norm = TwoSlopeNorm(0.0, -top, top)
    for k, ax in enumerate(axes):
        ax.set_axis_off()
        if k >= len(shown):
            continue
        r = shown[k]
        if outlines is not None:
            _polygons(ax, outlines, values[r], sure[r], norm)
        elif places is not None:
            _graph(ax, places, term, values[r], sure[r], norm)
        ax.set_aspect("equal")
        if term.by is not None:
            ax.set_title(
                plain(shortened(label_text(term.replicates[r]), 30)), loc="left", size=SMALL + 0.5, color=BLACK
            )
    bar = picture.colorbar(ScalarMappable(norm, DIVERGING), ax=axes, shrink=0.7, pad=0.02, aspect=28)
    bar.ax.spines[:].set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, width=0.6, length=2.5)
    link = posterior.model.family.link.name
    bar.set_label(plain(f"f({term.column})" + ("" if link == "identity" else f", {link} scale")), size=NORMAL)
    legend = [(_ring(), f"{chance} interval without zero")] if sure[shown].any() else []
    fewer = f"{len(shown)} of {plural(R, 'level')} of {term.by}, evenly spaced." if len(shown) < R else ""
    drawn = (
        ""
        if outlines is not None
        else "Areas lie by their neighbours in the graph; lines join those that share a border."
    )
    centre = "mean" if posterior.estimates is None else "mode"
    caption = (f"Colour: posterior {centre}." if centre == "mean" else "Colour: mode.", drawn, fewer)
    return finish(picture, f"{term.text or term.name}: the effect of each area", caption, legend, save)


def _ring() -> Line2D:
    return Line2D(
        [], [], color="white", marker="o", markeredgecolor=BLACK, markeredgewidth=1.1, markersize=5, linewidth=0
    )


def _graph(ax: Axes, places: Array, term: StructuredTerm, values: Array, sure: Any, norm: TwoSlopeNorm) -> None:
    assert term.graph is not None
    m = len(places)
    ends: Any = places[term.graph.edges]
    ax.add_collection(LineCollection(ends, colors=LIGHT, linewidths=0.7 if m <= 300 else 0.35, zorder=1))
    dot = float(np.clip(5200.0 / m, 8.0, 190.0))
    below = 0.5 * np.sqrt(dot) + 1.0  # points
    edge = np.where(sure, BLACK, "#ffffff")
    ax.scatter(
        places[:, 0],
        places[:, 1],
        s=dot,
        c=values,
        cmap=DIVERGING,
        norm=norm,
        edgecolors=list(edge),
        linewidths=1.0,
        zorder=2,
    )
    if m <= NAMED:
        for (x, y), label in zip(places, term.nodes, strict=True):
            said: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top", "size": SMALL - 1.5}
            ax.annotate(plain(shortened(label_text(label), 12)), (x, y), (0, -below), color=BLACK, **said)
    ax.margins(0.12 if m <= NAMED else 0.05)


# ---- polygons ------------------------------------------------------------------------------


def _outlines(geometry: Any, term: StructuredTerm) -> list[Outline]:
    """Return the outline of each area, in the order of the nodes.

    Raises
    ------
    DataError
        If the object has no polygons, or areas are missing in it.
    """
    shapes = getattr(geometry, "geometry", None)
    if shapes is None or not hasattr(geometry, "columns"):
        raise DataError(
            f"geometry= is of type {type(geometry).__name__}: give a GeoDataFrame whose index, or whose column "
            f"`{term.column}`, holds the areas."
        )
    labels = geometry[term.column] if term.column in list(geometry.columns) else geometry.index
    names = np.empty(len(labels), dtype=object)
    names[:] = list(labels)
    places = match_levels(names, term.nodes)
    if (places < 0).any():
        lacking = [label_text(label) for label in term.nodes[places < 0]]
        raise DataError(
            f"geometry= has not the {'area' if len(lacking) == 1 else 'areas'} {listing(lacking)}: its index, or a "
            f"column `{term.column}`, must hold the areas of the graph."
        )
    every = list(shapes)
    return [_outline(every[k]) for k in places]


def _outline(shape: Any) -> Outline:
    parts = list(shape.geoms) if hasattr(shape, "geoms") else [shape]
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    return Outline.make_compound_path(*(Outline(np.asarray(ring.coords)[:, :2], closed=True) for ring in rings))


def _box(outlines: list[Outline]) -> Array:
    points = np.concatenate([np.asarray(one.vertices) for one in outlines])
    return np.asarray(np.ptp(points, axis=0))


def _polygons(ax: Axes, outlines: list[Outline], values: Array, sure: Any, norm: TwoSlopeNorm) -> None:
    colours = DIVERGING(norm(values))
    drawn = PathCollection(outlines, facecolors=colours, edgecolors=PALE, linewidths=0.5)
    ax.add_collection(drawn)
    bold = [one for one, strong in zip(outlines, sure, strict=True) if strong]
    ax.add_collection(PathCollection(bold, facecolors="none", edgecolors=BLACK, linewidths=1.0))
    points = np.concatenate([np.asarray(one.vertices) for one in outlines])
    ax.update_datalim(points)
    ax.autoscale_view()

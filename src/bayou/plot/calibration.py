"""The picture of a calibration: ECDF of the ranks less that of uniform ones, within its simultaneous band."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayou._types import Array
from bayou.diagnose.calibration.bands import critical, limits, points
from bayou.diagnose.calibration.result import LEVEL
from bayou.errors import DataError
from bayou.plot.style import (
    BLACK,
    GRAY,
    NORMAL,
    ORANGE,
    PALE,
    SMALL,
    Picture,
    canvas,
    finish,
    grid_shape,
    panels,
    plain,
    positive,
    shortened,
)

if TYPE_CHECKING:
    from bayou.diagnose.calibration import Calibration

__all__ = ["draw_calibration"]


def draw_calibration(
    found: Calibration,
    quantities: str | Iterable[str] | None,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw one panel per quantity; see `bayou.diagnose.calibration.Calibration.plot`."""
    names = _chosen(found, quantities)
    left_out = ""
    if quantities is None and len(names) > positive("limit", limit):
        left_out = f"The first {limit} of {len(names)} quantities; others can be named with quantities=."
        names = names[:limit]
    rows, columns = grid_shape(len(names), 4)
    picture = canvas(max(2.0 * columns, 4.4), 1.6 * rows + 0.9, size)
    axes = panels(picture, rows, columns, sharex=True, sharey=True)
    N, table = len(found.ranks), found.table
    at = points(found.draws)
    x = np.concatenate([[0.0], at / (found.draws + 1.0), [1.0]])
    low, high = limits(N, found.draws, critical(N, found.draws, LEVEL))
    band = [np.concatenate([[0.0], ends / N, [1.0]]) - x for ends in (low, high)]
    letters = int(15.0 * picture.get_figwidth() / columns)
    tallest = max(float(np.abs(band).max()), 0.05)
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(names))
        if place >= len(names):
            continue
        name = names[place]
        ranks = np.sort(found.ranks[:, found.quantities.index(name)])
        counts = np.concatenate([[0], np.searchsorted(ranks, at, side="left"), [N]])
        difference = counts / N - x
        tallest = max(tallest, float(np.abs(difference).max()))
        _panel(ax, x, band, difference, bool(table["outside"][name]))
        ax.set_title(plain(shortened(name, letters)), loc="left", size=NORMAL, color=BLACK, pad=13)
        said = f"p = {_small(float(table['p'][name]))}"
        ax.annotate(said, (0, 1), (0, 2), "axes fraction", "offset points", size=SMALL, color=GRAY, va="bottom")
    axes[0].set_ylim(-1.08 * tallest, 1.08 * tallest)
    axes[0].set_xlim(0.0, 1.0)
    for ax in axes[max(0, len(names) - columns) : len(names)]:
        ax.set_xlabel("rank")
        ax.tick_params(labelbottom=True)
    for place in range(0, len(names), columns):
        axes[place].set_ylabel("ECDF − uniform")
    handles = [
        (Patch(color=PALE), f"{100 * (1 - LEVEL):g} % band"),
        (Line2D([], [], color=BLACK, linewidth=1.1), "inside"),
        (Line2D([], [], color=ORANGE, linewidth=1.1), "outside"),
    ]
    meaning = (
        f"{N:,} simulations, ranks of the truth among {found.draws} draws, from 0 to 1. A hump above the line: the "
        "truth is too often low, the draws are too high. A slope up through the middle: the draws are too wide; down: "
        "too narrow. The band holds the whole curve of a right engine with probability .95, each quantity by itself."
    )
    verdict = "" if found.ok else "The verdict on all quantities together is not ok."
    title = f"Calibration of {found.study.engine.name}, {found.study.model.text}"
    return finish(picture, title, (meaning, verdict, left_out), handles, save)


def _panel(ax: Axes, x: Array, band: list[Array], difference: Array, outside: bool) -> None:
    ax.fill_between(x, band[0], band[1], color=PALE, linewidth=0.0)
    ax.axhline(0.0, color=GRAY, linewidth=0.5)
    ax.plot(x, difference, color=ORANGE if outside else BLACK, linewidth=1.1)


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _chosen(found: Calibration, quantities: str | Iterable[str] | None) -> list[str]:
    if quantities is None:
        return list(found.quantities)
    wanted = [quantities] if isinstance(quantities, str) else list(quantities)
    out: list[str] = []
    for name in wanted:
        mine = [one for one in found.quantities if one == name] or [
            one for one in found.quantities if one.startswith(str(name))
        ]
        if not mine:
            raise DataError(f"no quantity is called {name!r}; there are {', '.join(found.quantities)}.")
        out += mine
    return list(dict.fromkeys(out))

"""The zeta plot: how the signed root of the likelihood ratio runs along each parameter."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.special import ndtri

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
    ticks,
)

if TYPE_CHECKING:
    from bayou.inference.profile import Profile
    from bayou.inference.walk import Walk

__all__ = ["draw_profile"]

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
SHOWN = 0.95
HIGHEST = 2.9  # of zeta


def draw_profile(
    profile: Profile,
    parameters: str | Iterable[str] | None,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw zeta against each parameter; see `bayou.plot.Plots.profile`."""
    from bayou.inference.estimated import chosen

    names = chosen(profile.rows, parameters)
    left_out = ""
    if parameters is None and len(names) > positive("limit", limit):
        left_out = f"The first {limit} of {len(names)} parameters; others can be named with parameters=."
        names = names[:limit]
    longest = max(map(len, names))
    rows, columns = grid_shape(len(names), 3 if longest < 34 else 2)
    width = {1: 5.2, 2: 6.4}.get(columns, 2.5 * columns)
    picture = canvas(width, (2.05 if columns > 1 else 2.4) * rows + 0.85, size)
    axes = panels(picture, rows, columns, sharey=True)
    ends = [_panel(ax, profile.walk(name)) for ax, name in zip(axes, names, strict=False)]
    letters = int(16.5 * picture.get_figwidth() / columns)
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(names))
        if place < len(names):
            ax.set_title(plain(shortened(names[place], letters)), loc="left", size=NORMAL, color=BLACK, pad=15)
            ax.annotate(
                ends[place], (0, 1), (0, 3), "axes fraction", "offset points", size=SMALL, color=BLUE, va="bottom"
            )
        if place % columns == 0:
            ax.set_ylabel("zeta")
    axes[0].set_ylim(-HIGHEST, HIGHEST)
    axes[0].set_yticks([-2, -1, 0, 1, 2])
    others = ", ".join(f"{100 * level:g}" for level in LEVELS if level != SHOWN)
    handles = [
        (Line2D([], [], color=BLUE, linewidth=1.3), "95 % interval"),
        (Line2D([], [], color=LIGHT, linewidth=0.8), f"{others} %"),
    ]
    meaning = (
        "zeta: signed root of twice the fall of the log likelihood, maximised over all other parameters; the estimate "
        "is at 0. Dashed: what it would be were the likelihood normal. A circle marks the end of what a parameter can "
        "be."
    )
    title = f"Profile likelihood, {profile.model.design.response_name}"
    return finish(picture, title, (meaning, *profile.notes, left_out), handles, save)


def _panel(ax: Axes, walk: Walk) -> str:
    """Draw one parameter; returns its 95 % interval in words."""
    centre = walk.estimate
    first, last = walk.points[0], walk.points[-1]
    zeta = np.linspace(max(first.zeta, -HIGHEST), min(last.zeta, HIGHEST), 241)
    curve = walk.curve()
    v = np.array([curve(z) for z in zeta])
    ax.axhline(0.0, color=GRAY, linewidth=0.5)
    reach = v[-1] - v[0]
    ax.set_xlim(v[0] - 0.04 * reach, v[-1] + 0.04 * reach)
    se = 1.0 / centre.slope
    if first.zeta < 0.0 < last.zeta:
        ends = np.array([-HIGHEST, HIGHEST])
        ax.plot(centre.v + se * ends, ends, color=GRAY, linewidth=0.7, dashes=(4, 3), zorder=1.5)
    for level in LEVELS:
        own = level == SHOWN
        colour, thick = (BLUE, 1.3) if own else (LIGHT, 0.8)
        for z in (-float(ndtri(0.5 + level / 2.0)), float(ndtri(0.5 + level / 2.0))):
            if first.zeta <= z <= last.zeta:
                ax.plot([curve(z)] * 2, [0.0, z], color=colour, linewidth=thick, zorder=2 + own)
    z = float(ndtri(0.5 + SHOWN / 2.0))
    low, high = walk.solve(-z), walk.solve(z)
    inside = [np.clip(end, v[0], v[-1]) for end in (low, high)]
    ax.plot(inside, [0.0, 0.0], color=BLUE, linewidth=1.3, zorder=3, solid_capstyle="butt")
    ax.plot(v, zeta, color=BLACK, linewidth=1.2, zorder=4)
    for point in (first, last):
        if abs(point.zeta) < HIGHEST and point.v in (walk.coordinate.lower, walk.coordinate.upper):
            ax.plot([point.v], [point.zeta], "o", color="white", markeredgecolor=BLACK, markersize=3.6, zorder=5)
    ax.plot([centre.v], [0.0], "o", color=BLACK, markersize=3.0, zorder=5)
    ax.xaxis.set_major_locator(ticks(4))
    wide = high - low if np.isfinite(high - low) else reach
    places = int(np.clip(2 - np.floor(np.log10(wide)), 0, 8)) if wide > 0.0 else 3
    return f"{_number(low, places)} to {_number(high, places)}"


def _number(x: float, places: int) -> str:
    if not np.isfinite(x):
        return "∞" if x > 0.0 else "−∞"
    return f"{x:.{places}f}".replace("-", "−")

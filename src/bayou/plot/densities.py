"""Marginal densities of parameters: those of an approximation, or of draws."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayou._types import Array
from bayou.plot.forests import percent
from bayou.plot.numbers import chosen_rows, density, engine_title
from bayou.plot.style import (
    BLACK,
    BLUE,
    LIGHT,
    NORMAL,
    Picture,
    canvas,
    finish,
    grid_shape,
    panels,
    plain,
    shortened,
    ticks,
)
from bayou.posterior import Marginal, Posterior

__all__ = ["draw_marginals"]

REACH = 1e-3  # of the probability is left out at each end
HIGHEST = 8.0  # times the height of a uniform density: a density that is infinite at its border is cut there


def draw_marginals(
    posterior: Posterior,
    rows: str | Iterable[str] | None,
    interval: float,
    limit: int,
    size: tuple[float, float] | None,
    save: str | os.PathLike[str] | None,
) -> Picture:
    """Draw densities of parameters; see `bayou.plot.Plots.marginals`."""
    chance = percent(interval)
    asked = None if rows is None else [rows] if isinstance(rows, str) else list(rows)
    effects = posterior.effect_rows() if asked and any(str(row).startswith(("f_", "b_")) for row in asked) else {}
    own = [row for row in asked or () if row in effects]
    others = None if asked is None else [row for row in asked if row not in effects]
    names, left_out = chosen_rows(posterior, others, limit) if others is None or others else ([], "")
    names += own
    longest = max(map(len, names))
    shape = grid_shape(len(names), 4 if longest < 26 else 3 if longest < 36 else 2)
    width = {1: 4.6, 2: 6.2}.get(shape[1], 2.3 * shape[1])
    picture = canvas(width, 1.55 * shape[0] + 0.9, size)
    axes = panels(picture, *shape)
    letters = int(15.5 * picture.get_figwidth() / shape[1])
    for k, ax in enumerate(axes):
        ax.set_visible(k < len(names))
        if k < len(names):
            _panel(ax, posterior, names[k], effects, interval)
            ax.set_title(plain(shortened(names[k], letters)), loc="left", size=NORMAL, color=BLACK)
    legend = [
        (Line2D([], [], color=BLACK, linewidth=1.0), "median"),
        (Patch(color=BLUE, alpha=0.25, linewidth=0), f"{chance} interval"),
    ]
    if posterior.approximation is None or posterior.chained:
        made = f"Densities of {posterior.chains * posterior.size:,} draws by {engine_title([posterior])[0]}."
    else:
        made = f"Densities by {posterior.engine.partition('(')[0]}, {posterior.approximation.method}."
    return finish(picture, "Marginal posterior densities", (made, left_out), legend, save)


def _panel(
    ax: Axes,
    posterior: Posterior,
    name: str,
    effects: dict[str, tuple[str, tuple[int, ...]]],
    interval: float,
) -> None:
    cuts = (REACH, 0.5 - interval / 2, 0.5, 0.5 + interval / 2, 1.0 - REACH)
    known = _known(posterior, name, effects)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if known is None:
        values = posterior.values(effects.get(name) or posterior.rows[name]).ravel()
        low, first, middle, last, high = np.quantile(values, cuts)
        if not high > low:
            ax.axvline(middle, color=BLACK, linewidth=1.0)
            return
        room = 0.02 * (high - low)
        x = np.linspace(low - room, high + room, 400)
        y = density(values, x)
    else:
        low, first, middle, last, high = known.quantile(cuts)
        x = np.linspace(low, high, 400)
        y = known.density(x)
    _shape(ax, x, y, (first, middle, last))


def _shape(ax: Axes, x: Array, y: Array, cuts: tuple[float, float, float]) -> None:
    first, middle, last = cuts
    if x[0] < 0.0 < x[-1]:
        ax.axvline(0.0, color=LIGHT, linewidth=0.7, zorder=0)
    inside = (x >= first) & (x <= last)
    ax.fill_between(x[inside], y[inside], color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(x, y, color=BLUE, linewidth=1.2)
    ax.plot([middle, middle], [0.0, float(np.interp(middle, x, y))], color=BLACK, linewidth=1.0)
    ax.set_ylim(0.0, 1.06 * min(float(y.max()), HIGHEST / (x[-1] - x[0])))
    ax.set_xlim(x[0], x[-1])
    ax.xaxis.set_major_locator(ticks(4))


def _known(posterior: Posterior, name: str, effects: dict[str, tuple[str, tuple[int, ...]]]) -> Marginal | None:
    """Return the marginal of a row where an approximation has one."""
    found = posterior.approximation
    if found is None or posterior.chained:
        return None
    if name in effects:
        key, index = effects[name]
        mixture = found.effect(key)
        return None if mixture is None else mixture.marginal(*index)
    return found.marginals.get(name)

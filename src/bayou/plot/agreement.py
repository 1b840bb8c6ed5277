"""Engines beside each other: differences of means, ratios of sds, distances of distributions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from bayou.errors import DataError
from bayou.plot.style import (
    BLACK,
    BLUE,
    CHAINS,
    GRAY,
    ORANGE,
    PALE,
    Picture,
    canvas,
    finish,
    panels,
    positive,
    shortened,
)

if TYPE_CHECKING:
    from bayou.diagnose.agreement import Agreement

__all__ = ["draw_agreement"]

COLORS = (BLUE, ORANGE, CHAINS[4], CHAINS[6], CHAINS[3], CHAINS[1], CHAINS[5])
MARKS = "osD^vP"
NEGLIGIBLE = 0.05
REACH = 2.0  # Monte Carlo errors on each side
LARGEST_RATIO = 3.0


def draw_agreement(
    found: Agreement, limit: int, size: tuple[float, float] | None, save: str | os.PathLike[str] | None
) -> Picture:
    """Draw one line for each parameter and a mark for each engine; see `bayou.diagnose.agreement.Agreement.plot`."""
    positive("limit", limit)
    table = found.table.reset_index()
    others = [label for label in found.results if label != found.reference]
    own = table[table["engine"] != found.reference]
    if not others or not len(own):
        raise DataError("There is no second engine to compare with: nothing can be drawn.")
    names = list(dict.fromkeys(own["parameter"]))
    note = ""
    if len(names) > limit:
        far = own.assign(far=own["difference"].abs()).groupby("parameter")["far"].max()
        kept = set(far.nlargest(limit).index)
        note = f"The {limit} of {len(names)} parameters that differ the most."
        names = [name for name in names if name in kept]
    picture = canvas(8.2, 1.5 + len(names) * max(0.24, 0.11 * len(others)), size)
    shifts, ratios, distances = panels(picture, 1, 3, sharey=True, width_ratios=[5, 4, 3])
    place = {name: len(names) - 1 - k for k, name in enumerate(names)}
    offsets = np.linspace(0.26, -0.26, len(others)) if len(others) > 1 else np.zeros(1)
    legend = []
    for k, (label, offset) in enumerate(zip(others, offsets, strict=True)):
        rows = own[(own["engine"] == label) & own["parameter"].isin(names)]
        y = np.array([place[name] for name in rows["parameter"]]) + offset
        estimates = bool((rows["kind"] == "estimates").all())
        color, face = COLORS[k % len(COLORS)], "white" if estimates else COLORS[k % len(COLORS)]
        style: dict[str, Any] = {
            "fmt": MARKS[k % len(MARKS)], "ms": 4.2, "color": color, "mfc": face, "mew": 1.0, "elinewidth": 1.0,
        }  # fmt: skip
        for ax, value, error in ((shifts, "difference", "error"), (ratios, "ratio", "ratio_error")):
            reach = REACH * np.nan_to_num(rows[error].to_numpy(dtype=float), posinf=0.0)
            ax.errorbar(rows[value].to_numpy(dtype=float), y, xerr=reach, **style)
        distances.plot(rows["distance"].to_numpy(dtype=float), y, MARKS[k % len(MARKS)], ms=4.2, color=color, mfc=face)
        handle = Line2D([], [], marker=MARKS[k % len(MARKS)], ls="", ms=4.2, color=color, mfc=face)
        legend.append((handle, f"{label} (estimates)" if estimates else label))
    for ax, centre in ((shifts, 0.0), (ratios, 1.0)):
        ax.axvspan(centre - NEGLIGIBLE, centre + NEGLIGIBLE, color=PALE, lw=0, zorder=0)
        ax.axvline(centre, color=GRAY, lw=0.8, zorder=1)
    distances.axvspan(0.0, NEGLIGIBLE, color=PALE, lw=0, zorder=0)
    distances.set_xlim(left=0.0)
    left, right = ratios.get_xlim()
    ratios.set_xlim(max(left, 0.0), min(right, LARGEST_RATIO))
    for ax, title in (
        (shifts, "difference of means, posterior sds"),
        (ratios, "ratio of sds"),
        (distances, "Wasserstein distance, sds"),
    ):
        ax.set_xlabel(title)
        for row in range(len(names)):
            ax.axhline(row, color=PALE, lw=0.5, zorder=0)
    shifts.set_yticks(list(place.values()), [shortened(name, 34) for name in place])
    shifts.set_ylim(-0.6, len(names) - 0.4)
    for ax in (shifts, ratios, distances):
        ax.tick_params(axis="y", length=0, labelcolor=BLACK)
    caption = [
        f"Bars are {REACH:g} Monte Carlo errors on each side; in the gray band differences are too small to matter.",
        "Open marks are maxima with standard errors: no means." if any("(est" in text for _, text in legend) else "",
        note,
    ]
    return finish(picture, f"Agreement with {found.reference}", caption, legend, save)

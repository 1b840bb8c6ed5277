"""The look that all pictures share: one palette, thin lines, quiet axes, captions that fit."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayou.errors import DataError, FileError

__all__ = [
    "BLACK",
    "BLUE",
    "CHAINS",
    "GRAY",
    "LIGHT",
    "ORANGE",
    "PALE",
    "Picture",
    "canvas",
    "finish",
    "grid_shape",
    "panels",
    "plain",
    "positive",
    "shortened",
    "spread_out",
    "ticks",
    "tidy",
]

BLACK, GRAY, LIGHT, PALE = "#1a1a1a", "#767676", "#b9b9b9", "#e4e4e4"
BLUE, ORANGE = "#2b6cb0", "#c05621"
CHAINS = ("#1f4e79", "#5b9bd5", "#c05621", "#e0a458", "#4a7c59", "#8fbc94", "#7d5a94", "#b79ec6")

SMALL, NORMAL = 7.5, 8.5
INCH_OF_LETTER = 0.0072  # width of an average letter, inches per point of size
MOST_INCHES = 60.0


class Picture(Figure):
    """A matplotlib figure of its own: unknown to pyplot, so that nothing has to be closed.

    ``savefig`` writes it, a notebook shows it, ``axes`` holds its panels.
    """

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def canvas(width: float, height: float, size: tuple[float, float] | None = None) -> Picture:
    """Return an empty picture.

    Parameters
    ----------
    width, height
        Inches, unless ``size`` says otherwise.
    size
        What the caller asked for: (width, height).
    """
    if size is not None:
        try:
            width, height = (float(inches) for inches in size)
        except (TypeError, ValueError):
            width = np.nan
        if not (0.0 < width <= MOST_INCHES and 0.0 < height <= MOST_INCHES):
            raise DataError(f"size={size!r}: give width and height in inches, at most {MOST_INCHES:g} each.")
    picture = Picture(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    engine: Any = picture.get_layout_engine()
    engine.set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)
    return picture


def panels(picture: Picture, rows: int, columns: int, **options: Any) -> list[Axes]:
    """Return rows x columns tidy panels, row by row."""
    made = picture.subplots(rows, columns, squeeze=False, **options)
    for ax in made.flat:
        tidy(ax)
    return list(made.flat)


def tidy(ax: Axes) -> None:
    """Give a panel thin axes on two sides and small ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.6, color=GRAY)
    ax.tick_params(which="both", width=0.6, length=2.5, color=GRAY, labelsize=SMALL, labelcolor=BLACK)
    ax.xaxis.set_major_locator(ticks())
    ax.yaxis.set_major_locator(ticks())
    ax.xaxis.label.set(size=NORMAL, color=BLACK)
    ax.yaxis.label.set(size=NORMAL, color=BLACK)
    ax.title.set(size=NORMAL, color=BLACK)


def ticks(most: int = 5, whole: bool = False) -> MaxNLocator:
    """Return where ticks go: few, and at round numbers."""
    return MaxNLocator(most, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10], integer=whole)


def finish(
    picture: Picture,
    title: str,
    caption: Sequence[str] = (),
    legend: Sequence[tuple[Any, str]] = (),
    save: str | os.PathLike[str] | None = None,
) -> Picture:
    """Write title, legend and caption, and save the picture if a path is given.

    Parameters
    ----------
    picture
        With its panels drawn.
    title
        What is shown; it stands at the upper left, the legend at the upper right.
    caption
        Sentences for the foot of the picture; empty ones are left out.
    legend
        Handles and their words.
    save
        Path to write to; its ending chooses the format.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    width = picture.get_figwidth()
    words = sum(4 + len(text) for _, text in legend)
    for_title = max(width / (INCH_OF_LETTER * 10.5) - words * SMALL / 10.5, 24.0)
    lines = textwrap.wrap(title, int(for_title)) or [""]
    picture.suptitle(plain("\n".join(lines)), x=0.012, ha="left", size=10, color=BLACK, weight="medium")
    if legend:
        picture.legend(
            [handle for handle, _ in legend],
            [plain(text) for _, text in legend],
            loc="outside upper right",
            ncols=len(legend),
            frameon=False,
            fontsize=SMALL,
            handlelength=1.6,
            columnspacing=1.2,
            borderaxespad=0.1,
            labelcolor=BLACK,
        )
    said = " ".join(sentence for sentence in caption if sentence)
    if said:
        foot = "\n".join(textwrap.wrap(said, max(int(width / (INCH_OF_LETTER * SMALL)), 30)))
        picture.supxlabel(plain(foot), x=0.012, ha="left", size=SMALL, color=GRAY, linespacing=1.35)
    if save is not None:
        try:
            picture.savefig(save)
        except OSError as error:
            raise FileError(f"{save} cannot be written: {error.strerror or error}.") from error
        except ValueError as error:  # an unknown ending
            raise FileError(f"{save} cannot be written: {error}") from error
    return picture


def plain(text: object) -> str:
    """Return text that matplotlib does not read as mathematics."""
    return str(text).replace("$", r"\$")


def shortened(text: str, most: int) -> str:
    """Cut a long name, and say so with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def grid_shape(count: int, columns: int) -> tuple[int, int]:
    """Return rows and columns of a grid that holds count panels, at most so many columns wide.

    >>> grid_shape(8, 5)
    (2, 4)
    """
    rows = -(-count // columns)
    return rows, -(-count // rows)


def spread_out(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of the numbers 0 to count - 1, evenly spaced, with both ends.

    >>> spread_out(100, 4)
    [0, 33, 66, 99]
    """
    if count <= limit:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, limit).round()]


def positive(name: str, value: Any) -> int:
    """Return a whole number of at least 1, or raise `DataError`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise DataError(f"{name}={value!r}: give a whole number of at least 1.")
    return int(value)

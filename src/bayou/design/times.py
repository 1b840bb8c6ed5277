"""Times and other coordinates: the distinct points of a random walk, the grid of seasons, the cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bayou._types import Array, Integers, Labels
from bayou.design.columns import Column, level_labels
from bayou.errors import DataError
from bayou.formula import Structured
from bayou.formula.words import label_text, listing, plural

__all__ = ["Scale", "Times", "learn_times", "read_coordinates"]

_least = {"rw1": 2, "rw2": 3, "ar1": 2}
_microseconds = 86_400_000_000.0
_largest = 1e15
_longest_grid = 1_000_000


@dataclass(frozen=True)
class Scale:
    """How values of the column become coordinates.

    Attributes
    ----------
    text, column : str
        The term and its column, for messages.
    origin : float or None
        The first date, in days since 1970-01-01; None for numbers.
    base, period : float
        A cycle begins at `base`; `period` is 0 where there is none.
    tolerance : float
        Coordinates nearer than this are the same.
    whole : bool
        Whether coordinates must be whole numbers.
    """

    text: str
    column: str
    origin: float | None
    base: float = 0.0
    period: float = 0.0
    tolerance: float = 0.0
    whole: bool = False

    def fold(self, x: Array) -> Array:
        """Return coordinates within one cycle; as they are where there is no cycle."""
        if not self.period:
            return x
        outside = (x < self.base) | (x >= self.base + self.period)
        folded = np.where(outside, self.base + np.mod(x - self.base, self.period), x)
        return np.where(folded > self.base + self.period - self.tolerance, self.base, folded)

    def labels(self, x: Array) -> Labels:
        """Return coordinates as labels: whole numbers as int, dates as text."""
        out = np.empty(len(x), dtype=object)
        if self.origin is None:
            out[:] = level_labels(x, "number")
        else:
            out[:] = level_labels(np.rint((x + self.origin) * _microseconds).astype(np.int64), "date")
        return out


@dataclass(frozen=True, eq=False)
class Times:
    """The points of a time structure: coordinate (m,), labels (m,), the point of each row, codes (n,)."""

    coordinate: Array
    labels: Labels
    codes: Integers
    scale: Scale


def read_coordinates(column: Column, scale: Scale, rows: str = "") -> Array:
    """Return a column as coordinates, NaN where missing.

    Raises
    ------
    DataError
        For text, and for dates where numbers were before, or the other way round.
    """
    if column.kind == "category":
        shown = listing([repr(level) for level in column.factor().levels], 3)
        raise DataError(
            f"`{scale.text}`: the column `{column.name}` holds text or categories ({shown}); it needs numbers or "
            "dates. Convert it, or write an unstructured effect, "
            f"(1 | {column.name})."
        )
    if (column.kind == "date") != (scale.origin is not None):
        now, before = ("dates", "numbers") if column.kind == "date" else ("numbers", "dates")
        raise DataError(f"`{scale.text}`: the column `{column.name}` holds {now}; the model was fitted to {before}.")
    x = column.numbers()
    return x if scale.origin is None else x - scale.origin


def learn_times(term: Structured, column: Column) -> tuple[Times, dict[str, object], list[str]]:
    """Return the points of a time structure, its settings with numbers filled in, and notes.

    Raises
    ------
    DataError
        For text; for too few distinct values; for a cycle of unknown length; for seasons that are not whole.
    """
    origin = float(column.numbers().min()) if column.kind == "date" else None
    scale = Scale(term.text, term.column, origin)
    x = read_coordinates(column, scale)
    settings, notes = term.settings, list[str]()
    if origin is not None:
        first = label_text(scale.labels(np.zeros(1))[0])
        unit = f", so a period of {settings['period']:g} is that many days" if settings["period"] else ""
        notes.append(f"{term.text}: dates count in days since {first}{unit}.")
    if float(np.abs(x).max(initial=0.0)) > _largest:
        raise DataError(f"`{term.text}`: {term.column} reaches {np.abs(x).max():.3g}; change its origin or unit.")
    codes, points = _distinct(x)
    points, codes, scale = _joined(points, codes, scale, notes)
    if settings["cyclic"]:
        period = settings["period"]
        points, codes, scale = _cycle(points, codes, scale, period if isinstance(period, float) else None, notes)
        settings["period"] = scale.period
    if term.kind == "seasonal":
        points, codes, scale = _seasons(points, codes, scale, settings["period"])
    else:
        least = _least[term.kind] + (1 if settings["cyclic"] else 0)
        if len(points) < least:
            raise DataError(
                f"`{term.text}` needs at least {least} distinct values of `{term.column}`; it has {len(points)}. Leave "
                f"it out, or write an unstructured effect, (1 | {term.column})."
            )
    return Times(points, scale.labels(points), codes, scale), settings, notes


def _distinct(x: Array) -> tuple[Integers, Array]:
    """Return the place of each value among the sorted distinct ones, and these."""
    codes, found = pd.factorize(x)
    order = np.argsort(found)
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    return place[codes], np.asarray(found[order], dtype=np.float64) + 0.0


def _joined(points: Array, codes: Integers, scale: Scale, notes: list[str]) -> tuple[Array, Integers, Scale]:
    """Join points that differ by rounding only: their gap would make the walk singular."""
    span = float(points[-1] - points[0])
    tolerance = max(1e-9 * span, 8.0 * np.finfo(float).eps * float(np.abs(points).max()))
    scale = replace(scale, tolerance=tolerance)
    new = np.append(True, np.diff(points) > tolerance)
    if new.all():
        return points, codes, scale
    merged = len(points) - int(new.sum())
    verb = "differs" if merged == 1 else "differ"
    notes.append(f"{scale.text}: {plural(merged, 'value')} of {scale.column} {verb} by rounding only and were joined.")
    return points[new], (np.cumsum(new) - 1)[codes], scale


def _cycle(
    points: Array, codes: Integers, scale: Scale, period: float | None, notes: list[str]
) -> tuple[Array, Integers, Scale]:
    """Close the circle: fold what lies beyond one period, or take the points as one full cycle."""
    if len(points) < 2:
        return points, codes, replace(scale, base=float(points[0]), period=period or 1.0)
    gaps = np.diff(points)
    if period is None:
        if gaps.max() - gaps.min() > 1e-6 * gaps.mean():
            widest = int(gaps.argmax())
            raise DataError(
                f"`{scale.text}`: the values of {scale.column} are not evenly spaced (from {points[widest]:g} to "
                f"{points[widest + 1]:g}, elsewhere {gaps.min():g}), so the length of the cycle is unknown; "
                "write period=…."
            )
        gap = float(gaps.mean())
        gap = round(gap) if abs(gap - round(gap)) < 1e-6 * gap and gap > 0.5 else gap
        period = float(len(points) * gap)
        notes.append(
            f"{scale.text}: the {plural(len(points), 'value')} of {scale.column} are one full cycle of length "
            f"{period:g}; write period=… for another."
        )
        return points, codes, replace(scale, base=float(points[0]), period=period)
    # Whole periods start where calendars do when that fits: at zero, or at one.
    start = next((b for b in (0.0, 1.0) if points[0] >= b and points[-1] < b + period), float(points[0]))
    scale = replace(scale, base=start, period=period)
    folded = scale.fold(points)
    if not np.array_equal(folded, points):
        beyond = points[-1] - points[0]
        notes.append(
            f"{scale.text}: {scale.column} spans {beyond:g}, which is folded into one cycle of {period:g} from "
            f"{start:g}."
        )
    place, found = _distinct(folded)
    new = np.append(True, np.diff(found) > scale.tolerance)
    return found[new], (np.cumsum(new) - 1)[place][codes], scale


def _seasons(points: Array, codes: Integers, scale: Scale, period: object) -> tuple[Array, Integers, Scale]:
    """Fill the grid of whole numbers from the first to the last."""
    assert isinstance(period, int)
    whole = np.rint(points)
    if (np.abs(points - whole) > max(scale.tolerance, 1e-9)).any():
        first = points[int(np.flatnonzero(np.abs(points - whole) > max(scale.tolerance, 1e-9))[0])]
        raise DataError(
            f"`{scale.text}`: {scale.column} must be whole, one unit per season; it holds {first:g}. Number the "
            "seasons 0, 1, 2, ….",
        )
    count = int(whole[-1] - whole[0]) + 1
    if count <= period:
        raise DataError(
            f"`{scale.text}`: {scale.column} goes from {whole[0]:g} to {whole[-1]:g}, {plural(count, 'season')}; a "
            f"period of {period} needs more than {period}."
        )
    if count > _longest_grid and count > 100 * len(points):
        raise DataError(
            f"`{scale.text}`: {scale.column} goes from {whole[0]:g} to {whole[-1]:g}, {count:,} seasons for "
            f"{plural(len(points), 'distinct value')}; number them by one unit per season."
        )
    grid = whole[0] + np.arange(count)
    return grid, (whole - whole[0]).astype(np.int64)[codes], replace(scale, whole=True)

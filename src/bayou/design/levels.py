"""Grouping factors as integer codes: learnt once, then looked up for new rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayou._types import Integers, Labels
from bayou.design.columns import Factor
from bayou.design.frames import Frame
from bayou.design.places import Places
from bayou.errors import Unsupported
from bayou.formula.words import label_text, listing, plural

MANY = 10_000
"""Rows from which on cells are looked up in a table, which takes longer to make than to search a few of them."""

__all__ = ["Levels", "learn_levels", "match_levels", "recoded", "sorted_order", "unused_levels"]


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of a factor, or of the combinations of several.

    Attributes
    ----------
    factors : tuple of str
    labels : (J,) ndarray of objects
        In sorted order; "u:v" for a combination.
    parts : tuple of (J_k,) ndarray of objects
        Levels of each factor alone.
    cells : (J,) ndarray of int64
        Which combinations occur, as a mixed-radix number over the parts.
    """

    factors: tuple[str, ...]
    labels: Labels
    parts: tuple[Labels, ...]
    cells: Integers

    def look_up(self, frame: Frame) -> tuple[Integers, Labels]:
        """Return codes (n,), -1 for unseen or missing, and labels (n,), None where missing.

        A factor whose column is absent from the frame counts as missing in every row.
        """
        if any(name not in frame for name in self.factors):
            return np.full(frame.n, -1, dtype=np.int64), np.full(frame.n, None, dtype=object)
        found = [frame[name].factor() for name in self.factors]
        codes = self.codes(frame)
        return codes, np.where(codes >= 0, self.labels[codes], _row_labels(found))

    def codes(self, frame: Frame) -> Integers:
        """Return the codes alone, (n,), of a frame that has the columns."""
        found = [frame[name].factor() for name in self.factors]
        known = [recoded(part, factor) for part, factor in zip(self.parts, found, strict=True)]
        if len(known) == 1:
            return known[0]
        cell, missing = _cells(known, [len(part) for part in self.parts])
        if frame.n > MANY:
            return self._places.find(cell)  # -1, which no cell is, where one is missing
        place = np.minimum(np.searchsorted(self.cells, cell), len(self.cells) - 1)
        return np.where(missing | (self.cells[place] != cell), -1, place)

    @cached_property
    def _places(self) -> Places:
        places = Places()
        places.add(self.cells)
        return places


def learn_levels(factors: Sequence[str], frame: Frame) -> tuple[Levels, Integers]:
    """Return the levels that occur in a frame and the code of each row, -1 where one is missing."""
    found = [frame[name].factor() for name in factors]
    parts = tuple(factor.levels for factor in found)
    if len(found) == 1:
        cells = np.arange(len(parts[0]), dtype=np.int64)
        return Levels(tuple(factors), parts[0], parts, cells), found[0].codes
    cell, missing = _cells([factor.codes for factor in found], [len(part) for part in parts])
    cells, inverse = np.unique(cell[~missing], return_inverse=True)
    codes = np.full(frame.n, -1, dtype=np.int64)
    codes[~missing] = inverse
    columns = np.unravel_index(cells, [len(part) for part in parts])
    labels = _joined([part[column] for part, column in zip(parts, columns, strict=True)])
    return Levels(tuple(factors), labels, parts, cells), codes


def recoded(known: Labels, factor: Factor) -> Integers:
    """Return the place of each row's level among the known ones, -1 where it is strange or missing."""
    if factor.levels is known:
        return factor.codes
    return np.append(match_levels(known, factor.levels), -1)[factor.codes]


def match_levels(known: Labels, found: Labels) -> Integers:
    """Return the place of each found label among the known ones, -1 where there is none.

    Labels are compared as they are and, failing that, as text, so that 1 meets "1" and 1.0.
    """
    place = {label: code for code, label in enumerate(known)}
    codes = np.array([place.get(label, -1) for label in found], dtype=np.int64)
    if (codes < 0).any():
        by_text = {label_text(label): code for label, code in place.items()}
        for j in np.flatnonzero(codes < 0):
            codes[j] = by_text.get(label_text(found[j]), -1)
    return codes


def unused_levels(name: str, factor: Factor) -> str:
    """Say which declared levels no row has; the empty string when there are none."""
    if not len(factor.unused):
        return ""
    shown = listing([label_text(level) for level in factor.unused])
    return f"{name}: {plural(len(factor.unused), 'unused level')} dropped ({shown})."


def sorted_order(what: str, names: Labels, noun: str) -> str:
    """Say that rows without names were taken in the order of the sorted levels, and which that is."""
    shown = ", ".join(label_text(label) for label in names[:4]) + (", …" if len(names) > 4 else "")
    return f"{what} has no names: its rows are taken as the sorted {noun}s, {shown}."


def _cells(codes: Sequence[Integers], sizes: Sequence[int]) -> tuple[Integers, np.ndarray]:
    """Join codes to one number per row; the mask tells where one of them is -1."""
    if np.prod([float(size) for size in sizes]) > 2.0**62:
        raise Unsupported("the combinations of these factors are too many to be numbered; nest fewer.")
    cell = np.zeros(len(codes[0]), dtype=np.int64)
    missing = np.zeros(len(codes[0]), dtype=bool)
    for code, size in zip(codes, sizes, strict=True):
        cell = cell * size + code
        missing |= code < 0
    return np.where(missing, -1, cell), missing


def _joined(columns: Sequence[Labels]) -> Labels:
    texts = [":".join(map(label_text, row)) for row in zip(*columns, strict=True)]
    return np.array(texts, dtype=object) if texts else np.empty(0, dtype=object)


def _row_labels(found: Sequence[Factor]) -> Labels:
    """Return the label of each row, None where a factor is missing."""
    padded = [np.append(factor.levels, np.array([None], dtype=object))[factor.codes] for factor in found]
    if len(padded) == 1:
        return np.asarray(padded[0])
    labels = _joined(padded)
    labels[np.any([factor.codes < 0 for factor in found], axis=0)] = None
    return labels

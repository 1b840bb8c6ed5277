"""All rows again, coded as the template says, one block at a time: what the reducers take in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from bayou._types import Array, Integers
from bayou.design import Design, NewRows
from bayou.design.columns import Column, Factor
from bayou.design.frames import Frame
from bayou.design.grouping import constant_slope
from bayou.errors import DataError
from bayou.streaming.faults import numbered
from bayou.streaming.learning import Learned
from bayou.streaming.needs import Needs
from bayou.streaming.pieces import Declared, Piece, block_length, chosen, piece
from bayou.streaming.reading import Coder
from bayou.streaming.sources import BLOCK, Source

__all__ = ["Coded", "Passes", "coded_frame"]


@dataclass(frozen=True)
class Coded(Column):
    """A column whose levels are those of all rows."""

    coder: Coder | None = None
    keys: Integers | None = field(default=None, repr=False)

    @cached_property
    def _factor(self) -> Factor:
        assert self.coder is not None and self.keys is not None
        return Factor(_codes(self.name, self.coder, self.keys), self.coder.labels, self.coder.unused)


class UnknownLevel(DataError):
    """A value that was not there when levels were learnt, in some row of a block."""

    def __init__(self, name: str, row: int) -> None:
        super().__init__(f"`{name}` has a level that is not known.")
        self.name, self.row = name, row


def _codes(name: str, coder: Coder, keys: Integers) -> Integers:
    codes = coder.places.find(keys)
    if len(codes) and codes.min() < 0:
        raise UnknownLevel(name, int(codes.argmin()))
    return codes


def coded_frame(
    block: pa.Table | Frame, names: tuple[str, ...], coders: dict[str, Coder], declared: dict[str, Declared]
) -> Frame:
    """Return a block as a frame; the columns with levels have those of all rows."""

    def getter(one: Piece) -> Callable[[], Column]:
        return lambda: _coded(one, coders[one.name]) if one.name in coders else one.column

    return Frame(block_length(block), {name: getter(piece(name, block, declared[name])) for name in names})


def _coded(one: Piece, coder: Coder) -> Column:
    keys = one.keys()
    if one.kind != "category":
        plain = one.column
        return Coded(one.name, plain.kind, plain.values, plain.missing, plain.levels, plain.ordered, coder, keys)
    codes = _codes(one.name, coder, keys)
    column = Coded(one.name, "category", codes, codes < 0, coder.labels, True, coder, keys)
    column.__dict__["_factor"] = Factor(codes, coder.labels, coder.unused)
    return column


class Passes:
    """Passes over all complete rows; each call begins a new one.

    The rows come in their order, coded by the template; those with missing values are left out. The first full pass
    also checks what needs all rows: slopes that never vary within a level.

    Raises
    ------
    DataError
        For values that a response or a weight cannot have, with row numbers; for constant slopes; and when the rows
        are not those that were read before.
    """

    def __init__(self, source: Source, needs: Needs, learned: Learned, stamp: object, size: int = BLOCK) -> None:
        self.source, self.needs, self.learned, self.stamp, self.size = source, needs, learned, stamp, size
        self.count = 0
        self._checked = False

    def __call__(self) -> Iterator[NewRows]:
        """Return the blocks of one pass."""
        template, learned = self.learned.template, self.learned
        slopes = None if self._checked else _Slopes(template)
        rows = used = 0
        for start, block in self.source.blocks(self.needs.columns, self.size):
            absent = [
                mask
                for name in self.needs.columns
                if (mask := piece(name, block, learned.declared[name]).missing()) is not None
            ]
            n = block_length(block)
            rows += n
            positions = np.arange(start, start + n)
            if absent:
                complete = ~np.logical_or.reduce(absent)
                positions = numbered(start, complete)
                block = chosen(block, complete)
            if not len(positions):
                continue
            used += len(positions)
            if used > learned.used:
                break
            frame = coded_frame(block, self.needs.columns, learned.coders, learned.declared)
            try:
                coded = template.recipe.rebuild(frame, True, positions, labelled=False)
            except UnknownLevel as error:
                how = f"row {positions[error.row]} has a level of {error.name} that was not there at first"
                raise _changed(self.source, how) from None
            self._check_levels(coded, positions)
            if slopes is not None:
                slopes.add(coded)
            yield coded
        if (rows, used) != (learned.rows, learned.used) or self.source.stamp() != self.stamp:
            raise _changed(self.source, f"{learned.rows:,} rows were found at first, {rows:,} now")
        if slopes is not None:
            slopes.refuse()
        self._checked = True
        self.count += 1

    def _check_levels(self, coded: NewRows, positions: Integers) -> None:
        for grouping, codes in zip(self.learned.template.groupings, coded.codes, strict=True):
            if len(codes) and codes.min() < 0:
                row = int(positions[int(codes.argmin())])
                raise _changed(self.source, f"row {row} has a level of {grouping.name} that was not there at first")


def _changed(source: Source, how: str) -> DataError:
    return DataError(
        f"{source.what} changed while it was read: {how}. Let no other program write to it, and give a query that has "
        "an order, or start again."
    )


class _Slopes:
    """Which columns vary within some level, as far as the rows have shown."""

    def __init__(self, template: Design) -> None:
        self.groupings = template.groupings
        self.open: list[list[int]] = [
            [k for k, name in enumerate(g.coefficients) if name != "Intercept" and "Intercept" in g.coefficients]
            for g in template.groupings
        ]
        self.first: list[Array | None] = [np.full((len(g.levels), 0), np.nan) for g in template.groupings]

    def add(self, coded: NewRows) -> None:
        """Compare the rows of a block with the first ones of their levels."""
        for g, (codes, Z) in enumerate(zip(coded.codes, coded.Z, strict=True)):
            if not self.open[g]:
                self.first[g] = None
                continue
            first = self.first[g]
            if first is None or first.shape[1] != Z.shape[1]:
                first = self.first[g] = np.full((len(self.groupings[g].levels), Z.shape[1]), np.nan)
            new = np.isnan(first[codes, 0])
            where = np.flatnonzero(new)[::-1]
            first[codes[where]] = Z[where]
            self.open[g] = [k for k in self.open[g] if np.array_equal(Z[:, k], first[codes, k])]

    def refuse(self) -> None:
        """Refuse slopes that never varied."""
        for grouping, still in zip(self.groupings, self.open, strict=True):
            if still:
                raise constant_slope(grouping.coefficients[still[0]], grouping.name)


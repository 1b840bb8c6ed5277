"""One column of one block: where it is missing, whole numbers that stand for its values, and its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bayou._types import Integers, Mask
from bayou.design.columns import Column, from_arrow, from_series
from bayou.design.frames import Frame
from bayou.errors import DataError

__all__ = ["Declared", "Piece", "block_length", "chosen", "piece"]


class Declared:
    """The levels of a categorical column in the order in which they were declared, over all blocks."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self._last: tuple[Any, Integers] | None = None

    def of_arrow(self, name: str, dictionary: pa.Array) -> tuple[Integers, bool]:
        """Return the number of each entry, and whether some were not declared before."""
        if self._last is not None and dictionary.equals(self._last[0]):
            return self._last[1], False
        places, grew = self.numbered(_labels(name, dictionary))
        self._last = dictionary, places
        return places, grew

    def numbered(self, labels: np.ndarray[Any, Any]) -> tuple[Integers, bool]:
        """Return the number of each label, and whether some were not declared before."""
        before = len(self.numbers)
        places = np.array([self.numbers.setdefault(label, len(self.numbers)) for label in labels], dtype=np.int64)
        return places, len(self.numbers) > before


class Piece:
    """One column of one block.

    Attributes
    ----------
    name, kind : str
        The kind of `Column`: number, boolean, date or category.
    grew : bool
        Whether the block declares levels of a category that no block before it had.
    """

    def __init__(self, name: str, values: pa.Array | Column, declared: Declared) -> None:
        self.name, self.grew = name, False
        self._column: Column | None = values if isinstance(values, Column) else None
        self._arrow: pa.Array | None = None if isinstance(values, Column) else values
        if self._arrow is not None:
            kind = self._arrow.type
            if pa.types.is_dictionary(kind):
                self._dictionary, self.grew = declared.of_arrow(name, self._arrow.dictionary)
        elif self.column.kind == "category":
            assert self.column.levels is not None
            self._dictionary, self.grew = declared.numbered(self.column.levels)

    @property
    def text(self) -> bool:
        """Whether it is text in Arrow's form."""
        return self._arrow is not None and _is_text(self._arrow.type)

    @property
    def kind(self) -> str:
        """The kind that the column has as a whole."""
        if self._arrow is not None:
            kind = self._arrow.type
            if _is_text(kind) or pa.types.is_dictionary(kind):
                return "category"
            if pa.types.is_date(kind) or pa.types.is_timestamp(kind):  # also where all are missing
                return "date"
            if pa.types.is_boolean(kind):
                return "boolean"
            if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
                return "number"
        return self.column.kind

    def missing(self) -> Mask | None:
        """Return the mask of missing values, None where there are none."""
        if self._arrow is not None:
            if pa.types.is_integer(self._arrow.type) or self.kind in ("category", "boolean"):
                if not self._arrow.null_count:
                    return None
                return np.asarray(self._arrow.is_null().to_numpy(zero_copy_only=False))
            if pa.types.is_float64(self._arrow.type) and not self._arrow.null_count:
                absent = np.isnan(self._arrow.to_numpy())
                return absent if absent.any() else None
        return self.column.missing if self.column.missing.any() else None

    def infinite(self) -> Mask | None:
        """Return the mask of infinite values, None where there are none; of a piece without missing values."""
        if self.kind != "number" or (self._arrow is not None and pa.types.is_integer(self._arrow.type)):
            return None
        values = self.column.values
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return None
        found = np.isinf(values)
        return found if found.any() else None

    @property
    def column(self) -> Column:
        """The plain column of the block by itself: its levels, of text, are those of the block."""
        if self._column is None:
            assert self._arrow is not None
            self._column = _plain(self.name, self._arrow)
        return self._column

    def texts(self, where: Mask) -> list[str]:
        """Return the different texts in some rows; none for a column of another kind."""
        if not self.text:
            return []
        assert self._arrow is not None
        return [text for text in self._arrow.filter(pa.array(where)).unique().to_pylist() if text is not None]

    def keys(self) -> Integers:
        """Return one whole number per row, equal where values are equal; of a piece without missing values.

        Text is hashed to 64 bits: of a million different texts two are taken for the same with probability 3e-8.
        """
        if self._arrow is not None and _is_text(self._arrow.type):
            import polars as pl

            hashed = pl.Series(self._arrow).hash(seed=1)
            return np.asarray(hashed.to_numpy().view(np.int64))
        if self._arrow is not None and pa.types.is_dictionary(self._arrow.type):
            codes = self._arrow.indices.to_numpy(zero_copy_only=False)
            return np.asarray(self._dictionary[codes])
        column = self.column
        if column.kind == "category":
            return np.asarray(self._dictionary[column.values])
        return bits(self.name, column.values)


def bits(name: str, values: np.ndarray[Any, Any]) -> Integers:
    """Return numbers, booleans or dates as whole numbers, equal where they are equal."""
    kind = values.dtype.kind
    if kind == "f":
        return np.asarray((values.astype(np.float64, copy=False) + 0.0).view(np.int64))
    if kind == "u":
        return np.asarray(values.astype(np.uint64, copy=False).view(np.int64))
    if kind == "M":
        return np.asarray(values.astype("datetime64[us]").view(np.int64))
    if kind in "ib":
        return np.asarray(values.astype(np.int64, copy=False))
    raise DataError(f"the column `{name}` holds whole numbers beyond 64 bits; write them as text to stream it.")


def piece(name: str, block: pa.Table | Frame, declared: Declared) -> Piece:
    """Return one column of a block."""
    if isinstance(block, Frame):
        return Piece(name, block[name], declared)
    column = block.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column, or one beyond the offsets of its type
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return Piece(name, array, declared)


def block_length(block: pa.Table | Frame) -> int:
    """Return the number of rows."""
    return block.n if isinstance(block, Frame) else int(block.num_rows)


def chosen(block: pa.Table | Frame, rows: np.ndarray[Any, Any]) -> pa.Table | Frame:
    """Return a block at the given positions or where a mask is true."""
    if isinstance(block, Frame):
        return block.take(rows)
    return block.filter(pa.array(rows)) if rows.dtype == np.bool_ else block.take(pa.array(rows))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _labels(name: str, dictionary: pa.Array) -> np.ndarray[Any, Any]:
    return from_series(name, pd.Series(from_arrow(dictionary))).labels()


def _plain(name: str, array: pa.Array) -> Column:
    """Turn an Arrow array into a column; numbers without nulls go straight."""
    if not array.null_count:
        if pa.types.is_float64(array.type):
            values = array.to_numpy()
            return Column(name, "number", values, np.isnan(values))
        if pa.types.is_integer(array.type):
            wide = np.uint64 if pa.types.is_unsigned_integer(array.type) else np.int64
            return Column(name, "number", array.to_numpy().astype(wide, copy=False), _nowhere(len(array)))
        if pa.types.is_boolean(array.type):
            return Column(name, "boolean", array.to_numpy(zero_copy_only=False), _nowhere(len(array)))
    return from_series(name, from_arrow(array))


def _nowhere(n: int) -> Mask:
    return np.zeros(n, dtype=np.bool_)

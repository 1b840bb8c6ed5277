"""Some of the rows of a source, in stretches spread over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.design.frames import Frame, read
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, plural

if TYPE_CHECKING:
    from bayou.streaming.sources import Source

__all__ = ["STRETCHES", "sample"]

STRETCHES = 16
PIECE = 2**16
"""Rows of the pieces in which a source without known length is passed over."""


def sample(
    data: Any, source: Source | None, used: Sequence[str], most: int
) -> tuple[int, str, Frame, np.ndarray[Any, Any]]:
    """Return the number of all rows, what they are, at most so many of them, and the stretch of each of these.

    Files are opened at `STRETCHES` places; what can only be read from the start is read once, keeping every piece at
    first, then every second, fourth, … so that the pieces that are kept stay spread over what was read.

    Raises
    ------
    DataError
        For columns that are not there.
    """
    if source is None:
        frame = read(data)
        where = _places(frame.n, most)
        thinned = frame if where is None else frame.take(where)
        return frame.n, f"{plural(frame.n, 'row')} in memory", thinned, np.arange(thinned.n) * STRETCHES // thinned.n
    absent = [name for name in used if name not in source.names]
    if absent:
        raise DataError(f"{source.what} has no column `{absent[0]}`.{did_you_mean(absent[0], source.names)}")
    from bayou.streaming.files import Files

    rows, parts = _from_files(source, used, most) if isinstance(source, Files) else _in_one_pass(source, used, most)
    if not rows:
        raise DataError(f"{source.what}: there are 0 rows; look at the file, or at the filter that left none.")
    if isinstance(parts[0], Frame):
        return rows, source.what, parts[0], np.arange(parts[0].n) * STRETCHES // parts[0].n
    import pyarrow as pa

    stretch = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return rows, source.what, read(pa.concat_tables(parts, promote_options="permissive")), stretch


def _places(n: int, most: int) -> np.ndarray[Any, Any] | None:
    """Return the rows of `STRETCHES` stretches, None for all rows."""
    if n <= most:
        return None
    length = most // STRETCHES
    starts = np.linspace(0, n - length, STRETCHES).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(length)).ravel())


def _from_files(source: Any, used: Sequence[str], most: int) -> tuple[int, list[Any]]:
    """Read stretches of Parquet files, which know where their rows are."""
    if source.rows <= most:
        return source.rows, [table for _, table in source.blocks(used)]
    length = most // STRETCHES
    starts = np.linspace(0, source.rows - length, STRETCHES).astype(np.int64)
    import pyarrow as pa

    return source.rows, [pa.concat_tables(source.stretch(used, int(start), length)) for start in starts]


def _in_one_pass(source: Source, used: Sequence[str], most: int) -> tuple[int, list[Any]]:
    """Pass over all rows once, keeping every k-th piece."""
    rows, every, kept = 0, 1, list[tuple[int, Any]]()
    for number, (_, table) in enumerate(source.blocks(used, PIECE)):
        if isinstance(table, Frame):
            whole = source.table(used)
            assert isinstance(whole, Frame)
            where = _places(whole.n, most)
            return whole.n, [whole if where is None else whole.take(where)]
        rows += len(table)
        if number % every == 0:
            kept.append((number, table))
        if sum(len(part) for _, part in kept) > most:
            every *= 2
            kept = [(k, part) for k, part in kept if k % every == 0]
    return rows, [part for _, part in kept]

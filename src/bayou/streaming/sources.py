"""Whatever rows can be read from again and again, a block at a time: files, queries, data sets and tables."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bayou.design.frames import Frame, read
from bayou.errors import BayouError, DataError
from bayou.formula.words import plural

__all__ = ["BLOCK", "Source", "open_source"]

T = TypeVar("T")

BLOCK = 2**18
"""Rows of a block: what is computed per block is nothing beside them, and their columns stay in the cache."""


class Source(ABC):
    """Rows in a fixed order, read from the start as often as needed.

    Attributes
    ----------
    what : str
        "3 Parquet files in sales/", "a DuckDB relation".
    names : tuple of str
        All columns.
    """

    what: str
    names: tuple[str, ...]

    @abstractmethod
    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table | Frame]:
        """Return some columns of all rows, a table of about so many rows at a time."""

    def size(self, columns: Sequence[str]) -> float | None:
        """Return the bytes of some columns in memory, or None where only reading them tells."""
        return None

    def stamp(self) -> object:
        """Return what differs when the data were changed, as far as that can be seen from outside."""
        return None

    def place(self, row: int) -> str:
        """Say where a row stands beside its number, the empty string where there is no more to say."""
        return ""

    def blocks(
        self, columns: Sequence[str], rows: int = BLOCK, exact: bool = False
    ) -> Iterator[tuple[int, pa.Table | Frame]]:
        """Return (number of the first row, table) for all blocks of at most so many rows, or of exactly so many.

        Raises
        ------
        DataError, FileError
            When the rows cannot be read; the libraries' own errors do not escape.
        """
        start = 0
        tables = guarded(self.what, lambda: iter(self.tables(columns, rows)))
        if exact:
            tables = _even(tables, rows)
        while (table := guarded(self.what, lambda: next(tables, None))) is not None:
            n = table.n if isinstance(table, Frame) else table.num_rows
            for first in range(0, n, rows):
                count = min(rows, n - first)
                if isinstance(table, Frame):
                    yield start + first, table.take(np.arange(first, first + count))
                else:
                    yield start + first, table.slice(first, count)
            start += n

    def table(self, columns: Sequence[str], limit: float = np.inf) -> pa.Table | Frame | None:
        """Return some columns of all rows as one table, or None when they take more bytes than the limit."""
        known = self.size(columns)
        if known is not None and known > limit:
            return None
        found, size = [], 0.0
        for _, part in self.blocks(columns):
            assert not isinstance(part, Frame), "a source of frames returns its own table"
            size += part.nbytes
            if size > limit:
                return None
            found.append(part)
        if not found:
            raise DataError(f"{self.what}: there are 0 rows; look at the file, or at the filter that left none.")
        return pa.concat_tables(found)


class Query(Source):
    """A polars LazyFrame, run anew for each pass by the streaming engine."""

    def __init__(self, data: Any) -> None:
        self.what, self.data = "a polars LazyFrame", data
        self.schema = guarded(self.what, data.collect_schema)
        self.names = tuple(self.schema.names())

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Return the columns; categories without a declared order are text."""
        import polars as pl

        chosen = [
            pl.col(name).cast(pl.String) if self.schema[name] == pl.Categorical else pl.col(name) for name in columns
        ]
        yield from batches(self.data.select(chosen), rows)


class Relation(Source):
    """A DuckDB relation, run anew for each pass."""

    def __init__(self, data: Any) -> None:
        self.what, self.data = "a DuckDB relation", data
        self.names = tuple(data.columns)

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Return the columns through DuckDB's Arrow reader."""
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        chosen = self.data.project(quoted)
        reader = chosen.to_arrow_reader if hasattr(chosen, "to_arrow_reader") else chosen.fetch_record_batch
        for batch in reader(rows):
            yield pa.Table.from_batches([batch])


class Dataset(Source):
    """A pyarrow Dataset."""

    def __init__(self, data: Any) -> None:
        self.what, self.data = "a pyarrow Dataset", data
        self.names = tuple(data.schema.names)

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Return the columns in the order of the fragments."""
        for batch in self.data.to_batches(columns=list(columns), batch_size=rows):
            yield pa.Table.from_batches([batch])

    def stamp(self) -> object:
        """Return sizes and times of the files."""
        return stamps(Path(file) for file in getattr(self.data, "files", ()))


class Table(Source):
    """A table that is in memory already."""

    def __init__(self, data: Any) -> None:
        self.frame = read(data)
        self.what = f"a table of {plural(self.frame.n, 'row')} in memory"
        self.names = self.frame.names

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[Frame]:
        """Return slices of the columns."""
        for start in range(0, self.frame.n, rows):
            part = np.arange(start, min(start + rows, self.frame.n))
            yield Frame(len(part), {name: self._getter(name, part) for name in columns})

    def table(self, columns: Sequence[str], limit: float = np.inf) -> Frame:
        """Return the table itself."""
        return self.frame

    def _getter(self, name: str, part: np.ndarray[Any, Any]) -> Callable[[], Any]:
        return lambda: self.frame[name].take(part)


def open_source(data: Any) -> Source | None:
    """Return a source for what streams; None for tables in memory and for files that are read whole.

    Raises
    ------
    FileError
        For a folder without Parquet files, and files that cannot be read.
    DataError
        For a stream that can be read only once.

    Examples
    --------
    >>> import polars
    >>> open_source(polars.LazyFrame({"y": [1.0, 2.0]})).names
    ('y',)
    >>> open_source({"y": [1.0, 2.0]}) is None
    True
    """
    if isinstance(data, Source):
        return data
    from bayou.streaming.files import Files, parquet_files

    paths = parquet_files(data)
    if paths is not None:
        return Files(str(data) if isinstance(data, str | os.PathLike) else "the list", paths)
    home, name = type(data).__module__.split(".")[0], type(data).__name__
    if home == "polars" and name == "LazyFrame":
        return Query(data)
    if home in ("duckdb", "_duckdb") and name == "DuckDBPyRelation":
        return Relation(data)
    if home == "pyarrow" and hasattr(data, "to_batches") and hasattr(data, "scanner"):
        return Dataset(data)
    if home == "pyarrow" and name in ("RecordBatchReader", "RecordBatchStreamReader", "Scanner"):
        raise DataError(
            f"a {name} can be read only once, and the rows are read in several passes: give the Parquet files, the "
            "Dataset or the query behind it."
        )
    return None


def _even(tables: Iterator[pa.Table | Frame], rows: int) -> Iterator[pa.Table | Frame]:
    """Put tables together and cut them so that all but the last have a multiple of so many rows."""
    waiting: list[pa.Table] = []
    for table in tables:
        if isinstance(table, Frame):  # slices of one table, which are even already
            yield table
            continue
        waiting.append(table)
        count = sum(len(one) for one in waiting)
        if count >= rows:
            whole = pa.concat_tables(waiting)
            cut = count - count % rows
            yield whole.slice(0, cut)
            waiting = [whole.slice(cut)] if cut < count else []
    if waiting:
        yield pa.concat_tables(waiting)


def batches(query: Any, rows: int) -> Iterator[pa.Table]:
    """Run a LazyFrame in blocks of about so many rows, in order; polars calls this unstable, so it stands once."""
    for frame in query.collect_batches(chunk_size=rows, maintain_order=True):
        yield frame.to_arrow()


def guarded(what: str, action: Callable[[], T]) -> T:
    """Run an action of some library; its errors leave as a DataError."""
    try:
        return action()
    except BayouError:
        raise
    except Exception as error:  # the libraries raise nearly everything
        raise DataError(f"{what} cannot be read: {type(error).__name__}: {error}") from error


def stamps(paths: Iterator[Path]) -> object:
    """Return the size and the time of the last change of files."""
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists())

"""Parquet files as one source: a file, a folder or a pattern, checked for one schema before anything is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bayou.errors import DataError, FileError
from bayou.formula.words import did_you_mean, plural
from bayou.streaming.sources import Source, batches, guarded, stamps

__all__ = ["Files", "parquet_files"]

_endings = (".parquet", ".pq")


def parquet_files(data: Any) -> list[Path] | None:
    """Return the Parquet files that a path, a folder, a pattern or a list of paths names; None for anything else.

    Raises
    ------
    FileError
        For a folder or pattern without any, and for files that are not there.
    """
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | os.PathLike) for one in data):
        return [file for one in data for file in parquet_files(one) or _no_parquet(one)]
    if not isinstance(data, str | os.PathLike):
        return None
    path = Path(data)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in _endings and not _hidden(p, path)]
        if not found:
            raise FileError(f"the folder {path} holds no .parquet file.")
        return sorted(found)
    if path.suffix.lower() in _endings and path.exists():
        return [path]
    if any(letter in str(path) for letter in "*?["):
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
        found = [p for p in matches if p.suffix.lower() in _endings]
        if not found:
            raise FileError(f"no .parquet file matches {path}.")
        return found
    if path.suffix.lower() in _endings:
        raise FileError(f"there is no file {path}.")
    return None


def _no_parquet(path: Any) -> list[Path]:
    raise FileError(f"{path} is no .parquet file; a list of files may name only such.")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)


@dataclass(frozen=True)
class File:
    """One file: its schema, the values that its folders stand for, where its rows begin."""

    path: Path
    schema: pa.Schema
    folders: dict[str, str]
    start: int
    rows: int
    sizes: dict[str, int]


class Files(Source):
    """Parquet files, one after the other.

    A column has one type in all files that are read: integers and floats of several widths are brought together, and
    a column of nothing but nulls takes the type that it has elsewhere.

    Raises
    ------
    FileError
        For files that cannot be opened.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        start, self.files = 0, list[File]()
        for path in paths:
            self.files.append(_open(path, start))
            start += self.files[-1].rows
        self.rows = start
        self.what = f"the file {name}" if len(paths) == 1 else f"{plural(len(paths), 'Parquet file')} in {name}"
        first = self.files[0]
        self.names = (*first.schema.names, *(name for name in first.folders if name not in first.schema.names))
        self._whole = {
            key: all(_whole(file.folders.get(key, "")) for file in self.files) for key in first.folders
        }

    def size(self, columns: Sequence[str]) -> float:
        """Return the bytes of the columns as the files count them, without compression."""
        return float(sum(max(file.sizes.get(name, 0), file.rows) for file in self.files for name in columns))

    def stamp(self) -> object:
        """Return sizes and times of the files."""
        return stamps(file.path for file in self.files)

    def place(self, row: int) -> str:
        """Name the file and the row within it."""
        if len(self.files) == 1:
            return ""
        file = next(f for f in reversed(self.files) if f.start <= row)
        return f"row {row - file.start} of {file.path.name}"

    def types(self, columns: Sequence[str]) -> dict[str, pa.DataType]:
        """Return the type of each column over all files.

        Raises
        ------
        DataError
            Naming the column, two files and the first row of the second, for types that do not go together.
        """
        found: dict[str, pa.DataType] = {}
        for name in columns:
            owner = self.files[0]
            found[name] = self._type(owner, name)
            for file in self.files[1:]:
                other = self._type(file, name)
                common = _common(found[name], other)
                if common is None:
                    raise DataError(
                        f"the column `{name}` holds {_words(found[name])} in {owner.path.name} and {_words(other)} in "
                        f"{file.path.name}, from row {file.start} on (counted from 0). Convert it to one type."
                    )
                if pa.types.is_null(found[name]) and not pa.types.is_null(common):
                    owner = file
                found[name] = common
        return found

    def _type(self, file: File, name: str) -> pa.DataType:
        if name in file.schema.names:
            return file.schema.field(name).type
        if name in file.folders:
            return pa.int64() if self._whole.get(name) else pa.large_string()
        raise DataError(
            f"the file {file.path.name} lacks the column `{name}`, which {self.files[0].path.name} has."
            f"{did_you_mean(name, file.schema.names)}"
        )

    def stretch(self, columns: Sequence[str], start: int, count: int) -> Iterator[pa.Table]:
        """Return the columns of some rows alone, a table for each file that holds some of them."""
        import polars as pl

        types = self.types(columns)
        target = pa.schema([(name, types[name]) for name in columns])
        for file in self.files:
            first, last = max(start, file.start), min(start + count, file.start + file.rows)
            if first >= last:
                continue
            own = [name for name in columns if name in file.schema.names]
            query = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).select(own)
            part = query.slice(first - file.start, last - first)
            table = guarded(str(file.path), part.collect).to_arrow()
            yield _brought(self._with_folders(file, table, columns, types), target)

    def _with_folders(
        self, file: File, table: pa.Table, columns: Sequence[str], types: dict[str, pa.DataType]
    ) -> pa.Table:
        """Return a table of one file with the columns that its folders stand for."""
        for name in columns:
            if name not in table.column_names:
                value = int(file.folders[name]) if self._whole[name] else file.folders[name]
                table = table.append_column(name, pa.array([value] * len(table), types[name]))
        return table.select(list(columns))

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Return the columns of one file after the other."""
        types = self.types(columns)
        target = pa.schema([(name, types[name]) for name in columns])
        for file in self.files:
            own = [name for name in columns if name in file.schema.names]
            for table in _read(file, own, rows):
                yield _brought(self._with_folders(file, table, columns, types), target)


def _open(path: Path, start: int) -> File:
    import pyarrow.parquet as pq  # its file systems take longer to import than all of bayou

    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            sizes: dict[str, int] = {}
            for k in range(metadata.num_row_groups):
                group = metadata.row_group(k)
                for j in range(group.num_columns):
                    name = group.column(j).path_in_schema.split(".")[0]
                    sizes[name] = sizes.get(name, 0) + group.column(j).total_uncompressed_size
            rows = metadata.num_rows
    except Exception as error:  # pyarrow raises many kinds
        raise FileError(f"{path} cannot be read: {error}") from error
    for name in schema.names:
        kind = schema.field(name).type
        width = kind.bit_width if pa.types.is_primitive(kind) else 0
        sizes[name] = max(sizes.get(name, 0), rows * width // 8)
    folders = dict(part.split("=", 1) for part in path.parts[:-1] if part.count("=") == 1)
    return File(path, schema, folders, start, rows, sizes)


def _read(file: File, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """Read one file: by polars, three times as fast as Arrow, unless it holds categories, whose order polars loses."""
    if not file.rows:
        return
    if not columns:
        for start in range(0, file.rows, rows):
            yield pa.table({"": np.zeros(min(rows, file.rows - start), dtype=np.int8)})
        return
    try:
        if any(pa.types.is_dictionary(file.schema.field(name).type) for name in columns):
            import pyarrow.parquet as pq

            with pq.ParquetFile(file.path) as opened:
                for batch in opened.iter_batches(rows, columns=columns):
                    yield pa.Table.from_batches([batch])
            return
        import polars as pl

        query = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).select(columns)
        yield from batches(query, rows)
    except Exception as error:  # polars and pyarrow raise many kinds
        raise FileError(f"{file.path} cannot be read: {error}") from error


def _brought(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Return a table with the types that the columns have in all files."""
    for k, field in enumerate(target):
        own = table.schema.field(k).type
        if own != field.type and not (_text(own) and _text(field.type)) and not pa.types.is_dictionary(own):
            table = table.set_column(k, field.name, table.column(k).cast(field.type))
        elif pa.types.is_dictionary(own) and not pa.types.is_dictionary(field.type):
            table = table.set_column(k, field.name, table.column(k).cast(field.type))
    return table


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds both, or None."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        unsigned = pa.types.is_unsigned_integer(one) and pa.types.is_unsigned_integer(other)
        return pa.uint64() if unsigned else pa.int64()
    if _number(one) and _number(other):
        return pa.float64()
    if pa.types.is_dictionary(one) and pa.types.is_dictionary(other):
        return one if _common(one.value_type, other.value_type) is not None else None
    inner = [t.value_type if pa.types.is_dictionary(t) else t for t in (one, other)]
    if all(map(_text, inner)):
        return pa.large_string()
    if all(pa.types.is_date(t) or pa.types.is_timestamp(t) for t in (one, other)):
        zones = {getattr(t, "tz", None) for t in (one, other)}
        return pa.timestamp("us", zones.pop()) if len(zones) == 1 else None
    return None


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _words(kind: pa.DataType) -> str:
    """Name a type for a message."""
    for test, words in (
        (_text, "text"),
        (_number, "numbers"),
        (pa.types.is_boolean, "booleans"),
        (pa.types.is_temporal, "dates or times"),
        (pa.types.is_dictionary, "categories"),
        (pa.types.is_null, "nothing but nulls"),
    ):
        if test(kind):
            return f"{words} ({kind})" if words in ("numbers", "dates or times", "categories") else words
    return f"values of type {kind}"


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()

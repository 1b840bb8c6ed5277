"""The data door: any table, one store of plain columns. Only this module knows data frame libraries."""

from __future__ import annotations

import collections
import csv
import gzip
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from bayou._types import Labels
from bayou.design.columns import Column, from_arrow, from_series
from bayou.errors import BayouError, DataError, FileError
from bayou.formula.words import did_you_mean, listing

__all__ = ["Frame", "read"]

_T = TypeVar("_T")


class Frame:
    """Columns by name, each turned into plain arrays when it is first asked for.

    Attributes
    ----------
    n : int
        Number of rows.
    names : tuple of str
    index : ndarray of objects or None
        Labels of the rows, where the table has some; everything else goes by position.
    """

    def __init__(self, n: int, getters: Mapping[str, Callable[[], Column]], index: Labels | None = None) -> None:
        self.n = n
        self.index = index
        self._getters = dict(getters)
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        return tuple(self._getters)

    def __contains__(self, name: object) -> bool:
        return name in self._getters

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            if name not in self._getters:
                raise DataError(f"the data have no column `{name}`.{did_you_mean(name, self.names)}")
            self._columns[name] = _guarded(f"the column `{name}`", self._getters[name])
        return self._columns[name]

    def with_column(self, name: str, values: np.ndarray[Any, Any]) -> Frame:
        """Return the frame with one more column of numbers."""
        added = from_series(name, pd.Series(values))
        return Frame(self.n, {**self._getters, name: lambda: added}, self.index)

    def take(self, rows: np.ndarray[Any, Any]) -> Frame:
        """Return the frame at the given positions or where a mask is true."""

        def getter(name: str) -> Callable[[], Column]:
            return lambda: self[name].take(rows)

        n = int(np.count_nonzero(rows)) if rows.dtype == np.bool_ else len(rows)
        index = None if self.index is None else self.index[rows]
        return Frame(n, {name: getter(name) for name in self.names}, index)


def read(data: Any, categories: Mapping[str, Sequence[Any]] | None = None) -> Frame:
    """Open a table of any kind.

    Parameters
    ----------
    data : table
        A pandas, polars (eager or lazy) or other narwhals-compatible frame, a pyarrow table, a
        dict of columns, a path to a CSV or Parquet file, or a `Frame`.
    categories : mapping, optional
        Declared order of the levels of some text columns (`Design.categories` keeps it), for tables
        that have no categorical type of their own.

    Returns
    -------
    Frame

    Raises
    ------
    DataError
        For duplicate names, columns of unequal length, and things that are not tables.
    FileError
        For a path that cannot be read.

    Examples
    --------
    >>> frame = read({"dose": [1, 2, 2], "arm": ["b", "a", "b"]})
    >>> frame["dose"].numbers()
    array([1., 2., 2.])
    >>> frame["arm"].factor().levels
    array(['a', 'b'], dtype=object)
    """
    frame = _guarded("the data", lambda: _open(data))
    for name, levels in (categories or {}).items():
        if name in frame:
            frame = _with_levels(frame, name, levels)
    return frame


def _open(data: Any) -> Frame:
    if isinstance(data, Frame):
        return data
    if isinstance(data, str | os.PathLike):
        return _open(_read_file(Path(data)))
    if isinstance(data, pd.DataFrame):
        return _from_pandas(data)
    if isinstance(data, Mapping):
        return _from_mapping(data)
    return _from_narwhals(data)


def _guarded(what: str, action: Callable[[], _T]) -> _T:
    """Run an action of some data frame library; its errors leave as a DataError."""
    try:
        return action()
    except BayouError:
        raise
    except Exception as error:  # the libraries raise nearly everything
        raise DataError(f"{what} cannot be read: {type(error).__name__}: {error}") from error


def _from_pandas(data: pd.DataFrame) -> Frame:
    if data.columns.nlevels > 1:
        raise DataError("the columns have several levels of names; flatten them first.")
    names = _unique_names(data.columns)

    def getter(place: int, name: str) -> Callable[[], Column]:
        return lambda: from_series(name, data.iloc[:, place])

    default = isinstance(data.index, pd.RangeIndex) and data.index.start == 0 and data.index.step == 1
    index = None
    if not default:
        index = data.index.to_numpy()
    return Frame(len(data), {name: getter(place, name) for place, name in enumerate(names)}, index)


def _from_mapping(data: Mapping[Any, Any]) -> Frame:
    names = _unique_names(data)
    columns = dict(zip(names, data.values(), strict=True))
    series = {name: _series(name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in series.items()}
    if len(set(lengths.values())) > 1:
        shown = listing([f"`{name}` {length:,}" for name, length in lengths.items()])
        raise DataError(f"the columns have unequal lengths: {shown}.")

    def getter(name: str) -> Callable[[], Column]:
        return lambda: from_series(name, series[name])

    return Frame(next(iter(lengths.values()), 0), {name: getter(name) for name in names})


def _series(name: str, values: Any) -> pd.Series[Any]:
    """Turn one column of a dict into a pandas column, by position."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise DataError(f"the column `{name}` is one {type(values).__name__}, not a sequence of values.")
    if getattr(values, "ndim", 1) != 1:
        raise DataError(f"the column `{name}` has {values.ndim} dimensions; it needs one.")
    if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return pd.Series(values).reset_index(drop=True)
    if isinstance(values, list | tuple):
        # Through objects, so that 2**63 beside None is not rounded to a float.
        plain = np.empty(len(values), dtype=object)
        plain[:] = values
        return pd.Series(plain, dtype=object)
    if type(values).__module__.split(".")[0] in ("polars", "pyarrow"):
        return _from_arrow_series(values)
    if isinstance(values, np.ma.MaskedArray):
        objects = np.array(values.data, dtype=object)
        objects[np.ma.getmaskarray(values)] = None
        return pd.Series(objects)
    plain = np.asarray(values)
    return pd.Series(plain.astype(object) if plain.dtype.kind in "US" else plain)


def _from_arrow_series(values: Any) -> pd.Series[Any]:
    if isinstance(values, pa.Array):
        return from_arrow(values)
    return _narwhals_series(nw.from_native(values, series_only=True))


def _from_narwhals(data: Any) -> Frame:
    try:
        table = nw.from_native(data)
    except TypeError:
        raise DataError(
            f"the data are of type {type(data).__name__}; a pandas, polars or pyarrow table, a dict of "
            f"columns, or a path to a CSV or Parquet file is needed."
        ) from None
    frame = table.collect() if isinstance(table, nw.LazyFrame) else table
    names = _unique_names(frame.columns)

    def getter(name: str) -> Callable[[], Column]:
        return lambda: from_series(name, _narwhals_series(frame.get_column(name)))

    return Frame(len(frame), {name: getter(name) for name in names})


def _narwhals_series(series: nw.Series[Any]) -> pd.Series[Any]:
    if series.implementation.is_polars() and series.dtype == nw.Categorical:
        series = series.cast(nw.String)  # its order is that of appearance; an Enum's was declared
    return from_arrow(series.to_arrow())


def _with_levels(frame: Frame, name: str, levels: Sequence[Any]) -> Frame:
    """Return the frame with one column recoded to declared levels."""
    factor = frame[name].factor()
    labels = np.empty(len(levels), dtype=object)
    labels[:] = list(levels)
    place = {label: code for code, label in enumerate(labels)}
    known = np.array([place.get(label, -1) for label in factor.levels] + [-1], dtype=np.int64)
    codes = known[factor.codes]
    column = Column(name, "category", codes, codes < 0, labels, True)
    getters = {other: (lambda other=other: frame[other]) for other in frame.names}
    return Frame(frame.n, {**getters, name: lambda: column}, frame.index)


def _unique_names(names: Iterable[Any]) -> list[str]:
    found = [str(name) for name in names]
    twice = [name for name, count in collections.Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"the data have duplicate column names: {listing(twice)}. Rename them.")
    return found


def _read_file(path: Path) -> Any:
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in ("csv", "tsv", "parquet", "pq"):
        raise FileError(f"{path} is not read: name a .csv, .tsv or .parquet file.")
    try:
        if kind in ("parquet", "pq"):
            import pyarrow.parquet as pq  # its file systems take longer to import than all of bayou

            return pq.read_table(path)
        separator = "\t" if kind == "tsv" else ","
        with (gzip.open if path.suffix.lower() == ".gz" else open)(
            path, "rt", encoding="utf-8-sig", newline=""
        ) as file:
            _unique_names(next(csv.reader(file, delimiter=separator), ()))
        # low_memory=False: one type per column, not one per chunk of rows.
        return pd.read_csv(path, sep=separator, low_memory=False, encoding="utf-8-sig", index_col=False)
    except FileNotFoundError:
        raise FileError(f"there is no file {path}.") from None
    except BayouError:
        raise
    except pd.errors.EmptyDataError:
        raise DataError(f"the file {path} is empty.") from None
    except Exception as error:  # pandas and pyarrow raise many kinds
        raise FileError(f"{path} cannot be read: {error}") from error

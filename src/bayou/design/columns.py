"""One column of data in one of four plain forms, whatever library it came from."""

from __future__ import annotations

import collections
import datetime
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bayou._types import Array, Integers, Labels
from bayou.errors import DataError
from bayou.formula.words import first_rows, listing

__all__ = ["Column", "Factor", "from_arrow", "from_series", "level_labels"]

_exact = 2.0**53


@dataclass(frozen=True)
class Factor:
    """Rows coded by level: codes (n,) with -1 for missing, levels (J,) in their order."""

    codes: Integers
    levels: Labels
    unused: Labels


@dataclass(frozen=True)
class Column:
    """A column as plain arrays.

    Attributes
    ----------
    name : str
    kind : {"number", "boolean", "date", "category"}
    values : ndarray
        Numbers (float64, int64, uint64, or objects for integers beyond 64 bits), booleans,
        datetime64, or int64 codes of a category.
    missing : ndarray of bool
    levels : ndarray of objects or None
        Of a category, in declared order, or sorted.
    ordered : bool
        Whether the order of the levels was declared by a categorical type.
    """

    name: str
    kind: str
    values: np.ndarray[Any, Any]
    missing: np.ndarray[Any, Any]
    levels: Labels | None = None
    ordered: bool = False

    def take(self, rows: np.ndarray[Any, Any]) -> Column:
        """Return the column at the given positions or where a mask is true."""
        return Column(self.name, self.kind, self.values[rows], self.missing[rows], self.levels, self.ordered)

    def numbers(self) -> Array:
        """Return the column as float64; a date counts in days since 1970-01-01.

        Raises
        ------
        DataError
            When the column holds text.
        """
        if self.kind == "category":
            known = listing([repr(level) for level in self._levels()], 4)
            raise DataError(f"the column `{self.name}` holds text or categories ({known}); a number is needed here.")
        if self.kind == "date":
            days = (self.values - np.datetime64(0, "us")) / np.timedelta64(1, "D")
            return np.where(self.missing, np.nan, days)
        out = self.values.astype(np.float64)
        if self.missing.any():
            out[self.missing] = np.nan
        return out

    def factor(self) -> Factor:
        """Return the column as levels: sorted unique values, or in declared order where there is one."""
        return self._factor

    @cached_property
    def _factor(self) -> Factor:
        if self.kind == "category":
            return _used(self.values, self._levels())
        values = self.values
        if self.kind == "date":
            values = values.astype("datetime64[us]").astype(np.int64)
        codes, found = pd.factorize(values)
        codes = codes.astype(np.int64)
        codes[self.missing] = -1
        order = _sorted_order(found)
        labels = np.empty(len(found), dtype=object)
        labels[:] = level_labels(found[order], self.kind)
        place = np.empty(len(found) + 1, dtype=np.int64)
        place[order] = np.arange(len(found))
        place[-1] = -1
        # A missing integer keeps its place in `values` with a filler, so a level may be left unused.
        factor = _used(place[codes], labels)
        return Factor(factor.codes, factor.levels, np.empty(0, dtype=object))

    def labels(self) -> Labels:
        """Return one label per row as objects, None where missing."""
        factor = self.factor()
        padded = np.append(factor.levels, np.array([None], dtype=object))
        return np.asarray(padded[factor.codes])

    def raw(self) -> np.ndarray[Any, Any]:
        """Return the values as one plain array that `read` takes back: numbers, booleans, dates or text."""
        plain = self.kind != "category" and not self.missing.any()
        return self.values.copy() if plain else self.labels()

    def _levels(self) -> Labels:
        return self.levels if self.levels is not None else np.empty(0, dtype=object)


def _used(codes: Integers, levels: Labels) -> Factor:
    present = np.bincount(codes[codes >= 0], minlength=len(levels)) > 0
    if present.all():
        return Factor(codes, levels, np.empty(0, dtype=object))
    place = np.append(np.where(present, np.cumsum(present) - 1, -1), -1)
    return Factor(place[codes], levels[present], levels[~present])


def level_labels(found: np.ndarray[Any, Any], kind: str) -> list[Any]:
    """Return numbers (whole ones as int) or microseconds of dates as the labels of levels."""
    if kind == "date":
        texts = [str(moment) for moment in found.astype("datetime64[us]")]
        whole = all(text.endswith("T00:00:00.000000") for text in texts)
        return [text[:10] if whole else text.removesuffix(".000000") for text in texts]
    if found.dtype.kind == "f" and np.all((found == np.rint(found)) & (np.abs(found) < _exact)):
        return [int(value) for value in found]
    return list((found + 0.0 if found.dtype.kind == "f" else found).tolist())


def _sorted_order(found: np.ndarray[Any, Any]) -> Integers:
    if found.dtype.kind != "O":
        return np.argsort(found, kind="stable")
    return np.array(sorted(range(len(found)), key=found.__getitem__), dtype=np.int64)


def from_series(name: str, series: pd.Series[Any]) -> Column:
    """Turn a pandas column, NumPy-, pandas- or Arrow-backed, into a `Column`.

    Raises
    ------
    DataError
        For complex numbers, bytes that are not text, lists, and columns of mixed types.
    """
    if isinstance(series.dtype, pd.ArrowDtype):
        if not pd.api.types.is_integer_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
            series = from_arrow(pa.array(series))
    kind = series.dtype
    missing = series.isna().to_numpy(dtype=bool)
    if isinstance(kind, pd.CategoricalDtype):
        return _from_categorical(name, series, missing)
    if pd.api.types.is_bool_dtype(kind):
        return Column(name, "boolean", _filled(series, missing, False, np.bool_), missing)
    if pd.api.types.is_integer_dtype(kind):
        wide = np.uint64 if pd.api.types.is_unsigned_integer_dtype(kind) else np.int64
        return Column(name, "number", _filled(series, missing, 0, wide), missing)
    if pd.api.types.is_float_dtype(kind):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan, copy=False)
        return Column(name, "number", values, np.isnan(values))
    if pd.api.types.is_datetime64_any_dtype(kind):
        return _from_dates(name, series, missing)
    if pd.api.types.is_timedelta64_dtype(kind):
        days = series.to_numpy(dtype="timedelta64[us]") / np.timedelta64(1, "D")
        return Column(name, "number", np.asarray(days, dtype=np.float64), missing)
    if isinstance(kind, pd.PeriodDtype):
        return _from_dates(name, series.dt.to_timestamp(), missing)
    if isinstance(kind, pd.StringDtype):
        return _from_text(name, series, missing)
    return _from_objects(name, series, missing)


def from_arrow(values: Any) -> pd.Series[Any]:
    """Hand an Arrow array to pandas; integers and booleans keep their width beside nulls."""
    exact = pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
    out: pd.Series[Any] = values.to_pandas(types_mapper=pd.ArrowDtype) if exact else values.to_pandas()
    return out


def _filled(series: pd.Series[Any], missing: np.ndarray[Any, Any], filler: Any, dtype: Any) -> np.ndarray[Any, Any]:
    if not missing.any():
        return series.to_numpy(dtype=dtype, copy=False)
    return series.to_numpy(dtype=dtype, na_value=filler)


def _from_categorical(name: str, series: pd.Series[Any], missing: np.ndarray[Any, Any]) -> Column:
    known = series.cat.categories
    if isinstance(known, pd.IntervalIndex):
        known = known.astype(str)  # those of pd.cut
    labels = from_series(name, pd.Series(known)).labels()
    return Column(name, "category", series.cat.codes.to_numpy(dtype=np.int64), missing, labels, True)


def _from_dates(name: str, series: pd.Series[Any], missing: np.ndarray[Any, Any]) -> Column:
    if getattr(series.dt, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    values = series.to_numpy(dtype="datetime64[us]", na_value=np.datetime64(0, "us"))
    return Column(name, "date", values, missing)


def _from_text(name: str, series: pd.Series[Any], missing: np.ndarray[Any, Any]) -> Column:
    codes, found = pd.factorize(series, use_na_sentinel=True)
    found_labels = np.empty(len(found), dtype=object)
    found_labels[:] = list(found)
    order = _sorted_order(found_labels)
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1
    return Column(name, "category", place[codes], missing, found_labels[order])


def _from_objects(name: str, series: pd.Series[Any], missing: np.ndarray[Any, Any]) -> Column:
    """Sort out an object column by the types of its values; refuse a mixture."""
    plain = series.astype(object)
    found = pd.api.types.infer_dtype(plain, skipna=True)
    if found == "empty":
        return Column(name, "number", np.full(len(series), np.nan), missing)
    if found == "string":
        return _from_text(name, plain, missing)
    if found == "boolean":
        return Column(name, "boolean", plain.where(~missing, False).to_numpy(dtype=bool), missing)
    if found == "integer":
        whole = plain.where(~missing, 0).to_numpy()
        for dtype in (np.int64, np.uint64):
            try:
                return Column(name, "number", whole.astype(dtype), missing)
            except OverflowError:
                continue
        return Column(name, "number", whole, missing)
    if found in ("floating", "mixed-integer-float", "decimal"):
        numbers = plain.where(~missing, np.nan).to_numpy().astype(np.float64)
        return Column(name, "number", numbers, missing | np.isnan(numbers))
    if found in ("datetime64", "datetime", "date"):
        return _from_dates(name, pd.Series(pd.to_datetime(plain, utc=_has_zone(plain, missing))), missing)
    if found in ("timedelta64", "timedelta"):
        return from_series(name, pd.Series(pd.to_timedelta(plain)))
    if found == "bytes":
        return _from_bytes(name, plain, missing)
    raise _mixed(name, plain, missing)


def _has_zone(plain: pd.Series[Any], missing: np.ndarray[Any, Any]) -> bool:
    return any(getattr(value, "tzinfo", None) is not None for value in plain[~missing])


def _from_bytes(name: str, plain: pd.Series[Any], missing: np.ndarray[Any, Any]) -> Column:
    try:
        texts = plain.map(lambda value: value.decode("utf-8"), na_action="ignore")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the column `{name}` holds bytes that are not UTF-8 text ({error.reason}); decode it first."
        ) from None
    return _from_text(name, texts.astype(object), missing)


def _mixed(name: str, plain: pd.Series[Any], missing: np.ndarray[Any, Any]) -> DataError:
    values = plain.to_numpy()
    kinds = np.array([type(value).__name__ for value in values], dtype=object)
    counts = collections.Counter(kinds[~missing])
    if len(counts) == 1 and not isinstance(values[~missing][0], str | int | float | datetime.date):
        return DataError(
            f"the column `{name}` holds values of type {next(iter(counts))}; "
            f"numbers, booleans, dates or text are needed."
        )
    rarest = counts.most_common()[-1][0]
    shown = listing([f"{kind} ({count:,})" for kind, count in counts.most_common()])
    return DataError(
        f"the column `{name}` mixes types: {shown}; the {rarest} values stand in "
        f"{first_rows((kinds == rarest) & ~missing)}. Convert it to one type."
    )

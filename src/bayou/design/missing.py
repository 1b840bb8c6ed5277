"""Names, missing and infinite values: what is checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayou.design.frames import Frame
from bayou.errors import DataError, FormulaError, UnsafeFormula
from bayou.formula.words import did_you_mean, first_rows, listing, plural

__all__ = ["check_columns", "check_finite", "complete_rows", "missing_rows", "refuse_missing"]


def check_columns(frame: Frame, names: Sequence[str], formula: str) -> None:
    """Refuse a formula that names a column the data do not have, with the nearest name."""
    absent = [name for name in names if name not in frame]
    if not absent:
        return
    first = absent[0]
    owner = first.partition(".")[0]
    if owner != first and owner in frame:
        raise UnsafeFormula(
            f"`{first}` reads an attribute of `{owner}`, which a formula cannot do; there is no such column."
        )
    others = f" Nor {listing([f'`{name}`' for name in absent[1:]])}." if len(absent) > 1 else ""
    raise FormulaError(
        f"the data have no column `{first}`, which {formula!r} needs."
        f"{did_you_mean(first, frame.names)}{others} Columns: {listing(frame.names, 12)}."
    )


def complete_rows(frame: Frame, names: Sequence[str], missing: str) -> np.ndarray[Any, Any] | None:
    """Return the mask of rows to keep, or None when all are complete.

    Raises
    ------
    DataError
        For missing values when `missing` is "error", and for no complete row at all.
    """
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r} is not known; write missing='error' or missing='drop'.")
    absent = missing_rows(frame, names)
    if absent is None:
        return None
    if missing == "error":
        raise DataError(f"{_report(frame, names, absent)} Fill them in, or pass missing='drop'.")
    if absent.all():
        raise DataError(f"no row is complete. {_report(frame, names, absent)}")
    return ~absent


def missing_rows(frame: Frame, names: Sequence[str]) -> np.ndarray[Any, Any] | None:
    """Return the mask of rows with a missing value in some of the columns, or None."""
    absent = None
    for name in names:
        missing = frame[name].missing
        if missing.any():
            absent = missing if absent is None else absent | missing
    return absent


def refuse_missing(frame: Frame, names: Sequence[str], positions: np.ndarray[Any, Any] | None = None) -> None:
    """Refuse new rows with missing values in columns that are needed; `positions` are those in a larger table."""
    absent = missing_rows(frame, names)
    if absent is not None:
        raise DataError(f"{_report(frame, names, absent, positions)} Fill them in, or leave these rows out.")


def check_finite(frame: Frame, names: Sequence[str], positions: np.ndarray[Any, Any] | None) -> None:
    """Refuse infinite values."""
    for name in names:
        values = frame[name].values
        if values.dtype.kind == "f" and np.isinf(values).any():
            rows = np.flatnonzero(np.isinf(values))
            where = first_rows(rows if positions is None else positions[rows])
            raise DataError(
                f"the column `{name}` holds infinite values in {where}. Correct these rows or leave them out."
            )


def _report(
    frame: Frame, names: Sequence[str], absent: np.ndarray[Any, Any], positions: np.ndarray[Any, Any] | None = None
) -> str:
    places = np.arange(frame.n) if positions is None else positions
    parts = [f"`{name}` in {first_rows(places[frame[name].missing])}" for name in names if frame[name].missing.any()]
    return f"{plural(int(absent.sum()), 'row')} of {frame.n:,} with missing values: {listing(parts)}."

"""Missing and infinite values, counted over all blocks with the numbers of the first rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayou._types import Integers
from bayou.errors import DataError
from bayou.formula.words import listing, plural

__all__ = ["Count", "refuse_infinite", "refuse_missing"]

SHOWN = 5


class Count:
    """How many rows have something, and which are the first."""

    def __init__(self) -> None:
        self.total = 0
        self.first: list[int] = []

    def add(self, rows: Integers) -> None:
        """Count rows by their numbers."""
        self.total += len(rows)
        self.first += [int(row) for row in rows[: SHOWN - len(self.first)]]

    def __str__(self) -> str:
        more = ", …" if self.total > len(self.first) else ""
        shown = ", ".join(map(str, self.first))
        return f"{plural(self.total, 'row')} (row {shown}{more}; counted from 0)"


def refuse_missing(counts: dict[str, Count], together: int, rows: int, missing: str) -> None:
    """Refuse missing values unless their rows may be dropped, and rows of which none is left.

    Raises
    ------
    DataError
        With the columns, the numbers of missing values and the first rows.
    """
    found = {name: count for name, count in counts.items() if count.total}
    if not found:
        return
    parts = listing([f"`{name}` in {count}" for name, count in found.items()])
    report = f"{plural(together, 'row')} of {rows:,} with missing values: {parts}."
    if missing == "error":
        raise DataError(f"{report} Fill them in, or pass missing='drop'.")
    if together == rows:
        raise DataError(f"no row is complete. {report}")


def refuse_infinite(counts: dict[str, Count], names: Sequence[str]) -> None:
    """Refuse infinite values, those of the first column that has some.

    Raises
    ------
    DataError
        With the first rows.
    """
    for name in names:
        if name in counts and counts[name].total:
            raise DataError(
                f"the column `{name}` holds infinite values in {counts[name]}. Correct these rows or leave them out."
            )


def numbered(start: int, where: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Integers:
    """Return the numbers of the rows of a mask in all the data."""
    return start + np.flatnonzero(where).astype(np.int64)

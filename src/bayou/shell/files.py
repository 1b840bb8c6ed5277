"""Files that the command line reads beside the data, and tables that it writes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayou.errors import DataError, FileError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["counts", "read_given", "write_csv"]


def read_given(formula: str, given: list[str]) -> dict[str, Any]:
    """Read the objects that a formula names from files that are written as NAME=FILE.

    A graph goes on as the path of its edge list. A covariance or precision is read here: three columns (level, level,
    entry; a pair once, in either order) or a square matrix whose first column holds the levels.

    Raises
    ------
    DataError
        For text without ``=``, a name twice, and a file that is no matrix.
    """
    from bayou.formula import parse

    matrices = {
        term.reference[1]
        for term in (parse(formula).structured if given else ())
        if term.reference is not None and term.reference[0] != "graph"
    }
    found: dict[str, Any] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not name or not file:
            raise DataError(f"--structure {text}: write it as NAME=FILE, such as --structure W=borders.csv.")
        if name in found:
            raise DataError(f"--structure {name} is given twice.")
        found[name] = _matrix(name, Path(file)) if name in matrices else file
    return found


def counts(given: list[str]) -> dict[str, float]:
    """Read numbers that are written as NAME=NUMBER.

    Raises
    ------
    DataError
        For text of another form, and numbers below 1.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = 0.0
        if not name or not found[name] >= 1.0:
            raise DataError(f"{text}: write it as NAME=NUMBER, such as clinic=1e6.")
    return found


def _matrix(name: str, path: Path) -> Any:
    """Read a labelled matrix from a square table or a list of entries."""
    import numpy as np

    from bayou.design import frames

    table = frames.read(path)
    columns = [table[column] for column in table.names]
    levels = list(columns[0].labels())
    if [str(level) for level in levels] == [str(column) for column in table.names[1:]]:
        return levels, np.column_stack([column.numbers() for column in columns[1:]])
    if len(columns) != 3:
        raise DataError(
            f"--structure {name}: {path} is no matrix: it needs three columns (level, level, entry), or one column of "
            "levels and then one for each of them, called as they are and in the same order."
        )
    one, other, entries = columns[0].labels(), columns[1].labels(), columns[2].numbers()
    levels = sorted(set(one) | set(other), key=lambda level: (str(type(level)), level))
    place = {level: k for k, level in enumerate(levels)}
    matrix = np.zeros((len(levels), len(levels)))
    for a, b, entry in zip(one, other, entries, strict=True):
        matrix[place[a], place[b]] = matrix[place[b], place[a]] = entry
    return levels, matrix


def write_csv(frame: pd.DataFrame, path: Path, index: str | None, guard: bool = True) -> Path:
    """Write a frame as CSV, whole or not at all.

    Parameters
    ----------
    frame
        The table.
    path
        Of the file; its folder must exist.
    index
        Name for the column of row labels, or None to leave them out.
    guard
        Put an apostrophe before text that begins with =, +, -, @, a tab or a line feed, which a
        spreadsheet would run as a formula.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    table = frame if index is None else frame.rename_axis(index).reset_index()
    if guard:
        table = table.map(_guarded).rename(columns=_guarded)
    part = path.with_name(f".{path.name}.part")
    try:
        table.to_csv(part, index=False)
        part.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        # whole or not at all
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _guarded(cell: Any) -> Any:
    runs = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{cell}" if runs else cell

"""A graph of areas as a list of edges or as a matrix."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayou._types import Array, Integers, Labels
from bayou.design.frames import Frame, read
from bayou.design.levels import match_levels
from bayou.errors import DataError
from bayou.formula.words import label_text, listing, plural

__all__ = ["Raw", "check_both_ways", "from_matrix", "from_rows", "from_table", "is_named_pair", "is_sparse"]
__all__ += ["is_square_frame", "labelled_matrix", "plain_labels", "plain_numbers", "refuse_headless"]


@dataclass(frozen=True, eq=False)
class Raw:
    """Edges as they were found: places in `names`, and weights.

    `symmetric`: each pair was found both ways; `listed`: areas are known from their edges alone.
    """

    names: Labels | None
    size: int
    i: Integers
    j: Integers
    weights: Array
    symmetric: bool = False
    listed: bool = False

    def named(self, names: Labels) -> Raw:
        """Return the same edges between areas that now have names."""
        return replace(self, names=names)


def plain_labels(values: Any, what: str) -> Labels:
    """Return labels as data have them: whole numbers as int, text as str.

    Raises
    ------
    DataError
        For missing labels and mixed types.
    """
    values = list(values) if not isinstance(values, np.ndarray | pd.Series | pd.Index) else values
    what = what.replace("`", "")  # it stands in backquotes in messages
    column = read({what: values})[what]
    if column.missing.any():
        raise DataError(f"a label is missing among the {what}.")
    return column.labels()


def is_sparse(source: Any) -> bool:
    """Tell a scipy.sparse matrix or array without importing scipy."""
    return type(source).__module__.startswith("scipy.sparse")


def is_named_pair(source: tuple[Any, Any]) -> bool:
    """Tell (names, graph) from a list of two edges: names are scalars, and the second holds rows or is an object."""
    first, second = source
    if isinstance(first, str | bytes | Mapping) or not hasattr(first, "__len__") or getattr(first, "ndim", 1) != 1:
        return False
    if any(isinstance(item, list | tuple | np.ndarray) for item in first):
        return False
    if isinstance(second, list | tuple):
        return all(isinstance(item, list | tuple | np.ndarray) for item in second)
    return not isinstance(second, np.ndarray) or second.ndim == 2


def is_square_frame(source: pd.DataFrame, sizes: Collection[int]) -> bool:
    """Tell an adjacency matrix with labels from a table of edges; `sizes` are possible numbers of areas."""
    m, k = source.shape
    if m != k or k > 3 or m < 2:
        return m == k and k > 3
    if isinstance(source.index, pd.RangeIndex):
        return _looks_square(_square(source), sizes) and isinstance(source.columns, pd.RangeIndex)
    return not set(source.index).isdisjoint(source.columns)


def labelled_matrix(
    source: pd.DataFrame, names: Labels | None, count: int, where: str
) -> tuple[np.ndarray[Any, Any], Labels | None]:
    """Return the numbers of a square table with its columns in the order of its rows, and its labels.

    Labels that pandas made up, 0 to m - 1, count as none when the size is that of the levels of the data.
    """
    made_up = isinstance(source.index, pd.RangeIndex) and isinstance(source.columns, pd.RangeIndex)
    if names is not None or (made_up and len(source) == count):
        return plain_numbers(source, where), names
    rows = plain_labels(source.index, f"row labels of {where}")
    columns = plain_labels(source.columns, f"column labels of {where}")
    if isinstance(source.index, pd.RangeIndex) and not isinstance(source.columns, pd.RangeIndex):
        return plain_numbers(source, where), columns  # a table of a library without row labels
    order = match_levels(columns, rows)
    if (order < 0).any() or len(set(order)) < len(order):
        strange = [label_text(label) for label in rows[order < 0]] or ["a label twice"]
        raise DataError(f"{where}: rows and columns have different labels ({listing(strange)}).")
    return plain_numbers(source, where)[:, order], rows


def plain_numbers(source: Any, where: str) -> np.ndarray[Any, Any]:
    """Return an array of float64, or refuse what holds something else."""
    try:
        if np.iscomplexobj(source):
            raise DataError(f"{where} holds complex numbers; real ones are needed.")
        return np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where} must hold numbers, and some entry is none.") from None


def from_table(frame: Frame, names: Labels | None, where: str) -> Raw:
    """Read a table of edges: two columns of areas, a third of weights."""
    if len(frame.names) not in (2, 3):
        raise DataError(
            f"{where} is a table with {plural(len(frame.names), 'column')}: a list of edges has two, and a third "
            "for weights."
        )
    ends = [frame[name] for name in frame.names[:2]]
    for end in ends:
        if end.missing.any():
            row = int(np.flatnonzero(end.missing)[0])
            raise DataError(f"{where}: an area is missing in column `{end.name}`, row {row} (counted from 0).")
    weights = np.ones(frame.n)
    if len(frame.names) == 3:
        third = frame[frame.names[2]]
        if third.kind not in ("number", "boolean"):
            raise DataError(f"{where}: its third column, `{third.name}`, must hold weights, that is numbers.")
        weights = third.numbers()
    return _from_ends(ends[0].labels(), ends[1].labels(), weights, names, where)


def refuse_headless(frame: Frame, where: str) -> None:
    """Refuse a file whose first line is an edge and no names of columns: that edge would be lost."""
    if all(_is_number(name) for name in frame.names):
        raise DataError(
            f"{where}: the first line of its file holds numbers ({', '.join(frame.names)}) where names of columns "
            "are expected, so that this edge would be lost; add a line such as i,j on top."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def from_rows(source: Any, names: Labels | None, sizes: Collection[int], where: str) -> Raw:
    """Read rows of two or three entries as edges, a square array of numbers as an adjacency matrix."""
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        raise DataError(
            f"{where} is of type {type(source).__name__}: give a list of pairs, a table with two columns, an "
            "adjacency matrix, a dict of area -> neighbours, or a GeoDataFrame."
        )
    rows = source if isinstance(source, np.ndarray) else list(source)
    if isinstance(rows, np.ndarray) and rows.ndim != 2:
        raise DataError(f"{where} is an array of {plural(rows.ndim, 'dimension')}; it needs two.")
    if not isinstance(rows, np.ndarray):
        for k, row in enumerate(rows):
            if isinstance(row, str | bytes) or not hasattr(row, "__len__"):
                raise DataError(f"{where}: entry {k} is {row!r} where a pair of areas is needed.")
    lengths = {len(row) for row in rows}
    size = len(rows)
    if lengths == {size} and size > 0:
        square = _square(rows)
        if square is not None and (size > 3 or _looks_square(square, sizes)):
            return from_matrix(square, names, where)
    if not lengths <= {2} and not lengths <= {3}:
        raise DataError(
            f"{where} has entries of {listing(sorted(lengths))} items: an edge is a pair, or a pair and a weight."
        )
    columns = list(rows.T) if isinstance(rows, np.ndarray) else [list(part) for part in zip(*rows, strict=True)]
    if not columns:
        columns = [[], []]
    weights = np.ones(size)
    if len(columns) == 3:
        weights = np.asarray(plain_numbers(columns[2], where))
    both = [plain_labels(part, f"areas of {where}") for part in columns[:2]]
    return _from_ends(both[0], both[1], weights, names, where)


def _square(rows: Any) -> np.ndarray[Any, Any] | None:
    """Return rows as an array of numbers, None where they are something else."""
    try:
        return plain_numbers(rows, "")
    except DataError:
        return None


def _looks_square(numbers: np.ndarray[Any, Any] | None, sizes: Collection[int]) -> bool:
    """Tell a small adjacency matrix from two edges, or from three with weights."""
    if numbers is None or len(numbers) not in sizes:
        return False
    return not np.diagonal(numbers).any() or (len(numbers) == 3 and np.array_equal(numbers, numbers.T))


def _from_ends(first: Labels, second: Labels, weights: Array, names: Labels | None, where: str) -> Raw:
    ends = np.concatenate([first, second])
    if not len(ends):
        found, codes = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
    else:
        factor = read({"areas": ends})["areas"].factor()
        found, codes = factor.levels, factor.codes
    listed = names is None
    if names is None:
        names = found
    else:
        place = match_levels(names, found)
        if (place < 0).any():
            strange = listing([label_text(label) for label in found[place < 0]])
            raise DataError(f"{where} has edges of {strange}, which its names lack.")
        codes = place[codes]
    return Raw(names, len(names), codes[: len(first)], codes[len(first) :], weights, listed=listed)


def from_matrix(matrix: Any, names: Labels | None, where: str) -> Raw:
    """Read a square adjacency matrix, dense or sparse; what is not zero is the weight of an edge."""
    from scipy import sparse

    shape = matrix.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise DataError(f"{where} has the shape {shape}: an adjacency matrix is square.")
    if names is not None and len(names) != shape[0]:
        raise DataError(f"{where} has {plural(len(names), 'name')} for {shape[0]:,} rows.")
    if np.iscomplexobj(matrix):
        raise DataError(f"{where} holds complex numbers; real ones are needed.")
    found = sparse.coo_array(matrix)
    found.sum_duplicates()
    i, j = (np.asarray(part, dtype=np.int64) for part in found.coords)
    weights = np.asarray(found.data, dtype=np.float64)
    nonzero = weights != 0.0
    i, j, weights = i[nonzero], j[nonzero], weights[nonzero]
    known = np.arange(shape[0]).astype(object) if names is None else names
    check_both_ways(i, j, weights, known, where, "matrix")
    return Raw(names, shape[0], i, j, weights, symmetric=True)


def check_both_ways(i: Integers, j: Integers, weights: Array, names: Labels, where: str, what: str) -> None:
    """Refuse an edge that goes one way only, or has another weight the other way."""
    m = len(names)
    there, back = i * m + j, j * m + i
    order, turned = np.argsort(there, kind="stable"), np.argsort(back, kind="stable")
    one_way = np.setdiff1d(there, back)
    if one_way.size:
        a, b = int(one_way[0] // m), int(one_way[0] % m)
        more = f" ({plural(one_way.size, 'such pair')})" if one_way.size > 1 else ""
        raise DataError(
            f"{where} is not symmetric: {label_text(names[a])} has the neighbour {label_text(names[b])}, but not the "
            f"other way round{more}. Correct the {what}, or give a list of edges."
        )
    differs = np.abs(weights[order] - weights[turned]) > 1e-12 * np.abs(weights[order])
    if differs.any():
        k = order[np.flatnonzero(differs)[0]]
        other = weights[turned[np.flatnonzero(differs)[0]]]
        raise DataError(
            f"{where} is not symmetric: {label_text(names[i[k]])} and {label_text(names[j[k]])} have the weights "
            f"{weights[k]:g} and {other:g}; a pair has one weight."
        )

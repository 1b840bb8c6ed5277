"""Known covariance and precision matrices: labelled, square, symmetric, finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayou._types import Labels
from bayou.design.graph_forms import is_sparse, labelled_matrix, plain_labels
from bayou.design.levels import match_levels
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, label_text, listing, plural

__all__ = ["Matrix", "read_matrix"]

Matrix = tuple[Labels, Any]
"""Names (m,) and a symmetric matrix (m, m): a float64 array, or scipy.sparse in csc form."""

_symmetric = 1e-8


def read_matrix(source: Any, observed_labels: Labels, name: str = "A", declared: Labels | None = None) -> Matrix:
    """Read a covariance or precision matrix of the levels of a column.

    Parameters
    ----------
    source : object
        A DataFrame with the levels as its index and columns, ``(names, matrix)``, or a matrix without names,
        dense or sparse, in the order of the sorted levels and of their number.
    observed_labels : (J,) ndarray of objects
        The levels of the data, sorted.
    name : str
        What messages call it.
    declared : ndarray of objects, optional
        All the levels of a categorical column, when some have no rows.

    Returns
    -------
    (names, matrix)
        The matrix made exactly symmetric. Its levels may be more than those of the data.

    Raises
    ------
    DataError
        For a matrix that is not square, not symmetric or not finite, and for levels that it lacks.

    Examples
    --------
    >>> import numpy as np
    >>> names, matrix = read_matrix([[1.0, 0.5], [0.5, 1.0]], np.array(["u", "v"], dtype=object))
    >>> names
    array(['u', 'v'], dtype=object)
    """
    where = f"the matrix `{name}`"
    names, values = _parts(source, observed_labels, where)
    if len(values.shape) != 2 or values.shape[0] != values.shape[1]:
        raise DataError(f"{where} is not square: its shape is {tuple(values.shape)}.")
    m = values.shape[0]
    if names is None:
        names = _unnamed(m, observed_labels, declared, where)
    if len(names) != m:
        raise DataError(f"{where} has {plural(len(names), 'name')} for {m:,} rows.")
    if len(set(names)) < m:
        twice = [label for label, count in pd.Series(names).value_counts().items() if count > 1]
        raise DataError(f"{where} names {listing([label_text(label) for label in twice])} twice.")
    missing = observed_labels[match_levels(names, observed_labels) < 0]
    if len(missing):
        known = [label_text(label) for label in names]
        raise DataError(
            f"{where} lacks the {'level' if len(missing) == 1 else 'levels'} "
            f"{listing([label_text(label) for label in missing])} of the data."
            f"{did_you_mean(label_text(missing[0]), known)} Its {plural(m, 'level')}: {listing(known)}."
        )
    return names, _checked(values, names, where)


def _parts(source: Any, observed: Labels, where: str) -> tuple[Labels | None, Any]:
    names = None
    if isinstance(source, tuple) and len(source) == 2 and getattr(source[1], "ndim", 2) == 2:
        first, second = source
        if not isinstance(first, str) and hasattr(first, "__len__") and getattr(second, "shape", None) != (2,):
            if is_sparse(second) or len(np.shape(second)) == 2:
                names, source = plain_labels(first, f"names of {where}"), second
    if is_sparse(source):
        from scipy import sparse

        if np.iscomplexobj(source):
            raise DataError(f"{where} holds complex numbers; real ones are needed.")
        return names, sparse.csc_array(source).astype(np.float64)
    if isinstance(source, pd.DataFrame):
        if source.shape[0] != source.shape[1]:
            raise DataError(f"{where} is not square: its shape is {source.shape}.")
        values, names = labelled_matrix(source, names, len(observed), where)
        return names, values
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        names = plain_labels(source.columns, f"names of {where}") if names is None else names
        source = source.to_numpy()
    try:
        values = np.array(source, dtype=np.float64) if not np.iscomplexobj(source) else np.empty(())
        if not values.ndim:
            raise TypeError
    except (TypeError, ValueError):
        raise DataError(
            f"{where} is of type {type(source).__name__} and not a matrix of numbers: give a DataFrame with the "
            "levels as index, (names, matrix), or a matrix in the order of the levels."
        ) from None
    return names, values


def _unnamed(m: int, observed: Labels, declared: Labels | None, where: str) -> Labels:
    for labels in [observed] if declared is None else [observed, declared]:
        if len(labels) == m:
            return labels
    raise DataError(
        f"{where} has {m:,} rows without names, and the data have {plural(len(observed), 'level')}: name the rows, as "
        "a DataFrame with an index or as (names, matrix)."
    )


def _checked(values: Any, names: Labels, where: str) -> Any:
    entries = values.data if is_sparse(values) else values
    if not np.isfinite(entries).all():
        if is_sparse(values):
            coordinates = values.tocoo()
            k = int(np.flatnonzero(~np.isfinite(coordinates.data))[0])
            row, column = (int(part[k]) for part in coordinates.coords)
        else:
            row, column = (int(part[0]) for part in np.nonzero(~np.isfinite(values)))
        raise DataError(f"{where} is not finite at {label_text(names[row])}, {label_text(names[column])}.")
    difference = abs(values - values.T)
    if difference.max() > _symmetric * max(float(abs(entries).max(initial=0.0)), np.finfo(float).tiny):
        row, column = (int(part) for part in np.unravel_index(difference.argmax(), values.shape))
        raise DataError(
            f"{where} is not symmetric: {values[row, column]:g} at {label_text(names[row])}, "
            f"{label_text(names[column])} and {values[column, row]:g} the other way round."
        )
    half = 0.5 * (values + values.T)
    if is_sparse(half):
        half = half.tocsc()
        half.eliminate_zeros()
        half.sort_indices()
        return half
    return np.ascontiguousarray(half)

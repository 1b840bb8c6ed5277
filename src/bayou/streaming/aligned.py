"""Which rows of one model are which of another, where identical ones were merged, each by its own columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.design import Design, Distinct, NewRows
from bayou.design.structured_rows import StructuredRows
from bayou.streaming.patterns import Keys
from bayou.streaming.table import Table

if TYPE_CHECKING:
    from bayou.design.structured import StructuredTerm

__all__ = ["aligned", "distinct_rows", "same_response"]


def distinct_rows(design: Design) -> Distinct | None:
    """Return the different rows given; every row where none were merged, None where rows were summed."""
    if design.reduced is not None and design.reduced.how != "blocks":
        return design.reduced.distinct
    every = np.arange(design.n, dtype=np.int64)
    return Distinct(every, design.y, design.trials, design.offset, design.weights, np.ones(design.n))


def same_response(one: Design, other: Design) -> bool:
    """Return whether two designs are of as many rows with the same outcomes; their order is not looked at."""
    if one.given != other.given:
        return False
    first, second = distinct_rows(one), distinct_rows(other)
    if first is None or second is None:
        return first is None and second is None and bool(np.allclose(_totals(one), _totals(other), rtol=1e-9))
    a, b = _outcomes(first), _outcomes(second)
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def aligned(fine: Design, coarse: Design) -> Integers | None:
    """Return for each different row of one design its like in another, whose columns are among those of the first.

    Found by the names of columns, factors and effects, and held to how often each row occurs.

    Parameters
    ----------
    fine, coarse
        Designs of the same data.

    Returns
    -------
    (m,) ndarray of int64, or None
        Places among the different rows of `coarse` (`distinct_rows`); None where they cannot be told.

    Examples
    --------
    >>> from bayou import design, families
    >>> from bayou.streaming.merged import merged
    >>> data = {"y": [0, 1, 1, 1, 0], "x": [0, 0, 0, 1, 1]}
    >>> def few(formula):
    ...     whole = design.build(formula, data, families.get("bernoulli"))
    ...     return merged(whole, lambda: [whole.rebuild(data, need_response=True)])
    >>> aligned(few("y ~ x"), few("y ~ 1"))
    array([0, 1, 1, 0])
    """
    own, other = distinct_rows(fine), distinct_rows(coarse)
    if own is None or other is None:
        return None
    seen = _in_columns_of(coarse, fine, own)
    known = _in_columns_of(coarse, coarse, other)
    if seen is None or known is None:
        return None
    keys = Keys(coarse)
    table = Table(keys.width)
    places = table.add(keys.of(known, 0), other.frequency.astype(np.int64))
    counts = table.counts.copy()
    at = table.add(keys.of(seen, 0))
    if len(table) > len(counts):
        return None
    if not np.array_equal(np.bincount(at, weights=own.frequency, minlength=len(counts)), counts):
        return None
    first = np.empty(len(counts), dtype=np.int64)
    first[places[::-1]] = np.arange(len(places))[::-1]
    return first[at]


def _in_columns_of(coarse: Design, fine: Design, rows: Distinct) -> NewRows | None:
    """Return the different rows of one design in the columns of another; None where it lacks some."""
    at = rows.row
    X = _named(coarse.coefficients, fine.coefficients, fine.X)
    groups = {g.name: g for g in fine.groupings}
    terms = {term.text: term for term in fine.structured}
    codes, Z, structured = [], [], []
    for g in coarse.groupings:
        like = groups.get(g.name)
        if like is None or not np.array_equal(like.levels, g.levels):
            return None
        codes.append(like.codes[at])
        own = _named(g.coefficients, (*like.coefficients, *fine.coefficients), np.hstack([like.Z, fine.X]))
        if own is None:
            return None
        Z.append(own[at])
    for term in coarse.structured:
        found = terms.get(term.text)
        if found is None or not np.array_equal(found.nodes, term.nodes):
            return None
        structured.append(_entries(found, at))
    shifted, weighted = coarse.formula.offsets, coarse.weights_column
    if X is None or shifted and shifted != fine.formula.offsets or weighted and weighted != fine.weights_column:
        return None
    m = len(at)
    return NewRows(
        n=m,
        X=X[at],
        offset=rows.offset if shifted else np.zeros(m),
        trials=rows.trials,
        weights=rows.weights if weighted else np.ones(m),
        standard_errors=None,
        sigma_codes=np.zeros(m, dtype=np.int64),
        codes=tuple(codes),
        labels=(),
        Z=tuple(Z),
        y=rows.y,
        index=np.arange(m),
        structured=tuple(structured),
    )


def _named(wanted: tuple[str, ...], names: tuple[str, ...], values: Array) -> Array | None:
    """Return columns by name."""
    if not set(wanted) <= set(names):
        return None
    return values[:, [names.index(name) for name in wanted]]


def _entries(term: StructuredTerm, at: Integers) -> StructuredRows:
    width = int(term.start[1]) if len(term.start) > 1 else 1
    entry = (at[:, None] * width + np.arange(width)).ravel()
    nothing = np.full(len(at), None, dtype=object)
    return StructuredRows(
        start=np.arange(len(at) + 1, dtype=np.int64) * width,
        replicate=term.replicate[entry],
        node=term.node[entry],
        value=term.value[entry],
        coordinate=np.zeros(len(entry)),
        labels=nothing,
        by_labels=nothing,
    )


def _outcomes(rows: Distinct) -> tuple[Array, Array, Array]:
    """Return the different (y, trials) in order, and how often each occurs."""
    pairs, at = np.unique(np.column_stack([rows.y, rows.trials]), axis=0, return_inverse=True)
    return pairs[:, 0], pairs[:, 1], np.bincount(at.ravel(), weights=rows.frequency).astype(np.float64)


def _totals(design: Design) -> Array:
    """Return sums over the rows that summing keeps: of weights, and of the response and its squares by them."""
    w, y = design.weights, design.y + design.offset
    squares = float(w @ np.square(y)) + float(design.remainder.squares.sum())
    return np.array([float(w.sum()), float(w @ y), squares])

"""Structured effects in new rows: nodes that were there before, and coordinates that were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.design.columns import Column
from bayou.design.frames import Frame
from bayou.design.levels import match_levels
from bayou.design.structured import StructuredRecipe
from bayou.design.times import read_coordinates
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, first_rows, label_text, listing, plural

__all__ = ["StructuredRows", "rebuild_structured"]


@dataclass(frozen=True, eq=False)
class StructuredRows:
    """One structured effect in n new rows.

    Attributes
    ----------
    start : (n + 1,) ndarray of int64
        Where the entries of each row begin.
    replicate : (nnz,) ndarray of int64
        -1 where the level of ``by=`` is unseen or missing.
    node : (nnz,) ndarray of int64
        -1 where the coordinate is no node, is missing, or where its column is absent.
    value : (nnz,) ndarray
    coordinate : (nnz,) ndarray
        The time, or x, within one cycle where there is one; NaN for areas and where missing.
    labels : (n,) ndarray of objects
        What stands in the column, None where missing.
    by_labels : (n,) ndarray of objects
        The level of ``by=``, None where missing; "all" without.
    """

    start: Integers
    replicate: Integers
    node: Integers
    value: Array
    coordinate: Array
    labels: Labels
    by_labels: Labels


def rebuild_structured(
    recipes: Sequence[StructuredRecipe], frame: Frame, labelled: bool = True
) -> tuple[tuple[StructuredRows, ...], tuple[str, ...]]:
    """Code structured effects in new rows; also notes on what lies beyond the first data.

    Raises
    ------
    DataError
        For areas and levels that the graph or matrix does not have, and for times that cannot be used.
    """
    notes: list[str] = []
    return tuple(_rebuild(recipe, frame, notes, labelled) for recipe in recipes), tuple(notes)


def _rebuild(recipe: StructuredRecipe, frame: Frame, notes: list[str], labelled: bool) -> StructuredRows:
    term, n = recipe.term, frame.n
    width = 1 if term.basis is None else term.basis.degree + 1
    node, value = np.full((n, width), -1, dtype=np.int64), np.ones((n, width))
    coordinate = np.full(n, np.nan)
    nothing = np.broadcast_to(np.array(None, dtype=object), (n,))
    labels: Labels = nothing
    if term.column in frame:
        column = frame[term.column]
        if recipe.scale is None:
            node[:, 0] = _levels(recipe, frame)
            labels = column.labels() if labelled else nothing
        else:
            labels = _plain(column) if labelled else nothing
            coordinate = read_coordinates(column, recipe.scale)
            infinite = np.isinf(coordinate)
            if infinite.any():
                raise DataError(
                    f"the column `{term.column}` holds infinite values in {first_rows(infinite)}. Correct these rows "
                    "or leave them out."
                )
            coordinate = recipe.scale.fold(coordinate)
            there = np.flatnonzero(~np.isnan(coordinate))
            if term.basis is not None:
                node[there], value[there] = term.basis.evaluate(coordinate[there])
            else:
                node[there, 0] = _nearest(recipe, coordinate[there])
            _note_beyond(recipe, coordinate[there], notes)
    if recipe.by is None:
        codes = np.zeros(n, dtype=np.int64)
        by_labels: Labels = np.broadcast_to(np.array("all", dtype=object), (n,))
    elif labelled or any(name not in frame for name in recipe.by.factors):
        codes, by_labels = recipe.by.look_up(frame)
    else:
        codes, by_labels = recipe.by.codes(frame), nothing
    return StructuredRows(
        start=np.arange(n + 1, dtype=np.int64) * width,
        replicate=np.repeat(codes, width),
        node=node.ravel(),
        value=value.ravel(),
        coordinate=np.repeat(coordinate, width),
        labels=labels,
        by_labels=by_labels,
    )


def _plain(column: Column) -> Labels:
    """Return one label per row without sorting them into levels first, None where missing."""
    if column.kind in ("date", "category"):
        return column.labels()
    labels = column.values.astype(object)
    labels[column.missing] = None
    return labels


def _levels(recipe: StructuredRecipe, frame: Frame) -> Integers:
    """Return the node of each row's area or level, -1 where missing."""
    term = recipe.term
    factor = frame[term.column].factor()
    places = match_levels(term.nodes, factor.levels)
    if (places < 0).any():
        strange = [label_text(label) for label in factor.levels[places < 0]]
        owner = "graph" if term.graph is not None else "matrix"
        raise DataError(
            f"`{term.text}`: the new data have {listing(strange)} in `{term.column}`, which the {owner} has not."
            f"{did_you_mean(strange[0], [label_text(label) for label in term.nodes])} It has "
            f"{plural(len(term.nodes), 'area' if term.graph is not None else 'level')}; give it all of them when the "
            f"model is fitted, or leave `{term.column}` out and choose groups='new', 'population' or 'marginal'."
        )
    return np.append(places, -1)[factor.codes]


def _nearest(recipe: StructuredRecipe, x: Array) -> Integers:
    """Return the node at each coordinate, -1 where there is none."""
    points, scale = recipe.term.coordinate, recipe.scale
    assert points is not None and scale is not None
    if scale.whole and (np.abs(x - np.rint(x)) > max(scale.tolerance, 1e-9)).any():
        first = x[int(np.flatnonzero(np.abs(x - np.rint(x)) > max(scale.tolerance, 1e-9))[0])]
        raise DataError(f"`{scale.text}`: {scale.column} must be whole, one unit per season; it holds {first:g}.")
    right = np.clip(np.searchsorted(points, x), 0, len(points) - 1)
    left = np.maximum(right - 1, 0)
    place = np.where(np.abs(points[left] - x) < np.abs(points[right] - x), left, right)
    return np.where(np.abs(points[place] - x) <= scale.tolerance, place, -1).astype(np.int64)


def _note_beyond(recipe: StructuredRecipe, x: Array, notes: list[str]) -> None:
    """Say which rows lie beyond the range of the first data."""
    term, scale = recipe.term, recipe.scale
    assert scale is not None
    if scale.period:
        return
    if term.basis is not None:
        low, high, how = term.basis.low, term.basis.high, "goes on as a straight line there"
    else:
        assert term.coordinate is not None
        low, high = float(term.coordinate[0]), float(term.coordinate[-1])
        how = "is extrapolated there, with growing uncertainty"
    outside = (x < low - scale.tolerance) | (x > high + scale.tolerance)
    if outside.any():
        ends = [label_text(label) for label in scale.labels(np.array([low, high]))]
        notes.append(
            f"{term.text}: {plural(int(outside.sum()), 'row')} beyond the range of {term.column}, {ends[0]} to "
            f"{ends[1]}; the effect {how}."
        )

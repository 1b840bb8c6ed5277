"""Graphs of neighbouring areas, read from whatever form they come in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayou._types import Array, Integers, Labels
from bayou.design import graph_forms as forms
from bayou.design import graph_neighbours as neighbours
from bayou.design.frames import read
from bayou.design.graph_forms import Raw
from bayou.design.levels import match_levels, sorted_order
from bayou.errors import DataError
from bayou.formula.words import did_you_mean, label_text, listing, plural

__all__ = ["Graph", "read_graph"]


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph: areas, and which are neighbours.

    Attributes
    ----------
    names : (m,) ndarray of objects
        The areas, in the order of the graph.
    edges : (E, 2) ndarray of int64
        Places of two neighbours, the smaller first; sorted, each pair once.
    weights : (E,) ndarray
        One where none are given.
    notes : tuple of str
        What was done to it while it was read, such as duplicate edges that were merged.
    """

    names: Labels
    edges: Integers
    weights: Array
    notes: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def components(self) -> Integers:
        """The connected part of each area, numbered from 0 in the order of the areas, (m,)."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        m = len(self.names)
        one, other = self.edges.T
        joined = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(m, m))
        part = connected_components(joined, directed=False)[1]
        _, first, place = np.unique(part, return_index=True, return_inverse=True)
        return np.asarray(np.argsort(np.argsort(first))[place], dtype=np.int64)

    @property
    def islands(self) -> Integers:
        """Places of the areas without a neighbour."""
        touched = np.bincount(self.edges.ravel(), minlength=len(self.names))
        return np.flatnonzero(touched == 0).astype(np.int64)

    def __repr__(self) -> str:
        parts = plural(int(self.components.max(initial=-1)) + 1, "part")
        return f"Graph({plural(len(self.names), 'area')}, {plural(len(self.edges), 'edge')}, {parts})"


def read_graph(source: Any, observed_labels: Labels, name: str = "W", declared: Labels | None = None) -> Graph:
    """Read a graph of areas.

    Parameters
    ----------
    source : object
        A list of pairs, an (E, 2) array or a table with two columns (a third holds weights), or the path of
        such a CSV or Parquet file; a square adjacency matrix, dense, sparse or labelled (DataFrame); a dict
        of area -> neighbours; a graph with ``nodes`` and ``edges`` (networkx); weights of libpysal; a
        GeoDataFrame (neighbours share a point of their borders; needs libpysal); or ``(names, any of these)``,
        where the names may hold areas without neighbours.
    observed_labels : (J,) ndarray of objects
        The areas of the data, sorted: the names of a matrix that has none.
    name : str
        What messages call it.
    declared : ndarray of objects, optional
        All the levels of a categorical column, when some have no rows.

    Returns
    -------
    Graph

    Raises
    ------
    DataError
        For an asymmetric matrix or dict, self-loops, negative or infinite weights, two weights for one pair,
        and areas of the data that the graph does not have; the message names them.
    Unsupported
        For a GeoDataFrame without libpysal.

    Examples
    --------
    >>> import numpy as np
    >>> graph = read_graph([("a", "b"), ("b", "c")], np.array(["a", "b", "c"], dtype=object))
    >>> graph.edges.tolist()
    [[0, 1], [1, 2]]
    """
    where = f"the graph `{name}`"
    if isinstance(source, Graph):
        _check_observed(source, observed_labels, where, False)
        return source
    raw = _raw(source, observed_labels, declared, where)
    graph = _merged(_named(raw, observed_labels, declared, where), where)
    if raw.names is None:
        graph = replace(graph, notes=(*graph.notes, sorted_order(where[4:], graph.names, "area")))
    _check_observed(graph, observed_labels, where, raw.listed)
    return graph


def _raw(source: Any, observed: Labels, declared: Labels | None, where: str) -> Raw:
    """Find out which form the source has, and take it apart."""
    names = None
    if isinstance(source, tuple) and len(source) == 2 and forms.is_named_pair(source):
        names, source = forms.plain_labels(source[0], f"areas of {where}"), source[1]
    sizes = {len(labels) for labels in (observed, declared, names) if labels is not None}
    if isinstance(source, str | os.PathLike):
        frame = read(source)
        forms.refuse_headless(frame, where)
        return forms.from_table(frame, names, where)
    if neighbours.is_geographic(source):
        return neighbours.from_geometry(source, observed, where)
    if isinstance(source, pd.DataFrame):
        if forms.is_square_frame(source, sizes):
            return forms.from_matrix(*forms.labelled_matrix(source, names, len(observed), where), where)
        return forms.from_table(read(source), names, where)
    if isinstance(source, Mapping):
        return neighbours.from_neighbours(source, names, where)
    if hasattr(source, "neighbors") and hasattr(source, "weights"):
        near, weights = source.neighbors, source.weights
        return neighbours.from_neighbours({k: dict(zip(near[k], weights[k], strict=True)) for k in near}, names, where)
    if hasattr(source, "nodes") and hasattr(source, "edges"):
        return neighbours.from_network(source, names, where)
    if forms.is_sparse(source):
        return forms.from_matrix(source, names, where)
    if hasattr(source, "columns"):
        return forms.from_table(read(source), names, where)
    return forms.from_rows(source, names, sizes, where)


def _named(raw: Raw, observed: Labels, declared: Labels | None, where: str) -> Raw:
    """Give a matrix without names the sorted areas of the data."""
    if raw.names is not None:
        return raw
    candidates = [observed] if declared is None else [observed, declared]
    for labels in candidates:
        if len(labels) == raw.size:
            return raw.named(labels)
    raise DataError(
        f"{where} is a matrix of {plural(raw.size, 'area')} without names, and the data have "
        f"{plural(len(observed), 'area')}: name its rows, as a DataFrame with an index or as (names, matrix)."
    )


def _merged(raw: Raw, where: str) -> Graph:
    """Check edges, put the smaller place first, merge what is there twice."""
    names = raw.names
    assert names is not None
    if not len(names):
        raise DataError(f"{where} is empty: it needs at least one area.")
    if len(set(names)) < len(names):
        twice = [label for label, count in pd.Series(names).value_counts().items() if count > 1]
        raise DataError(f"{where} names {listing([label_text(label) for label in twice])} twice.")
    notes: list[str] = []
    i, j, weights = raw.i, raw.j, raw.weights
    bad = ~(np.isfinite(weights) & (weights >= 0.0))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: the weight of {_pair(names, i[k], j[k])} is {weights[k]:g}; weights must be positive numbers."
        )
    if (weights == 0.0).any():
        notes.append(f"{where[4:]}: {plural(int((weights == 0.0).sum()), 'edge')} of weight zero left out.")
        kept = weights > 0.0
        i, j, weights = i[kept], j[kept], weights[kept]
    if (i == j).any():
        own = np.unique(i[i == j])
        raise DataError(
            f"{where} has self-loops, an area beside itself: {listing([label_text(names[k]) for k in own])}; take "
            "them out."
        )
    low, high = np.minimum(i, j), np.maximum(i, j)
    key, first, place, count = np.unique(
        low * len(names) + high, return_index=True, return_inverse=True, return_counts=True
    )
    differs = weights != weights[first[place]]
    if differs.any():
        k = int(np.flatnonzero(differs)[0])
        raise DataError(
            f"{where}: {_pair(names, i[k], j[k])} has the weights {weights[first[place[k]]]:g} and {weights[k]:g}; "
            "a pair has one weight."
        )
    if not raw.symmetric and (count > 1).any():
        extra = int((count - 1).sum())
        notes.append(f"{where[4:]}: {plural(extra, 'duplicate edge')} merged (a pair counts once, in either order).")
    edges = np.stack([key // len(names), key % len(names)], axis=1).astype(np.int64)
    return Graph(names, edges, weights[first], tuple(notes))


def _check_observed(graph: Graph, observed: Labels, where: str, listed: bool) -> None:
    strange = observed[match_levels(graph.names, observed) < 0]
    if not len(strange):
        return
    known = [label_text(label) for label in graph.names]
    lone = " An area without neighbours must be named too: give (names, edges), or a dict." if listed else ""
    shown = listing([label_text(label) for label in strange])
    raise DataError(
        f"{where} has not the {'area' if len(strange) == 1 else 'areas'} {shown} of the data."
        f"{did_you_mean(label_text(strange[0]), known)} Its {plural(len(known), 'area')}: {listing(known)}.{lone}"
    )


def _pair(names: Labels, i: int, j: int) -> str:
    return f"{label_text(names[i])} and {label_text(names[j])}"

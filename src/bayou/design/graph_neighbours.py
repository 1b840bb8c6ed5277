"""A graph of areas as neighbours of each: a dict, a network, a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bayou._types import Labels
from bayou.design.graph_forms import Raw, check_both_ways, plain_labels, plain_numbers
from bayou.design.levels import match_levels
from bayou.errors import DataError, Unsupported
from bayou.formula.words import label_text, listing

__all__ = ["from_geometry", "from_neighbours", "from_network", "is_geographic"]


def is_geographic(source: Any) -> bool:
    """Tell a GeoDataFrame without importing geopandas."""
    return any(
        kind.__name__ == "GeoDataFrame" and kind.__module__.startswith("geopandas") for kind in type(source).__mro__
    )


def from_neighbours(source: Mapping[Any, Any], names: Labels | None, where: str) -> Raw:
    """Read a dict of area -> neighbours, or area -> {neighbour: weight}."""
    keys = list(source)
    lists: list[list[Any]] = []
    weights: list[Any] = []
    for key in keys:
        near = source[key]
        if isinstance(near, str | bytes) or not isinstance(near, Iterable):
            raise DataError(
                f"{where}: the neighbours of {label_text(key)} are {near!r}; give a list, [] for an area without."
            )
        lists.append(list(near))
        weights += map(_weight, near.values()) if isinstance(near, Mapping) else [1.0] * len(lists[-1])
    own = plain_labels(keys, f"areas of {where}") if keys else np.empty(0, dtype=object)
    near_labels = [label for near in lists for label in near]
    found = plain_labels(near_labels, f"neighbours in {where}") if near_labels else np.empty(0, dtype=object)
    places = match_levels(own, found)
    i = np.repeat(np.arange(len(keys)), [len(near) for near in lists]).astype(np.int64)
    if (places < 0).any():
        k = int(np.flatnonzero(places < 0)[0])
        raise DataError(
            f"{where} is not symmetric: {label_text(own[i[k]])} has the neighbour {label_text(found[k])}, which has no "
            "entry of its own."
        )
    raw = Raw(own, len(own), i, places, plain_numbers(weights, where))
    pairs, first = np.unique(raw.i * max(len(own), 1) + raw.j, return_index=True)
    check_both_ways(raw.i[first], raw.j[first], raw.weights[first], own, where, "dict")
    raw = replace(raw, symmetric=len(pairs) == len(raw.i))
    return raw if names is None else _reordered(raw, names, where)


def _weight(value: Any) -> Any:
    """Return the weight of a neighbour; networkx writes it into a dict of its own."""
    return value.get("weight", 1.0) if isinstance(value, Mapping) else value


def from_network(source: Any, names: Labels | None, where: str) -> Raw:
    """Read an object with nodes and edges, such as a graph of networkx."""
    own = plain_labels(source.nodes, f"areas of {where}")
    edges = list(source.edges(data="weight", default=1.0) if callable(source.edges) else source.edges)
    first, second = ([edge[end] for edge in edges] for end in (0, 1))
    weights = plain_numbers([1.0 if len(edge) < 3 or edge[2] is None else edge[2] for edge in edges], where)
    places = [
        match_levels(own, plain_labels(part, f"areas of {where}")) if part else np.empty(0, dtype=np.int64)
        for part in (first, second)
    ]
    raw = Raw(own, len(own), places[0], places[1], weights)
    if callable(getattr(source, "is_directed", None)) and source.is_directed():
        _, once = np.unique(raw.i * max(len(own), 1) + raw.j, return_index=True)
        check_both_ways(raw.i[once], raw.j[once], weights[once], own, where, "graph")
        raw = replace(raw, symmetric=True)
    return raw if names is None else _reordered(raw, names, where)


def _reordered(raw: Raw, names: Labels, where: str) -> Raw:
    """Return the edges in the order of names that were given beside a graph that has its own."""
    assert raw.names is not None
    place = match_levels(names, raw.names)
    if (place < 0).any():
        strange = listing([label_text(label) for label in raw.names[place < 0]])
        raise DataError(f"{where} has the areas {strange}, which its names lack.")
    return replace(raw, names=names, size=len(names), i=place[raw.i], j=place[raw.j])


def from_geometry(source: Any, observed: Labels, where: str) -> Raw:
    """Read a GeoDataFrame: areas that share a border or a corner are neighbours (Queen contiguity).

    Raises
    ------
    Unsupported
        When libpysal is not there.
    """
    try:
        from libpysal.weights import Queen
    except ImportError:
        raise Unsupported(
            f"{where} is a GeoDataFrame, which needs libpysal to find neighbours: pip install 'bayou[spatial]', or "
            "give a list of pairs of neighbours."
        ) from None
    near = Queen.from_dataframe(source, use_index=False, silence_warnings=True).neighbors
    i = np.repeat(np.arange(len(source)), [len(near[k]) for k in range(len(source))]).astype(np.int64)
    j = np.array([other for k in range(len(source)) for other in near[k]], dtype=np.int64)
    names = _geographic_names(source, observed, where)
    return Raw(names, len(names), i, j, np.ones(len(i)), symmetric=True)


def _geographic_names(source: Any, observed: Labels, where: str) -> Labels:
    """Return the first of index and columns that names every area of the data, one row each."""
    geometry = source.geometry.name
    candidates = {"its index": source.index, **{f"`{c}`": source[c] for c in source.columns if c != geometry}}
    for values in candidates.values():
        try:
            labels = plain_labels(values, f"areas of {where}")
        except DataError:
            continue
        if len(set(labels)) == len(labels) and (match_levels(labels, observed) >= 0).all():
            return labels
    shown = listing([label_text(label) for label in observed], 4)
    raise DataError(
        f"{where}: neither {' nor '.join(candidates)} names each area of the data ({shown}) once; set the index of "
        "the GeoDataFrame to the areas."
    )

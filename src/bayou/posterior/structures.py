"""Graphs and matrices of structured effects as plain arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayou.posterior.columns import Arrays, decode, encode

__all__ = ["pack_structure", "unpack_structure"]


def pack_structure(name: str, given: Any, key: str, arrays: Arrays) -> dict[str, Any]:
    """Put a `Graph`, or the names and the values of a matrix, into ``arrays`` under keys that begin with ``key``.

    Parameters
    ----------
    name
        As the formula calls the object.
    given
        From `Design.structures`: a graph, or (names, matrix) with a dense or scipy.sparse matrix.
    key
        What the arrays are called by.
    arrays
        Where they go.
    """
    from bayou.design.graphs import Graph

    facts: dict[str, Any] = {"name": name, "key": f"{key}_"}
    if isinstance(given, Graph):
        arrays[f"{key}_edges"] = np.ravel(given.edges)
        arrays[f"{key}_weights"] = np.asarray(given.weights)
        names = encode(name, np.asarray(given.names), f"{key}_names", arrays)
        return {**facts, "form": "graph", "names": names, "notes": list(given.notes)}
    labels, matrix = given
    facts["names"] = encode(name, np.asarray(labels), f"{key}_names", arrays)
    if hasattr(matrix, "tocsc"):
        sparse = matrix.tocsc()
        arrays[f"{key}_indptr"], arrays[f"{key}_indices"] = np.asarray(sparse.indptr), np.asarray(sparse.indices)
        arrays[f"{key}_values"] = np.asarray(sparse.data, dtype=np.float64)
        return {**facts, "form": "sparse"}
    arrays[f"{key}_values"] = np.ravel(np.asarray(matrix, dtype=np.float64))
    return {**facts, "form": "dense"}


def unpack_structure(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    """Rebuild what `pack_structure` took apart."""
    key = facts["key"]
    names = decode(facts["names"], arrays[f"{key}names"])
    nothing = np.zeros(0, dtype=np.int64)
    if facts["form"] == "graph":
        from bayou.design.graphs import Graph

        edges = np.asarray(arrays.get(f"{key}edges", nothing), dtype=np.int64).reshape(-1, 2)
        weights = np.asarray(arrays.get(f"{key}weights", nothing), dtype=np.float64)
        return Graph(names, edges, weights, tuple(facts["notes"]))
    m = len(names)
    if facts["form"] == "dense":
        return names, np.reshape(arrays[f"{key}values"], (m, m))
    from scipy.sparse import csc_matrix

    parts = (arrays[f"{key}values"], arrays[f"{key}indices"], arrays[f"{key}indptr"])
    return names, csc_matrix(parts, shape=(m, m))

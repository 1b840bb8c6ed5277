"""Where to draw the areas of a graph whose places nobody gave: near those that they border on."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from bayou._types import Array, Integers
from bayou.design.graphs import Graph

__all__ = ["layout"]

STRESS = 1500  # areas of one part up to which distances between all pairs are fitted
PIVOTS, ROUNDS = 80, 60
GAP = 1.5  # between parts, in lengths of an edge


def layout(graph: Graph) -> Array:
    """Return a place (m, 2) for each area so that the distance of two is about the edges between them.

    Each part is laid out by stress majorisation from classical scaling of the graph distances (large parts by pivots
    alone), turned so that it is widest from left to right, and the parts are put side by side in rows.

    References
    ----------
    Gansner, Koren & North (2004), Graph Drawing, 239-250. Brandes & Pich (2006), Graph Drawing, 42-53.
    """
    places = np.zeros((len(graph.names), 2))
    parts = [
        np.flatnonzero(graph.components == k).astype(np.int64) for k in range(int(graph.components.max(initial=-1)) + 1)
    ]
    parts.sort(key=len, reverse=True)
    boxes = []
    for part in parts:
        places[part] = _turned(_one(graph, part))
        places[part] -= places[part].min(axis=0)
        boxes.append(places[part].max(axis=0))
    width = max(boxes[0][0], 1.3 * np.sqrt(sum((b[0] + GAP) * (b[1] + GAP) for b in boxes)))
    x = y = height = 0.0
    for part, box in zip(parts, boxes, strict=True):
        if x > 0.0 and x + box[0] > width:
            x, y, height = 0.0, y - height - GAP, 0.0
        places[part] += (x, y - box[1])
        x, height = x + box[0] + GAP, max(height, box[1])
    return places


def _one(graph: Graph, part: Integers) -> Array:
    """Lay out one connected part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    m = len(part)
    if m <= 2:
        return np.column_stack([np.arange(m, dtype=np.float64), np.zeros(m)])
    place = np.full(len(graph.names), -1)
    place[part] = np.arange(m)
    edges = place[graph.edges[place[graph.edges[:, 0]] >= 0]]
    joined = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(m, m)).tocsr()
    if m <= STRESS:
        D = np.asarray(shortest_path(joined, directed=False, unweighted=True))
        return _majorised(_classical(D), D)
    pivots = np.linspace(0, m - 1, PIVOTS).round().astype(np.int64)
    D = np.asarray(shortest_path(joined, directed=False, unweighted=True, indices=pivots)).T
    square = np.square(D)
    centred = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1, keepdims=True) + square.mean())
    U, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = U[:, :2] * s[:2]
    length = np.linalg.norm(found[edges[:, 0]] - found[edges[:, 1]], axis=1).mean()
    return np.asarray(found / length)


def _classical(D: Array) -> Array:
    """Classical scaling: the plane that keeps squared distances best."""
    square = np.square(D)
    B = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1, keepdims=True) + square.mean())
    m = len(D)
    values, vectors = scipy.linalg.eigh(B, subset_by_index=[m - 2, m - 1])
    # a path has one dimension only: a little of a second one keeps it from folding
    bend = 1e-3 * np.column_stack([np.cos(np.arange(m)), np.sin(np.arange(m))])
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)) + bend)


def _majorised(X: Array, D: Array) -> Array:
    """Lower the stress Σ (|x_i − x_j| − d_ij)² / d_ij² by majorisation."""
    m = len(D)
    W = np.where(D > 0.0, 1.0 / np.square(np.maximum(D, 1.0)), 0.0)
    V = np.diag(W.sum(axis=1)) - W
    factor = scipy.linalg.cho_factor(V[1:, 1:])
    for _ in range(ROUNDS):
        between = np.sqrt(np.square(X[:, None] - X).sum(axis=2))
        B = -W * D / np.maximum(between, 1e-9)
        B[np.arange(m), np.arange(m)] = 0.0
        B[np.arange(m), np.arange(m)] = -B.sum(axis=1)
        new = np.vstack([np.zeros(2), scipy.linalg.cho_solve(factor, (B @ X)[1:])])
        moved = np.abs((new - new.mean(axis=0)) - (X - X.mean(axis=0))).max()
        X = new
        if moved < 1e-3:
            break
    return X


def _turned(X: Array) -> Array:
    """Turn a part so that its longest side lies from left to right."""
    if len(X) < 3:
        return X
    centred = X - X.mean(axis=0)
    return np.asarray(centred @ np.linalg.svd(centred, full_matrices=False)[2].T)

"""Terms with the attributes that `effects.build` and the binding read of a `StructuredTerm`."""

from types import SimpleNamespace

import numpy as np

OPTIONS = {"cyclic": False, "scale": True, "constrained": True, "period": None, "degree": 3, "order": 2, "basis": 20}


def term(kind, coordinate=None, nodes=None, node=None, edges=None, replicates=("all",), replicate=None, name="t", **more):
    """A term over ``nodes``; row i of the data has value 1 at ``node[i]`` unless ``value`` and ``start`` are given."""
    options = {**OPTIONS, **{k: more.pop(k) for k in list(more) if k in OPTIONS}}
    count = len(coordinate) if coordinate is not None else nodes
    node = np.arange(count) if node is None else np.asarray(node)
    graph = None
    if edges is not None:
        graph = SimpleNamespace(names=np.arange(count), edges=np.asarray(edges), weights=np.ones(len(edges)))
    n = len(node)
    base = {
        "name": name,
        "kind": kind,
        "column": name,
        "by": None if tuple(replicates) == ("all",) else "by",
        "options": options,
        "nodes": np.arange(count).astype(object) if coordinate is None else np.asarray(coordinate).astype(object),
        "coordinate": None if coordinate is None else np.asarray(coordinate, dtype=float),
        "replicates": np.array(replicates, dtype=object),
        "start": np.arange(n + 1),
        "replicate": np.zeros(n, dtype=np.int64) if replicate is None else np.asarray(replicate),
        "node": node.astype(np.int64),
        "value": np.ones(n),
        "graph": graph,
        "covariance": None,
        "precision": None,
        "basis": None,
    }
    return SimpleNamespace(**{**base, **more})

"""Columns of labels and numbers as plain arrays, with what is needed to read them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["decode", "encode", "plain"]

Arrays = dict[str, np.ndarray[Any, Any]]


def encode(name: str, values: np.ndarray[Any, Any], key: str, arrays: Arrays) -> dict[str, Any]:
    """Put one raw column into ``arrays`` as numbers; text becomes codes with its levels in the header."""
    kind = values.dtype.kind
    if kind in "OUS":
        places: dict[Any, int] = {}
        codes = [-1 if v is None else places.setdefault((type(v), v), len(places)) for v in values]
        arrays[key] = np.array(codes, dtype=np.int64)
        return {"name": name, "key": key, "kind": "levels", "levels": [plain(v) for _, v in places]}
    if kind == "b":
        arrays[key] = values.astype(np.int8)
    elif kind == "M":
        arrays[key] = values.astype("datetime64[us]").astype(np.int64)
    else:
        arrays[key] = np.ascontiguousarray(values)
    return {"name": name, "key": key, "kind": {"b": "boolean", "M": "date"}.get(kind, "number")}


def decode(facts: Mapping[str, Any], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Take back a column that `encode` put away."""
    kind = facts["kind"]
    if kind == "levels":
        levels = np.empty(len(facts["levels"]) + 1, dtype=object)
        levels[:-1] = facts["levels"]
        return np.asarray(levels[values])
    if kind == "boolean":
        return values.astype(bool)
    return values.astype("datetime64[us]") if kind == "date" else values


def plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value

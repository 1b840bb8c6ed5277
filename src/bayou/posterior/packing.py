"""A model as JSON and arrays, and back: formula text, family, priors and the columns used.

Nothing here is code: the formula passes the white list again when the model is rebuilt, and priors are
known classes with numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.errors import FileError

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.model import Model
    from bayou.priors import Priors

__all__ = ["difference", "pack", "unpack"]

Arrays = dict[str, np.ndarray[Any, Any]]


def pack(model: Model) -> tuple[dict[str, Any], Arrays]:
    """Return what rebuilds a model: facts for JSON, and the columns used as plain arrays."""
    design = model.design
    arrays: Arrays = {}
    columns = [_encode(name, v, f"column_{k}", arrays) for k, (name, v) in enumerate(design.data.items())]
    weights = design.recipe.weights
    if weights is None and not np.all(design.weights == 1.0):
        arrays["weights"] = design.weights  # given as numbers, not as a column
    index = np.empty(design.n, dtype=object)
    index[:] = [_label(v) for v in design.index]
    facts = {
        "formula": model.text,
        "functions": sorted(design.formula.functions),
        "family": model.family.name,
        "link": model.family.link.name,
        "weights": weights,
        "sigma_by": design.sigma_by,
        "priors": {key: _prior_out(prior) for key, prior in model.priors.items()},
        "columns": columns,
        "categories": {name: [_plain(v) for v in levels] for name, levels in design.categories.items()},
        "index": _encode("index", index, "index", arrays),
        "notes": list(design.notes),
        "dropped": design.dropped,
        "shape": _shape(design),
    }
    return facts, arrays


def unpack(facts: Mapping[str, Any], arrays: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Model:
    """Rebuild the model.

    Raises
    ------
    FileError
        If the formula needs functions that are not given, or the rebuilt model is another one.
    """
    from bayou import families
    from bayou.design import frames
    from bayou.model import Model

    missing = set(facts["functions"]) - set(functions)
    if missing:
        raise FileError(
            f"the formula calls your own functions {', '.join(sorted(missing))}, and files hold no code: "
            "give them as functions={...}."
        )
    columns = {c["name"]: _decode(c, arrays[c["key"]]) for c in facts["columns"]}
    model = Model(
        facts["formula"],
        frames.read(columns, facts["categories"]),
        type(families.get(facts["family"]))(link=facts["link"]),
        _priors_in(facts["priors"]),
        weights=arrays.get("weights", facts["weights"]),
        sigma_by=facts["sigma_by"],
        functions=functions or None,
    )
    if _shape(model.design) != facts["shape"]:
        raise FileError("the rebuilt model has other coefficients or levels than the saved one; fit again.")
    # what was said of the whole table cannot be read off the rows that were kept
    model.design = replace(
        model.design,
        notes=tuple(facts["notes"]),
        dropped=facts["dropped"],
        index=_decode(facts["index"], arrays["index"]),
    )
    return model


def difference(one: tuple[Mapping[str, Any], Arrays], other: tuple[Mapping[str, Any], Arrays]) -> str | None:
    """Return in words where two packed models differ first, or None."""
    (facts, arrays), (facts2, arrays2) = one, other
    for name in ("formula", "family", "link", "sigma_by"):
        if facts[name] != facts2[name]:
            return f"{name} {facts[name]!r} there, {facts2[name]!r} here"
    for key in sorted({*facts["priors"], *facts2["priors"]}):
        if _json(facts["priors"].get(key)) != _json(facts2["priors"].get(key)):
            return f"another prior for {key}"
    if facts["shape"]["rows"] != facts2["shape"]["rows"]:
        return f"{facts['shape']['rows']:,} rows of data there, {facts2['shape']['rows']:,} here"
    columns = {c["name"]: _decode(c, arrays[c["key"]]) for c in facts["columns"]}
    columns2 = {c["name"]: _decode(c, arrays2[c["key"]]) for c in facts2["columns"]}
    for name, values in columns.items():
        if name in columns2:
            differs = np.array([a != b and (a == a or b == b) for a, b in zip(values, columns2[name], strict=True)])
            if differs.any():
                row = int(differs.argmax())
                return f"column {name!r} is {values[row]} there and {columns2[name][row]} here, first in row {row + 1}"
    if not np.array_equal(arrays.get("weights", 1.0), arrays2.get("weights", 1.0)):
        return "other weights"
    if _json([facts["shape"], facts["categories"]]) != _json([facts2["shape"], facts2["categories"]]):
        return "other coefficients, levels or categories"
    return None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _shape(design: Design) -> dict[str, Any]:
    """Return what the rebuilt model must have in common with the saved one."""
    return {
        "rows": design.n,
        "coefficients": list(design.coefficients),
        "groupings": [[g.name, len(g.levels), list(g.coefficients)] for g in design.groupings],
    }


def _encode(name: str, values: np.ndarray[Any, Any], key: str, arrays: Arrays) -> dict[str, Any]:
    """Put one raw column into ``arrays`` as numbers; text becomes codes with its levels in the header."""
    kind = values.dtype.kind
    if kind in "OUS":
        places: dict[Any, int] = {}
        codes = [-1 if v is None else places.setdefault((type(v), v), len(places)) for v in values]
        arrays[key] = np.array(codes, dtype=np.int64)
        return {"name": name, "key": key, "kind": "levels", "levels": [_plain(v) for _, v in places]}
    if kind == "b":
        arrays[key] = values.astype(np.int8)
    elif kind == "M":
        arrays[key] = values.astype("datetime64[us]").astype(np.int64)
    else:
        arrays[key] = np.ascontiguousarray(values)
    return {"name": name, "key": key, "kind": {"b": "boolean", "M": "date"}.get(kind, "number")}


def _decode(facts: Mapping[str, Any], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    kind = facts["kind"]
    if kind == "levels":
        levels = np.empty(len(facts["levels"]) + 1, dtype=object)
        levels[:-1] = facts["levels"]
        return np.asarray(levels[values])
    if kind == "boolean":
        return values.astype(bool)
    return values.astype("datetime64[us]") if kind == "date" else values


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _label(value: Any) -> Any:
    """Return a row label as JSON has it: numbers and text stay, dates and tuples become text."""
    value = _plain(value)
    return value if isinstance(value, (str, int, float)) else str(value)


def _prior_out(prior: Any) -> dict[str, Any]:
    from bayou.priors import Prior

    def out(value: Any) -> Any:
        if isinstance(value, Prior):
            return _prior_out(value)
        return value.tolist() if isinstance(value, np.ndarray) else _plain(value)

    return {
        "class": type(prior).__name__,
        "fields": {f.name: out(getattr(prior, f.name)) for f in fields(prior)},
    }


def _priors_in(stored: Mapping[str, Any]) -> Priors:
    from bayou import priors

    known = {
        name: value
        for name in priors.__all__
        if isinstance(value := getattr(priors, name), type) and issubclass(value, priors.Prior)
    }

    def made(facts: Any) -> Any:
        if not isinstance(facts, dict):
            return facts
        return known[facts["class"]](**{name: made(value) for name, value in facts["fields"].items()})

    return priors.Priors.of({key: made(facts) for key, facts in stored.items()})

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

from bayou.errors import FileError, Unsupported
from bayou.formula import parse
from bayou.posterior.columns import decode, encode, plain
from bayou.posterior.reduced import pack_reduced, same_rows, unpack_reduced
from bayou.posterior.structures import pack_structure, unpack_structure

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.model import Model
    from bayou.priors import Priors

__all__ = ["difference", "pack", "unpack"]

Arrays = dict[str, np.ndarray[Any, Any]]


def pack(model: Model) -> tuple[dict[str, Any], Arrays]:
    """Return what rebuilds a model: facts for JSON, and the columns used as plain arrays.

    Raises
    ------
    Unsupported
        For a family of the user's own.
    """
    if model.family.own:
        raise Unsupported(
            f"{model.family.name!r} is a family of your own, and files hold no code. Keep the draws instead: "
            "fit.posterior is a DataTree of xarray, with to_netcdf()."
        )
    design = model.design
    arrays: Arrays = {}
    columns = [encode(name, v, f"column_{k}", arrays) for k, (name, v) in enumerate(design.data.items())]
    weights = design.recipe.weights
    if weights is None and design.reduced is None and not np.all(design.weights == 1.0):
        arrays["weights"] = design.weights  # given as numbers, not as a column
    kept = () if design.reduced is not None else design.index
    index = np.empty(len(kept), dtype=object)
    index[:] = [_label(v) for v in kept]
    facts = {
        "formula": model.text,
        "functions": sorted(design.formula.functions),
        "family": model.family.name,
        "link": model.family.link.name,
        "weights": weights,
        "sigma_by": design.sigma_by,
        "priors": {key: _prior_out(prior) for key, prior in model.priors.items()},
        "columns": columns,
        "categories": {name: [plain(v) for v in levels] for name, levels in design.categories.items()},
        "index": encode("index", index, "index", arrays),
        "notes": list(design.notes),
        "dropped": design.dropped,
        "shape": _shape(design),
    }
    if design.reduced is not None:
        facts["reduced"] = {**pack_reduced(design, arrays), "bound_notes": list(model.bound.notes)}
    if design.structures:
        objects = enumerate(design.structures.items())
        facts["structures"] = [pack_structure(name, given, f"structure_{k}", arrays) for k, (name, given) in objects]
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
    columns = {c["name"]: decode(c, arrays[c["key"]]) for c in facts["columns"]}
    table = frames.read(columns, facts["categories"])
    family = type(families.get(facts["family"]))(link=facts["link"])
    options: dict[str, Any] = {
        "weights": arrays.get("weights", facts["weights"]),
        "sigma_by": facts["sigma_by"],
        "functions": functions or None,
        "structures": {one["name"]: unpack_structure(one, arrays) for one in facts.get("structures", ())} or None,
    }
    if "reduced" in facts:
        formula = parse(facts["formula"], functions)
        model = Model.of(unpack_reduced(facts, arrays, formula, table, family, **options), _priors_in(facts["priors"]))
    else:
        model = Model(facts["formula"], table, family, _priors_in(facts["priors"]), **options)
    if _shape(model.design) != facts["shape"]:
        raise FileError("the rebuilt model has other coefficients or levels than the saved one; fit again.")
    # what was said of the whole table cannot be read off the rows that were kept
    known = {"notes": tuple(facts["notes"]), "dropped": facts["dropped"]}
    if "reduced" not in facts:
        known["index"] = decode(facts["index"], arrays["index"])
    model.design = replace(model.design, **known)
    if model.design.reduced is not None and model.design.reduced.how == "gone":
        model.bound = replace(model.bound, notes=tuple(facts["reduced"]["bound_notes"]))
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
    columns = {c["name"]: decode(c, arrays[c["key"]]) for c in facts["columns"]}
    columns2 = {c["name"]: decode(c, arrays2[c["key"]]) for c in facts2["columns"]}
    for name, values in columns.items():
        if name in columns2:
            differs = np.array([a != b and (a == a or b == b) for a, b in zip(values, columns2[name], strict=True)])
            if differs.any():
                row = int(differs.argmax())
                return f"column {name!r} is {values[row]} there and {columns2[name][row]} here, first in row {row + 1}"
    for own in facts.get("structures", ()):
        keys = [key for key in arrays if key.startswith(own["key"])]
        same = own in facts2.get("structures", ()) and all(np.array_equal(arrays[k], arrays2[k]) for k in keys)
        if not same:
            return f"another object {own['name']!r} in structures="
    if ("reduced" in facts) != ("reduced" in facts2):
        return "rows that were read in blocks on one side and in memory on the other"
    if "reduced" in facts and not same_rows(facts["reduced"], arrays, facts2["reduced"], arrays2):
        return "other rows, or the same ones kept in another way"
    if not np.array_equal(arrays.get("weights", 1.0), arrays2.get("weights", 1.0)):
        return "other weights"
    if _json([facts["shape"], facts["categories"]]) != _json([facts2["shape"], facts2["categories"]]):
        return "other coefficients, levels or categories"
    return None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _shape(design: Design) -> dict[str, Any]:
    """Return what the rebuilt model must have in common with the saved one."""
    there = bool(design.structured)
    return {
        "rows": design.given,
        "coefficients": list(design.coefficients),
        "groupings": [[g.name, len(g.levels), list(g.coefficients)] for g in design.groupings],
        **({"structured": [[t.name, len(t.replicates), len(t.nodes)] for t in design.structured]} if there else {}),
    }


def _label(value: Any) -> Any:
    """Return a row label as JSON has it: numbers and text stay, dates and tuples become text."""
    value = plain(value)
    return value if isinstance(value, (str, int, float)) else str(value)


def _prior_out(prior: Any) -> dict[str, Any]:
    from bayou.priors import Prior

    def out(value: Any) -> Any:
        if isinstance(value, Prior):
            return _prior_out(value)
        return value.tolist() if isinstance(value, np.ndarray) else plain(value)

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

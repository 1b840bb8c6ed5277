"""A design whose rows were read in blocks, as JSON and arrays: its witnesses, what was learnt, and the rows kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.design.frames import Frame
from bayou.design.learnt import Learnt
from bayou.design.levels import Levels, learn_levels
from bayou.design.reduced import Distinct, Reduced, Remainder
from bayou.posterior.columns import plain
from bayou.streaming import Stream

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.families import Family
    from bayou.formula import Formula

__all__ = ["pack_reduced", "same_rows", "unpack_reduced"]

Arrays = dict[str, np.ndarray[Any, Any]]

_rows = ("y", "trials", "weights", "offset", "standard_errors", "X", "sigma_codes")


def pack_reduced(design: Design, arrays: Arrays) -> dict[str, Any]:
    """Put what was kept of the rows into ``arrays``; return the facts. Rows in files are named, not copied."""
    reduced = design.reduced
    assert reduced is not None
    source = reduced.source
    behind = source if isinstance(source, Stream) else None
    states = {text: _state_out(f"state_{k}", state, arrays) for k, (text, state) in enumerate(_states(design).items())}
    facts: dict[str, Any] = {
        "how": reduced.how,
        "given": reduced.given,
        "states": states,
        "stream": None if behind is None else behind.facts(),
        "folder": None if behind is None else behind.folder,
        "witnesses": len(next(iter(design.data.values()), ())),
    }
    # summed in passes: moments of the rows where they lie would round differently, and so would the chains
    running = getattr(reduced, "running", None)
    if running is not None:
        facts["running"] = _fields_out(running, "kept_running", arrays)
    if reduced.how == "blocks":
        return facts
    for name in _rows:
        if getattr(design, name) is not None:
            arrays[f"kept_{name}"] = np.ravel(getattr(design, name))
    for k, grouping in enumerate(design.groupings):
        arrays[f"kept_codes_{k}"], arrays[f"kept_Z_{k}"] = grouping.codes, np.ravel(grouping.Z)
    for k, term in enumerate(design.structured):
        for name in ("start", "replicate", "node", "value"):
            arrays[f"kept_{name}_{k}"] = getattr(term, name)
    facts["remainder"] = _fields_out(reduced.remainder, "kept_remainder", arrays)
    arrays["kept_frequency"] = reduced.frequency
    if reduced.distinct is not None:
        facts["distinct"] = _fields_out(reduced.distinct, "kept_distinct", arrays)
    return facts


def unpack_reduced(
    facts: Mapping[str, Any],
    arrays: Mapping[str, Any],
    formula: Formula,
    witnesses: Frame,
    family: Family,
    **options: Any,
) -> Design:
    """Build the design again: the template on its witnesses, then the rows that were kept.

    Of rows in files those in a folder that the user named are opened again; without them the design holds its
    witnesses only and ``reduced.how`` is "gone".
    """
    from bayou.design import build

    own = facts["reduced"]
    states = {text: _state_in(state, arrays, witnesses) for text, state in own["states"].items()}
    behind = None if own["stream"] is None else Stream.of(own["stream"])
    learnt = Learnt(
        rows=own["given"] + facts["dropped"],
        dropped=facts["dropped"],
        positions=np.arange(witnesses.n),
        states=states,
        means={} if behind is None else behind.means,
    )
    template = build(formula, witnesses, family, learnt=learnt, **options)
    if own["how"] == "blocks":
        running = _running(_fields_in(own["running"], arrays)) if "running" in own else None
        return _with_files(template, own, behind, running)
    made: dict[str, Any] = {name: np.asarray(arrays[f"kept_{name}"]) for name in _rows if f"kept_{name}" in arrays}
    groupings = tuple(
        replace(g, codes=arrays[f"kept_codes_{k}"], Z=arrays[f"kept_Z_{k}"].reshape(-1, g.Z.shape[1]))
        for k, g in enumerate(template.groupings)
    )
    structured = tuple(
        replace(term, **{name: arrays[f"kept_{name}_{k}"] for name in ("start", "replicate", "node", "value")})
        for k, term in enumerate(template.structured)
    )
    made["X"] = made.get("X", np.zeros(0)).reshape(len(made["y"]), -1)
    remainder = Remainder(**_fields_in(own["remainder"], arrays))
    distinct = Distinct(**_fields_in(own["distinct"], arrays)) if "distinct" in own else None
    reduced = Reduced(own["how"], own["given"], arrays["kept_frequency"], remainder, distinct, behind)
    if "running" in own:
        reduced = replace(reduced, **{"running": _running(_fields_in(own["running"], arrays))})
    return replace(
        template, **made, groupings=groupings, structured=structured, reduced=reduced, index=np.arange(len(made["y"]))
    )


def same_rows(one: Mapping[str, Any], arrays: Arrays, other: Mapping[str, Any], arrays2: Arrays) -> bool:
    """Tell whether two packed designs keep the same of the same rows."""
    keys = [key for key in arrays if key.startswith("kept_")]
    return (one["how"], one["given"]) == (other["how"], other["given"]) and all(
        key in arrays2 and np.array_equal(arrays[key], arrays2[key]) for key in keys
    )


def _with_files(template: Design, own: Mapping[str, Any], behind: Stream | None, running: Any) -> Design:
    folder = own["folder"]
    if folder is not None and Path(folder).is_dir():
        from bayou.streaming.mapped import opened

        design: Design = opened(template, Path(folder))
        assert design.reduced is not None
        return replace(design, data=template.data, reduced=replace(design.reduced, source=behind, running=running))
    nothing = Remainder.nothing(len(template.sigma_levels))
    gone = Reduced("gone", own["given"], np.ones(template.n), nothing, None, behind, running)
    return replace(template, reduced=gone)


def _states(design: Design) -> Mapping[str, Any]:
    return design.recipe.states


def _fields_out(value: Any, key: str, arrays: Arrays) -> dict[str, Any]:
    """Return the fields of a dataclass; arrays go under a key of their own."""
    out: dict[str, Any] = {}
    for one in fields(value):
        held = getattr(value, one.name)
        if isinstance(held, np.ndarray):
            arrays[f"{key}_{one.name}"] = held
            out[one.name] = {"array": f"{key}_{one.name}", "shape": list(held.shape)}
        elif isinstance(held, tuple):
            out[one.name] = [[int(k) for k in part] for part in held]
        else:
            out[one.name] = plain(held)
    return out


def _fields_in(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    def back(value: Any) -> Any:
        if isinstance(value, dict):
            return np.asarray(arrays[value["array"]]) if 0 not in value["shape"] else np.zeros(value["shape"])
        return tuple(tuple(part) for part in value) if isinstance(value, list) else value

    return {name: back(value) for name, value in facts.items()}


def _running(held: dict[str, Any]) -> Any:
    from bayou.design.moments import Running

    made = Running(held["width"], held["places"])
    for name, value in held.items():
        setattr(made, name, value)
    return made


def _state_out(key: str, state: Any, arrays: Arrays) -> Any:
    """Return what a function remembers, for JSON; group means go to the arrays, levels are found again."""
    if isinstance(state, Levels):
        return {"levels": list(state.factors)}
    if isinstance(state, np.ndarray):
        arrays[key] = state
        return {"array": key}
    if isinstance(state, dict):
        return {"pairs": [[k, _state_out(f"{key}_{k}", v, arrays)] for k, v in state.items()]}
    if is_dataclass(state):
        raise TypeError(type(state).__name__)
    return [plain(v) for v in state] if isinstance(state, list | tuple) else plain(state)


def _state_in(state: Any, arrays: Mapping[str, Any], witnesses: Frame) -> Any:
    if not isinstance(state, dict):
        return state
    if "levels" in state:
        return learn_levels(state["levels"], witnesses)[0]
    if "array" in state:
        return np.asarray(arrays[state["array"]])
    return {k: _state_in(v, arrays, witnesses) for k, v in state["pairs"]}

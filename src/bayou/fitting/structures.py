"""Structured effects in words: kind, nodes, edges, parts, constraint, scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayou.formula.words import label_text, plural

if TYPE_CHECKING:
    from bayou.design.structured import StructuredTerm
    from bayou.effects.base import Effect
    from bayou.model import Model

__all__ = ["open_parts", "structure_lines"]

INTRINSIC = ("rw1", "rw2", "seasonal", "s", "icar", "bym2")


def structure_lines(model: Model) -> list[str]:
    """Return one sentence for each structured effect of a model."""
    terms = model.design.structured
    return [_line(term, effect) for term, effect in zip(terms, model.effects, strict=True)] if terms else []


def open_parts(model: Model) -> list[str]:
    """Return the structured effects whose prior leaves a part flat: log p(y) is known up to a constant of theirs."""
    terms = model.design.structured
    effects = model.effects if terms else ()
    return [term.text or term.name for term, effect in zip(terms, effects, strict=True) if effect.null]


def _line(term: StructuredTerm, effect: Effect) -> str:
    parts = [_nodes(term)]
    if term.by is not None:
        parts.append(f"a copy for each of {plural(len(term.replicates), 'level')} of {term.by}")
    parts += [*_graph(term), _constraint(term, effect)]
    if term.kind == "ar1" and isinstance(unit := getattr(effect, "unit", None), float):
        parts.append(f"rho over a step of {unit:.6g}")
    if term.kind in INTRINSIC:
        parts.append("scaled" if term.options.get("scale", True) else "not scaled")
    return f"{term.text or term.name}: {', '.join(part for part in parts if part)}"


def _nodes(term: StructuredTerm) -> str:
    m = len(term.nodes)
    if term.basis is not None:
        return f"{m:,} B-splines of degree {term.basis.degree} from {term.basis.low:.4g} to {term.basis.high:.4g}"
    if term.coordinate is not None:
        ends = f"{plural(m, 'time')} from {_time(term.nodes[0])} to {_time(term.nodes[-1])}"
        if term.kind == "seasonal":
            return f"{ends}, period {term.options['period']:g}"
        return f"{ends}, cyclic" if term.options.get("cyclic") else ends
    if term.graph is not None:
        return plural(m, "area")
    return f"{plural(m, 'level')} of known {'covariance' if term.covariance is not None else 'precision'}"


def _time(label: object) -> str:
    """Return a time as text, with no more digits than mean something."""
    return f"{label:.10g}" if isinstance(label, float) else label_text(label)


def _graph(term: StructuredTerm) -> list[str]:
    if term.graph is None:
        return []
    parts, islands = int(term.graph.components.max(initial=-1)) + 1, len(term.graph.islands)
    said = [plural(len(term.graph.edges), "edge"), "connected" if parts == 1 else f"{parts:,} parts"]
    return [*said, plural(islands, "island")] if islands else said


def _constraint(term: StructuredTerm, effect: Effect) -> str:
    if term.kind not in INTRINSIC:
        return ""
    count = len(effect.constraints)
    if count == 0:
        return "no constraint"
    return "sums to zero" if count == 1 else f"sums to zero in each of {count:,} parts"

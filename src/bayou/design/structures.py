"""The objects that a formula names beside the data: graphs, covariance and precision matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayou._types import Integers, Labels
from bayou.design.frames import Frame
from bayou.design.graphs import Graph, read_graph
from bayou.design.levels import match_levels, sorted_order
from bayou.design.matrices import read_matrix
from bayou.errors import DataError, FormulaError
from bayou.formula import Structured
from bayou.formula.words import did_you_mean, label_text, listing, plural

__all__ = ["read_structures"]


def read_structures(
    terms: Sequence[Structured], frame: Frame, structures: Mapping[str, Any] | None
) -> tuple[dict[str, object], list[str]]:
    """Return the objects that the formula uses, read once each, and notes about them.

    Returns
    -------
    dict
        Name -> `Graph`, or (names, matrix).
    list of str

    Raises
    ------
    FormulaError
        For a name that is not given, and for one that is used as a graph and as a matrix.
    DataError
        When an object cannot be used; see `read_graph` and `read_matrix`.
    """
    if structures is not None and not isinstance(structures, Mapping):
        raise DataError(
            f"structures= is of type {type(structures).__name__}: give a dict of name -> graph or matrix, as in "
            "structures={'W': edges}."
        )
    given = dict(structures or {})
    uses: dict[str, list[Structured]] = {}
    for term in terms:
        if term.reference is not None:
            uses.setdefault(term.reference[1], []).append(term)
    out: dict[str, object] = {}
    notes: list[str] = []
    for name, users in uses.items():
        options = sorted({user.reference[0] for user in users if user.reference})
        if name not in given:
            near = did_you_mean(name, [str(key) for key in given])
            column = f" (`{name}` is a column of the data, which is something else.)" if name in frame else ""
            known = f" structures= holds {listing([str(key) for key in given])}." if given else ""
            raise FormulaError(
                f"`{users[0].text}` names `{name}`, which is not given: pass structures={{'{name}': …}} beside the "
                f"data.{near}{known}{column}"
            )
        if "graph" in options and len(options) > 1:
            shown = listing([user.text for user in users])
            raise FormulaError(f"`{name}` cannot be a graph and a matrix at once; see {shown}.")
        observed, declared = _labels([user.column for user in users], frame)
        if "graph" in options:
            graph = read_graph(given[name], observed, name, declared)
            notes += [*graph.notes, *_parts(graph, name, users)]
            notes += _rowless(graph.names, observed, name, "area", graph.components)
            out[name] = graph
        else:
            matrix = read_matrix(given[name], observed, name, declared)
            if not (isinstance(given[name], tuple) or hasattr(given[name], "columns")):
                notes.append(sorted_order(f"matrix `{name}`", matrix[0], "level"))
            notes += [*_units(name, matrix[1], users), *_rowless(matrix[0], observed, name, "level")]
            out[name] = matrix
    unused = [str(name) for name in given if name not in uses]
    if unused:
        notes.append(f"structures: the formula does not name {listing(unused)}.")
    return out, notes


def _units(name: str, matrix: Any, users: Sequence[Structured]) -> list[str]:
    """Say where the variances of a covariance are far from one, which the default prior of its sd takes them to be."""
    if any(user.reference and user.reference[0] != "covariance" for user in users):
        return []
    diagonal = np.asarray(matrix.diagonal(), dtype=np.float64)
    if not (diagonal > 0.0).all():
        return []
    typical = float(np.exp(np.log(diagonal).mean()))
    if 0.05 < typical < 20.0:
        return []
    return [
        f"{name}: its variances are about {typical:.3g}, and the sd of the effect multiplies their roots; the default "
        "prior of that sd is meant for variances near 1."
    ]


def _labels(columns: Sequence[str], frame: Frame) -> tuple[Labels, Labels | None]:
    """Return the levels in the rows of some columns, sorted, and the declared ones where they are more."""
    factors = [frame[name].factor() for name in dict.fromkeys(columns)]
    if len(factors) == 1:
        declared = frame[columns[0]].levels
        return factors[0].levels, declared if len(factors[0].unused) else None
    together = factors[0].levels
    for factor in factors[1:]:
        together = np.concatenate([together, factor.levels[match_levels(together, factor.levels) < 0]])
    try:
        order = sorted(range(len(together)), key=together.__getitem__)
    except TypeError:
        order = sorted(range(len(together)), key=lambda k: label_text(together[k]))
    return together[order], None


def _rowless(names: Labels, observed: Labels, name: str, noun: str, components: Integers | None = None) -> list[str]:
    """Say which areas or levels have no rows: what is known of them comes from the others in their part, or nowhere."""
    without = match_levels(observed, names) < 0
    alone = np.zeros(len(names), dtype=np.bool_)
    if components is not None and without.any():
        alone = np.bincount(components, weights=~without)[components] == 0.0
    said = []
    for chosen, what in ((without & ~alone, "the others inform them"), (alone, "only the prior speaks of them")):
        if chosen.any():
            shown = ", ".join(label_text(label) for label in names[chosen][:4]) + (", …" if chosen.sum() > 4 else "")
            said.append(f"{name}: {chosen.sum():,} of {plural(len(names), noun)} without rows ({shown}); {what}.")
    return said


def _parts(graph: Graph, name: str, users: Sequence[Structured]) -> list[str]:
    """Say how islands and several components are treated."""
    notes = []
    intrinsic = any(user.kind in ("icar", "bym2") for user in users)
    islands = graph.islands
    if islands.size:
        shown = listing([label_text(graph.names[k]) for k in islands])
        what = "an effect of its own, N(0, sd²)" if intrinsic else "an effect that leans on no other"
        notes.append(f"graph `{name}`: {plural(islands.size, 'area')} without neighbours ({shown}), each with {what}.")
    sizes = np.bincount(graph.components)
    larger = sizes[sizes > 1]
    if len(larger) > 1:
        what = " each is scaled, and sums to zero, by itself." if intrinsic else " each stands for itself."
        sizes_shown = listing(sorted((int(size) for size in larger), reverse=True))
        notes.append(f"graph `{name}` falls into {len(larger)} parts of {sizes_shown} areas;{what}")
    return notes

"""Structured effects bound to data: nodes, copies, and which rows see which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.design.evaluate import Evaluator
from bayou.design.graphs import Graph
from bayou.design.levels import Levels, learn_levels, match_levels, unused_levels
from bayou.design.splines import Basis, even_basis
from bayou.design.structures import read_structures
from bayou.design.times import Scale, learn_times, read_coordinates
from bayou.errors import DataError
from bayou.formula import Structured
from bayou.formula.terms import Term
from bayou.formula.tree import Call, Name, Node, names_of
from bayou.formula.words import listing, plural

__all__ = ["StructuredRecipe", "StructuredTerm", "learn_structured"]

_linear = ("center", "scale", "standardize", "poly")
_times = ("rw1", "rw2", "ar1", "seasonal")
_largest = 100_000_000


@dataclass(frozen=True, eq=False)
class StructuredTerm:
    """One structured effect of a design: row i has Σ value · f[replicate, node].

    Attributes
    ----------
    name : str
        "t", or "t:g" with ``by=g``; "rw2(t)" where that is taken.
    kind, column : str
    by : str or None
    options : dict
        ``cyclic, scale, constrained, period, basis, degree, order``, defaults filled in; None where the kind
        has none. The period of a cycle, and the number of B-splines, are those in use.
    nodes : (m,) ndarray of objects
        Labels of one copy: distinct sorted times; every whole number from first to last (seasonal);
        0 … basis - 1 (s); the areas of the graph; the levels of a known covariance.
    coordinate : (m,) ndarray or None
        The times.
    replicates : (R,) ndarray of objects
        Levels of `by`, or "all".
    start : (n + 1,) ndarray of int64
        Where the entries of each row begin.
    replicate, node : (nnz,) ndarray of int64
    value : (nnz,) ndarray
    graph : Graph or None
    covariance, precision : ndarray (m, m), scipy.sparse csc or None
    basis : Basis or None
    """

    name: str
    kind: str
    column: str
    by: str | None
    options: dict[str, Any]
    nodes: Labels = field(repr=False)
    coordinate: Array | None = field(repr=False)
    replicates: Labels = field(repr=False)
    start: Integers = field(repr=False)
    replicate: Integers = field(repr=False)
    node: Integers = field(repr=False)
    value: Array = field(repr=False)
    graph: Graph | None = None
    covariance: Any = field(default=None, repr=False)
    precision: Any = field(default=None, repr=False)
    basis: Basis | None = field(default=None, repr=False)
    text: str = ""


@dataclass(frozen=True, eq=False)
class StructuredRecipe:
    """What is needed to code the same effect in new rows."""

    term: StructuredTerm
    by: Levels | None
    scale: Scale | None


def learn_structured(
    formula: Sequence[Structured],
    rows: Evaluator,
    structures: Mapping[str, Any] | None,
    taken: Sequence[str],
    fixed: Sequence[Term],
) -> tuple[tuple[StructuredTerm, ...], tuple[StructuredRecipe, ...], dict[str, object], list[str]]:
    """Bind structured effects to data.

    Parameters
    ----------
    formula : sequence of Structured
    rows : Evaluator
    structures : mapping
        Graphs and matrices by name.
    taken : sequence of str
        Names of the grouping factors.
    fixed : sequence of Term
        Terms of the fixed effects, for a note about lines that stand there twice.

    Returns
    -------
    terms, recipes, structures in use, notes

    Raises
    ------
    FormulaError, DataError
        Naming the effect and what is wrong.
    """
    used, notes = read_structures(formula, rows.frame, structures)
    recipes: list[StructuredRecipe] = []
    names = list(taken)
    for term in formula:
        base = f"{term.column}:{term.by}" if term.by else term.column
        candidates = [base, f"{term.kind}({base})", term.text]
        candidates += [f"{candidates[1]} {k}" for k in range(2, len(names) + 3)]
        name = next(name for name in candidates if name not in names)
        names.append(name)
        recipes.append(_learn(term, name, rows, used, notes))
        notes += _shared_line(term, fixed, rows)
    return tuple(recipe.term for recipe in recipes), tuple(recipes), used, notes


def _learn(
    term: Structured, name: str, rows: Evaluator, used: Mapping[str, object], notes: list[str]
) -> StructuredRecipe:
    column = rows.column(term.column)
    n = rows.frame.n
    options, scale, coordinate, basis = term.settings, None, None, None
    found: dict[str, Any] = {}
    node, value = np.empty((n, 1), dtype=np.int64), np.ones((n, 1))
    if term.kind in _times:
        times, options, own = learn_times(term, column)
        notes += own
        scale, coordinate, nodes = times.scale, times.coordinate, times.labels
        node[:, 0] = times.codes
    elif term.kind == "s":
        scale, x = _learn_x(term, rows, notes)
        basis = _learn_basis(term, x, options, notes)
        node, value = basis.evaluate(x)
        nodes = np.arange(basis.size).astype(object)
    else:
        option, reference = term.reference or ("", "")
        nodes, found = _structure(option, used[reference])
        factor = column.factor()
        node[:, 0] = match_levels(nodes, factor.levels)[factor.codes]
        notes += [note] if (note := unused_levels(term.column, factor)) and option != "graph" else []
    by, codes, replicates = _copies(term, rows, notes)
    if len(nodes) * len(replicates) > _largest:
        raise DataError(
            f"`{term.text}` has {plural(len(nodes), 'node')} in each of {len(replicates):,} copies, more than "
            f"{_largest:,} in all; take fewer."
        )
    width = node.shape[1]
    bound = StructuredTerm(
        name=name,
        kind=term.kind,
        column=term.column,
        by=term.by,
        options=options,
        nodes=nodes,
        coordinate=coordinate,
        replicates=replicates,
        start=np.arange(n + 1, dtype=np.int64) * width,
        replicate=np.repeat(codes, width),
        node=np.ascontiguousarray(node.ravel()),
        value=np.ascontiguousarray(value.ravel()),
        basis=basis,
        text=term.text,
        **found,
    )
    return StructuredRecipe(bound, by, scale)


def _structure(option: str, read: object) -> tuple[Labels, dict[str, Any]]:
    """Return the nodes of a graph or matrix, and the field of the term that holds it."""
    if isinstance(read, Graph):
        return read.names, {"graph": read}
    assert isinstance(read, tuple)
    names, matrix = read
    return names, {option: matrix}


def _copies(term: Structured, rows: Evaluator, notes: list[str]) -> tuple[Levels | None, Integers, Labels]:
    """Return the levels of by=, the copy of each row, and the labels of the copies."""
    if not term.factors:
        return None, np.zeros(rows.frame.n, dtype=np.int64), np.array(["all"], dtype=object)
    for name in term.factors:
        column = rows.column(name)
        if column.kind == "number" and column.values.dtype.kind == "f":
            if (column.values != np.rint(column.values)).any():
                raise DataError(
                    f"`{term.text}`: by={name} makes one copy per level, and `{name}` holds numbers that are not "
                    "whole; give a factor."
                )
        notes += [note] if (note := unused_levels(name, column.factor())) else []
    by, codes = learn_levels(term.factors, rows.frame)
    return by, codes, by.labels


def _learn_x(term: Structured, rows: Evaluator, notes: list[str]) -> tuple[Scale, Array]:
    column = rows.column(term.column)
    origin = float(column.numbers().min()) if column.kind == "date" else None
    scale = Scale(term.text, term.column, origin)
    if origin is not None:
        notes.append(f"{term.text}: dates count in days since {scale.labels(np.zeros(1))[0]}.")
    return scale, read_coordinates(column, scale)


def _learn_basis(term: Structured, x: Array, options: dict[str, Any], notes: list[str]) -> Basis:
    """Return the B-splines over the range of x; fewer than asked where x has fewer distinct values.

    Raises
    ------
    DataError
        For fewer distinct values than the order of the penalty + 1.
    """
    low, high = float(x.min()), float(x.max())
    most = max(abs(low), abs(high))
    distinct = len(np.unique(x))
    if most > 1e40:
        raise DataError(f"`{term.text}`: {term.column} reaches {most:.3g}; change its unit.")
    if high - low <= 1e-12 * most:
        distinct = 1  # apart by rounding only
    least, size = options["order"] + 1, options["basis"]
    if distinct < least:
        raise DataError(
            f"`{term.text}` needs at least {least} distinct values of `{term.column}`; it has {distinct}. Leave it "
            f"out, or write a line, + {term.column}."
        )
    if distinct < size:
        options["basis"] = max(distinct, least, options["degree"] + 1)
        if options["basis"] < size:
            notes.append(
                f"{term.text}: {term.column} has {plural(distinct, 'distinct value')}, so the basis has "
                f"{options['basis']} B-splines instead of {size}."
            )
    return even_basis(low, high, options["basis"], options["degree"])


def _shared_line(term: Structured, fixed: Sequence[Term], rows: Evaluator) -> list[str]:
    """Say when a line stands in the fixed part and in the effect, which keeps its own."""
    settings = term.settings
    keeps = (term.kind == "rw2" and not settings["cyclic"]) or (term.kind == "s" and settings["order"] == 2)
    if not keeps:
        return []
    single = [factors[0] for factors in fixed if len(factors) == 1]
    doubled = [text for text in single if _is_line(rows.tree(text), term.column)]
    if not doubled:
        return []
    return [
        f"{term.text} keeps a line in {term.column}, and {listing(doubled)} is a fixed effect as well: the two share "
        "it, and only their sum is learnt. Leave one out."
    ]


def _is_line(tree: Node, column: str) -> bool:
    """Tell a fixed term that is a straight line in a column, or holds one."""
    return tree == Name(column) or (isinstance(tree, Call) and tree.function in _linear and names_of(tree) == [column])

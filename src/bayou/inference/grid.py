"""The reference grid: every combination of the categories, numbers at their means, as rows of the fixed effects."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.design.evaluate import Evaluator
from bayou.design.frames import Frame, read
from bayou.design.levels import match_levels
from bayou.errors import DataError, Unsupported
from bayou.formula.tree import Call, Chain, Items, Node, Unary, names_of
from bayou.formula.words import did_you_mean, label_text, listing

if TYPE_CHECKING:
    from bayou.design import Design

__all__ = ["Grid", "reference_grid"]

MOST_ROWS = 200_000
MOST_VALUES = 20  # distinct values up to which a column of numbers has levels


@dataclass(frozen=True, eq=False)
class Grid:
    """Averages over a reference grid.

    Attributes
    ----------
    factors
        The columns whose combinations are the cells.
    cells
        A level of each, cell by cell, the last factor moving fastest.
    L
        (cells, P): the mean of the cell's rows.
    offset
        (cells,): likewise.
    averaged
        The columns that were averaged over, and those held at one value: in words.
    """

    factors: tuple[str, ...]
    cells: list[tuple[Any, ...]]
    L: Array
    offset: Array
    averaged: tuple[str, ...]


def reference_grid(design: Design, factors: Sequence[str], at: Mapping[str, Any] | None = None) -> Grid:
    """Average rows of a grid within the combinations of some factors.

    Parameters
    ----------
    design
        The design that codes the rows.
    factors
        Columns of the fixed effects: categories, or numbers of at most 20 values.
    at
        Values for columns, one or several each: numbers stand at their means elsewhere, and categories at each of
        their levels, all of the same weight.

    Raises
    ------
    DataError
        For columns that are not in the fixed effects, values that do not fit, and grids of too many rows.
    Unsupported
        For numbers that are centred by group.

    References
    ----------
    Searle, Speed & Milliken, The American Statistician 34 (1980) 216-221.
    """
    frame = read(design.data, {name: list(levels) for name, levels in design.categories.items()})
    fixed, others, categories = _columns(design, frame)
    given = _given(at, [*fixed, *others], frame, categories)
    _check_asked(factors, fixed, others)
    levels: dict[str, list[Any]] = {name: _levels(name, frame, given) for name in factors}
    averaged = []
    for name in fixed:
        if name in levels:
            continue
        if name in given or name in categories:
            levels[name] = given.get(name) or list(frame[name].factor().levels)
            shown = listing([label_text(level) for level in levels[name]])
            averaged.append(f"{name} = {shown}" if len(levels[name]) == 1 else f"{name} averaged over {shown}")
        else:
            levels[name] = [_mean(design, frame, name)]
            value = levels[name][0]
            averaged.append(f"{name} at its mean " + (f"{value:.6g}" if isinstance(value, float) else str(value)))
    count = float(np.prod([float(len(values)) for values in levels.values()]))
    if count > MOST_ROWS:
        raise DataError(
            f"The reference grid has {count:,.0f} rows; the limit is {MOST_ROWS:,}. Hold some of "
            f"{listing([n for n in fixed if n not in factors])} with at={{…}}."
        )
    rows = list(itertools.product(*levels.values()))
    table = {name: _column(values) for name, values in zip(levels, zip(*rows, strict=True), strict=True)}
    for name in others:
        known = name in categories
        first = given.get(name) or [frame[name].factor().levels[0] if known else _mean(design, frame, name)]
        table[name] = _column([first[0]] * len(rows))
    coded = design.rebuild(table)
    cells = list(itertools.product(*(levels[name] for name in factors)))
    inner = len(rows) // len(cells)
    return Grid(
        factors=tuple(factors),
        cells=cells,
        L=coded.X.reshape(len(cells), inner, -1).mean(axis=1),
        offset=coded.offset.reshape(len(cells), inner).mean(axis=1),
        averaged=tuple(averaged),
    )


def _columns(design: Design, frame: Frame) -> tuple[list[str], list[str], set[str]]:
    """Return the columns of the fixed effects and offsets, the others that a row needs, and which are categories."""
    recipe = design.recipe
    rows = Evaluator(frame, recipe.functions, recipe.states, False)
    fixed_trees = [rows.tree(text) for text in [*(f.text for f in recipe.fixed.factors), *recipe.formula.offsets]]
    other_trees = [rows.tree(f.text) for g in recipe.groupings for c in g.codings for f in c.factors]
    fixed = list(dict.fromkeys(name for tree in fixed_trees for name in names_of(tree)))
    plain = {name for tree in fixed_trees for name in names_of(tree, ("at",))}
    if centred := [name for name in fixed if name not in plain]:
        raise Unsupported(
            f"The formula centres by {listing(centred)}, so a number has no one mean to stand at: compare rows of your "
            "own with fit.predict(new_data), or test a combination of coefficients with fit.test()."
        )
    others = [name for tree in other_trees for name in names_of(tree) if name not in fixed]
    coded = {name for tree in [*fixed_trees, *other_trees] for name in _coded(tree)}
    every = [*fixed, *others]
    categories = {name for name in every if frame[name].kind in ("boolean", "category") or name in coded}
    return fixed, list(dict.fromkeys(others)), categories


def _coded(node: Node) -> list[str]:
    """List the columns that a tree turns into categories."""
    match node:
        case Call("C" | "factor", arguments):
            return names_of(arguments[0])
        case Call(_, arguments):
            return [name for child in arguments for name in _coded(child)]
        case Chain(operands, _) | Items(operands):
            return [name for child in operands for name in _coded(child)]
        case Unary(_, operand):
            return _coded(operand)
    return []


def _check_asked(factors: Sequence[str], fixed: list[str], others: list[str]) -> None:
    for name in factors:
        if name not in fixed:
            why = "varies by group only, without a fixed effect" if name in others else "is not in the fixed effects"
            raise DataError(f"{name!r} {why}.{did_you_mean(name, fixed)} Columns: {listing(fixed)}.")
    if len(set(factors)) < len(factors) or not factors:
        raise DataError("Marginal means need at least one factor, and each of them once.")


def _given(at: Mapping[str, Any] | None, known: list[str], frame: Frame, categories: set[str]) -> dict[str, list[Any]]:
    """Read at=: lists of values by column."""
    out: dict[str, list[Any]] = {}
    if at is not None and not isinstance(at, Mapping):
        raise DataError("at= takes values by column, such as at={'x': 2.0}.")
    for name, values in (at or {}).items():
        if name not in known:
            raise DataError(f"at= names {name!r}, which the model does not have.{did_you_mean(str(name), known)}")
        listed = list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]
        if name in categories:
            levels = frame[name].factor().levels
            wanted = np.empty(len(listed), dtype=object)
            wanted[:] = listed
            places = match_levels(levels, wanted)
            if (places < 0).any() or not len(listed):
                shown = listing([label_text(level) for level in levels])
                raise DataError(f"at= holds {name} at {values!r}; its levels are {shown}.")
            listed = [levels[k] for k in places]
        elif not listed or not all(_finite(v) for v in listed):
            raise DataError(f"at= holds {name} at {values!r}; give one finite number, or several.")
        out[name] = listed
    return out


def _finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return isinstance(value, np.datetime64)


def _levels(name: str, frame: Frame, given: dict[str, list[Any]]) -> list[Any]:
    if name in given:
        return given[name]
    found = list(frame[name].factor().levels)
    if len(found) > MOST_VALUES and frame[name].kind not in ("boolean", "category"):
        raise DataError(
            f"{name!r} is a number with {len(found):,} values; say at which it should stand: at={{{name!r}: [0, 1]}}."
        )
    return found


def _mean(design: Design, frame: Frame, name: str) -> Any:
    if design.reduced is None:
        mean = float(frame[name].numbers().mean())
    elif name in design.coefficients:
        mean = float(design.moments.fixed.mean[design.coefficients.index(name)])
    else:
        raise Unsupported(
            f"The mean of {name!r} is not known, since the rows were not kept as they were read: say where it should "
            f"stand, at={{{name!r}: [0]}}."
        )
    return np.datetime64(round(mean * 86_400e6), "us") if frame[name].kind == "date" else mean


def _column(values: Any) -> np.ndarray[Any, Any]:
    values = list(values)
    if all(isinstance(v, (bool, np.bool_)) for v in values):
        return np.array(values, dtype=bool)
    if all(isinstance(v, (int, float, np.integer, np.floating)) for v in values):
        return np.array(values, dtype=np.float64)
    if all(isinstance(v, np.datetime64) for v in values):
        return np.array(values, dtype="datetime64[us]")
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out

"""Bars to groupings: one set of codes and columns per factor, however many bars it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.design.coding import Coding, learn_coding
from bayou.design.crossing import crossing_notes
from bayou.design.evaluate import Evaluator
from bayou.design.levels import Levels, learn_levels, unused_levels
from bayou.errors import DataError, FormulaError
from bayou.formula import Bar
from bayou.formula.terms import Term
from bayou.formula.words import listing

__all__ = ["Grouping", "GroupingRecipe", "constant_slope", "learn_groupings"]


@dataclass(frozen=True, eq=False)
class Grouping:
    """The group-level effects of one factor.

    Attributes
    ----------
    name : str
        "clinic", or "a:b" for combinations.
    factors : tuple of str
    levels : (J,) ndarray of objects
        Labels, sorted; "u:v" for combinations.
    codes : (n,) ndarray of int64
        The level of each row.
    Z : (n, p) ndarray
        The columns that vary by level, in C order.
    coefficients : tuple of str
        Names of the columns, in the order of the formula.
    blocks : tuple of tuple of int
        Which columns are correlated with each other.
    """

    name: str
    factors: tuple[str, ...]
    levels: Labels
    codes: Integers
    Z: Array = field(repr=False)
    coefficients: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class GroupingRecipe:
    """What is needed to code the same grouping in new rows."""

    levels: Levels
    codings: tuple[Coding, ...]

    def same_as(self, coding: Coding) -> bool:
        """Tell whether the columns are those of another coding, term by term."""
        return len(self.codings) == 1 and self.codings[0].written == coding.written

    def columns(self, rows: Evaluator) -> Array:
        """Return the columns for new rows, (n, p)."""
        if len(self.codings) == 1:
            return self.codings[0].matrix(rows)
        return np.ascontiguousarray(np.hstack([coding.matrix(rows) for coding in self.codings]))


def learn_groupings(
    bars: Sequence[tuple[Bar, Sequence[Term]]], rows: Evaluator, complete: bool = True
) -> tuple[tuple[Grouping, ...], tuple[GroupingRecipe, ...], list[str]]:
    """Code all bars; bars on the same factors share one grouping.

    Parameters
    ----------
    bars : sequence of (Bar, terms)
    rows : Evaluator
    complete : bool
        Whether these are all the rows; what a few of them cannot tell is left to who has the others.

    Raises
    ------
    FormulaError
        When a coefficient varies twice by the same factor.
    DataError
        When a slope is constant within every level.
    """
    shared: dict[frozenset[str], list[tuple[Bar, Sequence[Term]]]] = {}
    for bar, terms in bars:
        shared.setdefault(frozenset(bar.factors), []).append((bar, terms))
    groupings: list[Grouping] = []
    recipes: list[GroupingRecipe] = []
    notes: list[str] = []
    for same in shared.values():
        grouping, recipe = _grouping(same, rows, notes)
        if complete:
            check_slopes(grouping)
        groupings.append(grouping)
        recipes.append(recipe)
    names = [grouping.name for grouping in groupings]
    if len(set(names)) < len(names):
        raise FormulaError(f"two groupings have the same name ({listing(names)}); rename a column.")
    notes += crossing_notes(groupings) if complete else []
    return tuple(groupings), tuple(recipes), notes


def _grouping(
    bars: Sequence[tuple[Bar, Sequence[Term]]], rows: Evaluator, notes: list[str]
) -> tuple[Grouping, GroupingRecipe]:
    factors = bars[0][0].factors
    name = ":".join(factors)
    levels, codes = learn_levels(factors, rows.frame)
    notes += [note for factor in factors if (note := unused_levels(factor, rows.column(factor).factor()))]
    codings: list[Coding] = []
    matrices: list[Array] = []
    blocks: list[tuple[int, ...]] = []
    coefficients: list[str] = []
    for bar, terms in bars:
        coding, matrix = learn_coding(terms, rows)
        twice = [coefficient for coefficient in coding.coefficients if coefficient in coefficients]
        if twice:
            raise FormulaError(
                f"{listing(twice)} varies twice by {name}, the second time in {bar.text}; "
                f"leave it out there, as in (0 + x | {name})."
            )
        places = range(len(coefficients), len(coefficients) + matrix.shape[1])
        blocks += [tuple(places)] if bar.correlated else [(place,) for place in places]
        coefficients += coding.coefficients
        codings.append(coding)
        matrices.append(matrix)
        notes += coding.notes
    Z = matrices[0] if len(matrices) == 1 else np.ascontiguousarray(np.hstack(matrices))
    grouping = Grouping(name, factors, levels.labels, codes, Z, tuple(coefficients), tuple(blocks))
    return grouping, GroupingRecipe(levels, tuple(codings))


def check_slopes(grouping: Grouping) -> None:
    """Refuse a slope beside an intercept whose column never varies within a level."""
    codes, Z = grouping.codes, grouping.Z
    if "Intercept" not in grouping.coefficients:
        return
    first = np.empty(len(grouping.levels), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    for k, coefficient in enumerate(grouping.coefficients):
        if coefficient != "Intercept" and np.array_equal(Z[:, k], Z[first[codes], k]):
            raise constant_slope(coefficient, grouping.name)


def constant_slope(coefficient: str, name: str) -> DataError:
    """Say that a slope cannot vary by a factor."""
    return DataError(
        f"`{coefficient}` is constant within every level of `{name}`, so its slope cannot vary by "
        f"`{name}`; keep it as a fixed effect and write (1 | {name})."
    )

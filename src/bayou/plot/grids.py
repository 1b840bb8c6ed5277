"""Rows that nobody measured: a grid along one column, the other columns at typical values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayou._types import Array, Labels
from bayou.design import Design
from bayou.design.evaluate import Evaluator
from bayou.design.frames import Frame, read
from bayou.design.response import response_columns
from bayou.errors import DataError
from bayou.formula.tree import names_of
from bayou.formula.words import did_you_mean, label_text, listing
from bayou.predict.structured import CURVES

__all__ = ["Covariates", "covariates", "evaluator"]

POINTS = 101


@dataclass(frozen=True)
class Covariates:
    """The columns that a model reads, by their part in it.

    Attributes
    ----------
    design
        Of the model.
    frame
        Its data, rows with missing values dropped.
    numbers
        Columns that enter the predictor as numbers.
    categories
        Columns that enter it as levels, with their reference level.
    factors
        Columns that name groups.
    others
        What else is needed to predict outcomes: trials, weights, standard errors, sigma_by.
    times
        Numbers that are coordinates of structured effects: a typical one is one that was measured.
    """

    design: Design
    frame: Frame
    numbers: tuple[str, ...]
    categories: dict[str, Any]
    factors: tuple[str, ...]
    others: tuple[str, ...]
    times: tuple[str, ...] = ()

    def known(self, x: str) -> str:
        """Return x if it is a covariate.

        Raises
        ------
        DataError
            Otherwise, with those that are.
        """
        names = [*self.numbers, *self.categories]
        if x in names:
            return x
        if not names:
            raise DataError(f"The model has no covariate, so there is no `{x}` to draw along.")
        raise DataError(f"`{x}` is no covariate of the model.{did_you_mean(str(x), names)} It has {listing(names)}.")

    def values(self, name: str) -> Array:
        """Return a column of numbers, (n,)."""
        return self.frame[name].numbers()

    def levels(self, name: str) -> Labels:
        """Return the levels of a column, the reference first."""
        found = self.frame[name].factor().levels
        first = [level for level in found if level == self.categories[name]]
        rest = [level for level in found if level != self.categories[name]]
        levels = np.empty(len(found), dtype=object)
        levels[:] = first + rest
        return levels

    def varying(self, place: int) -> str | None:
        """Return the number to draw levels of a factor along: one whose slope varies, else the first."""
        grouping = self.design.groupings[place]
        order = np.argsort(grouping.codes, kind="stable")
        same = np.diff(grouping.codes[order]) == 0
        moving = [name for name in self.numbers if (np.diff(self.values(name)[order])[same] != 0.0).any()]
        by_group = [name for text in grouping.coefficients for name in moving if name in _words(text)]
        return next(iter([*by_group, *moving]), None)

    def points(self, x: str, rows: Any = None) -> Any:
        """Return the grid along x: evenly spaced over the range of the given rows, or the levels."""
        if x in self.categories:
            return self.levels(x)
        values = self.values(x) if rows is None else self.values(x)[rows]
        if x in self.times:
            return np.unique(values)
        return np.linspace(values.min(), values.max(), POINTS)

    def template(self, rows: Any = None) -> dict[str, Any]:
        """Return one typical row: numbers at their mean over the given rows, levels at the reference.

        With ``rows`` (those of one group) a level is the most frequent one there, and the columns that
        name groups are those of the group.
        """
        here = np.arange(self.frame.n) if rows is None else np.asarray(rows)
        row: dict[str, Any] = {name: float(self.values(name)[here].mean()) for name in self.numbers}
        for name in self.times:
            values = self.values(name)[here]
            row[name] = float(values[np.abs(values - values.mean()).argmin()])
        for name, reference in self.categories.items():
            factor = self.frame[name].factor()
            row[name] = reference if rows is None else factor.levels[np.bincount(factor.codes[here]).argmax()]
        anchor = here[0] if rows is not None else self._typical_row()
        for name in (*self.factors, *self.others):
            column = self.frame[name]
            if name in self.factors or name in self._sigma_factors or column.kind == "category":
                row.setdefault(name, column.labels()[anchor])
            else:
                middle = float(np.median(column.numbers()[here]))
                whole = self.design.formula.response.kind in ("proportion", "cbind")
                row.setdefault(name, round(middle) if whole else middle)
        return row

    @property
    def _sigma_factors(self) -> tuple[str, ...]:
        by = self.design.sigma_by
        return () if by is None else (by, *by.split(":"))

    def _typical_row(self) -> int:
        """Return a row of the group whose mean of the first number is nearest the average."""
        if not self.design.groupings or not self.numbers:
            return 0
        codes, values = self.design.groupings[0].codes, self.values(self.varying(0) or self.numbers[0])
        means = np.bincount(codes, values) / np.maximum(np.bincount(codes), 1)
        return int(np.flatnonzero(codes == np.abs(means - values.mean()).argmin())[0])

    def along(self, x: str, points: Any, template: dict[str, Any]) -> dict[str, Any]:
        """Return a table with one row for each point of x, the other columns as in the template."""
        table = {name: [value] * len(points) for name, value in template.items()}
        table[x] = list(points)
        return table

    def held(self, x: str, template: dict[str, Any]) -> str:
        """Say at which values the other covariates are held."""
        words = [f"{name} = {template[name]:.4g}" for name in self.numbers if name != x]
        words += [f"{name} = {label_text(template[name])}" for name in self.categories if name != x]
        return f"Other covariates at their mean or reference: {listing(words)}." if words else ""

    @property
    def centred_by_group(self) -> bool:
        """Whether some term is centred within groups."""
        return any("by=" in factor.text.replace(" ", "") for factor in self.design.recipe.fixed.factors)


def _words(text: str) -> list[str]:
    """Return the names in the name of a coefficient."""
    return "".join(c if c.isalnum() or c in "_." else " " for c in text).split()


def evaluator(design: Design, frame: Frame) -> Evaluator:
    """Return what computes expressions of columns, with the centres and knots that the design learnt."""
    return Evaluator(frame, design.recipe.functions, design.recipe.states, learning=False)


def covariates(design: Design) -> Covariates:
    """Sort the columns of a design by the part they play."""
    design.require_data("A plot over the range of a column")
    frame = read(design.data, {name: list(levels) for name, levels in design.categories.items()})
    recipe = design.recipe
    rows = evaluator(design, frame)
    coded = [*recipe.fixed.factors, *(f for g in recipe.groupings for c in g.codings for f in c.factors)]
    factors = [name for grouping in design.groupings for name in grouping.factors]
    numbers: list[str] = []
    categories: dict[str, Any] = {}
    for factor in coded:
        tree = rows.tree(factor.text)
        names = names_of(tree, ("at",))
        # those of by= name groups, even where no bar does
        factors += [name for name in names_of(tree, ("by",)) if name not in names]
        if factor.levels is not None:
            categories.update((name, factor.levels[0]) for name in names)
        numbers += names
    for text in design.formula.offsets:
        numbers += names_of(rows.tree(text), ("at",))
    # text that is compared with a word is no factor of the coding, but it has levels all the same
    for name in numbers:
        if name not in categories and frame[name].kind == "category":
            categories[name] = frame[name].factor().levels[0]
    times: list[str] = []
    for term in design.structured:
        factors += [] if term.by is None else term.by.split(":")
        if term.kind in CURVES and frame[term.column].kind == "number":
            numbers.append(term.column)
            times += [] if term.kind == "s" else [term.column]
        else:
            factors.append(term.column)
    others = list(response_columns(design.formula.response, rows)[1])
    others += [] if design.weights_column is None else [design.weights_column]
    found = Covariates(design, frame, (), {}, tuple(dict.fromkeys(factors)), ())
    others += [name for name in found._sigma_factors if name in frame]
    return Covariates(
        design,
        frame,
        tuple(name for name in dict.fromkeys(numbers) if name not in categories and name not in factors),
        {name: level for name, level in categories.items() if name not in factors},
        found.factors,
        tuple(dict.fromkeys(others)),
        tuple(dict.fromkeys(times)),
    )

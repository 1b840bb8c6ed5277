"""New data through a design that has been built: the same columns, centres, knots and codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.design.coding import Coding
from bayou.design.evaluate import Evaluator, Functions
from bayou.design.frames import Frame, read
from bayou.design.grouping import GroupingRecipe
from bayou.design.levels import Levels
from bayou.design.missing import check_finite, refuse_missing
from bayou.design.response import read_outcome, read_standard_errors, read_trials, response_columns
from bayou.design.structured import StructuredRecipe
from bayou.design.structured_rows import StructuredRows, rebuild_structured
from bayou.design.transforms import State
from bayou.errors import DataError
from bayou.formula import Formula
from bayou.formula.tree import names_of
from bayou.formula.words import did_you_mean, first_rows, listing

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["NewRows", "Recipe", "positive_weights"]


@dataclass(frozen=True, eq=False)
class NewRows:
    """New data in the columns of a design.

    Attributes
    ----------
    n : int
    X : (n, P) ndarray
    offset, trials, weights : (n,) ndarray
        Trials and weights are ones where the new data do not hold their columns.
    standard_errors : (n,) ndarray or None
    sigma_codes : (n,) ndarray of int64
        -1 for an unseen level.
    codes : tuple of (n,) ndarray of int64
        One per grouping; -1 for a level that is unseen or missing.
    labels : tuple of (n,) ndarray of objects
        One per grouping; None where missing.
    Z : tuple of (n, p) ndarray
    y : (n,) ndarray or None
    index : (n,) ndarray
        Labels of the rows, their positions where the table has none.
    absent : tuple of str
        Optional columns that the new data do not hold: factors, times and areas, trials, weights.
    structured : tuple of StructuredRows
        One per structured effect.
    notes : tuple of str
        What lies beyond the range of the first data.
    """

    n: int
    X: Array
    offset: Array
    trials: Array
    weights: Array
    standard_errors: Array | None
    sigma_codes: Integers
    codes: tuple[Integers, ...]
    labels: tuple[Labels, ...]
    Z: tuple[Array, ...]
    y: Array | None
    index: Labels
    absent: tuple[str, ...] = ()
    structured: tuple[StructuredRows, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a design remembers in order to treat new rows as it treated the first."""

    formula: Formula
    family: Family
    functions: Functions
    states: dict[str, State]
    fixed: Coding
    groupings: tuple[GroupingRecipe, ...]
    weights: str | None
    sigma: Levels | None
    response_levels: tuple[Any, Any] | None
    structured: tuple[StructuredRecipe, ...] = ()

    def rebuild(
        self, data: Any, need_response: bool, positions: Integers | None = None, labelled: bool = True
    ) -> NewRows:
        """Code new data; see `Design.rebuild`.

        Parameters
        ----------
        data : table
        need_response : bool
        positions : (n,) ndarray, optional
            Place of each row in a larger table of which these are some, for messages and `index`.
        labelled : bool
            Whether labels are wanted, which are objects and take longer than all the rest; None for each row if not.
        """
        frame = read(data)
        if frame.n == 0:
            raise DataError("the new data have 0 rows.")
        rows = Evaluator(frame, self.functions, self.states, learning=False, positions=positions)
        outcome_columns, trial_columns = response_columns(self.formula.response, rows)
        needed, by = self._needed(rows)
        asked = [*needed, *by, *(outcome_columns + trial_columns if need_response else [])]
        self._check_present(frame, list(dict.fromkeys(asked)))
        has_trials = bool(trial_columns) and all(name in frame for name in trial_columns)
        checked = [*needed, *(trial_columns if has_trials else [])]
        checked += outcome_columns if need_response else []
        refuse_missing(frame, list(dict.fromkeys(checked)), positions)
        check_finite(frame, checked, positions)
        coded = [_look_up(recipe.levels, frame, labelled) for recipe in self.groupings]
        y, trials, errors = self._outcome(rows, need_response, has_trials)
        structured, notes = rebuild_structured(self.structured, frame, labelled)
        optional = [*(name for recipe in self.groupings for name in recipe.levels.factors), *trial_columns]
        optional += [name for effect in self.formula.structured for name in effect.columns]
        optional += [self.weights] if self.weights else []
        index = np.arange(frame.n) if frame.index is None else frame.index
        index = index if positions is None else positions
        X = self.fixed.matrix(rows)
        return NewRows(
            n=frame.n,
            X=X,
            offset=total_offset(self.formula, rows),
            trials=trials,
            weights=self._weights(frame, positions),
            standard_errors=errors,
            sigma_codes=_look_up(self.sigma, frame, False)[0],
            codes=tuple(codes for codes, _ in coded),
            labels=tuple(labels for _, labels in coded),
            Z=tuple(X if recipe.same_as(self.fixed) else recipe.columns(rows) for recipe in self.groupings),
            y=y,
            index=index,
            absent=tuple(dict.fromkeys(name for name in optional if name not in frame)),
            structured=structured,
            notes=notes,
        )

    def _needed(self, rows: Evaluator) -> tuple[list[str], list[str]]:
        """Return the columns that must be there without gaps, and those of by=, which may have some."""
        texts = [factor.text for factor in self.fixed.factors]
        texts += [f.text for recipe in self.groupings for c in recipe.codings for f in c.factors]
        trees = [rows.tree(text) for text in [*texts, *self.formula.offsets]]
        needed = dict.fromkeys(name for tree in trees for name in names_of(tree, ("at",)))
        every = dict.fromkeys(name for tree in trees for name in names_of(tree))
        return list(needed), [name for name in every if name not in needed]

    def _check_present(self, frame: Frame, names: list[str]) -> None:
        absent = [name for name in names if name not in frame]
        if absent:
            shown = listing([f"`{name}`" for name in absent])
            raise DataError(
                f"the new data lack {shown}, which the model needs."
                f"{did_you_mean(absent[0], frame.names)} Columns: {listing(frame.names, 12)}."
            )

    def _outcome(
        self, rows: Evaluator, need_response: bool, has_trials: bool
    ) -> tuple[Array | None, Array, Array | None]:
        response = self.formula.response
        if need_response:
            outcome = read_outcome(response, rows, self.family, self.response_levels)
            return outcome.y, outcome.trials, outcome.standard_errors
        if not has_trials:
            return None, np.ones(rows.frame.n), None
        trials = read_trials(response, rows)
        bad = ~(trials >= 0.0) | (trials != np.rint(trials))
        if bad.any():
            raise DataError(f"the numbers of trials must be whole and not negative; see {rows.rows(bad)}.")
        return None, trials, read_standard_errors(response, rows)

    def _weights(self, frame: Frame, positions: Integers | None) -> Array:
        if self.weights is None or self.weights not in frame:
            return np.ones(frame.n)
        return positive_weights(self.weights, frame[self.weights].numbers(), positions)


def _look_up(levels: Levels | None, frame: Frame, labelled: bool) -> tuple[Integers, Labels]:
    """Return codes and labels of a factor, zeros where there is none; labels that are not wanted cost nothing."""
    if levels is None:
        return np.zeros(frame.n, dtype=np.int64), np.broadcast_to(np.array(None, dtype=object), (frame.n,))
    if labelled or any(name not in frame for name in levels.factors):
        return levels.look_up(frame)
    return levels.codes(frame), np.broadcast_to(np.array(None, dtype=object), (frame.n,))


def total_offset(formula: Formula, rows: Evaluator) -> Array:
    """Add up the offsets, (n,)."""
    out = np.zeros(rows.frame.n)
    for text in formula.offsets:
        out += rows.vector(text)
    return out


def positive_weights(name: str, weights: Array, positions: Integers | None) -> Array:
    """Refuse weights that are not positive, finite numbers."""
    bad = ~(np.isfinite(weights) & (weights > 0.0))
    if bad.any():
        rows = np.flatnonzero(bad)
        where = first_rows(rows if positions is None else positions[rows])
        raise DataError(
            f"the weights `{name}` must be positive numbers; they are not in {where}. Leave rows of weight zero out."
        )
    return weights

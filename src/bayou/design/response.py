"""The left side of a formula: outcomes, trials, known standard errors and the coding of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Labels
from bayou.design.columns import Column
from bayou.design.evaluate import Evaluator
from bayou.design.levels import match_levels, unused_levels
from bayou.errors import DataError, FormulaError
from bayou.formula import Response
from bayou.formula.tree import Call, Name, Node, names_of
from bayou.formula.words import label_text, listing, plural

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["Outcome", "read_outcome", "read_standard_errors", "read_trials", "response_columns"]

_two_outcomes = frozenset({"bernoulli", "binomial"})


@dataclass(frozen=True, eq=False)
class Outcome:
    """Response values (n,), trials (n,), standard errors (n,) or None, and the coding of two levels."""

    y: Array
    trials: Array
    standard_errors: Array | None
    levels: tuple[Any, Any] | None
    notes: tuple[str, ...] = ()


def read_outcome(response: Response, rows: Evaluator, family: Family, levels: tuple[Any, Any] | None = None) -> Outcome:
    """Read the response from a frame.

    Parameters
    ----------
    response : Response
    rows : Evaluator
    family : Family
    levels : (reference, success), optional
        The coding of the first data, for new rows.

    Raises
    ------
    FormulaError
        When the kind of response does not go with the family.
    DataError
        When the values cannot be such a response.
    """
    _check_family(response, family)
    errors = read_standard_errors(response, rows)
    if response.kind == "plain":
        y, levels, notes = _plain(response, rows, family, levels)
    else:
        y, notes = rows.vector(response.expressions[0]), ()
    trials = read_trials(response, rows)
    if family.name == "binomial" and response.kind == "plain":
        other = (y != 0.0) & (y != 1.0)
        if other.any():
            raise DataError(
                f"`{response.text}` is neither 0 nor 1 in {rows.rows(other)}; counts out of several trials "
                f"are written proportion(successes, trials) or cbind(successes, failures)."
            )
    places: Any = rows.positions
    try:
        family.check(y, trials, places)
    except DataError as error:
        raise DataError(f"`{response.expressions[0]}`: {error}") from None
    return Outcome(y, trials, errors, levels, notes)


def read_trials(response: Response, rows: Evaluator) -> Array:
    """Return the number of trials of each row, ones where the response has none."""
    if response.kind == "proportion":
        return rows.vector(response.expressions[1])
    if response.kind == "cbind":
        parts = [rows.vector(expression) for expression in response.expressions]
        for expression, part in zip(response.expressions, parts, strict=True):
            if (part < 0.0).any():
                raise DataError(f"`{expression}` is negative in {rows.rows(part < 0.0)}.")
        return np.asarray(parts[0] + parts[1])
    return np.ones(rows.frame.n)


def read_standard_errors(response: Response, rows: Evaluator) -> Array | None:
    """Return the known standard errors of measured(y, se), else None."""
    if response.kind != "measured":
        return None
    errors = rows.vector(response.expressions[1])
    if (errors <= 0.0).any():
        raise DataError(
            f"the standard error `{response.expressions[1]}` is not positive in {rows.rows(errors <= 0.0)}."
        )
    return errors


def response_columns(response: Response, rows: Evaluator) -> tuple[list[str], list[str]]:
    """Return the columns of the outcome, and those of its trials or standard errors."""
    trees = [rows.tree(expression) for expression in response.expressions]
    if response.kind == "cbind":
        both = [name for tree in trees for name in names_of(tree)]
        return both, both
    return names_of(trees[0]), names_of(trees[1]) if len(trees) > 1 else []


def _check_family(response: Response, family: Family) -> None:
    if response.kind in ("proportion", "cbind") and family.name != "binomial":
        raise FormulaError(
            f"`{response.text}` counts successes in trials: take family='binomial', not '{family.name}'."
        )
    if response.kind == "measured" and family.name != "gaussian":
        raise FormulaError(f"`{response.text}` has known standard errors: take family='gaussian', not '{family.name}'.")


def _plain(
    response: Response, rows: Evaluator, family: Family, levels: tuple[Any, Any] | None
) -> tuple[Array, tuple[Any, Any] | None, tuple[str, ...]]:
    text = response.expressions[0]
    column = _category(rows.tree(text), rows)
    if column is None or family.name not in _two_outcomes:
        return rows.vector(text), None, ()
    factor = column.factor()
    found, notes = factor.levels, []
    if levels is not None:
        known: Labels = np.array([*levels, None], dtype=object)[:2]
        places = match_levels(known, found)
        if (places < 0).any():
            strange = listing([label_text(level) for level in found[places < 0]])
            raise DataError(f"`{text}` holds {strange}; the model knows {levels[0]} and {levels[1]}.")
        return places[factor.codes].astype(np.float64), levels, ()
    if column.kind == "boolean":
        found = np.array([False, True], dtype=object)
        return column.numbers(), (False, True), ()
    if len(found) != 2:
        shown = listing([label_text(level) for level in found])
        first = f" Compare with one, as in {text} == {label_text(found[0])!r} ~ …" if len(found) else ""
        raise DataError(
            f"`{text}` has {plural(len(found), 'level')} ({shown}); a {family.name} response has two."
            f"{first if len(found) > 2 else ''}"
        )
    notes += [note] if (note := unused_levels(text, factor)) else []
    notes.append(f"{text}: success is {label_text(found[1])}, reference {label_text(found[0])}.")
    return factor.codes.astype(np.float64), (found[0], found[1]), tuple(notes)


def _category(node: Node, rows: Evaluator) -> Column | None:
    """Return the column of a response that is text or boolean, or that C() makes a category."""
    match node:
        case Name(name):
            column = rows.column(name)
            return column if column.kind in ("category", "boolean") else None
        case Call("C" | "factor", (Name(name),), ()):
            return rows.column(name)
    return None

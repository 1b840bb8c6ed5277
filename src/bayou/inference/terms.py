"""Terms of the fixed effects: which columns are theirs, and what each type of analysis of variance tests of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.design.coding import learn_coding
from bayou.design.evaluate import Evaluator
from bayou.design.frames import read
from bayou.errors import DataError
from bayou.formula.tree import Call, unparse

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.model import Model

__all__ = ["FixedTerm", "containing", "fixed_terms", "sequential", "sum_coded"]

SAME = 1e-8  # how well two codings must span the same columns


@dataclass(frozen=True)
class FixedTerm:
    """A term of the fixed effects.

    Attributes
    ----------
    name
        Its factors as printed, joined by colons; "Intercept" for the intercept.
    factors
        Their texts, as in the formula.
    categories
        Those of them that are categories.
    columns
        Positions among the coefficients.
    """

    name: str
    factors: tuple[str, ...]
    categories: frozenset[str]
    columns: tuple[int, ...]


def fixed_terms(design: Design) -> tuple[FixedTerm, ...]:
    """List the terms of the fixed effects in the order of their columns."""
    coding = design.recipe.fixed
    found = []
    for term, places in coding.specification.term_indices.items():
        numbers = [int(match[1]) for factor in term.factors if (match := re.search(r"f(\d+)", factor.expr))]
        own = [coding.factors[k] for k in numbers]
        found.append(
            FixedTerm(
                name=":".join(f.label for f in own) or "Intercept",
                factors=tuple(f.text for f in own),
                categories=frozenset(f.text for f in own if f.levels is not None),
                columns=tuple(int(k) for k in places),
            )
        )
    return tuple(term for term in found if term.columns)


def containing(term: FixedTerm, other: FixedTerm) -> bool:
    """Whether ``other`` contains ``term``: the same numeric factors, and more categories."""
    numeric = set(term.factors) - term.categories == set(other.factors) - other.categories
    return numeric and term.categories < other.categories


def sequential(model: Model, columns: list[int], of: tuple[int, ...]) -> Array:
    """Return the estimable function (k, P) of columns ``of`` after those that stand before them in ``columns``.

    With X = Q R in that order, rows of R: what their sum of squares is about in ordinary least squares (Goodnight
    1978, *Tests of hypotheses in fixed effects linear models*, SAS Technical Report R-101).
    """
    design = model.design
    X = design.X[:, columns]
    if design.reduced is not None:
        if design.reduced.how == "summed" and (design.weights_column or design.standard_errors is not None):
            design.require_rows("A sequential test (type I) where rows have weights or standard errors")
        X = X * np.sqrt(design.reduced.frequency)[:, None]
    R: Array = np.asarray(np.linalg.qr(X, mode="r"))
    rows = R[np.array([columns.index(k) for k in of])]
    L: Array = np.zeros(rows.shape)
    L[:, columns] = np.where(np.abs(rows) > 1e-12 * np.abs(rows).max(), rows, 0.0)
    return L


def sum_coded(model: Model) -> Array:
    """Return the matrix (P, P) that takes the coefficients to those of categories coded to sum to zero.

    There the columns of a term are its deviations from what its margins say, whatever coding the formula has, so
    that a term's rows are the hypothesis of type III.

    Raises
    ------
    DataError
        If that coding does not span the same columns.
    """
    design = model.design
    coding = design.recipe.fixed
    frame = read(design.data, {name: list(levels) for name, levels in design.categories.items()})
    rows = Evaluator(frame, design.recipe.functions, design.recipe.states, False)
    texts = {f.text: _to_sum(f.text, rows) if f.levels is not None else f.text for f in coding.factors}
    terms = [tuple(texts[f] for f in term.factors) for term in fixed_terms(design)]
    _, other = learn_coding(terms, rows)
    X = model.working.X
    if design.reduced is not None:  # the table holds some of the rows, and not those of X
        X = coding.matrix(rows) @ model.working.to_printed
    if other.shape == X.shape:
        working = np.linalg.solve(X.T @ X, X.T @ other)
        if np.abs(X @ working - other).max() <= SAME * max(np.abs(other).max(), 1.0):
            L = np.linalg.inv(model.working.to_printed @ working)
            return np.where(np.abs(L) > 1e-10 * np.abs(L).max(axis=1, keepdims=True), L, 0.0)
    raise DataError(
        "Tests of type III need categories coded to sum to zero, which span other columns than this formula's. Ask "
        "for type='II' or type='I', or write the hypothesis out with fit.test()."
    )


def _to_sum(text: str, rows: Evaluator) -> str:
    node = rows.tree(text)
    if not isinstance(node, Call):
        return f"C({text}, Sum)"
    levels = "".join(f", {name}={unparse(value)}" for name, value in node.options if name == "levels")
    return f"C({unparse(node.arguments[0])}, Sum{levels})"

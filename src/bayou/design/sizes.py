"""Numbers that doubles cannot hold once they are squared: refused with what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayou.design.passes import largest
from bayou.errors import DataError, FormulaError

if TYPE_CHECKING:
    from bayou.design.design import Design

__all__ = ["check_sizes"]

LARGEST = 1e40
"""Ratios of such numbers and of their inverses, squared and in determinants, still fit."""
LARGEST_OFFSET = 600.0
"""exp of an offset that is not under the identity link still fits, with room for what is added to it."""


def check_sizes(design: Design) -> None:
    """Refuse a response among its own predictors, and numbers whose squares are lost in rounding.

    Raises
    ------
    FormulaError
        For a response that stands on the right of ~ too.
    DataError
        Naming the response, the column, the weights or the offset.
    """
    response = design.response_name
    if response in design.coefficients:
        raise FormulaError(f"the response `{response}` also stands on the right of ~; take it away there.")
    for term in design.structured:
        if term.column == response:
            raise FormulaError(f"`{term.text}`: `{term.column}` is the response; take it away on the right of ~.")
    unknown = design.family.dispersion is not None and design.standard_errors is None
    if not (design.coefficients or design.groupings or design.structured or unknown):
        raise FormulaError(f"{design.formula.text!r} leaves nothing to estimate; write `{response} ~ 1` or more.")
    named = [(f"the response `{response}`", design.y)]
    named += [(f"the column {name}", design.X[:, k]) for k, name in enumerate(design.coefficients)]
    for g in design.groupings:
        named += [(f"the column {name} by {g.name}", g.Z[:, k]) for k, name in enumerate(g.coefficients)]
    for what, values in named:
        most = largest(values)
        if most > LARGEST:
            raise DataError(f"{what} reaches {most:.3g}, whose square overflows: change its unit.")
        if 0.0 < most < 1.0 / LARGEST:
            raise DataError(f"{what} reaches {most:.3g} only, whose square vanishes: change its unit.")
    for what, found in (("the weights", design.weights), ("the standard errors", design.standard_errors)):
        if found is None:
            continue
        low, high = float(found.min()), float(found.max())
        if low < 1.0 / LARGEST or high > LARGEST:
            raise DataError(
                f"{what} reach from {low:.3g} to {high:.3g}, which is lost in rounding: they must lie "
                f"between {1.0 / LARGEST:.0e} and {LARGEST:.0e}."
            )
    most = largest(design.offset)
    if most > (LARGEST if design.family.link.name == "identity" else LARGEST_OFFSET):
        raise DataError(
            f"the offset {' + '.join(design.formula.offsets)} reaches {most:.3g} in the linear predictor, beyond the "
            f"{design.family.link.name} link: an exposure is written offset(log(exposure))."
        )

"""The table that tests every term: analysis of variance of the fixed effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from bayou._types import Array
from bayou.errors import DataError
from bayou.inference.bases import Basis, centre
from bayou.inference.terms import FixedTerm, containing, fixed_terms, sequential, sum_coded
from bayou.inference.wald import joint

if TYPE_CHECKING:
    import pandas as pd

    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["Type", "analysis"]

Type: TypeAlias = Literal["I", "II", "III"]


def analysis(result: Posterior, of: Basis, type: str = "III") -> pd.DataFrame:
    """Test every term of the fixed effects but the intercept.

    Parameters
    ----------
    result
        The fit.
    of
        What the tests stand on.
    type
        ``"III"``: each term's deviations from what its margins say, at categories that are averaged with equal
        weight and numbers at zero; ``"II"``: each term after all that do not contain it; ``"I"``: each after those
        before it.

    Returns
    -------
    pandas.DataFrame
        Indexed by term: numerator_df, denominator_df, F, p; or df, chi_squared, p where there are no denominator
        degrees of freedom.

    Raises
    ------
    DataError
        For another type, or a model with an intercept only.

    References
    ----------
    Goodnight, *Tests of hypotheses in fixed effects linear models*, SAS Technical Report R-101 (1978).
    """
    import pandas as pd

    if type not in get_args(Type):
        raise DataError(f"type={type!r} is not known; type is one of 'I', 'II', 'III'.")
    terms = [term for term in fixed_terms(result.model.design) if term.factors]
    if not terms:
        raise DataError("The model has no terms beside the intercept, so there is no table of them.")
    beta = centre(result)
    rows = []
    for term, L in zip(terms, _hypotheses(result.model, terms, type), strict=True):
        statistic, df, p = joint(of, L, L @ beta)
        rows.append((term.name, len(L), df, statistic, p))
    frame = pd.DataFrame(rows, columns=["term", "numerator_df", "denominator_df", "F", "p"]).set_index("term")
    if not np.isfinite(frame["denominator_df"]).any():
        frame = frame.drop(columns="denominator_df").rename(columns={"numerator_df": "df", "F": "chi_squared"})
    frame.attrs["method"] = f"type {type}, {of.words}"
    return frame


def _hypotheses(model: Model, terms: list[FixedTerm], type: str) -> list[Array]:
    """Return L (q, P) of each term."""
    every = fixed_terms(model.design)
    if type == "III":
        coded = sum_coded(model)
        return [coded[list(term.columns)] for term in terms]
    if type == "I":
        columns = [k for term in every for k in term.columns]
        return [sequential(model, columns, term.columns) for term in terms]
    out = []
    for term in terms:
        after = [other for other in every if containing(term, other)]
        before = [other for other in every if other != term and other not in after]
        out.append(sequential(model, [k for t in [*before, term, *after] for k in t.columns], term.columns))
    return out

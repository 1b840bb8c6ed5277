"""Marginal means of factors: the fixed effects averaged over a reference grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import DataError
from bayou.inference.bases import Basis, centre, flat_draws
from bayou.inference.grid import Grid, reference_grid
from bayou.inference.wald import reach
from bayou.posterior.summaries import described

if TYPE_CHECKING:
    import pandas as pd

    from bayou.design import Design
    from bayou.posterior import Posterior

__all__ = ["asked", "marginal_means"]


def marginal_means(
    result: Posterior,
    of: Basis,
    factors: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    interval: float = 0.95,
) -> pd.DataFrame:
    """Average the fixed effects over the reference grid.

    Every combination of the other factors' levels has the same weight, whatever the data have of it; numbers stand
    at their means; group coefficients are zero.

    Parameters
    ----------
    result
        The fit.
    of
        What standard errors and degrees of freedom stand on.
    factors, by
        Columns: a row for each of their combinations, those of ``by`` outermost.
    at
        Values of other columns.
    interval
        Probability between ``lower`` and ``upper``.

    Returns
    -------
    pandas.DataFrame
        On the link scale: estimate, se, df, lower, upper; after a sampler mean, sd, lower, median, upper. With
        another link than the identity also response, response_lower, response_upper: the same carried back, each
        draw on its own after a sampler.

    Raises
    ------
    DataError, Unsupported
        As `reference_grid`.
    """
    design = result.model.design
    own, outer = asked(factors, design), asked(by, design)
    grid = reference_grid(design, [*outer, *own], at)
    index = _index(grid)
    carried = result.model.family.link.name != "identity"
    mean = result.model.family.mean
    if result.estimates is None:
        draws = flat_draws(result) @ grid.L.T + grid.offset
        frame = described(index, draws.T, interval)
        if carried:
            back = described(index, mean(draws).T, interval)
            frame = frame.assign(response=back["mean"], response_lower=back["lower"], response_upper=back["upper"])
    else:
        frame = estimated(index, of, grid.L, grid.L @ centre(result) + grid.offset, interval)
        if carried:
            for name, column in (("response", "estimate"), ("response_lower", "lower"), ("response_upper", "upper")):
                frame[name] = mean(frame[column].to_numpy())
    frame.attrs["grid"] = list(grid.averaged)
    frame.attrs["method"] = of.words
    return frame


def estimated(index: Any, of: Basis, L: Array, value: Array, interval: float) -> pd.DataFrame:
    """Return estimates L beta with standard errors, degrees of freedom and intervals."""
    import pandas as pd

    se, df = np.sqrt(np.maximum(np.einsum("ki,ij,kj->k", L, of.covariance, L), 0.0)), of.each(L)
    half = reach(interval, df) * se
    return pd.DataFrame({"estimate": value, "se": se, "df": df, "lower": value - half, "upper": value + half}, index)


def asked(factors: str | Sequence[str] | None, design: Design) -> list[str]:
    """Return the names of columns: "a", "a:b" or a sequence of them."""
    if factors is None:
        return []
    if isinstance(factors, str):
        return [factors] if factors in design.data else [part.strip() for part in factors.split(":")]
    if isinstance(factors, Sequence) and all(isinstance(name, str) for name in factors):
        return list(factors)
    raise DataError(f"{factors!r} is no column: give a name such as 'treatment', 'a:b', or a list of names.")


def _index(grid: Grid) -> Any:
    import pandas as pd

    if len(grid.factors) == 1:
        return pd.Index([cell[0] for cell in grid.cells], name=grid.factors[0])
    return pd.MultiIndex.from_tuples(grid.cells, names=list(grid.factors))

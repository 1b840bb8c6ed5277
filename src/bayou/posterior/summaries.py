"""A posterior as pandas frames: summary rows, group coefficients, the draws themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import DataError
from bayou.posterior.convergence import effective_size, r_hat

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior.approximation import Approximation
    from bayou.posterior.estimates import Estimates
    from bayou.posterior.mixtures import Mixture
    from bayou.posterior.posterior import Posterior
    from bayou.verdict import Diagnostics

__all__ = [
    "described",
    "draws_frame",
    "effects_frame",
    "fixed_columns",
    "probability",
    "structured_frame",
    "summary_frame",
]


def probability(interval: float) -> float:
    """Return the probability of an interval, or refuse what is none."""
    if not isinstance(interval, (int, float)) or not 0.0 < interval < 1.0:
        raise DataError(f"interval={interval!r}: give a probability between 0 and 1, such as 0.95.")
    return float(interval)


def described(index: Any, draws: Array, interval: float = 0.95) -> pd.DataFrame:
    """Return mean, sd and equal-tailed quantiles of draws of shape (rows, …)."""
    import pandas as pd

    flat = draws.reshape(len(draws), int(np.prod(draws.shape[1:])))
    lower, median, upper = np.quantile(flat, (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=1)
    sd = flat.std(axis=1, ddof=1) if flat.shape[1] > 1 else np.zeros(len(flat))
    columns = {"mean": flat.mean(axis=1), "sd": sd, "lower": lower, "median": median, "upper": upper}
    return pd.DataFrame(columns, index)


def summary_frame(posterior: Posterior, numbers: Diagnostics, interval: float, groups: bool) -> pd.DataFrame:
    """Return one row per parameter with its diagnostics; with ``groups`` also those of b."""
    import pandas as pd

    if posterior.estimates is not None:
        return _estimates_frame(posterior, posterior.estimates, interval, groups)
    if posterior.approximation is not None and not posterior.chained:
        return _approximation_frame(posterior, posterior.approximation, interval, groups)
    frame = described(list(posterior.rows), posterior.matrix(), interval)
    frame = frame.assign(r_hat=numbers.r_hat, ess_bulk=numbers.ess_bulk, ess_tail=numbers.ess_tail)
    frames = [frame]
    for factor, printed in posterior.names.items() if groups else ():
        flat = _one_by_one(posterior.effects(factor))
        names = [name for name, (key, _) in posterior.effect_rows().items() if key == f"b_{printed}"]
        frames.append(_diagnosed(described(names, flat, interval), flat))
    for name in posterior.structured if groups else ():
        flat = _one_by_one(posterior.structured_draws(name))
        own = structured_frame(posterior, name, interval)
        frames.append(_diagnosed(own.set_axis(_node_names(posterior, name), axis=0), flat))
    return pd.concat(frames) if len(frames) > 1 else frame


def _diagnosed(frame: pd.DataFrame, flat: Array) -> pd.DataFrame:
    return frame.assign(r_hat=r_hat(flat), ess_bulk=effective_size(flat), ess_tail=effective_size(flat, "tail"))


def _node_names(posterior: Posterior, name: str) -> list[str]:
    return [row for row, (key, _) in posterior.effect_rows().items() if key == f"f_{name}"]


def _approximation_frame(posterior: Posterior, found: Approximation, interval: float, groups: bool) -> pd.DataFrame:
    """Return the same columns from marginal densities; a row that has none is described by its draws."""
    import pandas as pd

    cuts = (0.5 - interval / 2, 0.5, 0.5 + interval / 2)
    rows = {}
    for name, place in posterior.rows.items():
        one = found.marginals.get(name)
        if one is None:
            rows[name] = described([name], posterior.values(place)[None], interval).iloc[0].to_list()
        else:
            lower, median, upper = one.quantile(cuts)
            rows[name] = [one.mean, one.sd, lower, median, upper]
    frames = [pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd", "lower", "median", "upper"])]
    return _with_effects(posterior, frames, interval, groups)


def _mixture_frame(index: Any, found: Mixture, interval: float) -> pd.DataFrame:
    import pandas as pd

    lower, median, upper = (found.quantile(0.5 + side * interval / 2).ravel() for side in (-1, 0, 1))
    columns = {"mean": found.mean.ravel(), "sd": found.sd.ravel(), "lower": lower, "median": median, "upper": upper}
    return pd.DataFrame(columns, index)


def _estimates_frame(posterior: Posterior, found: Estimates, interval: float, groups: bool) -> pd.DataFrame:
    """Return the same columns from estimates; their intervals are Wald's, and there are no chains to diagnose."""
    lower, upper = found.interval(interval)
    frames = [_located(list(found.rows), found.estimate, found.se, lower, upper)]
    return _with_effects(posterior, frames, interval, groups)


def _with_effects(posterior: Posterior, frames: list[pd.DataFrame], interval: float, groups: bool) -> pd.DataFrame:
    """Put group coefficients and structured effects under a summary that has no diagnostics."""
    import pandas as pd

    for factor, printed in posterior.names.items() if groups else ():
        own = effects_frame(posterior, factor, interval)
        frames.append(own.set_axis([f"b_{printed}[{level},{c}]" for level, c in own.index], axis=0))
    for name in posterior.structured if groups else ():
        own = structured_frame(posterior, name, interval)
        frames.append(own.set_axis(_node_names(posterior, name), axis=0))
    return pd.concat(frames).assign(r_hat=np.nan, ess_bulk=np.nan, ess_tail=np.nan)


def _located(index: Any, centre: Array, spread: Array, lower: Array, upper: Array) -> pd.DataFrame:
    import pandas as pd

    columns = {"mean": centre, "sd": spread, "lower": lower, "median": centre, "upper": upper}
    return pd.DataFrame({name: values.copy() for name, values in columns.items()}, index)


def fixed_columns(found: Estimates) -> dict[str, Array]:
    """Return what a table of fixed effects has beside the summary: estimate, se, statistic, df, p."""
    P = found.fixed
    statistic, df, p = found.tests()
    return {"estimate": found.estimate[:P], "se": found.se[:P], "statistic": statistic, "df": df, "p": p}


def effects_frame(posterior: Posterior, factor: str, interval: float) -> pd.DataFrame:
    """Return the coefficients of each level of a factor, indexed by (level, coefficient)."""
    import pandas as pd

    groupings = {g.name: g for g in posterior.model.design.groupings}
    if factor not in groupings:
        known = ", ".join(map(repr, groupings)) or "none"
        if factor in posterior.structured:
            raise DataError(f"{factor!r} is a structured effect, not a grouping factor: fit.structured({factor!r}).")
        others = ", ".join(f"fit.structured({name!r})" for name in posterior.structured)
        more = f" Structured effects are in {others}." if others else ""
        raise DataError(f"The model has no grouping factor {factor!r}; its factors: {known}.{more}")
    levels, coefficients = groupings[factor].levels, groupings[factor].coefficients
    index = pd.MultiIndex.from_product([list(levels), list(coefficients)], names=["level", "coefficient"])
    found = _known_effects(posterior, factor, f"b_{posterior.names[factor]}", index, interval)
    if found is not None:
        return found
    return _drawn_effects(posterior.effects(factor), posterior.running_moments(factor), index, interval)


def structured_frame(posterior: Posterior, name: str, interval: float) -> pd.DataFrame:
    """Return the coefficients of a structured effect, indexed by node, or by (level of ``by``, node)."""
    import pandas as pd

    if name not in posterior.structured:
        known = ", ".join(map(repr, posterior.structured)) or "none"
        raise DataError(f"The model has no structured effect {name!r}; its structured effects: {known}.")
    term = posterior.structured[name]
    label = "coefficient" if term.kind == "s" else term.column
    nodes = list(term.nodes)
    index: Any = pd.Index(nodes, name=label)
    if term.by is not None:
        index = pd.MultiIndex.from_product([list(term.replicates), nodes], names=[term.by, label])
    found = _known_effects(posterior, name, f"f_{name}", index, interval)
    if found is not None:
        return found
    return _drawn_effects(posterior.structured_draws(name), posterior.structured_moments(name), index, interval)


def _known_effects(posterior: Posterior, name: str, key: str, index: Any, interval: float) -> pd.DataFrame | None:
    """Describe effects by modes and prediction errors, or by mixtures; None where only draws tell of them."""
    if posterior.estimates is not None and posterior.estimates.effects is not None:
        from scipy.special import ndtri

        mode, error = (values.ravel() for values in posterior.estimates.group_effects(name))
        reach = ndtri(0.5 + interval / 2.0) * error
        return _located(index, mode, error, mode - reach, mode + reach)
    found = None if posterior.approximation is None else posterior.approximation.effect(key)
    return None if found is None else _mixture_frame(index, found, interval)


def _drawn_effects(draws: Array, moments: tuple[Array, Array] | None, index: Any, interval: float) -> pd.DataFrame:
    """Describe draws of effects, their means and sds by running moments where not every draw was kept."""
    frame = described(index, _one_by_one(draws), interval)
    if moments is not None:
        frame["mean"], frame["sd"] = (m.ravel() for m in moments)
    return frame


def draws_frame(posterior: Posterior) -> pd.DataFrame:
    """Return the draws of the summary rows as columns, indexed by (chain, draw)."""
    import pandas as pd

    ranges = [range(posterior.chains), range(posterior.size)]
    index = pd.MultiIndex.from_product(ranges, names=["chain", "draw"])
    matrix = posterior.matrix()
    return pd.DataFrame(matrix.reshape(len(matrix), -1).T, index, list(posterior.rows))


def _one_by_one(effects: Array) -> Array:
    """Reshape (chain, draw, J, p) to (J p, chain, draw)."""
    return np.moveaxis(effects, (0, 1), (2, 3)).reshape(-1, *effects.shape[:2])

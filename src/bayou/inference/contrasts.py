"""Differences between marginal means, with allowance for how many there are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.formula.words import label_text
from bayou.inference.bases import Basis, centre, flat_draws
from bayou.inference.grid import reference_grid
from bayou.inference.means import asked, estimated
from bayou.inference.wald import p_value
from bayou.posterior.summaries import described

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Posterior

__all__ = ["Adjust", "contrasts"]

Adjust: TypeAlias = Literal["none", "holm", "tukey", "bonferroni"]
RATIOS = {"log": "ratio", "logit": "odds_ratio"}


def contrasts(
    result: Posterior,
    of: Basis,
    factors: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    adjust: str = "none",
    interval: float = 0.95,
) -> pd.DataFrame:
    """Compare marginal means in pairs.

    Parameters
    ----------
    result, of, factors, by, at, interval
        As `marginal_means`; pairs are formed within each combination of ``by``.
    adjust
        How p and the intervals allow for the number of pairs within each combination of ``by``: ``"tukey"`` by the
        studentised range, ``"bonferroni"``, ``"holm"`` (its intervals are Bonferroni's), or ``"none"``.

    Returns
    -------
    pandas.DataFrame
        On the link scale: estimate, se, df, lower, upper, statistic, p; after a sampler mean, sd, lower, median,
        upper and probability, that of being positive. With a log or logit link also the ratio (of odds) and its
        interval.

    Raises
    ------
    DataError
        For another adjustment, or fewer than two means to compare.
    Unsupported
        For an adjustment after a sampler.

    References
    ----------
    Holm, Scandinavian J. Statistics 6 (1979) 65-70. Kramer, Biometrics 12 (1956) 307-310.
    """
    import pandas as pd

    if adjust not in get_args(Adjust):
        raise DataError(f"adjust={adjust!r} is not known; adjust is one of {', '.join(map(repr, get_args(Adjust)))}.")
    if result.estimates is None and adjust != "none":
        raise Unsupported(
            f"adjust={adjust!r} corrects p-values for their number, and a posterior has none: its probabilities hold "
            "together as they are. Leave adjust out."
        )
    design = result.model.design
    own, outer = asked(factors, design), asked(by, design)
    grid = reference_grid(design, [*outer, *own], at)
    keys: list[tuple[Any, ...]] = []
    L: list[Array] = []
    shift: list[float] = []
    sizes: list[int] = []
    depth = len(outer)
    for _, group in itertools.groupby(range(len(grid.cells)), key=lambda k: grid.cells[k][:depth]):
        places = list(group)
        if len(places) < 2:
            raise DataError(f"{factors!r} has one combination of levels only, so there is nothing to compare.")
        for i, j in itertools.combinations(places, 2):
            named = [" ".join(label_text(level) for level in grid.cells[k][depth:]) for k in (i, j)]
            keys.append((*grid.cells[i][:depth], f"{named[0]} - {named[1]}"))
            L.append(grid.L[i] - grid.L[j])
            shift.append(grid.offset[i] - grid.offset[j])
        sizes.append(len(places))
    index: Any = pd.Index([key[0] for key in keys], name="contrast")
    if depth:
        index = pd.MultiIndex.from_tuples(keys, names=[*outer, "contrast"])
    rows = np.array(L)
    if result.estimates is None:
        draws = (flat_draws(result) @ rows.T + np.array(shift)).T
        frame = described(index, draws, interval).assign(probability=np.mean(draws > 0.0, axis=1))
        centres = "median"
    else:
        frame = estimated(index, of, rows, rows @ centre(result) + np.array(shift), interval)
        frame = _tested(frame, sizes[0], adjust, interval)
        centres = "estimate"
    name = RATIOS.get(result.model.family.link.name)
    if name is not None:
        for suffix, column in (("", centres), ("_lower", "lower"), ("_upper", "upper")):
            frame[name + suffix] = np.exp(frame[column])
    frame.attrs["grid"] = list(grid.averaged)
    frame.attrs["method"] = of.words + ("" if adjust == "none" else f", {adjust} for {sizes[0]} means")
    return frame


def _tested(frame: pd.DataFrame, means: int, adjust: str, interval: float) -> pd.DataFrame:
    """Add statistic and p, allowing for the pairs among so many means, and widen the intervals likewise."""
    from bayou.inference.wald import reach

    pairs = means * (means - 1) // 2
    se, df = frame["se"].to_numpy(), frame["df"].to_numpy()
    statistic = frame["estimate"].to_numpy() / np.where(se > 0.0, se, np.nan)
    p = p_value(statistic, df)
    half = reach(interval, df)
    if adjust == "tukey":
        p, half = _studentised(statistic, df, means, interval)
    elif adjust in ("bonferroni", "holm"):
        half = reach(1.0 - (1.0 - interval) / pairs, df)
        single = p.reshape(-1, pairs)
        p = np.minimum(single * pairs, 1.0).ravel()
        if adjust == "holm":
            p = np.array([_holm(row) for row in single]).ravel()
    return frame.assign(
        lower=frame["estimate"] - half * se, upper=frame["estimate"] + half * se, statistic=statistic, p=p
    )


def _holm(p: Array) -> Array:
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1.0)
    return out


def _studentised(statistic: Array, df: Array, means: int, interval: float) -> tuple[Array, Array]:
    """Return p and quantiles of the studentised range of so many means, for |t| √2."""
    from scipy.stats import studentized_range

    p = studentized_range.sf(np.abs(statistic) * np.sqrt(2.0), means, df)
    quantiles = {float(d): float(studentized_range.ppf(interval, means, d)) for d in np.unique(df)}
    return np.clip(p, 0.0, 1.0), np.array([quantiles[float(d)] for d in df]) / np.sqrt(2.0)

"""Predictions for rows seen and unseen, groups known, new, left out or integrated over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from scipy.special import ndtr

from bayou._types import Array
from bayou.errors import BayouError, DataError, Unsupported
from bayou.predict.levels import (
    Numbering,
    fresh_levels,
    is_missing,
    numbered,
    open_lines,
    refuse_lacking,
    refuse_unseen_structured,
)
from bayou.predict.linear import Rows, Sample, blocks, coded_rows, new_rows, require_memory, training_rows

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayou.families import Family
    from bayou.posterior import Posterior
    from bayou.streaming import Source, Stream

from typing import Literal, TypeAlias

__all__ = ["Groups", "Kind", "predict"]

Kind: TypeAlias = Literal["mean", "linear", "outcome"]
Groups: TypeAlias = Literal["observed", "new", "population", "marginal"]

CHOICES = (
    "Choose what to do: groups='new' draws the coefficients of a fresh group, groups='population' sets "
    "them to zero, groups='marginal' averages over all groups."
)
OUTCOMES, FRESH = 0, 1  # branches of the seed


def predict(
    posterior: Posterior,
    new_data: Any = None,
    kind: Kind = "mean",
    groups: Groups = "observed",
    interval: float = 0.95,
    draws: bool = False,
    seed: int | None = None,
    out: str | os.PathLike[str] | None = None,
) -> pd.DataFrame | xr.DataArray | Path:
    """Predict the rows of ``new_data``, or those the model was fitted to.

    Parameters
    ----------
    posterior
        The result of a fit.
    new_data
        Rows with the columns of the formula, in any data frame; None takes the fitted rows. Files, folders and
        queries are read in blocks, and so are the fitted rows where they were. Where rows of a table in memory were
        merged these are the merged ones, in the order of the design: outcomes are counts out of their trials.
    kind
        ``"mean"``: the mean response (binomial: the probability); ``"linear"``: eta;
        ``"outcome"``: new responses (binomial: counts of successes).
    groups
        ``"observed"``: each known group's own coefficients; ``"new"``: those of a fresh group drawn
        from N(0, Sigma), shared by the rows of one level (a row without level stands alone);
        ``"population"``: zero; ``"marginal"``: the
        response averaged over all groups.
    interval
        Probability between ``lower`` and ``upper``, equal tails.
    draws
        Return the draws themselves instead of their summary.
    seed
        The same seed gives the same draws; None takes the seed of the fit.
    out
        A Parquet file to write block by block, with the number of each row; its path is returned. Memory holds one
        block. Without it answers for more than 5.6 million rows that stream are refused.

    Returns
    -------
    pandas.DataFrame or xarray.DataArray
        Columns mean, sd, lower, median, upper in the order of the rows, or (chain, draw, row).

    Raises
    ------
    DataError
        For an unseen level under ``groups="observed"``, naming levels and options, and for unusable rows.
    FileError
        When ``out`` cannot be written.

    Notes
    -----
    A curve of a coordinate (rw1, rw2, ar1, seasonal, s) without ``by`` is part of every prediction; at a new
    coordinate it is drawn given its values at the fitted ones, wider farther out, and ``attrs["notes"]`` of the answer
    says where it extrapolates. Copies of a curve (``by``), areas and levels of a known covariance act as groups: under
    "new" a fresh copy is drawn from the prior at the drawn hyperparameters (a line that the prior leaves open is zero),
    and the value of a fresh area is N(0, v), v the geometric mean of the prior variances of the areas.

    Examples
    --------
    >>> import bayou
    >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1)
    >>> bands = fit.predict({"ses": [0.5], "school": ["a new one"]}, groups="new", kind="outcome")
    """
    _check_options(kind, groups, interval)
    if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool)):
        raise DataError(f"seed={seed!r}: give a whole number, or None.")
    seed = abs(int(posterior.info.get("seed") or 0 if seed is None else seed))
    design = posterior.model.design
    from bayou.predict.streamed import collected, refuse_draws, source_of, written  # data frame libraries

    source = source_of(design, new_data, draws, out)
    if source is None and out is not None:
        raise Unsupported("the rows that the model was fitted to are not at hand: give them as new_data.")
    if source is not None:
        refuse_draws(draws, posterior)
        tables = _in_blocks(posterior, source, kind, groups, interval, seed)
        return collected(tables) if out is None else written(tables, out)
    if new_data is None:
        design.require_rows("Prediction for the fitted rows, unless they are given again as new_data,")
    rows = training_rows(design) if new_data is None else new_rows(design, new_data)
    _check_rows(posterior, rows, kind, groups)
    compute = _Predictor(posterior, rows, kind, groups, seed)
    answer = _draws(compute, rows) if draws else _summary(compute, rows, interval)
    notes = [*rows.notes, *(open_lines(posterior) if groups in ("new", "marginal") else [])]
    if notes:
        answer.attrs["notes"] = notes
    return answer


def _in_blocks(
    posterior: Posterior, source: Source | Stream, kind: Kind, groups: Groups, interval: float, seed: int
) -> Iterator[pd.DataFrame]:
    """Predict block by block; the numbers drawn are those for all rows at once."""
    from bayou.predict.streamed import named, row_blocks

    design, compute, start = posterior.model.design, None, 0
    size = Sample(posterior, effects=groups == "observed", seed=seed).size
    for positions, frame in row_blocks(design, source, size):
        try:
            rows = coded_rows(design.recipe.rebuild(frame, False, positions))
            _check_rows(posterior, rows, kind, groups)
            if compute is None:
                compute = _Predictor(posterior, rows, kind, groups, seed)
            else:
                compute.go_on(rows, start)
            answer = _summary(compute, rows, interval)
        except BayouError as error:
            raise named(error, positions) from error
        start += rows.n
        notes = [*rows.notes, *(open_lines(posterior) if groups in ("new", "marginal") else [])]
        answer.attrs.update({"notes": notes} if notes else {})
        yield answer


def _check_rows(posterior: Posterior, rows: Rows, kind: Kind, groups: Groups) -> None:
    refuse_lacking(posterior, rows)
    if groups == "observed":
        _refuse_unseen(posterior, rows)
        refuse_unseen_structured(posterior, rows, CHOICES)
    if kind == "outcome":
        _refuse_without_trials(posterior, rows)


def outcomes_of(posterior: Posterior, rows: Rows, groups: Groups = "observed", seed: int | None = None) -> xr.DataArray:
    """Draw outcomes (chain, draw, row) of rows that are coded already, such as merged ones."""
    number = posterior.info.get("seed") or 0 if seed is None else seed
    return _draws(_Predictor(posterior, rows, "outcome", groups, abs(int(number))), rows)


def _check_options(kind: str, groups: str, interval: float) -> None:
    for name, value, known in (("kind", kind, get_args(Kind)), ("groups", groups, get_args(Groups))):
        if value not in known:
            raise DataError(f"{name}={value!r} is not known; {name} is one of {', '.join(map(repr, known))}.")
    if not isinstance(interval, (int, float)) or not 0.0 < interval < 1.0:
        raise DataError(f"interval={interval!r}: give a probability between 0 and 1, such as 0.95.")


def _refuse_unseen(posterior: Posterior, rows: Rows) -> None:
    groupings = posterior.model.design.groupings
    for grouping, codes, labels in zip(groupings, rows.codes, rows.labels, strict=True):
        bad = np.flatnonzero(codes < 0)
        if not bad.size:
            continue
        if not set(rows.absent).isdisjoint(grouping.factors):
            lacking = ", ".join(f"{name!r}" for name in grouping.factors if name in rows.absent)
            raise DataError(f"The new data have no column {lacking}, the grouping factor. {CHOICES}")
        levels = list(dict.fromkeys("(missing)" if is_missing(x) else str(x) for x in labels[bad]))
        named = ", ".join(levels[:5]) + (f" and {len(levels) - 5} more" if len(levels) > 5 else "")
        count = "1 row has a level" if bad.size == 1 else f"{bad.size:,} rows have levels"
        raise DataError(f"{count} of {grouping.name!r} that the fit has not seen: {named}. {CHOICES}")


def _refuse_without_trials(posterior: Posterior, rows: Rows) -> None:
    design = posterior.model.design
    factors = {name for grouping in design.groupings for name in grouping.factors}
    factors |= {name for effect in design.formula.structured for name in effect.columns} if design.structured else set()
    lacking = [name for name in rows.absent if name not in factors and name != design.recipe.weights]
    if posterior.model.family.name == "binomial" and lacking:
        raise DataError(
            f"Outcomes are counts out of trials: add the column {', '.join(map(repr, lacking))} to the new "
            "data, or ask for kind='mean'."
        )


@dataclass
class _Predictor:
    """Computes (S, rows) blocks; a fresh group has the same coefficients in whichever block it stands."""

    posterior: Posterior
    rows: Rows
    kind: Kind
    groups: Groups
    seed: int

    def __post_init__(self) -> None:
        self.sample = Sample(self.posterior, effects=self.groups == "observed", seed=self.seed)
        self.family = self.posterior.model.family
        self.start = 0
        self.known = [Numbering() for _ in self.rows.codes]
        self.known_places = {k: Numbering() for k in self.sample.areas}
        if self.groups == "new":
            self.roots = [self.sample.root(factor) for factor in self.sample.factors]
        self.go_on(self.rows, 0)

    def go_on(self, rows: Rows, start: int) -> None:
        """Take the next rows, which begin at a number; levels that were fresh before keep their coefficients."""
        self.rows, self.start = rows, start
        if self.groups == "new":
            self.fresh_codes = [numbered(labels, own) for labels, own in zip(rows.labels, self.known, strict=True)]
            terms = self.posterior.model.design.structured
            self.fresh_places = {
                k: fresh_levels(terms[k], rows.structured[k], own) for k, own in self.known_places.items()
            }

    def block(self, part: slice) -> Array:
        eta = self.sample.fixed(self.rows, part)
        if self.groups == "observed":
            eta += self.sample.observed(self.rows, part)
        elif self.groups == "new":
            eta += self._fresh(part)
        elif self.groups == "marginal" and self.sample.has_groups and self.kind != "linear":
            variance = self.sample.spread(self.rows, part)
            if self.kind == "mean":
                return integrated_mean(self.family, eta, variance)
            # each row of the marginal outcome meets a group of its own
            eta += np.sqrt(variance) * self._generator(OUTCOMES, self.start + part.start, 1).standard_normal(eta.shape)
        if self.kind == "linear":
            return eta
        if self.kind == "mean":
            return np.asarray(self.family.mean(eta))
        return np.asarray(
            self.family.sample(
                self._generator(OUTCOMES, self.start + part.start, 0),
                eta,
                self.sample.dispersion(self.rows, part),
                trials=self.rows.trials[part],
                weights=self.rows.weights[part],
            )
        )

    def _generator(self, *branch: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=branch)))

    def _fresh(self, part: slice) -> Array:
        """Return the terms of fresh groups, shape (S, rows); rows of one level share their group."""
        total = np.zeros((self.sample.size, part.stop - part.start))
        for g, (levels, root, Z) in enumerate(zip(self.fresh_codes, self.roots, self.rows.Z, strict=True)):
            found, where = np.unique(levels[part], return_inverse=True)
            for position, level in enumerate(found):
                z = self._generator(FRESH, g, int(level)).standard_normal(root.shape[:2])
                b = np.einsum("spq,sq->sp", root, z)
                columns = np.flatnonzero(where == position)
                total[:, columns] += b @ Z[part][columns].T
        for k, places in self.fresh_places.items():
            total += self.sample.structured[k].fresh(self.rows.structured[k], places, part)
        return total


def integrated_mean(family: Family, eta: Array, variance: Array) -> Array:
    """Average the inverse link over eta + N(0, variance).

    Closed forms for the identity, log and probit links. Otherwise the trapezoidal rule on the
    normal density, whose error falls exponentially with the step (the integrand is analytic in a
    strip of half-width pi/2 around the real line); the step shrinks with the largest sd.

    Parameters
    ----------
    family
        Family with its link.
    eta, variance
        Arrays of one shape.

    References
    ----------
    Trefethen & Weideman (2014), SIAM Review 56, 385-458.
    """
    closed: dict[str, Callable[[], Array]] = {
        "identity": lambda: eta,
        "log": lambda: np.asarray(family.mean(eta + 0.5 * variance)),
        "probit": lambda: np.asarray(ndtr(eta / np.sqrt(1.0 + variance))),
    }
    if family.link.name in closed:
        return closed[family.link.name]()
    sd = np.sqrt(variance)
    step = min(0.4, 0.3 / max(float(sd.max(initial=0.0)), 1e-12))
    half = int(np.ceil(8.5 / step))
    nodes = step * np.arange(-half, half + 1)
    weights = np.exp(-0.5 * nodes**2)
    total = np.zeros_like(eta)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total += weight * family.mean(eta + node * sd)
    return total


def _summary(compute: _Predictor, rows: Rows, interval: float) -> pd.DataFrame:
    import pandas as pd

    out = np.empty((5, rows.n))
    cuts = (0.5 - interval / 2, 0.5, 0.5 + interval / 2)
    for part in blocks(rows.n, compute.sample.size):
        values = compute.block(part)
        # means beyond the largest double are infinite, and then have no sd
        with np.errstate(over="ignore", invalid="ignore"):
            out[0, part] = values.mean(axis=0)
            out[1, part] = values.std(axis=0, ddof=1) if len(values) > 1 else 0.0
            out[2:, part] = np.quantile(values, cuts, axis=0)
    columns = dict(zip(("mean", "sd", "lower", "median", "upper"), out, strict=True))
    return pd.DataFrame(columns, index=rows.index)


def _draws(compute: _Predictor, rows: Rows) -> xr.DataArray:
    import xarray as xr

    sample = compute.sample
    require_memory(sample.size * rows.n, f"predict(draws=True) for {rows.n:,} rows and {sample.size:,} draws")
    out = np.empty((sample.size, rows.n))
    for part in blocks(rows.n, sample.size):
        out[:, part] = compute.block(part)
    return xr.DataArray(
        out.reshape(sample.chains, -1, rows.n),
        dims=("chain", "draw", "row"),
        name=compute.kind,
        coords={"chain": np.arange(sample.chains), "draw": sample.draws, "row": np.asarray(rows.index)},
    )

"""The face of the house: `fit` and what it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import engines, storage
from bayou._types import Array
from bayou.diagnose import Diagnostics, Verdict, effective_size, examine, judge, r_hat
from bayou.errors import DataError, Unsupported
from bayou.model import Model
from bayou.posterior import Posterior
from bayou.predict import Groups, Kind

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayou.derived import ResidualKind
    from bayou.engines import Engine
    from bayou.families import Family
    from bayou.formula import Formula
    from bayou.plot import Plots
    from bayou.priors import Priors

__all__ = ["Fit", "fit", "load"]


def fit(
    formula: str | Formula | Model,
    data: Any = None,
    family: str | Family = "gaussian",
    priors: Priors | Mapping[str, Any] | None = None,
    engine: str | Engine = "auto",
    seed: int | None = None,
    missing: str = "error",
    weights: str | None = None,
    sigma_by: str | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    **settings: Any,
) -> Fit:
    """Fit a Bayesian (generalized) linear mixed model.

    The model is y | x ~ Family(inverse link(offset + X beta + Σ Z_g b_g), dispersion) with
    b_g ~ N(0, Sigma_g) for each grouping factor g.

    Parameters
    ----------
    formula
        Text as in ``"y ~ x + (1 + x | g)"``, a `Formula`, or a `Model` (then without data).
    data
        pandas, polars or pyarrow table, dict of columns, or a path to CSV or Parquet.
    family
        A name ("gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma") or a family
        from `bayou.families`.
    priors
        `bayou.Priors`, a dict with the same keys, or None for the defaults.
    engine
        A name ("gibbs", "metropolis", "auto") or an engine from `bayou.engines`.
    seed
        The same seed gives the same draws, for any number of threads.
    missing
        "error", or "drop" to drop and count rows with missing values.
    weights, sigma_by
        Names of columns: prior weights (Gaussian: variance sigma² / w); a factor with one residual
        sd per level.
    functions
        Functions of one column that the formula may call, by name.
    **settings
        Settings of the engine, such as ``draws=2000, chains=4``.

    Returns
    -------
    Fit

    Raises
    ------
    FormulaError, DataError, PriorError, ImproperPosterior, Unsupported
        Before any sampling, saying what is wrong and what to do.

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> fit = bayou.fit("proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic,
    ...                 family="binomial", seed=1, draws=500)
    >>> list(fit.fixed_effects.index)
    ['Intercept', 'treatment[drug]']
    """
    chosen = engines.get(engine, **settings)
    model = _model(formula, data, family, priors, missing, weights, sigma_by, functions)
    sequence = _seed_sequence(seed)
    started = time.perf_counter()
    result = chosen.run(model, np.random.default_rng(sequence))
    result.info["seconds"] = time.perf_counter() - started
    # without a seed the entropy is kept, so that this run too can be repeated
    result.info["seed"] = int(sequence.entropy)  # type: ignore[arg-type]
    return Fit(result)


def _model(
    formula: str | Formula | Model,
    data: Any,
    family: str | Family,
    priors: Any,
    missing: str,
    weights: str | None,
    sigma_by: str | None,
    functions: Mapping[str, Callable[..., Any]] | None,
) -> Model:
    if not isinstance(formula, Model):
        if data is None:
            raise DataError("No data were given: bayou.fit(formula, data, ...).")
        return Model(
            formula,
            data,
            family,
            priors,
            weights=weights,
            sigma_by=sigma_by,
            missing=missing,
            functions=functions,
        )
    if (family, missing) != ("gaussian", "error") or any(
        x is not None for x in (data, priors, weights, sigma_by, functions)
    ):
        raise DataError(
            "A Model is bound to its data, family and priors already: give bayou.fit(model, "
            "engine=, seed=) alone, or the formula and data instead of the model."
        )
    return formula


def _seed_sequence(seed: int | None) -> np.random.SeedSequence:
    if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0):
        raise DataError(f"seed={seed!r}: give a whole number of at least 0, or None.")
    return np.random.SeedSequence(None if seed is None else int(seed))


def load(path: str | os.PathLike[str], functions: Mapping[str, Callable[..., Any]] | None = None) -> Fit:
    """Read a fit that `Fit.save` wrote; it predicts, summarises and prints like the original.

    Parameters
    ----------
    path
        The file.
    functions
        Functions of the caller that the formula uses; code is never stored.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, not bayou's, or from a newer version.
    """
    return Fit(storage.load(path, functions))


class Fit:
    """A model with its posterior; everything beyond the draws is computed at first use and kept.

    Attributes
    ----------
    result
        The `Posterior` with its draws.
    model
        The frozen `Model`.
    """

    def __init__(self, result: Posterior) -> None:
        self.result = result
        self.model: Model = result.model
        self._summaries: dict[tuple[float, bool], pd.DataFrame] = {}

    @property
    def seconds(self) -> float:
        """Seconds that the engine took."""
        return float(self.result.info.get("seconds", np.nan))

    # ---- estimates -------------------------------------------------------------------------

    def summary(self, interval: float = 0.95, groups: bool = False) -> pd.DataFrame:
        """Return one row per parameter.

        Parameters
        ----------
        interval
            Probability between ``lower`` and ``upper``, equal tails.
        groups
            Add the coefficients of every group.

        Returns
        -------
        pandas.DataFrame
            mean, sd, lower, median, upper, r_hat, ess_bulk, ess_tail; rows ``beta[Intercept]`` first.
        """
        key = (_probability(interval), bool(groups))
        if key not in self._summaries:
            self._summaries[key] = self._summary(*key)
        return self._summaries[key].copy()

    def _summary(self, interval: float, groups: bool) -> pd.DataFrame:
        import pandas as pd

        result, numbers = self.result, self._diagnostics
        frame = _described(list(result.rows), result.matrix(), interval)
        frame = frame.assign(r_hat=numbers.r_hat, ess_bulk=numbers.ess_bulk, ess_tail=numbers.ess_tail)
        if not groups or not self.model.design.groupings:
            return frame
        rows = {
            factor: [name for name, (key, _) in result.effect_rows().items() if key == f"b_{printed}"]
            for factor, printed in result.names.items()
        }
        frames = [frame]
        for factor, names in rows.items():
            draws = result.effects(factor)
            flat = np.moveaxis(draws, (0, 1), (2, 3)).reshape(-1, *draws.shape[:2])
            own = _described(names, flat, interval)
            frames.append(
                own.assign(
                    r_hat=r_hat(flat), ess_bulk=effective_size(flat), ess_tail=effective_size(flat, "tail")
                )
            )
        return pd.concat(frames)

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """The fixed effects, indexed by coefficient."""
        frame = self.summary()
        frame = frame[[str(name).startswith("beta[") for name in frame.index]]
        return frame.set_axis(list(self.model.design.coefficients), axis=0).rename_axis("coefficient")

    @property
    def variance_components(self) -> pd.DataFrame:
        """Group sds, correlations and the dispersion."""
        frame = self.summary()
        return frame[[not str(name).startswith("beta[") for name in frame.index]]

    def random_effects(self, factor: str, interval: float = 0.95) -> pd.DataFrame:
        """Return the coefficients of each level of a grouping factor.

        Parameters
        ----------
        factor
            Its name as in the formula, such as ``"clinic"`` or ``"a:b"``.
        interval
            Probability between ``lower`` and ``upper``.

        Returns
        -------
        pandas.DataFrame
            mean, sd, lower, median, upper, indexed by (level, coefficient).

        Raises
        ------
        DataError
            If the model has no such factor.
        """
        import pandas as pd

        groupings = {g.name: g for g in self.model.design.groupings}
        if factor not in groupings:
            known = ", ".join(map(repr, groupings)) or "none"
            raise DataError(f"The model has no grouping factor {factor!r}; its factors: {known}.")
        grouping = groupings[factor]
        index = pd.MultiIndex.from_product(
            [list(grouping.levels), list(grouping.coefficients)], names=["level", "coefficient"]
        )
        draws = self.result.effects(factor)
        flat = np.moveaxis(draws, (0, 1), (2, 3)).reshape(len(index), *draws.shape[:2])
        frame = _described(index, flat, _probability(interval))
        moments = self.result.running_moments(factor)
        if moments is not None:
            frame["mean"], frame["sd"] = (m.ravel() for m in moments)
        return frame

    def draws(self) -> pd.DataFrame:
        """Return the draws of the summary rows as columns, indexed by (chain, draw)."""
        import pandas as pd

        index = pd.MultiIndex.from_product(
            [range(self.result.chains), range(self.result.size)], names=["chain", "draw"]
        )
        matrix = self.result.matrix()
        return pd.DataFrame(matrix.reshape(len(matrix), -1).T, index, list(self.result.rows))

    def derive(self, expression: str) -> xr.DataArray:
        """Compute an expression of summary rows at every draw.

        Parameters
        ----------
        expression
            Such as ``"sd_g[Intercept]**2 / (sd_g[Intercept]**2 + sigma**2)"``, or a comparison,
            ``"beta[x] > 0"``, whose mean is its posterior probability.

        Returns
        -------
        xarray.DataArray
            Dims (chain, draw).

        Raises
        ------
        FormulaError, UnsafeFormula
            For a name that is no row of the summary; for anything that is not arithmetic.
        """
        from bayou.derived import evaluate

        return self._array(evaluate(self.result, expression), expression)

    def icc(self) -> pd.DataFrame:
        """Share of each factor in the variance that the fixed effects leave (link scale).

        References
        ----------
        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14: 20170213.
        """
        shares = dict(self._shares)
        shares.pop("fixed")
        total = np.sum(list(shares.values()), axis=0)
        factors = [name for name in shares if name != "residual"]
        draws = np.array([shares[name] / total for name in factors]).reshape(len(factors), len(total))
        return _described(factors, draws)

    def r2(self) -> pd.DataFrame:
        """Share of the variance explained (link scale): by fixed effects alone, and with the groups."""
        shares = self._shares
        total = np.sum(list(shares.values()), axis=0)
        both = np.array([shares["fixed"] / total, 1.0 - shares["residual"] / total])
        return _described(["marginal", "conditional"], both)

    @cached_property
    def _shares(self) -> dict[str, Array]:
        from bayou.derived import variance_shares

        return variance_shares(self.result)

    def residuals(self, kind: ResidualKind = "response", seed: int | None = None) -> pd.Series[float]:
        """Return the residuals of the fitted rows: "response", "pearson" or "quantile"."""
        import pandas as pd

        from bayou.derived import residuals

        return pd.Series(residuals(self.result, kind, seed), name=kind)

    # ---- trust -----------------------------------------------------------------------------

    @cached_property
    def _diagnostics(self) -> Diagnostics:
        return examine(self.result)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the result can be used, in sentences: ``.ok``, ``.reasons``."""
        return judge(self.result, self._diagnostics)

    @property
    def posterior(self) -> xr.DataTree:
        """The draws as an xarray DataTree in ArviZ's scheme."""
        return self.result.tree

    @cached_property
    def _loo(self) -> Any:
        from bayou.loo import loo

        return loo(self.result)

    def loo(self) -> Any:
        """Pareto-smoothed leave-one-out cross-validation, an ``arviz_stats.ELPDData``."""
        return self._loo

    def _likelihood_only(self, what: str) -> Unsupported:
        engine = self.result.info.get("engine", self.result.engine)
        return Unsupported(
            f"{what} belongs to engines that maximise or integrate the likelihood; this fit "
            f"was sampled by {engine}. Compare fits with fit.loo()."
        )

    @property
    def log_marginal(self) -> float:
        """Log marginal likelihood, of engines that have it."""
        raise self._likelihood_only("The log marginal likelihood")

    @property
    def log_likelihood(self) -> float:
        """Maximised log likelihood, of likelihood engines."""
        raise self._likelihood_only("The maximised log likelihood")

    @property
    def aic(self) -> float:
        """Akaike's criterion, of likelihood engines."""
        raise self._likelihood_only("AIC")

    @property
    def bic(self) -> float:
        """Schwarz's criterion, of likelihood engines."""
        raise self._likelihood_only("BIC")

    # ---- use -------------------------------------------------------------------------------

    def predict(
        self,
        new_data: Any = None,
        kind: Kind = "mean",
        groups: Groups = "observed",
        interval: float = 0.95,
        draws: bool = False,
        seed: int | None = None,
    ) -> pd.DataFrame | xr.DataArray:
        """Predict; see `bayou.predict.predict` for the options."""
        from bayou.predict import predict

        return predict(self.result, new_data, kind, groups, interval, draws, seed)

    @cached_property
    def plot(self) -> Plots:
        """The pictures: ``fit.plot.trace()``, ``.coefficients()``, ``.bands("x")`` and more."""
        from bayou.plot import Plots

        return Plots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fit to a netCDF file that `bayou.load` and ArviZ read; no pickle.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        return storage.save(self.result, path)

    def __str__(self) -> str:
        from bayou.report import describe_fit

        return describe_fit(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from bayou.report import fit_html

        return fit_html(self)

    def _array(self, values: Array, name: str) -> xr.DataArray:
        import xarray as xr

        coords = {"chain": np.arange(values.shape[0]), "draw": np.arange(values.shape[1])}
        return xr.DataArray(values, coords, ("chain", "draw"), name=name)


def _probability(interval: float) -> float:
    if not 0.0 < interval < 1.0:
        raise DataError(f"interval={interval!r}: give a probability between 0 and 1, such as 0.95.")
    return float(interval)


def _described(index: Any, draws: Array, interval: float = 0.95) -> pd.DataFrame:
    """Mean, sd and quantiles of draws (rows, chain, draw)."""
    import pandas as pd

    flat = draws.reshape(len(draws), int(np.prod(draws.shape[1:])))
    lower, median, upper = np.quantile(flat, (0.5 - interval / 2, 0.5, 0.5 + interval / 2), axis=1)
    sd = flat.std(axis=1, ddof=1) if flat.shape[1] > 1 else np.zeros(len(flat))
    columns = {"mean": flat.mean(axis=1), "sd": sd, "lower": lower, "median": median, "upper": upper}
    return pd.DataFrame(columns, index)

"""What a fit is: a model with its posterior, whose methods call the other rooms."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.fitting.approximated import Approximated
from bayou.fitting.checked import Checked
from bayou.fitting.inferred import Inferred
from bayou.fitting.tested import Tested
from bayou.model import Model
from bayou.posterior import Estimates, Posterior, storage
from bayou.posterior.summaries import (
    described,
    draws_frame,
    effects_frame,
    fixed_columns,
    probability,
    summary_frame,
)
from bayou.predict import Groups, Kind
from bayou.verdict import Diagnostics, Verdict, examine, judge

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayou.plot import Plots
    from bayou.predict.derived import ResidualKind

__all__ = ["Fit"]


def with_degrees(result: Posterior) -> Posterior:
    """Give the fixed effects of a linear mixed model their degrees of freedom, for who looks at them."""
    model, found = result.model, result.estimates
    if found is None or found.df is not None or found.method not in ("ML", "REML"):
        return result

    def degrees() -> Array:
        from bayou.inference.satterthwaite import Satterthwaite
        from bayou.inference.supported import is_linear_mixed

        if not is_linear_mixed(model, found):
            return np.full(found.fixed, np.inf)
        return Satterthwaite(model, found).each(np.eye(found.fixed))

    result.estimates = replace(found, df=degrees)
    return result


class Fit(Approximated, Checked, Inferred, Tested):
    """A model with its posterior; everything beyond the draws is computed at first use and kept.

    Attributes
    ----------
    result
        The `Posterior` with its draws.
    model
        The frozen `Model`.
    """

    def __init__(self, result: Posterior) -> None:
        self.result = with_degrees(result) if result.estimates is not None else result
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
            Add the coefficients of every group, and the values of structured effects.

        Returns
        -------
        pandas.DataFrame
            mean, sd, lower, median, upper, r_hat, ess_bulk, ess_tail; rows ``beta[Intercept]`` first. After an
            engine that maximises a likelihood, mean and median are the estimate, sd its standard error, the interval
            Wald's (on the log scale for sds, the atanh scale for correlations), and the last three are NaN. After an
            approximation they are of its densities, and the last three are NaN too.
        """
        key = (probability(interval), bool(groups))
        if key not in self._summaries:
            self._summaries[key] = summary_frame(self.result, self._diagnostics, *key)
        return self._summaries[key].copy()

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """The fixed effects, indexed by coefficient: the columns of the summary.

        After an engine that maximises a likelihood also estimate, se, and the test against zero: statistic, df
        (infinite where it is normal) and two-sided p.
        """
        frame = self.summary()
        frame = frame[[str(name).startswith("beta[") for name in frame.index]]
        found = self.result.estimates
        if found is not None:
            frame = frame.assign(**fixed_columns(found))
        return frame.set_axis(list(self.model.design.coefficients), axis=0).rename_axis("coefficient")

    @property
    def variance_components(self) -> pd.DataFrame:
        """Group sds, correlations, hyperparameters of structured effects, and the dispersion.

        After a likelihood engine also as estimate and se.
        """
        frame = self.summary()
        frame = frame[[not str(name).startswith("beta[") for name in frame.index]]
        return frame if self.result.estimates is None else frame.assign(estimate=frame["mean"], se=frame["sd"])

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
            mean, sd, lower, median, upper, indexed by (level, coefficient). After a likelihood engine the mean is
            the mode (the BLUP in a Gaussian model) and sd the root of its prediction error variance.

        Raises
        ------
        DataError
            If the model has no such factor.
        """
        return effects_frame(self.result, factor, probability(interval))

    def draws(self) -> pd.DataFrame:
        """Return the draws of the summary rows as columns, indexed by (chain, draw)."""
        return draws_frame(self.result)

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
        from bayou.predict.derived import evaluate

        return self._array(evaluate(self.result, expression), expression)

    def icc(self) -> pd.DataFrame:
        """Share of each factor and structured effect in the variance that the fixed effects leave (link scale).

        A curve without ``by`` counts with the fixed effects.

        References
        ----------
        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14: 20170213.
        """
        shares = dict(self._shares)
        shares.pop("fixed")
        total = np.sum(list(shares.values()), axis=0)
        factors = [name for name in shares if name != "residual"]
        draws = np.array([shares[name] / total for name in factors]).reshape(len(factors), len(total))
        return described(factors, draws)

    def r2(self) -> pd.DataFrame:
        """Share of the variance explained (link scale): by fixed effects and curves alone, and with the groups."""
        shares = self._shares
        total = np.sum(list(shares.values()), axis=0)
        both = np.array([shares["fixed"] / total, 1.0 - shares["residual"] / total])
        return described(["marginal", "conditional"], both)

    @cached_property
    def _shares(self) -> dict[str, Array]:
        from bayou.predict.derived import variance_shares

        return variance_shares(self.result)

    def residuals(self, kind: ResidualKind = "response", seed: int | None = None) -> pd.Series[float]:
        """Return the residuals of the fitted rows: "response", "pearson" or "quantile"."""
        import pandas as pd

        from bayou.predict.derived import residuals

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

    def _estimates(self, what: str) -> Estimates:
        found = self.result.estimates
        if found is not None:
            return found
        if self.result.approximation is not None:
            raise Unsupported(
                f"{what} belongs to engines that maximise the likelihood; this fit integrates over all parameters. "
                "Compare fits with fit.log_marginal, fit.dic, fit.waic or fit.loo()."
            )
        engine = self.result.info.get("engine", self.result.engine)
        raise Unsupported(
            f"{what} belongs to engines that maximise or integrate the likelihood; this fit "
            f"was sampled by {engine}. Compare fits with fit.loo()."
        )

    @property
    def log_likelihood(self) -> float:
        """Maximised log likelihood, of likelihood engines: all constants in, priors out; REML: the restricted one.

        Raises
        ------
        Unsupported
            After a sampler, and after a method without a likelihood (PQL).
        """
        what = "The maximised log likelihood"
        return self._estimates(what).require_likelihood(what)

    @property
    def aic(self) -> float:
        """Akaike's criterion, of likelihood engines; by REML it compares fits with the same fixed effects only."""
        return self._estimates("AIC").aic

    @property
    def bic(self) -> float:
        """Schwarz's criterion, of likelihood engines; by REML it compares fits with the same fixed effects only."""
        return self._estimates("BIC").bic

    # ---- use -------------------------------------------------------------------------------

    def predict(
        self,
        new_data: Any = None,
        kind: Kind = "mean",
        groups: Groups = "observed",
        interval: float = 0.95,
        draws: bool = False,
        seed: int | None = None,
        out: str | os.PathLike[str] | None = None,
    ) -> pd.DataFrame | xr.DataArray | Path:
        """Predict; see `bayou.predict.prediction` for the options."""
        from bayou.predict import predict

        return predict(self.result, new_data, kind, groups, interval, draws, seed, out)

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
        from bayou.fitting.report import describe_fit

        return describe_fit(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from bayou.fitting.report import fit_html

        return fit_html(self)

    def _array(self, values: Array, name: str) -> xr.DataArray:
        import xarray as xr

        coords = {"chain": np.arange(values.shape[0]), "draw": np.arange(values.shape[1])}
        return xr.DataArray(values, coords, ("chain", "draw"), name=name)

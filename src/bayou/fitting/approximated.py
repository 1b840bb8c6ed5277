"""What a fit has of structured effects and of approximations: the methods of a `Fit` for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.errors import Unsupported
from bayou.posterior.summaries import probability, structured_frame

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Approximation, Posterior

__all__ = ["Approximated"]


class Approximated:
    """Methods of a `Fit` that read structured effects, or the densities of an approximation."""

    result: Posterior

    def structured(self, name: str, interval: float = 0.95) -> pd.DataFrame:
        """Return the values of a structured effect.

        Parameters
        ----------
        name
            As in its variables ``f_NAME``, ``sd_NAME``: ``"t"``, with ``by=g`` ``"t:g"``.
        interval
            Probability between ``lower`` and ``upper``.

        Returns
        -------
        pandas.DataFrame
            mean, sd, lower, median, upper, indexed by node (time, area, level), with ``by`` by (level, node). Of a
            spline ``s(x)`` these are its coefficients; `fit.plot.smooth` draws the curve. After an approximation they
            are those of its densities, after a likelihood engine the mode and the root of its prediction error
            variance.

        Raises
        ------
        DataError
            If the model has no such effect.
        Unsupported
            If the engine kept no draws of it.
        """
        return structured_frame(self.result, name, probability(interval))

    def _approximation(self, what: str) -> Approximation:
        found = self.result.approximation
        if found is not None:
            return found
        estimates = self.result.estimates
        engine = str(self.result.info.get("engine", self.result.engine))
        if estimates is not None:
            raise Unsupported(
                f"{what} integrates over all parameters, and {estimates.method} maximises over them. Compare fits by "
                "fit.log_likelihood, fit.aic or fit.bic, or fit with engine='inla'."
            )
        raise Unsupported(
            f"{what} belongs to engines that integrate the likelihood; this fit was sampled by {engine}. Compare fits "
            "with fit.loo(), or fit with engine='inla'."
        )

    @property
    def log_marginal(self) -> float:
        """Log marginal likelihood log p(y), every constant in; of engines that integrate over all parameters.

        The prior of rw2, and of what has no constraint, leaves a part flat: log p(y) then has a constant that only
        models with the same such effects share.

        Raises
        ------
        Unsupported
            After other engines, and where a prior is improper.
        """
        what = "The log marginal likelihood"
        value = float(self._approximation(what).log_marginal)
        if np.isnan(value):
            raise Unsupported(f"{what} is not known: a prior is improper, or the engine went on by a Markov chain.")
        return value

    @property
    def dic(self) -> float:
        """Deviance information criterion, of approximations (Spiegelhalter et al. 2002)."""
        return self._approximation("The DIC").dic

    @property
    def waic(self) -> float:
        """Widely applicable information criterion on the scale of −2 log density, of approximations (Watanabe 2010)."""
        return self._approximation("The WAIC").waic

    @property
    def cpo(self) -> pd.Series[float]:
        """Predictive density of each row given all others, of approximations; NaN where it was not computed."""
        return self._by_row(self._approximation("The conditional predictive ordinate").cpo, "cpo")

    @property
    def pit(self) -> pd.Series[float]:
        """Probability of at most each row's response given all others, of approximations."""
        return self._by_row(self._approximation("The probability integral transform").pit, "pit")

    def _by_row(self, values: object, name: str) -> pd.Series[float]:
        import pandas as pd

        design = self.result.model.design
        if design.reduced is None or design.reduced.distinct is None:
            return pd.Series(np.asarray(values), index=design.index, name=name)
        found = pd.Series(np.asarray(values), name=name)
        found.attrs["frequency"] = design.reduced.distinct.frequency  # each different row as given stands there once
        return found

"""The pictures of one fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from bayou.plot.bands import draw_bands
from bayou.plot.chains import draw_autocorrelation, draw_trace
from bayou.plot.checks import draw_predictive_check
from bayou.plot.exploration import explore
from bayou.plot.forests import draw_coefficients
from bayou.plot.group_checks import Statistic, draw_group_check
from bayou.plot.lines import draw_groups
from bayou.plot.profiles import draw_profile
from bayou.plot.structured import StructuredPlots
from bayou.plot.style import Picture
from bayou.predict import Groups

if TYPE_CHECKING:
    from bayou.fitting import Fit

__all__ = ["Plots"]

Path: TypeAlias = str | os.PathLike[str]


class Plots(StructuredPlots):
    """The pictures of a fit, as methods.

    Each returns a `Picture`, a `matplotlib.figure.Figure` that pyplot does not know: it is shown by a
    notebook when it is the value of a cell, written by ``savefig`` or ``save=``, and freed when nothing
    refers to it any more, so there is nothing to close. ``size`` is (width, height) in inches.

    Parameters
    ----------
    fit
        What `bayou.fit` returned.
    """

    def __repr__(self) -> str:
        return (
            "Pictures of a fit: trace(), autocorrelation(), coefficients(), groups(), bands(x), "
            "predictive_check(), profile(), smooth(), areas(), marginals(), exploration(x)"
        )

    def trace(
        self,
        parameters: str | Iterable[str] | None = None,
        *,
        limit: int = 8,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the path of each chain and the density of its draws, one row per parameter.

        Parameters
        ----------
        parameters
            Rows of the summary, such as ``"sd_school[ses]"``, or what they begin with, ``"beta"``; None
            takes the first ``limit``.
        limit
            The most rows shown unless they are named.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            For a parameter that does not exist.
        Unsupported
            After an engine without chains.
        """
        return draw_trace(self._fit.result, parameters, limit, size, save)

    def autocorrelation(
        self,
        *others: Fit,
        parameters: str | Iterable[str] | None = None,
        lags: int = 50,
        limit: int = 8,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the autocorrelation of the draws, beside that of other fits if some are given.

        Parameters
        ----------
        *others
            Fits to put beside this one, such as the uncentred sampler beside the centred.
        parameters, limit
            As for `trace`.
        lags
            The longest lag, in draws.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            For a parameter that does not exist, or fits without a common one.
        Unsupported
            After an engine without chains.

        Examples
        --------
        >>> import bayou
        >>> model = bayou.Model("score ~ ses + (1 | school)", bayou.datasets.load("school"))
        >>> ways = ("centered", "uncentered")
        >>> fits = [bayou.fit(model, engine="gibbs", parameterization=w, seed=1, draws=200) for w in ways]
        >>> picture = fits[0].plot.autocorrelation(fits[1], parameters="beta")
        >>> len(picture.axes)
        4
        """
        results = [self._fit.result, *(other.result for other in others)]
        return draw_autocorrelation(results, parameters, lags, limit, size, save)

    def coefficients(
        self,
        *,
        interval: float = 0.95,
        limit: int = 30,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw medians and intervals of the fixed effects, the sds between groups and the dispersion.

        After an engine that maximises a likelihood these are the estimates and their Wald intervals.
        An intercept far from the other coefficients gets an axis of its own.

        Parameters
        ----------
        interval
            Probability of the thin lines; the thick ones hold half.
        limit
            The most rows of one kind.
        size, save
            Inches; a path to write to.
        """
        return draw_coefficients(self._fit.result, interval, limit, size, save)

    def groups(
        self,
        factor: str | None = None,
        x: str | None = None,
        *,
        levels: Iterable[Any] | None = None,
        interval: float = 0.95,
        limit: int = 25,
        draws: int | None = 1000,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw each level of a grouping factor: its data, its fit alone (blue) and the mixed fit (black).

        The blue line is fitted to the rows of one level and nothing else: least squares, or maximum
        likelihood where the response is not normal. Without a number that varies within the levels (or
        with a categorical ``x``), the coefficients of the levels are drawn in order instead.

        Parameters
        ----------
        factor
            Name of the grouping factor; None takes the first.
        x
            The covariate to draw along; None takes one whose slope varies by the factor.
        levels
            Levels to draw; None takes all, or ``limit`` of them, which the caption then describes.
        interval
            Probability of the gray band around the mixed fit.
        limit
            The most panels, or rows of coefficients.
        draws
            About how many draws to use; None for all.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            For a factor, covariate or level that the model does not have.
        Unsupported
            If the draws of the group coefficients were not kept.
        """
        return draw_groups(self._fit.result, factor, x, levels, interval, limit, draws, size, save)

    def bands(
        self,
        x: str,
        *,
        interval: float = 0.95,
        draws: int | None = 4000,
        seed: int | None = None,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw three bands along a covariate: the typical group, a new group, a new outcome.

        On one scale: quantiles of the inverse link of theta'x (coefficients of the groups at zero), of
        beta'x (those of a new group) and of Y given x, as in Hoff's figure 11.5. The other covariates are
        held at their mean or reference level. Without groups there are two bands.

        Parameters
        ----------
        x
            A covariate, number or category.
        interval
            Probability between the outer lines; .95 gives the 2.5, 50 and 97.5 % quantiles.
        draws
            About how many draws to use; None for all.
        seed
            Of new groups and outcomes; None takes that of the fit.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            If the model has no such covariate.

        References
        ----------
        Hoff (2009), A First Course in Bayesian Statistical Methods, figure 11.5.
        """
        return draw_bands(self._fit.result, x, interval, draws, seed, size, save)

    def predictive_check(
        self,
        by: str | None = None,
        statistic: Statistic = "mean",
        *,
        groups: Groups = "observed",
        interval: float = 0.95,
        draws: int = 400,
        limit: int = 40,
        seed: int | None = None,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the data beside replicated data: their distribution, and each row in its interval.

        With ``by``, a statistic of each group in its interval instead, and how its place among the replicated ones is
        spread over the groups.

        Parameters
        ----------
        by
            A grouping factor, or a column that the formula uses.
        statistic
            ``"mean"``, ``"sd"``, ``"min"``, ``"max"``, ``"median"``, ``"zeros"`` (their share), or a function of the
            values of one group; of a binomial response these are proportions.
        groups
            With ``by``: ``"observed"`` replicates from each group's own coefficients, ``"new"`` from those of fresh
            groups.
        interval
            Probability of the intervals.
        draws
            About how many replicated data sets.
        limit
            The most groups shown.
        seed
            Of the replicated data; None takes that of the fit.
        size, save
            Inches; a path to write to.

        Raises
        ------
        Unsupported
            If the draws of the group coefficients were not kept.
        DataError
            For a factor or a statistic that there is not.

        Examples
        --------
        >>> import bayou
        >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=200)
        >>> picture = fit.plot.predictive_check("school", statistic="sd")
        """
        if by is not None:
            return draw_group_check(
                self._fit.result, by, statistic, groups, interval, draws, limit, seed, size, save
            )
        return draw_predictive_check(self._fit.result, interval, draws, seed, size, save)

    def profile(
        self,
        parameters: str | Iterable[str] | None = None,
        *,
        limit: int = 12,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the profile likelihood of each parameter as zeta, the signed root of the likelihood ratio.

        A straight curve is a normal likelihood, whose Wald interval is right; a bent one shows how far it is not.
        Vertical lines stand at the ends of the 50, 80, 90, 95 and 99 % intervals.

        Parameters
        ----------
        parameters
            Rows of the summary, such as ``"sd_school[ses]"``, or what they begin with, ``"beta"``; None takes the
            first ``limit``.
        limit
            The most panels unless they are named.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            For a parameter that does not exist.
        Unsupported
            After a sampler, a method without a likelihood, or a fit with priors.

        References
        ----------
        Bates & Watts (1988), Nonlinear Regression Analysis, chapter 6.
        """
        return draw_profile(self._fit.profile(), parameters, limit, size, save)

    def exploration(
        self,
        x: str,
        *,
        degrees: Sequence[int] = (2, 3, 4),
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the data of the fit by group, without the fit; see `bayou.plot.explore`."""
        return explore(self._fit.model, x, degrees=degrees, size=size, save=save)

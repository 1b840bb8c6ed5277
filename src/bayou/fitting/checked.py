"""What a fit has to check itself by: cross-validation, sensitivity to priors, the marginal likelihood by bridging."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou._types import Labels
    from bayou.diagnose.bridge import LogMarginal
    from bayou.diagnose.sensitivity import Sensitivity
    from bayou.posterior import Posterior
    from bayou.predict.elpd import Elpd
    from bayou.predict.pending import Exact

__all__ = ["Checked"]


class Checked:
    """Methods of a `Fit` that ask how far its model can be trusted."""

    result: Posterior

    def loo(self, exact: Exact = "auto") -> Elpd:
        """Leave-one-out cross-validation: log p(y_i | all other rows), summed over rows.

        By Pareto-smoothed importance weights; where these have a heavy tail with the coefficients of the row's groups
        integrated out, and where k-hat is still too large by fitting the model without the row.

        Parameters
        ----------
        exact
            True fits the model again for every row that needs it; "auto" for up to 10 of them, if a fit takes at most
            30 seconds; False for none.

        Returns
        -------
        Elpd
            An ``arviz_stats.ELPDData``: ``elpd``, ``se``, ``p``, by row ``elpd_i``, ``pareto_k``; also ``table``,
            ``method`` by row, and ``notes``, which say what was done and what is left to do.

        Raises
        ------
        Unsupported
            After an engine that maximises a likelihood, and if no draws of the group coefficients were kept.

        References
        ----------
        Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432.

        Examples
        --------
        >>> import bayou
        >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=500)
        >>> fit.loo().warning
        False
        """
        from bayou.predict.leave_out import loo

        self._require_draws("fit.loo()")
        return cast("Elpd", self._once(("loo", exact), lambda: loo(self.result, exact)))

    def leave_group_out(self, by: str | Labels, exact: Exact = "auto") -> Elpd:
        """Leave out one group at a time: log p(y_g | all other groups), the predictive density of a new group.

        The group's own coefficients are integrated out over N(0, Sigma) by adaptive quadrature, those of nested levels
        with them; everything else by Pareto-smoothed importance weights, or by fitting the model without the group
        where their k-hat is too large.

        Parameters
        ----------
        by
            A grouping factor, a column that the formula uses, or the labels of the rows.
        exact
            As for `loo`.

        Returns
        -------
        Elpd
            ``elpd`` with ``se``, and ``table``, one row for each group: rows, elpd, pareto_k, method.

        Raises
        ------
        Unsupported
            After an engine that maximises a likelihood, and if no draws of the group coefficients were kept.
        DataError
            If there is no such factor or column.

        Examples
        --------
        >>> import bayou
        >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=500)
        >>> left = fit.leave_group_out("school")
        >>> left.n_data_points, left.warning
        (100, False)
        """
        from bayou.predict.leave_out import leave_group_out

        self._require_draws("fit.leave_group_out()")
        if not isinstance(by, str):
            return leave_group_out(self.result, by, exact)
        return cast("Elpd", self._once(("group", by, exact), lambda: leave_group_out(self.result, by, exact)))

    def sensitivity(self, priors: str | Iterable[str] | None = None, threshold: float = 0.05) -> Sensitivity:
        """Scale the prior and the likelihood by a power near one and see what moves.

        Only the priors at the top are scaled, those of fixed effects, sds, correlations and dispersion; the
        distribution of group coefficients given them is part of the model.

        Parameters
        ----------
        priors
            Parts of the prior to scale: ``"beta"``, ``"sd_g"``, ``"cor_g"``, ``"Sigma_g"``, ``"sigma"``, …; None scales
            all of them together.
        threshold
            From which a row of the summary is called sensitive.

        Returns
        -------
        Sensitivity
            ``table`` (prior, likelihood, diagnosis by row of the summary), ``sentences``, ``ok``.

        Raises
        ------
        DataError
            For a part that the prior does not have.
        Unsupported
            After an engine that maximises a likelihood, and if no draws of the group coefficients were kept.

        References
        ----------
        Kallioinen, Paananen, Bürkner & Vehtari (2024), Statistics and Computing 34, 57.

        Examples
        --------
        >>> import bayou
        >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=500)
        >>> fit.sensitivity().ok
        True
        """
        from bayou.diagnose.sensitivity import sensitivity

        self._require_draws("fit.sensitivity()")
        return sensitivity(self.result, priors, threshold)

    def bridge(self, seed: int | None = None) -> LogMarginal:
        """Estimate the log marginal likelihood log p(y) from the draws of a Markov chain, by bridge sampling.

        Differences between models of the same response are log Bayes factors.

        Parameters
        ----------
        seed
            Of the proposals; None takes that of the fit.

        Returns
        -------
        LogMarginal
            ``value`` with every constant in, ``error`` (its standard error), ``notes``.

        Raises
        ------
        Unsupported
            With an improper prior, and after an engine without Markov chains (see `log_marginal`).
        BayouError
            If the chains are too short.

        References
        ----------
        Meng & Wong (1996), Statistica Sinica 6, 831-860; Gronau et al. (2017), J. Math. Psychology 81, 80-97.

        Examples
        --------
        >>> import bayou
        >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=500)
        >>> fit.bridge().error < 0.1
        True
        """
        from bayou.diagnose.bridge import bridge

        return cast("LogMarginal", self._once(("bridge", seed), lambda: bridge(self.result, seed)))

    def _once(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Keep what was computed."""
        kept: dict[tuple[Any, ...], Any] = self.__dict__.setdefault("_checks", {})
        if key not in kept:
            kept[key] = compute()
        return kept[key]

    def _require_draws(self, what: str) -> None:
        found = self.result.estimates
        if found is not None:
            raise Unsupported(
                f"{what} weighs draws from a posterior; those of {found.method} come from a Gaussian around its "
                "estimates. Compare with fit.aic or fit.bic, or fit with a sampler (engine='auto')."
            )

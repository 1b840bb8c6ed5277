"""What a fit by likelihood can be asked for besides its estimates: the methods of a `Fit` that infer."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

    from bayou.inference.bootstrap import Bootstrap, Kind
    from bayou.inference.profile import Profile
    from bayou.posterior import Posterior

__all__ = ["Inferred"]


class Inferred:
    """Methods of a `Fit` that need the likelihood behind its estimates."""

    result: Posterior

    # ---- intervals -------------------------------------------------------------------------

    def confidence_intervals(
        self,
        method: Literal["wald", "profile", "bootstrap"] = "wald",
        level: float = 0.95,
        parameters: str | Iterable[str] | None = None,
        *,
        kind: Kind = "percentile",
        replicates: int = 1000,
        seed: int | None = None,
        cores: int | None = None,
    ) -> pd.DataFrame:
        """Return confidence intervals, after an engine that maximises a likelihood.

        Parameters
        ----------
        method
            "wald": estimate ± quantile x standard error, the intervals of `summary` (on the log scale for sds, the
            atanh scale for correlations).
            "profile": where the likelihood, maximised over all other parameters, falls by half a chi-squared quantile
            (`profile`; REML: of the ML fit). "bootstrap": from refits to simulated responses (`bootstrap`).
        level
            Confidence level.
        parameters
            Rows of the summary, or what they begin with (``"beta"``); None takes all.
        kind, replicates, seed, cores
            Of the bootstrap: "percentile", "basic" or "normal"; how many refits; as for `bootstrap`.

        Returns
        -------
        pandas.DataFrame
            ``lower``, ``upper``, one row per parameter; NaN for a Wald interval of what lies on its border. An sd that
            may be zero has a profile interval that begins there. ``attrs["notes"]`` holds what is worth knowing.

        Raises
        ------
        Unsupported
            After a sampler (its intervals are in `summary`); profile and bootstrap also with priors.
        DataError
            For a method, level or parameter that there is not.

        Examples
        --------
        >>> import bayou
        >>> school = bayou.datasets.load("school")
        >>> fit = bayou.fit("score ~ ses + (1 | school)", school, engine="ml", seed=1)
        >>> fit.confidence_intervals(method="profile", parameters="sigma").round(2).loc["sigma"].tolist()
        [8.61, 9.17]
        """
        from bayou.inference.intervals import confidence_intervals

        return confidence_intervals(
            self.result,
            method,
            level,
            parameters,
            profile=self.profile,
            bootstrap=lambda: self.bootstrap(replicates, seed=seed, cores=cores),
            kind=kind,
        )

    def profile(self) -> Profile:
        """Return the profile likelihood of all parameters, computed when looked at; `plot.profile` draws it.

        Raises
        ------
        Unsupported
            After a sampler, a method without a likelihood, or a fit with priors.
        """
        return self._profile

    @cached_property
    def _profile(self) -> Profile:
        from bayou.inference.profile import Profile

        return Profile(self.result)

    def bootstrap(
        self,
        replicates: int = 1000,
        *,
        seed: int | None = None,
        cores: int | None = None,
        progress: bool | None = None,
    ) -> Bootstrap:
        """Fit the model again to responses drawn from it (parametric bootstrap), by the same method.

        Parameters
        ----------
        replicates
            How many refits. Ctrl-C ends them early and keeps what was made.
        seed
            The same seed gives the same replicates, for any number of threads.
        cores
            Threads; None uses as many as there are processors.
        progress
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        Bootstrap
            ``replicates`` (a frame, one row a refit), ``se``, ``bias``, ``interval(level, kind)``, ``failures``.

        Raises
        ------
        Unsupported
            After a sampler, a fit with priors, or prior weights of a family that is not Gaussian.

        Examples
        --------
        >>> import bayou
        >>> school = bayou.datasets.load("school")
        >>> fit = bayou.fit("score ~ ses + (1 | school)", school, engine="reml", seed=1)
        >>> found = fit.bootstrap(200, seed=1)
        >>> found.replicates.shape, found.failures
        ((200, 4), {})
        """
        from bayou.inference.bootstrap import bootstrap

        return bootstrap(self.result, replicates, seed, cores, progress)

"""Restricted maximum likelihood (REML) for Gaussian mixed models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou.engines.base import Engine
from bayou.engines.marginal.gaussian import fitted

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class REML(Engine):
    """Restricted maximum likelihood for a Gaussian response with identity link.

    The fixed effects are integrated out under a flat prior, which takes the degrees of freedom that they use into
    account: variances are those of balanced analyses of variance. Restricted likelihoods compare models with the
    same fixed effects only.

    Without priors it uses none; with priors (given to the model) it maximises the posterior of the hyperparameters,
    densities as stated. Singular fits end at the border and say which effect has no variance.

    Raises
    ------
    Unsupported
        By `run`, for other families.

    References
    ----------
    Patterson & Thompson, Biometrika 58 (1971). Bates, Mächler, Bolker & Walker, J. Stat. Software 67(1) (2015).

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> fit = bayou.fit("score ~ ses + (ses | school)", school, engine="reml", seed=1)
    >>> fit.fixed_effects["estimate"].round(2).to_dict()
    {'Intercept': 48.06, 'ses': 2.33}
    """

    name: ClassVar[str] = "reml"
    maximises: ClassVar[bool] = True

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        return fitted(model, self, True, rng)

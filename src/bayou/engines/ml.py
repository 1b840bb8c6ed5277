"""Maximum likelihood for Gaussian mixed models."""

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
class ML(Engine):
    """Maximum likelihood for a Gaussian response with identity link.

    Group coefficients are integrated out, fixed effects and covariances maximised.

    Without priors it uses none; with priors (given to the model) it maximises the posterior of the hyperparameters,
    densities as stated. Singular fits end at the border and say which effect has no variance.

    Raises
    ------
    Unsupported
        By `run`, for other families.

    References
    ----------
    Bates, Mächler, Bolker & Walker, J. Stat. Software 67(1) (2015).

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> fit = bayou.fit("score ~ ses + (ses | school)", school, engine="ml", seed=1)
    >>> fit.fixed_effects["estimate"].round(2).to_dict()
    {'Intercept': 48.06, 'ses': 2.33}
    """

    name: ClassVar[str] = "ml"
    maximises: ClassVar[bool] = True

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        return fitted(model, self, False, rng)

"""The Laplace approximation of the marginal likelihood, maximised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou.conditional.choice import likelihood_of
from bayou.engines.base import Engine
from bayou.engines.marginal.generic import maximised
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class Laplace(Engine):
    """Maximum of the marginal likelihood by Laplace's approximation, for any family.

    The group coefficients are integrated out around their mode, with the observed curvature there; for a Gaussian
    response this is exact. The gradient is analytic, third derivatives of the log density included.

    Parameters
    ----------
    reml
        Integrate the fixed effects out too, under a flat prior: less bias in variances that few levels tell of.

    Raises
    ------
    Unsupported
        By `run`, for one dispersion per level (``sigma_by``) of a family that is not Gaussian.

    References
    ----------
    Breslow & Clayton, JASA 88 (1993). Skaug & Fournier, Computational Statistics & Data Analysis 51 (2006).

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(formula, clinic, family="binomial", engine="laplace", seed=1)
    >>> round(-2 * fit.log_likelihood, 4)
    74.2012
    """

    name: ClassVar[str] = "laplace"
    maximises: ClassVar[bool] = True
    reml: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.reml, (bool, np.bool_)):
            raise Unsupported(f"reml={self.reml!r} is not known: Laplace takes reml=True or reml=False.")

    def check(self, model: Model) -> None:
        """Refuse what `run` cannot take."""
        if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
            raise Unsupported(
                f"Laplace takes one {model.family.dispersion} for all rows; sigma_by= gives a {model.family.name} "
                "response several. Leave sigma_by out, or use engine='metropolis'."
            )
        if self.reml and model.priors_given and len(model.working.codes):
            raise Unsupported(
                "Laplace(reml=True) integrates over the fixed effects, which takes priors that are Normal or flat; "
                "this model has others. Use Laplace(), which maximises over them."
            )

    @property
    def method(self) -> str:
        """As printed."""
        return "Laplace (REML)" if self.reml else "Laplace"

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        self.check(model)
        if model.design.structured:
            from bayou.engines.marginal.field_result import fitted_field  # loaded for such models alone

            return fitted_field(model, self, self.reml, rng, method=self.method)
        likelihood = likelihood_of(model, self.reml, model.priors_given)
        return maximised(model, self, likelihood, rng, method=self.method)

"""Which road a Gaussian model takes to its maximum: sums alone where they are enough, the rows otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.conditional.choice import likelihood_of
from bayou.engines.marginal.generic import maximised
from bayou.engines.marginal.profiled import profiled
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior


def fitted(model: Model, engine: Engine, restricted: bool, rng: np.random.Generator) -> Posterior:
    """Maximise the likelihood, or the restricted one, of a Gaussian model.

    Raises
    ------
    Unsupported
        For another family or link, or awkward priors that REML cannot integrate over.
    """
    name = "REML" if restricted else "ML"
    if model.family.name != "gaussian" or model.family.link.name != "identity":
        raise Unsupported(
            f"{name} needs a Gaussian response with identity link; this model has family {model.family.name} with link "
            f"{model.family.link.name}. Use engine='laplace'" + (", or Laplace(reml=True)." if restricted else ".")
        )
    priors = model.priors_given
    if restricted and priors and len(model.working.codes):
        raise Unsupported(
            "REML integrates over the fixed effects, which takes priors that are Normal or flat; this model has "
            "others. Use engine='ml', which maximises over them, or engine='gibbs'."
        )
    design = model.design
    if design.structured:
        from bayou.engines.marginal.field_result import fitted_field  # loaded for such models alone

        return fitted_field(model, engine, restricted, rng, method=name, given=True)
    if priors or model.dispersion_known or len(design.sigma_levels) > 1 or model.structure.by_rows(design.n):
        likelihood = likelihood_of(model, restricted, priors)
        return maximised(model, engine, likelihood, rng, method=name, given=True)
    return profiled(model, engine, restricted, rng)

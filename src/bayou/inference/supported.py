"""Which fits have a covariance that is a sum of components, and those components from the estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.marginal.natural import natural_rows
from bayou.errors import Unsupported
from bayou.posterior import factor_names

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Estimates

__all__ = ["covariances", "is_linear_mixed", "require_linear_mixed"]


def is_linear_mixed(model: Model, found: Estimates | None) -> bool:
    """Whether a fit is one of ML or REML with a single residual sd and without priors."""
    return (
        found is not None
        and found.method in ("ML", "REML")
        and not found.priors_used
        and model.family.name == "gaussian"
        and not model.dispersion_known
        and len(model.design.sigma_levels) == 1
        and not model.design.structured
    )


def require_linear_mixed(model: Model, found: Estimates | None, what: str) -> Estimates:
    """Return the estimates of such a fit, refuse others.

    Raises
    ------
    Unsupported
        Saying which part of the fit is in the way.
    """
    if found is not None and is_linear_mixed(model, found):
        return found
    if found is None:
        why = "this fit was sampled"
    elif found.method not in ("ML", "REML"):
        why = f"this fit is by {found.method}"
    elif model.design.structured:
        why = "this model has structured effects"
    elif found.priors_used:
        why = "this fit used priors"
    elif model.dispersion_known:
        why = "measured() gives each row a residual sd that is known"
    else:
        why = "sigma_by= gives this fit several"
    raise Unsupported(
        f"{what} degrees of freedom belong to Gaussian models with one residual sd to estimate, fitted by "
        f"engine='reml' or 'ml' without priors; {why}. Use method='wald'."
    )


def covariances(model: Model, found: Estimates) -> tuple[list[Array], float]:
    """Return the estimated covariance (p, p) of each grouping factor, in the order of the design, and sigma."""
    groupings = model.design.groupings
    printed = factor_names([g.name for g in groupings], model.family.dispersion)
    sds = {f"sd_{printed[g.name]}": np.zeros(g.Z.shape[1]) for g in groupings}
    cors = {f"cor_{printed[g.name]}": np.eye(g.Z.shape[1]) for g in groupings}
    sigma = 1.0
    for row, value in zip(natural_rows(model, True), found.estimate[found.fixed :], strict=True):
        if row.variable in sds:
            sds[row.variable][row.index] = value
        elif row.variable in cors:
            i, j = row.index
            cors[row.variable][i, j] = cors[row.variable][j, i] = value
        else:
            sigma = float(value)
    out = []
    for g in groupings:
        sd, cor = sds[f"sd_{printed[g.name]}"], cors[f"cor_{printed[g.name]}"]
        out.append(np.asarray(cor * np.outer(sd, sd)))
    return out, sigma

"""The prior density of the hyperparameters at given factors: what a maximised posterior adds to the likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_block, log_density_dispersion
from bayou.priors.covariance import log_sd_jacobian

if TYPE_CHECKING:
    from bayou.model import Model


def log_prior(model: Model, order: tuple[int, ...], T: Array, dispersion: Array) -> float:
    """Return log p(sds, correlations, dispersions): densities of what the priors speak of, no Jacobian.

    Parameters
    ----------
    model
        The model with its bound priors.
    order
        Grouping factors by position.
    T
        Factors (K, p, p) of the covariances.
    dispersion
        Those that are estimated, (S,): of sigma, 1/√phi or 1/√shape the density is taken.
    """
    bound = model.bound
    position = {g: k for k, g in enumerate(order)}
    total = 0.0
    for block in bound.blocks:
        L = T[position[block.grouping]][np.ix_(block.columns, block.columns)]
        Sigma = L @ L.T
        # towards a singular covariance densities of sds stay finite and those of matrices vanish
        Sigma += 1e-14 * np.diag(np.maximum(np.diag(Sigma), 1e-14))
        total += log_density_block(block, Sigma) + float(log_sd_jacobian(np.sqrt(np.diag(Sigma))))
    for s in dispersion:
        scale = float(s) if model.family.dispersion == "sigma" else float(s) ** -0.5
        total += float(log_density_dispersion(bound, scale))
    return total

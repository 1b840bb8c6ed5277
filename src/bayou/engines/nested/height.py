"""The height of the log density of the hyperparameters, by Laplace's approximation of the likelihood."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.field import GaussianField

__all__ = ["height"]


def height(field: GaussianField, theta: Array) -> float:
    """Return log p(y | theta) + log p(theta); minus infinity where there is no mode of the coefficients to be found.

    It leaves the field placed at theta (d,).
    """
    if not np.isfinite(theta).all() or not field.place(theta):
        return -np.inf
    total = field.value() + field.log_prior(theta)
    return total if np.isfinite(total) else -np.inf

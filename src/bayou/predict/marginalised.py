"""Rows without themselves given the hyperparameters alone: all coefficients are integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field
from bayou.engines.nested.criteria import Cavity
from bayou.engines.nested.likelihood import Likelihood
from bayou.engines.nested.survey import look
from bayou.errors import Unsupported
from bayou.predict.coordinates import hyperparameters

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["row_densities"]

MOST, FEWEST = 400, 50  # hyperparameters, by the size of the model
EASY, LARGEST = 4000, 50_000  # rows and coefficients up to which there are the most, and any


def row_densities(posterior: Posterior) -> tuple[Array, bool] | None:
    """Return log p(y_i | all other rows, theta) (M, rows as given) at draws of theta, and whether it is exact.

    It is for a Gaussian response with identity link; otherwise from the Laplace approximation of the coefficients with
    a corrected mean, out of which each row's likelihood is taken again (Rue, Martino & Chopin 2009; Vehtari, Mononen,
    Tolvanen, Sivula & Winther 2016). NaN where that fails. None for models that have no such approximation.
    """
    try:
        field, rows = Field(posterior.model), Likelihood(posterior.model)
    except Unsupported:
        return None
    size = posterior.model.design.n + len(field.x)
    if size > LARGEST:
        return None
    count = int(np.clip(MOST * EASY / size, FEWEST, MOST)) // posterior.chains + 1
    places = np.unique(np.linspace(0, posterior.size - 1, count).astype(int))
    thetas = hyperparameters(field, posterior, places)
    thetas = thetas.reshape(-1, thetas.shape[-1]) if field.size else np.zeros((1, 0))
    given = rows.given()
    out = np.full((len(thetas), given.n), np.nan)
    for k, theta in enumerate(thetas):
        node = look(field, rows, theta, np.zeros(field.size), "variational", -np.inf)
        if not isinstance(node, float):
            cavity = Cavity(given, given.at(node))
            out[k] = np.where(cavity.failed & (not rows.gaussian), np.nan, cavity.log_cpo)
    found = out[~np.isnan(out).all(axis=1)]
    return (found, rows.gaussian) if len(found) >= FEWEST // 2 or not field.size else None

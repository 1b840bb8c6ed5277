"""Starting values that lie inside every prior's support and on the scale of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.effects.iid import INVERSE_WISHART, STANDARD_DEVIATIONS, BlockTable
from bayou.priors.codes import OF_PRECISION, OF_VARIANCE, UNIFORM

if TYPE_CHECKING:
    from bayou.model import Model


def response_scale(model: Model) -> float:
    """Return a typical size of the linear predictor: sd(y) for an identity link, else 1."""
    if model.family.link.name != "identity":
        return 1.0
    s = float(np.std(model.design.y - model.design.offset))
    return s if s > 0.0 else 1.0


def inside(value: float, code: int, parameters: Array) -> float:
    """Move a standard deviation into the support of a bounded prior on it, its square or its inverse square."""
    low, high = float(parameters[0]), float(parameters[1])
    of = {UNIFORM: 1.0, OF_VARIANCE + UNIFORM: 2.0, OF_PRECISION + UNIFORM: -2.0}.get(code)
    if of is None or low < value**of < high:
        return value
    return float((0.5 * (low + high)) ** (1.0 / of))


def starting_factors(model: Model, blocks: BlockTable, spread: float) -> Array:
    """Diagonal factors L (B, p, p): half of the response's spread divided by the column's size, times ``spread``."""
    L = np.zeros((*blocks.A.shape, blocks.A.shape[1]))
    s = response_scale(model)
    for r, bound in enumerate(model.bound.blocks):
        Z = model.design.groupings[bound.grouping].Z
        for k, column in enumerate(bound.columns):
            size = float(np.sqrt(np.mean(Z[:, column] ** 2)))
            value = 0.5 * spread * s / (size if size > 0.0 else 1.0)
            if blocks.kind[r] == INVERSE_WISHART:
                # its support has no edge, but a start far from the scale matrix takes long to return
                value = min(value, 10.0 * float(np.sqrt(blocks.scale[r, k, k])))
            if blocks.kind[r] == STANDARD_DEVIATIONS:
                value = inside(value, int(blocks.codes[r, k]), blocks.parameters[r, k])
            L[r, k, k] = value
    return L


def starting_scale(model: Model, spread: float) -> Array:
    """Residual sds (levels of sigma,): sd(y), or 1 where the rows' own standard errors are known."""
    levels = len(model.design.sigma_levels)
    if model.dispersion_known:
        return np.ones(levels)
    value = spread * response_scale(model)
    value = inside(value, int(model.bound.dispersion_code), np.asarray(model.bound.dispersion_parameters))
    return np.full(levels, value)

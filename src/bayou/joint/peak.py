"""The mode of the hyperparameters, and of the coefficients given them: what maps, starts and choices begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field
from bayou.errors import Unsupported
from bayou.priors.codes import UNIFORM

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Peak", "find_peak"]

STEP = 0.02  # of the differences of gradients
WIDEST, NARROWEST = 2.0, 1e-3  # of the sd of a hyperparameter along an axis


@dataclass(frozen=True, eq=False)
class Peak:
    """Where the posterior has its bulk, as far as a Gaussian can say.

    Attributes
    ----------
    theta, covariance
        Internal coordinates (d,) at the mode of their marginal posterior, and the inverse curvature (d, d) there.
    coefficients, beta
        The mode (N,) given theta, as `bayou.conditional.field.component.Component` has it, and the working (P,).
    weight
        Curvature of each row (n,), at least zero.
    gradient
        Slope of the log likelihood of each row (n,).
    field
        Placed at theta: what else there is to ask.
    """

    theta: Array
    covariance: Array
    coefficients: Array
    beta: Array
    weight: Array
    gradient: Array
    field: Field


def find_peak(model: Model) -> Peak | None:
    """Find the mode by BFGS on the Laplace approximation of p(y | theta) p(theta); None where there is none."""
    try:
        field = Field(model, priors=bool(np.all(model.working.codes == UNIFORM)))
    except Unsupported:
        return None
    theta = np.array(field.initial)
    covariance = np.zeros((0, 0))
    if field.size:
        found = _climb(field, theta)
        if found is None:
            return None
        theta = found
        covariance = _inverse_curvature(field, theta)
    if not field.place(theta):
        return None
    at, x = field.layout.latent, np.array(field.x)
    weight = np.maximum(field.point.weight, 0.0)
    return Peak(theta, covariance, x[:at], x[at:], weight, np.array(field.point.gradient), field)


def _climb(field: Field, start: Array) -> Array | None:
    from scipy.optimize import minimize  # what loads it is not needed for the density itself

    low, high = field.limits
    for begin in (start, start - 1.0, start + 1.0):
        if not np.isfinite(field.evaluate(begin)[0]):
            continue
        found = minimize(
            field.evaluate, begin, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 200, "ftol": 1e-9, "gtol": 1e-3},
        )  # fmt: skip
        if np.isfinite(found.fun):
            return np.asarray(found.x)
    return None


def _inverse_curvature(field: Field, theta: Array) -> Array:
    """Return the inverse Hessian, its eigenvalues held between bounds: a map needs no more than the right scale."""
    d = len(theta)
    H = np.empty((d, d))
    for k in range(d):
        step = np.zeros(d)
        step[k] = STEP
        H[k] = (field.evaluate(theta + step)[1] - field.evaluate(theta - step)[1]) / (2.0 * STEP)
    H = np.where(np.isfinite(H), H, 0.0)
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    values = np.clip(values, WIDEST**-2, NARROWEST**-2)
    return np.asarray((vectors / values) @ vectors.T)

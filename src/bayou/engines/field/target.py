"""The density that the chain of (theta, z) has: coefficients x = mode(theta) + root(theta) z around their own Gaussian.

With z standard normal a priori the joint density is

    p(theta) N(z; 0, I) exp(r(theta, x)),   r = log p(y, x | theta) − log of the Gaussian's density at x,

because the Jacobian of z -> x is what the Gaussian's density divides by; normals that constraints leave over do no
harm, they are independent of all. Where the Gaussian is exact, r is log p(y | theta) whatever z: theta then moves on
its marginal posterior. Sources: Christensen, Roberts & Sköld, JCGS 15 (2006); Murray, Adams & MacKay, AISTATS 9
(2010); Deligiannidis, Doucet & Pitt, JRSS B 80 (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.field import Field
from bayou.priors.codes import UNIFORM

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Seat", "Target", "field_of"]

WHOLE = slice(None)


def field_of(model: Model) -> Field:
    """Return the Gaussian of a model; priors of the fixed effects that it cannot hold are left to `Target`."""
    return Field(model, priors=bool(np.all(model.working.codes == UNIFORM)))


@dataclass
class Target:
    """What all chains of a model share.

    Attributes
    ----------
    model, field
        The model and its Gaussian; chains work on clones.
    start
        Coefficients (N,) from which every mode is searched, so that it is a function of theta alone.
    """

    model: Model
    field: Field
    start: Array

    def __post_init__(self) -> None:
        family = self.model.family
        plain = not len(self.model.working.codes)
        self.exact = family.name == "gaussian" and family.link.name == "identity" and plain
        self.outside = not self.field.priors  # the fixed effects have priors of their own
        self.latent = self.field.columns["beta"].start
        self.low, self.high = self.field.limits

    def clipped(self, theta: Array, part: slice = WHOLE) -> Array:
        """Return (a part of) theta within the limits beyond which the likelihood no longer sees it move."""
        return np.asarray(np.clip(theta, self.low[part], self.high[part]))

    def beta_density(self, x: Array) -> float:
        """Return the log prior density of fixed effects that the Gaussian takes as flat; zero where it does not."""
        if not self.outside:
            return 0.0
        return float(log_density_beta(self.model.bound, self.model.working.to_printed @ x[self.latent :]))


class Seat:
    """One value of (theta, z): a Field placed there, the coefficients, and the density.

    Attributes
    ----------
    theta, z, x
        Where it is; z and x are None where the Gaussian is exact and coefficients are drawn afresh.
    ratio, prior
        r(theta, x) and log p(theta).
    """

    def __init__(self, target: Target) -> None:
        self.target, self.field = target, target.field.clone()
        self.theta: Array = np.empty(0)
        self._placed: Array | None = None
        self.z: Array = np.empty(0)
        self.x: Array = np.empty(0)
        self.ratio = self.prior = -math.inf

    @property
    def density(self) -> float:
        """The log density of (theta, z), but for the normals'."""
        return self.ratio + self.prior

    def _place(self, theta: Array) -> bool:
        self.theta = np.array(theta)
        self.ratio = self.prior = -math.inf
        if not np.isfinite(self.theta).all():
            return False
        self.prior = float(self.field.log_prior(self.theta))
        if not self.prior > -math.inf:
            return False
        if self._placed is None or not np.array_equal(self._placed, self.theta):
            # from the same start whatever was before; a Field that stands there already keeps its mode
            self._placed = None
            self.field.x[:] = self.target.start
        if self.field.place(self.theta):
            self._placed = self.theta
        return self._placed is not None

    def sit(self, theta: Array, z: Array) -> bool:
        """Go to (theta, z); False where the density is zero or cannot be computed."""
        if not self._place(theta):
            return False
        if self.target.exact:
            self.ratio = float(self.field.value())
        else:
            try:
                self.x = self.field.transform(z[None])[0]
            except np.linalg.LinAlgError:  # the constraints lost definiteness to rounding
                return False
            self.z, self.ratio = z, self.log_ratio(self.x)
        return math.isfinite(self.density)

    def sit_with(self, theta: Array, x: Array, normals: Array) -> bool:
        """Go to (theta, x), with z drawn given x; ``normals`` (dimension,) decide among those that x allows."""
        if not self._place(theta):
            return False
        try:
            self.x, self.z = x, self.field.whiten(x, normals)
        except np.linalg.LinAlgError:
            return False
        self.ratio = self.log_ratio(x)
        return math.isfinite(self.density)

    def log_ratio(self, x: Array) -> float:
        """Return r(theta, x) at the placed theta."""
        found = float(self.field.log_ratio(x[None])[0])
        return found + self.target.beta_density(x) if math.isfinite(found) else -math.inf

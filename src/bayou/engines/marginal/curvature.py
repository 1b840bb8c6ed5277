"""Covariances of the estimates of a profiled model, computed when they are first asked for."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.joint import Conditional
from bayou.engines.marginal.climb import Maximum, hessian, inverse_of_free
from bayou.engines.marginal.natural import jacobian, natural_rows, natural_values, to_scale
from bayou.engines.marginal.profile import Profile
from bayou.engines.marginal.singular import free


class ProfileUncertainty:
    """Covariance of the working fixed effects, and of the hyperparameters on their scale.

    With the relative factors psi and s = log sigma, the Hessian of minus the log likelihood has the profile's as its
    Schur complement, 2 n in s, and 2 sum(score x mode)/sigma² between them.

    Parameters
    ----------
    of, found
        The profile, and its maximum.
    scale
        The residual sd.
    joint
        The Gaussian of the coefficients there.
    exponent
        The printed dispersion is proportional to the residual sd to this power; 0 where the sd is known.
    apart
        Whether a dispersion is estimated by other means; its error is not known then.
    """

    def __init__(
        self, of: Profile, found: Maximum, scale: float, joint: Conditional, exponent: float, apart: bool = False
    ) -> None:
        self.of, self.found, self.scale, self.joint = of, found, scale, joint
        self.exponent, self.apart = exponent, apart
        self._kept: tuple[Array, Array] | None = None

    def __call__(self) -> tuple[Array, Array]:
        """Return the covariance (P, P) of the working fixed effects and that of the hyperparameters on their scale."""
        if self._kept is None:
            own = self.of.again()  # the result's factor stays at the maximum
            H = hessian(own.evaluate, self.found.psi, self.found.H)
            self._kept = self.joint.working_covariance, self._hyperparameters(own, H)
        return self._kept

    def _hyperparameters(self, own: Profile, H: Array) -> Array:
        """Return the covariance of the hyperparameters on their scale, from the profile's Hessian (d, d)."""
        psi, sums = self.found.psi, own.sums
        d = len(psi)
        inverse = inverse_of_free(H, free(own.numbers, psi))
        whole = np.zeros((d + 1, d + 1))
        whole[:d, :d] = inverse
        if not sums.known:
            n = sums.rows - (len(sums.border.linear) if own.restricted else 0)
            mixed = 2.0 * own.score_moments() / self.scale**2
            whole[d, :d] = whole[:d, d] = -inverse @ mixed / (2.0 * n)
            whole[d, d] = 1.0 / (2.0 * n) + mixed @ inverse @ mixed / (2.0 * n) ** 2
        return self._on_their_scale(own, whole)

    def _on_their_scale(self, own: Profile, whole: Array) -> Array:
        """Bring the covariance (d + 1, d + 1) of the relative factors and log sigma to what is printed."""
        psi, sums = self.found.psi, own.sums
        rows = natural_rows(own.model, not sums.known or self.apart)

        def natural(x: Array) -> Array:
            scale = np.exp(x[-1])
            T = scale * own.numbers.factors(x[:-1])
            return to_scale(natural_values(own.model, own.order, T, np.array([scale**self.exponent]), rows), rows)

        J = jacobian(natural, np.append(psi, np.log(self.scale)))
        spread = J @ whole @ J.T
        if self.apart:
            spread[-1] = spread[:, -1] = np.nan
        return np.asarray(spread)

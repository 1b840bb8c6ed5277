"""The Laplace approximation of some groups of a model whose fixed effects are shared with others.

Given the fixed effects the groups of one factor are independent: the mode of all coefficients, the determinant and the
gradient follow from sums over parts of the groups, of P and P x P numbers, and from a system of the size of the fixed
effects that is solved where the sums are added. The steps are those of `bayou.conditional.mode.find_mode` and
`bayou.conditional.adjoint.gradient`, cut where the parts meet; `bayou.cluster.joint` leads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.adjoint import assembled, dispersion_gradient, leverages, turned
from bayou.conditional.laplace import Laplace
from bayou.conditional.mode import derivatives, equations, go, go_back, penalty, promise, set_eta, turn
from bayou.conditional.rows import colour, predictor, whiten
from bayou.linalg.covariances import second_moments, variances
from bayou.linalg.whitened import backward_levels, eliminate, forward_levels
from bayou.packed import part

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["PartialLaplace"]


class PartialLaplace(Laplace):
    """The part of an approximation that belongs to the groups of one model, which are some of a larger one's.

    Each method is a step of all parts at once: it takes what the sums of the one before it gave, and returns numbers
    that add up over the parts.

    Parameters
    ----------
    model
        Of these groups' rows, in the working coordinates of the whole, with one grouping factor.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, integrated=True)
        system, point, work = self._packed
        self._rows, self._arrow, self._border, self._factor = (
            part(system, name) for name in ("rows", "arrow", "border", "factor")
        )
        self._inverse = part(work, "inverse")
        self._loglik = 0.0
        P = len(self._linear)
        self._lower = np.tril_indices(P)
        self._right, self._rest = np.zeros_like(self.point.u), np.zeros(P)
        self._b, self._coloured = np.zeros_like(self.point.u), np.zeros(P)

    # ---- the mode --------------------------------------------------------------------------

    def begin(self, T: Array, dispersion: Array, rest: Array) -> Array:
        """Go to a covariance T T' (p, p), dispersions (S,) and fixed effects (P,), u where it stood.

        Returns log likelihood and penalty (2,) there.
        """
        self.T[0], self.dispersion[:] = T, dispersion
        if self.gaussian and self.levels:
            self.system.weights[:] = self.data.weights / np.square(dispersion)[self.data.sigma]
        self.point.fixed[:] = self.data.offset
        self.point.rest[:] = rest
        system, point, _ = self._packed
        set_eta(system, point, self.T, self.q)
        return self._reached(derivatives(system, point, self.row_dispersion))

    def _reached(self, loglik: float) -> Array:
        self._loglik = float(loglik)
        return np.array([loglik, penalty(self._border, self.point.u, self.point.rest, self.n)])

    def clear(self) -> None:
        """Start the next search at zero."""
        self.forget()

    def eliminated(self, clip: bool) -> Array:
        """Return log determinant, right-hand side (P,) and Schur complement (lower triangle) of the working equations.

        NaN where they are not definite.
        """
        system, point, _ = self._packed
        equations(system, point, self.n, self.q, clip)
        ok, log_det, _ = eliminate(self._arrow, self._border, 1.0, self.T, self.n, self._factor)
        factor = self.system.factor
        return np.concatenate([[log_det if ok else np.nan], factor.v, factor.S[self._lower]])

    def towards(self, rest: Array) -> Array:
        """Solve for these groups, the new fixed effects (P,) given.

        Returns this part of twice the gain that the step promises, and how many rows have a negative curvature (2,).
        """
        system, point, _ = self._packed
        self.point.rest_new[:] = rest
        self.point.u_new[:] = self.system.factor.u
        backward_levels(self._arrow, self._factor, self.n, self.point.u_new, self.point.rest_new)
        gain = promise(system, point, self.T, self.n, self.q)
        return np.array([gain, float(np.count_nonzero(self.point.curvature < 0.0))])

    def turn(self) -> None:
        """Get ready to go along the step."""
        turn(self._packed[1], self.n)

    def go(self, length: float) -> Array:
        """Go a multiple of the step; returns log likelihood and penalty (2,) there."""
        system, point, _ = self._packed
        return self._reached(go(system, point, self.row_dispersion, self.n, length))

    def go_back(self, length: float) -> None:
        """Take the coefficients back."""
        go_back(self._packed[1], self.n, length)

    def exactly(self) -> Array:
        """Return the log likelihood (1,) at the mode, every constant in."""
        self.point.facts[0] = self._loglik
        return np.array([self.likelihood()])

    # ---- at the mode -----------------------------------------------------------------------

    def spread(self, V: Array) -> None:
        """Compute each row's leverage, the covariance (P, P) of the fixed effects given."""
        self.work.inverse.V[:] = V
        leverages(
            self._rows, self._arrow, self._border, self._factor, self.n, self.q, self.T, self._inverse, self.work.z,
            self.work.leverage,
        )  # fmt: skip

    def turned(self) -> Array:
        """Return the right-hand side (P,) of how the log determinant moves the fixed effects; after `spread`."""
        system, point, work = self._packed
        turned(system, point, work, self.T, self.row_dispersion, self.q)
        forward_levels(self._arrow, self._factor, self.n, self.work.v, self.work.v_rest)
        return self.work.v_rest.copy()

    def slopes_of(self, rest: Array) -> Array:
        """Return the gradient in T (p p,) and in the logarithms of the dispersions (S,), that move (P,) given."""
        system, point, work = self._packed
        self.work.v_rest[:] = rest
        backward_levels(self._arrow, self._factor, self.n, self.work.v, self.work.v_rest)
        second_moments(self._arrow, self._border, self._factor, self.n, self._inverse, self.work.moments)
        assembled(system, point, work, self.T, self.q)
        if not self.levels:
            return self.work.T.ravel()
        dispersion_gradient(system, point, work, self.row_dispersion)
        sigma = self.data.sigma if self.gaussian else np.zeros(len(self.data.y), dtype=np.int64)
        return np.concatenate([self.work.T.ravel(), np.bincount(sigma, self.work.by_level, self.levels)])

    def coefficients(self) -> Array:
        """Return the groups' coefficients (J p,) at the mode."""
        colour(self._border, self.T, self.point.u, self.point.rest, self._b, self._coloured)
        return self._b.ravel().copy()

    def variances_of(self, V: Array) -> Array:
        """Return their variances (J p,), the covariance (P, P) of the fixed effects given."""
        self.work.inverse.V[:] = V
        parts = self._arrow, self._border, self._factor, self.n, self._inverse, self.T
        variances(*parts, self._b, self._coloured)
        return self._b.ravel().copy()

    def forward(self, right: Array) -> Array:
        """Return what a right-hand side (J, p) or (J p,) leaves for the fixed effects (P,)."""
        self._right[:] = right.reshape(self._right.shape)
        self._rest[:] = 0.0
        whiten(self._border, self.T, self._right, self._rest)
        forward_levels(self._arrow, self._factor, self.n, self._right, self._rest)
        return self._rest.copy()

    def back(self, rest: Array) -> Array:
        """Return the solution (J p,) for these groups, that of the fixed effects (P,) given; after `forward`."""
        self._rest[:] = rest
        backward_levels(self._arrow, self._factor, self.n, self._right, self._rest)
        colour(self._border, self.T, self._right, self._rest, self._b, self._coloured)
        return self._b.ravel().copy()

    def seen(self) -> Array:
        """Return how the last solution of `back` moves the linear predictor (n,)."""
        eta = np.zeros(len(self.data.y))
        predictor(self._rows, self._b, self._coloured, self.q, eta)
        return eta

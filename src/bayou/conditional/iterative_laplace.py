"""The Laplace approximation past the memory of any factor: conjugate gradients, and log determinants from probes.

The mode is found by the same damped Newton steps, each solved by preconditioned conjugate gradients on the Schur
complement (`unformed`). Its log determinant is estimated by stochastic Lanczos quadrature, the covariances that the
gradient needs by the same probes (Hutchinson), which stay the same from one theta to the next: value and gradient are
smooth in theta. They are each an estimate, and the value comes with a standard error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.adjoint import assembled, new_adjoint, turned
from bayou.conditional.conjugate import NOTHING, NOTHING2, Equations
from bayou.conditional.images import images
from bayou.conditional.iterative_joint import IterativeConditional
from bayou.conditional.joint import Conditional
from bayou.conditional.laplace import Laplace
from bayou.conditional.mode import (
    FLAT,
    FOUND,
    LIMIT,
    NOT_DEFINITE,
    NOT_FOUND,
    ROUNDING,
    System,
    derivatives,
    new_point,
    penalty,
    promise,
    search,
    set_eta,
    weigh,
)
from bayou.conditional.rows import Sorted, sorted_rows
from bayou.linalg.covariances import Inverse
from bayou.linalg.schur import Factor
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model

PROBES = 16
SETTLED = 1e-13  # twice the gain that a Newton step promises, at a mode
NOISE = 1e-3  # of the value beside its gradient, each an estimate of its own, in log likelihood


class IterativeLaplace(Laplace):
    """The approximation for one model by conjugate gradients; see `Laplace`.

    Parameters
    ----------
    model, integrated, priors, data
        As in `Laplace`.
    probes
        Vectors of random signs: the standard error goes down with the root of their number.

    Attributes
    ----------
    standard_error
        Of the log marginal likelihood last computed.
    """

    def __init__(
        self,
        model: Model,
        integrated: bool = False,
        priors: bool = False,
        data: Sorted | None = None,
        probes: int = PROBES,
    ) -> None:
        self.probes, self.standard_error = probes, math.nan
        super().__init__(model, integrated, priors, data)
        self.settled = SETTLED
        self.noise = NOISE

    def _sorted(self) -> Sorted:
        return sorted_rows(self.model, sums=False)

    def again(self, integrated: bool) -> Laplace:
        """Return the same approximation with scratch of its own, the fixed effects integrated out or not."""
        return type(self)(self.model, integrated, self.priors, self.data, self.probes)

    def _allocate(self, P: int) -> None:
        data = self.data
        border = data.border
        if not (self.priors and self.integrated):
            border = border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
        n, (J, p), R = len(data.y), data.arrow.a.shape, len(data.arrow.d)
        q = data.rows.others.shape[1]
        self.n, self.q = (R, q) if self.integrated else (R - P, q - P)
        factor = Factor(np.zeros((0, p, p)), NOTHING, np.zeros((0, p)), NOTHING2, NOTHING)
        self.system = System(
            self.code, data.rows, data.y, data.trials, data.weights.copy(), data.arrow, border, factor
        )
        K = self.numbers.shape
        shapes: dict[str, Any] = {"n": n, "Jp": (J, p), "R": R, "K": K}
        self.point = new_point(shapes)
        self.work = new_adjoint(shapes, Inverse(*(NOTHING2 for _ in Inverse._fields)), p + q)
        self.equations = Equations(data, border, self.n, self.probes)
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self.T = np.zeros(K)
        self._start(border)

    # ---- the mode --------------------------------------------------------------------------

    def _fill(self, clip: bool) -> bool:
        """Take in the equations of the present weights."""
        weigh(self._packed[1], clip)
        return self.equations.fill(self.T, self.point.weight, self.point.working)

    def _find(self) -> int:
        system, point, _ = self._packed
        at = self.point
        set_eta(system, point, self.T, self.q)
        value = derivatives(system, point, self.row_dispersion)
        last = math.inf
        for _ in range(LIMIT):
            if not self._fill(True):
                return NOT_DEFINITE
            at.rest_new[:] = at.rest  # a good start for the iterations
            reached = self.equations.modes(at.u_new, at.rest_new)
            gain = promise(system, point, self.T, self.n, self.q)
            if not reached or not math.isfinite(gain):
                return NOT_FOUND
            if gain < self.settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last):
                if np.any(at.curvature < 0.0) and not self._fill(False):
                    return NOT_DEFINITE
                at.facts[:] = value, penalty(packed(self.system.border), at.u, at.rest, self.n), math.nan, 0.0
                return FOUND
            last = gain
            value = search(system, point, self.row_dispersion, self.n, gain, value)
        return NOT_FOUND

    # ---- what the probes tell ----------------------------------------------------------------

    def value(self) -> float:
        """Return the estimate of the log marginal likelihood at the mode that `place` found."""
        self.equations.probe()
        self.point.facts[2] = self.equations.log_determinant
        self.standard_error = 0.5 * self.equations.standard_error
        return super().value()

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that the value is an estimate, and how good."""
        return (
            f"log p(y) is an estimate by conjugate gradients and {self.probes} random probes: its standard error is "
            f"{self.standard_error:.2g}. Prediction errors of group coefficients come from the same probes.",
        )

    def _fill_adjoint(self) -> None:
        system, point, work = self._packed
        self.equations.estimate(self.T, self.work.moments, self.work.leverage)
        turned(system, point, work, self.T, self.row_dispersion, self.q)
        if self.work.t.any():  # a quadratic log density has no third derivative
            self.equations.solve(self.work.v, self.work.v_rest)
        assembled(system, point, work, self.T, self.q)

    def _covariances(self) -> Array:
        out = np.zeros(self.numbers.shape)
        self.equations.estimate(self.T, out)
        return out

    def information(self) -> Array:
        """Return the average information (d, d) of the covariance parameters at the mode; see `SparseLaplace`."""
        image, sides = images(self)
        d = len(image)
        out = 0.5 * (image * self.point.weight) @ image.T
        for a, (h, g) in enumerate(sides):
            v, v_rest = h.copy(), g.copy()
            self.equations.solve(v, v_rest)
            for b in range(d):
                out[a, b] -= 0.5 * (np.sum(sides[b][0] * v) + sides[b][1][: self.n] @ v_rest[: self.n])
        return np.asarray(0.5 * (out + out.T) * np.outer(self.numbers.unit, self.numbers.unit))

    # ---- from here to other rooms ----------------------------------------------------------

    def joint(self, given: bool = False) -> Conditional:
        """Return the joint Gaussian of all coefficients at the mode that `place` found last; see `Laplace.joint`."""
        value = self.value()
        P, R = len(self._linear), len(self.data.arrow.d)
        rest = self.point.rest.copy()
        if self.explicit and not given:
            rest[R - P :] = self.beta
        border = self.data.border if self.priors else self.system.border
        weigh(self._packed[1], False)
        return IterativeConditional(
            self.model, self.data, border, self.exact, self.point.weight.copy(), self.point.u, rest, value,
            self.beta if given else None, self.probes,
        )  # fmt: skip



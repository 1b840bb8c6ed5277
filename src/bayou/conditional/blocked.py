"""The Laplace approximation, and adaptive quadrature, over rows that lie in files: one pass for value and gradient.

Levels of one grouping factor are independent given the fixed effects and the covariance. So value and gradient are
sums over levels, each level's mode is found while its rows are at hand (`bayou.conditional.quadrature`, whose one node
is the Laplace approximation), and nothing of row size is kept beside the files.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.adjoint import new_adjoint
from bayou.conditional.chunks import Chunk, Chunks, empty_system
from bayou.conditional.hermite import hermite_grid
from bayou.conditional.information import average_information, new_averages
from bayou.conditional.joint import Conditional
from bayou.conditional.laplace import Laplace
from bayou.conditional.levels import FactorRows, Levels, new_level_work, new_levels
from bayou.conditional.mode import (
    FLAT,
    FOUND,
    LIMIT,
    NEAR,
    NOT_DEFINITE,
    NOT_FOUND,
    ROUNDING,
    System,
    new_point,
    penalty,
)
from bayou.conditional.parameters import parameters
from bayou.conditional.quadrature import quadrature
from bayou.conditional.rows import accumulate, colour, predictor, project
from bayou.errors import DataError, Unsupported
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.families.rows import LANES, dispersion_terms, row_dispersion, row_terms
from bayou.linalg.covariances import new_inverse
from bayou.linalg.schur import Arrow, new_factor
from bayou.linalg.whitened import factorise_whitened, modes
from bayou.packed import packed, part

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["BlockedLaplace"]


class BlockedLaplace(Laplace):
    """The approximation of one model whose rows lie in files; parameters and attributes as of `Laplace`.

    Parameters
    ----------
    model
        A model with one grouping factor.
    integrated
        Whether the fixed effects stand among the coefficients whose mode is looked for; the gradient of that
        approximation is not there.
    priors
        As of `Laplace`.
    chunks
        The rows, if they have been looked at already.
    nodes
        Of the quadrature, in each dimension; one is the Laplace approximation.

    Raises
    ------
    Unsupported
        For another number of grouping factors, and for Gaussian responses.
    """

    def __init__(
        self,
        model: Model,
        integrated: bool = False,
        priors: bool = False,
        chunks: Chunks | None = None,
        nodes: int = 1,
    ) -> None:
        self.model, self.integrated, self.priors = model, integrated, priors
        self.family, self.code = model.family, model.family.code
        if self.code in (GAUSSIAN_IDENTITY, GAUSSIAN_LOG):
            raise Unsupported(
                "Engines that maximise take Gaussian responses whose rows lie in files with an identity link alone, by "
                "their sums. Use engine='metropolis', or read the data into memory: stream=False."
            )
        self.gaussian, self.scale = False, 1.0
        self.chunks = Chunks(model) if chunks is None else chunks
        self.data = empty_system(model, self.chunks)
        self.numbers = parameters(model, self.data.order, self.scale)
        P = len(model.working.mean)
        self.X = np.zeros((0, P))  # of the rows; asked for its width
        self.beta_unit = 1.0 / np.where(self.sizes > 0.0, self.sizes, 1.0) if P else np.ones(0)
        self.levels = 0 if model.family.dispersion is None else 1
        self.explicit = 0 if integrated else P
        self.size = self.explicit + self.numbers.size + self.levels
        self.nodes = nodes
        self._grid = hermite_grid(nodes, self.numbers.shape[1])
        self._lay_out(P)

    @property
    def sizes(self) -> Array:
        """Root mean squares (P,) of the working columns."""
        working, fixed = self.model.working, self.model.design.moments.fixed
        mean, square = fixed.mean[working.order], np.square(fixed.rms[working.order])
        # of x − shift, without the square of a mean where it is the shift
        sd = np.square(fixed.sd[working.order])
        return np.sqrt(np.where(working.shift == 0.0, square, sd + np.square(mean - working.shift)))

    def _lay_out(self, P: int) -> None:
        data, border = self.data, self.data.border
        if not (self.priors and self.integrated):
            border = border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
        (J, p), R = data.arrow.a.shape, P
        self.n, self.q = (R, P) if self.integrated else (0, 0)
        none = np.zeros(0)
        factor = new_factor(data.arrow)
        self.system = System(self.code, data.rows, none, none, none, data.arrow, border, factor)
        shapes = {"n": 0, "Jp": (J, p), "R": R, "K": self.numbers.shape}
        self.point = new_point(shapes)
        self.work = new_adjoint(shapes, new_inverse(data.arrow), p + P)
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self.T = np.zeros(self.numbers.shape)
        self.states = new_levels(J, p)
        self.in_T = np.zeros((p, p))
        self.score, self.score_rest = np.zeros((J, p)), np.zeros(R)
        self._in_beta, self._in_dispersion = np.zeros(P), 0.0
        self._value = np.nan
        self._factorised = 0  # how many columns of the rest are in the factor that stands there, plus one
        self._start(border)

    def again(self, integrated: bool) -> BlockedLaplace:
        """Return the same approximation with scratch of its own, the fixed effects integrated out or not."""
        return BlockedLaplace(self.model, integrated, self.priors, self.chunks)

    def fix(self) -> None:
        """Nothing to set: what of eta is given is computed chunk by chunk."""

    def forget(self) -> None:
        """Start the next search at zero."""
        super().forget()
        self.states.u[:] = 0.0

    # ---- given the fixed effects: level by level ---------------------------------------------

    def place(self, psi: Array) -> bool:
        """Find the mode at psi, and integrate around it; False where there is none to be found."""
        if self.integrated:
            self._factorised = 0
            return super().place(psi)
        if self._at is not None and np.array_equal(psi, self._at):
            return True
        self._slopes = None
        if not self.settle(psi) or not self._integrate(self._grid):
            return False
        self._at = psi.copy()
        self.point.u[:] = self.states.u
        self._factorised = 0
        return True

    def _integrate(self, grid: tuple[Array, Array], slopes: bool = True) -> bool:
        """Integrate over all levels at the present parameters; False where a mode was not found."""
        beta, T, dispersion = self.beta, self.T[0].copy(), self.row_dispersion
        p, (points, log_weights) = T.shape[0], grid
        largest, longest = self.chunks.largest, np.array([0, int(np.diff(self.chunks.start).max())])

        def new() -> tuple[Any, Array, Array]:
            return packed(new_level_work(longest, p)), np.zeros(largest), np.zeros(largest)

        def work(chunk: Chunk) -> tuple[float, Array, Array, float]:
            fixed = chunk.offset + chunk.X @ beta
            rows = FactorRows(self.code, chunk.start, chunk.y, chunk.trials, chunk.weights, fixed, chunk.Z)
            low, high, m = chunk.low, chunk.high, len(fixed)
            states = Levels(self.states.u[low:high], self.states.L[low:high])
            in_T = np.zeros((p, p))
            with self.chunks.scratch("levels", new) as (scratch, in_eta, in_dispersion):
                value = quadrature(
                    packed(rows), points, log_weights, T, dispersion, 0, high - low, packed(states), scratch, slopes,
                    in_eta, in_T, in_dispersion,
                )  # fmt: skip
                more = float(in_dispersion[:m].sum()) if self.levels else 0.0
                return float(value), chunk.X.T @ in_eta[:m], in_T, more

        self._value, self._in_beta, self.in_T, self._in_dispersion = 0.0, np.zeros(len(beta)), np.zeros((p, p)), 0.0
        for value, in_beta, in_T, more in self.chunks.each(work):
            self._value += value
            self._in_beta += in_beta
            self.in_T += in_T
            self._in_dispersion += more
        self.point.facts[0] = self._value
        return bool(np.isfinite(self._value))

    def change(self, nodes: int) -> float:
        """Return what another number of nodes would add to the log likelihood where it was integrated last."""
        kept = self._value, self._in_beta, self.in_T, self._in_dispersion
        self._integrate(hermite_grid(nodes, self.in_T.shape[0]), slopes=False)
        found = self._value
        self._value, self._in_beta, self.in_T, self._in_dispersion = kept
        return found - self._value

    def value(self) -> float:
        """Return the log likelihood where it was integrated last, every constant in."""
        if self.integrated:
            return super().value()
        return float(self._value + self._dispersion_terms() + self.constant)

    def _dispersion_terms(self) -> float:
        if not self.levels:
            return 0.0
        phi = self.row_dispersion
        return sum(self.chunks.each(lambda chunk: float(dispersion_terms(self.code, chunk.y, chunk.weights, phi))))

    @property
    def constant(self) -> float:
        """What the kernels leave out of the log likelihood: it depends on the responses alone."""
        if self._constant is None:
            self._constant = sum(self.chunks.each(self._constant_of)) + self.model.design.remainder.constant
        return self._constant

    def _constant_of(self, chunk: Chunk) -> float:
        # near the responses, where little cancels
        eta = self.family.link(np.full(len(chunk.y), 0.5)) + np.zeros(len(chunk.y))
        if self.family.link.name == "log":
            eta = np.log(np.maximum(chunk.y, 0.5))
        whole = self.family.log_density(chunk.y, eta, 1.0, chunk.trials, chunk.weights)
        return float(np.sum(whole) - row_dispersion(self.code, chunk.y, chunk.trials, chunk.weights, eta, 1.0))

    def _gradient(self) -> Array:
        if self.integrated:
            raise Unsupported("The restricted likelihood of rows in files has no gradient; use Laplace(reml=False).")
        numbers = self.numbers
        parts = [
            self._in_beta * self.beta_unit,
            np.where(self.held, 0.0, self.in_T[numbers.row, numbers.column] * numbers.unit),
        ]
        if self.levels:
            parts.append(np.array([self._in_dispersion]))
        return np.concatenate(parts)

    # ---- all coefficients at once ------------------------------------------------------------

    def _sums(self, n: int, clip: bool) -> float:
        """Fill the system of the working regression, and Z'l', X'l', at the present coefficients.

        n = 0 takes the fixed effects as given. Returns the log likelihood of the rows.
        """
        arrow, p = self.data.arrow, self.T.shape[1]
        P = len(arrow.d)
        b, coloured = np.zeros_like(self.point.u), np.zeros(P)
        colour(self.system.border, self.T, self.point.u, self.point.rest, b, coloured)
        beta = coloured if self.integrated else self.beta
        dispersion = self.row_dispersion

        def work(chunk: Chunk) -> tuple[float, Array, Array, Array]:
            rows, low, high = packed(chunk.rows), chunk.low, chunk.high
            m, own = len(chunk.y), b[low:high]
            eta = chunk.offset.copy()
            predictor(rows, own, beta, P, eta)
            gradient, curvature = np.empty(m), np.empty(m)
            value = row_terms(
                self.code, chunk.y, chunk.trials, chunk.weights, eta, dispersion, gradient, curvature, np.empty(LANES)
            )
            if clip:
                np.maximum(curvature, 0.0, out=curvature)
            working = gradient + curvature * (eta - chunk.offset)
            if n == 0 and P:
                working -= curvature * (chunk.X @ beta)
            first, last = int(arrow.start[low]), int(arrow.start[high])
            view = Arrow(
                arrow.A[low:high], arrow.a[low:high], arrow.start[low : high + 1] - first, arrow.touch[first:last],
                arrow.C[p * first : p * last], np.zeros((P, P)), np.zeros(P),
            )  # fmt: skip
            accumulate(rows, curvature, working, P, packed(view))
            score_rest = np.zeros(P)
            project(rows, gradient, P, self.score[low:high], score_rest)
            return float(value), view.D, view.d, score_rest

        total = 0.0
        arrow.D[:], arrow.d[:], self.score_rest[:] = 0.0, 0.0, 0.0
        for value, D, d, score_rest in self.chunks.each(work):
            total += value
            np.add(arrow.D, D, out=arrow.D)
            np.add(arrow.d, d, out=arrow.d)
            self.score_rest += score_rest
        return total

    def _factorise(self, n: int) -> tuple[bool, float, float]:
        """Factorise the precision of n columns of the rest, and the eliminated ones, from the sums."""
        system = self._packed[0]
        arrow, border, factor = (part(system, name) for name in ("arrow", "border", "factor"))
        ok, log_det, log_det_fixed, _ = factorise_whitened(arrow, border, 1.0, self.T, n, factor)
        return bool(ok), float(log_det), float(log_det_fixed)

    def _find(self) -> int:
        """Find the joint mode of all coefficients: damped Newton as in `bayou.conditional.mode`, two passes a step."""
        point, n = self.point, self.n
        arrow, factor = (part(self._packed[0], name) for name in ("arrow", "factor"))
        last, clip = math.inf, True
        value = self._sums(n, clip)
        for _ in range(LIMIT):
            if not math.isfinite(value):
                return NOT_FOUND
            ok, log_det, log_det_fixed = self._factorise(n)
            if not ok:
                return NOT_DEFINITE
            modes(arrow, factor, n, point.u_new, point.rest_new)
            gain = self._promise()
            if not math.isfinite(gain):
                return NOT_FOUND
            if gain < self.settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last):
                point.facts[:] = value, penalty(self.system.border, point.u, point.rest, n), log_det, log_det_fixed
                return FOUND
            last, clip = gain, gain > NEAR
            value = self._search(gain, value, clip)
        return NOT_FOUND

    def _promise(self) -> float:
        """Return twice the gain that the step promises: its length in the precision, from the sums alone."""
        arrow, point, border = self.data.arrow, self.point, self.system.border
        J, p = point.u.shape
        step, step_rest = point.u_new - point.u, point.rest_new - point.rest
        P = len(step_rest)
        db = step @ self.T[0].T
        C = arrow.C.reshape(J, p, P)
        D = np.tril(arrow.D) + np.tril(arrow.D, -1).T
        total = float(np.einsum("jk,jke,je->", db, arrow.A, db) + step_rest @ D @ step_rest)
        total += 2.0 * float(np.einsum("jk,jke,e->", db, C, step_rest)) if P else 0.0
        return total + float(np.sum(step * step)) + float(step_rest @ border.precision @ step_rest)

    def _search(self, gain: float, value: float, clip: bool) -> float:
        """Go along the step, halving it until the objective grows; the sums are those where it ends."""
        point, border = self.point, self.system.border
        u, rest = point.u.copy(), point.rest.copy()
        step, step_rest = point.u_new - u, point.rest_new - rest
        before = value - penalty(border, u, rest, self.n)
        flat, length, new = FLAT + ROUNDING * abs(value), 1.0, value
        for _ in range(60):
            point.u[:], point.rest[:] = u + length * step, rest + length * step_rest
            new = self._sums(self.n, clip)
            grown = new - penalty(border, point.u, point.rest, self.n) - before
            if grown >= 1e-4 * length * gain or (gain < flat and math.isfinite(new)):
                break
            length *= 0.5
        return new

    def _given(self) -> None:
        """Have the factor of the precision of the group coefficients alone, at the mode that `place` found."""
        if not self.integrated and self._factorised != 1:
            self._sums(0, False)
            if not self._factorise(0)[0]:
                raise DataError("The curvature at the mode is not definite.")
            self._factorised = 1

    def information(self) -> Array:
        """Return the average information (d, d) of the covariance parameters at the mode."""
        self._given()
        point, numbers = self.point, self.numbers
        made = new_averages(point.u, point.rest, numbers.size)
        made.s[:] = self.score
        if self.integrated:
            made.s_rest[:] = self.score_rest
        places = numbers.factor, numbers.row, numbers.column, numbers.unit
        arrow, border, factor = (part(self._packed[0], name) for name in ("arrow", "border", "factor"))
        average_information(arrow, border, factor, self.n, self.T, *places, point.u, point.rest, packed(made))
        return made.information

    def _covariances(self) -> Array:
        self._given()
        return super()._covariances()

    def _fill_equations(self) -> None:
        """Fill the equations of all coefficients at the eta of the mode, the whole curvature in."""
        self._factorised = 0
        self._sums(len(self.data.arrow.d), False)

    def joint(self, given: bool = False) -> Conditional:
        """Return the joint Gaussian of all coefficients, as `Laplace.joint` does."""
        if given:
            self._given()
        return super().joint(given)

    def predictor(self) -> Array:
        """Return the largest and smallest linear predictors at the mode, chunk by chunk."""
        b = self.point.u @ self.T[0].T
        beta = self.point.rest if self.integrated else self.beta
        codes = self.chunks.start

        def work(chunk: Chunk) -> tuple[float, float]:
            level = np.repeat(np.arange(chunk.low, chunk.high), np.diff(codes[chunk.low : chunk.high + 1]))
            eta = chunk.offset + chunk.X @ beta + np.einsum("ik,ik->i", chunk.Z, b[level])
            return float(eta.min()), float(eta.max())

        return np.array(list(self.chunks.each(work))).ravel()

"""The Laplace approximation of log p(y | beta, theta), or of log p(y | theta): exact for a Gaussian response.

log p(y | theta) is about l(eta) − ½ u'u − ½ log|H| at the mode u of the whitened coefficients (Tierney & Kadane 1986,
JASA 81); with the fixed effects integrated too (REML's way) H has their columns and P/2 log 2 pi is added.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.adjoint import dispersion_gradient, gradient, new_adjoint
from bayou.conditional.information import average_information, new_averages
from bayou.conditional.joint import Conditional
from bayou.conditional.mode import FOUND, SETTLED, System, equations, find_mode, new_point
from bayou.conditional.parameters import Parameters, parameters
from bayou.conditional.prior import log_prior
from bayou.conditional.rows import Sorted, copied, deviation, project, sorted_rows
from bayou.errors import DataError
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.families.rows import row_dispersion
from bayou.linalg.covariances import divided, invert, new_inverse, second_moments
from bayou.linalg.schur import Border, new_factor
from bayou.linalg.whitened import centre_at, factorise_whitened
from bayou.packed import packed, part

if TYPE_CHECKING:
    from bayou.model import Model


class Laplace:
    """The approximation for one model; it remembers the last mode and starts the next search there.

    Parameters
    ----------
    model
        The model.
    integrated
        Whether the fixed effects are integrated out with the group coefficients.
    priors
        Whether the model's priors are part of it: the value is then the log posterior density of the parameters,
        densities as they are stated (of coefficients, sds and correlations, of sigma, 1/√phi or 1/√shape), no
        Jacobian of the coordinates.
    data
        The sorted rows, if they are there already.

    Attributes
    ----------
    numbers
        Layout of the covariance parameters.
    size
        How many numbers `evaluate` takes: the working fixed effects in their units (unless integrated), the
        covariance parameters, the logarithms of the dispersions.
    """

    def __init__(
        self, model: Model, integrated: bool = False, priors: bool = False, data: Sorted | None = None
    ) -> None:
        self.model, self.integrated, self.priors = model, integrated, priors
        self.data: Sorted = self._sorted() if data is None else replace(data, arrow=copied(data.arrow))
        self.family, self.code = model.family, model.family.code
        self.gaussian = self.code in (GAUSSIAN_IDENTITY, GAUSSIAN_LOG)
        scale = deviation(model, self.data) if model.family.link.name == "identity" else 1.0
        self.scale = scale if scale > 0.0 else 1.0
        self.numbers: Parameters = parameters(model, self.data.order, self.scale)
        self.X = np.ascontiguousarray(model.working.X[self.data.place])
        P = self.X.shape[1]
        sizes = model.sizes(self.X)
        self.beta_unit = self.scale / np.where(sizes > 0.0, sizes, 1.0)
        self.levels = 0 if model.family.dispersion is None or model.dispersion_known else len(model.design.sigma_levels)
        self.explicit = 0 if integrated else P
        self.size = self.explicit + self.numbers.size + self.levels
        self._allocate(P)

    def _sorted(self) -> Sorted:
        """Lay out the rows."""
        return sorted_rows(self.model)

    def again(self, integrated: bool) -> Laplace:
        """Return the same approximation with scratch of its own, the fixed effects integrated out or not."""
        return type(self)(self.model, integrated, self.priors, self.data)

    def _allocate(self, P: int) -> None:
        data = self.data
        border = data.border
        if not (self.priors and self.integrated):
            border = border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
        n, (J, p), R = len(data.y), data.arrow.a.shape, len(data.arrow.d)
        q = data.rows.others.shape[1]
        self.n, self.q = (R, q) if self.integrated else (R - P, q - P)
        self.system = System(
            self.code, data.rows, data.y, data.trials, data.weights.copy(), data.arrow, border, new_factor(data.arrow)
        )
        shapes = {"n": n, "Jp": (J, p), "R": R, "K": self.numbers.shape}
        self.point = new_point(shapes)
        self.work = new_adjoint(shapes, new_inverse(data.arrow), p + q)
        K = self.numbers.shape
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self.T = np.zeros(K)
        self._start(border)

    def _start(self, border: Border) -> None:
        self.dispersion = np.ones(max(self.levels, 1))
        self._linear = border.linear
        self.settled = SETTLED  # how exact the modes are
        self.noise = 0.0  # of the value beside its gradient, where both are estimates
        self._constant: float | None = None
        self._at: Array | None = None  # where the point stands
        self._slopes: Array | None = None

    # ---- coordinates -----------------------------------------------------------------------

    def split(self, psi: Array) -> tuple[Array, Array, Array]:
        """Return the working fixed effects (P,) or (0,), the covariance parameters (d,) and the dispersions (S,)."""
        a, b = self.explicit, self.explicit + self.numbers.size
        return psi[:a] * self.beta_unit[:a], psi[a:b], np.exp(psi[b:])

    def join(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return psi from its parts; ``beta`` (P,) in working coordinates."""
        beta = beta[: self.explicit] / self.beta_unit[: self.explicit]
        return np.concatenate([beta, self.numbers.numbers(T), np.log(dispersion[: self.levels])])

    # ---- the approximation -----------------------------------------------------------------

    def place(self, psi: Array) -> bool:
        """Find the mode at psi; False where there is none to be found."""
        if self._at is not None and np.array_equal(psi, self._at):
            return True
        self._slopes = None
        found = self._place(psi)
        if found:
            self._at = psi.copy()
        return found

    def _place(self, psi: Array) -> bool:
        if not self.settle(psi):
            return False
        if not np.isfinite(self.point.u).all() or not np.isfinite(self.point.rest).all():
            self.forget()
        found = self._find()
        if found != FOUND:
            self.forget()
            found = self._find()
        return bool(found == FOUND)

    def settle(self, psi: Array) -> bool:
        """Bring all that the rows are given to psi; False for an impossible dispersion."""
        self._at = None
        self.beta, entries, dispersion = self.split(psi)
        self.T[:] = self.numbers.held(entries)
        self.exact = self.numbers.factors(entries)
        # the criterion is even in a column: where it is held off zero, its slope is that at zero
        self.held = self.numbers.vanishing(entries)
        self.fix()
        if self.levels:
            if not np.all((dispersion > 1e-150) & (dispersion < 1e150)):
                return False
            self.dispersion[:] = dispersion
            if self.gaussian:
                self.system.weights[:] = self.data.weights / np.square(dispersion)[self.data.sigma]
        return True

    def fix(self) -> None:
        """Set what of eta is given: the offset, and X beta unless it is integrated."""
        self.point.fixed[:] = self.data.offset
        if len(self.beta):
            self.point.fixed[:] += self.X @ self.beta

    def _find(self) -> int:
        """Find the mode from where the point stands."""
        system, point, _ = self._packed
        return int(find_mode(system, point, self.T, self.row_dispersion, self.n, self.q, self.settled))

    def forget(self) -> None:
        """Start the next search at zero."""
        self.point.u[:] = 0.0
        self.point.rest[:] = 0.0

    @property
    def row_dispersion(self) -> float:
        """The dispersion for the row kernels: sigma is in the weights."""
        return float(self.dispersion[0]) if self.levels and not self.gaussian else 1.0

    def value(self) -> float:
        """Return the log marginal likelihood at the mode that `place` found, every constant in."""
        loglik, penalty, log_det, log_det_fixed = self.point.facts
        total = loglik + self._dispersion_terms() - penalty - 0.5 * (log_det + log_det_fixed) + self.constant
        return float(total + self.integrated_terms())

    def integrated_terms(self) -> float:
        """Return what integrating over the fixed effects adds, beside the determinant: their constants."""
        if not self.integrated:
            return 0.0
        total = 0.5 * len(self._linear) * math.log(2.0 * math.pi)
        if self.priors:
            total += log_density_beta(self.model.bound, self.model.working.to_printed @ self.model.working.mean)
            total -= 0.5 * float(self.model.working.mean @ self._linear)
        return total

    def likelihood(self) -> float:
        """Return the log likelihood of the rows given all coefficients at the mode, every constant in."""
        return float(self.point.facts[0] + self._dispersion_terms() + self.constant)

    def _dispersion_terms(self) -> float:
        """Return what of the rows' log density depends on the dispersion alone, at the present eta."""
        if self.gaussian:
            counted = np.bincount(self.data.sigma, weights=self.data.weights > 0.0, minlength=self.levels)
            return self.model.design.remainder.log_density(self.dispersion) - float(counted @ np.log(self.dispersion))
        if not self.levels:
            return 0.0
        data, eta = self.data, self.point.eta
        whole = row_dispersion(self.code, data.y, data.trials, data.weights, eta, self.row_dispersion)
        return float(whole - self.point.facts[0])

    @property
    def constant(self) -> float:
        """What the kernels leave out of the log likelihood: it depends on the responses alone."""
        if self._constant is None:
            data = self.data
            # near the responses, where little cancels
            eta = self.family.link(np.full(len(data.y), 0.5)) + np.zeros(len(data.y))
            if self.family.link.name == "identity":
                eta = data.y.copy()
            elif self.family.link.name == "log":
                eta = np.log(np.maximum(data.y, 0.5))
            whole = self.family.log_density(data.y, eta, 1.0, data.trials, data.weights)
            part = row_dispersion(self.code, data.y, data.trials, data.weights, eta, 1.0)
            # and what merged rows leave out of those as given
            self._constant = float(np.sum(whole) - part) + self.model.design.remainder.constant
        return self._constant

    def slopes(self) -> Array:
        """Return the gradient (size,) of `value` in psi at the mode."""
        if self._slopes is None:
            self._slopes = self._gradient()
        return self._slopes

    def _gradient(self) -> Array:
        system, point, work = self._packed
        self._fill_adjoint()
        numbers = self.numbers
        parts = [
            (self.X.T @ self.work.eta) * self.beta_unit if self.explicit else np.zeros(0),
            np.where(self.held, 0.0, self.work.T[numbers.factor, numbers.row, numbers.column] * numbers.unit),
        ]
        if self.levels:
            dispersion_gradient(system, point, work, self.row_dispersion)
            if self.gaussian:
                by_level: Array = np.bincount(self.data.sigma, self.work.by_level, self.levels).astype(np.float64)
                parts.append(by_level + self.model.design.remainder.slopes(self.dispersion))
            else:
                parts.append(np.array([self.work.by_level.sum()]))
        return np.concatenate(parts)

    def locate(self, psi: Array) -> bool:
        """Prepare `value` and `slopes` at psi; False where they do not exist."""
        return self.place(psi)

    def _fill_adjoint(self) -> None:
        """Fill the derivatives in eta, row by row, and in T."""
        system, point, work = self._packed
        invert(self.system.factor.S, self.n, self.work.inverse.V)
        gradient(system, point, work, self.T, self.row_dispersion, self.n, self.q)

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return minus the log marginal likelihood (with priors: minus the log posterior) and its gradient (size,)."""
        if not np.isfinite(psi).all() or not self.locate(psi):
            return np.inf, np.zeros(self.size)
        return self._criterion(psi, self.value(), self.slopes())

    def _criterion(self, psi: Array, value: float, slopes: Array) -> tuple[float, Array]:
        """Return what is minimised, and its gradient, given the log marginal likelihood and its own."""
        if self.priors:
            prior = self.log_prior(psi)
            if not np.isfinite(prior):
                return np.inf, np.zeros(self.size)
            value, slopes = value + prior, slopes + self._prior_slopes(psi)
        return -value, -slopes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a result should say of how the value was computed."""
        return ()

    # ---- priors ----------------------------------------------------------------------------

    def log_prior(self, psi: Array) -> float:
        """Return the log prior density at psi: of what is not integrated, as it is stated."""
        beta, entries, dispersion = self.split(psi)
        total = log_density_beta(self.model.bound, self.model.working.to_printed @ beta) if len(beta) else 0.0
        return total + log_prior(self.model, self.data.order, self.numbers.factors(entries), dispersion)

    def _prior_slopes(self, psi: Array) -> Array:
        out = np.zeros(self.size)
        for i in range(self.size):
            step = np.zeros(self.size)
            step[i] = 1e-6 * max(1.0, abs(psi[i]))
            out[i] = (self.log_prior(psi + step) - self.log_prior(psi - step)) / (2.0 * step[i])
        return out

    # ---- curvature -------------------------------------------------------------------------

    def information(self) -> Array:
        """Return the average information (d, d) of the covariance parameters at the mode."""
        point, numbers = self.point, self.numbers
        made = new_averages(point.u, point.rest, numbers.size)
        project(part(self._packed[0], "rows"), point.gradient, self.q, made.s, made.s_rest)
        places = numbers.factor, numbers.row, numbers.column, numbers.unit
        arrow, border, factor = (part(self._packed[0], name) for name in ("arrow", "border", "factor"))
        average_information(arrow, border, factor, self.n, self.T, *places, point.u, point.rest, packed(made))
        return made.information

    # ---- from here to other rooms ----------------------------------------------------------

    def joint(self, given: bool = False) -> Conditional:
        """Return the joint Gaussian of all coefficients, fixed ones too, at the mode that `place` found last.

        Its precision is that of the mixed-model equations at the eta of the mode (beta has a flat prior there unless
        the priors are part of it), its centre the mode and the fixed effects of `place`. With ``given`` the fixed
        effects of `place` are taken as known instead.
        """
        P, R = len(self._linear), len(self.data.arrow.d)
        value = self.value() if np.isfinite(self.point.facts).all() else math.nan
        arrow, rest = copied(self.data.arrow), self.point.rest.copy()
        border = self.data.border if self.priors else self.system.border
        factor = new_factor(self.data.arrow)
        if self.explicit and not given:
            rest[R - P :] = self.beta  # where the criterion has its maximum, which is not that of the joint density
        if given:
            factor = factor._replace(**{name: v.copy() for name, v in self.system.factor._asdict().items()})
            n = R - P
        else:
            n = R
            self._at = None  # the sums will be those of other equations
            self._fill_equations()
            arrow = copied(self.data.arrow)
            ok, *_ = factorise_whitened(packed(arrow), packed(border), 1.0, self.T, R, packed(factor))
            if not ok:
                raise DataError(
                    "The fixed effects are not determined by the data: some columns of X depend on each other, or say "
                    f"nothing at this fit ({P} columns). Leave columns out, or give priors."
                )
        centre_at(packed(arrow), packed(factor), n, self.point.u, rest)
        beta = self.beta if given else None
        return Conditional(self.model, self.data.order, arrow, border, factor, self.exact, 1.0, 0.0, value, beta)

    def _fill_equations(self) -> None:
        """Fill the equations of all coefficients at the eta of the mode, the whole curvature in."""
        self.point.fixed[:] = self.data.offset
        system, point, _ = self._packed
        equations(system, point, len(self.data.arrow.d), self.data.rows.others.shape[1], False)

    def predictor(self) -> Array:
        """Return the linear predictor of the rows at the mode, or its extremes."""
        return self.point.eta

    def second_moments(self) -> Array:
        """Return Σ_j E[u_j u_j'] (K, p, p) at the mode, whitened coordinates."""
        out = self._covariances()
        u, rest, border = self.point.u, self.point.rest, self.system.border
        p = u.shape[1]
        out[0, :p, :p] += u.T @ u
        for f in range(len(border.start)):
            at, q, J = int(border.start[f]), int(border.size[f]), int(border.levels[f])
            own = rest[at : at + q * J].reshape(J, q)
            out[f + 1, :q, :q] += own.T @ own
        return out

    def _covariances(self) -> Array:
        """Return Σ_j Cov(u_j) (K, p, p)."""
        invert(self.system.factor.S, self.n, self.work.inverse.V)
        parts = packed(self.system.arrow), packed(self.system.border), packed(self.system.factor)
        out = np.zeros(self.numbers.shape)
        second_moments(*parts, self.n, packed(self.work.inverse), out)
        return out

    def working_slopes(self) -> Array:
        """Return the gradient (d,) of the working model's own criterion in the covariance parameters: PQL's."""
        M, numbers = self.second_moments(), self.numbers
        counts = [len(self.model.design.groupings[g].levels) for g in self.data.order]
        for f, J in enumerate(counts):
            M[f] -= J * np.eye(M.shape[1])
        quotient = np.zeros_like(M)
        for f, g in enumerate(self.data.order):
            divided(self.T, f, self.model.design.groupings[g].Z.shape[1], M, quotient)
        return np.asarray(quotient[numbers.factor, numbers.row, numbers.column] * numbers.unit)

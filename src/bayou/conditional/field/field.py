"""A model whose coefficients are one Gaussian Markov random field: p(y | theta), and where the mode of x is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.field.adjoint import dispersion_gradient, gradient, new_adjoint
from bayou.conditional.field.at_mode import AtMode
from bayou.conditional.field.layout import Layout, lay_out
from bayou.conditional.field.mode import Prior, System, find_mode, new_point
from bayou.conditional.field.rows import accumulate
from bayou.conditional.mode import FOUND
from bayou.design.passes import require_memory
from bayou.families.codes import GAUSSIAN_IDENTITY
from bayou.linalg.sparse import new_factor
from bayou.packed import packed
from bayou.priors.base import LOG_2PI

if TYPE_CHECKING:
    from bayou.model import Model


class Field(AtMode):
    """The Laplace approximation of one model over its hyperparameters; exact for a Gaussian response.

    x = (coefficients of groups and structures, working fixed effects) has a sparse precision Q(theta), possibly
    singular, and constraints C x = 0. After `place`, the methods speak of the Gaussian N(mode, Sigma) of x given theta
    and y. It remembers the last mode and starts the next search there.

    Parameters
    ----------
    model, integrated, priors
        As of `GaussianField`, with what else it takes and has.
    layout
        Of another field of the same model, to share.

    Attributes
    ----------
    eta
        The linear predictor (n,) at the mode.

    References
    ----------
    Rue & Held (2005), Gaussian Markov Random Fields; Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71.
    """

    def __init__(
        self, model: Model, integrated: bool = True, priors: bool = True, layout: Layout | None = None
    ) -> None:
        design = model.design
        require_memory(design, "This engine")
        super().__init__(model, integrated, priors)
        self.X = model.working.X
        self.layout = lay_out(model, self.parts, self.fixed) if layout is None else layout
        sizes = model.sizes(self.X)
        self.beta_unit = self.scale / np.where(sizes > 0.0, sizes, 1.0)
        self.data_weights = _kernels_own(design.weights)
        if design.standard_errors is not None:
            self.data_weights = design.weights / np.square(design.standard_errors)
        self._allocate()
        self._constant: float | None = None

    def _allocate(self) -> None:
        design, at = self.model.design, self.layout
        n, N = design.n, at.latent + at.fixed
        prior = Prior(at.prior_row, at.prior_column, at.prior_at, np.zeros(len(at.prior_at)), np.zeros(N))
        if at.fixed and self.priors:
            working = self.model.working
            a, b = np.tril_indices(at.fixed)
            prior.value[len(prior.value) - len(a) :] = working.precision[a, b]
            prior.linear[at.latent :] = working.precision @ working.mean
        self.system = System(
            self.code, _kernels_own(design.y), _kernels_own(design.trials), self.data_weights.copy(),
            at.rows, prior, at.constraint(), at.symbolic, new_factor(at.symbolic), self._gram(), np.ones(1),
        )  # fmt: skip
        self.point = new_point(n, N)
        self.work = new_adjoint(n, N, len(self.system.factor.values), len(prior.value))
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self.beta = np.zeros(self.explicit)
        self._placed: Array | None = None
        self._factored = self._inverted = False
        self._slopes: Array | None = None
        self._root = None
        self._log_dets = 0.0

    def _gram(self) -> Array:
        """Return A'WA at the prior weights where it serves every theta, in the factor's layout."""
        if self.code != GAUSSIAN_IDENTITY or self.levels > 1:
            return np.zeros(0)
        gram = np.zeros(self.layout.symbolic.stored)
        accumulate(packed(self.layout.rows), np.ascontiguousarray(self.data_weights), gram)
        return gram

    def clone(self) -> Field:
        """Return the same approximation with scratch of its own, standing where this one stands."""
        made = Field(self.model, self.integrated, self.priors, self.layout)
        made.settled, made.chords = self.settled, self.chords
        made.point.x[:] = self.point.x
        return made

    # ---- the approximation -----------------------------------------------------------------

    def place(self, psi: Array) -> bool:
        """Find the mode at psi; False where there is none to be found."""
        if self._placed is not None and np.array_equal(psi, self._placed):
            return True
        self._placed, self._inverted, self._slopes, self._root = None, False, None, None
        if not self._settle(np.asarray(psi, dtype=np.float64)):
            return False
        if not np.isfinite(self.point.x).all():
            self.point.x[:] = 0.0
        found = self._find()
        if found != FOUND:
            self.point.x[:] = 0.0
            self._factored = False
            found = self._find()
        self._factored = found == FOUND
        if found == FOUND:
            self._placed = np.array(psi, dtype=np.float64)
        return bool(found == FOUND)

    def _settle(self, psi: Array) -> bool:
        if not np.isfinite(psi).all():
            return False
        theta = np.clip(psi[self.explicit :], *self.limits)
        at, total = 0, 0.0
        value = self.system.prior.value
        for c in self.parts:
            own, count = theta[c.hyper], len(c.effect.indices)
            whole = value[at : at + count * c.effect.replicates].reshape(c.effect.replicates, count)
            whole[:] = c.effect.coefficients(own) @ c.effect.matrices
            at += count * c.effect.replicates
            total += c.effect.replicates * (c.effect.log_determinant(own) - c.effect.rank * LOG_2PI)
        if not np.isfinite(value).all():
            return False
        self._log_dets = 0.5 * total
        self.point.fixed[:] = self.model.design.offset
        if self.explicit:
            self.beta = psi[: self.explicit] * self.beta_unit
            self.point.fixed[:] += self.X @ self.beta
        if self.levels:
            self.dispersion[:] = np.exp(theta[len(theta) - self.levels :])
            if self.gaussian:
                sigma = self.dispersion[self.model.design.sigma_codes]
                self.system.weights[:] = self.data_weights / np.square(sigma)
                self.system.scale[0] = float(self.dispersion[0]) ** -2
        return True

    def _find(self) -> int:
        system, point, _ = self._packed
        return int(find_mode(system, point, self.row_dispersion, self.settled, self.chords and self._factored))

    def value(self) -> float:
        """Return log p(y | theta) (or log p(y | beta, theta)) at the mode that `place` found, every constant in."""
        _, penalised, log_det = self.point.facts
        free = self.latent + self.fixed - len(self.system.constraint.anchor)
        total = self.loglik - penalised - 0.5 * log_det + self._log_dets + 0.5 * free * LOG_2PI
        return float(total + self._fixed_constant)

    @property
    def loglik(self) -> float:
        """The log likelihood of the rows at the mode, every constant in."""
        return self._log_density(float(self.point.facts[0]), self.point.eta)

    # ---- derivatives -----------------------------------------------------------------------

    def slopes(self) -> Array:
        """Return the gradient (size,) of `value` at the mode."""
        if self._slopes is None:
            self._invert()
            system, point, work = self._packed
            gradient(system, point, work, self.row_dispersion)
            self._slopes = self._assembled()
        return self._slopes

    def _assembled(self) -> Array:
        assert self._placed is not None
        theta = np.clip(self._placed[self.explicit :], *self.limits)
        out = [(self.X.T @ self.work.eta) * self.beta_unit] if self.explicit else []
        at = 0
        for c in self.parts:
            effect, count = c.effect, len(c.effect.indices)
            whole = self.work.element[at : at + count * effect.replicates].reshape(effect.replicates, count)
            at += count * effect.replicates
            own = theta[c.hyper]
            by_matrix = effect.matrices @ whole.sum(axis=0)
            determinant = 0.5 * effect.replicates * effect.log_determinant_slopes(own)
            out.append(effect.coefficient_slopes(own).T @ by_matrix + determinant)
        if self.levels:
            dispersion_gradient(*self._packed, self.row_dispersion)
            by_row = self.work.by_row
            one = not self.gaussian
            total = [by_row.sum()] if one else np.bincount(self.model.design.sigma_codes, by_row, self.levels)
            slopes = np.asarray(total, dtype=np.float64)
            out.append(slopes + self.model.design.remainder.slopes(self.dispersion) if self.gaussian else slopes)
        slopes = np.concatenate([np.zeros(0), *out])
        slopes[self.explicit :][theta != self._placed[self.explicit :]] = 0.0
        return slopes


def _kernels_own(numbers: Array) -> Array:
    """Return numbers as kernels take them; those of files are copied."""
    return np.require(numbers, np.float64, ["C", "W"])

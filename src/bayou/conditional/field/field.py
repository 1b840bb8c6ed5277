"""A model whose coefficients are one Gaussian Markov random field: p(y | theta), and where the mode of x is."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.field.adjoint import dispersion_gradient, gradient, new_adjoint
from bayou.conditional.field.at_mode import LOG_2PI, AtMode
from bayou.conditional.field.component import components, difference, log_density_of_sd
from bayou.conditional.field.layout import Layout, lay_out
from bayou.conditional.field.mode import Prior, System, find_mode, new_point
from bayou.conditional.field.naming import HyperRow, hyper_rows, named_coefficients, named_hyperparameters
from bayou.conditional.field.rows import accumulate
from bayou.conditional.mode import FOUND, SETTLED
from bayou.design.passes import require_memory
from bayou.errors import Unsupported
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.linalg.sparse import new_factor
from bayou.packed import packed
from bayou.priors.codes import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayou.model import Model

SMALLEST = 1e-6  # sd, relative to the response's scale and the structure's
SHARE = 16.0  # logit of a share of the variance or a correlation
FARTHEST = 250.0  # beyond which the exponential of twice an internal coordinate is no number to work with


class Field(AtMode):
    """The Laplace approximation of one model over its hyperparameters; exact for a Gaussian response.

    x = (coefficients of groups and structures, working fixed effects) has a sparse precision Q(theta), possibly
    singular, and constraints C x = 0. After `place`, the methods speak of the Gaussian N(mode, Sigma) of x given theta
    and y. It remembers the last mode and starts the next search there.

    Parameters
    ----------
    model
        The model.
    integrated
        Whether the fixed effects are part of x; otherwise they are the first numbers of the parameters.
    priors
        Whether the fixed effects have the model's priors; flat ones otherwise. They must be normal, flat or uniform
        (a uniform one is taken as flat by the Gaussian, and cut off by `log_ratio`).

    Attributes
    ----------
    size
        How many numbers `place` takes: the working fixed effects in their units (unless integrated), the
        hyperparameters in internal coordinates component by component, the logarithms of the dispersions.
    parts
        The components.
    rows
        The hyperparameters as printed.
    settled, chords
        How exact modes are (twice the log density that a step still promises), and whether a search begins with the
        factor of the last mode: faster for large models, but where it ends depends, within ``settled``, on the way.
    x, eta
        The mode (N,) and the linear predictor (n,) there.

    Raises
    ------
    Unsupported
        For fixed effects whose priors are none of these.

    References
    ----------
    Rue & Held (2005), Gaussian Markov Random Fields; Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71.
    """

    def __init__(
        self, model: Model, integrated: bool = True, priors: bool = True, layout: Layout | None = None
    ) -> None:
        self.model, self.integrated, self.priors = model, integrated, priors
        design = model.design
        require_memory(design, "This engine")
        self.family, self.code = model.family, model.family.code
        self.gaussian = self.code in (GAUSSIAN_IDENTITY, GAUSSIAN_LOG)
        self.parts = components(model)
        working = model.working
        self.X = working.X
        P = self.X.shape[1]
        self._bounded = working.codes if integrated and priors else working.codes[:0]
        if not np.all(self._bounded == UNIFORM):
            raise Unsupported(
                "Integrating over the fixed effects takes priors that are Normal, Flat or Uniform; this model has "
                "others. Use engine='metropolis', or give beta another prior."
            )
        if len(design.sigma_levels) > 1 and not self.gaussian:
            raise Unsupported(
                f"One {model.family.dispersion} for all rows is what approximations take; sigma_by= has several. Use "
                "engine='metropolis' without structured effects, or leave sigma_by= out."
            )
        self.layout = lay_out(model, self.parts, P if integrated else 0) if layout is None else layout
        self.levels = 0 if model.family.dispersion is None or model.dispersion_known else len(design.sigma_levels)
        scale = design.moments.sd if model.family.link.name == "identity" else 1.0
        self.scale = scale if scale > 0.0 else 1.0
        sizes = model.sizes(self.X)
        self.beta_unit = self.scale / np.where(sizes > 0.0, sizes, 1.0)
        self.explicit = 0 if integrated else P
        self.hyper = sum(len(p.effect.hyperparameters) for p in self.parts) + self.levels
        self.size = self.explicit + self.hyper
        self.rows: tuple[HyperRow, ...] = hyper_rows(model, self.levels)
        self.settled, self.chords = SETTLED, False
        self.data_weights = design.weights
        if design.standard_errors is not None:
            self.data_weights = design.weights / np.square(design.standard_errors)
        self._allocate()
        bound = model.bound
        self._dispersion_prior = log_density_of_sd(bound.dispersion_code, bound.dispersion_parameters)
        self._constant: float | None = None
        self._fixed_constant = self._beta_terms()

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
            self.code, np.ascontiguousarray(design.y), np.ascontiguousarray(design.trials), self.data_weights.copy(),
            at.rows, prior, at.constraint(), at.symbolic, new_factor(at.symbolic), self._gram(), np.ones(1),
        )  # fmt: skip
        self.point = new_point(n, N)
        self.work = new_adjoint(n, N, len(self.system.factor.values), len(prior.value))
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self.dispersion = np.ones(max(self.levels, 1))
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

    # ---- coordinates -----------------------------------------------------------------------

    @property
    def initial(self) -> Array:
        """Where a search for the hyperparameters may start, (size,)."""
        out = [np.zeros(self.explicit)]
        for component in self.parts:
            unit = np.ones(len(component.effect.hyperparameters))
            if component.grouping >= 0:
                sizes = self.model.design.moments.groups[component.grouping].rms[list(component.columns)]
                unit[: len(sizes)] = np.maximum(sizes, 1e-300)
            for h, size in zip(component.effect.hyperparameters, unit, strict=True):
                out.append(np.array([h.initial + (math.log(self.scale / size) if h.role == "sd" else 0.0)]))
        start = math.log(0.7 * self.scale) if self.gaussian else 1.0
        return np.concatenate([*out, np.full(self.levels, start)])

    def natural(self, theta: Array) -> Array:
        """Return the hyperparameters (rows,) as printed, at one theta (size,)."""
        named = self.unpack_theta(np.asarray(theta)[None])
        return np.array([float(named[row.variable][(0, *row.index)]) for row in self.rows])

    def unpack_theta(self, thetas: Array, names: Mapping[str, str] | None = None) -> dict[str, Array]:
        """Return hyperparameters (S, size) by the names of the contract; ``names`` as printed, of factors."""
        return named_hyperparameters(self.model, self.parts, thetas[:, self.explicit :], self.levels, names or {})

    def unpack(self, X: Array, names: Mapping[str, str] | None = None) -> dict[str, Array]:
        """Return coefficients (S, N) by the names of the contract: beta as printed, b_g (S, J, p), f_name."""
        out = named_coefficients(self.model, self.parts, X, names or {})
        if self.integrated:
            beta = X[:, self.layout.latent :]
        else:
            beta = np.tile(self.beta, (len(X), 1))
        return {"beta": beta @ self.model.working.to_printed.T, **out}

    @property
    def columns(self) -> dict[str, slice]:
        """Where coefficients stand in x, by name: "beta" (working), "b_g[block]", "f_name"."""
        found = {}
        for c in self.parts:
            block = "" if c.grouping < 0 or len(c.columns) == self.model.design.groupings[c.grouping].Z.shape[1] else (
                f"[{','.join(self.model.design.groupings[c.grouping].coefficients[k] for k in c.columns)}]"
            )  # fmt: skip
            found[("f_" if c.grouping < 0 else "b_") + c.name + block] = c.place
        return {**found, "beta": slice(self.layout.latent, self.layout.latent + self.layout.fixed)}

    @cached_property
    def limits(self) -> tuple[Array, Array]:
        """The numbers (d,) between which theta moves the likelihood.

        Beyond them it is flat to rounding, or lost in it (an sd of a millionth, a share of the variance within 1e-7 of
        one): there the precision is that of the limit, while the priors go on.
        """
        low, high = np.empty(self.hyper), np.empty(self.hyper)
        for c in self.parts:
            effect = c.effect
            start = np.array([0.0 if h.role == "sd" else h.initial for h in effect.hyperparameters])
            diagonal = (effect.coefficients(start) @ effect.matrices)[effect.indptr[:-1]]
            for k, h in enumerate(effect.hyperparameters):
                reach = {"logit": SHARE, "atanh": 0.5 * SHARE}.get(h.scale, 0.0)
                low[c.first + k], high[c.first + k] = -reach, reach
                if h.scale == "log":
                    low[c.first + k] = math.log(self.scale * SMALLEST) + 0.5 * math.log(max(diagonal.max(), 1e-12))
                    high[c.first + k] = low[c.first + k] - 3.0 * math.log(SMALLEST)
        for k in range(self.hyper - self.levels, self.hyper):
            low[k] = math.log((self.scale if self.gaussian else 1.0) * SMALLEST)
            high[k] = low[k] - 3.0 * math.log(SMALLEST)
        return low, high

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
        free = self.layout.latent + self.layout.fixed - len(self.system.constraint.anchor)
        total = self.loglik - penalised - 0.5 * log_det + self._log_dets + 0.5 * free * LOG_2PI
        return float(total + self._fixed_constant)

    @property
    def loglik(self) -> float:
        """The log likelihood of the rows at the mode, every constant in."""
        return self._log_density(float(self.point.facts[0]), self.point.eta)

    def _beta_terms(self) -> float:
        """Return what the normalised prior of the fixed effects has beyond −½ beta'P beta + beta'P m.

        Flat directions have density one.
        """
        if not (self.integrated and self.priors) or not self.layout.fixed:
            return 0.0
        working = self.model.working
        own = len(working.mean) - len(self._bounded)
        normal = working.precision[:own, :own]
        eigenvalues = np.linalg.eigvalsh(normal / self._units(normal)) if own else np.zeros(0)
        some = eigenvalues > 1e-12
        total = 0.5 * float(np.log(eigenvalues[some]).sum() + np.log(self._units(normal).diagonal()).sum())
        total -= 0.5 * LOG_2PI * int(some.sum()) + 0.5 * float(working.mean @ working.precision @ working.mean)
        for a, b, _ in working.parameters[: len(self._bounded)]:
            total -= math.log(b - a)
        return total

    @staticmethod
    def _units(precision: Array) -> Array:
        """Return the products of the coefficients' units, in which a flat one counts as one."""
        root = np.sqrt(np.where(np.diag(precision) > 0.0, np.diag(precision), 1.0))
        return np.outer(root, root)

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

    def log_prior(self, psi: Array) -> float:
        """Return log p(theta) in internal coordinates, Jacobian in (and that of explicit fixed effects)."""
        theta = psi[self.explicit :]
        if not np.all(np.abs(theta) < FARTHEST):
            return -math.inf
        total = sum(c.log_prior(theta[c.hyper]) for c in self.parts)
        total += sum(self._log_prior_of_dispersion(float(t)) for t in theta[len(theta) - self.levels :])
        return float(total) + self._log_prior_of_beta(psi[: self.explicit])

    def _log_prior_of_dispersion(self, t: float) -> float:
        if self.family.dispersion == "sigma":
            return self._dispersion_prior(t) + t
        return self._dispersion_prior(-0.5 * t) - 0.5 * t - math.log(2.0)  # the density is that of 1/√phi

    def _log_prior_of_beta(self, scaled: Array) -> float:
        if not self.explicit or not self.priors:
            return 0.0
        return log_density_beta(self.model.bound, self.model.working.to_printed @ (scaled * self.beta_unit))

    def prior_slopes(self, psi: Array) -> Array:
        """Return the gradient (size,) of `log_prior` by central differences."""
        theta = psi[self.explicit :]
        found = [difference(self._log_prior_of_beta, psi[: self.explicit], k) for k in range(self.explicit)]
        made = [np.array(found), *(c.prior_slopes(theta[c.hyper]) for c in self.parts)]
        sigmas = theta[len(theta) - self.levels :]
        of_one = [difference(lambda t: self._log_prior_of_dispersion(float(t[0])), np.array([t]), 0) for t in sigmas]
        return np.concatenate([*made, np.array(of_one)])

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return minus log p(y | theta) − log p(theta) (the latter with ``priors``) and its gradient (size,)."""
        if not np.isfinite(psi).all() or not self.place(psi):
            return np.inf, np.zeros(self.size)
        value, slopes = self.value(), self.slopes()
        if self.priors:
            prior = self.log_prior(psi)
            if not math.isfinite(prior):
                return np.inf, np.zeros(self.size)
            value, slopes = value + prior, slopes + self.prior_slopes(psi)
        return -value, -slopes


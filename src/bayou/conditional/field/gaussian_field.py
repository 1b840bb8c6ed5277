"""The Gaussian of a model's coefficients over its hyperparameters: their coordinates, and what the priors say of them.

`bayou.conditional.field.field` finds its mode among rows that are here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.field.component import components, difference, log_density_of_sd
from bayou.conditional.field.naming import HyperRow, hyper_rows, named_coefficients, named_hyperparameters
from bayou.conditional.mode import SETTLED
from bayou.errors import Unsupported
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.priors.base import LOG_2PI
from bayou.priors.codes import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayou.model import Model

__all__ = ["GaussianField"]

SMALLEST = 1e-6  # sd, relative to the response's scale and the structure's
SHARE = 16.0  # logit of a share of the variance or a correlation
FARTHEST = 250.0  # beyond which the exponential of twice an internal coordinate is no number to work with


class GaussianField(ABC):
    """x = (coefficients of groups and structures, working fixed effects) given theta and y, wherever the rows are.

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
    latent, fixed
        How many numbers of x belong to effects, and to the fixed effects behind them.
    dispersion
        (S,) where `place` found the mode; ones where there is none.
    settled, chords
        How exact modes are (twice the log density that a step still promises), and whether a search begins with the
        factor of the last mode: faster for large models, but where it ends depends, within ``settled``, on the way.
    x
        The mode (N,) that `place` found.

    Raises
    ------
    Unsupported
        For fixed effects whose priors are none of these.
    """

    divided: ClassVar[bool] = False  # whether the rows are elsewhere

    def __init__(self, model: Model, integrated: bool = True, priors: bool = True) -> None:
        self.model, self.integrated, self.priors = model, integrated, priors
        design = model.design
        self.family, self.code = model.family, model.family.code
        self.gaussian = self.code in (GAUSSIAN_IDENTITY, GAUSSIAN_LOG)
        self.parts = components(model)
        working = model.working
        P = len(working.mean)
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
        self.latent, self.fixed = sum(part.size for part in self.parts), P if integrated else 0
        self.levels = 0 if model.family.dispersion is None or model.dispersion_known else len(design.sigma_levels)
        scale = design.moments.sd if model.family.link.name == "identity" else 1.0
        self.scale = scale if scale > 0.0 else 1.0
        self.beta_unit = np.ones(0)  # (P,) of the fixed effects among the parameters
        self.beta = np.zeros(0)
        self.explicit = 0 if integrated else P
        self.hyper = sum(len(p.effect.hyperparameters) for p in self.parts) + self.levels
        self.size = self.explicit + self.hyper
        self.rows: tuple[HyperRow, ...] = hyper_rows(model, self.levels)
        self.settled, self.chords = SETTLED, False
        self.dispersion = np.ones(max(self.levels, 1))
        bound = model.bound
        self._dispersion_prior = log_density_of_sd(bound.dispersion_code, bound.dispersion_parameters)
        self._fixed_constant = self._beta_terms()

    @property
    def count(self) -> int:
        """How many coefficients there are, N."""
        return self.latent + self.fixed

    # ---- what is known once the mode is found ------------------------------------------------

    @abstractmethod
    def place(self, psi: Array) -> bool:
        """Find the mode at psi (size,); False where there is none to be found."""

    @abstractmethod
    def value(self) -> float:
        """Return log p(y | theta) (or log p(y | beta, theta)) at the mode that `place` found, every constant in."""

    @abstractmethod
    def slopes(self) -> Array:
        """Return the gradient (size,) of `value` at the mode."""

    @property
    @abstractmethod
    def x(self) -> Array:
        """The mode (N,)."""

    @abstractmethod
    def variances(self) -> Array:
        """Return the variances (N,) of the coefficients."""

    @abstractmethod
    def solve(self, r: Array) -> Array:
        """Return Sigma r for r (N,) or each row of r (S, N)."""

    def fixed_covariance(self) -> Array:
        """Return the covariance (P, P) of the working fixed effects."""
        where = self.columns["beta"]
        P = where.stop - where.start
        units = np.zeros((P, len(self.x)))
        units[:, where] = np.eye(P)
        covariance = self.solve(units)[:, where]
        return np.asarray(0.5 * (covariance + covariance.T))

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
            beta = X[:, self.latent :]
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
        return {**found, "beta": slice(self.latent, self.latent + self.fixed)}

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

    # ---- priors ------------------------------------------------------------------------------

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

    def _beta_terms(self) -> float:
        """Return what the normalised prior of the fixed effects has beyond −½ beta'P beta + beta'P m.

        Flat directions have density one.
        """
        if not (self.integrated and self.priors) or not self.fixed:
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

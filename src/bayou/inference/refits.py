"""Fitting the same model again to other responses: what the bootstrap and its likelihood ratios are made of."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.conditional.rows import Sorted, sorted_rows
from bayou.engines.marginal.climb import climb, hessian
from bayou.engines.marginal.descent import DECREMENT, GOING, VALUE, advance, new_descent, usable_inverse
from bayou.engines.marginal.identified import require_maximum
from bayou.engines.marginal.natural import natural_rows
from bayou.engines.marginal.profile import Profile
from bayou.engines.marginal.singular import probe
from bayou.errors import DataError, Unsupported
from bayou.inference.estimated import RESTRICTED, estimated_parts, estimates_of, likelihood_of
from bayou.inference.responses import Truth, begun, refitted, respond, summed
from bayou.packed import packed
from bayou.posterior import factor_names

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

AWAY = 0.1  # what stands for a variance of zero where a search begins: zero itself is a saddle
SETTLED = 1e-7
NOT_CONVERGED = "the search did not converge"
NO_MAXIMUM = "the likelihood has no maximum"
NOT_COMPUTED = "the likelihood could not be computed"


@dataclass(frozen=True)
class Refitted:
    """What one refit found: working fixed effects, factors in the response's units, dispersions, log likelihood."""

    beta: Array
    T: Array
    dispersion: Array
    log_likelihood: float
    failure: str | None = None


class Refit(ABC):
    """One model, ready to be fitted to further responses; one thread at a time.

    Attributes
    ----------
    order
        Grouping factors by position in T.
    """

    model: Model
    order: tuple[int, ...]

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Array:
        """Return a response (n,) drawn from the fitted model, rows in the order of the data."""

    @abstractmethod
    def fit(self, y: Array) -> Refitted:
        """Fit the model to a response (n,)."""

    def again(self, rng: np.random.Generator) -> Refitted:
        """Fit the model to a response drawn from itself."""
        return self.fit(self.draw(rng))

    @abstractmethod
    def twin(self) -> Refit:
        """Return another one, for another thread."""


def refit(posterior: Posterior, what: str) -> Refit:
    """Return what fits the model of a result again by the same method.

    Raises
    ------
    Unsupported
        After a sampler, a fit with priors, or prior weights of a family that is not Gaussian.
    """
    likelihood_of(posterior, what)
    found = estimates_of(posterior, what)
    model = posterior.model
    design = model.design
    design.require_rows(what)
    if model.family.name != "gaussian" and np.any(design.weights != 1.0):
        raise Unsupported(
            f"{what} draws new responses, and prior weights of a {model.family.name} response say nothing of its "
            "distribution. Repeat rows or use trials instead of weights."
        )
    sums = len(design.sigma_levels) == 1 and not model.dispersion_known
    if found.method in ("ML", "REML") and sums:
        return GaussianRefit(posterior)
    return GeneralRefit(posterior)


def away_from_border(psi: Array, at: int, diagonal: Array) -> Array:
    """Return psi with vanished diagonal entries of factors moved off zero; they begin at position ``at``."""
    moved = psi.copy()
    places = at + np.flatnonzero(diagonal)
    small = np.abs(moved[places]) < AWAY
    moved[places[small]] = AWAY
    return moved


class GaussianRefit(Refit):
    """Refits on sums over rows: a Gaussian model with one residual sd, by ML or REML."""

    def __init__(self, posterior: Posterior) -> None:
        found = estimates_of(posterior, "A refit")
        self.model = posterior.model
        self.restricted = found.method == "REML"
        self.of = of = Profile(self.model, self.restricted)
        self.order = of.sufficient.order
        self.rows: Sorted = sorted_rows(self.model)
        beta, T, dispersion = estimated_parts(self.model, found, self.order, of.numbers)
        sigma = float(dispersion[0])
        self.shift = of.sufficient.shift
        if self.model.working.intercept is not None:
            beta[self.model.working.intercept] -= self.shift
        psi = of.numbers.numbers(T / sigma)
        psi = away_from_border(psi, 0, of.numbers.row == of.numbers.column)
        H = usable_inverse(hessian(of.evaluate, psi, np.eye(len(psi))))
        self._finish(T, beta, sigma, psi, H)

    def _finish(self, T: Array, beta: Array, sigma: float, psi: Array, H: Array) -> None:
        of, rows = self.of, self.rows
        self.P = len(beta)
        df = of.sums.rows - (self.P if self.restricted else 0)
        self.df = float(df)
        u, rest = np.zeros_like(of.work.u), np.zeros_like(of.work.rest)
        self.truth = Truth(
            rows.rows, rows.weights, T, beta, sigma, psi, H, u, rest, u.copy(), rest.copy(), np.zeros(len(rows.y))
        )
        self.state = new_descent(psi, H.copy())
        self.scratch = np.zeros(len(psi))
        self._packed = packed(of.sums), packed(of.work), packed(self.state), packed(self.truth)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a response (n,) drawn from the fitted model, rows in the order of the data."""
        respond(self._packed[0], self._packed[3], rng)
        y = np.empty(len(self.truth.y))
        y[self.rows.place] = self.truth.y
        return np.asarray(y + self.shift + self.model.design.offset)

    def fit(self, y: Array) -> Refitted:
        """Fit the model to a response (n,)."""
        self.truth.y[:] = (y - self.shift - self.model.design.offset)[self.rows.place]
        return self._fit()

    def again(self, rng: np.random.Generator) -> Refitted:
        """Fit the model to a response drawn from itself."""
        respond(self._packed[0], self._packed[3], rng)
        return self._fit()

    def _fit(self) -> Refitted:
        of, state = self.of, self.state
        sums, work, handed, truth = self._packed
        if of.small and len(state.x):
            promise = float(refitted(sums, work, handed, truth, self.scratch, self.restricted))
        else:
            summed(sums, truth)
            promise = self._descend()
        value = float(state.facts[VALUE])
        psi = np.abs(state.x) if of.numbers.size == 1 else state.x
        if not np.isfinite(value):
            return Refitted(self.truth.beta, self.truth.T, np.ones(1), np.nan, NOT_COMPUTED)
        sigma = float(np.sqrt(of.work.facts[0] / self.df))
        beta = of.work.rest[len(of.work.rest) - self.P :].copy()
        if self.model.working.intercept is not None:
            beta[self.model.working.intercept] += self.shift
        failure = None if promise < SETTLED else NOT_CONVERGED
        log_likelihood = of.sufficient.log_weights - value
        return Refitted(beta, sigma * of.numbers.factors(psi), np.array([sigma]), log_likelihood, failure)

    def _descend(self) -> float:
        """Go down where the system is large: the same loop, LAPACK in its evaluations."""
        of, state = self.of, self.state
        of._at = None  # what it remembers is of other responses
        if not len(state.x):
            state.facts[VALUE] = of.value(state.x)
            return 0.0
        begun(self._packed[2], self.truth.psi, self.truth.H)
        for last in (False, True):
            status = GOING
            while status == GOING:
                status = int(advance(self._packed[2], *of.evaluate(state.trial)))
            value = float(state.facts[VALUE])
            lower = None if last or not np.isfinite(value) else self._elsewhere(value)
            if lower is None:
                break
            begun(self._packed[2], lower, self.truth.H)
        of.value(state.x)
        return 0.0 if status == 1 else 0.5 * float(state.facts[DECREMENT])

    def _elsewhere(self, value: float) -> Array | None:
        x = np.where(np.abs(self.state.x) < 1e-3, 0.0, self.state.x)
        return probe(self.of.value, self.of.numbers, x, 0, value)

    def twin(self) -> GaussianRefit:
        """Return another one, for another thread."""
        other = copy.copy(self)
        other.of = Profile(self.model, self.restricted)
        truth = self.truth
        other._finish(truth.T, truth.beta, truth.sigma, truth.psi, truth.H)
        return other


class GeneralRefit(Refit):
    """Refits by a marginal likelihood over rows: any family, any dispersion."""

    def __init__(self, posterior: Posterior) -> None:
        found = estimates_of(posterior, "A refit")
        self.model = posterior.model
        self.integrated = found.method in RESTRICTED
        self._make = likelihood_of(posterior, "A refit")
        self._take()
        of = self.of
        self.order = of.data.order
        beta, T, dispersion = estimated_parts(self.model, found, self.order, of.numbers)
        self.beta, self.T = beta, T
        self.dispersion = dispersion if len(dispersion) else np.ones(1)
        psi = of.join(beta, T, dispersion)
        self.psi = away_from_border(psi, of.explicit, of.numbers.row == of.numbers.column)
        self.H = usable_inverse(hessian(of.evaluate, self.psi, np.eye(of.size)))

    def _take(self) -> None:
        """Make a likelihood whose responses are nobody else's."""
        self.own = copy.copy(self.model)
        self.own.design = replace(self.model.design, y=self.model.design.y.copy())
        self.of = Laplace(self.own, True) if self.integrated else self._make(self.own)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a response (n,) drawn from the fitted model, rows in the order of the data."""
        design, family = self.model.design, self.model.family
        eta = design.offset + self.model.working.X @ self.beta
        for place, g in enumerate(self.order):
            grouping = design.groupings[g]
            J, p = len(grouping.levels), grouping.Z.shape[1]
            b = rng.standard_normal((J, p)) @ self.T[place, :p, :p].T
            eta += np.sum(grouping.Z * b[grouping.codes], axis=1)
        weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
        spread = self.dispersion[design.sigma_codes]
        return family.sample(rng, eta, spread, design.trials, weights)

    def fit(self, y: Array) -> Refitted:
        """Fit the model to a response (n,)."""
        of = self.of
        self.own.design.y[:] = y
        of.data.y[:] = y[of.data.place]
        # nothing is remembered of the last responses, nor where their search ended: the order does not matter
        of._constant = None
        of._at = None
        of.forget()
        found = climb(of.evaluate, of.numbers, of.explicit, self.psi, self.H.copy())
        nothing = Refitted(self.beta, self.T, self.dispersion, np.nan)
        if not np.isfinite(found.value):
            return replace(nothing, failure=NOT_COMPUTED)
        of.place(found.psi)
        try:
            require_maximum(self.own, of.point.eta)
        except DataError:
            return replace(nothing, failure=NO_MAXIMUM)
        beta, entries, dispersion = of.split(found.psi)
        if self.integrated and len(self.beta):
            beta = of.point.rest[len(of.point.rest) - len(self.beta) :].copy()
        failure = None if found.converged else NOT_CONVERGED
        whole = dispersion if len(dispersion) else np.ones(1)
        return Refitted(beta, of.numbers.factors(entries), whole, of.value(), failure)

    def twin(self) -> GeneralRefit:
        """Return another one, for another thread."""
        other = copy.copy(self)
        other._take()
        return other


def natural_table(model: Model, order: tuple[int, ...], T: Array, dispersion: Array, dispersions: bool) -> Array:
    """Return the hyperparameters (S, rows) of many factors T (S, K, p, p) and dispersions (S, levels), as printed."""
    rows = natural_rows(model, dispersions)
    groupings = model.design.groupings
    printed = factor_names([g.name for g in groupings], model.family.dispersion)
    arrays: dict[str, Array] = {}
    for place, g in enumerate(order):
        name, p = printed[groupings[g].name], groupings[g].Z.shape[1]
        own = T[:, place, :p, :p]
        Sigma = own @ own.transpose(0, 2, 1)
        sd = np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2))
        safe = np.where(sd > 0.0, sd, 1.0)
        arrays[f"sd_{name}"] = sd
        arrays[f"cor_{name}"] = Sigma / (safe[:, :, None] * safe[:, None, :])
    if model.family.dispersion is not None:
        arrays[model.family.dispersion] = dispersion if model.design.sigma_by is not None else dispersion[:, 0]
    places: list[tuple[Any, ...]] = [(slice(None), *row.index) for row in rows]
    values = [arrays[row.variable][place] for row, place in zip(rows, places, strict=True)]
    return np.array(values).reshape(len(rows), len(T)).T

"""The log marginal likelihood from the draws of any sampler, by bridge sampling.

With l = p(y, theta) / q(theta) at N1 draws of the posterior and at N2 draws of a proposal q, the optimal bridge (Meng &
Wong 1996) solves r = mean_q[l / (s1 l + s2 r)] / mean_posterior[1 / (s1 l + s2 r)], whose r is p(y); s1 = 1 − s2 is the
share of the posterior's draws, counted by their effective size. q is a normal fitted to half the draws in coordinates
without borders; r comes from the other half, and the other way round.

The coefficients x of groups and structures, as many as there are, are no part of q: p(y, theta) is estimated by K
importance draws x from the Gaussian of x | theta, y that Laplace's approximation gives. At a draw of the posterior its
own x is one of the K, which keeps r right for every K: then theta and the K draws have the density that the estimate
suggests (Andrieu, Doucet & Holenstein 2010, J. R. Statist. Soc. B 72, 269-342). For a Gaussian response the Gaussian of
x is exact, and nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from bayou._types import Array, Integers
from bayou.conditional.field import Field
from bayou.errors import BayouError, Unsupported
from bayou.families.codes import GAUSSIAN_IDENTITY
from bayou.formula.words import listing
from bayou.posterior.convergence import effective_size
from bayou.predict.coordinates import coefficients, hyperparameters
from bayou.priors.scalar import from_code

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["LogMarginal", "bridge", "improper_priors"]

COPIES = 32  # importance draws of the coefficients at each theta
MOST, LEAST = 1000, 100  # draws of each half at which the model is evaluated, by its size
EASY = 2000  # rows and coefficients up to which it is the most
STEPS, SETTLED = 1000, 1e-10
STILL = 1e-14  # variance of a logarithm that does not move
LARGE = 0.1  # error that is told


@dataclass(frozen=True)
class LogMarginal:
    """The log marginal likelihood log p(y), every constant in.

    Attributes
    ----------
    value, error
        The estimate and its standard error.
    halves
        What each half of the draws says by a proposal fitted to the other.
    draws, effective_size
        How many draws of the posterior were looked at, and how many independent ones they are worth.
    proposals
        How many draws of the proposals.
    notes
        Sentences.
    """

    value: float
    error: float
    halves: tuple[float, float]
    draws: int
    effective_size: float
    proposals: int
    notes: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        first = (
            f"log p(y) = {self.value:.3f}, standard error {self.error:.3f} (bridge sampling, {self.draws:,} draws "
            f"worth {self.effective_size:,.0f}, {self.proposals:,} proposals)"
        )
        return "\n".join([first, *self.notes])


def improper_priors(model: Model) -> list[str]:
    """Return what in a model has a prior without an integral, in words."""
    bound = model.bound
    found = []
    if bound.beta_flat.shape[1]:
        flat = np.flatnonzero(np.abs(bound.beta_flat).max(axis=1) > 1e-12)
        names = [model.design.coefficients[k] for k in flat]
        if len(names) > bound.beta_flat.shape[1] and "Intercept" in names:
            names.remove("Intercept")  # it moves along with columns that are not centred
        found.append("the fixed effects " + listing(names))
    for block in bound.blocks:
        g = model.design.groupings[block.grouping]
        for k, column in enumerate(block.columns):
            if block.kind == "sds" and not from_code(int(block.sd_codes[k]), block.sd_parameters[k]).proper:
                found.append(f"sd_{g.name}[{g.coefficients[column]}]")
        if block.kind == "inverse_wishart" and (
            block.df <= len(block.columns) - 1 or np.linalg.eigvalsh(block.scale)[0] <= 0.0
        ):
            found.append(f"Sigma_{g.name}")
    for term, effect, priors in zip(model.design.structured, model.effects, bound.structured, strict=True):
        if effect.null:
            found.append(f"a part of {term.text or term.name}")
        found += [
            f"{h.role}_{term.name}" for h, p in zip(effect.hyperparameters, priors, strict=True) if not p.proper
        ]
    if bound.dispersion_name is not None and not from_code(bound.dispersion_code, bound.dispersion_parameters).proper:
        found.append(bound.dispersion_name)
    return found


def bridge(posterior: Posterior, seed: int | None = None) -> LogMarginal:
    """Estimate log p(y) from the draws of a Markov chain.

    Parameters
    ----------
    posterior
        Of a sampler, with draws of all coefficients.
    seed
        Of the proposals; None takes that of the fit.

    Raises
    ------
    Unsupported
        With an improper prior (log p(y) is then not defined), after an engine without Markov chains, without draws of
        the coefficients, and for models that have no Laplace approximation.
    BayouError
        If the chains are too short, or the estimate does not settle.

    References
    ----------
    Meng & Wong (1996), Statistica Sinica 6, 831-860; Frühwirth-Schnatter (2004), Econometrics Journal 7, 143-167, for
    the error; Gronau et al. (2017), J. Math. Psychology 81, 80-97.
    """
    _check(posterior)
    work = _Evaluation(posterior)
    rng = np.random.default_rng(np.random.SeedSequence(_seed(posterior, seed), spawn_key=(3,)))
    kept = posterior.effect_draws
    half = len(kept) // 2
    if half * posterior.chains < max(50, 10 * work.size):
        raise BayouError(
            f"Bridge sampling fits a normal in {work.size} dimensions to half of the draws, and there are "
            f"{len(kept) * posterior.chains}. Fit with more draws."
        )
    parts = kept[:half], kept[half : 2 * half]
    thetas = [hyperparameters(work.field, posterior, part) for part in parts]
    one, two = (
        _estimate(work, posterior, parts[k], thetas[k], np.concatenate(thetas[1 - k]), rng) for k in (0, 1)
    )
    value = 0.5 * (one.value + two.value) + work.constant
    # the halves know of errors that a formula does not
    error = 0.5 * max(float(np.hypot(one.error, two.error)), abs(one.value - two.value))
    notes = []
    if error > LARGE:
        notes.append(f"The error is large: log Bayes factors are not known to better than {2 * error:.1f}. Draw more.")
    return LogMarginal(
        value,
        error,
        (one.value + work.constant, two.value + work.constant),
        one.draws + two.draws,
        one.effective_size + two.effective_size,
        one.draws + two.draws,
        tuple(notes),
    )


def _check(posterior: Posterior) -> None:
    found = posterior.estimates
    if found is not None or not posterior.chained:
        has = f"by {found.method}" if found is not None else "by an approximation, which has fit.log_marginal"
        raise Unsupported(
            f"Bridge sampling takes draws of a Markov chain, and this fit is {has}. Fit with engine='gibbs', "
            "'metropolis' or 'nuts'."
        )
    improper = improper_priors(posterior.model)
    if improper:
        raise Unsupported(
            f"The marginal likelihood is not defined: the prior of {'; '.join(improper)} has no integral, so that "
            "log p(y) is known up to a constant only. Give proper priors, or compare by fit.loo()."
        )


def _seed(posterior: Posterior, seed: int | None) -> int:
    return abs(int(posterior.info.get("seed") or 0)) if seed is None else abs(int(seed))


class _Evaluation:
    """The density of the hyperparameters, at any of them."""

    def __init__(self, posterior: Posterior) -> None:
        model = posterior.model
        normal = not len(model.working.codes)
        try:
            self.field = Field(model)
        except Unsupported:
            if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
                raise
            self.field = Field(model, integrated=False)  # the fixed effects are then part of theta
        self.size = self.field.size
        self.exact = self.field.code == GAUSSIAN_IDENTITY and (normal or bool(self.field.explicit))
        # theta has working fixed effects in units of their own, and their prior those printed
        self.constant = 0.0
        if self.field.explicit:
            jacobian = np.linalg.slogdet(model.working.to_printed)[1] + np.log(self.field.beta_unit).sum()
            self.constant = float(jacobian)

    def __call__(self, theta: Array, own: Array | None, rng: np.random.Generator) -> float:
        """Return log p(y, theta), or an estimate that is right on average; ``own`` is the x (N,) of the draw."""
        field = self.field
        if not field.place(theta):
            return -np.inf
        prior = field.log_prior(theta)
        if self.exact or not len(field.x):
            return field.value() + prior
        X = field.draw(rng, COPIES - (own is not None))
        if own is not None:
            X = np.concatenate([own[None], X])
        logs = field.log_ratio(X)
        return float(logsumexp(np.where(np.isnan(logs), -np.inf, logs)) - np.log(COPIES) + prior)


@dataclass(frozen=True)
class _Half:
    value: float
    error: float
    draws: int
    effective_size: float


def _estimate(
    work: _Evaluation, posterior: Posterior, places: Integers, thetas: Array, fitted: Array, rng: np.random.Generator
) -> _Half:
    """Bridge between draws at these places, whose hyperparameters are ``thetas``, and a normal fitted to others."""
    field, d, chains = work.field, work.size, posterior.chains
    size = posterior.model.design.n + len(field.x)
    most = int(np.clip(MOST * EASY / size, LEAST, MOST))
    chosen = np.unique(np.linspace(0, len(places) - 1, max(1, most // chains)).astype(int))
    thetas = thetas[:, chosen]
    X = None if work.exact else coefficients(field, posterior, places[chosen], thetas, rng)
    mean = fitted.mean(axis=0)
    root = _root(np.cov(fitted.T).reshape(d, d)) if d else np.zeros((0, 0))
    half_log_det = float(np.log(np.diag(root)).sum()) + 0.5 * d * np.log(2.0 * np.pi)
    z = np.linalg.solve(root, (thetas - mean)[..., None])[..., 0] if d else np.zeros_like(thetas)
    n = chains * len(chosen)
    proposed = rng.standard_normal((n, d))
    log_q = -0.5 * np.square(z).sum(axis=-1) - half_log_det, -0.5 * np.square(proposed).sum(axis=-1) - half_log_det
    at_draws = np.empty(thetas.shape[:2])
    for c, s in np.ndindex(at_draws.shape):
        at_draws[c, s] = work(thetas[c, s], None if X is None else X[c, s], rng)
    at_proposed = np.array([work(mean + root @ one, None, rng) for one in proposed])
    first, second = at_draws - log_q[0], at_proposed - log_q[1]
    if not np.isfinite(first).all():
        raise BayouError("The density of some draws is zero in bridge sampling: they are not of this model.")
    return _settled(first, second)


def _root(covariance: Array) -> Array:
    try:
        if np.diag(covariance).min() < STILL:
            raise np.linalg.LinAlgError
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise BayouError(
            "Some hyperparameters do not vary over the draws, or move together exactly, and bridge sampling has no "
            "density for that: fit with more draws, or see fit.verdict."
        ) from None


def _settled(first: Array, second: Array) -> _Half:
    """Iterate to the optimal bridge from log ratios at draws (chains, n) and at proposals (m,)."""
    effective = _worth(first)
    s1 = effective / (effective + len(second))
    centre = float(np.median(first))
    a, b = first - centre, second - centre
    r = 0.0
    for _ in range(STEPS):
        new = _log_mean(b - np.logaddexp(np.log(s1) + b, np.log1p(-s1) + r)) - _log_mean(
            -np.logaddexp(np.log(s1) + a, np.log1p(-s1) + r)
        )
        moved, r = abs(new - r), new
        if moved < SETTLED:
            break
    else:
        raise BayouError("Bridge sampling did not settle: the draws and the proposal hardly overlap. Draw more.")
    # p / (s1 p + s2 q) at proposals, q / (s1 p + s2 q) at draws, relative to their means
    f1 = np.exp(b - r - np.logaddexp(np.log(s1) + b - r, np.log1p(-s1)))
    f2 = np.exp(-np.logaddexp(np.log(s1) + a - r, np.log1p(-s1)))
    worth = _worth(f2)
    error = f1.var() / f1.mean() ** 2 / len(second) + f2.var() / f2.mean() ** 2 / worth
    return _Half(float(centre + r), float(np.sqrt(error)), first.size, worth)


def _worth(values: Array) -> float:
    """Return how many independent draws those of chains (chains, n) are worth, at most as many as they are."""
    if np.ptp(values) == 0.0 or values.shape[1] < 4:
        return float(values.size)
    return float(np.clip(effective_size(values[None], "mean")[0], 1.0, values.size))


def _log_mean(logs: Array) -> Any:
    return logsumexp(logs) - np.log(logs.size)

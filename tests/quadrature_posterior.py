"""The posterior of a model with one grouping factor from its quadrature: importance sampling of what is left.

The coefficients of the groups are integrated out by adaptive quadrature; the fixed effects, sds, correlations and the
dispersion are drawn from a multivariate t around the maximum, once to find where the posterior is and once more from
there, and weighted by likelihood times prior. Nothing of a sampler or of INLA is in it.
"""

from __future__ import annotations

import copy

import numpy as np
from scipy.stats import multivariate_t

from bayou.conditional.adaptive import AdaptiveQuadrature
from bayou.diagnose.compared import GRID, QUARTERS, Sample
from bayou.engines import Quadrature
from bayou.engines.marginal.natural import from_scale, natural_rows
from bayou.model import Model

FREEDOM, FIRST, SECOND = 5, 800, 2500


class Criterion:
    """log p(y, beta, sds, correlations, dispersion) up to a constant, of (printed beta, the others on their scale)."""

    def __init__(self, model: Model, nodes: int) -> None:
        self.model, self.of = model, AdaptiveQuadrature(model, nodes, True)
        self.rows = natural_rows(model, self.of.levels > 0)
        self.P = model.design.X.shape[1]
        self.into = np.linalg.inv(model.working.to_printed)

    def __call__(self, at: np.ndarray) -> float:
        beta, t = at[: self.P], at[self.P :]
        values = from_scale(t, self.rows)
        p = self.model.design.groupings[0].Z.shape[1]
        sd, cor, dispersion, slope = np.ones(p), np.eye(p), np.ones(1), 0.0
        for row, value in zip(self.rows, values, strict=True):
            if row.variable.startswith("sd_"):
                sd[row.index[0]] = value
                slope += np.log(value)
            elif row.variable.startswith("cor_"):
                cor[row.index] = cor[row.index[::-1]] = value
                slope += np.log1p(-(value**2))
            else:
                dispersion[:] = value
                # the prior is a density of sigma, or of one over the root of phi or of the shape
                slope += np.log(value) if row.variable == "sigma" else -0.5 * np.log(value)
        if p > 1 and np.linalg.eigvalsh(cor)[0] < 1e-9:
            return -np.inf
        T = np.zeros(self.of.numbers.shape)
        T[0] = sd[:, None] * np.linalg.cholesky(cor)
        psi = self.of.join(self.into @ beta, T, dispersion)
        if not self.of.place(psi):
            return -np.inf
        return self.of.value() + self.of.log_prior(psi) + slope


def quadrature_posterior(model: Model, seed: int, nodes: int = 9) -> Sample:
    """The posterior of every summary row, with the Monte Carlo errors of the weights."""
    frozen = copy.copy(model)
    frozen.priors_given = True
    rng = np.random.default_rng(seed)
    found = Quadrature(nodes=nodes).run(frozen, rng).estimates
    criterion = Criterion(frozen, nodes)
    P = criterion.P
    centre = np.concatenate([found.estimate[:P], found.theta])
    spread = np.zeros((len(centre), len(centre)))
    spread[:P, :P], spread[P:, P:] = found.beta_covariance, found.theta_covariance
    assert np.isfinite(centre).all() and np.isfinite(spread).all(), "the maximum lies at a border: take other data"
    _, _, centre, spread = weighted(criterion, centre, 1.5 * spread, FIRST, rng)
    draws, weights, _, _ = weighted(criterion, centre, 1.1 * spread, SECOND, rng)
    values = np.column_stack([draws[:, :P], from_scale(draws[:, P:], criterion.rows)])
    names = (*(f"beta[{c}]" for c in model.design.coefficients), *(row.name for row in criterion.rows))
    return described(names, values, weights)


def weighted(criterion, centre, spread, count, rng):
    """Draws, their weights, and the mean and covariance of the weighted draws."""
    proposal = multivariate_t(centre, spread * (FREEDOM - 2) / FREEDOM, FREEDOM, seed=rng)
    draws = proposal.rvs(count)
    logs = np.array([criterion(x) for x in draws]) - proposal.logpdf(draws)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    size = 1.0 / np.sum(weights**2)
    assert size > 0.15 * count, f"only {size:.0f} effective draws"
    mean = weights @ draws
    off = draws - mean
    return draws, weights, mean, (off * weights[:, None]).T @ off


def described(names, values, weights) -> Sample:
    mean = weights @ values
    off = values - mean
    sd = np.sqrt(weights @ off**2)
    error = np.sqrt(weights**2 @ off**2)
    sd_error = np.sqrt(weights**2 @ (off**2 - sd**2) ** 2) / (2 * sd)
    size = np.full(len(names), 1.0 / np.sum(weights**2))
    order = np.argsort(values, axis=0)
    quantiles = np.empty((len(names), len(GRID)))
    parts = np.empty((len(names), 3))
    for k in range(len(names)):
        w = weights[order[:, k]]
        at = np.cumsum(w) - 0.5 * w
        quantiles[k] = np.interp(GRID, at, values[order[:, k], k])
        parts[k] = np.interp(QUARTERS, at, values[order[:, k], k])
    width = 0.5 * (parts[:, 2] - parts[:, 1])
    # of a normal the median has 1.25 times the error of the mean; twice leaves room for others
    return Sample(
        "densities", tuple(names), mean, sd, error, sd_error, parts[:, 0], width, 2 * error, 2 * error,
        quantiles, np.full(len(names), np.nan), size,
    )  # fmt: skip

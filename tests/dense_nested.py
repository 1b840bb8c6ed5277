"""Exact posteriors of small models with one random intercept, by quadrature over everything: the oracle of INLA.

y_i | b, beta ~ Family(X beta + b_g(i)), b_j ~ N(0, exp(2 theta)): given (beta, theta) the groups are independent, and each
is an integral over one number; beta (one or none) and theta are summed over a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from bayou.binding import log_density_beta
from bayou.conditional.field import Field


@dataclass
class Exact:
    log_marginal: float
    beta: tuple[float, float]  # mean, sd; of one fixed effect
    sd: tuple[float, float]
    b: np.ndarray  # (2, J) means and sds
    theta: np.ndarray  # the grid
    theta_weight: np.ndarray
    log_given_theta: np.ndarray  # log p(y | theta)
    skewness: float  # of beta


def normal_points(count: int = 61) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite_e.hermegauss(count)
    return x, w / w.sum()


def exact_intercept(model: Any, theta: np.ndarray, dispersion: float | None = None, width: float = 7.0) -> Exact:
    """The posterior of a model with one random intercept and at most one fixed effect, theta on the given grid."""
    field = Field(model)
    design, J = model.design, len(model.design.groupings[0].levels)
    codes = design.groupings[0].codes
    P = design.X.shape[1]
    assert P <= 1
    z, w = normal_points()
    belongs = np.eye(J)[codes]
    logs, first, second, third = [], [], [], []
    effects, squares = [], []
    for t in theta:
        at = np.array([t])
        assert field.place(at)
        where = field.columns["beta"]
        if P:
            centre = float(model.working.to_printed[0, 0] * field.x[where][0])
            sd = float(np.sqrt(field.variances()[where][0]) * abs(model.working.to_printed[0, 0]))
            u = np.linspace(-width, width, 71)
            betas = centre + sd * u
            log_weight = np.full(len(u), np.log(sd * (u[1] - u[0])))
        else:
            betas, log_weight = np.zeros(1), np.zeros(1)
        total = np.empty(len(betas))
        mean, square = np.empty((len(betas), J)), np.empty((len(betas), J))
        b_mode = field.x[field.columns[f"b_{design.groupings[0].name}"]]
        b_sd = np.sqrt(field.variances()[field.columns[f"b_{design.groupings[0].name}"]]) * 1.3
        for k, beta in enumerate(betas):
            points = b_mode + np.multiply.outer(z, b_sd)  # (Z, J)
            eta = design.offset + (design.X[:, 0] * beta if P else 0.0) + points[:, codes]
            rows = model.family.log_density(design.y, eta, dispersion, design.trials, design.weights)
            height = rows @ belongs
            prior = -0.5 * np.square(points / np.exp(t)) - t - 0.5 * np.log(2 * np.pi)
            proposal = -0.5 * np.square(z)[:, None] - np.log(b_sd) - 0.5 * np.log(2 * np.pi)
            inner = height + prior - proposal + np.log(w)[:, None]
            top = inner.max(axis=0)
            share = np.exp(inner - top)
            total[k] = (np.log(share.sum(axis=0)) + top).sum()
            share /= share.sum(axis=0)
            mean[k], square[k] = (share * points).sum(axis=0), (share * points**2).sum(axis=0)
            if P:
                total[k] += log_density_beta(model.bound, np.array([beta]))
        total = total + log_weight
        top = total.max()
        share = np.exp(total - top)
        logs.append(float(np.log(share.sum()) + top))
        share /= share.sum()
        first.append(share @ betas)
        second.append(share @ betas**2)
        third.append(share @ betas**3)
        effects.append(share @ mean)
        squares.append(share @ square)
    given = np.array(logs)
    whole = given + np.array([field.log_prior(np.array([t])) for t in theta]) + np.log(np.gradient(theta))
    top = whole.max()
    weight = np.exp(whole - top)
    log_marginal = float(np.log(weight.sum()) + top)
    weight /= weight.sum()

    def moments(one: np.ndarray, two: np.ndarray) -> tuple[Any, Any]:
        m = weight @ one
        return m, np.sqrt(weight @ two - m**2)

    sds = np.exp(theta)
    beta = moments(np.array(first), np.array(second)) if P else (0.0, 0.0)
    b = np.stack(moments(np.array(effects), np.array(squares)))
    m3 = weight @ np.array(third)
    if not P:
        return Exact(log_marginal, (0.0, 0.0), moments(sds, sds**2), b, theta, weight, given, 0.0)
    skewness = (m3 - 3 * beta[0] * (weight @ np.array(second)) + 2 * beta[0] ** 3) / beta[1] ** 3
    return Exact(log_marginal, beta, moments(sds, sds**2), b, theta, weight, given, float(skewness))


class Known:
    """Stands in for a field whose log density of theta is a given function: what explores asks for."""

    def __init__(self, log_density: Any, start: np.ndarray) -> None:
        self.log_density, self.size, self.initial = log_density, len(start), start
        self.theta = start
        # one standing for all effects, whose coordinates are walked along
        hyper = tuple(SimpleNamespace(scale="log") for _ in start)
        effect = SimpleNamespace(hyperparameters=hyper)
        self.parts = (SimpleNamespace(effect=effect, hyper=slice(0, len(start)), log_prior=lambda theta: 0.0),)
        self.levels = 0
        self.model = SimpleNamespace(design=SimpleNamespace(n=1))
        self.x, self.count = np.zeros(1), 1

    def place(self, theta: np.ndarray) -> bool:
        self.theta = np.array(theta)
        return True

    def value(self) -> float:
        return float(self.log_density(self.theta))

    def log_prior(self, theta: np.ndarray) -> float:
        return 0.0

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        h = 1e-5
        slope = np.empty(len(theta))
        for i in range(len(theta)):
            step = np.zeros(len(theta))
            step[i] = h
            slope[i] = (self.log_density(theta + step) - self.log_density(theta - step)) / (2 * h)
        return -float(self.log_density(theta)), -slope

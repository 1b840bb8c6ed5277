"""Exact posteriors of small binomial models with one random intercept: product rules of Gauss and Hermite, nothing else.

For each value of log sd on a grid, the groups' coefficients are integrated out by a rule centred at their own mode for
each value of beta, and beta by a product rule centred at the mode of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, gammaln, xlog1py, xlogy

from bayou.model import Model


class Problem(NamedTuple):
    """y ~ Binomial(trials, expit(X beta + b[group])), b ~ N(0, sd²), beta_k ~ N(0, beta_sd_k²)."""

    y: np.ndarray
    trials: np.ndarray
    X: np.ndarray
    group: np.ndarray
    beta_sd: np.ndarray  # (P,)
    log_prior: Callable[[float], float]  # of log sd, Jacobian included


class Truth(NamedTuple):
    """Log marginal likelihood; means and sds of beta and of the sd; the grid and its weights."""

    log_marginal: float
    mean: np.ndarray
    sd: np.ndarray
    sds: np.ndarray
    weights: np.ndarray


def problem(model: Model, log_prior: Callable[[float], float], beta_sd: float | np.ndarray) -> Problem:
    """The problem of a bayou.Model with normal coefficients and one random intercept."""
    design = model.design
    group = design.groupings[0]
    codes = np.zeros(design.n, dtype=int)
    codes[:] = group.codes
    wide = np.broadcast_to(np.asarray(beta_sd, float), design.X.shape[1])
    trials = np.ones(design.n) if design.family.name == "bernoulli" else design.trials
    return Problem(np.asarray(design.y, float), np.asarray(trials, float), design.X, codes, wide, log_prior)


def _by_group(this: Problem, rows: np.ndarray, axis: int) -> np.ndarray:
    """Sums over the rows of each group."""
    order = np.argsort(this.group, kind="stable")
    starts = np.searchsorted(this.group[order], np.arange(this.group.max() + 1))
    return np.add.reduceat(np.take(rows, order, axis), starts, axis)


def _groups(this: Problem, beta: np.ndarray, sd: float, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log likelihood (S,) of beta (S, P), its gradient (S, P) and minus its Hessian (S, P, P)."""
    eta = beta @ this.X.T  # (S, n)
    g = this.group
    z = np.zeros((len(beta), g.max() + 1))  # b = sd z
    for _ in range(60):
        p = expit(eta + sd * z[:, g])
        slope = sd * _by_group(this, this.y - this.trials * p, 1) - z
        curve = sd**2 * _by_group(this, this.trials * p * (1 - p), 1) + 1
        step = slope / curve
        z = z + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    scale = 1 / np.sqrt(curve)
    t, w = np.polynomial.hermite.hermgauss(nodes)
    Z = z[..., None] + np.sqrt(2) * scale[..., None] * t  # (S, J, K)
    full = eta[..., None] + sd * Z[:, g]
    p = expit(full)
    rows = xlogy(this.y[:, None], p) + xlog1py((this.trials - this.y)[:, None], -p)
    logs = _by_group(this, rows, 1) - 0.5 * Z**2 + t**2 + np.log(w) + np.log(scale)[..., None] - 0.5 * np.log(np.pi)
    top = logs.max(axis=2)
    share = np.exp(logs - top[..., None])
    total = share.sum(axis=2)
    share /= total[..., None]
    constant = np.sum(gammaln(this.trials + 1) - gammaln(this.y + 1) - gammaln(this.trials - this.y + 1))
    value = (top + np.log(total)).sum(axis=1) + constant
    # the gradient and Hessian at the first beta only: for the mode
    s = this.y[:, None] - this.trials[:, None] * p[0]
    of_group = np.stack([_by_group(this, s * x[:, None], 0) for x in this.X.T], axis=-1)  # (J, K, P)
    mean = np.einsum("jk,jkp->jp", share[0], of_group)
    second = np.einsum("jk,jkp,jkq->pq", share[0], of_group, of_group) - mean.T @ mean
    weight = np.einsum("ik,ik->i", share[0][g], this.trials[:, None] * p[0] * (1 - p[0]))
    return value, mean.sum(axis=0), (this.X * weight[:, None]).T @ this.X - second


def exact(this: Problem, grid: np.ndarray, beta_nodes: int = 7, nodes: int = 31) -> Truth:
    """The posterior, by the trapezoid rule over an even grid of log sd."""
    P = this.X.shape[1]
    t, w = np.polynomial.hermite.hermgauss(beta_nodes)
    T = np.stack([a.ravel() for a in np.meshgrid(*[t] * P, indexing="ij")], axis=1) * np.sqrt(2)
    log_w = np.sum(np.stack([a.ravel() for a in np.meshgrid(*[np.log(w) + t**2] * P, indexing="ij")]), axis=0)
    beta = np.zeros(P)
    heights, first, second = [], [], []
    for u in grid:
        sd = float(np.exp(u))
        for _ in range(100):
            _, slope, curve = _groups(this, beta[None], sd, nodes)
            curve = curve + np.diag(1 / this.beta_sd**2)
            step = np.linalg.solve(curve, slope - beta / this.beta_sd**2)
            beta = beta + np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-8:
                break
        root = np.linalg.inv(np.linalg.cholesky(curve)).T
        points = beta + T @ root.T
        value = np.concatenate(
            [_groups(this, part, sd, nodes)[0] for part in np.array_split(points, 1 + len(T) // 500)]
        )
        value += -0.5 * np.sum((points / this.beta_sd) ** 2, axis=1) - np.sum(np.log(this.beta_sd * np.sqrt(2 * np.pi)))
        value += log_w + np.log(abs(np.linalg.det(root))) + 0.5 * P * np.log(2)
        top = value.max()
        share = np.exp(value - top)
        heights.append(top + np.log(share.sum()) + this.log_prior(u))
        share /= share.sum()
        first.append(share @ points)
        second.append(share @ points**2)
    height = np.asarray(heights)
    top = height.max()
    share = np.exp(height - top)
    log_marginal = top + np.log(share.sum() * (grid[1] - grid[0]))
    share /= share.sum()
    sds = np.exp(grid)
    of_all = np.column_stack([np.asarray(first), sds])
    squares = np.column_stack([np.asarray(second), sds**2])
    mean = share @ of_all
    return Truth(float(log_marginal), mean, np.sqrt(share @ squares - mean**2), sds, share)

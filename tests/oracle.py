"""What the kernels compute, the slow and obvious way: NumPy, dense matrices, one row after the other.

Everything is in printed coordinates: beta as the user sees it, group coefficients factor by factor in the
order of the design, level by level. `Point` is one value of all unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayou import binding
from bayou.binding import log_density_block
from bayou.effects.iid import BlockTable
from bayou.model import Model


@dataclass
class Point:
    """One value of every unknown of a model."""

    beta: np.ndarray  # (P,)
    b: list[np.ndarray]  # (J, p) of each factor of the design
    Sigma: list[np.ndarray]  # one for each block of the bound priors
    dispersion: np.ndarray  # (levels of sigma,): sigma, phi or shape


def clone(model: Model, y: np.ndarray) -> Model:
    """The same model, priors and all, with another response."""
    other = object.__new__(Model)
    other._set(replace(model.design, y=y), model.bound)
    other.__dict__["working"] = model.working
    return other


def linear_predictor(model: Model, beta: np.ndarray, b: list[np.ndarray]) -> np.ndarray:
    """X beta + Z b + offset, row by row."""
    design = model.design
    eta = design.X @ beta + design.offset
    for grouping, values in zip(design.groupings, b, strict=True):
        eta = eta + (grouping.Z * values[grouping.codes]).sum(axis=1)
    return eta


def row_scale(model: Model, dispersion: np.ndarray) -> np.ndarray | None:
    """The dispersion of each row."""
    if model.family.dispersion is None:
        return None
    if model.dispersion_known:
        return model.design.standard_errors
    return np.asarray(dispersion)[model.design.sigma_codes]


def log_likelihood(model: Model, point: Point) -> float:
    design = model.design
    eta = linear_predictor(model, point.beta, point.b)
    scale = row_scale(model, point.dispersion)
    return float(model.family.log_density(design.y, eta, scale, design.trials, design.weights).sum())


def covariance(model: Model, g: int, Sigma: list[np.ndarray]) -> np.ndarray:
    """The covariance matrix (p, p) of one factor from those of its blocks."""
    p = model.design.groupings[g].Z.shape[1]
    out = np.zeros((p, p))
    for block, value in zip(model.bound.blocks, Sigma, strict=True):
        if block.grouping == g:
            out[np.ix_(block.columns, block.columns)] = value
    return out


def log_prior(model: Model, point: Point) -> float:
    """Priors of beta, of the covariance matrices (density on their lower triangles) and of s.

    s is the sd-like dispersion: sigma, 1/sqrt(phi) or 1/sqrt(shape).
    """
    total = binding.log_density_beta(model.bound, point.beta)
    for block, Sigma in zip(model.bound.blocks, point.Sigma, strict=True):
        total += log_density_block(block, Sigma)
    if model.family.dispersion is not None and not model.dispersion_known:
        sigma = model.family.dispersion == "sigma"
        s = point.dispersion if sigma else 1 / np.sqrt(point.dispersion)
        total += float(np.sum(binding.log_density_dispersion(model.bound, s)))
    return float(total)


def log_effects(model: Model, point: Point) -> float:
    """log p(b | Sigma)."""
    total = 0.0
    for g, values in enumerate(point.b):
        Sigma = covariance(model, g, point.Sigma)
        log_det = np.linalg.slogdet(2 * np.pi * Sigma)[1]
        for row in values:
            total -= 0.5 * (log_det + row @ np.linalg.solve(Sigma, row))
    return float(total)


def log_joint(model: Model, point: Point) -> float:
    return log_likelihood(model, point) + log_effects(model, point) + log_prior(model, point)


def dense(model: Model) -> np.ndarray:
    """One column for every coefficient: all levels of all factors, then the fixed effects."""
    columns = []
    for grouping in model.design.groupings:
        J, p = len(grouping.levels), grouping.Z.shape[1]
        Z = np.zeros((model.design.n, J * p))
        for i, code in enumerate(grouping.codes):
            Z[i, code * p : (code + 1) * p] = grouping.Z[i]
        columns.append(Z)
    return np.hstack([*columns, model.design.X])


def row_precision(model: Model, sigma: np.ndarray) -> np.ndarray:
    scale = row_scale(model, sigma)
    return model.design.weights / scale**2


def prior_of_coefficients(model: Model, Sigma: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision of the columns of `dense`; rows of awkward priors are zero."""
    parts = []
    for g, grouping in enumerate(model.design.groupings):
        inverse = np.linalg.inv(covariance(model, g, Sigma))
        parts += [inverse] * len(grouping.levels)
    parts.append(model.bound.beta_precision)
    size = sum(len(part) for part in parts)
    precision = np.zeros((size, size))
    at = 0
    for part in parts:
        precision[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    mean = np.zeros(size)
    mean[size - len(model.bound.beta_mean) :] = model.bound.beta_mean
    return mean, precision


def conditional(model: Model, Sigma: list[np.ndarray], sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all coefficients given covariances and residual sds (Gaussian response)."""
    A, w = dense(model), row_precision(model, sigma)
    mean, precision = prior_of_coefficients(model, Sigma)
    total = (A.T * w) @ A + precision
    y = model.design.y - model.design.offset
    V = np.linalg.inv(total)
    return V @ ((A.T * w) @ y + precision @ mean), V


def log_marginal(model: Model, Sigma: list[np.ndarray], sigma: np.ndarray) -> float:
    """log p(y | theta) with all coefficients integrated out: y is Gaussian, its covariance an n x n matrix."""
    A, w = dense(model), row_precision(model, sigma)
    mean, precision = prior_of_coefficients(model, Sigma)
    V = A @ np.linalg.solve(precision, A.T) + np.diag(1 / w)
    e = model.design.y - model.design.offset - A @ mean
    return float(-0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + e @ np.linalg.solve(V, e)))


def block_factor(blocks: BlockTable, r: int, L: np.ndarray) -> np.ndarray:
    """The covariance matrix of block r from the padded factor of the kernels."""
    p = int(blocks.size[r])
    lower = np.tril(L[r, :p, :p])
    return lower @ lower.T


def draw_from_prior(model: Model, rng: np.random.Generator) -> Point:
    """One draw of every unknown from proper priors."""
    Sigma = [binding.draw_block(block, rng) for block in model.bound.blocks]
    b = []
    for g, grouping in enumerate(model.design.groupings):
        factor = np.linalg.cholesky(covariance(model, g, Sigma))
        b.append(rng.standard_normal((len(grouping.levels), len(factor))) @ factor.T)
    levels = len(model.design.sigma_levels)
    return Point(binding.draw_beta(model.bound, rng), b, Sigma, binding.draw_dispersion(model.bound, rng, levels))


def draw_response(model: Model, point: Point, rng: np.random.Generator) -> np.ndarray:
    design = model.design
    eta = linear_predictor(model, point.beta, point.b)
    return model.family.sample(rng, eta, row_scale(model, point.dispersion), design.trials, design.weights)


def standard_errors_from_zero(differences: np.ndarray) -> np.ndarray:
    """z of the means of independent replicates (replicate, quantity)."""
    n = len(differences)
    spread = differences.std(axis=0, ddof=1)
    # what a move leaves alone comes back with rounding only
    return differences.mean(axis=0) / np.maximum(spread / np.sqrt(n), 1e-9)

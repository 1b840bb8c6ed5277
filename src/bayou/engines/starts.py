"""Starting values that lie inside every prior's support and on the scale of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.design.passes import cut
from bayou.effects.iid import INVERSE_WISHART, STANDARD_DEVIATIONS, BlockTable
from bayou.priors import Uniform
from bayou.priors.codes import OF_PRECISION, OF_VARIANCE, UNIFORM
from bayou.priors.table import prior_log_density

if TYPE_CHECKING:
    from bayou.conditional.field import GaussianField
    from bayou.model import Model


TRIES = 100  # random starting points, after which a model is given up


def response_scale(model: Model) -> float:
    """Return a typical size of the linear predictor: sd(y) for an identity link, else 1."""
    if model.family.link.name != "identity":
        return 1.0
    s = model.design.moments.sd
    return s if s > 0.0 else 1.0


def inside(value: float, code: int, parameters: Array) -> float:
    """Move a standard deviation into the support of a bounded prior on it, its square or its inverse square."""
    low, high = float(parameters[0]), float(parameters[1])
    of = {UNIFORM: 1.0, OF_VARIANCE + UNIFORM: 2.0, OF_PRECISION + UNIFORM: -2.0}.get(code)
    if of is None or low < value**of < high:
        return value
    return float((0.5 * (low + high)) ** (1.0 / of))


def starting_factors(model: Model, blocks: BlockTable, spread: float) -> Array:
    """Diagonal factors L (B, p, p): half of the response's spread divided by the column's size, times ``spread``."""
    L = np.zeros((*blocks.A.shape, blocks.A.shape[1]))
    s = response_scale(model)
    for r, bound in enumerate(model.bound.blocks):
        for k, column in enumerate(bound.columns):
            size = model.design.moments.size(bound.grouping, column)
            value = 0.5 * spread * s / (size if size > 0.0 else 1.0)
            if blocks.kind[r] == INVERSE_WISHART:
                # its support has no edge, but a start far from the scale matrix takes long to return
                value = min(value, 10.0 * float(np.sqrt(blocks.scale[r, k, k])))
            if blocks.kind[r] == STANDARD_DEVIATIONS:
                value = inside(value, int(blocks.codes[r, k]), blocks.parameters[r, k])
            L[r, k, k] = value
    return L


def starting_scale(model: Model, spread: float) -> Array:
    """Residual sds (levels of sigma,): sd(y), or 1 where the rows' own standard errors are known."""
    levels = len(model.design.sigma_levels)
    if model.dispersion_known:
        return np.ones(levels)
    value = spread * response_scale(model)
    value = inside(value, int(model.bound.dispersion_code), np.asarray(model.bound.dispersion_parameters))
    return np.full(levels, value)


def starting_theta(of: GaussianField) -> Array:
    """Return where a search over the parameters of a `Field` begins: its own start, moved into the priors' support."""
    psi = np.array(of.initial, dtype=np.float64)
    bound = of.model.bound
    blocks = iter(bound.blocks)

    def moved(t: float, code: int, parameters: Array) -> float:
        return float(np.log(inside(float(np.exp(t)), code, parameters)))

    for part in of.parts:
        at = of.explicit + part.hyper.start
        if part.grouping >= 0:
            block = next(blocks)
            for k in range(len(block.columns) if block.kind == "sds" else 0):
                psi[at + k] = moved(psi[at + k], int(block.sd_codes[k]), block.sd_parameters[k])
            continue
        for k, (prior, h) in enumerate(zip(bound.structured[part.term], part.effect.hyperparameters, strict=True)):
            if h.role == "sd":
                psi[at + k] = moved(psi[at + k], prior.code, np.array(prior.parameters))
            elif isinstance(prior, Uniform):
                low, high = prior.parameters[:2]
                if not low < h.value(float(psi[at + k])) < high:
                    psi[at + k] = h.internal(0.5 * (low + high))
    power = 1.0 if of.model.family.dispersion == "sigma" else -0.5
    for k in range(of.size - of.levels, of.size):
        psi[k] = moved(power * psi[k], bound.dispersion_code, np.array(bound.dispersion_parameters)) / power
    return psi


def starting_effects(model: Model, rng: np.random.Generator) -> Iterator[Array]:
    """Yield starting points for the working fixed effects, the best first.

    The first is the weighted regression of the link of the response, moved a little off the edges: without it a
    Newton step from zero to counts of 1e12 is longer than any that can be shortened. Then zero, then draws on
    ever smaller scales.
    """
    P = len(model.working.mean)
    if P == 0:
        yield np.zeros(0)
        return
    zero = _supported(model, np.zeros(P))
    with np.errstate(all="ignore"):
        fitted = _supported(model, _regression(model))
    if np.isfinite(fitted).all():
        yield fitted
    yield zero
    size = largest_columns(model)
    for attempt in range(TRIES):
        shift = rng.standard_normal(P) * 10.0 ** (-attempt / 10.0) / np.where(size > 0.0, size, 1.0)
        yield _supported(model, zero + shift)


def largest_columns(model: Model) -> Array:
    """Return the largest absolute values (P,) of the working columns."""
    out = np.zeros(len(model.working.mean))
    for part in cut(model.design):
        np.maximum(out, np.abs(model.working.part(part)).max(axis=0), out=out)
    return out


def _regression(model: Model) -> Array:
    """Return the first step of iterated weighted least squares, with the prior."""
    design, working = model.design, model.working
    typical = sum(float(np.sum(np.abs(design.y[part]))) for part in cut(design)) / design.n or 1.0
    H: Array = np.zeros((1, 1))
    g: Array = np.zeros(1)
    squares: Array = np.zeros(1)
    most = np.float64(0.0)
    for part in cut(design):
        mean, weight = _working_response(model, part, typical)
        X, eta = working.part(part), model.family.link(mean) - design.offset[part]
        most, before = np.fmax(most, weight.max()), most
        weight, scale = np.asarray(weight / most, dtype=np.float64), float(before / most)
        H = H * scale + X.T @ (weight[:, None] * X)
        g = g * scale + X.T @ (weight * eta)
        squares = squares + (X * X).sum(axis=0)
    precision = working.precision + np.diag(working.curvature)
    prior = precision @ working.mean
    return np.asarray(
        np.linalg.solve(H + 1e-10 * np.diag(squares) + 1e-6 * precision, g + 1e-6 * prior), dtype=np.float64
    )


def _working_response(model: Model, part: slice, typical: float) -> tuple[Array, Array]:
    """Return means (n,) off the edges and weights of some rows; ``typical`` is the mean of |y|."""
    design, family, y = model.design, model.family, model.design.y[part]
    if family.name in ("bernoulli", "binomial"):
        mean = (y + 0.5) / (design.trials[part] + 1.0)
        weight = design.trials[part] * mean * (1.0 - mean)
    elif family.link.name == "identity":
        mean, weight = y, np.ones(len(y))
    else:
        mean = np.maximum(y, 0.1 * min(typical, 1.0) if family.name != "gaussian" else 0.1 * typical)
        weight = {"poisson": mean, "gamma": np.ones(len(y))}.get(family.name, mean / (1.0 + mean))
    return mean, weight * design.weights[part]


def _supported(model: Model, beta: Array) -> Array:
    """Move coefficients with bounded priors into their support."""
    working = model.working
    known = len(working.codes)
    for i in range(known):
        at = len(beta) - known + i
        a, b, c = (float(v) for v in working.parameters[i])
        value = prior_log_density(int(working.codes[i]), a, b, c, float(beta[at]))
        if not value > -np.inf:
            beta[at] = working.inside(i)
    return beta


def no_start(model: Model) -> str:
    """Say why no starting point has a finite log likelihood: the row and the term of the largest predictor."""
    design = model.design
    effect = np.abs(model.working.X * _supported(model, np.zeros(model.working.X.shape[1])))
    terms = {"the offset": np.abs(design.offset)}
    terms |= {f"column {name}": effect[:, k] for k, name in enumerate(design.coefficients[: effect.shape[1]])}
    name = max(terms, key=lambda term: float(terms[term].max()))
    row = int(terms[name].argmax())
    return (
        f"The log likelihood is not finite at any of {TRIES + 2} starting points: {name} alone makes the linear "
        f"predictor {terms[name][row]:.3g} in row {row + 1}. Bring it to a smaller scale, or give a wider prior."
    )

"""The log density of the priors at each draw, part by part, on the scale on which each prior is stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta, log_density_structured
from bayou.priors import LKJ, HuangWand, InverseWishart
from bayou.priors.codes import HALF_T
from bayou.priors.covariance import log_sd_jacobian
from bayou.priors.scalar import from_code

if TYPE_CHECKING:
    from bayou.binding import BlockPrior
    from bayou.effects.base import Hyperparameter
    from bayou.posterior import Posterior
    from bayou.priors import Prior

__all__ = ["log_prior_parts"]


def log_prior_parts(posterior: Posterior) -> dict[str, Callable[[], Array]]:
    """Return for each part of the prior a function that computes its log density (chain, draw).

    The parts are ``beta`` (as printed), for each grouping factor ``sd_g`` (densities of sds) and ``cor_g`` (LKJ), or
    ``Sigma_g`` (Wishart and Huang-Wand, as densities of sds and correlations: a power of a density depends on what it
    is a density of, and these are what the summary shows), ``sd_t``, ``rho_t``, ``phi_t`` of
    structured effects, and the dispersion (of sigma, or of 1/√phi, 1/√shape). The coefficients of groups and structures
    are not among them: their distribution given sds and correlations is part of the model, not a prior to be chosen.
    """
    model, bound = posterior.model, posterior.model.bound
    parts: dict[str, Callable[[], Array]] = {}
    if len(model.design.coefficients):
        parts["beta"] = lambda: _each(posterior.draws["beta"], lambda beta: log_density_beta(bound, beta))
    for block in bound.blocks:
        g = model.design.groupings[block.grouping]
        for name, density in _of_block(posterior, block, g.name).items():
            before = parts.get(name)
            parts[name] = density if before is None else _sum(before, density)
    for k, (term, effect) in enumerate(zip(model.design.structured, model.effects, strict=True)):
        for h, prior in zip(effect.hyperparameters, bound.structured[k], strict=True):
            name = f"{h.role}_{term.name}"
            parts[name] = _of_structured(posterior, name, prior, h)
    dispersion = bound.dispersion_name
    if dispersion is not None and dispersion in posterior.draws:
        parts[dispersion] = lambda: _of_dispersion(posterior, dispersion)
    return parts


def _of_structured(posterior: Posterior, name: str, prior: Prior, h: Hyperparameter) -> Callable[[], Array]:
    if h.role == "sd":
        stated = from_code(prior.code, prior.parameters)
        return lambda: stated.sd_log_density(posterior.draws[name])

    def of_value(value: float) -> float:
        t = h.internal(float(value))
        return float(log_density_structured(prior, h, t) - h.log_slope(t))

    return lambda: _each(posterior.draws[name], of_value, 0)


def _of_block(posterior: Posterior, block: BlockPrior, factor: str) -> dict[str, Callable[[], Array]]:
    """Return the densities of one correlated block of a grouping factor, by name of the part."""
    at = list(block.columns)

    def sds() -> Array:
        found = posterior.group("sd", factor)
        assert found is not None
        return found[..., at]

    def correlations() -> Array:
        found = posterior.group("cor", factor)
        assert found is not None
        return found[..., at, :][..., at]

    def matrices() -> Array:
        sd = sds()
        cor = correlations() if len(at) > 1 else np.ones((*sd.shape, 1))
        return np.asarray(cor * sd[..., :, None] * sd[..., None, :])

    def of_sds() -> Array:
        sd = sds()
        pairs = zip(block.sd_codes, block.sd_parameters, strict=True)
        each = [from_code(int(code), row).sd_log_density(sd[..., k]) for k, (code, row) in enumerate(pairs)]
        return np.asarray(np.sum(each, axis=0))

    if block.kind == "sds":
        made: dict[str, Callable[[], Array]] = {f"sd_{factor}": of_sds}
        if len(at) > 1:
            prior = LKJ(block.lkj)
            made[f"cor_{factor}"] = lambda: _each(correlations(), lambda R: float(prior.log_density(R)), 2)
        return made
    if block.kind == "huang_wand" and len(at) == 1:
        half_t = from_code(HALF_T, (block.df, float(block.A[0]), 0.0))
        return {f"sd_{factor}": lambda: half_t.sd_log_density(sds()[..., 0])}
    of = HuangWand(block.df, block.A) if block.kind == "huang_wand" else InverseWishart(block.df, block.scale)

    def of_matrix(Sigma: Array) -> float:
        return float(of.log_density(Sigma)) + float(log_sd_jacobian(np.sqrt(np.diag(Sigma))))

    return {f"Sigma_{factor}": lambda: _each(matrices(), of_matrix, 2)}


def _of_dispersion(posterior: Posterior, name: str) -> Array:
    bound = posterior.model.bound
    values = posterior.draws[name]
    s = values if name == "sigma" else 1.0 / np.sqrt(values)
    logs = from_code(bound.dispersion_code, bound.dispersion_parameters).sd_log_density(s)
    return logs if logs.ndim == 2 else np.asarray(logs.sum(axis=2))


def _each(values: Array, density: Callable[..., float], dimensions: int = 1) -> Array:
    """Evaluate a density at each draw of (chain, draw, …)."""
    lead = values.shape[:2]
    assert values.ndim == 2 + dimensions
    return np.array([[density(values[c, s]) for s in range(lead[1])] for c in range(lead[0])])


def _sum(one: Callable[[], Array], other: Callable[[], Array]) -> Callable[[], Array]:
    return lambda: np.asarray(one() + other())

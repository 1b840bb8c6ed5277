"""Priors of structured effects: which prior speaks of which hyperparameter, as densities of internal coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.binding.bound import BlockPrior, log_density_block
from bayou.binding.defaults import outcome_scale
from bayou.binding.keys import ROLES, own_scale_prior
from bayou.errors import PriorError
from bayou.priors import PC, Beta, Prior, Priors, Uniform
from bayou.priors.structured import Interval, PCCorrelation, PCMixing

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.effects.base import Effect, Hyperparameter
    from bayou.effects.exchangeable import Exchangeable

SMALL = 0.01
"""The default probability that the sd of an effect is above the scale of the outcome."""


def terms_of(design: Design) -> tuple[Any, ...]:
    """Return the structured terms of a design."""
    return tuple(getattr(design, "structured", ()))


def structured_keys(design: Design, effects: Sequence[Effect]) -> list[str]:
    """Return the keys of priors that structured effects have."""
    out: list[str] = []
    for term, effect in zip(terms_of(design), effects, strict=True):
        for h in effect.hyperparameters:
            out += [f"{role}_{term.name}" for role in (ROLES if h.role == "sd" else (h.role,))]
    return out


def bind_structured(
    given: Priors, design: Design, effects: Sequence[Effect], explicit: dict[str, Prior]
) -> tuple[tuple[Prior, ...], ...]:
    """Return the prior of each hyperparameter of each structured effect, and add it to ``explicit``.

    Raises
    ------
    PriorError
        A class that does not fit its key, or numbers outside the range of the parameter.
    ImproperPosterior
        p(sd²) ∝ 1/sd².
    """
    bound = []
    for term, effect in zip(terms_of(design), effects, strict=True):
        own: list[Prior] = []
        for h in effect.hyperparameters:
            key = f"{h.role}_{term.name}"
            if h.role == "sd":
                prior = own_scale_prior(given, term.name) or PC(outcome_scale(design), SMALL)
                explicit[key] = prior
                own.append(prior)
                continue
            prior = given.get(key) or _default(effect.kind)
            explicit[key] = prior
            own.append(_on_interval(prior, effect, h, key))
        bound.append(tuple(own))
    return tuple(bound)


def _default(kind: str) -> Prior:
    if kind == "ar1":
        return PC(0.9, 0.1)
    return PC(0.5, 1.0 / 3.0) if kind == "bym2" else Uniform(0.0, 1.0)


def _on_interval(prior: Prior, effect: Effect, h: Hyperparameter, key: str) -> Prior:
    """Return the density of a correlation or a share that a prior means for this effect."""
    low = -1.0 if h.scale == "atanh" else 0.0
    if isinstance(prior, PC):
        if not prior.upper < 1.0:
            raise PriorError(f"{key} lies between {low:g} and 1: {prior} needs upper below 1.")
        if effect.kind == "ar1":
            return PCCorrelation(prior.upper, prior.probability, positive=h.scale == "logit")
        if effect.kind == "bym2":
            return PCMixing(prior.upper, prior.probability, effect.divergence)  # type: ignore[attr-defined]
        raise PriorError(f"{key} takes Uniform(0, 1) or Beta(a, b): {prior} has no meaning for {effect.kind}.")
    if isinstance(prior, Uniform):
        if prior.lower < low or prior.upper > 1.0:
            raise PriorError(f"{key} lies between {low:g} and 1, but its prior is {prior}.")
        return prior
    if isinstance(prior, Beta) and h.scale == "logit":
        return prior
    words = "PC(upper, probability), " if effect.kind in ("ar1", "bym2") else ""
    beta = " or Beta(a, b)" if h.scale == "logit" else ""
    raise PriorError(f"{key} takes {words}Uniform({low:g}, 1){beta}, not {prior}.")


class _StructuredDensity:
    """The log density of one hyperparameter in its internal coordinate, and its slope."""

    def __call__(self, prior: Prior, hyperparameter: Hyperparameter, t: float) -> float:
        """Return log p(value(t)) + log |d value / dt|.

        Parameters
        ----------
        prior
            Of `BoundPriors.structured`.
        hyperparameter
            Of the effect.
        t
            Internal coordinate.
        """
        if isinstance(prior, Interval):
            return prior.log_density_internal(t)
        value = hyperparameter.value(t)
        density = prior.sd_log_density(value) if hyperparameter.role == "sd" else prior.log_density(value)
        return float(density) + hyperparameter.log_slope(t)

    def slope(self, prior: Prior, hyperparameter: Hyperparameter, t: float) -> float:
        """Return the derivative by t, by differences of fourth order."""
        return float(_slopes(lambda at: self(prior, hyperparameter, float(at[0])), np.array([t]))[0])


def block_density(block: BlockPrior, effect: Exchangeable) -> Callable[[Array], float]:
    """Return theta -> log p(Sigma(theta)) + log |d Sigma / d theta| by the kernels of `bayou.effects.iid`.

    These work on √sd and leave a constant out, which is found at one point.
    """
    from bayou.effects import iid

    p = effect.size
    table = iid.tabulate([block])
    L, scratch = np.zeros((p, p)), np.zeros((p, p))

    def exactly(theta: Array) -> float:
        return float(log_density_block(block, effect.sigma(theta))) + effect.log_jacobian(theta)

    def quickly(theta: Array) -> float:
        t = np.array(theta, dtype=np.float64)
        t[:p] = np.exp(0.5 * t[:p])
        log_jacobian = iid.factor_from_coordinates(t, 0, p, L)
        if log_jacobian == -math.inf:
            return -math.inf
        # d √sd / d log sd = √sd / 2
        return float(iid.log_prior(table, 0, L, scratch)) + log_jacobian + 0.5 * float(theta[:p].sum())

    for log_sd in (0.0, -2.0, 2.0, -5.0, 5.0, -10.0, 10.0):
        at = np.zeros(len(effect.hyperparameters))
        at[:p] = log_sd
        constant = exactly(at) - quickly(at)
        if math.isfinite(constant):
            return lambda theta: quickly(theta) + constant
    return exactly


class _BlockDensity:
    """The log density of a block of group coefficients in internal coordinates, and its slopes."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[BlockPrior, Callable[[Array], float]]] = {}

    def __call__(self, block: BlockPrior, effect: Exchangeable, theta: Array) -> float:
        """Return log p(Sigma(theta)) + log |d Sigma / d theta|.

        Parameters
        ----------
        block
            Of `BoundPriors.blocks`.
        effect
            `bayou.effects.of_grouping` of the same block.
        theta
            (p (p + 1) / 2,) log sds, then atanh of the partial correlations.
        """
        found = self._made.get(id(block))
        if found is None or found[0] is not block:
            if len(self._made) >= KEPT:
                self._made.clear()
            found = self._made[id(block)] = (block, block_density(block, effect))
        return found[1](theta)

    def slope(self, block: BlockPrior, effect: Exchangeable, theta: Array) -> Array:
        """Return the gradient by theta, by differences of fourth order."""
        return _slopes(lambda at: self(block, effect, at), np.asarray(theta, dtype=np.float64))


KEPT = 64  # densities of blocks that are kept
log_density_structured = _StructuredDensity()
log_density_block_internal = _BlockDensity()


def _slopes(function: Callable[[Array], float], theta: Array, h: float = 1e-3) -> Array:
    """Return the gradient; one-sided values of −inf (the edge of a uniform density) count as flat."""
    out = np.zeros(len(theta))
    for k in range(len(theta)):
        at = theta.copy()
        found = []
        for step in (-2.0, -1.0, 1.0, 2.0):
            at[k] = theta[k] + step * h
            found.append(function(at))
        if all(math.isfinite(value) for value in found):
            out[k] = (found[0] - 8.0 * found[1] + 8.0 * found[2] - found[3]) / (12.0 * h)
    return out


def draw_structured(
    priors: Sequence[Prior], effect: Effect, rng: np.random.Generator, count: int
) -> tuple[dict[str, Array], Array]:
    """Draw hyperparameters and coefficients of one structured effect from their priors.

    Returns
    -------
    values
        Role -> (count,).
    x
        (count, replicates, size), free directions left at zero.
    """
    values: dict[str, Array] = {}
    thetas = np.empty((count, len(effect.hyperparameters)))
    for k, (prior, h) in enumerate(zip(priors, effect.hyperparameters, strict=True)):
        drawn = prior.sd_draw(rng, count) if h.role == "sd" else prior.draw(rng, count)
        values[h.role] = np.asarray(drawn)
        tiny = np.finfo(float).tiny
        low, high = (tiny, np.finfo(float).max) if h.scale == "log" else (tiny if h.scale == "logit" else -1.0, 1.0)
        inside = np.clip(drawn, np.nextafter(low, 2.0), np.nextafter(high, -2.0))
        thetas[:, k] = [h.internal(float(v)) for v in inside]
    return values, effect.draw_each(thetas, rng)

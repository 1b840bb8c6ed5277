"""The effects of a model as parts of one vector x: where their coefficients and hyperparameters stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou import effects
from bayou._types import Array
from bayou.binding import log_density_block_internal, log_density_structured
from bayou.priors.codes import HALF_T, INVERSE_GAMMA_VARIANCE
from bayou.priors.scalar import from_code
from bayou.priors.table import prior_log_density

if TYPE_CHECKING:
    from bayou.binding import BlockPrior
    from bayou.effects.base import Effect, Hyperparameter
    from bayou.effects.exchangeable import Exchangeable
    from bayou.model import Model
    from bayou.priors import Prior

__all__ = ["Component", "components", "difference", "log_density_of_sd", "scale_of_block"]

STEP = 1e-5  # of the differences of log priors


@dataclass(frozen=True, eq=False)
class Component:
    """One effect: a correlated block of a grouping factor, or a structured effect.

    Attributes
    ----------
    effect
        Its structure.
    name
        Of the factor, or of the structured effect.
    offset
        Of its coefficients in x: replicate by replicate.
    first
        Of its hyperparameters in theta.
    grouping
        Number of the grouping factor; −1 for a structured effect, whose number is ``term``.
    columns
        Of the factor's Z.
    log_prior
        Log density of its hyperparameters in internal coordinates, Jacobian in.
    """

    effect: Effect
    name: str
    offset: int
    first: int
    grouping: int
    term: int
    columns: tuple[int, ...]
    log_prior: Callable[[Array], float]

    @property
    def size(self) -> int:
        """How many coefficients it has, all replicates together."""
        return self.effect.size * self.effect.replicates

    @property
    def place(self) -> slice:
        """Its coefficients in x."""
        return slice(self.offset, self.offset + self.size)

    def prior_slopes(self, theta: Array) -> Array:
        """Return the gradient of `log_prior` by central differences; zero at the edge of a bounded density."""
        return np.array([difference(self.log_prior, theta, k) for k in range(len(theta))])

    @property
    def hyper(self) -> slice:
        """Its hyperparameters in theta."""
        return slice(self.first, self.first + len(self.effect.hyperparameters))


def components(model: Model) -> list[Component]:
    """List the effects of a model in the order of x: blocks of the grouping factors, then structured effects."""
    made: list[Component] = []
    offset = first = 0
    for block in model.bound.blocks:
        g = model.design.groupings[block.grouping]
        own = effects.of_grouping(g, g.blocks.index(block.columns))
        prior = _block_prior(block, own)
        made.append(Component(own, g.name, offset, first, block.grouping, -1, block.columns, prior))
        offset, first = offset + made[-1].size, first + len(own.hyperparameters)
    for k, (term, effect) in enumerate(zip(model.design.structured, model.effects, strict=True)):
        prior = _structured_prior(model.bound.structured[k], effect)
        made.append(Component(effect, term.name, offset, first, -1, k, (), prior))
        offset, first = offset + made[-1].size, first + len(effect.hyperparameters)
    return made


def _block_prior(block: BlockPrior, effect: Exchangeable) -> Callable[[Array], float]:
    if len(block.columns) > 1:
        return lambda theta: log_density_block_internal(block, effect, theta)
    of_sd = log_density_of_sd(*scale_of_block(block))
    return lambda theta: of_sd(float(theta[0])) + float(theta[0])


def scale_of_block(block: BlockPrior) -> tuple[int, tuple[float, ...]]:
    """Return the code and the numbers of the density of the sd of a block of one coefficient."""
    if block.kind == "sds":
        return int(block.sd_codes[0]), tuple(float(v) for v in block.sd_parameters[0])
    if block.kind == "huang_wand":  # of one coefficient it is a half-t of its sd
        return HALF_T, (block.df, float(block.A[0]), 0.0)
    return INVERSE_GAMMA_VARIANCE, (0.5 * block.df, 0.5 * float(block.scale[0, 0]), 0.0)


def _structured_prior(priors: Sequence[Prior], effect: Effect) -> Callable[[Array], float]:
    terms = [_one(prior, h) for prior, h in zip(priors, effect.hyperparameters, strict=True)]
    return lambda theta: sum(term(float(t)) for term, t in zip(terms, theta, strict=True))


def _one(prior: Prior, h: Hyperparameter) -> Callable[[float], float]:
    if h.role != "sd":
        return lambda t: log_density_structured(prior, h, t)
    of_sd = log_density_of_sd(prior.code, prior.parameters)
    return lambda t: of_sd(t) + t


def log_density_of_sd(code: int, parameters: Sequence[float] | Array) -> Callable[[float], float]:
    """Return log p(s) as a function of log s, normalised: the kernels' table and the constant that it leaves out."""
    a, b, c = (float(p) for p in parameters)
    whole = from_code(code, parameters).sd_log_density
    for s in (1.0, 1e-2, 1e2, 1e-6, 1e6, 0.5 * (a + b)):
        some = float(prior_log_density(code, a, b, c, s)) if s > 0.0 else -math.inf
        if math.isfinite(some):
            constant = float(whole(s)) - some
            return lambda t: float(prior_log_density(code, a, b, c, math.exp(t))) + constant
    return lambda t: float(whole(math.exp(t)))


def difference(of: Callable[[Array], float], at: Array, k: int) -> float:
    """Return the slope of a function in coordinate k; zero at the edge of a bounded density."""
    step = np.zeros(len(at))
    step[k] = STEP
    change = of(at + step) - of(at - step)
    return change / (2.0 * STEP) if math.isfinite(change) else 0.0

"""The whole way of the engine: mode, nodes, marginals, check."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayou.conditional.field import Field, GaussianField
from bayou.design.passes import require_memory
from bayou.engines.nested.check import LARGEST_ERROR, LARGEST_SHIFT, LEAST_SIZE, Corrected, correct
from bayou.engines.nested.climb import Peak
from bayou.engines.nested.explore import Mode, explore
from bayou.engines.nested.hyper import hyper_marginals
from bayou.engines.nested.importance import EASY, Particles, model_size, particles, sizes
from bayou.engines.nested.latent import Parts, parts_of, unit_of
from bayou.engines.nested.likelihood import Likelihood, Rows
from bayou.engines.nested.survey import Nodes, survey
from bayou.engines.starts import starting_theta
from bayou.errors import BayouError, Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Marginal

__all__ = ["Found", "find"]

MOST_ON_A_GRID = 4  # hyperparameters
NEARLY, HOPELESS = 0.1, 1.0  # share of the effective size, and k-hat, from which more draws help
FLOOR = 0.1  # of the mode's covariance, added to that of few weighted hyperparameters
ROUNDS = 2  # of more draws
ENOUGH, MORE = 1.3, (1, 5)  # how many times what it takes, and how many times as many are added


@dataclass(frozen=True, eq=False)
class Found:
    """What the engine has found.

    Attributes
    ----------
    parts
        Mixtures of the coefficients by the strategy, before any correction.
    hyper
        Marginals of the printed hyperparameters, likewise.
    particles, corrected
        Of the check; None where there was none.
    seconds
        Of each stretch of the way.
    """

    field: GaussianField
    mode: Mode
    rows: Rows
    nodes: Nodes
    strategy: str
    parts: Parts
    hyper: tuple[Marginal, ...]
    particles: Particles | None
    corrected: Corrected | None
    seconds: dict[str, float]
    messages: tuple[str, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Why the check failed; empty if it passed, and where there was none."""
        return () if self.corrected is None else self.corrected.reasons

    @cached_property
    def here(self) -> tuple[Field, Likelihood, Nodes]:
        """The approximation, the rows and the nodes in this process, wherever they were found."""
        if isinstance(self.field, Field):
            assert isinstance(self.rows, Likelihood)
            return self.field, self.rows, self.nodes
        require_memory(self.field.model.design, "What INLA makes when it is looked at (joint draws, criteria)")
        field, rows = Field(self.field.model), Likelihood(self.field.model)
        looked = []
        for node in self.nodes.nodes:
            if field.place(node.theta):
                node = replace(node, rows=rows.there(field, node.theta, node.mean))
            looked.append(node)
        return field, rows, replace(self.nodes, nodes=tuple(looked))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the printed rows, the fixed effects first."""
        return row_names(self.field)


def row_names(field: GaussianField) -> tuple[str, ...]:
    """Return the names of the printed rows of a model, the fixed effects first."""
    coefficients = field.model.design.coefficients
    return (*(f"beta[{c}]" for c in coefficients), *(row.name for row in field.rows))


def find(
    model: Model, strategy: str, kind: str, check: bool, cores: int, rng: np.random.Generator
) -> Found:
    """Explore, survey, integrate and check a model; raises what `search` does, and what its `Field`."""
    require_one_dispersion(model)
    return search(Field(model), Likelihood(model), strategy, kind, check, cores, rng)


def require_one_dispersion(model: Model) -> None:
    """Refuse one dispersion per level of a family that is not Gaussian."""
    if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
        raise Unsupported(
            f"INLA takes one {model.family.dispersion} for all rows; sigma_by= gives a {model.family.name} response "
            "several. Leave sigma_by out, or use engine='metropolis'."
        )


def search(
    field: GaussianField, rows: Rows, strategy: str, kind: str, check: bool, cores: int, rng: np.random.Generator
) -> Found:
    """Explore, survey, integrate and check, wherever the rows are.

    Raises
    ------
    Unsupported
        For a grid of more than four hyperparameters.
    BayouError
        If the density of the hyperparameters has no mode to be found.
    """
    started = time.perf_counter()
    if kind == "grid" and field.size > MOST_ON_A_GRID:
        raise Unsupported(
            f"A grid over {field.size} hyperparameters has too many nodes. Use nodes='ccd' (nodes='auto' takes it)."
        )
    try:
        mode = explore(field, starting_theta(field))
    except ArithmeticError as error:
        raise BayouError(
            f"INLA found no mode of the hyperparameters: {error}. The data may say nothing of some of them: give "
            "informative priors, or use engine='metropolis'."
        ) from error
    messages = []
    if not mode.converged:
        messages.append("The search for the mode of the hyperparameters stopped before it had converged.")
    if mode.others:
        gap = mode.height - mode.others[0].height
        messages.append(
            f"The density of the hyperparameters has {len(mode.others) + 1} modes; the second is lower by {gap:.1f}."
        )
    explored = time.perf_counter()
    nodes = survey(field, rows, mode, kind, strategy, cores)
    if not nodes.nodes:
        raise BayouError(
            "INLA found no mode of the coefficients at any node of the hyperparameters. Use engine='metropolis'."
        )
    lost = sum(not node.settled for node in nodes.nodes)
    if lost and strategy != "gaussian":
        messages.append(f"The correction of the means was not found at {lost} of {len(nodes.nodes)} nodes.")
    surveyed = time.perf_counter()
    base, parts = parts_of(field, nodes)
    hyper = tuple(hyper_marginals(field, mode, nodes))
    integrated = time.perf_counter()
    drawn, corrected = None, None
    if check:
        drawn, corrected = _checked(field, mode, nodes, base, parts, hyper, rows, strategy, rng, cores)
    ended = time.perf_counter()
    seconds = {
        "exploring": explored - started,
        "nodes": surveyed - explored,
        "marginals": integrated - surveyed,
        "checking": ended - integrated,
    }
    return Found(
        field, mode, rows, nodes, strategy, parts, hyper, drawn, corrected, seconds, tuple(messages)
    )


def _checked(
    field: GaussianField, mode: Mode, nodes: Nodes, base: Parts, parts: Parts, hyper: tuple[Marginal, ...],
    rows: Rows, strategy: str, rng: np.random.Generator, cores: int,
) -> tuple[Particles, Corrected]:  # fmt: skip
    """Draw and weigh; where that is nearly enough, add many draws."""
    field.place(mode.theta)
    unit = unit_of(field, base, mode.theta)
    thetas, pairs = sizes(field, mode, nodes, rows, rng)
    moved = base if strategy != "gaussian" else _moved(field, nodes, base)
    names = row_names(field)
    drawn = particles(field, mode, nodes, unit, rows, (thetas, pairs), rng, cores)
    corrected = correct(field, mode, nodes, moved, parts, hyper, unit, drawn, names)
    for _ in range(ROUNDS):
        near = corrected.k_hat < HOPELESS and corrected.effective_size > NEARLY * LEAST_SIZE
        if not corrected.reasons or not near or corrected.shift > LARGEST_SHIFT:
            break
        field.place(mode.theta)
        lacking = max(LEAST_SIZE / corrected.effective_size, (corrected.error / LARGEST_ERROR) ** 2)
        more = int(np.clip(np.ceil(ENOUGH * lacking - 1.0), *MORE)) if model_size(field) <= EASY else 2
        seen = _adapted(mode, drawn, corrected)
        added = particles(field, seen, nodes, unit, rows, (more * thetas, pairs), rng, cores)
        drawn = drawn.joined(added)
        corrected = correct(field, mode, nodes, moved, parts, hyper, unit, drawn, names)
    return drawn, corrected


def _adapted(mode: Mode, drawn: Particles, corrected: Corrected) -> Mode:
    """Return the mode with one beside it that has the mean and covariance of the weighted hyperparameters.

    The proposal then covers both: adaptive importance sampling (Cappé, Guillin, Marin & Robert 2004) in two steps.
    """
    weights = corrected.weights.exact
    if not len(mode.theta) or not np.isfinite(weights).all():
        return mode
    mean = weights @ drawn.thetas
    off = drawn.thetas - mean
    covariance = (off * weights[:, None]).T @ off + FLOOR * mode.covariance
    return replace(mode, others=(*mode.others, Peak(mean, mode.height, covariance)))


def _moved(field: GaussianField, nodes: Nodes, base: Parts) -> Parts:
    """Return the mixtures of the moved Gaussians that the particles are drawn from, where the strategy moves none."""
    means = base.means.copy()
    back, where = field.model.working.to_printed, field.columns["beta"]
    for k, node in enumerate(nodes.nodes):
        if node.force.any():
            field.place(node.theta)
            move = field.solve(node.force)
            means[k] += np.concatenate([move, back @ move[where]])
    return Parts(base.weights, means, base.sds)

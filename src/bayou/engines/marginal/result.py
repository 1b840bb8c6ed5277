"""From a maximum to the one result type: estimates, their uncertainty when it is asked for, draws when looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.joint import Conditional
from bayou.engines.marginal.natural import (
    NaturalRow,
    Row,
    dispersion_name,
    from_scale,
    natural_rows,
    natural_values,
    to_scale,
)
from bayou.posterior import Posterior, factor_names
from bayou.posterior.estimates import Errors, Estimates, errors_of
from bayou.posterior.lazy import DrawnOnDemand

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model

CHAINS, DRAWS = 4, 1000
LARGEST = 512 * 2**20  # bytes of group coefficients among the draws
FEWEST = 25  # draws a chain, however many coefficients there are


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an engine hands over.

    Attributes
    ----------
    method, criterion
        In words: "REML", "restricted log likelihood".
    order
        Grouping factors by position.
    T, dispersion
        Factors (K, p, p) of the covariances in the response's units, and dispersions (S,).
    joint
        The joint Gaussian of the coefficients at the estimates.
    gradient
        The gain that one more step promises.
    uncertainty
        Returns the covariance (P, P) of the working fixed effects and that of the hyperparameters, each on its own
        scale (`NaturalRow`), NaN where there is none.
    """

    method: str
    criterion: str
    order: tuple[int, ...]
    T: Array
    dispersion: Array
    joint: Conditional
    uncertainty: Callable[[], tuple[Array, Array]]
    log_likelihood: float
    parameters: int
    converged: bool
    gradient: float
    iterations: int
    singular: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    priors_used: bool = False
    estimated_dispersion: bool = True
    df: Callable[[], Array] | None = None


def posterior(model: Model, engine: Engine, found: Outcome, rng: np.random.Generator) -> Posterior:
    """Build the result; nothing that may not be needed is computed before it is asked for."""
    natural = natural_rows(model, found.estimated_dispersion)
    dispersion = dispersion_name(model, found.estimated_dispersion)
    values = natural_values(model, found.order, found.T, found.dispersion, natural)
    theta = to_scale(values, natural)
    beta = found.joint.beta
    P = len(beta)
    back = model.working.to_printed

    scale = ("identity",) * P + tuple(row.scale for row in natural)
    estimate = np.concatenate([beta, values])

    def errors() -> Errors:
        working, spread = found.uncertainty()
        border = ~np.isfinite(theta)
        spread = np.where(border[:, None] | border, np.nan, spread)
        return errors_of(back @ working @ back.T, spread, estimate, scale)

    estimates = Estimates(
        method=found.method,
        rows=(*(f"beta[{c}]" for c in model.design.coefficients), *(row.name for row in natural)),
        estimate=estimate,
        scale=scale,
        theta=theta,
        errors=errors,
        log_likelihood=found.log_likelihood,
        parameters=found.parameters,
        observations=model.design.given,
        criterion=found.criterion,
        converged=found.converged,
        gradient=float(np.sqrt(2.0 * max(found.gradient, 0.0))),
        iterations=found.iterations,
        singular=found.singular,
        failures=found.failures,
        notes=found.notes,
        priors_used=found.priors_used,
        df=found.df,
        effects=found.joint.effects,
    )
    shapes, count = _shapes(model, dispersion, P)
    sequence = np.random.SeedSequence(int(rng.integers(2**63)))

    def draw() -> dict[str, Array]:
        return _draw(model, found, natural, values, theta, shapes, count, np.random.default_rng(sequence))

    info = {"engine": engine.name, "messages": []}
    return Posterior(
        model=model, engine=engine.describe(), draws=DrawnOnDemand(shapes, draw), info=info, estimates=estimates
    )


def _shapes(model: Model, dispersion: str | None, P: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return the shape of each variable among the draws, and how many draws a chain has."""
    design = model.design
    printed = factor_names([g.name for g in design.groupings], model.family.dispersion or dispersion)
    coefficients = sum(len(g.levels) * g.Z.shape[1] for g in design.groupings)
    count = DRAWS if not coefficients else int(np.clip(LARGEST // (8 * CHAINS * coefficients), FEWEST, DRAWS))
    lead = (CHAINS, count)
    shapes: dict[str, tuple[int, ...]] = {"beta": (*lead, P)}
    if dispersion is not None:
        shapes[dispersion] = lead if design.sigma_by is None else (*lead, len(design.sigma_levels))
    for g in design.groupings:
        name, p = printed[g.name], g.Z.shape[1]
        shapes[f"sd_{name}"] = (*lead, p)
        if any(len(block) > 1 for block in g.blocks):
            shapes[f"cor_{name}"] = (*lead, p, p)
        shapes[f"b_{name}"] = (*lead, len(g.levels), p)
    return shapes, count


def _draw(
    model: Model,
    found: Outcome,
    natural: list[NaturalRow],
    values: Array,
    theta: Array,
    shapes: dict[str, tuple[int, ...]],
    count: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Draw coefficients from their joint Gaussian at the estimates, hyperparameters from theirs beside it."""
    total = CHAINS * count
    dispersion = dispersion_name(model, found.estimated_dispersion)
    printed = factor_names([g.name for g in model.design.groupings], model.family.dispersion or dispersion)
    working, spread = found.uncertainty()
    x = found.joint.draw(rng, total, working)
    drawn = {"beta": x.pop("beta"), **{f"b_{printed[name]}": b for name, b in x.items()}}
    scatter(drawn, shapes, natural, values, theta, spread, total, rng)
    return {name: values.reshape(CHAINS, count, *values.shape[1:]) for name, values in drawn.items()}


def scatter(
    drawn: dict[str, Array],
    shapes: dict[str, tuple[int, ...]],
    natural: Sequence[Row],
    values: Array,
    theta: Array,
    spread: Array,
    total: int,
    rng: np.random.Generator,
) -> None:
    """Add ``total`` draws of the hyperparameters: normal on their scales, with covariance ``spread``, around theta.

    Those without a spread stay at ``values``.
    """
    known = np.isfinite(theta) & np.isfinite(np.diag(spread))
    moved = np.tile(theta, (total, 1))
    if known.any():
        eigenvalues, vectors = np.linalg.eigh(spread[np.ix_(known, known)])
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        moved[:, known] += rng.standard_normal((total, int(known.sum()))) @ root.T
    numbers = np.where(known, from_scale(np.where(known, moved, 0.0), natural), values)
    for name, shape in shapes.items():
        if name.startswith("cor_"):
            drawn[name] = np.tile(np.eye(shape[-1]), (total, 1, 1))
        elif name not in drawn:
            drawn[name] = np.zeros((total, *shape[2:]))
    for k, row in enumerate(natural):
        place: tuple[Any, ...] = (slice(None), *row.index)
        drawn[row.variable][place] = numbers[:, k]
        if len(row.index) == 2:
            i, j = row.index
            drawn[row.variable][:, j, i] = numbers[:, k]
    for name in drawn:
        if name.startswith("cor_"):
            drawn[name] = _definite(drawn[name])


def _definite(correlations: Array) -> Array:
    """Move drawn matrices of three and more coefficients that are no correlations to the nearest edge of those."""
    if correlations.shape[-1] < 3:
        return correlations
    smallest = np.linalg.eigvalsh(correlations)[:, 0]
    shrink = np.where(smallest < 0.0, 0.999 / (1.0 - smallest), 1.0)[:, None, None]
    eye = np.eye(correlations.shape[-1])
    return np.asarray(shrink * correlations + (1.0 - shrink) * eye)

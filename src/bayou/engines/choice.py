"""Which engine for which model: the one table that `engine="auto"` reads and the documentation prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayou.design.passes import beyond_memory

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["TABLE", "Choice", "chosen", "hyperparameters", "markdown"]

MOST_BY_INLA = 8  # hyperparameters: beyond, the importance weights of its check almost always fail
MOST_CROSSED = 300  # coefficients beside the largest factor: a draw factorises a dense matrix of so many


@dataclass(frozen=True)
class Choice:
    """One row of the table.

    Attributes
    ----------
    when
        The condition in words.
    applies
        The condition itself, of a model and of whether settings of chains were named.
    engines
        What is tried, in this order.
    why
        The reason in words.
    """

    when: str
    applies: Callable[[Model, bool], bool]
    engines: tuple[str, ...]
    why: str


def hyperparameters(model: Model) -> int:
    """Return how many numbers a model has beside its coefficients: covariances, dispersions, those of structures."""
    groups = sum(len(block) * (len(block) + 1) // 2 for g in model.design.groupings for block in g.blocks)
    structures = sum(len(effect.hyperparameters) for effect in model.effects)
    own = 0 if model.family.dispersion is None or model.dispersion_known else len(model.design.sigma_levels)
    return groups + structures + own


def _own(model: Model, chains: bool) -> bool:
    return bool(getattr(model.family, "own", False))


def _files(model: Model, chains: bool) -> bool:
    return beyond_memory(model.design)


def _gaussian(model: Model, chains: bool) -> bool:
    return model.family.name == "gaussian" and model.family.link.name == "identity"


def _dear(model: Model, chains: bool) -> bool:
    sizes = sorted(g.Z.shape[1] * len(g.levels) for g in model.design.groupings)
    large = bool(model.design.structured) or sum(sizes[:-1]) > MOST_CROSSED
    return large and _gaussian(model, chains) and not chains and not _many(model, chains)


def _chains(model: Model, chains: bool) -> bool:
    return chains


def _many(model: Model, chains: bool) -> bool:
    return hyperparameters(model) > MOST_BY_INLA


def _any(model: Model, chains: bool) -> bool:
    return True


TABLE = (
    Choice(
        "a family of your own",
        _own,
        ("nuts",),
        "its log density is all that is known of it",
    ),
    Choice(
        "rows that lie in files, a million and more",
        _files,
        ("metropolis",),
        "it visits the rows where they are",
    ),
    Choice(
        f"Gaussian, structures or over {MOST_CROSSED} crossed columns",
        _dear,
        ("inla", "gibbs", "metropolis", "nuts"),
        "a draw costs much",
    ),
    Choice(
        "other Gaussian response, identity link",
        _gaussian,
        ("gibbs", "metropolis", "nuts"),
        "a draw needs only sums over the rows",
    ),
    Choice(
        "draws, warmup, chains, thin, keep_effects or store given",
        _chains,
        ("metropolis", "nuts"),
        "only Markov chains have these",
    ),
    Choice(
        f"more than {MOST_BY_INLA} hyperparameters",
        _many,
        ("metropolis", "nuts"),
        "too many for the weights of INLA's check",
    ),
    Choice(
        "any other model",
        _any,
        ("inla", "metropolis", "nuts"),
        "INLA is faster than a chain, and measures its own error",
    ),
)


def chosen(model: Model, chains: bool) -> Choice:
    """Return the first row of the table that applies.

    Parameters
    ----------
    model
        The model.
    chains
        Whether settings were named that only Markov chains have.
    """
    return next(row for row in TABLE if row.applies(model, chains))


def markdown() -> str:
    """Return the table as the documentation prints it.

    Examples
    --------
    >>> print(markdown().splitlines()[0])
    | where | it tries, in turn | because |
    """
    lines = ["| where | it tries, in turn | because |", "|---|---|---|"]
    for row in TABLE:
        names = ", ".join(f"`{name}`" for name in row.engines)
        lines.append(f"| {row.when} | {names} | {row.why} |")
    return "\n".join(lines)

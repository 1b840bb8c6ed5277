"""Whether one model is a special case of another, and whether it lies on the border of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers
from bayou.streaming.aligned import same_response

if TYPE_CHECKING:
    from bayou.design import Design, Grouping
    from bayou.design.structured import StructuredTerm
    from bayou.model import Model

SAME = 1e-7  # of a column's length, outside the span of others


@dataclass(frozen=True)
class Nesting:
    """How a smaller model stands to a larger one.

    Attributes
    ----------
    reason
        Why it is no special case, a sentence; empty if it is one.
    directions
        In how many directions a covariance of the larger model is zero in the smaller.
    """

    reason: str = ""
    directions: int = 0


def within(columns: Array, span: Array) -> bool:
    """Whether every column of (n, p) is a combination of those of (n, q).

    >>> within(np.array([[2.0], [4.0]]), np.array([[1.0], [2.0]]))
    True
    """
    if not columns.shape[1]:
        return True
    length = np.sqrt(np.sum(np.square(columns), axis=0))
    unit = columns / np.where(length > 0.0, length, 1.0)
    if span.shape[1]:
        size = np.sqrt(np.sum(np.square(span), axis=0))
        U, s, _ = np.linalg.svd(span / np.where(size > 0.0, size, 1.0), full_matrices=False)
        U = U[:, s > 1e-10 * s[0]]
        unit = unit - U @ (U.T @ unit)
    return bool(np.sqrt(np.sum(np.square(unit), axis=0)).max() < SAME)


def same_groups(one: Integers, other: Integers) -> bool:
    """Whether two codings (n,) put the same rows together."""
    return finer(one, other) and finer(other, one)


def finer(fine: Integers, coarse: Integers) -> bool:
    """Whether each level of ``fine`` (n,) lies within one of ``coarse`` (n,); codes are not negative."""
    pairs = fine * (int(coarse.max(initial=0)) + 1) + coarse
    return len(np.unique(pairs)) == len(np.unique(fine))


def same_data(one: Design, other: Design) -> bool:
    """Whether two designs are of the same response in the same rows."""
    if one.reduced is not None or other.reduced is not None:
        return same_response(one, other)
    return one.n == other.n and np.array_equal(one.y, other.y) and np.array_equal(one.trials, other.trials)


def same_fixed(one: Model, other: Model) -> bool:
    """Whether two models have the same fixed effects, so that restricted likelihoods compare."""
    a, b = one.design, other.design
    if sorted(a.coefficients) != sorted(b.coefficients):
        return False
    if a.reduced is not None or b.reduced is not None:  # the rows of each are its own, and names tell
        return sorted(a.formula.offsets) == sorted(b.formula.offsets)
    if not np.array_equal(a.offset, b.offset):
        return False
    order = [b.coefficients.index(c) for c in a.coefficients]
    return np.array_equal(a.X, b.X[:, order])


def nesting(small: Model, large: Model) -> Nesting:
    """Look whether ``small`` is a special case of ``large``, which has as many parameters or more.

    The columns of its fixed effects must be combinations of those of the larger model, each of its correlated blocks
    of group coefficients within the span of one such block on the same groups, its structured effects among those of
    the larger, and its residual sds no finer.
    """
    a, b = small.design, large.design
    if (small.family.name, small.family.link.name) != (large.family.name, large.family.link.name):
        return Nesting(f"{small.family} is not {large.family}")
    if small.dispersion_known != large.dispersion_known:
        return Nesting("only one of them knows the standard errors")
    if a.reduced is not None or b.reduced is not None:
        return nesting_by_names(small, large)
    both = a.standard_errors, b.standard_errors
    if both[0] is not None and both[1] is not None and not np.array_equal(both[0], both[1]):
        return Nesting("their standard errors differ")
    if not np.array_equal(a.weights, b.weights):
        return Nesting("their weights differ")
    if not within((a.offset - b.offset)[:, None], b.X):
        return Nesting("their offsets differ")
    if not within(a.X, b.X):
        outside = [name for k, name in enumerate(a.coefficients) if not within(a.X[:, [k]], b.X)]
        return Nesting(f"the smaller one has the fixed effects {', '.join(outside)}, which the larger one has not")
    if not finer(b.sigma_codes, a.sigma_codes):
        return Nesting("the smaller one splits its residual sd otherwise")
    groups = _groups(a, b)
    if groups.reason:
        return groups
    structures = _structures(small, large)
    return Nesting(structures.reason, groups.directions + structures.directions)


def nesting_by_names(small: Model, large: Model) -> Nesting:
    """Look whether ``small`` is a special case of ``large`` by the names of what they have.

    That is what is left to go by where rows were summed or merged as they were read, in each model by its own columns:
    models that are the same in other words are not told.
    """
    a, b = small.design, large.design
    if a.weights_column != b.weights_column:
        return Nesting("their weights differ")
    if sorted(a.formula.offsets) != sorted(b.formula.offsets):
        return Nesting("their offsets differ")
    outside = [name for name in a.coefficients if name not in b.coefficients]
    if outside:
        return Nesting(f"the smaller one has the fixed effects {', '.join(outside)}, which the larger one has not")
    if a.sigma_by not in (None, b.sigma_by):
        return Nesting("the smaller one splits its residual sd otherwise")
    left = {(g.name, tuple(g.coefficients[c] for c in block)): 0 for g in b.groupings for block in g.blocks}
    for g in a.groupings:
        for block in g.blocks:
            names = tuple(g.coefficients[c] for c in block)
            home = next((key for key in left if key[0] == g.name and set(names) <= set(key[1])), None)
            if home is None:
                together = "correlated " if len(block) > 1 else ""
                words = ", ".join(names)
                return Nesting(f"the smaller one lets {together}{words} vary by {g.name}, and the larger one does not")
            left[home] += len(names)
    directions = sum(len(names) - known for (_, names), known in left.items())
    effects = [(term, effect) for term, effect in zip(b.structured, large.effects if b.structured else (), strict=True)]
    for term in a.structured:
        at = next((k for k, (other, _) in enumerate(effects) if other.text == term.text), None)
        if at is None:
            return Nesting(f"the smaller one has {term.text}, and the larger one does not")
        effects.pop(at)
    for term, effect in effects:
        if effect.null:
            return Nesting(f"{term.text} of the larger one leaves a part free when its sd is zero")
        directions += len(effect.hyperparameters)
    return Nesting(directions=directions)


def open_parts(model: Model) -> list[str]:
    """Return the structured effects whose prior leaves a part flat, over which the likelihood integrates."""
    terms = model.design.structured
    return [term.text for term, effect in zip(terms, model.effects if terms else (), strict=True) if effect.null]


def _structures(small: Model, large: Model) -> Nesting:
    """Match the structured effects of a smaller and a larger model; one more has an sd of zero in the smaller."""
    left = list(zip(large.design.structured, large.effects, strict=True)) if large.design.structured else []
    for term in small.design.structured:
        at = next((k for k, (other, _) in enumerate(left) if _same_structure(term, other)), None)
        if at is None:
            return Nesting(f"the smaller one has {term.text}, and the larger one does not")
        left.pop(at)
    for term, effect in left:
        if effect.null:
            return Nesting(f"{term.text} of the larger one leaves a part free when its sd is zero")
    # what else such an effect has (a correlation, a share) means nothing at zero: the tail is no longer simple
    return Nesting(directions=sum(len(effect.hyperparameters) for _, effect in left))


def _same_structure(one: StructuredTerm, other: StructuredTerm) -> bool:
    """Whether two structured effects have the same prior and stand in the same rows."""
    if (one.kind, one.column, one.by, one.options) != (other.kind, other.column, other.by, other.options):
        return False
    places = ("nodes", "replicate", "node", "value")
    if not all(np.array_equal(getattr(one, name), getattr(other, name)) for name in places):
        return False
    if one.graph is not None and other.graph is not None:
        edges = np.array_equal(one.graph.edges, other.graph.edges)
        return edges and np.array_equal(one.graph.weights, other.graph.weights)
    return all(_same_matrix(getattr(one, name), getattr(other, name)) for name in ("covariance", "precision"))


def _same_matrix(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and float(abs(one - other).max()) == 0.0


def _groups(a: Design, b: Design) -> Nesting:
    """Match the covariance blocks of a smaller and a larger design."""
    covered: dict[tuple[int, tuple[int, ...]], list[Array]] = {
        (k, block): [] for k, g in enumerate(b.groupings) for block in g.blocks
    }
    for g in a.groupings:
        partners = [k for k, other in enumerate(b.groupings) if same_groups(g.codes, other.codes)]
        for block in g.blocks:
            own = g.Z[:, list(block)]
            home = next(
                (key for key in covered if key[0] in partners and within(own, _columns(b.groupings[key[0]], key[1]))),
                None,
            )
            if home is None:
                words = ", ".join(g.coefficients[c] for c in block)
                together = "correlated " if len(block) > 1 else ""
                return Nesting(f"the smaller one lets {together}{words} vary by {g.name}, and the larger one does not")
            covered[home].append(own)
    directions = 0
    for (k, block), parts in covered.items():
        known = int(np.linalg.matrix_rank(np.hstack(parts))) if parts else 0
        directions += int(np.linalg.matrix_rank(_columns(b.groupings[k], block))) - known
    return Nesting(directions=directions)


def _columns(grouping: Grouping, block: tuple[int, ...]) -> Array:
    return grouping.Z[:, list(block)]

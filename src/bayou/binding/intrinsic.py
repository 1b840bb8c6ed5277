"""What structured effects leave to the data, and whether flat priors leave the same.

An intrinsic effect has directions that neither its precision nor its constraints determine, such as the line of
rw2; they act as fixed effects with flat priors. The posterior is proper only if the data tell all of these apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from bayou._types import Array, Integers, Mask
from bayou.binding.fixed import is_gaussian, listed, used_rows
from bayou.binding.ranks import rank
from bayou.binding.recession import recession, rows_that_stay
from bayou.binding.structured import terms_of
from bayou.errors import ImproperPosterior
from bayou.priors import codes

if TYPE_CHECKING:
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design
    from bayou.effects.base import Effect

POWERS = {codes.FLAT: 0, codes.FLAT_VARIANCE: 1}
DENSE = 20_000_000
"""Entries of the largest dense matrix whose rank is computed."""
PROGRAM = 2_000_000
"""Entries of the largest linear program over all free directions together."""
MANY = 3_000
"""Free directions up to which their products with each other are looked at."""
ALIKE = 1e-12
"""Smallest eigenvalue of the products of unit columns below which columns depend on each other."""


def check_structured(design: Design, bound: BoundPriors, effects: Sequence[Effect]) -> None:
    """Raise for structured effects that the priors and the data leave undetermined.

    Raises
    ------
    ImproperPosterior
        Naming the effects and coefficients, or the counts.
    """
    terms = terms_of(design)
    if not terms:
        return
    _free_directions(design, bound.beta_flat, terms, effects)
    improper = [k for k, priors in enumerate(bound.structured) if priors[0].code in POWERS and not priors[0].proper]
    others = any(b.kind == "sds" and any(int(c) in POWERS for c in b.sd_codes) for b in bound.blocks)
    for k in improper:
        name = f"sd_{terms[k].name}"
        if others or len(improper) > 1:
            raise ImproperPosterior(
                f"{name} has a flat prior beside other flat ones: whether such a posterior exists is not known. Give "
                "all but one proper priors such as PC(1, 0.01), or use the defaults."
            )
        needed = POWERS[bound.structured[k][0].code] + 2
        found = informative_places(design, terms[k], effects[k])
        lost = bound.beta_flat.shape[1] + _free(effects[k]) + len(effects[k].constraints) * effects[k].replicates
        if found - lost < needed:
            raise ImproperPosterior(
                f"{name} has a flat prior, which needs at least {needed} places of {terms[k].name!r} that the data "
                f"inform on their own, beyond constraints, free directions and flat fixed effects: there are {found} "
                f"and {lost} of those ({found} - {lost} = {found - lost}). Give it a proper prior such as "
                "PC(1, 0.01), or use the default."
            )


def check_without_priors(design: Design, effects: Sequence[Effect]) -> None:
    """Raise for structured effects that the data do not tell from fixed effects of which no prior speaks.

    Raises
    ------
    ImproperPosterior
        Naming the effects and coefficients.
    """
    terms = terms_of(design)
    if terms:
        _free_directions(design, np.eye(design.X.shape[1]), terms, effects)


def free_count(effects: Sequence[Effect]) -> int:
    """Return how many directions of all effects have a flat prior."""
    return sum(_free(effect) for effect in effects)


def _free(effect: Effect) -> int:
    return effect.null * effect.replicates


def rows_of(term: Any, effect: Effect) -> Any:
    """Return the rows of one effect, (n, replicates x observed) sparse."""
    n = len(term.start) - 1
    columns = term.replicate * effect.observed + term.node
    shape = (n, effect.replicates * effect.observed)
    return scipy.sparse.csr_array((term.value, columns, term.start), shape=shape)


def places_used(design: Design, rows: Array | Mask) -> int:
    """Return how many coefficients of structured effects these rows have something to do with."""
    total = 0
    for term in terms_of(design):
        within = np.repeat(rows, np.diff(term.start))
        total += len(np.unique(np.column_stack([term.replicate[within], term.node[within]]), axis=0))
    return total


def _free_directions(design: Design, beta_flat: Array, terms: Sequence[Any], effects: Sequence[Effect]) -> None:
    """Refuse free directions that the rows do not tell from each other and from flat fixed effects (P, F)."""
    used = used_rows(design)
    parts: list[Any] = []
    names: list[str] = []
    for term, effect in zip(terms, effects, strict=True):
        if effect.null == 0:
            continue
        free = effect.free_basis(effect.initial)[: effect.observed]
        copies = scipy.sparse.kron(scipy.sparse.eye_array(effect.replicates), free)
        parts.append(scipy.sparse.csc_array(rows_of(term, effect)[used] @ copies))
        text = f"{term.kind}({term.column})"
        for level in term.replicates:
            where = "" if term.by is None else f" at {term.by} = {level}"
            names += [text + where] * effect.null
    if not parts or not used.any():
        return
    flat = design.X[used] @ beta_flat
    for k in range(flat.shape[1]):
        names.append(listed([design.coefficients[j] for j in np.flatnonzero(np.abs(beta_flat[:, k]) > 0.0)]))
    S = scipy.sparse.hstack([*parts, scipy.sparse.csc_array(flat)]).tocsc()
    norms = np.sqrt(np.asarray(S.multiply(S).sum(axis=0))).ravel()
    typical = float(norms.max())
    lost = np.flatnonzero(norms <= 1e-9 * typical)
    if len(lost) == 0 and S.shape[1] <= MANY:
        lost = _alike(S @ scipy.sparse.diags_array(1.0 / norms))
    if len(lost):
        who = list(dict.fromkeys(names[k] for k in lost))
        raise ImproperPosterior(
            f"{listed(who)}: the prior of a structured effect leaves some directions free (a walk of order 2 its line, "
            "one that is not constrained its level, a season its pattern), as flat priors do, and the data do not "
            "tell these apart. Leave one of them out, or give fixed effects proper priors such as Normal(0, 10)."
        )
    if not is_gaussian(design):
        _bounded(design, S, names, used, flat.shape[1])


def _alike(unit: Any) -> Integers:
    """Return the columns of unit length that depend on each other; none if all are independent."""
    values, vectors = np.linalg.eigh((unit.T @ unit).toarray())
    count = unit.shape[1]
    if values[0] > ALIKE * count or (unit.shape[0] * count <= DENSE and rank(unit.toarray()) == count):
        return np.zeros(0, dtype=np.int64)
    direction = np.abs(vectors[:, 0])
    return np.flatnonzero(direction > 1e-3 * direction.max()).astype(np.int64)


def _bounded(design: Design, S: Any, names: list[str], used: Mask, flat: int) -> None:
    """Refuse free directions along which the likelihood does not fall to zero: together, or copy by copy."""
    falls, rises = (rows[used] for rows in rows_that_stay(design))
    if S.shape[0] * S.shape[1] <= PROGRAM:
        columns = [np.arange(S.shape[1])]
    else:
        labels = np.array(names[: S.shape[1] - flat])
        columns = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels)]
    for chosen in columns:
        block = S[:, chosen].tocsr()
        rows = np.flatnonzero(np.diff(block.indptr))
        d = recession(block[rows].toarray(), falls[rows], rises[rows])
        if d is not None:
            size = np.abs(d) * abs(block).max(axis=0).toarray().ravel()
            moved = chosen[np.flatnonzero(size > 1e-6 * size.max())]
            raise ImproperPosterior(
                f"{listed(list(dict.fromkeys(names[k] for k in moved)))}: the prior leaves directions free (a walk of "
                "order 2 its line), along which the likelihood does not fall to zero: the outcomes are separated, or "
                "all counts are 0. Use a structure without free directions, such as rw1 or ar1."
            )


def informative_places(design: Design, term: Any, effect: Effect) -> int:
    """Return the rank of the places of an effect whose own rows bound it from both sides.

    Gaussian and gamma rows do; counts where one is positive; trials where there are successes and failures.
    """
    used = used_rows(design)
    A = rows_of(term, effect)
    width = np.diff(A.indptr)
    if len(width) == 0 or width.max() != width.min():
        return 0
    k = int(width[0])
    described: Array = np.hstack([A.indices.reshape(-1, k), A.data.reshape(-1, k)])[used]
    places, first, at = np.unique(described, axis=0, return_index=True, return_inverse=True)
    at = np.asarray(at).ravel()
    weight = design.weights[used]
    y, trials = weight * design.y[used], weight * design.trials[used]
    successes = np.bincount(at, weights=y, minlength=len(places))
    held = np.ones(len(places), dtype=bool)
    if design.family.name in ("bernoulli", "binomial"):
        held = (successes > 0.0) & (np.bincount(at, weights=trials - y, minlength=len(places)) > 0.0)
    elif design.family.name in ("poisson", "negative_binomial"):
        held = successes > 0.0
    rows = A[np.flatnonzero(used)[first[held]]]
    if k == 1:
        return int(len(np.unique(rows.indices[rows.data != 0.0])))
    if rows.shape[0] * rows.shape[1] > DENSE:
        return 0
    return int(np.linalg.matrix_rank(rows.toarray())) if rows.shape[0] else 0

"""Rules that refuse an improper posterior before any sampling, and warn about fragile ones.

Improper densities are compared by their tails. As an sd s grows the integrated likelihood falls as
s^(−q), q the number of levels that inform the coefficient on their own less the rank of the
group-level effects with flat priors; a prior p(s) ∝ s^k needs q ≥ k + 2. Along directions of the
fixed effects the likelihood must fall to zero: full rank for Gaussian responses, and no direction of
recession (separation) for the others.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding.ranks import aliased_columns, indicator, rank, unit_columns
from bayou.binding.recession import informative_levels, recession, rows_that_stay
from bayou.errors import ImproperPosterior, PriorError
from bayou.priors import Gamma, InverseGamma, codes

if TYPE_CHECKING:
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design, Grouping

POWERS = {codes.FLAT: 0, codes.FLAT_VARIANCE: 1}
"""Improper densities p(s) ∝ s^power of a group sd."""
WORDS = {
    codes.FLAT: "a flat sd",
    codes.FLAT_VARIANCE: "a flat variance",
    codes.LOG_FLAT: "p(sigma²) ∝ 1/sigma²",
}
DENSE = 20_000_000
"""Entries of the largest dense matrix whose rank is computed."""


def check(design: Design, bound: BoundPriors) -> tuple[str, ...]:
    """Raise for an improper posterior; return sentences about proper but fragile ones.

    Raises
    ------
    ImproperPosterior
        With the rule, the counts and what to do.
    PriorError
        The response is constant, or residual and group variance are confounded, under flat priors.
    """
    notes = [*_fixed_effects(design, bound), *_constant_response(design, bound)]
    improper = []
    for block in bound.blocks:
        grouping = design.groupings[block.grouping]
        for k, column in enumerate(block.columns):
            if block.kind == "sds" and int(block.sd_codes[k]) in POWERS:
                improper.append((block.grouping, column, int(block.sd_codes[k])))
    for index, grouping in enumerate(design.groupings):
        flat = [(column, code) for g, column, code in improper if g == index]
        _group_scales(design, bound, grouping, flat)
        notes += _group_notes(design, bound, grouping, bool(flat))
    notes += _vague_inverse_gammas(bound)
    if bound.dispersion_name is not None:
        _dispersion(design, bound)
    if _is_gaussian(design):
        _together(design, bound, improper)
    return tuple(notes)


def _is_gaussian(design: Design) -> bool:
    return bool(design.family.name == "gaussian" and design.family.link.name == "identity")


def _used(design: Design) -> Array:
    """Return which rows carry information: a positive weight and at least one trial."""
    return np.asarray((design.weights > 0.0) & (design.trials > 0.0))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _fixed_effects(design: Design, bound: BoundPriors) -> list[str]:
    used, flat = _used(design), bound.beta_flat
    X = design.X[used]
    names = list(design.coefficients)
    notes = []
    aliased = aliased_columns(X)
    if aliased:
        which = _listed([names[k] for k in aliased])
        still = [names[k] for k in aliased if np.ptp(X[:, k]) == 0.0] if len(X) else []
        why = f" ({_listed(still)} does not vary)" if still else ""
        few = f" There are {len(X)} usable rows for {len(names)} coefficients." if len(X) < len(names) else ""
        improper = flat.shape[1] > 0 and rank(X @ flat) < flat.shape[1]
        if improper:
            raise ImproperPosterior(
                f"Rank-deficient fixed effects under flat priors: {which} "
                f"can be written by the other columns{why}, so the data cannot tell them apart.{few} "
                "Drop these terms, or give them proper priors such as Normal(0, 10)."
            )
        notes.append(
            f"The fixed effects are rank-deficient: {which} can be written by the other columns{why}; "
            f"along that direction the posterior is the prior.{few}"
        )
    elif len(X):
        values = np.linalg.svd(unit_columns(X), compute_uv=False) if X.size else np.ones(1)
        if values[0] > 1e8 * values[-1]:
            notes.append(
                "The columns of the fixed effects are nearly collinear (condition number "
                f"{values[0] / values[-1]:.1e} after scaling): center or drop some."
            )
    if not _is_gaussian(design) and X.shape[1]:
        notes += _separation(design, bound, X, used)
    return notes


def _separation(design: Design, bound: BoundPriors, X: Array, used: Array) -> list[str]:
    """Refuse directions of flat coefficients along which the likelihood does not fall to zero."""
    names, flat = design.coefficients, bound.beta_flat
    falls, rises = rows_that_stay(design)
    falls, rises = falls[used], rises[used]
    binomial = design.family.name in ("bernoulli", "binomial")
    if flat.shape[1]:
        d = recession(X @ flat, falls, rises)
        if d is not None:
            direction = flat @ d
            which = _moved(direction, X, names)
            why = f"the combination of {which} separates successes from failures"
            if not binomial:
                why = f"every count that the combination of {which} moves is 0"
                if np.all(design.y[used] == 0.0):
                    why = "all counts are 0"
                elif design.family.name == "gaussian":
                    why = f"the combination of {which} can send the means to 0"
            raise ImproperPosterior(
                f"Flat priors, and {why}: the likelihood does not fall to zero along it, so the posterior is "
                f"improper. Give {which} proper priors such as Normal(0, 2.5), or use the default."
            )
        return []
    if len(X) == 0 or len(X) > 50_000:
        return []
    if not binomial:
        counts = design.family.name in ("poisson", "negative_binomial")
        return (
            ["All counts are 0: the posterior of the intercept leans on its prior."]
            if (counts and not np.any(design.y[used] > 0.0))
            else []
        )
    d = recession(X, falls, rises)
    if d is None:
        return []
    which = _moved(d, X, names)
    return [f"Separation: the combination of {which} predicts outcomes perfectly; along it the prior decides."]


def _moved(direction: Array, X: Array, names: tuple[str, ...]) -> str:
    """Return the names of the coefficients that a direction moves."""
    size = np.abs(direction) * np.abs(X).max(axis=0, initial=0.0)
    moved = [names[k] for k in np.flatnonzero(size > 1e-6 * size.max(initial=0.0))]
    # The intercept follows the columns that separate; it is the cause only when alone.
    return _listed([name for name in moved if name != "Intercept"] or moved)


def _constant_response(design: Design, bound: BoundPriors) -> list[str]:
    y = design.y[_used(design)]
    if not _is_gaussian(design) or len(y) == 0 or np.ptp(y) > 0.0 or bound.dispersion_name is None:
        return []
    if bound.dispersion_code in (*POWERS, codes.LOG_FLAT):
        raise ImproperPosterior(
            f"The response {design.response_name} is constant ({y[0]:.6g} in {len(y)} rows): the residual sd "
            "goes to 0 under its flat prior. Check the response, or give sigma a proper prior."
        )
    return [f"The response {design.response_name} is constant: the residual sd goes to 0."]


def _flat_rank(design: Design, flat: Array, grouping: Grouping, column: int) -> int:
    """Return the rank of the flat fixed effects that are z_k times a function of the level."""
    if flat.shape[1] == 0:
        return 0
    used = _used(design)
    XF = unit_columns(design.X[used] @ flat)
    z, groups = grouping.Z[used, column], grouping.codes[used]
    squares = np.bincount(groups, z * z, len(grouping.levels))
    squares[squares == 0.0] = 1.0
    residual = np.empty_like(XF)
    for k in range(XF.shape[1]):
        fitted = np.bincount(groups, z * XF[:, k], len(grouping.levels)) / squares
        residual[:, k] = XF[:, k] - z * fitted[groups]
    if residual.size == 0:
        return 0
    values = np.linalg.svd(residual, compute_uv=False)
    return int(XF.shape[1]) - int(np.sum(values > 1e-9))


def _group_scales(design: Design, bound: BoundPriors, grouping: Grouping, flat: list[tuple[int, int]]) -> None:
    """Apply the rule of informative levels to each improper sd of one grouping factor."""
    columns = [column for column, _ in flat]
    for column, code in flat:
        needed = POWERS[code] + 2
        lost = _flat_rank(design, bound.beta_flat, grouping, column)
        # An intercept is informed by the level's rows alone, a slope beside the others in the bar.
        beside = [column] if np.all(grouping.Z[:, column] == 1.0) else columns
        found = informative_levels(design, grouping, beside, column, stop=needed + lost)
        if found - lost < needed:
            name = f"sd_{grouping.name}[{grouping.coefficients[column]}]"
            raise ImproperPosterior(
                f"{name} has {WORDS[code]}, which needs at least {needed} informative levels of "
                f"{grouping.name!r} beyond the group-level effects with flat priors: {found} of "
                f"{len(grouping.levels)} levels inform it on their own and {lost} flat effects use them up "
                f"({found} - {lost} = {found - lost}). Give it a proper prior such as HalfT(2, scale), or "
                "use the default."
            )
    if flat and _one_row_each(design, grouping) and bound.dispersion_name == "sigma":
        raise PriorError(
            f"Every level of {grouping.name!r} has one row, so that the residual variance and the variance "
            f"of {grouping.name!r} are confounded: a flat prior cannot tell them apart. Give both proper "
            "priors, or known standard errors: measured(y, se)."
        )


def _one_row_each(design: Design, grouping: Grouping) -> bool:
    groups = grouping.codes[_used(design)]
    single = len(groups) > 0 and int(np.bincount(groups).max()) == 1
    return single and bool(np.ptp(design.weights) == 0.0)


def _group_notes(design: Design, bound: BoundPriors, grouping: Grouping, flat: bool) -> list[str]:
    notes = []
    levels, name = len(grouping.levels), grouping.name
    if levels == 1:
        notes.append(f"{name!r} has one level: its standard deviations are learnt from the prior alone.")
    elif _one_row_each(design, grouping) and not flat:
        if bound.dispersion_name == "sigma" and design.family.name == "gaussian":
            notes.append(
                f"Every level of {name!r} has one row: its variance and the residual variance are "
                "confounded, only their sum is learnt; the priors divide it."
            )
        elif design.family.name in ("bernoulli", "binomial") and design.trials.max(initial=0.0) <= 1.0:
            notes.append(f"Every level of {name!r} has one 0/1 outcome: its sd is learnt from the prior.")
    intercept = [k for k in range(grouping.Z.shape[1]) if np.all(grouping.Z[:, k] == 1.0)]
    if levels > 1 and intercept and design.X.shape[1] >= levels:
        if _flat_rank(design, np.eye(design.X.shape[1]), grouping, intercept[0]) >= levels:
            notes.append(f"{name!r} is a fixed effect and a grouping factor too: only the sum of both is learnt.")
    if _is_gaussian(design) and levels * grouping.Z.shape[1] > len(design.y):
        notes.append(
            f"{name!r} has {levels * grouping.Z.shape[1]} group coefficients for {len(design.y)} rows: "
            "their variances lean on the priors."
        )
    return notes


def _vague_inverse_gammas(bound: BoundPriors) -> list[str]:
    for key, prior in bound.explicit.items():
        vague = isinstance(prior, InverseGamma | Gamma) and max(prior.parameters[:2]) <= 0.01
        if vague and key.startswith("sd_"):
            return [
                f"{prior} on a group variance is not vague: its density piles up at sd = 0, and the "
                "posterior depends on its numbers (Gelman 2006). HalfT(2, scale) is the weak choice."
            ]
    return []


def _dispersion(design: Design, bound: BoundPriors) -> None:
    code, name = bound.dispersion_code, bound.dispersion_name
    if code not in (*POWERS, codes.LOG_FLAT):
        return
    used = _used(design)
    n, lost = int(used.sum()), bound.beta_flat.shape[1]
    if name == "phi":
        if code == codes.LOG_FLAT:
            raise ImproperPosterior(
                "p(s²) ∝ 1/s² for s = 1/√phi is improper: the Poisson limit s = 0 always has positive "
                "likelihood. Use HalfNormal(1) or another proper prior for dispersion."
            )
        n, lost = int(np.sum(design.y[used] > 0.0)), 0
    needed = 1 if code == codes.LOG_FLAT else POWERS[code] + 2
    for level in range(len(design.sigma_levels)):
        rows = used & (design.sigma_codes == level)
        where = f" in level {design.sigma_levels[level]!r} of {design.sigma_by}" if design.sigma_by else ""
        count = n
        taken = lost
        if code == codes.LOG_FLAT:
            count, taken = int(rows.sum()), _rank_of_both(design, rows)
        elif design.sigma_by is not None:
            count = int(rows.sum())
            rest = used & ~rows
            taken = lost - (rank(design.X[rest] @ bound.beta_flat) if lost and rest.any() else 0)
        if count - taken < needed:
            rule = "n − rank[X Z]" if code == codes.LOG_FLAT else "n − rank of the flat fixed effects"
            raise ImproperPosterior(
                f"{WORDS[code]} for {name}{where} needs {rule} ≥ {needed}, but it is {count} − {taken} = "
                f"{count - taken}. Use the default or another proper prior such as HalfT(3, scale)."
            )


def _rank_of_both(design: Design, rows: Array) -> int:
    """Return rank[X Z] of these rows: exact while a dense matrix is affordable, else an upper bound."""
    X = design.X[rows]
    count = len(X)
    parts = [X]
    bound = rank(X)
    width = X.shape[1]
    for grouping in design.groupings:
        groups, Z = grouping.codes[rows], grouping.Z[rows]
        present = np.unique(groups, return_counts=True)[1]
        bound += int(np.minimum(present, Z.shape[1]).sum())
        width += len(present) * Z.shape[1]
    if bound < count or count * width > DENSE:
        return min(bound, count)
    for grouping in design.groupings:
        _, groups = np.unique(grouping.codes[rows], return_inverse=True)
        parts.append(indicator(groups, grouping.Z[rows]))
    return rank(np.hstack(parts))


def _together(design: Design, bound: BoundPriors, improper: list[tuple[int, int, int]]) -> None:
    """Apply the tail rule to several improper sds that grow together (Gaussian responses).

    For a set S of sds with densities s^(k_i), all growing like t, the likelihood falls as
    t^(−rank) with the rank of their columns beyond the flat fixed effects, while their volume grows as
    t^(Σ (k_i + 1) − 1): the rank must exceed Σ (k_i + 1).
    """
    used = _used(design)
    XF = design.X[used] @ bound.beta_flat
    for size in range(2, min(len(improper), 6) + 1):
        for chosen in combinations(improper, size):
            volume = sum(POWERS[code] + 1 for _, _, code in chosen)
            levels = [len(np.unique(design.groupings[g].codes[used])) for g, _, _ in chosen]
            enough = max(levels) - XF.shape[1] > volume
            if enough or sum(levels) * len(XF) > DENSE:
                continue
            parts, names = [XF], []
            for g, k, _ in chosen:
                grouping = design.groupings[g]
                parts.append(indicator(grouping.codes[used], grouping.Z[used][:, [k]]))
                names.append(f"sd_{grouping.name}[{grouping.coefficients[k]}]")
            free = rank(np.hstack(parts)) - XF.shape[1]
            if free <= volume:
                raise ImproperPosterior(
                    f"{', '.join(names)} have flat priors together, which needs more than {volume} "
                    f"independent group coefficients beyond the flat fixed effects; there are {free}. Give "
                    "at least one a proper prior such as HalfT(2, scale)."
                )

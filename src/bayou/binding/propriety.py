"""Rules that refuse an improper posterior before any sampling, and warn about fragile ones.

Improper densities are compared by their tails. As an sd s grows the integrated likelihood falls as
s^(−q), q the number of levels that inform the coefficient on their own less the rank of the
group-level effects with flat priors; a prior p(s) ∝ s^k needs q ≥ k + 2. Along directions of the
fixed effects the likelihood must fall to zero: full rank for Gaussian responses, and no direction of
recession (separation) for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import fragile
from bayou.binding.exact import check_exact_fit
from bayou.binding.fixed import check_fixed_effects, used_rows
from bayou.binding.fragile import flat_rank, one_row_each
from bayou.binding.ranks import indicator, rank
from bayou.binding.recession import informative_levels, moved_rows, rows_that_stay
from bayou.binding.thinned import thinned
from bayou.errors import ImproperPosterior, PriorError
from bayou.priors import codes

if TYPE_CHECKING:
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design, Grouping
    from bayou.effects.base import Effect

POWERS = {codes.FLAT: 0, codes.FLAT_VARIANCE: 1}
"""Improper densities p(s) ∝ s^power of a group sd."""
WORDS = {
    codes.FLAT: "a flat sd",
    codes.FLAT_VARIANCE: "a flat variance",
    codes.LOG_FLAT: "p(sigma²) ∝ 1/sigma²",
}
DENSE = 20_000_000
"""Entries of the largest dense matrix whose rank is computed."""
PROGRAM = 2_000_000
"""Entries of the largest linear program that is solved for one rule."""


def check(design: Design, bound: BoundPriors, effects: Sequence[Effect] = ()) -> tuple[str, ...]:
    """Raise for an improper posterior; return sentences about proper but fragile ones.

    Raises
    ------
    ImproperPosterior
        With the rule, the counts and what to do.
    PriorError
        The response is constant, or residual and group variance are confounded, under flat priors.
    """
    if design.reduced is not None and design.reduced.how == "gone":
        return ()  # checked when the fit was made, on rows that were in files and are not there any more
    improper = []
    for block in bound.blocks:
        for k, column in enumerate(block.columns):
            if block.kind == "sds" and int(block.sd_codes[k]) in POWERS:
                improper.append((block.grouping, column, int(block.sd_codes[k])))
    some, notes = thinned(design), None
    if some is not None:
        try:
            notes = _check_rows(some, bound, effects, improper)
        except (ImproperPosterior, PriorError):
            if some.n == design.n:
                raise
    if notes is None or (notes and some is not None and some.n < design.n):
        notes = _check_rows(design, bound, effects, improper)
    for index, grouping in enumerate(design.groupings):
        notes += fragile.group_notes(design, bound, grouping, any(g == index for g, _, _ in improper))
    return (*notes, *fragile.residual_notes(design), *fragile.vague_inverse_gammas(bound))


def _check_rows(
    design: Design, bound: BoundPriors, effects: Sequence[Effect], improper: list[tuple[int, int, int]]
) -> list[str]:
    """Apply the rules that more rows can only satisfy better; return what to say of the fixed effects and the fit."""
    notes = [*check_fixed_effects(design, bound), *check_exact_fit(design, bound)]
    for index, grouping in enumerate(design.groupings):
        _group_scales(design, bound, grouping, [(column, code) for g, column, code in improper if g == index])
    free = 0
    if effects:
        from bayou.binding import intrinsic  # with what it needs of SciPy, which other models start without

        intrinsic.check_structured(design, bound, effects)
        free = intrinsic.free_count(effects)
    if bound.dispersion_name is not None:
        _dispersion(design, bound, free)
    _together(design, bound, improper)
    return notes


def _group_scales(design: Design, bound: BoundPriors, grouping: Grouping, flat: list[tuple[int, int]]) -> None:
    """Apply the rule of informative levels to each improper sd of one grouping factor."""
    columns = [column for column, _ in flat]
    for column, code in flat:
        needed = POWERS[code] + 2
        lost = flat_rank(design, bound.beta_flat, grouping, column)
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
    if flat and one_row_each(design, grouping) and bound.dispersion_name == "sigma":
        raise PriorError(
            f"Every level of {grouping.name!r} has one row, so that the residual variance and the variance "
            f"of {grouping.name!r} are confounded: a flat prior cannot tell them apart. Give both proper "
            "priors, or known standard errors: measured(y, se)."
        )


def _dispersion(design: Design, bound: BoundPriors, free: int = 0) -> None:
    """Apply the rules of the dispersion; ``free`` directions of structured effects count as flat fixed effects."""
    code, name = bound.dispersion_code, bound.dispersion_name
    if code not in (*POWERS, codes.LOG_FLAT):
        return
    used = used_rows(design)
    n, lost = design.counted(used), bound.beta_flat.shape[1] + free
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
            count, taken = design.counted(rows), _rank_of_both(design, rows)
        elif design.sigma_by is not None:
            count = design.counted(rows)
            rest = used & ~rows
            known = rank(design.X[rest] @ bound.beta_flat) if bound.beta_flat.shape[1] and rest.any() else 0
            taken = lost - known
        if count - taken < needed:
            rule = "n − rank[X Z]" if code == codes.LOG_FLAT else "n − rank of the flat fixed effects"
            raise ImproperPosterior(
                f"{WORDS[code]} for {name}{where} needs {rule} ≥ {needed}, but it is {count} − {taken} = "
                f"{count - taken}. Bring more rows, or use the default or another proper prior such as HalfT(3, scale)."
            )


def _rank_of_both(design: Design, rows: Array) -> int:
    """Return rank[X Z] of these rows: exact while a dense matrix is affordable, else an upper bound."""
    X = design.X[rows]
    count, given = len(X), design.counted(np.asarray(rows, dtype=bool))
    parts = [X]
    bound = rank(X)
    width = X.shape[1]
    for grouping in design.groupings:
        groups, Z = grouping.codes[rows], grouping.Z[rows]
        present = np.unique(groups, return_counts=True)[1]
        bound += int(np.minimum(present, Z.shape[1]).sum())
        width += len(present) * Z.shape[1]
    if getattr(design, "structured", ()):
        from bayou.binding import intrinsic

        # each place that the rows reach may take one of them
        return min(bound + intrinsic.places_used(design, rows), given)
    if bound < given or count * width > DENSE:
        return min(bound, given)
    for grouping in design.groupings:
        _, groups = np.unique(grouping.codes[rows], return_inverse=True)
        parts.append(indicator(groups, grouping.Z[rows]))
    return rank(np.hstack(parts))


def _together(design: Design, bound: BoundPriors, improper: list[tuple[int, int, int]]) -> None:
    """Apply the tail rule to several improper sds that grow together.

    For a set S of sds with densities s^(k_i), all growing like t, the likelihood falls as t^(−r) and their
    volume grows as t^(Σ (k_i + 1) − 1): r must exceed Σ (k_i + 1). r is the rank of the rows that no direction of
    recession of their coefficients and the flat fixed effects moves (of a Gaussian response: all rows), less
    the number of the latter. A residual sd with a flat prior may grow too, and then all rows let go.
    """
    used = used_rows(design)
    falls, rises = (rows[used] for rows in rows_that_stay(design))
    held = ~(falls | rises)
    XF = design.X[used] @ bound.beta_flat
    for size in range(2, min(len(improper), 6) + 1):
        for chosen in combinations(improper, size):
            volume = sum(POWERS[code] + 1 for _, _, code in chosen)
            levels = [len(np.unique(design.groupings[g].codes[used][held])) for g, _, _ in chosen]
            width = sum(len(design.groupings[g].levels) for g, _, _ in chosen) + XF.shape[1]
            if max(levels) - XF.shape[1] > volume or width * len(XF) > (DENSE if held.all() else PROGRAM):
                continue
            parts, names = [XF], []
            for g, k, _ in chosen:
                grouping = design.groupings[g]
                parts.append(indicator(grouping.codes[used], grouping.Z[used][:, [k]]))
                names.append(f"sd_{grouping.name}[{grouping.coefficients[k]}]")
            columns = np.hstack(parts)
            free = rank(columns[~moved_rows(columns, falls, rises)]) - XF.shape[1]
            if free <= volume:
                raise ImproperPosterior(
                    f"{', '.join(names)} have flat priors together, which needs more than {volume} "
                    f"independent group coefficients beyond the flat fixed effects; there are {free}. Give "
                    "at least one a proper prior such as HalfT(2, scale)."
                )
    if bound.dispersion_name == "sigma" and bound.dispersion_code in POWERS and improper:
        volume = sum(POWERS[code] + 1 for _, _, code in improper)
        volume += len(design.sigma_levels) * (POWERS[bound.dispersion_code] + 1)
        free = design.counted(used) - XF.shape[1]
        if free <= volume:
            raise ImproperPosterior(
                f"sigma and {len(improper)} group sds have flat priors together, which needs more than {volume} rows "
                f"beyond the {XF.shape[1]} flat fixed effects; there are {free}. Give sigma a proper prior such as "
                "HalfT(3, scale)."
            )

"""Sentences about posteriors that are proper and yet lean on their priors: groups and vague priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.binding.fixed import COUNTS, TRIALS, is_gaussian, used_rows
from bayou.binding.ranks import unit_columns
from bayou.design.passes import parts, same
from bayou.priors import Gamma, InverseGamma, InverseWishart

if TYPE_CHECKING:
    from bayou._types import Array
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design, Grouping

__all__ = ["flat_rank", "group_notes", "one_row_each", "residual_notes", "vague_inverse_gammas"]

VAGUE = 0.01
"""Shape and rate up to which an inverse gamma is one of those that are meant to be vague and are not."""


def group_notes(design: Design, bound: BoundPriors, grouping: Grouping, flat: bool) -> list[str]:
    """Return what is worth knowing of one grouping factor; ``flat`` tells whether an sd of it is flat."""
    notes = []
    levels, name = len(grouping.levels), grouping.name
    single = one_row_each(design, grouping)
    if levels == 1:
        notes.append(f"{name!r} has one level: its standard deviations are learnt from the prior alone.")
    elif single and not flat:
        notes += _confounded(design, bound, name)
    if levels > 1 and not single:
        notes += _one_sided_levels(design, grouping)
    intercept = [k for k in range(grouping.Z.shape[1]) if same(grouping.Z[:, k]) == 1.0]
    if levels > 1 and intercept and design.X.shape[1] >= levels:
        if flat_rank(design, np.eye(design.X.shape[1]), grouping, intercept[0]) >= levels:
            notes.append(f"{name!r} is a fixed effect and a grouping factor too: only the sum of both is learnt.")
    if is_gaussian(design) and levels * grouping.Z.shape[1] > design.given:
        notes.append(
            f"{name!r} has {levels * grouping.Z.shape[1]} group coefficients for {design.given} rows: "
            "their variances lean on the priors."
        )
    return notes


def residual_notes(design: Design) -> list[str]:
    """Count the levels of `sigma_by` whose own residual sd one row cannot tell."""
    if design.sigma_by is None:
        return []
    found = np.zeros(len(design.sigma_levels))
    for part in parts(len(design.y)):
        frequency = None if design.reduced is None else design.reduced.frequency[part]
        found += np.bincount(design.sigma_codes[part], frequency, len(found))
    counts = np.rint(found)
    single = int(np.sum(counts == 1))
    if not single:
        return []
    return [
        f"Levels of {design.sigma_by!r} with one row: {single:,} of {len(design.sigma_levels):,}. Their residual sds "
        "lean on the prior."
    ]


def one_row_each(design: Design, grouping: Grouping) -> bool:
    """Return whether no level has more than one row, all of the same weight."""
    if design.reduced is not None and design.given > len(grouping.levels):
        return False
    groups = grouping.codes[used_rows(design)]
    single = len(groups) > 0 and int(np.bincount(groups).max()) == 1
    return single and bool(np.ptp(design.weights) == 0.0)


def _confounded(design: Design, bound: BoundPriors, name: str) -> list[str]:
    """Say what one row a level leaves undecided."""
    family = design.family.name
    if bound.dispersion_name == "sigma" and family == "gaussian":
        return [
            f"Every level of {name!r} has one row: its variance and the residual variance are "
            "confounded, only their sum is learnt; the priors divide it."
        ]
    if bound.dispersion_name in ("phi", "shape"):
        return [
            f"Every level of {name!r} has one row: its sd and {bound.dispersion_name} both spread the single "
            "outcomes, and the data hardly tell them apart. Leave one of them out."
        ]
    if family in TRIALS and design.trials.max(initial=0.0) <= 1.0:
        return [f"Every level of {name!r} has one 0/1 outcome: its sd is learnt from the prior."]
    return []


def _one_sided_levels(design: Design, grouping: Grouping) -> list[str]:
    """Count the levels whose own rows would send their coefficient to infinity."""
    if design.family.name not in (*COUNTS, *TRIALS):
        return []
    levels = len(grouping.levels)
    rows, successes, failures = np.zeros(levels), np.zeros(levels), np.zeros(levels)
    for part in parts(len(design.y)):
        used = (design.weights[part] > 0.0) & (design.trials[part] > 0.0)
        groups, y = grouping.codes[part][used], design.y[part][used]
        rows += np.bincount(groups, minlength=levels)
        successes += np.bincount(groups, y, levels)
        if design.family.name in TRIALS:
            failures += np.bincount(groups, design.trials[part][used] - y, levels)
    present = rows > 0
    none = present & (successes == 0.0)
    every = present & (failures == 0.0) & (design.family.name in TRIALS)
    count = int(present.sum())
    if design.family.name in COUNTS:
        said = {"with counts of 0 only": int(none.sum())}
    else:
        said = {"without a success": int(none.sum()), "without a failure": int(every.sum())}
    if not 0 < sum(said.values()) or count in said.values():
        return []
    shown = "; ".join(f"{what}: {number:,} of {count:,}" for what, number in said.items() if number)
    return [f"Levels of {grouping.name!r} {shown}. The other levels hold their coefficients, through its sd."]


def flat_rank(design: Design, flat: Array, grouping: Grouping, column: int) -> int:
    """Return the rank of the fixed effects ``flat`` (P, k) that are z_k times a function of the level."""
    if flat.shape[1] == 0:
        return 0
    used = used_rows(design)
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


def vague_inverse_gammas(bound: BoundPriors) -> list[str]:
    """Warn of inverse gammas with tiny numbers on a group variance.

    References
    ----------
    Gelman (2006), Bayesian Analysis 1, 515-534.
    """
    for key, prior in bound.explicit.items():
        if isinstance(prior, InverseGamma | Gamma):
            vague = key.startswith("sd_") and max(prior.parameters[:2]) <= VAGUE
        elif isinstance(prior, InverseWishart) and len(prior.scale) == 1:
            # of one variance it is the inverse gamma with half its numbers
            vague = 0.5 * max(prior.df, float(prior.scale[0][0])) <= VAGUE
        else:
            vague = False
        if vague:
            return [
                f"{prior} on a group variance is not vague: its density piles up at sd = 0, and the "
                "posterior depends on its numbers (Gelman 2006). HalfT(2, scale) is the weak choice."
            ]
    return []

"""Responses that the columns reproduce without a residual, so that its sd goes to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers, Mask
from bayou.binding.fixed import used_rows
from bayou.binding.ranks import centred, rank, unit_columns
from bayou.errors import ImproperPosterior
from bayou.priors import codes

if TYPE_CHECKING:
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design, Grouping

__all__ = ["UNBOUNDED", "check_exact_fit"]

ROUNDING = 1e-13
"""Residuals below this share of the largest response are the rounding of the data."""
MANY, FEW_ROWS, FEW_LEVELS = 20_000, 200, 20
"""Rows from which some are looked at first, and how many: the first ones, and those of the first levels."""
UNBOUNDED = "where the likelihood has no bound"
LIMITS = {"sigma": "the residual sd goes to 0", "shape": "shape grows without end"}
IMPROPER = (codes.FLAT, codes.FLAT_VARIANCE, codes.LOG_FLAT)


def check_exact_fit(design: Design, bound: BoundPriors) -> list[str]:
    """Refuse an exact fit under a flat prior of the dispersion, and say so under a proper one.

    With a residual of zero in n − r directions, r the rank of the columns, the likelihood grows as sigma^−(n − r).

    Raises
    ------
    ImproperPosterior
        When the prior of the dispersion is flat too.
    """
    name = bound.dispersion_name
    if name not in LIMITS:
        return []
    found = _found(design)
    if found is None:
        return []
    if bound.dispersion_code in IMPROPER:
        raise ImproperPosterior(
            f"{found}: {LIMITS[name]} under its flat prior. Check the response, or give {name} a proper prior."
        )
    return [
        f"{found}: {LIMITS[name]}, {UNBOUNDED}, and the numbers of this fit mean little. "
        "Check the response and what it was computed from."
    ]


def _found(design: Design) -> str | None:
    """Say what reproduces the response, or None: what does so in all rows does so in those of some levels."""
    n = len(design.y)
    left = float(design.remainder.squares.sum())  # of rows that were summed
    if left > design.given * (ROUNDING * float(np.abs(design.y).max(initial=0.0))) ** 2:
        return None
    if n > MANY:
        some = np.zeros(n, dtype=bool)
        some[:FEW_ROWS] = True
        levels = 0
        for grouping in design.groupings:
            some |= grouping.codes < FEW_LEVELS
            levels += min(FEW_LEVELS, len(grouping.levels))
        count = int(some.sum())
        if count > 4 * (design.X.shape[1] + levels) and count < n // 2 and _search(design, some) is None:
            return None
    return _search(design, np.ones(n, dtype=bool))


def _search(design: Design, among: Mask) -> str | None:
    """Say what reproduces the response in some rows, or None."""
    used, name = used_rows(design) & among, design.response_name
    y, offset = design.y[used], design.offset[used]
    target = (y if design.family.link.name == "identity" else np.log(np.where(y > 0.0, y, np.nan))) - offset
    rows = design.counted(used)
    if rows < 2 or not np.all(np.isfinite(target)):
        return None
    largest = float(np.abs(target).max())
    X = centred(design.X[used])
    if _fits(target, X, largest) and rank(X) < rows:
        if np.ptp(y) == 0.0:
            return f"The response {name} is constant ({y[0]:.6g} in {rows:,} rows)"
        return f"The fixed effects reproduce the response {name} without a residual"
    for grouping in design.groupings:
        if not np.any(np.all(grouping.Z == 1.0, axis=0)):
            continue
        groups = grouping.codes[used]
        inner = _within(grouping, groups, target[:, None])[:, 0]
        if _vanishes(inner, largest):
            levels = len(np.unique(groups))
            if levels < rows:
                return f"The response {name} is constant within every level of {grouping.name!r}"
            continue
        columns = _within(grouping, groups, design.X[used])
        columns[:, np.abs(columns).max(axis=0, initial=0.0) <= 1e-12 * np.abs(design.X[used]).max(axis=0)] = 0.0
        if _fits(inner, columns, largest) and len(np.unique(groups)) + rank(columns) < rows:
            return f"The fixed effects and {grouping.name!r} reproduce the response {name} without a residual"
    return None


def _vanishes(residual: Array, largest: float) -> bool:
    return bool(np.abs(residual).max(initial=0.0) <= ROUNDING * largest)


def _fits(target: Array, X: Array, largest: float) -> bool:
    """Tell whether the columns reproduce the target; a few rows settle it for nearly every sound response."""
    few = np.linspace(0, len(X) - 1, min(len(X), 4 * X.shape[1] + 20)).astype(np.int64)
    return _vanishes(_residual(target[few], X[few]), largest) and _vanishes(_residual(target, X), largest)


def _residual(target: Array, X: Array) -> Array:
    """Return what the columns leave of the target, taken twice for the last digits."""
    if X.shape[1] == 0:
        return target
    unit = unit_columns(X)
    for _ in range(2):
        target = target - unit @ np.linalg.lstsq(unit, target, rcond=1e-12)[0]
    return target


def _within(grouping: Grouping, groups: Integers, columns: Array) -> Array:
    """Return the columns less their means by level."""
    levels = len(grouping.levels)
    counts = np.maximum(np.bincount(groups, minlength=levels), 1)
    out = np.array(columns, dtype=np.float64)
    for k in range(out.shape[1]):
        for _ in range(2):
            out[:, k] -= (np.bincount(groups, out[:, k], levels) / counts)[groups]
    return out

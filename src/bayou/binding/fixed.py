"""Fixed effects that the data do not tell apart or do not hold: aliases, near aliases, separation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Mask
from bayou.binding.ranks import aliased_columns, centred, rank, triangle
from bayou.binding.recession import moved_rows, recession, rows_that_stay
from bayou.design.files import constant
from bayou.errors import ImproperPosterior

if TYPE_CHECKING:
    from bayou.binding.bound import BoundPriors
    from bayou.design import Design

__all__ = ["check_fixed_effects", "is_gaussian", "listed", "used_rows"]

NEAR = 1e8
"""Condition number, each column in its own unit, from which columns count as nearly collinear."""
COUNTED_ROWS = 5_000
"""Rows up to which those that separation predicts are counted."""
COUNTS = ("poisson", "negative_binomial")
TRIALS = ("bernoulli", "binomial")


def is_gaussian(design: Design) -> bool:
    """Return whether the response is normal about the linear predictor itself."""
    return bool(design.family.name == "gaussian" and design.family.link.name == "identity")


def used_rows(design: Design) -> Mask:
    """Return which rows carry information: a positive weight and at least one trial."""
    weight, trials = constant(design.weights), constant(design.trials)
    if weight is not None and trials is not None:
        return np.broadcast_to(weight > 0.0 and trials > 0.0, (design.n,))
    return np.asarray((design.weights > 0.0) & (design.trials > 0.0))


def listed(names: list[str]) -> str:
    """Join names with commas, at most ten."""
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def check_fixed_effects(design: Design, bound: BoundPriors) -> list[str]:
    """Refuse what flat priors leave undecided; return sentences about what proper priors decide.

    Raises
    ------
    ImproperPosterior
        Naming the coefficients.
    """
    used = used_rows(design)
    X = design.X[used]
    if len(X) == 0:
        if bound.beta_flat.shape[1]:
            raise ImproperPosterior(
                "No row has a trial, so that nothing is known of the coefficients, and their priors are flat. Check "
                "the numbers of trials, or give proper priors such as Normal(0, 2.5)."
            )
        return ["No row has a trial: the posterior is the prior."]
    notes = _aliases(design, bound, X, design.counted(used))
    if not is_gaussian(design) and X.shape[1]:
        notes += _separation(design, bound, X, used)
    return notes


def _aliases(design: Design, bound: BoundPriors, X: Array, rows: int) -> list[str]:
    names, flat = list(design.coefficients), bound.beta_flat
    inner = centred(X)
    aliased = aliased_columns(inner)
    if not aliased:
        return _near_aliases(inner, names)
    which = listed([names[k] for k in aliased])
    still = [names[k] for k in aliased if np.ptp(X[:, k]) == 0.0]
    why = f" ({listed(still)} does not vary)" if still else ""
    few = f" There are {rows} usable rows for {len(names)} coefficients." if rows < len(names) else ""
    if flat.shape[1] > 0 and rank(X @ flat) < flat.shape[1]:
        raise ImproperPosterior(
            f"Rank-deficient fixed effects under flat priors: {which} "
            f"can be written by the other columns{why}, so the data cannot tell them apart.{few} "
            "Drop these terms, or give them proper priors such as Normal(0, 10)."
        )
    return [
        f"The fixed effects are rank-deficient: {which} can be written by the other columns{why}; "
        f"along that direction the posterior is the prior.{few}"
    ]


def _near_aliases(X: Array, names: list[str]) -> list[str]:
    """Name the columns that nearly cancel, from the direction in which they do."""
    if X.size == 0:
        return []
    _, values, directions = np.linalg.svd(triangle(X), full_matrices=False)
    if values[0] <= NEAR * values[-1]:
        return []
    share = np.abs(directions[-1])
    which = listed([names[k] for k in np.flatnonzero(share > 0.1 * share.max())])
    return [
        f"The columns {which} of the fixed effects are nearly collinear (condition number "
        f"{values[0] / values[-1]:.1e} after scaling): the data hardly tell them apart. Drop "
        "one, or put a difference in its place."
    ]


# ---- directions in which the likelihood does not fall ------------------------------------------


def _separation(design: Design, bound: BoundPriors, X: Array, used: Mask) -> list[str]:
    """Refuse directions of flat coefficients along which the likelihood does not fall to zero."""
    flat = bound.beta_flat
    falls, rises = rows_that_stay(design)
    falls, rises = falls[used], rises[used]
    if flat.shape[1] == X.shape[1]:
        # All are flat: any basis of the same span will do, and the centred one is the better conditioned.
        flat, columns = np.eye(X.shape[1]), centred(X)
    else:
        columns = X @ flat
    if flat.shape[1]:
        d = recession(columns, falls, rises)
        if d is not None:
            every = _all_alike(design, used)
            which = _moved(flat @ d, X, design.coefficients, intercept=every is not None)
            why = _cause(design, which) if every is None else every[0].lower() + every[1:]
            raise ImproperPosterior(
                f"Flat priors, and {why}: the likelihood does not fall to zero on the way to infinity, so the "
                f"posterior is improper. Give {which} proper priors such as Normal(0, 2.5), or use the default."
            )
        if flat.shape[1] == X.shape[1]:
            return []
    every = _all_alike(design, used)
    if every is not None:
        return [f"{every}: the posterior of the intercept leans on its prior."]
    if design.family.name == "gaussian":
        return []
    inner = centred(X)
    d = recession(inner, falls, rises)
    if d is None:
        return []
    which = _moved(d, X, design.coefficients)
    if design.family.name in COUNTS:
        return [f"Every count that the combination of {which} moves is 0: along it the prior decides."]
    return [_separated(inner, falls, rises, which)]


def _cause(design: Design, which: str) -> str:
    if design.family.name in TRIALS:
        return f"the combination of {which} separates successes from failures"
    if design.family.name == "gaussian":
        return f"the combination of {which} can send the means to 0"
    return f"every count that the combination of {which} moves is 0"


def _all_alike(design: Design, used: Mask) -> str | None:
    """Say so where all counts are zero, or all outcomes the same."""
    y, trials = design.y[used], design.trials[used]
    if design.family.name in COUNTS:
        return "All counts are 0" if not np.any(y > 0.0) else None
    if design.family.name in TRIALS:
        if not np.any(y > 0.0):
            return "All outcomes are failures"
        if np.all(y == trials):
            return "All outcomes are successes"
    return None


def _separated(X: Array, falls: Any, rises: Any, which: str) -> str:
    """Tell separation of all rows from that of some."""
    if len(X) > COUNTED_ROWS:
        return f"Separation: the combination of {which} predicts outcomes perfectly; along it the prior decides."
    count = int(moved_rows(X, falls, rises).sum())
    if count in (0, len(X)):
        return f"Separation: the combination of {which} predicts outcomes perfectly; along it the prior decides."
    return (
        f"Quasi-separation: the combination of {which} predicts {count:,} of {len(X):,} rows perfectly; along it "
        "the prior decides."
    )


def _moved(direction: Array, X: Array, names: tuple[str, ...], intercept: bool = False) -> str:
    """Return the names of the coefficients that a direction moves."""
    size = np.abs(direction) * np.abs(X).max(axis=0, initial=0.0)
    moved = [names[k] for k in np.flatnonzero(size > 1e-6 * size.max(initial=0.0))]
    if intercept:
        return listed(moved)
    # The intercept follows the columns that separate; it is the cause only when alone.
    return listed([name for name in moved if name != "Intercept"] or moved)

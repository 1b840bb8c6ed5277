"""The numbers of the default priors: scales and locations read off the design, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.design.passes import cut, same
from bayou.priors import HalfNormal, HalfT, Normal, Prior

if TYPE_CHECKING:
    from bayou.design import Design, Grouping

WIDTH = 2.5
"""The default scales are this many standard deviations."""


@dataclass(frozen=True)
class CoefficientDefaults:
    """Default normal priors of the fixed effects.

    Attributes
    ----------
    mean, sd
        One per coefficient (P,).
    at
        Where the intercept's prior holds: 1, then the means of the other columns (P,); None in a
        model without an intercept.
    """

    mean: Array
    sd: Array
    at: Array | None

    def prior(self, k: int) -> Normal:
        """Return the default prior of coefficient ``k``."""
        at = self.at if k == 0 else None
        return Normal(float(self.mean[k]), float(self.sd[k]), at=at)


def has_intercept(design: Design) -> bool:
    """Return whether the first fixed effect is an intercept."""
    named = len(design.coefficients) > 0 and design.coefficients[0] == "Intercept"
    return named and same(design.X[:, 0]) == 1.0


def outcome_scale(design: Design) -> float:
    """Return s: sd(y) for an identity link (the offset taken off), 1 for every other link."""
    return _gaussian_scale(design) if design.family.link.name == "identity" else 1.0


def _gaussian_scale(design: Design) -> float:
    return design.moments.scale


def outcome_level(design: Design) -> float:
    """Return m, the linear predictor at which a constant model would sit.

    The weighted mean of y for an identity link; otherwise link(Σ y / Σ exposure or trials), with
    the numerator kept half a count from the border (half a typical |y| for continuous responses).
    """
    link = design.family.link
    if link.name == "identity":
        return design.moments.level
    y, offset = design.y, design.offset
    none = not sum(float(np.sum(design.weights[part])) for part in cut(design)) > 0.0

    def weighted(part: slice, values: Array) -> Array:
        """Return values times the prior weights."""
        return values if none else np.asarray(design.weights[part] * values)

    def total_of(values: Callable[[slice], Array]) -> float:
        return sum(float(np.sum(values(part))) for part in cut(design))

    if design.family.name in ("bernoulli", "binomial"):
        total = total_of(lambda part: weighted(part, design.trials[part]))
        if total <= 0.0:
            return 0.0
        border = min(0.5, 0.5 * total)
        successes = min(max(total_of(lambda part: weighted(part, y[part])), border), total - border)
        level = float(np.asarray(link(successes / total)))
        return level - total_of(lambda part: offset[part] * weighted(part, design.trials[part])) / total
    if design.family.name in ("poisson", "negative_binomial"):
        border = 0.5
    else:
        weight = total_of(lambda part: weighted(part, np.ones_like(y[part])))
        border = 0.5 * (total_of(lambda part: weighted(part, np.abs(y[part]))) / weight) or 0.5
    total = max(total_of(lambda part: weighted(part, y[part])), border)
    # Σ w exp(offset) through its largest term, since exposures may be tiny or huge.
    top = max(float(np.max(offset[part])) for part in cut(design))
    exposure = total_of(lambda part: weighted(part, np.exp(offset[part] - top)))
    return float(np.asarray(link(total / exposure))) - top


def coefficient_defaults(design: Design) -> CoefficientDefaults:
    """Return the default priors of the fixed effects.

    With an intercept: Normal(m, 2.5 s) for it at centred columns and Normal(0, 2.5 s / sd(x)) for
    each slope. Without one the columns carry the level of y themselves, so that both deviations
    are taken around zero: Normal(0, 2.5 rms(y) / rms(x)), rms(y) replaced by 1 unless the link is
    the identity.
    """
    mean = np.zeros(design.X.shape[1])
    s = outcome_scale(design)
    if has_intercept(design):
        scales = design.moments.fixed.scale.copy()
        scales[0] = 1.0
        mean[0] = outcome_level(design)
        return CoefficientDefaults(mean, WIDTH * s / scales, design.moments.fixed.mean)
    if design.family.link.name == "identity":
        s = design.moments.rms or 1.0
    scales = design.moments.fixed.rms.copy()
    scales[scales == 0.0] = 1.0
    return CoefficientDefaults(mean, WIDTH * s / scales, None)


def group_scales(design: Design, grouping: Grouping) -> Array:
    """Return A (p,): 2.5 s for an intercept, 2.5 s / sd(z) for a slope."""
    at = next(k for k, other in enumerate(design.groupings) if other is grouping)
    return WIDTH * outcome_scale(design) / design.moments.groups[at].scale


def dispersion_default(design: Design) -> Prior:
    """Return the default prior of s: HalfT(3, 2.5 sd(y)) for sigma, HalfNormal(1) for 1/√phi, 1/√shape.

    sigma is on the scale of y whatever the link, so its scale is sd(y) for the log link too.
    """
    if design.family.dispersion == "sigma":
        return HalfT(3.0, WIDTH * _gaussian_scale(design))
    return HalfNormal(1.0)

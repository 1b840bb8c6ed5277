"""The self-check: what importance weights change, how far they can be trusted, and the corrected answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayou.conditional.field import GaussianField
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.importance import Particles, Unit
from bayou.engines.nested.latent import Parts, matched
from bayou.engines.nested.survey import Nodes
from bayou.engines.nested.tilt import reshaped, scores
from bayou.engines.nested.weighing import Averages, Fitted, weigh
from bayou.posterior.marginals import Marginal

__all__ = ["Corrected", "correct"]

LARGEST_K, LEAST_SIZE, LARGEST_ERROR = 0.7, 400.0, 0.05
SIGNIFICANT = 4.0  # standard errors
LARGEST_OUTSIDE = 0.02  # share of hyperparameters drawn beyond the support of their priors
LARGEST_SHIFT = 0.7  # beyond, the exact posterior is where few were drawn, and weights there say little of themselves


@dataclass(frozen=True, eq=False)
class Corrected:
    """The weighted answer.

    Attributes
    ----------
    parts
        Of the coefficients.
    hyper
        Marginals of the printed hyperparameters.
    log_marginal, log_marginal_error
        log p(y) and its standard error.
    weights
        Of the particles.
    shift, shifted
        The largest change of a mean or an sd among the printed rows, in posterior sds, and of which row.
    effective_size, k_hat, error
        Of the weights; the largest standard error of a weighted mean, in posterior sds.
    outside
        Share of the hyperparameters drawn at which their prior is zero.
    """

    parts: Parts
    hyper: tuple[Marginal, ...]
    log_marginal: float
    log_marginal_error: float
    weights: Averages
    shift: float
    shifted: str
    effective_size: float
    k_hat: float
    error: float
    outside: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the answer cannot be trusted; empty if it can."""
        out = []
        if not self.k_hat <= LARGEST_K:
            out.append(f"the weights have a heavy tail (k-hat {self.k_hat:.2f}, at most {LARGEST_K} is needed)")
        if not self.effective_size >= LEAST_SIZE:
            out.append(f"their effective size is {self.effective_size:.0f} ({LEAST_SIZE:.0f} is needed)")
        if not self.error <= LARGEST_ERROR:
            out.append(f"a weighted mean is off by {self.error:.2f} posterior sds ({LARGEST_ERROR} is allowed)")
        if not self.shift <= LARGEST_SHIFT:
            out.append(f"they move {self.shifted} by {self.shift:.1f} posterior sds ({LARGEST_SHIFT} is trusted)")
        if not self.outside <= LARGEST_OUTSIDE:
            out.append("the edge of a bounded prior cuts the posterior of a hyperparameter, where no node stands")
        return tuple(out)


def correct(
    field: GaussianField,
    mode: Mode,
    nodes: Nodes,
    base: Parts,
    parts: Parts,
    hyper: Sequence[Marginal],
    unit: Unit,
    drawn: Particles,
    names: Sequence[str],
) -> Corrected:
    """Weigh the particles and correct every marginal.

    Means of functionals are taken as the nodes' integral under Laplace's posterior plus what the exact weights change
    on the same particles, where the nodes are a grid; as weighted means alone otherwise. The shape of a marginal is the
    uncorrected one, tilted (hyperparameters) or moved, stretched and bent (coefficients) to the corrected moments. For
    a Gaussian response the coefficients are exact at every node: they are left alone where the particles change no
    hyperparameter by more than their own error.

    Parameters
    ----------
    base, parts
        Mixtures over the nodes of the Gaussians that were drawn from, and those that the strategy reports.
    hyper, names
        Uncorrected marginals of the hyperparameters, and the names of the printed rows, the fixed effects first.
    """
    weights: Averages = weigh(drawn, mode, nodes)
    tilted = Parts(weights.shares, base.means, base.sds)
    means, errors = weights.change(drawn.weighted, drawn.plain, base.powers(unit), tilted.powers(unit))
    first, second, third = means
    variance = np.maximum(second - np.square(first), 1e-8)
    mean, sd = unit.centre + unit.scale * first, unit.scale * np.sqrt(variance)
    constant = base.sd <= 0.0
    mean, sd = np.where(constant, base.mean, mean), np.where(constant, 0.0, sd)
    bent = unit.scale**3 * (third - 3.0 * first * second + 2.0 * first**3)
    corrected = matched(base, mean, sd, np.where(constant, 0.0, bent))
    P = len(unit.to_printed)
    cut = len(mean) - P
    shifts = np.abs(mean - parts.mean)[cut:] / sd[cut:], np.abs(sd / parts.sd - 1.0)[cut:] if P else np.zeros(0)
    shift = list(np.maximum(*shifts)) if P else []
    error = list(errors[0, cut:] / np.sqrt(variance[cut:]))
    certain = bool(drawn.log_ratios.any())

    named, at_nodes = field.unpack_theta(drawn.thetas), field.unpack_theta(nodes.thetas)
    rise = weights.shares - np.exp(nodes.log_shares)
    tilts = []
    for row, one in zip(field.rows, hyper, strict=True):
        place: tuple[Any, ...] = (slice(None), *row.index)
        features = scores(one, named[row.variable][place])
        # under its own marginal their means are zero
        moved = rise @ scores(one, at_nodes[row.variable][place])
        wanted, errors = weights.change(features, features, np.zeros(3), moved)
        new = reshaped(one, wanted)
        tilts.append(new)
        shift.append(max(abs(new.mean - one.mean) / new.sd, abs(new.sd / one.sd - 1.0)))
        error.append(float(errors[0]))
        certain = certain or shift[-1] > SIGNIFICANT * error[-1]

    if not certain:
        corrected = parts

    worst = int(np.argmax(shift)) if shift else 0
    greatest = float(np.max(error, initial=0.0))
    log_marginal, off = weights.log_marginal(nodes)
    size, k_hat = _sizes(drawn, weights, greatest)
    return Corrected(
        corrected, tuple(tilts), log_marginal, off, weights, float(shift[worst]) if shift else 0.0,
        names[worst] if shift else "", size, k_hat, greatest, float((drawn.log_laplace == -np.inf).mean()),
    )  # fmt: skip


def _sizes(drawn: Particles, weights: Averages, error: float) -> tuple[float, float]:
    """Return the effective size and k-hat.

    The effective size of the hyperparameters' weights, or of all pairs of hyperparameters and coefficients if that is
    larger, but then no more than the independent draws that would leave the same error of the means. Where large models
    have few hyperparameters that are smoothed it is the latter number, times the share of the pairs that is effective.
    """
    own = 1.0 / float(np.square(weights.exact).sum())
    logs = drawn.joint_log_weights
    w = np.exp(logs - logs.max())
    pairs = float(w.sum() ** 2 / np.square(w).sum()) if np.isfinite(w).all() else 0.0
    within = 1.0 / max(error**2, 1e-12)
    size = pairs / len(logs) * within if isinstance(weights, Fitted) else max(own, min(pairs, within))
    return (min(size, 1e6) if np.isfinite(size) else 0.0), weights.k_hat

"""The same numbers by several engines, beside each other: how far apart they are, and how much of that is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtri

from bayou._types import Array
from bayou.posterior.convergence import effective_size, tail_shape

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Difference", "Sample", "bar_of", "compared", "sample_of"]

GRID = (np.arange(400) + 0.5) / 400  # probabilities at which distributions are compared
MIDDLE = (GRID > 0.05) & (GRID < 0.95)
QUARTERS = (0.5, 0.15865525393145707, 0.8413447460685429)  # median; what mean ± sd are of a normal
HEAVY = 0.25  # tail shape from which there is no fourth moment, and so no Monte Carlo error of an sd
BATCHES, SHORTEST = 8, 25  # of a chain, and draws in each
LEAST_BAR, FALSE_ALARMS = 4.0, 0.01
NEGLIGIBLE = 0.05  # posterior sds, and share of an sd
FAR = 0.04  # largest difference of distribution functions: that of normals a tenth of an sd apart


@dataclass(frozen=True, eq=False)
class Sample:
    """What one engine says of every row.

    Attributes
    ----------
    kind
        "draws" of Markov chains, "densities" with their error, or "estimates" with standard errors.
    names
        Of the rows.
    mean, sd, error, sd_error
        Of each row, with the Monte Carlo errors of both; for estimates the estimate and its standard error.
    median, width, median_error, width_error
        The same of the median and of half the distance between the quantiles at 16 and 84 %.
    quantiles
        Shape (rows, 400).
    tail
        Pareto shape of the heavier tail; NaN where there are no chains.
    size
        Effective draws.
    """

    kind: str
    names: tuple[str, ...]
    mean: Array
    sd: Array
    error: Array
    sd_error: Array
    median: Array
    width: Array
    median_error: Array
    width_error: Array
    quantiles: Array
    tail: Array
    size: Array

    def at(self, names: Sequence[str]) -> Array:
        """Return the positions of rows."""
        place = {name: k for k, name in enumerate(self.names)}
        return np.array([place[name] for name in names], dtype=np.int64)


class Difference(NamedTuple):
    """One row by one engine against the reference, in posterior sds of the reference."""

    shift: float
    error: float
    ratio: float
    ratio_error: float
    distance: float
    heavy: bool
    trouble: str


def sample_of(posterior: Posterior, groups: bool) -> Sample:
    """Describe the summary rows of a result, with ``groups`` those of the group coefficients and structures too."""
    rows = dict(posterior.rows)
    if posterior.estimates is not None:
        return _of_estimates(posterior)
    if groups:
        rows |= posterior.effect_rows()
    found = posterior.approximation
    if posterior.chained or found is None:
        return _of_chains(tuple(rows), [posterior.values(place) for place in rows.values()])
    own = [name for name in rows if name in found.marginals]
    others = {name: place for name, place in rows.items() if name not in own}
    # the largest error of a weighted mean, in posterior sds: of all rows at most that
    error = float(found.check.get("error", 0.0))
    marginals = [found.marginals[name] for name in own]
    sd = np.array([one.sd for one in marginals])
    width = np.array([0.5 * float(np.diff(one.quantile(QUARTERS[1:]))[0]) for one in marginals])
    known = Sample(
        "densities", tuple(own), np.array([one.mean for one in marginals]), sd, error * sd, error * sd,
        np.array([float(one.quantile(0.5)) for one in marginals]), width, error * sd, error * sd,
        np.array([one.quantile(GRID) for one in marginals]).reshape(len(own), len(GRID)),
        np.full(len(own), np.nan), np.full(len(own), error**-2.0 if error > 0.0 else np.inf),
    )  # fmt: skip
    if not others:
        return known
    drawn = _of_chains(tuple(others), [posterior.values(place) for place in others.values()])
    extra = error * drawn.sd
    drawn = Sample(
        "densities", drawn.names, drawn.mean, drawn.sd, np.hypot(drawn.error, extra), np.hypot(drawn.sd_error, extra),
        drawn.median, drawn.width, np.hypot(drawn.median_error, extra), np.hypot(drawn.width_error, extra),
        drawn.quantiles, np.full(len(others), np.nan), drawn.size,
    )  # fmt: skip
    return _joined(known, drawn)


def _joined(one: Sample, other: Sample) -> Sample:
    arrays = [
        np.concatenate([getattr(one, name), getattr(other, name)])
        for name in list(Sample.__dataclass_fields__)[2:]
    ]
    return Sample(one.kind, one.names + other.names, *arrays)


def _of_estimates(posterior: Posterior) -> Sample:
    found = posterior.estimates
    assert found is not None
    rows = len(found.rows)
    none = np.full(rows, np.nan)
    return Sample(
        "estimates", found.rows, found.estimate, found.se, none, none, found.estimate, found.se, none, none,
        np.full((rows, len(GRID)), np.nan), none, none,
    )  # fmt: skip


def _of_chains(names: tuple[str, ...], values: list[Array]) -> Sample:
    x = np.array(values).reshape(len(names), *values[0].shape)
    flat = x.reshape(len(names), -1)
    mean, sd = flat.mean(axis=1), flat.std(axis=1)
    squares = np.square(x - mean[:, None, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        error = sd / np.sqrt(effective_size(x, "mean"))
        spread = squares.reshape(len(names), -1).std(axis=1) / np.sqrt(effective_size(squares, "mean"))
        sd_error = np.where(sd > 0.0, spread / (2.0 * sd), 0.0)
    middle, low, high = np.quantile(flat, QUARTERS, axis=1)
    middle_error, width_error = _by_batches(x)
    return Sample(
        "draws", names, mean, sd, error, sd_error, middle, 0.5 * (high - low), middle_error, width_error,
        np.quantile(flat, GRID, axis=1).T, tail_shape(x), effective_size(x),
    )  # fmt: skip


def _by_batches(x: Array) -> tuple[Array, Array]:
    """Return the Monte Carlo errors of median and width by those of parts of the chains; infinite if too few."""
    rows, chains, draws = x.shape
    parts = min(BATCHES, draws // SHORTEST)
    if parts * chains < 4:
        return np.full(rows, np.inf), np.full(rows, np.inf)
    length = draws // parts
    batches = x[:, :, : parts * length].reshape(rows, chains * parts, length)
    middle, low, high = np.quantile(batches, QUARTERS, axis=2)
    root = np.sqrt(chains * parts)
    return middle.std(axis=1, ddof=1) / root, 0.5 * (high - low).std(axis=1, ddof=1) / root


def bar_of(tests: int) -> float:
    """Return how many errors a difference must have: by chance one of all is larger in one of a hundred tables."""
    return max(LEAST_BAR, float(ndtri(1.0 - 0.5 * FALSE_ALARMS / max(tests, 1))))


def compared(one: Sample, other: Sample, name: str, bar: float) -> Difference:
    """Compare a row of one engine with the same row of ``other``, in whose sds differences are counted.

    Where a tail is heavy, medians and quantiles stand in for means and sds: an sd is then that of a few draws.
    """
    i, k = one.at([name])[0], other.at([name])[0]
    heavy = bool(np.fmax(one.tail[i], other.tail[k]) > HEAVY)
    if heavy:
        a = one.median[i], one.width[i], one.median_error[i], one.width_error[i]
        b = other.median[k], other.width[k], other.median_error[k], other.width_error[k]
    else:
        a = one.mean[i], one.sd[i], one.error[i], one.sd_error[i]
        b = other.mean[k], other.sd[k], other.error[k], other.sd_error[k]
    if not b[1] > 0.0:  # held fast there
        apart = 0.0 if a[0] == b[0] else np.inf
        said = "" if apart == 0.0 else f"{name} is {a[0]:.4g}, and {b[0]:.4g} in every draw there"
        return Difference(apart, 0.0, np.nan, np.nan, apart, heavy, said)
    shift, error = (a[0] - b[0]) / b[1], np.hypot(a[2], b[2]) / b[1]
    ratio = a[1] / b[1]
    ratio_error = float(np.hypot(a[3] / b[1], ratio * b[3] / b[1]))
    used = MIDDLE if heavy else slice(None)
    distance = float(np.mean(np.abs(one.quantiles[i] - other.quantiles[k])[used])) / b[1]
    found = Difference(float(shift), float(error), float(ratio), ratio_error, distance, heavy, "")
    if "estimates" in (one.kind, other.kind):
        return found
    # Smirnov's statistic: its chance needs no moments, only effective draws
    gap = float(np.abs(np.interp(other.quantiles[k], one.quantiles[i], GRID) - GRID).max())
    chance = np.sqrt(-0.5 * log_ndtr(-bar) * (1.0 / one.size[i] + 1.0 / other.size[k]))
    return found._replace(trouble=_trouble(name, found, gap if gap > max(chance, FAR) else 0.0, bar))


def _trouble(name: str, found: Difference, gap: float, bar: float) -> str:
    """Say what is wrong with a row; nothing where chance explains it, or it is too small to matter."""
    shift, error, ratio, ratio_error, distance = found[:5]
    middle, width = ("median", "width") if found.heavy else ("mean", "sd")
    if not np.isfinite([shift, ratio]).all():
        return f"the {middle} or {width} of {name} is not finite"
    said = []
    if abs(shift) > max(bar * error, NEGLIGIBLE):
        said.append(f"the {middle} of {name} is off by {shift:+.2f} ± {error:.2f} posterior sds")
    if abs(ratio - 1.0) > max(bar * ratio_error, NEGLIGIBLE):
        said.append(f"the {width} of {name} is {ratio:.2f} ± {ratio_error:.2f} times as large")
    if not said and gap > 0.0:
        said.append(f"the distribution of {name} has another shape (Wasserstein distance {distance:.2f} sds)")
    return " and ".join(said)

"""First-order autoregression over points of time, the gaps taken exactly: corr(x_i, x_j) = rho^|t_i − t_j|.

sd is the marginal sd. With gaps δ in units of time and r = rho^δ,

    x_1 ~ N(0, sd²),    x_{i+1} | x_i ~ N(r x_i, sd² (1 − r²)),

so that Q = (I + Σ_δ [a_δ (pairs of ends) − b_δ (neighbours)]) / sd² with a = r²/(1 − r²), b = r/(1 − r²). Source: Rue &
Held (2005), Gaussian Markov Random Fields, section 1.1.1; with gaps it is the Ornstein-Uhlenbeck process.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from bayou._types import Array, Integers
from bayou.effects.base import Effect, Hyperparameter, log_sd
from bayou.effects.extending import conditional, placed
from bayou.effects.pattern import lower_values
from bayou.effects.random_walk import check_increasing
from bayou.errors import DataError, Unsupported

FARTHEST = 150.0  # |t| beyond which squares of 1 − rho² are lost
LARGEST = 50_000_000
"""Numbers of all matrices together: one pair of matrices for each distinct gap."""


class Autoregressive(Effect):
    """`ar1`: stationary, with marginal sd and the correlation rho of points one unit of time apart.

    The unit is 1 where the points are whole numbers, else the smallest gap. rho is between −1 and 1 where all gaps
    are whole multiples of the unit, else between 0 and 1.

    Parameters
    ----------
    coordinate
        (m,) increasing points of time.
    replicates, scale
        As in `bayou.effects.base.OneScale`.

    Raises
    ------
    DataError
        The points do not increase, or are fewer than two.
    Unsupported
        There are too many different gaps for so many points.

    Examples
    --------
    >>> effect = Autoregressive(np.array([0.0, 1.0, 3.0]))
    >>> effect.covariance(np.array([np.log(2.0), np.arctanh(0.5)])).round(6)
    array([[4. , 2. , 0.5],
           [2. , 4. , 1. ],
           [0.5, 1. , 4. ]])
    """

    def __init__(self, coordinate: Array, replicates: int = 1, scale: float = 1.0) -> None:
        t = np.asarray(coordinate, dtype=np.float64)
        check_increasing("ar1", t, 2)
        self.kind, self.replicates, self.coordinate = "ar1", replicates, t
        m = self.size = self.observed = len(t)
        self.unit, self.gaps, self.whole = time_steps(t)
        self._distinct, self._which = distinct(self.gaps)
        if 2 * m * (1 + 2 * len(self._distinct)) > LARGEST:
            raise Unsupported(
                f"ar1 over {m:,} points has {len(self._distinct):,} different gaps, more than its matrices may have. "
                "Round the points of time, or use rw1, which takes any gaps."
            )
        rho = ("atanh", math.atanh(0.5)) if self.whole else ("logit", 0.0)
        self.hyperparameters = (log_sd(scale), Hyperparameter("rho", "", *rho))
        matrices = [scipy.sparse.eye_array(m)]
        for k in range(len(self._distinct)):
            i = np.flatnonzero(self._which == k)
            ends, one = np.concatenate([i, i + 1]), np.ones(2 * len(i))
            matrices.append(scipy.sparse.csc_array((one, (ends, ends)), shape=(m, m)))
            pair = np.concatenate([i + 1, i])
            matrices.append(scipy.sparse.csc_array((-one, (ends, pair)), shape=(m, m)))
        self.indptr, self.indices, self.matrices = lower_values(matrices)
        self.constraints, self.anchors = np.zeros((0, m)), np.zeros(0, dtype=np.int64)
        self.null = 0

    def _rho(self, t: float) -> tuple[float, float, float]:
        """Return the sign of rho, log|rho| and |d rho / dt| without cancellation near one."""
        t = min(max(t, -FARTHEST), FARTHEST)
        slope = self.hyperparameters[1].slope(t)
        if not self.whole:
            return 1.0, -math.log1p(math.exp(-t)) if t > 0.0 else t - math.log1p(math.exp(t)), slope
        e = math.exp(-2.0 * abs(t))
        log_rho = math.log1p(-e) - math.log1p(e) if e < 1.0 else -math.inf
        return math.copysign(1.0, t), log_rho, slope

    def _powers(self, t: float, gaps: Array) -> tuple[Array, Array, Array]:
        """Return r, dr/dt and 1 − r² for gaps in units."""
        sign, log_rho, slope = self._rho(t)
        signs = np.where(np.mod(np.rint(gaps), 2.0) == 0.0, 1.0, sign) if self.whole else np.ones_like(gaps)
        with np.errstate(invalid="ignore"):  # 0 x (−inf): rho⁰ at rho = 0
            size = np.exp(gaps * log_rho)
            below = np.where(gaps == 1.0, 1.0, np.exp((gaps - 1.0) * log_rho))
        # rho and its slope have one sign less in d rho^gap = gap rho^(gap − 1) d rho
        return signs * size, gaps * below * signs * sign * slope, -np.expm1(2.0 * gaps * log_rho)

    def coefficients(self, theta: Array) -> Array:
        """Return (1, a_1, b_1, a_2, …) / sd²."""
        r, _, left = self._powers(float(theta[1]), self._distinct)
        out = np.ones(len(self.matrices))
        out[1::2], out[2::2] = r * r / left, r / left
        return np.asarray(np.exp(-2.0 * theta[0]) * out)

    def coefficient_slopes(self, theta: Array) -> Array:
        """Return their derivatives by log sd and the internal rho, (K, 2)."""
        r, dr, left = self._powers(float(theta[1]), self._distinct)
        by_rho = np.zeros(len(self.matrices))
        by_rho[1::2], by_rho[2::2] = 2.0 * r * dr / left**2, (1.0 + r * r) * dr / left**2
        return np.column_stack([-2.0 * self.coefficients(theta), np.exp(-2.0 * theta[0]) * by_rho])

    def log_determinant(self, theta: Array) -> float:
        """Return −2 m log sd − Σ log(1 − r²)."""
        left = self._powers(float(theta[1]), self._distinct)[2]
        return float(-2.0 * self.size * theta[0] - np.log(left)[self._which].sum())

    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return its gradient (2,)."""
        r, dr, left = self._powers(float(theta[1]), self._distinct)
        return np.array([-2.0 * self.size, float((2.0 * r * dr / left)[self._which].sum())])

    def draw(self, theta: Array, rng: np.random.Generator, count: int) -> Array:
        """Draw from the prior, one point after the other."""
        return self._drawn(np.tile(theta, (count, 1)), rng)

    def draw_each(self, thetas: Array, rng: np.random.Generator) -> Array:
        """Draw once for each row of thetas."""
        return self._drawn(thetas, rng)

    def _drawn(self, thetas: Array, rng: np.random.Generator) -> Array:
        x = rng.standard_normal((len(thetas), self.replicates, self.size))
        internal, at = np.unique(thetas[:, 1], return_inverse=True)
        powers = [self._powers(float(t), self._distinct) for t in internal]
        r = np.array([p[0] for p in powers])[at]
        rest = np.sqrt(np.array([p[2] for p in powers])[at])
        for i in range(1, self.size):
            k = self._which[i - 1]
            x[..., i] = r[:, None, k] * x[..., i - 1] + rest[:, None, k] * x[..., i]
        return np.asarray(np.exp(thetas[:, 0])[:, None, None] * x)

    def extend_mean(self, theta: Array, coordinates: Array) -> tuple[Array, Array]:
        """Return the exact conditional law at new times: between the nodes a bridge, beyond them back to zero."""
        union, old_at, new_at = placed(self.coordinate, np.asarray(coordinates, dtype=np.float64))
        gaps = self._steps(np.diff(union) / self.unit, bool(theta[1] < 0.0))
        r, _, left = self._powers(float(theta[1]), gaps)
        own = np.ones(len(union))
        own[:-1] += r * r / left
        own[1:] += r * r / left
        Q = scipy.sparse.diags_array([-r / left, own, -r / left], offsets=[-1, 0, 1], format="csr")
        return conditional(Q * np.exp(-2.0 * theta[0]), old_at, new_at)

    def extend_each(self, thetas: Array, f: Array, coordinates: Array, z: Array) -> Array:
        """Draw f at new times, from the earliest to the latest, each given the nearest values on both sides.

        With a and b the gaps to the point before and to the next node, x | l, r has the mean
        (r_a (1 − r_b²) l + r_b (1 − r_a²) r) / (1 − r_a² r_b²) and the variance
        sd² (1 − r_a²)(1 − r_b²) / (1 − r_a² r_b²).
        """
        union, old_at, new_at = placed(self.coordinate, np.asarray(coordinates, dtype=np.float64))
        steps = self._steps(np.diff(union) / self.unit, bool((thetas[:, 1] < 0.0).any()))
        at = np.concatenate([[0.0], np.cumsum(steps)])
        values = np.empty((len(f), len(union)))
        values[:, old_at] = f
        fresh = np.setdiff1d(np.arange(len(union)), old_at)
        which = np.empty(len(union), dtype=np.int64)
        which[new_at] = np.arange(len(new_at))
        place = np.searchsorted(old_at, fresh)
        after = old_at[np.minimum(place, self.size - 1)]
        a, b = at[fresh] - at[np.maximum(fresh - 1, 0)], np.maximum(at[after] - at[fresh], 0.0)
        internal, copy = np.unique(thetas[:, 1], return_inverse=True)
        q, gaps = len(fresh), np.concatenate([a, b, a + b])
        powers = [self._powers(float(t), gaps) for t in internal]
        r, left = (np.array([p[k] for p in powers])[copy.ravel()] for k in (0, 2))
        sd = np.exp(thetas[:, 0])
        for k, u in enumerate(fresh):
            noise = sd * z[:, which[u]]
            from_left, from_right, whole = k, q + k, 2 * q + k
            if u == 0:
                mean, variance = r[:, from_right] * values[:, after[k]], left[:, from_right]
            elif place[k] == self.size:
                mean, variance = r[:, from_left] * values[:, u - 1], left[:, from_left]
            else:
                mean = r[:, from_left] * left[:, from_right] * values[:, u - 1]
                mean = (mean + r[:, from_right] * left[:, from_left] * values[:, after[k]]) / left[:, whole]
                variance = left[:, from_left] * left[:, from_right] / left[:, whole]
            values[:, u] = mean + np.sqrt(variance) * noise
        return values[:, new_at]

    def _steps(self, gaps: Array, negative: bool) -> Array:
        """Return gaps in units, exactly whole where the nodes' are and these are as well.

        Raises
        ------
        DataError
            A negative correlation is asked for a part of a step.
        """
        if not self.whole:
            return gaps
        rounded = np.rint(gaps)
        if np.all(np.abs(gaps - rounded) <= 1e-6 * np.maximum(gaps, 1.0)):
            return rounded
        if negative:
            raise DataError(
                f"ar1 with a negative rho says nothing about times between its steps of {self.unit:g}: predict at "
                f"whole steps, or give rho a prior above zero such as Uniform(0, 1)."
            )
        return gaps


def time_steps(t: Array) -> tuple[float, Array, bool]:
    """Return the unit of time, the gaps in it, and whether they are all whole numbers."""
    d = np.diff(t)
    if np.all(np.abs(t - np.rint(t)) <= 1e-9 * np.maximum(np.abs(t), 1.0)):
        return 1.0, np.rint(d), True
    unit = float(d.min())
    gaps = d / unit
    rounded = np.rint(gaps)
    whole = bool(np.all(np.abs(gaps - rounded) <= 1e-6 * gaps))
    return unit, rounded if whole else gaps, whole


def distinct(gaps: Array) -> tuple[Array, Integers]:
    """Return the different gaps, equal up to rounding, and which of them each gap is."""
    order = np.argsort(gaps, kind="stable")
    ordered = gaps[order]
    fresh = np.concatenate([[True], np.diff(ordered) > 1e-9 * ordered[:-1]])
    which: Integers = np.empty(len(gaps), dtype=np.int64)
    which[order] = np.cumsum(fresh) - 1
    return ordered[fresh], which

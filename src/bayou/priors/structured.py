"""Priors of what lies between two numbers: correlations, and shares of a variance.

A prior that penalises complexity is an exponential density of the distance d = √(2 KLD) from the simplest model
(Simpson, Rue, Riebler, Martins & Sørbye 2017, Statistical Science 32). What a `PC` means for a correlation or a
share depends on the effect that it belongs to; binding a model turns it into one of the densities here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bayou._types import Array
from bayou.errors import PriorError
from bayou.priors.base import LOG_2, Prior, Size, number_text

FAR = 36.0  # logit of a share that is one to rounding


def log_expit(t: float) -> float:
    """Return log(1 / (1 + exp(−t)))."""
    return -math.log1p(math.exp(-t)) if t > 0.0 else t - math.log1p(math.exp(t))


@dataclass(frozen=True, eq=False)
class Interval(Prior):
    """A density on (0, 1) or (−1, 1), written on the real line so that its ends are no trouble.

    A subclass writes `log_density_internal(t)`: log p(value) + log |d value / dt|, at value = expit(t), or tanh(t)
    where ``scale`` is "atanh".
    """

    speaks_of: ClassVar[str] = "share"

    @property
    def scale(self) -> str:
        """The scale of the internal coordinate."""
        return "logit"

    def log_density_internal(self, t: float) -> float:
        """Return the log density of the internal coordinate t."""
        raise PriorError(f"{self} has no density.")

    def _log_density(self, x: Array) -> Any:
        return np.vectorize(self._at, otypes=[float])(x)

    def _at(self, x: float) -> float:
        if self.scale == "atanh":
            if not -1.0 < x < 1.0:
                return -math.inf
            return self.log_density_internal(math.atanh(x)) - math.log1p(-x * x)
        if not 0.0 < x < 1.0:
            return -math.inf
        t = math.log(x) - math.log1p(-x)
        return self.log_density_internal(t) - math.log(x) - math.log1p(-x)


@dataclass(frozen=True, eq=False)
class Beta(Interval):
    """A beta density between 0 and 1: of the rho of `car` and `leroux`, or of the phi of `bym2`.

    Examples
    --------
    >>> print(Beta(2, 1))
    Beta(2, 1)
    >>> round(float(Beta(2, 1).log_density(0.75)), 6)  # log 1.5
    0.405465
    """

    a: float
    b: float

    def _check(self) -> None:
        self._require_positive("a", "b")

    def log_density_internal(self, t: float) -> float:
        """Return a log value + b log(1 − value) − log B(a, b)."""
        constant = math.lgamma(self.a + self.b) - math.lgamma(self.a) - math.lgamma(self.b)
        return constant + self.a * log_expit(t) + self.b * log_expit(-t)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return rng.beta(self.a, self.b, size)


@dataclass(frozen=True, eq=False)
class PCCorrelation(Interval):
    """The PC prior of the correlation of an autoregression, with independence as the simplest model.

    d(rho) = √(−log(1 − rho²)), density (rate / 2) exp(−rate d) |rho| / ((1 − rho²) d), and
    P(|rho| > upper) = probability. With ``positive`` it is the same for rho > 0 alone.

    References
    ----------
    Sørbye & Rue (2017), Penalised complexity priors for stationary autoregressive processes, Journal of Time Series
    Analysis 38.

    Examples
    --------
    >>> print(PCCorrelation(0.9, 0.1))
    PC(0.9, 0.1)
    """

    upper: float
    probability: float
    positive: bool = False
    speaks_of: ClassVar[str] = "correlation"

    def _check(self) -> None:
        for name in ("upper", "probability"):
            value = getattr(self, name)
            self._require(0.0 < value < 1.0, f"{name} must be between 0 and 1, not {value!r}.")

    @property
    def scale(self) -> str:
        """The scale of the internal coordinate: logit where rho is positive."""
        return "logit" if self.positive else "atanh"

    @property
    def rate(self) -> float:
        """The rate of the distance."""
        return -math.log(self.probability) / math.sqrt(-math.log1p(-self.upper**2))

    def log_density_internal(self, t: float) -> float:
        """Return the log density of atanh rho, or of logit rho."""
        rate = self.rate
        if not self.positive:
            # −log(1 − rho²) in the way that loses no digits
            a, size = 2.0 * abs(t), math.tanh(abs(t))
            d = math.sqrt(a + 2.0 * math.log1p(math.exp(-a)) - 2.0 * LOG_2 if a > 1.0 else -math.log1p(-size * size))
            ratio = size / d if d > 0.0 else 1.0
            return math.log(rate) - LOG_2 - rate * d + math.log(ratio)
        log_rho = log_expit(t)
        rho = math.exp(log_rho)
        d = math.sqrt(-log_expit(-t) - math.log1p(rho) if t > 0.0 else -math.log1p(-rho * rho))
        if d == 0.0:
            return -math.inf
        return math.log(rate) - rate * d + 2.0 * log_rho - math.log(d) - math.log1p(rho)

    def __str__(self) -> str:
        """Return it as it was typed."""
        return f"PC({number_text(self.upper)}, {number_text(self.probability)})"

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        d = rng.exponential(1.0 / self.rate, size)
        size_of = np.sqrt(-np.expm1(-d * d))
        return size_of if self.positive else np.where(rng.random(size) < 0.5, -size_of, size_of)


@dataclass(frozen=True, eq=False)
class PCMixing(Interval):
    """The PC prior of the share phi of a variance that has structure, with no structure as the simplest model.

    rate exp(−rate d(phi)) |d'(phi)| / (1 − exp(−rate d(1))) with d² = 2 KLD = tr(S) − r − log|S|, S = (1 − phi) I +
    phi R⁺ for the scaled structure R of rank r, on the contrasts that it has a say in: d(1) is finite. The rate is such
    that P(phi > upper) = probability; it is negative where that asks for more structure than d'(phi) alone.

    R-INLA's rate is −log(probability) / d(upper), as if the distance had no end, so that its probabilities are others
    than those asked for: its phi comes out lower, by a quarter of a posterior sd with Scotland's lip cancer.

    Parameters
    ----------
    upper, probability
        The two numbers.
    divergence
        t -> 2 KLD and its derivative by t, at phi = expit(t).

    References
    ----------
    Riebler, Sørbye, Simpson & Rue (2016), Statistical Methods in Medical Research 25, section 3.2.
    """

    upper: float
    probability: float
    divergence: Callable[[float], tuple[float, float]] = field(repr=False)

    def _check(self) -> None:
        for name in ("upper", "probability"):
            value = getattr(self, name)
            self._require(0.0 < value < 1.0, f"{name} must be between 0 and 1, not {value!r}.")
        import scipy.optimize  # of bym2 alone

        at = math.log(self.upper) - math.log1p(-self.upper)
        near, far = math.sqrt(self.divergence(at)[0]), math.sqrt(self.divergence(FAR)[0])

        def above(turns: float) -> float:
            """P(phi > upper) where rate d(1) has this value."""
            if abs(turns) < 1e-8:
                return 1.0 - near / far
            left = 1.0 - near / far
            if turns > 0.0:  # without overflow
                return math.exp(-turns * near / far) * math.expm1(-turns * left) / math.expm1(-turns)
            return math.expm1(turns * left) / math.expm1(turns)

        turns = scipy.optimize.brentq(lambda x: above(x) - self.probability, -700.0, 1e5, xtol=1e-12)
        object.__setattr__(self, "_farthest", far)
        object.__setattr__(self, "_rate", turns / far)

    @property
    def rate(self) -> float:
        """The rate of the distance."""
        return float(self._rate)  # type: ignore[attr-defined]

    @property
    def farthest(self) -> float:
        """The distance of phi = 1."""
        return float(self._farthest)  # type: ignore[attr-defined]

    def log_density_internal(self, t: float) -> float:
        """Return the log density of logit phi."""
        value, slope = self.divergence(t)
        if not value > 0.0 or not slope > 0.0:
            return -math.inf
        d, turns = math.sqrt(value), self.rate * self.farthest
        scale = turns / -math.expm1(-turns) if abs(turns) > 1e-8 else 1.0
        return math.log(scale / self.farthest) - self.rate * d + math.log(slope) - LOG_2 - math.log(d)

    def __str__(self) -> str:
        """Return it as it was typed."""
        return f"PC({number_text(self.upper)}, {number_text(self.probability)})"

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        t = np.linspace(-40.0, FAR, 1_521)
        d = np.sqrt([self.divergence(float(x))[0] for x in t])
        u, turns = rng.random(size), self.rate * self.farthest
        share = -np.log1p(u * math.expm1(-turns)) / turns if abs(turns) > 1e-8 else u
        found = np.interp(np.log(share * self.farthest), np.log(d), t)
        return 1.0 / (1.0 + np.exp(-found))

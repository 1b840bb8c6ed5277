"""Priors of one number: a coefficient, a standard deviation, a variance or a precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayou._types import Array
from bayou.errors import ImproperPosterior
from bayou.priors import codes
from bayou.priors.base import LOG_2, LOG_2PI, Prior, Size, student_log_density


@dataclass(frozen=True, eq=False)
class StudentT(Prior):
    """Student's t for a coefficient: ``df`` degrees of freedom, centre ``mean``.

    Examples
    --------
    >>> print(StudentT(3, 0, 2.5))
    StudentT(3, 0, 2.5)
    """

    df: float
    mean: float = 0.0
    scale: float = 1.0
    speaks_of: ClassVar[str] = "coefficient"
    code: ClassVar[int] = codes.STUDENT_T

    def _check(self) -> None:
        self._require_positive("df", "scale")
        self._require_finite("mean")

    def _log_density(self, x: Array) -> Any:
        return student_log_density(self.df, (x - self.mean) / self.scale) - math.log(self.scale)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return self.mean + self.scale * rng.standard_t(self.df, size)


@dataclass(frozen=True, eq=False)
class Flat(Prior):
    """A constant density of whatever the key names (improper)."""

    is_proper: ClassVar[bool] = False

    def _log_density(self, x: Array) -> Any:
        return np.zeros_like(x)


@dataclass(frozen=True, eq=False)
class FlatSD(Flat):
    """A constant density of a standard deviation: p(1/tau²) ∝ (1/tau²)^(-3/2) (improper)."""

    speaks_of: ClassVar[str] = "sd"
    above_zero: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Jeffreys(Flat):
    """p(sigma²) ∝ 1 / sigma², for a residual variance only (improper)."""

    speaks_of: ClassVar[str] = "variance"
    code: ClassVar[int] = codes.LOG_FLAT
    above_zero: ClassVar[bool] = True

    def _log_density(self, x: Array) -> Any:
        return -np.log(x)


@dataclass(frozen=True, eq=False)
class HalfNormal(Prior):
    """The positive half of Normal(0, sd).

    Examples
    --------
    >>> print(HalfNormal(1))
    HalfNormal(1)
    """

    sd: float
    code: ClassVar[int] = codes.HALF_NORMAL
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("sd")

    def _log_density(self, x: Array) -> Any:
        return LOG_2 - 0.5 * LOG_2PI - math.log(self.sd) - 0.5 * (x / self.sd) ** 2

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return np.abs(self.sd * rng.standard_normal(size))


@dataclass(frozen=True, eq=False)
class HalfT(Prior):
    """The positive half of Student's t about zero.

    Examples
    --------
    >>> print(HalfT(3, 140.83))
    HalfT(3, 140.8)
    """

    df: float
    scale: float
    code: ClassVar[int] = codes.HALF_T
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("df", "scale")

    def _log_density(self, x: Array) -> Any:
        return LOG_2 - math.log(self.scale) + student_log_density(self.df, x / self.scale)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return np.abs(self.scale * rng.standard_t(self.df, size))


@dataclass(frozen=True, eq=False)
class HalfCauchy(Prior):
    """The positive half of a Cauchy about zero: HalfT(1, scale)."""

    scale: float
    code: ClassVar[int] = codes.HALF_T
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("scale")

    def _parameters(self) -> list[float]:
        return [1.0, float(self.scale)]

    def _log_density(self, x: Array) -> Any:
        return HalfT(1.0, self.scale)._log_density(x)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return HalfT(1.0, self.scale)._draw(rng, size)


@dataclass(frozen=True, eq=False)
class Exponential(Prior):
    """The exponential with the given rate (mean 1 / rate)."""

    rate: float
    code: ClassVar[int] = codes.EXPONENTIAL
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("rate")

    def _log_density(self, x: Array) -> Any:
        return math.log(self.rate) - self.rate * x

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return rng.exponential(1.0 / self.rate, size)


@dataclass(frozen=True, eq=False)
class PC(Prior):
    """The prior that penalises complexity: an exponential sd with P(sd > upper) = probability.

    Of the rho of `ar1` and the phi of `bym2` it means the same, P(|rho| > upper) and P(phi > upper), with the
    densities of `bayou.priors.structured`; ``upper`` is then below 1.

    References
    ----------
    Simpson, Rue, Riebler, Martins and Sørbye (2017), Statistical Science 32, 1-28.

    Examples
    --------
    >>> round(PC(1, 0.01).parameters[0], 3)  # the rate, -log(probability) / upper
    4.605
    """

    upper: float
    probability: float
    speaks_of: ClassVar[str] = "sd"
    code: ClassVar[int] = codes.EXPONENTIAL
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("upper", "probability")
        self._require(self.probability < 1.0, f"probability must be below 1, not {self.probability!r}.")

    def _parameters(self) -> list[float]:
        return [-math.log(self.probability) / self.upper]

    def _log_density(self, x: Array) -> Any:
        return Exponential(*self._parameters())._log_density(x)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return Exponential(*self._parameters())._draw(rng, size)


@dataclass(frozen=True, eq=False)
class Uniform(Prior):
    """Constant between two finite numbers, zero outside."""

    lower: float
    upper: float
    code: ClassVar[int] = codes.UNIFORM

    def _check(self) -> None:
        self._require_finite("lower", "upper")
        sentence = f"lower must be below upper, not {self.lower!r} and {self.upper!r}."
        self._require(self.lower < self.upper, sentence)

    def _log_density(self, x: Array) -> Any:
        inside = (x >= self.lower) & (x <= self.upper)
        return np.where(inside, -math.log(self.upper - self.lower), -np.inf)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return rng.uniform(self.lower, self.upper, size)


@dataclass(frozen=True, eq=False)
class Gamma(Prior):
    """A gamma density of a *precision* (1 / sd², or phi): mean shape / rate."""

    shape: float
    rate: float
    speaks_of: ClassVar[str] = "precision"
    code: ClassVar[int] = codes.GAMMA_PRECISION
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("shape", "rate")

    def _log_density(self, x: Array) -> Any:
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        return constant + (self.shape - 1.0) * np.log(x) - self.rate * x

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return rng.gamma(self.shape, 1.0 / self.rate, size)


@dataclass(frozen=True, eq=False)
class InverseGamma(Prior):
    """An inverse-gamma density of a *variance*: 1 / variance ~ Gamma(shape, rate = scale)."""

    shape: float
    scale: float
    speaks_of: ClassVar[str] = "variance"
    code: ClassVar[int] = codes.INVERSE_GAMMA_VARIANCE
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        self._require_positive("shape", "scale")

    def _log_density(self, x: Array) -> Any:
        constant = self.shape * math.log(self.scale) - math.lgamma(self.shape)
        return constant - (self.shape + 1.0) * np.log(x) - self.scale / x

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        with np.errstate(divide="ignore"):
            return 1.0 / np.asarray(rng.gamma(self.shape, 1.0 / self.scale, size))


@dataclass(frozen=True, eq=False)
class OfVariance(Prior):
    """A density of a value placed on the variance: OfVariance(Flat()) is p(tau²) ∝ 1."""

    prior: Prior
    speaks_of: ClassVar[str] = "variance"
    above_zero: ClassVar[bool] = True

    def _check(self) -> None:
        ok = isinstance(self.prior, Prior) and self.prior.speaks_of == "value"
        self._require(ok, f"it takes a density such as Flat, HalfT or Uniform, not {self.prior}.")

    @property
    def code(self) -> int:  # type: ignore[override]
        """The code of the density that follows for the standard deviation."""
        return codes.FLAT_VARIANCE if type(self.prior) is Flat else codes.OF_VARIANCE + self.prior.code

    @property
    def proper(self) -> bool:
        """Whether the density integrates to one."""
        return self.prior.proper

    def __str__(self) -> str:
        """Return the density and what it is placed on."""
        return f"{type(self).__name__}({self.prior})"

    def _parameters(self) -> list[float]:
        return list(self.prior.parameters)

    def _log_density(self, x: Array) -> Any:
        return self.prior.log_density(x)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        return self.prior.draw(rng, size)


@dataclass(frozen=True, eq=False)
class OfPrecision(OfVariance):
    """A density of a value placed on the precision 1 / sd² (or on phi)."""

    speaks_of: ClassVar[str] = "precision"

    def _check(self) -> None:
        super()._check()
        if type(self.prior) is Flat:
            raise ImproperPosterior(
                "A flat density of a precision puts p(s) ∝ s⁻³ on the standard deviation s, which no data "
                "make proper at s = 0. Use FlatSD() on the sd, or a proper prior such as Gamma(1, 1)."
            )

    @property
    def code(self) -> int:  # type: ignore[override]
        """The code of the density that follows for the standard deviation."""
        return codes.OF_PRECISION + self.prior.code


_CLASSES: dict[int, tuple[type[Prior], int]] = {
    codes.FLAT: (Flat, 0),
    codes.STUDENT_T: (StudentT, 3),
    codes.HALF_NORMAL: (HalfNormal, 1),
    codes.HALF_T: (HalfT, 2),
    codes.EXPONENTIAL: (Exponential, 1),
    codes.UNIFORM: (Uniform, 2),
    codes.GAMMA_PRECISION: (Gamma, 2),
    codes.INVERSE_GAMMA_VARIANCE: (InverseGamma, 2),
    codes.LOG_FLAT: (Jeffreys, 0),
}


def from_code(code: int, parameters: Any) -> Prior:
    """Return the prior that a code and its numbers stand for (the inverse of the kernels' table)."""
    if code == codes.FLAT_VARIANCE:
        return OfVariance(Flat())
    if code >= codes.OF_PRECISION:
        return OfPrecision(from_code(code - codes.OF_PRECISION, parameters))
    if code >= codes.OF_VARIANCE:
        return OfVariance(from_code(code - codes.OF_VARIANCE, parameters))
    made, count = _CLASSES[code]
    return made(*(float(v) for v in parameters[:count]))

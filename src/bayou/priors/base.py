"""What every prior is: a log density, draws from it, a name for kernels and a name for people."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.errors import PriorError
from bayou.priors import codes

Size = int | tuple[int, ...] | None
SMALLEST = 1e-100  # positive numbers of a prior lie between this and its inverse, so that their squares fit
LOG_2 = math.log(2.0)
LOG_2PI = math.log(2.0 * math.pi)


def number_text(value: Any) -> str:
    """Return a number, a vector or a matrix in four significant digits."""
    if np.ndim(value) == 0:
        return f"{float(value):.4g}"
    return "[" + ", ".join(number_text(v) for v in np.asarray(value)) + "]"


def is_finite(value: Any) -> bool:
    """Return whether the value is one finite real number."""
    try:
        return np.ndim(value) == 0 and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, eq=False)
class Prior:
    """One prior distribution, frozen.

    ``speaks_of`` says which quantity the density is about: "coefficient", "value" (whatever the key
    names: a coefficient, an sd, a variance, a precision), "sd", "variance", "precision", "matrix" or
    "correlation". A subclass writes `_check`, `_log_density` and `_draw`.
    """

    speaks_of: ClassVar[str] = "value"
    code: ClassVar[int] = codes.FLAT
    is_proper: ClassVar[bool] = True
    above_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        self._check()

    @property
    def parameters(self) -> tuple[float, float, float]:
        """The numbers of the density for `bayou.priors.table.prior_log_density`."""
        a, b, c, *_ = [*self._parameters(), 0.0, 0.0, 0.0]
        return a, b, c

    @property
    def proper(self) -> bool:
        """Whether the density integrates to one."""
        return self.is_proper

    def log_density(self, x: ArrayLike) -> Array:
        """Return the log density at ``x``, normalised when the prior is proper.

        Parameters
        ----------
        x
            What the class speaks of: scalars of any shape (0-d and up).
        """
        values = np.asarray(x, dtype=float)
        if not self.above_zero:
            return np.asarray(self._log_density(values))
        inside = values > 0.0
        with np.errstate(over="ignore"):
            return np.where(inside, self._log_density(np.where(inside, values, 1.0)), -np.inf)

    def draw(self, rng: np.random.Generator, size: Size = None) -> Array:
        """Return draws of what the class speaks of.

        Raises
        ------
        PriorError
            The prior is improper.
        """
        if not self.proper:
            raise PriorError(f"{self} is improper: it cannot be drawn from. Give a proper prior instead.")
        return np.asarray(self._draw(rng, size))

    def sd_log_density(self, s: ArrayLike) -> Array:
        """Return the log density of the standard deviation s that this prior implies."""
        s = np.asarray(s, dtype=float)
        inside = s > 0.0
        s = np.where(inside, s, 1.0)
        if self.speaks_of == "variance":
            out = self.log_density(s * s) + LOG_2 + np.log(s)
        elif self.speaks_of == "precision":
            out = self.log_density(1.0 / (s * s)) + LOG_2 - 3.0 * np.log(s)
        else:
            out = self.log_density(s)
        return np.where(inside, out, -np.inf)

    def sd_draw(self, rng: np.random.Generator, size: Size = None) -> Array:
        """Return draws of the standard deviation."""
        x = self.draw(rng, size)
        if self.speaks_of == "variance":
            return np.asarray(np.sqrt(x))
        # A gamma of a tiny shape draws exact zeros: an infinite sd, which is what it says.
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / np.sqrt(x)) if self.speaks_of == "precision" else x

    def __str__(self) -> str:
        """Return the class with its numbers, as it would be typed."""
        values = [getattr(self, f.name) for f in fields(self)]
        return f"{type(self).__name__}({', '.join(number_text(v) for v in values if v is not None)})"

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same class with the same numbers."""
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        """Return a hash that agrees with equality."""
        return hash(str(self))

    def _check(self) -> None:
        """Raise PriorError for impossible numbers."""

    def _parameters(self) -> list[float]:
        return [float(getattr(self, f.name)) for f in fields(self)]

    def _log_density(self, x: Array) -> Any:
        raise PriorError(f"{self} has no density.")

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        raise PriorError(f"{self} cannot be drawn from.")

    def _require(self, condition: bool, sentence: str) -> None:
        if not condition:
            raise PriorError(f"{type(self).__name__}: {sentence}")

    def _require_finite(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._require(is_finite(value), f"{name} must be a finite number, not {value!r}.")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            ok = is_finite(value) and float(value) > 0.0
            self._require(ok, f"{name} must be a finite number above 0, not {value!r}.")
            fits = SMALLEST <= float(value) <= 1.0 / SMALLEST
            self._require(fits, f"the square of {name} = {value!r} is lost in rounding; change the unit of the data.")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Prior) or isinstance(b, Prior):
        return bool(a == b)
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def student_log_density(df: float, z: Array) -> Array:
    """Return the log density of a standard Student's t with ``df`` degrees of freedom at ``z``."""
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return np.asarray(constant - 0.5 * (df + 1) * np.log1p(z * z / df))

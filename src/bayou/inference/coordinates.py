"""One number of the summary as a coordinate of the likelihood, the others free beside it.

A likelihood takes psi (d,): fixed effects, entries of covariance factors, log dispersions. To hold one parameter at v,
psi is written as a smooth function of (v, x) with x (d − 1,) free; the constraint is then no constraint at all, and
the gradient in (v, x) follows by the chain rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array

if TYPE_CHECKING:
    from bayou.conditional.laplace import Laplace


@dataclass(frozen=True)
class Coordinate(ABC):
    """A parameter of the summary.

    Attributes
    ----------
    lower, upper
        What it can be; an end that is not infinite can be taken.
    """

    lower: float
    upper: float

    @abstractmethod
    def split(self, psi: Array) -> tuple[float, Array]:
        """Return (v, x) of psi (d,)."""

    @abstractmethod
    def join(self, v: float, x: Array) -> Array:
        """Return psi (d,)."""

    @abstractmethod
    def slopes(self, v: float, x: Array) -> tuple[Array, Array]:
        """Return the derivatives of psi in v (d,) and in x (d, d − 1)."""


@dataclass(frozen=True)
class Entry(Coordinate):
    """An entry of psi in some unit: an sd that stands first in its block, or (``log``) a dispersion."""

    at: int
    unit: float
    log: bool

    def split(self, psi: Array) -> tuple[float, Array]:
        """Return (v, x) of psi (d,)."""
        v = np.exp(psi[self.at]) if self.log else abs(psi[self.at]) * self.unit
        return float(v), np.delete(psi, self.at)

    def join(self, v: float, x: Array) -> Array:
        """Return psi (d,)."""
        return np.insert(x, self.at, np.log(v) if self.log else v / self.unit)

    def slopes(self, v: float, x: Array) -> tuple[Array, Array]:
        """Return the derivatives of psi in v (d,) and in x (d, d − 1)."""
        d = len(x) + 1
        own = np.zeros(d)
        own[self.at] = 1.0 / v if self.log else 1.0 / self.unit
        return own, np.delete(np.eye(d), self.at, axis=1)


@dataclass(frozen=True)
class Coefficient(Coordinate):
    """A fixed effect as printed: a combination ``weights`` (d,) of psi, one entry of which it takes the place of."""

    weights: Array

    @property
    def at(self) -> int:
        """The entry that gives way: where the weight is largest."""
        return int(np.abs(self.weights).argmax())

    def split(self, psi: Array) -> tuple[float, Array]:
        """Return (v, x) of psi (d,)."""
        return float(self.weights @ psi), np.delete(psi, self.at)

    def join(self, v: float, x: Array) -> Array:
        """Return psi (d,)."""
        psi = np.insert(x, self.at, 0.0)
        psi[self.at] = (v - self.weights @ psi) / self.weights[self.at]
        return psi

    def slopes(self, v: float, x: Array) -> tuple[Array, Array]:
        """Return the derivatives of psi in v (d,) and in x (d, d − 1)."""
        d, at = len(x) + 1, self.at
        own = np.zeros(d)
        own[at] = 1.0 / self.weights[at]
        others = np.delete(np.eye(d), at, axis=1)
        others[at] = -np.delete(self.weights, at) / self.weights[at]
        return own, others


@dataclass(frozen=True)
class Correlation(Coordinate):
    """The correlation r of the first two coefficients of a block.

    Their rows of the factor are a (1, 0) and s (r, √(1 − r²)). Both sds are taken by their logarithms, which keeps
    the sign of r theirs whatever the search does.
    """

    first: int  # where T11, T21 and T22 stand in psi
    below: int
    second: int

    def split(self, psi: Array) -> tuple[float, Array]:
        """Return (v, x) of psi (d,)."""
        a, b, c = psi[self.first], psi[self.below], psi[self.second]
        s = np.hypot(b, c)
        r = float(np.sign(a) * b / s) if s > 0.0 and a != 0.0 else 0.0
        x = psi.copy()
        # an sd of zero has no logarithm: a thousandth of its unit stands for it, from where it may fall again
        x[self.first], x[self.second] = np.log(max(abs(a), 1e-3)), np.log(max(s, 1e-3))
        return r, np.delete(x, self.below)

    def join(self, v: float, x: Array) -> Array:
        """Return psi (d,)."""
        psi = np.insert(x, self.below, 0.0)
        s = np.exp(psi[self.second])
        psi[self.first] = np.exp(psi[self.first])
        psi[self.below], psi[self.second] = s * v, s * np.sqrt(max(1.0 - v * v, 0.0))
        return psi

    def slopes(self, v: float, x: Array) -> tuple[Array, Array]:
        """Return the derivatives of psi in v (d,) and in x (d, d − 1)."""
        d = len(x) + 1
        whole = np.insert(x, self.below, 0.0)
        s, root = np.exp(whole[self.second]), np.sqrt(max(1.0 - v * v, 0.0))
        own = np.zeros(d)
        own[self.below] = s
        own[self.second] = -s * v / root if root > 0.0 else 0.0
        others = np.eye(d)
        others[self.first, self.first] = np.exp(whole[self.first])
        others[self.below, self.second], others[self.second, self.second] = s * v, s * root
        return own, np.delete(others, self.below, axis=1)


def coefficient(of: Laplace, k: int) -> Coefficient:
    """Return the coordinate of the k-th fixed effect as printed."""
    weights = np.zeros(of.size)
    weights[: of.explicit] = of.model.working.to_printed[k] * of.beta_unit[: of.explicit]
    return Coefficient(-np.inf, np.inf, weights)


def dispersion(of: Laplace, k: int) -> Entry:
    """Return the coordinate of the k-th dispersion."""
    return Entry(0.0, np.inf, of.explicit + of.numbers.size + k, 1.0, True)


def _entry(of: Laplace, factor: int, row: int, column: int) -> int:
    """Return where an entry of a factor's T stands among the covariance parameters."""
    numbers, place = of.numbers, of.data.order.index(factor)
    found = (numbers.factor == place) & (numbers.row == row) & (numbers.column == column)
    return int(np.flatnonzero(found)[0])


def deviation(of: Laplace, factor: int, column: int) -> Entry:
    """Return the coordinate of the sd of a coefficient that stands first in its block."""
    at = _entry(of, factor, column, column)
    return Entry(0.0, np.inf, of.explicit + at, float(of.numbers.unit[at]), False)


def correlation(of: Laplace, factor: int, columns: tuple[int, int]) -> Correlation:
    """Return the coordinate of the correlation of the two coefficients that stand first in their block."""
    i, j = columns
    a, b, c = (_entry(of, factor, *where) for where in ((i, i), (j, i), (j, j)))
    return Correlation(-1.0, 1.0, *(of.explicit + k for k in (a, b, c)))

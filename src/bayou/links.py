"""Link functions: from the mean of the response to the linear predictor eta, and back.

A link of a probability also gives the logarithms of success and failure with their derivatives, each
written so that no digit is lost in either tail: the binomial family needs nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bayou._types import Array
from bayou.errors import Unsupported

__all__ = ["Cloglog", "Identity", "Link", "Log", "Logit", "ProbabilityLink", "Probit", "get"]

# Coefficients of h**2, h**4, ... in h / (1 - exp(-h)) - 1 - h/2: the Bernoulli numbers, B_2k / (2k)!.
BERNOULLI_SERIES = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
)


def _quiet() -> Any:
    # exp(eta) leaves the double range beyond |eta| = 709: inf and 0 are then the correctly rounded answers.
    return np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")


def _array(x: ArrayLike) -> Array:
    return np.asarray(x, dtype=np.float64)


@dataclass(frozen=True)
class Link(ABC):
    """A one-to-one map from the mean mu to the linear predictor eta.

    Calling a link gives eta from mu.

    Examples
    --------
    >>> from bayou import links
    >>> float(links.get("logit").inverse(0.0))
    0.5
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, mu: ArrayLike) -> Array:
        """Return eta, the link of the mean `mu`."""

    @abstractmethod
    def inverse(self, eta: ArrayLike) -> Array:
        """Return the mean at the linear predictor `eta`."""

    @abstractmethod
    def derivative(self, eta: ArrayLike) -> Array:
        """Return d mu / d eta at `eta`."""

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class Identity(Link):
    """eta = mu."""

    name = "identity"

    def __call__(self, mu: ArrayLike) -> Array:
        """Return mu."""
        return _array(mu)

    def inverse(self, eta: ArrayLike) -> Array:
        """Return eta."""
        return _array(eta)

    def derivative(self, eta: ArrayLike) -> Array:
        """Return 1."""
        return np.ones_like(_array(eta))


class Log(Link):
    """eta = log(mu)."""

    name = "log"

    def __call__(self, mu: ArrayLike) -> Array:
        """Return log(mu)."""
        with _quiet():
            return np.asarray(np.log(_array(mu)))

    def inverse(self, eta: ArrayLike) -> Array:
        """Return exp(eta)."""
        with _quiet():
            return np.asarray(np.exp(_array(eta)))

    def derivative(self, eta: ArrayLike) -> Array:
        """Return exp(eta)."""
        return self.inverse(eta)


class ProbabilityLink(Link):
    """A link of a probability: adds log p, log(1 - p) and their derivatives, exact in both tails."""

    @abstractmethod
    def complement(self, eta: ArrayLike) -> Array:
        """Return 1 - inverse(eta) without the subtraction."""

    @abstractmethod
    def log_success(self, eta: ArrayLike) -> Array:
        """Return log p at `eta`."""

    @abstractmethod
    def log_failure(self, eta: ArrayLike) -> Array:
        """Return log(1 - p) at `eta`."""

    @abstractmethod
    def success_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return d log p / d eta and -d2 log p / d eta2."""

    @abstractmethod
    def failure_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return d log(1 - p) / d eta and -d2 log(1 - p) / d eta2."""


class SymmetricLink(ProbabilityLink):
    """A link with inverse(-eta) = 1 - inverse(eta): failure is success at -eta."""

    def complement(self, eta: ArrayLike) -> Array:
        """Return inverse(-eta)."""
        return self.inverse(-_array(eta))

    def log_failure(self, eta: ArrayLike) -> Array:
        """Return log p at -eta."""
        return self.log_success(-_array(eta))

    def failure_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return those of log p at -eta, the first with its sign turned."""
        slope, curvature = self.success_derivatives(-_array(eta))
        return -slope, curvature


class Logit(SymmetricLink):
    """eta = log(p / (1 - p))."""

    name = "logit"

    def __call__(self, mu: ArrayLike) -> Array:
        """Return log(mu / (1 - mu))."""
        return np.asarray(special.logit(_array(mu)))

    def inverse(self, eta: ArrayLike) -> Array:
        """Return 1 / (1 + exp(-eta))."""
        return np.asarray(special.expit(_array(eta)))

    def derivative(self, eta: ArrayLike) -> Array:
        """Return p (1 - p)."""
        return self.inverse(eta) * self.complement(eta)

    def log_success(self, eta: ArrayLike) -> Array:
        """Return -log(1 + exp(-eta))."""
        return np.asarray(special.log_expit(_array(eta)))

    def success_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return 1 - p and p (1 - p)."""
        return self.complement(eta), self.derivative(eta)


class Probit(SymmetricLink):
    """eta = the standard normal quantile of p."""

    name = "probit"

    def __call__(self, mu: ArrayLike) -> Array:
        """Return the standard normal quantile of mu."""
        return np.asarray(special.ndtri(_array(mu)))

    def inverse(self, eta: ArrayLike) -> Array:
        """Return the standard normal distribution function at eta."""
        return np.asarray(special.ndtr(_array(eta)))

    def derivative(self, eta: ArrayLike) -> Array:
        """Return the standard normal density at eta."""
        with _quiet():
            return np.asarray(np.exp(-0.5 * _array(eta) ** 2) / np.sqrt(2 * np.pi))

    def log_success(self, eta: ArrayLike) -> Array:
        """Return the logarithm of the standard normal distribution function."""
        return np.asarray(special.log_ndtr(_array(eta)))

    def success_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return the inverse Mills ratio m at -eta and m (m + eta).

        In the lower tail m + eta is a difference of near equals; there Laplace's continued fraction
        m(x) - x = 1/(x + 2/(x + 3/(x + ...))) gives it with all its digits.
        """
        x = -_array(eta)
        with _quiet():
            ratio = np.sqrt(2 / np.pi) / special.erfcx(x / np.sqrt(2))
            tail = np.maximum(x, 6.0)
            fraction = tail
            for k in range(28, 1, -1):
                fraction = tail + k / fraction
            excess = np.where(x > 6.0, 1 / fraction, ratio - x)
            ratio = np.where(x > 6.0, x + excess, ratio)
            # far in the upper tail the ratio is zero and its product with eta is too
            return ratio, np.where(ratio == 0.0, 0.0, ratio * excess)


def _hazard_excess(hazard: Array) -> Array:
    """Return h / (1 - exp(-h)) - 1, by its series where the difference would lose digits."""
    square = np.minimum(hazard, 0.5) ** 2
    series = np.zeros_like(hazard)
    for coefficient in reversed(BERNOULLI_SERIES):
        series = coefficient + square * series
    died = -np.expm1(-hazard)
    return np.where(hazard < 0.5, 0.5 * hazard + square * series, (hazard - died) / died)


class Cloglog(ProbabilityLink):
    """eta = log(-log(1 - p)): the complementary log-log link; the hazard is exp(eta)."""

    name = "cloglog"

    def __call__(self, mu: ArrayLike) -> Array:
        """Return log(-log(1 - mu))."""
        with _quiet():
            return np.asarray(np.log(-np.log1p(-_array(mu))))

    def inverse(self, eta: ArrayLike) -> Array:
        """Return 1 - exp(-exp(eta))."""
        with _quiet():
            return np.asarray(-np.expm1(-np.exp(_array(eta))))

    def complement(self, eta: ArrayLike) -> Array:
        """Return exp(-exp(eta))."""
        with _quiet():
            return np.asarray(np.exp(-np.exp(_array(eta))))

    def derivative(self, eta: ArrayLike) -> Array:
        """Return exp(eta - exp(eta))."""
        with _quiet():
            return np.asarray(np.exp(_array(eta) - np.exp(_array(eta))))

    def log_success(self, eta: ArrayLike) -> Array:
        """Return log(1 - exp(-exp(eta)))."""
        x = _array(eta)
        with _quiet():
            hazard = np.exp(x)
            return np.where(hazard < 0.5, x - np.log1p(_hazard_excess(hazard)), np.log1p(-np.exp(-hazard)))

    def log_failure(self, eta: ArrayLike) -> Array:
        """Return -exp(eta)."""
        with _quiet():
            return np.asarray(-np.exp(_array(eta)))

    def success_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return g = h / (exp(h) - 1) and g (h / (1 - exp(-h)) - 1) at the hazard h = exp(eta)."""
        with _quiet():
            hazard = np.minimum(np.exp(_array(eta)), 800.0)  # exp(-800) is zero
            excess = _hazard_excess(hazard)
            slope = (1.0 + excess) * np.exp(-hazard)
            return slope, slope * excess

    def failure_derivatives(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Return -exp(eta) and exp(eta)."""
        with _quiet():
            hazard = np.exp(_array(eta))
        return -hazard, hazard


LINKS: dict[str, Link] = {link.name: link for link in (Identity(), Log(), Logit(), Probit(), Cloglog())}


def get(link: str | Link) -> Link:
    """Return the link of that name (any case); a `Link` passes through.

    Raises
    ------
    Unsupported
        If no link has that name; the message lists those that exist.
    """
    if isinstance(link, Link):
        return link
    found = LINKS.get(str(link).strip().lower())
    if found is None:
        raise Unsupported(f"there is no link {link!r}; bayou has: {', '.join(LINKS)}")
    return found

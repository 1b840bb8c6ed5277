"""What a test stands on: estimates of the coefficients, their covariance, and degrees of freedom for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

import numpy as np

from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.inference.kenward_roger import KenwardRoger
from bayou.inference.satterthwaite import Satterthwaite
from bayou.inference.supported import is_linear_mixed

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Basis", "Method", "Wald", "basis", "flat_draws"]

Method: TypeAlias = Literal["satterthwaite", "kenward-roger", "wald"]


class Basis(Protocol):
    """Covariance (P, P) of the printed coefficients, and the degrees of freedom that go with it."""

    words: str
    covariance: Array

    def each(self, L: Array) -> Array:
        """Return the degrees of freedom (k,) of each row of L (k, P) alone; infinite where the test is normal."""
        ...

    def degrees(self, L: Array) -> tuple[float, float]:
        """Return the denominator degrees of freedom of the joint test of L (q, P), and the scale of its F."""
        ...


class Wald:
    """Normal tests: as many degrees of freedom as there can be.

    After a sampler the covariance is that of the draws.
    """

    words = "Wald"

    def __init__(self, result: Posterior) -> None:
        found = result.estimates
        if found is not None:
            self.covariance = found.beta_covariance
        else:
            self.covariance = np.atleast_2d(np.cov(flat_draws(result), rowvar=False))
            self.words = "Wald, mean and covariance of the draws"

    def each(self, L: Array) -> Array:
        """Return infinity (k,)."""
        return np.full(len(L), np.inf)

    def degrees(self, L: Array) -> tuple[float, float]:
        """Return infinity, and no scale."""
        return np.inf, 1.0


def flat_draws(result: Posterior) -> Array:
    """Return the draws of the fixed effects, (S, P)."""
    beta = result.draws["beta"]
    return np.asarray(beta.reshape(-1, beta.shape[-1]))


def centre(result: Posterior) -> Array:
    """Return the estimates (P,) of the fixed effects; of a sampler the means of the draws."""
    found = result.estimates
    return flat_draws(result).mean(axis=0) if found is None else found.estimate[: found.fixed]


def default_method(result: Posterior) -> Method:
    """Satterthwaite's for linear mixed models by ML and REML, Wald's elsewhere."""
    return "satterthwaite" if is_linear_mixed(result.model, result.estimates) else "wald"


def basis(result: Posterior, method: str) -> Basis:
    """Compute what tests by a method stand on.

    Raises
    ------
    DataError
        For an unknown method, and for a model without fixed effects.
    Unsupported
        Where the method does not apply, or the covariance of the coefficients is unknown.
    """
    known: dict[str, Callable[[], Basis]] = {
        "satterthwaite": lambda: Satterthwaite(result.model, result.estimates),
        "kenward-roger": lambda: KenwardRoger(result.model, result.estimates),
        "wald": lambda: Wald(result),
    }
    if method not in known:
        raise DataError(f"method={method!r} is not known; method is one of {', '.join(map(repr, get_args(Method)))}.")
    if not result.model.design.coefficients:
        raise DataError("The model has no fixed effects, so there is nothing to test.")
    made = known[method]()
    if not np.isfinite(made.covariance).all():
        raise Unsupported(
            "The covariance of the fixed effects is unknown in this fit, so there is nothing to test with; its verdict "
            "says why. fit.derive() looks at draws."
        )
    return made

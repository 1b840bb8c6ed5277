"""What every family of the response can do: the base class of `bayou.families`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from bayou import links
from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.links import Link

__all__ = ["Family", "Refuse", "Rows"]

CORRECT = "Correct these rows or leave them out."
MEASURED = "A measured quantity takes family='gaussian' or family='gamma'."

Refuse: TypeAlias = Callable[[Any, str, str], None]


class Rows(NamedTuple):
    """What a family needs to know of the rows, as arrays that broadcast against each other."""

    y: Array
    eta: Array
    dispersion: Array
    trials: Array
    weights: Array


@dataclass(frozen=True, init=False)
class Family(ABC):
    """A distribution of the response given its linear predictor eta.

    All methods broadcast: eta may carry leading dimensions (chain, draw), with y, trials and weights of shape
    (n,) and a dispersion that broadcasts against eta. Weights multiply the log density (Gaussian: they
    divide the variance).

    Parameters
    ----------
    link
        A name or a `bayou.links.Link`; by default the family's first one.

    Attributes
    ----------
    name
        "gaussian", "bernoulli", "binomial", "poisson", "negative_binomial" or "gamma".
    link
        The `bayou.links.Link`.
    dispersion
        The name of the dispersion parameter: None, "sigma", "phi" or "shape".
    codes
        The integer that stands for the family in kernels, for each link that it can have.

    Raises
    ------
    Unsupported
        If the family has no such link.

    Examples
    --------
    >>> from bayou import families
    >>> family = families.Binomial(link="probit")
    >>> print(family)
    binomial(link = probit)
    >>> round(float(family.log_density(y=1, eta=0.0, trials=2)), 6), float(family.mean(0.0))
    (-0.693147, 0.5)
    """

    name: ClassVar[str]
    dispersion: ClassVar[str | None] = None
    codes: ClassVar[Mapping[str, int]]
    own: ClassVar[bool] = False
    """Whether it is a user's own, which the kernels know by an address."""
    link: Link

    def __init__(self, link: str | Link | None = None) -> None:
        found = links.get(next(iter(self.codes)) if link is None else link)
        if found.name not in self.codes:
            known = ", ".join(self.codes)
            raise Unsupported(f"the {self.name} family has no {found.name} link; it has: {known}")
        object.__setattr__(self, "link", found)

    def __str__(self) -> str:
        """Return the name and its link, for print-outs."""
        return f"{self.name}(link = {self.link.name})"

    @property
    def code(self) -> int:
        """The integer by which the kernels know this family and link."""
        return self.codes[self.link.name]

    def mean(self, eta: ArrayLike) -> Array:
        """Return the mean of y (binomial: the probability of a success) at `eta`."""
        return self.link.inverse(eta)

    def log_density(
        self,
        y: ArrayLike,
        eta: ArrayLike,
        dispersion: ArrayLike | None = None,
        trials: ArrayLike = 1.0,
        weights: ArrayLike = 1.0,
    ) -> Array:
        """Return the log density of each row, with every constant."""
        with np.errstate(all="ignore"):
            return self._log_density(self._rows(y, eta, dispersion, trials, weights))

    def gradient(
        self,
        y: ArrayLike,
        eta: ArrayLike,
        dispersion: ArrayLike | None = None,
        trials: ArrayLike = 1.0,
        weights: ArrayLike = 1.0,
    ) -> Array:
        """Return the derivative of the log density in eta."""
        rows = self._rows(y, eta, dispersion, trials, weights)
        with np.errstate(all="ignore"):
            return np.asarray(rows.weights * self._derivatives(rows)[0])

    def curvature(
        self,
        y: ArrayLike,
        eta: ArrayLike,
        dispersion: ArrayLike | None = None,
        trials: ArrayLike = 1.0,
        weights: ArrayLike = 1.0,
    ) -> Array:
        """Return minus the second derivative of the log density in eta (observed, not expected)."""
        rows = self._rows(y, eta, dispersion, trials, weights)
        with np.errstate(all="ignore"):
            return np.asarray(rows.weights * self._derivatives(rows)[1])

    @abstractmethod
    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return the variance of y (binomial: of one trial) at the mean `mu`."""

    def sample(
        self,
        rng: np.random.Generator,
        eta: ArrayLike,
        dispersion: ArrayLike | None = None,
        trials: ArrayLike = 1.0,
        weights: ArrayLike = 1.0,
    ) -> Array:
        """Draw outcomes (binomial: counts of successes), as float64 of the broadcast shape."""
        rows = self._rows(0.0, eta, dispersion, trials, weights)
        shape = np.broadcast_shapes(*(column.shape for column in rows))
        with np.errstate(all="ignore"):
            return self._sample(rng, Rows(*(np.broadcast_to(column, shape) for column in rows)))

    def cdf(
        self,
        y: ArrayLike,
        eta: ArrayLike,
        dispersion: ArrayLike | None = None,
        trials: ArrayLike = 1.0,
        weights: ArrayLike = 1.0,
    ) -> Array:
        """Return P(Y <= y), for quantile residuals."""
        with np.errstate(all="ignore"):
            return self._cdf(self._rows(y, eta, dispersion, trials, weights))

    def check(self, y: ArrayLike, trials: ArrayLike = 1.0, rows_label: Sequence[Any] | None = None) -> None:
        """Refuse responses that this family cannot produce.

        Parameters
        ----------
        y, trials
            Shape (n,).
        rows_label
            Labels of the rows for the message; their positions, from 0, when None.

        Raises
        ------
        DataError
            Naming the first rows with an impossible response.
        """
        outcomes, counts = np.broadcast_arrays(np.asarray(y, float), np.asarray(trials, float))

        def refuse(bad: Any, sentence: str, remedy: str) -> None:
            where = np.flatnonzero(bad)
            if len(where):
                labels = where if rows_label is None else [rows_label[int(i)] for i in where[:3]]
                of = [f" of {count:.12g}" if (counts != 1).any() else "" for count in counts[where[:3]]]
                first = ", ".join(
                    f"row {a} has {outcomes[i]:.12g}{n}" for a, i, n in zip(labels, where[:3], of, strict=False)
                )
                more = f" and {len(where) - 3} more rows" if len(where) > 3 else ""
                raise DataError(f"a {self.name} response {sentence}: {first}{more}. {remedy}")

        refuse(~np.isfinite(outcomes), "must be finite", CORRECT)
        self._check(outcomes, counts, refuse)

    def _rows(self, y: Any, eta: Any, dispersion: Any, trials: Any, weights: Any) -> Rows:
        if self.dispersion is not None and dispersion is None:
            raise DataError(f"the {self.name} family needs a value of its {self.dispersion}")
        return Rows(*(np.asarray(a, dtype=np.float64) for a in (y, eta, dispersion, trials, weights)))

    @abstractmethod
    def _log_density(self, rows: Rows) -> Array: ...

    @abstractmethod
    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        """Return the gradient and the curvature at unit weights."""

    @abstractmethod
    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array: ...

    @abstractmethod
    def _cdf(self, rows: Rows) -> Array: ...

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        refuse(y < 0, "cannot be negative", f"{CORRECT} {MEASURED}")
        refuse(y != np.rint(y), "must be a whole number", f"{CORRECT} {MEASURED}")

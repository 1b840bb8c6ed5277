"""Fewer rows than were given, with the same likelihood: what the kept rows stand for, and what they leave out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers
from bayou.design.files import RowFiles
from bayou.design.moments import Running

__all__ = ["Distinct", "Reduced", "Remainder"]


@dataclass(frozen=True, eq=False)
class Remainder:
    """What the kept rows leave out of the log likelihood of the rows as given.

    log p(given | eta, dispersion) = log p(kept | eta, dispersion)
    + constant − Σ_s (count_s log sigma_s + squares_s / (2 sigma_s²)), s = 0 … S − 1 the levels of sigma.

    Attributes
    ----------
    constant : float
        Free of every parameter.
    count, squares : (S,) ndarray
        Zeros unless the response is Gaussian with an identity link: rows given less rows kept, and the
        weighted sum of squares within the groups of rows that were summed.
    """

    constant: float
    count: Array
    squares: Array

    def log_density(self, sigma: Array) -> float:
        """Return what depends on residual sds (S,): −Σ_s (count_s log sigma_s + squares_s / (2 sigma_s²))."""
        return -float(self.count @ np.log(sigma) + 0.5 * self.squares @ np.square(1.0 / sigma))

    def slopes(self, sigma: Array) -> Array:
        """Return the derivatives (S,) of `log_density` by log sigma."""
        return np.asarray(self.squares / np.square(sigma) - self.count)

    @classmethod
    def nothing(cls, levels: int) -> Remainder:
        """Return the remainder of rows that stand for themselves; `levels` is S."""
        return cls(0.0, np.zeros(levels), np.zeros(levels))


@dataclass(frozen=True, eq=False)
class Distinct:
    """The different rows among those given, for what goes row by row: log densities and their cross-validation.

    Attributes
    ----------
    row : (m,) ndarray of int64
        The kept row that each went into: the same predictor, up to `offset`.
    y, trials, offset, weights : (m,) ndarray
        Of one row as given.
    frequency : (m,) ndarray
        How many rows given are like it.
    """

    row: Integers
    y: Array
    trials: Array
    offset: Array
    weights: Array
    frequency: Array


@dataclass(frozen=True, eq=False)
class Reduced:
    """How the rows of a design came from those that were given.

    Attributes
    ----------
    how : {"summed", "merged", "blocks"}
        Gaussian rows summed within levels, identical rows merged, or all rows kept in files.
    given : int
        Number of rows read and used.
    frequency : (n,) ndarray
        How many of the rows given each kept row stands for; not always whole for summed rows.
    remainder : Remainder
    distinct : Distinct or None
        Of merged rows.
    source : object or None
        Where the rows are, to be read again: predictions and log densities stream over it.
    running : Running or None
        Means and scales of the rows given; None where those of the kept rows by their frequencies are the same.
    files : RowFiles or None
        Where rows kept in blocks are: in arrays of files, the rows sorted by the factor with most coefficients.
    """

    how: str
    given: int
    frequency: Array
    remainder: Remainder
    distinct: Distinct | None = None
    source: object | None = None
    running: Running | None = None
    files: RowFiles | None = None

"""Means and scales of the columns of a design, of the rows as given: what default priors and starts are read off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.design.design import Design

__all__ = ["Moments", "Running", "column_scale", "spread"]

NOTHING = 1e-12
"""A standard deviation below this share of the largest entry is that of a constant, rounded."""


@dataclass(frozen=True, eq=False)
class Columns:
    """What is asked of some columns.

    Attributes
    ----------
    mean, rms : (k,) ndarray
    sd : (k,) ndarray
        With divisor n; zero only where the column does not vary at all.
    scale : (k,) ndarray
        As `column_scale`.
    largest : (k,) ndarray
        Of the absolute values.
    """

    mean: Array
    sd: Array
    rms: Array
    scale: Array
    largest: Array

    @classmethod
    def of(cls, columns: Array) -> Columns:
        """Take them from rows (n, k)."""
        count = columns.shape[1]
        return cls(
            mean=np.asarray(columns.mean(axis=0)),
            sd=np.array([float(np.std(columns[:, k])) for k in range(count)]),
            rms=np.sqrt(np.mean(columns**2, axis=0)) if len(columns) else np.ones(count),
            scale=np.array([column_scale(columns[:, k]) for k in range(count)]),
            largest=np.abs(columns).max(axis=0, initial=0.0),
        )


class Moments:
    """Means and scales of a design's rows as given.

    Where every row stands for itself they are NumPy's own of the arrays; where rows were summed or merged they are
    those that were kept while reading, or of the kept rows by their frequencies.

    Attributes
    ----------
    rows : int
        How many there are.
    fixed : Columns
        Of X.
    groups : tuple of Columns
        Of each grouping's Z.
    sd, scale, rms : float
        Of the response.
    offset : float
        Its mean.
    level : float
        The mean of y − offset by the prior weights.

    Examples
    --------
    >>> from bayou import design, families
    >>> made = design.build("y ~ x", {"y": [1.0, 2.0, 6.0], "x": [0, 1, 2]}, families.get("gaussian"))
    >>> made.moments.fixed.mean.tolist(), made.moments.level
    ([1.0, 1.0], 3.0)
    """

    def __init__(self, design: Design) -> None:
        self._design = design

    @property
    def rows(self) -> int:
        """The number of rows given."""
        return self._design.given

    @property
    def _own(self) -> Running | None:
        reduced = self._design.reduced
        return None if reduced is None else reduced.running

    def _columns(self, columns: Array) -> Columns:
        reduced = self._design.reduced
        if reduced is None:
            return Columns.of(columns)
        running = Running(columns.shape[1])
        running.add(columns, reduced.frequency)
        return running.columns(range(columns.shape[1]))

    @cached_property
    def fixed(self) -> Columns:
        """Means and scales of the columns of X."""
        own = self._own
        return self._columns(self._design.X) if own is None else own.columns(own.places[0])

    @cached_property
    def groups(self) -> tuple[Columns, ...]:
        """Means and scales of each grouping's columns."""
        own = self._own
        if own is None:
            return tuple(self._columns(grouping.Z) for grouping in self._design.groupings)
        return tuple(own.columns(places) for places in own.places[1:])

    def size(self, grouping: int, column: int) -> float:
        """Return the root mean square of one column of a grouping."""
        if self._design.reduced is not None:
            return float(self.groups[grouping].rms[column])
        return float(np.sqrt(np.mean(np.square(self._design.groupings[grouping].Z[:, column]))))

    @property
    def _response(self) -> Array:
        design = self._design
        return np.asarray(design.y - design.offset if design.family.link.name == "identity" else design.y)

    @cached_property
    def _reduced(self) -> Columns | None:
        """The response where rows were summed or merged; it is not kept otherwise, as refits write into y."""
        own = self._own
        if own is not None:
            return own.columns([0])
        return None if self._design.reduced is None else self._columns(self._response[:, None])

    @property
    def sd(self) -> float:
        """The standard deviation (divisor n) of the response, its offset taken off under an identity link."""
        found = self._reduced
        return float(np.std(self._response)) if found is None else float(found.sd[0])

    @property
    def scale(self) -> float:
        """`column_scale` of the same."""
        found = self._reduced
        return column_scale(self._response) if found is None else float(found.scale[0])

    @property
    def rms(self) -> float:
        """The root mean square of the same."""
        found = self._reduced
        return float(np.sqrt(np.mean(self._response**2))) if found is None else float(found.rms[0])

    @property
    def offset(self) -> float:
        """The mean of the offset."""
        own, reduced, offset = self._own, self._design.reduced, self._design.offset
        if own is not None:
            return own.offset
        return float(offset.mean() if reduced is None else np.average(offset, weights=reduced.frequency))

    @property
    def level(self) -> float:
        """The mean of y − offset by the prior weights."""
        design, own = self._design, self._own
        if own is not None:
            return own.level
        weights = design.weights if float(np.sum(design.weights)) > 0.0 else np.ones_like(design.y)
        return float(np.average(design.y - design.offset, weights=weights))


def spread(column: Array) -> float:
    """Return the standard deviation (divisor n − 1); 0 when the column is constant up to rounding."""
    if len(column) < 2:
        return 0.0
    sd = float(np.std(column, ddof=1))
    return sd if sd > NOTHING * float(np.abs(column).max()) else 0.0


def column_scale(column: Array) -> float:
    """Return sd(x); the root mean square of a constant column; 1 for a column of zeros."""
    return spread(column) or float(np.sqrt(np.mean(column**2))) or 1.0


@kernel
def _moments(rows: Array, frequency: Array, first: Array, mean: Array, squares: Array, largest: Array) -> float:
    """Fill the mean of rows (n, k) less the first, and sums of squares about it; returns how many they stand for."""
    n, k = rows.shape
    total, every = 0.0, frequency.shape[0] < n
    for i in range(n):
        f = 1.0 if every else frequency[i]
        total += f
        for j in range(k):
            mean[j] += f * (rows[i, j] - first[j])
    for j in range(k):
        mean[j] /= max(total, 1e-300)
    for i in range(n):
        f = 1.0 if every else frequency[i]
        for j in range(k):
            x = rows[i, j]
            d = x - first[j] - mean[j]
            squares[j] += f * d * d
            largest[j] = max(largest[j], abs(x))
    return total


@dataclass(eq=False)
class Running:
    """Means and sums of squares about them, added up block by block (Chan, Golub & LeVeque 1983).

    Attributes
    ----------
    count : float
    shift, drift : (k,) ndarray
        The first row, and the mean less that: columns far from zero keep their digits.
    squares, largest : (k,) ndarray
        Squares are about the mean.
    places : tuple of sequences of int
        Which columns are those of X, and of each grouping; the response stands first.
    level, weight : float
        The mean of the response by the prior weights, and their sum.
    offset : float
        The mean of the offset that was taken off the response.
    """

    width: int
    places: tuple[Sequence[int], ...] = ()
    count: float = 0.0
    level: float = 0.0
    weight: float = 0.0
    offset: float = 0.0
    shift: Array = field(init=False)
    drift: Array = field(init=False)
    squares: Array = field(init=False)
    largest: Array = field(init=False)

    def __post_init__(self) -> None:
        self.shift, self.drift, self.squares, self.largest = np.zeros((4, self.width))

    @property
    def mean(self) -> Array:
        """The means (k,)."""
        return self.shift + self.drift

    def add(self, columns: Array, frequency: Array | None = None, weights: Array | None = None) -> None:
        """Add rows (n, k), each as often as its frequency; `weights` (n,) are those of `level`."""
        if not len(columns):
            return
        first, mean, squares = columns[0].copy(), np.zeros(self.width), np.zeros(self.width)
        given = np.ones(1) if frequency is None else frequency
        n = float(_moments(np.ascontiguousarray(columns), given, first, mean, squares, self.largest))
        if n == 0.0:
            return
        if self.count == 0.0:
            self.shift = first
        total = self.count + n
        gap = (first - self.shift) + mean - self.drift
        self.squares += squares + gap * gap * (self.count * n / total)
        self.drift += gap * (n / total)
        self.count = total
        if weights is not None:
            share = float(weights.sum())
            self.weight += share
            self.level += (float(weights @ columns[:, 0]) / share - self.level) * (share / self.weight)

    def split(self, column: int) -> None:
        """Give a column a twin, the last one from now on: they were the same so far."""
        self.width += 1
        self.shift, self.drift, self.squares, self.largest = (
            np.append(a, a[column]) for a in (self.shift, self.drift, self.squares, self.largest)
        )

    def columns(self, places: Sequence[int]) -> Columns:
        """Return the moments of some of the columns."""
        at = np.array(list(places), dtype=np.int64)
        mean, squares, largest = self.mean[at], self.squares[at], self.largest[at]
        variance = squares / max(self.count, 1.0)
        rms = np.sqrt(variance + np.square(mean))
        sd = np.sqrt(squares / max(self.count - 1.0, 1.0))
        sd = np.where(sd > NOTHING * largest, sd, 0.0)
        scale = np.where(sd > 0.0, sd, np.where(rms > 0.0, rms, 1.0))
        return Columns(mean=mean, sd=np.sqrt(variance), rms=rms, scale=scale, largest=largest)

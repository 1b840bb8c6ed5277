"""What stateful functions learn from rows that come in blocks: the states that they would have from all at once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from formulaic.transforms import poly

from bayou._types import Array, Integers
from bayou.design.frames import Frame
from bayou.design.levels import learn_levels
from bayou.design.places import Places
from bayou.design.transforms import State, learnt_scale, spline_ends
from bayou.errors import DataError, Unsupported
from bayou.formula.words import plural

__all__ = ["GroupMeans", "Learner", "learner"]

DISTINCT = 1_000_000
"""Different values of a column that are kept with their counts, for what needs every value."""
NEAR = 0.1
"""How far from orthonormal polynomials may be, for those of all rows to be found from them without loss."""


class Learner(ABC):
    """Learns the state of one function of one column."""

    def __init__(self, settings: Mapping[str, Any], text: str) -> None:
        self.settings, self.text = settings, text

    @abstractmethod
    def add(self, x: Array) -> None:
        """Take the values of one block, (n,)."""

    @abstractmethod
    def finish(self) -> State | None:
        """Return the state after a pass, or None for one more pass."""


class Moments(Learner):
    """Mean and sum of squares: those of the blocks, brought together at the end without loss."""

    def __init__(self, settings: Mapping[str, Any], text: str) -> None:
        super().__init__(settings, text)
        self.most = 0.0
        self.blocks: list[tuple[int, float, float]] = []

    def add(self, x: Array) -> None:
        """Keep count, sum and sum of squares about the mean of the block."""
        total = float(np.sum(x))
        apart = x - total / len(x)
        self.blocks.append((len(x), total, float(np.dot(apart, apart))))
        self.most = max(self.most, float(np.max(np.abs(x))))

    def finish(self) -> State:
        """Return the state of center(), scale() or standardize()."""
        n = sum(count for count, _, _ in self.blocks)
        mean = math.fsum(total for _, total, _ in self.blocks) / n
        if not self.settings:
            return {"mean": mean}

        def squares(about: float) -> float:
            between = (count * (total / count - about) ** 2 for count, total, _ in self.blocks)
            return math.fsum([*(within for _, _, within in self.blocks), *between])

        return learnt_scale(self.settings, self.text, n, mean, squares, self.most)


class Distinct(Learner):
    """The different values and how often each comes, as long as they are not too many; their ends in any case."""

    def __init__(self, settings: Mapping[str, Any], text: str) -> None:
        super().__init__(settings, text)
        self.places, self.values, self.counts = Places(), np.empty(0), np.empty(0)
        self.low, self.high, self.complete = np.inf, -np.inf, True

    def add(self, x: Array) -> None:
        """Count the values of a block."""
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        if not self.complete:
            return
        numbers, fresh = self.places.add((x + 0.0).view(np.int64))
        self.values = np.append(self.values, x[fresh])
        self.counts = np.append(self.counts, np.zeros(len(fresh)))
        self.counts += np.bincount(numbers, minlength=len(self.values))
        self.complete = len(self.values) <= DISTINCT

    def ordered(self) -> tuple[Array, Array]:
        """Return the different values in their order, and their counts."""
        order = np.argsort(self.values)
        return self.values[order], self.counts[order]


class Polynomials(Distinct):
    """The recurrence of orthogonal polynomials, alpha_k and the squared norms.

    With too many different values those kept give polynomials that are near the wanted ones; a further pass sums
    G = Q'Q and H = Q' diag(u) Q over all rows, and with G = LL' the Jacobi matrix is L⁻¹ H L⁻'.

    References
    ----------
    Golub & Welsch (1969), Mathematics of Computation 23, 221-230.
    """

    def __init__(self, settings: Mapping[str, Any], text: str) -> None:
        super().__init__(settings, text)
        self.near: State | None = None
        self.sums: list[tuple[Array, Array]] = []

    def add(self, x: Array) -> None:
        """Count values, or add up products of the polynomials that are near."""
        if self.near is None:
            super().add(x)
            return
        u, Q = self._basis(x)
        self.sums.append((Q.T @ Q, Q.T @ (u[:, None] * Q)))

    def finish(self) -> State | None:
        """Return the state of poly()."""
        degree = self.settings["degree"]
        if self.near is None:
            values, counts = self.ordered()
            if len(values) <= degree:
                raise DataError(
                    f"`{self.text}` needs more than {plural(degree, 'distinct value')}; the column has {len(values)}."
                )
            middle, half = self.low / 2.0 + self.high / 2.0, self.high / 2.0 - self.low / 2.0
            alpha, norms = _recurrence((values - middle) / half, counts, degree)
            state = {"middle": middle, "half": half, "inner": {"alpha": alpha, "norms2": norms}}
            if self.complete:
                return state
            self.near = state
            return None
        G, H = (np.sum([pair[k] for pair in self.sums], axis=0) for k in (0, 1))
        L = np.linalg.cholesky(G)
        J = np.linalg.solve(L, np.linalg.solve(L, H).T)
        norm = {0: float(G[0, 0] * self.near["inner"]["norms2"][0])}
        for k in range(degree):
            norm[k + 1] = norm[k] * float(J[k, k + 1]) ** 2
        inner = {"alpha": {k: float(J[k, k]) for k in range(degree)}, "norms2": norm}
        state = {**self.near, "inner": inner}
        scaled = G / np.sqrt(np.outer(np.diag(G), np.diag(G)))
        self.near, self.sums = state, []
        return state if np.abs(scaled - np.eye(degree + 1)).max() < NEAR else None

    def _basis(self, x: Array) -> tuple[Array, Array]:
        """Return the column on [-1, 1] and the polynomials that are near, of degree 0 too."""
        assert self.near is not None
        u = (x - self.near["middle"]) / self.near["half"]
        Q = np.asarray(poly(u, degree=self.settings["degree"], _state=self.near["inner"]))
        return u, np.column_stack([np.full(len(u), self.near["inner"]["norms2"][0] ** -0.5), Q])


def _recurrence(u: Array, counts: Array, degree: int) -> tuple[dict[int, float], dict[int, float]]:
    """Return alpha_0 … and the squared norms of the monic orthogonal polynomials of counted values."""
    P = [np.ones(len(u))]
    alpha, norms = {}, {0: float(np.sum(counts))}
    for k in range(degree):
        alpha[k] = float(np.sum(counts * u * P[k] ** 2) / norms[k])
        P.append((u - alpha[k]) * P[k] - (norms[k] / norms[k - 1] * P[k - 1] if k else 0.0))
        norms[k + 1] = float(np.sum(counts * P[k + 1] ** 2))
    return alpha, norms


class Knots(Distinct):
    """Ends of a spline, and its knots at quantiles when `df` asks for them."""

    def finish(self) -> State:
        """Return the state of bs().

        Raises
        ------
        Unsupported
            When quantiles of too many different values are asked for.
        """
        state = spline_ends(self.settings, self.text, self.low, self.high)
        df, degree = self.settings["df"], self.settings["degree"]
        count = 0 if df is None else df - degree - bool(self.settings["include_intercept"])
        if self.settings["knots"] is not None or count <= 0:
            return state
        if not self.complete:
            raise Unsupported(
                f"`{self.text}`: its knots are quantiles of a column of more than {DISTINCT:,} different values, which "
                "rows read in blocks do not give: write knots=[…] and the bounds."
            )
        values, counts = self.ordered()
        inside = (values >= state["low"]) & (values <= state["high"])
        inner = _quantiles(values[inside], counts[inside], np.linspace(0.0, 1.0, count + 2)[1:-1]).tolist()
        ends = state["low"], state["high"]
        knots = np.pad([ends[0], *inner, ends[1]], degree, mode="edge").tolist()
        state["inner"] = {"lower_bound": ends[0], "upper_bound": ends[1], "knots": knots}
        return state


def _quantiles(values: Array, counts: Array, shares: Array) -> Array:
    """Return quantiles of sorted values that come several times, interpolated as NumPy does."""
    last = np.cumsum(counts)
    at = shares * (last[-1] - 1.0)
    below = np.floor(at)
    left = values[np.searchsorted(last, below, side="right")]
    right = values[np.searchsorted(last, np.minimum(below + 1.0, last[-1] - 1.0), side="right")]
    part = at - below
    step = right - left
    return np.asarray(np.where(part >= 0.5, right - step * (1.0 - part), left + step * part))


class GroupMeans:
    """Means within groups, for center(x, by=g)."""

    def __init__(self, by: tuple[str, ...]) -> None:
        self.by = by
        self.sums, self.counts = np.zeros(0), np.zeros(0)

    def add(self, x: Array, numbers: Integers) -> None:
        """Add up the values of a block in the order of the rows, as they would be added in memory."""
        more = int(numbers.max()) + 1 - len(self.sums)
        if more > 0:
            more = max(more, len(self.sums))
            self.sums, self.counts = np.pad(self.sums, (0, more)), np.pad(self.counts, (0, more))
        np.add.at(self.sums, numbers, x)
        self.counts += np.bincount(numbers, minlength=len(self.counts))

    def finish(self, witnesses: Frame, first: Integers) -> State:
        """Return the state, with `first` the witness that brought each number."""
        levels, codes = learn_levels(self.by, witnesses)
        means = np.empty(len(levels.labels))
        means[codes[first]] = self.sums[: len(first)] / self.counts[: len(first)]
        return {"levels": levels, "means": means}


def learner(function: str, settings: Mapping[str, Any], text: str) -> Learner | None:
    """Return what learns the state of a function; None where there is nothing to learn."""
    if function in ("center", "scale", "standardize"):
        return Moments(settings, text)
    if function == "poly":
        return None if settings["raw"] is True else Polynomials(settings, text)
    return Knots(settings, text)

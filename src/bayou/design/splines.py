"""B-splines on evenly spaced knots, a few numbers per row, linear beyond the ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers, Mask

__all__ = ["Basis", "even_basis"]


@dataclass(frozen=True, eq=False)
class Basis:
    """B-splines of one degree on increasing knots.

    Attributes
    ----------
    knots : (size + degree + 1,) ndarray
        The curve lives between knots[degree] and knots[size].
    degree : int

    References
    ----------
    de Boor (1978), A Practical Guide to Splines, chapter X; Eilers & Marx (1996), Statistical Science 11(2).
    """

    knots: Array
    degree: int

    @property
    def size(self) -> int:
        """The number of B-splines."""
        return len(self.knots) - self.degree - 1

    @property
    def low(self) -> float:
        """Where the curve begins."""
        return float(self.knots[self.degree])

    @property
    def high(self) -> float:
        """Where the curve ends; beyond both ends it goes on as a straight line."""
        return float(self.knots[self.size])

    def outside(self, x: Array) -> Mask:
        """Tell which points lie beyond the ends, (n,)."""
        return np.asarray((x < self.low) | (x > self.high))

    def evaluate(self, x: Array) -> tuple[Integers, Array]:
        """Return the degree + 1 B-splines that are not zero at each point: node and value, (n, degree + 1).

        They sum to one. At a point x beyond an end e the values are B(e) + (x - e) B'(e).

        Examples
        --------
        >>> import numpy as np
        >>> node, value = even_basis(0.0, 1.0, size=5, degree=3).evaluate(np.array([0.5]))
        >>> node[0], value[0].round(4)
        (array([1, 2, 3, 4]), array([0.1667, 0.6667, 0.1667, 0.    ]))
        """
        p = self.degree
        inside = np.clip(x, self.low, self.high)
        breaks = self.knots[p : self.size + 1]
        span = np.searchsorted(breaks, inside, side="right") - 1
        span = np.clip(span, 0, len(breaks) - 2).astype(np.int64) + p
        value = self._local(inside, span, p)
        beyond = np.flatnonzero(self.outside(x))
        if beyond.size:
            slope = self._slopes(inside[beyond], span[beyond])
            value[beyond] += (x[beyond] - inside[beyond])[:, None] * slope
        return span[:, None] + np.arange(-p, 1), value

    def _local(self, x: Array, span: Integers, degree: int) -> Array:
        """Return the B-splines of a degree that are not zero between knots[span] and the next, (n, degree + 1)."""
        out = np.zeros((len(x), degree + 1))
        out[:, 0] = 1.0
        for k in range(1, degree + 1):
            carried = np.zeros(len(x))
            for r in range(k):
                above = self.knots[span + r + 1]
                below = self.knots[span + r + 1 - k]
                share = out[:, r] / (above - below)
                out[:, r] = carried + (above - x) * share
                carried = (x - below) * share
            out[:, k] = carried
        return out

    def _slopes(self, x: Array, span: Integers) -> Array:
        """Return first derivatives: differences of the B-splines of one degree less, (n, degree + 1)."""
        p = self.degree
        lower = self._local(x, span, p - 1)
        out = np.zeros((len(x), p + 1))
        for r in range(p):
            share = p * lower[:, r] / (self.knots[span + r + 1] - self.knots[span + r + 1 - p])
            out[:, r + 1] += share
            out[:, r] -= share
        return out


def even_basis(low: float, high: float, size: int, degree: int) -> Basis:
    """Return `size` B-splines on evenly spaced knots from `low` to `high`, with `degree` knots beyond each end."""
    pieces = size - degree
    knots: Array = low + (high - low) / pieces * np.arange(-degree, pieces + degree + 1, dtype=np.float64)
    knots[degree], knots[size] = low, high
    return Basis(knots, degree)

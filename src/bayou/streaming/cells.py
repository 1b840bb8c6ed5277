"""Sums of rows by cell: counts, weights and cross products of what varies within a cell, taken from its first row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel, prefetch

__all__ = ["Cells", "first_of_each"]

AHEAD = 24
"""Rows by which a cell's line is asked for ahead, so that it is there: memory answers no sooner."""
LARGE = 8
"""Rows of a cell from which its reference may leave its first row, each time that they have doubled."""


@kernel(inner=True)
def _recentre(moving: Integers, q: int, sums: Array, c: int) -> None:
    """Move the reference of a cell to its mean, where it is far from it: sums about it keep their digits."""
    v, weight, far = moving.shape[0], sums[c, 1], False
    at = 2 + q
    for a in range(v):
        own = sums[c, at + 1 + a]
        far = far or sums[c, at] * sums[c, at] > 0.5 * own * weight > 0.0
        at += a + 2
    if not far:
        return
    at = 2 + q
    for a in range(v):
        other = 2 + q
        for b in range(a + 1):
            sums[c, at + 1 + b] -= sums[c, at] * sums[c, other] / weight
            other += b + 2
        at += a + 2
    at = 2 + q
    for a in range(v):
        sums[c, 2 + moving[a]] += sums[c, at] / weight
        sums[c, at] = 0.0
        at += a + 2


@kernel
def _add(
    rows: Array, weights: Array, cell: Integers, start: int, still: Integers, moving: Integers,
    sums: Array, d: Array, facts: Integers,
) -> int:  # fmt: skip
    """Add rows to their cells, from `start` on; stops at a row whose column ``facts[0]`` is new to vary in its cell."""
    n, q = rows.shape
    v = moving.shape[0]
    width = sums.shape[1]
    for i in range(start, n):
        c, w = cell[i], weights[i]
        ahead = cell[min(i + AHEAD, n - 1)]
        for k in range(0, width, 8):
            prefetch(sums, ahead, k)
        prefetch(sums, ahead, width - 1)
        if sums[c, 0] == 0.0:
            for k in range(q):
                sums[c, 2 + k] = rows[i, k]
        else:
            for k in range(still.shape[0]):
                if rows[i, still[k]] != sums[c, 2 + still[k]]:
                    facts[0] = still[k]
                    return i
            for a in range(v):
                d[a] = rows[i, moving[a]] - sums[c, 2 + moving[a]]
            at = 2 + q
            for a in range(v):
                e = w * d[a]
                sums[c, at] += e
                for b in range(a + 1):
                    sums[c, at + 1 + b] += e * d[b]
                at += a + 2
        sums[c, 0] += 1.0
        sums[c, 1] += w
        count = int(sums[c, 0])
        if count >= LARGE and count & (count - 1) == 0:
            _recentre(moving, q, sums, c)
    return int(n)


class Cells:
    """Sums by cell that grow with their number, and with the columns that turn out to vary.

    Parameters
    ----------
    width : int
        Columns of a row (q): the response first, the different columns of the model after it.
    least : int
        Cells to make room for.

    Attributes
    ----------
    moving : list of int
        Columns that differ from a cell's first row somewhere, v of them; the response always.
    sums : (N, 2 + q + v (v + 3) / 2) ndarray
        A line for each cell: the number of its rows and their weight W; its reference, which is its first row, or in
        large cells about the mean of what varies; and with d the difference of the a-th moving column from that,
        Σ w d_a, Σ w d_a d_0 … Σ w d_a d_a, for a = 0 … v − 1.
    """

    def __init__(self, width: int, least: int = 0) -> None:
        self.width = width
        self.moving = [0]
        self.sums = np.zeros((least, width + 4))

    @property
    def count(self) -> Array:
        """The rows of each cell, (N,)."""
        return self.sums[:, 0]

    def add(self, rows: Array, weights: Array, cell: Integers, count: int) -> None:
        """Add rows (n, q) with their weights (n,) to their cells (n,), of which there are `count` by now."""
        self._reserve(count)
        facts = np.zeros(1, dtype=np.int64)
        done = 0
        while done < len(rows):
            still = np.array([k for k in range(self.width) if k not in self.moving], dtype=np.int64)
            moving, d = np.array(self.moving, dtype=np.int64), np.empty(len(self.moving))
            done = int(_add(rows, weights, cell, done, still, moving, self.sums, d, facts))
            if done < len(rows):
                self._move(int(facts[0]))

    def _move(self, column: int) -> None:
        """Let a column vary: all its differences were zero so far."""
        self.sums = np.hstack([self.sums, np.zeros((len(self.sums), len(self.moving) + 2))])
        self.moving.append(column)

    def split(self, column: int) -> None:
        """Give a column a twin, the last one from now on: they were the same so far."""
        first = 2 + self.width
        own = self.sums[:, 2 + column : 3 + column]
        self.sums = np.hstack([self.sums[:, :first], own, self.sums[:, first:]])
        self.width += 1
        if column not in self.moving:
            return
        place, v = self.moving.index(column), len(self.moving)
        self._move(self.width - 1)
        like = [self._at(place, -1), *(self._at(place, b) for b in range(v)), self._at(place, place)]
        self.sums[:, self._at(v, -1) :] = self.sums[:, like]

    def _at(self, a: int, b: int) -> int:
        """Where Σ w d_a d_b stands in a line, or with b = −1 Σ w d_a."""
        a, b = (a, b) if b < 0 else (max(a, b), min(a, b))
        return 2 + self.width + a * (a + 3) // 2 + 1 + b

    def _reserve(self, count: int) -> None:
        have = len(self.sums)
        if count > have:
            more = np.zeros((max(count, have * 3 // 2), self.sums.shape[1]))
            more[:have] = self.sums
            self.sums = more


def first_of_each(columns: Sequence[Array]) -> list[int]:
    """Return for each column the first that equals it."""
    return [next(j for j in range(k + 1) if np.array_equal(columns[j], columns[k])) for k in range(len(columns))]

"""Combinations of codes numbered in the order in which they are first seen: by a table of all, or as rows of words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bayou._types import Integers
from bayou.jit import kernel
from bayou.streaming.table import Table

__all__ = ["Keys"]

DIRECT = 2**22
"""Combinations up to which a table of all of them is kept, 4 bytes each."""


@kernel
def _look_up(keys: Integers, sizes: Integers, table: np.ndarray, store: Integers, count: int, out: Integers) -> int:
    """Fill the numbers of keys (n, c) through a table of all combinations; returns how many are known then."""
    n, c = keys.shape
    for i in range(n):
        at = 0
        for k in range(c):
            at = at * sizes[k] + keys[i, k]
        found = table[at]
        if found < 0:
            found = count
            table[at] = count
            for k in range(c):
                store[count, k] = keys[i, k]
            count += 1
        out[i] = found
    return count


class Keys:
    """The different rows among many rows of integers.

    Parameters
    ----------
    sizes : sequence of int or None
        Numbers of each column lie from 0 to its size − 1; None for any 64-bit numbers.

    Examples
    --------
    >>> keys = Keys([3, 2])
    >>> keys.number([np.array([2, 0, 2]), np.array([1, 0, 1])])
    array([0, 1, 0])
    >>> keys.known
    array([[2, 1],
           [0, 0]])
    """

    def __init__(self, sizes: Sequence[int] | None, width: int = 0) -> None:
        self._width = width if sizes is None else len(sizes)
        every = math.inf if sizes is None else math.prod(sizes)  # Python's integers do not overflow
        self._sizes = np.array(sizes or [], dtype=np.int64)
        # one column that has several values: a row's number is that column's, and all of them are known
        self.identity = bool(sizes) and self._sizes.max() == every
        self._column = int(np.argmax(self._sizes)) if self.identity else 0
        self._rows, self._all = Table(self._width), None
        if not self.identity and sizes is not None and every <= max(DIRECT, 2 * max(sizes, default=1)):
            self._all = np.full(int(every), -1, dtype=np.int32)
            self._store, self._count = np.zeros((max(sizes, default=1), self._width), dtype=np.int64), 0

    def __len__(self) -> int:
        """How many there are."""
        if self.identity:
            return int(self._sizes.max())
        return len(self._rows) if self._all is None else self._count

    @property
    def known(self) -> Integers:
        """The different rows in the order in which they were first seen, (count, c)."""
        if self.identity:
            out = np.zeros((len(self), self._width), dtype=np.int64)
            out[:, self._column] = np.arange(len(self))
            return out
        return self._rows.words if self._all is None else self._store[: self._count]

    def number(self, columns: Sequence[Integers]) -> Integers:
        """Return the number (n,) of each row, given its c integers by column."""
        if self.identity:
            return np.ascontiguousarray(columns[self._column])
        keys = np.ascontiguousarray(np.stack(columns, axis=1))
        if self._all is None:
            return self._rows.add(keys)
        self._reserve(min(self._count + len(keys), len(self._all)))
        out = np.empty(len(keys), dtype=np.int64)
        self._count = int(_look_up(keys, self._sizes, self._all, self._store, self._count, out))
        return out

    def _reserve(self, count: int) -> None:
        """Make room for so many different rows, by half as much again at least."""
        if count > len(self._store):
            assert self._all is not None
            store = np.zeros((min(max(count, len(self._store) * 3 // 2), len(self._all)), self._width), dtype=np.int64)
            store[: self._count] = self.known
            self._store = store

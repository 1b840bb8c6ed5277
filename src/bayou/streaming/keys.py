"""Combinations of codes numbered in the order in which they are first seen, by a table or by hashing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bayou._types import Integers
from bayou.jit import kernel, prefetch

__all__ = ["Keys"]

DIRECT = 2**22
"""Combinations up to which a table of all of them is kept, 4 bytes each."""
SMALLEST = 1024
AHEAD = 16
"""Rows by which a slot is asked for ahead, so that it is there: memory answers no sooner."""


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


@kernel
def _mixed(keys: Integers, i: int) -> np.int64:
    """Return a hash of row i that is not negative: multiplication and shifts, column by column."""
    h = np.uint64(0x9E3779B97F4A7C15)
    for k in range(keys.shape[1]):
        h = (h ^ np.uint64(keys[i, k])) * np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(31)
    return np.int64(h >> np.uint64(2))


@kernel
def _fill(store: Integers, count: int, slots: Integers) -> None:
    """Put known keys into empty slots."""
    mask = slots.shape[0] - 1
    for i in range(count):
        at = _mixed(store, i) & mask
        while slots[at, 0] >= 0:
            at = (at + 1) & mask
        slots[at, 0] = i


@kernel
def _hash(keys: Integers, start: int, slots: Integers, store: Integers, facts: Integers, out: Integers) -> int:
    """Fill the numbers of keys from row `start` on by open addressing; returns where it stopped, the store being full.

    ``facts[0]`` is how many are known.
    """
    n, c = keys.shape
    mask = slots.shape[0] - 1
    for i in range(start, n):
        at = _mixed(keys, i) & mask
        prefetch(slots, _mixed(keys, min(i + AHEAD, n - 1)) & mask, 0)
        while True:
            found = slots[at, 0]
            if found < 0:
                found = facts[0]
                if found == store.shape[0]:
                    return i
                slots[at, 0] = found
                for k in range(c):
                    store[found, k] = keys[i, k]
                facts[0] = found + 1
                break
            same = True
            for k in range(c):
                same = same and store[found, k] == keys[i, k]
            if same:
                break
            at = (at + 1) & mask
        out[i] = found
    return int(n)


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
        self._table = None
        self._sizes = np.array(sizes or [], dtype=np.int64)
        # one column that has several values: a row's number is that column's, and all of them are known
        self.identity = bool(sizes) and self._sizes.max() == every
        self._column = int(np.argmax(self._sizes)) if self.identity else 0
        if self.identity:
            return
        if sizes is not None and every <= max(DIRECT, 2 * max(sizes, default=1)):
            self._table = np.full(int(every), -1, dtype=np.int32)
        least = SMALLEST if self._table is None else max(sizes or [1], default=1)
        self._store = np.zeros((least, self._width), dtype=np.int64)
        self._slots = np.full((4 * SMALLEST if self._table is None else 1, 1), -1, dtype=np.int64)
        self._count = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        """How many there are."""
        return int(self._sizes.max()) if self.identity else int(self._count[0])

    @property
    def known(self) -> Integers:
        """The different rows in the order in which they were first seen, (count, c)."""
        if self.identity:
            out = np.zeros((len(self), self._width), dtype=np.int64)
            out[:, self._column] = np.arange(len(self))
            return out
        return self._store[: len(self)]

    def number(self, columns: Sequence[Integers]) -> Integers:
        """Return the number (n,) of each row, given its c integers by column."""
        if self.identity:
            return np.ascontiguousarray(columns[self._column])
        keys = np.ascontiguousarray(np.stack(columns, axis=1))
        out = np.empty(len(keys), dtype=np.int64)
        if self._table is not None:
            self._reserve(min(len(self) + len(keys), len(self._table)))
            self._count[0] = _look_up(keys, self._sizes, self._table, self._store, len(self), out)
            return out
        done = 0
        while done < len(keys):
            done = int(_hash(keys, done, self._slots, self._store, self._count, out))
            if done < len(keys):
                self._reserve(len(self) + 1)
        return out

    def _reserve(self, count: int) -> None:
        """Make room for so many, by half as much again at least."""
        if count > len(self._store):
            room = max(count, len(self._store) * 3 // 2)
            room = room if self._table is None else min(room, len(self._table))
            store = np.zeros((room, self._width), dtype=np.int64)
            store[: len(self)] = self.known
            self._store = store
        if self._table is None and 2 * len(self._store) > len(self._slots):
            self._slots = np.full((1 << (2 * len(self._store)).bit_length(), 1), -1, dtype=np.int64)
            _fill(self._store, len(self), self._slots)

"""A growing table of different rows of words and how often each occurred: open addressing over blocks.

A row is K words of 64 bits. Its place is looked for from hash & mask on, one slot after the other (linear probing,
Knuth, TAOCP 3, 6.4); a slot holds the hash and the place of the row among those kept, and the words themselves are
compared before two rows count as one.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel

__all__ = ["Table", "as_words"]

AHEAD = 128  # rows whose slots are read together, so that their way to the memory is one wait and not many
SMALLEST = 1024
FIRST, SECOND = -7046029288634856825, -4417276706812531889  # odd, from the golden ratio and from xxHash


@kernel(inner=True)
def _hash(keys: Integers, i: int, width: int) -> int:
    """Return the hash of one row: multiply and fold, word by word."""
    h = np.int64(SECOND)
    for k in range(width):
        h = (h ^ keys[i, k]) * np.int64(FIRST)
        h ^= h >> np.int64(29)
    h *= np.int64(SECOND)
    return int(h ^ (h >> np.int64(32)))


@kernel
def _insert(
    keys: Integers, count: Integers, start: int, slots: Integers, kept: Integers, size: Integers, place: Integers,
    hashes: Integers, guess: Integers,
) -> int:
    """Enter rows from `start` on; return the first one that was not, for want of room.

    Parameters
    ----------
    keys, count
        (m, K) and (m,): how often each row counts, in all rows once if `count` has one entry.
    slots
        (S, 2) hash and place + 1, S a power of two; zeros where empty.
    kept
        (C, K + 1) the words, and the count.
    size
        (2,) rows kept, and a number without meaning that keeps the reads ahead from being left out.
    place
        (m,) where each row stands among those kept.
    hashes, guess
        (AHEAD,) scratch.
    """
    m, width = keys.shape
    mask = slots.shape[0] - 1
    most = min(kept.shape[0], slots.shape[0] >> 1)
    n = size[0]
    for a in range(start, m, AHEAD):
        b = min(a + AHEAD, m)
        for i in range(a, b):
            hashes[i - a] = _hash(keys, i, width)
        for i in range(b - a):
            at = hashes[i] & mask
            guess[i] = slots[at, 1] * (slots[at, 0] == hashes[i])
        seen = 0
        for i in range(b - a):
            at = max(guess[i] - 1, 0)
            seen += kept[at, 0] + kept[at, width]
        size[1] = seen
        for i in range(a, b):
            h = hashes[i - a]
            at = h & mask
            while True:
                found = slots[at, 1]
                if found == 0:
                    if n >= most:
                        size[0] = n
                        return int(i)
                    slots[at, 0], slots[at, 1] = h, n + 1
                    for k in range(width):
                        kept[n, k] = keys[i, k]
                    kept[n, width] = 0
                    found = n + 1
                    n += 1
                    break
                if slots[at, 0] == h:
                    same = True
                    for k in range(width):
                        if kept[found - 1, k] != keys[i, k]:
                            same = False
                            break
                    if same:
                        break
                at = (at + 1) & mask
            kept[found - 1, width] += count[i] if count.shape[0] > 1 else count[0]
            place[i] = found - 1
    size[0] = n
    return int(m)


@kernel
def _move(old: Integers, new: Integers) -> None:
    """Enter the slots of a table into a larger, empty one."""
    mask = new.shape[0] - 1
    for i in range(old.shape[0]):
        if old[i, 1] > 0:
            at = old[i, 0] & mask
            while new[at, 1] > 0:
                at = (at + 1) & mask
            new[at, 0], new[at, 1] = old[i, 0], old[i, 1]


class Table:
    """The different rows seen so far, in the order in which they came first.

    Parameters
    ----------
    width
        K, words in a row.

    Examples
    --------
    >>> import numpy as np
    >>> table = Table(2)
    >>> table.add(np.array([[1, 2], [3, 4], [1, 2]]))
    array([0, 1, 0])
    >>> table.words, table.counts
    (array([[1, 2],
           [3, 4]]), array([2, 1]))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._slots = np.zeros((2 * SMALLEST, 2), dtype=np.int64)
        self._kept = np.empty((SMALLEST, width + 1), dtype=np.int64)
        self._size = np.zeros(2, dtype=np.int64)
        self._scratch = np.empty(AHEAD, dtype=np.int64), np.empty(AHEAD, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._size[0])

    @property
    def words(self) -> Integers:
        """The rows kept, (D, K)."""
        return self._kept[: len(self), : self.width]

    @property
    def counts(self) -> Integers:
        """How often each occurred, (D,)."""
        return self._kept[: len(self), self.width]

    def add(self, keys: Integers, count: Integers | None = None) -> Integers:
        """Enter rows (m, K), each once or `count` (m,) times; return their places among the rows kept."""
        m = len(keys)
        place = np.empty(m, dtype=np.int64)
        times = np.ones(1, dtype=np.int64) if count is None else np.ascontiguousarray(count, dtype=np.int64)
        keys = np.ascontiguousarray(keys)
        done = 0
        while done < m:
            done = _insert(keys, times, done, self._slots, self._kept, self._size, place, *self._scratch)
            if done < m:
                self._grow()
        return place

    def _grow(self) -> None:
        """Take twice as many rows."""
        slots = np.zeros((2 * len(self._slots), 2), dtype=np.int64)
        _move(self._slots, slots)
        kept = np.empty((2 * len(self._kept), self.width + 1), dtype=np.int64)
        kept[: len(self)] = self._kept[: len(self)]
        self._slots, self._kept = slots, kept


def as_words(values: Array | Integers, out: Integers) -> None:
    """Write numbers (m,) into a column of words (m,): equal numbers become equal words, −0.0 is 0.0."""
    if values.dtype == np.float64:
        np.add(values, 0.0, out=out.view(np.float64))
    else:
        out[:] = values

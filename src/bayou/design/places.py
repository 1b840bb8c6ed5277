"""Numbers for values in the order of their first appearance: a table of places, or open addressing."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bayou._types import Integers
from bayou.jit import kernel

__all__ = ["Places", "mix"]

Small: TypeAlias = npt.NDArray[np.int32]

DENSE = 8  # a table may have so many places per value, and 2^22 in any case
SMALL = 2**22
EMPTY = -1


@kernel
def mix(value: np.int64) -> np.uint64:
    """Spread a number over 64 bits (the finaliser of splitmix64, Steele, Lea & Flood 2014)."""
    h = np.uint64(value)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def count_in_table(
    values: Integers, low: int, table: Small, count: int, out: Integers, fresh: Integers
) -> tuple[int, int, int]:
    """Give values numbers by their place in a table that begins at `low`.

    Returns the count, how many are `fresh`, and the row of the first value outside the table, or their number.
    """
    found = 0
    for i in range(len(values)):
        k = values[i] - low
        if k < 0 or k >= len(table):
            return count, found, i
        at = table[k]
        if at < 0:
            at = count
            table[k] = at
            count += 1
            fresh[found] = i
            found += 1
        out[i] = at
    return count, found, len(values)


@kernel
def count_in_hash(
    values: Integers, keys: Integers, numbers: Small, count: int, out: Integers, fresh: Integers, begin: int, limit: int
) -> tuple[int, int, int]:
    """Give values numbers by open addressing; as `count_in_table`, up to where the count would pass the limit."""
    mask = np.uint64(len(keys) - 1)
    found = 0
    for i in range(begin, len(values)):
        value = values[i]
        k = mix(value) & mask
        while numbers[k] >= 0 and keys[k] != value:
            k = (k + np.uint64(1)) & mask
        at = numbers[k]
        if at < 0:
            if count >= limit:
                return count, found, i
            at = count
            keys[k] = value
            numbers[k] = at
            count += 1
            fresh[found] = i
            found += 1
        out[i] = at
    return count, found, len(values)


@kernel
def look_in_table(values: Integers, low: int, table: Small, out: Integers) -> None:
    """Write the number of each value, -1 where it is unknown."""
    for i in range(len(values)):
        k = values[i] - low
        out[i] = table[k] if 0 <= k < len(table) else -1


@kernel
def look_in_hash(values: Integers, keys: Integers, numbers: Small, out: Integers) -> None:
    """Write the number of each value, -1 where it is unknown."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(values)):
        value = values[i]
        k = mix(value) & mask
        while numbers[k] >= 0 and keys[k] != value:
            k = (k + np.uint64(1)) & mask
        out[i] = numbers[k]


@kernel
def put_in_hash(keys: Integers, numbers: Small, values: Integers, given: Small) -> None:
    """Fill an empty hash with values that differ."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(values)):
        if given[i] < 0:
            continue
        k = mix(values[i]) & mask
        while numbers[k] >= 0:
            k = (k + np.uint64(1)) & mask
        keys[k] = values[i]
        numbers[k] = given[i]


class Places:
    """Whole numbers met so far, each with a number of its own: 0, 1, … in the order of first appearance.

    Whole numbers that lie close together are looked up in a table (1.4 ns a row), others by open addressing
    (16 ns a row with a million of them).

    Examples
    --------
    >>> import numpy as np
    >>> places = Places()
    >>> places.add(np.array([7, 3, 7]))
    (array([0, 1, 0]), array([0, 1]))
    >>> places.add(np.array([3, 10**15]))
    (array([1, 2]), array([1]))
    >>> places.find(np.array([10**15, 8]))
    array([ 2, -1])
    """

    def __init__(self) -> None:
        self.count = 0
        self.low = 0
        self.table: Small | None = np.empty(0, dtype=np.int32)
        self.keys = np.empty(0, dtype=np.int64)
        self.numbers = np.empty(0, dtype=np.int32)

    def add(self, values: Integers) -> tuple[Integers, Integers]:
        """Return the number of each value, (n,), and the rows where a value stands for the first time."""
        out, fresh = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
        begin, found = 0, 0
        while begin < len(values):
            if self.table is not None:
                self.count, more, stop = count_in_table(
                    values[begin:], self.low, self.table, self.count, out[begin:], fresh[found:]
                )
                fresh[found : found + more] += begin
                stop += begin
            else:
                limit = len(self.keys) // 2
                self.count, more, stop = count_in_hash(
                    values, self.keys, self.numbers, self.count, out, fresh[found:], begin, limit
                )
            found += more
            begin = stop
            if begin < len(values):
                self._grow(values[begin:])
        return out, fresh[:found]

    def find(self, values: Integers) -> Integers:
        """Return the number of each value, -1 where it was never added, (n,)."""
        out = np.empty(len(values), dtype=np.int64)
        if self.table is not None:
            look_in_table(values, self.low, self.table, out)
        else:
            look_in_hash(values, self.keys, self.numbers, out)
        return out

    def renumber(self, numbers: Integers) -> None:
        """Give the value with number k the number `numbers[k]`, for good: nothing may be added afterwards."""
        new = np.append(numbers, EMPTY).astype(np.int32)
        if self.table is not None:
            self.table = new[self.table]
        else:
            self.numbers = new[self.numbers]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return (0 if self.table is None else self.table.nbytes) + self.keys.nbytes + self.numbers.nbytes

    def _grow(self, ahead: Integers) -> None:
        """Make room: a longer table while that is not much longer than the values, else a hash of twice the size."""
        if self.table is not None:
            low, high = int(ahead.min()), int(ahead.max()) + 1
            if len(self.table):
                low, high = min(low, self.low), max(high, self.low + len(self.table))
            if high - low <= max(SMALL, DENSE * (self.count + len(ahead))):
                self._longer(low, high)
                return
            self._to_hash()
            return
        keys, numbers = self.keys, self.numbers
        self._empty(2 * len(keys))
        put_in_hash(self.keys, self.numbers, keys, numbers)

    def _longer(self, low: int, high: int) -> None:
        assert self.table is not None
        # twice the length, so that a slow growth costs no more than the last one
        room = high - low if not len(self.table) else max(high - low, min(2 * len(self.table), SMALL))
        table = np.full(room, EMPTY, dtype=np.int32)
        if len(self.table):
            table[self.low - low : self.low - low + len(self.table)] = self.table
        self.low, self.table = low, table

    def _to_hash(self) -> None:
        assert self.table is not None
        known = np.flatnonzero(self.table >= 0)
        numbers = self.table[known]
        self._empty(max(2**16, 1 << int(4 * (self.count + 1)).bit_length()))
        put_in_hash(self.keys, self.numbers, known + self.low, numbers)
        self.table = None

    def _empty(self, size: int) -> None:
        self.keys = np.zeros(size, dtype=np.int64)
        self.numbers = np.full(size, EMPTY, dtype=np.int32)

"""How many different rows there are, in 16 KB: to tell beforehand whether summing or merging pays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bayou._types import Integers
from bayou.design.places import mix
from bayou.jit import kernel

__all__ = ["Sketch"]

BITS = 14
Hashes: TypeAlias = npt.NDArray[np.uint64]


@kernel
def begin_hash(values: Integers, out: Hashes) -> None:
    """Begin the hash of rows by one column."""
    for i in range(len(values)):
        out[i] = mix(values[i])


@kernel
def add_to_hash(values: Integers, out: Hashes) -> None:
    """Add one more column to the hash of rows."""
    for i in range(len(values)):
        out[i] = mix((out[i] ^ np.uint64(values[i])) + np.uint64(0x9E3779B97F4A7C15))


@kernel
def count_leading(hashes: Hashes, registers: npt.NDArray[np.uint8]) -> None:
    """Keep the longest run of leading zeros in each register."""
    for i in range(len(hashes)):
        h = hashes[i]
        k = h >> np.uint64(64 - 14)
        rest = h << np.uint64(14)
        rank = 1
        while rank <= 50 and not (rest >> np.uint64(63)):
            rest = rest << np.uint64(1)
            rank += 1
        if registers[k] < rank:
            registers[k] = rank


class Sketch:
    """Counts different rows to about one part in a hundred.

    References
    ----------
    Flajolet, Fusy, Gandouet & Meunier (2007), AofA '07, 137-156.

    Examples
    --------
    >>> import numpy as np
    >>> sketch = Sketch()
    >>> sketch.add([np.arange(100_000) % 1000, np.zeros(100_000, dtype=np.int64)])
    >>> 980 < sketch.count < 1020
    True
    """

    def __init__(self) -> None:
        self.registers = np.zeros(1 << BITS, dtype=np.uint8)

    def add(self, columns: list[Integers]) -> None:
        """Add rows by whole numbers that stand for their values."""
        hashes = np.empty(len(columns[0]), dtype=np.uint64)
        begin_hash(columns[0], hashes)
        for column in columns[1:]:
            add_to_hash(column, hashes)
        count_leading(hashes, self.registers)

    @property
    def count(self) -> float:
        """About how many different rows were added."""
        m = float(len(self.registers))
        estimate = 0.7213 / (1.0 + 1.079 / m) * m * m / float(np.sum(2.0 ** -self.registers.astype(np.float64)))
        empty = float(np.count_nonzero(self.registers == 0))
        return m * float(np.log(m / empty)) if estimate <= 2.5 * m and empty else estimate

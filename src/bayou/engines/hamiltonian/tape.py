"""Where the draws of one running chain are put down until they are taken: a ring of positions in memory."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.packed import Packed

WRITTEN, TAKEN, OPEN = 0, 1, 2  # places in `counts`: positions put down, positions taken, whether anybody takes them
RING_BYTES = 32 * 2**20  # of positions waiting to be taken


class Ring(NamedTuple):
    """What the compiled side sees: positions (capacity, size), counts, and how many draws come before them."""

    positions: Array
    counts: Integers
    warmup: int
    thin: int


class Tape:
    """Positions on their way from the sampler's thread to ours.

    The sampler puts down every draw, those of the warm-up too, which are counted and not kept. When the ring is full it
    waits; a chain whose draws take long to name never runs ahead by more than the ring.

    Parameters
    ----------
    size
        Numbers in a position.
    warmup
        Draws that are not kept.
    thin
        Draws per kept one.
    draws
        Kept draws at most.
    block
        How many are taken at a time.
    """

    def __init__(self, size: int, warmup: int, thin: int, draws: int, block: int) -> None:
        capacity = max(1, min(draws, max(2 * block, RING_BYTES // (8 * size))))
        self.warmup, self.thin = warmup, thin
        self.positions = np.zeros((capacity, size))
        self.counts = np.array([0, 0, 1], dtype=np.int64)
        self.packed = Packed(Ring(self.positions, self.counts, warmup, thin))

    @property
    def steps(self) -> int:
        """Draws made so far, with those of the warm-up."""
        return int(self.counts[WRITTEN])

    @property
    def waiting(self) -> int:
        """Kept positions that nobody has taken."""
        return max(self.steps - self.warmup, 0) // self.thin - int(self.counts[TAKEN])

    def take(self, count: int) -> Array:
        """Return the next positions (count, size), and give their places back."""
        taken = int(self.counts[TAKEN])
        places = np.arange(taken, taken + count) % len(self.positions)
        found: Array = self.positions[places]
        self.counts[TAKEN] = taken + count
        return found

    def close(self) -> None:
        """Take no more: a sampler that waits goes on, and what it puts down is lost."""
        self.counts[OPEN] = 0

    def put(self, position: Any) -> None:
        """Put down a draw from Python, as the compiled side does."""
        number = self.steps - self.warmup + 1
        if number > 0 and number % self.thin == 0:
            kept = number // self.thin - 1
            while kept - self.counts[TAKEN] >= len(self.positions) and self.counts[OPEN]:
                time.sleep(0.001)
            if self.counts[OPEN]:
                self.positions[kept % len(self.positions)] = position
        self.counts[WRITTEN] += 1

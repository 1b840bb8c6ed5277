"""The kept draws of one chain, in memory: all of them, but of the group coefficients perhaps only moments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayou._types import Array, Integers, Mask
from bayou.engines.draws import Chain, Draws, Plan

SUBSET, SUBSET_BYTES, FEWEST = 200, 64 * 2**20, 50  # draws of b kept for prediction when not all are, and their size
HANDED_BYTES = 32 * 2**20  # of these, at a time


def kept_effects(draws: int, keep: bool, coefficients: int) -> Integers:
    """Return the numbers of the draws whose group coefficients are kept: all, or evenly spaced ones."""
    some = max(FEWEST, min(SUBSET, SUBSET_BYTES // (8 * max(coefficients, 1))))
    every = 1 if keep else max(1, draws // some)
    return np.arange(every - 1, draws, every)


class Record:
    """What is kept of one chain, filled from the front.

    Parameters
    ----------
    draws
        How many there will be.
    keep
        Whether every draw of b is kept; otherwise its running moments and an evenly spaced subset.
    """

    def __init__(self, plan: Plan, draws: int, keep: bool) -> None:
        q = plan.coefficients
        self.keep, self.draws = keep, draws
        self.buffer = plan.shape(self.capacity(plan, draws), keep)
        self.coefficients = q
        self.first = 0  # number of the first draw in the buffer
        self.made = 0  # draws kept so far
        self.scan = 0  # scans of the warm-up that are done
        self.index = kept_effects(draws, keep, q)
        self.subset: list[Array] = []  # rows of b for `index`, if not all are kept
        self.count = 0
        self.mean = np.zeros(0 if keep else q)
        self.squares = np.zeros(0 if keep else q)
        self.ended = False  # the chain lost its way and makes no more draws
        self.failure: OSError | None = None
        self.groups: dict[str, Array] = {}

    def capacity(self, plan: Plan, draws: int) -> int:
        """Return how many draws the buffer holds."""
        return draws

    def room(self, size: int) -> Draws:
        """Return where the next draws go, at most ``size`` of them."""
        at = self.made - self.first
        part = self.buffer.part(slice(at, min(at + size, len(self.buffer))))
        if self.coefficients and not self.keep:
            part.b = np.empty((len(part), self.coefficients))
        return part

    def take(self, part: Draws, done: int) -> None:
        """Keep the first ``done`` draws of the `room` that was filled."""
        if self.coefficients and not self.keep:
            b = part.b[:done]
            low, high = np.searchsorted(self.index, (self.made, self.made + done))
            self.subset += list(b[self.index[low:high] - self.made].copy())
            for row in b:
                self.count += 1
                step = row - self.mean
                self.mean += step / self.count
                self.squares += step * (row - self.mean)
        self.made += done

    def resume(self, chain: Chain) -> None:
        """Bring the chain to where its record ends: here, the beginning."""

    def checkpoint(self, chain: Chain, last: bool = False) -> None:
        """Make sure that what is kept outlives the process: here, nothing."""

    def good(self) -> Mask:
        """Return which of the draws can be read, as a mask."""
        return np.arange(self.draws) < self.made

    def stretches(self) -> Iterator[tuple[int, Draws]]:
        """Yield the draws from the first to the last, in stretches with the number of their first."""
        yield self.first, self.buffer.part(slice(0, self.made - self.first))

    def effects(self) -> Iterator[tuple[Integers, Array]]:
        """Yield the draws whose b were kept, if not all are: numbers and rows, a few at a time, which it then lets go.

        A million groups' are gigabytes that must not be held twice.
        """
        at, few = 0, max(1, HANDED_BYTES // (8 * max(self.coefficients, 1)))
        while self.subset:
            rows = np.array(self.subset[:few])
            del self.subset[:few]
            yield self.index[at : at + len(rows)], rows
            at += len(rows)

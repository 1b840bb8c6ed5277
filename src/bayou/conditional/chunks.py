"""The rows of a model with one grouping factor, sorted by level, some levels at a time.

What goes over all rows asks for one chunk after another: views of what is stored, and a few arrays of a chunk's size
that are filled anew each time. Chunks are worked on by all processors and their results taken in order, so that sums
do not depend on how many there are.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.rows import Rows, Sorted
from bayou.design.passes import counts
from bayou.errors import Unsupported
from bayou.linalg.schur import Arrow, Border

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Chunk", "Chunks", "empty_system"]

T = TypeVar("T")
CHUNK = 1 << 16  # rows that are worked on together, in about 120 bytes a row and thread


@dataclass(frozen=True)
class Chunk:
    """The rows of levels low to high − 1: arrays (m,) and (m, p), and where each level begins among them."""

    low: int
    high: int
    start: Integers
    y: Array
    trials: Array
    weights: Array
    offset: Array
    X: Array  # working columns
    Z: Array

    @property
    def rows(self) -> Rows:
        """The same for the kernels of `bayou.conditional.rows`."""
        column = np.ascontiguousarray(np.broadcast_to(np.arange(self.X.shape[1]), self.X.shape))
        return Rows(self.start, self.Z, self.X, column, column)


class Chunks:
    """All rows of a model, chunk by chunk.

    Parameters
    ----------
    model
        A model with one grouping factor, its rows sorted by that factor's levels.
    size
        Rows of a chunk, unless one level has more.

    Raises
    ------
    Unsupported
        For another number of grouping factors.
    """

    def __init__(self, model: Model, size: int = CHUNK) -> None:
        design = model.design
        if len(design.groupings) != 1 or design.structured:
            what = f"{len(design.groupings)} grouping factors" if len(design.groupings) != 1 else "structured effects"
            raise Unsupported(
                "Engines that maximise take rows that lie in files where there is one grouping factor; this model has "
                f"{what}. Use engine='metropolis', or read the data into memory: stream=False."
            )
        self.model, (self.grouping,) = model, design.groupings
        levels = len(self.grouping.levels)
        self.start = np.concatenate([[0], np.cumsum(counts(self.grouping.codes, levels))])
        bounds = [0]
        while bounds[-1] < levels:
            end = int(np.searchsorted(self.start, self.start[bounds[-1]] + size, side="right")) - 1
            bounds.append(max(end, bounds[-1] + 1))
        self.bounds = list(zip(bounds[:-1], bounds[1:], strict=True))
        self.largest = max(int(self.start[high] - self.start[low]) for low, high in self.bounds)
        self._free: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.bounds)

    def chunk(self, k: int) -> Chunk:
        """Return the k-th chunk."""
        design, (low, high) = self.model.design, self.bounds[k]
        rows = slice(int(self.start[low]), int(self.start[high]))
        weights = design.weights[rows]
        if design.standard_errors is not None:
            weights = weights / design.standard_errors[rows] ** 2
        return Chunk(
            low,
            high,
            self.start[low : high + 1] - self.start[low],
            np.ascontiguousarray(design.y[rows]),
            np.ascontiguousarray(design.trials[rows]),
            np.ascontiguousarray(weights),
            np.ascontiguousarray(design.offset[rows]),
            self.model.working.part(rows),
            np.ascontiguousarray(self.grouping.Z[rows]),
        )

    @contextmanager
    def scratch(self, name: str, make: Callable[[], Any]) -> Iterator[Any]:
        """Lend scratch that nobody else has in hand, made anew where there is none."""
        with self._lock:
            free = self._free.setdefault(name, [])
            one = free.pop() if free else None
        one = make() if one is None else one
        try:
            yield one
        finally:
            with self._lock:
                free.append(one)

    def each(self, work: Callable[[Chunk], T]) -> Iterator[T]:
        """Yield what ``work`` returns of every chunk, in order; chunks are worked on by several threads."""
        threads = min(len(self), processors())
        if threads == 1:
            for k in range(len(self)):
                yield work(self.chunk(k))
            return
        def one(k: int) -> T:
            return work(self.chunk(k))

        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[T]] = deque()
            for k in range(len(self)):
                waiting.append(pool.submit(one, k))
                if len(waiting) > 2 * threads:  # few at a time: what they return waits in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def empty_system(model: Model, chunks: Chunks) -> Sorted:
    """Lay out the empty system of the coefficients; of the rows only where levels begin."""
    working, J, p = model.working, len(chunks.start) - 1, chunks.grouping.Z.shape[1]
    P = len(working.mean)
    none = np.zeros(0, dtype=np.int64)
    start = P * np.arange(J + 1)
    arrow = Arrow(
        A=np.zeros((J, p, p)),
        a=np.zeros((J, p)),
        start=start,
        touch=np.tile(np.arange(P), J),
        C=np.zeros(J * p * P),
        D=np.zeros((P, P)),
        d=np.zeros(P),
    )
    design = model.design
    return Sorted(
        rows=Rows(chunks.start, np.zeros((0, p)), np.zeros((0, P)), np.zeros((0, P), int), np.zeros((0, P), int)),
        order=(0,),
        place=none,
        y=design.y,
        trials=design.trials,
        weights=design.weights,
        offset=design.offset,
        sigma=design.sigma_codes,
        arrow=arrow,
        border=Border(none, none, none, 0, working.precision, working.precision @ working.mean),
    )

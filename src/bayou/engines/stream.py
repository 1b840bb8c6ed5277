"""The draws of one chain streamed to a folder, and back: checksummed files, and the state that follows them.

Draws are written before the state after them: whenever the process dies, the state on the disk has all draws
before it beside it, and the chain goes on from there to the same draws as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bayou._types import Array, Integers, Mask
from bayou.engines.draws import Chain, Draws, Plan
from bayou.engines.record import Record
from bayou.errors import FileError
from bayou.posterior import container

CHUNK_BYTES = 8 * 2**20  # of draws a chain holds before it writes them
CHECKPOINT_SECONDS = 5.0  # after so long it writes what it has
STATE, GROUPS = "state.bayou", "groups.bayou"
SALVAGE = "bayou.salvage(folder) returns what can be read"


class StoredRecord(Record):
    """A record that streams to a folder and holds no more than one stretch of draws.

    Parameters
    ----------
    folder
        Of this chain; it is made when there is none.
    """

    def __init__(self, plan: Plan, draws: int, keep: bool, folder: Path) -> None:
        super().__init__(plan, draws, keep)
        self.folder = folder
        self.written = 0  # rows of `subset` that are on the disk
        self.saved = time.monotonic()
        self.mask: Mask | None = None  # of the draws that `salvage` found

    def capacity(self, plan: Plan, draws: int) -> int:
        """Return how many draws the buffer holds: some megabytes."""
        return max(1, min(draws, CHUNK_BYTES // max(plan.shape(1, self.keep).nbytes, 1)))

    # ---- writing ---------------------------------------------------------------------------

    def checkpoint(self, chain: Chain, last: bool = False) -> None:
        """Write what is not on the disk yet, if the buffer is full, enough time has gone, or it is the ``last``.

        If the disk refuses, `failure` says why; the draws stay in memory then.
        """
        full = self.made - self.first == len(self.buffer)
        if not (last or full or time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.made > self.first:
                part = self.buffer.part(slice(0, self.made - self.first))
                arrays = part.arrays() | {"subset": self._subset()}
                facts = {"first": self.first, "count": len(part), "subset": self.written}
                container.write(self._chunk(self.first), facts, arrays)
                self.written += len(self.subset)
                self.first = self.made
                self.subset = []
            self._write_state(chain)
        except OSError as error:
            self.failure = error
        self.saved = time.monotonic()

    def _subset(self) -> Array:
        return np.array(self.subset).reshape(len(self.subset), 0 if self.keep else self.coefficients)

    def _write_state(self, chain: Chain) -> None:
        facts = {
            "scan": self.scan,
            "made": self.made,
            "written": self.written,
            "count": self.count,
            "ended": self.ended,
            "generator": chain.rng.bit_generator.state,
        }
        state = {f"chain/{k}": v for k, v in chain.snapshot().items()}
        container.write(self.folder / STATE, facts, state | {"mean": self.mean, "squares": self.squares})

    def _chunk(self, first: int) -> Path:
        return self.folder / f"draws-{first:09d}.bayou"

    # ---- reading ---------------------------------------------------------------------------

    def resume(self, chain: Chain) -> None:
        """Bring the chain to its last checkpoint, if there is one.

        Raises
        ------
        FileError
            As `take_up`.
        """
        found = self.take_up()
        if found is not None:
            snapshot, generator = found
            chain.restore(snapshot)
            chain.rng.bit_generator.state = generator

    def take_up(self) -> tuple[dict[str, Array], Any] | None:
        """Go to the last checkpoint; returns the chain's snapshot and the state of its generator, or None.

        Raises
        ------
        FileError
            If a file is damaged or missing: which, and how many draws before it are sound.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        facts, arrays = container.read(path)
        sound = 0
        for first in self._firsts():
            if first >= facts["made"]:
                # written by a process that died before the state that follows it: it will be drawn again
                self._chunk(first).unlink()
                continue
            if first != sound:
                break
            try:
                sound += container.read(self._chunk(first))[0]["count"]
            except FileError as error:
                raise FileError(f"{error} The {sound:,} draws before it are sound: {SALVAGE}.") from error
        if sound != facts["made"]:
            raise FileError(
                f"{self._chunk(sound)} is missing: {facts['made']:,} draws were stored and the first {sound:,} are "
                f"here. Put the file back; or {SALVAGE}."
            )
        self.first = self.made = facts["made"]
        self.scan, self.count, self.ended = facts["scan"], facts["count"], facts["ended"]
        self.written = facts["written"]
        self.mean, self.squares = arrays["mean"], arrays["squares"]
        snapshot = {k.removeprefix("chain/"): v for k, v in arrays.items() if k.startswith("chain/")}
        return snapshot, facts["generator"]

    @property
    def over(self) -> bool:
        """Whether the chain makes no more draws."""
        return self.ended or self.made >= self.draws

    def keep_groups(self) -> None:
        """Write the statistics by group of a chain that is `over`, for a reader who cannot ask it."""
        if self.over and self.failure is None:
            with suppress(OSError):  # all draws are there; the chain can tell these again
                container.write(self.folder / GROUPS, {"made": self.made}, self.groups)

    def take_groups(self) -> bool:
        """Take up the statistics by group of a chain that is `over`; returns whether they are there and sound."""
        if not (self.over and (self.folder / GROUPS).exists()):
            return False
        try:
            self.groups = container.read(self.folder / GROUPS)[1]
        except FileError:  # the chain can tell them again
            return False
        return True

    def salvage(self) -> list[str]:
        """Take up what can be read without the chain; returns a sentence for every damaged file."""
        said = []
        try:
            facts, arrays = container.read(self.folder / STATE)
            self.count, self.mean, self.squares = facts["count"], arrays["mean"], arrays["squares"]
        except FileError as error:
            said.append(f"{error} Running means of group coefficients are lost.")
            self.count = 0
        self.mask = np.zeros(self.draws, dtype=bool)
        for first in self._firsts():
            try:
                facts, _ = container.read(self._chunk(first))
                self.mask[first : first + facts["count"]] = True
            except FileError as error:
                said.append(str(error))
        return said

    def _firsts(self) -> list[int]:
        """Return the number of the first draw of each file, by their names."""
        return sorted(int(p.stem.removeprefix("draws-")) for p in self.folder.glob("draws-*.bayou"))

    def _chunks(self) -> Iterator[tuple[dict[str, Any], dict[str, Array]]]:
        """Yield the sound files in their order."""
        for first in self._firsts():
            try:
                yield container.read(self._chunk(first))
            except FileError:
                continue

    def good(self) -> Mask:
        """Return which of the draws can be read, as a mask."""
        return super().good() if self.mask is None else self.mask

    def stretches(self) -> Iterator[tuple[int, Draws]]:
        """Yield the draws on the disk, then those that the disk refused."""
        for facts, arrays in self._chunks():
            yield facts["first"], Draws.of(arrays)
        if self.made > self.first:
            yield from super().stretches()

    def effects(self) -> Iterator[tuple[Integers, Array]]:
        """Yield the draws whose b were kept, if not all are, file by file: numbers and rows."""
        for facts, arrays in self._chunks():
            found = arrays["subset"]
            yield self.index[facts["subset"] : facts["subset"] + len(found)], found
        yield self.index[self.written : self.written + len(self.subset)], self._subset()

"""From the records of the chains to the arrays of a posterior, a stretch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from bayou._types import Array, Mask
from bayou.engines.draws import Draws, Plan
from bayou.engines.record import Record
from bayou.posterior.posterior import file_name

BLOCK_DRAWS, BLOCK_BYTES = 4096, 32 * 2**20  # of draws that are named at a time
EFFECTS = ("b_", "f_")  # variables that are coefficients of groups or structured effects
MEMORY_BYTES = 128 * 2**20  # of draws that a stored run returns in memory; more stay on the disk


class Growing:
    """Arrays (chain, draw, …) filled chain by chain from the front: in memory, or in files of a folder."""

    def __init__(self, chains: int, draws: int, folder: Path | None) -> None:
        self.shape, self.folder = (chains, draws), folder
        self.arrays: dict[str, Array] = {}
        self.files: dict[str, IO[bytes]] = {}

    def add(self, name: str, chain: int, at: int, values: Array) -> None:
        """Put the next values (draw, …) of a chain where they belong."""
        if self.folder is None:
            if name not in self.arrays:
                self.arrays[name] = np.empty((*self.shape, *values.shape[1:]))
            self.arrays[name][chain, at : at + len(values)] = values
            return
        if name not in self.files:
            self.folder.mkdir(exist_ok=True)
            self.files[name] = self._path(name).with_suffix(".part").open("wb")
            facts: Any = {"descr": "<f8", "fortran_order": False, "shape": (*self.shape, *values.shape[1:])}
            np.lib.format.write_array_header_1_0(self.files[name], facts)
        self.files[name].write(np.ascontiguousarray(values, dtype="<f8").tobytes())

    def close(self) -> dict[str, Array]:
        """Return the arrays; those in files are read when they are looked at."""
        for name, file in self.files.items():
            file.close()
            path = self._path(name)
            path.with_suffix(".part").replace(path)
            self.arrays[name] = np.load(path, mmap_mode="r")
        return self.arrays

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{file_name(name)}.npy"


def assembled(
    plan: Plan, records: Sequence[Record], mask: Mask, folder: Path | None
) -> tuple[dict[str, Array], dict[str, Array], list[int] | None]:
    """Name the draws of all chains.

    Parameters
    ----------
    mask
        Which draws of every chain to take.
    folder
        Where to put them if they are many.

    Returns
    -------
    draws, statistics
        Under the names of the contract, axes (chain, draw, …).
    kept
        If not all b are kept, which of these draws have theirs.
    """
    keep = records[0].keep or not plan.coefficients
    size = plan.shape(1, keep).nbytes
    count = int(mask.sum())
    many = folder is not None and len(records) * count * size > MEMORY_BYTES
    draws = Growing(len(records), count, folder if many else None)
    statistics = Growing(len(records), count, None)
    block = max(1, min(BLOCK_DRAWS, BLOCK_BYTES // size))
    for c, record in enumerate(records):
        at = 0
        for part in _blocks(record, mask, block):
            for name, values in plan.finish([part]).items():
                draws.add(name, c, at, values[0])
            for name, values in part.statistics.items():
                statistics.add(name, c, at, values)
            at += len(part)
    out = draws.close()
    kept = None
    if not keep:
        kept = _add_effects(plan, records, mask, out)
    return out, statistics.close(), kept


def _blocks(record: Record, mask: Mask, size: int) -> Iterator[Draws]:
    """Yield the masked draws in blocks of one size: how the record was cut must not show in the last bit."""
    waiting: list[Draws] = []
    held = 0
    for first, stretch in record.stretches():
        some = mask[first : first + len(stretch)]
        part = stretch if some.all() else stretch.part(some)
        at = 0
        while at < len(part):
            step = min(size - held, len(part) - at)
            waiting.append(part.part(slice(at, at + step)))
            held, at = held + step, at + step
            if held == size:
                yield Draws.joined(waiting)
                waiting, held = [], 0
    if held:
        yield Draws.joined(waiting)


def _add_effects(plan: Plan, records: Sequence[Record], mask: Mask, out: dict[str, Array]) -> list[int]:
    """Add the kept draws of b and their running moments; returns which draws they belong to."""
    fake = plan.shape(1, False)
    fake.beta[:] = 0.0
    fake.dispersion[:] = 1.0
    fake.L[:] = np.eye(fake.L.shape[-1])
    place = np.cumsum(mask) - 1
    numbers = [record.index[mask[record.index]] for record in records]
    draws, moments = Growing(len(records), len(numbers[0]), None), Growing(len(records), 1, None)
    for c, record in enumerate(records):
        at, none = 0, (record.index[:0], np.empty((0, plan.coefficients)))
        for index, rows in chain([none], record.effects()):
            taken = mask[index]
            named = plan.finish([Draws(fake.beta, rows[taken], fake.L, fake.dispersion)])
            for key in (k for k in named if k.startswith(EFFECTS)):
                draws.add(key, c, at, named[key][0])
            at += int(taken.sum())
        means = {"mean": record.mean, "sd_within": np.sqrt(record.squares / max(record.count - 1, 1))}
        for kind, values in means.items():
            named = plan.finish([Draws(fake.beta, values[None], fake.L, fake.dispersion)])
            for key in (k for k in named if k.startswith(EFFECTS)):
                moments.add(f"{kind}_{key}", c, 0, named[key][0])
    out |= draws.close()
    if all(record.count for record in records):
        out |= {key: values[:, 0] for key, values in moments.close().items()}
    return place[numbers[0]].tolist()

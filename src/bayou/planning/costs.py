"""What work costs: seconds and memory of each way to do it, from figures measured on two cores."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bayou.planning.workload import Workload

__all__ = ["Machine", "Way", "ways"]

NS = 1e-9
GB = 2.0**30

# Nanoseconds, held to `benchmarks.plan` on two cores that did nothing else: 10⁷ and 10⁸ Gaussian rows, 10⁶ and 10⁷
# merged rows and rows in files; a sweep over a cluster to `benchmarks.cluster_speed` at 10⁷ rows.
READ = 5.0
"""Per column and pass."""
CODE = 5.0
"""Per number of a row (Workload.width), once."""
REDUCE = {"summed": 25.0, "merged": 60.0, "blocks": 250.0}
LEVEL = 22.0
"""Per grouping factor and row: its level looked up, in both passes."""
BUILD = 200.0
"""In memory: per column and row, everything before the first draw."""
GROUP = (60.0, 20.0)
"""A draw on sums: per level, and per squared coefficient of a level."""
ROW = {"gaussian": 3.0, "bernoulli": 9.5, "binomial": 9.5, "poisson": 12.0}
"""A scan on rows: per row and number of a row."""
OTHER_ROW = 30.0
EVALUATIONS = {"sums": 14, "kept": 26, "in memory": 42}
"""Of a likelihood for its maximum, each worth a draw: of sums, of kept rows by all cores, of rows in memory by one."""
SWEEP = 2.6e-3
"""A sweep over a cluster beyond its work: messages there and back."""
NETWORK = 1e8
"""Bytes a second to the workers: an assumption, of a network of a gigabit."""

# Bytes.
BASE = 0.4 * GB
ROW_BYTES = (40.0, 24.0)
"""In memory: per row, and per number of a row."""
KEPT_BYTES = 24.0
"""Kept rows: per number."""
LEVEL_BYTES = (1000.0, 1000.0)
"""Per level, and per coefficient of it: mostly what a sampler keeps of its draws."""
SHARE = 0.8
"""Of a machine's memory, at most."""


@dataclass(frozen=True)
class Machine:
    """What a fit may use: bytes of memory and cores; a worker of a cluster is taken to be alike."""

    memory: float
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """Return this machine: its memory, and the cores that the process may use."""
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(memory, cores)


@dataclass(frozen=True)
class Way:
    """One way to run a fit.

    Attributes
    ----------
    name : str
        "in memory", "streamed", "cluster of k workers".
    workers : int
    memory : float
        Bytes, of each machine.
    disk : float
        Bytes of temporary files.
    reading : float
        Seconds before the first draw.
    draw : float
        Seconds of one draw of one chain.
    maximum : float
        Seconds of a fit by ML, REML or Laplace after reading.
    fits : bool
        Whether the memory is there.
    """

    name: str
    workers: int
    memory: float
    disk: float
    reading: float
    draw: float
    maximum: float
    fits: bool

    def seconds(self, draws: int, chains: int, cores: int) -> float:
        """Return the seconds of a sampler's run: reading, then chains side by side on the cores."""
        rounds = -(-chains // max(cores * self.workers, 1)) if self.name != "in memory" else -(-chains // cores)
        return self.reading + rounds * draws * self.draw


def ways(work: Workload, machine: Machine) -> list[Way]:
    """Return every way to do the work, in memory first, with clusters of as many workers as help."""
    out = [_in_memory(work, machine), _streamed(work, machine)]
    k = 2
    while k <= 1024 and _helps(work, out[-1]):
        out.append(_cluster(work, machine, k))
        k *= 2
    return out


def _helps(work: Workload, last: Way) -> bool:
    """Whether more workers make sense: the memory is not there yet, or the rows take most of a sweep."""
    return not last.fits or (work.how != "summed" and last.draw > 10.0 * SWEEP)


def _levels(work: Workload) -> float:
    return sum(f.levels * (LEVEL_BYTES[0] + LEVEL_BYTES[1] * f.coefficients) for f in work.factors)


def _draw(work: Workload, kept: float) -> float:
    """Return the seconds of a draw: on sums, or a scan over the kept rows."""
    groups = sum(f.levels * (GROUP[0] + GROUP[1] * f.coefficients**2) for f in work.factors)
    if work.how == "summed":
        return NS * groups
    return NS * (groups + kept * work.width * ROW.get(work.family, OTHER_ROW))


def _maximum(work: Workload, draw: float, where: str) -> float:
    """Return the seconds of a fit that maximises a likelihood."""
    return EVALUATIONS["sums" if work.how == "summed" else where] * draw


def _in_memory(work: Workload, machine: Machine) -> Way:
    memory = BASE + work.rows * (ROW_BYTES[0] + ROW_BYTES[1] * (work.width + work.columns)) + _levels(work)
    reading = NS * work.rows * BUILD * work.columns
    draw = _draw(work, work.rows)
    longest = _maximum(work, draw, "in memory")
    return Way("in memory", 1, memory, 0.0, reading, draw, longest, memory <= SHARE * machine.memory)


def _passes(work: Workload) -> float:
    """Return the seconds of the two passes over all rows."""
    row = 2.0 * READ * work.columns + CODE * work.width + REDUCE[work.how] + 2.0 * LEVEL * len(work.factors)
    return NS * work.rows * row


def _streamed(work: Workload, machine: Machine) -> Way:
    rows = work.kept * KEPT_BYTES * (work.width + 3)
    on_disk = rows if work.how == "blocks" else 0.0
    memory = BASE + (0.0 if work.how == "blocks" else rows) + _levels(work)
    draw = _draw(work, work.kept)
    fits = memory <= SHARE * machine.memory
    return Way("streamed", 1, memory, on_disk, _passes(work), draw, _maximum(work, draw, "kept"), fits)


def _cluster(work: Workload, machine: Machine, workers: int) -> Way:
    rows = work.kept * KEPT_BYTES * (work.width + 3)
    memory = BASE + rows / workers + _levels(work) / workers
    # the leader reads, and sends to each its part
    reading = _passes(work) + rows / NETWORK
    draw = _draw(work, work.kept) / workers + SWEEP
    fits = memory <= SHARE * machine.memory
    on_disk = rows if work.how == "blocks" else 0.0
    longest = _maximum(work, draw, "kept")
    return Way(f"cluster of {workers} workers", workers, memory, on_disk, reading, draw, longest, fits)

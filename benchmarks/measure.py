"""What one program took for one problem, and what its draws are worth.

The figure is the minimum bulk effective sample size over coefficients and variance parameters, per second
of the whole call that a user makes. Diagnostics, imports and compiling are not in it; compiling is told
apart. Every program's draws are counted by the same function.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bayou._types import Array
from bayou.posterior.convergence import effective_size, r_hat
from benchmarks.problems import Problem

CONVERGED = 1.05
"""The largest R-hat with which a figure counts as a rival's; beyond, the table shows it and no ratio uses it."""


@dataclass(frozen=True)
class Outcome:
    """One call of one program.

    Attributes
    ----------
    draws
        By the name of the parameter in bayou's summary: (chain, draw).
    wall, processor
        Seconds of the call; the processor's over all threads.
    scans
        Passes through all parameters, over all chains.
    threads
        How many the call used.
    compiling, importing
        Seconds of building or compiling and of imports, not in ``wall``.
    peak
        The largest resident memory of its process in GB; nan where that is not known.
    note
        What else has to be known of it: divergences, say.
    """

    draws: dict[str, Array]
    wall: float
    processor: float
    scans: int
    threads: int = 1
    compiling: float = 0.0
    importing: float = 0.0
    peak: float = np.nan
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``missing`` says in a sentence why there is nothing to show."""

    problem: str
    program: str
    missing: str | None = None
    scans: int = 0
    threads: int = 1
    wall: float = np.nan
    best: float = np.nan
    processor: float = np.nan
    compiling: float = 0.0
    importing: float = 0.0
    peak: float = np.nan
    effective: float = np.nan
    worst: str = ""
    r_hat: float = np.nan
    note: str = ""
    means: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Effective draws per second of the median call."""
        return self.effective / self.wall

    @property
    def rate_a_thread(self) -> float:
        return self.rate / self.threads

    @property
    def rate_processor(self) -> float:
        """Effective draws per second of the processor: what another program on the machine does not change."""
        return self.effective / self.processor

    @property
    def scan(self) -> float:
        """Seconds a scan of the median call."""
        return self.wall / self.scans

    @property
    def converged(self) -> bool:
        """Whether the draws can be counted at all: those of chains that disagree are worth nothing."""
        return self.missing is None and self.r_hat < CONVERGED


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def worth(problem: Problem, draws: dict[str, Array]) -> tuple[float, str, float]:
    """Return the least bulk effective size of the counted parameters, whose it is, and the largest R-hat."""
    counted = {name: x for name, x in draws.items() if name.startswith(problem.counted)}
    if not counted:
        raise ValueError(f"{problem.name}: none of {', '.join(draws)} is counted")
    matrix = np.stack(list(counted.values()))
    sizes = effective_size(matrix)
    at = int(np.argmin(np.where(np.isnan(sizes), -np.inf, sizes)))
    return float(sizes[at]), list(counted)[at], float(np.max(r_hat(matrix)))


def repeated(problem: Problem, program: str, call: Callable[[int], Outcome], repeats: int) -> Figure:
    """Call a program with the seeds 1, 2, …; times and effective draws are medians."""
    return summed(problem, program, [call(seed) for seed in range(1, repeats + 1)])


def summed(problem: Problem, program: str, outcomes: Sequence[Outcome]) -> Figure:
    """Return the line of several calls of one program."""
    worths = [worth(problem, outcome.draws) for outcome in outcomes]
    last = outcomes[-1]
    return Figure(
        problem=problem.name,
        program=program,
        scans=last.scans,
        threads=last.threads,
        wall=statistics.median(o.wall for o in outcomes),
        best=min(o.wall for o in outcomes),
        processor=statistics.median(o.processor for o in outcomes),
        compiling=max(o.compiling for o in outcomes),
        importing=max(o.importing for o in outcomes),
        peak=max(o.peak for o in outcomes),
        effective=statistics.median(size for size, _, _ in worths),
        worst=min(worths)[1],
        r_hat=max(r for _, _, r in worths),
        note=last.note,
        means={name: (float(x.mean()), float(x.std())) for name, x in last.draws.items()},
    )


def distance(one: Figure, other: Figure) -> float:
    """Return the largest difference of a posterior mean, in posterior sds: do both draw from the same thing?"""
    shared = [name for name in one.means if name in other.means]
    return max((abs(one.means[k][0] - other.means[k][0]) / other.means[k][1] for k in shared), default=np.nan)

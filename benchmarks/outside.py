"""A program in a process of its own: pinned to one core, watched, and stopped at a limit of time or memory."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import Outcome
from benchmarks.problems import Problem
from benchmarks.task import Length, prepare

PROGRAMS = Path(__file__).parent / "rivals" / "programs"
MINUTES = float(os.environ.get("BAYOU_BENCH_MINUTES", "30"))
GIGABYTES = float(os.environ.get("BAYOU_BENCH_GB", "12"))
# one thread for every library that would take more
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu",
}  # fmt: skip


class Stopped(Exception):
    """A program did not come to its end; the text is a sentence for the table."""


@dataclass(frozen=True)
class Watched:
    """What a finished process took: seconds, and its largest resident memory in GB (nan where unknown)."""

    wall: float
    processor: float
    peak: float
    output: str


def watch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    minutes: float | None = None,
    every_core: bool = False,
) -> Watched:
    """Run a command in a folder; raise `Stopped` when it fails or passes a limit, by default `MINUTES`.

    It has one core and one thread, unless it is given every core.

    The peak is the kernel's own high-water mark of the process, read while it runs: that of the resource
    usage would begin with what this process held when it forked.
    """
    environment = {**(os.environ if environment is None else environment), **({} if every_core else ONE_THREAD)}
    minutes = MINUTES if minutes is None else minutes
    peak, started = 0.0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        if not every_core:
            _pin(process.pid)
        before = _children()
        try:
            while process.poll() is None:
                peak = max(peak, _high_water(process.pid))
                took = time.perf_counter() - started
                if peak > GIGABYTES or took > 60.0 * minutes:
                    passed = f"{GIGABYTES:g} GB" if peak > GIGABYTES else f"{minutes:g} minutes"
                    raise Stopped(f"killed at {passed} (after {took:,.0f} s, with {peak:.1f} GB).")
                time.sleep(0.01 if took < 2.0 else 0.1)
        finally:
            # at a limit, and at Ctrl-C, which does not reach a session of its own
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        wall = time.perf_counter() - started
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise Stopped(f"failed: {' '.join(said.split())[-300:]}.")
    return Watched(wall, _children() - before, peak or np.nan, said)


def _pin(pid: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _high_water(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


def ask(
    command: Sequence[str], problem: Problem, length: Length, seed: int, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Give one of the programs a task and read what it leaves: ``draws.csv`` and ``took.csv``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = prepare(problem)
        task.write(folder, length, seed)
        watched = watch(command, folder, environment)
        drawn, took = folder / "draws.csv", folder / "took.csv"
        if not (drawn.is_file() and took.is_file()):
            raise Stopped(f"left no draws: {' '.join(watched.output.split())[-300:]}.")
        draws = named(pd.read_csv(drawn), task.names)
        return timings(pd.read_csv(took), draws, length, watched)


def named(frame: pd.DataFrame, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Give the columns of ``draws.csv`` bayou's names, by chain: (chain, draw); what bayou has not is left out."""
    chains = [part for _, part in frame.groupby("chain")]
    size = min(map(len, chains))
    known = [short for short in frame.columns if short in names]
    return {names[short]: np.stack([part[short].to_numpy(float)[:size] for part in chains]) for short in known}


def timings(took: pd.DataFrame, draws: dict[str, np.ndarray], length: Length, watched: Watched) -> Outcome:
    """Read ``took.csv``: columns what and value; importing, compiling, wall, processor, and perhaps a note."""
    by = dict(zip(took["what"], took["value"].astype(str), strict=True))
    return Outcome(
        draws, float(by["wall"]), float(by["processor"]), length.scans,
        compiling=float(by.get("compiling", 0.0)), importing=float(by.get("importing", 0.0)),
        peak=watched.peak, note=by.get("note", ""),
    )  # fmt: skip

"""What one program took to maximise a likelihood, how high it came, and how it is asked.

A program runs in a process of its own on one core. It warms up on a small fit of the same kind, reads the data, and
then times the whole call that a user makes and, where it lets them be told apart, the building of the model and the
fit of what was built. The least of the repeats counts: other work on the machine only ever adds. Memory is the
high-water mark of the first whole call above what the process held with its data read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import outside
from benchmarks.marginal import SECONDS, Marginal, write
from benchmarks.outside import Stopped, watch

MINUTES = 5.0
"""A program is stopped after so long, or after ``BAYOU_BENCH_MINUTES`` where that is less."""
NAN = float("nan")


@dataclass(frozen=True)
class Maximum:
    """One line of the table; ``missing`` says in a sentence why there is nothing to show.

    Attributes
    ----------
    model, fit, whole
        Seconds of building the model from formula and data, of fitting what was built, and of the one call that
        does both; nan where a program does not tell them apart.
    model_cpu, fit_cpu, whole_cpu
        The processor's.
    repeats
        Of the whole call.
    memory
        MB above the data at the peak of one call.
    log_likelihood
        At the maximum, by the criterion of the problem or by the one named in ``criterion``.
    spread
        Of a bootstrap, the standard deviation of the slope.
    version, converged, note
        As the program tells them.
    """

    problem: str
    program: str
    missing: str | None = None
    model: float = NAN
    fit: float = NAN
    whole: float = NAN
    model_cpu: float = NAN
    fit_cpu: float = NAN
    whole_cpu: float = NAN
    repeats: int = 0
    memory: float = NAN
    log_likelihood: float = NAN
    spread: float = NAN
    criterion: str = ""
    converged: bool = True
    version: str = ""
    note: str = ""

    @property
    def compared(self) -> float:
        """Seconds of the processor that ratios are of: of the fit alone where it is known, else of the whole call."""
        return self.fit_cpu if self.fit_cpu == self.fit_cpu else self.whole_cpu

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def ask(
    program: str,
    command: Sequence[str],
    problem: Marginal,
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    minutes: float = MINUTES,
) -> Maximum:
    """Give a program its task and read ``result.json``; what it wrote before it was stopped is kept.

    Raises `Stopped` when it left nothing.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(problem, folder, seconds)
        result, stopped = folder / "result.json", ""
        try:
            watched = watch(command, folder, environment, min(minutes, outside.MINUTES))
        except Stopped as reason:
            if not result.is_file():
                raise
            stopped = str(reason).rstrip(".")
        else:
            if not result.is_file():
                raise Stopped(f"left no result: {' '.join(watched.output.split())[-300:]}.")
        return read(problem.name, program, json.loads(result.read_text(encoding="utf-8")), stopped)


def read(problem: str, program: str, left: dict[str, Any], more: str = "") -> Maximum:
    """Return the line of what a program left; a null, or what is not there, is what that program does not tell."""
    known = {f.name for f in fields(Maximum)} - {"problem", "program", "missing"}
    told = {name: value for name, value in left.items() if name in known and value is not None}
    notes = [note for note in (told.pop("note", ""), more) if note]
    return Maximum(problem, program, note="; ".join(notes), **told)

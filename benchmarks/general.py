"""NUTS and "auto" beside the rivals' NUTS, from an import to a posterior: ``python -m benchmarks.general``.

What a user waits for who opens Python and wants a posterior worth 400 draws: imports, the model, compiling (the
rivals do it in every process; bayou's kernels are on the disk after the first), warm-up and draws. Seconds are the
processor's, each program in a process of its own on one core. A rival's draws are taken as if it had stopped at 400
effective ones, or gone on to them at the rate that it had; bayou's fit is timed as it is, and drawn out to 400 in the
same way where it has fewer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import CONVERGED, worth
from benchmarks.outside import Stopped, watch
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.rivals import bambi_nutpie, brms, numpyro, rstanarm
from benchmarks.table import markdown, number
from benchmarks.table import targets as promised

CHOSEN = ("sleepstudy", "cbpp", "VerbAgg", "grouseticks", "InstEval")
RIVALS = (bambi_nutpie, numpyro, brms, rstanarm)
ENOUGH = 400.0
"""Effective draws."""
OURS: dict[str, dict[str, Any]] = {"auto": {}, "nuts": {"cores": 1, "progress": False}}
WHOLE = {"nuts": 10.0, "auto": 50.0}
"""How many times faster from import to posterior than the fastest rival that converged."""
RATE = 5.0
"""Times bambi's effective draws a second, of NUTS itself."""


@dataclass(frozen=True)
class Line:
    """What one program took for one problem: CPU seconds up to `ENOUGH` effective draws, and draws per second."""

    problem: str
    program: str
    seconds: float = np.nan
    rate: float = np.nan
    effective: float = np.nan
    r_hat: float = np.nan
    peak: float = np.nan
    note: str = ""
    missing: str | None = None
    means: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether there is a posterior to compare with."""
        return self.missing is None and self.r_hat < CONVERGED


def bayou_line(problem: Problem, engine: str) -> Line:
    """Fit in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "benchmarks.ours_general", problem.name, engine]
        command += [json.dumps(OURS[engine]), str(folder)]
        watched = watch(command, Path(__file__).parents[1])
        told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
        with np.load(folder / "draws.npz") as held:
            draws = dict(zip(held["names"].tolist(), held["draws"], strict=True))
    effective, _, r_hat = worth(problem, draws)
    effective = min(effective, told["weighted"])
    whole, warm = told["whole"]["processor"], told["warm"]["processor"]
    more = max(ENOUGH / effective - 1.0, 0.0) * warm
    return Line(
        problem.name, f"bayou, {engine}", whole + more, effective / warm, effective, r_hat, watched.peak,
        told["note"], means=_means(draws),
    )  # fmt: skip


def rival_line(problem: Problem, rival: Any) -> Line:
    """Run a rival as long as it usually runs."""
    missing = rival.available()
    if missing is not None:
        return Line(problem.name, rival.NAME, missing=missing)
    try:
        outcome = rival.run(problem, None, 1)
    except Stopped as stopped:
        return Line(problem.name, rival.NAME, missing=str(stopped))
    effective, _, r_hat = worth(problem, outcome.draws)
    rate = effective / outcome.processor
    seconds = outcome.importing + outcome.compiling + ENOUGH / rate
    return Line(
        problem.name, rival.NAME, seconds, rate, effective, r_hat, outcome.peak, outcome.note,
        means=_means(outcome.draws),
    )  # fmt: skip


def _means(draws: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (float(np.mean(x)), float(np.std(x))) for name, x in draws.items()}


def contest(problem: Problem, chosen: Sequence[str]) -> Iterator[Line]:
    """Measure one problem; a rival that is not there says so."""
    for engine in OURS:
        try:
            yield bayou_line(problem, engine)
        except Stopped as stopped:
            yield Line(problem.name, f"bayou, {engine}", missing=str(stopped))
    for rival in RIVALS:
        if problem.name in rival.PROBLEMS and (not chosen or rival.NAME in chosen):
            yield rival_line(problem, rival)


def table(lines: Sequence[Line]) -> str:
    """Return the table of one problem; "off" is the largest difference of a mean from the first line's, in sds."""
    first = lines[0]
    rows, missing = [], []
    for line in lines:
        if line.missing is not None:
            rows.append((line.program, *["–"] * 7, "see below"))
            missing.append(f"- {line.program}: {line.missing}")
            continue
        off = [abs(m - first.means[k][0]) / first.means[k][1] for k, (m, _) in line.means.items() if k in first.means]
        notes = [line.note] if line.note else []
        notes += [] if line.counts else ["not converged"]
        rows.append((
            line.program, number(line.seconds), number(line.seconds / first.seconds), number(line.effective),
            f"{line.r_hat:.3f}", number(line.rate), number(line.peak), f"{max(off, default=np.nan):.2f}",
            "; ".join(notes),
        ))  # fmt: skip
    headings = ("program", "CPU s to 400", "times auto's", "ESS", "R-hat", "ESS/CPU s", "peak GB", "off", "")
    return "\n".join([markdown(headings, rows, left=(0, 8)), "", *missing]).strip()


def targets(lines: Sequence[Line]) -> list[tuple[str, float, float, str]]:
    """Return what was promised of one problem, against the fastest rival that converged."""
    by = {line.program: line for line in lines}
    rivals = [line for line in lines if not line.program.startswith("bayou") and line.counts]
    found: list[tuple[str, float, float, str]] = []
    if not rivals:
        return found
    fastest = min(rivals, key=lambda line: line.seconds)
    for engine, times in WHOLE.items():
        if by[f"bayou, {engine}"].missing is None:
            what = f"{lines[0].problem}, {engine}: times faster to 400 draws than {fastest.program}"
            found.append((what, fastest.seconds / by[f"bayou, {engine}"].seconds, times, "least"))
    bambi, nuts = by.get(bambi_nutpie.NAME), by["bayou, nuts"]
    if bambi is not None and bambi.counts and nuts.missing is None:
        what = f"{lines[0].problem}: times the effective draws a second of {bambi.program}"
        found.append((what, nuts.rate / bambi.rate, RATE, "least"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.general", description="Time NUTS and auto.")
    parser.add_argument("--only", action="append", choices=CHOSEN)
    parser.add_argument("--rival", action="append", choices=[*(rival.NAME for rival in RIVALS), "none"])
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    given = parser.parse_args(arguments)
    parts, kept = [], []
    for name in given.only or CHOSEN:
        lines = list(contest(PROBLEMS[name], given.rival or ()))
        parts.append(f"## {name}\n\n{table(lines)}")
        kept += targets(lines)
        print(parts[-1], end="\n\n", flush=True)
    if kept:
        parts.append(f"## Promises\n\n{promised(kept)}")
        print(parts[-1])
    if given.out:
        given.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

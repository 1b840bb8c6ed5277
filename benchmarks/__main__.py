"""The command: ``python -m benchmarks [--quick] [--only NAME ...] [--out FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import design, rows, startup, table
from benchmarks.measure import Figure, repeated
from benchmarks.ours import OURS
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.rivals import RIVALS

QUICK, QUICK_SCANS = 0.02, 400  # the share of bayou's draws, and a rival's scans, in a quick run
LARGE = ("VerbAgg", "InstEval", "counts")  # only when asked for: minutes
Target = tuple[str, float, float, str]


def contest(problem: Problem, quick: bool = False) -> list[Figure]:
    """Run bayou and every rival that takes this problem; a rival that is not there says so."""
    figures = []
    repeats = 1 if quick or problem.name in LARGE else 5
    for ours in OURS[problem.name]:
        call = partial(ours.run, problem, share=QUICK if quick else 1.0)
        # the first call reads the kernels from the disk, or compiles them
        first = ours.run(problem, 0, share=0.0)
        figures.append(replace(repeated(problem, ours.name, call, repeats), compiling=first.wall))
    for rival in RIVALS:
        if problem.name not in rival.PROBLEMS:
            continue
        missing = rival.available()
        if missing is not None:
            figures.append(Figure(problem.name, rival.NAME, missing))
            continue
        figures.append(repeated(problem, rival.NAME, partial(rival.run, problem, QUICK_SCANS if quick else None), 1))
    return figures


def promised(figures: Sequence[Figure]) -> list[Target]:
    """Return the targets that the figures of one problem answer."""
    by = {f.program: f for f in figures if f.missing is None}
    lines: list[Target] = []
    walk, loop = by.get("bayou, random walk"), by.get("slides' loop in R")
    if walk is not None and loop is not None:
        lines.append(("tumour, random walk: times faster a scan than the slides' loop in R",
                      loop.scan / walk.scan, 120.0, "least"))  # fmt: skip
    for figure in figures:
        if figure.problem == "sleepstudy" and figure.program == "bayou, Gibbs":
            lines.append(("sleepstudy, default prior, least bulk ESS/s a thread", figure.rate_a_thread, 60e3, "least"))
    return lines


def kernels(quick: bool) -> list[Target]:
    """Return the row kernels' figures with their targets."""
    lines = []
    for family in rows.FAMILIES:
        target = rows.TARGETS.get(str(family))
        if target is not None:
            took, _ = rows.measure(family, repeats=50 if quick else rows.REPEATS)
            lines.append((f"row kernel {family}, ns a row", took, target, "most"))
    return lines


def alone(quick: bool) -> dict[str, Callable[[], list[Target]]]:
    """Return what is measured without rivals, by name."""
    return {
        "rows": lambda: kernels(quick),
        "startup": lambda: startup.targets(compile_too=not quick),
        "design": design.targets,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    names = (*PROBLEMS, "rows", "startup", "design")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time bayou beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the draws: a check that all runs")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only or [name for name in names if name not in LARGE]
    parts: list[str] = []

    def say(text: str) -> None:
        print(text, end="\n\n", flush=True)
        parts.append(text)

    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    say(f"{machine}; whole calls on one thread, imports, compiling and diagnostics apart")
    say("bayou: medians of 5 runs (large problems: one run); rivals: one run")
    if chosen.quick:
        say("A quick run: too short for its figures to mean anything.")
    lines: list[Target] = []
    for name in wanted:
        if name in PROBLEMS:
            problem = PROBLEMS[name]
            figures = contest(problem, chosen.quick)
            say(f"### {name}: {problem.about} ({problem.source})\n\n{table.comparison(figures)}")
            lines += [] if chosen.quick else promised(figures)
        else:
            lines += alone(chosen.quick)[name]()
    if lines:
        say(f"### What was promised\n\n{table.targets(lines)}")
    if chosen.out is not None:
        chosen.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

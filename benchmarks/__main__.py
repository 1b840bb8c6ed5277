"""The command: ``python -m benchmarks [--quick] [--only NAME ...] [--rival NAME ...] [--out FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import design, growth, promises, rows, startup, table
from benchmarks.measure import Figure, repeated, summed
from benchmarks.ours import OURS
from benchmarks.outside import GIGABYTES, MINUTES, Stopped
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.promises import Target
from benchmarks.rivals import RIVALS

QUICK, QUICK_SCANS = 0.02, 400  # the share of bayou's draws, and a rival's scans, in a quick run
LARGE = ("VerbAgg", "InstEval", "counts")  # one run of bayou's, not five
LONG = (*LARGE, "growth")  # left out of a quick run


def contest(problem: Problem, quick: bool = False, chosen: Sequence[str] = ()) -> Iterator[Figure]:
    """Run bayou and every rival that takes this problem; a rival that is not there or fails says so."""
    repeats = 1 if quick or problem.name in LARGE else 5
    for ours in OURS[problem.name]:
        try:
            yield summed(problem, ours.name, ours.outside(problem, repeats, share=QUICK if quick else 1.0))
        except Stopped as stopped:
            yield Figure(problem.name, ours.name, str(stopped))
    for rival in RIVALS:
        if problem.name not in rival.PROBLEMS or (chosen and rival.NAME not in chosen):
            continue
        missing = rival.available()
        if missing is None:
            try:
                yield repeated(problem, rival.NAME, partial(rival.run, problem, QUICK_SCANS if quick else None), 1)
                continue
            except Stopped as stopped:
                missing = str(stopped)
        yield Figure(problem.name, rival.NAME, missing)


def kernels(quick: bool) -> list[Target]:
    """Return the row kernels' figures with their targets."""
    lines: list[Target] = []
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
    names = (*PROBLEMS, "rows", "startup", "design", "growth")
    rivals = tuple(rival.NAME for rival in RIVALS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time bayou beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the draws: a check that all runs")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rival", action="append", choices=rivals, metavar="NAME", help=f"one of {', '.join(rivals)}")
    parser.add_argument("--out", type=Path, help="write the table to this file too, problem by problem")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only or [name for name in names if not (chosen.quick and name in LONG)]
    parts: list[str] = []

    def say(text: str) -> None:
        print(text, end="\n\n", flush=True)
        parts.append(text)
        if chosen.out is not None:
            chosen.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    say(f"{machine}; whole calls on one core, imports, compiling and diagnostics apart")
    say("bayou: medians of 5 runs (large problems: one run); rivals: one run")
    say(f"A program is stopped at {MINUTES:g} minutes or {GIGABYTES:g} GB; effective draws are the least bulk ESS")
    if chosen.quick:
        say("A quick run: too short for its figures to mean anything.")
    lines: list[Target] = []
    contests: list[list[Figure]] = []
    for name in wanted:
        if name == "growth":
            text, more = growth.report()
            say(f"### {name}: how seconds and memory grow\n\n{text}")
            lines += more
        elif name in PROBLEMS:
            problem = PROBLEMS[name]
            try:
                source = problem.source
            except FileNotFoundError as missing:
                say(f"### {name}: {problem.about}\n\nLeft out: {missing}")
                continue
            figures = []
            for figure in contest(problem, chosen.quick, chosen.rival or ()):
                figures.append(figure)
                print(f"{name}: {figure.program}: {figure.missing or 'done'}", file=sys.stderr, flush=True)
            say(f"### {name}: {problem.about} ({source})\n\n{table.comparison(figures)}")
            contests.append(figures)
            lines += [] if chosen.quick else promises.kept(figures)
        else:
            lines += alone(chosen.quick)[name]()
    if len(contests) > 1:
        say(f"### Side by side\n\n{table.summary(contests)}")
    if lines:
        say(f"### What was promised\n\n{table.targets(lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

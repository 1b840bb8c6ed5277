"""The engines that maximise a likelihood, beside their rivals: ``python -m benchmarks.likelihood``.

With ``--held FILE`` what was measured is kept in a file and taken from it the next time, so that one program can be
measured again without the others (``--again bayou``); ratios are then of different runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import likelihood_growth, ours_marginal, table
from benchmarks.marginal import LARGE, MARGINAL, PROMISED, SECONDS, TIMES_DATA, Marginal, megabytes
from benchmarks.maximum import MINUTES, Maximum
from benchmarks.outside import Stopped
from benchmarks.promises import Target
from benchmarks.rivals import MAXIMISERS

PROGRAMS: tuple[ModuleType, ...] = (ours_marginal, *MAXIMISERS)
HEADINGS = (
    "program", "model s", "fit s", "whole s", "model CPU s", "fit CPU s", "whole CPU s", "calls", "MB above data",
    "log likelihood", "below the best", "times slower", "",
)  # fmt: skip
BELOW = 0.01
"""A log likelihood so far below the best of its criterion is marked: the program did not reach the maximum."""
SPREAD = 0.2
"""A bootstrap whose sd of the slope is so far from the programs' median, as a share, is marked."""


class Held:
    """Figures by problem and program, in a file when there is one; of what is missing, who took too long."""

    def __init__(self, file: Path | None = None, again: Sequence[str] = ()) -> None:
        self.file = file
        self.figures: dict[tuple[str, str], Maximum] = {}
        if file is not None and file.is_file():
            for plain in json.loads(file.read_text(encoding="utf-8")):
                if plain["program"] not in again:
                    self.figures[plain["problem"], plain["program"]] = Maximum(**plain)

    def keep(self, figure: Maximum) -> Maximum:
        if figure.missing is None or figure.missing.startswith("killed"):
            self.figures[figure.problem, figure.program] = figure
            if self.file is not None:
                plain = [one.plain() for one in self.figures.values()]
                self.file.write_text(json.dumps(plain, indent=1), encoding="utf-8")
        return figure


def contest(
    problem: Marginal,
    programs: Sequence[ModuleType] = PROGRAMS,
    held: Held | None = None,
    seconds: float = SECONDS,
    minutes: float = MINUTES,
) -> Iterator[Maximum]:
    """Run the programs on one problem; one that is not there, fails or takes too long says so."""
    held = Held() if held is None else held
    for program in programs:
        known = held.figures.get((problem.name, program.NAME))
        if known is not None:
            yield known
            continue
        missing = program.available()
        if missing is None:
            try:
                yield held.keep(program.maximise(problem, seconds, minutes))
                continue
            except Stopped as stopped:
                missing = str(stopped)
        yield held.keep(Maximum(problem.name, program.NAME, missing))


def highest(figures: Sequence[Maximum]) -> dict[str, float]:
    """Return the largest log likelihood by criterion; nan where no program tells its own."""
    values: dict[str, list[float]] = {}
    for figure in figures:
        values.setdefault(figure.criterion, []).append(figure.log_likelihood)
    return {name: max((x for x in told if x == x), default=float("nan")) for name, told in values.items()}


def comparison(figures: Sequence[Maximum]) -> str:
    """Return the table of one problem.

    "times slower" is against bayou's fit, or without it against the fastest that is the maximum, by the processor's
    seconds.
    "below the best" is the largest log likelihood of the same criterion less a program's own.
    """
    there = [figure for figure in figures if figure.missing is None]
    best = highest(there)
    same = [figure for figure in there if not figure.criterion]  # another model's time compares with nothing
    reached = [figure for figure in same if not best[""] - figure.log_likelihood > BELOW] or there
    ours = [figure for figure in there if figure.program == ours_marginal.NAME]
    against = next(iter(ours or sorted(reached, key=lambda f: f.compared)), None)
    usual = statistics.median([f.spread for f in there if f.spread == f.spread] or [float("nan")])
    rows: list[tuple[str, ...]] = []
    missing: list[str] = []
    for figure in figures:
        if figure.missing is not None or against is None:
            short = "not installed" if "not installed" in (figure.missing or "") else "stopped, see below"
            rows.append((figure.program, *["–"] * (len(HEADINGS) - 2), short))
            missing.append(f"- {figure.program}: {figure.missing}")
            continue
        below = best[figure.criterion] - figure.log_likelihood
        notes = [figure.criterion] if figure.criterion else []
        notes += [] if figure.converged else ["says it did not converge"]
        notes += ["NOT THE MAXIMUM"] if below > BELOW else []
        if figure.spread == figure.spread:
            notes.append(f"sd of the slope {figure.spread:.3f}")
            notes += ["NOT THESE REFITS"] if abs(figure.spread / usual - 1.0) > SPREAD else []
        notes += [figure.note] if figure.note else []
        seconds = (figure.model, figure.fit, figure.whole, figure.model_cpu, figure.fit_cpu, figure.whole_cpu)
        rows.append((
            f"{figure.program} {figure.version}".strip(), *map(table.number, seconds), str(figure.repeats),
            table.number(figure.memory), f"{figure.log_likelihood:.5f}", f"{below:.1e}",
            table.number(figure.compared / against.compared), "; ".join(notes),
        ))  # fmt: skip
    return "\n".join([table.markdown(HEADINGS, rows, left=(0, len(HEADINGS) - 1)), "", *missing]).strip()


def summary(contests: Sequence[Sequence[Maximum]]) -> str:
    """Return one line a problem: the processor's seconds of the fit, in brackets when not of this maximum."""
    programs = list(dict.fromkeys(figure.program for figures in contests for figure in figures))
    rows = []
    for figures in contests:
        cells = dict.fromkeys(programs, "–")
        best = highest([figure for figure in figures if figure.missing is None])
        for figure in figures:
            if figure.missing is None:
                reached = not (figure.criterion or best[""] - figure.log_likelihood > BELOW)
                seconds = table.number(figure.compared)
                cells[figure.program] = seconds if reached else f"({seconds})"
            elif "not installed" not in figure.missing:
                cells[figure.program] = "stopped"
        rows.append((figures[0].problem, *cells.values()))
    return table.markdown(("fit, CPU s", *programs), rows)


def kept(figures: Sequence[Maximum], problem: Marginal) -> list[Target]:
    """Return the promises that bayou's line answers."""
    ours = next((f for f in figures if f.program == ours_marginal.NAME and f.missing is None), None)
    lines: list[Target] = []
    if ours is None:
        return lines
    name = problem.name
    if name in PROMISED:
        what = f"{name}: CPU s of {'all refits' if problem.refits else 'the fit from a built design'}"
        lines.append((what, ours.compared, PROMISED[name], "most"))
    if name in LARGE:
        times = ours.memory / megabytes(problem.data)
        lines.append((f"{name}: peak memory above the data, times the data", times, TIMES_DATA, "most"))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    names = (*MARGINAL, "growth")
    rivals = tuple(program.NAME for program in PROGRAMS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likelihood", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rival", action="append", choices=rivals, metavar="NAME", help=f"one of {', '.join(rivals)}")
    parser.add_argument("--again", action="append", choices=rivals, default=[], metavar="NAME",
                        help="measure this program though its figures are held")  # fmt: skip
    parser.add_argument("--held", type=Path, help="a file of figures: read, added to and written")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long a call is repeated")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after how long a program is stopped")
    parser.add_argument("--out", type=Path, help="write the table to this file too, problem by problem")
    chosen = parser.parse_args(arguments)
    programs = [program for program in PROGRAMS if not chosen.rival or program.NAME in chosen.rival]
    held, parts = Held(chosen.held, chosen.again), []

    def say(text: str) -> None:
        print(text, end="\n\n", flush=True)
        parts.append(text)
        if chosen.out is not None:
            chosen.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    say(f"{machine}; one thread on one core, warm, the least of the calls; stopped at {chosen.minutes:g} minutes")
    contests: list[list[Maximum]] = []
    lines: list[Target] = []
    for name in chosen.only or names:
        if name == "growth":
            say(f"### growth: how seconds and memory grow\n\n{likelihood_growth.report(programs, held, contest)}")
            continue
        problem = MARGINAL[name]
        try:
            size, source = megabytes(problem.data), problem.source
        except FileNotFoundError as missing:
            say(f"### {name}: {problem.about}\n\nLeft out: {missing}")
            continue
        figures, those = [], [program for program in programs if name in program.PROBLEMS]
        for figure in contest(problem, those, held, chosen.seconds, chosen.minutes):
            figures.append(figure)
            print(f"{name}: {figure.program}: {figure.missing or 'done'}", file=sys.stderr, flush=True)
        say(f"### {name}: {problem.about} ({source}, {size:.2g} MB)\n\n`{problem.formula}`\n\n{comparison(figures)}")
        contests.append(figures)
        lines += kept(figures, problem)
    if len(contests) > 1:
        say(f"### Side by side\n\n{summary(contests)}")
    if lines:
        say(f"### What was promised\n\n{table.targets(lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

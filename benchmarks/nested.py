"""INLA beside its rivals: ``python -m benchmarks.nested``.

R-INLA's seconds were taken down on another machine of two cores, since its program is not here; the programs that
maximise Laplace's approximation (the inner part alone) and bambi with nutpie are measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from benchmarks import nested_growth, nested_startup, ours_marginal, ours_nested, table
from benchmarks.maximum import MINUTES
from benchmarks.measure import summed
from benchmarks.nested_figure import CORRECTED, ENOUGH, OURS, RECORDED, Nest, by_program
from benchmarks.nested_problems import NESTED, Nested
from benchmarks.outside import Stopped
from benchmarks.promises import Target
from benchmarks.rivals import bambi_nutpie, glmmtmb, gpboost
from benchmarks.rivals.nuts import length

SECONDS = 5.0
"""How long a call is repeated."""
INNER: dict[str, ModuleType] = {"bayou, Laplace": ours_marginal, glmmtmb.NAME: glmmtmb, gpboost.NAME: gpboost}
"""Those that maximise Laplace's approximation of the likelihood, the inner part of INLA."""
RIVALS = (RECORDED, *INNER, bambi_nutpie.NAME)
HEADINGS = (
    "program", "model s", "fit s", "whole s", "model CPU s", "fit CPU s", "whole CPU s", "calls", "peak GB", "nodes",
    "log p(y) or lik.", "effective", "k-hat", "shift", "times slower", "",
)  # fmt: skip


def contest(
    problem: Nested, rivals: Sequence[str] = RIVALS, seconds: float = SECONDS, minutes: float = MINUTES
) -> Iterator[Nest]:
    """Run bayou's INLA and those of the rivals that take this problem; who is not there or fails says so."""
    yield from ours_nested.outside(problem, seconds, minutes)
    if problem.recorded is not None and RECORDED in rivals:
        call, running = problem.recorded
        yield Nest(problem.name, RECORDED, whole=call, fit=running, note="recorded on another machine, wall")
    for name, program in INNER.items():
        if name in rivals and "maximised" in problem.rivals:
            yield _tried(problem, name, program, partial(_maximised, problem, name, program, seconds, minutes))
    if bambi_nutpie.NAME in rivals and "drawn" in problem.rivals:
        yield _tried(problem, bambi_nutpie.NAME, bambi_nutpie, partial(_drawn, problem))


def _tried(problem: Nested, name: str, program: ModuleType, call: Callable[[], Nest]) -> Nest:
    missing = program.available()
    if missing is None:
        try:
            return call()
        except Stopped as stopped:
            missing = str(stopped)
    return Nest(problem.name, name, missing)


def _maximised(problem: Nested, name: str, program: ModuleType, seconds: float, minutes: float) -> Nest:
    """Return what one of the programs that maximise took."""
    found = program.maximise(problem.marginal, seconds, minutes)
    notes = [f"maximum alone{', ' + found.criterion if found.criterion else ''}", found.note]
    notes += [] if found.converged else ["says it did not converge"]
    return Nest(
        problem.name, name, None, found.model, found.fit, found.whole, found.model_cpu, found.fit_cpu, found.whole_cpu,
        found.repeats, reached=found.log_likelihood, note="; ".join(filter(None, notes)),
    )  # fmt: skip


def _drawn(problem: Nested) -> Nest:
    """Return the seconds until bambi has `ENOUGH` effective draws of its worst parameter.

    Its warm-up counts whole, its draws by the share that is needed, also where that is more than were drawn.
    """
    figure = summed(problem.problem, bambi_nutpie.NAME, [bambi_nutpie.run(problem.problem, None, 1)])
    lengths = length(problem.problem, None)
    share = (lengths.warmup + lengths.draws * ENOUGH / figure.effective) / (lengths.warmup + lengths.draws)
    notes = [f"until {ENOUGH} effective draws of {figure.worst}", f"compiling {table.number(figure.compiling)} s apart"]
    notes += [figure.note] if figure.note else []
    notes += [] if figure.converged else ["not converged"]
    return Nest(
        problem.name, bambi_nutpie.NAME, fit=figure.wall * share, fit_cpu=figure.processor * share,
        whole=figure.wall * share, whole_cpu=figure.processor * share, repeats=1, peak=figure.peak,
        effective=figure.effective, note="; ".join(notes),
    )  # fmt: skip


def comparison(figures: Sequence[Nest]) -> str:
    """Return the table of one problem.

    "times slower" is against bayou without correction, by the processor's seconds of the whole call, or by the wall's
    where only those are known (then against bayou's of the processor: those of a quiet machine).
    """
    ours = by_program(figures).get(OURS)
    rows: list[tuple[str, ...]] = []
    missing: list[str] = []
    for figure in figures:
        if figure.missing is not None:
            short = "not installed" if "not installed" in figure.missing else "stopped, see below"
            rows.append((figure.program, *["–"] * (len(HEADINGS) - 2), short))
            missing.append(f"- {figure.program}: {figure.missing}")
            continue
        seconds = (figure.model, figure.fit, figure.whole, figure.model_cpu, figure.fit_cpu, figure.whole_cpu)
        slower = figure.compared / ours.compared if ours is not None else float("nan")
        rows.append((
            figure.program, *map(table.number, seconds), str(figure.repeats or "–"), table.number(figure.peak),
            str(figure.nodes or "–"), f"{figure.reached:.3f}" if figure.reached == figure.reached else "–",
            table.number(figure.effective), f"{figure.k_hat:.2f}" if figure.k_hat == figure.k_hat else "–",
            f"{figure.shift:.2f}" if figure.shift == figure.shift else "–", table.number(slower), figure.note,
        ))  # fmt: skip
    return "\n".join([table.markdown(HEADINGS, rows, left=(0, len(HEADINGS) - 1)), "", *missing]).strip()


def summary(contests: Sequence[Sequence[Nest]]) -> str:
    """Return one line a problem: seconds of the whole call, the processor's (R-INLA's: the wall's, as recorded)."""
    programs = list(dict.fromkeys(figure.program for figures in contests for figure in figures))
    rows = []
    for figures in contests:
        cells = dict.fromkeys(programs, "–")
        for figure in figures:
            if figure.missing is None:
                cells[figure.program] = table.number(figure.compared)
            elif "not installed" not in figure.missing:
                cells[figure.program] = "stopped"
        by = by_program(figures)
        times = by[CORRECTED].compared / by[OURS].compared if {OURS, CORRECTED} <= by.keys() else float("nan")
        rows.append((figures[0].problem, *cells.values(), table.number(times)))
    return table.markdown(("whole, CPU s", *programs, "corrected / not"), rows)


def kept(figures: Sequence[Nest], problem: Nested) -> list[Target]:
    """Return the promises that bayou's lines answer: of the whole call, and that the correction at most doubles it."""
    if problem.promised is None:
        return []
    by, nan = by_program(figures), float("nan")
    plain, corrected = (by[name].whole_cpu if name in by else nan for name in (OURS, CORRECTED))
    return [
        (f"{problem.name}: CPU s of model and fit", plain, problem.promised, "most"),
        (f"{problem.name}: with the correction, CPU s", corrected, 2.0 * problem.promised, "most"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    names = (*NESTED, "growth", "startup")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nested", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rival", action="append", choices=(*RIVALS, "none"), metavar="NAME",
                        help=f"one of {', '.join(RIVALS)}, none")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long a call is repeated")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after how long a program is stopped")
    parser.add_argument("--out", type=Path, help="write the table to this file too, problem by problem")
    chosen = parser.parse_args(arguments)
    parts: list[str] = []

    def say(text: str) -> None:
        print(text, end="\n\n", flush=True)
        parts.append(text)
        if chosen.out is not None:
            chosen.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    load = f", {os.getloadavg()[0]:.1f} programs running before it began" if hasattr(os, "getloadavg") else ""
    how = "one thread on one core, warm, the least of the calls (corrected: the median)"
    say(f"{machine}{load}; {how}; stopped at {chosen.minutes:g} minutes")
    contests: list[list[Nest]] = []
    lines: list[Target] = []
    for name in chosen.only or names:
        if name == "growth":
            text = nested_growth.report(chosen.seconds, chosen.minutes)
            say(f"### growth: how seconds grow with areas, rows and nodes\n\n{text}")
            continue
        if name == "startup":
            lines += nested_startup.targets()
            continue
        problem = NESTED[name]
        try:
            source = problem.source
            problem.arguments()
        except FileNotFoundError as missing:
            say(f"### {name}: {problem.about}\n\nLeft out: {missing}")
            continue
        figures = []
        for figure in contest(problem, chosen.rival or RIVALS, chosen.seconds, chosen.minutes):
            figures.append(figure)
            print(f"{name}: {figure.program}: {figure.missing or 'done'}", file=sys.stderr, flush=True)
        say(f"### {name}: {problem.about} ({source})\n\n`{problem.formula}`\n\n{comparison(figures)}")
        contests.append(figures)
        lines += kept(figures, problem)
    if len(contests) > 1:
        say(f"### Side by side\n\n{summary(contests)}")
    if lines:
        say(f"### What was promised\n\n{table.targets(lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How seconds and memory of the engines that maximise a likelihood grow with rows, groups and fixed effects.

Each cell is a program's fit of simulated rows with a line for each group, by the processor; the programs are bayou
and those of its rivals that take all sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from benchmarks import table
from benchmarks.marginal import Marginal, line, megabytes
from benchmarks.maximum import Maximum

SECONDS, MINUTES = 3.0, 2.0
GROWING = ("bayou", "lme4", "glmm")
SIZES: tuple[tuple[str, int, int, int], ...] = (
    *(("gaussian", rows, 1_000, 2) for rows in (10_000, 100_000, 1_000_000)),
    *(("gaussian", 1_000_000, groups, 2) for groups in (100, 10_000, 100_000)),
    *(("gaussian", 100_000, 1_000, effects) for effects in (10, 50)),
    *(("poisson", rows, 1_000, 2) for rows in (10_000, 100_000, 1_000_000)),
    *(("poisson", 100_000, groups, 2) for groups in (100, 10_000)),
    *(("poisson", 100_000, 1_000, effects) for effects in (10, 50)),
)
Contest = Callable[..., Iterable[Maximum]]


def report(
    programs: Sequence[ModuleType], held: Any, contest: Contest, sizes: Sequence[tuple[str, int, int, int]] = SIZES
) -> str:
    """Return the table: of every program the whole call, the fit and the memory; each line is told as it comes."""
    chosen = [program for program in programs if program.NAME in GROWING]
    rows = []
    for family, n, groups, effects in sizes:
        problem = line(family, n, groups, effects)
        figures = list(contest(problem, chosen, held, SECONDS, MINUTES))
        rows.append(cells(problem, (family, f"{n:,}", f"{groups:,}", str(effects)), figures))
        print("growth:", *rows[-1], file=sys.stderr, flush=True)
    names = [program.NAME for program in chosen]
    headings = ("family", "rows", "groups", "fixed effects", "data MB")
    shown = [f"{name} {what}" for what in ("fit CPU s", "whole CPU s", "MB") for name in names]
    return table.markdown((*headings, *shown), rows)


def cells(problem: Marginal, size: Sequence[str], figures: Sequence[Maximum]) -> tuple[str, ...]:
    """Return one row; a program that was stopped has a word in place of its seconds."""

    def shown(figure: Maximum, value: float) -> str:
        if figure.missing is None:
            return table.number(value)
        return "–" if "not installed" in figure.missing else "stopped"

    return (
        *size, table.number(megabytes(problem.data)),
        *(shown(figure, figure.compared) for figure in figures),
        *(shown(figure, figure.whole_cpu) for figure in figures),
        *(shown(figure, figure.memory) for figure in figures),
    )  # fmt: skip

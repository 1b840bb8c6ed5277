"""How long the programs run that draw by NUTS: their usual 1,000 + 1,000, in fewer chains where one takes minutes.

The figure is per second on one core, so that it does not depend on the number of chains that share it.
"""

from __future__ import annotations

from benchmarks.problems import Problem
from benchmarks.task import Length

USUAL = Length(chains=4, draws=1_000, warmup=1_000)
LONG = {
    "grouseticks": Length(2, 1_000, 1_000), "VerbAgg": Length(1, 1_000, 1_000), "InstEval": Length(1, 500, 500),
    "counts": Length(1, 500, 500),
}  # fmt: skip


def length(problem: Problem, scans: int | None) -> Length:
    return LONG.get(problem.name, USUAL).shortened(scans)

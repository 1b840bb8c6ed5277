"""MCMCpack's hierarchical samplers, for one grouping factor and, for counts, an effect of each observation.

Its samplers for counts and for ones and zeros have such an effect in any case (it cannot be held at less than a
variance of 1), so that they take no model without one.
"""

from __future__ import annotations

from benchmarks.environments import in_r, r_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.task import Length

NAME = "MCMCpack"
PROBLEMS = ("sleepstudy", "epil")
USUAL = Length(4, 5_000, 1_000)


def available() -> str | None:
    return r_missing("MCMCpack")


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = ["Rscript", "--vanilla", str(PROGRAMS / "mcmcpack.R"), str(PROGRAMS)]
    return ask(command, problem, USUAL.shortened(scans), seed, in_r())

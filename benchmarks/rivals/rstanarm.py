"""rstanarm: NUTS in models compiled beforehand; covariances of groups have its own prior (`programs/rstanarm.R`)."""

from __future__ import annotations

from benchmarks.environments import in_r, r_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.rivals.nuts import length

NAME = "rstanarm"
# the large ones take it hours
PROBLEMS = ("sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg")


def available() -> str | None:
    return r_missing("rstanarm")


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = ["Rscript", "--vanilla", str(PROGRAMS / "rstanarm.R"), str(PROGRAMS)]
    return ask(command, problem, length(problem, scans), seed, in_r())

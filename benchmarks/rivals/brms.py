"""brms: NUTS in a model that Stan compiles for the occasion, which is told apart; priors as in `programs/brms.R`."""

from __future__ import annotations

from benchmarks.environments import in_r, r_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.rivals.nuts import length

NAME = "brms"
# the large ones take it hours
PROBLEMS = ("sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg")


def available() -> str | None:
    return r_missing("brms")


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = ["Rscript", "--vanilla", str(PROGRAMS / "brms.R"), str(PROGRAMS)]
    return ask(command, problem, length(problem, scans), seed, in_r())

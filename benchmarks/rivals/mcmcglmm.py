"""MCMCglmm, for Gaussian models and for those that have an effect of each observation, as its own models do."""

from __future__ import annotations

from benchmarks.environments import in_r, r_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.task import Length

NAME = "MCMCglmm"
PROBLEMS = ("sleepstudy", "seeds", "epil", "grouseticks", "InstEval")
USUAL, LONG = Length(4, 10_000, 3_000), {"InstEval": Length(1, 1_000, 500)}


def available() -> str | None:
    return r_missing("MCMCglmm")


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = ["Rscript", "--vanilla", str(PROGRAMS / "mcmcglmm.R"), str(PROGRAMS)]
    return ask(command, problem, LONG.get(problem.name, USUAL).shortened(scans), seed, in_r())

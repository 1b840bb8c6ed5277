"""bambi with nutpie's NUTS and bayou's priors, but for correlations: bambi has none between group coefficients."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.rivals.nuts import length

NAME = "bambi, nutpie"
PROBLEMS = (
    "sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg", "InstEval", "counts",
)  # fmt: skip
ENVIRONMENT = "bambi-nutpie"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "bambi_fit.py"), "nutpie"]
    return ask(command, problem, length(problem, scans), seed)

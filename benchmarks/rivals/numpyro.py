"""numpyro's NUTS on one core of the processor, the model written out with group coefficients not centred."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.rivals.nuts import length

NAME = "numpyro"
PROBLEMS = (
    "sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg", "InstEval", "counts",
)  # fmt: skip
ENVIRONMENT = "numpyro"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    return ask([str(python(ENVIRONMENT)), str(PROGRAMS / "numpyro_fit.py")], problem, length(problem, scans), seed)

"""bambi with PyMC's own NUTS, otherwise as in `bambi_nutpie`."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.measure import Outcome
from benchmarks.outside import PROGRAMS, ask
from benchmarks.problems import Problem
from benchmarks.rivals.nuts import length

NAME = "bambi, PyMC"
# the large ones take it hours
PROBLEMS = ("sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg")
ENVIRONMENT = "bambi-pymc"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "bambi_fit.py"), "pymc"]
    return ask(command, problem, length(problem, scans), seed)

"""glmm: a core in Rust; what it is asked to leave out of its one call is in `programs/glmm_fit.py`."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "glmm"
PROBLEMS = tuple(MARGINAL)
ENVIRONMENT = "glmm"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "glmm_fit.py")]
    return ask(NAME, command, problem, seconds=seconds, minutes=minutes)

"""gpboost: maximum likelihood (it has no REML), coefficients of a group independent."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "gpboost"
PROBLEMS = tuple(name for name in MARGINAL if name != "bootstrap")
ENVIRONMENT = "gpboost"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "gpboost_fit.py"), "cholesky"]
    return ask(NAME, command, problem, seconds=seconds, minutes=minutes)

"""lme-python: lme4's functions over a core in Rust."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "lme-python"
PROBLEMS = tuple(MARGINAL)
ENVIRONMENT = "lme-python"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "lme_python_fit.py")]
    return ask(NAME, command, problem, seconds=seconds, minutes=minutes)

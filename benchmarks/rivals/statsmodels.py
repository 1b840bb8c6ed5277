"""statsmodels' MixedLM: Gaussian, one grouping factor."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.marginal import SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "statsmodels"
PROBLEMS = ("sleepstudy", "lines", "bootstrap")
ENVIRONMENT = "statsmodels"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "statsmodels_fit.py")]
    return ask(NAME, command, problem, seconds=seconds, minutes=minutes)

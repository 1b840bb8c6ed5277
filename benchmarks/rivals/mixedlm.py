"""mixedlm: lme4's steps in Python over a core in Rust."""

from __future__ import annotations

from benchmarks.environments import python, python_missing
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "mixedlm"
PROBLEMS = tuple(MARGINAL)
ENVIRONMENT = "mixedlm"


def available() -> str | None:
    return python_missing(ENVIRONMENT)


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = [str(python(ENVIRONMENT)), str(PROGRAMS / "mixedlm_fit.py")]
    return ask(NAME, command, problem, seconds=seconds, minutes=minutes)

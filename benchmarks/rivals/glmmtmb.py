"""glmmTMB: Laplace's approximation of everything, derivatives by tape."""

from __future__ import annotations

from benchmarks.environments import in_r, r_missing
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "glmmTMB"
PROBLEMS = tuple(MARGINAL)


def available() -> str | None:
    return r_missing("glmmTMB")


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    command = ["Rscript", "--vanilla", str(PROGRAMS / "glmmtmb.R"), str(PROGRAMS)]
    return ask(NAME, command, problem, in_r(), seconds, minutes)

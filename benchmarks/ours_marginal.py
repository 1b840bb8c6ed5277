"""bayou as one of the programs that maximise a likelihood, in a process of its own as they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bayou
from benchmarks.marginal import MARGINAL, SECONDS, Marginal
from benchmarks.maximum import MINUTES, Maximum, ask
from benchmarks.outside import PROGRAMS

NAME = "bayou"
PROBLEMS = tuple(MARGINAL)


def available() -> str | None:
    return None


def maximise(problem: Marginal, seconds: float = SECONDS, minutes: float = MINUTES) -> Maximum:
    here = str(Path(bayou.__file__).parents[1])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, str(PROGRAMS / "bayou_fit.py")]
    return ask(NAME, command, problem, {**os.environ, "PYTHONPATH": path}, seconds, minutes)

"""bambi with PyMC's own NUTS, otherwise as in `bambi_nutpie`."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.measure import Outcome
from benchmarks.problems import Problem
from benchmarks.rivals.bambi_nutpie import FORMULAS, sampled

NAME = "bambi, PyMC"
PROBLEMS = tuple(FORMULAS)


def available() -> str | None:
    return "bambi is not installed (pip install bambi)." if find_spec("bambi") is None else None


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    return sampled(problem, scans, seed, "pymc")

"""The lecture slides' loop in base R (`slides.R`), 50,000 scans as there, every tenth kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from bayou._types import Array
from benchmarks.measure import Outcome
from benchmarks.outside import watch
from benchmarks.problems import Problem

NAME = "slides' loop in R"
PROBLEMS = ("tumor",)
SCANS, THIN = 50_000, 10


def available() -> str | None:
    if shutil.which("Rscript"):
        return None
    return "Rscript is not installed (Debian: apt-get install --no-install-recommends r-base-core)."


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    scans = scans or SCANS
    counts, columns = tabulated(problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savetxt(folder / "counts.csv", counts, delimiter=",", fmt="%d")
        np.savetxt(folder / "columns.csv", columns, delimiter=",", fmt="%.17g")
        program = Path(__file__).with_name("slides.R")
        command = ["Rscript", "--vanilla", str(program), str(folder), str(scans), str(THIN), str(seed)]
        watched = watch(command, folder)
        theta = np.loadtxt(folder / "theta.csv", delimiter=",", ndmin=2)
        wall, processor = np.loadtxt(folder / "seconds.csv", delimiter=",")
    return Outcome(named(theta), float(wall), float(processor), scans, peak=watched.peak)


def tabulated(problem: Problem) -> tuple[Array, Array]:
    """Return the counts by mouse and place, (21, 20), and the polynomial at each place, (20, 5)."""
    data = problem.data.sort_values(["mouse", "x"])
    x = np.sort(data["x"].unique())
    counts = data["count"].to_numpy(dtype=np.float64).reshape(-1, len(x))
    return counts, np.vander(x, 5, increasing=True)


def named(theta: Array) -> dict[str, Array]:
    """Give the columns of one chain of theta the names of bayou's summary."""
    names = ("beta[Intercept]", *(f"beta[poly(x, 4, raw=True)[{k}]]" for k in range(1, 5)))
    return {name: theta[None, :, k] for k, name in enumerate(names)}

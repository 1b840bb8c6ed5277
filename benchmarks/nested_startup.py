"""What a user of INLA waits for in a fresh process: imports and kernels on the disk, or the kernels compiled.

Seconds are the processor's, of one core; compiled kernels are kept beside the sources, so that the first fit ever is
that of a copy of the package in an empty folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import startup
from benchmarks.data import seeds
from benchmarks.outside import watch
from benchmarks.promises import Target

WARM, COLD = 1.0, 25.0
"""Seconds promised of the first fit of a process above its imports, and of the first fit ever."""


def program(correct: bool) -> str:
    """Return a fit of the seeds as a program: their figures are in it."""
    columns = seeds()[0].to_dict("list")
    return (
        "import bayou; from bayou.engines.inla import INLA; bayou.fit('proportion(r, n) ~ x1 * x2 + (1 | plate)', "
        f"{columns!r}, family='binomial', engine=INLA(correct={correct}, cores=1), seed=1)"
    )


def seconds(text: str, path: Path = startup.SOURCE, home: Path | None = None) -> float:
    """Return the processor's seconds of a fresh Python that runs a program with bayou from ``path``."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    if home is not None:
        environment |= {"XDG_CACHE_HOME": str(home), "TMPDIR": str(home)}
    return watch([sys.executable, "-c", text], path, environment).processor


def least(text: str, repeats: int) -> float:
    """Return the least of several runs, the first of which only warms the disk."""
    return min(seconds(text) for _ in range(repeats + 1))


def cold(correct: bool) -> float:
    """Return the seconds of the first fit ever: a whole process, imports and compiling included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(startup.SOURCE / "bayou", folder / "bayou", ignore=shutil.ignore_patterns("__pycache__"))
        return seconds(program(correct), folder, folder)


def targets(repeats: int = 3) -> list[Target]:
    """Return the seconds of whole processes: import and fit with kernels on the disk, and the first fit ever."""
    warm = least(program(True), repeats) - least(startup.IMPORTS, repeats)
    return [
        ("first INLA fit of a process above its imports, kernels on disk, CPU s", warm, WARM, "most"),
        ("first INLA fit ever without correction, compiling, CPU s", cold(False), COLD, "most"),
        ("first INLA fit ever, compiling, CPU s", cold(True), COLD, "most"),
    ]  # fmt: skip

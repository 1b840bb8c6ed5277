"""What a user waits for before the first draw: imports, kernels read from the disk, kernels compiled.

Every figure is of fresh processes. For the first fit ever the package is copied to an empty folder, since
compiled kernels are kept beside the sources; the copy compiles everything anew and is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bayou

IMPORTS = "import pandas, formulaic, numba"
LOAD = "import bayou; data = bayou.datasets.load('{data}')"
GIBBS = LOAD.format(data="school") + "; bayou.fit('score ~ ses + (ses | school)', data, draws=20, chains=1, seed=1)"
METROPOLIS = LOAD.format(data="clinic") + (
    "; bayou.fit('proportion(favorable, patients) ~ treatment + (1 | clinic)', data, family='binomial',"
    " draws=20, chains=1, seed=1)"
)
FITS = {"gibbs": GIBBS, "metropolis": METROPOLIS}
SOURCE = Path(bayou.__file__).parents[1]


def seconds(program: str, path: Path = SOURCE, home: Path | None = None) -> float:
    """Return the wall seconds of a fresh Python that runs the program with bayou from ``path``."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    if home is not None:
        environment |= {"XDG_CACHE_HOME": str(home), "TMPDIR": str(home)}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def least(program: str, repeats: int) -> float:
    """Return the least of several runs, the first of which only warms the disk."""
    return min(seconds(program) for _ in range(repeats + 1))


def imports(repeats: int = 5) -> float:
    """Return the seconds of `import bayou` beyond the start of Python itself."""
    return least("import bayou", repeats) - least("pass", repeats)


def warm(repeats: int = 3) -> dict[str, float]:
    """Return by engine the seconds of a first fit above the imports that it needs, kernels compiled before."""
    imported = least(IMPORTS, repeats)
    return {engine: least(fit, repeats) - imported for engine, fit in FITS.items()}


def cold() -> dict[str, float]:
    """Return by engine the seconds of the first fit ever: a whole process, imports and compiling included."""
    took = {}
    for engine, fit in FITS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(SOURCE / "bayou", folder / "bayou", ignore=shutil.ignore_patterns("__pycache__"))
            took[engine] = seconds(fit, folder, folder)
    return took


def targets(compile_too: bool = True) -> list[tuple[str, float, float, str]]:
    """Return all figures with their targets."""
    lines = [("import bayou, s", imports(), 0.3, "most")]
    lines += [(f"first {k} fit above its imports, kernels on disk, s", v, 1.0, "most") for k, v in warm().items()]
    if compile_too:
        lines += [(f"first {k} fit ever, compiling, s", v, 25.0, "most") for k, v in cold().items()]
    return lines


if __name__ == "__main__":
    from benchmarks.table import targets as table

    print(table(targets()))

"""The rivals' own environments: ``make rivals``, or ``python -m benchmarks.environments``.

Each Python rival gets a virtual environment under ``.rivals/``, so that no two of them have to agree on a
version and none touches bayou's. R's packages are looked for in R's own libraries and in ``.rivals/R``; what
is missing is installed there from R's repository where one can be reached, otherwise the Debian packages are
named. Nothing of this is needed: a rival that is not there is a line that says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".rivals"
# the arviz-plots that bambi takes on Python 3.11 breaks with matplotlib 3.11
BAMBI = ("bambi>=0.17,<0.18", "matplotlib<3.11; python_version < '3.12'")
PYTHON: dict[str, tuple[str, ...]] = {
    "bambi-nutpie": (*BAMBI, "nutpie>=0.16.8,<0.17"),
    "bambi-pymc": BAMBI,
    "numpyro": ("numpyro>=0.20,<0.23", "jax>=0.7,<0.11", "pandas>=2.2"),
    # those that maximise a likelihood; pandas reads the task
    "glmm": ("glmm>=0.6,<0.7", "pandas>=2.2"),
    "mixedlm": ("mixedlm>=1.3,<1.4", "pandas>=2.2"),
    "lme-python": ("lme-python>=0.2.7,<0.3", "pandas>=2.2"),
    "gpboost": ("gpboost>=1.8,<1.9", "pandas>=2.2"),
    "statsmodels": ("statsmodels>=0.14.4,<0.16", "pandas>=2.2"),
}
R = {
    "rstanarm": "r-cran-rstanarm", "brms": "r-cran-brms", "MCMCpack": "r-cran-mcmcpack", "MCMCglmm": None,
    "lme4": "r-cran-lme4", "glmmTMB": "r-cran-glmmtmb",
}  # fmt: skip
MAKE = "`make rivals` installs it"


def python(name: str) -> Path:
    """Return the Python of a rival's environment, whether it is there or not."""
    return FOLDER / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_missing(name: str) -> str | None:
    """Return None, or a sentence that says that an environment is not there."""
    there = (FOLDER / name / ".installed").is_file() and python(name).exists()
    return None if there else f"not installed ({MAKE})."


def in_r() -> dict[str, str]:
    """Return the environment variables with which Rscript also finds what is in ``.rivals/R``."""
    known = os.environ.get("R_LIBS", "")
    return {**os.environ, "R_LIBS": os.pathsep.join(filter(None, (str(FOLDER / "R"), known)))}


@cache
def r_missing(package: str) -> str | None:
    """Return None, or a sentence that says that R or one of its packages is not there."""
    if shutil.which("Rscript") is None:
        return "not installed: there is no Rscript (Debian: apt-get install --no-install-recommends r-base-core)."
    asked = ["Rscript", "--vanilla", "-e", f'cat(nzchar(system.file(package = "{package}")))']
    there = subprocess.run(asked, env=in_r(), capture_output=True, text=True).stdout
    return None if there == "TRUE" else f"not installed: R finds no package {package} ({MAKE} or says how)."


def make_python(name: str, requirements: tuple[str, ...]) -> bool:
    """Make or renew one virtual environment; pip fills it from outside, so that it needs none of its own."""
    folder, wanted = FOLDER / name, "\n".join(requirements)
    stamp = folder / ".installed"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        print(f"{name}: installed")
        return True
    print(f"{name}: installing {', '.join(requirements)}", flush=True)
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt", clear=True).create(folder)
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input", "--python"]
    if subprocess.run([*pip, str(python(name)), "install", *requirements]).returncode:
        print(f"{name}: pip could not install it; its line in the table will say 'not installed'")
        return False
    stamp.write_text(wanted, encoding="utf-8")
    return True


def make_r() -> None:
    """Install R's packages where its repository can be reached, otherwise say how to come by them."""
    if shutil.which("Rscript") is None:
        print(r_missing("rstanarm"))
        return
    missing = [package for package in R if r_missing(package)]
    for package in R:
        print(f"{package}: {'missing' if package in missing else 'installed'}")
    if not missing:
        return
    library = FOLDER / "R"
    library.mkdir(parents=True, exist_ok=True)
    # asking for the list first: with no repository in reach that fails at once, package by package it takes minutes
    program = (
        'options(timeout = 20); if (getOption("repos")[["CRAN"]] == "@CRAN@") chooseCRANmirror(ind = 1); '
        "known <- suppressWarnings(rownames(available.packages())); arguments <- commandArgs(TRUE); "
        "if (length(known) == 0) quit(status = 1); options(timeout = 3600); "
        "install.packages(arguments[-1], lib = arguments[1], quiet = TRUE)"
    )
    command = ["Rscript", "--vanilla", "-e", program, str(library), *missing]
    try:
        subprocess.run(command, env=in_r(), capture_output=True, timeout=3 * 3600)
    except subprocess.TimeoutExpired:
        print("R took more than three hours to install its packages")
    r_missing.cache_clear()
    still = [package for package in missing if r_missing(package)]
    if still:
        debian = [name for package in still if (name := R[package]) is not None]
        print(f"R could not install {', '.join(still)}.")
        if debian:
            print(f"On Debian: apt-get install {' '.join(debian)}")
        elsewhere = [package for package in still if R[package] is None]
        if elsewhere:
            print(f"Debian has no {', '.join(elsewhere)}: install.packages() on a machine that reaches CRAN.")


def main() -> int:
    for name, requirements in PYTHON.items():
        make_python(name, requirements)
    make_r()
    if shutil.which("jags") is None:
        print("jags: missing (Debian: apt-get install jags)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

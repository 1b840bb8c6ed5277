"""The problems: a formula, its data and its priors, the same for bayou and for every rival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

import bayou
from benchmarks.data import Loader, counts, epil, found, seeds


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
    load: Loader
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


_POLYNOMIAL = "poly(x, 4, raw=True)"

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            "tumor", "Poisson, quartic for each of 21 mice, unit-information priors; counted over theta",
            f"count ~ {_POLYNOMIAL} + ({_POLYNOMIAL} | mouse)", "poisson",
            found("hoff_tumor_long", twin="tumor"), unit_information=True, counted=("beta",),
        ),
        Problem(
            "sleepstudy", "Gaussian, a line for each of 18 subjects, default priors",
            "Reaction ~ Days + (Days | Subject)", "gaussian", found("sleepstudy", "lme4"),
        ),
        Problem(
            "cbpp", "binomial, 15 herds, default priors",
            "proportion(incidence, size) ~ C(period) + (1 | herd)", "binomial", found("cbpp", "lme4"),
        ),
        Problem(
            "seeds", "binomial, 21 plates, a level for each, default priors",
            "proportion(r, n) ~ x1 * x2 + (1 | plate)", "binomial", seeds,
        ),
        Problem(
            "epil", "Poisson, 59 patients and each of their 236 visits, default priors",
            "y ~ log(base / 4) * trt + log(age) + V4 + (1 | subject) + (1 | subject:visit)", "poisson", epil,
        ),
        Problem(
            "salamander", "Bernoulli, 60 females crossed with 60 males, default priors",
            "y ~ wsf * wsm + (1 | experiment:female) + (1 | experiment:male)", "bernoulli",
            found("salamander_inla"),
        ),
        Problem(
            "grouseticks", "Poisson, chicks within broods within places, default priors",
            "TICKS ~ C(YEAR) + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
            found("grouseticks", "lme4"),
        ),
        Problem(
            "VerbAgg", "Bernoulli, 316 persons crossed with 24 items, default priors",
            "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "bernoulli", found("VerbAgg", "lme4"),
        ),
        Problem(
            "InstEval", "Gaussian, students, lecturers and departments crossed, 73,421 rows, default priors",
            "y ~ C(service) + (1 | s) + (1 | d) + (1 | dept)", "gaussian", found("InstEval", "lme4"),
        ),
        Problem(
            "counts", "Poisson, 100,000 rows, a line for each of 10,000 groups, default priors",
            "count ~ x + (x | group)", "poisson", counts,
        ),
    )
}  # fmt: skip

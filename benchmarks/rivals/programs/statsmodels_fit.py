"""statsmodels' MixedLM with its own settings, for one grouping factor; it has no Laplace approximation."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLM  # type: ignore[import-not-found]
from stopwatch import Task, measured, responses  # type: ignore[import-not-found]

FEWER = 10


def build(data: pd.DataFrame, task: Task) -> Any:
    ((slopes, factor),) = re.findall(r"\((.*) \| (\S+)\)", task["formula"])
    fixed = re.sub(r"\s*\+ \(.*\)", "", task["formula"])
    return MixedLM.from_formula(fixed, data, re_formula=f"~ {slopes}", groups=data[factor])


def fit(built: Any, task: Task) -> Any:
    return built.fit(reml=True)


def whole(data: pd.DataFrame, task: Task) -> Any:
    return fit(build(data, task), task)


def told(fitted: Any, task: Task) -> dict[str, Any]:
    return {"version": version("statsmodels"), "log_likelihood": float(fitted.llf), "converged": bool(fitted.converged)}


def refit(fitted: Any, data: pd.DataFrame, task: Task) -> tuple[Any, int]:
    model = fitted.model
    codes = np.unique(model.groups, return_inverse=True)[1]
    drawn = responses(
        model.exog @ fitted.fe_params, np.linalg.cholesky(np.asarray(fitted.cov_re)), codes, model.exog_re,
        float(np.sqrt(fitted.scale)), task["refits"] // FEWER, task["seed"],
    )  # fmt: skip
    again = [MixedLM(y, model.exog, model.groups, exog_re=model.exog_re).fit(reml=True) for y in drawn]
    return np.array([one.fe_params[1] for one in again]), FEWER


if __name__ == "__main__":
    measured(whole, told, build, fit, refit)

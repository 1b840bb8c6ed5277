"""gpboost: by maximum likelihood, since it has no REML, and with independent coefficients of a group.

It reads no formula: its model is made from arrays, which is what is timed as building. Argument: how it solves its
systems, "cholesky" or "iterative" (its default with several factors, whose likelihood is an estimate by random
vectors).
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from typing import Any

import gpboost  # type: ignore[import-not-found]
import numpy as np
import pandas as pd
from stopwatch import Task, measured  # type: ignore[import-not-found]

LIKELIHOODS = {
    "gaussian": "gaussian", "poisson": "poisson", "bernoulli": "bernoulli_logit", "binomial": "binomial_logit",
}  # fmt: skip


def parts(task: Task) -> tuple[str, list[str], list[tuple[str | None, str]]]:
    """Return the response, the fixed terms, and of each grouping its slope (or None) and its factor."""
    response, right = (part.strip() for part in task["formula"].split("~"))
    bars = [(None if slope == "1" else slope, factor) for slope, factor in re.findall(r"\((\S+) \| (\S+)\)", right)]
    fixed = [term for term in re.sub(r"\(.*?\)", "", right).replace(" ", "").split("+") if term]
    return response, fixed, bars


def build(data: pd.DataFrame, task: Task) -> Any:
    response, fixed, bars = parts(task)
    columns = [np.ones(len(data))]
    for name in fixed:
        if data[name].dtype == "category":
            codes = data[name].cat.codes.to_numpy()
            columns += [(codes == k).astype(float) for k in range(1, int(codes.max()) + 1)]
        else:
            columns.append(data[name].to_numpy())
    groups = []
    for _, factor in bars:
        codes = np.zeros(len(data), np.int64)
        for name in factor.split(":"):
            codes = codes * data[name].cat.categories.size + data[name].cat.codes.to_numpy()
        groups.append(codes)
    given: dict[str, Any] = {"group_data": np.column_stack(groups), "likelihood": LIKELIHOODS[task["family"]]}
    slopes = [(number, slope) for number, (slope, _) in enumerate(bars, start=1) if slope is not None]
    if slopes:
        given["group_rand_coef_data"] = np.column_stack([data[slope] for _, slope in slopes])
        given["ind_effect_group_rand_coef"] = [number for number, _ in slopes]
    given |= {"matrix_inversion_method": sys.argv[1], "num_parallel_threads": 1}
    counts = re.fullmatch(r"proportion\((\w+), (\w+)\)", response)
    if counts is None:
        # a response of zeros and ones alone is the small fit of a problem of proportions
        return gpboost.GPModel(**given), data[response].to_numpy(), np.column_stack(columns)
    successes, trials = (data[name].to_numpy(float) for name in counts.groups())
    return gpboost.GPModel(**given, weights=trials), successes / trials, np.column_stack(columns)


def fit(built: Any, task: Task) -> Any:
    model, y, X = built
    model.fit(y=y, X=X)
    return model


def whole(data: pd.DataFrame, task: Task) -> Any:
    return fit(build(data, task), task)


def told(fitted: Any, task: Task) -> dict[str, Any]:
    slopes = any(slope is not None for slope, _ in parts(task)[2])
    gaussian = task["criterion"] == "REML"
    return {
        "version": version("gpboost"), "log_likelihood": -float(fitted.get_current_neg_log_likelihood()),
        "criterion": " ".join(["ML"] * gaussian + ["no correlation"] * slopes),
    }  # fmt: skip


if __name__ == "__main__":
    measured(whole, told, build, fit)

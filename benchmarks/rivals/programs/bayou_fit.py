"""bayou by the same stopwatch as its rivals: the model from formula and data, and the engine's run of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from stopwatch import Task, measured  # type: ignore[import-not-found]

import bayou


def build(data: pd.DataFrame, task: Task) -> Any:
    return bayou.Model(task["formula"], data, family=task["family"])


def fit(built: Any, task: Task) -> Any:
    return bayou.engines.get(task["criterion"].lower()).run(built, np.random.default_rng(task["seed"]))


def whole(data: pd.DataFrame, task: Task) -> Any:
    return build(data, task).fit(task["criterion"].lower(), seed=task["seed"])


def told(fitted: Any, task: Task) -> dict[str, Any]:
    failures = fitted.verdict.failures
    return {
        "version": bayou.__version__, "log_likelihood": float(fitted.log_likelihood),
        "converged": fitted.verdict.ok, "note": failures[0][:80] if failures else "",
    }  # fmt: skip


def refit(fitted: Any, data: pd.DataFrame, task: Task) -> tuple[Any, int]:
    again = fitted.bootstrap(task["refits"], seed=task["seed"])
    return again.replicates["beta[Days]"].to_numpy(), 1


if __name__ == "__main__":
    measured(whole, told, build, fit, refit)

"""mixedlm with its own settings; its model is what it parses and the deviance function of that."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import mixedlm  # type: ignore[import-not-found]
import pandas as pd
from stopwatch import Task, measured  # type: ignore[import-not-found]


def family(task: Task) -> Any:
    return mixedlm.families.Poisson() if task["family"] == "poisson" else mixedlm.families.Binomial()


def whole(data: pd.DataFrame, task: Task) -> Any:
    if task["family"] == "gaussian":
        return mixedlm.lmer(task["formula"], data)
    return mixedlm.glmer(task["formula"], data, family=family(task))


def build(data: pd.DataFrame, task: Task) -> Any:
    if task["family"] == "gaussian":
        return mixedlm.mkLmerDevfun(mixedlm.lFormula(task["formula"], data))
    return mixedlm.mkGlmerDevfun(mixedlm.glFormula(task["formula"], data, family=family(task)))


def fit(built: Any, task: Task) -> Any:
    if task["family"] == "gaussian":
        # what lmer itself does
        best = mixedlm.optimizeLmer(built, method="auto", use_analytic_gradient=True)
        return mixedlm.mkLmerMod(built, best)
    # its default is not glmer's
    best = mixedlm.optimizeGlmer(built, method=mixedlm.glmerControl().optimizer)
    return mixedlm.mkGlmerMod(built, best)


def told(fitted: Any, task: Task) -> dict[str, Any]:
    value = fitted.logLik()
    value = float(getattr(value, "value", value))
    return {"version": version("mixedlm"), "log_likelihood": value, "converged": bool(fitted.converged)}


def refit(fitted: Any, data: pd.DataFrame, task: Task) -> tuple[Any, int]:
    return mixedlm.bootMer(fitted, nsim=task["refits"], seed=task["seed"], n_jobs=1).beta_samples[:, 1], 1


if __name__ == "__main__":
    measured(whole, told, build, fit, refit)

"""bambi with the task's priors, by the method named on the command line; runs in bambi's own environment."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

started = time.perf_counter()
import bambi  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

if sys.argv[1] == "nutpie":
    import nutpie
importing = time.perf_counter() - started
# the sampler's own reports; they are not what is measured
logging.disable(logging.WARNING)


def half_t(df: float, scale: float) -> Any:
    return bambi.Prior("HalfStudentT", nu=df, sigma=scale)


def model_of(task: dict[str, Any], data: pd.DataFrame) -> Any:
    slopes = [f"x{k}" for k in range(1, len(task["widths"]))]
    bars = [f"({' + '.join(['1', *group['slopes']])} | {group['column']})" for group in task["groups"]]
    left = "p(y, trials)" if task["family"] == "binomial" else "y"
    # bambi centres the columns, so that this is the intercept at centred columns, as bayou's
    priors = {"Intercept": bambi.Prior("Normal", mu=task["level"], sigma=task["widths"][0])}
    priors |= {x: bambi.Prior("Normal", mu=0, sigma=width) for x, width in zip(slopes, task["widths"][1:], strict=True)}
    for group in task["groups"]:
        data[group["column"]] = data[group["column"]].astype(str)
        for name, scale in zip(["1", *group["slopes"]], group["scales"], strict=True):
            priors[f"{name}|{group['column']}"] = bambi.Prior("Normal", mu=0, sigma=half_t(2, scale))
    if task["sigma_scale"] is not None:
        priors["sigma"] = half_t(3, task["sigma_scale"])
    return bambi.Model(f"{left} ~ {' + '.join([*slopes, *bars])}", data, family=task["family"], priors=priors)


def fit(model: Any, task: dict[str, Any], draws: int, warmup: int, method: str) -> tuple[Any, float, float]:
    settings = {"draws": draws, "tune": warmup, "chains": task["chains"], "cores": 1, "random_seed": task["seed"]}
    wall, processor = time.perf_counter(), time.process_time()
    result = model.fit(inference_method=method, progressbar=False, **settings)
    return result, time.perf_counter() - wall, time.process_time() - processor


def fit_and_split(model: Any, task: dict[str, Any], method: str) -> tuple[Any, float, float, float]:
    """Return a fit, seconds of compiling, and wall and processor seconds of the rest."""
    if method == "nutpie":
        # bambi compiles and samples by two calls of nutpie's: the second is what is measured
        took: list[float] = []

        def sample(*arguments: Any, whole: Any = nutpie.sample, **settings: Any) -> Any:
            wall, processor = time.perf_counter(), time.process_time()
            result = whole(*arguments, **settings)
            took.extend((time.perf_counter() - wall, time.process_time() - processor))
            return result

        nutpie.sample = sample
        result, wall, _ = fit(model, task, task["draws"], task["warmup"], method)
        return result, wall - took[0], took[0], took[1]
    # PyMC compiles inside its call: a first call of a few draws fills its caches, and a second shows what every
    # call spends on building the model again, which is taken off
    _, first, _ = fit(model, task, 4, 4, method)
    _, wall, processor = fit(model, task, 4, 4, method)
    result, whole, whole_processor = fit(model, task, task["draws"], task["warmup"], method)
    return result, first, whole - wall, whole_processor - processor


def short_names(task: dict[str, Any]) -> dict[str, str]:
    names = {"Intercept": "beta0", "sigma": "sigma"} | {f"x{k}": f"beta{k}" for k in range(1, len(task["widths"]))}
    for group in task["groups"]:
        for k, name in enumerate(["1", *group["slopes"]]):
            names[f"{name}|{group['column']}_sigma"] = f"sd_{group['column']}_{k}"
    return names


with open("task.json", encoding="utf-8") as file:
    task = json.load(file)
method = sys.argv[1]
model = model_of(task, pd.read_csv("data.csv"))
result, compiling, wall, processor = fit_and_split(model, task, method)

posterior = result.posterior
named = {"chain": np.repeat(np.arange(task["chains"]), task["draws"])}
for theirs, ours in short_names(task).items():
    if theirs in posterior:
        named[ours] = np.asarray(posterior[theirs]).reshape(-1)
pd.DataFrame(named).to_csv("draws.csv", index=False)
took: dict[str, Any] = {"importing": importing, "compiling": compiling, "wall": wall, "processor": processor}
divergences = int(np.asarray(result.sample_stats["diverging"]).sum())
if divergences:
    took["note"] = f"{divergences} divergences"
pd.DataFrame({"what": list(took), "value": list(took.values())}).to_csv("took.csv", index=False)

"""What the Python programs that maximise a likelihood share: data, stopwatch, memory, and what they leave behind.

It runs in each program's own environment: nothing but the standard library, NumPy and pandas.
"""

from __future__ import annotations

import gc
import json
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LONG = 60.0
"""With a whole call beyond this, the fit is what building the model leaves of it: it is not run again."""

Task = dict[str, Any]


def read(folder: Path = Path()) -> tuple[Task, pd.DataFrame]:
    """Return a task and its data, factors categorical."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    data: dict[str, Any] = {}
    for number, column in enumerate(task["columns"], start=1):
        file = folder / f"{number}.bin"
        if column["factor"]:
            levels = (folder / f"{number}.txt").read_text(encoding="utf-8").splitlines()
            data[column["name"]] = pd.Categorical.from_codes(np.fromfile(file, np.int32), pd.Index(levels))
        else:
            data[column["name"]] = np.fromfile(file, np.float64)
    return task, pd.DataFrame(data)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a call returns, its seconds and the processor's."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - processor


def held() -> float:
    """Return the MB that this process holds."""
    try:
        return int(re.findall(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text("ascii"))[0]) / 2**10
    except (OSError, IndexError):
        return peak()


def peak() -> float:
    """Return the MB of the high-water mark; before `forget` that of the process."""
    try:
        return int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text("ascii"))[0]) / 2**10
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def forget() -> None:
    """Set the high-water mark to what is held now, where the kernel lets a process do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        pass


def measured(
    whole: Callable[[pd.DataFrame, Task], Any],
    told: Callable[[Any, Task], dict[str, Any]],
    build: Callable[[pd.DataFrame, Task], Any] | None = None,
    fit: Callable[[Any, Task], Any] | None = None,
    refit: Callable[[Any, pd.DataFrame, Task], tuple[Any, int]] | None = None,
) -> None:
    """Measure one program on the task in this folder and leave ``result.json``.

    Parameters
    ----------
    whole
        The call a user makes, from data to fit.
    told
        From a fit what the table needs: version, log_likelihood, converged, perhaps note and criterion.
    build, fit
        The same in two steps, where the program has them.
    refit
        From a fit a bootstrap: the slopes of the refits, and how many times fewer than asked for they are.
    """
    warnings.simplefilter("ignore")
    small_task, small = read(Path("small"))
    whole(small, small_task)
    task, data = read()
    gc.collect()
    before = held()
    forget()
    fitted, wall, processor = timed(lambda: whole(data, task))
    result: dict[str, Any] = {"memory": peak() - before, "repeats": 1, **told(fitted, task)}
    if task["refits"]:
        if refit is None:
            raise SystemExit("this program has no refits")
        (slopes, fewer), wall, processor = timed(lambda: refit(fitted, data, task))
        result |= {"whole": wall * fewer, "whole_cpu": processor * fewer, "spread": float(np.std(slopes, ddof=1))}
        if fewer > 1:
            leave(result, f"{len(slopes):,} refits, times {fewer}")
        else:
            leave(result)
        return
    fitted = None
    leave(result | {"whole": wall, "whole_cpu": processor})
    until = time.perf_counter() + task["seconds"]
    walls, processors = [wall], [processor]
    while len(walls) < 500 and (time.perf_counter() + wall < until or len(walls) == 1) and wall < LONG:
        _, again, cpu = timed(lambda: whole(data, task))
        walls.append(again)
        processors.append(cpu)
    result |= {"whole": min(walls), "whole_cpu": min(processors), "repeats": len(walls)}
    leave(result)
    if build is not None and fit is not None:
        apart = stages(lambda: build(data, task), lambda built: fit(built, task), task["seconds"], wall > LONG)
        if wall > LONG:
            apart |= {"fit": wall - apart["model"], "fit_cpu": processor - apart["model_cpu"]}
        leave(result | apart)


def stages(
    build: Callable[[], Any], fit: Callable[[Any], Any], seconds: float, only_build: bool
) -> dict[str, float]:
    """Return the least seconds of building a model and of fitting it; each fit gets a model that was never fitted."""
    models: list[tuple[float, float]] = []
    fits: list[tuple[float, float]] = []
    until = time.perf_counter() + seconds
    while len(models) < 500 and (time.perf_counter() < until or not models):
        built, *took = timed(build)
        models.append((took[0], took[1]))
        if only_build:
            break
        _, *took = timed(lambda built=built: fit(built))  # type: ignore[misc]
        fits.append((took[0], took[1]))
    least = {"model": min(w for w, _ in models), "model_cpu": min(c for _, c in models)}
    if fits:
        least |= {"fit": min(w for w, _ in fits), "fit_cpu": min(c for _, c in fits)}
    return least


def leave(result: dict[str, Any], more: str = "") -> None:
    notes = [note for note in (result.get("note", ""), more) if note]
    Path("result.json").write_text(json.dumps(result | {"note": "; ".join(notes)}), encoding="utf-8")


def response(task: Task) -> str:
    return str(task["formula"].split("~")[0].strip())


def responses(mean: Any, roots: Any, codes: Any, Z: Any, sigma: float, count: int, seed: int) -> Any:
    """Yield simulated responses of one grouping factor: mean + Z b + sigma e, b of a group = roots z."""
    rng = np.random.default_rng(seed)
    groups = int(codes.max()) + 1
    for _ in range(count):
        b = rng.normal(size=(groups, len(roots))) @ roots.T
        yield mean + (Z * b[codes]).sum(axis=1) + sigma * rng.normal(size=len(mean))

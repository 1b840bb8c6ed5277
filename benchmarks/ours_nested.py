"""bayou's INLA with and without its correction, warm, in a process of its own on one core."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bayou
from bayou.engines.inla import INLA
from benchmarks.nested_figure import CORRECTED, OURS, Nest
from benchmarks.nested_problems import EVERY, Nested
from benchmarks.outside import Stopped, watch

MOST = 200
"""Calls of one measurement."""
LONG = 15.0
"""Seconds of a call that is not repeated for a second measurement."""
LEVELS = (0.025, 0.5, 0.975)


def once(arguments: dict[str, Any], engine: INLA, seed: int) -> tuple[dict[str, float], Any, Any]:
    """Build and fit a model, and look at the marginals of its printed rows; seconds, the model and its posterior."""
    wall, processor = time.perf_counter(), time.process_time()
    model = bayou.Model(**arguments)
    built, built_processor = time.perf_counter(), time.process_time()
    result = engine.run(model, np.random.default_rng(seed))
    assert result.approximation is not None
    for marginal in result.approximation.marginals.values():
        [marginal.mean, marginal.sd, *(marginal.quantile(level) for level in LEVELS)]
    ended, ended_processor = time.perf_counter(), time.process_time()
    took = {"model": built - wall, "fit": ended - built, "whole": ended - wall}
    took |= {"model_cpu": built_processor - processor, "fit_cpu": ended_processor - built_processor}
    return took | {"whole_cpu": ended_processor - processor}, model, result


def measured(problem: Nested, correct: bool, seconds: float) -> Nest:
    """Fit again and again for so long, twice at the least, after one call that makes the kernels ready.

    Without correction every call does the same and the least counts; how many draws the correction takes depends on
    the seed: there it is the median, of three calls at the least. A call of more than `LONG` seconds is the last.
    """
    arguments = problem.arguments()
    engine = INLA(correct=correct, nodes=problem.nodes, cores=1)
    once(arguments, engine, 0)
    until, refused = time.perf_counter() + seconds, 0
    runs: list[dict[str, float]] = []
    least = 3 if correct else 2
    while len(runs) < least or (time.perf_counter() < until and len(runs) < MOST):
        took, model, result = once(arguments, engine, len(runs) + 1)
        runs.append(took)
        refused += not result.approximation.check.get("ok", True)
        if took["whole"] > LONG:
            break
    middle = statistics.median if correct else min
    figures: dict[str, Any] = {name: middle(run[name] for run in runs) for name in took}
    approximation = result.approximation
    check = dict(approximation.check)
    notes = [f"{refused} of {len(runs)} went on by Markov chain"] if refused else []
    return Nest(
        problem.name, CORRECTED if correct else OURS, **figures, repeats=len(runs),
        reached=float(approximation.log_marginal), hyper=approximation.thetas.shape[1],
        nodes=len(approximation.thetas), coefficients=_coefficients(model),
        effective=float(check.get("effective_size", np.nan)), k_hat=float(check.get("k_hat", np.nan)),
        shift=float(check.get("shift", np.nan)), note="; ".join(notes),
    )  # fmt: skip


def _coefficients(model: bayou.Model) -> int:
    groups = sum(len(grouping.levels) * grouping.Z.shape[1] for grouping in model.design.groupings)
    return int(groups + sum(effect.size * effect.replicates for effect in model.effects) + model.design.X.shape[1])


def outside(problem: Nested, seconds: float, minutes: float | None = None) -> list[Nest]:
    """Measure both, each in a fresh process on one core."""
    names = {False: OURS, True: CORRECTED}
    here = os.pathsep.join(filter(None, (str(Path(bayou.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))))
    found = []
    for correct, program in names.items():
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "result.json"
            asked = [problem.name, str(int(correct)), repr(seconds), str(file)]
            command = [sys.executable, "-m", "benchmarks.ours_nested", *asked]
            try:
                watched = watch(command, Path(__file__).parents[1], {**os.environ, "PYTHONPATH": here}, minutes)
            except Stopped as stopped:
                found.append(Nest(problem.name, program, str(stopped)))
                continue
            found.append(Nest(**json.loads(file.read_text(encoding="utf-8")) | {"peak": watched.peak}))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as `outside` asks and leave the figure in a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours_nested")
    parser.add_argument("problem", choices=EVERY)
    parser.add_argument("correct", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    figure = measured(EVERY[given.problem], bool(given.correct), given.seconds)
    given.file.write_text(json.dumps(figure.plain()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""INLA and REML with the groups of a Poisson model over worker processes, beside one process that has all rows.

    python -m benchmarks.cluster_joint --rows 10_000_000 --groups 100_000

prints a table: seconds of the whole fit and of the conversation about modes, here and with one and two workers, how
often the leader asked, and how far the answers are apart in posterior sds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import bayou
from bayou.cluster.fleet import Talk
from bayou.cluster.sharded import usual_shards
from benchmarks.cluster_speed import model_of


class Asked:
    """Seconds and number of the questions to shards."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0

    def __enter__(self) -> Asked:
        self.own = Talk.say
        watch = self

        def say(talk: Talk, message: Any) -> Any:
            begun = time.perf_counter()
            out = watch.own(talk, message)
            watch.seconds += time.perf_counter() - begun
            watch.count += 1
            return out

        Talk.say = say  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *error: object) -> None:
        Talk.say = self.own  # type: ignore[method-assign]


def over(model: bayou.Model, engine: Any, workers: int, shards: int) -> tuple[float, Asked, Any]:
    """Fit over worker processes; returns seconds of the whole, the questions, and the summary."""
    from importlib import import_module

    dask: Any = import_module("distributed")
    with (
        dask.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        dask.Client(cluster) as client,
    ):
        model_of(600, 60).fit(engine, client=client, shards=2, seed=1)  # the workers compile what they need
        begun = time.perf_counter()
        with Asked() as asked:
            fit = model.fit(engine, client=client, shards=shards, seed=1)
        return time.perf_counter() - begun, asked, fit.summary()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--engine", choices=["inla", "reml"], action="append")
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--without-here", action="store_true", help="do not fit with all rows in this process")
    args = parser.parse_args()
    model = model_of(args.rows, args.groups)
    shards = usual_shards(model)
    print(f"{args.rows:,} rows, {args.groups:,} groups with a slope, {shards} shards", flush=True)
    for name in args.engine or ["reml", "inla"]:
        engine: Any = bayou.engines.Laplace(reml=True) if name == "reml" else bayou.engines.INLA(go_on=False)
        first = None
        if not args.without_here:
            model_of(600, 60).fit(engine, seed=1)
            begun = time.perf_counter()
            first = model.fit(engine, seed=1).summary()
            print(f"{name:5s} all rows in this process {time.perf_counter() - begun:8.1f} s", flush=True)
        for workers in args.workers or [1, 2]:
            seconds, asked, found = over(model, engine, workers, shards)
            off = np.nan if first is None else float(np.nanmax(np.abs(found["mean"] - first["mean"]) / first["sd"]))
            apart = "" if first is None else f", {off:.1e} sd apart"
            first = found if first is None else first
            print(
                f"{name:5s} {workers} worker{'s' if workers > 1 else ''}                {seconds:8.1f} s, "
                f"{asked.seconds:.1f} s in {asked.count:,} questions{apart}",
                flush=True,
            )


if __name__ == "__main__":
    main()

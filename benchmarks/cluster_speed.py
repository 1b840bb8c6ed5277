"""Two workers against one on Poisson rows with a slope, the overhead of a sweep, and workers killed on the way.

    python benchmarks/cluster_speed.py --rows 10_000_000 --groups 100_000 --draws 200 --kill 30

prints a table: seconds a sweep with one and two worker processes, their ratio, the overhead of a sweep (its time on a
model of so few rows that nothing else takes time), and whether the draws with a worker killed every so many seconds
are those without.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from typing import Any

import numpy as np

import bayou
from bayou.cluster.sharded import usual_shards
from bayou.cluster.sweep import SweepChain
from bayou.engines.draws import Draws


def simulated(rows: int, groups: int) -> dict[str, Any]:
    """Return counts with an intercept and a slope by group."""
    rng = np.random.default_rng(7)
    g, x = rng.integers(0, groups, rows), rng.normal(size=rows)
    b = rng.normal(size=(groups, 2)) * [0.5, 0.3]
    return {"y": rng.poisson(np.exp(0.3 + 0.2 * x + b[g, 0] + b[g, 1] * x)), "x": x, "g": g}


def model_of(rows: int, groups: int) -> bayou.Model:
    """Return the model of so many rows."""
    return bayou.Model("y ~ x + (1 + x | g)", simulated(rows, groups), family="poisson")


def killing(client: Any, every: float, stop: threading.Event, killed: list[str]) -> None:
    """Kill a worker every so many seconds, each in turn."""
    while not stop.wait(every):
        found = client.run(os.getpid, on_error="ignore")
        worker = sorted(found)[len(killed) % len(found)]
        os.kill(found[worker], signal.SIGKILL)
        killed.append(worker)


class Watch:
    """Seconds and sweeps of all chains within `advance`: without sending rows, the start and the end of a run."""

    def __init__(self) -> None:
        self.seconds, self.sweeps = 0.0, 0

    def __enter__(self) -> Watch:
        self.own = SweepChain.advance
        watch = self

        def advance(chain: SweepChain, draws: int, thin: int, out: Draws) -> int:
            begun = time.perf_counter()
            done = watch.own(chain, draws, thin, out)
            watch.seconds += time.perf_counter() - begun
            watch.sweeps += draws * thin
            return done

        SweepChain.advance = advance  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *error: object) -> None:
        SweepChain.advance = self.own  # type: ignore[method-assign]


def run(model: bayou.Model, workers: int, args: argparse.Namespace, kill: float = 0.0) -> tuple[float, Any, int]:
    """Return the seconds of a sweep of all chains, the draws, and how many workers were killed."""
    from importlib import import_module

    dask: Any = import_module("distributed")
    settings: dict[str, Any] = {"draws": args.draws, "warmup": args.warmup, "chains": args.chains, "seed": 1}
    settings["shards"] = args.shards or usual_shards(model)
    with (
        dask.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        dask.Client(cluster) as client,
    ):
        short = settings | {"draws": 60, "warmup": 60, "shards": 4}  # the workers compile what they need
        model_of(600, 60).fit("metropolis", client=client, **short)
        stop, killed = threading.Event(), list[str]()
        if kill:
            threading.Thread(target=killing, args=(client, kill, stop, killed), daemon=True).start()
        with Watch() as watch:
            fit = model.fit("metropolis", client=client, **settings)
        stop.set()
    return watch.seconds / watch.sweeps, fit.result.draws, len(killed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--chains", type=int, default=1)
    parser.add_argument("--shards", type=int, default=None, help="as many as bayou takes for these rows, if not given")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds between two killed workers; 0 kills none")
    args = parser.parse_args()
    small = argparse.Namespace(**(vars(args) | {"draws": 600, "warmup": 300}))
    overhead, _, _ = run(model_of(600, 60), 2, small)
    print(f"overhead of a sweep, two workers        {1e3 * overhead:8.2f} ms", flush=True)
    model = model_of(args.rows, args.groups)
    one, draws, _ = run(model, 1, args)
    print(f"a sweep of {args.chains} chains, one worker        {1e3 * one:8.1f} ms", flush=True)
    two, again, _ = run(model, 2, args)
    same = all(np.array_equal(draws[k], again[k]) for k in draws)
    said = f"{one / two:.2f} times, same draws: {same}"
    print(f"a sweep of {args.chains} chains, two workers       {1e3 * two:8.1f} ms, {said}", flush=True)
    if args.kill:
        _, again, killed = run(model, 2, args, args.kill)
        same = all(np.array_equal(draws[k], again[k]) for k in draws)
        print(f"{killed} workers killed, one every {args.kill:g} s: same draws: {same}", flush=True)


if __name__ == "__main__":
    main()

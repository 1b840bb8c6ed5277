"""One step of `benchmarks.streaming` in a process of its own: what it took, in seconds and as estimates, is printed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM = 2_000
"""Rows of the small fit that loads every kernel first."""


def simulate(kind: str, rows: int, folder: Path) -> None:
    """Write rows as Parquet files of at most 10⁷: 100 rows a group (1,000 of binary ones), one column or four."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    groups = max(rows // (1000 if kind == "binary" else 100), 10)
    level, slope = rng.normal(size=groups), 0.5 * rng.normal(size=groups)
    folder.mkdir(parents=True)
    for k, start in enumerate(range(0, rows, 10**7)):
        n = min(10**7, rows - start)
        g = rng.integers(0, groups, n)
        if kind != "binary":
            x = rng.normal(size=n)
            eta = 1.0 + 0.5 * x + level[g] + slope[g] * x
            y = eta + rng.normal(size=n) if kind == "normal" else rng.poisson(np.exp(0.5 * eta))
            columns: dict[str, Any] = {"y": y, "x": x, "g": g}
        else:
            z = (rng.random((4, n)) < 0.5).astype(np.int8)
            eta = -1.0 + level[g] + 0.5 * z[0] - 0.3 * z[1] + 0.2 * z[2] + slope[g] * z[3]
            columns = {"y": rng.random(n) < 1.0 / (1.0 + np.exp(-eta)), "g": g.astype(np.int32)}
            columns |= {f"x{k + 1}": column for k, column in enumerate(z)}
        pq.write_table(pa.table(columns), folder / f"part{k:03d}.parquet", row_group_size=2**20)


def formula(kind: str) -> tuple[str, str]:
    """Return formula and family of a kind of data."""
    if kind == "normal":
        return "y ~ x + (1 + x | g)", "gaussian"
    if kind == "counts":
        return "y ~ x + (1 + x | g)", "poisson"
    return "y ~ x1 + x2 + x3 + x4 + (1 + x4 | g)", "bernoulli"


def bare(kind: str, folder: Path) -> dict[str, float]:
    """Group the same columns by Polars' streaming engine: counts and sums of products, or the different rows."""
    import polars as pl

    table = pl.scan_parquet(folder / "*.parquet")
    started = time.perf_counter()
    if kind != "binary":
        x, y = pl.col("x"), pl.col("y")
        sums = {"sx": x, "sy": y, "xx": x * x, "xy": x * y, "yy": y * y}
        plan = table.group_by("g").agg(pl.len(), *(value.sum().alias(name) for name, value in sums.items()))
    else:
        plan = table.group_by("g", "x1", "x2", "x3", "x4").agg(pl.len(), pl.col("y").sum())
    found = plan.collect(engine="streaming")
    return {"group-by": time.perf_counter() - started, "rows": float(found.height)}


def fitted(kind: str, folder: Path, engine: str, settings: dict[str, Any], stream: bool | None) -> dict[str, Any]:
    """Read, then fit; the seconds of both, and the estimates."""
    import bayou

    text, family = formula(kind)
    rng = np.random.default_rng(2)
    small: dict[str, Any] = {name: rng.integers(0, 2, WARM) for name in ("x", "x1", "x2", "x3", "x4", "y")}
    small["g"] = rng.integers(0, 20, WARM)
    import polars as pl

    bayou.Model(text, pl.DataFrame(small).lazy(), family, stream=True).fit(engine, seed=1, **settings)
    said: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        out = work()
        said[name] = time.perf_counter() - started
        return out

    model = timed("model", lambda: bayou.Model(text, folder, family, stream=stream))
    fit = timed("fit", lambda: model.fit(engine, seed=1, **settings))
    frame = fit.summary()
    said["mean"] = {str(name): float(value) for name, value in frame["mean"].items()}
    said["sd"] = {str(name): float(value) for name, value in frame["sd"].items()} if "sd" in frame else {}
    said["kept"] = model.design.n
    said["log_likelihood"] = float(fit.log_likelihood) if engine in ("reml", "laplace") else None
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one step and print what it took as JSON on the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours_streaming")
    parser.add_argument("step", choices=["simulate", "bare", "fit"])
    parser.add_argument("kind", choices=["normal", "binary", "counts"])
    parser.add_argument("rows", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="reml")
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--in-memory", action="store_true")
    given = parser.parse_args(arguments)
    if given.step == "simulate":
        simulate(given.kind, int(given.rows), given.folder)
        said: dict[str, Any] = {}
    elif given.step == "bare":
        said = bare(given.kind, given.folder)
    else:
        said = fitted(given.kind, given.folder, given.engine, given.settings, False if given.in_memory else True)
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())

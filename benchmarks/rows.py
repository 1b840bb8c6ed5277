"""Nanoseconds per row of the likelihood kernels: log likelihood, gradient and weight in one pass.

Run with ``python -m benchmarks.rows``. Each figure is the least of many repeats, since other work on the
machine only ever adds. The targets are 1.2 ns (Poisson) and 3 ns (Bernoulli) for 100,000 rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bayou.families import (
    Bernoulli,
    Family,
    Gamma,
    Gaussian,
    NegativeBinomial,
    Poisson,
    rows,
)
from bayou.jit import borrow, kernel

ROWS = 100_000
REPEATS = 400
TARGETS = {"poisson(link = log)": 1.2, "bernoulli(link = logit)": 3.0}
FAMILIES: list[Family] = [
    Poisson(), Bernoulli(), Gaussian(), Gaussian(link="log"), NegativeBinomial(), Gamma(),
    Bernoulli(link="probit"), Bernoulli(link="cloglog"),
]  # fmt: skip


@kernel
def groups_of(size: int, code: int, y: Any, one: Any, eta: Any, gradient: Any, curvature: Any, work: Any) -> float:
    """Visit all rows in groups of `size`, as a sampler does."""
    y, one, eta = borrow(y), borrow(one), borrow(eta)
    gradient, curvature, work = borrow(gradient), borrow(curvature), borrow(work)
    total = 0.0
    for a in range(0, len(y) - size + 1, size):
        b = a + size
        total += rows.row_terms(code, y[a:b], one[a:b], one[a:b], eta[a:b], 1.0, gradient[a:b], curvature[a:b], work)
    return total


def least_seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    call()
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return float(best)


def measure(family: Family, n: int = ROWS, repeats: int = REPEATS) -> tuple[float, float]:
    """ns per row of `row_terms` and of `row_log_density`."""
    rng = np.random.default_rng(0)
    eta, one = rng.normal(size=n), np.ones(n)
    y = family.sample(rng, eta, 2.0)
    gradient, curvature, work = np.empty(n), np.empty(n), np.empty(rows.LANES)
    code = family.code
    terms = least_seconds(lambda: rows.row_terms(code, y, one, one, eta, 2.0, gradient, curvature, work), repeats)
    density = least_seconds(lambda: rows.row_log_density(code, y, one, one, eta, 2.0, work), repeats)
    return terms / n * 1e9, density / n * 1e9


def main() -> None:
    start = time.perf_counter()
    measure(Poisson(), n=10, repeats=1)
    print(f"compiling or loading the kernels: {time.perf_counter() - start:.2f} s")
    print(f"{'family':32s} {'terms':>9s} {'density':>9s}   ns a row, {ROWS:,} rows")
    for family in FAMILIES:
        terms, density = measure(family)
        target = TARGETS.get(str(family))
        verdict = "" if target is None else f"   target {target}: {'met' if terms <= target else 'MISSED'}"
        print(f"{str(family):32s} {terms:9.2f} {density:9.2f}{verdict}")
    n = 20_000
    rng = np.random.default_rng(0)
    eta, one, scratch = rng.normal(size=n), np.ones(n), (np.empty(n), np.empty(n), np.empty(rows.LANES))
    for family in (Poisson(), Bernoulli()):
        y = family.sample(rng, eta)
        for size in (1, 2, 5, 20):
            seconds = least_seconds(partial(groups_of, size, family.code, y, one, eta, *scratch), 50)
            print(f"{str(family):32s} {seconds / (n // size) * 1e9:9.0f}   ns a call, groups of {size} rows")


if __name__ == "__main__":
    main()

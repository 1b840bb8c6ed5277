"""Nanoseconds per row of the likelihood kernels: log likelihood, gradient and weight in one pass.

Run with ``python -m benchmarks.rows``. Each figure is the least of many repeats, since other work on the
machine only ever adds. The targets are 1.2 ns (Poisson) and 3 ns (Bernoulli) for 100,000 rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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

ROWS = 100_000
REPEATS = 400
TARGETS = {"poisson(link = log)": 1.2, "bernoulli(link = logit)": 3.0}
FAMILIES: list[Family] = [
    Poisson(), Bernoulli(), Gaussian(), Gaussian(link="log"), NegativeBinomial(), Gamma(),
    Bernoulli(link="probit"), Bernoulli(link="cloglog"),
]  # fmt: skip


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


if __name__ == "__main__":
    main()

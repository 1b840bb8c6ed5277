"""The same loop in plain NumPy: what it costs without R, and an oracle for it."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from benchmarks.measure import Outcome, timed
from benchmarks.problems import Problem
from benchmarks.rivals.slides_r import THIN, named, tabulated

NAME = "slides' loop in NumPy"
PROBLEMS = ("tumor",)
SCANS = 50_000


def available() -> str | None:
    return None


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    counts, columns = tabulated(problem)
    total = scans or SCANS
    kept: list[Array] = []
    wall, processor = timed(lambda: kept.append(loop(counts, columns, total, np.random.default_rng(seed))))
    return Outcome(named(kept[0]), wall, processor, total)


def loop(Y: Array, X: Array, scans: int, rng: np.random.Generator) -> Array:
    """Return every tenth theta, (scans // 10, p)."""
    (m, n), p = Y.shape, X.shape[1]
    beta = np.linalg.lstsq(X, np.log(Y + 1.0 / n).T, rcond=None)[0].T
    mean, S0 = beta.mean(axis=0), np.cov(beta, rowvar=False)
    df = p + 2 + m
    prior_precision = precision = np.linalg.inv(S0)
    # the log likelihood of a group, without log y!
    likelihood = [float(y @ (X @ b) - np.exp(X @ b).sum()) for y, b in zip(Y, beta, strict=True)]
    kept = np.empty((scans // THIN, p))
    for s in range(scans):
        V = np.linalg.inv(prior_precision + m * precision)
        centre = V @ (prior_precision @ mean + precision @ beta.sum(axis=0))
        theta = centre + np.linalg.cholesky(V) @ rng.standard_normal(p)
        around = beta - theta
        scale = np.linalg.cholesky(np.linalg.inv(S0 + around.T @ around))
        z = rng.standard_normal((df, p)) @ scale.T
        precision = z.T @ z
        L = np.linalg.cholesky(0.5 * np.linalg.inv(precision))
        for j in range(m):
            proposed = beta[j] + L @ rng.standard_normal(p)
            eta = X @ proposed
            new = float(Y[j] @ eta - np.exp(eta).sum())
            here, there = beta[j] - theta, proposed - theta
            ratio = new - likelihood[j] + 0.5 * float(here @ precision @ here - there @ precision @ there)
            if np.log(rng.random()) < ratio:
                beta[j], likelihood[j] = proposed, new
        if s % THIN == THIN - 1:
            kept[s // THIN] = theta
    return kept

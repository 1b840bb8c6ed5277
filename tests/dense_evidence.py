"""Exact evidence of small Gaussian models with known standard errors: the oracle of cross-validation and of bridging.

y ~ N(X beta, sd² Z Z' + diag(se²)), beta ~ N(0, scale²), sd ~ HalfNormal(width): beta and the groups are integrated in
closed form, sd by Gauss-Legendre's rule on a finite interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

import bayou
from bayou.priors import HalfNormal, Normal

LOG_2PI = np.log(2.0 * np.pi)


@dataclass(frozen=True, eq=False)
class Problem:
    """Data of one such model; ``nested`` adds levels within the groups, with an sd of the same prior."""

    y: np.ndarray
    se: np.ndarray
    X: np.ndarray
    groups: np.ndarray
    nested: np.ndarray | None = None
    scale: float = 2.0
    width: float = 1.0

    @property
    def data(self) -> dict[str, np.ndarray]:
        out = {"y": self.y, "se": self.se, "x": self.X[:, 1], "g": np.array([f"g{k:02d}" for k in self.groups])}
        if self.nested is not None:
            out["c"] = np.array([f"c{k:02d}" for k in self.nested])
        return out

    def model(self) -> bayou.Model:
        bars = "(1 | g)" if self.nested is None else "(1 | g) + (1 | c)"
        priors = {"beta": Normal(0.0, self.scale), "sd": HalfNormal(self.width)}
        return bayou.Model(f"measured(y, se) ~ x + {bars}", self.data, priors=priors)

    def log_evidence(self, rows: np.ndarray | None = None) -> float:
        """log p(y of these rows), all rows by default."""
        own = np.arange(len(self.y)) if rows is None else np.asarray(rows)
        nodes, weights = np.polynomial.legendre.leggauss(60)
        end = 6.0 * self.width
        sds, logs = 0.5 * end * (nodes + 1.0), np.log(0.5 * end * weights)
        prior = 0.5 * np.log(2.0 / np.pi) - np.log(self.width) - 0.5 * np.square(sds / self.width) + logs
        X = self.X[own]
        base = np.diag(np.square(self.se[own])) + self.scale**2 * X @ X.T
        same = (self.groups[own][:, None] == self.groups[own]).astype(float)
        if self.nested is None:
            return float(logsumexp([p + self._normal(own, base + s**2 * same) for s, p in zip(sds, prior, strict=True)]))
        inner = (self.nested[own][:, None] == self.nested[own]).astype(float)
        terms = [
            p + q + self._normal(own, base + s**2 * same + t**2 * inner)
            for s, p in zip(sds, prior, strict=True)
            for t, q in zip(sds, prior, strict=True)
        ]
        return float(logsumexp(terms))

    def _normal(self, own: np.ndarray, V: np.ndarray) -> float:
        y = self.y[own]
        return float(-0.5 * (len(y) * LOG_2PI + np.linalg.slogdet(V)[1] + y @ np.linalg.solve(V, y)))

    def without(self, rows: np.ndarray) -> float:
        """log p(y of these rows | all others)."""
        others = np.setdiff1d(np.arange(len(self.y)), rows)
        return self.log_evidence() - self.log_evidence(others)


def problem(seed: int = 3, groups: int = 6, rows: int = 4, nested: int = 0, far: float = 0.0) -> Problem:
    """Data from the model; ``far`` is added to the covariate of the first row, which then has leverage."""
    rng = np.random.default_rng(seed)
    n = groups * rows
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=n)
    x[0] += far
    se = rng.uniform(0.4, 0.9, n)
    y = 0.5 + 0.7 * x + rng.normal(size=groups)[g] + se * rng.normal(size=n)
    c = None
    if nested:
        c = g * nested + np.tile(np.arange(rows) % nested, groups)
        y = y + 0.7 * rng.normal(size=groups * nested)[c]
    return Problem(y, se, np.column_stack([np.ones(n), x]), g, c)

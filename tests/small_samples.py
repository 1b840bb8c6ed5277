"""Tables for tests of fixed effects in small samples."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayou.fitting import Fit
from bayou.inference.supported import covariances
from dense_likelihood import DenseFit, Parameters, gls


def split_plot() -> pd.DataFrame:
    """Six blocks, three whole plots of management each, four sub-plots of seed; a fifth of the rows are lost.

    The numbers of R in the tests are for this table, written to a file with all its digits.
    """
    rng = np.random.default_rng(20_11)
    block, plot, seed = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(3), np.arange(4), indexing="ij"))
    management = (plot + block) % 3
    eta = 10 + np.array([0, 1.2, -0.6])[management] + np.array([0, 0.4, 0.8, -0.5])[seed]
    between = rng.normal(0, 1.0, 6)[block] + rng.normal(0, 0.8, (6, 3))[block, plot]
    y = eta + between + rng.normal(0, 0.7, len(block))
    x = rng.normal(size=len(block))
    keep = rng.random(len(block)) > 0.2
    table = pd.DataFrame(
        {
            "y": (y + 0.3 * x).round(3),
            "x": x.round(3),
            "block": block,
            "management": np.array(["a_none", "b_graze", "c_mow"])[management],
            "seed": np.array(["s1", "s2", "s3", "s4"])[seed],
        }
    )
    return table[keep].reset_index(drop=True)


def crossed() -> dict[str, np.ndarray]:
    """Two crossed factors, a correlated slope on one, weights, few rows."""
    rng = np.random.default_rng(3)
    n = 60
    a, b, x, w = rng.integers(0, 7, n), rng.integers(0, 5, n), rng.normal(size=n), rng.uniform(0.5, 3.0, n)
    u = rng.normal(size=(7, 2)) @ np.array([[1.0, 0.3], [0.0, 0.7]])
    y = 1.0 + x + u[a, 0] + x * u[a, 1] + 0.8 * rng.normal(size=5)[b] + rng.normal(size=n) / np.sqrt(w)
    return {"y": y, "x": x, "z": rng.integers(0, 3, n), "a": a, "b": b, "w": w}


def dense_fit(fit: Fit) -> DenseFit:
    """The same estimates for dense matrices."""
    Sigma, sigma = covariances(fit.model, fit.result.estimates)
    beta, inverse = gls(fit.model, Sigma, np.array([sigma]))
    theta = Parameters(fit.model).pack(Sigma, np.array([sigma]))
    return DenseFit(beta, inverse, Sigma, np.array([sigma]), np.nan, np.zeros(0), theta)

"""Lip cancer in Scotland on the connected graph: empirical Bayes by Laplace-REML, to the printed digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.engines import Laplace
from golden import close, printed

FORMULA = "y ~ x10 + icar(area, graph=W, scale=False) + offset(log(E))"


@pytest.fixture(scope="module")
def scotland() -> dict[str, Any]:
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not (folder / "scotland_geobugs.csv").is_file():
        pytest.skip("needs ../shared (reference numbers and data), which is not beside this clone")
    table = pd.read_csv(folder / "scotland_geobugs.csv")
    data = {
        "y": table["O"].to_numpy(),
        "E": table["E"].to_numpy(),
        "x10": table["X"].to_numpy() / 10.0,
        "area": table["district"].to_numpy(),
    }
    edges = pd.read_csv(folder / "scotland_adjacency_edges_stan_connected.csv").to_numpy()
    return {"data": data, "structures": {"W": edges}}


def test_laplace_reml(scotland: dict[str, Any]) -> None:
    fit = bayou.fit(FORMULA, scotland["data"], family="poisson", engine=Laplace(reml=True), seed=1,
                    structures=scotland["structures"])  # fmt: skip
    found = fit.result.estimates
    assert found is not None
    assert found.converged
    at = dict(zip(found.rows, found.estimate, strict=True))
    errors = dict(zip(found.rows, found.se, strict=True))
    printed(at["beta[Intercept]"], "-0.177", "intercept")
    printed(errors["beta[Intercept]"], "0.117", "its error")
    printed(at["beta[x10]"], "0.357", "slope")
    printed(errors["beta[x10]"], "0.123", "its error")
    printed(at["sd_area"], "0.728", "sd")


def test_scaled_is_the_same_fit(scotland: dict[str, Any]) -> None:
    """Scaling divides the sd by a constant, and leaves everything else as it is."""
    fits = [
        bayou.fit(text, scotland["data"], family="poisson", engine=Laplace(reml=True), seed=1,
                  structures=scotland["structures"])
        for text in (FORMULA, FORMULA.replace(", scale=False", ""))
    ]  # fmt: skip
    one, two = (fit.result.estimates for fit in fits)
    np.testing.assert_allclose(one.estimate[:2], two.estimate[:2], rtol=1e-6)
    np.testing.assert_allclose(one.se[:2], two.se[:2], rtol=1e-5)
    close(two.estimate[2], 0.507, 1e-3, "scaled sd")  # .728 times the factor .697, both as printed
    assert abs(one.log_likelihood - two.log_likelihood) < 1e-7


def test_group_effects_sum_to_zero(scotland: dict[str, Any]) -> None:
    fit = bayou.fit(FORMULA, scotland["data"], family="poisson", engine=Laplace(reml=True), seed=1,
                    structures=scotland["structures"])  # fmt: skip
    mode, error = fit.result.estimates.group_effects("area")
    assert mode.shape == error.shape == (56,)
    assert abs(mode.sum()) < 1e-8
    assert (error > 0.0).all()
    draws = fit.result.draws["f_area"]
    assert np.abs(draws.sum(axis=-1)).max() < 1e-8
    np.testing.assert_allclose(draws.mean(axis=(0, 1)), mode, atol=5.0 * error.max() / np.sqrt(4000))
    np.testing.assert_allclose(draws.std(axis=(0, 1)), error, rtol=0.06)

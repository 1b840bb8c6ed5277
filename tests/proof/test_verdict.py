"""How often the verdict is wrong: false alarms over converged runs, and faults that it does not see.

Runs are made of chains whose truth is known: six rows of a summary and twelve group coefficients, each an
autoregressive chain, of which one row is spoilt. Real fits are among the converged ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bayou
from bayou.posterior import Posterior
from bayou.verdict import examine, judge
from standins import model, posterior

RUNS, CHAINS, DRAWS, ROWS = 200, 4, 1000, 6
MODEL = model("gaussian")
Array = np.ndarray


def slow(*values: float) -> Any:
    """A case for the slow tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


def autoregressive(rng: np.random.Generator, draws: int, columns: int, rho: float) -> Array:
    """Stationary standard normal chains (chain, draw, column)."""
    x = rng.normal(size=(CHAINS, draws, columns))
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1.0 - rho**2) * x[:, t]
    return x


def result_of(z: Array) -> Posterior:
    """A result with these draws: beta twice, sd twice, a correlation, sigma, then twelve group coefficients."""
    result = posterior(MODEL, chains=z.shape[0], draws=z.shape[1])
    draws = result.draws
    draws["beta"] = z[..., :2]
    draws["sd_clinic"] = np.exp(0.3 * z[..., 2:4])
    cor = np.broadcast_to(np.eye(2), (*z.shape[:2], 2, 2)).copy()
    cor[..., 0, 1] = cor[..., 1, 0] = np.tanh(0.3 + 0.3 * z[..., 4])
    draws["cor_clinic"] = cor
    draws["sigma"] = np.exp(0.1 * z[..., 5])
    draws["b_clinic"] = z[..., ROWS:].reshape(*z.shape[:2], 6, 2)
    return result


def alarm(result: Posterior) -> bool:
    return not judge(result, examine(result)).ok


def rate(make: Callable[[np.random.Generator], Array], runs: int = RUNS) -> float:
    """Share of runs with an alarm."""
    rng = np.random.default_rng(11)
    return float(np.mean([alarm(result_of(make(rng))) for _ in range(runs)]))


# ---- false alarms -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draws", "rho"),
    [(500, 0.0), slow(1000, 0.0), slow(1000, 0.5), slow(2000, 0.7), slow(1000, -0.5)],
    ids=lambda value: str(value),
)
def test_false_alarms_over_converged_runs(draws: int, rho: float) -> None:
    """Effective sizes from 1,300 up: at most 2 % (4 of 200)."""
    assert rate(lambda rng: autoregressive(rng, draws, ROWS + 12, rho)) <= 0.02


@pytest.mark.slow
def test_false_alarms_over_converged_runs_that_mix_slowly() -> None:
    """890 effective draws, twice the bar of 400."""
    assert rate(lambda rng: autoregressive(rng, 2000, ROWS + 12, 0.8)) <= 0.02


@pytest.mark.slow
def test_false_alarms_over_real_fits() -> None:
    """Forty fits of data from the model, with the default settings of the engines: none but one at most."""
    rng = np.random.default_rng(12)
    alarms = []
    for i in range(40):
        levels, rows = 10, 8
        g = np.repeat(np.arange(levels), rows)
        x = rng.normal(size=levels * rows)
        eta = 0.5 + 0.5 * x + 0.8 * rng.normal(size=levels)[g]
        data = {"g": g, "x": x, "y": eta + rng.normal(size=len(g)), "k": rng.poisson(np.exp(eta))}
        cases = (("y ~ x + (x | g)", "gaussian", "gibbs"), ("k ~ x + (1 | g)", "poisson", "metropolis"))
        formula, family, engine = cases[i % 2]
        fit = bayou.fit(formula, data, family, engine=engine, seed=i, progress=False)
        if not fit.verdict.ok:
            alarms.append(f"{formula}, seed {i}: {fit.verdict.line}")
    assert len(alarms) <= 1, alarms


# ---- faults that must be seen -------------------------------------------------------------------


def spoilt(change: Callable[[Array, np.random.Generator], Array], rows: int = ROWS) -> float:
    """Share of alarms when one of the first rows, taken at random, is changed."""

    def make(rng: np.random.Generator) -> Array:
        z = autoregressive(rng, DRAWS, ROWS + 12, 0.3)
        k = int(rng.integers(rows))
        z[:, :, k] = change(z[:, :, k].copy(), rng)
        return z

    return rate(make)


def stuck(share: float) -> Callable[[Array, np.random.Generator], Array]:
    """One chain stays where it is for that share of its draws."""

    def change(x: Array, rng: np.random.Generator) -> Array:
        n = round(share * DRAWS)
        first = int(rng.integers(DRAWS - n + 1))
        chain = int(rng.integers(CHAINS))
        x[chain, first : first + n] = x[chain, first]
        return x

    return change


def moved(by: float, times: float = 1.0) -> Callable[[Array, np.random.Generator], Array]:
    """One chain is elsewhere, or wider, in posterior sds."""

    def change(x: Array, rng: np.random.Generator) -> Array:
        chain = int(rng.integers(CHAINS))
        x[chain] = by + times * x[chain]
        return x

    return change


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_stuck_chains_are_seen(share: float) -> None:
    assert spoilt(stuck(share)) >= 0.95


@pytest.mark.parametrize("rate_of_acceptance", [0.0, 0.01])
def test_stuck_groups_are_seen(rate_of_acceptance: float) -> None:
    rng = np.random.default_rng(13)
    seen = []
    for _ in range(RUNS):
        result = result_of(autoregressive(rng, 500, ROWS + 12, 0.3))
        result.group_statistics["acceptance_clinic"][rng.integers(CHAINS), rng.integers(6)] = rate_of_acceptance
        seen.append(alarm(result))
    assert np.mean(seen) >= 0.95


@pytest.mark.parametrize("by", [1.0, slow(0.5), slow(2.0)])
def test_shifted_chains_are_seen(by: float) -> None:
    assert spoilt(moved(by)) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("times", [1.5, 2.0])
def test_wider_chains_are_seen(times: float) -> None:
    assert spoilt(moved(0.0, times)) >= 0.95


@pytest.mark.slow
def test_chains_that_still_drift_are_seen() -> None:
    assert spoilt(lambda x, rng: x + np.linspace(0.0, 1.5, DRAWS)) >= 0.95


@pytest.mark.slow
def test_shifted_group_coefficients_are_seen() -> None:
    """One coefficient of one group a posterior sd away in one chain."""

    def make(rng: np.random.Generator) -> Array:
        z = autoregressive(rng, DRAWS, ROWS + 12, 0.3)
        z[rng.integers(CHAINS), :, ROWS + rng.integers(12)] += 1.0
        return z

    assert rate(make) >= 0.95


@pytest.mark.parametrize(
    ("draws", "rho"), [(3, 0.0), (50, 0.3), slow(50, 0.0), slow(100, 0.3), slow(200, 0.5), slow(300, 0.8)]
)
def test_short_chains_are_seen(draws: int, rho: float) -> None:
    """Up to 270 effective draws."""
    assert rate(lambda rng: autoregressive(rng, draws, ROWS + 12, rho)) >= 0.95


def heavy(df: float) -> Callable[[Array, np.random.Generator], Array]:
    """Independent draws of Student's t."""
    return lambda x, rng: rng.standard_t(df, size=x.shape)


def test_heavy_tailed_chains_are_seen() -> None:
    """A posterior without a mean: the mean and sd of the summary are those of its few largest draws."""
    assert spoilt(heavy(1.0), rows=2) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("df", [3.0, 5.0])
def test_tails_with_a_variance_are_no_alarm(df: float) -> None:
    assert spoilt(heavy(df), rows=2) <= 0.02


@pytest.mark.slow
def test_chains_with_heavier_tails_than_the_others_are_seen() -> None:
    """One chain of four is Cauchy."""

    def change(x: Array, rng: np.random.Generator) -> Array:
        x[rng.integers(CHAINS)] = 2.0 * rng.standard_cauchy(DRAWS)
        return x

    assert spoilt(change, rows=2) >= 0.95

"""The choice between samplers of crossed factors: what a pass costs, and what a scan is worth to the sds."""

from dataclasses import replace

import numpy as np
import pytest

import bayou
from bayou.engines import Gibbs
from bayou.engines.crossed.choice import choose, collapses, dense_cost, heard, lay_out_state, visits
from bayou.engines.crossed.layout import crossed
from bayou.posterior.convergence import effective_size
from bayou.priors import StudentT


def table(n, J, K, slope, seed=1):
    """Levels at random; slopes of g in x, u and v, none of h."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, J, n), rng.integers(0, K, n)
    x, u, v = rng.normal(size=(3, n))
    y = 1.0 + 0.5 * rng.normal(size=J)[g] + 0.4 * rng.normal(size=K)[h] + rng.normal(size=n)
    for column in (x, u, v):
        y += slope * rng.normal(size=J)[g] * column
    return {"y": y, "g": g, "h": h, "f": rng.integers(0, 9, n), "x": x, "u": u, "v": v, "s": np.arange(n) % 2}


WEAK = "y ~ x + u + (x + u + v | g) + (1 | h)", table(3000, 500, 100, 0.05)
STRONG = "y ~ x + u + (x + u + v | g) + (1 | h)", table(4000, 200, 100, 0.5)
BOTH = "y ~ x + u + (x + u | g) + (x + u | h)", table(4000, 400, 80, 0.1)


def chosen(formula, data):
    model = bayou.Model(formula, data)
    target, rows = crossed(model)
    return choose(model, target, rows)[0]


def test_what_an_entry_costs():
    """The short way is for two factors of an intercept each and one sigma."""
    data = table(300, 20, 10, 0.3)
    for formula, settings, expected in [
        ("y ~ 1 + (1 | g) + (1 | h)", {}, 1.0),
        ("y ~ 1 + (1 | g) + (1 | h)", {"sigma_by": "s"}, 2.0),
        ("y ~ 1 + (1 | g) + (1 | h) + (1 | f)", {}, 4.0),
        ("y ~ x + (x | g) + (1 | h)", {}, 7.0),
    ]:
        assert visits(crossed(bayou.Model(formula, data, **settings))[0]) == expected


def test_what_is_collapsed_is_what_gibbs_collapses():
    data = table(300, 12, 10, 0.3)
    awkward = {"beta[x]": StudentT(4, 0, 1)}
    for formula, priors in [
        ("y ~ x + (x + u | g) + (1 | h)", {}),  # 8 numbers
        ("y ~ x + (x + u + v | g) + (1 | h)", {}),  # 12
        ("y ~ x + (1 | g) + (1 | h)", awkward),
    ]:
        model = bayou.Model(formula, data, priors=priors)
        method = Gibbs().prepare(model).method
        assert method.startswith("collapsed") == collapses(crossed(model)[0]), method


def test_how_much_of_a_coefficient_comes_from_its_rows():
    """Least over the columns, here of one factor whose levels have n_j rows: mean of n_j / (n_j + sigma² / sd²)."""
    data = table(500, 30, 10, 0.3)
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", data)
    target, rows = crossed(model)
    state = lay_out_state(model, target, 1.0)
    state.sigma[:] = 0.8
    sds = {"g": 0.5, "h": 0.02}
    shares = []
    for k, position in enumerate(rows.order):
        name = model.design.groupings[position].name
        state.Q[k, 0, 0] = 1.0 / sds[name] ** 2
        n = np.bincount(data[name])
        shares.append((n / (n + 0.8**2 / sds[name] ** 2)).mean())
    assert heard(target, state) == pytest.approx(min(shares))


def test_a_scan_that_is_worth_less_costs_more():
    target, _ = crossed(bayou.Model(*WEAK))
    assert dense_cost(target, 103, 0.01) == pytest.approx(dense_cost(target, 103, 1.0) * 100.0)


def test_slopes_that_the_rows_hardly_tell_of_are_not_drawn_given_the_coefficients():
    """By a dense matrix a scan costs a quarter of the time, and their sds stay where they were."""
    assert chosen(*WEAK).name == "crossed"
    assert chosen(*BOTH).name == "crossed"  # and joint draws, of slopes, cost more than all sweeps that they save
    assert chosen(*STRONG).name == "dense"


@pytest.mark.slow
@pytest.mark.parametrize("data", [WEAK, STRONG, BOTH], ids=["weak", "strong", "weak in both"])
def test_the_choice_is_not_much_worse_for_the_sds(data):
    """Effective draws of the worst sd per second, with and without a dense matrix: no less than half of the best."""
    model = bayou.Model(*data)
    way = chosen(*data)
    effective = {}
    for name, parameterization in (("crossed", "crossed"), ("dense", "blocked")):
        engine = Gibbs(parameterization=parameterization, draws=3000, warmup=500, chains=1, keep_effects=False)
        model.fit(replace(engine, draws=5, warmup=5), seed=1)  # so that nothing is left to compile
        fit = model.fit(engine, seed=1)
        sds = np.concatenate([fit.result.draws[f"sd_{g.name}"][0].T for g in model.design.groupings])
        effective[name] = float(effective_size(sds[:, None, :]).min()) / fit.result.info["seconds"]
    assert effective[way.name] > 0.5 * max(effective.values()), effective

"""The choice of the system, said in words, and large models in bounded memory."""

import tracemalloc

import numpy as np
import pytest

import bayou
from bayou.conditional import structure as rules
from bayou.conditional.choice import likelihood_of
from bayou.conditional.keystone import conditional
from bayou.conditional.sparse_laplace import SparseLaplace
from bayou.errors import Unsupported


def nested(outer, inner, rows=1, family="poisson", seed=1):
    rng = np.random.default_rng(seed)
    n = outer * inner * rows
    a, b = np.repeat(np.arange(outer), inner * rows), np.repeat(np.arange(outer * inner), rows)
    x = rng.normal(size=n)
    eta = 0.5 + 0.3 * x + 0.5 * rng.normal(size=outer)[a] + 0.4 * rng.normal(size=outer * inner)[b]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else eta + 0.6 * rng.normal(size=n)
    data = {"y": y, "x": x, "a": [f"a{i:05}" for i in a], "b": [f"b{i:06}" for i in b]}
    return bayou.Model("y ~ x + (1 | a/b)", data, family=family)


def crossed(first, second, rows, family="poisson", seed=1):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, first, rows), rng.integers(0, second, rows)
    x = rng.normal(size=rows)
    eta = 0.5 + 0.3 * x + 0.5 * rng.normal(size=first)[a] + 0.4 * rng.normal(size=second)[b]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else eta + 0.6 * rng.normal(size=rows)
    data = {"y": y, "x": x, "a": a.astype(str), "b": b.astype(str)}
    return bayou.Model("y ~ x + (1 | a) + (1 | b)", data, family=family)


def plain(formula, **columns):
    return bayou.Model(formula, columns).structure


def test_kinds():
    rng = np.random.default_rng(1)
    y, g = rng.normal(size=40), np.repeat(np.arange(8), 5).astype(str)
    assert plain("y ~ 1", y=y).kind == "blocks"
    assert plain("y ~ 1 + (1 | g)", y=y, g=g).kind == "blocks"
    small = plain("y ~ 1 + (1 | g) + (1 | h)", y=y, g=g, h=rng.permutation(g))
    assert small.kind == "dense" and small.symbolic is None  # not even analysed
    assert nested(100, 4).structure.kind == "sparse"
    assert crossed(300, 100, 6_000).structure.kind == "dense"  # every level joins many others
    assert crossed(2_000, 500, 3_000).structure.kind == "sparse"


def test_counts_of_a_nested_model():
    """Each outer level stands beside the fixed effects alone: a diagonal and P rows."""
    found = nested(200, 3).structure
    assert (found.coefficients, found.columns, found.fixed) == (200 * 3 + 200 + 2, 202, 2)
    assert found.eliminated == ("a:b", 600, 1)
    assert found.symbolic.nnz == 3 * 200 + 3
    assert found.dense == pytest.approx(202**3 / 6)


def test_it_is_said_in_words():
    said = str(nested(200, 3).structure)
    for part in ("802 coefficients", "600 levels of a:b in blocks of 1", "202 columns", "sparse", "minimum degree",
                 "603 numbers", "multiplications", "kB"):  # fmt: skip
        assert part in said
    assert "dense Schur complement" in str(crossed(300, 100, 6_000).structure)
    assert "fixed effects" in str(plain("y ~ x", y=np.arange(9.0), x=np.arange(9.0) ** 2))


def test_it_is_computed_once():
    model = nested(100, 4)
    assert model.structure is model.structure
    one, other = likelihood_of(model), likelihood_of(model, True)
    assert isinstance(one, SparseLaplace)
    assert one.front is likelihood_of(model).front
    # the order of the effects is shared by both systems
    np.testing.assert_array_equal(one.front.symbolic.permutation, other.front.symbolic.permutation[:-2])


def test_beyond_every_factor(monkeypatch):
    monkeypatch.setattr(rules, "LARGEST_DENSE", 80)
    monkeypatch.setattr(rules, "LONGEST", 1e3)
    model = crossed(300, 100, 2_000)
    assert model.structure.kind == "iterative"
    assert "conjugate gradients" in str(model.structure) and "standard error" in str(model.structure)


def test_pql_says_what_it_cannot_take():
    model = nested(6_100, 1, rows=2)
    with pytest.raises(Unsupported, match="engine='laplace'"):
        bayou.engines.get("pql").run(model, np.random.default_rng(1))


@pytest.mark.parametrize("family", ["poisson", "gaussian"])
def test_ten_thousand_outer_levels_in_bounded_memory(family):
    """A dense Schur complement would take 800 MB; the rows and all that is made of them take less than a third."""
    rows = 1 if family == "poisson" else 2  # one row a level: of a Gaussian, its sd and sigma are one
    model = nested(10_000, 10, rows, family=family)
    engine = bayou.engines.get("laplace" if family == "poisson" else "reml")
    engine.run(nested(100, 5, rows, family=family), np.random.default_rng(1))  # the compiler's memory is not the model's
    tracemalloc.start()
    try:
        found = engine.run(model, np.random.default_rng(1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 250e6
    assert found.estimates.converged
    estimate = dict(zip(found.estimates.rows, found.estimates.estimate, strict=True))
    # five standard errors, each about sd / root(2 x levels) or a little more
    assert abs(estimate["beta[x]"] - 0.3) < 0.02
    assert abs(estimate["sd_a[Intercept]"] - 0.5) < 0.03
    assert abs(estimate["sd_a:b[Intercept]"] - 0.4) < 0.03


@pytest.mark.parametrize("engine", ["ml", "reml"])
def test_a_gaussian_model_by_rows_is_what_it_is_by_sums(engine, monkeypatch):
    model = nested(120, 4, 3, "gaussian")
    assert model.structure.kind == "sparse"
    both = []
    for answer in (False, True):
        monkeypatch.setattr(rules.Structure, "by_rows", lambda self, n, answer=answer: answer)
        both.append(bayou.engines.get(engine).run(model, np.random.default_rng(1)).estimates)
    sums, rows = both
    assert abs(sums.log_likelihood - rows.log_likelihood) < 1e-7
    np.testing.assert_allclose(rows.estimate, sums.estimate, rtol=0, atol=2e-5)
    np.testing.assert_allclose(rows.errors().se, sums.errors().se, rtol=1e-3)


def test_the_keystone_takes_the_structure():
    model = nested(100, 4)
    theta = {"sd_a": [0.5], "sd_a:b": [0.4]}
    found = conditional(model, theta, beta=[0.5, 0.3])
    dense = likelihood_of(model, kind="dense")
    T = np.array([[[0.4]], [[0.5]]])
    assert dense.place(dense.join(np.linalg.solve(model.working.to_printed, [0.5, 0.3]), T, np.ones(1)))
    np.testing.assert_allclose(found.log_marginal, dense.value(), rtol=1e-11)

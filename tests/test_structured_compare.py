"""Comparisons of models with structured effects: what is nested, and which likelihoods have a constant of their own."""

import numpy as np
import pandas as pd
import pytest

import bayou

RNG = np.random.default_rng(20_260_502)
N = 80
AREAS = [f"a{k}" for k in range(8)]
RING = [(AREAS[k], AREAS[k - 1]) for k in range(8)]
DATA = pd.DataFrame({"t": np.arange(N) % 20, "x": RNG.normal(size=N), "area": np.array(AREAS)[np.arange(N) % 8]})
DATA["y"] = np.sin(DATA["t"] / 3.0) + 0.4 * RNG.normal(size=N)


def fit(terms: str, engine: str = "ml", graph: object = RING) -> bayou.Fit:
    structures = {"W": graph} if "W" in terms else None
    return bayou.fit(f"y ~ {terms}", DATA, engine=engine, structures=structures, seed=1)


def test_an_effect_that_the_larger_model_lacks():
    table = bayou.compare(fit("x + rw1(t)"), fit("x + t + I(t**2)"))
    assert np.isnan(table["p"]).all()
    assert any("not nested, the smaller one has rw1(t), and the larger one does not" in note for note in table.notes)


def test_another_graph_is_another_effect():
    chain = RING[1:]
    table = bayou.compare(fit("1 + icar(area, graph=W)", graph=chain), fit("x + icar(area, graph=W)"))
    assert np.isnan(table["p"]).all() and "the smaller one has icar(area, graph=W)" in table.notes[0]
    same = bayou.compare(fit("1 + icar(area, graph=W)"), fit("x + icar(area, graph=W)"))
    assert np.isfinite(same["p"].iloc[1])


def test_one_sd_more_is_at_its_border():
    small, large = fit("x"), fit("x + rw1(t)")
    table = bayou.compare(small, large)
    ratio = 2.0 * (large.log_likelihood - small.log_likelihood)
    assert ratio > 1.0 and table["chi_squared"].iloc[1] == pytest.approx(ratio)
    assert table["p"].iloc[1] == pytest.approx(0.5 * table["p_naive"].iloc[1])
    assert "a variance is zero in the smaller model" in table.notes[0]


def test_a_correlation_that_means_nothing_at_zero():
    table = bayou.compare(fit("x"), fit("x + ar1(t)"))
    assert table["p"].iloc[1] == table["p_naive"].iloc[1] and "too large" in table.notes[0]


def test_free_lines_have_a_constant_of_their_own():
    table = bayou.compare(fit("x"), fit("x + rw2(t)"))
    assert np.isnan(table["p"]).all()
    assert any("neither AIC nor BIC" in note and "rw2(t)" in note for note in table.notes)
    assert any("rw2(t) of the larger one leaves a part free" in note for note in table.notes)
    both = bayou.compare(fit("1 + rw2(t)"), fit("x + rw2(t)"))
    assert np.isfinite(both["p"].iloc[1]) and not any("AIC" in note for note in both.notes)


def test_evidence_of_free_lines_is_left_out_and_said():
    inla = bayou.engines.INLA(correct=False)
    walk, line = (bayou.fit(f"y ~ x + {term}", DATA, engine=inla, seed=1) for term in ("rw1(t)", "rw2(t)"))
    assert "up to a constant: the prior of rw2(t) leaves a part flat" in str(line)
    assert "up to a constant" not in str(walk)
    table = bayou.compare(walk, line)
    assert np.isnan(table["log_marginal"]).all() and "rw2(t)" in table.attrs["notes"][0]
    other = bayou.fit("y ~ 1 + rw2(t)", DATA, engine=inla, seed=1)
    assert np.isfinite(bayou.compare(line, other)["log_marginal"]).all()

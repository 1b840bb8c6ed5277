"""What is printed of structured effects and of approximations, and what they are asked for."""

import numpy as np
import pytest

import bayou
import structured_models as models
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit
from bayou.fitting.structures import structure_lines
from bayou.posterior import Posterior
from bayou.verdict import examine, judge


@pytest.fixture(scope="module")
def plain():
    return Fit(models.posterior(draws=600))


@pytest.fixture(scope="module")
def densities(plain):
    return Fit(models.approximated(plain.result))


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("rw2(t)", "rw2(t): 24 times from 0 to 23, sums to zero, scaled"),
        ("rw1(t, cyclic=True, scale=False)", ": 24 times from 0 to 23, cyclic, sums to zero, not scaled"),
        ("rw1(t, constrained=False)", ": 24 times from 0 to 23, no constraint, scaled"),
        ("ar1(t, by=g)", ": 24 times from 0 to 23, a copy for each of 3 levels of g"),
        ("seasonal(t, period=4)", ": 24 times from 0 to 23, period 4"),
        ("s(u)", ": 20 B-splines of degree 3 from"),
        ("bym2(area, graph=W)", ": 6 areas, 6 edges, connected, sums to zero, scaled"),
        ("leroux(area, graph=W)", ": 6 areas, 6 edges, connected"),
        ("(1 | animal, covariance=A)", ": 4 levels of known covariance"),
    ],
)
def test_each_structure_is_described(term, words):
    model = models.model(f"y ~ x + {term}")
    lines = structure_lines(model)
    assert len(lines) == 1 and words in lines[0]
    assert f"Effects   {lines[0]}" in str(model) and words.split(",")[0].lstrip(": ") in model._repr_html_()


def test_parts_and_islands_are_counted():
    edges = [("a", "b"), ("c", "d"), ("d", "e")]
    W = (list("abcdef"), edges)
    model = bayou.Model("y ~ icar(area, graph=W)", models.data(), "poisson", structures={"W": W})
    assert "6 areas, 3 edges, 3 parts, 1 island, sums to zero in each of 2 parts, scaled" in structure_lines(model)[0]


def test_a_fit_has_a_block_of_structured_effects(plain):
    text = str(plain)
    blocks = [line for line in text.splitlines() if line in ("Group level", "Structured effects", "Population level")]
    assert blocks == ["Group level", "Structured effects", "Population level"]
    part = text.split("Structured effects")[1].split("Population level")[0]
    assert all(name in part for name in ("sd_t", "sd_area", "phi_area", "R-hat")) and "sd_h" not in part
    assert "sd_h[Intercept]" in text.split("Structured effects")[0]
    html = plain._repr_html_()
    assert "<h4>Structured effects</h4>" in html and "phi_area" in html and "24 times from 0 to 23" in html


def test_a_model_without_structures_prints_as_before():
    model = bayou.Model("y ~ x + (1 | h)", models.data(), "poisson")
    assert "Effects" not in str(model) and structure_lines(model) == []


def test_an_approximation_prints_its_engine_evidence_and_check(densities):
    text = str(densities)
    assert "variational, 2 nodes; 1,200 joint draws, 0.50 s" in text
    assert "Evidence  log marginal likelihood -321.50 ± 0.02" in text
    assert "R-hat" not in text and "ESS" not in text and "warm-up" not in text
    assert text.splitlines()[0] == "bayou fit"
    assert "Verdict: ok. Self-check: the exact posterior is at most 0.03 posterior sd from the approximation; " in text
    assert "812 effective draws of the importance weights; k-hat 0.31." in text
    assert "Evidence" in densities._repr_html_()


@pytest.mark.parametrize(
    ("check", "ok", "words"),
    [
        ({"k_hat": 0.83}, True, "k-hat 0.83"),
        ({"k_hat": 0.83, "ok": False}, False, "k-hat is 0.83"),
        ({"effective_size": 120.0, "ok": False}, False, "only 120 effective draws"),
        ({"shift": 0.9, "ok": False}, False, "0.9 posterior sd away"),
        ({"shift": 0.4}, True, "off by up to 0.4 posterior sd; the answer is corrected"),
        ({"shift": 0.4, "corrected": False}, True, "not corrected for that"),
    ],
)
def test_the_verdict_of_the_self_check(check, ok, words):
    po = models.approximated(**check)
    verdict = judge(po, examine(po))
    assert verdict.ok is ok and words in str(verdict)
    if not ok:
        assert "engine='auto'" in verdict.line and str(Fit(po)).startswith("Verdict: NOT OK")


def test_an_answer_that_went_on_by_chain_is_judged_as_one():
    before = models.posterior(draws=900)
    po = models.approximated(before, ok=False, k_hat=0.95, continued=True)
    po.info["messages"] = ["The self-check failed: k-hat. The answer is that of a Markov chain instead."]
    fit = Fit(po)
    assert fit.verdict.ok and "R-hat at most" in fit.verdict.figures
    assert any("Markov chain instead" in note for note in fit.verdict.notes)
    assert fit.summary().equals(Fit(before).summary()) and "Evidence" in str(fit) and "R-hat" in str(fit)
    assert len(fit.plot.trace("sd_t").axes) == 2
    po.draws["sd_t"][0] += 3.0
    assert not Fit(po).verdict.ok


def test_without_a_check_it_says_so():
    po = models.approximated()
    po.approximation.check.clear()
    verdict = judge(po, examine(po))
    assert verdict.ok and "was not checked" in verdict.figures


def test_densities_without_moments_are_named():
    po = models.approximated()
    po.approximation.marginals["sd_t"].moments = (np.inf, np.nan)
    verdict = judge(po, examine(po))
    assert not verdict.ok and "sd_t has no finite mean" in verdict.line


def test_effects_that_may_be_nothing_are_noted(plain):
    draws = dict(plain.result.draws)
    draws["sd_area"] = draws["sd_area"] * 0.01
    po = Posterior(plain.model, "StandIn()", draws, info=plain.result.info)
    notes = judge(po, examine(po)).notes
    assert any(note.startswith("sd_area may be zero") and "bym2(area, graph=W)" in note for note in notes)
    near = models.approximated(po)
    assert any(note.startswith("sd_area may be zero") for note in judge(near, examine(near)).notes)


def test_an_autoregression_that_may_be_a_walk_is_noted():
    po = models.posterior(models.model("y ~ ar1(t)"), draws=600)
    po.draws["rho_t"][:] = 0.995 + 0.004 * np.random.default_rng(1).random((2, 600))
    assert any("rho_t may be one" in note and "rw1(t)" in note for note in judge(po, examine(po)).notes)


def test_values_that_differ_between_chains_are_found():
    po = models.posterior(models.model("y ~ rw1(t, by=g)"), draws=1200)
    assert judge(po, examine(po)).ok
    po.draws["f_t:g"][1, :, 2, 7] += 5.0
    verdict = judge(po, examine(po))
    assert not verdict.ok and "f_t:g at 7 differs between chains" in verdict.line


# ---- what a fit is asked for ---------------------------------------------------------------


def test_structured_values_by_name(plain, densities):
    frame = plain.structured("t", interval=0.5)
    draws = plain.result.draws["f_t"]
    np.testing.assert_allclose(frame["lower"], np.quantile(draws.reshape(-1, 24), 0.25, axis=0))
    found = densities.result.approximation.effect("f_t")
    np.testing.assert_allclose(densities.structured("t")["sd"], found.sd)
    with pytest.raises(DataError, match="no structured effect 'h'"):
        plain.structured("h")
    with pytest.raises(DataError, match="interval"):
        plain.structured("t", interval=2)


def test_numbers_of_an_approximation(plain, densities):
    assert (densities.log_marginal, densities.dic, densities.waic) == (-321.5, 512.5, 514.0)
    assert densities.cpo.name == "cpo" and len(densities.pit) == 120 and (densities.pit == 0.5).all()
    for name in ("log_marginal", "dic", "waic", "cpo", "pit"):
        with pytest.raises(Unsupported, match=r"sampled by stand-in.*inla"):
            getattr(plain, name)
    for name in ("log_likelihood", "aic", "bic"):
        with pytest.raises(Unsupported, match=r"fit\.log_marginal"):
            getattr(densities, name)


def test_a_likelihood_engine_has_no_log_marginal():
    school = bayou.datasets.load("school")
    fit = bayou.fit("score ~ ses + (1 | school)", school, engine="ml", seed=1)
    with pytest.raises(Unsupported, match=r"log marginal likelihood integrates.*ML maximises"):
        _ = fit.log_marginal


def test_no_evidence_where_it_is_not_known(densities):
    from dataclasses import replace

    po = densities.result
    bare = Posterior(
        po.model, po.engine, po.draws, info=po.info, approximation=replace(po.approximation, log_marginal=np.nan)
    )
    assert "Evidence" not in str(Fit(bare))
    with pytest.raises(Unsupported, match="not known"):
        _ = Fit(bare).log_marginal


def test_components_and_tests_of_fixed_effects_work(plain, densities):
    assert list(plain.variance_components.index) == ["sd_h[Intercept]", "sd_t", "sd_area", "phi_area"]
    assert list(densities.fixed_effects.index) == ["Intercept", "x"]
    assert densities.fixed_effects["mean"].tolist() == densities.summary()["mean"][:2].tolist()
    assert plain.test("x = 0").p >= 0.0


def test_pooling_refuses_and_compare_takes_them(plain, densities):
    with pytest.raises(Unsupported, match=r"rw2\(t\), bym2\(area, graph=W\)"):
        bayou.pooling(plain.model)
    calm = {
        k: 0.1 * v if k[:2] in ("f_", "b_") else v + 1.0 if k == "beta" else v for k, v in plain.result.draws.items()
    }
    one = Fit(models.approximated(Posterior(plain.model, "A()", calm, info=plain.result.info)))
    two = Fit(models.approximated(Posterior(plain.model, "B()", calm, info=plain.result.info)))
    table = bayou.compare(one, two, names=["a", "b"])
    assert table["log_marginal"].tolist() == [-321.5, -321.5] and table["difference"].tolist() == [0.0, 0.0]

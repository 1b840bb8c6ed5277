"""Identical rows merged into one: nothing that is computed from the rows as given changes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.design import build
from bayou.errors import DataError, Unsupported
from bayou.predict.leave_out import leave_group_out, loo
from bayou.predict.loo import LogLikelihood
from bayou.predict.without import without
from bayou.streaming.aligned import aligned, same_response
from bayou.streaming.merged import can_merge, merged, saving
from bayou.streaming.table import Table
from merged_models import CASES, MIXED, Case, blocks, few_rows, injected, pair, table, with_own_priors

LIKELIHOOD = ("laplace", "quadrature")


def predictor(design, rng):
    """The linear predictor at random coefficients, the same for every design of the same columns."""
    eta = design.offset + design.X @ rng.normal(0.0, 0.5, design.X.shape[1])
    for g in design.groupings:
        eta = eta + np.sum(g.Z * rng.normal(0.0, 0.5, (len(g.levels), g.Z.shape[1]))[g.codes], axis=1)
    for term in design.structured:
        f = rng.normal(0.0, 0.5, (len(term.replicates), len(term.nodes)))
        np.add.at(eta, np.repeat(np.arange(design.n), np.diff(term.start)), term.value * f[term.replicate, term.node])
    return eta


def log_likelihood(design, seed):
    eta = predictor(design, np.random.default_rng(seed))
    values = design.family.log_density(design.y, eta, trials=design.trials, weights=design.weights)
    return float(np.sum(values)) + design.remainder.constant


# ---- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 1, 3])
def test_the_table_finds_what_a_sort_finds(rng, width):
    keys = rng.integers(-3, 4, (20_000, width)) * 2**40
    count = rng.integers(1, 5, 20_000)
    found = Table(width)
    places = np.concatenate([found.add(keys[:7], count[:7]), found.add(keys[7:], count[7:])])
    np.testing.assert_array_equal(found.words[places], keys)
    different = np.unique(keys, axis=0) if width else np.zeros((1, 0))
    assert len(found) == len(different)
    np.testing.assert_array_equal(found.counts, np.bincount(places, weights=count))
    # in the order in which they came first
    np.testing.assert_array_equal(np.unique(places, return_index=True)[1], np.sort(np.unique(places, return_index=True)[1]))


def test_the_table_grows(rng):
    keys = rng.integers(0, 2**62, (50_000, 2))
    found = Table(2)
    for part in np.array_split(keys, 9):
        found.add(part)
    again = found.add(keys)
    np.testing.assert_array_equal(again, np.arange(50_000))
    assert (found.counts == 2).all()


# ---- the same likelihood -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_log_likelihood_is_that_of_the_rows_as_given(name):
    whole, few = pair(name)
    assert few.design.n < whole.design.n / 4 and few.design.given == whole.design.n
    for seed in range(3):
        assert log_likelihood(few.design, seed) == pytest.approx(log_likelihood(whole.design, seed), rel=1e-12, abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_outcomes_and_exposures_add_up(name):
    whole, few = (model.design for model in pair(name))
    family = whole.family.name
    assert few.y.sum() == whole.y.sum()
    assert few.reduced.frequency.sum() == few.reduced.distinct.frequency.sum() == whole.n
    assert family == "poisson" or few.trials.sum() == whole.trials.sum()
    if family == "poisson":
        w = few.weights @ np.exp(few.offset)
        assert w == pytest.approx(whole.weights @ np.exp(whole.offset), rel=1e-12)
    if few.groupings:
        largest = max(few.groupings, key=lambda g: len(g.levels) * g.Z.shape[1])
        assert (np.diff(largest.codes) >= 0).all()


def test_rows_that_stand_for_themselves_stay_as_they_are():
    data = pd.DataFrame({"k": [0, 3, 1], "x": [0.1, 0.2, -0.0], "e": [0.3, 1e-3, 5.0]})
    whole = bayou.Model("k ~ x + offset(e)", data, family="poisson").design
    few = merged(whole, lambda: blocks(whole, data, 2))
    np.testing.assert_array_equal(few.offset, whole.offset)
    np.testing.assert_array_equal(few.y, whole.y)
    assert few.remainder.constant == 0.0


def test_zero_and_minus_zero_are_one_number():
    data = pd.DataFrame({"y": [0, 1, 1], "x": [0.0, -0.0, 1.0]})
    whole = bayou.Model("y ~ x", data, family="bernoulli").design
    assert merged(whole, lambda: blocks(whole, data, 2)).n == 2


def test_extreme_exposures_do_not_overflow():
    data = pd.DataFrame({"k": [2, 0, 1, 4], "x": [0, 0, 1, 1], "e": [800.0, 799.0, -800.0, -800.0]})
    whole = build("k ~ x + offset(e)", data, bayou.families.Poisson())  # a model would refuse them
    few = merged(whole, lambda: blocks(whole, data, 2))
    np.testing.assert_allclose(few.offset, [800.0 + np.log1p(np.exp(-1.0)), -800.0 + np.log(2.0)], rtol=1e-15)


def test_rows_may_come_counted():
    data = table()
    whole, few = (model.design for model in pair("exposure"))
    names = ["k", "a", "b", "e", "g"]
    counted = data.groupby(names, as_index=False).size()
    rows = whole.rebuild(counted, need_response=True)
    again = merged(whole, lambda: [(rows, counted["size"].to_numpy())])
    assert again.given == few.given and again.n == few.n
    assert log_likelihood(again, 1) == pytest.approx(log_likelihood(few, 1), rel=1e-13)


def test_a_few_rows_that_hold_every_level_serve_as_template():
    data, whole = table(), pair("text")[0].design
    first = data.groupby(["g", "arm", "answer"]).head(1)
    template = bayou.Model("answer ~ arm + (1 | g)", first, family="bernoulli").design
    few = merged(template, lambda: blocks(template, data))
    assert few.given == len(data) and few.coefficients == whole.coefficients
    assert log_likelihood(few, 4) == pytest.approx(log_likelihood(whole, 4), rel=1e-12)


# ---- engines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bernoulli", "trials", "exposure", "weighted counts", "text"])
@pytest.mark.parametrize("engine", LIKELIHOOD)
def test_likelihood_engines_find_the_same(name, engine):
    whole, few = pair(name)
    one, two = whole.fit(engine, seed=1), few.fit(engine, seed=1)
    assert two.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-7)
    assert two.aic == pytest.approx(one.aic, abs=1e-6) and two.bic == pytest.approx(one.bic, abs=1e-6)
    np.testing.assert_allclose(two.summary()["mean"], one.summary()["mean"], atol=1e-7)
    np.testing.assert_allclose(two.summary()["sd"], one.summary()["sd"], rtol=1e-6)


@pytest.mark.parametrize("name", ["slope", "crossed", "weights", "failures", "walk", "spline", "alone"])
def test_laplace_finds_the_same(name):
    whole, few = pair(name)
    one, two = whole.fit("laplace", seed=1), few.fit("laplace", seed=1)
    assert two.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(two.summary()["mean"], one.summary()["mean"], atol=1e-6)


def test_pql_finds_the_same_and_refuses_a_factor_on_the_variance():
    whole, few = pair("trials")
    one, two = whole.fit("pql", seed=1), few.fit("pql", seed=1)
    np.testing.assert_allclose(two.summary()["mean"], one.summary()["mean"], atol=1e-6)
    with pytest.raises(Unsupported, match="single rows"):
        few.fit(bayou.engines.PQL(dispersion="free"), seed=1)
    alone = pair("alone")
    assert alone[1].fit("pql").log_likelihood == pytest.approx(alone[0].fit("pql").log_likelihood, abs=1e-7)


@pytest.mark.parametrize("name", ["bernoulli", "trials", "exposure", "walk"])
def test_inla_finds_the_same(name):
    whole, few = pair(name)
    one, two = whole.fit("inla", seed=1), few.fit("inla", seed=1)
    # the self-check draws more for fewer rows: its weighted answers agree within their errors
    error = two.result.approximation.log_marginal_error + one.result.approximation.log_marginal_error
    assert two.log_marginal == pytest.approx(one.log_marginal, abs=max(1e-6, 4.0 * error))
    assert two.waic == pytest.approx(one.waic, abs=0.05) and two.dic == pytest.approx(one.dic, abs=0.05)
    sd = one.summary()["sd"]
    assert (np.abs(two.summary()["mean"] - one.summary()["mean"]) < 0.05 * sd).all()
    distinct = few.design.reduced.distinct
    np.testing.assert_array_equal(two.cpo.attrs["frequency"], distinct.frequency)
    assert float(distinct.frequency @ np.log(two.cpo)) == pytest.approx(float(np.log(one.cpo).sum()), abs=0.05)


@pytest.mark.parametrize("name", ["bernoulli", "exposure"])
def test_inla_without_its_check_is_the_same(name):
    whole, few = pair(name, 1500)
    engine = bayou.engines.INLA(correct=False)
    one, two = whole.fit(engine, seed=1), few.fit(engine, seed=1)
    assert two.log_marginal == pytest.approx(one.log_marginal, abs=1e-6)
    assert two.waic == pytest.approx(one.waic, abs=1e-5) and two.dic == pytest.approx(one.dic, abs=1e-5)
    np.testing.assert_allclose(two.summary()["mean"], one.summary()["mean"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["metropolis", "nuts"])
@pytest.mark.parametrize("name", ["bernoulli", "trials", "exposure", "weights"])
def test_samplers_find_the_same(name, engine):
    whole, few = pair(name)
    settings = {"draws": 2000, "warmup": 1000, "chains": 4, "progress": False}
    one, two = whole.fit(engine, seed=1, **settings), few.fit(engine, seed=2, **settings)
    a, b = one.summary(), two.summary()
    mcse = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
    assert (np.abs(a["mean"] - b["mean"]) < 4.5 * mcse).all()
    np.testing.assert_allclose(b["sd"], a["sd"], rtol=0.12)
    assert two.bridge(seed=1).value == pytest.approx(one.bridge(seed=1).value, abs=0.1)


@pytest.mark.parametrize("name", CASES)
def test_default_priors_are_those_of_the_rows_as_given(name):
    whole, few = pair(name)
    own = with_own_priors(few)
    assert own.bound.lines == whole.bound.lines
    np.testing.assert_allclose(own.bound.beta_mean, whole.bound.beta_mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(own.bound.beta_precision, whole.bound.beta_precision, rtol=1e-10, atol=1e-12)


# ---- cross-validation --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled():
    found = {}

    def of(name):
        if name not in found:
            whole, few = pair(name, 900)
            one = whole.fit("metropolis", draws=150, warmup=200, chains=2, seed=1, progress=False)
            found[name] = one, injected(one, few)
        return found[name]

    return of


@pytest.mark.parametrize("name", MIXED)
def test_leave_one_out_is_that_of_the_rows_as_given(sampled, name):
    one, two = sampled(name)
    a, b = loo(one.result, False), loo(two.result, False)
    assert b.elpd == pytest.approx(a.elpd, abs=1e-6) and b.se == pytest.approx(a.se, abs=1e-6)
    assert b.p == pytest.approx(a.p, abs=1e-6) and b.n_data_points == a.n_data_points == 900
    np.testing.assert_allclose(
        np.sort(np.repeat(b.elpd_i.values, b.rows)), np.sort(a.elpd_i.values), rtol=0, atol=1e-8
    )
    assert (b.table["rows"] == two.model.design.reduced.distinct.frequency).all()
    assert any("different ones" in note for note in b.notes)


@pytest.mark.parametrize("name", ["slope", "exposure", "weights", "crossed"])
def test_leave_one_group_out_is_that_of_the_rows_as_given(sampled, name):
    one, two = sampled(name)
    a, b = leave_group_out(one.result, "g", False), leave_group_out(two.result, "g", False)
    np.testing.assert_allclose(b.elpd_i.values, a.elpd_i.values, atol=1e-8)
    np.testing.assert_array_equal(b.rows, a.rows)
    assert b.p == pytest.approx(a.p, abs=1e-8)
    with pytest.raises(Unsupported, match="reduced to"):
        two.leave_group_out("a")


def test_rows_whose_weights_are_heavy_are_integrated_as_given():
    # few rows in many groups: the weights of most rows are heavy
    data = table(120, groups=30)
    whole = bayou.Model("k ~ a + (1 | g)", data, family="poisson")
    one = whole.fit("metropolis", draws=200, warmup=200, chains=2, seed=3, progress=False)
    two = injected(one, few_rows(whole, data))
    a, b = loo(one.result, False), loo(two.result, False)
    assert "integrated" in a.method and "integrated" in b.method
    assert b.elpd == pytest.approx(a.elpd, abs=1e-6) and b.se == pytest.approx(a.se, abs=1e-6)


def test_a_model_is_fitted_without_one_of_identical_rows():
    whole, few = pair("exposure", 900)
    distinct = few.design.reduced.distinct
    for i in (0, int(np.argmax(distinct.frequency)), len(distinct.row) - 1):
        less = without(few, np.array([i]), one=True).design
        like = np.flatnonzero(
            (whole.design.y == distinct.y[i])
            & (whole.design.offset == distinct.offset[i])
            & (whole.design.groupings[0].codes == few.design.groupings[0].codes[distinct.row[i]])
            & (whole.design.X == few.design.X[distinct.row[i]]).all(axis=1)
        )
        assert len(like) == distinct.frequency[i] and less.given == 899
        there = without(whole, like[:1]).design
        assert log_likelihood(less, 2) == pytest.approx(log_likelihood(there, 2), rel=1e-12)


def test_a_model_is_fitted_without_a_group():
    whole, few = pair("trials", 900)
    rows, kept = (np.flatnonzero(model.design.groupings[0].codes == 3) for model in (whole, few))
    less, there = without(few, kept).design, without(whole, rows).design
    assert less.given == there.n
    assert log_likelihood(less, 2) == pytest.approx(log_likelihood(there, 2), rel=1e-12)


def test_refits_of_leave_one_out_go_by_single_rows(sampled):
    one, two = sampled("trials")
    density = LogLikelihood(two.result)
    from bayou.predict.pending import Work

    n = len(density.frequency)
    k = np.zeros(n)
    k[4] = 9.0
    work = Work(two.result, np.zeros(n), k, 0.7, what="row")
    seen = []
    work.refit(True, [np.array([i]) for i in range(n)], lambda result, i: seen.append(result) or -1.5, 1, range(n), one=True)
    assert work.method[4] == "refit" and work.elpd[4] == -1.5
    # the draws are bound to the model of all rows, whose density is asked for
    assert seen[0].model is two.result.model


def test_the_tree_has_the_rows_as_given(sampled):
    one, two = sampled("bernoulli")
    group = two.posterior["log_likelihood"]
    frequency = group.coords["frequency"].values
    total = (group["y"] * group.coords["frequency"]).sum("row")
    np.testing.assert_allclose(total, one.posterior["log_likelihood"]["y"].sum("row"), rtol=1e-12)
    assert frequency.sum() == 900
    observed = two.posterior["observed_data"]["y"].values
    distinct = two.model.design.reduced.distinct
    np.testing.assert_allclose(
        np.bincount(group.coords["merged_row"].values, weights=distinct.y * frequency), observed
    )


# ---- comparison ----------------------------------------------------------------------------------


def fitted(formula, data, whole=True, engine="metropolis", **settings):
    model = bayou.Model(formula, data, family="bernoulli")
    if engine == "metropolis":
        settings = {"draws": 150, "warmup": 150, "chains": 2, "seed": 1, "progress": False}
    one = model.fit(engine, **settings)
    return one, injected(one, few_rows(model, data))


def test_comparison_by_elpd_counts_the_rows_as_given():
    data = table(900)
    fits = [fitted(f, data) for f in ("y ~ a + (1 | g)", "y ~ a + b + (1 | g)", "y ~ a * b * c + (1 | g)")]
    names = ["one", "two", "three"]
    by_rows = bayou.compare(*(f[0] for f in fits), names=names)
    for chosen in ((1, 1, 1), (0, 1, 1), (1, 0, 1)):
        found = bayou.compare(*(f[k] for f, k in zip(fits, chosen, strict=True)), names=names)
        pd.testing.assert_frame_equal(found, by_rows, atol=1e-6)


def test_a_difference_without_common_rows_has_no_error():
    data = table(900)
    fits = [fitted(f, data) for f in ("y ~ a + (1 | g)", "y ~ b + (1 | g)")]
    by_rows = bayou.compare(*(f[0] for f in fits), names=["one", "two"])
    found = bayou.compare(*(f[1] for f in fits), names=["one", "two"])
    np.testing.assert_allclose(found["difference"], by_rows["difference"], atol=1e-6)
    assert np.isnan(found["difference_se"].iloc[1]) and found["difference_se"].iloc[0] == 0.0
    assert any("difference_se" in note for note in found.attrs["notes"])


def test_comparison_by_likelihood():
    data = table(900)
    formulas = ("y ~ a", "y ~ a + (1 | g)", "y ~ a + b + (1 + a | g)")
    fits = []
    for formula in formulas:
        model = bayou.Model(formula, data, family="bernoulli")
        fits.append((model.fit("laplace", seed=1), few_rows(model, data).fit("laplace", seed=1)))
    one = bayou.compare(*(f[0] for f in fits))
    two = bayou.compare(*(f[1] for f in fits))
    pd.testing.assert_frame_equal(pd.DataFrame(two), pd.DataFrame(one), atol=1e-6)
    assert two.notes == one.notes
    other = table(900, seed=6)
    model = bayou.Model("y ~ b", other, family="bernoulli")
    with pytest.raises(DataError, match="another response"):
        bayou.compare(fits[0][1], few_rows(model, other).fit("laplace"))


def test_models_with_other_rows_have_no_bootstrap():
    data = table(900)
    fits = [few_rows(bayou.Model(f, data, family="bernoulli"), data).fit("laplace") for f in ("y ~ a", "y ~ a + b")]
    found = bayou.compare(*fits, bootstrap=5, seed=1)
    assert np.isnan(found["p_bootstrap"]).all() and any("no bootstrap" in note for note in found.notes)


def test_rows_are_told_by_the_columns_of_the_larger_model():
    data = table(900)
    designs = [bayou.Model(f, data, family="poisson").design for f in ("k ~ a", "k ~ a + b + x + (1 | g)", "k ~ c")]
    few = [merged(d, lambda d=d: blocks(d, data)) for d in designs]
    assert same_response(few[0], few[1]) and same_response(few[0], designs[1])
    at = aligned(few[1], few[0])
    one, other = few[1].reduced.distinct, few[0].reduced.distinct
    np.testing.assert_array_equal(one.y, other.y[at])
    np.testing.assert_array_equal(few[1].X[one.row][:, :2], few[0].X[other.row[at]])
    assert aligned(few[0], few[1]) is None and aligned(few[1], few[2]) is None
    assert aligned(designs[1], few[0]) is not None
    changed = replace(few[0], reduced=replace(few[0].reduced, distinct=replace(other, frequency=other.frequency[::-1])))
    assert aligned(few[1], changed) is None


# ---- what goes by rows ---------------------------------------------------------------------------


def test_predictions_and_residuals_are_of_merged_rows(sampled):
    one, two = sampled("bernoulli")
    design = two.model.design
    made = two.predict(kind="mean")
    assert len(made) == design.n
    first = design.reduced.distinct
    assert made["mean"].between(0, 1).all()
    whole = one.predict(kind="mean")["mean"].to_numpy()
    np.testing.assert_allclose(first.frequency @ made["mean"].to_numpy()[first.row], whole.sum(), rtol=1e-10)
    residuals = two.residuals("response").to_numpy()
    np.testing.assert_allclose(residuals.sum(), one.residuals("response").sum(), atol=1e-8)
    assert len(two.residuals("quantile", seed=1)) == design.n


def test_predictive_checks_of_merged_rows(sampled):
    for name in ("bernoulli", "exposure"):
        one, two = sampled(name)
        two.plot.predictive_check(draws=50, seed=1)
        whole = one.plot.predictive_check(by="g", statistic="mean", draws=60, seed=1)
        found = two.plot.predictive_check(by="g", statistic="mean", draws=60, seed=1)
        points = [
            np.sort(np.concatenate([line.get_xdata() for line in p.axes[0].lines if line.get_marker() == "o"]))
            for p in (whole, found)
        ]
        np.testing.assert_allclose(points[1], points[0], rtol=1e-12)
        with pytest.raises(Unsupported, match="statistic='mean'"):
            two.plot.predictive_check(by="g", statistic="max")


def test_prior_sensitivity_is_the_same(sampled):
    one, two = sampled("exposure")
    np.testing.assert_allclose(two.sensitivity().table["likelihood"], one.sensitivity().table["likelihood"], atol=1e-8)


# ---- what is refused -----------------------------------------------------------------------------


def test_other_families_do_not_merge():
    data = table(300)
    design = bayou.Model("x ~ a", data).design
    assert not can_merge(design.family) and saving(design, design.rebuild(data, need_response=True)) is None
    with pytest.raises(Unsupported, match="gaussian response do not add up"):
        merged(design, lambda: blocks(design, data))


def test_rows_that_all_differ_are_not_kept(rng):
    data = pd.DataFrame({"y": rng.integers(0, 2, 500), "x": rng.normal(size=500)})
    design = bayou.Model("y ~ x", data, family="bernoulli").design
    with pytest.raises(Unsupported, match="rows differ, more than the 100"):
        merged(design, lambda: blocks(design, data), most=100)
    assert not saving(design, design.rebuild(data, need_response=True)).worth


def test_an_unknown_level_is_an_error():
    data = table(300)
    design = bayou.Model("y ~ a + (1 | g)", data[data.g < 5], family="bernoulli").design
    first = int(np.flatnonzero(data.g >= 5)[0])
    with pytest.raises(DataError, match=f"no level of `g` in .*row {first}"):
        merged(design, lambda: blocks(design, data, 2))


def test_no_rows_are_an_error():
    design = bayou.Model("y ~ a", table(300), family="bernoulli").design
    with pytest.raises(DataError, match="0 rows"):
        merged(design, list)


@pytest.mark.slow
def test_many_rows_and_groups():
    data = table(20_000, groups=50, seed=9)
    case = Case("y ~ a + b + c + (1 | g)", "bernoulli")
    whole = bayou.Model(case.formula, data, family=case.family)
    few = few_rows(whole, data)
    assert few.design.n <= 400
    for engine in LIKELIHOOD:
        one, two = whole.fit(engine, seed=1), few.fit(engine, seed=1)
        assert two.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-7)
        np.testing.assert_allclose(two.summary()["mean"], one.summary()["mean"], atol=1e-7)


@pytest.mark.parametrize("name", ["slope", "exposure"])
def test_shares_of_variance_are_over_the_rows_as_given(sampled, name):
    one, two = sampled(name)
    pd.testing.assert_frame_equal(two.r2(), one.r2(), rtol=1e-10)
    pd.testing.assert_frame_equal(two.icc(), one.icc(), rtol=1e-10)


def test_a_new_response_makes_merged_rows_stand_for_themselves():
    from bayou.diagnose.calibration.truths import joined, new_response, with_response

    few = pair("bernoulli", 900)[1]
    rng = np.random.default_rng(2)
    design = few.design
    draws = {"beta": np.zeros((1, 1, 4)), "sd_g": np.ones((1, 1, 1)), "b_g": np.zeros((1, 1, 12, 1))}
    y = new_response(few, draws, rng)
    assert y.max() > 1 and (y <= design.trials).all()
    there = with_response(few, y)
    assert there.design.reduced is None and there.design.given == design.n
    assert with_response(joined(few), np.concatenate([design.y, y])).design.given == 2 * design.n

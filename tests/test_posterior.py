"""Names of rows and variables, the tree that ArviZ reads, pointwise log likelihood, derived numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bayou.errors import BayouError, DataError, FormulaError, UnsafeFormula, Unsupported
from bayou.posterior.posterior import coordinate, estimated_pairs, factor_names, file_name
from bayou.predict.derived import evaluate, residuals, variance_shares
from bayou.predict.leave_out import loo
from bayou.predict.loo import LogLikelihood, weighted
from standins import Grouping, model, posterior


def test_summary_rows_stand_in_the_order_of_the_contract() -> None:
    rows = list(posterior(model("gaussian")).rows)
    assert rows == [
        "beta[Intercept]",
        "beta[x]",
        "sd_clinic[Intercept]",
        "sd_clinic[x]",
        "cor_clinic[Intercept,x]",
        "sigma",
    ]


def test_one_row_per_residual_sd() -> None:
    rows = list(posterior(model("gaussian", sigma_by=True)).rows)
    assert rows[-2:] == ["sigma[a]", "sigma[b]"]


@pytest.mark.parametrize("factor", ["chain", "draw", "coefficient"])
def test_reserved_factor_names_get_an_underscore(factor: str) -> None:
    result = posterior(model(factor="draw"))
    assert factor_names([factor]) == {factor: factor + "_"}
    assert "sd_draw_[Intercept]" in result.rows
    assert result.tree["posterior"]["b_draw_"].dims == ("chain", "draw", "draw_", "draw__coefficient")


def test_names_never_collide() -> None:
    assert factor_names(["sigma"], "sigma") == {"sigma": "sigma_"}
    assert factor_names(["a", "a_coefficient"])["a_coefficient"] == "a_coefficient_"
    assert factor_names(["a:b", "b"]) == {"a:b": "a:b", "b": "b"}
    assert factor_names(["a_b", "a/b"]) == {"a_b": "a_b", "a/b": "a/b_"}
    assert estimated_pairs(((0, 2), (1,))) == [(0, 2)]


def test_names_that_a_file_forbids_are_replaced_and_kept() -> None:
    tree = posterior(model(factor="year/month")).tree
    variable = tree["posterior"].ds["sd_year_month"]
    assert variable.attrs["original_name"] == "sd_year/month"
    assert file_name("a\nb") == "a_b" and file_name(".") == "_"


def test_level_labels_become_coordinates() -> None:
    assert coordinate(np.array([2**63, 1], dtype=object)).dtype == np.uint64
    assert coordinate(np.array([-1, 1], dtype=object)).dtype == np.int64
    assert coordinate(np.array([0.5, 1.5], dtype=object)).dtype == np.float64
    assert list(coordinate(np.array([True, "x", 2], dtype=object))) == ["True", "x", "2"]
    assert list(coordinate(np.array([2**70], dtype=object))) == [str(2**70)]


def test_the_tree_follows_arviz() -> None:
    result = posterior(model("gaussian"))
    tree = result.tree
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "observed_data",
        "constant_data",
        "log_likelihood",
    }
    group = tree["posterior"]
    assert group["beta"].dims == ("chain", "draw", "coefficient")
    assert group["cor_clinic"].dims == ("chain", "draw", "clinic_coefficient", "clinic_coefficient_bis")
    assert group["sigma"].dtype == np.float64
    assert list(group["clinic"].values) == [f"level {j}" for j in range(6)]
    assert tree["sample_stats"]["acceptance_clinic"].dims == ("chain", "clinic")
    np.testing.assert_array_equal(tree["observed_data"]["y"], result.model.design.y)


def test_arviz_reads_the_tree() -> None:
    import arviz_plots
    import arviz_stats

    result = posterior(model("gaussian"), draws=200)
    frame = arviz_stats.summary(result.tree, var_names=["beta", "sigma"], round_to="none")
    assert list(frame.index) == ["beta[Intercept]", "beta[x]", "sigma"]
    assert frame.loc["sigma", "mean"] == pytest.approx(result.draws["sigma"].mean())
    picture = arviz_plots.plot_trace(result.tree, var_names=["beta"], backend="none")
    assert picture is not None


def test_log_likelihood_is_computed_when_read_and_only_then(monkeypatch) -> None:
    read = []
    original = LogLikelihood.block
    monkeypatch.setattr(LogLikelihood, "block", lambda self, part: read.append(part) or original(self, part))
    result = posterior(draws=100)
    pointwise = result.tree["log_likelihood"]["y"]
    assert pointwise.shape == (4, 100, 48) and not read
    one = pointwise.isel(row=5, chain=1).values
    assert len(read) == 1 and read[0].stop - read[0].start == 1
    design, draws = result.model.design, result.draws
    eta = draws["beta"] @ design.X[5] + draws["b_clinic"][:, :, design.groupings[0].codes[5]] @ design.groupings[0].Z[5]
    np.testing.assert_allclose(one, result.model.family.log_density(design.y[5], eta)[1])
    np.testing.assert_allclose(pointwise.isel(row=[5, 3]).values[..., 0][1], one)
    whole = pointwise.values
    np.testing.assert_allclose(whole[1, :, 5], one)


def test_loo_is_that_of_arviz_and_blocks_do_not_change_it(monkeypatch) -> None:
    import arviz_stats

    from bayou.predict import linear

    result = posterior(draws=250)
    result.draws["b_clinic"] *= 0.2
    result.draws["b_clinic"] += 0.1
    ours = weighted(LogLikelihood(result))
    theirs = arviz_stats.loo(result.tree, pointwise=True)
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k)
    assert np.sum(ours.lppd_i - ours.elpd_i) == pytest.approx(theirs.p, rel=1e-8)
    whole = loo(result, exact=False)
    plain = np.flatnonzero(whole.method == "psis")
    assert 0 < len(plain) < result.model.design.n  # of the others, the groups were integrated out
    np.testing.assert_allclose(whole.elpd_i[plain], theirs.elpd_i[plain], rtol=1e-10)
    assert whole.se == pytest.approx(np.sqrt(whole.n_data_points * np.var(whole.elpd_i.values)))
    monkeypatch.setattr(linear, "BLOCK_NUMBERS", 7 * 1000)
    assert weighted(LogLikelihood(result)).elpd_i.sum() == pytest.approx(ours.elpd_i.sum())


def test_without_group_draws_there_is_no_pointwise_likelihood() -> None:
    result = posterior()
    del result.draws["b_clinic"]
    assert not result.tree["log_likelihood"].data_vars
    with pytest.raises(Unsupported, match="keep_effects"):
        loo(result)


def test_running_moments_stand_apart_from_draws() -> None:
    source = posterior()
    moments = {"mean_b_clinic": np.ones((4, 6, 2)), "sd_within_b_clinic": np.full((4, 6, 2), 2.0)}
    draws = {**source.draws, **moments, "b_clinic": source.draws["b_clinic"][:, ::100]}
    result = type(source)(source.model, "Gibbs()", draws, info={"effect_draws": list(range(0, 500, 100))})
    mean, sd = result.running_moments("clinic")
    assert (mean == 1).all() and (sd == 2).all()
    assert "b_clinic" not in result.tree["posterior"].data_vars
    assert result.tree["effects"]["b_clinic"].sizes["draw"] == 5
    assert result.tree["log_likelihood"]["y"].sizes["draw"] == 5


def test_draws_of_unequal_shape_are_refused() -> None:
    source = posterior()
    with pytest.raises(BayouError, match="leading"):
        type(source)(source.model, "x", {**source.draws, "beta": source.draws["beta"][:2]})


# ---- expressions ---------------------------------------------------------------------------


def test_expressions_of_rows() -> None:
    result = posterior(model("gaussian"))
    sd, sigma = result.draws["sd_clinic"], result.draws["sigma"]
    share = evaluate(result, "sd_clinic[Intercept]**2 / (sd_clinic[Intercept]^2 + sigma**2)")
    np.testing.assert_allclose(share, sd[..., 0] ** 2 / (sd[..., 0] ** 2 + sigma**2))
    product = evaluate(result, "cor_clinic[Intercept, x]*sd_clinic[x] - -1")
    np.testing.assert_allclose(product, result.draws["cor_clinic"][..., 0, 1] * sd[..., 1] + 1)
    np.testing.assert_array_equal(evaluate(result, "beta[x] > 0.3"), result.draws["beta"][..., 1] > 0.3)
    np.testing.assert_allclose(
        evaluate(result, "exp(b_clinic[level 2,x])"), np.exp(result.draws["b_clinic"][..., 2, 1])
    )
    assert evaluate(result, "2").shape == (4, 500)


def test_nested_brackets_in_row_names() -> None:
    of = model("gaussian")
    of.design.coefficients = ("Intercept", "poly(x, 2)[1]")
    result = posterior(of)
    np.testing.assert_allclose(evaluate(result, "2*beta[poly(x, 2)[1]]"), 2 * result.draws["beta"][..., 1])


@pytest.mark.parametrize("text", ["beta[z]", "sigma2", "sigma +", "sd_clinic", "exp(sigma, 2)", ""])
def test_unknown_names_are_explained(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        evaluate(posterior(model("gaussian")), text)
    assert not isinstance(caught.value, UnsafeFormula)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "sigma.__class__",
        "(lambda: sigma)()",
        "[sigma]",
        "'a'",
        "True",
        "exp(x=sigma)",
        "sigma if sigma else 2",
        "(" * 150 + "sigma" + ")" * 150,
        "9" + "**9" * 200,
        "-" * 300 + "1",
        "1" * 20_000,
        "+".join("1" * 2000),
    ],
)
def test_unsafe_expressions_are_refused(text: str) -> None:
    with pytest.raises(UnsafeFormula):
        evaluate(posterior(model("gaussian"), draws=5), text)


# ---- shares and residuals --------------------------------------------------------------------


def test_shares_of_variance_of_a_gaussian_model() -> None:
    result = posterior(model("gaussian", slopes=False))
    shares = variance_shares(result)
    np.testing.assert_allclose(shares["clinic"], result.flat("sd_clinic")[:, 0] ** 2)
    np.testing.assert_allclose(shares["residual"], result.flat("sigma") ** 2)
    x = result.model.design.X[:, 1]
    np.testing.assert_allclose(shares["fixed"], result.flat("beta")[:, 1] ** 2 * x.var())


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma"])
def test_residuals_of_a_right_model_are_standard(family: str) -> None:
    of = model(family, levels=20, rows=60, slopes=False, seed=4)
    result = posterior(of, draws=50)
    rng = np.random.default_rng(8)
    design = of.design
    b = 0.4 * rng.normal(size=(20, 1))
    design.y = of.family.sample(rng, 0.5 + 0.3 * design.X[:, 1] + b[design.groupings[0].codes, 0], 0.7, design.trials)
    result.draws["beta"][:] = (0.5, 0.3)
    result.draws["b_clinic"][:] = b
    if of.family.dispersion:
        result.draws[of.family.dispersion][:] = 0.7
    quantile = residuals(result, "quantile")
    assert abs(quantile.mean()) < 0.1 and quantile.std() == pytest.approx(1.0, abs=0.07)
    pearson = residuals(result, "pearson")
    assert pearson.std() == pytest.approx(1.0, abs=0.2)
    trials = design.trials[:1]
    eta = 0.5 + 0.3 * design.X[0, 1] + b[0, 0]
    assert residuals(result)[0] == pytest.approx(design.y[0] - trials[0] * of.family.mean(eta))
    with pytest.raises(DataError, match="'quantile'"):
        residuals(result, "deviance")


def test_crossed_factors_share_nothing() -> None:
    of = model("gaussian", slopes=False)
    n = of.design.n
    second = Grouping(
        "a:b",
        np.array(["u:v", "u:w"], dtype=object),
        np.arange(n) % 2,
        np.ones((n, 1)),
        ("Intercept",),
        ((0,),),
    )
    of.design.groupings = (*of.design.groupings, second)
    result = posterior(of)
    assert "sd_a:b[Intercept]" in result.rows
    assert set(variance_shares(result)) == {"fixed", "clinic", "a:b", "residual"}
    assert result.tree["posterior"]["b_a:b"].dims[2:] == ("a:b", "a:b_coefficient")

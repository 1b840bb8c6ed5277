"""Predictions with structured effects against the formula written out, and against the prior where groups are fresh."""

import numpy as np
import pytest
from scipy.special import expit

import bayou
import structured_models as models
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit
from bayou.posterior import Posterior
from bayou.predict import linear
from bayou.predict.linear import Sample, training_rows
from bayou.predict.loo import LogLikelihood

CURVE = "y ~ x + rw2(t) + bym2(area, graph=W) + (1 | h)"
COPIES = "y ~ x + rw1(t, by=g) + leroux(area, graph=W, by=g) + (1 | animal, covariance=A)"
NEW = {"x": [0.5, 0.5, 0.5], "t": [3, 7, 7], "area": ["a", "c", "f"], "h": ["s1", "s2", "s2"]}


def constant(formula, chains=4, draws=5000, seed=8, **hyper):
    """Draws whose hyperparameters, effects and coefficients never change, so that what varies is drawn anew."""
    of = models.model(formula)
    rng = np.random.default_rng(seed)
    shape = (chains, draws)

    def still(values):
        values = np.asarray(values, dtype=float)
        return np.broadcast_to(values, (*shape, *values.shape)).copy()

    out = {"beta": still([0.2, -0.1][: len(of.design.coefficients)])}
    for g in of.design.groupings:
        out |= {f"sd_{g.name}": still([0.3]), f"b_{g.name}": still(0.3 * rng.normal(size=(len(g.levels), 1)))}
    for term, effect in zip(of.design.structured, of.effects, strict=True):
        values = {h.role: hyper.get(f"{h.role}_{term.name}", 0.6) for h in effect.hyperparameters}
        out |= {f"{role}_{term.name}": still(value) for role, value in values.items()}
        f = effect.draw(theta_of(effect, values), rng, 1)[0, :, : effect.observed]
        out[f"f_{term.name}"] = still(f if term.by is not None else f[0])
    return Posterior(of, "StandIn()", out, info={"seed": 1})


def theta_of(effect, values):
    return np.array([h.internal(values[h.role]) for h in effect.hyperparameters])


def linear_draws(posterior, new, groups="observed", **options):
    found = Fit(posterior).predict(new, kind="linear", groups=groups, draws=True, **options)
    return found.values.reshape(-1, found.shape[2])


# ---- values that are known -----------------------------------------------------------------


def test_observed_is_the_formula_written_out():
    po = models.posterior(models.model(CURVE))
    d = {k: po.flat(k) for k in po.draws}
    expected = [
        d["beta"] @ [1.0, 0.5] + d["f_t"][:, t] + d["f_area"][:, "abcdef".index(a)] + d["b_h"][:, int(h[1]) - 1, 0]
        for t, a, h in zip(NEW["t"], NEW["area"], NEW["h"], strict=True)
    ]
    np.testing.assert_allclose(linear_draws(po, NEW), np.transpose(expected), rtol=1e-12)


def test_copies_areas_and_animals_written_out():
    po = models.posterior(models.model(COPIES))
    d = {k: po.flat(k) for k in po.draws}
    new = {"x": [0.0, 1.0], "t": [4, 20], "g": ["q", "p"], "area": ["f", "a"], "animal": ["dot", "ann"]}
    expected = [
        d["beta"] @ [1.0, x] + d["f_t:g"][:, r, t] + d["f_area:g"][:, r, k] + d["f_animal"][:, j]
        for x, t, r, k, j in ((0.0, 4, 1, 5, 3), (1.0, 20, 0, 0, 0))
    ]
    np.testing.assert_allclose(linear_draws(po, new), np.transpose(expected), rtol=1e-12)


def test_fitted_rows_are_those_of_the_data():
    for formula in (CURVE, COPIES, "y ~ x + s(u) + ar1(t, by=g) + seasonal(t, period=4)"):
        po = models.posterior(models.model(formula))
        table = {k: v for k, v in models.data().items() if k != "y"}
        np.testing.assert_allclose(linear_draws(po, None), linear_draws(po, table), rtol=1e-10, atol=1e-12)


def test_a_spline_is_its_basis_and_a_line_beyond_it():
    po = models.posterior(models.model("y ~ s(u)"))
    term = po.model.design.structured[0]
    u = np.array([0.5, 5.0, 12.0, 13.0, 14.0])
    node, value = term.basis.evaluate(u)
    expected = po.flat("beta") + np.einsum("sik,ik->si", po.flat("f_u")[:, node], value)
    found = linear_draws(po, {"u": u})
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found[:, 4] - found[:, 3], found[:, 3] - found[:, 2], rtol=1e-9, atol=1e-12)
    notes = Fit(po).predict({"u": u}).attrs["notes"]
    assert len(notes) == 1 and "s(u): 3 rows beyond" in notes[0] and "straight line" in notes[0]


def test_blocks_of_rows_make_no_difference(monkeypatch):
    for formula in (CURVE, COPIES):
        po = models.posterior(models.model(formula))
        table = {k: np.concatenate([v, v[:9]]) for k, v in models.data().items() if k != "y"}
        table["t"] = table["t"] + 0.5 * (np.arange(129) % 7 == 0)
        for groups in ("observed", "new", "marginal", "population"):
            whole = linear_draws(po, table, groups)
            with monkeypatch.context() as patch:
                patch.setattr(linear, "BLOCK_NUMBERS", 4000)
                np.testing.assert_allclose(linear_draws(po, table, groups), whole, rtol=1e-10, atol=1e-12)


# ---- new coordinates -----------------------------------------------------------------------


@pytest.mark.parametrize("term", ["rw1(t)", "rw2(t)", "ar1(t)", "seasonal(t, period=4)"])
def test_new_times_have_the_distribution_given_the_others(term):
    po = constant(f"y ~ {term}", rho_t=0.8)
    effect = po.model.effects[0]
    times = np.array([24, 25, 30]) if term.startswith("seasonal") else np.array([3.5, 24.0, 30.0])
    theta = theta_of(effect, {"sd": 0.6, "rho": 0.8})
    W, V = effect.extend_mean(theta, times)
    found = linear_draws(po, {"t": times}) - 0.2
    mean = W @ po.draws["f_t"][0, 0]
    count = len(found)
    assert (np.abs(found.mean(axis=0) - mean) < 4.5 * np.sqrt(np.diag(V) / count)).all()
    spread = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / count)
    assert (np.abs(np.cov(found.T) - V) < 4.5 * spread + 1e-12).all()
    sd = found.std(axis=0)
    assert sd[2] > 1.02 * sd[1] or term == "ar1(t)" and sd[2] > sd[1]


def test_every_draw_extends_with_its_own_hyperparameters():
    # two values of rho in turn: each draw's spread is that of its own
    po = constant("y ~ ar1(t)")
    draws = dict(po.draws)
    draws["rho_t"] = np.where(np.arange(5000) % 2 == 0, 0.1, 0.95) * np.ones((4, 1))
    found = linear_draws(Posterior(po.model, po.engine, draws, info=po.info), {"t": [24]}).reshape(4, 5000)
    for start, rho in ((0, 0.1), (1, 0.95)):
        exact = 0.6 * np.sqrt(1.0 - rho**2)
        assert found[:, start::2].std() == pytest.approx(exact, rel=4.5 / np.sqrt(2 * 10_000))


def test_an_extrapolation_says_so_and_rows_of_one_time_agree():
    po = models.posterior(models.model(CURVE))
    new = {"x": [0.0] * 4, "t": [23, 30, 30, 31], "area": ["a"] * 4, "h": ["s1"] * 4}
    frame = Fit(po).predict(new, kind="linear")
    assert "3 rows beyond the range of t, 0 to 23" in frame.attrs["notes"][0]
    draws = linear_draws(po, new)
    np.testing.assert_array_equal(draws[:, 1], draws[:, 2])
    assert draws[:, 3].std() > draws[:, 1].std() > draws[:, 0].std()
    assert "notes" not in Fit(po).predict(NEW).attrs
    assert Fit(po).predict(new, draws=True).attrs["notes"] == frame.attrs["notes"]


def test_a_cyclic_curve_goes_round():
    po = models.posterior(models.model("y ~ rw2(t, cyclic=True)"))
    found = linear_draws(po, {"t": [2, 26, 50]})
    np.testing.assert_allclose(found[:, 1], found[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found[:, 2], found[:, 0], rtol=1e-12)


# ---- groups --------------------------------------------------------------------------------


def test_a_curve_without_copies_is_in_every_kind():
    po = models.posterior(models.model("y ~ x + rw2(t)"))
    own = linear_draws(po, NEW)
    for groups in ("population", "new", "marginal"):
        np.testing.assert_array_equal(linear_draws(po, NEW, groups), own)


def test_population_has_no_areas_and_no_copies():
    po = models.posterior(models.model(COPIES))
    new = {"x": [0.5], "t": [4]}
    np.testing.assert_allclose(linear_draws(po, new, "population")[:, 0], po.flat("beta") @ [1.0, 0.5], rtol=1e-12)
    po = models.posterior(models.model(CURVE))
    expected = po.flat("beta") @ [1.0, 0.5] + po.flat("f_t")[:, 3]
    np.testing.assert_allclose(linear_draws(po, NEW, "population")[:, 0], expected, rtol=1e-12)


def test_a_fresh_copy_comes_from_the_prior():
    po = constant("y ~ rw1(t, by=g)")
    C = po.model.effects[0].covariance(np.log([0.6]))
    times = [0, 11, 23]
    found = linear_draws(po, {"t": times, "g": ["z"] * 3}, "new") - 0.2
    exact, count = C[np.ix_(times, times)], len(found)
    spread = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / count)
    assert (np.abs(np.cov(found.T) - exact) < 4.5 * spread).all()
    # another level is another copy, and a missing one stands alone
    apart = linear_draws(po, {"t": [11] * 4, "g": ["z", "z", "w", None]}, "new")
    R = np.corrcoef(apart.T)
    assert R[0, 1] == pytest.approx(1.0) and np.abs(R[0, 2:]).max() < 4.5 / np.sqrt(count)
    assert abs(R[2, 3]) < 4.5 / np.sqrt(count)


@pytest.mark.parametrize(
    "formula", ["y ~ bym2(area, graph=W)", "y ~ car(area, graph=W)", "y ~ (1 | animal, covariance=A)"]
)
def test_a_fresh_area_has_the_typical_prior_variance(formula):
    po = constant(formula, phi_area=0.3, rho_area=0.7)
    effect = po.model.effects[0]
    values = {"sd": 0.6, "phi": 0.3, "rho": 0.7}
    variances = np.diag(effect.covariance(theta_of(effect, values)))[: effect.observed]
    typical = np.exp(np.log(variances).mean())
    column = po.model.design.structured[0].column
    one, other = po.model.design.structured[0].nodes[:2]
    found = linear_draws(po, {column: [one, one, other]}, "new")
    assert found[:, 0].var() == pytest.approx(typical, rel=4.5 * np.sqrt(2 / len(found)))
    R = np.corrcoef(found.T)
    assert R[0, 1] == pytest.approx(1.0) and abs(R[0, 2]) < 4.5 / np.sqrt(len(found))
    # without the column every row stands alone
    bare = linear_draws(po, {"x": [0.0, 0.0]}, "new")
    assert abs(np.corrcoef(bare.T)[0, 1]) < 4.5 / np.sqrt(len(bare))


def test_typical_variances_follow_the_mixing():
    # between the values of rho at which they are computed variances are interpolated
    po = models.posterior(models.model("y ~ car(area, graph=W)"), draws=300)
    effect = po.model.effects[0]
    sample = Sample(po, effects=False).structured[0]
    for s in (0, 17, 401):
        exact = np.diag(effect.covariance(sample.internal[s]))
        assert sample.typical_variance[s] == pytest.approx(np.exp(np.log(exact).mean()), rel=2e-3)


@pytest.mark.parametrize("formula", [COPIES, "y ~ s(u, by=g) + seasonal(t, period=4, by=g)"])
def test_marginal_means_are_averages_over_fresh_groups(formula):
    po = constant(formula, chains=4, draws=10_000)
    new = {
        "x": [0.0, 1.0],
        "t": [3, 12],
        "u": [2.0, 9.0],
        "area": ["a", "b"],
        "animal": ["ann", "bob"],
        "g": ["u", "v"],
    }
    fit = Fit(po)
    exact = fit.predict(new, groups="marginal")["mean"].to_numpy()
    fresh = fit.predict(new, groups="new", draws=True).values.reshape(-1, 2)
    error = fresh.std(axis=0) / np.sqrt(len(fresh))
    assert (np.abs(fresh.mean(axis=0) - exact) < 4.5 * error).all()


def test_outcomes_of_marginal_groups_vary_as_much_as_those_of_new_ones():
    po = constant("y ~ rw1(t, by=g)")
    new = {"t": [3, 12], "g": ["u", "v"]}
    fit = Fit(po)
    one, two = (fit.predict(new, "outcome", g, draws=True).values.reshape(-1, 2) for g in ("marginal", "new"))
    np.testing.assert_allclose(np.log(one + 1.0).std(axis=0), np.log(two + 1.0).std(axis=0), rtol=0.03)


# ---- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"g": ["z", "p"]}, [r"1 row has a level of 'g'", "z", "groups='new'"]),
        ({"g": None}, ["no column 'g'", "rw1(t, by=g)", "groups='population'"]),
        ({"area": None}, ["no column 'area'", "leroux"]),
        ({"area": ["a", None]}, ["'area'", "(missing)", "groups='marginal'"]),
        ({"area": ["a", "zz"]}, ["zz", "graph"]),
        ({"animal": ["ann", "eve"]}, ["eve", "matrix"]),
        ({"t": None}, ["lack `t`", "every prediction"]),
        ({"t": [3.0, np.nan]}, ["`t` is missing in 1 row (row 1; counted from 0)"]),
        ({"t": [3.0, np.inf]}, ["infinite"]),
    ],
)
def test_what_cannot_be_predicted_is_named(change, words):
    po = models.posterior(models.model(COPIES))
    new = {"x": [0.0, 1.0], "t": [3, 4], "g": ["p", "q"], "area": ["a", "b"], "animal": ["ann", "bob"]} | change
    with pytest.raises(DataError) as caught:
        Fit(po).predict({k: v for k, v in new.items() if v is not None})
    assert all(word in str(caught.value) for word in words), caught.value


def test_draws_that_were_not_kept_are_named():
    po = models.posterior(models.model(CURVE))
    bare = Posterior(po.model, po.engine, {k: v for k, v in po.draws.items() if k != "f_area"}, info=po.info)
    with pytest.raises(Unsupported, match="f_area"):
        Fit(bare).predict(NEW)
    assert len(Fit(bare).predict(NEW, groups="new")) == 3


# ---- what else follows from draws ----------------------------------------------------------


def test_log_likelihood_residuals_and_loo_hold_the_effects():
    of = models.model(CURVE)
    po = models.posterior(of)
    d = {k: po.flat(k) for k in po.draws}
    data, design = models.data(), po.model.design
    area = np.array(["abcdef".index(a) for a in data["area"]])
    eta = d["beta"] @ design.X.T + d["f_t"][:, data["t"]] + d["f_area"][:, area]
    eta += d["b_h"][:, [int(h[1]) - 1 for h in data["h"]], 0]
    found = LogLikelihood(po).all().reshape(-1, 120)
    np.testing.assert_allclose(found, po.model.family.log_density(design.y, eta), rtol=1e-10)
    np.testing.assert_allclose(Fit(po).residuals(), design.y - np.exp(eta).mean(axis=0), rtol=1e-10)
    assert np.isfinite(Fit(po).residuals("quantile", seed=1)).all()
    # draws that fit the data at least a little
    calm = {k: 0.1 * v if k[:2] in ("f_", "b_") else v + 1.0 if k == "beta" else v for k, v in po.draws.items()}
    assert np.isfinite(Fit(Posterior(of, po.engine, calm, info=po.info)).loo().elpd)


def test_shares_of_variance_by_their_definition():
    of = models.model(CURVE)
    po = models.posterior(of)
    fit, d = Fit(po), {k: po.flat(k) for k in po.draws}
    population = d["beta"] @ of.design.X.T + d["f_t"][:, models.data()["t"]]
    sample = Sample(po, effects=False)
    area = sample.structured[1].typical_variance
    shares = fit._shares
    np.testing.assert_allclose(shares["fixed"], population.var(axis=1), rtol=1e-8)
    np.testing.assert_allclose(shares["area"], area, rtol=1e-12)
    np.testing.assert_allclose(shares["h"], d["sd_h"][:, 0] ** 2, rtol=1e-12)
    assert list(fit.icc().index) == ["h", "area"]
    total = sum(shares.values())
    assert fit.r2().loc["marginal", "mean"] == pytest.approx((shares["fixed"] / total).mean())


def test_expressions_may_hold_values_of_effects():
    po = models.posterior(models.model(COPIES))
    found = Fit(po).derive("f_area:g[p,b] - f_area:g[p, a] > 0")
    draws = po.draws["f_area:g"][:, :, 0]
    np.testing.assert_array_equal(found.values, (draws[..., 1] > draws[..., 0]).astype(float))
    np.testing.assert_allclose(Fit(po).derive("sd_area:g**2").values, po.draws["sd_area:g"] ** 2)


def test_group_specific_areas_without_correlation_are_a_random_intercept():
    # Sigma(lambda², 0) = lambda² I: leroux with rho = 0 says the same as (1 | area:g)
    po = constant("y ~ leroux(area, graph=W, by=g)", rho_area=1e-9)
    po = Posterior(po.model, po.engine, {**po.draws, "rho_area:g": np.full((4, 5000), 1e-9)}, info=po.info)
    data = {"area": ["a", "a"], "g": ["p", "q"]}
    found = linear_draws(po, data, "new")
    assert found.var(axis=0) == pytest.approx([0.36, 0.36], rel=4.5 * np.sqrt(2 / 20_000))
    marginal = Fit(po).predict(data, groups="marginal")["mean"].to_numpy()
    np.testing.assert_allclose(marginal, np.exp(0.2 + 0.18), rtol=1e-6)


def test_binomial_rows_of_training_have_their_trials():
    rain = bayou.datasets.load("rain")
    of = bayou.Model("proportion(rain, years) ~ rw2(day, cyclic=True)", rain, "binomial")
    po = models.posterior(of, draws=50)
    eta = po.flat("beta") + po.flat("f_day")[:, [0, 59]]
    found = Fit(po).predict({"day": [1, 60]}, groups="marginal")
    np.testing.assert_allclose(found["mean"], expit(eta).mean(axis=0), rtol=1e-10)
    assert len(training_rows(of.design).structured) == 1

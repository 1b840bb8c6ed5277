"""Results of the likelihood engines: standard errors, draws, files, predictions."""

from __future__ import annotations

import numpy as np
import pytest

import bayou
from bayou import engines
from bayou.engines.marginal.result import CHAINS, DRAWS, FEWEST, LARGEST
from dense_system import fitted, gaussian, gradient, laplace

ENGINES = ("ml", "reml", "laplace", "pql")


@pytest.fixture(scope="module")
def data() -> dict:
    rng = np.random.default_rng(21)
    g, h = np.repeat(np.arange(20), 8), rng.permutation(np.arange(160) % 9)
    x = rng.normal(size=160)
    b = rng.normal(size=(20, 2)) @ np.array([[1.0, 0.3], [0.0, 0.7]])
    eta = 0.5 + 0.4 * x + 0.7 * (b[g, 0] + b[g, 1] * x) + 0.5 * rng.normal(size=9)[h]
    return {"y": eta + rng.normal(size=160), "x": x, "g": g, "h": h, "count": rng.poisson(np.exp(eta)),
            "half": (rng.random(160) < 1 / (1 + np.exp(-2.0 * eta))).astype(int),
            "wide": rng.negative_binomial(3.0, 3.0 / (3.0 + np.exp(eta)))}  # fmt: skip


def natural(found) -> np.ndarray:
    """Estimates on the scales where they are about normal."""
    return np.concatenate([found.estimate[: found.fixed], found.theta])


def unpacked(fit, v: np.ndarray):
    """Beta, covariance of each factor and dispersions from the rows on their scales."""
    found, P = fit.result.estimates, fit.result.estimates.fixed
    values = {}
    for name, scale, x in zip(found.rows[P:], found.scale[P:], v[P:], strict=True):
        values[name] = np.exp(x) if scale == "log" else np.tanh(x)
    Sigma = []
    for g in fit.model.design.groupings:
        sd = np.array([values[f"sd_{g.name}[{c}]"] for c in g.coefficients])
        S = np.diag(sd**2)
        for i in range(len(sd)):
            for k in range(i):
                name = f"cor_{g.name}[{g.coefficients[k]},{g.coefficients[i]}]"
                S[i, k] = S[k, i] = values.get(name, 0.0) * sd[i] * sd[k]
        Sigma.append(S)
    last = [value for name, value in values.items() if not name.startswith(("sd_", "cor_"))]
    return v[:P], Sigma, np.array(last) if last else None


def hessian(of, v: np.ndarray, h: float = 2e-3) -> np.ndarray:
    return np.array([gradient(lambda x, i=i: gradient(of, x, h)[i], v, h) for i in range(len(v))])


@pytest.mark.parametrize("engine", ["ml", "reml"])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x"])
def test_standard_errors_are_those_of_the_dense_hessian(formula, engine, data):
    fit = fitted(formula, data, engine)
    found, P = fit.result.estimates, fit.result.estimates.fixed

    def minus(theta):
        _, Sigma, sigma = unpacked(fit, np.concatenate([found.estimate[:P], theta]))
        return -gaussian(fit.model, Sigma, sigma, engine == "reml")[0]

    H = hessian(minus, found.theta)
    expected = np.linalg.inv(H)
    np.testing.assert_allclose(found.theta_covariance, expected, atol=2e-3 * np.abs(expected).max())
    _, Sigma, sigma = unpacked(fit, natural(found))
    design = fit.model.design
    V = sigma[0] ** 2 * np.eye(design.n)
    for g, S in zip(design.groupings, Sigma, strict=True):
        V += (g.codes[:, None] == g.codes) * (g.Z @ S @ g.Z.T)
    np.testing.assert_allclose(found.beta_covariance, np.linalg.inv(design.X.T @ np.linalg.solve(V, design.X)), rtol=1e-5)


@pytest.mark.parametrize("formula,family", [
    ("half ~ x + (1 | g)", "bernoulli"), ("count ~ x + (x | g)", "poisson"), ("wide ~ x + (1 | h)", "negative_binomial"),
])  # fmt: skip
def test_standard_errors_of_laplace_are_those_of_the_dense_hessian(formula, family, data):
    fit = fitted(formula, data, "laplace", family)
    found, P = fit.result.estimates, fit.result.estimates.fixed
    v = natural(found)
    assert np.isfinite(v).all()

    def minus(x):
        return -laplace(fit.model, *unpacked(fit, x))

    assert -minus(v) == pytest.approx(found.log_likelihood, abs=1e-9)
    slope, h = gradient(minus, v), 1e-2
    assert np.abs(slope).max() < 1e-3
    d = len(v)
    H, f0 = np.empty((d, d)), minus(v)
    for i in range(d):
        for k in range(i + 1):
            e, f = np.zeros(d), np.zeros(d)
            e[i], f[k] = h, h
            H[i, k] = H[k, i] = (minus(v + e + f) - minus(v + e - f) - minus(v - e + f) + minus(v - e - f)) / (4 * h * h)
    assert f0 <= minus(v + 0.05) and f0 <= minus(v - 0.05)
    expected = np.linalg.inv(H)
    np.testing.assert_allclose(found.beta_covariance, expected[:P, :P], atol=3e-3 * np.abs(expected[:P, :P]).max())
    np.testing.assert_allclose(found.theta_covariance, expected[P:, P:], atol=3e-3 * np.abs(expected[P:, P:]).max())


@pytest.mark.parametrize("formula", ["y ~ x + (x | g) + (1 | h)", "y ~ 0 + (1 | g)", "y ~ x"])
def test_reml_is_laplace_with_the_fixed_effects_integrated(formula, data):
    one = fitted(formula, data, "reml").result.estimates
    other = fitted(formula, data, engines.Laplace(reml=True)).result.estimates
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(one.estimate, other.estimate, rtol=2e-5)
    np.testing.assert_allclose(one.se, other.se, rtol=2e-3)
    ml = fitted(formula, data, "ml").result.estimates
    laplace_ml = fitted(formula, data, "laplace").result.estimates
    assert ml.log_likelihood == pytest.approx(laplace_ml.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(ml.estimate, laplace_ml.estimate, rtol=2e-5)


# ---- draws -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine,formula,family", [
    ("ml", "y ~ x + (x | g) + (1 | h)", "gaussian"), ("reml", "y ~ x + (x | g)", "gaussian"),
    ("laplace", "count ~ x + (1 | g) + (1 | h)", "poisson"), ("pql", "count ~ x + (x | g)", "poisson"),
])  # fmt: skip
def test_draws_are_those_of_the_joint_gaussian(engine, formula, family, data):
    fit = fitted(formula, data, engine, family)
    found, draws = fit.result.estimates, fit.result.draws
    beta = draws["beta"].reshape(-1, found.fixed)
    S = len(beta)
    assert S == CHAINS * DRAWS
    root = np.sqrt(S)
    # five standard errors of a mean, of a variance (√(2/S)) and of a correlation
    np.testing.assert_array_less(np.abs(beta.mean(axis=0) - found.estimate[: found.fixed]), 5 * found.se[: found.fixed] / root)
    scale = np.sqrt(np.diag(found.beta_covariance))
    np.testing.assert_allclose(np.cov(beta.T) / np.outer(scale, scale), found.beta_covariance / np.outer(scale, scale), atol=5 * np.sqrt(2) / root)
    for g in fit.model.design.groupings:
        mode, error = found.group_effects(g.name)
        b = draws[f"b_{g.name}"].reshape(S, *mode.shape)
        assert (np.abs(b.mean(axis=0) - mode) < 5 * error / root).all()
        # with the fixed effects as uncertain as the criterion has them
        np.testing.assert_allclose(b.std(axis=0) / error, 1.0, atol=5 / np.sqrt(2 * S) + (0.03 if engine == "laplace" else 0.0))
    theta = []
    for k, name in enumerate(found.rows[found.fixed :]):
        values = fit.result.values(fit.result.rows[name]).ravel()
        own = np.log(values) if found.scale[found.fixed + k] == "log" else np.arctanh(values)
        theta.append(own)
        assert abs(own.mean() - found.theta[k]) < 5 * np.sqrt(found.theta_covariance[k, k] / S)
    np.testing.assert_allclose(
        np.std(theta, axis=1), np.sqrt(np.diag(found.theta_covariance)), rtol=5 / np.sqrt(2 * S)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_gives_the_same_draws(engine, data):
    one, other = (fitted("y ~ x + (1 | g)", data, engine) for _ in range(2))
    third = bayou.fit("y ~ x + (1 | g)", data, engine=engine, seed=2)
    one.summary()  # what is looked at before does not matter
    for name in one.result.draws:
        np.testing.assert_array_equal(one.result.draws[name], other.result.draws[name])
    assert not np.array_equal(one.result.draws["beta"], third.result.draws["beta"])
    np.testing.assert_array_equal(one.result.estimates.estimate, third.result.estimates.estimate)


@pytest.mark.parametrize("engine", ENGINES)
def test_draws_at_the_border_stay_there(engine):
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(6), 5)
    y = rng.normal(size=30)
    y = y - 0.7 * (np.bincount(g, y) / 5)[g]
    fit = fitted("y ~ 1 + (1 | g)", {"y": y, "g": g}, engine)
    assert fit.result.estimates.estimate[1] == 0.0
    assert (fit.result.draws["sd_g"] == 0.0).all()
    assert (fit.result.draws["b_g"] == 0.0).all()
    assert np.isfinite(fit.result.draws["beta"]).all()


def test_correlations_drawn_are_correlations(data):
    fit = fitted("y ~ x + h + (x + h | g)", {**data, "h": 0.1 * data["h"]}, "reml")
    cor = fit.result.draws["cor_g"].reshape(-1, 3, 3)
    np.testing.assert_array_equal(cor, np.swapaxes(cor, 1, 2))
    np.testing.assert_allclose(np.diagonal(cor, axis1=1, axis2=2), 1.0)
    assert np.linalg.eigvalsh(cor).min() >= 0.0
    assert (fit.result.draws["sd_g"] > 0.0).all()


def test_draws_of_many_groups_are_bounded():
    """100,000 levels: fewer draws, half a gigabyte at most, and a fit that keeps no dense matrix of them."""
    rng = np.random.default_rng(1)
    J = 100_000
    g = np.repeat(np.arange(J), 2)
    data = {"y": rng.normal(size=J)[g] + rng.normal(size=2 * J), "x": rng.normal(size=2 * J), "g": g}
    fit = fitted("y ~ x + (1 | g)", data, "reml")
    shapes = fit.result.draws.shapes
    chains, draws, levels, _ = shapes["b_g"]
    assert levels == J and FEWEST <= draws < DRAWS
    assert 8 * chains * draws * levels <= LARGEST
    assert fit.verdict.ok and not fit.result.draws.drawn
    found = fit.result.estimates
    np.testing.assert_allclose(found.estimate[2:], [1.0, 1.0], atol=5 * 0.006)
    assert found.group_effects("g")[0].shape == (J, 1)


# ---- files and predictions -------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fit_comes_back_from_a_file(engine, data, tmp_path):
    fit = fitted("y ~ x + (x | g)", data, engine)
    path = fit.save(tmp_path / "fit.nc")
    again = bayou.load(path)
    one, other = fit.result.estimates, again.result.estimates
    for name in ("estimate", "se", "beta_covariance", "theta", "theta_covariance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("rows", "scale", "converged", "singular", "failures", "notes", "criterion", "method", "parameters"):
        assert getattr(one, name) == getattr(other, name)
    np.testing.assert_equal(one.log_likelihood, other.log_likelihood)
    assert str(again.verdict) == str(fit.verdict)
    for name in fit.result.draws:
        np.testing.assert_array_equal(fit.result.draws[name], again.result.draws[name])
    new = {"x": np.array([0.0, 1.0]), "g": np.array([3, 99])}
    np.testing.assert_array_equal(
        fit.predict(new, groups="new", seed=3).to_numpy(), again.predict(new, groups="new", seed=3).to_numpy()
    )
    mode, error = one.group_effects("g")
    frame = again.random_effects("g")
    np.testing.assert_allclose(frame["mean"].to_numpy(), mode.ravel(), rtol=1e-12)
    np.testing.assert_allclose(frame["sd"].to_numpy(), error.ravel(), rtol=1e-12)


@pytest.mark.parametrize("engine,formula,family", [
    ("ml", "y ~ x + (x | g)", "gaussian"), ("reml", "y ~ x + (1 | g) + (1 | h)", "gaussian"),
    ("laplace", "count ~ x + (1 | g)", "poisson"), ("laplace", "half ~ x + (1 | g)", "bernoulli"),
    ("pql", "wide ~ x + (1 | g)", "negative_binomial"),
])  # fmt: skip
def test_predictions_of_every_kind(engine, formula, family, data):
    fit = fitted(formula, data, engine, family)
    found = fit.result.estimates
    design = fit.model.design
    eta = design.X @ found.estimate[: found.fixed]
    population = fit.predict(kind="linear", groups="population")
    spread = np.sqrt(np.einsum("ij,jk,ik->i", design.X, found.beta_covariance, design.X))
    np.testing.assert_array_less(np.abs(population["mean"].to_numpy() - eta), 5 * spread / np.sqrt(4000) + 1e-9)
    for g in design.groupings:
        eta = eta + np.sum(g.Z * found.group_effects(g.name)[0][g.codes], axis=1)
    observed = fit.predict(kind="linear", groups="observed")
    assert np.abs(observed["mean"].to_numpy() - eta).max() < 0.1
    assert np.corrcoef(observed["mean"], eta)[0, 1] > 0.999
    wide = fit.predict(kind="linear", groups="new", seed=1)
    assert (wide["upper"] - wide["lower"]).mean() > (observed["upper"] - observed["lower"]).mean()
    marginal = fit.predict(kind="mean", groups="marginal", seed=1)
    mean = fit.predict(kind="mean", groups="population")
    if family == "poisson":
        assert (marginal["mean"].to_numpy() > mean["mean"].to_numpy()).all()  # Jensen
    assert np.isfinite(fit.predict(kind="outcome", seed=1).to_numpy()).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_fixed(engine, data):
    fit = fitted("y ~ 0 + (1 | g)", data, engine)
    assert fit.result.draws["beta"].shape == (CHAINS, DRAWS, 0)
    assert len(fit.fixed_effects) == 0 and len(fit.variance_components) == 2
    assert np.isfinite(fit.result.draws["b_g"]).all()
    assert np.isfinite(fit.predict(kind="mean").to_numpy()).all()


def test_blups_are_those_of_the_dense_equations(data):
    fit = fitted("y ~ x + (x | g) + (1 | h)", data, "reml")
    found, design = fit.result.estimates, fit.model.design
    _, Sigma, sigma = unpacked(fit, natural(found))
    _, beta, P = gaussian(fit.model, Sigma, sigma, True)
    np.testing.assert_allclose(found.estimate[:2], beta, rtol=1e-9)
    for g, S in zip(design.groupings, Sigma, strict=True):
        J, p = len(g.levels), g.Z.shape[1]
        Z = np.zeros((design.n, J, p))
        Z[np.arange(design.n), g.codes] = g.Z
        Z = Z.reshape(design.n, J * p)
        G = np.kron(np.eye(J), S)
        mode, error = found.group_effects(g.name)
        np.testing.assert_allclose(mode.ravel(), G @ Z.T @ P @ design.y, atol=1e-9)
        np.testing.assert_allclose(error.ravel() ** 2, np.diag(G - G @ Z.T @ P @ Z @ G), atol=1e-9)

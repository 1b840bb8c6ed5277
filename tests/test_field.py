"""The core of structured effects against dense algebra: families x structures, and everything that a Field returns."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import bayou
from bayou.conditional.field import Field
from dense_field import DenseField, differences, layout, of_model
from field_models import FAMILIES, STRUCTURES, build

EVERY = [(structure, "gaussian") for structure in STRUCTURES] + [
    (structure, family)
    for k, structure in enumerate(STRUCTURES)
    for j, family in enumerate(FAMILIES[1:])
    if (k + j) % 2 == 0 or structure in ("rw1", "icar", "bym2", "slopes")
]


@cache
def model_of(structure: str, family: str, **settings: Any) -> bayou.Model:
    return build(structure, family, **settings)


def somewhere(field: Field, seed: int = 1, spread: float = 0.3) -> np.ndarray:
    return np.asarray(field.initial) + spread * np.random.default_rng(seed).standard_normal(field.size)


def placed(field: Field, psi: np.ndarray) -> Field:
    assert field.place(psi)
    return field


def pair(model: bayou.Model, integrated: bool = True, priors: bool = True) -> tuple[Field, DenseField]:
    return Field(model, integrated=integrated, priors=priors), of_model(model, integrated=integrated, priors=priors)


def split(field: Field, model: bayou.Model, psi: np.ndarray, integrated: bool) -> dict[str, np.ndarray]:
    P = 0 if integrated else model.working.X.shape[1]
    assert field.size == layout(model).size + P
    return {"theta": psi[P:], "beta": None if integrated else psi[:P] * field.beta_unit}


def on_subspace(dense: DenseField, rng: np.random.Generator) -> np.ndarray:
    return dense.Z @ rng.standard_normal(dense.Z.shape[1])


# ---- everything at one point, for every structure and family ---------------------------------------


@pytest.mark.parametrize(("structure", "family"), EVERY)
def test_value_mode_and_gaussian(structure: str, family: str) -> None:
    model = model_of(structure, family)
    field, dense = pair(model)
    assert {name: (s.start, s.stop) for name, s in field.columns.items()} == {
        name: (s.start, s.stop) for name, s in layout(model).columns.items()
    }
    psi = somewhere(field)
    want = dense.place(psi)
    placed(field, psi)
    assert abs(field.value() - want.value) < 1e-8 * (1.0 + abs(want.value))
    np.testing.assert_allclose(field.x, want.x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(field.eta, want.eta, rtol=1e-6, atol=1e-6)
    assert abs(field.loglik - want.loglik) < 1e-6 * (1.0 + abs(want.loglik))
    np.testing.assert_allclose(field.variances(), dense.variances(want), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(field.row_variances(), dense.row_variances(want), rtol=1e-6, atol=1e-9)
    if family != "gaussian":
        np.testing.assert_allclose(field.row_slopes(), want.row_slopes, rtol=1e-5, atol=1e-7)
    r = np.random.default_rng(2).standard_normal(len(want.x))
    np.testing.assert_allclose(field.solve(r), dense.solve(want, r), rtol=1e-6, atol=1e-8)
    x = want.x + 0.3 * on_subspace(dense, np.random.default_rng(4))
    assert abs(field.log_joint(x) - dense.log_joint(want, x, psi)) < 1e-7 * (1.0 + abs(dense.log_joint(want, x, psi)))
    gaussian = dense.log_gaussian(want, x)
    assert abs(field.log_gaussian(x) - gaussian) < 1e-5 * (1.0 + abs(gaussian))
    ratio = dense.log_joint(want, x, psi) - gaussian
    assert abs(float(field.log_ratio(x[None])[0]) - ratio) < 1e-5 * (1.0 + abs(ratio))
    np.testing.assert_allclose(field.predictor(x), dense.offset + dense.A @ x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("structure", "family"), EVERY)
def test_gradient(structure: str, family: str) -> None:
    model = model_of(structure, family)
    field, dense = pair(model)
    psi = somewhere(field)
    placed(field, psi)
    found, want = field.slopes(), dense.slopes(psi)
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("structure", ["rw1", "rw2", "icar", "bym2", "slopes", "mixed"])
def test_given_fixed_effects(structure: str, family: str) -> None:
    model = model_of(structure, family)
    field, dense = pair(model, integrated=False, priors=False)
    psi = somewhere(field, 5)
    own = split(field, model, psi, False)
    want = dense.place(**own)
    placed(field, psi)
    assert abs(field.value() - want.value) < 1e-8 * (1.0 + abs(want.value))
    np.testing.assert_allclose(field.x, want.x, rtol=1e-6, atol=1e-6)
    wanted = dense.slopes(**own)
    wanted[: len(own["beta"])] *= field.beta_unit
    np.testing.assert_allclose(field.slopes(), wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
@pytest.mark.parametrize("structure", ["rw1", "rw2", "icar", "bym2", "intercepts", "mixed"])
def test_flat_fixed_effects(structure: str, family: str) -> None:
    """Without priors the fixed effects are flat, as in REML; one of the differences is that of the priors alone."""
    model = model_of(structure, family)
    field, dense = pair(model, priors=False)
    psi = somewhere(field, 6)
    want = dense.place(psi)
    placed(field, psi)
    assert abs(field.value() - want.value) < 1e-8 * (1.0 + abs(want.value))
    np.testing.assert_allclose(field.slopes(), dense.slopes(psi), rtol=1e-6, atol=1e-6)


# ---- weights, sds by level, known standard errors ---------------------------------------------------


@pytest.mark.parametrize(("family", "settings"), [
    ("gaussian", {"weights": "w"}),
    ("poisson", {"weights": "w"}),
    ("gaussian", {"sigma_by": "arm"}),
    ("gaussian", {"sigma_by": "arm", "weights": "w"}),
])  # fmt: skip
@pytest.mark.parametrize("structure", ["rw1", "icar", "mixed"])
def test_weights_and_sds_by_level(structure: str, family: str, settings: dict[str, str]) -> None:
    model = model_of(structure, family, **settings)
    field, dense = pair(model)
    psi = somewhere(field, 7)
    want = dense.place(psi)
    placed(field, psi)
    assert abs(field.value() - want.value) < 1e-8 * (1.0 + abs(want.value))
    np.testing.assert_allclose(field.x, want.x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(field.slopes(), dense.slopes(psi), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["gamma", "negative_binomial"])
def test_one_dispersion_only(family: str) -> None:
    with pytest.raises(bayou.errors.Unsupported, match="sigma_by"):
        Field(model_of("rw1", family, sigma_by="arm"))


# ---- what draws from it ------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["slopes", "rw2", "icar", "bym2", "mixed"])
def test_draws_have_the_mean_and_covariance(structure: str) -> None:
    model = model_of(structure, "poisson")
    field, dense = pair(model)
    psi = somewhere(field)
    want = dense.place(psi)
    draws = placed(field, psi).draw(np.random.default_rng(8), 20_000)
    S = len(draws)
    sd = np.sqrt(np.maximum(np.diag(want.covariance), 1e-300))
    assert np.abs((draws.mean(axis=0) - field.x) / sd).max() < 5.0 / np.sqrt(S)
    found = np.cov(draws.T)
    correlation = found / np.outer(sd, sd) - want.covariance / np.outer(sd, sd)
    assert np.abs(correlation).max() < 6.5 / np.sqrt(S)  # each has a standard error of at most sqrt(2 / S)
    if len(dense.constraints):
        assert np.abs(draws @ dense.constraints.T).max() < 1e-8


@pytest.mark.parametrize("structure", ["rw1", "icar", "bym2", "mixed"])
def test_joint_less_gaussian_is_the_value_for_a_gaussian_response(structure: str) -> None:
    field, dense = pair(model_of(structure, "gaussian"))
    placed(field, somewhere(field))
    rng = np.random.default_rng(9)
    for _ in range(3):
        x = field.x + on_subspace(dense, rng)
        assert abs(float(field.log_ratio(x[None])[0]) - field.value()) < 1e-6 * (1.0 + abs(field.value()))


@pytest.mark.parametrize("structure", ["slopes", "rw2", "icar", "bym2", "mixed"])
def test_whitened_coefficients(structure: str) -> None:
    """`transform` is an affine map to the Gaussian, `whiten` finds normals that it takes to a point of the subspace."""
    field, dense = pair(model_of(structure, "poisson"))
    psi = somewhere(field)
    want = dense.place(psi)
    placed(field, psi)
    map_ = field.transform(np.eye(field.dimension)).T - field.x[:, None]
    np.testing.assert_allclose(map_ @ map_.T, want.covariance, rtol=1e-6, atol=1e-8)
    rng = np.random.default_rng(3)
    x, z = field.x + on_subspace(dense, rng), rng.standard_normal(field.dimension)
    found = field.whiten(x, z)
    np.testing.assert_allclose(field.transform(found[None])[0], x, rtol=1e-8, atol=1e-8)
    # what is random in it does not move x, and is a projection of z: its square has the mean of the surplus dimensions
    other = field.whiten(x, np.zeros(field.dimension))
    np.testing.assert_allclose(map_ @ (found - other), 0.0, atol=1e-8)
    assert abs((found - other) @ other) < 1e-7 * (1.0 + other @ other)


# ---- priors and hyperparameters ----------------------------------------------------------------------


@pytest.mark.parametrize("structure", list(STRUCTURES))
def test_prior_slopes_and_criterion(structure: str) -> None:
    field = Field(model_of(structure, "poisson"))
    theta = somewhere(field)
    placed(field, theta)
    np.testing.assert_allclose(field.prior_slopes(theta), differences(field.log_prior, theta), rtol=1e-5, atol=1e-6)
    value, gradient = field.evaluate(theta)
    assert abs(value + field.value() + field.log_prior(theta)) < 1e-9 * (1.0 + abs(value))
    np.testing.assert_allclose(gradient, -(field.slopes() + field.prior_slopes(theta)), rtol=1e-10, atol=1e-10)


def test_prior_of_an_sd_has_the_jacobian_of_its_logarithm() -> None:
    model = build("rw1", "poisson", {"sd_t": bayou.priors.HalfNormal(0.7)})
    field = Field(model)
    one, two = np.array([-0.3]), np.array([0.8])
    sd = np.exp([one[0], two[0]])
    want = -0.5 * (sd / 0.7) ** 2 + np.log(sd)
    assert abs((field.log_prior(two) - field.log_prior(one)) - (want[1] - want[0])) < 1e-10


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize("family", ["gaussian", "negative_binomial"])
def test_names_and_unpacking(structure: str, family: str) -> None:
    model = model_of(structure, family)
    field = Field(model)
    theta = somewhere(field)
    placed(field, theta)
    named = field.unpack_theta(theta[None])
    values = np.asarray(field.natural(theta))
    assert len(values) == len(field.rows)
    for row, value in zip(field.rows, values, strict=True):
        assert abs(named[row.variable][(0, *row.index)] - value) < 1e-10, row.name
        assert row.scale in ("log", "atanh", "logit")
    X = np.random.default_rng(1).standard_normal((3, len(field.x)))
    parts = field.unpack(X)
    where, design = field.columns, model.design
    np.testing.assert_allclose(parts["beta"], X[:, where["beta"]] @ model.working.to_printed.T, atol=1e-12)
    for g in design.groupings:
        assert parts[f"b_{g.name}"].shape == (3, len(g.levels), g.Z.shape[1])
        for block in g.blocks:
            name = f"b_{g.name}" + (f"[{','.join(g.coefficients[k] for k in block)}]" if len(g.blocks) > 1 else "")
            np.testing.assert_array_equal(parts[f"b_{g.name}"][:, :, list(block)].reshape(3, -1), X[:, where[name]])
    for term, effect in zip(design.structured, model.effects, strict=True):
        R, m = effect.replicates, effect.observed
        whole = X[:, where[f"f_{term.name}"]].reshape(3, R, effect.size)[:, :, :m]
        assert parts[f"f_{term.name}"].shape == ((3, R, m) if term.by is not None else (3, m))
        np.testing.assert_array_equal(parts[f"f_{term.name}"].reshape(3, R, m), whole)


def test_the_correlation_of_two_slopes_is_as_stated() -> None:
    field = Field(model_of("slopes", "poisson"))
    named = field.unpack_theta(np.array([[0.3, -0.4, 0.6]]))
    np.testing.assert_allclose(named["sd_g"][0], np.exp([0.3, -0.4]), rtol=1e-12)
    np.testing.assert_allclose(named["cor_g"][0, 1, 0], np.tanh(0.6), rtol=1e-12)


# ---- copies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["bym2", "mixed", "intercepts"])
def test_a_clone_is_independent(structure: str) -> None:
    field = Field(model_of(structure, "binomial"))
    here, there = somewhere(field, 1), somewhere(field, 2)
    placed(field, here)
    value, x = field.value(), np.array(field.x)
    other = field.clone()
    placed(other, there)
    other_value = other.value()
    assert field.value() == value
    np.testing.assert_array_equal(field.x, x)
    placed(field, there)
    assert abs(field.value() - other_value) < 1e-9 * (1.0 + abs(other_value))


def test_same_value_from_any_start() -> None:
    """The mode does not depend on where the last one was."""
    field = Field(model_of("bym2", "bernoulli"))
    theta = somewhere(field)
    placed(field, theta)
    value = field.value()
    placed(field, somewhere(field, 9, 1.5))
    placed(field, theta)
    assert abs(field.value() - value) < 1e-9 * (1.0 + abs(value))


def test_beyond_its_limits_the_likelihood_is_flat_and_the_prior_goes_on() -> None:
    field = Field(model_of("rw1", "poisson"))
    low, high = field.limits
    for limit, beyond in ((low, low - 3.0), (high, high + 30.0), (high, np.full(field.size, 1e6))):
        assert field.place(beyond)
        value = field.value()
        np.testing.assert_array_equal(field.slopes(), 0.0)
        assert field.place(limit)
        np.testing.assert_allclose(value, field.value(), rtol=1e-6)
    assert field.log_prior(low - 3.0) < field.log_prior(low)
    assert field.log_prior(np.full(field.size, 1e6)) == -np.inf
    assert not field.place(np.full(field.size, np.nan))
    placed(field, somewhere(field))


def test_flat_directions_leave_the_constants_of_the_others() -> None:
    """Log p(y | theta) under a flat intercept is that under a very wide one, its own constant taken off."""
    model = model_of("rw1", "poisson")
    names = model.design.coefficients
    assert len(names) > 1
    wide = 1e5
    values = []
    for prior in (bayou.priors.Flat(), bayou.priors.Normal(0.0, wide)):
        given = bayou.priors.Priors(beta=bayou.priors.Normal(0.0, 3.0), **{f"beta[{names[0]}]": prior})
        field = Field(bayou.Model(model.text, model.design.data, model.family, given))
        assert field.place(field.initial)
        values.append(field.value())
    np.testing.assert_allclose(values[0], values[1] + np.log(wide * np.sqrt(2.0 * np.pi)), atol=1e-6)


@pytest.mark.parametrize(("structure", "family"), [("icar", "poisson"), ("rw1", "bernoulli"), ("bym2", "gamma")])
def test_chords_end_at_the_same_mode(structure: str, family: str) -> None:
    plain, hasty = Field(model_of(structure, family)), Field(model_of(structure, family))
    hasty.chords = True
    rng = np.random.default_rng(3)
    psi = somewhere(plain)
    for step in (0.0, 0.01, 0.05, 0.3, 1.0, 2.0):
        psi = psi + step * rng.standard_normal(plain.size)
        assert plain.place(psi) and hasty.place(psi)
        np.testing.assert_allclose(hasty.value(), plain.value(), rtol=1e-9)
        np.testing.assert_allclose(hasty.x, plain.x, atol=1e-6)
        np.testing.assert_allclose(hasty.slopes(), plain.slopes(), rtol=1e-5, atol=1e-6)

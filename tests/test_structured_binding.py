"""Priors of structured effects in a model: keys, defaults, densities, draws, and what is refused."""

import numpy as np
import pytest

import bayou
from bayou import binding, effects
from bayou.errors import DataError, ImproperPosterior, PriorError
from bayou.priors import (
    LKJ,
    PC,
    Beta,
    Exponential,
    Flat,
    FlatSD,
    Gamma,
    HalfT,
    HuangWand,
    InverseGamma,
    InverseWishart,
    Jeffreys,
    Normal,
    OfVariance,
    Uniform,
)
from bayou.priors.structured import PCCorrelation, PCMixing
from dense_effects import slopes

W = [("a", "b"), ("b", "c"), ("d", "e")]
A = np.eye(6) * 0.5 + 0.5
N = 160


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    return {
        "y": 3.0 * rng.standard_normal(N),
        "c": rng.poisson(2, N),
        "t": np.arange(N) % 40,
        "x": rng.uniform(size=N),
        "area": rng.choice(list("abcde"), N),
        "g": rng.choice(["u", "v"], N),
        "a": rng.choice(6, N),
        "late": (np.arange(N) % 40 > 19).astype(int),
        "zero": np.zeros(N, dtype=int),
    }


def model(formula, data, priors=None):
    family = {"c": "poisson", "l": "bernoulli", "z": "poisson"}.get(formula[0], "gaussian")
    return bayou.Model(formula, data, family=family, priors=priors, structures={"W": W, "A": A})


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ rw1(t)", {"sd_t": "PC({s}, 0.01)"}),
        ("y ~ rw2(t, by=g)", {"sd_t:g": "PC({s}, 0.01)"}),
        ("y ~ ar1(t)", {"sd_t": "PC({s}, 0.01)", "rho_t": "PC(0.9, 0.1)"}),
        ("y ~ seasonal(t, period=4)", {"sd_t": "PC({s}, 0.01)"}),
        ("y ~ s(x)", {"sd_x": "PC({s}, 0.01)"}),
        ("c ~ icar(area, graph=W)", {"sd_area": "PC(1, 0.01)"}),
        ("c ~ leroux(area, graph=W)", {"sd_area": "PC(1, 0.01)", "rho_area": "Uniform(0, 1)"}),
        ("c ~ car(area, graph=W)", {"sd_area": "PC(1, 0.01)", "rho_area": "Uniform(0, 1)"}),
        ("c ~ bym2(area, graph=W)", {"sd_area": "PC(1, 0.01)", "phi_area": "PC(0.5, 0.3333)"}),
        ("y ~ (1 | a, covariance=A)", {"sd_a": "PC({s}, 0.01)"}),
    ],
)
def test_defaults(formula, expected, data):
    m = model(formula, data)
    s = f"{np.std(data['y'], ddof=1):.4g}"
    for key, text in expected.items():
        assert str(m.priors[key]) == text.format(s=s)
        assert f"{key} ~ {text.format(s=s)}" in m.bound.lines
    (bound,) = m.bound.structured
    assert len(bound) == len(m.effects[0].hyperparameters) == len(expected)
    again = model(formula, data, m.priors)
    assert again.bound.lines == m.bound.lines
    assert [str(p) for p in again.bound.structured[0]] == [str(p) for p in bound]


def test_the_specific_before_the_general(data):
    formula = "y ~ rw1(t) + ar1(x) + (1 | g)"
    m = model(formula, data, {"sd": HalfT(3, 1), "precision_t": Gamma(1, 2), "rho_x": Uniform(0, 1)})
    assert m.priors["sd_g[Intercept]"] == HalfT(3, 1)
    assert m.bound.structured[0] == (Gamma(1, 2),)
    assert m.bound.structured[1] == (HalfT(3, 1), Uniform(0, 1))
    assert "precision_t ~ Gamma(1, 2)" in m.bound.lines
    assert not any("acts on nothing" in note for note in model("y ~ rw1(t)", data, {"sd": HalfT(3, 1)}).bound.notes)
    assert any("acts on nothing" in note for note in model("y ~ rw1(t)", data, {"Sigma": HuangWand()}).bound.notes)


def test_pc_becomes_the_density_of_its_effect(data):
    m = model("c ~ bym2(area, graph=W) + ar1(t)", data, {"phi_area": PC(0.7, 0.2), "rho_t": PC(0.8, 0.3)})
    by_kind = {e.kind: p for e, p in zip(m.effects, m.bound.structured, strict=True)}
    phi, rho = by_kind["bym2"][1], by_kind["ar1"][1]
    assert isinstance(phi, PCMixing) and (phi.upper, phi.probability) == (0.7, 0.2)
    assert isinstance(rho, PCCorrelation) and not rho.positive
    assert m.priors["phi_area"] == PC(0.7, 0.2)
    model("c ~ leroux(area, graph=W)", data, {"rho_area": Beta(2, 1)})


@pytest.mark.parametrize(
    ("formula", "priors", "message"),
    [
        ("y ~ rw1(t)", {"rho_t": Uniform(0, 1)}, "No parameter.*'rho_t'"),
        ("y ~ ar1(t)", {"rho_t": Uniform(0, 2)}, "between -1 and 1"),
        ("y ~ ar1(t)", {"rho_t": Normal(0, 1)}, r"rho_t takes PC\(upper, probability\), Uniform"),
        ("y ~ ar1(t)", {"rho_t": PC(1.5, 0.1)}, "upper below 1"),
        ("y ~ ar1(t)", {"rho_t": Beta(1, 1)}, "not Beta"),
        ("c ~ leroux(area, graph=W)", {"rho_area": PC(0.9, 0.1)}, r"Uniform\(0, 1\) or Beta"),
        ("c ~ bym2(area, graph=W)", {"phi_area": Uniform(-1, 1)}, "between 0 and 1"),
        ("y ~ rw1(t)", {"sd_t": Normal(0, 1)}, "not a prior of a scale"),
        ("y ~ rw1(t)", {"sd_t": Uniform(-1, 1)}, "never negative"),
        ("y ~ rw1(t)", {"sd_t": HalfT(3, 1), "precision_t": Gamma(1, 1)}, "same standard deviation"),
    ],
)
def test_what_does_not_fit(formula, priors, message, data):
    with pytest.raises(PriorError, match=message):
        model(formula, data, priors)


def test_improper_sds(data):
    with pytest.raises(ImproperPosterior, match="always improper"):
        model("y ~ rw1(t)", data, {"sd_t": Jeffreys()})
    model("y ~ rw1(t)", data, {"sd_t": FlatSD()})
    with pytest.raises(ImproperPosterior, match="beside other flat ones"):
        model("y ~ rw1(t) + rw1(x)", data, {"sd": FlatSD()})
    with pytest.raises(ImproperPosterior, match="beside other flat ones"):
        model("y ~ rw1(t) + (1 | a)", data, {"sd": FlatSD()})
    # five areas, two constraints: three are left, one short of what a flat variance and a flat intercept need
    model("c ~ icar(area, graph=W)", data, {"sd_area": OfVariance(Flat())})
    with pytest.raises(ImproperPosterior, match=r"at least 3 places.*5 - 3 = 2"):
        model("c ~ icar(area, graph=W)", data, {"sd_area": OfVariance(Flat()), "beta": Flat()})
    with pytest.raises(ImproperPosterior, match="at least 2 places"):
        model("zero ~ ar1(t)", data, {"sd_t": FlatSD()})


def test_residual_variance_without_residuals(data):
    """One row at each point of time: nothing is left for p(sigma²) ∝ 1/sigma²."""
    one = {"y": data["y"][:40], "t": np.arange(40)}
    with pytest.raises(ImproperPosterior, match=r"n − rank\[X Z\]"):
        bayou.Model("y ~ rw1(t)", one, priors={"sigma": Jeffreys()})
    bayou.Model("y ~ rw1(t)", {"y": data["y"], "t": data["t"]}, priors={"sigma": Jeffreys()})


def test_free_directions_and_flat_fixed_effects(data):
    flat = {"beta": Flat()}
    with pytest.raises(ImproperPosterior, match=r"rw2\(t\), Intercept, t:"):
        model("y ~ t + rw2(t)", data, flat)
    model("y ~ t + rw2(t)", data)
    model("y ~ x + rw2(t)", data, flat)
    model("y ~ t + rw1(t)", data, flat)
    with pytest.raises(ImproperPosterior, match=r"rw1\(t\), Intercept"):
        model("y ~ rw1(t, constrained=False)", data, flat)
    model("y ~ rw1(t, constrained=False)", data)
    with pytest.raises(ImproperPosterior, match=r"rw2\(t\), s\(t\)"):
        model("y ~ rw2(t) + s(t)", data)
    # two copies of the line; the rows of v all at one time in the middle leave its line alone
    model("y ~ rw2(t, by=g)", data, flat)
    t = np.where(data["g"] == "v", 20, 2 * (data["t"] // 2))
    with pytest.raises(ImproperPosterior, match="rw2"):
        model("y ~ g + rw2(t, by=g)", {**data, "t": t}, flat)


def test_free_directions_and_separation(data):
    """Successes from t = 20 on: the slope of the line that rw2 leaves free has no bound."""
    with pytest.raises(ImproperPosterior, match=r"rw2\(t\).*does not fall to zero"):
        model("late ~ rw2(t)", data)
    model("late ~ rw1(t)", data)
    mixed = data["late"].copy()
    mixed[[0, 39]] = 1 - mixed[[0, 39]]
    model("late ~ rw2(t)", {**data, "late": mixed})


def test_not_positive_definite(data):
    bad = A.copy()
    bad[0, 1] = bad[1, 0] = 2.0
    smallest = np.linalg.eigvalsh(bad)[0]
    with pytest.raises(DataError, match=f"not positive definite.*{smallest:.4g}"):
        bayou.Model("y ~ (1 | a, covariance=A)", data, structures={"A": bad})


# ---- densities in internal coordinates -----------------------------------------------------------


@pytest.mark.parametrize(
    "prior", [PC(2, 0.05), HalfT(3, 0.7), Gamma(1.5, 0.4), InverseGamma(1.5, 0.4), OfVariance(Exponential(2)), FlatSD()]
)
def test_density_of_an_sd(prior, data):
    h = model("y ~ rw1(t)", data).effects[0].hyperparameters[0]
    for t in (-3.0, 0.2, 2.0):
        s = np.exp(t)
        expected = float(prior.sd_log_density(s)) + t
        np.testing.assert_allclose(binding.log_density_structured(prior, h, t), expected, rtol=1e-12)
        found = slopes(lambda u, h=h: binding.log_density_structured(prior, h, u[0]), np.array([t]))[0]
        np.testing.assert_allclose(binding.log_density_structured.slope(prior, h, t), found, rtol=1e-7, atol=1e-8)


def test_density_of_rho_and_phi(data):
    for formula, priors in (
        ("c ~ bym2(area, graph=W)", {}),
        ("c ~ bym2(area, graph=W)", {"phi_area": Uniform(0, 1)}),
        ("c ~ ar1(t)", {}),
        ("c ~ ar1(t)", {"rho_t": Uniform(-1, 1)}),
        ("c ~ ar1(x)", {}),
        ("c ~ leroux(area, graph=W)", {}),
        ("c ~ car(area, graph=W)", {"rho_area": Beta(3, 2)}),
    ):
        m = model(formula, data, priors)
        prior, h = m.bound.structured[0][1], m.effects[0].hyperparameters[1]
        for t in (-4.0, 0.3, 1.7):
            value, log_slope = h.value(t), np.log(h.slope(t))
            expected = float(prior.log_density(value)) + log_slope
            found = binding.log_density_structured(prior, h, t)
            np.testing.assert_allclose(found, expected, rtol=1e-8, err_msg=formula)
            by_hand = slopes(lambda u, p=prior, h=h: binding.log_density_structured(p, h, u[0]), np.array([t]))[0]
            slope = binding.log_density_structured.slope(prior, h, t)
            np.testing.assert_allclose(slope, by_hand, rtol=1e-6, atol=1e-8)
        # far out it is a number still
        assert np.isfinite([binding.log_density_structured(prior, h, t) for t in (-100.0, 100.0)]).all(), formula


@pytest.mark.parametrize(
    "given",
    [
        {"Sigma_g": InverseWishart(5, np.eye(2))},
        {"Sigma_g": HuangWand(2, [1.0, 2.0])},
        {"sd_g": HalfT(3, 1)},
        {"sd_g": Uniform(0, 0.5), "cor_g": LKJ(2)},  # no density at sds of one
    ],
)
def test_density_of_a_block(given, data, rng):
    m = model("y ~ x + (1 + x | g)", data, given)
    block = m.bound.blocks[0]
    effect = effects.of_grouping(m.design.groupings[0], 0)
    assert effect.replicates == 2
    for _ in range(3):
        theta = 0.5 * rng.standard_normal(3) - np.array([3.0, 3.0, 0.0])
        low = np.tril_indices(2)
        J = slopes(lambda t, low=low: effect.sigma(t)[low], theta)
        expected = binding.log_density_block(block, effect.sigma(theta)) + np.linalg.slogdet(J)[1]
        np.testing.assert_allclose(binding.log_density_block_internal(block, effect, theta), expected, rtol=1e-7)
        found = slopes(lambda t: binding.log_density_block_internal(block, effect, t), theta)
        slope = binding.log_density_block_internal.slope(block, effect, theta)
        np.testing.assert_allclose(slope, found, rtol=1e-6, atol=1e-7)


# ---- draws ---------------------------------------------------------------------------------------


def test_prior_draws(data):
    m = model("y ~ rw1(t, by=g) + ar1(x)", data, {"sd_t:g": HalfT(5, 2), "sd_x": Exponential(1), "rho_x": PC(0.5, 0.5)})
    out = m.sample_prior(4000, seed=1)
    again = m.sample_prior(4000, seed=1)
    assert all(np.array_equal(out[key], again[key]) for key in out)
    shapes = {key: value.shape for key, value in out.items()}
    q = len(np.unique(data["x"]))
    assert shapes["f_t:g"] == (4000, 2, 40) and shapes["f_x"] == (4000, q)
    assert shapes["sd_t:g"] == shapes["sd_x"] == shapes["rho_x"] == (4000,)
    # f over its sd has the marginal scale that is stated
    unit = out["f_t:g"] / out["sd_t:g"][:, None, None]
    v = unit.reshape(-1, 40).var(axis=0)
    assert abs(np.exp(np.log(v).mean()) - 1) < 0.06
    assert np.abs(out["f_t:g"].sum(axis=2)).max() < 1e-8 * np.abs(out["f_t:g"]).max()
    v = (out["f_x"] / out["sd_x"][:, None]).var(axis=0)
    assert np.all(np.abs(v - 1) < 5 * np.sqrt(2 / 4000))
    assert abs(np.mean(out["rho_x"] > 0.5) - 0.5) < 0.04
    assert abs(out["sd_x"].mean() - 1) < 0.1


def test_prior_draws_of_areas(data):
    m = model("c ~ bym2(area, graph=W)", data)
    out = m.sample_prior(4000, seed=2)
    assert out["f_area"].shape == (4000, 5) and out["phi_area"].shape == (4000,)
    assert abs(np.mean(out["phi_area"] > 0.5) - 1 / 3) < 5 * np.sqrt(2 / 9 / 4000)
    v = (out["f_area"] / out["sd_area"][:, None]) ** 2
    # E f² = sd² ((1 − phi) + phi R⁺_ii)
    R = m.effects[0].structure.covariance(np.zeros(1)).diagonal()
    phi = out["phi_area"].mean()
    expected = 1 - phi + phi * R
    assert np.all(np.abs(v.mean(axis=0) - expected) < 5 * v.std(axis=0) / np.sqrt(4000))
    with pytest.raises(PriorError, match="improper"):
        model("y ~ rw1(t)", data, {"sd_t": FlatSD()}).sample_prior(3)

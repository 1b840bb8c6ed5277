"""The joint density against a slow oracle, its gradient against differences, and the ways there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayou import Model
from bayou.errors import DataError, Unsupported
from bayou.joint import JointDensity, joint_density
from bayou.joint.pointer import call
from bayou.priors import (
    LKJ,
    PC,
    Beta,
    Exponential,
    Flat,
    FlatSD,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    HuangWand,
    InverseGamma,
    InverseWishart,
    Jeffreys,
    Normal,
    OfPrecision,
    OfVariance,
    StudentT,
    Uniform,
    Wishart,
)
from dense_joint import DenseJoint, differences
from field_models import FAMILIES, STRUCTURES, build, table

COORDINATES = ("whitened", "centered", "laplace", "auto")


def check(model: Model, coordinates: str = "whitened", oracle: bool = True, seed: int = 3) -> JointDensity:
    """Hold one density to everything that is known of it, at two positions."""
    density = joint_density(model, coordinates)
    dense = DenseJoint(density)
    assert len(density.names) == density.size == len(set(density.names))
    for trial in range(2):
        q = density.start(np.random.default_rng(seed + trial))
        value, gradient = density.evaluate(q)
        assert np.isfinite(value)
        np.testing.assert_allclose(
            gradient, differences(density, q), rtol=1e-6, atol=1e-7 * (1.0 + np.abs(gradient).max())
        )
        if oracle:
            # differences of sixth order with steps of .002 leave about 1e-9 of each column
            assert value == pytest.approx(dense.value(q), abs=2e-6 + 1e-9 * abs(value))
        back = density.position(density.natural(q))
        np.testing.assert_allclose(back, q, rtol=1e-8, atol=1e-8)
    return density


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures(structure: str) -> None:
    check(build(structure))


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, coordinates: str) -> None:
    check(build("slopes and areas", family), coordinates)


@pytest.mark.parametrize("coordinates", ("centered", "laplace", "auto"))
@pytest.mark.parametrize("structure", ["uncorrelated", "rw2", "ar1", "ar1 uneven", "leroux by", "bym2", "by", "mixed"])
def test_coordinates(structure: str, coordinates: str) -> None:
    check(build(structure, "poisson"), coordinates)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_links(link: str) -> None:
    from bayou.families import Bernoulli

    data = table("bernoulli")
    check(Model("y ~ x + (1 + x | g)", data, Bernoulli(link=link)))


def test_gaussian_with_log_link() -> None:
    from bayou.families import Gaussian

    data = table("gaussian") | {"y": np.exp(0.3 * table("gaussian")["y"])}
    check(Model("y ~ x + (1 | g)", data, Gaussian(link="log")))


SDS = [
    HalfT(3, 1.3), HalfNormal(0.8), HalfCauchy(1.1), Exponential(1.7), PC(1.2, 0.05), Uniform(0.0, 3.0),
    Uniform(0.1, 2.5), Flat(), FlatSD(), Gamma(1.5, 0.7), InverseGamma(1.2, 0.4), OfVariance(HalfT(4, 2.0)),
    OfVariance(Uniform(0.0, 4.0)), OfPrecision(Exponential(0.3)), OfPrecision(Uniform(0.05, 30.0)),
]  # fmt: skip


@pytest.mark.parametrize("prior", SDS, ids=str)
def test_priors_of_a_scale(prior: Any) -> None:
    """Of one sd, of the sds of a correlated block, of a structure, and of sigma."""
    of_sigma = {"sigma": prior} if str(prior) not in ("Flat()",) else {}
    check(build("slopes", priors={"sd_g": prior, "cor_g": LKJ(1.7), **of_sigma}))
    check(build("intercepts", priors={"sd_g": prior}), "centered")
    check(build("icar", priors={"sd_area": prior}))


@pytest.mark.parametrize(
    "prior",
    [InverseWishart(4.5, [[0.5, 0.1], [0.1, 0.7]]), Wishart(3.5, 0.4), HuangWand(3.0, [0.7, 1.9]), HuangWand(2.0, 1.0)],
    ids=str,
)
@pytest.mark.parametrize("coordinates", ("whitened", "centered"))
def test_priors_of_a_matrix(prior: Any, coordinates: str) -> None:
    check(build("slopes", priors={"Sigma_g": prior}), coordinates)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("priors", [{}, {"sd_g": HalfNormal(1.0), "cor_g": LKJ(2.5)}], ids=["huang_wand", "lkj"])
def test_blocks_of_three(priors: dict[str, Any], coordinates: str) -> None:
    data = table("gaussian")
    data["v"] = np.random.default_rng(8).normal(size=len(data["y"]))
    check(Model("y ~ x + (1 + x + v | g) + (0 + z | arm)", data, priors=priors), coordinates)


COEFFICIENTS = [
    Normal(0.2, 1.4), StudentT(4, 0.1, 1.2), Uniform(-2.0, 3.0), HalfNormal(1.5), HalfT(3, 1.0), Exponential(0.7),
    Flat(),
]  # fmt: skip


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("prior", COEFFICIENTS, ids=str)
def test_priors_of_coefficients(prior: Any, coordinates: str) -> None:
    density = check(build("intercepts", priors={"beta[x]": prior}), coordinates)
    assert density.proper == (str(prior) != "Flat()")


def test_a_joint_prior_of_coefficients() -> None:
    check(build("intercepts", priors={"beta": Normal([0.1, -0.2], cov=[[4.0, 1.0], [1.0, 2.0]])}))


SHARES = {
    "ar1": [PC(0.7, 0.2), Uniform(-1.0, 1.0), Uniform(-0.3, 0.95)],
    "ar1 uneven": [PC(0.7, 0.2), Beta(2.0, 1.5), Uniform(0.0, 1.0), Uniform(0.1, 0.9)],
    "bym2": [PC(0.4, 0.6), Beta(2.0, 3.0), Uniform(0.2, 0.8)],
    "leroux": [Beta(1.0, 2.0), Uniform(0.0, 1.0), Uniform(0.0, 0.9)],
}


@pytest.mark.parametrize(
    ("structure", "prior"), [(s, p) for s, priors in SHARES.items() for p in priors], ids=lambda v: str(v)
)
def test_priors_of_shares(structure: str, prior: Any) -> None:
    key = {"ar1": "rho_t", "ar1 uneven": "rho_u", "bym2": "phi_area", "leroux": "rho_area"}[structure]
    check(build(structure, "poisson", priors={key: prior}))


@pytest.mark.parametrize("structure", ["ar1", "ar1 uneven", "bym2"])
def test_tables_of_priors(structure: str) -> None:
    """Values read from a table are those of the prior, also where no knot is and beyond the ends."""
    model = build(structure, "poisson")
    density = joint_density(model, "whitened")
    dense = DenseJoint(density)
    q = density.start(np.random.default_rng(1))
    k = next(k for k, name in enumerate(density.names) if " rho_" in name or " phi_" in name)
    for t in (-7.777, -2.003, -0.0131, 0.0, 0.4567, 3.1415, 6.789):
        q[k] = t
        found = density.evaluate(q)[0]
        assert found == pytest.approx(dense.value(q), abs=1e-6 + 1e-9 * abs(found))


def test_weights_and_levels_of_sigma() -> None:
    for family in ("gaussian", "gamma", "negative_binomial"):
        check(build("slopes", family, weights="w", sigma_by="arm"))
        check(build("slopes", family, weights="w"), "centered")


def test_known_standard_errors() -> None:
    rng = np.random.default_rng(2)
    data = {"y": rng.normal(size=8), "se": rng.uniform(0.5, 1.5, 8), "g": list("abcdefgh")}
    model = Model("measured(y, se) ~ 1 + (1 | g)", data)
    for coordinates in COORDINATES:
        assert "log sigma" not in check(model, coordinates).names


def test_crossed_and_nested_factors_and_bars() -> None:
    data = table("binomial")
    data["h"] = [f"h{k % 4}" for k in range(len(data["y"]))]
    for formula in ("proportion(y, trials) ~ x + (1 | g) + (1 | h)", "proportion(y, trials) ~ (1 | g / arm)",
                    "proportion(y, trials) ~ x + (1 | g) + (0 + x | g) + (1 | h)"):  # fmt: skip
        for coordinates in ("whitened", "auto"):
            check(Model(formula, data, "binomial"), coordinates)


def test_without_groups_and_without_fixed_effects() -> None:
    data = table("gaussian")
    check(Model("y ~ x + z", data))
    check(Model("y ~ 0 + (1 | g)", data))
    check(Model("y ~ 0 + rw1(t)", data), "laplace")


def test_factors_with_names_of_the_contract() -> None:
    data = table("gaussian")
    data["draw"] = data["g"]
    model = Model("y ~ x + (1 | draw)", data)
    density = joint_density(model, "whitened")
    q = density.start(np.random.default_rng(0))
    named = density.natural(q)
    assert "sd_draw_" in named and "b_draw_" in named
    np.testing.assert_allclose(density.position(named), q, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("structure", ["slopes", "mixed", "ar1", "leroux"])
def test_coordinates_agree_up_to_their_volume(structure: str) -> None:
    """The same point has, but for |d natural / d q|, one density in all coordinates."""
    model = build(structure, "poisson")
    values = []
    first = joint_density(model, "whitened")
    named = first.natural(first.start(np.random.default_rng(5)))
    for coordinates in COORDINATES:
        density = joint_density(model, coordinates)
        q = density.position(named)
        values.append(density.evaluate(q)[0] - DenseJoint(density).log_volume(q))
    np.testing.assert_allclose(values, values[0], atol=5e-6)


@pytest.mark.parametrize("structure", ["intercepts", "slopes", "rw2", "by", "slopes and areas"])
@pytest.mark.parametrize("coordinates", ("auto", "laplace"))
def test_mapped_coordinates_are_standard_normal(structure: str, coordinates: str) -> None:
    """Of a Gaussian response, given theta at its mode: the slope at q is −q for all but theta."""
    density = joint_density(build(structure), coordinates)
    d = density.dimension[0]
    q = np.concatenate([np.zeros(d), np.random.default_rng(4).normal(size=density.size - d)])
    np.testing.assert_allclose(density.evaluate(q)[1][d:], -q[d:], atol=2e-5)


@pytest.mark.parametrize("bar", ["(1 | g)", "(1 + x | g)"])
def test_conditional_coordinates_follow_theta(bar: str) -> None:
    """Of a Gaussian response whose variances are known they are standard normal at every theta and beta."""
    rng = np.random.default_rng(9)
    g, x = np.repeat(np.arange(6), 30), rng.normal(size=180)
    y = 1.0 + (0.8 * rng.normal(size=6))[g] + (0.4 * rng.normal(size=6))[g] * x + 0.5 * rng.normal(size=180)
    data = {"y": y, "se": np.full(180, 0.5), "x": x, "g": [f"g{k}" for k in g]}
    density = joint_density(Model(f"measured(y, se) ~ x + {bar}", data), "auto")
    d, P, _ = density.dimension
    for trial in range(3):
        q = 2.0 * np.random.default_rng(trial).normal(size=density.size)
        np.testing.assert_allclose(density.evaluate(q)[1][d + P :], -q[d + P :], atol=1e-8)


def test_a_structure_too_large_for_a_root() -> None:
    """Then it is conditional on the fixed effects, coordinate by coordinate."""
    rng = np.random.default_rng(6)
    t = np.arange(270)
    data = {"y": rng.poisson(np.exp(0.3 + np.sin(t / 30.0))).astype(float), "t": t, "x": rng.normal(size=270)}
    density = joint_density(Model("y ~ x + rw1(t)", data, "poisson"), "auto")
    assert density.data.parts.cross_at[0] == 0 and len(density.data.map.lead) == 2
    q = density.start(np.random.default_rng(1))
    value, gradient = density.evaluate(q)
    some = np.array([0, 1, 2, 3, 50, 200, density.size - 1])
    found = differences(density, q, at=some)
    np.testing.assert_allclose(gradient[some], found[some], rtol=1e-6, atol=1e-6 * np.abs(gradient).max())
    np.testing.assert_allclose(density.position(density.natural(q)), q, rtol=1e-8, atol=1e-8)
    plain = joint_density(density.model, "whitened")
    assert np.isfinite(value) and np.isfinite(plain.evaluate(plain.position(density.natural(q)))[0])


def test_draws_of_many_chains_keep_their_shape() -> None:
    density = joint_density(build("mixed"), "auto")
    Q = np.array([[density.start(np.random.default_rng(10 * c + d)) for d in range(5)] for c in range(2)])
    named = density.natural(Q)
    assert named["beta"].shape == (2, 5, 2) and named["f_area"].shape == (2, 5, 9)
    np.testing.assert_allclose(density.position(named), Q, rtol=1e-8, atol=1e-8)


def test_jobs_share_data_and_nothing_else() -> None:
    density = joint_density(build("slopes"), "whitened")
    one, other = density.new_job(), density.new_job()
    q, p = (density.start(np.random.default_rng(k)) for k in (1, 2))
    g, h = np.zeros(density.size), np.zeros(density.size)
    first = call(one, q, g)
    call(other, p, h)
    again = np.zeros(density.size)
    assert call(one, q, again) == first == density.evaluate(q)[0]
    np.testing.assert_array_equal(g, again)


def test_what_cannot_be_computed_has_density_zero() -> None:
    density = joint_density(build("slopes and areas", "poisson"), "whitened")
    q = density.start(np.random.default_rng(1))
    for k in (0, density.size - 1):
        for bad in (np.nan, np.inf, -np.inf, 1e6):
            far = q.copy()
            far[k] = bad
            assert density.evaluate(far)[0] == -np.inf


def test_describe_says_why() -> None:
    assert joint_density(build("slopes"), "whitened").describe() == ["b_g: whitened, as asked"]
    lines = joint_density(build("mixed"), "auto").describe()
    assert lines[0].startswith("b_g: conditional on its hyperparameters and the data; the data weigh")
    assert [line.split(":")[0] for line in lines[1:]] == ["f_t", "f_area", "fixed effects and 20 coefficients"]
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(30), 40)
    data = {"y": 2.0 * rng.normal(size=30)[g] + 0.5 * rng.normal(size=1200), "g": [f"g{k}" for k in g]}
    assert "b_g: centred" in joint_density(Model("y ~ 1 + (1 | g)", data), "laplace").describe()[0]


def test_wrong_input() -> None:
    model = build("slopes")
    with pytest.raises(DataError, match="'whitened'"):
        joint_density(model, "polar")
    density = joint_density(model, "whitened")
    with pytest.raises(DataError, match="16 numbers"):
        density.evaluate(np.zeros(3))
    with pytest.raises(DataError, match="lack sd_g"):
        density.position({"beta": np.zeros((4, 2))})
    data = {"y": np.zeros(3) + [0.0, 1.0, 2.0], "node": ["a", "b", "c"]}
    names = [f"n{k}" for k in range(2100)] + ["a", "b", "c"]
    edges = list(zip(names[:-1], names[1:], strict=True))
    with pytest.raises(Unsupported, match="2,000"):
        joint_density(Model("y ~ icar(node, graph=W)", data, structures={"W": edges}), "whitened")


def test_improper_priors_are_seen() -> None:
    assert joint_density(build("intercepts"), "whitened").proper
    assert not joint_density(build("intercepts", priors={"sigma": Jeffreys()}), "whitened").proper
    assert not joint_density(build("rw2"), "whitened").proper  # its line
    assert not joint_density(build("intercepts", priors={"sd_g": FlatSD()}), "whitened").proper


def test_a_family_of_ones_own() -> None:
    """The same density written by a user gives the same joint density."""
    from bayou.families import Custom

    def log_density(y: Any, eta: Any, sigma: Any) -> Any:
        return -0.9189385332046727 - np.log(sigma) - 0.5 * ((y - eta) / sigma) ** 2

    priors = build("slopes").priors
    known = joint_density(build("slopes", priors=priors), "whitened")
    data = table("gaussian")
    own = Model("y ~ x + (1 + x | g)", data, Custom(log_density, dispersion="sigma", name="mine"), priors=priors)
    density = joint_density(own, "auto")
    assert "no mode" in density.describe()[0]
    named = known.natural(known.start(np.random.default_rng(2)))
    for one, other in [(known, density)]:
        q, p = one.position(named), other.position(named)
        value, gradient = other.evaluate(p)
        volumes = DenseJoint(one).log_volume(q) - DenseJoint(other).log_volume(p)
        assert value == pytest.approx(one.evaluate(q)[0] - volumes, abs=1e-6)
        np.testing.assert_allclose(gradient, differences(other, p), rtol=1e-6, atol=1e-6 * np.abs(gradient).max())
    start = density.start(np.random.default_rng(1))
    assert np.isfinite(density.evaluate(start)[0])


@pytest.mark.parametrize("leading", [250, 8, 0])
@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_large_blocks_follow_small_ones(family, leading, monkeypatch):
    """However many follow: the density is that of whitened coordinates times the volume of the map between them."""
    from bayou.joint import adapted

    monkeypatch.setattr(adapted, "LEADING", leading)
    rng = np.random.default_rng(1)
    a, b, c = (rng.integers(0, J, 60) for J in (5, 4, 3))
    data = {"a": a, "b": b, "c": c, "x": rng.normal(size=60)}
    level = 0.5 * rng.normal(size=5)[a] + 0.3 * rng.normal(size=4)[b]
    data["y"] = level + rng.normal(size=60) if family == "gaussian" else rng.poisson(np.exp(level)).astype(float)
    model = Model("y ~ x + (x | a) + (1 | b) + (1 | c)", data, family)
    auto, plain = joint_density(model, "auto"), joint_density(model, "whitened")
    assert (auto.data.parts.cross_at >= 0).sum() == {250: 1, 8: 2, 0: 3}[leading]

    def there(q):
        return plain.position(auto.natural(q))

    def differences(function, q, h=1e-3):
        steps = h * np.eye(len(q))
        return [
            (8 * (function(q + e) - function(q - e)) - (function(q + 2 * e) - function(q - 2 * e))) / (12 * h)
            for e in steps
        ]

    for _ in range(2):
        q = 0.5 * rng.normal(size=auto.size)
        value, gradient = auto.evaluate(q)
        volume = np.linalg.slogdet(np.array(differences(there, q)))[1]
        np.testing.assert_allclose(value, plain.evaluate(there(q))[0] + volume, atol=1e-7)
        slopes = np.array(differences(lambda at: auto.evaluate(at)[0], q))
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(auto.position(auto.natural(q)), q, atol=1e-8)

"""What must not matter, or must matter in a known way, for every sampler.

Where a change of the data maps every step of a sampler, the same seed must give the mapped draws, up to
rounding: rows in another order, other labels, other units. Where it changes the path but not the target,
means and sds must agree within Monte Carlo error. `test_densities` has the same laws over random designs.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayou
from agreement import same
from bayou.engines import Gibbs, Metropolis
from bayou.priors import HalfNormal, Normal, StudentT, Uniform

SHORT = {"draws": 60, "warmup": 140, "chains": 2}
GIBBS = ["collapsed", "blocked", "marginal", "centered", "uncentered"]
GAUSSIAN = {
    **{name: Gibbs(parameterization=name, **SHORT) for name in GIBBS},
    "laplace": Metropolis(**SHORT),
    "random walk": Metropolis(proposal="random_walk", **SHORT),
}
METROPOLIS = {name: GAUSSIAN[name] for name in ("laplace", "random walk")}
FORMULA = "y ~ x + (x | g)"
WEAK = {"beta": Normal(0, 2), "sd": HalfNormal(1)}


def simulated(seed=3, groups=8, size=6):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    x = rng.normal(size=g.size)
    b = rng.normal(size=(2, groups)) * [[1.0], [0.5]]
    eta = 0.5 + b[0, g] + (0.7 + b[1, g]) * x
    return pd.DataFrame(
        {
            "g": np.array(list("abcdefghijklmnop"))[g], "x": x, "y": eta + rng.normal(size=g.size),
            "k": rng.poisson(np.exp(0.5 * eta)), "n": rng.integers(1, 9, g.size),
            "exposure": rng.uniform(0.5, 2, g.size), "p": 1 / (1 + np.exp(-eta)),
        }
    )  # fmt: skip


DATA = simulated()


def draws_of(engine, data=DATA, formula=FORMULA, seed=5, **model):
    return bayou.fit(formula, data, engine=engine, seed=seed, **model).result.draws


def assert_mapped(found, expected, tolerance=1e-7):
    assert set(found) == set(expected)
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance * scale, err_msg=name)


@pytest.fixture(params=GAUSSIAN)
def engine(request):
    return GAUSSIAN[request.param]


@pytest.fixture
def plain(engine):
    return draws_of(engine)


def test_row_order(engine, plain):
    shuffled = DATA.sample(frac=1, random_state=1)
    assert_mapped(draws_of(engine, shuffled), plain)


def test_kind_of_table_and_order_of_columns(engine, plain):
    for table in (DATA[DATA.columns[::-1]], pl.from_pandas(DATA), DATA.to_dict("list")):
        assert_mapped(draws_of(engine, table), plain, 0)


def test_labels_of_groups(engine, plain):
    numbered = DATA.assign(g=DATA["g"].map({label: 10 * i + 7 for i, label in enumerate("abcdefgh")}))
    assert_mapped(draws_of(engine, numbered), plain, 0)


def test_unused_levels(engine, plain):
    extended = DATA.assign(g=pd.Categorical(DATA["g"], categories=list("abcdefghz")))
    assert_mapped(draws_of(engine, extended), plain, 0)


def test_the_same_seed_gives_the_same_draws_on_any_number_of_threads(engine, plain):
    for cores in (1, 2, 8, 1, 2, 8):
        assert_mapped(draws_of(replace(engine, cores=cores)), plain, 0)


def affine(plain, shift, factor, slope=1.0):
    """Draws of y, mapped to those of shift + factor y with x in units of 1 / slope."""
    beta = factor * plain["beta"] / [1.0, slope]
    beta[..., 0] += shift
    sd, b = factor * plain["sd_g"] / [1.0, slope], factor * plain["b_g"] / [1.0, slope]
    return {"beta": beta, "sd_g": sd, "cor_g": plain["cor_g"], "sigma": factor * plain["sigma"], "b_g": b}


@settings(max_examples=8)
@given(shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
@pytest.mark.parametrize("name", GAUSSIAN)
def test_units_of_the_response(name, shift, factor):
    """y -> a + c y with the default priors, which move along."""
    plain = draws_of(GAUSSIAN[name])
    moved = draws_of(GAUSSIAN[name], DATA.assign(y=shift + factor * DATA["y"]))
    assert_mapped(moved, affine(plain, shift, factor), 1e-7)


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e9])
def test_units_of_a_column(engine, plain, factor):
    """The same draws whatever the unit of x, with the default priors."""
    expected = affine(plain, 0.0, 1.0, factor)
    found = draws_of(engine, DATA.assign(x=factor * DATA["x"]))
    for k in range(2):
        for name in ("beta", "sd_g", "b_g"):
            scale = np.abs(expected[name][..., k]).max()
            np.testing.assert_allclose(found[name][..., k], expected[name][..., k], rtol=1e-8, atol=1e-8 * scale)


@pytest.mark.parametrize("engine", METROPOLIS.values(), ids=METROPOLIS)
@pytest.mark.parametrize(
    ("formula", "family"), [("k ~ x + (x | g)", "poisson"), ("k ~ x + (x | g)", "negative_binomial")]
)
def test_units_of_a_column_of_counts(engine, formula, family):
    plain = draws_of(engine, DATA, formula, family=family)
    moved = draws_of(engine, DATA.assign(x=1000 * DATA["x"]), formula, family=family)
    np.testing.assert_allclose(moved["beta"] * [1, 1000], plain["beta"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(moved["sd_g"] * [1, 1000], plain["sd_g"], rtol=1e-6, atol=1e-8)


def test_origin_of_a_column(engine):
    """x -> x + d moves the intercept by −d beta, since the default prior stands at centred columns."""
    plain = draws_of(engine, formula="y ~ x + (1 | g)")
    moved = draws_of(engine, DATA.assign(x=DATA["x"] + 20), "y ~ x + (1 | g)")
    expected = plain["beta"] - [20.0, 0.0] * plain["beta"][..., [1, 1]]
    assert_mapped(moved, {**plain, "beta": expected}, 1e-7)


def test_known_part_of_the_mean(engine):
    """y ~ x + offset(o) is y − o ~ x, with the same priors."""
    priors = {"beta": Normal(0, 3), "sd": HalfNormal(2), "sigma": HalfNormal(2)}
    data = DATA.assign(less=DATA["y"] - 3 * DATA["exposure"])
    with_offset = draws_of(engine, data, "y ~ x + offset(3 * exposure) + (x | g)", priors=priors)
    assert_mapped(with_offset, draws_of(engine, data, "less ~ x + (x | g)", priors=priors))


@pytest.mark.parametrize("engine", METROPOLIS.values(), ids=METROPOLIS)
@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_exposure(engine, family):
    """Exposure in other units moves the intercept by the log of the unit, and its default prior with it."""
    formula = "k ~ x + offset(log(exposure)) + (x | g)"
    plain = draws_of(engine, DATA, formula, family=family)
    moved = draws_of(engine, DATA.assign(exposure=1000 * DATA["exposure"]), formula, family=family)
    assert_mapped(moved, {**plain, "beta": plain["beta"] - [np.log(1000), 0]})


@pytest.mark.parametrize("engine", METROPOLIS.values(), ids=METROPOLIS)
def test_all_rows_twice_are_weights_of_two(engine):
    priors = {"beta": Normal(0, 2), "sd": HalfNormal(1)}
    twice = draws_of(engine, pd.concat([DATA, DATA]), "k ~ x + (x | g)", family="poisson", priors=priors)
    weighted = draws_of(engine, DATA.assign(w=2.0), "k ~ x + (x | g)", family="poisson", priors=priors, weights="w")
    assert_mapped(twice, weighted)


# ---- the same target by another path ---------------------------------------------------------

LONG = {"draws": 12_000, "chains": 4}
LONG_METROPOLIS = {"laplace": Metropolis(**LONG), "random walk": Metropolis(proposal="random_walk", thin=5, **LONG)}


SAMPLERS = {
    **{name: Gibbs(parameterization=name, **LONG) for name in GIBBS},
    **LONG_METROPOLIS,
}


def assert_same_posterior(one, other, names=("beta", "sd_g"), enough=1_000):
    for name in names:
        for k in range(one[name].shape[-1]):
            same(one[name][..., k], other[name][..., k], f"{name}[{k}]", enough)


@pytest.mark.parametrize("engine", LONG_METROPOLIS.values(), ids=LONG_METROPOLIS)
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_binomial_counts_are_bernoulli_rows(engine, link):
    rng = np.random.default_rng(11)
    trials = rng.integers(1, 6, len(DATA))
    data = DATA.assign(trials=trials, wins=rng.binomial(trials, DATA["p"]))
    rows = data.loc[data.index.repeat(trials)].copy()
    place = rows.groupby(level=0).cumcount()
    rows["won"] = (place < rows["wins"]).astype(int)
    counts = draws_of(
        engine, data, "proportion(wins, trials) ~ x + (1 | g)", family=bayou.families.Binomial(link=link), priors=WEAK
    )
    single = draws_of(
        engine, rows, "won ~ x + (1 | g)", seed=6, family=bayou.families.Bernoulli(link=link), priors=WEAK
    )
    assert_same_posterior(counts, single)


@pytest.mark.parametrize("engine", LONG_METROPOLIS.values(), ids=LONG_METROPOLIS)
def test_a_row_twice_is_a_weight_of_two(engine):
    some = [3, 17, 30]
    weighted = DATA.assign(w=1.0)
    weighted.loc[some, "w"] = 2.0
    twice = pd.concat([DATA, DATA.loc[some]])
    one = draws_of(engine, weighted, "k ~ x + (1 | g)", family="poisson", priors=WEAK, weights="w")
    other = draws_of(engine, twice, "k ~ x + (1 | g)", seed=6, family="poisson", priors=WEAK)
    assert_same_posterior(one, other)


@pytest.mark.parametrize("name", SAMPLERS)
def test_gaussian_weights_are_variances(name):
    """Variance sigma² / w: weights of 4 throughout, with sigma twice as large, are no weights."""
    priors = {"beta": Normal(0, 3), "sd": HalfNormal(2)}
    plain = draws_of(SAMPLERS[name], priors={**priors, "sigma": HalfNormal(2)})
    weighted = draws_of(
        SAMPLERS[name], DATA.assign(w=4.0), seed=6, weights="w", priors={**priors, "sigma": HalfNormal(4)}
    )
    back = {**weighted, "sigma": weighted["sigma"][..., None] / 2}
    assert_same_posterior({**plain, "sigma": plain["sigma"][..., None]}, back, ("beta", "sd_g", "sigma"), 300)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_prior_by_another_name(name):
    """Student's t with a million degrees of freedom is the normal, which is sampled another way.

    The prior is strong and far from the data: a sampler that forgets it anywhere is seen at once.
    """
    gaussian = name in GIBBS
    formula, family = ("y ~ x + (x | g)", "gaussian") if gaussian else ("k ~ x + (x | g)", "poisson")
    engine = replace(SAMPLERS[name], draws=30_000)
    one, two = (
        draws_of(engine, formula=formula, family=family, seed=seed, priors={"beta": beta, "sd": HalfNormal(1)})
        for seed, beta in ((5, Normal(-0.5, 0.1)), (6, StudentT(1e6, -0.5, 0.1)))
    )
    assert_same_posterior(one, two, enough=300)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("formula", ["{} ~ 1 + (1 | g)", "{} ~ x + (x | g)"])
def test_draws_stay_in_the_support(name, formula):
    text, family = (formula.format("y"), "gaussian") if name in GIBBS else (formula.format("k"), "poisson")
    priors = {"beta": Uniform(-0.2, 0.1), "sd": Uniform(0.1, 0.3)}
    draws = bayou.fit(text, DATA, family, priors, engine=SAMPLERS[name], seed=1, draws=500).result.draws
    assert draws["beta"].min() >= -0.2
    assert draws["beta"].max() <= 0.1
    assert draws["sd_g"].min() >= 0.1
    assert draws["sd_g"].max() <= 0.3


@pytest.mark.parametrize("name", ["collapsed", "blocked", "marginal", "centered", "uncentered", "metropolis"])
def test_mirrored_response_and_permuted_groups(name):
    """y -> 1 − 2 y, and the groups in another order: the posterior is mirrored, group by group."""
    engine = Metropolis(**LONG) if name == "metropolis" else Gibbs(parameterization=name, **LONG)
    renamed = dict(zip("abcdefgh", "hcbgaefd", strict=True))
    other = DATA.assign(y=1 - 2 * DATA["y"], g=DATA["g"].map(renamed))
    plain, moved = draws_of(engine), draws_of(engine, other, seed=6)
    back = {
        "beta": np.array([0.5, 0.0]) - moved["beta"] / 2, "sd_g": moved["sd_g"] / 2,
        "sigma": moved["sigma"][..., None] / 2,
    }  # fmt: skip
    slow = 300 if name in ("centered", "uncentered", "marginal") else 1_000
    assert_same_posterior({**plain, "sigma": plain["sigma"][..., None]}, back, tuple(back), slow)
    for level in "adh":
        one = plain["b_g"][..., "abcdefgh".index(level), 0]
        two = -moved["b_g"][..., "abcdefgh".index(renamed[level]), 0] / 2
        same(one, two, f"group {level}", slow)


@pytest.mark.parametrize("name", ["collapsed", "blocked", "marginal", "centered", "uncentered", "metropolis"])
def test_order_of_the_factors(name):
    """Crossed factors commute."""
    engine = Metropolis(**LONG) if name == "metropolis" else Gibbs(parameterization=name, **LONG)
    rng = np.random.default_rng(2)
    data = DATA.assign(h=np.tile(list("pqrst"), 10)[: len(DATA)])
    data["y"] = data["y"] + rng.normal(size=5)[np.arange(len(DATA)) % 5]
    one = draws_of(engine, data, "y ~ x + (1 | g) + (1 | h)")
    two = draws_of(engine, data, "y ~ x + (1 | h) + (1 | g)", seed=6)
    assert_same_posterior(one, two, ("beta", "sd_g", "sd_h"), 300)

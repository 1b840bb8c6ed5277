"""What must not matter, or must matter in a known way, for the density of a model: laws over random designs.

Formula, table, default priors and likelihood are all in it, so that a law that holds for the log joint density at
any point holds for every engine that samples it.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayou
from bayou.priors import HalfNormal, Normal
from oracle import Point, log_joint, log_likelihood

WEAK = {"beta": Normal(0, 2), "sd": HalfNormal(1)}
KINDS = ["gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma"]
BARS = ["(1 | g)", "(x | g)", "(x || g)", "(x | g) + (1 | h)"]
few = settings(max_examples=12)


@st.composite
def tables(draw):
    """A small table with two factors, groups of unequal size and labels that sort in any order."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=2, max_size=5))
    labels = draw(st.lists(st.text(min_size=1, max_size=3), min_size=len(sizes), max_size=len(sizes), unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = sum(sizes)
    trials = rng.integers(1, 6, n)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n), "z": rng.uniform(1, 2, n), "g": np.repeat(np.array(labels, dtype=object), sizes),
            "h": rng.permutation(np.arange(n) % 3), "trials": trials, "exposure": rng.uniform(0.5, 2, n),
            "gaussian": rng.normal(size=n), "bernoulli": rng.integers(0, 2, n), "binomial": rng.binomial(trials, 0.5),
            "poisson": rng.poisson(2.0, n), "negative_binomial": rng.poisson(2.0, n), "gamma": rng.gamma(2.0, size=n),
        }
    )  # fmt: skip


def frozen(kind):
    """Priors with numbers of their own, which do not change with the data."""
    return WEAK if bayou.families.get(kind).dispersion is None else {**WEAK, "dispersion": HalfNormal(1)}


def modelled(kind, data, bars, priors=None, extra="", **options):
    response = "proportion(binomial, trials)" if kind == "binomial" else kind
    return bayou.Model(f"{response} ~ x + z + {bars}{extra}", data, kind, priors, **options)


def some_points(model, seed=0):
    """Three values of all unknowns."""
    rng = np.random.default_rng(seed)
    for _ in range(3):
        factors = [rng.normal(size=(len(block.columns),) * 2) for block in model.bound.blocks]
        yield Point(
            0.3 * rng.normal(size=model.design.X.shape[1]),
            [0.3 * rng.normal(size=(len(g.levels), g.Z.shape[1])) for g in model.design.groupings],
            [A @ A.T + 0.2 * np.eye(len(A)) for A in factors],
            np.exp(0.3 * rng.normal(size=1)),
        )


def assert_same_density(model, other, mapping=lambda point: point, constant=False):
    """The log joint density of one model at some points is that of the other at their images.

    With ``constant`` only up to one number, the log of the Jacobian or what the parameters do not touch.
    """
    points = list(some_points(model))
    here = np.array([log_joint(model, point) for point in points])
    there = np.array([log_joint(other, mapping(point)) for point in points])
    size = 1e-9 * np.abs([here, there]).max()
    if constant:
        here, there = np.diff(here), np.diff(there)
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=size)


def relabelled(model, other, names):
    """Map points by the labels of the groups of g, which `names` translates."""
    old, new = model.design.groupings[0].levels, list(other.design.groupings[0].levels)
    place = [new.index(names[level]) for level in old]

    def mapping(point):
        b = np.empty_like(point.b[0])
        b[place] = point.b[0]
        return replace(point, b=[b, *point.b[1:]])

    return mapping


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=tables(), bars=st.sampled_from(BARS), seed=st.integers(0, 99))
def test_density_in_any_order_of_the_rows(kind, data, bars, seed):
    shuffled = data.sample(frac=1, random_state=seed)
    for priors in (None, frozen(kind)):
        assert_same_density(modelled(kind, data, bars, priors), modelled(kind, shuffled, bars, priors))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=tables(), bars=st.sampled_from(BARS), seed=st.integers(0, 99))
def test_density_by_any_names_of_the_groups(kind, data, bars, seed):
    old = sorted(set(data["g"]))
    names = dict(zip(old, np.random.default_rng(seed).permutation(len(old)).tolist(), strict=True))
    one, other = modelled(kind, data, bars), modelled(kind, data.assign(g=data["g"].map(names)), bars)
    assert_same_density(one, other, relabelled(one, other, names))


def in_units(model, place, unit):
    """Map points to those of a column in other units: its coefficients divided by ``unit``."""

    def mapping(point):
        beta, b, Sigma = point.beta.copy(), [v.copy() for v in point.b], [S.copy() for S in point.Sigma]
        beta[model.design.coefficients.index(place)] /= unit
        for g, grouping in enumerate(model.design.groupings):
            if place in grouping.coefficients:
                b[g][:, grouping.coefficients.index(place)] /= unit
        for block, S in zip(model.bound.blocks, Sigma, strict=True):
            names = [model.design.groupings[block.grouping].coefficients[k] for k in block.columns]
            scale = np.array([1 / unit if name == place else 1.0 for name in names])
            S *= np.outer(scale, scale)
        return replace(point, beta=beta, b=b, Sigma=Sigma)

    return mapping


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=tables(), bars=st.sampled_from(BARS), power=st.floats(-9, 9))
def test_density_in_any_unit_of_a_column(kind, data, bars, power):
    one = modelled(kind, data, bars)
    other = modelled(kind, data.assign(x=10.0**power * data["x"]), bars)
    assert_same_density(one, other, in_units(one, "x", 10.0**power), constant=True)


@few
@given(data=tables(), bars=st.sampled_from(BARS), shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_density_of_a_response_in_any_unit(data, bars, shift, factor):
    one = modelled("gaussian", data, bars)
    other = modelled("gaussian", data.assign(gaussian=shift + factor * data["gaussian"]), bars)

    def mapping(point):
        beta = factor * point.beta + [shift, 0.0, 0.0]
        b, Sigma = [factor * values for values in point.b], [factor**2 * S for S in point.Sigma]
        return Point(beta, b, Sigma, factor * point.dispersion)

    assert_same_density(one, other, mapping, constant=True)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gaussian"])
@few
@given(data=tables(), bars=st.sampled_from(BARS), some=st.sets(st.integers(0, 9), min_size=1))
def test_density_of_a_row_twice_is_that_of_weight_two(kind, data, bars, some):
    rows = sorted({row % len(data) for row in some})
    priors, weights = frozen(kind), np.ones(len(data))
    weights[rows] = 2.0
    twice = modelled(kind, pd.concat([data, data.iloc[rows]]), bars, priors)
    assert_same_density(twice, modelled(kind, data.assign(w=weights), bars, priors, weights="w"))


@few
@given(data=tables(), bars=st.sampled_from(BARS), share=st.floats(0.1, 0.9))
def test_density_of_counts_over_parts_of_an_exposure(data, bars, share):
    """A row split into two parts of its exposure, which share its count, says the same."""
    first = (data["poisson"] // 2).astype(int)
    parts = [data.assign(poisson=k, exposure=s * data["exposure"]) for k, s in (
        (first, share), (data["poisson"] - first, 1 - share))]  # fmt: skip
    one, other = (modelled("poisson", d, bars, WEAK, " + offset(log(exposure))") for d in (data, pd.concat(parts)))
    assert_same_density(one, other, constant=True)
    # and an exposure is an offset that is added to the intercept when all are the same
    level = data.assign(exposure=share)
    two = modelled("poisson", level, bars, WEAK, " + offset(log(exposure))")
    plain = modelled("poisson", level, bars, WEAK)
    point = next(some_points(two))
    moved = replace(point, beta=point.beta + [np.log(share), 0.0, 0.0])
    assert log_likelihood(two, point) == pytest.approx(log_likelihood(plain, moved), rel=1e-10)


@few
@given(data=tables(), bars=st.sampled_from(BARS), link=st.sampled_from(["logit", "probit", "cloglog"]))
def test_density_of_counts_of_successes_is_that_of_their_trials(data, bars, link):
    rows = data.loc[data.index.repeat(data["trials"])].reset_index()
    rows["won"] = (rows.groupby("index").cumcount() < rows["binomial"]).astype(int)
    counts, single = (
        bayou.Model(f"{response} ~ x + z + {bars}", table, family(link=link), WEAK)
        for response, table, family in (
            ("proportion(binomial, trials)", data, bayou.families.Binomial),
            ("won", rows, bayou.families.Bernoulli),
        )
    )
    assert_same_density(counts, single, constant=True)

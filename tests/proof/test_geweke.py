"""Every sampler under Geweke's joint-distribution test: 20,000 scans, twenty functions and more, |z| < 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayou.engines import Gibbs, Metropolis
from bayou.model import Model
from oracle import clone
from proof.geweke import Successive, functions, prior_sample, standard_error, worst, z_scores
from proof.models import CONJUGATE_SIGMA, FAMILIES, PRIOR_KINDS, PRIORS, STRUCTURES, WEAK, build

SWEEPS = 20_000
GIBBS = ["collapsed", "blocked", "marginal", "centered", "uncentered"]
BY_FACTOR = ["crossed", "joint"]  # samplers that go through the factors
GROUPED = [name for name in STRUCTURES if name != "no groups"]
PROPOSALS = ["laplace", "random_walk"]
ONE_ROW_WEIGHT = [name for name in STRUCTURES if not STRUCTURES[name][1] and name != "measured"]
AWKWARD = ("any prior on beta", "bounded beta")  # the collapsed sampler leaves these to the blocked one


def check(model: Model, engine: Gibbs | Metropolis, seed: int = 1) -> None:
    name, value = worst(z_scores(model, engine, SWEEPS, seed))
    assert abs(value) < 4.0, f"{name}: z = {value:.1f}"


def check_one_of_many(model: Model, engine: Gibbs | Metropolis) -> None:
    """As `check`, for a few hundred models.

    Of their 8,000 numbers one or two are beyond 4 by chance. Such a one is looked at again in a new chain four times
    as long, in which that of a wrong sampler doubles.
    """
    suspects = [name for name, value in z_scores(model, engine, SWEEPS, 2).items() if not abs(value) < 4.0]
    if suspects:
        again = z_scores(model, engine, 4 * SWEEPS, 3)
        name, value = worst({name: again[name] for name in suspects})
        assert abs(value) < 4.0, f"{name}: z = {value:.1f}, as before"


# ---- the test of the test -----------------------------------------------------------------------


def test_twenty_functions_and_more() -> None:
    for family in FAMILIES:
        model = build("slopes", family)
        assert len(functions(model, prior_sample(model, 5, np.random.default_rng(1)))) >= 20


def test_two_samples_of_the_prior_agree() -> None:
    model = build("slopes", "poisson")
    one = functions(model, prior_sample(model, SWEEPS, np.random.default_rng(1)))
    two = functions(model, prior_sample(model, SWEEPS, np.random.default_rng(2)))
    for name, x in one.items():
        error = np.hypot(standard_error(x), standard_error(two[name]))
        assert abs(x.mean() - two[name].mean()) < 4.0 * error, name
        np.testing.assert_allclose(standard_error(x), x.std() / np.sqrt(SWEEPS), rtol=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.99, -0.5])
def test_standard_errors_of_a_known_chain(rho: float) -> None:
    """Over many autoregressive chains the means spread as their standard errors say."""
    rng = np.random.default_rng(4)
    n, many = 4000, 300
    x = rng.normal(size=(many, n))
    for t in range(1, n):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1.0 - rho**2) * x[:, t]
    z = np.array([chain.mean() / standard_error(chain) for chain in x])
    assert 0.85 < z.std() < 1.2


@pytest.mark.parametrize(
    "structure", ["slopes", "crossed", "weights", "two sigmas, crossed", "measured", "no groups", "no fixed effects"]
)
def test_new_data_reach_the_sums(structure: str, rng: np.random.Generator) -> None:
    """The sums of a chain whose data are overwritten are those of a new chain."""
    engine = Gibbs(parameterization="marginal")
    mine = Successive(build(structure), engine, rng)
    y = rng.normal(size=mine.model.design.n)
    y += mine.model.design.y.mean() - y.mean()  # the same constant is taken off the response
    mine.respond(y)
    fresh = Successive(clone(mine.model, y), engine, rng, keep_data=True)
    for name in ("A", "a", "C", "D", "d", "squares", "rows"):
        one, two = (getattr(s.chain.target.cells, name) for s in (mine, fresh))
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12, err_msg=name)


def test_new_data_reach_the_rows(rng: np.random.Generator) -> None:
    mine = Successive(build("crossed", "poisson"), Metropolis(), rng)
    y = rng.poisson(3.0, mine.model.design.n).astype(float)
    mine.respond(y)
    fresh = Successive(clone(mine.model, y), Metropolis(), rng, keep_data=True)
    np.testing.assert_array_equal(mine.chain.target.rows.y, fresh.chain.target.rows.y)


def test_proposals_fitted_in_the_warm_up_are_in_use(rng: np.random.Generator) -> None:
    """The chain under test has all moves of a chain after its warm-up, frozen."""
    chain = Successive(build("slopes", "poisson"), Metropolis(), rng)
    carrier = chain.chain.state.carrier
    before = carrier.centre.copy()
    chain.run(1000)
    assert carrier.ready.all() and not chain.chain.adapting
    assert 800 < carrier.tally[0, 0] < 900  # the others were shorter steps
    assert carrier.tally[0, 1] > 20
    np.testing.assert_array_equal(carrier.centre, before)
    assert Successive(build("slopes"), Gibbs(), rng).chain.frozen


# ---- the samplers -------------------------------------------------------------------------------


@pytest.mark.parametrize("parameterization", GIBBS)
def test_gibbs(parameterization: str) -> None:
    check(build("slopes"), Gibbs(parameterization=parameterization))  # type: ignore[arg-type]


@pytest.mark.parametrize("parameterization", BY_FACTOR)
def test_factor_by_factor(parameterization: str) -> None:
    check(build("crossed"), Gibbs(parameterization=parameterization))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "proposal"),
    [("poisson", "laplace"), ("bernoulli", "laplace"), ("gamma", "random_walk"), ("negative_binomial", "random_walk")],
)
def test_metropolis(family: str, proposal: str) -> None:
    check(build("slopes", family), Metropolis(proposal=proposal))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("family", list(FAMILIES)[:6])
def test_metropolis_with_every_family(family: str, proposal: Any) -> None:
    check(build("slopes", family), Metropolis(proposal=proposal))


@pytest.mark.slow
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("structure", ONE_ROW_WEIGHT)
@pytest.mark.parametrize("family", FAMILIES)
def test_metropolis_everywhere(family: str, structure: str, proposal: Any) -> None:
    check_one_of_many(
        build(structure, family, WEAK if family == "gaussian log" else None), Metropolis(proposal=proposal)
    )


@pytest.mark.slow
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("structure", ["weights", "two sigmas", "measured"])
def test_metropolis_with_variances_by_row(structure: str, proposal: Any) -> None:
    check_one_of_many(build(structure), Metropolis(proposal=proposal))


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["slopes", "crossed"])
def test_random_walk_with_a_tuned_scale(structure: str) -> None:
    check_one_of_many(build(structure, "poisson"), Metropolis(proposal="random_walk", scale="adapted"))


@pytest.mark.slow
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("kind", PRIOR_KINDS)
def test_metropolis_with_every_kind_of_prior(kind: str, proposal: Any) -> None:
    check_one_of_many(build("slopes", "poisson", PRIOR_KINDS[kind]), Metropolis(proposal=proposal))


@pytest.mark.slow
@pytest.mark.parametrize("parameterization", GIBBS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gibbs_everywhere(structure: str, parameterization: Any) -> None:
    check_one_of_many(build(structure), Gibbs(parameterization=parameterization))


@pytest.mark.slow
@pytest.mark.parametrize("parameterization", GIBBS)
@pytest.mark.parametrize("kind", [*PRIOR_KINDS, "conjugate sigma"])
def test_gibbs_with_every_kind_of_prior(kind: str, parameterization: Any) -> None:
    priors = {**PRIORS, "sigma": CONJUGATE_SIGMA} if kind == "conjugate sigma" else PRIOR_KINDS[kind]
    check_one_of_many(build("slopes", "gaussian", priors), Gibbs(parameterization=parameterization))


@pytest.mark.slow
@pytest.mark.parametrize("parameterization", BY_FACTOR)
@pytest.mark.parametrize("structure", GROUPED)
def test_factor_by_factor_everywhere(structure: str, parameterization: Any) -> None:
    check_one_of_many(build(structure), Gibbs(parameterization=parameterization))


@pytest.mark.slow
@pytest.mark.parametrize("parameterization", BY_FACTOR)
@pytest.mark.parametrize("kind", [*PRIOR_KINDS, "conjugate sigma"])
def test_factor_by_factor_with_every_kind_of_prior(kind: str, parameterization: Any) -> None:
    priors = {**PRIORS, "sigma": CONJUGATE_SIGMA} if kind == "conjugate sigma" else PRIOR_KINDS[kind]
    check_one_of_many(build("crossed", "gaussian", priors), Gibbs(parameterization=parameterization))

"""Maximum likelihood, REML and Laplace over the field of structured effects: against the other engines and dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bayou
from bayou.engines import ML, REML, Laplace
from bayou.engines.marginal.field import Criterion, coordinates, maximum
from bayou.engines.marginal.field_result import fitted_field
from dense_field import differences, layout, of_model
from field_models import build, table
from golden import close

GROUPED = ["intercepts", "slopes", "uncorrelated"]


def by_field(model: bayou.Model, restricted: bool, given: bool = False) -> Any:
    engine = Laplace(reml=restricted)
    return fitted_field(model, engine, restricted, np.random.default_rng(1), method="Laplace", given=given).estimates


def agree(found: Any, wanted: Any, errors: float = 1e-3) -> None:
    assert found.rows == wanted.rows
    assert found.scale == wanted.scale
    assert found.converged
    assert abs(found.log_likelihood - wanted.log_likelihood) < 1e-6 * (1.0 + abs(wanted.log_likelihood))
    for name, one, two, se in zip(found.rows, found.estimate, wanted.estimate, wanted.se, strict=True):
        close(one, two, 1e-4, name, scale=se if np.isfinite(se) else 1.0)
    border = ~np.isfinite(wanted.se)
    np.testing.assert_array_equal(np.isfinite(found.se), ~border)
    np.testing.assert_allclose(found.se[~border], wanted.se[~border], rtol=errors)
    assert found.parameters == wanted.parameters
    np.testing.assert_allclose(found.beta_covariance, wanted.beta_covariance, rtol=0.02 + errors, atol=1e-4)


# ---- grouping factors alone, which the other engines take too --------------------------------------


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("structure", GROUPED)
def test_gaussian_groups(structure: str, restricted: bool) -> None:
    model = build(structure, seed=7)
    wanted = (REML() if restricted else ML()).run(model, np.random.default_rng(1)).estimates
    agree(by_field(model, restricted, given=True), wanted)


@pytest.mark.parametrize("family", ["poisson", "binomial", "bernoulli", "gamma"])
@pytest.mark.parametrize("restricted", [False, True])
def test_laplace_groups(family: str, restricted: bool) -> None:
    model = build("intercepts", family)
    wanted = Laplace(reml=restricted).run(model, np.random.default_rng(1)).estimates
    agree(by_field(model, restricted), wanted)


def test_priors_have_no_jacobian() -> None:
    priors = {"sd": bayou.priors.HalfNormal(0.4), "beta": bayou.priors.Normal(0.0, 0.5)}
    for family in ("poisson", "gaussian", "negative_binomial"):
        model = build("intercepts", family, priors)
        wanted = Laplace().run(model, np.random.default_rng(1)).estimates
        found = by_field(model, False)
        assert found.criterion == wanted.criterion
        for name, one, two, se in zip(found.rows, found.estimate, wanted.estimate, wanted.se, strict=True):
            close(one, two, 1e-4, f"{family} {name}", scale=se)


def test_correlated_slopes_with_priors() -> None:
    priors = {"sd": bayou.priors.HalfNormal(0.5), "cor": bayou.priors.LKJ(2.0)}
    model = build("slopes", "poisson", priors)
    wanted = Laplace().run(model, np.random.default_rng(1)).estimates
    found = by_field(model, False)
    for name, one, two, se in zip(found.rows, found.estimate, wanted.estimate, wanted.se, strict=True):
        close(one, two, 3e-4, name, scale=se)


# ---- borders -----------------------------------------------------------------------------------------


def flat_groups(family: str = "gaussian") -> dict[str, Any]:
    """Groups whose means differ less than chance allows."""
    rng = np.random.default_rng(4)
    data = table(family)
    y = rng.normal(size=len(data["y"])) if family == "gaussian" else rng.poisson(3.0, len(data["y"])).astype(float)
    codes = np.array([int(label[1:]) for label in data["g"]])
    if family == "gaussian":
        for k in range(5):
            y[codes == k] -= y[codes == k].mean()
    else:
        for k in range(5):
            y[codes == k] = np.resize([2.0, 3.0, 4.0], int((codes == k).sum()))
    return {**data, "y": y}


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_an_sd_of_zero(family: str) -> None:
    from field_models import structures

    data = flat_groups(family)
    model = bayou.Model("y ~ x + (1 | g) + rw1(t)", data, family, structures=structures())
    found = fitted_field(model, Laplace(), False, np.random.default_rng(1), method="Laplace")
    at = dict(zip(found.estimates.rows, found.estimates.estimate, strict=True))
    assert at["sd_g[Intercept]"] == 0.0
    assert any("sd_g[Intercept] is zero" in said for said in found.estimates.singular)
    errors = dict(zip(found.estimates.rows, found.estimates.se, strict=True))
    assert np.isnan(errors["sd_g[Intercept]"])
    assert np.isfinite(errors["beta[x]"])
    without = bayou.Model("y ~ x + rw1(t)", data, family, structures=structures())
    other = fitted_field(without, Laplace(), False, np.random.default_rng(1), method="Laplace").estimates
    assert abs(found.estimates.log_likelihood - other.log_likelihood) < 1e-6
    assert (found.draws["b_g"] == 0.0).all()
    assert (found.draws["sd_g"] == 0.0).all()


@pytest.mark.parametrize(
    ("structure", "family", "seed", "reml"),
    [
        ("rw2", "bernoulli", 3, False),
        ("rw2 uneven", "bernoulli", 3, True),
        ("s", "gaussian", 3, False),
        ("s", "negative_binomial", 3, True),
        ("s", "binomial", 4, False),
        ("mixed", "gaussian", 3, True),
        ("seasonal", "gaussian", 4, False),
    ],
)
def test_smooths_without_curvature_end_at_the_border(structure: str, family: str, seed: int, reml: bool) -> None:
    """Where the sd is on its way to zero the precision leaves the data no digits long before 1e-6."""
    found = by_field(build(structure, family, seed=seed), reml, given=family == "gaussian")
    smooth = next(k for k, name in enumerate(found.rows) if name.startswith("sd_") and not name.endswith("]"))
    assert found.converged
    assert found.estimate[smooth] == 0.0
    assert np.isfinite(found.log_likelihood)


def test_a_correlation_of_one() -> None:
    model = build("slopes")
    wanted = ML().run(model, np.random.default_rng(1)).estimates
    found = by_field(model, False, given=True)
    at = dict(zip(found.rows, found.estimate, strict=True))
    assert abs(at["cor_g[Intercept,x]"]) == 1.0
    assert any("cor_g[Intercept,x] is" in said for said in found.singular)
    assert abs(found.log_likelihood - wanted.log_likelihood) < 1e-5  # it is held 2e-6 from one
    assert np.isnan(found.se[found.rows.index("cor_g[Intercept,x]")])


def test_a_start_at_the_border_is_left() -> None:
    model = build("rw1", "poisson")
    of = Criterion(model, False)
    best, _ = maximum(of)
    start = of.start()
    start[of.P] = of.coordinates[0].low
    of.start = lambda: start  # type: ignore[method-assign]
    again, free = maximum(of)
    assert free.all()
    assert abs(again.value - best.value) < 1e-7


# ---- structured effects ------------------------------------------------------------------------------


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize(("structure", "family"), [
    ("rw1", "poisson"), ("rw2", "gaussian"), ("icar", "binomial"), ("leroux", "poisson"), ("ar1", "gaussian"),
    ("bym2", "poisson"), ("mixed", "poisson"), ("slopes and areas", "gaussian"), ("by", "bernoulli"),
    ("known", "gamma"), ("rw1", "negative_binomial"),
])  # fmt: skip
def test_the_dense_likelihood_has_no_slope_at_the_estimates(structure: str, family: str, restricted: bool) -> None:
    model = build(structure, family, seed=9 if "slopes" in structure else 3)
    of = Criterion(model, restricted)
    found, free = maximum(of)
    assert found.converged
    own = of.inside(found.psi)
    dense = of_model(model, integrated=restricted, priors=False)
    beta = None if restricted else own[: of.P] * of.field.beta_unit
    assert abs(dense.value(own[of.P :], beta) + found.value) < 1e-7 * (1.0 + abs(found.value))
    slopes = dense.slopes(own[of.P :], beta)
    scale = np.concatenate([of.field.beta_unit[: of.P], np.ones(len(own) - of.P)])
    assert np.abs((slopes * scale)[free]).max(initial=0.0) < 2e-5
    # what is not free goes nowhere better
    for k in np.flatnonzero(~free):
        if not of.coordinates[k - of.P].needs or free[of.P + of.coordinates[k - of.P].needs[0]]:
            inward = found.psi.copy()
            inward[k] += 1.0 if found.psi[k] <= of.low[k] else -1.0
            assert of.evaluate(inward)[0] >= found.value - 1e-7


@pytest.mark.parametrize("restricted", [False, True])
def test_priors_of_structured_effects(restricted: bool) -> None:
    """The maximum of value + log densities as stated, by the oracle's differences."""
    priors = {"sd_t": bayou.priors.HalfNormal(0.3), "sd_g": bayou.priors.Exponential(2.0),
              "beta": bayou.priors.Normal(0.0, 0.7)}  # fmt: skip
    model = build("(1 | g) + rw1(t)", "poisson", priors)
    of = Criterion(model, restricted)
    found, _ = maximum(of)
    own = of.inside(found.psi)
    dense = of_model(model, integrated=restricted, priors=True)

    def log_posterior(psi: np.ndarray) -> float:
        beta, theta = psi[: of.P], psi[of.P :]
        sd_g, sd_t = np.exp(theta)
        total = -2.0 * sd_g - 0.5 * (sd_t / 0.3) ** 2
        if of.P:
            scaled = beta * of.field.beta_unit
            return total + dense.value(theta, scaled) - 0.5 * float(((model.working.to_printed @ scaled) ** 2).sum()) / 0.49
        return total + dense.value(theta)

    assert np.abs(differences(log_posterior, own)).max() < 3e-5


@pytest.mark.parametrize(("structure", "family", "engine"), [
    ("rw1", "gaussian", ML()), ("icar", "gaussian", REML()), ("bym2", "poisson", Laplace()),
    ("mixed", "poisson", Laplace(reml=True)), ("leroux by", "binomial", Laplace()), ("by", "gaussian", REML()),
    ("slopes and areas", "bernoulli", Laplace()),
])  # fmt: skip
def test_results_are_whole(structure: str, family: str, engine: Any) -> None:
    model = build(structure, family)
    result = engine.run(model, np.random.default_rng(2))
    estimates = result.estimates
    assert estimates.rows == tuple(result.rows)
    assert len(estimates.estimate) == len(model.design.coefficients) + layout(model).size
    lower, upper = estimates.interval()
    known = np.isfinite(estimates.se)
    assert known[: len(model.design.coefficients)].all()
    assert (lower[known] < estimates.estimate[known]).all()
    assert (estimates.estimate[known] < upper[known]).all()
    for term, effect in zip(model.design.structured, model.effects, strict=True):
        draws = result.draws[f"f_{term.name}"]
        mode, error = estimates.group_effects(term.name)
        assert draws.shape[2:] == mode.shape == error.shape
        assert mode.size == effect.replicates * effect.observed
    assert all(np.isfinite(values).all() for values in result.draws.values())
    beta = result.draws["beta"].reshape(-1, len(model.design.coefficients))
    P = beta.shape[1]
    np.testing.assert_allclose(beta.mean(axis=0), estimates.estimate[:P], atol=4.5 * float(estimates.se[:P].max()) / 60)
    np.testing.assert_allclose(np.cov(beta.T), estimates.beta_covariance, atol=0.1 * float(estimates.se[:P].max()) ** 2)


def test_the_same_seed_gives_the_same_draws() -> None:
    model = build("rw1", "poisson")
    one, two = (Laplace().run(model, np.random.default_rng(5)) for _ in range(2))
    for name in one.draws:
        np.testing.assert_array_equal(one.draws[name], two.draws[name])


def test_known_covariance_of_unrelated_animals_is_a_grouping_factor() -> None:
    data = table("poisson")
    names = sorted(set(data["animal"]))
    related = bayou.Model("y ~ x + (1 | animal, covariance=A)", data, "poisson", structures={"A": (names, np.eye(7))})
    plain = bayou.Model("y ~ x + (1 | animal)", data, "poisson")
    one = Laplace().run(related, np.random.default_rng(1)).estimates
    two = Laplace().run(plain, np.random.default_rng(1)).estimates
    np.testing.assert_allclose(one.estimate, two.estimate, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.se, two.se, rtol=1e-3)
    assert abs(one.log_likelihood - two.log_likelihood) < 1e-6


def test_sigma_by_of_counts_is_refused() -> None:
    with pytest.raises(bayou.errors.Unsupported, match="sigma_by"):
        Laplace().run(build("rw1", "gamma", sigma_by="arm"), np.random.default_rng(1))


def test_coordinates_are_those_of_the_field() -> None:
    for structure in ("mixed", "slopes and areas", "leroux", "uncorrelated"):
        model = build(structure, "negative_binomial")
        assert len(coordinates(model)) == layout(model).size

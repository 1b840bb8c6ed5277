"""The default priors' numbers, read off small designs by hand."""

import numpy as np
import pytest

from bayou.binding import defaults
from standin_designs import design, grouping

RNG = np.random.default_rng(11)
X = RNG.normal(5.0, 2.0, 40)
Y = 100.0 + 30.0 * RNG.standard_normal(40)


def test_gaussian_numbers():
    built = design(Y, {"Intercept": 1.0, "x": X}, [grouping("g", np.arange(40) % 4, {"Intercept": 1.0, "x": X})])
    s = np.std(Y, ddof=1)
    found = defaults.coefficient_defaults(built)
    np.testing.assert_allclose(found.mean, [Y.mean(), 0.0])
    np.testing.assert_allclose(found.sd, [2.5 * s, 2.5 * s / np.std(X, ddof=1)])
    np.testing.assert_allclose(found.at, [1.0, X.mean()])
    expected = [2.5 * s, 2.5 * s / np.std(X, ddof=1)]
    np.testing.assert_allclose(defaults.group_scales(built, built.groupings[0]), expected)
    assert defaults.dispersion_default(built).parameters == pytest.approx((3.0, 2.5 * s, 0.0))
    offset = design(Y + 1e6, {"Intercept": 1.0}, offset=np.full(40, 1e6))
    assert defaults.outcome_level(offset) == pytest.approx(Y.mean())
    assert defaults.outcome_scale(offset) == pytest.approx(s)


def test_scales_follow_the_units_of_the_columns():
    for factor in (1e-9, 1e9):
        small = defaults.coefficient_defaults(design(Y, {"Intercept": 1.0, "x": factor * X}))
        assert small.sd[1] * factor == pytest.approx(2.5 * np.std(Y, ddof=1) / np.std(X, ddof=1))


def test_other_links_have_unit_scale():
    counts = np.array([0.0, 2, 3, 7])
    built = design(counts, {"Intercept": 1.0, "x": [1, 2, 3, 4]}, family="poisson")
    found = defaults.coefficient_defaults(built)
    assert found.mean[0] == pytest.approx(np.log(3.0))
    np.testing.assert_allclose(found.sd, [2.5, 2.5 / np.std([1, 2, 3, 4], ddof=1)])
    exposed = design(counts, {"Intercept": 1.0}, family="poisson", offset=np.log([1.0, 2, 3, 6]))
    assert defaults.outcome_level(exposed) == pytest.approx(0.0)
    assert str(defaults.dispersion_default(design(counts, {}, family="negative_binomial"))) == "HalfNormal(1)"
    huge = design(counts, {"Intercept": 1.0}, family="poisson", offset=np.full(4, 900.0))
    assert defaults.outcome_level(huge) == pytest.approx(np.log(3.0) - 900.0)


@pytest.mark.parametrize(("successes", "expected"), [(0, 0.5 / 40), (40, 39.5 / 40), (10, 0.25)])
def test_proportions_stay_half_a_count_from_the_border(successes, expected):
    built = design([successes, 0.0], {"Intercept": 1.0}, family="binomial", trials=np.array([40.0, 0.0]))
    assert defaults.outcome_level(built) == pytest.approx(np.log(expected / (1 - expected)))


def test_borders_and_weights():
    zeros = design(np.zeros(10), {"Intercept": 1.0}, family="poisson")
    assert defaults.outcome_level(zeros) == pytest.approx(np.log(0.05))
    one = design([1.0], {"Intercept": 1.0}, family="bernoulli")
    assert defaults.outcome_level(one) == pytest.approx(0.0)
    empty = design([0.0], {"Intercept": 1.0}, family="binomial", trials=np.zeros(1))
    assert defaults.outcome_level(empty) == 0.0
    weighted = design([1.0, 3.0], {"Intercept": 1.0}, weights=np.array([3.0, 1.0]))
    assert defaults.outcome_level(weighted) == pytest.approx(1.5)
    negative = design([-1.0, -2.0, 1.0], {"Intercept": 1.0}, link="log")
    assert np.isfinite(defaults.outcome_level(negative))
    # sigma is on the scale of y under a log link too.
    big = design(1e4 * Y, {"Intercept": 1.0}, link="log")
    assert defaults.dispersion_default(big).parameters[1] == pytest.approx(2.5e4 * np.std(Y, ddof=1))
    assert defaults.coefficient_defaults(big).sd[0] == 2.5


def test_degenerate_columns_get_finite_scales():
    built = design(
        np.full(6, 7.0),
        {"Intercept": 1.0, "zero": 0.0, "constant": 3.0},
        [grouping("g", [0, 0, 1, 1, 2, 2], {"constant": 4.0, "zero": 0.0})],
    )
    found = defaults.coefficient_defaults(built)
    np.testing.assert_allclose(found.sd, 2.5 * 7.0 / np.array([1.0, 1.0, 3.0]))
    np.testing.assert_allclose(defaults.group_scales(built, built.groupings[0]), 2.5 * 7.0 / np.array([4.0, 1.0]))
    single = design([0.0], {"Intercept": 1.0, "x": 2.0})
    np.testing.assert_allclose(defaults.coefficient_defaults(single).sd, [2.5, 1.25])


def test_without_an_intercept_both_deviations_are_around_zero():
    treatment = np.arange(40) % 2
    built = design(Y, {"treatment[a]": 1 - treatment, "treatment[b]": treatment})
    found = defaults.coefficient_defaults(built)
    assert found.at is None
    expected = 2.5 * np.sqrt(np.mean(Y**2)) / np.sqrt(0.5)
    np.testing.assert_allclose(found.sd, [expected, expected])
    # The cell means themselves then lie well inside the prior.
    assert np.all(np.abs(Y.mean()) < found.sd)
    counts = design(np.arange(4.0), {"x": [1.0, 2, 3, 4]}, family="poisson")
    np.testing.assert_allclose(defaults.coefficient_defaults(counts).sd, 2.5 / np.sqrt(7.5))
    assert defaults.coefficient_defaults(design(Y, {})).sd.shape == (0,)

"""The profiled Gaussian likelihood and its information against dense matrices."""

import numpy as np
import pytest

from bayou.conditional.parameters import LEAST
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.marginal.expected import _projected, _slope
from bayou.engines.marginal.profile import Profile
from bayou.engines.marginal.working import WorkingModel, linearise
from bayou.model import Model
from dense_system import STRUCTURES, covariances, gaussian, gradient, table

GROUPED = {name: formula for name, formula in STRUCTURES.items() if "|" in formula}
CASES = [pytest.param(f, r, id=f"{name}, {'REML' if r else 'ML'}") for name, f in GROUPED.items() for r in (False, True)]


def profile(formula, restricted, **settings) -> Profile:
    return Profile(Model(formula, table(), **settings), restricted)


def somewhere(of: Profile, rng) -> np.ndarray:
    return of.numbers.start() * rng.uniform(0.4, 1.2, of.numbers.size) + 0.3 * rng.normal(size=of.numbers.size)


def sigma_of(of: Profile) -> float:
    """The residual sd that the last evaluation profiled out."""
    n = of.sums.rows - (len(of.sums.border.linear) if of.restricted else 0)
    return float(np.sqrt(of.work.facts[0] / n))


def dense_value(of: Profile, psi: np.ndarray) -> float:
    """The dense log likelihood at the same relative factors, its sigma at the value profiled out."""
    of.value(psi)
    sigma = sigma_of(of)
    Sigma = covariances(of.model, of.order, of.numbers.factors(psi), sigma)
    return gaussian(of.model, Sigma, np.array([sigma]), of.restricted)[0]


@pytest.mark.parametrize("formula,restricted", CASES)
def test_value(formula, restricted, rng):
    of = profile(formula, restricted)
    for _ in range(3):
        psi = somewhere(of, rng)
        assert of.sufficient.log_weights - of.value(psi) == pytest.approx(dense_value(of, psi), abs=1e-9)
    psi = of.numbers.start()
    psi[of.numbers.factor == 0] = 0.0  # a variance of zero is a number like any other
    assert of.sufficient.log_weights - of.value(psi) == pytest.approx(
        gaussian(of.model, covariances(of.model, of.order, of.numbers.factors(psi), sigma_of(of)),
                 np.array([sigma_of(of)]), restricted)[0], abs=1e-9)  # fmt: skip


@pytest.mark.parametrize("restricted", [False, True])
def test_value_with_weights_and_offset(restricted, rng):
    of = profile("y ~ x + offset(u) + (x | g) + (1 | h)", restricted, weights="w")
    psi = somewhere(of, rng)
    assert of.sufficient.log_weights - of.value(psi) == pytest.approx(dense_value(of, psi), abs=1e-9)


@pytest.mark.parametrize("restricted", [False, True])
def test_value_without_groups(restricted):
    of = profile("y ~ x + z", restricted)
    assert of.sufficient.log_weights - of.value(np.zeros(0)) == pytest.approx(dense_value(of, np.zeros(0)), abs=1e-9)


def test_sigma_is_where_the_likelihood_is_largest(rng):
    for restricted in (False, True):
        of = profile("y ~ x + (x | g)", restricted)
        psi = somewhere(of, rng)
        of.value(psi)
        sigma = sigma_of(of)
        near = [
            gaussian(of.model, covariances(of.model, of.order, of.numbers.factors(psi), s * sigma),
                     np.array([s * sigma]), restricted)[0] for s in (0.999, 1.0, 1.001)
        ]  # fmt: skip
        assert near[1] > near[0] and near[1] > near[2]


@pytest.mark.parametrize("formula,restricted", CASES)
def test_slopes(formula, restricted, rng):
    of = profile(formula, restricted)
    psi = somewhere(of, rng)
    _, slopes = of.evaluate(psi)
    slopes = slopes.copy()
    # differences of sixth order: rounding of 1e-14 x 100 over 1e-3
    np.testing.assert_allclose(slopes, gradient(of.value, psi), atol=2e-9 * (1.0 + np.abs(slopes).max()))


@pytest.mark.parametrize("restricted", [False, True])
def test_slopes_at_the_border(restricted, rng):
    """A zero on the diagonal, of an entry without and with something below it: still every slope."""
    of = profile("y ~ x + z + (x + z | g) + (1 | h)", restricted)
    numbers = of.numbers
    for zero in (0, 1, 2):
        for beneath in (False, True):
            psi = somewhere(of, rng)
            column = (numbers.column == zero) & (numbers.factor == numbers.factor[numbers.row == 2][0])
            psi[column & ((numbers.row == zero) | (not beneath))] = 0.0
            if beneath and zero < 2:  # criteria hold a diagonal so far off zero; with a column of zeros they are even in it
                psi[column & (numbers.row == zero)] = LEAST
            _, slopes = of.evaluate(psi)
            slopes = slopes.copy()
            np.testing.assert_allclose(slopes, gradient(of.value, psi), atol=2e-9 * (1.0 + np.abs(slopes).max()))


def test_the_large_road_is_the_small_one(rng):
    of = profile("y ~ x + (x | g) + (1 | h)", True)
    assert of.small
    psi = somewhere(of, rng)
    value, slopes = of.evaluate(psi)
    slopes = slopes.copy()
    of.small = False
    again, others = of.evaluate(psi)
    assert again == value
    np.testing.assert_allclose(others, slopes, rtol=1e-11, atol=1e-12)


def derivatives(of: Profile) -> list[np.ndarray]:
    """dV/d psi, relative: Z (E T' + T E') Z' for every parameter, rows as in the data."""
    design, numbers, T = of.model.design, of.numbers, of.work.T
    out = []
    for i in range(numbers.size):
        grouping = design.groupings[of.order[int(numbers.factor[i])]]
        p = grouping.Z.shape[1]
        E = np.zeros((p, p))
        E[numbers.row[i], numbers.column[i]] = numbers.unit[i]
        own = T[numbers.factor[i], :p, :p]
        same = grouping.codes[:, None] == grouping.codes
        out.append(same * (grouping.Z @ (E @ own.T + own @ E.T) @ grouping.Z.T))
    return out


def projection(of: Profile) -> np.ndarray:
    """P for REML, V⁻¹ for ML, at unit residual variance."""
    Sigma = covariances(of.model, of.order, of.work.T)
    restricted = gaussian(of.model, Sigma, np.ones(1), True)[2]
    if of.restricted:
        return restricted
    design = of.model.design
    V = np.diag(1 / design.weights)
    for grouping, S in zip(design.groupings, Sigma, strict=True):
        V += (grouping.codes[:, None] == grouping.codes) * (grouping.Z @ S @ grouping.Z.T)
    return np.linalg.inv(V)


@pytest.mark.parametrize("formula", GROUPED.values(), ids=GROUPED.keys())
def test_average_information(formula, rng):
    """½ q_a'P q_b / sigma² with q_a = V_a P y, the residual variance profiled out; P is REML's (ML shares y's part)."""
    of = profile(formula, True)
    of.evaluate(somewhere(of, rng))
    P, y = projection(of), of.model.design.y
    n = of.sums.rows - len(of.sums.border.linear)
    variance = sigma_of(of) ** 2
    assert y @ P @ y / n == pytest.approx(variance, rel=1e-10)
    q = np.array([V @ P @ y for V in derivatives(of)])
    whole = 0.5 * q @ P @ q.T / variance
    mixed = 0.5 * q @ P @ y / variance  # with the logarithm of the variance, whose own is n / 2
    expected = whole - np.outer(mixed, mixed) * 2.0 / n
    np.testing.assert_allclose(of.information(), expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("formula,restricted", CASES)
def test_expected_information(formula, restricted, rng):
    """tr(P V_a P V_b)/2 from the dense B = Z'PZ of the module."""
    of = profile(formula, restricted)
    of.evaluate(somewhere(of, rng))
    P, dV = projection(of), derivatives(of)
    B, slopes = _projected(of), [_slope(of, a) for a in range(of.numbers.size)]
    for a, G in enumerate(slopes):
        assert np.trace(G @ B) == pytest.approx(np.trace(P @ dV[a]), rel=1e-9, abs=1e-9)
        for b in range(a + 1):
            expected = np.trace(P @ dV[a] @ P @ dV[b])
            assert np.sum((G @ B) * (slopes[b] @ B).T) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("formula", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_score_moments_are_the_slope_of_the_squares(formula, rng):
    of = profile(formula, False)
    psi = somewhere(of, rng)

    def squares(x):
        of.value(x)
        return float(of.work.facts[0])

    slope = gradient(squares, psi)
    of.evaluate(psi)
    np.testing.assert_allclose(-2.0 * of.score_moments(), slope, atol=1e-8 * (1.0 + np.abs(slope).max(initial=0.0)))


def test_the_start_is_near_where_groups_stand_alone():
    """Balanced data: the moment estimator, up to chance; and it does not depend on units."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(300), 10)
    x = rng.normal(size=3000)
    y = 5.0 + 0.7 * rng.normal(size=300)[g] + rng.normal(size=3000)
    starts = []
    for unit in (1.0, 1e-9, 1e9):
        of = Profile(Model("y ~ x + (1 | g)", {"y": unit * y, "x": x / unit, "g": g}), True)
        starts.append(of.start())
    assert starts[0][0] == pytest.approx(0.7, abs=0.07)
    np.testing.assert_allclose(starts[1:], [starts[0]] * 2, rtol=1e-9)


@pytest.mark.parametrize("restricted", [False, True])
def test_a_residual_variance_that_is_given(restricted, rng):
    """What PQL evaluates: value and slopes with sigma² known, also at a fit without residuals."""
    model = Model("y ~ x + (x | g) + (1 | h)", table())
    of = WorkingModel(model, restricted, 1.0)
    of.fill(linearise(model.family, of.data, np.zeros(model.design.n), 1.0))
    psi = of.numbers.start() + 0.3 * rng.normal(size=of.numbers.size)
    value, slopes = of.evaluate(psi)
    slopes = slopes.copy()
    Sigma = covariances(model, of.order, of.numbers.factors(psi))
    assert -value == pytest.approx(gaussian(model, Sigma, np.ones(1), restricted)[0], abs=1e-9)
    np.testing.assert_allclose(slopes, gradient(lambda x: of.evaluate(x)[0], psi), atol=1e-8)
    of.sums.squares[0] = 0.0
    of.sums.arrow.a[:] = 0.0
    of.sums.arrow.d[:] = 0.0
    assert np.isfinite(of.evaluate(psi)[0])


def test_usable_inverse_is_bounded():
    np.testing.assert_allclose(usable_inverse(np.diag([4.0, 0.25])), np.diag([0.25, 4.0]))
    singular = usable_inverse(np.ones((2, 2)))
    assert np.linalg.eigvalsh(singular).min() > 0.0 and np.abs(singular).max() <= 1001.0
    assert np.isfinite(usable_inverse(np.array([[np.nan, 0.0], [0.0, 1.0]]))).all()
    assert usable_inverse(np.zeros((0, 0))).shape == (0, 0)

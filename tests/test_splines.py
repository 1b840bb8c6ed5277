"""B-splines against scipy's, and their straight lines beyond the ends."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from bayou.design.splines import Basis, even_basis


def dense(basis, x):
    node, value = basis.evaluate(x)
    out = np.zeros((len(x), basis.size))
    out[np.arange(len(x))[:, None], node] = value
    return out


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_values_are_scipys(degree):
    basis = even_basis(-2.0, 7.0, 12, degree)
    assert basis.size == 12 and (basis.low, basis.high) == (-2.0, 7.0)
    x = np.concatenate([np.linspace(-2.0, 7.0, 101), basis.knots[degree : basis.size + 1]])
    np.testing.assert_allclose(dense(basis, x), BSpline.design_matrix(x, basis.knots, degree).toarray(), atol=1e-14)


def test_uneven_knots():
    basis = Basis(np.array([-3.0, -1.0, 0.0, 0.0, 0.5, 2.0, 2.5, 4.0, 4.5]), 2)
    x = np.linspace(basis.low, basis.high, 57)
    np.testing.assert_allclose(dense(basis, x), BSpline.design_matrix(x, basis.knots, 2).toarray(), atol=1e-14)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_beyond_the_ends_a_curve_goes_on_straight(degree, rng):
    basis = even_basis(0.0, 1.0, 9, degree)
    curve = BSpline(basis.knots, rng.normal(size=9), degree)
    for end, x in ((0.0, np.array([-0.3, -2.0])), (1.0, np.array([1.01, 4.0]))):
        # the slope of degree 1 jumps at a knot: it is that of the last piece
        slope = curve.derivative()(end if degree > 1 else abs(end - 0.01))
        np.testing.assert_allclose(dense(basis, x) @ curve.c, curve(end) + slope * (x - end), rtol=1e-9)
    assert list(basis.outside(np.array([-0.1, 0.0, 0.5, 1.0, 1.1]))) == [True, False, False, False, True]


def test_straight_lines_are_reproduced_everywhere():
    basis = even_basis(3.0, 5.0, 10, 3)
    # Marsden: the coefficients of x are the means of the inner knots of each B-spline
    coefficients = np.array([basis.knots[k + 1 : k + 4].mean() for k in range(10)])
    x = np.linspace(0.0, 9.0, 50)
    np.testing.assert_allclose(dense(basis, x) @ coefficients, x, atol=1e-13)
    np.testing.assert_allclose(dense(basis, x).sum(axis=1), 1.0, atol=1e-12)


def test_as_few_as_the_degree_allows():
    basis = even_basis(0.0, 1.0, 4, 3)
    node, value = basis.evaluate(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(node, [[0, 1, 2, 3]] * 2)
    np.testing.assert_allclose(value, [[1 / 6, 4 / 6, 1 / 6, 0], [0, 1 / 6, 4 / 6, 1 / 6]], atol=1e-15)

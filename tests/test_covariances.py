"""Elements of the inverse of a whitened system against the dense inverse."""

import numpy as np
import pytest

from bayou.linalg.covariances import (
    BY_HAND,
    invert,
    invert_by_hand,
    level_covariance,
    new_inverse,
    second_moments,
    variances,
)
from bayou.packed import packed
from dense_system import STRUCTURES, dense

CASES = [
    pytest.param(formula, fixed, id=f"{name}{', fixed' if fixed else ''}")
    for name, formula in STRUCTURES.items()
    for fixed in (True, False)
]


def inverted(formula, fixed, rng, singular=False):
    """The system with the inverse of its Schur complement, and the dense inverse."""
    system = dense(formula, rng, with_fixed=fixed, singular=singular)
    inverse = new_inverse(system.data.arrow)
    invert(system.factor.S, system.n, inverse.V)
    whole = np.linalg.inv(system.M) if len(system.M) else np.zeros((0, 0))
    return system, inverse, whole


@pytest.mark.parametrize("n", [0, 1, 2, 7, BY_HAND, BY_HAND + 1, 150])
def test_both_ways_to_invert(n, rng):
    A = rng.normal(size=(n, n)) + 3.0 * np.sqrt(max(n, 1)) * np.eye(n)
    S = np.tril(A)
    S = np.pad(S, (0, 3), constant_values=np.nan)  # what lies beyond is not read
    expected = np.linalg.inv(np.tril(A) @ np.tril(A).T)
    for way in (invert, invert_by_hand):
        V = np.full_like(S, 7.0)
        way(S, n, V)
        np.testing.assert_allclose(V[:n, :n], expected, atol=1e-12)
        np.testing.assert_array_equal(V[:n, :n], V[:n, :n].T)


@pytest.mark.parametrize("formula,fixed", CASES)
def test_level_by_level(formula, fixed, rng):
    system, inverse, whole = inverted(formula, fixed, rng)
    arrow = system.data.arrow
    J, p = arrow.a.shape
    n = system.n
    np.testing.assert_allclose(inverse.V[:n, :n], whole[J * p :, J * p :], atol=1e-10)
    for j in range(J):
        m = level_covariance(packed(arrow), packed(system.factor), n, j, packed(inverse))
        own = slice(j * p, (j + 1) * p)
        np.testing.assert_allclose(inverse.C, whole[own, own], atol=1e-10)
        touched = arrow.touch[arrow.start[j] : arrow.start[j] + m]
        assert m == len(touched) and (touched < n).all()
        np.testing.assert_allclose(-inverse.Y[:, :m], whole[own, J * p + touched], atol=1e-10)


@pytest.mark.parametrize("formula,fixed", CASES)
def test_second_moments(formula, fixed, rng):
    system, inverse, whole = inverted(formula, fixed, rng)
    data = system.data
    J, p = data.arrow.a.shape
    out = np.full(system.T.shape, np.nan)
    parts = packed(data.arrow), packed(data.border), packed(system.factor)
    second_moments(*parts, system.n, packed(inverse), out)
    blocks = [(0, J, p)] + [
        (J * p + a, m, q) for a, m, q in zip(data.border.start, data.border.levels, data.border.size, strict=True)
    ]
    for f, (at, levels, q) in enumerate(blocks[: len(out)]):
        expected = np.zeros((q, q))
        for level in range(levels):
            here = slice(at + level * q, at + (level + 1) * q)
            expected += whole[here, here]
        np.testing.assert_allclose(out[f, :q, :q], expected, atol=1e-10)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("formula,fixed", CASES)
def test_variances(formula, fixed, singular, rng):
    system, inverse, whole = inverted(formula, fixed, rng, singular)
    data = system.data
    J, p = data.arrow.a.shape
    own, rest = np.full((J, p), np.nan), np.full(len(data.arrow.d), np.nan)
    parts = packed(data.arrow), packed(data.border), packed(system.factor)
    variances(*parts, system.n, packed(inverse), system.T, own, rest)
    taken = len(system.M)
    W = system.W[:taken, :taken]
    expected = np.diag(W @ whole @ W.T)
    np.testing.assert_allclose(own.ravel(), expected[: J * p], atol=1e-10)
    np.testing.assert_allclose(rest[: system.n], expected[J * p :], atol=1e-10)
    assert np.isnan(rest[system.n :]).all()  # columns that take no part are left alone

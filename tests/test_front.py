"""Fronts, and the Schur complement that is not formed, against the dense whitened precision."""

import numpy as np
import pytest

from bayou.conditional import front_covariances
from bayou.conditional.adjoint import whitened_row
from bayou.conditional.conjugate import Equations
from bayou.conditional.front import backward, factorise, forward, modes
from bayou.conditional.front_layout import new_front, new_pieces, pattern
from bayou.conditional.rows import sorted_rows
from bayou.linalg.symbolic import positions
from bayou.packed import packed
from front_models import FORMULAS, build

NAMES = ["nested, three deep", "crossed", "nested and crossed", "slopes in all", "nested, no fixed effects"]
CASES = pytest.mark.parametrize(("name", "without"), [(name, without) for name in NAMES for without in (False, True)])


class Problem:
    """A model's rows at made-up weights, and the dense precision of (u, rest) over n columns of the rest."""

    def __init__(self, name, without=False, seed=4):
        rng = np.random.default_rng(seed)
        data = sorted_rows(build(name), sums=False)
        P = len(data.border.linear)
        root = rng.normal(size=(P, P))
        self.data = data
        self.border = data.border._replace(precision=root @ root.T, linear=rng.normal(size=P))
        self.n = self.border.fixed + (0 if without else P)
        self.q = data.rows.others.shape[1] - (P if without else 0)
        (J, p), K = data.arrow.a.shape, 1 + len(self.border.start)
        size = max(p, *self.border.size)
        self.T = np.tril(rng.normal(size=(K, size, size)))
        self.w, self.r = rng.uniform(0.1, 2.0, len(data.y)), rng.normal(size=len(data.y))
        self.J, self.p = J, p
        rows = np.zeros((len(data.y), J * p + self.n))
        z = np.zeros(p + self.q)
        parts = packed(data.rows), packed(self.border), self.T
        for j in range(J):
            for i in range(data.rows.start[j], data.rows.start[j + 1]):
                whitened_row(*parts, i, p, self.q, z)
                rows[i, j * p : (j + 1) * p] = z[:p]
                rows[i, J * p + data.rows.column[i, : self.q]] = z[p:]
        self.rows = rows
        self.H = rows.T @ (self.w[:, None] * rows) + np.eye(rows.shape[1])
        at = J * p + self.border.fixed
        self.right = rows.T @ self.r
        if not without and P:
            self.H[at:, at:] += self.border.precision - np.eye(P)
            self.right[at:] += self.border.linear
        self.inverse = np.linalg.inv(self.H)

    def factorised(self):
        arrow = self.data.arrow
        front = new_front(arrow.start, arrow.touch, self.border, self.n)
        pieces = new_pieces(front, self.p, self.q)
        handed = packed(front), packed(pieces)
        found = factorise(packed(self.data.rows), packed(self.border), self.T, self.w, self.r, self.q, *handed)
        return front, pieces, handed, found

    def vectors(self, x):
        h, g = np.zeros((self.J, self.p)), np.zeros(len(self.data.arrow.d))
        h[:] = x[: h.size].reshape(h.shape)
        g[: self.n] = x[h.size :]
        return h, g

    def joined(self, h, g):
        assert not g[self.n :].any()
        return np.concatenate([h.ravel(), g[: self.n]])


@CASES
def test_determinants_and_solves(name, without):
    of = Problem(name, without)
    front, pieces, handed, (ok, effects, fixed) = of.factorised()
    assert ok
    at = of.J * of.p + of.border.fixed
    np.testing.assert_allclose(effects, np.linalg.slogdet(of.H[:at, :at])[1], rtol=1e-11)
    np.testing.assert_allclose(effects + fixed, np.linalg.slogdet(of.H)[1], rtol=1e-11)
    u, rest = of.vectors(np.zeros(len(of.H)))
    modes(*handed, u, rest)
    np.testing.assert_allclose(of.joined(u, rest), of.inverse @ of.right, rtol=0, atol=1e-10)
    x = np.random.default_rng(1).normal(size=len(of.H))
    h, g = of.vectors(x)
    half = np.empty(of.n)
    forward(*handed, h, g, half)
    np.testing.assert_allclose(np.sum(h**2) + half @ half, x @ of.inverse @ x, rtol=1e-10)
    backward(*handed, half, h, g)
    np.testing.assert_allclose(of.joined(h, g), of.inverse @ x, rtol=0, atol=1e-10)


@CASES
def test_leverages_and_covariances(name, without):
    of = Problem(name, without)
    front, pieces, handed, _ = of.factorised()
    M, leverage = np.full(of.T.shape, np.nan), np.empty(len(of.w))
    parts = packed(of.data.rows), packed(of.border), of.T, of.q, *handed
    front_covariances.covariances(*parts, M, leverage)
    wanted = np.einsum("ij,jk,ik->i", of.rows, of.inverse, of.rows)
    np.testing.assert_allclose(leverage, wanted, rtol=1e-10)
    V, J, p = of.inverse, of.J, of.p
    own = np.zeros((J, p))
    total = np.zeros((p, p))
    for j in range(J):
        C = V[j * p : (j + 1) * p, j * p : (j + 1) * p]
        total += C
        own[j] = np.diag(of.T[0, :p, :p] @ C @ of.T[0, :p, :p].T)
    np.testing.assert_allclose(M[0, :p, :p], total, rtol=0, atol=1e-10)
    rest = np.diag(V)[J * p :].copy()
    for f, (start, levels, size) in enumerate(zip(of.border.start, of.border.levels, of.border.size, strict=True)):
        total, T = np.zeros((size, size)), of.T[f + 1, :size, :size]
        for at in J * p + start + size * np.arange(levels):
            C = V[at : at + size, at : at + size]
            total += C
            rest[at - J * p : at - J * p + size] = np.diag(T @ C @ T.T)
        np.testing.assert_allclose(M[f + 1, :size, :size], total, rtol=0, atol=1e-10)
    found, found_rest = np.zeros((J, p)), np.zeros(len(of.data.arrow.d))
    front_covariances.variances(packed(of.border), of.T, *handed, found, found_rest)
    np.testing.assert_allclose(found, own, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found_rest[: of.n], rest, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_pattern_is_what_levels_join(name):
    of = Problem(name)
    start, touch, border = of.data.arrow.start, of.data.arrow.touch, of.border
    joined = np.eye(of.n, dtype=bool)
    for j in range(of.J):
        columns = touch[start[j] : start[j + 1]]
        joined[np.ix_(columns, columns)] = True
    joined[border.fixed :, border.fixed :] = True
    indptr, rows = pattern(start, touch, border, of.n)
    columns = np.repeat(np.arange(of.n), np.diff(indptr))
    found = np.zeros_like(joined)
    found[rows, columns] = True
    np.testing.assert_array_equal(found, np.tril(joined))
    assert len(rows) == found.sum()
    front = new_front(start, touch, border, of.n)
    assert front.place.min() >= 0 and front.own.min() >= 0
    np.testing.assert_array_equal(front.symbolic.target, positions(front.symbolic, rows, columns))


def test_a_level_that_no_row_touches():
    """Its block of the pattern is there all the same, and its coefficients keep their prior."""
    of = Problem("slopes in all")
    start, touch, border = of.data.arrow.start, of.data.arrow.touch, of.border
    last = int(border.start[1]) - 2  # the last level of the first other factor, two columns
    assert border.size[0] == 2
    keep = np.isin(touch, [last, last + 1], invert=True)
    counts = np.add.reduceat(keep.astype(np.int64), start[:-1])
    front = new_front(np.concatenate([[0], np.cumsum(counts)]), touch[keep], border, of.n)
    assert front.own.min() >= 0


def test_what_is_not_definite_is_said():
    of = Problem("nested and crossed")
    for value in (-50.0, np.nan):
        of.w = np.full_like(of.w, value)
        assert not of.factorised()[3][0]


@CASES
def test_conjugate_gradients_solve_the_same(name, without):
    of = Problem(name, without)
    made = Equations(of.data, of.border, of.n, 4)
    assert made.q == of.q and made.fill(of.T, of.w, of.r)
    u, rest = of.vectors(np.zeros(len(of.H)))
    assert made.modes(u, rest)
    np.testing.assert_allclose(of.joined(u, rest), of.inverse @ of.right, rtol=0, atol=1e-8)
    x = np.random.default_rng(1).normal(size=len(of.H))
    h, g = of.vectors(x)
    assert made.solve(h, g)
    np.testing.assert_allclose(of.joined(h, g), of.inverse @ x, rtol=0, atol=1e-8)


@CASES
def test_probes_estimate_the_determinant_and_the_covariances(name, without):
    """The determinant within four standard errors; the rest exactly, as the probes' own S⁻¹ ≈ mean x y' has it."""
    of = Problem(name, without)
    made = Equations(of.data, of.border, of.n, 200)
    assert made.fill(of.T, of.w, of.r)
    x, y = made.probe()
    wanted = np.linalg.slogdet(of.H)[1]
    # the preconditioner is exact where S is block diagonal: no error, but for rounding
    assert abs(made.log_determinant - wanted) < 4.0 * made.standard_error + 1e-10 * abs(wanted)
    M, leverage = np.zeros(of.T.shape), np.empty(len(of.w))
    own, rest = np.zeros((of.J, of.p)), np.zeros(len(of.data.arrow.d))
    made.estimate(of.T, M, leverage, own, rest)
    # H⁻¹ by blocks, with the estimate in the place of S⁻¹
    at = of.J * of.p
    A, C = of.H[:at, :at], of.H[:at, at:]
    V = 0.5 * (x @ y.T + y @ x.T) / x.shape[1]
    X = np.linalg.solve(A, C)
    whole = np.block([[np.linalg.inv(A) + X @ V @ X.T, -X @ V], [-V @ X.T, V]])
    np.testing.assert_allclose(leverage, np.einsum("ij,jk,ik->i", of.rows, whole, of.rows), rtol=0, atol=1e-8)
    p, T = of.p, of.T[0, : of.p, : of.p]
    blocks = [whole[j * p : (j + 1) * p, j * p : (j + 1) * p] for j in range(of.J)]
    np.testing.assert_allclose(M[0, :p, :p], sum(blocks), rtol=0, atol=1e-8)
    np.testing.assert_allclose(own, [np.diag(T @ B @ T.T) for B in blocks], rtol=0, atol=1e-8)
    S = np.linalg.inv(of.inverse[at:, at:])
    assert np.abs(np.einsum("ik,ij,jk->k", x, S, y) - of.n).max() < 1e-6 * of.n  # z'L'S⁻¹ S L'⁻¹z = z'z

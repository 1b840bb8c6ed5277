"""The sparse Schur complement gives what the dense one gives: values, gradients, moments, errors and draws."""

import numpy as np
import pytest

import bayou
from bayou.conditional.choice import likelihood_of
from bayou.errors import DataError, Unsupported
from front_models import FORMULAS, PRIORS, RESPONSES, build, somewhere

BOTH = pytest.mark.parametrize("integrated", [False, True])


def pair(model, integrated, priors=False):
    return [likelihood_of(model, integrated, priors, kind=kind) for kind in ("dense", "sparse")]


def settle(of, psi):
    """The mode to rounding: a search may end a promised gain of 1e-18 away, 1e-9 in the coefficients."""
    of.settled = 0.0
    of._at = None
    assert of.place(psi)
    return of


def close(found, wanted, tolerance=1e-9):
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max(initial=0.0)))


@BOTH
@pytest.mark.parametrize("name", FORMULAS)
def test_values_gradients_and_modes(name, integrated):
    dense, sparse = pair(build(name), integrated)
    for seed in (1, 2):
        psi = somewhere(dense, seed)
        wanted, slopes = settle(dense, psi).evaluate(psi)
        value, found = settle(sparse, psi).evaluate(psi)
        close(value, wanted)
        close(found, slopes)
        close(sparse.point.u, dense.point.u)
        close(sparse.point.rest[: sparse.n], dense.point.rest[: dense.n])
        close(sparse.point.facts, dense.point.facts)


@BOTH
@pytest.mark.parametrize("response", RESPONSES)
def test_every_family(response, integrated):
    dense, sparse = pair(build("slopes in all", response), integrated)
    psi = somewhere(dense)
    wanted, slopes = settle(dense, psi).evaluate(psi)
    value, found = settle(sparse, psi).evaluate(psi)
    close(value, wanted)
    close(found, slopes)


@BOTH
@pytest.mark.parametrize("response", ["counts", "y", "spread"])
def test_the_gradient_is_that_of_the_value(response, integrated):
    of = likelihood_of(build("nested and crossed", response), integrated, kind="sparse")
    psi = somewhere(of)
    of.settled = 0.0
    _, slopes = of.evaluate(psi)
    for i in range(of.size):
        step = np.zeros(of.size)
        step[i] = 1e-5
        numeric = (of.evaluate(psi + step)[0] - of.evaluate(psi - step)[0]) / 2e-5
        # third derivatives of order 10 or so times 1e-10 / 6, rounding 1e-12 / 1e-5
        assert abs(numeric - slopes[i]) < 2e-6 * max(1.0, abs(slopes[i]))


@BOTH
@pytest.mark.parametrize("name", FORMULAS)
def test_moments_and_information(name, integrated):
    dense, sparse = pair(build(name), integrated)
    psi = somewhere(dense)
    settle(dense, psi)
    settle(sparse, psi)
    close(sparse.second_moments(), dense.second_moments())
    close(sparse.working_slopes(), dense.working_slopes())
    close(sparse.information(), dense.information())
    close(sparse.likelihood(), dense.likelihood())


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_joint_gaussian(name, given):
    model = build(name)
    dense, sparse = pair(model, False)
    psi = somewhere(dense)
    settle(dense, psi)
    settle(sparse, psi)
    wanted, found = dense.joint(given=given), sparse.joint(given=given)
    close(found.log_marginal, wanted.log_marginal)
    close(found.beta, wanted.beta)
    close(found.working_covariance, wanted.working_covariance)
    close(found.beta_covariance, wanted.beta_covariance)
    for g in model.design.groupings:
        for one, other in zip(found.effects(g.name), wanted.effects(g.name), strict=True):
            close(one, other)


def covariance_of_draws(joint, model, count=40_000):
    drawn = joint.draw(np.random.default_rng(8), count)
    parts = [drawn["beta"], *(drawn[g.name].reshape(count, -1) for g in model.design.groupings)]
    whole = np.hstack(parts)
    return whole.mean(axis=0), np.cov(whole, rowvar=False)


@pytest.mark.parametrize("given", [False, True])
def test_draws_have_the_covariance_of_the_dense_precision(given):
    """Every element within five standard errors of what the dense system says, exactly known here."""
    model = build("slopes in an outer factor")
    dense, sparse = pair(model, False)
    psi = somewhere(dense)
    settle(dense, psi)
    settle(sparse, psi)
    count = 40_000
    mean, cov = covariance_of_draws(sparse.joint(given=given), model, count)
    beta, known, blocks = exact(dense, given)
    spread = np.sqrt(np.diag(known))
    assert np.all(np.abs(mean - beta) < 5 * spread / np.sqrt(count) + 1e-12)
    error = np.sqrt((known**2 + np.outer(spread**2, spread**2)) / count)
    assert np.all(np.abs(cov - known) <= 5.5 * error + 1e-12)
    assert blocks == len(mean)


def exact(of, given):
    """Mean and covariance of (beta, b) as printed, groupings in the order of the formula, from dense matrices."""
    model, joint = of.model, of.joint(given=given)
    design = model.design
    n, P = design.X.shape
    Z, T, means = [], [], []
    for g in design.groupings:
        q, levels = g.Z.shape[1], len(g.levels)
        block = np.zeros((n, levels * q))
        for k in range(q):
            block[np.arange(n), g.codes * q + k] = g.Z[:, k]
        factor = of.T[of.data.order.index(design.groupings.index(g)), :q, :q]
        Z.append(block)
        T.append(np.kron(np.eye(levels), factor))
        means.append(joint.effects(g.name)[0].ravel())
    Z = np.hstack(Z)
    T = np.block([[T[i] if i == k else np.zeros((len(T[i]), len(T[k]))) for k in range(len(T))] for i in range(len(T))])
    w = np.empty(n)
    w[of.data.place] = of.point.weight
    root = Z @ T
    whole = np.hstack([design.X, root])
    H = whole.T @ (w[:, None] * whole)
    H[P:, P:] += np.eye(root.shape[1])
    back = np.zeros((P + len(T), P + len(T)))
    back[:P, :P] = np.eye(P)
    back[P:, P:] = T
    if given:
        V = np.zeros_like(H)
        V[P:, P:] = np.linalg.inv(H[P:, P:])
    else:
        V = np.linalg.inv(H)
    return np.concatenate([joint.beta, *means]), back @ V @ back.T, len(H)


@BOTH
def test_singular_factors(integrated):
    """A variance of zero, and a correlation of one."""
    dense, sparse = pair(build("slopes in all"), integrated)
    psi = somewhere(dense)
    at = dense.explicit
    for entries in (np.flatnonzero(dense.numbers.factor == 1), np.flatnonzero(dense.numbers.factor == 0)[1:]):
        psi[at + entries] = 0.0
        wanted, slopes = settle(dense, psi).evaluate(psi)
        value, found = settle(sparse, psi).evaluate(psi)
        close(value, wanted)
        # both held 1e-7 off zero, where the gradient is a quotient by it
        close(found, slopes, 1e-7)


@BOTH
@pytest.mark.parametrize("response", ["counts", "y"])
def test_priors(response, integrated):
    dense, sparse = pair(build("nested and crossed", response, priors=PRIORS), integrated, True)
    psi = somewhere(dense)
    for one, other in zip(*(settle(of, psi).evaluate(psi) for of in (sparse, dense)), strict=True):
        close(one, other, 1e-8)  # the prior's slopes are differences
    close(sparse.joint().working_covariance, dense.joint().working_covariance)


@BOTH
def test_one_sigma_for_each_level(integrated):
    dense, sparse = pair(build("nested and crossed", "y", sigma_by="s"), integrated)
    psi = somewhere(dense)
    for one, other in zip(*(settle(of, psi).evaluate(psi) for of in (sparse, dense)), strict=True):
        close(one, other)


def test_dense_blocks():
    """A factor with so many joined columns that the sparse phase goes by supernodes."""
    rng = np.random.default_rng(2)
    n = 3_000
    data = {
        "y": rng.poisson(2.0, n), "x": rng.normal(size=n), "a": rng.integers(0, 220, n).astype(str),
        "b": rng.integers(0, 150, n).astype(str),
    }  # fmt: skip
    model = bayou.Model("y ~ x + (1 | a) + (1 | b)", data, family="poisson")
    dense, sparse = pair(model, False)
    assert sparse.front.symbolic.supernodal
    psi = somewhere(dense)
    for one, other in zip(*(settle(of, psi).evaluate(psi) for of in (sparse, dense)), strict=True):
        close(one, other)


def test_a_dependent_column_is_said():
    model = build("nested")
    sparse = likelihood_of(model, False, kind="sparse")
    assert sparse.place(somewhere(sparse))
    sparse.data.rows.others[:, -1] = 0.0  # a fixed effect that says nothing
    with pytest.raises(DataError, match="not determined"):
        sparse.joint()


def test_an_unknown_kind():
    with pytest.raises(Unsupported, match="take 'dense'"):
        likelihood_of(build("nested"), kind="upside down")

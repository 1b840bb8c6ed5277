"""Conjugate gradients and probes against the dense answer: what is exact to rounding, what within its standard error."""

import numpy as np
import pytest

import bayou
from bayou.conditional.choice import likelihood_of
from bayou.conditional.iterative_laplace import IterativeLaplace
from front_models import build, somewhere
from test_sparse_laplace import exact
from test_structure import crossed

CASES = [("crossed", "y"), ("nested and crossed", "counts"), ("slopes in all", "proportion(wins, trials)")]
BOTH = pytest.mark.parametrize("integrated", [False, True])
ALL = pytest.mark.parametrize(("name", "response"), CASES)


@BOTH
@ALL
def test_modes_are_exact_and_values_within_their_error(name, response, integrated):
    model = build(name, response)
    dense, of = likelihood_of(model, integrated, kind="dense"), IterativeLaplace(model, integrated, probes=300)
    psi = somewhere(dense)
    assert dense.place(psi) and of.place(psi)
    # a promised gain of 1e-13: 3e-7 from the mode
    np.testing.assert_allclose(of.point.u, dense.point.u, rtol=0, atol=1e-6)
    np.testing.assert_allclose(of.information(), dense.information(), rtol=0, atol=1e-4)
    value = of.value()
    assert 0.0 < of.standard_error < 0.3
    assert abs(value - dense.value()) < 4.0 * of.standard_error
    wanted, found = dense.slopes(), of.slopes()
    # relative error of a sum of some dozen Hutchinson estimates: about 1 / root(probes) of what is beside the diagonal
    assert np.abs(found - wanted).max() < 0.02 * max(1.0, np.abs(wanted).max())


def test_more_probes_less_error():
    model = build("nested and crossed")
    errors = []
    for probes in (250, 4_000):
        of = IterativeLaplace(model, probes=probes)
        assert of.place(somewhere(of))
        of.value()
        errors.append(of.standard_error)
    # the root of 16; the first error, a standard deviation of 250 numbers, is itself known to 5 %
    assert 3.2 < errors[0] / errors[1] < 4.8


def test_the_value_is_smooth_in_theta():
    """The same probes at every theta: second differences vanish with the step."""
    of = IterativeLaplace(build("crossed"), probes=16)
    psi = somewhere(of)
    step = np.zeros(of.size)
    step[of.explicit] = 1e-3
    below, here, above = (of.evaluate(psi + s * step)[0] for s in (-1.0, 0.0, 1.0))
    assert abs(above - 2.0 * here + below) < 1e-3  # curvature of some 100 times 1e-6, jumps would be of order 0.1


@ALL
@pytest.mark.parametrize("given", [False, True])
def test_the_joint_gaussian(name, response, given):
    model = build(name, response)
    dense, of = likelihood_of(model, kind="dense"), IterativeLaplace(model, probes=1_000)
    psi = somewhere(dense)
    assert dense.place(psi) and of.place(psi)
    wanted, found = dense.joint(given=given), of.joint(given=given)
    np.testing.assert_allclose(found.beta, wanted.beta, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.working_covariance, wanted.working_covariance, rtol=0, atol=1e-6)
    for g in model.design.groupings:
        (mode, error), (mode_wanted, error_wanted) = found.effects(g.name), wanted.effects(g.name)
        np.testing.assert_allclose(mode, mode_wanted, rtol=0, atol=1e-6)
        np.testing.assert_allclose(error, error_wanted, rtol=0.12)  # estimated


@pytest.mark.parametrize("given", [False, True])
def test_draws(given):
    model = build("slopes in an outer factor")
    dense, of = likelihood_of(model, kind="dense"), likelihood_of(model, kind="iterative")
    psi = somewhere(dense)
    assert dense.place(psi) and of.place(psi)
    count = 4_000
    drawn = of.joint(given=given).draw(np.random.default_rng(8), count)
    whole = np.hstack([drawn["beta"], *(drawn[g.name].reshape(count, -1) for g in model.design.groupings)])
    mean, known, _ = exact(dense, given)
    spread = np.sqrt(np.diag(known))
    assert np.all(np.abs(whole.mean(axis=0) - mean) < 5 * spread / np.sqrt(count) + 1e-6)
    error = np.sqrt((known**2 + np.outer(spread**2, spread**2)) / count)
    assert np.all(np.abs(np.cov(whole, rowvar=False) - known) <= 5.5 * error + 1e-6)


@pytest.mark.parametrize(("family", "engine"), [("poisson", "laplace"), ("gaussian", "reml"), ("gaussian", "ml")])
def test_a_fit_agrees_with_the_dense_one(family, engine, monkeypatch):
    """Estimates within a tenth of their standard errors, the log likelihood within its own."""
    model = crossed(400, 150, 3_000, family)
    wanted = bayou.engines.get(engine).run(model, np.random.default_rng(1)).estimates
    again = crossed(400, 150, 3_000, family)
    again.structure.kind = "iterative"
    found = bayou.engines.get(engine).run(again, np.random.default_rng(1)).estimates
    assert found.converged
    assert any("standard error" in note for note in found.notes)
    se = wanted.errors().se
    theta = len(se) - len(wanted.theta)
    assert np.all(np.abs(found.estimate[:theta] - wanted.estimate[:theta]) < 0.1 * se[:theta])
    assert np.all(np.abs(found.theta - wanted.theta) < 0.1 * np.sqrt(np.diag(wanted.errors().theta_covariance)))
    np.testing.assert_allclose(found.errors().se, se, rtol=0.05)
    of = likelihood_of(again)
    assert isinstance(of, IterativeLaplace)
    said = float(next(n for n in found.notes if "standard error" in n).split("standard error is ")[1].split()[0][:-1])
    assert abs(found.log_likelihood - wanted.log_likelihood) < 4.0 * said

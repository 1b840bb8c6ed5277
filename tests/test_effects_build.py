"""From terms of a design to effects, and what the base class promises."""

import numpy as np
import pytest
import scipy.sparse

from bayou import effects
from bayou.effects.base import Hyperparameter, expit
from bayou.effects.known import Known
from bayou.errors import DataError, FormulaError, Unsupported
from standin_terms import term

PAIRS = [[0, 1], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("given", "size", "rank", "roles"),
    [
        (term("rw1", np.arange(5.0)), 5, 4, ["sd"]),
        (term("rw2", np.arange(6.0), cyclic=True, period=6.0), 6, 5, ["sd"]),
        (term("rw2", np.arange(6.0), constrained=False), 6, 4, ["sd"]),
        (term("ar1", np.arange(6.0)), 6, 6, ["sd", "rho"]),
        (term("seasonal", np.arange(9.0), period=4), 9, 6, ["sd"]),
        (term("s", nodes=10, order=1), 10, 9, ["sd"]),
        (term("icar", nodes=6, edges=PAIRS), 6, 4, ["sd"]),
        (term("car", nodes=6, edges=PAIRS), 6, 6, ["sd", "rho"]),
        (term("leroux", nodes=6, edges=PAIRS), 6, 6, ["sd", "rho"]),
        (term("bym2", nodes=6, edges=PAIRS), 12, 10, ["sd", "phi"]),
        (term("known", nodes=3, covariance=np.eye(3)), 3, 3, ["sd"]),
        (term("known", nodes=3, precision=scipy.sparse.eye_array(3, format="csc")), 3, 3, ["sd"]),
    ],
    ids=lambda v: getattr(v, "kind", None),
)
def test_build(given, size, rank, roles):
    effect = effects.build(given, scale=4.0)
    assert (effect.kind, effect.size, effect.rank, effect.replicates) == (given.kind, size, rank, 1)
    assert [h.role for h in effect.hyperparameters] == roles
    assert effect.observed == len(given.nodes)
    np.testing.assert_allclose(np.exp(effect.initial[0]), 2.0)
    copies = effects.build(type(given)(**{**vars(given), "replicates": np.array(["u", "v", "w"], dtype=object)}))
    assert copies.replicates == 3
    assert np.isfinite(copies.log_determinant(copies.initial))


def test_options_reach_the_effect():
    scaled = effects.build(term("icar", nodes=3, edges=[[0, 1], [1, 2]]))
    plain = effects.build(term("icar", nodes=3, edges=[[0, 1], [1, 2]], scale=False))
    np.testing.assert_allclose(plain.dense(np.zeros(1)).diagonal(), [1, 2, 1])
    assert not np.allclose(scaled.dense(np.zeros(1)), plain.dense(np.zeros(1)))


def test_errors_name_the_term():
    with pytest.raises(DataError, match=r"^rw2\(t\): rw2 needs at least 3"):
        effects.build(term("rw2", np.arange(2.0), text="rw2(t)"))
    with pytest.raises(DataError, match="^animal: the 2 x 2 covariance is not positive definite"):
        effects.build(term("known", nodes=2, covariance=np.ones((2, 2)), name="animal"))
    with pytest.raises(FormulaError, match="no structured effect"):
        effects.build(term("rw9", np.arange(3.0)))
    with pytest.raises(Unsupported, match="^t: ar1 over"):
        effects.build(term("ar1", np.cumsum(np.random.default_rng(0).uniform(0.1, 1, 6000))))


def test_a_large_precision_that_is_not_definite(monkeypatch):
    monkeypatch.setattr("bayou.effects.known.DENSE", 3)
    P = scipy.sparse.diags_array([-np.ones(29), np.full(30, 1.5), -np.ones(29)], offsets=[-1, 0, 1], format="csc")
    smallest = np.linalg.eigvalsh(P.toarray())[0]
    with pytest.raises(DataError, match=f"{smallest:.4g}"):
        Known(precision=P)
    with pytest.raises(DataError, match=f"{smallest:.4g}"):
        Known(covariance=P)
    with pytest.raises(DataError, match="not finite"):
        Known(covariance=np.array([[1.0, np.nan], [np.nan, 1.0]]))


@pytest.mark.parametrize("scale", ["log", "logit", "atanh"])
def test_hyperparameters(scale):
    h = Hyperparameter("sd", "", scale, 0.0)
    for t in (-3.0, -0.2, 0.0, 1.4):
        np.testing.assert_allclose(h.internal(h.value(t)), t, atol=1e-12)
        step = 1e-6
        np.testing.assert_allclose(h.slope(t), (h.value(t + step) - h.value(t - step)) / (2 * step), rtol=1e-8)
    for t in (-600.0, 600.0):
        assert np.isfinite(h.value(t)) and np.isfinite(h.log_slope(t))
    for wrong in (-1.0, 0.0 if scale != "atanh" else 1.0, np.nan):
        with pytest.raises(DataError, match="not between"):
            h.internal(wrong)
    np.testing.assert_allclose(expit(-40.0), np.exp(-40.0))

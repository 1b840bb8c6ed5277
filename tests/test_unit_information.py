"""Unit-information priors against the book's own script, and their refusals."""

from types import SimpleNamespace

import numpy as np
import pytest

import bayou.priors as bp
from bayou.errors import PriorError


def _model(y, Z, codes, name, family, link, **extra):
    n = len(y)
    coefficients = ("Intercept", *(f"x{k}" for k in range(1, Z.shape[1])))
    grouping = SimpleNamespace(
        name=name,
        levels=np.unique(codes),
        codes=codes,
        Z=Z,
        coefficients=coefficients,
        blocks=(tuple(range(Z.shape[1])),),
    )
    design = SimpleNamespace(
        y=y,
        X=extra.get("X", Z),
        coefficients=coefficients,
        groupings=(grouping,),
        offset=np.zeros(n),
        weights=np.ones(n),
        standard_errors=None,
        require_rows=lambda what: None,
        family=SimpleNamespace(name=family, link=SimpleNamespace(name=link)),
    )
    return SimpleNamespace(design=design)


def _table(shared, name):
    pandas = pytest.importorskip("pandas")
    return pandas.read_csv(shared / "data" / name)


def test_unit_information_of_the_tumour_counts(shared):
    table = _table(shared, "hoff_tumor_long.csv")
    x = table["x"].to_numpy()
    Z = np.column_stack([x**k for k in range(5)])
    codes = np.unique(table["mouse"], return_inverse=True)[1]
    y = table["count"].to_numpy(dtype=float)
    priors = bp.Priors.unit_information(_model(y, Z, codes, "mouse", "poisson", "log"))
    expected = [-1.747014, 0.3964235, -9.195034, 55.9221, -46.62035]
    np.testing.assert_allclose(priors["beta"].mean, expected, rtol=1e-6)
    S0 = priors["Sigma_mouse"]
    assert S0.df == 7
    np.testing.assert_allclose(S0.scale[0], [9.200779, -104.964, 358.1745, -474.8937, 215.2728], rtol=1e-6)
    np.testing.assert_allclose(S0.scale[4, 4], 6437.6900, rtol=1e-7)
    np.testing.assert_allclose(priors["beta"].cov, S0.scale, rtol=1e-6)
    assert "sigma" not in priors


def test_unit_information_of_the_school_scores(shared):
    table = _table(shared, "hoff_nels_ses.csv")
    codes = np.unique(table["sch_id"], return_inverse=True)[1]
    ses = table["stu_ses"].to_numpy()
    ses = ses - (np.bincount(codes, ses) / np.bincount(codes))[codes]
    Z = np.column_stack([np.ones(len(ses)), ses])
    y = table["stu_mathscore"].to_numpy()
    model = _model(y, Z, codes, "school", "gaussian", "identity")
    priors = bp.Priors.unit_information(model)
    np.testing.assert_allclose(priors["beta"].mean, [48.12945, 2.373533], rtol=1e-6)
    np.testing.assert_allclose(priors["Sigma_school"].scale, [[30.994456, 2.195044], [2.195044, 10.099561]], rtol=1e-6)
    assert priors["sigma"].shape == 0.5
    assert priors["sigma"].rate == pytest.approx(0.5 * 75.90852, rel=1e-6)
    # Other fixed columns with the same span: the same prior of the linear predictor.
    mapping = np.array([[1.0, 3.0], [0.0, 2.0]])
    other = bp.Priors.unit_information(_model(y, Z, codes, "school", "gaussian", "identity", X=Z @ mapping))
    np.testing.assert_allclose(mapping @ other["beta"].mean, priors["beta"].mean, rtol=1e-8)
    np.testing.assert_allclose(mapping @ other["beta"].cov @ mapping.T, priors["beta"].cov, rtol=1e-7)


def test_unit_information_refusals():
    rng = np.random.default_rng(7)
    codes = np.repeat(np.arange(6), 5)
    Z = np.column_stack([np.ones(30), rng.standard_normal(30)])
    y = rng.standard_normal(30)
    with pytest.raises(PriorError, match="span the same columns"):
        X = np.column_stack([Z, rng.standard_normal(30)])
        bp.Priors.unit_information(_model(y, Z, codes, "g", "gaussian", "identity", X=X))
    with pytest.raises(PriorError, match="Gaussian responses with identity link and for counts"):
        bp.Priors.unit_information(_model(y > 0, Z, codes, "g", "bernoulli", "logit"))
    with pytest.raises(PriorError, match="at least 3 levels"):
        bp.Priors.unit_information(_model(y, Z, np.arange(30), "g", "gaussian", "identity"))
    model = _model(y, Z, codes, "g", "gaussian", "identity")
    model.design.groupings = ()
    with pytest.raises(PriorError, match="grouping factor"):
        bp.Priors.unit_information(model)

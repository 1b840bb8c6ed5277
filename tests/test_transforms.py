"""Transforms of columns: what they give, remember and refuse."""

import numpy as np
import pandas as pd
import pytest

from bayou import families
from bayou.design import build
from bayou.errors import BayouError, DataError
from trial_table import trial_table

gaussian = families.get("gaussian")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


class TestTransforms:
    def test_poly(self, table):
        design = build("y ~ poly(x, 3)", table, gaussian)
        Q = design.X[:, 1:]
        np.testing.assert_allclose(Q.T @ Q, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(Q.sum(axis=0), 0.0, atol=1e-12)
        fitted = Q @ np.linalg.lstsq(Q, table.x**3 - np.mean(table.x**3), rcond=None)[0]
        np.testing.assert_allclose(fitted, table.x**3 - np.mean(table.x**3), atol=1e-9)
        assert np.corrcoef(Q[:, 0], table.x)[0, 1] > 0.999

    @pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
    @pytest.mark.parametrize("shift", [0.0, 1e6])
    def test_poly_does_not_depend_on_units(self, table, scale, shift):
        base = build("y ~ poly(x, 4)", table, gaussian)
        moved = table.assign(x=(table.x + shift) * scale)
        design = build("y ~ poly(x, 4)", moved, gaussian)
        np.testing.assert_allclose(design.X, base.X, atol=1e-7 if shift else 1e-12)
        np.testing.assert_allclose(design.rebuild(moved[:5]).X, design.X[:5], atol=1e-13)

    def test_raw_poly(self, table):
        X = build("y ~ poly(x, 3, raw=TRUE)", table, gaussian).X
        np.testing.assert_allclose(X, np.vander(table.x, 4, increasing=True), rtol=1e-14)

    def test_center_and_scale(self, table):
        design = build("y ~ center(x) + scale(x) + scale(x, scale=F)", table, gaussian)
        x = table.x.to_numpy()
        np.testing.assert_allclose(design.X[:, 1], x - x.mean())
        np.testing.assert_allclose(design.X[:, 2], (x - x.mean()) / x.std(ddof=1))
        np.testing.assert_allclose(design.X[:, 3], x - x.mean())
        new = design.rebuild({"x": [0.0]})
        np.testing.assert_allclose(new.X[0, 1:], [-x.mean(), -x.mean() / x.std(ddof=1), -x.mean()])

    def test_center_by_group(self, table):
        design = build("y ~ center(x, by=g) + (center(x, by=g) | g)", table, gaussian)
        means = table.groupby("g").x.transform("mean")
        np.testing.assert_allclose(design.X[:, 1], table.x - means)
        np.testing.assert_array_equal(design.groupings[0].Z[:, 1], design.X[:, 1])
        new = design.rebuild({"x": [1.0, 1.0, 2.0, 4.0], "g": ["a", "new", "new", None]})
        known = table.x[table.g == "a"].mean()
        np.testing.assert_allclose(new.X[:, 1], [1.0 - known, -0.5, 0.5, 0.0])
        at = build("y ~ center(x, by=g, at=2.5)", table, gaussian).rebuild({"x": [1.0, 1.0], "g": ["a", "new"]})
        np.testing.assert_allclose(at.X[:, 1], [1.0 - known, -1.5])
        table["m"] = 0.0
        column = build("y ~ center(x, by=g, at=m)", table, gaussian)
        new = column.rebuild({"x": [1.0], "g": ["new"], "m": [7.0]})
        np.testing.assert_allclose(new.X[:, 1], [-6.0])

    def test_center_by_combination(self, table):
        design = build("y ~ center(x, by=g:arm)", table, gaussian)
        np.testing.assert_allclose(design.X[:, 1], table.x - table.groupby(["g", "arm"]).x.transform("mean"))

    def test_bs(self, table):
        design = build("y ~ bs(x, df=5) + bs(x, knots=[3], degree=2)", table, gaussian)
        assert design.coefficients[5:7] == ("bs(x, df=5)[5]", "bs(x, knots=[3], degree=2)[1]")
        np.testing.assert_allclose(design.rebuild(table[4:7]).X, design.X[4:7])
        with pytest.raises(DataError, match=r"outside its knots.*row 1; counted from 0"):
            design.rebuild({"x": [table.x.mean(), 1e3]})

    def test_nested(self, table):
        design = build("y ~ poly(log(x), 2) + I(scale(x)^2) + scale(center(x, by=g))", table, gaussian)
        np.testing.assert_allclose(design.rebuild(table[::-1]).X[::-1], design.X, atol=1e-13)

    @pytest.mark.parametrize(
        ("term", "words"),
        [
            ("poly(h, 3)", "more than 3 distinct values; the column has 3"),
            ("poly(x, 0)", "degree must be a whole number"),
            ("poly(x, 2, 3, 4)", "at most"),
            ("poly(x, raw=3)", "raw must be True or False"),
            ("poly(x, degre=2)", "Did you mean `degree`"),
            ("scale(one)", "sd is zero"),
            ("bs(x, df=1)", "bs(x, df=1)"),
            ("log(z)", "not a finite number"),
            ("I(1 / zero)", "not a finite number"),
            ("log(arm)", "`arm` holds text"),
            ("log(x, 2)", "takes one expression"),
            ("log()", "needs a column"),
            ("I(x:z)", "not arithmetic"),
            ("center(x, by=g + h)", "bar"),
            ("center(x, by=g, to=3)", "center(x, by=g, at=…)"),
            ("poly(poly(x, 2), 2)", "gives 2 columns"),
            ("C(x, y, z)", "write C(x)"),
            ("C(g, Tukey)", "Treatment, Sum and Helmert"),
            ("Treatment(x)", "no numeric value"),
            ("poly(x, z)", "cannot be a setting"),
            ("I(poly(x, 2) * z)", "joins several columns"),
            ("bs(x, df=2.5)", "df must be a whole number"),
            ("bs(x, knots=3)", "c(1, 2)"),
            ('bs(x, lower_bound="a")', "must hold numbers"),
            ("bs(x, knots=[9, 10])", "the knot 9 does not lie between"),
            ("same", "one level only (k)"),
        ],
    )
    def test_refused(self, table, term, words):
        table = table.assign(one=0.1, zero=0.0, same="k")
        with pytest.raises(BayouError) as caught:
            build(f"y ~ {term}", table, gaussian)
        assert words in str(caught.value)

"""Formula and data to arrays, against numbers worked out by hand; every fault is refused by name."""

import datetime
import decimal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayou import families
from bayou.design import build
from bayou.errors import BayouError, DataError, FormulaError, UnsafeFormula, Unsupported
from bayou.frames import read

gaussian = families.get("gaussian")
binomial = families.get("binomial")
bernoulli = families.get("bernoulli")
poisson = families.get("poisson")


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 24
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n) + 3.0,
            "z": rng.normal(size=n),
            "g": np.repeat(["d", "a", "c", "b"], 6),
            "h": np.tile([10, 9, 2], 8),
            "arm": np.tile(["control", "drug"], 12),
            "count": rng.poisson(3.0, n),
            "trials": rng.poisson(3.0, n) + 12,
            "e": rng.uniform(1.0, 2.0, n),
        }
    )


class TestFixedPart:
    @pytest.mark.parametrize(
        ("formula", "names"),
        [
            ("y ~ 1", ("Intercept",)),
            ("y ~ 0 + x", ("x",)),
            ("y ~ x * z", ("Intercept", "x", "z", "x:z")),
            ("y ~ arm", ("Intercept", "arm[drug]")),
            ("y ~ 0 + arm", ("arm[control]", "arm[drug]")),
            ("y ~ x:arm", ("Intercept", "x:arm[control]", "x:arm[drug]")),
            ("y ~ x * arm", ("Intercept", "x", "arm[drug]", "x:arm[drug]")),
            ("y ~ g", ("Intercept", "g[b]", "g[c]", "g[d]")),
            ("y ~ C(h)", ("Intercept", "C(h)[9]", "C(h)[10]")),
            ('y ~ C(g, Treatment("c"))', None),
            ('y ~ C(g, reference="c")', None),
            ("y ~ poly(x, 2)", ("Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]")),
            ("y ~ poly(x, 2):arm", None),
            ("y ~ I(x>3) + log(x) + I(x^2)", ("Intercept", "I(x > 3)", "log(x)", "I(x^2)")),
        ],
    )
    def test_names(self, table, formula, names):
        design = build(formula, table, gaussian)
        assert design.X.shape == (24, len(design.coefficients))
        assert design.X.flags["C_CONTIGUOUS"]
        assert len(set(design.coefficients)) == len(design.coefficients)
        if names is not None:
            assert design.coefficients == names

    def test_reference_levels(self, table):
        design = build('y ~ C(g, reference="c")', table, gaussian)
        assert design.coefficients[1:] == tuple(f'C(g, reference="c")[{level}]' for level in "abd")
        np.testing.assert_array_equal(design.X[:, 1], table.g == "a")
        assert 'C(g, reference="c"): reference level c.' in design.notes
        assert build("y ~ arm", table, gaussian).notes == ("arm: reference level control.",)
        table["arm"] = pd.Categorical(table.arm, ["drug", "control", "placebo"])
        design = build("y ~ arm", table, gaussian)
        assert design.coefficients == ("Intercept", "arm[control]")
        assert "arm: 1 unused level dropped (placebo)." in design.notes

    def test_contrasts(self, table):
        sums = build("y ~ C(arm, Sum)", table, gaussian).X[:, 1]
        np.testing.assert_array_equal(sums, np.where(table.arm == "control", 1.0, -1.0))
        helmert = build("y ~ C(g, contr.helmert)", table, gaussian).X
        np.testing.assert_allclose(helmert.sum(axis=0)[1:], 0.0, atol=1e-12)
        levels = build('y ~ 0 + C(arm, levels=["drug", "control"])', table, gaussian)
        np.testing.assert_array_equal(levels.X[:, 0], table.arm == "drug")
        with pytest.raises(FormulaError, match="Did you mean `drug`"):
            build('y ~ C(arm, reference="drg")', table, gaussian)

    def test_arithmetic(self, table):
        x, z = table.x.to_numpy(), table.z.to_numpy()
        cases = {
            "I(x^2 + 2 * z / 3 - 1)": x**2 + 2 * z / 3 - 1,
            "I(-x^2)": -(x**2),
            "I((-x)^2)": x**2,
            "I(2^(x + 1))": 2 ** (x + 1),
            "I(x %% 2)": x % 2,
            "log(x + 1)": np.log(x + 1),
            "I(x > 3)": x > 3,
            'I(arm == "drug")': table.arm == "drug",
            'I(arm != "drug")': table.arm != "drug",
            "exp(sqrt(abs(z)))": np.exp(np.sqrt(np.abs(z))),
            "round(x)": np.round(x),
        }
        for text, expected in cases.items():
            np.testing.assert_allclose(
                build(f"y ~ 0 + {text}", table, gaussian).X[:, 0], expected, rtol=1e-15
            )

    def test_interaction_columns(self, table):
        design = build("y ~ x * arm", table, gaussian)
        drug = (table.arm == "drug").to_numpy()
        np.testing.assert_array_equal(design.X[:, 3], table.x * drug)

    def test_booleans_are_two_levels(self, table):
        table["treated"] = table.arm == "drug"
        design = build("y ~ treated + (0 + treated | g)", table, gaussian)
        assert design.coefficients == ("Intercept", "treated[True]")
        assert design.groupings[0].coefficients == ("treated[False]", "treated[True]")

    def test_dates_decimals_and_nullable(self, table):
        table["day"] = [datetime.date(2020, 1, 1) + datetime.timedelta(days=k) for k in range(24)]
        table["money"] = [decimal.Decimal(k) / 4 for k in range(24)]
        table["nullable"] = pd.array(range(24), dtype="Int64")
        design = build("y ~ day + money + nullable", table, gaussian)
        np.testing.assert_array_equal(np.diff(design.X, axis=0), np.tile([0.0, 1.0, 0.25, 1.0], (23, 1)))
        assert "day is a date: it counts in days since 1970-01-01." in design.notes

    @pytest.mark.parametrize(
        "name",
        [
            "body mass",
            "größe",
            "x:z",
            "a~b",
            "Intercept",
            "class",
            "lambda",
            "__x__",
            "TRUE",
            "1x",
            "f(x)",
            "it's",
            "a`b",
            '"',
            "x[1]",
            "f0",
            "L0",
            "np",
            "é\u0301",
            "(weights)",
            " ",
        ],
    )
    def test_any_column_name_in_backquotes(self, table, name):
        quoted = "`" + name.replace("`", "``") + "`"
        table[name] = table.z
        design = build(f"y ~ x + {quoted} + I({quoted}^2) + x:{quoted} + ({quoted} | g)", table, gaussian)
        np.testing.assert_array_equal(design.X[:, 2], table.z)
        np.testing.assert_array_equal(design.X[:, 4], table.x * table.z)
        assert len(set(design.coefficients)) == 5
        again = build(design.formula.text, read(design.data, design.categories), gaussian)
        np.testing.assert_array_equal(again.X, design.X)

    def test_intercept_is_not_mistaken(self, table):
        table["Intercept"] = table.z
        assert build("y ~ `Intercept`", table, gaussian).coefficients == ("Intercept", "`Intercept`")

    @given(st.lists(st.text(max_size=5), min_size=2, max_size=6, unique=True))
    def test_any_levels(self, levels):
        values = (levels * 6)[: 2 * len(levels)]
        data = {"y": np.arange(len(values)) ** 1.5, "f": values, "x": np.arange(len(values)) % 5}
        design = build("y ~ f + x:f + (1 | f)", data, gaussian)
        ordered = sorted(levels)
        assert design.coefficients[1 : len(levels)] == tuple(f"f[{level}]" for level in ordered[1:])
        assert list(design.groupings[0].levels) == ordered
        indicator = np.array([value == ordered[-1] for value in values])
        np.testing.assert_array_equal(design.X[:, len(levels) - 1], indicator)

    def test_own_functions(self, table):
        def spread(x, power=1):
            return np.column_stack([x, x**power])

        design = build("y ~ spread(x, power=3)", table, gaussian, functions={"spread": spread})
        assert design.coefficients[1:] == ("spread(x, power=3)[1]", "spread(x, power=3)[2]")
        np.testing.assert_allclose(design.X[:, 2], table.x**3)
        with pytest.raises(FormulaError, match="your function in `bad\\(x\\)` fails: ZeroDivisionError"):
            build("y ~ bad(x)", table, gaussian, functions={"bad": lambda x: 1 / 0})
        with pytest.raises(FormulaError, match="gives shape \\(3,\\)"):
            build("y ~ bad(x)", table, gaussian, functions={"bad": lambda x: x[:3]})

    def test_caller_variables_are_not_seen(self, table):
        secret = table.x  # noqa: F841
        with pytest.raises(FormulaError, match="no column `secret`"):
            build("y ~ secret", table, gaussian)


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
        at = build("y ~ center(x, by=g, at=2.5)", table, gaussian).rebuild(
            {"x": [1.0, 1.0], "g": ["a", "new"]}
        )
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
            ("same", "one level only (k)"),
        ],
    )
    def test_refused(self, table, term, words):
        table = table.assign(one=0.1, zero=0.0, same="k")
        with pytest.raises(BayouError) as caught:
            build(f"y ~ {term}", table, gaussian)
        assert words in str(caught.value)


class TestGroupings:
    def test_intercept_and_slope(self, table):
        (grouping,) = build("y ~ x + (x | g)", table, gaussian).groupings
        assert grouping.name == "g"
        assert grouping.coefficients == ("Intercept", "x")
        assert grouping.blocks == ((0, 1),)
        assert list(grouping.levels) == ["a", "b", "c", "d"]
        np.testing.assert_array_equal(grouping.levels[grouping.codes], table.g)
        assert grouping.codes.dtype == np.int64
        np.testing.assert_array_equal(grouping.Z, np.column_stack([np.ones(24), table.x]))
        assert grouping.Z.flags["C_CONTIGUOUS"]

    def test_bars_on_one_factor_are_merged(self, table):
        (grouping,) = build("y ~ (1 | g) + (0 + x + z | g) + (0 + arm || g)", table, gaussian).groupings
        assert grouping.coefficients == ("Intercept", "x", "z", "arm[control]", "arm[drug]")
        assert grouping.blocks == ((0,), (1, 2), (3,), (4,))

    def test_nested_and_crossed(self, table):
        design = build("y ~ (1 | g/h) + (1 | arm:g)", table, gaussian)
        assert [grouping.name for grouping in design.groupings] == ["g", "g:h", "arm:g"]
        nested = design.groupings[1]
        assert list(nested.levels[:4]) == ["a:2", "a:9", "a:10", "b:2"]
        labels = [f"{g}:{h}" for g, h in zip(table.g, table.h, strict=True)]
        assert list(nested.levels[nested.codes]) == labels
        both = build("y ~ (1 | g:h) + (0 + x | h:g)", table, gaussian).groupings
        assert [(grouping.name, grouping.blocks) for grouping in both] == [("g:h", ((0,), (1,)))]

    def test_same_numbers_in_bars_and_in_X(self, table):
        design = build("y ~ poly(x, 2) + scale(z) + arm + (poly(x, 2) + scale(z) + arm | g)", table, gaussian)
        assert design.groupings[0].coefficients == design.coefficients
        np.testing.assert_array_equal(design.groupings[0].Z, design.X)

    def test_declared_order_and_unused_levels(self, table):
        table["g"] = pd.Categorical(table.g, ["d", "c", "b", "a", "e", "f"])
        design = build("y ~ (1 | g)", table, gaussian)
        assert list(design.groupings[0].levels) == ["d", "c", "b", "a"]
        assert "g: 2 unused levels dropped (e, f)." in design.notes
        again = build("y ~ (1 | g)", read(design.data, design.categories), gaussian)
        np.testing.assert_array_equal(again.groupings[0].codes, design.groupings[0].codes)

    def test_integer_levels_sort_as_numbers(self, table):
        assert list(build("y ~ (1 | h)", table, gaussian).groupings[0].levels) == [2, 9, 10]

    def test_huge_ids(self):
        ids = [2**63, 2**63 + 1, 2**63]
        (grouping,) = build("y ~ (1 | g)", {"y": [1.0, 2.0, 3.0], "g": ids}, gaussian).groupings
        assert list(grouping.levels) == [2**63, 2**63 + 1]
        np.testing.assert_array_equal(grouping.codes, [0, 1, 0])

    def test_constant_slopes(self, table):
        table["size"] = table.g.map({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
        with pytest.raises(DataError, match="`size` is constant within every level of `g`"):
            build("y ~ size + (size | g)", table, gaussian)
        table.loc[0, "size"] = 9.0
        assert build("y ~ (size | g)", table, gaussian).groupings[0].coefficients[1] == "size"

    def test_a_coefficient_twice(self, table):
        with pytest.raises(FormulaError, match="Intercept varies twice by g"):
            build("y ~ (1 | g) + (x | g)", table, gaussian)

    def test_implicit_nesting_is_noted(self):
        rows = [(b, c) for b in "ABCD" for c in (1, 2, 3) for _ in range(2)]
        data = {"y": np.arange(24.0), "batch": [b for b, _ in rows], "cask": [c for _, c in rows]}
        assert any(
            "(1 | batch/cask)" in note for note in build("y ~ (1|batch) + (1|cask)", data, gaussian).notes
        )
        assert not build("y ~ (1|batch/cask)", data, gaussian).notes


class TestResponse:
    def test_proportion_and_cbind(self, table):
        table["failures"] = table.trials - table["count"].clip(upper=table.trials)
        table["count"] = table.trials - table.failures
        one = build("proportion(count, trials) ~ 1", table, binomial)
        two = build("cbind(count, failures) ~ 1", table, binomial)
        for design in (one, two):
            np.testing.assert_array_equal(design.y, table["count"])
            np.testing.assert_array_equal(design.trials, table.trials)
        assert one.response_name == "proportion(count, trials)"
        assert (build("proportion(count, 40) ~ 1", table, binomial).trials == 40).all()

    def test_measured(self, table):
        design = build("measured(y, e) ~ 1", table, gaussian)
        np.testing.assert_array_equal(design.standard_errors, table.e)
        with pytest.raises(DataError, match="not positive in 1 row \\(row 3"):
            build("measured(y, e) ~ 1", table.assign(e=table.e.where(table.index != 3, 0.0)), gaussian)
        with pytest.raises(FormulaError, match="own sd"):
            build("measured(y, e) ~ 1", table, gaussian, sigma_by="g")

    @pytest.mark.parametrize("family", [bernoulli, binomial])
    def test_two_outcomes(self, table, family):
        for values, levels in [
            (np.tile([0, 1], 12), None),
            (np.tile([False, True], 12), (False, True)),
            (np.tile(["no", "yes"], 12), ("no", "yes")),
            (pd.Categorical(np.tile(["b", "a"], 12), ["b", "a", "c"]), ("b", "a")),
        ]:
            design = build("r ~ 1", table.assign(r=values), family)
            np.testing.assert_array_equal(design.y, np.tile([0.0, 1.0], 12))
            assert design.response_levels == levels
        assert (
            "r: success is yes, reference no."
            in build("r ~ 1", table.assign(r=np.tile(["no", "yes"], 12)), family).notes
        )
        np.testing.assert_array_equal(build("x > 3 ~ 1", table, family).y, table.x > 3)
        np.testing.assert_array_equal(build('arm == "control" ~ 1', table, family).y, table.arm == "control")

    def test_expressions(self, table):
        np.testing.assert_allclose(build("log(e) ~ 1", table, gaussian).y, np.log(table.e))
        np.testing.assert_allclose(build("y + x ~ 1", table, gaussian).y, table.y + table.x)
        scaled = build("scale(y) ~ 1", table, gaussian)
        np.testing.assert_allclose(scaled.rebuild(table[:3], need_response=True).y, scaled.y[:3])

    @pytest.mark.parametrize(
        ("formula", "family", "words"),
        [
            ("g ~ 1", bernoulli, "4 levels (a, b, c, d)"),
            ("same ~ 1", bernoulli, "1 level (k)"),
            ("g ~ 1", gaussian, "holds text"),
            ("count ~ 1", bernoulli, "0 or 1"),
            ("count ~ 1", binomial, "proportion(successes, trials)"),
            ("proportion(count, trials) ~ 1", poisson, "family='binomial'"),
            ("measured(y, e) ~ 1", poisson, "family='gaussian'"),
            ("y ~ 1", poisson, "row"),
            ("proportion(trials, count) ~ 1", binomial, "more successes than trials"),
            ("cbind(count, y) ~ 1", binomial, "`y` is negative"),
            ("poly(y, 2) ~ 1", gaussian, "gives 2 columns"),
        ],
    )
    def test_refused(self, table, formula, family, words):
        with pytest.raises(BayouError) as caught:
            build(formula, table.assign(same="k"), family)
        assert words in str(caught.value)

    def test_bad_rows_are_named_as_the_caller_counts_them(self, table):
        table["count"] = table["count"].astype(float)
        table.loc[0, "x"] = np.nan
        table.loc[5, "count"] = 2.5
        with pytest.raises(DataError, match="row 5 has 2.5"):
            build("count ~ x", table, poisson, missing="drop")


class TestOffsetsWeightsSigma:
    def test_offset(self, table):
        design = build("count ~ offset(log(e)) + offset(x)", table, poisson)
        np.testing.assert_allclose(design.offset, np.log(table.e) + table.x)
        assert design.coefficients == ("Intercept",)
        with pytest.raises(DataError, match=r"`log\(e\)` is not a finite number in 2 rows \(row 4, 7.*e = 0"):
            build(
                "count ~ offset(log(e))",
                table.assign(e=table.e.where(~table.index.isin([4, 7]), 0.0)),
                poisson,
            )

    def test_weights(self, table):
        np.testing.assert_array_equal(build("y ~ 1", table, gaussian, weights="e").weights, table.e)
        design = build("y ~ 1", table, gaussian, weights=table.e.to_numpy())
        np.testing.assert_array_equal(design.weights, table.e)
        again = build("y ~ 1", design.data, gaussian, weights=design.weights_column)
        np.testing.assert_array_equal(again.weights, table.e)
        for bad in (0.0, -1.0):
            with pytest.raises(DataError, match="weights `e` must be positive.*row 2"):
                build("y ~ 1", table.assign(e=table.e.where(table.index != 2, bad)), gaussian, weights="e")
        with pytest.raises(DataError, match="missing values: `e`"):
            build("y ~ 1", table.assign(e=table.e.where(table.index != 2)), gaussian, weights="e")
        with pytest.raises(DataError, match="shape"):
            build("y ~ 1", table, gaussian, weights=[1.0, 2.0])
        with pytest.raises(FormulaError, match="no column `ee`.*Did you mean `e`"):
            build("y ~ 1", table, gaussian, weights="ee")

    def test_sigma_by(self, table):
        design = build("y ~ 1", table, gaussian, sigma_by="g")
        np.testing.assert_array_equal(design.sigma_levels[design.sigma_codes], table.g)
        assert len(build("y ~ 1", table, gaussian, sigma_by="g:arm").sigma_levels) == 8
        assert len(build("y ~ 1", table, gaussian).sigma_levels) == 1
        with pytest.raises(Unsupported, match="no dispersion"):
            build("count ~ 1", table, poisson, sigma_by="g")
        with pytest.raises(FormulaError, match="no column `gg`"):
            build("y ~ 1", table, gaussian, sigma_by="gg")


class TestFaults:
    @pytest.mark.parametrize("column", ["y", "x", "g", "arm"])
    @pytest.mark.parametrize("library", ["pandas", "polars", "dict"])
    def test_missing_values(self, table, column, library):
        holes = table[column].astype(object)
        holes[[2, 11]] = None
        data = {"y": table.y, "x": table.x, "g": table.g, "arm": table.arm} | {column: holes}
        values = {name: list(series) for name, series in data.items()}
        made = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "dict": dict}[library](values)
        formula = "y ~ x + arm + (x | g)"
        with pytest.raises(DataError) as caught:
            build(formula, made, gaussian)
        assert f"2 rows of 24 with missing values: `{column}` in 2 rows (row 2, 11" in str(caught.value)
        design = build(formula, made, gaussian, missing="drop")
        assert (design.n, design.dropped) == (22, 2)
        assert design.notes[0] == "2 rows of 24 dropped because of missing values."
        assert list(design.index[:3]) == [0, 1, 3]
        np.testing.assert_array_equal(design.y, np.delete(table.y.to_numpy(), [2, 11]))
        assert all(len(values) == 22 for values in design.data.values())

    def test_holes_elsewhere_do_not_matter(self, table):
        assert build("y ~ x", table.assign(z=np.nan), gaussian).n == 24

    def test_nothing_left(self, table):
        with pytest.raises(DataError, match="no row is complete"):
            build("y ~ x", table.assign(x=np.nan), gaussian, missing="drop")
        with pytest.raises(DataError, match="missing='ignore'"):
            build("y ~ x", table, gaussian, missing="ignore")

    @pytest.mark.parametrize("missing", ["error", "drop"])
    def test_infinite_values(self, table, missing):
        table.loc[7, "x"] = np.inf
        with pytest.raises(DataError, match="`x` holds infinite values in 1 row \\(row 7"):
            build("y ~ x", table, gaussian, missing=missing)

    def test_empty_and_single(self, table):
        with pytest.raises(DataError, match="the data have 0 rows"):
            build("y ~ x", table[:0], gaussian)
        with pytest.raises(DataError, match="the data have 0 rows"):
            build("y ~ x", {}, gaussian)
        assert build("y ~ x", table[:1], gaussian).n == 1

    @pytest.mark.parametrize(
        ("formula", "words"),
        [
            ("y ~ xx", "no column `xx`, which 'y ~ xx' needs. Did you mean `x`?"),
            ("y ~ x + (1 | gg)", "no column `gg`"),
            ("Y ~ x", "Did you mean `y`?"),
            ("y ~ X + ZZ", "Nor `ZZ`"),
            ("y ~ offset(exposure)", "no column `exposure`"),
        ],
    )
    def test_misspelt_names(self, table, formula, words):
        with pytest.raises(FormulaError) as caught:
            build(formula, table, gaussian)
        assert words in str(caught.value)

    def test_attributes(self, table):
        with pytest.raises(UnsafeFormula, match="attribute"):
            build("y ~ x.values", table, gaussian)
        table["x.values"] = 1.0 * np.arange(24)
        assert build("y ~ x.values", table, gaussian).coefficients[1] == "x.values"

    def test_mixed_types(self, table):
        mixed = table.x.astype(object)
        mixed[3] = "3,5"
        with pytest.raises(
            DataError, match=r"`x` mixes types: float \(23\), str \(1\); the str values stand in 1"
        ):
            build("y ~ x", table.assign(x=mixed), gaussian)

    @pytest.mark.parametrize("term", ["rw1(t)", "s(x)", "icar(g, graph=W)", "(1 | g, covariance=A)"])
    def test_structured_effects(self, table, term):
        with pytest.raises(Unsupported, match="not in this version yet"):
            build(f"y ~ x + {term}", table, gaussian)

    def test_as_many_columns_as_people(self):
        n = 30_000
        data = {"y": np.zeros(n), "id": [f"p{k}" for k in range(n)]}
        with pytest.raises(DataError, match=r"`id` has 30,000 levels. Write it as a group, \(1 \| id\)"):
            build("y ~ id", data, gaussian)

    def test_the_caller_keeps_the_data(self, table):
        before = table.copy()
        design = build("y ~ x + (x | g)", table, gaussian, weights="e")
        for array in (design.y, design.X, design.weights, design.groupings[0].Z, *design.data.values()):
            array[:] = 0
        pd.testing.assert_frame_equal(table, before)


class TestRebuild:
    formula = "proportion(count, trials) ~ poly(x, 2) * arm + center(z, by=g) + offset(log(e)) + (x | g) + (1 | g:h)"

    @pytest.fixture
    def design(self, table):
        return build(self.formula, table, binomial)

    def test_same_rows_same_numbers(self, table, design):
        new = design.rebuild(table[3:9], need_response=True)
        rows = slice(3, 9)
        np.testing.assert_array_equal(new.X, design.X[rows])
        np.testing.assert_array_equal(new.offset, design.offset[rows])
        np.testing.assert_array_equal(new.trials, design.trials[rows])
        np.testing.assert_array_equal(new.y, design.y[rows])
        assert list(new.index) == list(range(3, 9))
        for codes, Z, grouping in zip(new.codes, new.Z, design.groupings, strict=True):
            np.testing.assert_array_equal(codes, grouping.codes[rows])
            np.testing.assert_array_equal(Z, grouping.Z[rows])

    def test_one_level_is_enough(self, table, design):
        new = design.rebuild(table[table.arm == "drug"])
        np.testing.assert_array_equal(new.X, design.X[table.arm == "drug"])

    def test_other_types_and_order(self, table, design):
        other = pl.DataFrame(table[table.columns[::-1]]).with_columns(pl.col("h").cast(pl.String))
        np.testing.assert_array_equal(design.rebuild(other).codes[1], design.groupings[1].codes)
        other = table.assign(h=table.h.astype(float), arm=pd.Categorical(table.arm, ["drug", "control"]))
        np.testing.assert_array_equal(design.rebuild(other).codes[1], design.groupings[1].codes)
        np.testing.assert_array_equal(design.rebuild(other).X, design.X)

    def test_unseen_and_missing_groups(self, table, design):
        new = table[:4].assign(g=["a", "new", None, "b"], h=[10, 10, 10, 7])
        rows = design.rebuild(new)
        np.testing.assert_array_equal(rows.codes[0], [0, -1, -1, 1])
        assert list(rows.labels[0]) == ["a", "new", None, "b"]
        np.testing.assert_array_equal(rows.codes[1] < 0, [False, True, True, True])
        assert list(rows.labels[1]) == ["a:10", "new:10", None, "b:7"]

    def test_absent_optional_columns(self, table):
        design = build("proportion(count, trials) ~ x + (x | g)", table, binomial, weights="e")
        rows = design.rebuild({"x": [1.0, 2.0]})
        np.testing.assert_array_equal(rows.codes[0], [-1, -1])
        np.testing.assert_array_equal(rows.trials, [1.0, 1.0])
        assert rows.y is None
        assert rows.absent == ("g", "trials", "e")

    def test_sigma_levels(self, table):
        design = build("y ~ x", table, gaussian, sigma_by="g")
        np.testing.assert_array_equal(design.rebuild({"x": [1, 2], "g": ["d", "q"]}).sigma_codes, [3, -1])

    def test_text_response(self, table):
        design = build("arm ~ x", table, bernoulli)
        new = {"x": [1.0, 2.0, 3.0], "arm": ["drug", "drug", "drug"]}
        np.testing.assert_array_equal(design.rebuild(new, need_response=True).y, [1.0, 1.0, 1.0])
        with pytest.raises(DataError, match="holds placebo; the model knows control and drug"):
            design.rebuild(new | {"arm": ["drug", "placebo", "drug"]}, need_response=True)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda t: t.drop(columns=["x", "arm"]), "lack `x`, `arm`"),
            (lambda t: t.drop(columns="g"), "lack `g`"),
            (lambda t: t.rename(columns={"arm": "Arm"}), "Did you mean `Arm`"),
            (lambda t: t.assign(arm="placebo"), "levels that the model has not seen: placebo"),
            (lambda t: t.assign(x=np.nan), "missing values: `x`"),
            (lambda t: t.assign(arm=None), "missing values: `arm`"),
            (lambda t: t.assign(z=np.inf), "infinite"),
            (lambda t: t.assign(x="a"), "`x` holds text"),
            (lambda t: t.assign(e=0.0), "`log(e)` is not a finite number"),
            (lambda t: t.assign(trials=2.5), "whole"),
            (lambda t: t[:0], "0 rows"),
            (lambda t: 3, "type int"),
        ],
    )
    def test_refused(self, table, design, change, words):
        with pytest.raises(DataError) as caught:
            design.rebuild(change(table))
        assert words in str(caught.value)

    def test_response_asked_for(self, table, design):
        with pytest.raises(DataError, match="lack `count`"):
            design.rebuild(table.drop(columns="count"), need_response=True)


def test_real_data(shared):
    formula = "count ~ poly(x, 4, raw=True) + (poly(x, 4, raw=True) | mouse)"
    tumour = build(formula, shared / "data" / "hoff_tumor_long.csv", poisson)
    assert tumour.X.shape == (420, 5)
    assert tumour.y.sum() == 1343
    assert len(tumour.groupings[0].levels) == 21
    sleep = build("Reaction ~ Days + (Days | Subject)", shared / "data" / "sleepstudy.csv", gaussian)
    assert (sleep.n, len(sleep.groupings[0].levels)) == (180, 18)


def test_a_million_rows():
    """Formula to design in under 2 s and 1 GB; the bounds here are loose, for a busy machine."""
    code = textwrap.dedent(
        """
        import resource, time
        import numpy as np
        import pandas as pd
        from bayou import families
        from bayou.design import build

        rng = np.random.default_rng(1)
        n = 1_000_000
        data = pd.DataFrame(
            {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 100_000, n)}
        )
        family = families.get("gaussian")
        build("y ~ x + (1 | g)", data[:10], family)
        start = time.perf_counter()
        design = build("y ~ x + (x | g)", data, family)
        seconds = time.perf_counter() - start
        assert len(design.groupings[0].levels) > 99_000
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        """
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, out.stdout.split())
    assert gigabytes < 1.0
    assert seconds < 6.0

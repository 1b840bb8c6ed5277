"""The left side of a formula."""

import numpy as np
import pandas as pd
import pytest

from bayou import families
from bayou.design import build
from bayou.errors import BayouError, DataError, FormulaError
from trial_table import trial_table

gaussian = families.get("gaussian")
binomial = families.get("binomial")
bernoulli = families.get("bernoulli")
poisson = families.get("poisson")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


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

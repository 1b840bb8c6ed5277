"""New data through a design that has been built."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bayou import families
from bayou.design import build
from bayou.errors import DataError
from trial_table import trial_table

gaussian = families.get("gaussian")
binomial = families.get("binomial")
bernoulli = families.get("bernoulli")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


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

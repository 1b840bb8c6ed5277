"""Faults of the data and of names, each refused before anything is computed."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bayou import families
from bayou.design import build
from bayou.errors import DataError, FormulaError, UnsafeFormula
from trial_table import trial_table

gaussian = families.get("gaussian")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


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
        with pytest.raises(DataError, match=r"`x` mixes types: float \(23\), str \(1\); the str values stand in 1"):
            build("y ~ x", table.assign(x=mixed), gaussian)

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

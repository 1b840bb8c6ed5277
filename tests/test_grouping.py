"""Bars to codes and columns."""

import numpy as np
import pandas as pd
import pytest

from bayou import families
from bayou.design import build
from bayou.design.frames import read
from bayou.errors import DataError, FormulaError
from trial_table import trial_table

gaussian = families.get("gaussian")


@pytest.fixture
def table() -> pd.DataFrame:
    return trial_table()


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
        assert any("(1 | batch/cask)" in note for note in build("y ~ (1|batch) + (1|cask)", data, gaussian).notes)
        assert not build("y ~ (1|batch/cask)", data, gaussian).notes

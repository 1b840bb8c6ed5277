"""The data door: every library gives the same columns, and what cannot be used is refused."""

import datetime
import decimal
import gzip

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bayou.design.frames import Frame, read
from bayou.errors import DataError, FileError
from sound_data import nul_ends_text

NUL = pytest.mark.skipif(nul_ends_text(), reason="this pandas takes a NUL for the end of a text")

columns = {
    "whole": [3, None, 2**62 + 1],
    "number": [1.5, None, 2.0],
    "text": ["b", None, "a"],
    "truth": [True, None, False],
    "day": [datetime.date(2020, 1, 2), None, datetime.date(2019, 1, 1)],
    "moment": [datetime.datetime(2020, 1, 2, 12), None, datetime.datetime(2019, 1, 1)],
    "money": [decimal.Decimal("1.50"), None, decimal.Decimal("2.00")],
    "kind": pd.Categorical(["u", None, "v"], ["v", "w", "u"], ordered=True),
}
levels = {
    "whole": [3, 2**62 + 1],
    "number": [1.5, 2.0],
    "text": ["a", "b"],
    "truth": [False, True],
    "day": ["2019-01-01", "2020-01-02"],
    "moment": ["2019-01-01T00:00:00", "2020-01-02T12:00:00"],
    "money": [1.5, 2.0],
    "kind": ["v", "u"],
}


def pandas_table():
    return pd.DataFrame(columns | {"whole": pd.array(columns["whole"], dtype="Int64")})


def polars_table():
    kind = pl.Series(["u", None, "v"], dtype=pl.Enum(["v", "w", "u"]))
    return pl.DataFrame(columns | {"kind": kind})


doors = {
    "dict": lambda: columns,
    "pandas": pandas_table,
    "pandas objects": lambda: pd.DataFrame(columns | {n: pd.Series(columns[n], dtype=object) for n in levels}),
    "pandas on arrow": lambda: polars_table().to_pandas(use_pyarrow_extension_array=True),
    "polars": polars_table,
    "polars lazy": lambda: polars_table().lazy(),
    "arrow": lambda: polars_table().to_arrow(),
    "dict of polars": lambda: {name: polars_table()[name] for name in levels},
    "dict of arrow": lambda: {name: polars_table()[name].to_arrow() for name in levels},
    "frame": lambda: read(columns),
}


@pytest.mark.parametrize("door", doors)
def test_every_door_gives_the_same_columns(door):
    frame = read(doors[door]())
    assert frame.n == 3
    assert frame.names == tuple(columns)
    for name, expected in levels.items():
        if door in ("pandas objects", "pandas on arrow") and name == "kind":
            continue  # the declared order is lost before the table reaches the door
        column = frame[name]
        np.testing.assert_array_equal(column.missing, [False, True, False], err_msg=name)
        assert list(column.factor().levels) == expected, name
        assert column.factor().codes[1] == -1
        assert column.labels()[1] is None


@pytest.mark.parametrize("door", doors)
def test_numbers(door):
    frame = read(doors[door]())
    np.testing.assert_array_equal(frame["number"].numbers(), [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(frame["truth"].numbers(), [1.0, np.nan, 0.0])
    np.testing.assert_array_equal(frame["day"].numbers(), [18263.0, np.nan, 17897.0])
    np.testing.assert_array_equal(frame["moment"].numbers(), [18263.5, np.nan, 17897.0])
    with pytest.raises(DataError, match="`text` holds text"):
        frame["text"].numbers()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2**63, 1, 2**63], [1, 2**63]),
        ([2**70, -5, None], [-5, 2**70]),
        ([-3, 7, -3], [-3, 7]),
        ([1.0, 2.0, float("nan")], [1, 2]),
        ([0.5, -0.0, 0.0], [0.0, 0.5]),
        pytest.param(["a\0", "a", "a\0"], ["a", "a\0"], marks=NUL),
        ([b"x", b"y", None], ["x", "y"]),
        (["=1+1", "@x", "-2"], ["-2", "=1+1", "@x"]),
        (["10", "9", "1"], ["1", "10", "9"]),
        (["é", "e", "z"], ["e", "z", "é"]),
        ((1, 2, 3), [1, 2, 3]),
        (range(3), [0, 1, 2]),
        (np.array(["q", "p", "q"]), ["p", "q"]),
        (np.array([1, 2, 2], dtype=np.uint8), [1, 2]),
        (pd.to_timedelta(["1D", "12h", "1D"]), [0.5, 1.0]),
        (pd.period_range("2020-01", periods=3, freq="M"), ["2020-01-01", "2020-02-01", "2020-03-01"]),
        (pd.Series([5, 6, 7], index=[2, 1, 0]), [5, 6, 7]),
    ],
)
def test_exact_keys(values, expected):
    found = list(read({"g": values})["g"].factor().levels)
    assert found == expected
    assert [type(label) for label in found] == [type(label) for label in expected]


def test_polars_categories_are_sorted_and_declared_orders_kept():
    table = pl.DataFrame({"c": pl.Series(["z", "a"], dtype=pl.Categorical)})
    assert list(read(table)["c"].factor().levels) == ["a", "z"]
    factor = read(columns)["kind"].factor()
    assert list(factor.unused) == ["w"]
    again = read({"kind": ["u", "v", "u"]}, {"kind": ["v", "u"], "other": ["x"]})
    assert list(again["kind"].factor().levels) == ["v", "u"]


def test_odd_indices_go_by_position():
    table = pd.DataFrame({"x": [1, 2, 3, 4]}, index=[7, 7, 0, 1])
    kept = table[table.x > 1]
    frame = read(kept)
    np.testing.assert_array_equal(frame["x"].numbers(), [2, 3, 4])
    np.testing.assert_array_equal(frame.index, [7, 0, 1])
    assert read(table.reset_index(drop=True)).index is None


def test_raw_columns_are_copies_that_read_back():
    table = pd.DataFrame({"x": np.array([1.0, 2.0]), "g": ["b", "a"]})
    raw = {name: read(table)[name].raw() for name in ("x", "g")}
    table.loc[0, "x"] = 9.0
    assert raw["x"][0] == 1.0
    assert list(read(raw)["g"].factor().levels) == ["a", "b"]


def test_take_and_with_column():
    frame = read({"x": [1, 2, 3]}).with_column("w", np.array([4.0, 5.0, 6.0])).take(np.array([True, False, True]))
    assert frame.n == 2
    np.testing.assert_array_equal(frame["w"].numbers(), [4.0, 6.0])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"x": [1, "a", 2.5, 2]}, "mixes types: int (2)"),
        ({"x": [1, True]}, "mixes types"),
        ({"x": [1j, 2]}, "complex"),
        ({"x": [[1], [2]]}, "list"),
        ({"x": [b"\xff", b"a"]}, "UTF-8"),
        ({"x": [1, 2], "z": [1]}, "unequal lengths: `x` 2, `z` 1"),
        ({"x": 3}, "not a sequence"),
        ({"x": "abc"}, "not a sequence"),
        ({"x": np.ones((2, 2))}, "2 dimensions"),
        ({1: [1], "1": [2]}, "duplicate"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "duplicate column names: a"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "several levels"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "cannot be read"),
        ([1, 2], "type list"),
        (None, "NoneType"),
    ],
)
def test_refused(data, words):
    with pytest.raises(DataError) as caught:
        read(data)["x"]
    assert words in str(caught.value)


def test_an_unused_column_may_be_anything():
    assert read({"x": [1, 2], "mess": [1, "a"]})["x"].kind == "number"


def test_no_such_column():
    with pytest.raises(DataError, match="Did you mean `height`"):
        read({"height": [1]})["hieght"]


class TestFiles:
    def test_csv(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text('\ufeffid,x,g\n9223372036854775808,1.5,"b, c"\n1,,a\n', encoding="utf-8")
        frame = read(path)
        assert frame.names == ("id", "x", "g")
        assert list(frame["id"].factor().levels) == [1, 2**63]
        assert list(frame["x"].missing) == [False, True]
        assert list(read(str(path))["g"].factor().levels) == ["a", "b, c"]

    def test_gzip_and_tabs(self, tmp_path):
        with gzip.open(tmp_path / "a.tsv.gz", "wt") as file:
            file.write("x\ty\n1\t2\n")
        assert read(tmp_path / "a.tsv.gz")["y"].numbers()[0] == 2.0

    def test_parquet(self, tmp_path):
        pq.write_table(polars_table().to_arrow(), tmp_path / "a.parquet")
        assert list(read(tmp_path / "a.parquet")["kind"].factor().levels) == ["v", "u"]
        pandas_table().to_parquet(tmp_path / "b.parquet")
        assert list(read(tmp_path / "b.parquet")["whole"].factor().levels) == levels["whole"]

    @pytest.mark.parametrize(
        ("name", "content", "error", "words"),
        [
            ("a.csv", b"x,x\n1,2\n", DataError, "duplicate"),
            ("a.csv", b"", DataError, "empty"),
            ("a.csv", b"x,y\n1,2\n1,2,3,4\n", FileError, "cannot be read"),
            ("a.csv", b"x\n\xff\xfe\n", FileError, "cannot be read"),
            ("a.parquet", b"nonsense", FileError, "cannot be read"),
            ("a.xlsx", b"", FileError, "name a .csv"),
        ],
    )
    def test_refused(self, tmp_path, name, content, error, words):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(error, match=words):
            read(path)

    def test_absent(self, tmp_path):
        with pytest.raises(FileError, match="there is no file"):
            read(tmp_path / "none.csv")


def test_frame_is_read_lazily():
    frame = read({"x": [1, 2]})
    assert isinstance(frame, Frame)
    assert "x" in frame
    assert "z" not in frame

"""Rows that stream: the same design as in memory, every fault with its row number, whatever the source."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from bayou.errors import BayouError, DataError, FileError, FormulaError, Unsupported
from streamed import in_memory, same, streamed

N = 100


def table(n=N, seed=3):
    """Columns of every kind; every level of every factor comes late at least once."""
    rng = np.random.default_rng(seed)
    start = datetime.date(2024, 2, 27)
    days = rng.integers(0, 9, n)
    school = rng.integers(0, 8, n)
    return pl.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n) + 5.0,
            "z": rng.gamma(2.0, size=n),
            "w": rng.uniform(0.5, 2.0, n),
            "count": rng.poisson(3.0, n),
            "won": rng.integers(0, 2, n).astype(bool),
            "answer": rng.choice(["no", "yes"], n),
            "hits": rng.integers(0, 5, n),
            "tries": rng.integers(5, 9, n),
            "se": rng.uniform(0.1, 1.0, n),
            "g": np.where(rng.uniform(size=n) < 0.9, rng.integers(0, 9, n), 1000 * rng.integers(0, 9, n)),
            "half": rng.integers(0, 7, n) / 2.0,
            "school": school,
            "pupil": rng.integers(0, 3, n),
            "arm": rng.choice(["placebo", "drug", "Drug B", "é"], n),
            "flag": rng.integers(0, 2, n).astype(bool),
            "day": [start + datetime.timedelta(days=int(d)) for d in days],
            "t": rng.integers(0, 12, n),
            "time": rng.uniform(0, 10, n).round(1),
            "u": rng.integers(0, 60, n) / 10.0,
            "area": rng.choice(["n", "s", "e"], n),
            "size": pl.Series(rng.choice(["small", "large"], n), dtype=pl.Enum(["small", "large", "huge"])),
            "kind": pl.Series(rng.choice(["b", "a"], n), dtype=pl.Categorical),
        }
    )


DATA = table()
EDGES = [("n", "s"), ("s", "e")]

FORMULAS = {
    "plain": dict(text="y ~ x"),
    "intercept": dict(text="y ~ 1"),
    "none": dict(text="y ~ 0 + x"),
    "slope": dict(text="y ~ x + (1 + x | g)"),
    "uncorrelated": dict(text="y ~ x * z + (x || g) + (0 + z | school)"),
    "text": dict(text="y ~ arm * x + flag + (arm | g)"),
    "interaction": dict(text="y ~ arm:size + x:z:flag + (1 | arm)"),
    "contrasts": dict(text="y ~ C(arm, Sum) + C(g, Treatment(3)) + C(x > 5) + C(size, Helmert)"),
    "levels": dict(text='y ~ C(arm, levels=["é", "drug", "placebo", "Drug B"]) + C(pupil)'),
    "compared": dict(text='y ~ I(arm == "drug") + log(z) + I(x^2) + (1 | kind)'),
    "nested": dict(text="y ~ x + (1 | school/pupil)"),
    "deep": dict(text="y ~ x + (1 + x | school/pupil/flag) + (1 | arm:school)"),
    "crossed": dict(text="y ~ x + (1 | g) + (1 | arm) + (1 | half)"),
    "center": dict(text="y ~ center(x) + (1 + center(x) | g)"),
    "scale": dict(text="y ~ scale(x) * standardize(z, ddof=0) + scale(x, center=False):flag"),
    "inside": dict(text="y ~ scale(log(z)) + center(scale(x)) + scale(center(scale(x)))"),
    "groups": dict(text="y ~ center(x, by=g) + center(z, by=school:pupil) + center(center(x), by=g) + (1 | g)"),
    "poly": dict(text="y ~ poly(x, 3) + poly(pupil, 2) + poly(z, 2, raw=True) + (poly(u, 2) | g)"),
    "bs": dict(text="y ~ bs(x, df=5) + bs(pupil, df=4, degree=2) + bs(u, knots=[1, 2.5])"),
    "offset": dict(text="count ~ x + offset(log(z)) + (1 | g)", family="poisson"),
    "weights": dict(text="y ~ x + (1 | g)", weights="w"),
    "sigma": dict(text="y ~ x + (1 | g)", sigma_by="arm"),
    "sigmas": dict(text="y ~ x + (1 | g)", sigma_by="arm:flag"),
    "yes": dict(text="answer ~ x + (1 | g)", family="bernoulli"),
    "won": dict(text="won ~ x", family="bernoulli"),
    "classed": dict(text="C(flag) ~ x", family="binomial"),
    "proportion": dict(text="proportion(hits, tries) ~ arm + (1 | g)", family="binomial"),
    "cbind": dict(text="cbind(hits, tries) ~ arm", family="binomial"),
    "measured": dict(text="measured(y, se) ~ x + (1 | g)"),
    "dates": dict(text="y ~ day + (1 | day)"),
    "walk": dict(text="y ~ x + rw1(t) + rw2(day)"),
    "copies": dict(text="y ~ x + rw1(time, by=arm) + ar1(t, by=school:flag)"),
    "season": dict(text="y ~ x + seasonal(t, period=4) + rw1(pupil, cyclic=True)"),
    "spline": dict(text="y ~ s(x) + s(u, basis=12) + s(pupil, basis=6) + s(day, basis=5)"),
    "areas": dict(text="y ~ x + bym2(area, graph=W) + (1 | area, covariance=A)"),
    "own": dict(text="y ~ twice(x) + (1 | g)", functions={"twice": lambda x: 2.0 * x}),
}
STRUCTURES = {"W": EDGES, "A": pd.DataFrame(np.eye(3) + 0.1, index=list("ens"), columns=list("ens"))}


def sources(tmp_path, data=DATA):
    """The same rows from every source."""
    import duckdb

    path = tmp_path / "rows.parquet"
    pq.write_table(data.to_arrow(), path, row_group_size=13)
    folder = tmp_path / "parts"
    folder.mkdir()
    for k, start in enumerate(range(0, len(data), 29)):
        pq.write_table(data[start : start + 29].to_arrow(), folder / f"part{k}.parquet", row_group_size=10)
    plain = data.with_columns(pl.col("kind").cast(pl.String))
    relation = duckdb.connect().from_arrow(plain.to_arrow())
    return {
        "lazy": data.lazy(),
        "file": path,
        "folder": folder,
        "pattern": str(folder / "part?.parquet"),
        "list": sorted(folder.glob("*.parquet")),
        "dataset": pyarrow.dataset.dataset(folder),
        "relation": relation,
        "pandas": plain.to_pandas().assign(size=pd.Categorical(data["size"].to_list(), ["small", "large", "huge"])),
    }


def options_of(name):
    """The arguments of one entry of the table of formulas."""
    given = dict(FORMULAS[name])
    if "graph" in given["text"] or "covariance" in given["text"]:
        given["structures"] = STRUCTURES
    return given.pop("text"), given


@pytest.mark.parametrize("name", FORMULAS)
def test_a_query_gives_the_design_in_memory(name):
    text, given = options_of(name)
    found, _, _ = streamed(text, DATA.lazy(), **given)
    same(found, in_memory(text, DATA, **given))


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
@pytest.mark.parametrize("name", ["text", "deep", "groups", "poly", "copies"])
def test_blocks_of_any_size(name, size):
    text, given = options_of(name)
    found, _, _ = streamed(text, DATA.lazy(), size=size, **given)
    same(found, in_memory(text, DATA, **given))


@pytest.mark.parametrize("name", ["text", "interaction", "deep", "contrasts", "copies", "dates", "yes", "poly"])
def test_every_source(name, tmp_path):
    text, given = options_of(name)
    for where, data in sources(tmp_path).items():
        whole = DATA
        if where in ("file", "folder", "pattern", "list", "dataset"):
            whole = pq.read_table(tmp_path / "rows.parquet")  # categories are dictionaries there
        if where in ("relation",):
            whole = data.to_arrow_table()
        if where == "pandas":
            whole = data
        found, _, _ = streamed(text, data, **given)
        same(found, in_memory(text, whole, **given))


def holes(seed=1):
    """The rows with missing values in several columns, a whole level of `arm` among them."""
    rng = np.random.default_rng(seed)
    out = DATA
    for name in ("y", "x", "g", "arm", "day", "flag", "size"):
        where = pl.Series(rng.uniform(size=N) < 0.05)
        out = out.with_columns(pl.when(where).then(None).otherwise(pl.col(name)).alias(name))
    gone = pl.col("arm") == "é"
    return out.with_columns(pl.when(gone).then(None).otherwise(pl.col("z")).alias("z"))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_with_missing_values_are_dropped(size):
    text = "y ~ scale(x) * arm + poly(z, 2) + (1 + x | g) + (1 | size:flag) + rw1(day)"
    data = holes()
    found, learned, _ = streamed(text, data.lazy(), size=size, missing="drop")
    same(found, in_memory(text, data, missing="drop"))
    assert learned.rows == N and learned.used == found.n < N


@pytest.mark.parametrize("columns", ["y ~ x", "y ~ x + arm + (1 | g)", "y ~ day + size"])
def test_missing_values_are_refused_in_the_same_words(columns):
    data = holes()
    with pytest.raises(DataError) as wanted:
        in_memory(columns, data)
    with pytest.raises(DataError) as found:
        streamed(columns, data.lazy())
    assert str(found.value) == str(wanted.value)


FAULTS = {
    "infinite": ("y ~ x", {"x": (57, np.inf)}, {}),
    "infinite later": ("y ~ z + x", {"x": (57, -np.inf)}, {}),
    "response": ("count ~ x", {"count": (83, -1)}, {"family": "poisson"}),
    "whole": ("w ~ x", {}, {"family": "poisson"}),
    "weights": ("y ~ x", {"w": (12, 0.0)}, {"weights": "w"}),
    "trials": ("proportion(hits, tries) ~ x", {"hits": (99, 50)}, {"family": "binomial"}),
    "log": ("y ~ log(z)", {"z": (64, -1.0)}, {}),
    "errors": ("measured(y, se) ~ x", {"se": (77, 0.0)}, {}),
    "outcome": ("hits ~ x", {}, {"family": "bernoulli"}),
    "three": ("arm ~ x", {}, {"family": "bernoulli"}),
    "unknown": ("y ~ xx + (1 | g)", {}, {}),
    "missing=": ("y ~ x", {}, {"missing": "ignore"}),
    "offset": ("count ~ x + offset(log(z))", {"z": (8, 0.0)}, {"family": "poisson"}),
    "one level": ("y ~ only", {"only": "a"}, {}),
    "constant": ("y ~ scale(only)", {"only": 2.0}, {}),
    "few": ("y ~ poly(pupil, 3)", {}, {}),
    "slope": ("y ~ x + (1 + school | school)", {}, {}),
    "knots": ("y ~ bs(x, knots=[50])", {}, {}),
    "text time": ("y ~ rw1(arm)", {}, {}),
    "graph": ("y ~ icar(arm, graph=W)", {}, {"structures": STRUCTURES}),
    "setting": ("y ~ poly(x, degree=0)", {}, {}),
    "strange": ("y ~ poly(x, wide=2)", {}, {}),
    "level": ('y ~ C(arm, Treatment("x"))', {}, {}),
}


def changed(changes):
    """The rows with some values replaced, (row, value), or with constant columns."""
    out = DATA
    for name, change in changes.items():
        if isinstance(change, tuple):
            row, value = change
            values = out[name].to_list()
            values[row] = value
            out = out.with_columns(pl.Series(name, values, dtype=DATA.schema[name]))
        else:
            out = out.with_columns(pl.lit(change).alias(name))
    return out


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_as_in_memory(name):
    text, changes, given = FAULTS[name]
    data = changed(changes)
    with pytest.raises(BayouError) as wanted:
        in_memory(text, data, **given)
    with pytest.raises(BayouError) as found:
        streamed_checked(text, data.lazy(), **given)
    assert type(found.value) is type(wanted.value)
    assert str(found.value) == str(wanted.value)


def streamed_checked(text, data, **given):
    """As `streamed`, through the door that users take."""
    from bayou import families, formula
    from bayou.streaming import build

    functions = given.pop("functions", None)
    family = families.get(given.pop("family", "gaussian"))
    return build(formula.parse(text, functions or {}), data, family, stream=True, functions=functions, **given)


# ---- sources --------------------------------------------------------------------------------


def write(folder, *frames, **options):
    """Write frames to part0.parquet, part1.parquet, … and return the folder."""
    folder.mkdir(exist_ok=True)
    for k, frame in enumerate(frames):
        table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
        pq.write_table(table, folder / f"part{k}.parquet", **options)
    return folder


def test_an_empty_folder_and_files_that_are_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_metadata.parquet").write_bytes(b"")
    for path, words in (
        (tmp_path / "empty", "holds no .parquet file"),
        (tmp_path / "no.parquet", "there is no file"),
        (str(tmp_path / "*.parquet"), "no .parquet file matches"),
        ([tmp_path / "rows.csv"], "is no .parquet file"),
    ):
        with pytest.raises(FileError, match=words):
            streamed("y ~ x", path)
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(FileError, match="damaged.parquet cannot be read"):
        streamed("y ~ x", damaged)


def test_no_rows(tmp_path):
    folder = write(tmp_path / "none", DATA[:0], DATA[:0])
    for data in (folder, DATA[:0].lazy()):
        with pytest.raises(DataError, match="0 rows"):
            streamed("y ~ x", data)
    found, _, _ = streamed("y ~ x + (1 | g)", write(tmp_path / "some", DATA[:0], DATA, DATA[:0]))
    same(found, in_memory("y ~ x + (1 | g)", DATA))


def test_a_file_that_lacks_a_column(tmp_path):
    folder = write(tmp_path / "rows", DATA[:50], DATA[50:].rename({"x": "X"}))
    with pytest.raises(DataError, match=r"the file part1.parquet lacks the column `x`.* Did you mean `X`\?"):
        streamed("y ~ x", folder)
    found, _, _ = streamed("y ~ z", folder)  # a column that is not used may differ
    assert found.n == N


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (pl.String, r"`g` holds numbers \(int64\) in part0.parquet and text in part1.parquet, from row 50 on"),
        (pl.Boolean, r"`g` holds numbers \(int64\) in part0.parquet and booleans in part1.parquet"),
        (pl.Date, r"`g` holds numbers \(int64\) in part0.parquet and dates or times \(date32\[day\]\) in part1"),
    ],
)
def test_a_column_of_two_kinds_is_refused(tmp_path, kind, words):
    later = DATA[50:].with_columns(pl.col("g").cast(pl.Int32).cast(kind) if kind != pl.Boolean else pl.col("g") > 3)
    folder = write(tmp_path / "rows", DATA[:50], later)
    with pytest.raises(DataError, match=words):
        streamed("y ~ x + (1 | g)", folder)


def test_widths_of_numbers_may_differ(tmp_path):
    later = DATA[50:].with_columns(pl.col("g").cast(pl.Int16), pl.col("count").cast(pl.Float64), pl.col("arm").cast(pl.Categorical))
    found, _, _ = streamed("y ~ count + arm + (1 | g)", write(tmp_path / "rows", DATA[:50], later))
    same(found, in_memory("y ~ count + arm + (1 | g)", DATA))


@pytest.mark.parametrize("first", [True, False])
def test_a_column_of_nulls_in_one_file(tmp_path, first):
    text = "y ~ x + arm + (1 | g)"
    nulls = DATA[:50].with_columns(pl.lit(None).alias("arm"))
    parts = [nulls, DATA[50:]] if first else [DATA[50:], nulls]
    folder = write(tmp_path / "rows", *parts)
    rows = "0, 1, 2, 3, 4" if first else "50, 51, 52, 53, 54"
    with pytest.raises(DataError, match=rf"50 rows of 100 .* `arm` in 50 rows \(row {rows}, …; counted from 0\)"):
        streamed(text, folder)
    found, _, _ = streamed(text, folder, missing="drop")
    same(found, in_memory(text, pl.concat(parts, how="vertical_relaxed"), missing="drop"))


def test_a_file_that_changes_between_passes(tmp_path):
    folder = write(tmp_path / "rows", DATA[:50], DATA[50:])
    _, _, passes = streamed("y ~ x + arm + (1 | g)", folder)
    for later, words in (
        (DATA[50:99], "changed while it was read: 100 rows were found at first, 99 now"),
        (pl.concat([DATA[50:], DATA[:1]]), "changed while it was read"),
        (DATA[50:].with_columns(pl.lit(77).alias("g")), "row 50 has a level of g that was not there at first"),
        (DATA[50:].with_columns(pl.lit("another").alias("arm")), "row 50 has a level of arm that was not there at first"),
        (DATA[50:].with_columns(pl.lit(None, pl.Float64).alias("x")), "changed while it was read"),
        (DATA[50:].with_columns(x=pl.col("x") + 1.0), "changed while it was read"),
    ):
        write(folder, DATA[:50], later)
        with pytest.raises(DataError, match=words):
            list(passes())


def test_a_query_that_fails_and_streams_that_end(tmp_path):
    from bayou.streaming import open_source

    with pytest.raises(DataError, match="a polars LazyFrame cannot be read"):
        streamed("y ~ x", DATA.lazy().select(pl.col("nothing")))
    with pytest.raises(DataError, match="a polars LazyFrame cannot be read"):
        streamed("y ~ x", DATA.lazy().with_columns(x=pl.col("arm").cast(pl.Int64)))
    with pytest.raises(DataError, match="can be read only once"):
        open_source(DATA.to_arrow().to_reader())


def test_columns_of_folders(tmp_path):
    for year in (2023, 2024):
        for region in ("north", "south"):
            part = tmp_path / "rows" / f"year={year}" / f"region={region}"
            part.mkdir(parents=True)
            mine = DATA.filter((pl.col("t") % 2 == year % 2) & (pl.col("flag") == (region == "north")))
            pq.write_table(mine.select("y", "x", "g").to_arrow(), part / "rows.parquet")
    found, _, _ = streamed("y ~ year * region + (1 | g)", tmp_path / "rows")
    assert found.coefficients == ("Intercept", "year", "region[south]", "year:region[south]")
    assert set(found.X[:, 1]) == {2023.0, 2024.0} and found.n == N


def test_only_the_columns_in_use_are_read(tmp_path):
    broken = DATA.to_arrow().append_column("list", pa.array([[1]] * N))
    found, learned, _ = streamed("y ~ x + (1 | g)", write(tmp_path / "rows", broken))
    assert found.n == N and set(learned.declared) == {"y", "x", "g"}


def test_dictionaries_that_grow(tmp_path):
    """Each file has a dictionary of its own; a level may be declared long before it is used, or never be."""
    parts = [
        pa.table({"y": [1.0, 2.0], "k": pa.DictionaryArray.from_arrays([1, 0], ["b", "a", "never"])}),
        pa.table({"y": [3.0, 4.0], "k": pa.DictionaryArray.from_arrays([2, 0], ["z", "a", "c"])}),
        pa.table({"y": [5.0, 0.0], "k": pa.DictionaryArray.from_arrays([0, 1], ["z", "b"])}),
    ]
    folder = write(tmp_path / "rows", *parts)
    whole = pa.concat_tables([pq.read_table(p) for p in sorted(folder.iterdir())])
    for size in (1, 2, 7):
        found, _, _ = streamed("y ~ k", folder, size=size)
        same(found, in_memory("y ~ k", whole))
        assert list(found.categories["k"]) == ["b", "a", "z", "c"]


def test_numbers_that_are_levels():
    """Floats, large and negative whole numbers, minus zero, booleans: the labels are those in memory."""
    n = 60
    rng = np.random.default_rng(2)
    data = pl.DataFrame(
        {
            "y": rng.normal(size=n),
            "wide": rng.choice([-(2**62), -1, 0, 2**53 + 1, 2**62], n),
            "unsigned": pl.Series(rng.choice(np.array([0, 2**63 + 5, 2**64 - 1], dtype=np.uint64), n)),
            "float": rng.choice([-0.0, 0.0, 0.5, 1e300, -3.0], n),
            "whole": rng.choice([1.0, 2.0, 30.0], n),
            "small": pl.Series(rng.integers(0, 3, n), dtype=pl.Int8),
            "single": pl.Series(rng.choice([0.1, 0.2], n), dtype=pl.Float32),
            "when": pl.Series(rng.choice([0, 86_400_000_000, 5], n)).cast(pl.Datetime("us")),
            "price": pl.Series(rng.choice([100, 250], n)).cast(pl.Decimal(10, 2)),
        }
    )
    text = "y ~ small + (1 | wide) + (1 | unsigned) + (1 | float) + (1 | whole/small) + (1 | single) + (1 | when) + (1 | price)"
    for size in (1, 7, 100):
        found, _, _ = streamed(text, data.lazy(), size=size)
        same(found, in_memory(text, data))


def test_many_distinct_values_of_poly(monkeypatch):
    """With too many values to be counted, the recurrence is found in further passes."""
    from bayou.streaming import states

    monkeypatch.setattr(states, "DISTINCT", 10)
    data = DATA.sort("x")  # the first values say little of the rest
    for text in ("y ~ poly(x, 4)", "y ~ poly(x, 2) + poly(scale(u), 3)"):
        found, _, _ = streamed(text, data.lazy())
        wanted = in_memory(text, data)
        np.testing.assert_allclose(found.X, wanted.X, rtol=1e-10, atol=1e-12)
    with pytest.raises(Unsupported, match="write knots="):
        streamed("y ~ bs(x, df=5)", data.lazy())
    found, _, _ = streamed("y ~ bs(x, knots=[4, 5])", data.lazy())
    same(found, in_memory("y ~ bs(x, knots=[4, 5])", data))


def test_levels_of_what_functions_remember_are_refused():
    with pytest.raises(Unsupported, match="put the condition into a column"):
        streamed("y ~ C(scale(x) > 0)", DATA.lazy())
    with pytest.raises(FormulaError, match="takes one factor"):
        streamed("y ~ center(x, by=g/arm)", DATA.lazy())

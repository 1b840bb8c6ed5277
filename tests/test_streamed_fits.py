"""Fits of rows that stream: the numbers of the fit in memory, print-outs, predictions block by block, saved and loaded."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import bayou
from bayou.errors import BayouError, DataError, FileError, Unsupported
from bayou.predict import streamed as prediction
from bayou.streaming import building


def rows(n=400, seed=1):
    """Rows in 20 groups with a covariate, a factor and responses of several families."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 20, n), rng.normal(size=n)
    arm = rng.choice(["a", "b"], n)
    b = rng.normal(size=(20, 2))
    eta = 0.5 * x + b[g, 0] * 0.5 + 0.3 * b[g, 1] * x + 0.4 * (arm == "b")
    return pl.DataFrame(
        {
            "y": eta + rng.normal(size=n),
            "won": rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-eta)),
            "count": rng.poisson(np.exp(0.3 * eta)),
            "x": x,
            "arm": arm,
            "g": [f"school {k}" for k in g],
            "unused": x,
        }
    )


DATA = rows()
TEXT = "y ~ x + arm + (1 + x | g)"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The rows in three files of a folder."""
    folder = tmp_path_factory.mktemp("rows")
    for k in range(3):
        pq.write_table(DATA[k * 150 : (k + 1) * 150].to_arrow(), folder / f"part{k}.parquet")
    return folder


@pytest.fixture(scope="module")
def gaussian(path):
    return bayou.fit(TEXT, path, engine="reml", seed=1, stream=True)


@pytest.fixture(scope="module")
def whole():
    return bayou.fit(TEXT, DATA, engine="reml", seed=1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that every boundary is crossed."""
    monkeypatch.setattr(prediction, "BLOCK", 64)
    monkeypatch.setattr(prediction, "BLOCK_NUMBERS", 64_000)
    monkeypatch.setattr("bayou.predict.linear.BLOCK_NUMBERS", 64_000)


def test_a_streamed_fit_has_the_estimates_of_the_one_in_memory(gaussian, whole):
    for name in ("log_likelihood", "aic", "bic"):
        assert getattr(gaussian, name) == pytest.approx(getattr(whole, name), rel=1e-8)
    pd.testing.assert_frame_equal(gaussian.summary(), whole.summary(), rtol=1e-6)


def test_the_same_draws(path):
    one, other = (
        bayou.fit(TEXT, data, engine="gibbs", seed=3, draws=100, warmup=100, chains=2, stream=stream)
        for data, stream in ((path, True), (DATA, None))
    )
    np.testing.assert_allclose(one.draws().to_numpy(), other.draws().to_numpy(), rtol=1e-6)


def test_the_print_out_says_what_was_read_and_kept(gaussian):
    said = str(gaussian.model)
    assert "400 rows; g: 20 levels" in said
    assert "3 Parquet files in" in said and "400 rows, 4 of 7 columns, 2 passes in" in said
    assert "with the same likelihood, summed within levels" in said and " KB in memory" in said
    assert "Read" in str(gaussian) and "Kept" in str(gaussian)


@pytest.mark.parametrize("kind", ["mean", "linear", "outcome"])
@pytest.mark.parametrize("groups", ["observed", "population", "new", "marginal"])
def test_predictions_stream(gaussian, whole, path, kind, groups):
    found = gaussian.predict(path, kind, groups, seed=5)
    wanted = gaussian.predict(DATA, kind, groups, seed=5)
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-12)
    fitted = gaussian.predict(kind=kind, groups=groups, seed=5)
    pd.testing.assert_frame_equal(fitted, wanted, rtol=1e-12)


def test_predictions_go_to_a_file(gaussian, path, tmp_path):
    out = tmp_path / "predictions.parquet"
    assert gaussian.predict(path, out=out, seed=5) == out
    read = pd.read_parquet(out)
    wanted = gaussian.predict(DATA, seed=5)
    np.testing.assert_array_equal(read["row"], np.arange(400))
    np.testing.assert_allclose(read[wanted.columns], wanted, rtol=1e-12)
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.parquet"]
    assert gaussian.predict(DATA, out=str(out)).exists()  # a table in memory too


def test_a_fit_in_memory_writes_predictions_too(whole, tmp_path):
    out = whole.predict(out=tmp_path / "own.parquet", seed=2)
    np.testing.assert_allclose(pd.read_parquet(out)["mean"], whole.predict(seed=2)["mean"], rtol=1e-12)


def test_what_predictions_refuse(gaussian, path, tmp_path, monkeypatch):
    with pytest.raises(FileError, match="go to a .parquet file"):
        gaussian.predict(path, out=tmp_path / "predictions.csv")
    with pytest.raises(FileError, match="a folder that exists"):
        gaussian.predict(path, out=tmp_path / "no" / "predictions.parquet")
    with pytest.raises(Unsupported, match="draws=True returns"):
        gaussian.predict(path, draws=True)
    strange = DATA.with_columns(pl.when(pl.int_range(400) == 301).then(pl.lit("new")).otherwise("g").alias("g"))
    with pytest.raises(DataError, match=r"not seen: new\. .*rows 256 to 319, counted from 0"):
        gaussian.predict(strange.lazy(), out=tmp_path / "p.parquet")
    assert not list(tmp_path.iterdir())
    gap = DATA.with_columns(pl.when(pl.int_range(400) == 301).then(None).otherwise("x").alias("x"))
    with pytest.raises(DataError, match=r"missing values: `x` in 1 row \(row 301; counted from 0\)"):
        gaussian.predict(gap.lazy())
    monkeypatch.setattr(prediction, "MOST", 100)
    with pytest.raises(DataError, match="out='predictions.parquet'"):
        gaussian.predict(path)


def test_incomplete_rows_are_left_out_of_predictions_for_the_fitted_rows():
    gap = DATA.with_columns(pl.when(pl.int_range(400) % 50 == 7).then(None).otherwise("x").alias("x"))
    fit = bayou.fit("y ~ x + (1 | g)", gap.lazy(), engine="reml", seed=1, missing="drop", stream=True)
    known = bayou.fit("y ~ x + (1 | g)", gap, engine="reml", seed=1, missing="drop")
    assert "8 rows of 400 dropped" in str(fit.model)
    found, wanted = fit.predict(seed=1), known.predict(seed=1)
    np.testing.assert_array_equal(found.index, wanted.index)
    np.testing.assert_allclose(found["mean"], wanted["mean"], rtol=1e-6)


SAVED = {
    "summed": ("y ~ poly(x, 2) * arm + scale(x):center(x, by=g) + (1 | g)", "gaussian", "reml", True),
    "merged": ("won ~ arm + (1 | g)", "bernoulli", "laplace", True),
    "kept": ("won ~ bs(x, df=4) + (1 | g)", "bernoulli", "laplace", True),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_streamed_fit_is_saved_and_loaded(name, path, tmp_path):
    text, family, engine, stream = SAVED[name]
    fit = bayou.fit(text, path, family, engine=engine, seed=1, stream=stream)
    back = bayou.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(back.summary(), fit.summary())
    pd.testing.assert_frame_equal(back.predict(DATA, seed=1), fit.predict(DATA, seed=1))
    pd.testing.assert_frame_equal(back.predict(path, seed=1), fit.predict(path, seed=1))
    assert str(back.model) == str(fit.model)
    assert back.model.design.given == 400
    for one, other in zip(back.model.design.groupings, fit.model.design.groupings, strict=True):
        assert list(one.levels) == list(other.levels)


def test_rows_in_a_folder_of_the_users_are_opened_again(path, tmp_path):
    text, folder = "won ~ x + (1 | g)", tmp_path / "kept"
    fit = bayou.fit(text, path, "bernoulli", engine="laplace", seed=1, stream=folder)
    assert fit.model.design.reduced.how == "blocks" and any(folder.iterdir())
    back = bayou.load(fit.save(tmp_path / "fit.nc"))
    assert back.model.design.reduced.how == "blocks"
    np.testing.assert_array_equal(back.model.design.y, fit.model.design.y)


def test_how_rows_are_kept_is_chosen(path):
    def how(text, family="gaussian", **options):
        return bayou.Model(text, path, family, stream=True, **options).design.reduced.how

    assert how(TEXT) == "summed"
    assert how("won ~ arm + (1 | g)", "bernoulli") == "merged"
    assert how("count ~ arm", "poisson") == "merged"
    assert how("won ~ x + (1 | g)", "bernoulli") == "blocks"
    assert how("count ~ arm", "negative_binomial") == "blocks"
    assert how("y ~ x + (1 | g)", bayou.families.Gaussian(link="log")) == "blocks"
    assert how("y ~ 1 + (1 | x)") == "blocks"


def test_small_files_and_queries_are_read_whole(path, monkeypatch):
    assert bayou.Model(TEXT, path).design.reduced is None
    assert bayou.Model(TEXT, DATA.lazy()).design.reduced is None
    assert bayou.Model(TEXT, path / "part0.parquet").design.reduced is None
    monkeypatch.setattr(building, "LIMIT", 1000)
    assert bayou.Model(TEXT, path).design.reduced.how == "summed"
    assert bayou.Model(TEXT, DATA.lazy()).design.reduced.how == "summed"
    assert bayou.Model(TEXT, path, stream=False).design.reduced is None
    assert bayou.Model(TEXT, DATA).design.reduced is None  # a table is in memory anyway


def test_stream_is_a_word_of_a_model_not_of_a_fit_of_one(path):
    with pytest.raises(DataError, match="stream=3"):
        bayou.Model(TEXT, path, stream=3)
    model = bayou.Model(TEXT, path, stream=True)
    with pytest.raises(DataError, match="bound to its data"):
        bayou.fit(model, stream=True)
    with pytest.raises(DataError, match="weights= as the name of a column"):
        bayou.Model(TEXT, path, stream=True, weights=np.ones(400))


def test_errors_leave_nothing_behind(path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BayouError):
        bayou.Model("count ~ x + (1 + arm | arm)", path, "negative_binomial", stream=True)
    import gc

    gc.collect()
    assert not list(tmp_path.iterdir())

"""What a plan says of rows, levels, memory and seconds, before anything runs."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayou
from bayou.cli import app
from bayou.errors import DataError, FormulaError
from bayou.planning import costs, workload
from bayou.planning.costs import Machine

GB = 2.0**30


def written(folder, n, levels, by_group=False, seed=1, binary=False):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, levels, n)
    if by_group:
        g.sort()
    table = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "g": g})
    if binary:
        table["y"], table["x"] = (table["y"] > 0).astype(int), (table["x"] > 0).astype(int)
    folder.mkdir(exist_ok=True)
    half = n // 2
    table[:half].to_parquet(folder / "a.parquet", row_group_size=5_000)
    table[half:].to_parquet(folder / "b.parquet", row_group_size=5_000)
    return folder


def test_a_table_in_memory_is_counted_exactly():
    school = bayou.datasets.load("school")
    told = bayou.plan("score ~ ses + (1 + ses | school)", school, memory=16, cores=2)
    assert told.work.exact and told.work.rows == len(school)
    (factor,) = told.work.factors
    assert (factor.name, factor.levels, factor.coefficients) == ("school", school["school"].nunique(), 2)
    # two points of each cell: the intercept and one column that varies
    assert (told.work.how, told.work.kept) == ("summed", 2 * factor.levels)
    assert told.cheapest.name in ("in memory", "streamed")


@pytest.mark.parametrize("by_group", [False, True], ids=["shuffled", "sorted by group"])
def test_levels_are_estimated_from_a_part_of_the_rows(tmp_path, monkeypatch, by_group):
    monkeypatch.setattr(workload, "SAMPLE", 20_000)
    folder = written(tmp_path / "rows", 200_000, 3_000, by_group)
    told = bayou.plan("y ~ x + (1 + x | g)", folder)
    assert not told.work.exact and told.work.rows == 200_000
    assert told.work.factors[0].levels == pytest.approx(3_000, rel=0.05)
    assert "about" in str(told)


def test_different_rows_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(workload, "SAMPLE", 20_000)
    told = bayou.plan("y ~ x + (1 | g)", written(tmp_path / "rows", 200_000, 500, binary=True), "bernoulli")
    assert told.work.how == "merged" and told.work.kept == pytest.approx(1000, rel=0.02)
    assert told.engine == "metropolis" and told.maximiser == "laplace"


def test_rows_that_differ_stay():
    told = bayou.plan("y ~ x + (1 | g)", _counts(), "poisson")
    assert told.work.how == "blocks" and told.work.kept == told.work.rows


def _counts():
    rng = np.random.default_rng(2)
    return {"y": rng.poisson(2.0, 5_000), "x": rng.normal(size=5_000), "g": rng.integers(0, 40, 5_000)}


def test_a_query_is_passed_over_once(monkeypatch):
    polars = pytest.importorskip("polars")
    monkeypatch.setattr(workload, "SAMPLE", 100_000)
    rng = np.random.default_rng(3)
    n = 500_000
    table = polars.LazyFrame({"y": rng.normal(size=n), "g": rng.integers(0, 2_000, n)})
    told = bayou.plan("y ~ 1 + (1 | g)", table)
    assert told.work.rows == n and told.work.factors[0].levels == pytest.approx(2_000, rel=0.02)


def test_larger_data_can_be_asked_for():
    school = bayou.datasets.load("school")
    formula = "score ~ ses + (1 + ses | school)"
    told = bayou.plan(formula, school, rows=1e10, levels={"school": 1e8}, memory=16, cores=2)
    assert told.work.rows == 10**10 and told.work.factors[0].levels == 1e8 and told.work.kept == 2e8
    names = [way.name for way in told.ways]
    assert names[:3] == ["in memory", "streamed", "cluster of 2 workers"]
    fits = {way.name: way.fits for way in told.ways}
    assert not fits["in memory"] and fits[names[-1]]
    assert told.cheapest.fits and told.cheapest.memory <= costs.SHARE * 16 * GB
    # nothing is there for a machine of the size of a thimble
    assert bayou.plan(formula, school, rows=1e10, memory=0.1).cheapest is None


def test_more_workers_hold_less_and_scan_faster():
    told = bayou.plan("y ~ x + (1 | g)", _counts(), "poisson", rows=1e9, memory=24, cores=2)
    clusters = [way for way in told.ways if way.workers > 1]
    assert len(clusters) >= 2
    for fewer, more in zip(clusters, clusters[1:], strict=False):
        assert more.memory < fewer.memory and more.draw < fewer.draw
        assert more.reading == fewer.reading  # the leader reads for all
    # a sweep of a cluster never takes less than its messages
    assert all(way.draw > costs.SWEEP for way in clusters)


def test_the_table_holds_what_is_printed():
    told = bayou.plan("y ~ x + (1 | g)", _counts(), "poisson", memory=24, cores=2)
    assert list(told.table.index) == [way.name for way in told.ways]
    said = str(told)
    for word in ("5,000 rows", "g: 40 levels", "kept in files", "24 GB, 2 cores", "Cheapest: "):
        assert word in said


def test_chains_share_the_cores():
    told = bayou.plan("y ~ x + (1 | g)", _counts(), "poisson", memory=24, cores=2, draws=1000, chains=4)
    way = told.ways[0]
    assert told.seconds(way) == pytest.approx(way.reading + 2 * 1000 * way.draw)
    assert way.seconds(1000, 4, 4) == pytest.approx(way.reading + 1000 * way.draw)


def test_what_cannot_be_planned_says_so(tmp_path):
    folder = written(tmp_path / "rows", 1_000, 10)
    with pytest.raises(DataError, match="`z`"):
        bayou.plan("y ~ z + (1 | g)", folder)
    with pytest.raises(FormulaError):
        bayou.plan("y ~ x + (1 | g", folder)
    with pytest.raises(DataError, match="no grouping factor"):
        bayou.plan("y ~ x + (1 | g)", folder, levels={"h": 1e6})
    with pytest.raises(DataError, match="above 0"):
        bayou.plan("y ~ x + (1 | g)", folder, rows=-1)


def test_the_command_prints_it(tmp_path):
    folder = written(tmp_path / "rows", 10_000, 100)
    call = ["plan", "y ~ x + (1 | g)", str(folder), "--rows", "1e8", "--level", "g=1e6", "--memory", "24", "--cores", "2"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "100,000,000 rows" in done.output and "Cheapest: " in done.output
    bad = CliRunner().invoke(app, [*call[:5], "--level", "g"])
    assert bad.exit_code == 2


def test_this_machine_is_known():
    here = Machine.here()
    assert here.memory > 0.5 * GB and here.cores >= 1

"""Rows in memory-mapped files: the arrays, the engines on them, the memory they take, and disks that fail."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bayou
from bayou import Model, binding, design, families
from bayou.conditional import chunks
from bayou.conditional.blocked import BlockedLaplace
from bayou.conditional.laplace import Laplace as InMemory
from bayou.design import check_sizes, files, passes
from bayou.design.files import RowFiles, temporary_folder
from bayou.engines import INLA, Laplace, Metropolis, Quadrature
from bayou.errors import DataError, FileError, ImproperPosterior, Unsupported
from bayou.streaming import mapped as module
from bayou.streaming.mapped import mapped, opened

N, J = 4096, 120


def table(n=N, levels=J, seed=1):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, levels, n)
    g[:levels] = np.arange(levels)
    x, e = rng.integers(-8, 9, n) / 8.0, rng.integers(0, 3, n) / 4.0
    b = rng.standard_normal((levels, 2)) * [0.6, 0.3]
    eta = 0.3 + 0.4 * x + b[g, 0] + b[g, 1] * x
    m = rng.integers(1, 5, n)
    return {
        "c": rng.poisson(np.exp(eta)), "m": m, "s": rng.binomial(m, 1.0 / (1.0 + np.exp(-eta))), "x": x, "e": e,
        "g": g, "h": rng.integers(0, 7, n), "w": rng.integers(1, 5, n) / 4.0, "y": rng.integers(-40, 41, n) / 8.0,
        "p": np.exp(rng.integers(-4, 5, n) / 4.0),
    }  # fmt: skip


def taken(data, order):
    return {name: values[order] for name, values in data.items()}


def in_files(formula, data, family, folder=None, size=700, **settings):
    """The design in memory, and that of the same rows in files."""
    whole = design.build(formula, data, families.get(family), **settings)

    def blocks():
        for low in range(0, len(data["g"]), size):
            yield whole.recipe.rebuild(taken(data, slice(low, low + size)), True)

    return whole, mapped(whole, blocks, temporary_folder() if folder is None else folder)


def in_memory(kept):
    """The same rows in the same order in arrays of their own, with the same means and scales."""
    own = {name: np.array(getattr(kept, name), order="C") for name in ("y", "trials", "weights", "offset", "X")}
    groupings = tuple(replace(g, codes=g.codes.astype(np.int64), Z=np.array(g.Z, order="C")) for g in kept.groupings)
    sigma = np.array(kept.sigma_codes)
    return replace(kept, **own, groupings=groupings, sigma_codes=sigma, reduced=replace(kept.reduced, files=None))


def model_of(built, priors=None):
    model = object.__new__(Model)
    check_sizes(built)
    model.priors_given = priors is not None
    model._set(built, binding.bind(priors, built, ()), ())
    return model


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Many stretches, parts and chunks in a few thousand rows."""
    monkeypatch.setattr(module, "STRETCH", 900)
    monkeypatch.setattr(passes, "PART", 500)


FORMULAS = {
    "slopes": ("c ~ x + (1 + x | g)", "poisson", {}),
    "offset": ("c ~ x + offset(e) + (1 | g)", "poisson", {"weights": "w"}),
    "slope alone": ("c ~ x + (0 + x | g)", "poisson", {}),
    "trials": ("proportion(s, m) ~ x + (1 + x || g)", "binomial", {}),
    "crossed": ("c ~ x + (1 | g) + (1 + x | h)", "poisson", {}),
    "no groups": ("c ~ x", "poisson", {}),
    "log sd": ("p ~ x + (1 | g)", bayou.families.Gaussian(link="log"), {"sigma_by": "h"}),
}


# ---- the arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("sorted_already", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_same_rows_in_the_order_of_the_levels(name, sorted_already):
    formula, family, settings = FORMULAS[name]
    data = table()
    if sorted_already:
        data = taken(data, np.argsort(data["g"], kind="stable"))
    whole, kept = in_files(formula, data, family, **settings)
    order = np.argsort(whole.groupings[0].codes, kind="stable") if whole.groupings else np.arange(N)
    for field in ("y", "trials", "weights", "offset", "sigma_codes", "X"):
        np.testing.assert_array_equal(getattr(kept, field), getattr(whole, field)[order], err_msg=field)
    for ours, theirs in zip(kept.groupings, whole.groupings, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes[order])
        np.testing.assert_array_equal(ours.Z, theirs.Z[order])
    assert (kept.n, kept.given, kept.reduced.how) == (N, N, "blocks")
    assert not len(kept.data) and not len(kept.index)


def test_what_is_the_same_in_all_rows_is_not_stored():
    _, kept = in_files("c ~ x + (1 + x | g)", table(), "poisson")
    assert sorted(kept.reduced.files.names) == ["X", "codes_0", "y"]
    assert np.shares_memory(kept.groupings[0].Z, kept.X)
    assert kept.groupings[0].codes.dtype == np.int64
    assert {kept.weights.strides, kept.trials.strides, kept.offset.strides, kept.reduced.frequency.strides} == {(0,)}


def test_moments_are_those_of_the_rows():
    whole, kept = in_files("c ~ x + (1 + x | g)", table(), "poisson")
    for ours, theirs in ((kept.moments.fixed, whole.moments.fixed), (kept.moments.groups[0], whole.moments.groups[0])):
        for field in ("mean", "sd", "rms", "scale", "largest"):
            np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-13)
    assert kept.reduced.running.count == N


# ---- the engines -------------------------------------------------------------------------------


@pytest.mark.parametrize("proposal", ["laplace", "random_walk"])
@pytest.mark.parametrize("name", FORMULAS)
def test_metropolis_draws_bit_for_bit(name, proposal):
    formula, family, settings = FORMULAS[name]
    whole, kept = in_files(formula, table(), family, **settings)
    ours, theirs = model_of(kept), model_of(in_memory(kept))
    assert ours.bound.lines == model_of(whole).bound.lines
    assert ours.bound.notes == model_of(whole).bound.notes
    engine = Metropolis(draws=15, warmup=60, chains=1, cores=1, proposal=proposal)
    a, b = ours.fit(engine, seed=3), theirs.fit(engine, seed=3)
    assert set(a.result.draws) == set(b.result.draws)
    for variable, values in b.result.draws.items():
        np.testing.assert_array_equal(a.result.draws[variable], values, err_msg=variable)


@pytest.mark.parametrize(
    ("formula", "family", "engine", "priors"),
    [
        ("c ~ x + (1 + x | g)", "poisson", Laplace(), None),
        ("c ~ x + offset(e) + (1 | g)", "poisson", Laplace(), None),
        ("proportion(s, m) ~ x + (1 + x || g)", "binomial", Laplace(), None),
        ("c ~ x + (1 | g)", "poisson", Laplace(), {"beta": bayou.priors.Normal(0.0, 1.0)}),
        ("c ~ x + (1 + x | g)", "poisson", Quadrature(nodes=5), None),
        ("p ~ x + (1 | g)", "gamma", Laplace(), None),
    ],
)
def test_the_maximum_is_that_in_memory(formula, family, engine, priors, monkeypatch):
    monkeypatch.setattr(chunks.Chunks.__init__, "__defaults__", (500,))
    whole, kept = in_files(formula, table(), family)
    a, b = (model_of(one, priors).fit(engine, seed=3) for one in (kept, whole))
    if priors is None:
        assert abs(a.log_likelihood - b.log_likelihood) < 1e-10 * abs(b.log_likelihood)
    ours, theirs = a.result.estimates, b.result.estimates
    np.testing.assert_allclose(ours.estimate, theirs.estimate, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(a.summary()["sd"], b.summary()["sd"], rtol=1e-6)
    np.testing.assert_allclose(a.random_effects("g")["mean"], b.random_effects("g")["mean"], rtol=1e-6, atol=1e-8)


def test_value_and_gradient_are_those_in_memory(monkeypatch):
    monkeypatch.setattr(chunks.Chunks.__init__, "__defaults__", (500,))
    whole, kept = in_files("c ~ x + (1 + x | g)", table(), "poisson")
    ours, theirs = BlockedLaplace(model_of(kept)), InMemory(model_of(whole))
    for shift in (0.0, 0.2):
        psi = theirs.join(np.array([0.2, 0.3]), theirs.numbers.factors(0.5 * theirs.numbers.start() + shift), np.ones(1))
        (f, df), (h, dh) = ours.evaluate(psi), theirs.evaluate(psi)
        assert abs(f - h) < 1e-11 * abs(h)
        np.testing.assert_allclose(df, dh, rtol=1e-8, atol=1e-7)
        np.testing.assert_allclose(ours.information(), theirs.information(), rtol=1e-8)


def test_sums_do_not_depend_on_the_threads(monkeypatch):
    monkeypatch.setattr(chunks.Chunks.__init__, "__defaults__", (300,))
    _, kept = in_files("c ~ x + (1 + x | g)", table(), "poisson")
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(chunks, "processors", lambda threads=threads: threads)
        of = BlockedLaplace(model_of(kept))
        found.append(of.evaluate(np.full(of.size, 0.3)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_many_rows_are_refused_by_what_would_copy_them(monkeypatch):
    monkeypatch.setattr(passes, "MOST", 100)
    _, kept = in_files("c ~ x + (1 | g)", table(), "poisson")
    assert kept.groupings[0].codes.dtype == np.int32
    model = model_of(kept)
    for engine in (INLA(), "nuts"):
        with pytest.raises(Unsupported, match="rows lie in files"):
            model.fit(engine, seed=1)
    assert bayou.engines.Auto().choice(model).engines == ("metropolis",)
    fit = model.fit(Metropolis(draws=20, warmup=20, chains=1), seed=1)
    with pytest.raises(Unsupported, match="rows lie in files"):
        fit.predict()
    assert len(fit.predict({"x": [0.5], "g": [3]})) == 1


def test_an_improper_posterior_is_seen_through_a_part_of_the_rows():
    data = table()
    whole, kept = in_files("c ~ x + (1 | g)", data, "poisson")
    flat = {"beta": bayou.priors.Flat()}
    assert model_of(kept, flat).bound.notes == model_of(whole, flat).bound.notes
    zeros = {**data, "c": np.zeros(N, dtype=int)}
    _, kept = in_files("c ~ x + (1 | g)", zeros, "poisson")
    with pytest.raises(ImproperPosterior, match="all counts are 0"):
        model_of(kept, flat)


# ---- disks -------------------------------------------------------------------------------------


def test_a_temporary_folder_goes_with_its_design():
    folder = temporary_folder()
    _, kept = in_files("c ~ x + (1 | g)", table(), "poisson", folder)
    assert (folder / "rows.json").exists()
    y = kept.y
    del kept
    assert not folder.exists()
    assert y.sum() == table()["c"].sum()  # what is still looked at stays


def test_a_named_folder_stays_and_is_opened_again(tmp_path):
    whole, kept = in_files("c ~ x + offset(e) + (1 | g)", table(), "poisson", tmp_path / "rows", weights="w")
    again = opened(whole, tmp_path / "rows")
    for field in ("y", "weights", "offset", "X", "trials"):
        np.testing.assert_array_equal(getattr(again, field), getattr(kept, field))
    np.testing.assert_array_equal(again.groupings[0].Z, kept.groupings[0].Z)
    other = design.build("c ~ (1 | g)", table(), families.get("poisson"))
    with pytest.raises(FileError, match="another model"):
        opened(other, tmp_path / "rows")


def test_damaged_files_are_named(tmp_path):
    whole, kept = in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path)
    with open(tmp_path / "y.npy", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(FileError, match=r"'y\.npy'.*damaged"):
        opened(whole, tmp_path)
    (tmp_path / "y.npy").unlink()
    with pytest.raises(FileError, match=r"'y\.npy'.*missing"):
        opened(whole, tmp_path)
    facts = json.loads((tmp_path / "rows.json").read_text())
    (tmp_path / "rows.json").write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(FileError, match="version 99"):
        opened(whole, tmp_path)
    (tmp_path / "rows.json").write_text("{")
    with pytest.raises(FileError, match="holds no rows"):
        opened(whole, tmp_path)
    assert kept.n == N


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be written"):
        in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path)


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot be written \(Not a directory\)"):
        in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path / "file" / "rows")
    with pytest.raises(FileError, match="No folder for the rows"):
        temporary_folder(tmp_path / "nowhere")


def test_too_small_a_disk_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage._replace(free=files.SPARE + 10_000))
    with pytest.raises(FileError, match=r"4,096 rows need 131 kB in .* where 10 kB are free"):
        in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    _, kept = in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path)

    def full(file, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_allocate", full)
    with pytest.raises(FileError, match="does not fit"):
        model_of(kept).fit(Metropolis(draws=5, warmup=5, chains=1), seed=1)
    with pytest.raises(FileError, match=r"'y\.npy' of .* does not fit"):
        in_files("c ~ x + (1 | g)", table(), "poisson", tmp_path / "other")


def test_data_that_change_between_the_passes(tmp_path):
    data = table()
    whole = design.build("c ~ x + (1 | g)", data, families.get("poisson"))
    passed = []

    def blocks():
        passed.append(None)
        yield whole.recipe.rebuild(taken(data, slice(0, N - 5 * len(passed))), True)

    with pytest.raises(DataError, match="fewer rows than the first"):
        mapped(whole, blocks, tmp_path)


def test_levels_that_nobody_knows(tmp_path):
    data = table()
    whole = design.build("c ~ x + (1 | g)", data, families.get("poisson"))
    data["g"] = data["g"] + 1
    with pytest.raises(DataError, match="has a level of 'g' that was not there"):
        mapped(whole, lambda: [whole.recipe.rebuild(data, True)], tmp_path)


def test_structured_effects_are_refused(tmp_path):
    whole = design.build("c ~ x + rw1(h)", table(), families.get("poisson"))
    with pytest.raises(Unsupported, match="structured effects"):
        mapped(whole, lambda: [], tmp_path)
    with pytest.raises(DataError, match="0 rows"):
        mapped(replace(whole, structured=()), lambda: [], tmp_path)


def test_a_forked_process_leaves_the_files(tmp_path):
    folder = temporary_folder(tmp_path)
    kept = RowFiles(folder)
    files._remove(folder, os.getpid() + 1)
    assert folder.exists()
    del kept
    assert not folder.exists()


# ---- memory ------------------------------------------------------------------------------------

MEASURE = """
import sys, threading, time
sys.path.insert(0, {tests!r})
import numpy as np
from bayou import design, families
from bayou.design.files import temporary_folder
from bayou.engines import Laplace, Metropolis
from bayou.streaming.mapped import mapped
from test_mapped import model_of

def make(n, levels, rng):
    g, x = rng.integers(0, levels, n), rng.standard_normal(n)
    return {{"c": rng.poisson(np.exp(0.3 + 0.4 * x)), "x": x, "g": g}}

def build(n, levels, block):
    witness = make(2 * levels, levels, np.random.default_rng(1)) | {{"g": np.repeat(np.arange(levels), 2)}}
    template = design.build("c ~ x + (1 + x | g)", witness, families.get("poisson"))
    def blocks():
        rng = np.random.default_rng(2)
        for low in range(0, n, block):
            yield template.recipe.rebuild(make(block, levels, rng), True)
    return mapped(template, blocks, temporary_folder())

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def fit(model):
    engine = {engine}
    return model.fit(engine, seed=1)

fit(model_of(build(4000, 100, 1000)))
kept = build({n}, 1000, 50_000)
before = held()
most, done = before, False
def watch():
    global most
    while not done:
        most = max(most, held())
        time.sleep(0.005)
thread = threading.Thread(target=watch)
thread.start()
fit(model_of(kept))
done = True
thread.join()
print((most - before) / {n})
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of anonymous pages")
@pytest.mark.parametrize(
    ("engine", "most"), [("Metropolis(draws=10, warmup=60, chains=2, cores=2)", 60.0), ("Laplace()", 80.0)]
)
def test_memory_a_row(engine, most):
    """Anonymous memory that a model and its fit take for each of a million rows: a part of them, whatever there are."""
    text = MEASURE.format(tests=str(Path(__file__).parent), engine=engine, n=1_000_000)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < most

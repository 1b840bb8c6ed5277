"""Runs that live in a folder: the same draws however often they die, damage that is seen, and refusals by name."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import bayou
from bayou.engines import Gibbs, Metropolis, assembly, stream
from bayou.errors import DataError, FileError, Unsupported
from bayou.model import Model
from bayou.posterior import container
from gaussian_models import PRIORS, table

SHORT = {"draws": 300, "warmup": 320, "chains": 2, "progress": False}
SAMPLERS = {
    "collapsed": Gibbs(**SHORT),
    "blocked": Gibbs(parameterization="blocked", **SHORT),
    "centered": Gibbs(parameterization="centered", **SHORT),
    "laplace": Metropolis(thin=2, **SHORT),
    "walk": Metropolis(proposal="random_walk", scale="adapted", **SHORT),
}


@pytest.fixture(scope="module")
def model():
    return Model("y ~ x + (x | g) + (1 | h)", table(), priors=PRIORS)


def assert_same(one, other):
    """Two posteriors with the same numbers, to the last bit."""
    for family in ("draws", "moments", "statistics", "group_statistics"):
        mine, yours = getattr(one, family), getattr(other, family)
        assert set(mine) == set(yours)
        for name, values in mine.items():
            np.testing.assert_array_equal(values, yours[name], err_msg=name)
    assert one.info.get("effect_draws") == other.info.get("effect_draws")
    assert one.info["seed"] == other.info["seed"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_stored_run_has_the_draws_of_one_in_memory(model, name, keep, tmp_path, monkeypatch):
    engine = SAMPLERS[name]
    usual = bayou.fit(model, engine=engine, seed=1, keep_effects=keep)
    for k, (seconds, size) in enumerate([(3600.0, 2**23), (-1.0, 2**23), (3600.0, 3000)]):
        monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", seconds)
        monkeypatch.setattr(stream, "CHUNK_BYTES", size)
        folder = tmp_path / str(k)
        stored = bayou.fit(model, engine=engine, seed=1, keep_effects=keep, store=folder)
        assert_same(stored.result, usual.result)
        assert_same(bayou.resume(folder).result, usual.result)
        assert str(stored.result.engine) == str(usual.result.engine)


class Death(BaseException):
    """What kill -9 does, as far as the files can tell."""


@pytest.mark.parametrize("name", ["collapsed", "blocked", "laplace"])
def test_a_run_that_dies_at_any_write_goes_on_to_the_same_draws(model, name, tmp_path, monkeypatch):
    """Before a file, after it, and between a file of draws and the state that follows it."""
    keep = name == "blocked"
    usual = bayou.fit(model, engine=SAMPLERS[name], seed=1, keep_effects=keep, cores=1)
    monkeypatch.setattr(stream, "CHUNK_BYTES", 9000)
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", 0.004)
    write = container.write
    lives = [1]  # the first write is that of the model

    def fragile(path, facts, arrays):
        if path.name != "run.bayou":
            lives[0] -= 1
            if lives[0] < 0:
                raise Death
        write(path, facts, arrays)

    folder = tmp_path / "run"
    monkeypatch.setattr(container, "write", fragile)
    with pytest.raises(Death):
        bayou.fit(model, engine=SAMPLERS[name], seed=1, keep_effects=keep, cores=1, store=folder)
    deaths = 1
    while True:
        lives[0] = random.Random(deaths).randrange(1, 7)
        try:
            again = bayou.resume(folder, cores=1)
            break
        except Death:
            deaths += 1
    assert deaths > 3
    assert_same(again.result, usual.result)


SCRIPT = """
    import sys
    import numpy as np
    import bayou
    from bayou.engines import stream

    stream.CHECKPOINT_SECONDS = 0.02
    action, folder, kind = sys.argv[1:]
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(60), 20)
    x = rng.normal(size=len(g))
    b = rng.normal(size=60)[g]
    data = {"y": 1.0 + x + b + rng.normal(size=len(g)), "x": x, "g": g, "count": rng.poisson(np.exp(0.5 * x + 0.4 * b))}
    settings = dict(seed=3, warmup=600, draws=1500, chains=2, progress=False)
    if kind == "gibbs":
        settings |= dict(formula="y ~ x + (x | g)", engine=bayou.engines.Gibbs(thin=5), keep_effects=False)
    else:
        settings |= dict(formula="count ~ x + (x | g)", family="poisson", engine="metropolis")
    print("ready", flush=True)
    if action == "memory":
        fit = bayou.fit(data=data, **settings)
    elif action == "store":
        fit = bayou.fit(data=data, store=folder, **settings)
    else:
        fit = bayou.resume(folder)
    result = fit.result
    everything = {**result.draws, **result.moments, **result.group_statistics, **result.statistics}
    np.savez(folder + ".npz", **everything)
"""


def start(action: str, folder: Path, kind: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), action, str(folder), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def finished(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def kill_until(kills: int, kind: str, tmp_path: Path) -> int:
    """Kill a run and those that go on with it at random moments, until so many died; compare what comes out."""
    moments = random.Random(kills)
    usual = tmp_path / f"usual-{kind}"
    began = time.perf_counter()
    finished(start("memory", usual, kind))
    length = time.perf_counter() - began
    with np.load(f"{usual}.npz") as arrays:
        want = dict(arrays)
    died = runs = 0
    while died < kills:
        runs += 1
        folder = tmp_path / f"{kind}-{runs}"
        action = "store"
        while True:
            process = start(action, folder, kind)
            time.sleep(moments.uniform(0.0, 0.7 * length))
            if died < kills and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                died += 1
                if not (folder / "run.bayou").exists():
                    assert list(folder.glob("*")) == [] or not any(folder.glob("chain-*"))
                    shutil.rmtree(folder, ignore_errors=True)
                    continue
                action = "resume"
            else:
                finished(process)
                break
        with np.load(f"{folder}.npz") as arrays:
            assert set(arrays) == set(want)
            for name, values in want.items():
                np.testing.assert_array_equal(arrays[name], values, err_msg=name)
        shutil.rmtree(folder)
    return runs


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
@pytest.mark.parametrize(("kind", "kills"), [("gibbs", 2), ("metropolis", 3)])
def test_a_killed_process_loses_nothing_finished(kind, kills, tmp_path):
    kill_until(kills, kind, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
@pytest.mark.parametrize("kind", ["gibbs", "metropolis"])
def test_twenty_five_killed_processes_lose_nothing_finished(kind, tmp_path):
    kill_until(25, kind, tmp_path)


# ---- damage -----------------------------------------------------------------------------------


@pytest.fixture
def stored(model, tmp_path, monkeypatch):
    """A finished run of several files a chain, and its fit."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", 6000)
    fit = bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=tmp_path / "run")
    assert len(list((tmp_path / "run" / "chain-1").glob("draws-*"))) > 3
    return tmp_path / "run", fit


def test_every_flipped_byte_is_seen(stored):
    """A byte of each kind of file at a hundred places, and every byte of the first lines."""
    folder, _ = stored
    rng = np.random.default_rng(1)
    for path in (folder / "run.bayou", folder / "chain-1" / "state.bayou", folder / "chain-2" / "draws-000000000.bayou"):
        whole = path.read_bytes()
        places = [*range(60), *rng.integers(0, len(whole), 100)]
        for at in places:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(FileError, match=r"damaged|format"):
                container.read(path)
        for size in (0, 1, 50, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(FileError, match="damaged"):
                container.read(path)
        path.write_bytes(whole + b"\0")
        with pytest.raises(FileError, match="damaged"):
            container.read(path)
        path.write_bytes(whole)
        container.read(path)


def test_a_damaged_file_of_draws_is_named_and_the_others_salvaged(stored):
    folder, fit = stored
    files = sorted((folder / "chain-2").glob("draws-*"))
    broken = files[1]
    low, high = (int(f.stem.removeprefix("draws-")) for f in files[1:3])
    data = bytearray(broken.read_bytes())
    data[-3] ^= 4
    broken.write_bytes(data)
    with pytest.raises(FileError, match=rf"{broken.name} is damaged.*The {low} draws before it are sound.*salvage"):
        bayou.resume(folder)
    saved = bayou.salvage(folder).result
    mask = np.ones(300, dtype=bool)
    mask[low:high] = False
    for name, values in fit.result.draws.items():
        np.testing.assert_array_equal(saved.draws[name], values[:, mask])
    assert saved.info["messages"][0] == f"Salvaged: {mask.sum()} of 300 draws per chain could be read."
    assert str(broken) in saved.info["messages"][1]
    assert bayou.salvage(folder).summary()["mean"].notna().all()


def test_a_missing_file_of_draws_is_named(stored):
    folder, _ = stored
    files = sorted((folder / "chain-1").glob("draws-*"))
    first = int(files[2].stem.removeprefix("draws-"))
    files[2].unlink()
    with pytest.raises(FileError, match=rf"{files[2].name} is missing: 300 draws were stored and the first {first} "):
        bayou.resume(folder)
    assert bayou.salvage(folder).result.size < 300


def test_salvage_keeps_the_subset_of_effects_beside_its_draws(model, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_BYTES", 6000)
    folder = tmp_path / "run"
    engine = SAMPLERS["laplace"]
    fit = bayou.fit(model, engine=engine, seed=1, keep_effects=False, draws=900, store=folder).result
    broken = sorted((folder / "chain-1").glob("draws-*"))[2]
    broken.write_bytes(broken.read_bytes()[:-1])
    saved = bayou.salvage(folder).result
    whole = dict(zip(fit.info["effect_draws"], np.moveaxis(fit.draws["b_g"], 1, 0), strict=True))
    number = {tuple(row): k for k, row in enumerate(fit.draws["beta"][0])}
    for at, b in zip(saved.info["effect_draws"], np.moveaxis(saved.draws["b_g"], 1, 0), strict=True):
        np.testing.assert_array_equal(b, whole[number[tuple(saved.draws["beta"][0, at])]])
    np.testing.assert_array_equal(saved.moments["mean_b_g"], fit.moments["mean_b_g"])
    assert bayou.salvage(folder).predict(groups="observed").shape[0] == fit.model.design.n


def test_nothing_readable_is_an_error(stored):
    folder, _ = stored
    for path in folder.glob("chain-*/draws-*"):
        path.write_bytes(b"")
    with pytest.raises(FileError, match=r"none of its draws can be read"):
        bayou.salvage(folder)


# ---- refusals ---------------------------------------------------------------------------------


def other_data():
    data = dict(table())
    data["x"] = np.array(data["x"], dtype=float).copy()
    data["x"][6] += 1.0
    return data


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: Model("y ~ x + (1 | g) + (1 | h)", table(), priors=PRIORS), r"another model: formula 'y ~ x \+ \(x"),
        (lambda: Model("y ~ x + (x | g) + (1 | h)", other_data(), priors=PRIORS), r"column 'x' is .* there and .* row 7"),
        (lambda: Model("y ~ x + (x | g) + (1 | h)", table()), r"another prior for"),
        (
            lambda: Model("y ~ x + (x | g) + (1 | h)", {k: v[:-1] for k, v in dict(table()).items()}, priors=PRIORS),
            r"rows of data there",
        ),
    ],
)
def test_another_model_is_refused_by_name(stored, other, message):
    with pytest.raises(FileError, match=message):
        bayou.resume(stored[0], other())


def test_the_same_model_is_taken(stored, model):
    folder, fit = stored
    assert_same(bayou.resume(folder, model).result, fit.result)


@pytest.mark.parametrize("name", ["bayou", "NumPy", "Numba", "kernels"])
def test_another_version_is_refused_by_name(stored, name):
    folder, _ = stored
    facts, arrays = container.read(folder / "run.bayou")
    facts["versions"][name] = "0.0.1"
    container.write(folder / "run.bayou", facts, arrays)
    with pytest.raises(FileError, match=rf"begun with {name} 0\.0\.1; this is {name} .*salvage"):
        bayou.resume(folder)
    assert bayou.salvage(folder).result.size == 300


def test_a_folder_that_is_taken(stored, model, tmp_path):
    folder, _ = stored
    with pytest.raises(FileError, match=r"holds a run already: bayou\.resume\(folder\) goes on"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=folder)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError, match=r"holds thesis\.txt already"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=full)
    assert [p.name for p in full.iterdir()] == ["thesis.txt"]
    with pytest.raises(FileError, match="is a file"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=full / "thesis.txt")
    with pytest.raises(FileError, match="its parent must be there"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=tmp_path / "no" / "such")
    with pytest.raises(FileError, match="holds no run"):
        bayou.resume(full)
    with pytest.raises(FileError, match=r"folder of a stored run: bayou\.resume"):
        bayou.load(folder)
    with pytest.raises(DataError, match="store=3: give the name of a folder"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, store=3)


def test_a_model_that_cannot_be_run_leaves_no_folder(tmp_path):
    data = {"y": [0, 1, 0, 1, 1, 0], "g": [1, 1, 2, 2, 3, 3]}
    with pytest.raises(Unsupported):
        bayou.fit("y ~ 1 + (1 | g)", data, family="bernoulli", engine="gibbs", store=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_runs_in_one_folder(stored):
    from bayou.engines.store import open_store

    folder, _ = stored
    with open_store(folder), pytest.raises(FileError, match=rf"in use by another run \(process {os.getpid()}\)"):
        bayou.resume(folder)
    bayou.resume(folder)


def test_functions_of_the_caller_must_be_given_again(tmp_path):
    def halved(x):
        return x / 2

    folder = tmp_path / "run"
    fit = bayou.fit("y ~ halved(x) + (1 | g)", table(), functions={"halved": halved}, seed=1, store=folder, **SHORT)
    with pytest.raises(FileError, match="halved"):
        bayou.resume(folder)
    assert_same(bayou.resume(folder, functions={"halved": halved}).result, fit.result)


# ---- the disk, interruption, memory -----------------------------------------------------------


def test_a_full_disk_keeps_the_draws_so_far(model, tmp_path, monkeypatch):
    usual = bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, cores=1).result
    monkeypatch.setattr(stream, "CHUNK_BYTES", 6000)
    write = container.write
    left = [7]

    def full(path, facts, arrays):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(path, facts, arrays)

    monkeypatch.setattr(container, "write", full)
    folder = tmp_path / "run"
    with pytest.raises(FileError, match="No space left on device"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, cores=1, store=folder)  # nothing of the second chain
    left[0] = 7
    shutil.rmtree(folder)
    result = bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, chains=1, store=folder).result
    assert 0 < result.size < 300
    assert any("No space left on device" in line and "Free some space" in line for line in result.info["messages"])
    left[0] = 10**6
    whole = bayou.resume(folder).result
    for name, values in result.draws.items():
        np.testing.assert_array_equal(values, whole.draws[name][:, : result.size])
    np.testing.assert_array_equal(whole.draws["beta"][0], usual.draws["beta"][0])


def test_an_interrupted_run_is_gone_on_with(model, tmp_path, monkeypatch):
    from bayou.engines import chains

    class Impatient(chains.Bar):
        def update(self, done):
            if done > 2000:
                raise KeyboardInterrupt

    engine = Gibbs(parameterization="blocked", draws=40_000, warmup=100, chains=2, keep_effects=False)
    usual = bayou.fit(model, engine=engine, seed=1).result
    with monkeypatch.context() as patch:
        patch.setattr(chains, "Bar", Impatient)
        part = bayou.fit(model, engine=engine, seed=1, store=tmp_path / "run").result
    assert any(line.startswith("Interrupted") for line in part.info["messages"])
    assert part.size < 40_000
    np.testing.assert_array_equal(part.draws["beta"], usual.draws["beta"][:, : part.size])
    assert_same(bayou.resume(tmp_path / "run").result, usual)


def test_many_draws_stay_on_the_disk(model, tmp_path, monkeypatch):
    usual = bayou.fit(model, engine=SAMPLERS["collapsed"], seed=1)
    monkeypatch.setattr(assembly, "MEMORY_BYTES", 1000)
    fit = bayou.fit(model, engine=SAMPLERS["collapsed"], seed=1, store=tmp_path / "run")
    assert isinstance(fit.result.draws["beta"].base, np.memmap) or isinstance(fit.result.draws["beta"], np.memmap)
    assert_same(fit.result, usual.result)
    np.testing.assert_allclose(fit.summary(), usual.summary())
    fit.save(tmp_path / "fit.nc")
    assert_same(bayou.load(tmp_path / "fit.nc").result, usual.result)


def test_the_header_is_json(stored):
    lines = (stored[0] / "run.bayou").read_bytes().split(b"\n}\n")[0].split(b"\n", 1)
    facts = json.loads(lines[1] + b"\n}")["facts"]
    assert facts["engine"] == "gibbs"
    assert facts["model"]["formula"] == "y ~ x + (x | g) + (1 | h)"
    assert facts["seed"]["entropy"] == 1


MEMORY = """
    import sys
    import numpy as np
    import bayou

    def peak(name="VmHWM"):
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    rng = np.random.default_rng(1)
    X = rng.normal(size=(500, 97))
    data = {f"x{k}": X[:, k] for k in range(97)} | {"y": rng.normal(size=500), "g": np.repeat(np.arange(20), 25)}
    formula = "y ~ " + " + ".join(f"x{k}" for k in range(97)) + " + (1 | g)"
    settings = dict(engine="gibbs", seed=1, warmup=100, chains=2, keep_effects=False, progress=False)
    bayou.fit(formula, data, draws=100, **settings).summary()
    before = peak("VmRSS")
    fit = bayou.fit(formula, data, draws=500_000, store=sys.argv[1], **settings)
    assert fit.result.draws["beta"].shape == (2, 500_000, 98)
    print(peak() - before)
    fit.result.draws["beta"][:, :, 3].mean()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the process's memory")
def test_a_million_draws_of_a_hundred_parameters_in_bounded_memory(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300.0

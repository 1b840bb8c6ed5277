"""Runs in shards that live in a folder: they go on to the same draws, wherever and on however many workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import numpy as np
import pytest

import bayou
from bayou.cluster import fleet, sweep
from bayou.engines import chains, stream
from bayou.errors import DataError, FileError
from bayou.posterior import container

distributed = pytest.importorskip("distributed")
SLOPE = "y ~ x + z + (1 + x | g)"
SETTINGS = {"engine": "metropolis", "seed": 3, "draws": 40, "warmup": 108, "chains": 2}


def simulated(family, n=240, J=24):
    rng = np.random.default_rng(0)
    g, x = rng.integers(0, J, n), rng.normal(size=n)
    b = rng.normal(size=(J, 2)) * [0.6, 0.4]
    eta = 0.3 + 0.2 * x + b[g, 0] + b[g, 1] * x
    if family == "poisson":
        y = rng.poisson(np.exp(eta))
    elif family == "gaussian":
        y = eta + 0.7 * rng.normal(size=n)
    else:
        y = rng.negative_binomial(3, 3.0 / (3.0 + np.exp(eta)))
    return {"y": y, "x": x, "g": g, "z": rng.normal(size=n)}


MODELS = {name: bayou.Model(SLOPE, simulated(name), name) for name in ("poisson", "gaussian", "negative_binomial")}
SHARDS = 5
FAMILIES = [name if name != "negative_binomial" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.fixture(scope="module")
def client():
    """A cluster in this process."""
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=2, dashboard_address=":0") as made:
        yield made


@pytest.fixture(scope="module")
def one():
    """One with a single worker."""
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0", set_as_default=False
    ) as made:
        yield made


def run(client, family="poisson", store=None, **settings):
    return MODELS[family].fit(client=client, shards=SHARDS, store=store, **(SETTINGS | settings)).result


@pytest.fixture(scope="module")
def usual(client):
    """Results of runs that lived in memory."""
    return {family: run(client, family) for family in MODELS}


def assert_same(a, b):
    """Two posteriors with the same numbers, to the last bit."""
    for kind in ("draws", "moments", "statistics", "group_statistics"):
        mine, yours = getattr(a, kind), getattr(b, kind)
        assert set(mine) == set(yours)
        for name, values in mine.items():
            np.testing.assert_array_equal(values, yours[name], err_msg=name)
    assert a.info.get("effect_draws") == b.info.get("effect_draws")
    assert a.info["seed"] == b.info["seed"]
    assert a.info["shards"] == b.info["shards"] == SHARDS
    assert str(a.engine) == str(b.engine)


@pytest.fixture
def pointed(monkeypatch):
    """Points where the shards' states are fetched, as many as there can be, and how often they were."""
    monkeypatch.setattr(sweep, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(sweep, "BYTES_PER_SECOND", 1e12)
    taken = []
    fetch = fleet.Talk.checkpoint

    def counted(self):
        fetch(self)
        taken.append(1)

    monkeypatch.setattr(fleet.Talk, "checkpoint", counted)
    return taken


class Death(BaseException):
    """What kill -9 does, as far as the files can tell."""


def dies(monkeypatch, at):
    """Let the process die at a state that is to be written after so many draws (below 0: scans of the warm-up)."""
    wrote = stream.StoredRecord._write_state

    def fragile(self, chain):
        if self.made >= at >= 0 or (at < 0 and self.scan >= -at):
            raise Death
        wrote(self, chain)

    monkeypatch.setattr(stream.StoredRecord, "_write_state", fragile)


# ---- the same draws ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stored_run_has_the_draws_of_one_in_memory(client, usual, family, tmp_path, monkeypatch, pointed):
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
    stored = run(client, family, tmp_path / "run")
    assert len(pointed) > 30
    assert_same(stored, usual[family])


def test_writing_asks_nothing_of_the_workers(client, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
    rounds, close = [], fleet.Talk.close

    def counted(self):
        rounds.append(self.rounds)
        close(self)

    monkeypatch.setattr(fleet.Talk, "close", counted)
    run(client)
    count = sorted(set(rounds))
    rounds.clear()
    run(client, store=tmp_path / "run")
    assert sorted(set(rounds)) == count


QUICK = {("poisson", -20, True), ("poisson", -103, False), ("poisson", 25, True), ("gaussian", -103, True)}
DEATHS = [(family, at, fetched) for family in MODELS for at in (-20, -103, 9, 25) for fetched in (True, False)]


@pytest.mark.parametrize(
    ("family", "at", "fetched"),
    [pytest.param(*death, marks=[] if death in QUICK else [pytest.mark.slow]) for death in DEATHS],
)
def test_a_run_that_dies_goes_on_elsewhere_to_the_same_draws(
    client, one, usual, family, at, fetched, tmp_path, monkeypatch, request
):
    """In the warm-up before and after its first fit, and among the draws; with points on the way, or from the start."""
    if fetched:
        request.getfixturevalue("pointed")
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        dies(patch, at)
        with pytest.raises(Death):
            run(client, family, folder)
    facts, arrays = container.read(folder / "chain-1" / "state.bayou")
    assert facts["made"] < max(at, 1)
    assert facts["scan"] < -at if at < 0 else facts["scan"] == 108
    assert ("chain/leader/beta" in arrays) == (fetched and int(arrays["chain/sweeps"][0]) >= 8)
    assert_same(bayou.resume(folder, client=one).result, usual[family])


def test_it_may_die_again_and_again(client, one, usual, tmp_path, monkeypatch, pointed):
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(chains, "_next_batch", lambda batch, seconds, most: 7)
    folder, deaths = tmp_path / "run", 0
    for at in (-30, -104, 5, 30):
        with monkeypatch.context() as patch:
            dies(patch, at)
            with pytest.raises(Death):
                if deaths:
                    bayou.resume(folder, client=(one, client)[deaths % 2])
                else:
                    run(client, store=folder)
        deaths += 1
    assert_same(bayou.resume(folder, client=client).result, usual["poisson"])


def test_thinned_and_without_the_coefficients(client, one, tmp_path, monkeypatch, pointed):
    settings = {"thin": 3, "draws": 30, "keep_effects": False, "warmup": 20}
    want = run(client, **settings)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        dies(patch, 13)
        with pytest.raises(Death):
            run(client, store=folder, **settings)
    assert_same(bayou.resume(folder, client=one).result, want)


def test_without_warm_up(client, one, tmp_path, monkeypatch):
    want = run(client, warmup=0, draws=20)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        dies(patch, 9)
        with pytest.raises(Death):
            run(client, store=folder, warmup=0, draws=20)
    assert_same(bayou.resume(folder, client=one).result, want)


@pytest.mark.parametrize("after", [60, 240])
def test_an_interrupted_run_is_gone_on_with_in_this_process(client, usual, after, tmp_path, monkeypatch):
    """Ctrl-C in the warm-up and among the draws; without a client there is a cluster in this process."""

    class Impatient(chains.Bar):
        def update(self, done):
            if done > after:
                raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(chains, "Bar", Impatient)
        patch.setattr(chains, "BATCH_SECONDS", 1e-9)
        if after == 60:
            with pytest.raises(KeyboardInterrupt):
                run(client, store=folder)
        else:
            part = run(client, store=folder)
            assert any(line.startswith("Interrupted") for line in part.info["messages"])
            assert 0 < part.size < 40
            np.testing.assert_array_equal(part.draws["beta"], usual["poisson"].draws["beta"][:, : part.size])
    assert container.read(folder / "chain-2" / "state.bayou")[0]["scan"] > 0
    assert_same(bayou.resume(folder).result, usual["poisson"])


def test_a_worker_that_goes_after_the_run_was_resumed(client, one, usual, tmp_path, monkeypatch, pointed):
    """What is in the folder is what its replacement begins with."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        dies(patch, 20)
        with pytest.raises(Death):
            run(client, store=folder)
    monkeypatch.setattr(sweep, "CHECKPOINT_SECONDS", 3600.0)
    said, cut_lines = fleet.Talk.say, []

    def say(self, message):
        if self.rounds == 20:
            self.lines[1].close()
            cut_lines.append(1)
        return said(self, message)

    monkeypatch.setattr(fleet.Talk, "say", say)
    assert_same(bayou.resume(folder, client=client).result, usual["poisson"])
    assert len(cut_lines) == 2


# ---- a complete run, salvage, damage, refusals -------------------------------------------------


@pytest.fixture(scope="module")
def finished(client, tmp_path_factory):
    """A finished run of several files a chain."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_BYTES", 5_000)
        fit = run(client, store=folder)
    assert len(list((folder / "chain-1").glob("draws-*"))) > 3
    return folder, fit


@pytest.fixture
def stored(finished, tmp_path):
    """A copy of it, to be spoilt."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run", finished[1]


def test_a_complete_run_takes_no_cluster(stored, usual, monkeypatch):
    folder, _ = stored
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        assert_same(bayou.resume(folder).result, usual["poisson"])
        assert_same(bayou.resume(folder, MODELS["poisson"]).result, usual["poisson"])
        with pytest.raises(FileError, match="holds the run of another model"):
            bayou.resume(folder, MODELS["gaussian"])
    (folder / "chain-2" / "groups.bayou").write_bytes(b"")  # asked for again
    assert_same(bayou.resume(folder).result, usual["poisson"])
    assert container.read(folder / "chain-2" / "groups.bayou")[0]["made"] == 40


def test_salvage_takes_no_cluster(stored, monkeypatch):
    folder, fit = stored
    monkeypatch.setitem(sys.modules, "distributed", None)
    broken = sorted((folder / "chain-2").glob("draws-*"))[1]
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(FileError, match=rf"{broken.name} is damaged.*draws before it are sound.*salvage"):
        bayou.resume(folder)
    saved = bayou.salvage(folder).result
    assert 0 < saved.size < 40
    kept = np.isin(fit.draws["beta"][0, :, 0], saved.draws["beta"][0, :, 0])
    assert kept.sum() == saved.size
    for name, values in fit.draws.items():
        np.testing.assert_array_equal(saved.draws[name], values[:, kept])
    assert saved.info["messages"][0] == f"Salvaged: {saved.size} of 40 draws per chain could be read."
    assert saved.info["shards"] == SHARDS


def test_damage_to_a_state_is_said(stored):
    folder, _ = stored
    state = folder / "chain-1" / "state.bayou"
    data = bytearray(state.read_bytes())
    data[-3] ^= 4
    state.write_bytes(data)
    with pytest.raises(FileError, match=r"chain-1.state\.bayou is damaged"):
        bayou.resume(folder)


def test_other_numbers_than_those_of_the_run_are_refused(client, tmp_path, monkeypatch):
    """As workers of another kind would come to: here the last sweeps end elsewhere."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        dies(patch, 9)
        with pytest.raises(Death):
            run(client, store=folder, warmup=5, draws=12)
    path = folder / "chain-1" / "state.bayou"
    facts, arrays = container.read(path)
    container.write(path, facts, arrays | {"chain/beta": np.nextafter(arrays["chain/beta"], 9.0)})
    with pytest.raises(FileError, match=r"come to other numbers here.*bayou\.salvage\(folder\)"):
        bayou.resume(folder, client=client)


def test_the_number_of_shards_is_in_the_folder(client, one, tmp_path):
    """As it was asked for: where the groups are cut follows from it."""
    model = bayou.Model("y ~ x + (1 | g)", simulated("poisson", n=40, J=3), "poisson")
    settings = SETTINGS | {"draws": 10, "warmup": 10}
    here = model.fit(client=client, shards=50, store=tmp_path / "run", **settings).result
    assert here.info["shards"] == 3
    assert container.read(tmp_path / "run" / "run.bayou")[0]["shards"] == 50
    again = bayou.resume(tmp_path / "run", client=one).result
    assert again.info["shards"] == 3
    np.testing.assert_array_equal(again.draws["beta"], here.draws["beta"])
    model.fit(store=tmp_path / "whole", **settings)
    assert container.read(tmp_path / "whole" / "run.bayou")[0]["shards"] is None


def test_a_folder_that_is_taken_is_refused_before_rows_are_sent(stored, client, monkeypatch):
    folder, _ = stored
    monkeypatch.setattr(fleet.Fleet, "_fill", lambda self, seat, worker: pytest.fail("rows were sent"))
    with pytest.raises(FileError, match="holds a run already"):
        run(client, store=folder)
    with pytest.raises(DataError, match="store=3"):
        run(client, store=3)


# ---- rows in files, data frames of Dask ----------------------------------------------------------


def test_rows_in_files(client, one, tmp_path, monkeypatch):
    """In a folder with a name they are found again; temporary ones must be read again."""
    pd = pytest.importorskip("pandas")
    pd.DataFrame(simulated("negative_binomial")).to_parquet(tmp_path / "rows.parquet")

    def model(where):
        return bayou.Model(SLOPE, tmp_path / "rows.parquet", "negative_binomial", stream=where)

    named, temporary = model(str(tmp_path / "rows")), model(True)
    assert named.design.reduced.how == "blocks"
    settings = SETTINGS | {"draws": 20, "warmup": 20, "chains": 1, "client": client, "shards": SHARDS}
    want = named.fit(**settings).result
    with monkeypatch.context() as patch:
        patch.setattr(stream, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(chains, "_next_batch", lambda batch, seconds, most: 3)
        dies(patch, 9)
        for k, one_of in enumerate((named, temporary)):
            with pytest.raises(Death):
                one_of.fit(store=tmp_path / str(k), **settings)
    assert_same(bayou.resume(tmp_path / "0", client=one).result, want)
    with pytest.raises(FileError, match=r"were in temporary files.*bayou\.resume\(folder, model\)"):
        bayou.resume(tmp_path / "1", client=one)
    part = bayou.salvage(tmp_path / "1").result
    assert 0 < part.size < 20
    for name, values in part.draws.items():
        np.testing.assert_array_equal(values, want.draws[name][:, : part.size])
    assert_same(bayou.resume(tmp_path / "1", temporary, client=one).result, want)


# ---- a leader that is killed ---------------------------------------------------------------------

SCRIPT = """
    import sys
    import numpy as np
    import bayou
    from bayou.cluster import sweep
    from bayou.engines import stream

    stream.CHECKPOINT_SECONDS, sweep.CHECKPOINT_SECONDS = 0.1, 0.25
    if __name__ == "__main__":
        from distributed import Client, LocalCluster

        rng = np.random.default_rng(1)
        g, x = np.repeat(np.arange(60), 10), rng.normal(size=600)
        y = rng.poisson(np.exp(0.5 * x + 0.4 * rng.normal(size=60)[g]))
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
            bayou.fit(
                "y ~ x + (x | g)", {"y": y, "x": x, "g": g}, "poisson", engine="metropolis", seed=3, warmup=300,
                draws=1500, chains=2, client=client, shards=5, store=sys.argv[1],
            )
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_leader_that_is_killed_loses_nothing_that_was_written(client, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen([sys.executable, str(script), str(folder)], start_new_session=True)
    try:
        until = time.monotonic() + 300.0
        while not any(folder.glob("chain-2/draws-*")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, and itself if the test failed
    made = bayou.salvage(folder).result
    assert 0 < made.size < 1500
    whole = bayou.resume(folder, client=client).result
    np.testing.assert_array_equal(made.draws["beta"], whole.draws["beta"][:, : made.size])
    settings = {"seed": 3, "warmup": 300, "draws": 1500, "chains": 2, "shards": SHARDS}
    assert_same(whole, whole.model.fit("metropolis", client=client, **settings).result)

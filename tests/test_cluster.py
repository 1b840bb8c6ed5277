"""Chains and groups over the workers of a cluster: the same draws however many there are, and whoever dies."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

import bayou
from bayou import engines
from bayou.cluster import segments
from bayou.cluster.cutting import Cut, cuts
from bayou.cluster.segments import Checkpoint, Order, segment
from bayou.cluster.sharded import Sharded
from bayou.cluster.words import GroupShard
from bayou.errors import BayouError, DataError, ResourceError, Unsupported

distributed = pytest.importorskip("distributed")
CLINIC = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
SLOPE = "y ~ x + z + (1 + x | g)"
FAMILIES = ["poisson", "bernoulli", "negative_binomial", "gaussian"]


def simulated(n=600, J=40, seed=0, family="poisson"):
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, J, n), rng.normal(size=n)
    b = rng.normal(size=(J, 2)) * [0.6, 0.4]
    eta = 0.3 + 0.2 * x + b[g, 0] + b[g, 1] * x
    y = {
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "bernoulli": lambda: (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(int),
        "gaussian": lambda: eta + 0.7 * rng.normal(size=n),
        "negative_binomial": lambda: rng.negative_binomial(3, 3.0 / (3.0 + np.exp(eta))),
    }[family]()
    return {"y": y, "x": x, "g": g, "z": rng.normal(size=n)}


def of(family="poisson", **size):
    return bayou.Model(SLOPE, simulated(family=family, **size), family=family)


def clinic_model():
    return bayou.Model(CLINIC, bayou.datasets.load("clinic"), family="binomial")


def same(a, b):
    assert a.result.draws.keys() == b.result.draws.keys()
    for name, values in a.result.draws.items():
        np.testing.assert_array_equal(values, b.result.draws[name], err_msg=name)


@pytest.fixture(scope="module")
def client():
    """A cluster in this process."""
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=2, dashboard_address=":0") as made:
        yield made


# ---- chains over workers ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["gibbs", "metropolis", "nuts", "auto"])
def test_chains_are_those_of_one_process(client, engine):
    model = clinic_model()
    if engine == "gibbs":
        model = bayou.Model("score ~ ses + (1 + ses | school)", bayou.datasets.load("school"))
    settings = {"seed": 3, "draws": 60, "warmup": 120, "chains": 3, "thin": 2}
    here = model.fit(engine, **settings)
    there = model.fit(engine, client=client, **settings)
    same(here, there)
    for name, values in here.result.group_statistics.items():
        np.testing.assert_array_equal(values, there.result.group_statistics[name])
    for name, values in here.result.statistics.items():
        np.testing.assert_array_equal(values, there.result.statistics[name])
    assert there.result.info["workers"]
    same(here, model.fit(engine, client="local", **settings))


def test_structured_effects_over_workers(client):
    text = "cases ~ rw1(t) + (1 | g)"
    rng = np.random.default_rng(0)
    data = {"cases": rng.poisson(3.0, 60), "t": np.arange(60) % 20, "g": np.arange(60) % 6}
    model = bayou.Model(text, data, family="poisson")
    settings = {"seed": 3, "draws": 40, "warmup": 100, "chains": 2}
    same(model.fit("metropolis", **settings), model.fit("metropolis", client=client, **settings))


def test_running_moments_of_coefficients_that_are_not_kept(client):
    model = clinic_model()
    settings = {"seed": 3, "draws": 300, "warmup": 50, "chains": 2, "keep_effects": False}
    same(model.fit("metropolis", **settings), model.fit("metropolis", client=client, **settings))


def test_a_stored_run_over_workers_is_resumed_here(client, tmp_path):
    model = clinic_model()
    settings = {"seed": 3, "draws": 200, "warmup": 50, "chains": 2}
    here = model.fit("metropolis", **settings)
    same(here, model.fit("metropolis", client=client, store=tmp_path / "run", **settings))
    same(here, bayou.resume(tmp_path / "run"))


def test_a_run_begun_here_is_resumed_over_workers(client, tmp_path):
    """What a run that stopped has in its folder is where the workers begin."""
    from bayou.engines.stream import StoredRecord

    model = clinic_model()
    settings = {"seed": 3, "draws": 200, "warmup": 50, "chains": 2}
    here = model.fit("metropolis", **settings)
    wrote = StoredRecord.checkpoint

    def stops(self, chain, last=False):
        wrote(self, chain, last or self.made > 80)
        if self.made > 80:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoredRecord, "checkpoint", stops)
        with pytest.raises(KeyboardInterrupt):
            model.fit("metropolis", store=tmp_path / "run", cores=1, **settings)
    same(here, bayou.resume(tmp_path / "run", client=client))


def an_order(engine, number, place, start, seconds=60.0, secure=True):
    rng = np.random.default_rng(5).spawn(engine.chains)[number]
    return Order("run", engine, number, rng, place, start, seconds, secure, True)


def test_a_chain_goes_on_elsewhere_from_its_checkpoint():
    model, engine = clinic_model(), engines.Metropolis(draws=400, warmup=300, chains=1)
    segments.forget("run")
    whole = segment(an_order(engine, 0, (0, 0), Checkpoint()), model)
    at, parts = Checkpoint(), []
    stops = 0
    while at.made < engine.draws:
        segments.forget("run")  # the worker has died: nothing of the chain is left
        assert segment(an_order(engine, 0, at.place, None), model).missing or not at.made
        found = segment(an_order(engine, 0, at.place, at, seconds=0.002), model)
        at, stops = found.after, stops + 1
        parts += [found.draws["beta"]] if found.draws else []
    segments.forget("run")
    assert stops > 2
    np.testing.assert_array_equal(np.concatenate(parts), whole.draws["beta"])


def test_a_chain_that_is_lost_is_reported_and_the_others_returned(client, monkeypatch):
    from bayou.cluster import chains

    asked = chains._Conductor.ask
    model = clinic_model()
    settings = {"seed": 3, "draws": 50, "warmup": 50, "chains": 3}

    def dying(self, run, restart=False):
        if run.number == 1:
            self.died(run, 1, "killed by a test")
        else:
            asked(self, run, restart)

    monkeypatch.setattr(chains._Conductor, "ask", dying)
    fit = model.fit("metropolis", client=client, **settings)
    here = model.fit("metropolis", **settings)
    assert fit.result.info["chains"] == 2
    np.testing.assert_array_equal(fit.result.draws["beta"], here.result.draws["beta"][[0, 2]])
    assert any("Chain 2 of 3 is not here: its worker died 4 times" in m for m in fit.result.info["messages"])

    monkeypatch.setattr(chains._Conductor, "ask", lambda self, run, restart=False: self.died(run, 1, "killed"))
    with pytest.raises(ResourceError, match="Every chain was lost"):
        model.fit("metropolis", client=client, **settings)


def test_interruption_keeps_the_draws(client):
    model = clinic_model()
    timer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    fit = model.fit("metropolis", client=client, draws=2_000_000, warmup=50, chains=2, seed=3, keep_effects=False)
    timer.join()
    made = fit.result.size
    assert 0 < made < 2_000_000
    assert any(m.startswith("Interrupted") for m in fit.result.info["messages"])
    first = min(made, 500)
    here = model.fit("metropolis", draws=first, warmup=50, chains=2, seed=3)
    np.testing.assert_array_equal(fit.result.draws["beta"][:, :first], here.result.draws["beta"])


# ---- groups over workers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name == "poisson" else [pytest.mark.slow]) for name in FAMILIES]
)
def test_sharded_draws_do_not_depend_on_the_workers(client, family):
    model = of(family)
    settings = {"seed": 3, "draws": 30, "warmup": 110, "chains": 2, "shards": 5}
    two = model.fit("metropolis", client=client, **settings)
    assert len(two.result.info["workers"]) == 2
    assert two.result.info["shards"] == 5
    one = model.fit("metropolis", client="local", **settings)
    same(one, two)
    np.testing.assert_array_equal(*(f.result.group_statistics["acceptance_g"] for f in (one, two)))


def test_shards_without_a_client_are_those_of_this_process(client):
    model = of(n=100, J=5)
    settings = {"seed": 3, "draws": 5, "warmup": 5, "chains": 1, "shards": 3}
    same(model.fit("metropolis", **settings), model.fit("metropolis", client=client, **settings))


def test_more_shards_than_groups(client):
    model = clinic_model()
    fit = model.fit("metropolis", client=client, shards=50, draws=20, warmup=20, chains=1, seed=1)
    assert fit.result.info["shards"] == len(model.design.groupings[0].levels)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_sharded_posterior_is_that_of_one_process(client, family):
    model = of(family)
    settings = {"seed": 3, "draws": 4000, "warmup": 500, "chains": 4}
    here = model.fit("metropolis", **settings)
    there = model.fit("metropolis", client=client, shards=4, **settings)
    a, b = here.summary(), there.summary()
    assert (b["r_hat"] < 1.01).all()
    error = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
    assert (np.abs(a["mean"] - b["mean"]) < 4.0 * error).all()
    error = np.sqrt(a["sd"] ** 2 / a["ess_tail"] + b["sd"] ** 2 / b["ess_tail"])
    assert (np.abs(a["sd"] - b["sd"]) < 4.0 * error).all()
    effects = [np.concatenate(f.result.draws["b_g"]) for f in (here, there)]
    means, sds = ([f(e, axis=0) for e in effects] for f in (np.mean, np.std))
    assert (np.abs(means[0] - means[1]) < 0.15 * sds[0]).all()


def test_a_worker_of_shards_that_goes_is_replaced(client, monkeypatch):
    """Lines are cut now and then: the shards are made again, and what was said since is said again."""
    from bayou.cluster import fleet, sweep

    model = of()
    settings = {"seed": 3, "draws": 30, "warmup": 110, "chains": 2, "shards": 5}
    here = model.fit("metropolis", client=client, **settings)
    monkeypatch.setattr(sweep, "CHECKPOINT_SECONDS", 0.2)
    said, cut_lines = fleet.Talk.say, []

    def say(self, message):
        if self.rounds in (40, 200, 202):
            k = self.rounds % len(self.lines)
            self.lines[k].close()
            cut_lines.append(k)
        return said(self, message)

    monkeypatch.setattr(fleet.Talk, "say", say)
    same(here, model.fit("metropolis", client=client, **settings))
    assert len(cut_lines) == 6


def test_shards_that_lose_every_worker(client, monkeypatch):
    from bayou.cluster import fleet

    said = fleet.Talk.say

    def say(self, message):
        if self.rounds == 40:
            self.lines[0].close()
        return said(self, message)

    monkeypatch.setattr(fleet.Talk, "say", say)
    monkeypatch.setattr(fleet, "allowed_failures", lambda: 0)
    with pytest.raises(ResourceError, match="died 1 times without getting on"):
        of().fit("metropolis", client=client, shards=5, draws=30, warmup=30, chains=1, seed=1)


def test_workers_forget_a_run(client):
    of(n=100, J=5).fit("metropolis", client=client, shards=2, draws=5, warmup=5, chains=2, seed=1)
    until = time.monotonic() + 10.0
    while any(t.name in ("bayou-host", "bayou-line") for t in threading.enumerate()):
        assert time.monotonic() < until, "a worker still holds rows"
        time.sleep(0.05)


def test_cuts_balance_the_rows():
    rows = np.random.default_rng(0).integers(1, 100, 1000)
    edges = cuts(rows, 7)
    assert edges[0] == 0
    assert edges[-1] == 1000
    per = np.add.reduceat(rows, edges[:-1])
    assert len(per) == 7
    assert per.max() - per.min() < 200
    np.testing.assert_array_equal(cuts(np.ones(3, dtype=int), 10), [0, 1, 2, 3])
    assert len(cuts(np.array([1, 1, 10_000, 1]), 4)) <= 5


def a_shard(family="poisson"):
    model = of(family, n=400, J=9)
    plan = Sharded(model)
    (rows,) = Cut(model, plan.moves, 1)
    shard = GroupShard(rows.block, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    shard.groups.b[:] = 0.3 * rng.normal(size=len(shard.groups.b))
    beta = 0.2 * rng.normal(size=plan.P)
    dispersion = np.array([1.3]) if plan.dispersed else np.zeros(0)
    shard.follow([("disperse", dispersion), ("refresh", beta)])
    return model, plan, shard, beta, float(dispersion[0]) if len(dispersion) else None


def log_density(model, plan, shard, beta, dispersion, b=None):
    """Of the rows, up to a constant, by the family itself."""
    grouping = model.design.groupings[0]
    b = (shard.groups.b if b is None else b).reshape(-1, plan.p)
    eta = model.design.offset + model.working.X @ beta + (grouping.Z * b[grouping.codes]).sum(axis=1)
    return float(
        np.sum(model.family.log_density(model.design.y, eta, dispersion, model.design.trials, model.design.weights))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_words_against_the_family(family):
    model, plan, shard, beta, dispersion = a_shard(family)
    here = shard.follow([("likelihood",)])[0]
    exact = log_density(model, plan, shard, beta, dispersion)
    b = shard.groups.b.reshape(-1, 2).copy()
    # a shear, tried and taken
    tried = shard.follow([("try_linear", 1, 0, 0.4)])[0]
    sheared = b + np.stack([np.zeros(len(b)), 0.4 * b[:, 0]], axis=1)
    wanted = log_density(model, plan, shard, beta, dispersion, sheared.ravel())
    np.testing.assert_allclose(tried - here, wanted - exact, rtol=1e-9)
    shard.follow([("take_linear", 1, 0, 0.4)])
    np.testing.assert_allclose(shard.groups.b, sheared.ravel(), rtol=1e-14)
    np.testing.assert_allclose(shard.follow([("likelihood",)])[0], tried, rtol=1e-12)
    # a translation moves nothing
    d = np.array([0.3, -0.2])[: plan.E]
    shard.follow([("translate", d)])
    moved = beta + d @ plan.leader.direction
    np.testing.assert_allclose(
        log_density(model, plan, shard, moved, dispersion) - exact, wanted - exact, rtol=1e-7, atol=1e-8
    )
    # sums
    b = shard.groups.b.reshape(-1, 2)
    out = shard.follow([("group_sums",)])
    scatter = b.T @ b
    np.testing.assert_allclose(out[:3], scatter[np.tril_indices(2)], rtol=1e-12)
    np.testing.assert_allclose(out[3:].reshape(-1, 2), np.stack([u @ b for u in shard.block.u]), rtol=1e-12)
    # fixed effects: score by differences of the log density
    found = shard.follow([("refresh", moved), ("fixed_sums",)])
    for i in range(plan.P):
        step = np.zeros(plan.P)
        step[i] = 1e-5
        high, low = (log_density(model, plan, shard, moved + s, dispersion) for s in (step, -step))
        np.testing.assert_allclose(found[1 + i], (high - low) / 2e-5, rtol=1e-5, atol=1e-4)
    after = shard.follow([("fixed_sums", np.full(plan.P, 0.05))])
    there = log_density(model, plan, shard, moved + 0.05, dispersion)
    np.testing.assert_allclose(after[0] - found[0], there - log_density(model, plan, shard, moved, dispersion), rtol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_carrying_and_back_cancel(family):
    """A move to other hyperparameters and back returns every coefficient, with ratios of opposite sign."""
    model, plan, shard, beta, dispersion = a_shard(family)
    shard.groups.anchor[:] = 0.8 * shard.groups.b
    Q, Q_new = np.linalg.inv(np.array([[0.4, 0.1], [0.1, 0.3]])), np.linalg.inv(np.array([[0.5, -0.1], [-0.1, 0.2]]))
    shift, change = np.array([[0.1, 0.0], [0.25, -0.05]]), np.zeros(plan.P)
    reading = plan.leader.reading
    change = np.linalg.lstsq(reading, shift[1] - shift[0], rcond=None)[0]
    b, here = shard.groups.b.copy(), shard.follow([("likelihood",)])[0]
    out = shard.follow([("carry", Q, Q_new, shift, change, True), ("take_carried",)])
    np.testing.assert_allclose(shard.follow([("likelihood",)])[0], out[1], rtol=1e-10)
    np.testing.assert_allclose(
        out[1] - here,
        log_density(model, plan, shard, beta + change, dispersion)
        - log_density(model, plan, shard, beta, dispersion, b),
        rtol=1e-7,
        atol=1e-8,
    )
    assert np.abs(shard.groups.b - b).max() > 0.01
    back = shard.follow([("carry", Q_new, Q, shift[::-1].copy(), -change, True), ("take_carried",)])
    np.testing.assert_allclose(shard.groups.b, b, atol=1e-10)
    np.testing.assert_allclose(back[0], -out[0], rtol=1e-8)


def test_a_shard_that_is_made_again_is_the_same_to_the_bit():
    _, plan, shard, beta, _ = a_shard()
    Q, L = np.eye(2), np.eye(2)
    sweep = [("move_groups", Q, L, False, 1.0, 0.0), ("note",), ("translate", np.array([0.01, 0.02]))]
    shard.follow(sweep)
    state = shard.snapshot()
    log = [[("refresh", beta)], sweep, [*sweep, ("move_groups", Q, L, True, 0.5, 0.0)]]
    for message in log:
        shard.follow(message)
    again = GroupShard(shard.block, np.random.default_rng(99))
    again.follow([("disperse", np.zeros(0))])
    again.restore(state)
    for message in log:
        again.follow(message)
    np.testing.assert_array_equal(again.groups.b, shard.groups.b)
    np.testing.assert_array_equal(again.groups.predictor, shard.groups.predictor)
    np.testing.assert_array_equal(again.follow(sweep), shard.follow(sweep))


# ---- the marginal likelihood ---------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_laplace_is_a_sum_over_shards(client, family):
    model = of(family)
    here = model.fit("laplace", seed=1)
    there = model.fit("laplace", seed=1, client=client, shards=4)
    np.testing.assert_allclose(there.log_likelihood, here.log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-5, atol=1e-6, equal_nan=True)
    one = model.fit("laplace", seed=1, client="local", shards=4)
    np.testing.assert_array_equal(one.summary(), there.summary())


def test_laplace_with_priors_over_shards(client):
    data = simulated()
    model = bayou.Model(SLOPE, data, family="poisson", priors={"sd": bayou.priors.HalfNormal(0.5)})
    here, there = model.fit("laplace", seed=1), model.fit("laplace", seed=1, client=client, shards=3)
    np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-5, atol=1e-6, equal_nan=True)


# ---- data frames of Dask ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["metropolis", "laplace", "gibbs"])
def test_a_data_frame_of_dask(client, engine):
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    frame = pd.DataFrame(simulated(family="gaussian"))
    lazy = dd.from_pandas(frame.assign(other=1.0), npartitions=3)
    settings = {"engine": engine, "seed": 2} | ({} if engine == "laplace" else {"draws": 20, "warmup": 20, "chains": 2})
    there = bayou.fit(SLOPE, lazy, client=client, **settings)
    sharded = {} if engine == "gibbs" else {"shards": 12}
    here = bayou.fit(SLOPE, frame, client=client, **sharded, **settings)
    assert there.result.info.get("shards") == sharded.get("shards")
    np.testing.assert_array_equal(here.summary(), there.summary())
    assert bayou.fit(SLOPE, lazy, **settings).result.info.get("shards") == sharded.get("shards")
    with pytest.raises(BayouError, match="nothing"):
        bayou.fit("y ~ nothing + (1 | g)", lazy, client=client)


@pytest.mark.parametrize("family", ["poisson", "gaussian"])
def test_a_data_frame_of_dask_that_streams(client, family, tmp_path):
    """Partitions are read one after the other into files or sums; shards are cut from the files."""
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    frame = pd.DataFrame(simulated(family=family))
    lazy = dd.from_pandas(frame, npartitions=4)
    settings = {"family": family, "seed": 2, "engine": "metropolis" if family == "poisson" else "reml"}
    if family == "poisson":
        settings |= {"draws": 20, "warmup": 20, "chains": 2}
    there = bayou.fit(SLOPE, lazy, client=client, stream=str(tmp_path), **settings)
    assert "a data frame of Dask with 4 partitions: 600 rows" in str(there.model)
    if family == "poisson":
        assert there.model.design.reduced.how == "blocks" and there.result.info["shards"] == 12
        here = bayou.fit(SLOPE, frame.sort_values("g", kind="stable"), client=client, shards=12, **settings)
        for name, values in here.result.draws.items():
            np.testing.assert_allclose(there.result.draws[name], values, rtol=1e-8, atol=1e-10)
    else:
        assert there.model.design.reduced.how == "summed"
        here = bayou.fit(SLOPE, frame, **settings)
        np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-6, atol=1e-9, equal_nan=True)


def test_a_partition_that_cannot_be_computed(client):
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    def broken(part):
        raise RuntimeError("the disk of this partition is gone")

    lazy = dd.from_pandas(pd.DataFrame(simulated()), npartitions=2)
    with pytest.raises(DataError, match="Dask with 2 partitions cannot be read: RuntimeError: the disk"):
        bayou.fit(SLOPE, lazy.map_partitions(broken, meta=lazy._meta), client=client, family="poisson")


# ---- what is refused -------------------------------------------------------------------------------


def test_clients_that_cannot_be_used(client):
    model = clinic_model()
    with pytest.raises(DataError, match="client='tcp://there'"):
        model.fit("gibbs", client="tcp://there")
    with pytest.raises(DataError, match="client is a int"):
        model.fit("metropolis", client=3)
    closed = distributed.Client(client.cluster, set_as_default=False)
    closed.close()
    with pytest.raises(DataError, match="The client is closed"):
        model.fit("metropolis", client=closed)


def test_workers_of_another_version(client, monkeypatch):
    from bayou.cluster import connection

    ours = connection.versions()
    monkeypatch.setattr(connection, "versions", lambda: ours)
    monkeypatch.setattr(client, "run", lambda *a, **k: {"tcp://w1": ours | {"Numba": "0.1"}})
    with pytest.raises(Unsupported, match="tcp://w1 has Numba 0.1, and this process"):
        connection.check_workers(client)
    monkeypatch.setattr(client, "run", lambda *a, **k: {"tcp://w1": ModuleNotFoundError("No module named 'bayou'")})
    with pytest.raises(Unsupported, match="cannot load bayou"):
        connection.check_workers(client)
    monkeypatch.setattr(client, "run", lambda *a, **k: {})
    with pytest.raises(ResourceError, match="has no workers"):
        connection.check_workers(client)


def test_without_dask(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Unsupported, match=r"pip install 'bayou\[cluster\]'"):
        clinic_model().fit("metropolis", client="local")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shards": 0}, "shards=0"),
        ({"shards": 2, "engine": "gibbs"}, "engine='gibbs'"),
        ({"shards": 2, "proposal": "random_walk"}, "proposal='laplace'"),
    ],
)
def test_settings_that_cannot_be_sharded(client, settings, said):
    settings = {"engine": "metropolis"} | settings
    with pytest.raises(BayouError, match=said):
        clinic_model().fit(client=client, **settings)


def test_models_that_cannot_be_sharded(client):
    data = simulated() | {"h": np.arange(600) % 7}
    with pytest.raises(Unsupported, match="2 grouping factors"):
        bayou.fit("y ~ x + (1 | g) + (1 | h)", data, "poisson", engine="metropolis", client=client, shards=2)
    with pytest.raises(Unsupported, match="structured effects"):
        bayou.fit("y ~ rw1(h) + (1 | g)", data, "poisson", engine="metropolis", client=client, shards=2)


# ---- processes that are killed ---------------------------------------------------------------------


class Killer:
    """Kills one worker of a cluster, in turn, every few seconds."""

    def __init__(self, client, seconds, most):
        self.client, self.seconds, self.most, self.killed = client, seconds, most, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while self.killed < self.most and not self.stop.wait(self.seconds):
            found = self.client.run(os.getpid, on_error="ignore")
            if len(found) > 1:
                os.kill(found[sorted(found)[self.killed % len(found)]], signal.SIGKILL)
                self.killed += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()


@pytest.fixture(scope="module")
def processes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            distributed.Client(cluster) as made,
        ):
            yield made


@pytest.mark.slow
def test_killed_workers_change_no_chain(processes, tmp_path):
    model = clinic_model()
    settings = {"seed": 3, "draws": 100_000, "warmup": 200, "chains": 4, "keep_effects": False}
    here = model.fit("metropolis", **settings)
    for store in (None, tmp_path / "run"):
        with Killer(processes, 3.0, 2) as killer:
            same(here, model.fit("metropolis", client=processes, store=store, **settings))
        assert killer.killed
        time.sleep(3.0)


@pytest.mark.slow
def test_killed_workers_change_no_shard(processes):
    model = of(n=20_000, J=1000)
    settings = {"seed": 3, "draws": 600, "warmup": 300, "chains": 2, "shards": 6}
    here = model.fit("metropolis", client="local", **settings)
    with Killer(processes, 3.0, 2) as killer:
        same(here, model.fit("metropolis", client=processes, **settings))
    assert killer.killed

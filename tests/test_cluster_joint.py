"""INLA and REML with the groups over workers: the same Gaussians, gradients and answers as with all rows here."""

import numpy as np
import pytest

import bayou
from bayou import engines
from bayou.cluster import joint
from bayou.cluster.joint_shard import JointCut, JointRows
from bayou.cluster.nested import SharedField, SharedRows
from bayou.cluster.words import own
from bayou.conditional.field import Field
from bayou.engines.nested import importance
from bayou.engines.nested.likelihood import Likelihood
from bayou.errors import BayouError

distributed = pytest.importorskip("distributed")
FAMILIES = ["poisson", "bernoulli", "negative_binomial", "gamma"]
TERMS = {"intercept": "(1 | g)", "slope": "(1 + x | g)", "apart": "(1 + x || g)"}


def data_of(family, n=300, J=24, seed=0):
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, J, n), rng.normal(size=n)
    b = rng.normal(size=(J, 2)) * [0.6, 0.4]
    eta = 0.3 + 0.2 * x + b[g, 0] + b[g, 1] * x
    y = {
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "bernoulli": lambda: (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(int),
        "negative_binomial": lambda: rng.negative_binomial(3, 3.0 / (3.0 + np.exp(eta))),
        "gamma": lambda: rng.gamma(2.0, np.exp(eta) / 2.0),
        "gaussian": lambda: eta + 0.7 * rng.normal(size=n),
    }[family]()
    return {"y": y, "x": x, "g": g, "z": rng.normal(size=n), "w": rng.uniform(0.5, 2.0, n), "arm": g % 2}


def model_of(family, term="slope", **more):
    priors = {"beta[x]": bayou.priors.Normal(0.1, 0.7), "beta[z]": bayou.priors.Flat()}
    settings = {"family": family, "priors": priors} | more
    return bayou.Model(f"y ~ x + z + {TERMS[term]}", data_of(family), **settings)


class Together:
    """A `Talk` with shards of this process."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.shards = [pieces[k].begin(None) for k in range(len(pieces))]

    def say(self, message):
        return [shard.follow(own(message, k)) for k, shard in enumerate(self.shards)]

    def checkpoint(self):
        """Make all shards again from what they would have sent."""
        states = [shard.snapshot() for shard in self.shards]
        self.shards = [self.pieces[k].begin(None) for k in range(len(self.pieces))]
        for shard, state in zip(self.shards, states, strict=True):
            shard.restore(state)


def both(model, shards=3):
    pieces = JointCut(model, shards)
    return Field(model), SharedField(model, Together(pieces), pieces.edges.edges)


def places(field):
    rng = np.random.default_rng(4)
    return [field.initial, *(field.initial + 0.5 * rng.normal(size=(2, field.size)))]


# ---- the Gaussian --------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gaussian_is_that_of_all_rows_here(family, term):
    here, there = both(model_of(family, term))
    r = np.random.default_rng(1).normal(size=(2, here.count))
    for theta in places(here):
        assert here.place(theta) and there.place(theta)
        assert there.value() == pytest.approx(here.value(), abs=1e-8)
        np.testing.assert_allclose(there.slopes(), here.slopes(), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(there.x, here.x, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(there.variances(), here.variances(), rtol=1e-9)
        np.testing.assert_allclose(there.fixed_covariance(), here.fixed_covariance(), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(there.solve(r), here.solve(r), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(there.solve(r[0]), here.solve(r[0]), rtol=1e-8, atol=1e-10)


def test_the_gradient_is_that_of_the_value():
    _, there = both(model_of("negative_binomial"))
    theta = there.initial + 0.1
    there.place(theta)
    slopes, h = there.slopes().copy(), 1e-4
    for k, step in enumerate(h * np.eye(there.size)):
        ends = []
        for side in (1.0, -1.0):
            assert there.place(theta + side * step)
            ends.append(there.value())
        assert slopes[k] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_corrected_mean_is_that_of_all_rows_here(family):
    model = model_of(family)
    here, there = both(model)
    theta = here.initial
    here.place(theta)
    there.place(theta)
    one, two = Likelihood(model).corrected(here, theta), SharedRows(there).corrected(there, theta)
    assert one[2] and two[2]
    assert np.abs(one[0]).max() > 1e-3
    for a, b in zip(one[:2], two[:2], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)
    # the force is what moves the mean
    np.testing.assert_allclose(there.solve(two[1]), two[0], atol=1e-4 * np.abs(two[0]).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_by_quadrature_add_up(family):
    model = model_of(family)
    here, there = both(model)
    theta = here.initial
    here.place(theta)
    there.place(theta)
    Z = np.random.default_rng(5).standard_normal((4, here.fixed))
    found = []
    for field, rows in ((here, Likelihood(model)), (there, SharedRows(there))):
        groups = rows.groups()
        groups.measure(field, theta)
        assert groups.left_out != 0.0
        found.append((groups.left_out, *groups.log_weights(field, theta, field.x[field.columns["beta"]], Z)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-8)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-8)
    np.testing.assert_allclose(found[0][2], found[1][2], atol=1e-7)


@pytest.mark.parametrize("shards", [1, 2, 50])
def test_any_number_of_shards(shards):
    here, there = both(model_of("poisson"), shards)
    theta = here.initial
    here.place(theta)
    there.place(theta)
    assert there.value() == pytest.approx(here.value(), abs=1e-8)
    np.testing.assert_allclose(there.slopes(), here.slopes(), rtol=1e-7, atol=1e-7)


def test_rows_with_weights_and_offsets_and_no_fixed_effects():
    data = data_of("poisson")
    for text in ("y ~ 0 + offset(w) + (1 + x | g)", "y ~ x + offset(z) + (1 | g)"):
        here, there = both(bayou.Model(text, data, family="poisson", weights="w"))
        theta = here.initial
        assert here.place(theta) and there.place(theta)
        assert there.value() == pytest.approx(here.value(), abs=1e-8)
        np.testing.assert_allclose(there.slopes(), here.slopes(), rtol=1e-7, atol=1e-7)


def test_where_there_is_no_mode():
    _, there = both(model_of("poisson"))
    assert not there.place(np.full(there.size, np.nan))
    assert there.evaluate(np.full(there.size, np.nan))[0] == np.inf
    assert there.place(there.initial + 40.0) or there.evaluate(there.initial + 40.0)[0] == np.inf
    # and a search after one that failed begins anew
    assert there.place(there.initial)
    assert there.value() == pytest.approx(both(model_of("poisson"))[0].evaluate(there.initial)[0] * -1.0
                                          - there.log_prior(there.initial), abs=1e-6)


def test_shards_that_are_made_again_are_the_same_to_the_bit(monkeypatch):
    found = []
    for seconds in (1e9, 0.0):
        monkeypatch.setattr(joint, "CHECKPOINT_SECONDS", seconds)
        _, there = both(model_of("bernoulli"))
        for theta in places(there):
            there.place(theta)
            values = there.value(), *there.slopes(), *there.x
            groups = SharedRows(there).groups()
            values += groups.measure(there, theta), *groups.evaluated(there.x[None, there.columns["beta"]], np.eye(2),
                                                                      there.dispersion)
        found.append(values)
    assert found[0] == found[1]


# ---- the engines ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    """A cluster in this process."""
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=2, dashboard_address=":0") as made:
        yield made


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "gaussian"])
@pytest.mark.parametrize("priors", [False, True])
def test_reml_over_shards(client, family, priors):
    given = {"priors": {"sd": bayou.priors.HalfNormal(0.5), "beta": bayou.priors.Normal(0, 1)}} if priors else {}
    model = bayou.Model("y ~ x + z + (1 + x | g)", data_of(family), family=family, **given)
    engine = engines.Laplace(reml=True)
    here, there = model.fit(engine, seed=1), model.fit(engine, seed=1, client=client, shards=4)
    # with priors the likelihood is not level where the posterior is highest
    np.testing.assert_allclose(there.log_likelihood, here.log_likelihood, rtol=1e-8 if priors else 1e-10)
    np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-4, atol=1e-5, equal_nan=True)
    one = model.fit(engine, seed=1, client="local", shards=4)
    np.testing.assert_array_equal(one.summary(), there.summary())


def test_reml_over_shards_at_a_border(client):
    """A variance of zero ends at zero, as it does with the rows here."""
    rng = np.random.default_rng(1)
    data = {"y": rng.poisson(2.0, 200), "x": rng.normal(size=200), "g": np.arange(200) % 20}
    model = bayou.Model("y ~ x + (1 + x | g)", data, family="poisson")
    engine = engines.Laplace(reml=True)
    here, there = model.fit(engine, seed=1), model.fit(engine, seed=1, client=client, shards=4)
    np.testing.assert_allclose(there.log_likelihood, here.log_likelihood, rtol=1e-10)
    assert there.summary().loc["sd_g[x]", "mean"] == pytest.approx(here.summary().loc["sd_g[x]", "mean"], abs=1e-5)


@pytest.mark.parametrize("family", ["poisson", "bernoulli"])
def test_inla_over_shards(client, family, monkeypatch):
    """With the same hyperparameters drawn for its check it gives the same answer as with the rows here."""
    model = model_of(family, "intercept")
    monkeypatch.setattr(importance, "EASY", 10)  # the rows here by groups too
    engine = engines.INLA(go_on=False)
    here, there = model.fit(engine, seed=1), model.fit(engine, seed=1, client=client, shards=4)
    a, b = here.summary(), there.summary()
    assert (np.abs(a["mean"] - b["mean"]) < 2e-3 * a["sd"]).all()
    assert (np.abs(a["sd"] / b["sd"] - 1.0) < 2e-3).all()
    assert there.log_marginal == pytest.approx(here.log_marginal, abs=1e-3)
    facts = [fit.result.approximation.check for fit in (here, there)]
    assert facts[0]["shift"] == pytest.approx(facts[1]["shift"], abs=2e-3)
    effects = [fit.random_effects("g") for fit in (here, there)]
    np.testing.assert_allclose(effects[1]["mean"], effects[0]["mean"], atol=2e-3)
    assert there.result.info["shards"] == 4 and len(there.result.info["workers"]) == 2
    one = model.fit(engine, seed=1, client="local", shards=4)
    np.testing.assert_array_equal(one.summary(), b)
    # joint draws and criteria of prediction come from the rows here
    np.testing.assert_allclose(there.result.approximation.dic, here.result.approximation.dic, atol=0.05)
    draws = there.result.draws["beta"]
    assert draws.shape == here.result.draws["beta"].shape
    assert np.abs(draws.mean(axis=(0, 1)) - b["mean"][: draws.shape[-1]]).max() < 0.1


def test_inla_over_shards_goes_on_by_chain(client, monkeypatch):
    from bayou.cluster import nested
    from bayou.engines.nested import check

    monkeypatch.setattr(check, "LEAST_SIZE", 1e9)
    monkeypatch.setattr(nested, "WARMUP", 40)
    model = model_of("poisson", "intercept")
    fit = model.fit("inla", seed=1, draws=60, client=client, shards=3)
    assert fit.result.approximation.check["continued"]
    assert "in 3 shards" in fit.result.info["method"] or fit.result.info["shards"] == 3
    assert fit.result.draws["beta"].shape[:2] == (4, 60)


def test_a_worker_that_goes_is_replaced(client, monkeypatch):
    """Lines are cut now and then; the answer is the same to the bit."""
    from bayou.cluster import fleet

    model = model_of("poisson", "intercept")
    settings = {"seed": 1, "shards": 4, "correct": False}
    here = model.fit("inla", client=client, **settings).summary()
    monkeypatch.setattr(joint, "CHECKPOINT_SECONDS", 0.1)
    said, lost = fleet.Talk.say, []

    def say(self, message):
        if self.rounds % 97 == 40 and len(lost) < 5:
            k = len(lost) % len(self.lines)
            self.lines[k].close()
            lost.append(k)
        return said(self, message)

    monkeypatch.setattr(fleet.Talk, "say", say)
    np.testing.assert_array_equal(model.fit("inla", client=client, **settings).summary(), here)
    assert len(lost) == 5


@pytest.mark.parametrize("stream", [False, True])
def test_inla_on_a_data_frame_of_dask(client, stream, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    frame = pd.DataFrame(data_of("gamma"))[["y", "x", "g"]]
    lazy = dd.from_pandas(frame, npartitions=3)
    settings = {"family": "gamma", "engine": "inla", "correct": False, "seed": 2, "client": client}
    more = {"stream": str(tmp_path)} if stream else {}
    there = bayou.fit("y ~ x + (1 | g)", lazy, **settings, **more)
    here = bayou.fit("y ~ x + (1 | g)", frame.sort_values("g", kind="stable"), shards=12, **settings)
    assert there.result.info["shards"] == 12
    np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-6, atol=1e-8)
    # joint draws from the rows here, or in files
    spread = here.summary().loc[["beta[Intercept]", "beta[x]"], "sd"].to_numpy()
    means = [fit.result.draws["beta"].mean(axis=(0, 1)) for fit in (there, here)]
    assert (np.abs(means[0] - means[1]) < 1e-3 * spread).all()


@pytest.mark.parametrize(
    ("formula", "family", "settings", "said"),
    [
        ("y ~ x + (1 | g)", "gaussian", {}, "rows of a Gaussian response are summed"),
        ("y ~ x + (1 + x + z | g)", "poisson", {}, "one or two coefficients a group"),
        ("y ~ x + (1 | g)", "poisson", {"strategy": "simplified_laplace"}, "strategy='simplified_laplace'"),
    ],
)
def test_what_cannot_be_sharded(client, formula, family, settings, said):
    with pytest.raises(BayouError, match=said):
        bayou.fit(formula, data_of(family), family, engine="inla", client=client, shards=3, **settings)


def test_rows_are_sent_without_those_of_others():
    model = model_of("poisson")
    pieces = JointCut(model, 3)
    assert all(isinstance(pieces[k], JointRows) for k in range(len(pieces)))
    assert sum(pieces[k].model.design.n for k in range(len(pieces))) == model.design.n


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_rows_in_files_are_maximised_in_shards(family, reml, tmp_path):
    """Without them files have no restricted likelihood; the leader visits the rows chunk by chunk."""
    pl = pytest.importorskip("polars")
    pl.DataFrame(data_of(family)).write_parquet(tmp_path / "rows.parquet")
    engine = engines.Laplace(reml=reml)
    settings = {"family": family, "engine": engine, "seed": 1}
    text = "y ~ x + z + (1 + x | g)"
    there = bayou.fit(
        text, tmp_path / "rows.parquet", stream=str(tmp_path / "kept"), client="local", shards=4, **settings
    )
    assert there.model.design.reduced.how == "blocks"
    here = bayou.fit(text, data_of(family), **settings)
    np.testing.assert_allclose(there.log_likelihood, here.log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(there.summary(), here.summary(), rtol=1e-4, atol=1e-5, equal_nan=True)

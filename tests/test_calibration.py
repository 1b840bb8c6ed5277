"""Calibration: bands and power that are exact, faults that are found, runs that stop and go on."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import bayou
from bayou.diagnose.calibration import bands, running
from bayou.diagnose.calibration.quantities import effective_draws, picked, quantities_of
from bayou.diagnose.calibration.truths import drawn_from_prior, joined, new_response, with_response
from bayou.engines import Gibbs, Metropolis
from bayou.errors import DataError, FileError, PriorError, ResourceError, Unsupported
from bayou.posterior import Posterior, container
from bayou.priors import LKJ, FlatSD, HalfNormal, Normal
from calibration_engines import Exact, linear_model
from oracle import Point, log_likelihood

# ---- bands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "draws"), [(4, 4), (3, 9), (5, 3)])
def test_p_of_every_set_of_ranks(N, draws):
    """All sets of ranks of a small study, one by one: the share whose least tail is at most this one's is its p."""
    every = np.array(list(itertools.product(range(draws + 1), repeat=N)))
    tails = bands.least_tail(every, draws)
    for tail in np.unique(tails):
        share = (tails <= tail * (1.0 + 1e-9)).mean()
        np.testing.assert_allclose(bands.tail_probability(float(tail), N, draws), share, atol=1e-12)


@pytest.mark.parametrize("level", [0.3, 0.05])
def test_the_band_of_a_level_is_the_narrowest(level):
    N, draws = 4, 4
    every = np.array(list(itertools.product(range(draws + 1), repeat=N)))
    tails = bands.least_tail(every, draws)
    tail = bands.critical(N, draws, level)
    assert (tails < tail).mean() <= level
    low, high = bands.limits(N, draws, tail)
    counts = (every[:, :, None] < bands.points(draws)).sum(axis=1)
    inside = ((counts >= low) & (counts <= high)).all(axis=1)
    np.testing.assert_array_equal(inside, tails >= tail)
    wider = np.unique(tails[tails >= tail])[0]
    assert (tails <= wider).mean() > level  # the next narrower one leaves out too many


@pytest.mark.parametrize(("bias", "ratio"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.3), (-0.2, 0.8)])
def test_power_is_the_share_of_studies_that_see_it(bias, ratio):
    """3,000 studies of 60 ranks, drawn as they arise: z from the posterior, draws from the wrong one."""
    N, draws, level, studies = 60, 39, 0.05, 3000
    rng = np.random.default_rng(2)
    z = rng.standard_normal((studies, N))
    ranks = rng.binomial(draws, stats.norm.cdf((z - bias) / ratio))
    share = (bands.least_tail(ranks, draws) < bands.critical(N, draws, level)).mean()
    power = bands.power(N, draws, level, bias, ratio)
    assert abs(share - power) < 4.0 * np.sqrt(power * (1.0 - power) / studies)


def test_power_of_a_thousand_simulations():
    """What the plan of the library says that a study can see."""
    assert 0.70 < bands.power(1000, 199, 0.05, bias=0.1) < 0.80
    assert 0.40 < bands.power(1000, 199, 0.05, ratio=1.1) < 0.80
    assert bands.power(100, 199, 0.05, bias=0.1) < 0.2
    assert 0.045 < bands.power(1000, 199, 0.05) <= 0.05


# ---- simulations --------------------------------------------------------------------------------


def table(groups=8, rows=5):
    rng = np.random.default_rng(5)
    n = groups * rows
    return {
        "y": rng.normal(size=n), "k": np.arange(n) % 5, "x": np.round(rng.normal(size=n), 2),
        "u": np.round(rng.normal(size=n), 2), "g": np.repeat(np.arange(groups), rows), "h": np.tile(np.arange(rows), groups),
        "t": np.arange(n) % 6, "w": rng.uniform(0.5, 2.0, n),
    }  # fmt: skip


PRIORS = {"beta": Normal(0.2, 0.7), "sd": HalfNormal(0.7)}
GAUSSIAN = {**PRIORS, "cor": LKJ(2.0), "sigma": HalfNormal(1.0)}


def slopes():
    return bayou.Model("y ~ x + offset(u) + (x | g)", table(), priors=GAUSSIAN, weights="w")


def test_true_values_are_of_the_priors():
    """2,000 draws: sds of a half normal, coefficients that have the covariance that was drawn with them."""
    model = slopes()
    rng = np.random.default_rng(1)
    drawn = [drawn_from_prior(model, rng) for _ in range(2000)]
    assert {key: values.shape for key, values in drawn[0].items()} == {
        "beta": (1, 1, 2), "sd_g": (1, 1, 2), "cor_g": (1, 1, 2, 2), "b_g": (1, 1, 8, 2), "sigma": (1, 1),
    }  # fmt: skip
    sd = np.array([one["sd_g"][0, 0] for one in drawn])
    assert stats.kstest(sd[:, 1] / 0.7, stats.halfnorm.cdf).pvalue > 0.001
    z = []
    for one in drawn:
        root = np.linalg.cholesky(one["cor_g"][0, 0] * np.outer(one["sd_g"][0, 0], one["sd_g"][0, 0]))
        z.append(np.linalg.solve(root, one["b_g"][0, 0].T))
    z = np.concatenate(z, axis=1)
    assert stats.kstest(z[0], stats.norm.cdf).pvalue > 0.001
    np.testing.assert_allclose(z @ z.T / z.shape[1], np.eye(2), atol=4.0 * np.sqrt(2.0 / z.shape[1]))


def test_responses_are_of_the_model():
    """Residuals over sigma / √w are standard normal: offset, weights and every coefficient are in."""
    model = slopes()
    rng = np.random.default_rng(2)
    truth = drawn_from_prior(model, rng)
    y = np.array([new_response(model, truth, rng) for _ in range(500)])
    design = model.design
    eta = (
        design.X @ truth["beta"][0, 0]
        + design.offset
        + (design.groupings[0].Z * truth["b_g"][0, 0][design.groupings[0].codes]).sum(axis=1)
    )
    z = (y - eta) / truth["sigma"][0, 0] * np.sqrt(design.weights)
    assert stats.kstest(z.ravel(), stats.norm.cdf).pvalue > 0.001


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_quantities_are_those_of_the_draws(family):
    text = ("y" if family == "gaussian" else "k") + " ~ x + (1 | g)"
    model = bayou.Model(
        text, table(), family, {**PRIORS, **({"sigma": HalfNormal(1.0)} if family == "gaussian" else {})}
    )
    rng = np.random.default_rng(3)
    draws = [drawn_from_prior(model, rng) for _ in range(5)]
    posterior = Posterior(
        model=model, engine="", draws={key: np.concatenate([one[key] for one in draws], axis=1) for key in draws[0]}
    )
    found = quantities_of(posterior)
    for d, one in enumerate(draws):
        sigma = one["sigma"][0] if family == "gaussian" else np.ones(1)
        point = Point(one["beta"][0, 0], [one["b_g"][0, 0]], [one["sd_g"][0, 0][:, None] ** 2], sigma)
        np.testing.assert_allclose(found["log likelihood"][d], log_likelihood(model, point), rtol=1e-12)
        np.testing.assert_allclose(found["spread of b_g[Intercept]"][d], np.sqrt((one["b_g"] ** 2).mean()))
        np.testing.assert_allclose(found["b_g in sds"][d], np.sqrt(((one["b_g"] / one["sd_g"]) ** 2).mean()))
        np.testing.assert_allclose(found["log prior of beta"][d], stats.norm.logpdf(one["beta"], 0.2, 0.7).sum())
        assert found["b_g[7,Intercept]"][d] == one["b_g"][0, 0, 7, 0]
        assert found["beta[x]"][d] == one["beta"][0, 0, 1]


@pytest.mark.parametrize(
    ("text", "family", "more"),
    [
        ("y ~ x + offset(u) + (x | g) + (1 | h)", "gaussian", {"weights": "w"}),
        ("k ~ x + (1 | g)", "poisson", {}),
        ("k ~ x + rw1(t)", "poisson", {}),
    ],
)
def test_joined_is_the_model_of_the_rows_twice(text, family, more):
    """The same draws, to the last bit, as from a table that has each row twice, with the priors passed on."""
    data = table()
    model = bayou.Model(text, data, family, {"beta": Normal(0.0, 1.0)}, **more)
    rng = np.random.default_rng(1)
    fresh = rng.poisson(2.0, model.design.n).astype(float)
    base = joined(model)
    mine = with_response(base, np.concatenate([model.design.y, fresh]))
    twice = {key: np.concatenate([values, values]) for key, values in data.items()}
    twice["y" if family == "gaussian" else "k"] = np.concatenate([model.design.y, fresh])
    other = bayou.Model(text, twice, family, model.priors, **more)
    engine = (Gibbs if family == "gaussian" else Metropolis)(draws=20, warmup=30, chains=1, progress=False)
    one, two = (engine.run(m, np.random.default_rng(7)) for m in (mine, other))
    for key, values in one.draws.items():
        np.testing.assert_allclose(values, two.draws[key], rtol=1e-9, atol=1e-9, err_msg=key)
    assert base.design.y[model.design.n] == model.design.y[0]  # with_response wrote on a copy


# ---- engines right and wrong --------------------------------------------------------------------


def test_the_exact_posterior_passes():
    found = bayou.calibrate(linear_model(), Exact(), simulations=300, seed=3)
    assert found.ok and found.draws == 199 and found.ranks.shape == (300, 4)
    assert list(found.table.index) == ["beta[Intercept]", "beta[x]", "log prior of beta", "log likelihood"]
    assert (found.table["bias"].abs() < 4.0 * found.table["bias_se"]).all()
    assert found.sentences[0].startswith("ok: the ranks of all 4 quantities may be uniform")


@pytest.mark.parametrize(("bias", "ratio"), [(0.6, 1.0), (-0.6, 1.0), (0.0, 1.8), (0.0, 0.5)])
def test_wrong_posteriors_are_found_and_described(bias, ratio):
    found = bayou.calibrate(linear_model(), Exact(bias=bias, ratio=ratio), simulations=100, seed=3)
    assert not found.ok
    row = found.table.loc["beta[x]"]
    assert row["outside"] and abs(row["bias"] - bias) < 4.0 * row["bias_se"] * max(ratio, 1.0)
    assert abs(row["sd_ratio"] - ratio) < 4.0 * row["sd_ratio_se"]
    assert found.power(bias=bias, sd_ratio=ratio) > 0.8
    assert "NOT OK" in str(found)
    said = str(found).split("beta[x] (")[1].split(")")[0]
    assert ("too high" in said) is (bias > 0) and ("too low" in said) is (bias < 0)
    assert ("times what it should be" in said) is (ratio != 1.0)


def test_draws_from_the_prior_show_in_the_log_likelihood_alone():
    found = bayou.calibrate(linear_model(), Exact(of_prior=True), simulations=100, seed=3)
    assert not found.ok and list(found.table.index[found.table["p"] < 0.001]) == ["log likelihood"]


def test_a_forgotten_prior_shows_in_its_log_density_alone():
    """The intervals of a flat prior are right on average over data: only their distance from the prior is not."""
    model = linear_model(3, beta=Normal(0.3, 0.4))
    found = bayou.calibrate(model, Exact(no_prior=True), simulations=100, seed=3)
    assert list(found.table.index[found.table["p"] < 0.001]) == ["log prior of beta"]


def test_given_the_data():
    model = linear_model()
    assert bayou.calibrate(model, Exact(), simulations=200, seed=1, posterior=True).ok
    wrong = bayou.calibrate(model, Exact(ratio=1.8), simulations=100, seed=1, posterior=True)
    assert not wrong.ok and "from the posterior given the data" in str(wrong)


def test_given_the_data_the_truth_is_a_draw_of_the_posterior():
    """Improper priors will do; the true values have the mean and sd of the posterior."""
    model = linear_model(beta=Normal(0.0, precision=np.zeros((2, 2))))
    with pytest.raises(PriorError, match="improper.*posterior=True"):
        bayou.calibrate(model, Exact(), simulations=5)
    found = bayou.calibrate(model, Exact(), simulations=400, seed=1, posterior=True)
    W = model.design.X.T / model.design.standard_errors**2
    mean, sd = (
        np.linalg.solve(W @ model.design.X, W @ model.design.y),
        np.sqrt(np.diag(np.linalg.inv(W @ model.design.X))),
    )
    truth = np.array([one.ranks.truth[:2] for one in found.outcomes])
    assert found.ok and (np.abs(truth.mean(axis=0) - mean) < 4.0 * sd / 20.0).all()
    np.testing.assert_allclose(truth.std(axis=0), sd, rtol=0.15)


@pytest.mark.parametrize("posterior", [False, True])
def test_samplers_as_they_run(posterior):
    found = bayou.calibrate(slopes(), "gibbs", simulations=40, seed=2, cores=1, posterior=posterior)
    assert found.ok and not found.failures and len(found.ranks) == 40
    assert "draws=500, warmup=500, chains=2" in str(found) and "cores" not in str(found)


def test_approximations_by_their_joint_draws():
    model = bayou.Model("k ~ x + (1 | g)", table(), "poisson", PRIORS)
    found = bayou.calibrate(model, "inla", simulations=20, seed=2, cores=1)
    assert (
        found.ok
        and len(found.ranks) == 20
        and {one.effective for one in found.outcomes if not one.continued} == {2000.0}
    )


def test_chains_run_longer_until_their_draws_are_nearly_independent():
    """A random walk of 120 draws is thinned more until 60 of them are effective."""
    model = bayou.Model("k ~ x + (1 | g)", table(), "poisson", PRIORS)
    engine = Metropolis(draws=120, warmup=100, chains=1, proposal="random_walk")
    short = effective_draws(engine.run(model, np.random.default_rng(1)))
    found = bayou.calibrate(model, engine, simulations=10, seed=1, cores=1)
    assert found.draws == 60 and short < 40 < 60 <= np.median([one.effective for one in found.outcomes])


def test_draws_are_picked_evenly():
    model = linear_model()
    beta = np.arange(600.0).reshape(2, 150, 2)
    some = picked(Posterior(model=model, engine="", draws={"beta": beta}), 50)
    np.testing.assert_array_equal(some.draws["beta"][0, :, 0], 6.0 + 12.0 * np.arange(50))
    with pytest.raises(DataError, match="300 draws where 301"):
        picked(Posterior(model=model, engine="", draws={"beta": beta}), 301)


# ---- failures -----------------------------------------------------------------------------------


def test_failures_are_counted_and_named():
    found = bayou.calibrate(linear_model(), Exact(fails_above=2.0), simulations=200, seed=3)
    failed = sum(one.failure is not None for one in found.outcomes)
    assert 0 < failed < 20 and found.ok and len(found.ranks) == 200 - failed
    ((text, count),) = found.failures.items()  # the numbers in them differ
    assert count == failed and text.startswith("ArithmeticError: the mean of y is") and "\n" not in text
    assert f"In {failed} of 200 simulations the engine failed: {text}." in found.sentences
    often = bayou.calibrate(linear_model(), Exact(fails_above=0.3), simulations=100, seed=3)
    assert not often.ok and often.sentences[0].startswith("NOT OK: the engine failed in")


def test_an_engine_that_takes_no_such_model_says_so():
    with pytest.raises(Unsupported, match="no models today"):
        bayou.calibrate(linear_model(), Exact(refuses=True), simulations=20)


def test_parameters_that_give_no_response_are_counted_apart():
    model = bayou.Model("k ~ x + (1 | g)", table(), "poisson", {"beta": Normal(0, 400), "sd": HalfNormal(1)})
    found = bayou.calibrate(model, "metropolis", simulations=12, seed=1, cores=1, draws=50, warmup=50)
    undrawn = [one for one in found.outcomes if not one.drawn]
    assert undrawn and all("not finite" in one.failure for one in undrawn)
    assert any("could be drawn from the priors" in sentence for sentence in found.sentences)
    assert "Narrower priors would draw parameters that give responses." in found.sentences


def test_an_engine_that_chooses_is_left_to_choose():
    """Settings of chains would be part of the choice: "auto" gets none of them."""
    engine = bayou.calibrate(slopes(), "auto", simulations=2, seed=1, cores=1).study.engine
    assert engine == type(engine)(cores=1, progress=False)


@pytest.mark.parametrize("engine", ["ml", "reml", "laplace", "quadrature", "pql"])
def test_likelihood_engines_are_refused(engine):
    with pytest.raises(Unsupported, match="estimates, not draws.*'gibbs'"):
        bayou.calibrate(slopes(), engine)


@pytest.mark.parametrize(
    ("text", "priors", "said"),
    [
        ("y ~ x + (1 | g)", {"sd": FlatSD()}, r"sd_g\[Intercept\] ~ FlatSD\(\).*HalfT\(3, 1\)"),
        ("y ~ x + rw2(t)", {}, r"rw2\(t\), whose prior leaves one direction flat.*posterior=True"),
    ],
)
def test_improper_priors_are_refused(text, priors, said):
    with pytest.raises(PriorError, match=said):
        bayou.calibrate(bayou.Model(text, table(), priors=priors), "gibbs")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"simulations": 0}, "simulations=0"),
        ({"simulations": True}, "simulations=True"),
        ({"seed": -1}, "seed=-1"),
        ({"cores": 0}, "cores=0"),
        ({"posterior": 3}, "posterior=3"),
        ({"draws": 18}, "must be 19 at least"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(DataError, match=said):
        bayou.calibrate(linear_model(), "gibbs", **settings)


def test_what_cannot_be_simulated():
    with pytest.raises(DataError, match="takes a Model, not str"):
        bayou.calibrate("y ~ x")
    weighted = bayou.Model("k ~ x + (1 | g)", table(), "poisson", PRIORS, weights="w")
    with pytest.raises(Unsupported, match="prior weights of a poisson response"):
        bayou.calibrate(weighted)


# ---- processes and folders ----------------------------------------------------------------------


def test_the_same_for_any_number_of_cores(monkeypatch):
    monkeypatch.setattr(running, "WORTH", 0.0)
    one, two = (bayou.calibrate(linear_model(), Exact(), simulations=12, seed=5, cores=cores) for cores in (1, 2))
    np.testing.assert_array_equal(one.ranks, two.ranks)
    more = bayou.calibrate(linear_model(), Exact(), simulations=20, seed=5, cores=1)
    np.testing.assert_array_equal(more.ranks[:12], one.ranks)
    other = bayou.calibrate(linear_model(), Exact(), simulations=12, seed=6, cores=1)
    assert (other.ranks != one.ranks).any()


def test_processes_that_die_or_do_not_know_the_engine(monkeypatch):
    monkeypatch.setattr(running, "WORTH", 0.0)

    class Local(Exact):
        pass

    Local.__module__, Local.__qualname__ = "__main__", "Local"
    monkeypatch.setattr(sys.modules["__main__"], "Local", Local, raising=False)
    assert len(bayou.calibrate(linear_model(), Local(), simulations=4, seed=1).ranks) == 4
    with pytest.raises(ResourceError, match="cannot take this model or engine.*cores=1"):
        bayou.calibrate(linear_model(), Local(), simulations=4, seed=1, cores=2)
    monkeypatch.setattr(
        running,
        "_made",
        lambda study, left, cores, before: running.in_processes(running._packed(study, cores), left, 1),
    )
    with pytest.raises(ResourceError, match="ended with status 3"):
        bayou.calibrate(linear_model(), Exact(dies=True), simulations=4, seed=1, cores=2)


@pytest.mark.parametrize("posterior", [False, True])
def test_an_interrupted_study_goes_on(posterior, monkeypatch, tmp_path):
    whole = bayou.calibrate(linear_model(), Exact(), simulations=30, seed=5, posterior=posterior)
    own, calls = Exact.run, []

    def run(self, model, rng):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return own(self, model, rng)

    monkeypatch.setattr(Exact, "run", run)
    part = bayou.calibrate(linear_model(), Exact(), simulations=30, seed=5, posterior=posterior, store=tmp_path / "a")
    made = 14 - posterior  # the first fit of all is that of the data
    assert part.interrupted and len(part.ranks) == made
    assert f"Interrupted: {made} of 30 simulations were made and are kept." in part.sentences
    calls[:] = [0] * 100
    rest = bayou.calibrate(linear_model(), Exact(), simulations=30, posterior=posterior, store=tmp_path / "a")
    np.testing.assert_array_equal(rest.ranks, whole.ranks)
    assert len(calls) == 100 + 30 - made and rest.study.entropy == 5
    for one, two in zip(rest.outcomes, whole.outcomes, strict=True):
        np.testing.assert_array_equal(one.ranks.sd, two.ranks.sd)


def test_damaged_simulations_are_made_again(tmp_path):
    folder = tmp_path / "a"
    first = bayou.calibrate(linear_model(), Exact(fails_above=0.5), simulations=12, seed=5, store=folder)
    files = sorted(folder.glob("simulation-*.bayou"))
    assert len(files) == 12
    files[3].write_bytes(files[3].read_bytes()[:-5])
    again = bayou.calibrate(linear_model(), Exact(fails_above=0.5), simulations=12, seed=5, store=folder)
    np.testing.assert_array_equal(first.ranks, again.ranks)
    assert again.failures == first.failures and first.failures
    assert container.read(files[3])[0]["number"] == 3


def test_folders_of_something_else_are_refused(tmp_path):
    folder = tmp_path / "a"
    bayou.calibrate(linear_model(), Exact(), simulations=3, seed=5, store=folder)
    for model, engine, settings, said in (
        (linear_model(beta=Normal(0.0, 2.0)), Exact(), {}, "another prior for beta"),
        (linear_model(), Exact(bias=1.0), {}, "engine Exact"),
        (linear_model(), Exact(), {"seed": 6}, "entropy 5 there, 6 here"),
        (linear_model(), Exact(), {"posterior": True}, "posterior False there"),
    ):
        with pytest.raises(FileError, match=said):
            bayou.calibrate(model, engine, simulations=3, store=folder, **settings)
    bayou.calibrate(linear_model(), Exact(), simulations=3, seed=5, store=tmp_path / "b", posterior=True)
    with pytest.raises(FileError, match="at most simulations=3"):
        bayou.calibrate(linear_model(), Exact(), simulations=4, store=tmp_path / "b", posterior=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("x")
    with pytest.raises(FileError, match="holds mine.txt already"):
        bayou.calibrate(linear_model(), Exact(), store=tmp_path / "c")
    with pytest.raises(FileError, match="its parent must be there"):
        bayou.calibrate(linear_model(), Exact(), store=tmp_path / "none" / "d")


# ---- words and pictures -------------------------------------------------------------------------


def test_the_print_out_says_what_such_a_study_can_see():
    found = bayou.calibrate(linear_model(), Exact(), simulations=50, seed=1)
    level = 0.05 / 4
    power = [
        100.0 * bands.power(50, 199, a, **fault) for a in (0.05, level) for fault in ({"bias": 0.1}, {"ratio": 1.1})
    ]
    text = next(sentence for sentence in found.sentences if sentence.startswith("Power:"))
    for number in power:
        assert f" {number:.0f} %" in text
    bias = float(text.split("a bias of ")[1].split(" ")[0])
    assert abs(bands.power(50, 199, level, bias=bias) - 0.8) < 0.03
    assert "50 simulations with parameters from the priors, ranked among 199 draws" in str(found)


def test_too_few_simulations_say_nothing():
    found = bayou.calibrate(linear_model(), Exact(), simulations=3, seed=1)
    assert not found.ok and found.sentences == ("3 simulations ended well, which says nothing: ask for 100 or more.",)
    with pytest.raises(Unsupported, match="nothing to draw yet"):
        found.plot()


def test_the_picture(tmp_path):
    found = bayou.calibrate(linear_model(), Exact(bias=0.8), simulations=60, seed=1)
    picture = found.plot(save=tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    ax = picture.axes[1]
    assert ax.get_title(loc="left") == "beta[x]"
    x, y = ax.lines[1].get_data()
    ranks = found.ranks[:, 1]
    np.testing.assert_allclose(y, [(ranks < np.rint(200 * at)).mean() - at for at in x], atol=1e-12)
    low, high = bands.limits(60, 199, bands.critical(60, 199, 0.05))
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [(low / 60 - x[1:-1]).min(), (high / 60 - x[1:-1]).max()])
    assert len(found.plot("beta").axes) == 2
    with pytest.raises(DataError, match="no quantity is called 'gamma'"):
        found.plot("gamma")
    assert "The first 1 of 4 quantities" in found.plot(limit=1).get_supxlabel()


def test_nothing_heavy_is_imported_with_the_name():
    code = "import bayou, sys; bayou.calibrate; print([m for m in ('matplotlib', 'xarray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

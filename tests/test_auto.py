"""engine="auto": one table, the first engine that passes its own check, and nothing lost on the way."""

import inspect
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import bayou
import bayou.engines.nested.check
import bayou.verdict.chains
from bayou.engines import INLA, Auto, Gibbs, Metropolis, choice
from bayou.errors import ResourceError, Unsupported
from bayou.model import Model
from bayou.priors import HalfNormal, Normal

PRIORS = {"beta": Normal(0, 2), "sd": HalfNormal(1)}


def table():
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(8), 6)
    x, u, v, w = rng.normal(size=(4, 48))
    eta = 0.3 + 0.4 * x + 0.5 * rng.normal(size=8)[g]
    return {
        "x": x, "u": u, "v": v, "g": [f"g{k}" for k in g], "h": [f"h{k}" for k in rng.permutation(48) % 5],
        "y": eta + 0.5 * rng.normal(size=48), "k": rng.poisson(np.exp(eta)), "p": np.exp(0.3 * eta + 0.1 * w),
    }  # fmt: skip


DATA = table()
COUNTS = "k ~ x + (1 | g)"


@pytest.fixture(scope="module")
def gaussian():
    return Model("y ~ x + (1 | g)", DATA, priors=PRIORS)


@pytest.fixture(scope="module")
def counts():
    return Model(COUNTS, DATA, "poisson", PRIORS)


def tried(fit):
    return [(one["engine"].split("(")[0], one["passed"]) for one in fit.result.info["auto"]["attempts"]]


# ---- the table -------------------------------------------------------------------------------


def test_the_documentation_prints_the_table():
    assert choice.markdown() in inspect.getdoc(Auto)


def test_the_conditions_in_words_name_their_numbers():
    assert any(f"more than {choice.MOST_BY_INLA} hyper" in row.when for row in choice.TABLE)
    assert any(f"over {choice.MOST_CROSSED} crossed" in row.when for row in choice.TABLE)


def test_the_last_row_takes_every_model(gaussian, counts):
    for model in (gaussian, counts):
        assert choice.TABLE[-1].applies(model, False) and choice.TABLE[-1].applies(model, True)


@pytest.mark.parametrize(
    ("formula", "family", "settings", "engines"),
    [
        ("y ~ x + (1 | g)", "gaussian", {}, ("gibbs", "metropolis", "nuts")),
        ("y ~ x + (1 | g) + (1 | h)", "gaussian", {}, ("gibbs", "metropolis", "nuts")),
        ("y ~ x + rw1(x)", "gaussian", {}, ("inla", "gibbs", "metropolis", "nuts")),
        ("y ~ x + rw1(x)", "gaussian", {"draws": 10}, ("gibbs", "metropolis", "nuts")),
        ("y ~ rw1(x) + (x + u | g) + (u | h)", "gaussian", {}, ("gibbs", "metropolis", "nuts")),  # 11
        ("p ~ x + (1 | g)", bayou.families.Gaussian(link="log"), {}, ("inla", "metropolis", "nuts")),
        (COUNTS, "poisson", {}, ("inla", "metropolis", "nuts")),
        (COUNTS, "poisson", {"cores": 1, "progress": False}, ("inla", "metropolis", "nuts")),
        (COUNTS, "poisson", {"draws": 10}, ("metropolis", "nuts")),
        (COUNTS, "poisson", {"warmup": 10}, ("metropolis", "nuts")),
        (COUNTS, "poisson", {"chains": 2}, ("metropolis", "nuts")),
        (COUNTS, "poisson", {"thin": 2}, ("metropolis", "nuts")),
        (COUNTS, "poisson", {"keep_effects": True}, ("metropolis", "nuts")),
        (COUNTS, "poisson", {"store": "run"}, ("metropolis", "nuts")),
        ("k ~ x + (x + u | g) + (1 | h)", "negative_binomial", {}, ("inla", "metropolis", "nuts")),  # 8
        ("k ~ x + (x + u | g) + (1 + u || h)", "negative_binomial", {}, ("metropolis", "nuts")),  # 9
        ("k ~ x + (x + u + v | g)", "poisson", {}, ("metropolis", "nuts")),  # 10
        ("k ~ ar1(x) + (x + u | g)", "poisson", {}, ("inla", "metropolis", "nuts")),  # 8
    ],
)
def test_rows_of_the_table(formula, family, settings, engines):
    auto = bayou.engines.get("auto", **settings)
    assert auto.choice(Model(formula, DATA, family)).engines == engines


def test_crossed_factors_with_many_levels_go_to_inla(monkeypatch):
    model = Model("y ~ x + (1 | g) + (1 | h)", DATA)
    monkeypatch.setattr(choice, "MOST_CROSSED", 4)  # h has five levels, g eight
    assert Auto().choice(model).engines[0] == "inla" and Auto(draws=10).choice(model).engines[0] == "gibbs"
    fit = model.fit(seed=1)
    assert tried(fit)[0] == ("INLA", True)


def test_auto_is_frozen_settings():
    auto = bayou.engines.get("auto", draws=500)
    assert auto.draws == 500 and auto.describe() == "Auto(draws=500)"
    with pytest.raises(FrozenInstanceError):
        auto.draws = 3


# ---- the engine that is chosen ---------------------------------------------------------------


def test_the_draws_are_those_of_the_engine_itself(gaussian, counts):
    one, other = gaussian.fit(seed=3), gaussian.fit("gibbs", seed=3)
    assert one.result.info["engine"] == "gibbs"
    np.testing.assert_array_equal(one.result.draws["beta"], other.result.draws["beta"])
    one, other = counts.fit(seed=3), counts.fit("inla", seed=3)
    assert one.result.info["engine"] == "inla" and one.result.approximation is not None
    assert one.result.engine == other.result.engine == "INLA()"
    np.testing.assert_array_equal(one.summary().to_numpy(), other.summary().to_numpy())
    np.testing.assert_array_equal(one.result.draws["beta"], other.result.draws["beta"])
    one, other = counts.fit(seed=3, draws=50), counts.fit("metropolis", seed=3, draws=50)
    np.testing.assert_array_equal(one.result.draws["beta"], other.result.draws["beta"])


def test_the_print_out_says_what_was_chosen_and_why(counts):
    fit = counts.fit(seed=1)
    auto = fit.result.info["auto"]
    assert auto["engine"] == "inla" and auto["where"] == choice.TABLE[-1].when
    assert tried(fit) == [("INLA", True)] and 0.0 < auto["attempts"][0]["seconds"] <= fit.seconds
    assert re.search(r"Chosen +by auto \(any other model\): INLA is faster", str(fit))
    assert "Chosen" in fit._repr_html_()
    assert "Chosen" not in str(counts.fit("inla", seed=1))


def test_the_choice_is_kept_in_the_file(counts, tmp_path):
    fit = counts.fit(seed=1)
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    assert again.result.info["auto"] == fit.result.info["auto"] and str(again) == str(fit)


def test_where_the_check_of_inla_fails_the_next_engine_goes_on(counts, monkeypatch):
    monkeypatch.setattr(bayou.engines.nested.check, "LARGEST_K", -np.inf)
    fit = counts.fit(seed=1)
    assert tried(fit) == [("INLA", False), ("Metropolis", True)]
    assert fit.verdict.ok and fit.result.info["engine"] == "metropolis" and fit.result.approximation is None
    notes = " ".join(fit.verdict.notes)
    assert re.search(r"engine='auto' tried INLA\(\) \(.* s\): The approximation fails its own check", notes)
    assert re.search(r"tried in turn: INLA\(\) .* s, not ok; Metropolis\(\) .* s, taken", str(fit))
    seconds = [one["seconds"] for one in fit.result.info["auto"]["attempts"]]
    assert min(seconds) > 0.0 and sum(seconds) <= fit.seconds
    # and the same draws as that engine by itself
    np.testing.assert_array_equal(fit.result.draws["beta"], counts.fit("metropolis", seed=1).result.draws["beta"])


def test_structured_effects_go_on_inside_of_inla(monkeypatch):
    monkeypatch.setattr(bayou.engines.nested.check, "LARGEST_K", -np.inf)
    data = {**DATA, "t": np.arange(48) % 6}
    fit = bayou.fit("k ~ rw1(t)", data, "poisson", seed=1)
    assert tried(fit)[0] == ("INLA", fit.verdict.ok) and fit.result.chained
    assert "The answer is that of a Markov chain instead" in str(fit)


def test_inla_alone_can_stop_at_its_check(counts, monkeypatch):
    plain = counts.fit(INLA(correct=False), seed=1)
    monkeypatch.setattr(bayou.engines.nested.check, "LARGEST_K", -np.inf)
    fit = counts.fit(INLA(go_on=False), seed=1)
    assert not fit.verdict.ok and "fails its own check" in fit.verdict.line and not fit.result.chained
    assert "The self-check failed: the weights have a heavy tail" in str(fit)
    # the answer is the one without the weights, which cannot be trusted
    columns = ["mean", "sd"]
    np.testing.assert_array_equal(fit.summary()[columns], plain.summary()[columns])
    assert np.isfinite(fit.result.draws["beta"]).all()
    with pytest.raises(Unsupported, match="go_on='no' is not known: INLA takes go_on=True or go_on=False"):
        INLA(go_on="no")


def test_a_chain_that_mixes_and_is_too_short_is_run_longer(counts, monkeypatch):
    size = Metropolis().draws
    short = counts.fit("metropolis", seed=1)
    least = short.summary()[["ess_bulk", "ess_tail"]].min().min()
    bar = 2.0 * least
    monkeypatch.setattr(bayou.verdict.chains, "ESS_BAR", bar)
    monkeypatch.setattr(bayou.engines.auto, "ESS_BAR", bar)
    monkeypatch.setattr(choice, "MOST_BY_INLA", -1)
    fit = counts.fit(seed=1)
    assert tried(fit) == [("Metropolis", False), ("Metropolis", True)] and fit.verdict.ok
    assert fit.result.size == int(np.ceil(1.3 * bar / least * size)) and fit.result.info["warmup"] == 2000
    assert "Too few effective draws" in " ".join(fit.verdict.notes)


def test_where_none_passes_the_best_is_returned_and_says_so(counts, monkeypatch):
    monkeypatch.setattr(bayou.verdict.chains, "ESS_BAR", 1e9)
    monkeypatch.setattr(choice, "TABLE", (choice.Choice("a test", lambda *_: True, ("metropolis", "inla"), "why"),))
    monkeypatch.setattr(bayou.engines.nested.check, "LARGEST_K", -np.inf)
    fit = counts.fit(seed=1)
    assert tried(fit) == [("Metropolis", False), ("INLA", False)] and fit.result.info["engine"] == "metropolis"
    assert not fit.verdict.ok and "Too few effective draws" in fit.verdict.line
    assert "No engine passed its own check" in str(fit) and "tried INLA()" in str(fit)


def test_named_settings_of_chains_are_obeyed_whatever_the_verdict(counts):
    fit = counts.fit(seed=1, draws=20, warmup=30, chains=2)
    assert tried(fit) == [("Metropolis", True)] and not fit.verdict.ok
    assert fit.result.draws["beta"].shape[:2] == (2, 20)


def test_heavy_tails_are_no_reason_to_go_on(gaussian, monkeypatch):
    monkeypatch.setattr(bayou.verdict.chains, "HEAVY", -9.0)
    fit = gaussian.fit(seed=1)
    assert not fit.verdict.ok and "tails" in fit.verdict.line
    assert tried(fit) == [("Gibbs", True)]


def test_an_interrupted_run_is_not_followed_by_another(counts, monkeypatch):
    run = Metropolis.run

    def interrupted(self, model, rng):
        from dataclasses import replace

        result = run(replace(self, draws=10), model, rng)
        result.info["messages"].append("Interrupted: 10 of 2000 draws per chain were made and are kept.")
        return result

    monkeypatch.setattr(Metropolis, "run", interrupted)
    monkeypatch.setattr(choice, "MOST_BY_INLA", -1)
    fit = counts.fit(seed=1)
    assert tried(fit) == [("Metropolis", True)] and not fit.verdict.ok


def test_what_every_engine_would_meet_gets_out(counts, monkeypatch):
    def full(self, model, rng):
        raise ResourceError("The draws need 9 TB.")

    monkeypatch.setattr(Metropolis, "run", full)
    with pytest.raises(ResourceError, match="9 TB"):
        counts.fit(seed=1, draws=10)


def test_a_breakdown_of_one_engine_is_told_and_the_next_takes_over(gaussian, monkeypatch):
    def broken(self, model, rng):
        raise np.linalg.LinAlgError("Matrix is singular")

    monkeypatch.setattr(Gibbs, "run", broken)
    fit = gaussian.fit(seed=1)
    assert tried(fit)[:2] == [("Gibbs", False), ("Metropolis", fit.verdict.ok)]
    assert "tried Gibbs() (" in str(fit) and "Matrix is singular" in str(fit)


def test_if_all_refuse_each_is_quoted(counts, monkeypatch):
    def refuses(self, model, rng):
        raise Unsupported(f"{self.name} takes no counts today.")

    for engine in (INLA, Metropolis):
        monkeypatch.setattr(engine, "run", refuses)
    monkeypatch.setattr(choice, "TABLE", (choice.Choice("a test", lambda *_: True, ("inla", "metropolis"), "why"),))
    with pytest.raises(Unsupported, match=r"No engine takes this model\. inla: .* metropolis: metropolis takes no"):
        counts.fit(seed=1)


def test_gibbs_falls_to_metropolis_where_it_is_unsupported(monkeypatch):
    def refuses(self, model):
        raise Unsupported("Gibbs takes up to 3 columns today.")

    monkeypatch.setattr(Gibbs, "check", refuses)
    fit = bayou.fit("y ~ x + (1 | g) + (1 | h)", DATA, seed=1)
    assert tried(fit)[0] == ("Gibbs", False) and tried(fit)[1][0] == "Metropolis"
    assert "takes up to 3" in " ".join(fit.verdict.notes)


# ---- what stands on auto goes on working with densities ---------------------------------------


def test_fits_by_auto_are_compared_and_pooled(counts):
    one = bayou.fit("k ~ 1 + (1 | g)", DATA, "poisson", PRIORS, seed=1)
    table = bayou.compare(counts.fit(seed=1), one, names=["x", "none"])
    assert set(table.index) == {"x", "none"} and np.isfinite(table["elpd"]).all() and "log_marginal" in table
    three = bayou.pooling(counts, seed=1)
    assert {f.result.info["engine"] for f in (three.none, three.partial, three.complete)} == {"inla"}
    assert np.isfinite(three.table().to_numpy()).all()


def test_no_hyperparameters_at_all():
    fit = bayou.fit("k ~ x", DATA, "poisson", seed=1)
    assert fit.result.info["engine"] == "inla" and fit.verdict.ok

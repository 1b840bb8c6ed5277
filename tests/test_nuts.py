"""The engine NUTS: seeds, threads, what is kept, interruption, what stands beside the draws, and the two ways into nutpie."""

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import bayou
from agreement import errors
from bayou import engines
from bayou.engines import NUTS, chains
from bayou.engines.hamiltonian import adapter, tape
from bayou.engines.hamiltonian import chain as hamiltonian
from bayou.errors import DataError, ResourceError, Unsupported
from bayou.joint import JointDensity
from bayou.model import Model
from bayou.verdict.hamiltonian import cut_trees, divergences, energy_fraction, low_energy
from gaussian_models import PRIORS, table

SHORT = NUTS(draws=300, warmup=200, chains=3, progress=False)
STATISTICS = {
    "lp",
    "energy",
    "diverging",
    "tree_depth",
    "reached_max_treedepth",
    "n_steps",
    "acceptance_rate",
    "step_size",
}


@pytest.fixture(scope="module")
def model():
    return Model("y ~ x + (x | g) + (1 | h)", table(), priors=PRIORS)


@pytest.fixture(scope="module")
def usual(model):
    return model.fit(SHORT, seed=1).result


def assert_equal(one, other):
    assert set(one) == set(other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


# ---- draws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_same_seed_same_draws_for_any_number_of_threads(model, usual, cores):
    result = model.fit(SHORT, seed=1, cores=cores).result
    assert_equal(usual.draws, result.draws)
    assert_equal(usual.statistics, result.statistics)


def test_other_seeds_and_other_chains_have_other_draws(model, usual):
    other = model.fit(SHORT, seed=2).result.draws
    assert all((usual.draws[k] != other[k]).any() for k in other)
    assert (usual.draws["beta"][0] != usual.draws["beta"][1]).all()


def test_what_is_drawn_is_named_as_by_other_engines(model, usual):
    other = model.fit("gibbs", seed=1, draws=5, warmup=5, chains=2).result
    assert set(usual.draws) == set(other.draws)
    assert all(usual.draws[k].shape[2:] == other.draws[k].shape[2:] for k in other.draws)
    assert usual.rows == other.rows
    assert usual.info["engine"] == "nuts"


def test_thin_keeps_every_third_draw(model, usual):
    thinned = model.fit(SHORT, seed=1, draws=100, thin=3).result
    for name, values in usual.draws.items():
        np.testing.assert_allclose(values[:, 2::3], thinned.draws[name], rtol=1e-12, err_msg=name)
    assert_equal({k: v[:, 2::3] for k, v in usual.statistics.items()}, thinned.statistics)


def test_more_draws_continue_the_same_chain(model, usual):
    short = model.fit(SHORT, seed=1, draws=50).result.draws
    for name, values in short.items():
        np.testing.assert_allclose(usual.draws[name][:, :50], values, rtol=1e-12, err_msg=name)


def test_a_small_ring_and_small_blocks_change_nothing(model, usual, monkeypatch):
    """The sampler waits where nobody takes its draws; how they are taken does not show."""
    monkeypatch.setattr(tape, "RING_BYTES", 1)
    monkeypatch.setattr(hamiltonian, "BLOCK_DRAWS", 3)
    result = model.fit(SHORT, seed=1).result
    for name, values in usual.draws.items():
        np.testing.assert_allclose(values, result.draws[name], rtol=1e-12, err_msg=name)


def test_running_moments_are_those_of_all_draws(model):
    kept = model.fit(SHORT, seed=1, draws=450, keep_effects=True).result
    run = model.fit(SHORT, seed=1, draws=450, keep_effects=False).result
    index = run.info["effect_draws"]
    assert 200 <= len(index) <= 450
    for g, J, p in (("g", 6, 2), ("h", 4, 1)):
        b = kept.draws[f"b_{g}"]
        assert b.shape == (3, 450, J, p)
        np.testing.assert_array_equal(run.draws[f"b_{g}"], b[:, index])
        np.testing.assert_allclose(run.moments[f"mean_b_{g}"], b.mean(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(run.moments[f"sd_within_b_{g}"], b.std(axis=1, ddof=1), rtol=1e-9)


def test_it_draws_from_the_posterior(model):
    """Held to the collapsed Gibbs sampler: means within 4 standard errors of both."""
    ours = model.fit(NUTS(draws=2000, warmup=500, progress=False, target_accept=0.95), seed=3).result
    theirs = model.fit("gibbs", seed=4, draws=4000, warmup=500, progress=False).result
    for name, place in ours.rows.items():
        x, y = np.asarray(ours.values(place)), np.asarray(theirs.values(place))
        _, error, _ = errors(x)
        _, other, _ = errors(y)
        assert abs(x.mean() - y.mean()) < 4 * np.hypot(error, other), name


def test_a_model_without_groups_and_one_without_a_warmup():
    plain = Model("y ~ x", table(), priors={"beta": PRIORS["beta"]})
    assert plain.fit(SHORT, seed=1).result.draws["beta"].shape == (3, 300, 2)
    for mass in ("low_rank", "diagonal"):
        for warmup in (0, 1, 21, 30, 50, 101):
            result = plain.fit(SHORT, seed=1, warmup=warmup, draws=7, mass_matrix=mass).result
            assert result.draws["beta"].shape == (3, 7, 2)


# ---- beside the draws -------------------------------------------------------------------------


def test_statistics_have_the_names_of_arviz(usual):
    assert set(usual.statistics) == STATISTICS
    assert all(v.shape == (3, 300) and np.isfinite(v).all() for v in usual.statistics.values())
    assert set(usual.tree["sample_stats"].data_vars) == STATISTICS
    some = usual.statistics
    assert (some["n_steps"] >= 1).all() and (some["n_steps"] < 2 ** (some["tree_depth"] + 1)).all()
    assert ((some["acceptance_rate"] > 0) & (some["acceptance_rate"] <= 1)).all()
    assert np.ptp(some["energy"]) > 0


def test_the_log_density_beside_a_draw_is_the_joint_density_there(model, usual):
    density = bayou.joint.joint_density(model, "auto")
    drawn = {k: v[1, :5] for k, v in usual.draws.items()}
    found = [density.evaluate(q)[0] for q in density.position(drawn)]
    np.testing.assert_allclose(found, usual.statistics["lp"][1, :5], rtol=1e-9)


def test_the_largest_tree(model):
    result = model.fit(SHORT, seed=1, max_depth=1).result
    assert result.statistics["tree_depth"].max() <= 1
    assert result.statistics["reached_max_treedepth"].mean() > 0.5
    assert any("ended at the largest tree (depth 1)" in line for line in cut_trees(result))
    assert not cut_trees(model.fit(SHORT, seed=1).result)


def test_smaller_steps_on_request(model, usual):
    result = model.fit(SHORT, seed=1, target_accept=0.99).result
    assert result.statistics["step_size"].mean() < 0.7 * usual.statistics["step_size"].mean()


@pytest.mark.parametrize("settings", [{"mass_matrix": "low_rank"}, {"coordinates": "centered"}, {"coordinates": "whitened"}])  # fmt: skip
def test_settings_reach_the_sampler(model, usual, settings):
    result = model.fit(SHORT, seed=1, **settings).result
    assert (result.draws["beta"] != usual.draws["beta"]).any()
    assert all(np.isfinite(v).all() for v in result.draws.values())


def test_energy_fraction_is_that_of_its_definition():
    rng = np.random.default_rng(1)
    independent = rng.normal(size=(2, 4000))
    slow = np.cumsum(rng.normal(size=(1, 4000)), axis=1)
    np.testing.assert_allclose(energy_fraction(independent), 2.0, atol=0.2)  # var of a difference over the variance
    assert energy_fraction(slow)[0] < 0.05
    assert np.isnan(energy_fraction(np.zeros((1, 3)))).all()


def test_the_verdict_speaks_of_divergences_and_energy(usual):
    from copy import copy

    result = copy(usual)
    result.statistics = dict(usual.statistics)
    assert not low_energy(result)
    result.statistics["energy"] = np.cumsum(np.random.default_rng(1).normal(size=(3, 300)), axis=1)
    (said,) = low_energy(result)
    assert "E-BFMI" in said and "coordinates='laplace'" in said and "gibbs" in said
    small = usual.draws["sd_g"][..., 0] < np.quantile(usual.draws["sd_g"][..., 0], 0.02)
    result.statistics["diverging"] = small.astype(float)
    (said,) = divergences(result)
    assert said.startswith(f"{small.sum()} draws diverged, mostly where sd_g[Intercept]")
    assert "target_accept=0.95" in said and "coordinates=" in said and "metropolis" in said
    result.statistics["diverging"] = np.zeros((3, 300))
    assert not divergences(result)


# ---- interruption -----------------------------------------------------------------------------


class Impatient(chains.Bar):
    """Ctrl-C, as soon as some draws are there."""

    enough = 0

    def update(self, done):
        if done > self.enough:
            raise KeyboardInterrupt


@pytest.mark.parametrize("keep", [True, False])
def test_interruption_returns_what_is_drawn(model, monkeypatch, keep):
    monkeypatch.setattr(chains, "Bar", Impatient)
    monkeypatch.setattr(Impatient, "enough", 2 * 100 + 1000)
    engine = NUTS(draws=100_000, warmup=100, chains=2, cores=2, keep_effects=keep)
    result = model.fit(engine, seed=1).result
    size = result.draws["beta"].shape[1]
    assert 1 <= size < engine.draws
    assert any(line.startswith(f"Interrupted: {size} of") for line in result.info["messages"])
    whole = {k: v for k, v in result.draws.items() if keep or not k.startswith("b_")}
    assert all(v.shape[:2] == (2, size) and np.isfinite(v).all() for v in whole.values())
    assert all(v.shape == (2, size) for v in result.statistics.values())
    assert (result.statistics["n_steps"] > 0).all()
    if not keep:
        assert result.draws["b_g"].shape[1] == len(result.info["effect_draws"])
        assert all(i < size for i in result.info["effect_draws"])
    monkeypatch.undo()
    full = model.fit(NUTS(draws=size, warmup=100, chains=2, progress=False), seed=1).result
    np.testing.assert_allclose(full.draws["beta"], result.draws["beta"], rtol=1e-12)


def test_interruption_in_the_warmup_is_an_interruption(model, monkeypatch):
    monkeypatch.setattr(chains, "Bar", Impatient)
    monkeypatch.setattr(Impatient, "enough", -1)
    with pytest.raises(KeyboardInterrupt, match="before the first kept draw"):
        model.fit(NUTS(draws=10, warmup=10_000_000, chains=1), seed=1)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_process(name):
    """The signal itself: the process has what was drawn, within seconds; neither arviz nor nutpie's package is loaded."""
    script = """
        import threading, time, os, signal, sys
        import numpy as np, bayou
        rng = np.random.default_rng(1)
        data = {"y": rng.normal(size=40), "g": np.repeat(np.arange(8), 5)}
        settings = dict(engine="nuts", seed=1, chains=2)
        bayou.fit("y ~ 1 + (1 | g)", data, draws=5, warmup=5, **settings)
        def strike():
            time.sleep(1.5)
            global struck
            struck = time.perf_counter()
            os.kill(os.getpid(), signal.NAME)
        threading.Thread(target=strike, daemon=True).start()
        fit = bayou.fit("y ~ 1 + (1 | g)", data, draws=3_000_000, warmup=100, keep_effects=False, **settings)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert "arviz" not in sys.modules
        said = [line for line in fit.result.info["messages"] if line.startswith("Interrupted: ")]
        print(fit.result.draws["beta"].shape[1], time.perf_counter() - struck, len(said))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script.replace("NAME", name))],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size, seconds, said = done.stdout.split()
    assert 100 < int(size) < 3_000_000
    assert float(seconds) < 2.0
    assert said == "1"


def test_progress_counts_draws(model, monkeypatch):
    shown = []

    class Seen(chains.Bar):
        def update(self, done):
            shown.append(done)

    monkeypatch.setattr(chains, "Bar", Seen)
    model.fit(SHORT, seed=1, draws=3000, cores=1)
    assert shown == sorted(shown)
    assert 0 < shown[-1] <= 3 * 3200


def test_an_error_while_draws_are_named_ends_the_run(model, monkeypatch):
    whole, calls = JointDensity.natural, []

    def fail(self, Q):
        calls.append(len(Q))
        if len(calls) > 3:
            raise ArithmeticError("of this block")
        return whole(self, Q)

    monkeypatch.setattr(JointDensity, "natural", fail)
    monkeypatch.setattr(hamiltonian, "BLOCK_DRAWS", 10)
    with pytest.raises(ArithmeticError, match="of this block"):
        model.fit(SHORT, seed=1, draws=100_000, keep_effects=False)


# ---- the two ways into nutpie -----------------------------------------------------------------


def test_without_its_private_signatures_nutpie_is_called_from_python_to_the_same_draws(model, monkeypatch):
    usual = model.fit(SHORT, seed=1, draws=50, warmup=60, chains=2).result
    monkeypatch.setattr(adapter, "SIGNATURES", {"LogpFunc": "(something, else)"})
    adapter.takes_pointers.cache_clear()
    try:
        assert not adapter.takes_pointers()
        other = model.fit(SHORT, seed=1, draws=50, warmup=60, chains=2, cores=2).result
    finally:
        adapter.takes_pointers.cache_clear()
    assert_equal(usual.draws, other.draws)
    assert_equal(usual.statistics, other.statistics)


def test_interruption_of_python_calls(model, monkeypatch):
    monkeypatch.setattr(adapter, "takes_pointers", lambda: False)
    monkeypatch.setattr(chains, "Bar", Impatient)
    monkeypatch.setattr(Impatient, "enough", 150)
    result = model.fit(NUTS(draws=100_000, warmup=50, chains=1), seed=1).result
    assert 1 <= result.size < 100_000


def test_the_pointers_are_those_of_this_nutpie():
    assert adapter.takes_pointers()


def test_a_missing_nutpie_is_told_in_words(model, monkeypatch):
    monkeypatch.delitem(sys.modules, adapter.MODULE, raising=False)
    monkeypatch.setitem(sys.modules, "nutpie", None)
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    adapter.library.cache_clear()
    try:
        with pytest.raises(Unsupported, match=r"needs the package nutpie.*engine='metropolis'"):
            model.fit(SHORT, seed=1)
    finally:
        adapter.library.cache_clear()


def test_nutpie_itself_can_be_imported_afterwards(model):
    script = """
        import sys, warnings, bayou
        fit = bayou.fit("y ~ 1", {"y": [1.0, 2.0, 4.0]}, engine="nuts", seed=1, draws=20, warmup=50, chains=1)
        part = sys.modules["nutpie._lib"]
        warnings.simplefilter("ignore")
        import nutpie
        assert nutpie._lib is part
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr


# ---- refusals ---------------------------------------------------------------------------------


def test_a_store_is_refused_before_any_work(model, tmp_path):
    with pytest.raises(Unsupported, match=r"no store=.*fit.save.*metropolis"):
        model.fit("nuts", seed=1, store=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_would_not_fit_is_refused(model):
    with pytest.raises(ResourceError, match=r"chains of .* would take [\d,.]+ GB of memory"):
        model.fit(SHORT, draws=10**13)


def test_no_start_is_told_in_words(model, monkeypatch):
    monkeypatch.setattr(JointDensity, "start", lambda self, rng: np.full(self.size, 1e200))
    with pytest.raises(Unsupported, match="not finite at any of"):
        model.fit(SHORT, seed=1)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"coordinates": "cosy"}, Unsupported),
        ({"mass_matrix": "full"}, Unsupported),
        ({"target_accept": 1.0}, DataError),
        ({"target_accept": "high"}, DataError),
        ({"max_depth": 0}, DataError),
        ({"max_depth": 3.5}, DataError),
        ({"draws": 0}, DataError),
    ],
)
def test_settings_are_checked(settings, kind):
    with pytest.raises(kind, match=next(iter(settings))):
        NUTS(**settings)


def test_the_engine_by_name():
    assert engines.get("nuts") == NUTS()
    assert engines.get("nuts", max_depth=8).describe() == "NUTS(max_depth=8)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engines.NUTS is NUTS

"""Running chains: seeds, threads, batches, thinning, what is kept, interruption, and what is said."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import bayou
from bayou import engines
from bayou.engines import Auto, Gibbs, Metropolis, chains, resources
from bayou.errors import DataError, ResourceError, Unsupported
from bayou.model import Model
from bayou.priors import Flat, FlatSD
from gaussian_models import PRIORS, table

SHORT = {"draws": 60, "warmup": 250, "chains": 3, "progress": False}
SAMPLERS = {
    "collapsed": Gibbs(**SHORT),
    "blocked": Gibbs(parameterization="blocked", **SHORT),
    "centered": Gibbs(parameterization="centered", **SHORT),
    "laplace": Metropolis(**SHORT),
    "walk": Metropolis(proposal="random_walk", scale="adapted", **SHORT),
}
FROZEN = ["blocked", "centered", "laplace", "walk"]


@pytest.fixture(scope="module")
def model():
    return Model("y ~ x + (x | g) + (1 | h)", table(), priors=PRIORS)


def draws_of(model, engine, seed=1, **settings):
    return bayou.fit(model, engine=engine, seed=seed, **settings).result.draws


def assert_equal(one, other):
    assert set(one) == set(other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_draws_for_any_number_of_threads(model, name):
    one = draws_of(model, SAMPLERS[name], cores=1)
    for cores in (1, 2, 8):
        assert_equal(one, draws_of(model, SAMPLERS[name], cores=cores))
    other = draws_of(model, SAMPLERS[name], seed=2)
    assert all((one[k] != other[k]).any() for k in one)
    # chains differ from each other
    assert (one["beta"][0] != one["beta"][1]).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_length_of_a_batch_does_not_matter(model, name, monkeypatch):
    usual = draws_of(model, SAMPLERS[name])
    for seconds in (1e-9, 1e3):
        monkeypatch.setattr(chains, "BATCH_SECONDS", seconds)
        assert_equal(usual, draws_of(model, SAMPLERS[name]))
    monkeypatch.setattr(chains, "BATCH_BYTES", 1)
    assert_equal(usual, draws_of(model, SAMPLERS[name]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_statistics_of_draws_do_not_depend_on_the_batches(model, name, monkeypatch):
    """What stands beside the draws is as repeatable as the draws."""
    usual = bayou.fit(model, engine=SAMPLERS[name], seed=1).result
    monkeypatch.setattr(chains, "BATCH_SECONDS", 1e-9)
    other = bayou.fit(model, engine=SAMPLERS[name], seed=1).result
    assert_equal(usual.statistics, other.statistics)
    assert_equal(usual.group_statistics, other.group_statistics)


@pytest.mark.parametrize("name", FROZEN)
def test_thin_keeps_every_third_scan(model, name):
    every = draws_of(model, SAMPLERS[name], draws=60)
    thinned = draws_of(model, SAMPLERS[name], draws=20, thin=3)
    assert_equal({k: v[:, 2::3] for k, v in every.items()}, thinned)


@pytest.mark.parametrize("name", SAMPLERS)
def test_more_draws_continue_the_same_chain(model, name):
    short, long = draws_of(model, SAMPLERS[name], draws=20), draws_of(model, SAMPLERS[name], draws=50)
    assert_equal(short, {k: v[:, :20] for k, v in long.items()})


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("warmup", [0, 1, 99, 100, 101, 305])
def test_any_length_of_warmup(model, name, warmup):
    draws = draws_of(model, SAMPLERS[name], warmup=warmup, draws=7)
    assert all(np.isfinite(v).all() and v.shape[:2] == (3, 7) for v in draws.values())


def test_a_short_last_stretch_does_not_spoil_the_proposal(model):
    """Warm-up ends right after a refit: the proposal must still be that of hundreds of scans."""
    rates = {}
    for warmup in (300, 301, 303):
        fit = bayou.fit(model, engine=Gibbs(draws=1500, warmup=warmup, chains=4), seed=1)
        rates[warmup] = fit.result.statistics["accepted"].mean(axis=1)
    assert rates[301].min() > 0.6 * rates[300].min(), rates
    assert rates[303].min() > 0.6 * rates[300].min(), rates


@pytest.mark.parametrize("name", ["collapsed", "blocked", "laplace"])
def test_running_moments_are_those_of_all_draws(model, name):
    kept = bayou.fit(model, engine=SAMPLERS[name], seed=1, keep_effects=True, draws=450)
    run = bayou.fit(model, engine=SAMPLERS[name], seed=1, keep_effects=False, draws=450)
    assert "effect_draws" not in kept.result.info
    index = run.result.info["effect_draws"]
    assert 200 <= len(index) <= 450
    assert index[-1] == 449
    assert np.ptp(np.diff(index)) == 0
    for g, J, p in (("g", 6, 2), ("h", 4, 1)):
        b = kept.result.draws[f"b_{g}"]
        assert b.shape == (3, 450, J, p)
        np.testing.assert_array_equal(run.result.draws[f"b_{g}"], b[:, index])
        np.testing.assert_allclose(run.result.moments[f"mean_b_{g}"], b.mean(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(run.result.moments[f"sd_within_b_{g}"], b.std(axis=1, ddof=1), rtol=1e-9)
    np.testing.assert_array_equal(run.result.draws["beta"], kept.result.draws["beta"])
    assert any("keep_effects=True keeps all" in line for line in run.result.info["messages"])
    assert not any("keep_effects" in line for line in kept.result.info["messages"])


def test_auto_keeps_effects_up_to_a_size(model, monkeypatch):
    assert "effect_draws" not in bayou.fit(model, engine=SAMPLERS["blocked"], seed=1).result.info
    monkeypatch.setattr(chains, "KEEP_BYTES", 3 * 60 * 16 * 8 - 1)
    assert "effect_draws" in bayou.fit(model, engine=SAMPLERS["blocked"], seed=1).result.info
    monkeypatch.setattr(chains, "KEEP_BYTES", 3 * 60 * 16 * 8)
    assert "effect_draws" not in bayou.fit(model, engine=SAMPLERS["blocked"], seed=1).result.info


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
    monkeypatch.setattr(Impatient, "enough", 2 * 100 + 2000)
    engine = Metropolis(draws=50_000_000, warmup=100, chains=2, cores=2, keep_effects=False)
    if keep:
        engine = Metropolis(draws=2_000_000, warmup=100, chains=2, cores=2, keep_effects=True)
    result = bayou.fit(Model("y ~ x", table(), priors={"beta": PRIORS["beta"]}), engine=engine, seed=1).result
    size = result.draws["beta"].shape[1]
    assert 1 <= size < engine.draws
    assert all(v.shape[:2] == (2, size) and np.isfinite(v).all() for v in result.draws.values())
    assert any(line.startswith(f"Interrupted: {size} of") for line in result.info["messages"])


def test_interruption_with_group_effects(model, monkeypatch):
    monkeypatch.setattr(chains, "Bar", Impatient)
    monkeypatch.setattr(Impatient, "enough", 2 * 100 + 2000)
    for keep in (True, False):
        engine = Metropolis(draws=400_000, warmup=100, chains=2, cores=2, keep_effects=keep)
        result = bayou.fit(model, engine=engine, seed=1).result
        size = result.draws["beta"].shape[1]
        assert 1 <= size < engine.draws
        if keep:
            assert result.draws["b_g"].shape == (2, size, 6, 2)
        else:
            assert result.draws["b_g"].shape[1] == len(result.info["effect_draws"])
            assert all(i < size for i in result.info["effect_draws"])


def test_interruption_in_the_warmup_is_an_interruption(model, monkeypatch):
    monkeypatch.setattr(chains, "Bar", Impatient)
    monkeypatch.setattr(Impatient, "enough", -1)
    with pytest.raises(KeyboardInterrupt, match="before the first kept draw"):
        bayou.fit(model, engine=Metropolis(draws=10, warmup=10_000_000, chains=1), seed=1)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_process(name):
    """The signal itself: the process prints a summary of what it has, within seconds, and its handler is back."""
    script = """
        import threading, time, os, signal, sys
        import numpy as np, bayou
        rng = np.random.default_rng(1)
        data = {"y": rng.normal(size=40), "g": np.repeat(np.arange(8), 5)}
        settings = dict(engine="metropolis", seed=1, chains=2)
        bayou.fit("y ~ 1 + (1 | g)", data, draws=5, warmup=5, **settings)
        def strike():
            time.sleep(1.0)
            global struck
            struck = time.perf_counter()
            os.kill(os.getpid(), signal.NAME)
        threading.Thread(target=strike, daemon=True).start()
        fit = bayou.fit("y ~ 1 + (1 | g)", data, draws=3_000_000, warmup=100, keep_effects=False, **settings)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        print(fit.result.draws["beta"].shape[1], time.perf_counter() - struck, fit.result.info["messages"][0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script.replace("NAME", name))], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    size, seconds, *message = done.stdout.split()
    assert 100 < int(size) < 3_000_000
    assert float(seconds) < 2.0  # one second on an idle machine
    assert message[0] == "Interrupted:"
    assert "sampling" not in done.stderr  # no progress bar without a terminal


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_twenty_five_signals_each_return_what_is_drawn_within_a_second(name):
    script = """
        import os, random, signal, threading, time
        import numpy as np, bayou
        rng = np.random.default_rng(1)
        g = np.repeat(np.arange(2000), 10)
        data = {"y": rng.poisson(1.0 + g % 3), "x": rng.normal(size=len(g)), "g": g}
        model = bayou.Model("y ~ x + (x | g)", data, family="poisson")
        settings = dict(engine="metropolis", chains=2, warmup=20, keep_effects=False)
        bayou.fit(model, draws=5, seed=1, **settings)
        moments = random.Random(1)
        struck = [0.0]
        def strike(wait):
            time.sleep(wait)
            struck[0] = time.perf_counter()
            os.kill(os.getpid(), signal.NAME)
        for k in range(25):
            threading.Thread(target=strike, args=(moments.uniform(0.6, 1.6),), daemon=True).start()
            result = bayou.fit(model, draws=3_000_000, seed=k, **settings).result
            print(time.perf_counter() - struck[0], result.size, result.info["messages"][0].split()[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script.replace("NAME", name))], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 25
    assert all(0 < int(size) < 3_000_000 and said == "Interrupted:" for _, size, said in lines)
    assert max(float(seconds) for seconds, _, _ in lines) < 1.0


def test_a_run_that_would_not_fit_is_refused_before_it_starts(model):
    with pytest.raises(ResourceError, match=r"3 chains of .* would take [\d,.]+ GB of memory and .* free.*store=.*draws="):
        draws_of(model, SAMPLERS["laplace"], draws=10**13)


def test_the_estimate_of_memory_is_that_of_the_draws(model, monkeypatch):
    seen = []
    monkeypatch.setattr(chains, "check_memory", lambda *sizes: seen.append(sizes))
    for keep in (True, False):
        fit = bayou.fit(model, engine=SAMPLERS["laplace"], draws=2000, keep_effects=keep, seed=1)
        held = sum(values.nbytes for values in fit.result.draws.values())
        needed, draws, number, _ = seen[-1]
        assert (draws, number) == (2000, 3)
        assert held < needed < 4 * held


def test_memory_that_is_free():
    free = resources.available_memory()
    assert free is None or 0 < free < 2**50


def test_progress_is_quiet_without_a_terminal(model, capfd):
    bayou.fit(model, engine=SAMPLERS["laplace"], seed=1, draws=3000, progress=None)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.replace("bayou: compiling (once per machine) ...\n", "") == ""


def test_progress_on_request(model, capfd, monkeypatch):
    shown = []

    class Seen(chains.Bar):
        def update(self, done):
            super().update(done)
            shown.append(self.bar.tasks[0].completed if self.bar is not None else 0)

    monkeypatch.setattr(chains, "Bar", Seen)
    bayou.fit(model, engine=SAMPLERS["laplace"], seed=1, progress=True, cores=1, draws=100_000)
    assert 0 < shown[-1] <= 3 * 100_250
    assert shown == sorted(shown)
    assert capfd.readouterr().out == ""


def test_an_error_in_one_chain_stops_the_others(model, monkeypatch):
    from bayou.engines.metropolis import MetropolisChain

    def fail(self, draws, thin, out):
        if self.rng.random() < 0.5:
            raise ArithmeticError("of this chain")
        return draws

    monkeypatch.setattr(MetropolisChain, "advance", fail)
    with pytest.raises(ArithmeticError, match="of this chain"):
        bayou.fit(model, engine=Metropolis(draws=10, warmup=2000, chains=4, cores=2), seed=1)


def test_a_lost_matrix_in_the_warmup_names_the_scan(model, monkeypatch):
    from bayou.engines.gibbs import SweepChain

    monkeypatch.setattr(SweepChain, "advance", lambda self, draws, thin, out: draws - 1)
    with pytest.raises(Unsupported, match="warm-up scan 1 of chain 1.*proper or tighter prior"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1, chains=1)


def test_a_lost_matrix_later_keeps_the_draws_before(model, monkeypatch):
    from bayou.engines.gibbs import SweepChain

    whole = SweepChain.advance

    def stop(self, draws, thin, out):
        made = whole(self, draws, thin, out)
        if len(out.b) and out.b.shape[1]:
            self.count = getattr(self, "count", 0) + draws
            return made if self.count <= 30 else max(0, made - (self.count - 30))
        return made

    monkeypatch.setattr(SweepChain, "advance", stop)
    result = bayou.fit(model, engine=SAMPLERS["blocked"], seed=1).result
    assert result.draws["beta"].shape[1] == 30
    assert any("stopped after 30 of 60 draws" in line for line in result.info["messages"])


@pytest.mark.parametrize("name", ["blocked", "laplace"])
def test_numbers_that_are_none_end_a_chain_and_are_not_kept(model, monkeypatch, name):
    from bayou.engines.gibbs import SweepChain
    from bayou.engines.metropolis import MetropolisChain

    kind = SweepChain if name == "blocked" else MetropolisChain
    whole = kind.advance

    def spoil(self, draws, thin, out):
        made = whole(self, draws, thin, out)
        self.count = getattr(self, "count", 0) + draws
        if self.count > 270:  # the warm-up is 250
            out.beta[max(0, made - (self.count - 270)) :, 0] = np.nan
        return made

    monkeypatch.setattr(kind, "advance", spoil)
    result = bayou.fit(model, engine=SAMPLERS[name], seed=1).result
    assert result.size == 20
    assert all(np.isfinite(v).all() for v in result.draws.values())
    said = [line for line in result.info["messages"] if "stopped after 20 of 60 draws" in line]
    assert said and "Where the chains were then: chain 1: Intercept" in said[0]


def test_a_chain_that_stops_before_its_first_draw_is_no_interruption(model, monkeypatch):
    from bayou.engines.gibbs import SweepChain

    whole = SweepChain.advance

    def spoil(self, draws, thin, out):
        made = whole(self, draws, thin, out)
        self.count = getattr(self, "count", 0) + draws
        if self.count > 250:
            out.beta[:] = np.nan
        return made

    monkeypatch.setattr(SweepChain, "advance", spoil)
    with pytest.raises(Unsupported, match=r"stopped before its first draw.*prior on the group sds"):
        bayou.fit(model, engine=SAMPLERS["blocked"], seed=1)


# ---- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Gibbs, Metropolis, Auto])
@pytest.mark.parametrize("name", ["draws", "warmup", "chains", "thin"])
@pytest.mark.parametrize("value", [-1, 1.5, "many", True, None])
def test_counts_are_whole_numbers(kind, name, value):
    with pytest.raises(DataError, match=f"{name}=.*whole number"):
        kind(**{name: value})


def test_other_settings_are_checked():
    for cores in (0, -2, 1.5, "all"):
        with pytest.raises(DataError, match="cores"):
            Gibbs(cores=cores)
    for keep in ("some", 2, None):
        with pytest.raises(DataError, match="keep_effects"):
            Gibbs(keep_effects=keep)
    with pytest.raises(DataError):
        Gibbs(draws=0)
    assert Gibbs(warmup=0, draws=np.int64(3)).draws == 3


def test_get():
    assert engines.get("gibbs", draws=5) == Gibbs(draws=5)
    assert engines.get(" Metropolis ") == Metropolis()
    assert engines.get(Gibbs(draws=5), thin=2) == Gibbs(draws=5, thin=2)
    with pytest.raises(Unsupported, match=r"'gibs' is not known. Did you mean 'gibbs'\? .*metropolis"):
        engines.get("gibs")
    with pytest.raises(Unsupported, match="'drawz' is not a setting of Gibbs. Did you mean 'draws'"):
        engines.get("gibbs", drawz=5)
    with pytest.raises(Unsupported, match="engine is a int; give a name"):
        engines.get(3)
    with pytest.raises(AttributeError, match="no attribute 'Sideways'"):
        engines.Sideways  # noqa: B018


def test_describe_gives_what_one_would_type():
    assert Gibbs().describe() == "Gibbs()"
    engine = Metropolis(draws=7, proposal="random_walk")
    assert eval(engine.describe(), {"Metropolis": Metropolis}) == engine


def test_auto_chooses(model):
    assert bayou.fit(model, seed=1, draws=5, warmup=5, chains=1).result.info["engine"] == "gibbs"
    counts = {**table(), "k": np.arange(30) % 4}
    fit = bayou.fit("k ~ x + (1 | g)", counts, family="poisson", seed=1, draws=5, warmup=5, chains=1)
    assert fit.result.info["engine"] == "metropolis"
    log = bayou.families.Gaussian(link="log")
    fit = bayou.fit("w ~ x", counts, family=log, seed=1, draws=5, warmup=5, chains=1)
    assert fit.result.info["engine"] == "metropolis"


def test_info_says_what_was_run(model):
    result = bayou.fit(model, engine=SAMPLERS["blocked"], seed=7, thin=2, cores=2).result
    info = result.info
    assert (info["engine"], info["seed"], info["chains"], info["warmup"], info["thin"]) == ("gibbs", 7, 3, 250, 2)
    assert info["cores"] == 2
    assert 0 < info["seconds"] < 600
    assert result.engine == info["settings"]
    assert "thin=2" in result.engine


def test_a_run_without_a_seed_can_be_repeated(model):
    first = bayou.fit(model, engine=SAMPLERS["blocked"])
    again = bayou.fit(model, engine=SAMPLERS["blocked"], seed=first.result.info["seed"])
    assert_equal(first.result.draws, again.result.draws)


def test_flat_priors_run_everywhere():
    model = Model("y ~ x + (1 | g)", table(), priors={"beta": Flat(), "sd": FlatSD(), "sigma": FlatSD()})
    for engine in SAMPLERS.values():
        assert all(np.isfinite(v).all() for v in draws_of(model, engine).values())


def test_a_process_that_ignores_interrupts_goes_on():
    """As a shell's background jobs do: Ctrl-C is meant for what runs in front."""
    script = """
        import os, signal, threading, time
        import numpy as np, bayou
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rng = np.random.default_rng(1)
        data = {"y": rng.poisson(2.0, 3000), "g": np.arange(3000) % 100}
        model = bayou.Model("y ~ 1 + (1 | g)", data, family="poisson")
        model.fit("metropolis", seed=1, draws=5, warmup=5)
        struck = []
        def strike():
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            struck.append(time.perf_counter())
        threading.Thread(target=strike, daemon=True).start()
        fit = model.fit("metropolis", seed=1, draws=3000, warmup=1000, chains=1)
        print(fit.result.size, len(struck), struck[0] < time.perf_counter())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["3000", "1", "True"]

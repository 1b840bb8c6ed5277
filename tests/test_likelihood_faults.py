"""Every fault that data or a model can have, fitted by an engine that maximises a likelihood.

Either it is refused with an error of bayou's own, or the fit says what happened in its verdict; never a bare
traceback, never a zero without a word.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import bayou
from bayou import engines, families
from bayou.engines.laplace import Laplace
from bayou.errors import BayouError, DataError, Unsupported
from bayou.priors import LKJ, Flat, FlatSD, Gamma, HalfNormal, InverseWishart, Normal, StudentT, Uniform
from dense_system import fitted

GAUSSIAN = ("ml", "reml", "laplace", "pql")
ANY = ("laplace", "pql")
N = 60
RNG = np.random.default_rng(3)
G = np.repeat(np.arange(12), 5)
X = RNG.normal(size=N)
B = RNG.normal(size=12)
SOUND = {
    "y": 1 + 0.5 * X + B[G] + RNG.normal(size=N), "x": X, "z": RNG.normal(size=N), "g": G, "i": np.arange(N),
    "h": np.tile(np.arange(5), 12), "a": G // 3, "s": np.arange(N) % 3, "k": RNG.poisson(np.exp(0.5 + 0.3 * X + 0.5 * B[G])),
    "half": RNG.integers(0, 2, N), "t": RNG.integers(0, 4, N), "u": RNG.normal(size=N), "w": RNG.uniform(0.5, 2.0, N),
}  # fmt: skip
SOUND["positive"] = RNG.gamma(3.0, np.exp(0.5 + 0.3 * X + 0.5 * B[G]) / 3.0)
SOUND["hits"] = RNG.binomial(SOUND["t"], 0.4)
MIX = "y ~ x + (1 | g)"


def having(**columns) -> dict:
    return {**SOUND, **columns}


def said(fit) -> str:
    return str(fit.verdict)


def each(*engine_names):
    return pytest.mark.parametrize("engine", engine_names)


# ---- refused ---------------------------------------------------------------------------------


@each(*GAUSSIAN)
@pytest.mark.parametrize("formula,data,message", [
    (MIX, having(y=np.full(N, 2.0)), r"no maximum. The response y is constant \(2 in 60 rows\).*sd goes to 0"),
    ("y ~ x", having(y=np.full(N, 2.0)), "y is constant"),
    ("y ~ x", having(y=1 + 2 * X), "fixed effects reproduce the response y"),
    (MIX, having(y=1 + 2 * X), "fixed effects reproduce the response y"),
    (MIX, having(y=1 + 2 * X + B[G]), "'g' reproduce the response y"),
    (MIX, having(g=np.zeros(N)), "g has one level, which tells nothing of a variance"),
    ("y ~ x + (1 | i)", SOUND, r"Every level of i has one row.*confounded.*measured\(y, se\)"),
    ("y ~ 1 + (1 | g)", {k: v[[0, 5]] for k, v in SOUND.items()}, "Every level of g has one row"),
    ("y ~ poly(x, 3, raw=True)", {k: v[:4] for k, v in SOUND.items()}, "4 rows for 4 fixed effects.*residual sd"),
    ("y ~ poly(x, 3, raw=True) + (1 | h)", {k: v[:4] for k, v in SOUND.items()}, "4 rows for 4 fixed effects"),
    ("y ~ 1", {k: v[:1] for k, v in SOUND.items()}, "1 rows for 1 fixed effects"),
    ("y ~ x + x2 + (1 | g)", having(x2=2 * X), "rank-deficient: x2 can be written"),
    ("y ~ x + c + (1 | g)", having(c=np.ones(N)), "rank-deficient: c can be written"),
], ids=["constant", "constant, no bars", "line, no bars", "line", "groups", "one level", "one row a level", "two rows",
        "as many coefficients as rows", "and groups", "one row", "aliased", "constant column"])  # fmt: skip
def test_gaussian_data_without_a_maximum(engine, formula, data, message):
    with pytest.raises(DataError, match=message):
        fitted(formula, data, engine)


@each(*ANY)
@pytest.mark.parametrize("formula,data,family,message", [
    ("v ~ x + (1 | g)", having(v=(X > 0) * 1), "bernoulli", "combination of x predicts outcomes perfectly"),
    ("v ~ x", having(v=(X > 0) * 1), "bernoulli", "combination of x predicts"),
    ("v ~ 1 + (1 | g)", having(v=np.ones(N)), "bernoulli", "combination of Intercept predicts"),
    ("v ~ x + (1 | g)", having(v=np.zeros(N)), "poisson", "no maximum.*predicts outcomes perfectly"),
    ("v ~ x + (1 | g)", having(v=np.zeros(N)), "negative_binomial", "no maximum"),
    ("k ~ x + x2 + (1 | g)", having(x2=2 * X), "poisson", "rank-deficient: x2"),
    ("proportion(hits, t) ~ x", having(hits=0 * X, t=0 * X), "binomial", "No row has a trial"),
    ("v ~ x + (1 | g)", having(v=np.ones(N)), "gamma", "v is constant.*shape grows without end"),
    ("k ~ x + (1 | c)", having(c=np.ones(N)), "poisson", "c has one level"),
], ids=["separated", "separated, no bars", "all successes", "no counts", "no counts, phi", "aliased", "no trials",
        "constant gamma", "one level"])  # fmt: skip
def test_other_data_without_a_maximum(engine, formula, data, family, message):
    with pytest.raises(DataError, match=message):
        fitted(formula, data, engine, family)


@pytest.mark.parametrize("engine", ["reml", "pql", Laplace(reml=True)], ids=str)
def test_fixed_effects_that_hold_every_group(engine):
    with pytest.raises(DataError, match="hold every difference between levels of g"):
        fitted("y ~ f + (1 | g)", having(f=np.array([f"f{i}" for i in G])), engine)


@each("ml", "laplace")
def test_fixed_effects_that_hold_every_group_leave_a_variance_of_zero(engine):
    fit = fitted("y ~ f + (1 | g)", having(f=np.array([f"f{i}" for i in G])), engine)
    assert fit.result.estimates.converged
    assert "sd_g[Intercept] is zero" in said(fit)


@pytest.mark.parametrize("settings,message", [
    ({"engine": "laplace", "nodes": 3}, "'nodes' is not a setting of Laplace"),
    ({"engine": "ml", "reml": True}, "'reml' is not a setting of ML"),
    ({"engine": "laplace", "reml": "yes"}, "reml='yes' is not known: Laplace takes"),
    ({"engine": "pql", "method": "aireml"}, "method='aireml' is not known"),
    ({"engine": "pql", "variant": 1}, "variant=1 is not known"),
    ({"engine": "pql", "sigma_by": "s"}, "one dispersion for all rows"),
    ({"engine": "ml", "family": "poisson", "formula": "k ~ x"}, "ML needs a Gaussian.*engine='laplace'"),
    ({"engine": "reml", "family": families.Gaussian(link="log")}, r"link log.*Laplace\(reml=True\)"),
    ({"engine": "laplace", "family": "negative_binomial", "formula": "k ~ x", "sigma_by": "s"}, "one phi for all rows"),
    ({"engine": "reml", "priors": {"beta": StudentT(3, 0, 1)}}, "Normal or flat"),
    ({"engine": Laplace(reml=True), "priors": {"beta": StudentT(3, 0, 1)}}, "Normal or flat"),
    ({"engine": "pql", "priors": {"sd": HalfNormal(1)}}, "no dispersion to be estimated"),
])  # fmt: skip
def test_what_an_engine_cannot_take(settings, message):
    settings = dict(settings)
    with pytest.raises(Unsupported, match=message):
        bayou.fit(settings.pop("formula", MIX), SOUND, settings.pop("family", "gaussian"), seed=1, **settings)


# ---- fitted, with a word ---------------------------------------------------------------------


@each(*GAUSSIAN)
def test_eight_schools(engine):
    """Rubin's: the maximum is at tau = 0, the mean the weighted one."""
    y, se = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    fit = fitted("measured(y, se) ~ 1 + (1 | school)", {"y": y, "se": se, "school": np.arange(8)}, engine)
    found = fit.result.estimates
    assert found.converged and found.estimate[1] == 0.0 and np.isnan(found.se[1])
    assert found.estimate[0] == pytest.approx(np.average(y, weights=se**-2.0), abs=5e-6 * 4.1)  # gains of 1e-11
    assert found.se[0] == pytest.approx(np.sum(se**-2.0) ** -0.5, rel=1e-4)
    assert "sd_school[Intercept] is zero" in said(fit) and "no finite estimate" not in said(fit)
    assert not fit.verdict.ok


@each(*ANY)
def test_groups_alone_may_separate_the_outcomes(engine):
    fit = fitted("v ~ x + (1 | g)", having(v=(B[G] > 0) * 1), engine, "bernoulli")
    assert fit.result.estimates.converged and fit.result.estimates.estimate[-1] > 2.0
    assert np.isfinite(fit.result.estimates.se).all()


@each(*ANY)
def test_no_successes_and_nothing_fixed(engine):
    for family, v in (("bernoulli", np.ones(N)), ("poisson", np.zeros(N))):
        found = fitted("v ~ 0 + (1 | g)", having(v=v), engine, family).result.estimates
        assert found.converged and np.isfinite(found.estimate).all() and found.estimate[0] > 1.0


@each(*ANY)
@pytest.mark.parametrize("formula", ["k ~ x + (1 | g)", "k ~ x"])
def test_poisson_counts_under_a_negative_binomial(engine, formula):
    """Phi runs to infinity: it is held at its border, everything else is Poisson's, and a note says so."""
    rng = np.random.default_rng(12)
    data = having(k=rng.binomial(8, 1 / (1 + np.exp(1.0 - 0.2 * X - 0.5 * B[G]))))
    fit = fitted(formula, data, engine, "negative_binomial")
    found = fit.result.estimates
    plain = fitted(formula, data, engine, "poisson").result.estimates
    assert found.converged and fit.verdict.ok
    assert "phi is at its border: the counts vary no more than Poisson's" in said(fit)
    assert found.estimate[-1] > 1e5 and np.isnan(found.se[-1])
    np.testing.assert_allclose(found.estimate[:-1], plain.estimate, rtol=1e-4)
    np.testing.assert_allclose(found.se[:-1], plain.se, rtol=1e-3)
    assert np.isfinite(fit.result.draws["phi"]).all()
    assert np.isfinite(fit.predict(kind="outcome", seed=1).to_numpy()).all()


def test_counts_that_are_all_zero_say_nothing_of_phi():
    fit = fitted("v ~ 0 + (1 | g)", having(v=np.zeros(N)), "laplace", "negative_binomial")
    assert "phi is at its border: nearly all counts are 0" in said(fit)


@each(*ANY)
def test_counts_of_a_billion(engine):
    counts = np.random.default_rng(1).poisson(1e9 * np.exp(0.3 * X + 0.5 * B[G])).astype(float)
    fit = fitted("v ~ x + (1 | g)", having(v=counts), engine, "poisson")
    found = fit.result.estimates
    assert fit.verdict.ok
    assert found.estimate[1] == pytest.approx(0.3, abs=5 * 4.1e-6)
    assert found.estimate[2] == pytest.approx(0.5 * np.std(B, ddof=1 if engine == "pql" else 0), rel=1e-3)


@each(*GAUSSIAN)
def test_an_offset_is_taken_off(engine):
    one = fitted("y ~ x + offset(u) + (1 | g)", SOUND, engine).result.estimates
    other = fitted(MIX, having(y=SOUND["y"] - SOUND["u"]), engine).result.estimates
    np.testing.assert_allclose(one.estimate, other.estimate, rtol=1e-7)


@each(*GAUSSIAN)
def test_weights_of_zero_are_refused_and_missing_rows_dropped(engine):
    w = np.where(np.arange(N) % 6 == 0, 0.0, 1.0)
    with pytest.raises(DataError, match="weights `w` must be positive"):
        fitted(MIX, having(w=w), engine, weights="w")
    holed = SOUND["y"].copy()
    holed[3] = np.nan
    fit = fitted(MIX, having(y=holed), engine, missing="drop")
    assert "1 row of 60 dropped" in said(fit)
    kept = fitted(MIX, {k: np.delete(v, 3) for k, v in SOUND.items()}, engine)
    np.testing.assert_allclose(fit.result.estimates.estimate, kept.result.estimates.estimate, rtol=1e-12)


@each(*ANY)
def test_rows_without_trials_say_nothing(engine):
    assert (SOUND["t"] == 0).any()
    kept = SOUND["t"] > 0
    one = fitted("proportion(hits, t) ~ x + (1 | g)", SOUND, engine, "binomial").result.estimates
    other = fitted("proportion(hits, t) ~ x + (1 | g)", {k: v[kept] for k, v in SOUND.items()}, engine, "binomial")
    np.testing.assert_allclose(one.estimate, other.result.estimates.estimate, rtol=1e-5, atol=1e-8)


@each("ml", "reml", "laplace")
def test_one_residual_sd_a_level(engine):
    found = fitted(MIX, SOUND, engine, sigma_by="s").result.estimates
    assert found.converged and found.rows[-3:] == ("sigma[0]", "sigma[1]", "sigma[2]")
    assert np.isfinite(found.se).all()


@each(*GAUSSIAN)
@pytest.mark.parametrize("formula", [
    "y ~ x + z + (x + z | g)", "y ~ 0 + (1 | g)", "y ~ x", "y ~ 0", "y ~ x + (1 | a/g) + (1 | h)", "y ~ x + (0 + x | i)",
])  # fmt: skip
def test_structures(engine, formula):
    fit = fitted(formula, SOUND, engine)
    found = fit.result.estimates
    assert found.converged and np.isfinite(found.estimate).all()
    assert np.isfinite(found.se[found.estimate != 0.0]).all() or found.singular
    assert bool(found.singular) == (not fit.verdict.ok)
    str(fit), fit.summary(), fit.result.draws["beta"]


# ---- units -----------------------------------------------------------------------------------


def scaled(found, factors) -> np.ndarray:
    return found.estimate / np.asarray(factors)


@each(*GAUSSIAN)
@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1e9])
def test_units_of_a_gaussian_model(engine, unit):
    """Estimates and standard errors scale with the units of the response and of a slope's column."""
    formula = "y ~ x + (x | g)"
    one = fitted(formula, SOUND, engine).result.estimates
    other = fitted(formula, having(y=unit * SOUND["y"]), engine).result.estimates
    factors = [unit, unit, unit, unit, 1.0, unit]
    np.testing.assert_allclose(scaled(other, factors), one.estimate, rtol=1e-6)
    np.testing.assert_allclose(other.se / factors, one.se, rtol=1e-5)
    other = fitted(formula, having(x=unit * X), engine).result.estimates
    factors = [1.0, 1 / unit, 1.0, 1 / unit, 1.0, 1.0]
    np.testing.assert_allclose(scaled(other, factors), one.estimate, rtol=1e-6)
    np.testing.assert_allclose(other.se / factors, one.se, rtol=1e-5)
    assert other.converged


@each(*ANY)
@pytest.mark.parametrize("formula,family", [
    ("k ~ x + (x | g)", "poisson"), ("half ~ x + (x | g)", "bernoulli"), ("positive ~ x + (x | g)", "gamma"),
])  # fmt: skip
def test_units_of_other_models(engine, formula, family):
    one = fitted(formula, SOUND, engine, family).result.estimates
    for unit in (1e-6, 1e6):
        other = fitted(formula, having(x=unit * X), engine, family).result.estimates
        factors = np.ones(len(one.estimate))
        factors[[1, 3]] = 1 / unit
        np.testing.assert_allclose(scaled(other, factors), one.estimate, rtol=1e-6)
        assert other.converged and other.singular == one.singular
    if family == "gamma":
        for unit in (1e-9, 1e9):
            other = fitted(formula, having(positive=unit * SOUND["positive"]), engine, family).result.estimates
            moved = one.estimate.copy()
            moved[0] += np.log(unit)
            np.testing.assert_allclose(other.estimate, moved, rtol=2e-5)


@each(*GAUSSIAN)
def test_uncentred_years_and_a_far_response(engine):
    formula = "y ~ x + (x | g)"
    one = fitted(formula, SOUND, engine).result.estimates
    far = fitted(formula, having(y=1e6 + SOUND["y"]), engine).result.estimates
    np.testing.assert_allclose(far.estimate[1:], one.estimate[1:], rtol=1e-5)
    years = fitted(formula, having(x=2000.0 + X), engine).result.estimates
    assert years.converged
    np.testing.assert_allclose(years.estimate[[1, 3, 5]], one.estimate[[1, 3, 5]], rtol=1e-4)
    if engine != "pql":
        assert years.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-6)


@each(*GAUSSIAN)
@pytest.mark.parametrize("ratio", [1e2, 1e5])
def test_groups_that_differ_much_more_than_rows(engine, ratio):
    """Balanced: the estimates are those of the analysis of variance, or n / (n − 1) of them."""
    rng = np.random.default_rng(1)
    y = ratio * rng.normal(size=12)[G] + rng.normal(size=N)
    fit = fitted("y ~ 1 + (1 | g)", having(y=y), engine)
    found = fit.result.estimates
    means = np.bincount(G, y) / 5
    within = np.sum((y - means[G]) ** 2) / 48
    between = np.var(means, ddof=0 if engine in ("ml", "laplace") else 1) - within / 5
    assert fit.verdict.ok
    np.testing.assert_allclose(found.estimate, [means.mean(), np.sqrt(between), np.sqrt(within)], rtol=2e-3)


# ---- priors, awkward families ----------------------------------------------------------------


@each("ml", "reml", "laplace")
@pytest.mark.parametrize("given", [
    {"beta": Normal(0, 1), "sd": HalfNormal(1.0), "cor": LKJ(2.0), "sigma": HalfNormal(1.0)},
    {"beta": Flat(), "sd": FlatSD(), "sigma": Flat()}, {"Sigma_g": InverseWishart(4, np.eye(2))},
    {"precision_g": Gamma(1, 1)}, {"sd": Uniform(0, 5)},
], ids=["all", "flat", "matrix", "precision", "uniform"])  # fmt: skip
def test_priors(engine, given):
    formula = MIX if "precision_g" in given else "y ~ x + (x | g)"
    fit = fitted(formula, SOUND, engine, priors=given)
    found = fit.result.estimates
    assert found.priors_used and found.converged
    assert "The criterion is the marginal likelihood times the prior densities" in said(fit)
    if "sigma" in given and given["sigma"] == Flat():
        plain = fitted(formula, SOUND, engine).result.estimates
        np.testing.assert_allclose(found.estimate, plain.estimate, rtol=1e-4, atol=1e-6)


@each("ml", "laplace")
def test_a_prior_that_ends_below_the_estimate(engine):
    """Its maximum is at the end of the prior, no stationary point: said, not hidden; near 0.3 all the same."""
    fit = fitted(MIX, SOUND, engine, priors={"sd": Uniform(0, 0.3)})
    assert not fit.verdict.ok
    assert 0.29 < fit.result.estimates.estimate[2] <= 0.3


@each(*ANY)
def test_priors_hold_what_separates(engine):
    given = {"beta": Normal(0, 2.5), "sd": HalfNormal(1.0)}
    fit = fitted("v ~ x + (1 | g)", having(v=(X > 0) * 1), engine, "bernoulli", priors=given)
    assert fit.result.estimates.converged and np.isfinite(fit.result.estimates.se[:2]).all()
    assert "Separation: the combination of x" in said(fit)


@each(*ANY)
def test_a_nearly_constant_gamma_response(engine):
    v = 1 + 1e-4 * np.random.default_rng(5).normal(size=N) + 1e-4 * B[G]
    found = fitted("v ~ x + (1 | g)", having(v=v), engine, "gamma").result.estimates
    other = fitted("v ~ x + (1 | g)", having(v=v), "ml" if engine == "laplace" else "reml").result.estimates
    assert found.converged
    np.testing.assert_allclose(found.estimate[2], other.estimate[2], rtol=1e-2)
    np.testing.assert_allclose(found.estimate[3] ** -0.5, other.estimate[3], rtol=1e-2)


def test_rows_that_are_not_log_concave():
    rng = np.random.default_rng(9)
    v = np.exp(0.3 * X + 0.3 * B[G]) + 0.5 * rng.normal(size=N)
    fit = fitted("v ~ x + (1 | g)", having(v=v), "laplace", families.Gaussian(link="log"))
    assert fit.verdict.ok and (v < 0.0).any()
    for v in (np.abs(rng.standard_cauchy(N)) * 10 + 0.1, rng.normal(size=N)):
        for engine in ANY:
            try:
                fit = fitted("v ~ x + (1 | g)", having(v=v), engine, families.Gaussian(link="log"))
            except BayouError as error:
                assert len(str(error)) > 40
            else:
                found = fit.result.estimates
                assert fit.verdict.ok == (found.converged and not found.singular and not found.failures)


# ---- machines --------------------------------------------------------------------------------


def test_two_threads_fit_at_once():
    """Many fits side by side: each finds what it finds alone."""
    jobs = [("y ~ x + (x | g)", e, "gaussian") for e in GAUSSIAN] + [("k ~ x + (1 | g)", e, "poisson") for e in ANY]
    alone = [fitted(f, SOUND, e, family).result for f, e, family in jobs]
    together: dict[int, list] = {0: [], 1: []}

    def work(which: int) -> None:
        for _ in range(3):
            for f, e, family in jobs:
                result = fitted(f, SOUND, e, family).result
                together[which].append((result.estimates.estimate, result.estimates.se, result.draws["beta"]))

    threads = [threading.Thread(target=work, args=(k,)) for k in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in together.values():
        assert len(found) == 3 * len(jobs)
        for k, (estimate, se, beta) in enumerate(found):
            one = alone[k % len(jobs)]
            np.testing.assert_array_equal(estimate, one.estimates.estimate)
            np.testing.assert_array_equal(se, one.estimates.se)
            np.testing.assert_array_equal(beta, one.draws["beta"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_a_fit():
    program = """
import numpy as np, bayou
rng = np.random.default_rng(1)
g = np.arange(300) % 20
data = {"y": rng.poisson(2.0, 300), "x": rng.normal(size=300), "g": g}
bayou.fit("y ~ x + (1 | g)", data, "poisson", engine="laplace", seed=1)
try:
    print("ready", flush=True)
    while True:
        bayou.fit("y ~ x + (x | g)", data, "poisson", engine="laplace", seed=1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "ready"
        child.send_signal(signal.SIGINT)
        try:
            out, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert out.strip() == "interrupted" and child.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_that_is_lost_in_a_callback_ends_a_fit_all_the_same():
    """Python drops what is raised in a callback of another library; the fit ends, a chain at once."""
    program = """
import contextlib, os, signal, time
import numpy as np, bayou
from bayou.engines import Laplace, Metropolis
rng = np.random.default_rng(1)
data = {"y": rng.poisson(2.0, 300), "g": np.arange(300) % 20}
model = bayou.Model("y ~ 1 + (1 | g)", data, "poisson")
def losing(method):
    def lost(*arguments):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return method(*arguments)
    return lost
Laplace.run, Metropolis.prepare = losing(Laplace.run), losing(Metropolis.prepare)
for engine, settings in (("laplace", {}), ("metropolis", {"draws": 1_000, "thin": 1_000_000})):
    try:
        model.fit(engine, seed=1, **settings)
    except KeyboardInterrupt as end:
        print(engine, end)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["laplace ", "metropolis interrupted before the first kept draw of every chain"]


def test_a_model_fitted_twice_is_not_changed():
    model = bayou.Model("y ~ x + (x | g)", SOUND)
    first = [model.fit(e, seed=1).result.estimates.estimate for e in GAUSSIAN]
    again = [model.fit(e, seed=1).result.estimates.estimate for e in reversed(GAUSSIAN)][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert engines.get("ml") == engines.get("ml")

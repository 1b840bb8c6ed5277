"""INLA held to exact posteriors, to R-INLA's figures, to long chains, and to quadrature where it must not trust itself.

`pytest -s` prints the tables; tolerances are those of the issue. Means are compared in units of the reference's sd.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import bayou
import dense_exact
import exact_models as exacts
import nested_models as models
from agreement import errors
from bayou.engines import INLA
from bayou.model import Model
from bayou.posterior.convergence import effective_size
from bayou.priors import HalfNormal, Normal
from golden import ok, printed

MEANS, SDS, QUANTILES = 0.02, 0.02, 0.05  # of exact posteriors
FIXED, HYPER = 0.05, 0.1  # of R-INLA's figures
DISTANCE = 0.05  # of marginals, to those of long chains


@cache
def fitted(model, seed=1, **settings):
    return model.fit(INLA(**settings), seed=seed)


class Row(NamedTuple):
    """One quantity: where it is, ours, and the reference."""

    name: str
    mean: float
    sd: float
    reference: float
    reference_sd: float

    @property
    def gap(self):
        return (self.mean - self.reference) / self.reference_sd

    def __str__(self):
        return (
            f"{self.name:28s} {self.mean:10.4f} ({self.sd:.4f})  reference {self.reference:10.4f} "
            f"({self.reference_sd:.4f})  mean {self.gap:+.3f} sd, sd {self.sd / self.reference_sd - 1:+.1%}"
        )


def show(title, rows):
    print(f"\n{title}")
    for row in rows:
        print(f"  {row}")


# ---- exact posteriors ------------------------------------------------------------------------


def exact_rows(shared, name, fit):
    """Every quantity of an exact posterior that INLA reports as such, with the marginals."""
    this, known = exacts.EXACT[name], exacts.summary(shared, name)
    found = fit.result.approximation
    rows, marginals = [], {}
    for theirs, ours in this.rows.items():
        marginals[theirs] = found.marginals[ours]
        rows.append(
            Row(theirs, marginals[theirs].mean, marginals[theirs].sd, known[theirs]["mean"], known[theirs]["sd"])
        )
    for theirs, variable in this.effects.items():
        effect, levels = found.effect(variable), fit.model.design.groupings[0].levels
        means, sds = np.ravel(effect.mean), np.ravel(effect.sd)
        for k, level in enumerate(levels):
            key = f"{theirs}[{int(level)}]"
            rows.append(Row(key, means[k], sds[k], known[key]["mean"], known[key]["sd"]))
    return rows, marginals


@pytest.mark.parametrize("name", exacts.EXACT)
def test_exact_posteriors(shared, name):
    model, known = exacts.exact(shared, name), exacts.summary(shared, name)
    fit = fitted(model)
    rows, marginals = exact_rows(shared, name, fit)
    show(f"{name}, corrected: {dict(fit.result.approximation.check)}", rows)
    plain = fitted(model, correct=False)
    show(f"{name}, plain", exact_rows(shared, name, plain)[0])
    show(f"{name}, gaussian", exact_rows(shared, name, fitted(model, correct=False, strategy="gaussian"))[0])
    assert fit.result.approximation.check["ok"]
    ok(fit)
    for row in rows:
        assert abs(row.gap) < MEANS, str(row)
        assert abs(row.sd / row.reference_sd - 1) < SDS, str(row)
    for key, marginal in marginals.items():
        for q, p in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
            if q in known[key]:
                gap = (marginal.quantile(p) - known[key][q]) / known[key]["sd"]
                assert abs(gap) < QUANTILES, f"{q} of {key}: {gap:+.3f} sd"


# ---- truth where R-INLA's model is small enough ------------------------------------------------

# The issue's figures are importance sampling's, with its errors; product rules of Gauss and Hermite (dense_exact) give
# seeds -74.93519, sd .26204 (.13053), and cbpp -112.80494, sd .59166 (.17144): the issue's -74.919 is .9 of its standard
# errors away, its sd .258 is .03 sd away. INLA is held to the product rules.
ISSUE = {"seeds": (-74.919, 0.018), "cbpp": (-112.806, 0.007)}
GRID = {"seeds": np.linspace(-10, 1.2, 60), "cbpp": np.linspace(-8, 1.5, 50)}
COLUMNS = {"seeds": "sd_plate[Intercept]", "cbpp": "sd_herd[Intercept]"}


def log_pc(u):
    """PC(1, .01) of exp(u), as a density of u."""
    rate = -np.log(0.01)
    return np.log(rate) - rate * np.exp(u) + u


@cache
def truth(shared, name):
    """The exact posterior of a model with "pc" priors."""
    problem = dense_exact.problem(models.inla(shared, name), log_pc, models.FIXED.sd)
    return dense_exact.exact(problem, GRID[name], beta_nodes=5, nodes=21)


@pytest.mark.slow
def test_the_dense_reference_itself(shared):
    """It reproduces an exact posterior that was computed elsewhere."""
    model, known = exacts.exact(shared, "seeds_stanified"), exacts.summary(shared, "seeds_stanified")
    problem = dense_exact.problem(model, lambda u: np.log(2 / np.pi) - np.log1p(np.exp(2 * u)) + u, 1.0)
    found = dense_exact.exact(problem, np.linspace(-9, 2, 100), beta_nodes=5, nodes=21)
    for k, key in enumerate(("beta[0]", "beta[1]", "beta[2]", "beta[3]", "sigma")):
        assert abs(found.mean[k] - known[key]["mean"]) < 1e-3 * known[key]["sd"]
        assert abs(found.sd[k] / known[key]["sd"] - 1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ISSUE)
def test_known_truth(shared, name):
    exact, run = truth(shared, name), models.runs(shared)[name, "pc/default"]
    approximation = fitted(models.inla(shared, name)).result.approximation
    figure, error = ISSUE[name]
    assert abs(exact.log_marginal - figure) < 2.5 * error
    assert abs(approximation.log_marginal - figure) < 0.05
    assert abs(approximation.log_marginal - exact.log_marginal) < 0.05
    assert abs(approximation.log_marginal - exact.log_marginal) < abs(run.log_marginal - exact.log_marginal)
    sd = approximation.marginals[COLUMNS[name]]
    row = Row("sd", sd.mean, sd.sd, exact.mean[-1], exact.sd[-1])
    show(f"{name}: log marginal {approximation.log_marginal:.4f}, exact {exact.log_marginal:.4f}", [row])
    assert abs(row.gap) < 0.02
    assert abs(row.sd / row.reference_sd - 1) < SDS
    for k, coefficient in enumerate(fitted(models.inla(shared, name)).model.design.coefficients):
        one = approximation.marginals[f"beta[{coefficient}]"]
        assert abs(one.mean - exact.mean[k]) < MEANS * exact.sd[k]


# The default priors of R-INLA put precisions at 20,000; cbpp's posterior has two modes then, of which its default way finds
# one (.5645), its classic way both (.1797).


def log_low(u):
    """Gamma(1, 5e-5) of the precision exp(−2 u), as a density of u."""
    return np.log(2 * 5e-5) - 2 * u - 5e-5 * np.exp(-2 * u)


@pytest.mark.slow
@pytest.mark.parametrize("name", ISSUE)
def test_two_modes(shared, name):
    model, wide = models.inla(shared, name, "default"), 1e4
    beta_sd = np.full(4, models.FIXED.sd)
    beta_sd[0] = wide  # for a flat intercept
    exact = dense_exact.exact(dense_exact.problem(model, log_low, beta_sd), np.linspace(-7.5, 1.3, 70), 5, 21)
    log_marginal = exact.log_marginal + np.log(wide * np.sqrt(2 * np.pi))
    approximation = fitted(model).result.approximation
    sd, run = approximation.marginals[COLUMNS[name]], models.runs(shared)[name, "default/default"]
    theirs = run.hyper[COLUMNS[name]]
    show(
        f"{name} default: log marginal {approximation.log_marginal:.4f}, exact {log_marginal:.4f}",
        [Row("sd", sd.mean, sd.sd, exact.mean[-1], exact.sd[-1])],
    )
    print(f"  R-INLA {theirs.mean:.4f} ({theirs.sd:.4f})")
    assert abs(approximation.log_marginal - log_marginal) < 0.05
    assert abs(sd.mean - exact.mean[-1]) < 0.05 * exact.sd[-1]
    assert abs(sd.mean - exact.mean[-1]) < abs(theirs.mean - exact.mean[-1])


# ---- long chains of our own samplers -----------------------------------------------------------


class Chain(NamedTuple):
    """A long chain of one of R-INLA's models."""

    engine: str
    draws: int
    thin: int = 1


CHAINS = {
    ("seeds", "pc"): Chain("metropolis", 10_000),
    ("cbpp", "pc"): Chain("metropolis", 10_000),
    ("epil", "pc"): Chain("metropolis", 10_000),
    ("salamander", "pc"): Chain("metropolis", 10_000, 2),
    ("grouseticks", "pc"): Chain("metropolis", 10_000, 2),
    ("scotland_bym2", "pc"): Chain("metropolis", 2_000),
    ("tokyo", "pc"): Chain("metropolis", 1_500),
    ("munich_besag", "pc"): Chain("gibbs", 1_500),
}


@cache
def chain(shared, name, setting):
    """Draws (chain, draw) of every printed row, and of the effects."""
    this = CHAINS[name, setting]
    model = models.inla(shared, name, setting)
    result = model.fit(this.engine, draws=this.draws, warmup=1_000, thin=this.thin, chains=4, seed=11).result
    rows = {row: np.asarray(result.values(place)) for row, place in result.rows.items()}
    return rows, {k: np.asarray(v) for k, v in result.draws.items() if k.startswith(("b_", "f_"))}


def marginal_draws(marginal, count=4_000):
    """The quantiles of a marginal at even shares."""
    return np.asarray(marginal.quantile((np.arange(count) + 0.5) / count))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting"), CHAINS)
def test_marginals_against_long_chains(shared, name, setting):
    """Wasserstein distances in units of sd by strategy; the corrected answer within .05.

    A distance has the Monte Carlo error of the chain in it, at worst that of its mean: 1 / √(effective size).
    """
    rows, _ = chain(shared, name, setting)
    model = models.inla(shared, name, setting)
    ways = {s: dict(strategy=s, correct=False) for s in ("gaussian", "variational", "simplified_laplace")}
    ways["corrected"] = {}
    print(f"\n{name} {setting}: distance to a chain in sds")
    distances = {}
    for key, draws in rows.items():
        size = float(effective_size(draws[None])[0])
        cells = []
        for way, settings in ways.items():
            marginal = fitted(model, **settings).result.approximation.marginals[key]
            distances[key, way] = wasserstein_distance(marginal_draws(marginal), draws.ravel()) / draws.std()
            cells.append(f"{way} {distances[key, way]:.3f}")
        print(f"  {key:28s} {'  '.join(cells)}  (chain {draws.mean():.4f} ({draws.std():.4f}), ess {size:.0f})")
        assert size > 2_000, f"{key}: {size:.0f} effective draws"
    for key in rows:
        assert distances[key, "corrected"] < DISTANCE, f"{key}: {distances[key, 'corrected']:.3f} sd"


# ---- R-INLA's runs -----------------------------------------------------------------------------

# Where its own figures are not the truth a long chain decides (DECIDED), and ours must be nearer to it. Chains of 4 x 10,000
# draws (effective 13,000 and more): salamander sds .932 (.248) and .864 (.257), R-INLA's .888 (.219) and .837 (.219);
# grouseticks BROOD .820, LOCATION .361 (.233), R-INLA's .789 and .477 (.175): it stops before sds near zero. Scotland's phi
# is .79 by chain and by brute force where P(phi > 1/2) = 1/3 holds exactly; R-INLA's .753 has a prior that does not add up
# so: the rate of the distance is −log(1/3) / d(1/2) although the distance ends at phi = 1.
# Munich's likewise: R-INLA's .398 (.182); phi, and sigma that moves with it, are held to a chain in its place (Gibbs, 4 x
# 1,500 draws, effective 3,300). With "besag" its rooms are .05 to .06 sd from a chain (4 x 2,500, effective 9,200 and more),
# ours .005.
BY_CHAIN = {
    ("munich_besag", "default", "beta[zim2]"): (8.20651, 0.22036),
    ("munich_besag", "default", "beta[zim3]"): (8.02749, 0.19908),
    ("munich_besag", "default", "beta[zim4]"): (7.59716, 0.20550),
    ("munich_bym2", "default", "phi_location"): (0.4532, 0.2054),
    ("munich_bym2", "default", "sigma"): (1.9006, 0.0324),
}
QUICK = [
    ("seeds", "pc"),
    ("cbpp", "pc"),
    ("epil", "pc"),
    ("epil", "default"),
    ("tokyo", "pc"),
    ("tokyo", "default"),
    ("munich_besag", "pc"),
    ("munich_besag", "default"),
    ("munich_bym2", "default"),
    ("lattice100", "pc"),
    ("lattice100", "default"),
]
# An effective size of 500 leaves means of grouseticks an error of .045 sd (the check allows .05): several runs are averaged.
RUNS = {"grouseticks": 5}
DECIDED = [("salamander", "pc"), ("grouseticks", "pc"), ("scotland_bym2", "pc")]


def figures(shared, name, setting, **settings):
    """Rows of ours against R-INLA's: fixed effects, hyperparameters."""
    model = models.inla(shared, name, setting)
    fit = fitted(model, **settings)
    run = models.runs(shared)[name, f"{setting}/default"]
    marginals = fit.result.approximation.marginals
    munich = name.startswith("munich")
    moved, spread = models.level(fit) if munich else (0.0, {})
    fixed, hyper = [], []
    for key, figure in run.fixed.items():
        here, sd = marginals[key].mean, marginals[key].sd
        if "zim" in key:
            here, sd = here + moved, spread[key]
        fixed.append(Row(key, here, sd, figure.mean, figure.sd))
    for key, figure in run.hyper.items():
        unit = models.unit(key[3:]) if munich and setting == "pc" and key[3:] in models.FULL else 1.0
        hyper.append(Row(key, unit * marginals[key].mean, unit * marginals[key].sd, figure.mean, figure.sd))
    return fixed, hyper, fit


@pytest.mark.parametrize(
    ("name", "setting"),
    [pytest.param(*q, marks=[pytest.mark.slow] if q[0][:6] in ("munich", "lattic") else []) for q in QUICK],
)
def test_figures_of_r_inla(shared, name, setting):
    fixed, hyper, fit = figures(shared, name, setting)
    show(f"{name} {setting}: {dict(fit.result.approximation.check)}", [*fixed, *hyper])
    for rows, tolerance in ((fixed, FIXED), (hyper, HYPER)):
        for row in rows:
            if (name, setting, row.name) in BY_CHAIN:
                mean, sd = BY_CHAIN[name, setting, row.name]
                assert abs(row.mean - mean) < min(tolerance * sd, abs(row.reference - mean)), str(row)
            else:
                assert abs(row.gap) < tolerance, str(row)


def averaged(rows):
    """One quantity of several runs."""
    return rows[0]._replace(mean=float(np.mean([r.mean for r in rows])), sd=float(np.mean([r.sd for r in rows])))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting"), DECIDED)
def test_nearer_to_the_truth_than_r_inla(shared, name, setting):
    """Where we differ from its figures by more than the tolerance, ours are nearer to a long chain, and near it."""
    draws, _ = chain(shared, name, setting)
    fixed, hyper, fit = figures(shared, name, setting)
    runs = [figures(shared, name, setting, seed=seed)[:2] for seed in range(1, RUNS.get(name, 1) + 1)]
    fixed, hyper = ([averaged(rows) for rows in zip(*kind, strict=True)] for kind in zip(*runs, strict=True))
    show(f"{name} {setting}: {dict(fit.result.approximation.check)}", [*fixed, *hyper])
    show("the same against the chain", [Row(r.name, r.mean, r.sd, draws[r.name].mean(), draws[r.name].std()) for r in [*fixed, *hyper]])  # fmt: skip
    for rows, tolerance in ((fixed, FIXED), (hyper, HYPER)):
        for row in rows:
            mean, sd = draws[row.name].mean(), draws[row.name].std()
            if abs(row.gap) >= tolerance:
                assert abs(row.mean - mean) < abs(row.reference - mean), f"R-INLA is nearer to {mean:.4f}: {row}"
            assert abs(row.mean - mean) < tolerance * sd, f"the chain has {mean:.4f} ({sd:.4f}): {row}"


# ---- where it must not trust itself ------------------------------------------------------------


def pairs(groups, sd, seed):
    """Bernoulli data with two rows per group."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), 2), np.tile([0.0, 1.0], groups)
    chance = 1 / (1 + np.exp(0.5 - x - sd * rng.normal(size=groups)[g]))
    return {"y": (rng.uniform(size=2 * groups) < chance).astype(int), "x": x, "g": [f"g{k:03d}" for k in g]}


@pytest.mark.slow
def test_two_bernoulli_rows_per_group():
    """Laplace is off by a posterior sd; the check says so; the chain that goes on agrees with quadrature."""
    model = Model("y ~ x + (1 | g)", pairs(100, 2.0, 5), "bernoulli", {"beta": Normal(0, 5), "sd": HalfNormal(5)})

    def log_prior(u):
        return np.log(2 / 5) - 0.5 * np.log(2 * np.pi) - 0.5 * (np.exp(u) / 5) ** 2 + u

    problem = dense_exact.problem(model, log_prior, 5.0)
    exact = dense_exact.exact(problem, np.linspace(-4, 2.3, 50), beta_nodes=9, nodes=41)
    plain = fitted(model, correct=False).result.approximation.marginals["sd_g[Intercept]"]
    assert plain.mean < exact.mean[-1] - 0.7 * exact.sd[-1]
    fit = fitted(model, draws=3_000)
    check = fit.result.approximation.check
    assert not check["ok"]
    assert check["continued"]
    assert "self-check failed" in " ".join(fit.result.approximation.messages)
    names = ("beta[Intercept]", "beta[x]", "sd_g[Intercept]")
    rows = []
    for k, key in enumerate(names):
        marginal = fit.result.approximation.marginals[key]
        rows.append(Row(key, marginal.mean, marginal.sd, exact.mean[k], exact.sd[k]))
    show(f"two Bernoulli rows per group: {dict(check)}; plain sd {plain.mean:.3f} ({plain.sd:.3f})", rows)
    for row, key in zip(rows, names, strict=True):
        draws = np.asarray(fit.result.values(fit.result.rows[key]))
        size, error, error_sd = errors(draws)
        assert size > 400
        assert abs(row.mean - row.reference) < min(4 * error, 0.2 * row.reference_sd), str(row)
        assert abs(row.sd - row.reference_sd) < max(4 * error_sd, 0.05 * row.reference_sd), str(row)


# ---- published analyses --------------------------------------------------------------------------

# The priors that the paper gives for these examples, Gamma(.5, .0164) and Gamma(1, .622) on precisions, are not among the
# reference numbers, but the figures confirm them: no sd is off by .05 of its own, and seeds' .278 (.117) comes out as
# .2780 (.1174). Models 5.2 and 5.3 of epil, and Scotland, have other priors and are left out.


@pytest.mark.parametrize(("data", "name"), exacts.PUBLISHED)
def test_fong_rue_and_wakefield(shared, data, name):
    """The paper's INLA makes no correction; nor does ours here. Its answers are printed beside the corrected ones."""
    model = exacts.published(shared, data, name)
    known = exacts.figures(shared, data, name, "INLA")
    plain, right = (fitted(model, correct=c).result.approximation.marginals for c in (False, True))
    rows = exacts.PUBLISHED[data, name].rows
    show(f"{data} {name}", [Row(k, plain[row].mean, plain[row].sd, *known[k]) for k, row in rows.items()])
    show("  corrected", [Row(k, right[row].mean, right[row].sd, *known[k]) for k, row in rows.items()])
    for k, row in rows.items():
        assert abs(plain[row].mean - known[k][0]) < 0.05 * known[k][1], k


def test_the_correction_against_the_papers_own_chain(shared):
    """It says that INLA's sds of the first salamander experiment are too small, and gives JAGS's, with two decimals."""
    corrected = fitted(exacts.published(shared, "salamander", "C exp1")).result.approximation.marginals
    for name, (value, _) in exacts.figures(shared, "salamander", "C exp1", "JAGS").items():
        marginal = corrected[exacts.PUBLISHED["salamander", "C exp1"].rows[name]]
        assert abs(marginal.mean - value) < 0.05 * marginal.sd, name


def test_scotland_by_laplace(shared):
    """Empirical Bayes on the connected graph, unscaled ICAR: -.177 (.117), .357 (.123), sd .728, as printed."""
    formula = "O ~ X10 + icar(district, graph=W, scale=False) + offset(log(E))"
    data, structures = models.table(shared, "scotland"), models.structures(shared, "scotland")
    fit = bayou.fit(formula, data, family="poisson", engine="laplace", reml=True, structures=structures)
    for name, estimate, error in (("Intercept", "-.177", ".117"), ("X10", ".357", ".123")):
        printed(float(fit.fixed_effects.loc[name, "estimate"]), estimate, name)
        printed(float(fit.fixed_effects.loc[name, "se"]), error, f"se of {name}")
    printed(float(fit.variance_components.loc["sd_district", "estimate"]), ".728", "sd")

"""The zoo: small models, families x structures, on which every pair of engines must find the same posterior.

Gibbs, Metropolis, NUTS, INLA, and the posterior by quadrature (`quadrature_posterior`), whichever take the model. A
pair agrees where no mean, sd or distribution of any parameter, group coefficients and structured effects too, differs
by more than Monte Carlo error explains (`bayou.diagnose.compared`) and no more than .05 sds.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

import bayou
from bayou import engines
from bayou.diagnose.compared import bar_of, compared, sample_of
from bayou.model import Model
from bayou.priors import LKJ, HalfNormal, Normal
from quadrature_posterior import quadrature_posterior

AREAS = [f"a{k}" for k in range(8)]
EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 0), (1, 5)]
MILD = {"beta": Normal(0, 2), "sd": HalfNormal(1)}
NOISE = {**MILD, "sigma": HalfNormal(2)}
ROWS = 80


def table():
    """Rows with levels of g, of a above it and of h across, times, areas, and a response of each family."""
    rng = np.random.default_rng(31)
    g = np.arange(ROWS) % 10
    h, t, area = (rng.permutation(np.arange(ROWS) % k) for k in (6, 9, 8))
    x = rng.normal(size=ROWS)
    b = rng.normal(size=(10, 2)) @ np.array([[0.8, 0.2], [0.0, 0.6]])
    eta = 0.5 + 0.4 * x + b[g, 0] + b[g, 1] * x + 0.5 * rng.normal(size=6)[h] + 0.5 * np.sin(t / 1.5)
    eta = eta + 0.4 * np.cos(area * np.pi / 4)
    trials, size = rng.integers(3, 9, ROWS), rng.uniform(0.5, 2.0, ROWS)
    chance, mu = 1.0 / (1.0 + np.exp(-eta)), np.exp(eta)
    return {
        "x": x, "t": t, "g": [f"g{k}" for k in g], "h": [f"h{k}" for k in h], "a": [f"p{k // 2}" for k in g],
        "area": [AREAS[k] for k in area], "trials": trials, "size": size, "y": eta + 0.6 * rng.normal(size=ROWS),
        "k": rng.poisson(size * mu), "over": rng.negative_binomial(3.0, 3.0 / (3.0 + mu)),
        "r": rng.binomial(trials, chance), "won": (rng.random(ROWS) < 1.0 / (1.0 + np.exp(-1.5 * eta))).astype(int),
        "time": rng.gamma(4.0, mu / 4.0) + 1e-3,
    }  # fmt: skip


SAMPLED = ("metropolis", "nuts", "inla")
EXACT = (*SAMPLED, "quadrature")

# name: formula, family, priors, engines; of structured effects gibbs and metropolis are one sampler
ZOO = {
    "gaussian": ("y ~ x + (1 | g)", "gaussian", NOISE, ("gibbs", *EXACT)),
    "gaussian, slopes": ("y ~ x + (x | g)", "gaussian", {**NOISE, "cor": LKJ(2)}, ("gibbs", *EXACT)),
    "gaussian, crossed": ("y ~ x + (1 | g) + (1 | h)", "gaussian", NOISE, ("gibbs", *SAMPLED)),
    "gaussian, walk": ("y ~ x + (1 | g) + rw1(t)", "gaussian", NOISE, ("gibbs", "nuts", "inla")),
    "gaussian, autoregression": ("y ~ x + ar1(t)", "gaussian", NOISE, ("gibbs", "nuts", "inla")),
    "poisson": ("k ~ x + (1 | g) + offset(log(size))", "poisson", MILD, EXACT),
    "poisson, slopes": ("k ~ x + (x | g)", "poisson", {**MILD, "cor": LKJ(2)}, EXACT),
    "poisson, nested": ("k ~ x + (1 | a/g)", "poisson", MILD, SAMPLED),
    "poisson, map": ("k ~ x + icar(area, graph=W) + offset(log(size))", "poisson", MILD, SAMPLED),
    "poisson, map and noise": ("k ~ x + bym2(area, graph=W)", "poisson", MILD, SAMPLED),
    "binomial": ("proportion(r, trials) ~ x + (1 | g)", "binomial", MILD, EXACT),
    "binomial, curve": ("proportion(r, trials) ~ x + rw2(t)", "binomial", MILD, SAMPLED),
    "bernoulli": ("won ~ x + (1 | g)", "bernoulli", MILD, EXACT),
    "negative binomial": ("over ~ x + (1 | g)", "negative_binomial", MILD, EXACT),
    "gamma": ("time ~ x + (1 | g)", "gamma", MILD, EXACT),
    "gamma, crossed": ("time ~ x + (1 | g) + (1 | h)", "gamma", MILD, SAMPLED),
}  # fmt: skip
SETTINGS = {
    "gibbs": {"draws": 3000, "warmup": 500},
    "metropolis": {"draws": 3000, "warmup": 700},
    "nuts": {"draws": 2000, "warmup": 700, "target_accept": 0.99},
    "inla": {},
}
SHORTER = {"draws": 1500, "warmup": 500}  # of the sampler of structured effects: its draws cost more
COARSEST = 0.3  # posterior sds: what the bar must be able to see of every mean


@cache
def model_of(name):
    formula, family, priors, _ = ZOO[name]
    structures = {"W": [(AREAS[i], AREAS[j]) for i, j in EDGES]} if "graph=W" in formula else None
    return Model(formula, table(), family, priors, structures=structures)


@cache
def sample(name, engine):
    """What an engine says of a model; engines draw from seeds of their own."""
    model = model_of(name)
    if engine == "quadrature":
        return quadrature_posterior(model, 5)
    seed = 100 + list(SETTINGS).index(engine)
    settings = SETTINGS[engine] | (SHORTER if model.design.structured and engine == "metropolis" else {})
    fit = model.fit(engine, seed=seed, **settings)
    assert fit.verdict.ok or not fit.result.chained, fit.verdict.line
    return sample_of(fit.result, groups=True)


def known(name):
    return [engine for engine in ZOO[name][3] if engine == "quadrature" or engine in engines.NAMES]


@pytest.mark.parametrize("name", ZOO)
def test_every_pair_of_engines_agrees(name):
    samples = {engine: sample(name, engine) for engine in known(name)}
    assert len(samples) >= 2
    trouble = []
    for one, other in combinations(samples, 2):
        rows = [row for row in samples[one].names if row in samples[other].names]
        assert len(rows) >= len(model_of(name).design.coefficients) + 1
        bar = bar_of(3 * len(rows) * len(samples))
        for row in rows:
            found = compared(samples[one], samples[other], row, bar)
            assert found.heavy or bar * found.error < COARSEST, f"{one}, {other}: {row} is known too badly"
            if found.trouble:
                trouble.append(f"{one} against {other}: {found.trouble}")
    assert not trouble, "\n".join(trouble)


def test_the_zoo_would_see_a_wrong_engine():
    """A shift of .15 sds and an sd a fifth too large in one parameter of one engine are named."""
    from dataclasses import replace

    right, other = sample("poisson", "metropolis"), sample("poisson", "quadrature")
    at = right.at(["sd_g[Intercept]"])[0]
    for shift, factor in ((0.15, 1.0), (-0.15, 1.0), (0.0, 1.2)):
        mean, sd = right.mean.copy(), right.sd.copy()
        mean[at] += shift * sd[at]
        sd[at] *= factor
        wrong = replace(right, mean=mean, sd=sd, tail=np.zeros_like(right.tail))
        assert compared(wrong, other, "sd_g[Intercept]", bar_of(60)).trouble, (shift, factor)


def test_agreement_says_the_same_of_the_zoo():
    chosen = [engine for engine in ("gibbs", "metropolis", "inla", "nuts") if engine in engines.NAMES]
    found = bayou.agreement(model_of("gaussian"), chosen, seed=2)
    assert found.ok, str(found)

"""Laws of every engine on a zoo of small models: names and shapes of the contract, and one posterior for all.

Each engine that applies to a model runs once; means of all parameters must agree pairwise within 4.5 Monte Carlo
standard errors.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

import bayou
from bayou.engines import Gibbs, Metropolis
from bayou.errors import Unsupported
from bayou.model import Model
from bayou.posterior.convergence import effective_size
from bayou.priors import (
    LKJ,
    PC,
    Exponential,
    FlatSD,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    HuangWand,
    InverseGamma,
    InverseWishart,
    Jeffreys,
    Normal,
    StudentT,
    Uniform,
    Wishart,
)

N, G = 60, 10


def simulated():
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(G), N // G)
    h = rng.permutation(np.arange(N) % 4)
    x, u = rng.normal(size=(2, N))
    b = rng.normal(size=(G, 2)) @ np.array([[0.6, 0.2], [0.0, 0.4]])
    eta = 0.4 + 0.5 * x + b[g, 0] + b[g, 1] * x + 0.4 * rng.normal(size=4)[h]
    s = np.arange(N) % 2
    size = rng.integers(3, 9, N)
    p = 1 / (1 + np.exp(-eta))
    mu = np.exp(0.6 * eta + 0.3)
    return {
        "y": eta + rng.normal(size=N) * np.where(s == 1, 1.2, 0.6),
        "x": x, "u": u, "z": rng.normal(size=G)[g],
        "g": np.array([f"g{i}" for i in g]), "h": np.array([f"h{i}" for i in h]),
        "a": np.array([f"a{i // 3}" for i in g]), "s": np.array(["low", "high"])[s],
        "w": rng.uniform(0.5, 2, N), "se": rng.uniform(0.4, 1.2, N), "exposure": rng.uniform(0.5, 2, N),
        "k": rng.poisson(mu), "over": rng.negative_binomial(2.0, 2.0 / (2.0 + mu)),
        "r": rng.binomial(size, p), "size": size, "won": (rng.random(N) < p).astype(int),
        "time": rng.gamma(3.0, mu / 3.0) + 1e-3, "level": 3.0 + np.exp(0.3 * eta) + 0.2 * rng.normal(size=N),
    }  # fmt: skip


DATA = simulated()
MILD = {"beta": Normal(0, 2), "sd": HalfNormal(1), "cor": LKJ(2)}

# name: formula, family, priors, further settings of the model
ZOO = {
    "random slope, defaults": ("y ~ x + (x | g)", "gaussian", None, {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", "gaussian", {**MILD, "sigma": HalfT(3, 1)}, {}),
    "crossed, uncorrelated slopes in both": ("y ~ x + (1 + x || g) + (1 + u || h)", "gaussian", MILD, {}),
    "nested": ("y ~ x + (1 | a/g)", "gaussian", {**MILD, "sd_a": PC(1, 0.1), "sigma": Exponential(1)}, {}),
    "no groups": ("y ~ x * u", "gaussian", {"beta": Normal(0, 2), "sigma": Jeffreys()}, {}),
    "sigma by": ("y ~ x + (1 | g)", "gaussian", {**MILD, "sigma2": InverseGamma(2, 1)}, {"sigma_by": "s"}),
    "group-level column": ("y ~ x + z + (x | g)", "gaussian", {"beta": Normal(0, 2), "sd": FlatSD()}, {}),
    "weights and offset": ("y ~ x + offset(u) + (1 | g)", "gaussian", MILD, {"weights": "w"}),
    "measured": ("measured(y, se) ~ x + (1 | g)", "gaussian", {"beta": Normal(0, 2), "sd": HalfCauchy(1)}, {}),
    "any prior on beta": (
        "y ~ x + u + (1 | g)", "gaussian",
        {"beta": StudentT(4, 0, 1), "beta[u]": Uniform(-0.2, 0.6), "precision_g": Gamma(2, 1), "sigma": Uniform(0, 5)},
        {},
    ),
    "inverse Wishart": ("y ~ x + (x | g)", "gaussian", {"beta": Normal(0, 2), "Sigma": InverseWishart(4, 0.5)}, {}),
    "Wishart precision": ("y ~ x + (x | g)", "gaussian", {"beta": Normal(0, 2), "Sigma": Wishart(5, 0.5)}, {}),
    "Huang & Wand": ("y ~ x + (x | g)", "gaussian", {"beta": Normal(0, 2), "Sigma": HuangWand(2, 1)}, {}),
    "three sds, three priors": (
        "y ~ x + (1 + x + u || g)", "gaussian",
        {**MILD, "sd_g[Intercept]": HalfT(4, 1), "variance_g[x]": InverseGamma(2, 0.5), "sd_g[u]": Uniform(0, 2)}, {},
    ),
    "poisson": ("k ~ x + offset(log(exposure)) + (x | g)", "poisson", MILD, {}),
    "poisson, crossed": ("k ~ x + (1 | g) + (1 | h)", "poisson", None, {}),
    "binomial": ("proportion(r, size) ~ x + (1 | g)", "binomial", MILD, {}),
    "bernoulli": ("won ~ x + z + (1 | g)", "bernoulli", MILD, {}),
    "probit": ("proportion(r, size) ~ x + (1 | g)", bayou.families.Binomial(link="probit"), MILD, {}),
    "cloglog": ("won ~ x + (1 | g)", bayou.families.Bernoulli(link="cloglog"), MILD, {}),
    "negative binomial": ("over ~ x + (1 | g)", "negative_binomial", MILD, {}),
    "gamma": ("time ~ x + (1 | g)", "gamma", {**MILD, "shape": Gamma(2, 0.5)}, {}),
    "gaussian, log link": ("level ~ x + (1 | g)", bayou.families.Gaussian(link="log"), MILD, {}),
    "no groups, counts": ("k ~ x + u", "poisson", {"beta": StudentT(4, 0, 1)}, {}),
}  # fmt: skip

ENGINES = {
    "collapsed": Gibbs(draws=2500, warmup=500),
    "blocked": Gibbs(parameterization="blocked", draws=5000, warmup=500),
    "marginal": Gibbs(parameterization="marginal", draws=5000, warmup=500, thin=2),
    "centered": Gibbs(parameterization="centered", draws=5000, warmup=1000, thin=12),
    "uncentered": Gibbs(parameterization="uncentered", draws=5000, warmup=1000, thin=4),
    "laplace": Metropolis(draws=4000, warmup=1000),
    "random walk": Metropolis(proposal="random_walk", scale="adapted", draws=4000, warmup=1500, thin=4),
}


@cache
def model_of(name):
    formula, family, priors, settings = ZOO[name]
    return Model(formula, DATA, family, priors, **settings)


@cache
def draws_of(name, engine):
    return bayou.fit(model_of(name), engine=ENGINES[engine], seed=17, progress=False).result.draws


def applies(name, engine):
    family = model_of(name).family
    return engine in ("laplace", "random walk") or (family.name, family.link.name) == ("gaussian", "identity")


def shapes(model, chains, draws):
    """The contract: names and shapes of everything in the posterior."""
    head = (chains, draws)
    out = {"beta": (*head, len(model.design.coefficients))}
    if model.family.dispersion is not None and not model.dispersion_known:
        levels = len(model.design.sigma_levels)
        out[model.family.dispersion] = (*head, levels) if model.design.sigma_by is not None else head
    for g in model.design.groupings:
        p, J = len(g.coefficients), len(g.levels)
        out[f"sd_{g.name}"] = (*head, p)
        out[f"b_{g.name}"] = (*head, J, p)
        if any(len(block) > 1 for block in g.blocks):
            out[f"cor_{g.name}"] = (*head, p, p)
    return out


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ZOO)
def test_names_shapes_and_finite_numbers(name, engine):
    model = model_of(name)
    if not applies(name, engine):
        with pytest.raises(Unsupported, match="metropolis"):
            draws_of(name, engine)
        return
    draws = draws_of(name, engine)
    assert {k: v.shape for k, v in draws.items()} == shapes(model, 4, ENGINES[engine].draws)
    for key, values in draws.items():
        assert np.isfinite(values).all(), key
        if key.startswith(("sd_", "sigma", "phi", "shape")):
            assert (values > 0).all(), key
        if key.startswith("cor_"):
            np.testing.assert_allclose(np.diagonal(values, axis1=-2, axis2=-1), 1.0, atol=1e-9)
            assert np.abs(values).max() <= 1 + 1e-9
            np.testing.assert_allclose(values, values.swapaxes(-1, -2), atol=1e-12)


def quantities(name, draws):
    """Numbers to compare; heavy tails on the log scale."""
    out = {}
    for key, values in draws.items():
        flat = values.reshape(*values.shape[:2], -1)
        if key.startswith("b_"):
            flat = flat[..., [0, -1]]
        elif key.startswith("cor_"):
            i, k = np.tril_indices(values.shape[-1], -1)
            flat = values[..., i, k]
            flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]
        elif key != "beta":
            # a root reaches down to zero without a long tail
            flat = np.sqrt(flat) if key.startswith("sd_") else np.log(flat)
        for k in range(flat.shape[-1]):
            out[f"{key}[{k}]"] = flat[..., k]
            out[f"{key}[{k}]²"] = (flat[..., k] - flat[..., k].mean()) ** 2
    return out


@pytest.mark.parametrize("name", ZOO)
def test_engines_agree(name):
    found = {}
    for engine in ENGINES:
        if applies(name, engine):
            numbers = quantities(name, draws_of(name, engine))
            size = effective_size(np.stack(list(numbers.values())))
            found[engine] = {
                key: (values.mean(), values.std() / np.sqrt(ess), ess)
                for (key, values), ess in zip(numbers.items(), size, strict=True)
            }
    assert len(found) >= 2
    trouble, compared = [], 0
    for one, other in combinations(found, 2):
        assert set(found[one]) == set(found[other])
        for key, (mean, error, ess) in found[one].items():
            mean2, error2, ess2 = found[other][key]
            if min(ess, ess2) < 150:
                continue  # its standard error is itself a guess
            compared += 1
            gap = (mean - mean2) / np.hypot(error, error2)
            if abs(gap) > 4.5:
                trouble.append(f"{key}: {one} {mean:.4g}, {other} {mean2:.4g}, {gap:+.1f} standard errors")
    assert not trouble, "\n".join(trouble)
    assert compared > 0.6 * sum(len(found[one]) for one, _ in combinations(found, 2))


@pytest.mark.parametrize("engine", ENGINES)
def test_draws_of_the_linear_predictor_are_those_of_the_data(engine):
    """X beta + Z b from the draws explains the response as it should: all pieces are in the same coordinates."""
    draws = draws_of("crossed, uncorrelated slopes in both", engine)
    design = model_of("crossed, uncorrelated slopes in both").design
    eta = design.X @ draws["beta"].mean(axis=(0, 1))
    for g in design.groupings:
        eta += (g.Z * draws[f"b_{g.name}"].mean(axis=(0, 1))[g.codes]).sum(axis=1)
    left = np.std(design.y - eta)
    assert 0.7 < left / draws["sigma"].mean() < 1.1

"""No kernel reads or writes beyond its arrays.

Compiled code does not look; NumPy does. So the samplers run here uncompiled, a few scans of models of many
shapes, in a process of their own: an index beyond an array, which would be silent there (or change the draws
from run to run), is an error here.
"""

import os
import subprocess
import sys

import pytest

BEFORE = """
import warnings, numpy as np
import bayou, bayou.jit, bayou.packed
bayou.packed.packed = lambda parts: parts


def window(array, at, n):
    if not 0 <= at <= at + n <= array.size:
        raise IndexError(f"{n} elements from {at} on of an array of {array.size}")
    return array.reshape(-1)[at : at + n]


bayou.jit.window = window
bayou.jit.kernel = lambda function=None, **options: function if function is not None else (lambda f: f)
from bayou.engines import Gibbs, Metropolis
from bayou.priors import Exponential, Flat, FlatSD, HalfNormal, InverseWishart, Normal, StudentT, Uniform

rng = np.random.default_rng(1)
n = 24
data = {"y": rng.normal(size=n), "x": rng.normal(size=n), "z": rng.normal(size=n), "k": rng.poisson(2, n) + 0.0,
        "s": np.full(n, 9), "p": rng.gamma(2, size=n), "g": np.repeat(list("abcd"), 6), "h": np.tile(list("uvw"), 8),
        "u": np.repeat(np.arange(12), 2), "e": np.full(n, 0.5)}
AWKWARD = {"beta": StudentT(3, 0, 2), "sd": Uniform(0, 5)}
LAST = {"beta[x]": Uniform(-3, 3)}  # of models with such a column
failures = []
settings = {"draws": 3, "warmup": 5, "chains": 1, "progress": False}


def run(formula, family, priors, engine, **options):
    if priors is LAST and "x" not in bayou.Model(formula, data, family).design.coefficients:
        return
    try:
        bayou.fit(formula, data, family, priors, engine=engine, seed=1, **options)
    except IndexError as error:
        failures.append(f"{formula}, {family}, {priors}, {engine.describe()}: {error}")
"""

ZOO = {
    "gibbs": """
for name in ("collapsed", "blocked", "marginal", "centered", "uncentered"):
    for right in ("1", "x + (1 | g)", "1 + (x | g)", "x + (x || g)", "z + (1 | g) + (0 + x | g)", "x + (z + x | g)",
                  "(1 | g) + (1 | h)", "x + (x | g) + (x || h)", "x + (1 | g/h)", "0 + (x | g)", "x + z + (1 | u)"):
        for priors in (None, AWKWARD, LAST):
            run("y ~ " + right, "gaussian", priors, Gibbs(parameterization=name, **settings))
    run("y ~ x + (x | g)", "gaussian", None, Gibbs(parameterization=name, **settings), sigma_by="h")
    run("measured(y, e) ~ x + (1 | g)", "gaussian", None, Gibbs(parameterization=name, **settings))
""",
    "metropolis": """
for proposal, scale in (("laplace", 0.5), ("random_walk", 0.5), ("random_walk", "adapted")):
    engine = Metropolis(proposal=proposal, scale=scale, **settings)
    for right in ("1", "x + (1 | g)", "1 + (x | g)", "x + (x || g)", "z + (1 | g) + (0 + x | g)", "x + (z + x | g)",
                  "(1 | g) + (1 | h)", "x + (x | g) + (x || h)", "x + (1 | g/h)", "0 + (x | g)", "x + z + (1 | u)"):
        for priors in (None, AWKWARD, LAST):
            run("k ~ " + right, "poisson", priors, engine)
    for left, family in (("y", "gaussian"), ("proportion(k, s)", "binomial"), ("k", "negative_binomial"), ("p", "gamma"),
                         ("proportion(k, s)", bayou.families.Binomial(link="probit")), ("measured(y, e)", "gaussian")):
        for right in ("x + (x | g)", "x + (x || g) + (1 | h)"):
            run(f"{left} ~ {right}", family, None, engine)
    # long enough for the approximations that the groups are carried by
    long = Metropolis(proposal=proposal, scale=scale, **settings | {"warmup": 103})
    for right in ("x + (x | g)", "0 + (1 | g)", "x + (1 | g) + (x || h)", "(1 | g/h)"):
        run(f"k ~ {right}", "poisson", None, long)
    run("y ~ x + (x | g)", "gaussian", None, engine, sigma_by="h")
    run("y ~ x + (x | g)", "gaussian", {"Sigma_g": InverseWishart(3, np.eye(2)), "sigma": Exponential(1)}, engine)
""",
}


AFTER = """
if failures:
    raise SystemExit("\\n".join(failures))
"""


@pytest.mark.parametrize("engine", ZOO)
def test_samplers_stay_within_their_arrays(engine):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BEFORE + ZOO[engine] + AFTER], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]

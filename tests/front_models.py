"""Models whose Schur complement has every sparse shape, small enough for the dense answer."""

import numpy as np

from bayou.model import Model
from bayou.priors import HalfNormal, Normal

FORMULAS = {
    "nested": "{y} ~ x + (1 | a/b)",
    "nested, three deep": "{y} ~ x + (1 | a/b/c)",
    "nested, no fixed effects": "{y} ~ 0 + (1 | a/b)",
    "crossed": "{y} ~ x + (1 | b) + (1 | h)",
    "nested and crossed": "{y} ~ x + (1 | a/b) + (1 | h)",
    "slopes in an outer factor": "{y} ~ x + (1 | a:b) + (x | a)",
    "slopes in all": "{y} ~ x + v + (x | a:b) + (1 + x || a) + (x | h)",
}
RESPONSES = {
    "y": "gaussian",
    "counts": "poisson",
    "proportion(wins, trials)": "binomial",
    "spread": "negative_binomial",
    "times": "gamma",
}
PRIORS = {"beta": Normal(0.3, 1.5), "sd": HalfNormal(1.0)}


def table(seed=3, outer=9, inner=4, rows=3):
    rng = np.random.default_rng(seed)
    n = outer * inner * rows * 2
    a = np.repeat(np.arange(outer), n // outer)
    b = np.repeat(np.arange(outer * inner), n // (outer * inner))
    c = np.repeat(np.arange(n // 2), 2)
    h = rng.integers(0, 11, n)
    x = rng.normal(size=n)
    eta = 0.4 + 0.3 * x + 0.6 * rng.normal(size=outer)[a] + 0.5 * rng.normal(size=outer * inner)[b]
    eta += 0.4 * rng.normal(size=11)[h] + 0.3 * x * rng.normal(size=outer)[a]
    trials = rng.integers(1, 6, n)
    mean = np.exp(eta)
    return {
        "y": eta + 0.7 * rng.normal(size=n),
        "counts": rng.poisson(mean),
        "wins": rng.binomial(trials, 1 / (1 + np.exp(-eta))),
        "trials": trials,
        "spread": rng.poisson(mean * rng.gamma(2.0, 0.5, n)),
        "times": mean * rng.gamma(3.0, 1 / 3.0, n) + 1e-3,
        "x": x,
        "v": rng.normal(size=outer)[a],
        "s": np.array([f"s{i}" for i in np.arange(n) % 2]),
        "a": np.array([f"a{i:03}" for i in a]),
        "b": np.array([f"b{i:03}" for i in b]),
        "c": np.array([f"c{i:03}" for i in c]),
        "h": np.array([f"h{i:03}" for i in h]),
    }


def build(name, response="counts", priors=None, **settings):
    formula = FORMULAS[name].format(y=response)
    return Model(formula, table(), family=RESPONSES[response], priors=priors, **settings)


def somewhere(of, seed=1, spread=0.6):
    """Parameters that no one would start at."""
    rng = np.random.default_rng(seed)
    P = of.X.shape[1]
    beta = np.concatenate([[0.3], np.full(max(P - 1, 0), 0.2)])[:P]
    entries = spread * of.numbers.start() + 0.2 * rng.normal(size=of.numbers.size)
    return of.join(beta, of.numbers.factors(entries), np.full(max(of.levels, 1), 0.8))

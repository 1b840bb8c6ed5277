"""Models that nobody thought of: formulas, families, priors and data drawn at random, small and with proper priors."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayou.families import Bernoulli, Binomial, Family, Gamma, Gaussian, NegativeBinomial, Poisson
from bayou.model import Model
from bayou.priors import LKJ, Exponential, HalfNormal, HalfT, HuangWand, InverseWishart, Normal, StudentT

FIXED = ("1", "x", "x + z", "x*z", "x + v", "0 + x", "x + s")
COLUMNS = {"1": 0.35, "1 + x": 0.3, "0 + x": 0.1, "1 + x + z": 0.1, "1 + z": 0.15}
FACTORS: dict[tuple[str, ...], float] = {("g",): 0.25, ("g", "h"): 0.4, ("g", "a"): 0.15, ("g", "h", "a"): 0.1, ("a/g",): 0.1}
FAMILIES: dict[str, tuple[Family, ...]] = {
    "gaussian": (Gaussian(),),
    "poisson": (Poisson(),),
    "bernoulli": (Bernoulli(), Bernoulli(link="probit")),
    "binomial": (Binomial(), Binomial(link="probit"), Binomial(link="cloglog")),
    "gamma": (Gamma(link="log"),),
    "negative_binomial": (NegativeBinomial(),),
}
PRIORS: tuple[dict[str, Any], ...] = (
    {"beta": Normal(0, 1.5), "sd": HalfNormal(0.8)},
    {"beta": Normal(0, 2), "Sigma": HuangWand(4, 0.7)},
    {"beta": Normal(0, 2), "Sigma": InverseWishart(8, 1.5)},
    {"beta": Normal(0, 1.5), "sd": Exponential(1.5)},
    {"beta": StudentT(4, 0, 1), "sd": HalfT(3, 0.7), "cor": LKJ(2)},
)


def _chosen(options: dict[Any, float], rng: np.random.Generator) -> Any:
    return list(options)[rng.choice(len(options), p=list(options.values()))]


def _term(factor: str, rng: np.random.Generator) -> str:
    columns = _chosen(COLUMNS, rng)
    return f"({columns} {'||' if '+' in columns and rng.random() < 0.35 else '|'} {factor})"


def random_model(seed: int) -> Model:
    """Return the model of a seed: 40 to 160 rows, up to three factors, nested (a above g) or crossed (h)."""
    rng = np.random.default_rng(seed)
    n, J, H, A = (int(rng.integers(*ends)) for ends in ((40, 160), (4, 12), (3, 8), (2, 4)))
    g, h = rng.integers(0, J, n), rng.integers(0, H, n)
    data: dict[str, Any] = {
        "x": rng.normal(size=n), "z": rng.normal(size=n) + 0.3, "v": rng.normal(size=J)[g], "u": 0.3 * rng.normal(size=n),
        "g": np.char.add("g", g.astype(str)), "h": np.char.add("h", h.astype(str)),
        "a": np.char.add("a", (g % A).astype(str)), "s": np.array(["p", "q"])[rng.integers(0, 2, n)],
        "w": rng.uniform(0.5, 2.0, n), "m": rng.integers(1, 6, n),
    }  # fmt: skip
    terms = [FIXED[rng.integers(len(FIXED))], *(_term(factor, rng) for factor in _chosen(FACTORS, rng))]
    if rng.random() < 0.2:
        terms.append("offset(u)")
    lines = 0.6 * rng.normal(size=J)[g] + 0.3 * rng.normal(size=J)[g] * data["x"]
    eta = np.clip(0.3 + 0.4 * data["x"] + lines + 0.4 * rng.normal(size=H)[h], -3.0, 3.0)
    name = list(FAMILIES)[rng.integers(len(FAMILIES))]
    family = FAMILIES[name][rng.integers(len(FAMILIES[name]))]
    left, settings = "y", {}
    if name == "gaussian":
        data["y"] = eta + 0.7 * rng.normal(size=n)
        settings = ({}, {}, {"weights": "w"}, {"sigma_by": "s"})[rng.integers(4)]
    elif name == "gamma":
        data["y"] = rng.gamma(3.0, np.exp(eta) / 3.0)
    elif name in ("poisson", "negative_binomial"):
        data["y"] = rng.poisson(np.exp(eta) * (1.0 if name == "poisson" else rng.gamma(2.0, 0.5, n)))
    else:
        trials = data["m"] if name == "binomial" else 1
        data["y"] = rng.binomial(trials, 1.0 / (1.0 + np.exp(-eta)))
        left = "proportion(y, m)" if name == "binomial" else "y"
    priors = PRIORS[rng.integers(len(PRIORS))]
    return Model(f"{left} ~ {' + '.join(terms)}", data, family=family, priors=priors, **settings)

"""Small models of every structure, family and kind of prior, with proper priors that do not look at the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayou.families import Bernoulli, Binomial, Family, Gamma, Gaussian, NegativeBinomial, Poisson
from bayou.model import Model
from bayou.priors import (
    LKJ,
    Exponential,
    HalfNormal,
    HalfT,
    HuangWand,
    InverseGamma,
    InverseWishart,
    Normal,
    StudentT,
    Uniform,
)

ROWS, GROUPS = 12, 4
PRIORS: dict[str, Any] = {"beta": Normal(0.2, 0.7), "sd": HalfNormal(0.7), "cor": LKJ(2.0)}
SCALE = Uniform(0.3, 1.2)

FAMILIES: dict[str, Family] = {
    "gaussian": Gaussian(),
    "bernoulli": Bernoulli(),
    "binomial": Binomial(),
    "poisson": Poisson(),
    "negative_binomial": NegativeBinomial(),
    "gamma": Gamma(),
    "gaussian log": Gaussian(link="log"),
    "probit": Binomial(link="probit"),
    "cloglog": Binomial(link="cloglog"),
}

# formula, settings
STRUCTURES: dict[str, tuple[str, dict[str, str]]] = {
    "slopes": ("x + (x | g)", {}),
    "intercepts": ("x + (1 | g)", {}),
    "uncorrelated": ("x + (1 + x || g)", {}),
    "no fixed effects": ("0 + (1 | g)", {}),
    "crossed": ("x + (x | g) + (1 | h)", {}),
    "slopes of two kinds": ("x + (x | g) + (1 + x || h)", {}),
    "nested": ("x + (1 | a/g)", {}),
    "three levels": ("x + (1 | a/g/o)", {}),
    "group-level column": ("x + v + (1 | g)", {}),
    "offset": ("x + offset(u) + (1 | g)", {}),
    "no groups": ("x + u", {}),
    "weights": ("x + offset(u) + (x | g)", {"weights": "w"}),
    "two sigmas": ("x + (x | g)", {"sigma_by": "s"}),
    "two sigmas, crossed": ("x + (1 | g) + (1 | h)", {"sigma_by": "s"}),
    "measured": ("x + (x | g)", {}),
}

PRIOR_KINDS: dict[str, dict[str, Any]] = {
    "inverse Wishart": {"beta": Normal(0, 0.7), "Sigma": InverseWishart(7, 1.0)},
    "Huang-Wand": {"beta": Normal(0, 0.7), "Sigma": HuangWand(6, 0.5)},
    "uniform sd": {"beta": Normal(0, 0.7), "sd": Uniform(0.1, 1.0), "cor": LKJ(1.5)},
    "half-t": {"beta": Normal(0, 0.7), "sd": HalfT(8, 0.5), "cor": LKJ(3.0)},
    "exponential": {"beta": Normal(0, 0.7), "sd": Exponential(2.0), "cor": LKJ(1.0)},
    "any prior on beta": {**PRIORS, "beta[x]": StudentT(9, 0.3, 0.5)},
    "bounded beta": {**PRIORS, "beta": Uniform(-1.0, 1.0)},
}


def table(seed: int = 3) -> dict[str, np.ndarray]:
    """Twelve rows: three of each of the four levels of g, four of each of the three of h."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    return {
        "y": rng.normal(size=ROWS),
        "x": np.round(rng.normal(size=ROWS), 2),
        "u": np.round(0.5 * rng.normal(size=ROWS), 2),
        "v": np.round(rng.normal(size=GROUPS), 2)[g],
        "g": np.array(list("abcd"))[g],
        "h": np.tile(list("uvw"), ROWS // 3),
        "a": np.array(["p", "p", "q", "q"])[g],
        "o": np.tile(["1", "1", "2"], GROUPS),
        "s": np.array(["s", "t"])[np.arange(ROWS) % 2],
        "w": np.round(rng.uniform(0.5, 2.0, ROWS), 2),
        "se": np.round(rng.uniform(0.5, 1.5, ROWS), 2),
        "size": np.arange(ROWS) % 4 + 3.0,
    }


def build(structure: str, family: str = "gaussian", priors: dict[str, Any] | None = None) -> Model:
    """One of the models; priors of covariances and dispersion are added where they are not given."""
    formula, settings = STRUCTURES[structure]
    chosen = FAMILIES[family]
    data = table()
    data["k"] = np.arange(ROWS) % 2 if chosen.name == "bernoulli" else np.arange(ROWS) % 4 + (chosen.name == "gamma")
    left = {"gaussian": "y", "binomial": "proportion(k, size)"}.get(chosen.name, "k")
    wanted = dict(PRIORS if priors is None else priors)
    if structure == "measured":
        left = "measured(y, se)"
    elif chosen.dispersion is not None:
        if "sigma2" not in wanted:
            wanted.setdefault("sigma" if chosen.dispersion == "sigma" else "dispersion", SCALE)
    if "|" not in formula:
        wanted = {key: prior for key, prior in wanted.items() if key not in ("sd", "cor", "Sigma")}
    elif "(x |" not in formula:
        wanted.pop("cor", None)
    return Model(f"{left} ~ {formula}", data, chosen, wanted, **settings)


# a Gaussian response with log link says next to nothing about a low mean and nearly all about a high one; with wide
# priors a chain whose data follow it stays high or low for thousands of scans
WEAK: dict[str, Any] = {"beta": Normal(0.2, 0.4), "sd": HalfNormal(0.3), "cor": LKJ(2.0), "sigma": Uniform(0.8, 1.6)}
CONJUGATE_SIGMA = InverseGamma(4.0, 1.5)

"""Small models with structured effects: every structure, every family, and the ways of weighting and repeating them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayou.model import Model

AREAS = [f"area {k}" for k in range(9)]
EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 3), (5, 6), (6, 7), (5, 7)]  # two components, and area 8 an island
ROWS = 45

STRUCTURES = {
    "intercepts": "(1 | g)",
    "slopes": "(1 + x | g)",
    "uncorrelated": "(1 + x || g)",
    "rw1": "rw1(t)",
    "rw1 uneven": "rw1(u)",
    "rw1 cyclic": "rw1(t, cyclic=True)",
    "rw1 loose": "rw1(t, constrained=False)",
    "rw1 unscaled": "rw1(t, scale=False)",
    "rw2": "rw2(t)",
    "rw2 uneven": "rw2(u)",
    "rw2 cyclic": "rw2(t, cyclic=True)",
    "ar1": "ar1(t)",
    "ar1 uneven": "ar1(u)",
    "seasonal": "seasonal(t, period=4)",
    "s": "s(z, basis=8)",
    "icar": "icar(area, graph=W)",
    "icar unscaled": "icar(area, graph=W, scale=False)",
    "car": "car(area, graph=W)",
    "leroux": "leroux(area, graph=W)",
    "bym2": "bym2(area, graph=W)",
    "known": "(1 | animal, covariance=A)",
    "known precision": "(1 | animal, precision=P)",
    "by": "rw1(t, by=g)",
    "leroux by": "leroux(area, graph=W, by=arm)",
    "mixed": "(1 | g) + rw2(t) + bym2(area, graph=W)",
    "slopes and areas": "(1 + x | g) + icar(area, graph=W)",
}
FAMILIES = ("gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma")


def structures() -> dict[str, Any]:
    """The graph W and a covariance A with its inverse P, labelled."""
    rng = np.random.default_rng(5)
    names = [f"animal {k}" for k in range(7)]
    root = rng.normal(size=(7, 7))
    A = root @ root.T / 7.0 + 0.3 * np.eye(7)
    neighbours = {name: [] for name in AREAS}
    for i, j in EDGES:
        neighbours[AREAS[i]].append(AREAS[j])
        neighbours[AREAS[j]].append(AREAS[i])
    return {"W": neighbours, "A": (names, A), "P": (names, np.linalg.inv(A))}


def table(family: str, seed: int = 3) -> dict[str, Any]:
    """Data with a smooth in t, differences between areas, animals and levels of g, and a slope in x."""
    rng = np.random.default_rng(seed)
    n = ROWS
    t = np.concatenate([np.arange(12), rng.integers(0, 12, n - 12)])
    area = np.concatenate([np.arange(9), rng.integers(0, 9, n - 9)])[rng.permutation(n)]
    animal = np.concatenate([np.arange(7), rng.integers(0, 7, n - 7)])[rng.permutation(n)]
    g = np.concatenate([np.arange(5), rng.integers(0, 5, n - 5)])
    x = rng.normal(size=n)
    z = rng.uniform(0.0, 10.0, n)
    arm = rng.integers(0, 2, n)
    eta = 0.4 + 0.5 * x + 0.6 * np.sin(t / 2.0) + 0.4 * rng.normal(size=9)[area] + 0.5 * rng.normal(size=5)[g]
    eta = eta + 0.3 * rng.normal(size=7)[animal]
    trials, size = rng.integers(1, 7, n), rng.uniform(0.5, 2.0, n)
    y: np.ndarray = {
        "gaussian": lambda: eta + 0.7 * rng.normal(size=n),
        "bernoulli": lambda: (rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
        "binomial": lambda: rng.binomial(trials, 1.0 / (1.0 + np.exp(-eta))).astype(float),
        "poisson": lambda: rng.poisson(size * np.exp(eta)).astype(float),
        "negative_binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, n)).astype(float),
        "gamma": lambda: np.exp(eta) * rng.gamma(3.0, 1.0 / 3.0, n),
    }[family]()
    return {
        "y": y,
        "x": x,
        "t": t,
        "u": np.round(t + 0.3 * np.sin(3.0 * t), 3),
        "z": z,
        "g": [f"g{k}" for k in g],
        "arm": [("control", "drug")[k] for k in arm],
        "area": [AREAS[k] for k in area],
        "animal": [f"animal {k}" for k in animal],
        "trials": trials,
        "size": size,
        "w": rng.uniform(0.5, 2.0, n),
    }


def build(structure: str, family: str = "gaussian", priors: Any = None, seed: int = 3, **settings: Any) -> Model:
    """The model of one structure and family; Poisson rows have an offset, binomial ones trials."""
    response = "proportion(y, trials)" if family == "binomial" else "y"
    offset = " + offset(log(size))" if family == "poisson" else ""
    text = f"{response} ~ x + {STRUCTURES.get(structure, structure)}{offset}"
    return Model(text, table(family, seed), family, priors, structures=structures(), **settings)

"""Models with structured effects, and hand-made draws, so that what stands after the engines is tested without them."""

from __future__ import annotations

from typing import Any

import numpy as np

import bayou
from bayou.posterior import Approximation, Marginal, Mixture, Posterior, Scores

EDGES = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e"), ("e", "f")]


def data(n: int = 120, seed: int = 5) -> dict[str, Any]:
    """A table with times, areas, animals and a factor."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) % 24
    return {
        "y": rng.poisson(4.0, n),
        "x": np.round(rng.normal(size=n), 3),
        "t": t,
        "u": np.round(rng.uniform(0.0, 10.0, n), 2),
        "g": np.array(["p", "q", "r"])[np.arange(n) // 24 % 3],
        "area": np.array(list("abcdef"))[rng.integers(0, 6, n)],
        "animal": np.array(["ann", "bob", "cid", "dot"])[rng.integers(0, 4, n)],
        "h": np.array(["s1", "s2", "s3", "s4", "s5"])[rng.integers(0, 5, n)],
    }


def relationship() -> tuple[list[str], np.ndarray]:
    A = np.array([[1.0, 0.5, 0.25, 0.0], [0.5, 1.0, 0.5, 0.0], [0.25, 0.5, 1.25, 0.1], [0.0, 0.0, 0.1, 2.0]])
    return ["ann", "bob", "cid", "dot"], A


def model(formula: str = "y ~ x + rw2(t) + bym2(area, graph=W) + (1 | h)", family: str = "poisson") -> bayou.Model:
    """Build a model of `data`; W is a graph of six areas, A a matrix of four animals."""
    given = {name: what for name, what in {"W": EDGES, "A": relationship()}.items() if f"={name}" in formula}
    return bayou.Model(formula, data(), family, structures=given or None)


def posterior(of: bayou.Model | None = None, chains: int = 2, draws: int = 200, seed: int = 3) -> Posterior:
    """Draws of plausible values: hyperparameters about one half, effects from their prior given those."""
    of = model() if of is None else of
    rng = np.random.default_rng(seed)
    shape = (chains, draws)
    out = {"beta": 0.3 + 0.1 * rng.normal(size=(*shape, len(of.design.coefficients)))}
    for g in of.design.groupings:
        out[f"sd_{g.name}"] = 0.5 * np.exp(0.2 * rng.normal(size=(*shape, g.Z.shape[1])))
        out[f"b_{g.name}"] = 0.5 * rng.normal(size=(*shape, len(g.levels), g.Z.shape[1]))
    for term, effect in zip(of.design.structured, of.effects, strict=True):
        thetas = 0.3 * rng.normal(size=(chains * draws, len(effect.hyperparameters)))
        for k, h in enumerate(effect.hyperparameters):
            out[f"{h.role}_{term.name}"] = np.array([h.value(t) for t in thetas[:, k]]).reshape(shape)
        f = effect.draw_each(thetas, rng)[:, :, : effect.observed]
        f = f if term.by is not None else f[:, 0]
        out[f"f_{term.name}"] = f.reshape(*shape, *f.shape[1:])
    if of.family.dispersion:
        out[of.family.dispersion] = 0.7 * np.exp(0.1 * rng.normal(size=shape))
    info = {"engine": "stand-in", "seconds": 0.5, "seed": 1, "warmup": 100, "thin": 1, "messages": []}
    return Posterior(of, "StandIn()", out, {"log_density": rng.normal(size=shape)}, info)


def approximated(of: Posterior | None = None, **check: Any) -> Posterior:
    """The same with densities: marginals from the draws, effects as normal mixtures of two parts."""
    of = posterior() if of is None else of
    marginals = {}
    for name, place in of.rows.items():
        scale = "identity" if name.startswith("beta") else "logit" if name.startswith("phi_") else "log"
        marginals[name] = Marginal.of_draws(of.values(place), scale=scale)
    effects = {}
    for key in of.draws:
        if key.startswith(("f_", "b_")):
            flat = of.flat(key)
            half = len(flat) // 2
            parts = (flat[:half], flat[half:])
            effects[key] = Mixture(
                np.array([0.5, 0.5]),
                np.array([p.mean(axis=0) for p in parts]),
                np.array([p.std(axis=0) for p in parts]),
            )
    n = of.model.design.n
    verdict = {"shift": 0.03, "effective_size": 812.0, "k_hat": 0.31, "ok": True, "corrected": True} | check
    found = Approximation(
        method="variational, 2 nodes",
        marginals=marginals,
        effects=effects,
        thetas=np.zeros((2, 3)),
        log_weights=np.log([0.5, 0.5]),
        log_marginal=-321.5,
        log_marginal_error=0.02,
        scores=Scores(512.5, 514.0, 9.5, 10.25, np.full(n, 0.2), np.full(n, 0.5)),
        check=verdict,
    )
    return Posterior(of.model, "INLA()", of.draws, {}, {**of.info, "warmup": 0}, approximation=found)

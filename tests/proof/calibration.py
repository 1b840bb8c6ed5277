"""Simulation-based calibration: data sets from the prior, a short fit of each, the ranks of the truth among its draws.

If a sampler draws from the posterior, the rank of the true value of any quantity among L independent draws is uniform
on 0 … L (Talts et al. 2018, arXiv:1804.06788; quantities that look at the data see more: Modrák et al. 2023). The
ranks are judged by their cumulative distribution within the simultaneous band of `bayou.calibrate`; parameters and
responses are drawn, and quantities computed, by the slow code of the tests, and so are a check on the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import oracle
from bayou.diagnose.calibration.bands import least_tail, tail_probability
from bayou.engines import Gibbs, Metropolis
from bayou.model import Model
from bayou.posterior.summaries import described
from bayou.priors import LKJ, HalfNormal, Normal

DATA_SETS = 1000
DRAWS = 399
LEVELS = (0.5, 0.8, 0.95)
Array = np.ndarray


@dataclass(frozen=True)
class Study:
    """What was found in all data sets."""

    names: list[str]
    ranks: Array  # (data sets, quantities)
    intervals: list[str]
    covered: Array  # (levels, data sets, rows of the summary)


def table(groups: int, rows: int) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    n = groups * rows
    return {
        "y": rng.normal(size=n),
        "k": np.arange(n) % 5,
        "size": np.full(n, 6.0),
        "x": np.round(rng.normal(size=n), 2),
        "g": np.repeat(np.arange(groups), rows),
    }


PRIORS = {"beta": Normal(0.2, 0.7), "sd": HalfNormal(0.7)}
CORRELATED = {**PRIORS, "cor": LKJ(2.0)}


def setting(name: str) -> tuple[Model, Gibbs | Metropolis]:
    """A model and an engine whose kept draws are nearly independent."""
    short: dict[str, Any] = {"draws": DRAWS, "chains": 1, "progress": False}
    if name == "gaussian slopes":
        model = Model("y ~ x + (x | g)", table(8, 5), priors={**CORRELATED, "sigma": HalfNormal(1.0)})
        return model, Gibbs(**short, warmup=300, thin=5)
    if name == "binomial intercepts":
        model = Model("proportion(k, size) ~ x + (1 | g)", table(10, 3), "binomial", PRIORS)
        return model, Metropolis(**short, warmup=400, thin=10)
    model = Model("k ~ x + (x | g)", table(8, 4), "poisson", CORRELATED)
    return model, Metropolis(**short, warmup=400, thin=12)


SETTINGS = ("gaussian slopes", "binomial intercepts", "poisson slopes")


def log_likelihood(model: Model, draws: dict[str, Array]) -> Array:
    """Of the rows, for every draw."""
    design = model.design
    eta = draws["beta"] @ design.X.T + design.offset
    for grouping in design.groupings:
        eta = eta + (grouping.Z * draws[f"b_{grouping.name}"][:, grouping.codes]).sum(axis=2)
    scale = draws["sigma"][:, None] if "sigma" in draws else None
    return model.family.log_density(design.y, eta, scale, design.trials, design.weights).sum(axis=1)


def quantities(model: Model, draws: dict[str, Array]) -> dict[str, Array]:
    """Numbers whose ranks are looked at, (draws,) each."""
    out = {f"beta{k}": draws["beta"][:, k] for k in range(draws["beta"].shape[1])}
    out |= {f"sd{k}": draws["sd_g"][:, k] for k in range(draws["sd_g"].shape[1])}
    if "cor_g" in draws:
        out["cor"] = draws["cor_g"][:, 0, 1]
    if "sigma" in draws:
        out["sigma"] = draws["sigma"]
    out["b"] = draws["b_g"][:, 0, 0]
    out["largest b"] = np.abs(draws["b_g"]).max(axis=(1, 2))
    out["log likelihood"] = log_likelihood(model, draws)
    return out


def as_draw(point: oracle.Point) -> dict[str, Array]:
    """The truth as one draw."""
    Sigma = point.Sigma[0]
    sd = np.sqrt(np.diag(Sigma))
    out = {"beta": point.beta[None], "b_g": point.b[0][None], "sd_g": sd[None], "sigma": point.dispersion[:1]}
    if len(sd) > 1:
        out["cor_g"] = (Sigma / np.outer(sd, sd))[None]
    return out


@lru_cache(maxsize=len(SETTINGS))
def study(name: str) -> Study:
    """Simulate and fit all data sets of one setting."""
    model, engine = setting(name)
    rng = np.random.default_rng(2026)
    ranks, covered = [], []
    names: list[str] = []
    for _ in range(DATA_SETS):
        point = oracle.draw_from_prior(model, rng)
        there = oracle.clone(model, oracle.draw_response(model, point, rng))
        result = engine.run(there, rng.spawn(1)[0])
        draws = {key: values[0] for key, values in result.draws.items()}
        truth = as_draw(point)
        truth = {key: values for key, values in truth.items() if key in draws}
        found, true = quantities(there, draws), quantities(there, truth)
        names = list(found)
        ranks.append([int((found[key] < true[key]).sum()) for key in names])
        values = [float(truth[key][0][at] if at else truth[key][0]) for key, at in result.rows.values()]
        matrix = result.matrix()
        inside = []
        for level in LEVELS:
            frame = described(list(result.rows), matrix, level)
            inside.append((frame["lower"].to_numpy() < values) & (values < frame["upper"].to_numpy()))
        covered.append(inside)
    return Study(names, np.array(ranks), list(result.rows), np.moveaxis(np.array(covered), 1, 0))


def within_band(ranks: Array, draws: int, level: float) -> bool:
    """Whether the cumulative distribution of the ranks (N,) lies within the simultaneous band everywhere."""
    return tail_probability(float(least_tail(ranks, draws)), len(ranks), draws) >= level

"""Models whose identical rows are merged, each with its data: what streaming must not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

import bayou
from bayou.binding import bind
from bayou.design import Design, NewRows
from bayou.model import Model
from bayou.streaming.merged import merged


class Case(NamedTuple):
    formula: str
    family: str
    weights: str | None = None


CASES = {
    "bernoulli": Case("y ~ a + b + c + (1 | g)", "bernoulli"),
    "slope": Case("y ~ a * b + (1 + a | g)", "bernoulli"),
    "trials": Case("proportion(s, t) ~ a + x + (1 | g)", "binomial"),
    "failures": Case("cbind(s, t - s) ~ a + offset(e) + (1 | g)", "binomial"),
    "exposure": Case("k ~ a + b + offset(e) + (1 | g)", "poisson"),
    "crossed": Case("k ~ a + (1 | g) + (1 | h)", "poisson"),
    "weights": Case("y ~ a + b + (1 | g)", "bernoulli", "w"),
    "weighted counts": Case("k ~ a + offset(e) + (1 | g)", "poisson", "w"),
    "alone": Case("y ~ a + b", "bernoulli"),
    "walk": Case("y ~ a + rw1(time)", "bernoulli"),
    "spline": Case("k ~ a + s(x, basis=6) + (1 | g)", "poisson"),
    "text": Case("answer ~ arm + (1 | g)", "bernoulli"),
}
MIXED = [name for name in CASES if "|" in CASES[name].formula and "s(" not in CASES[name].formula]


@lru_cache
def table(n: int = 3000, groups: int = 12, seed: int = 5) -> pd.DataFrame:
    """Rows with few different patterns."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({name: rng.integers(0, 2, n) for name in "abc"})
    data["g"], data["h"] = rng.integers(0, groups, n), rng.integers(0, 5, n)
    data["x"] = rng.choice([-1.0, -0.3, 0.0, 0.4, 1.5, 2.0, 2.5, 3.0], n)
    data["e"], data["w"] = rng.choice([-0.5, 0.0, 0.7], n), rng.choice([1.0, 2.5], n)
    data["time"] = rng.integers(1, 9, n)
    data["arm"] = np.array(["new", "old", "none"])[rng.integers(0, 3, n)]
    eta = -0.4 + 0.6 * data.a - 0.5 * data.b + 0.2 * data.c + rng.normal(0.0, 0.6, groups)[data.g]
    eta += rng.normal(0.0, 0.4, 5)[data.h] + 0.3 * np.sin(data.time)
    p = 1.0 / (1.0 + np.exp(-eta))
    data["y"], data["t"] = rng.binomial(1, p), rng.integers(1, 4, n)
    data["s"], data["k"] = rng.binomial(data.t, p), rng.poisson(np.exp(eta + data.e))
    data["answer"] = np.where(data.y == 1, "yes", "no")
    return data


def blocks(design: Design, data: pd.DataFrame, count: int = 7) -> Iterator[NewRows]:
    """Cut a table into blocks of unequal size, coded as the design's."""
    cuts = np.unique(np.append(np.linspace(0, len(data), count).astype(int), min(3, len(data))))
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        yield design.rebuild(data.iloc[low:high].reset_index(drop=True), need_response=True)


def few_rows(model: Model, data: pd.DataFrame) -> Model:
    """Return the same model, frozen priors and all, of merged rows."""
    made = Model.__new__(Model)
    made.priors_given = model.priors_given
    made._set(merged(model.design, lambda: blocks(model.design, data)), model.bound, model.effects)
    return made


def with_own_priors(model: Model) -> Model:
    """Return a model of merged rows with the default priors that it finds itself."""
    made = Model.__new__(Model)
    made.priors_given = False
    made._set(model.design, bind(None, model.design, model.effects), model.effects)
    return made


@lru_cache
def pair(name: str, n: int = 3000) -> tuple[Model, Model]:
    """Return a model of all rows and the same of merged rows."""
    case, data = CASES[name], table(n)
    whole = bayou.Model(case.formula, data, family=case.family, weights=case.weights)
    return whole, few_rows(whole, data)


def injected(fit: bayou.Fit, model: Model) -> bayou.Fit:
    """Return the draws of a fit as those of another model."""
    return bayou.Fit(replace(fit.result, model=model))

"""Every sampler on models drawn at random: their means differ by Monte Carlo errors.

What single tests leave out meets here: factors of different shapes beside each other, links, weights, priors. A sampler
that takes a number of one factor for that of another is seen by no test of one factor.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from bayou.engines import NUTS, Gibbs, Metropolis
from bayou.engines.base import Engine
from bayou.model import Model
from random_models import random_model

BOUND = 5.0  # of differences in their errors: a chance of one in a million each
FAST, SLOW = range(4), range(100, 160)
SHORT, LONG = 1_500, 12_000


def samplers(model: Model, draws: int) -> dict[str, Engine]:
    settings = {"draws": draws, "chains": 4, "progress": False}
    found: dict[str, Engine] = {
        "nuts": NUTS(**settings),
        "metropolis": Metropolis(warmup=1_500, **settings),
    }
    if model.family.name == "gaussian":
        kinds = ["blocked", "marginal", "centered", "uncentered", "crossed", "joint"]
        if model.design.sigma_by is None:
            kinds.append("collapsed")
        found |= {kind: Gibbs(parameterization=kind, warmup=1_000, **settings) for kind in kinds}
    else:
        found["random walk"] = Metropolis(proposal="random_walk", warmup=2_000, thin=5, **settings)
    return found


def figures(model: Model, engine: Engine) -> pd.DataFrame:
    """Return means with their Monte Carlo errors."""
    table = model.fit(engine=engine, seed=1).summary()
    return table.assign(error=table["sd"] / np.sqrt(table["ess_bulk"]))


def check(seed: int, draws: int) -> None:
    model = random_model(seed)
    found = {name: figures(model, engine) for name, engine in samplers(model, draws).items()}
    for (one, first), (other, second) in combinations(found.items(), 2):
        z = (first["mean"] - second["mean"]) / np.hypot(first["error"], second["error"])
        assert len(z) and z.notna().all(), (one, other)
        assert z.abs().max() < BOUND, f"{one} and {other}, {model}\n{z.round(1)}"


@pytest.mark.parametrize("seed", FAST)
def test_samplers_agree(seed: int) -> None:
    check(seed, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_samplers_agree_closely(seed: int) -> None:
    check(seed, LONG)

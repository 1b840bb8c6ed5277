"""Simulation-based calibration of six models by four engines, through `bayou.calibrate` as users call it.

``pytest -s`` prints what each found and the seconds that it took. On an idle core Gibbs and Metropolis take 5 to 20
seconds for 200 data sets, NUTS 60, INLA up to a second for one where its check sends it on by Markov chain: about 15
minutes in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bayou
from bayou.errors import Unsupported
from bayou.priors import LKJ, HalfNormal, HuangWand, Normal

SURE = 1e-3  # p, all quantities of a run together: of 21 runs of right engines one in fifty has one below it
SIMULATIONS, FEWER = 200, 60  # structured models, and INLA where it goes on by Markov chain, take seconds each
ENGINES: dict[str, dict[str, Any]] = {
    "gibbs": {"chains": 1, "thin": 2},
    "metropolis": {"chains": 1, "thin": 4},
    "inla": {},
    "nuts": {"chains": 1, "warmup": 300},
}
ONE: dict[str, Any] = {"beta": Normal(0.2, 0.7), "sd": HalfNormal(0.7)}


def table(groups: int = 8, rows: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    n = groups * rows
    return {
        "y": rng.normal(size=n),
        "k": np.arange(n) % 5,
        "size": np.full(n, 6.0),
        "x": np.round(rng.normal(size=n), 2),
        "u": np.round(0.5 * rng.normal(size=n), 2),
        "w": np.round(rng.uniform(0.5, 2.0, n), 2),
        "se": np.round(rng.uniform(0.5, 1.5, n), 2),
        "g": np.repeat(np.arange(groups), rows),
        "h": np.tile(np.arange(rows), groups),
        "t": np.arange(n) % 10,
    }


def _model(text: str, family: str, priors: dict[str, Any], **more: Any) -> Callable[[], bayou.Model]:
    return lambda: bayou.Model(text, table(), family, priors, **more)


MODELS: dict[str, Callable[[], bayou.Model]] = {
    "gaussian slopes, weights, offset": _model(
        "y ~ x + offset(u) + (x | g)", "gaussian", {**ONE, "cor": LKJ(2.0), "sigma": HalfNormal(1.0)}, weights="w"
    ),
    "measured, Huang-Wand": _model(
        "measured(y, se) ~ x + (x | g)", "gaussian", {"beta": Normal(0.2, 0.7), "Sigma": HuangWand(4, 0.5)}
    ),
    "gaussian walk": _model(
        "y ~ x + rw1(t)", "gaussian", {"beta": Normal(0.2, 0.7), "sd_t": HalfNormal(0.7), "sigma": HalfNormal(1.0)}
    ),
    "binomial intercepts": _model("proportion(k, size) ~ x + (1 | g)", "binomial", ONE),
    "poisson crossed": _model("k ~ x + (1 | g) + (1 | h)", "poisson", ONE),
    "negative binomial": _model("k ~ x + (1 | g)", "negative_binomial", {**ONE, "dispersion": HalfNormal(1.0)}),
}
REFUSED = {("gibbs", name) for name in ("binomial intercepts", "poisson crossed", "negative binomial")}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("engine", ENGINES)
def test_ranks_are_uniform(engine: str, model: str) -> None:
    simulations = FEWER if "walk" in model or engine == "inla" else SIMULATIONS

    def found() -> bayou.diagnose.calibration.Calibration:
        return bayou.calibrate(MODELS[model](), engine, simulations=simulations, seed=20, cores=1, **ENGINES[engine])

    if (engine, model) in REFUSED:
        with pytest.raises(Unsupported):
            found()
        return
    study = found()
    worst = study.table["p"].idxmin()
    p = min(1.0, study.table["p"][worst] * len(study.table))
    short = sum(one.effective < study.draws for one in study.outcomes)
    went_on = sum(one.continued for one in study.outcomes)
    print(
        f"\n{engine:<11} {model:<33} p = {p:.2g} ({worst}) {simulations} data sets, {study.seconds:.0f} s, "
        f"{short} with short chains, {went_on} continued, {len(study.failures)} kinds of failure"
    )
    assert not study.failures and len(study.ranks) == simulations
    assert p > SURE, str(study)

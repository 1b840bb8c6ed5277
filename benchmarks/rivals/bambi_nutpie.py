"""bambi with nutpie's NUTS: bambi's own default priors, one core, four chains of 1,000 draws.

bambi has no correlated group coefficients, so that its model is the smaller one.
"""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.measure import Outcome, timed
from benchmarks.problems import Problem

NAME = "bambi, nutpie"
PROBLEMS = ("sleepstudy", "cbpp")
FORMULAS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "cbpp": "p(incidence, size) ~ C(period) + (1 | herd)",
}
DRAWS, WARMUP, CHAINS = 1_000, 1_000, 4


def available() -> str | None:
    missing = [name for name in ("bambi", "nutpie") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed (pip install bambi nutpie)." if missing else None


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    return sampled(problem, scans, seed, "nutpie")


def sampled(problem: Problem, scans: int | None, seed: int, method: str) -> Outcome:
    """Fit by one of bambi's methods; compiling is what its call takes beyond the sampling."""
    bambi = import_module("bambi")

    draws = max((scans or DRAWS * CHAINS) // CHAINS, 100)
    model = bambi.Model(FORMULAS[problem.name], problem.data, family=problem.family)
    settings: dict[str, Any] = {"draws": draws, "tune": WARMUP, "chains": CHAINS, "cores": 1, "random_seed": seed}
    kept: list[Any] = []
    wall, _ = timed(lambda: kept.append(model.fit(inference_method=method, progressbar=False, **settings)))
    posterior = kept[0].posterior
    sampling = float(posterior.attrs.get("sampling_time", kept[0].attrs.get("sampling_time", wall)))
    named = {}
    for name, values in posterior.data_vars.items():
        # transformed copies and the expected response are no parameters
        if str(name).endswith("__") or name in ("mu", "p"):
            continue
        term, bar, factor = str(name).removesuffix("_sigma").partition("|")
        if bar and str(name).endswith("_sigma"):
            named[f"sd_{factor}[{'Intercept' if term == '1' else term}]"] = values.to_numpy()
        elif not bar and values.ndim == 2:
            named["sigma" if name == "sigma" else f"beta[{name}]"] = values.to_numpy()
        elif not bar and values.ndim == 3:
            levels = values.coords[str(values.dims[2])].to_numpy()
            named |= {f"beta[{name}[{level}]]": values.to_numpy()[:, :, k] for k, level in enumerate(levels)}
    # the processor's time of sampling alone is not told
    return Outcome(named, sampling, math.nan, (draws + WARMUP) * CHAINS, compiling=wall - sampling)

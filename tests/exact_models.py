"""Models whose posteriors are known exactly, and those of Fong, Rue & Wakefield (2010), with their priors and data.

`exact(shared, name)` is a model of ../shared/reference/exact, `summary` its figures; `published(shared, data, name)` one
of the paper, `figures` its estimates in ../shared/reference/reference_published.csv.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayou.model import Model
from bayou.priors import FlatSD, Gamma, HalfCauchy, InverseGamma, Normal, Uniform
from nested_models import FIXED, table

# ---- exact posteriors --------------------------------------------------------------------------


@cache
def summary(shared: Path, name: str) -> dict[str, dict[str, float]]:
    """Means, sds and quantiles of ../shared/reference/exact."""
    text = (shared / "reference" / "exact" / f"{name}.exact.json").read_text("utf-8")
    found: dict[str, dict[str, float]] = json.loads(text)["summary"]
    return found


class Exact(NamedTuple):
    """A model with an exactly known posterior: names of the rows there to bayou's, and of the effects."""

    formula: str
    family: str
    priors: dict[str, Any]
    rows: dict[str, str]
    effects: dict[str, str]  # "eps" to "b_plate": eps[1], eps[2], … are the levels in their order


_seeds_rows = {
    "sigma": "sd_plate[Intercept]",
    **{f"beta[{k}]": f"beta[{name}]" for k, name in enumerate(("Intercept", "x1", "x2", "x1:x2"))},
}
EXACT = {
    "rats": Exact(
        "weight ~ age_c + (1 | rat) + (0 + age_c | rat)",
        "gaussian",
        {"beta": Normal(0.0, 100.0), "sd": FlatSD(), "sigma": FlatSD()},
        {
            "sigma_alpha": "sd_rat[Intercept]",
            "sigma_beta": "sd_rat[age_c]",
            "sigma_y": "sigma",
            "mu_alpha": "beta[Intercept]",
            "mu_beta": "beta[age_c]",
        },
        {},
    ),
    "seeds_model": Exact(
        "proportion(r, n) ~ x1 * x2 + (1 | plate)",
        "binomial",
        {"beta": Normal(0.0, 1000.0), "sd": Gamma(0.001, 0.001)},
        _seeds_rows,
        {"eps": "b_plate"},
    ),
    "seeds_stanified": Exact(
        "proportion(r, n) ~ x1 * x2 + (1 | plate)",
        "binomial",
        {"beta": Normal(0.0, 1.0), "sd": HalfCauchy(1.0)},
        _seeds_rows,
        {"eps": "b_plate"},
    ),
    "surgical": Exact(
        "proportion(r, n) ~ 1 + (1 | hospital)",
        "binomial",
        {"beta": Normal(0.0, 1000.0), "sd": InverseGamma(0.001, 0.001)},
        {"mu": "beta[Intercept]", "sigma": "sd_hospital[Intercept]"},
        {},
    ),
    "GLMM_Poisson": Exact(
        "C ~ year + year2 + year3 + (1 | obs)",
        "poisson",
        {"beta": Uniform(-10.0, 10.0), "beta[Intercept]": Uniform(-20.0, 20.0), "sd": Uniform(0.0, 5.0)},
        {
            "sigma": "sd_obs[Intercept]",
            **{f"beta[{k}]": f"beta[{name}]" for k, name in enumerate(("Intercept", "year", "year2", "year3"))},
        },
        {"eps": "b_obs"},
    ),
    "eight_schools": Exact(
        "measured(y, se) ~ 1 + (1 | school)",
        "gaussian",
        {"beta": Normal(0.0, 5.0), "sd": HalfCauchy(5.0)},
        {"tau": "sd_school[Intercept]", "mu": "beta[Intercept]"},
        {},
    ),
}


def _exact_table(folder: Path, name: str) -> pd.DataFrame:
    if name == "rats":
        frame = pd.read_csv(folder / "bugs_rats.csv", dtype={"rat": str})
        frame["age_c"] = frame["age"] - frame["age"].mean()
        return frame
    if name == "surgical":
        return pd.read_csv(folder / "bugs_surgical.csv", dtype={"hospital": str})
    if name == "GLMM_Poisson":
        known = json.loads((folder / "GLMM_Poisson_data.json").read_text("utf-8"))
        year = np.asarray(known["year"])
        labels = [f"{k:02d}" for k in range(1, known["n"] + 1)]
        return pd.DataFrame({"C": known["C"], "year": year, "year2": year**2, "year3": year**3, "obs": labels})
    if name == "eight_schools":
        known = json.loads((folder / "eight_schools.json").read_text("utf-8"))
        return pd.DataFrame({"y": known["y"], "se": known["sigma"], "school": [f"s{k}" for k in range(1, 9)]})
    return table(folder.parent, "seeds")


@cache
def exact(shared: Path, name: str) -> Model:
    """A model whose posterior is exactly known."""
    this = EXACT[name]
    return Model(this.formula, _exact_table(shared / "data", name), this.family, this.priors)


# ---- Fong, Rue & Wakefield (2010) ----------------------------------------------------------------


class Published(NamedTuple):
    """A model of reference_published.csv: Gamma priors on the precisions, the names there to bayou's rows."""

    formula: str
    family: str
    prior: Gamma
    rows: dict[str, str]


_of_seeds = {"Intercept": "beta[Intercept]", "Seed": "beta[x1]", "Extract": "beta[x2]", "sigma": "sd_plate[Intercept]"}
_of_salamander = {
    "Intercept": "beta[Intercept]",
    "WSF": "beta[wsf]",
    "WSM": "beta[wsm]",
    "WSFxWSM": "beta[wsf:wsm]",
    "sigma_f": "sd_fem[Intercept]",
    "sigma_m": "sd_mal[Intercept]",
}
PUBLISHED = {
    ("seeds", "0.1 main"): Published(
        "proportion(r, n) ~ x1 + x2 + (1 | plate)", "binomial", Gamma(0.5, 0.0164), _of_seeds
    ),
    ("seeds", "0.2 interaction"): Published(
        "proportion(r, n) ~ x1 * x2 + (1 | plate)",
        "binomial",
        Gamma(0.5, 0.0164),
        {**_of_seeds, "Interaction": "beta[x1:x2]"},
    ),
    ("epil", "5.1"): Published(
        "y ~ base4 + trt + trt:base4 + log_age + V4 + (1 | subject)",
        "poisson",
        Gamma(1.0, 0.622),
        {
            "Base": "beta[base4]",
            "Trt": "beta[trt]",
            "BasexTrt": "beta[trt:base4]",
            "Age": "beta[log_age]",
            "V4": "beta[V4]",
            "sigma1": "sd_subject[Intercept]",
        },
    ),
    **{
        ("salamander", f"C exp{k}"): Published(
            "y ~ wsf * wsm + (1 | fem) + (1 | mal)", "bernoulli", Gamma(1.0, 0.622), _of_salamander
        )
        for k in (1, 2, 3)
    },
}


@cache
def published(shared: Path, data: str, model: str) -> Model:
    """A model of Fong, Rue & Wakefield; the salamanders' are of one experiment each."""
    this = PUBLISHED[data, model]
    frame = table(shared, data)
    if data == "salamander":
        frame = frame[frame["experiment"] == int(model[-1])].reset_index(drop=True)
    return Model(this.formula, frame, this.family, {"beta": FIXED, "sd": this.prior})


@cache
def figures(shared: Path, data: str, model: str, method: str) -> dict[str, tuple[float, float]]:
    """Published estimates and standard errors by name."""
    frame = pd.read_csv(shared / "reference" / "reference_published.csv")
    chosen = frame[(frame["dataset"] == data) & (frame["model"] == model) & (frame["method"] == method)]
    rows = zip(chosen["parameter"], chosen["estimate"], chosen["se_or_sd"], strict=True)
    return {name: (float(estimate), float(error)) for name, estimate, error in rows}

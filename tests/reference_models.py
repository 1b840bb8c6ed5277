"""lme4's and glmmTMB's models as bayou writes them: data with their levels, formulas, and names of the coefficients.

A case is a data set, whose table `table` makes, a formula and a family.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dense_inference import orthogonal_polynomials


@dataclass(frozen=True)
class Case:
    """One model of the references."""

    data: str
    formula: str
    family: str = "gaussian"


def table(shared: Path, name: str) -> pd.DataFrame:
    """The data of a name, every factor a categorical with its levels in R's order."""
    make = _tables.get(name)
    return _read(shared / "data", name) if make is None else make(shared / "data")


def _read(folder: Path, name: str) -> pd.DataFrame:
    levels = json.loads((folder / "factor_levels.json").read_text("utf-8")).get(name, {})
    frame = pd.read_csv(folder / f"{name}.csv", dtype=dict.fromkeys(levels, str))
    for column, declared in levels.items():
        order = declared["levels"]
        if len(order) < declared["nlevels"]:  # cut short in the file: numbers in their order
            order = sorted(frame[column].unique(), key=lambda text: (len(text), text))
        frame[column] = pd.Categorical(frame[column], categories=order, ordered=declared["ordered"])
    return frame


def _cake(folder: Path) -> pd.DataFrame:
    """Polynomial contrasts of the ordered temperature as columns: REML depends on their scale."""
    frame = _read(folder, "cake")
    for k, column in enumerate(orthogonal_polynomials(6).T):
        frame[f"temperature_{k + 1}"] = column[frame["temperature"].cat.codes]
    return frame


def _nels(folder: Path) -> pd.DataFrame:
    """SES centred within its school, as in Hoff's chapter 11; the file has it uncentred."""
    frame = pd.read_csv(folder / "hoff_nels_ses.csv", dtype={"sch_id": str})
    frame = frame.rename(columns={"sch_id": "school", "stu_ses": "ses"})
    frame["ses"] -= frame.groupby("school")["ses"].transform("mean")
    return frame


def _salamander(folder: Path) -> pd.DataFrame:
    """Cross is female/male, R or W; animals, numbered anew in each experiment here, are 10 to 69 in the references."""
    frame = pd.read_csv(folder / "salamander_inla.csv")
    animals = {side: (9 + frame[side] + 20 * (frame["experiment"] - 1)).astype(str) for side in ("female", "male")}
    sides = [np.where(frame[column] == 1, "W", "R") for column in ("wsf", "wsm")]
    return pd.DataFrame(
        {
            "Mate": frame["y"],
            "Cross": [f"{f}/{m}" for f, m in zip(*sides, strict=True)],
            "wsf": frame["wsf"],
            "wsm": frame["wsm"],
            "Female": animals["female"],
            "Male": animals["male"],
        }
    )


def _clinic(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "beitler_landis.csv", dtype={"clinic": str})


def _seeds(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "bugs_seeds.csv", dtype={"plate": str})


def _epil(folder: Path) -> pd.DataFrame:
    """Breslow & Clayton's covariates, and 23 for subject 8 at visit 3, where this copy has 21.

    Which of the two they used is inferred from their table: with 21 the constants of their models III and IV come out at -1.257 and -1.254, printed -1.27 and -1.27; with 23 at
    -1.270 and -1.268.
    """
    frame = pd.read_csv(folder / "bugs_epil.csv", dtype={"subject": str})
    frame.loc[(frame["subject"] == "8") & (frame["visit"] == 3), "y"] = 23
    frame["base4"], frame["log_age"] = np.log(frame["base"] / 4), np.log(frame["age"])
    frame["visit10"] = frame["visit_code"] / 10
    frame["unit"] = np.arange(len(frame)).astype(str)
    return frame


_tables: dict[str, Callable[[Path], pd.DataFrame]] = {
    "cake": _cake,
    "nels": _nels,
    "salamander": _salamander,
    "clinic": _clinic,
    "seeds": _seeds,
    "epil": _epil,
}

CAKE = "angle ~ recipe * (temperature_1 + temperature_2 + temperature_3 + temperature_4 + temperature_5)"

GAUSSIAN = {
    "sleepstudy_int": Case("sleepstudy", "Reaction ~ Days + (1 | Subject)"),
    "sleepstudy_slope": Case("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy_uncorr": Case("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)"),
    "dyestuff": Case("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "penicillin": Case("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "pastes": Case("Pastes", "strength ~ 1 + (1 | batch) + (1 | sample)"),
    "cake": Case("cake", f"{CAKE} + (1 | recipe:replicate)"),
    "oats": Case("Oats", "yield ~ nitro + Variety + (1 | Block) + (1 | Block:Variety)"),
    "exam": Case("Exam", "normexam ~ standLRT + sex + schgend + (standLRT | school)"),
    "nels_slope": Case("nels", "stu_mathscore ~ ses + (ses | school)"),
    "insteval_service": Case("InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)"),
    "insteval_3": Case("InstEval", "y ~ 1 + (1 | s) + (1 | d) + (1 | dept:service)"),
}

LAPLACE = {
    "cbpp": Case("cbpp", "proportion(incidence, size) ~ period + (1 | herd)", "binomial"),
    "grouseticks": Case("grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson"),
    "verbagg": Case("VerbAgg", "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "bernoulli"),
    "salamander": Case("salamander", "Mate ~ Cross + (1 | Female) + (1 | Male)", "bernoulli"),
}


# lme4's optimiser stopped short here: dept sd 2.1e-4, the intercept's error 1.2e-4 and the departments' predictions up
# to 2.4e-4 sd from the maximum, whose log likelihood is 6.9e-7 higher. These are the numbers at the maximum, by dense
# Cholesky factors of the 4,114 x 4,114 mixed-model equations and Newton steps.
CONVERGED = {
    "lme4_insteval_service_ml": {
        "se": {"(Intercept)": 0.0284115647, "service1": 0.0133831764},
        "sd": {"dept": 0.0785355197},
        "dept": {
            "15": 0.016444057, "5": 0.047786147, "10": -0.119460535, "12": 0.017523705, "6": -0.064286927,
            "7": 0.035704575, "4": 0.079335175, "8": 0.108150973, "9": -0.035152569, "14": -0.030434918,
        },
    }
}  # fmt: skip


@cache
def numbers(path: Path) -> dict[str, Any]:
    """One file of reference numbers, with what `CONVERGED` knows better."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    better = CONVERGED.get(path.stem)
    if better is not None:
        found["se"] = better["se"]
        found["varcorr"]["dept"]["sd"] = [better["sd"]["dept"]]
        levels = found["ranef_first10"]["dept"]["levels"]
        found["ranef_first10"]["dept"]["values"] = {"(Intercept)": [better["dept"][level] for level in levels]}
    return found


def fixed_effects(reference: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Estimates and standard errors by R's names."""
    if "fixef" in reference:
        return reference["fixef"], reference["se"]
    cond = reference["coefficients"]["cond"]
    return cond["est"], cond["se"]


def match(theirs: list[str], ours: list[str], frame: pd.DataFrame) -> dict[str, str]:
    """R's names of the coefficients to bayou's: "recipeB:temperature.L" is "recipe[B]:temperature_1"."""
    polynomial = {".L": "_1", ".Q": "_2", ".C": "_3", "^4": "_4", "^5": "_5"}

    def part(text: str) -> str:
        if text == "(Intercept)":
            return "Intercept"
        for column in frame.columns:
            for ending, degree in polynomial.items():
                if text == f"{column}{ending}":
                    return f"{column}{degree}"
            level = text.removeprefix(column)
            if text.startswith(column) and level in {str(value) for value in frame[column].unique()}:
                return f"{column}[{level}]"
        return text

    known = {frozenset(name.split(":")): name for name in ours}
    pairs = {name: known[frozenset(part(text) for text in name.split(":"))] for name in theirs}
    assert sorted(pairs.values()) == sorted(ours)
    return pairs


def variance_components(reference: dict[str, Any]) -> dict[str, float]:
    """Sds, correlations and sigma by bayou's names."""
    out: dict[str, float] = {}
    for block, found in (reference.get("varcorr") or reference["varcorr_cond"]).items():
        factor = block.removesuffix(".1")
        names = ["Intercept" if name == "(Intercept)" else name for name in found["names"]]
        for i, name in enumerate(names):
            out[f"sd_{factor}[{name}]"] = found["sd"][i]
            for j in range(i):
                out[f"cor_{factor}[{names[j]},{name}]"] = found["corr"][i][j]
    if reference["family"].startswith("gaussian"):
        out["sigma"] = reference["sigma"]
    return out


def random_effects(reference: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    """The first ten levels of each factor: (factor, level, coefficient) to the prediction."""
    out: dict[tuple[str, str, str], float] = {}
    for factor, found in reference["ranef_first10"].items():
        for name, values in found["values"].items():
            coefficient = "Intercept" if name == "(Intercept)" else name
            for level, value in zip(found["levels"], values, strict=True):
                out[factor, level, coefficient] = value
    return out

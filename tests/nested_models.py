"""R-INLA's runs as bayou writes them, with their priors and data, and the figures of those runs.

`inla(shared, name, setting)` is a model of ../shared/reference/inla/TABLE.md under the priors "pc" or "default" there;
`runs(shared)` holds the figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import reference_models as references
from bayou.effects.random_walk import RandomWalk
from bayou.fitting import Fit
from bayou.model import Model
from bayou.priors import PC, Flat, Gamma, InverseWishart, Normal

FIXED = Normal(0.0, np.sqrt(1000.0))  # precision .001
LOW = Gamma(1.0, 5e-5)


def unit(name: str) -> float:
    """Geometric mean of the marginal sds of R-INLA's walk for sd = 1 of ours."""
    scaled, plain = (RandomWalk(2, FULL[name], scaled=flag).dense(np.zeros(1))[0, 0] for flag in (True, False))
    return float(np.sqrt(scaled / plain))


def level(fit: Fit) -> tuple[float, dict[str, float]]:
    """Mean of Munich's walks over all of R-INLA's nodes, which it has in the fixed effects, and the sds of these then."""
    model, draws = fit.model, fit.result.draws
    total, mean = np.zeros(1), 0.0
    for term, effect in zip(model.design.structured, model.effects, strict=True):
        if term.name in FULL:
            between = np.setdiff1d(FULL[term.name], np.asarray(term.coordinate))
            weights, _ = effect.extend_mean(np.zeros(1), between)
            every = (1.0 + weights.sum(axis=0)) / len(FULL[term.name])
            total = total + np.asarray(draws[f"f_{term.name}"]) @ every
            approximation = fit.result.approximation
            mixture = None if approximation is None else approximation.effect(f"f_{term.name}")
            assert mixture is not None
            mean += float(every @ np.ravel(mixture.mean))
    beta = np.asarray(draws["beta"])
    names = model.design.coefficients
    return mean, {f"beta[{name}]": float((beta[..., k] + total).std()) for k, name in enumerate(names)}


@dataclass(frozen=True)
class Reference:
    """A model of TABLE.md as bayou writes it.

    Attributes
    ----------
    formula
        With {scale} where a structure is scaled under "pc" and not under "default".
    rows
        R-INLA's names of the hyperparameters to bayou's.
    """

    formula: str
    family: str
    rows: dict[str, str]
    priors: dict[str, Any]
    default: dict[str, Any]


ZIM = " + ".join(f"zim{k}" for k in range(1, 7))
HOMES = f"Gute_Wohnlage + Beste_Wohnlage + Keine_Wwv + Keine_Zh + Kein_Badkach + Besond_Bad + Gehobene_Kueche + {ZIM}"
WALKS = "rw2(year, scale=False) + rw2(floor_size, scale=False)"
FULL = {"year": np.arange(1918.0, 2002.0), "floor_size": np.arange(17.0, 186.0)}
"""R-INLA's walks in Munich have a node for every year and every square metre, ours for those in the data.

What differs: the zero of a walk (its values add up to zero over all nodes: `level`), and under "pc" the unit of its sd,
which is the geometric mean of the marginal sds over all nodes (`unit`). Both walks are written unscaled here.
"""
MUNICH = {"Gaussian observations": "sigma", "year": "sd_year", "floor.size": "sd_floor_size", "location": "sd_location"}
NOISE = {"sigma": LOW}

MODELS = {
    "seeds": Reference(
        "proportion(r, n) ~ x1 * x2 + (1 | plate)", "binomial", {"plate": "sd_plate[Intercept]"}, {}, {}
    ),
    "epil": Reference(
        "y ~ ClBase4 + CTrt + CBT + ClAge + CV4 + (1 | subject) + (1 | obs)",
        "poisson",
        {"subject": "sd_subject[Intercept]", "obs": "sd_obs[Intercept]"},
        {},
        {},
    ),
    "salamander": Reference(
        "y ~ wsf * wsm + (1 | fem) + (1 | mal)",
        "bernoulli",
        {"fem": "sd_fem[Intercept]", "mal": "sd_mal[Intercept]"},
        {},
        {},
    ),
    "scotland_bym2": Reference(
        "O ~ X10 + bym2(district, graph=W) + offset(log(E))",
        "poisson",
        {"district": "sd_district", "Phi for district": "phi_district"},
        {"phi_district": PC(0.5, 1.0 / 3.0)},
        {"phi_district": PC(0.5, 0.5), "sd_district": PC(1.0, 0.01)},
    ),
    "tokyo": Reference(
        "proportion(y, n) ~ 0 + rw2(time, cyclic=True, constrained=False{scale})",
        "binomial",
        {"time": "sd_time"},
        {},
        {},
    ),
    "munich_besag": Reference(
        f"rent ~ 0 + {HOMES} + {WALKS} + icar(location, graph=W{{scale}})", "gaussian", MUNICH, NOISE, NOISE
    ),
    "munich_bym2": Reference(
        f"rent ~ 0 + {HOMES} + {WALKS} + bym2(location, graph=W)",
        "gaussian",
        {**MUNICH, "Phi for location": "phi_location"},
        NOISE,
        {**NOISE, "sd_location": PC(1.0, 0.01), "phi_location": PC(0.5, 0.5)},
    ),
    "cbpp": Reference(
        "proportion(incidence, size) ~ period + (1 | herd)", "binomial", {"herd": "sd_herd[Intercept]"}, {}, {}
    ),
    "grouseticks": Reference(
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        "poisson",
        {name: f"sd_{name}[Intercept]" for name in ("BROOD", "INDEX", "LOCATION")},
        {},
        {},
    ),
    "lattice100": Reference(
        "y ~ x + icar(area, graph=W{scale}) + offset(log(E))", "poisson", {"area": "sd_area"}, {}, {}
    ),
    "sim_iid": Reference("y ~ x + (1 | g)", "poisson", {"g": "sd_g[Intercept]"}, {}, {}),
    "sim_iid2d": Reference(
        "y ~ x + (1 + x | g)",
        "poisson",
        {"g (component 1)": "sd_g[Intercept]", "g (component 2)": "sd_g[x]", "Rho1:2 for g": "cor_g[Intercept,x]"},
        {},
        {"Sigma": InverseWishart(4.0, np.eye(2))},
    ),
}


# ---- data ------------------------------------------------------------------------------------


def _seeds(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "bugs_seeds.csv", dtype={"plate": str})


def _epil(folder: Path) -> pd.DataFrame:
    """Centred covariates; 23 for subject 8 at visit 3, as R-INLA's copy of the data has it."""
    frame = pd.read_csv(folder / "bugs_epil.csv", dtype={"subject": str})
    frame.loc[(frame["subject"] == "8") & (frame["visit"] == 3), "y"] = 23
    base, age = np.log(frame["base"] / 4), np.log(frame["age"])
    made = {"ClBase4": base, "CTrt": frame["trt"], "CBT": frame["trt"] * base, "ClAge": age, "CV4": frame["V4"]}
    for name, column in made.items():
        frame[name] = column - column.mean()
    frame["obs"] = [str(k) for k in range(len(frame))]
    frame["base4"], frame["log_age"], frame["visit10"] = base, age, frame["visit_code"] / 10
    return frame


def _salamander(folder: Path) -> pd.DataFrame:
    """Animals are numbered anew in each experiment."""
    frame = pd.read_csv(folder / "salamander_inla.csv")
    for name, column in (("fem", "female"), ("mal", "male")):
        frame[name] = [f"{e} {k}" for e, k in zip(frame["experiment"], frame[column], strict=True)]
    return frame


def _scotland(folder: Path) -> pd.DataFrame:
    frame = pd.read_csv(folder / "scotland_geobugs.csv")
    frame["X10"] = frame["X"] / 10
    return frame


def _munich(folder: Path) -> pd.DataFrame:
    frame = pd.read_csv(folder / "inla_munich.csv")
    return frame.rename(columns=lambda name: name.replace(".", "_"))


_tables: dict[str, Callable[[Path], pd.DataFrame]] = {
    "seeds": _seeds,
    "epil": _epil,
    "salamander": _salamander,
    "scotland": _scotland,
    "munich": _munich,
    "tokyo": lambda folder: pd.read_csv(folder / "inla_tokyo.csv"),
    "lattice100": lambda folder: pd.read_csv(folder / "lattice100.csv"),
    "sim": lambda folder: pd.read_csv(folder / "sim1e5.csv"),
}
_graphs = {
    "scotland": "scotland_adjacency_edges_stan_connected",
    "munich": "munich_adjacency_edges",
    "lattice100": "lattice100_edges",
}


def table(shared: Path, name: str) -> pd.DataFrame:
    """The data of a model."""
    stem = name.split("_")[0]
    make = _tables.get(stem)
    return references.table(shared, stem) if make is None else make(shared / "data")


def structures(shared: Path, name: str) -> dict[str, Any] | None:
    """The graph of a model's areas, as an edge list."""
    file = _graphs.get(name.split("_")[0])
    return None if file is None else {"W": pd.read_csv(shared / "data" / f"{file}.csv").to_numpy()}


# ---- R-INLA's runs -----------------------------------------------------------------------------


@cache
def inla(shared: Path, name: str, setting: str = "pc") -> Model:
    """The model of one run of R-INLA, with its priors."""
    this = MODELS[name]
    pc = setting == "pc"
    priors: dict[str, Any] = {
        "beta": FIXED,
        "sd": PC(1.0, 0.01) if pc else LOW,
        **(this.priors if pc else this.default),
    }
    if "Sigma" in priors:
        del priors["sd"]
    if pc and name.startswith("munich"):
        priors.update({f"sd_{walk}": PC(1.0 / unit(walk), 0.01) for walk in FULL})
    if not pc and "~ 0 +" not in this.formula:
        priors["beta[Intercept]"] = Flat()
    formula = this.formula.format(scale="" if pc else ", scale=False")
    return Model(formula, table(shared, name), this.family, priors, structures=structures(shared, name))


class Figure(NamedTuple):
    """One number of TABLE.md."""

    mean: float
    sd: float
    quantiles: tuple[float, float, float]  # .025, .5, .975


class Run(NamedTuple):
    """One block of TABLE.md: figures by bayou's names of the rows, and log marginal likelihoods."""

    fixed: dict[str, Figure]
    hyper: dict[str, Figure]
    log_marginal: float
    log_marginal_gaussian: float


_number = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_entry = re.compile(rf"^(.*?) {_number} \({_number}\) \[{_number}, {_number}, {_number}\]$")


def _figures(line: str) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for text in filter(None, (part.strip() for part in line.split(":", 1)[1].split(";"))):
        matched = _entry.match(text)
        assert matched is not None, text
        mean, sd, low, middle, high = (float(x) for x in matched.groups()[1:])
        found[matched[1]] = Figure(mean, sd, (low, middle, high))
    return found


def _coefficient(name: str) -> str:
    """R's names of coefficients to bayou's."""
    if name == "(Intercept)":
        return "beta[Intercept]"
    level = re.fullmatch(r"(period|YEAR)(\d+)", name)
    return f"beta[{level[1]}[{level[2]}]]" if level else f"beta[{name.replace('.', '_')}]"


@cache
def runs(shared: Path) -> dict[tuple[str, str], Run]:
    """Every block of TABLE.md by model and "prior/setting"."""
    lines = (shared / "reference" / "inla" / "TABLE.md").read_text("utf-8").splitlines()
    marginal: dict[tuple[str, str], tuple[float, float]] = {}
    blocks: dict[tuple[str, str], dict[str, dict[str, Figure]]] = {}
    own: dict[str, dict[str, Figure]] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        header = re.fullmatch(r"(\w+) ((?:pc|default)/\w+)", line.strip())
        if len(cells) > 4 and cells[0] in MODELS:
            marginal[cells[0], cells[1]] = float(cells[2]), float(cells[3])
        elif header:
            own = blocks.setdefault((header[1], header[2]), {})
        elif line.startswith("  "):
            # a few blocks have lost their headers: what follows a whole block belongs to none
            own.setdefault(line.strip().split(":")[0], _figures(line))
    out = {}
    for (name, setting), parts in blocks.items():
        hyper: dict[str, Figure] = {}
        for r, ours in MODELS[name].rows.items():
            key = f"sd for {'the ' if r.startswith('Gaussian') else ''}{r}"
            known = {**parts.get("hyper", {}), **parts.get("sd", {})}
            hyper[ours] = known[r if r in known else key]
        fixed = {_coefficient(r): figure for r, figure in parts["fixed"].items()}
        out[name, setting] = Run(fixed, hyper, *marginal[name, setting])
    return out

"""The problems of INLA: those that R-INLA was timed on, with its seconds, and those whose sizes grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from bayou.priors import PC, InverseGamma, Normal, Prior
from benchmarks.data import Loader, epil, found, lattice, lattice_edges, many_counts, seeds
from benchmarks.marginal import Marginal, prepared, simulated
from benchmarks.problems import Problem

PRIORS: dict[str, Prior] = {"beta": Normal(0, 31.62), "sd": PC(1, 0.01)}
"""Those of the recorded runs of R-INLA: N(0, sd 31.62) for fixed effects, P(sd > 1) = .01."""
CORRELATED: dict[str, Prior] = {"beta": Normal(0, 31.62)}
ALL = ("maximised", "drawn")


@dataclass(frozen=True)
class Nested:
    """One model on one data set, to be fitted by integrated nested Laplace approximation.

    Attributes
    ----------
    name, about
        For the table.
    formula, family
        As for `bayou.Model`; factors are categorical columns of the data.
    load
        Returns the data and where they come from.
    structures
        By name the loaders of the graphs that the formula names.
    priors
        As for `bayou.Model`.
    recorded
        R-INLA's seconds of the call and of its own program, taken down on another machine of two cores.
    promised
        Seconds of bayou's whole call; None where nothing was promised.
    rivals
        "maximised" where the programs that maximise Laplace's approximation take it, "drawn" where bambi does.
    nodes
        As for `bayou.engines.inla.INLA`.
    """

    name: str
    about: str
    formula: str
    family: str
    load: Loader
    structures: Mapping[str, Callable[[], pd.DataFrame]] = field(default_factory=dict)
    priors: Mapping[str, Prior] = field(default_factory=lambda: PRIORS)
    recorded: tuple[float, float] | None = None
    promised: float | None = None
    rivals: tuple[str, ...] = ()
    nodes: str = "auto"

    @property
    def data(self) -> pd.DataFrame:
        return self.load()[0]

    @property
    def source(self) -> str:
        return self.load()[1]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `bayou.Model`; raises FileNotFoundError where the data are not there."""
        given = {"formula": self.formula, "data": self.data, "family": self.family, "priors": dict(self.priors)}
        structures = {name: load() for name, load in self.structures.items()}
        return given | ({"structures": structures} if structures else {})

    @property
    def marginal(self) -> Marginal:
        """The same model without priors, for the programs that maximise."""
        return Marginal(self.name, self.about, self.formula, self.family, self.load)

    @property
    def problem(self) -> Problem:
        """The same model with bayou's default priors, for the programs that draw."""
        return Problem(self.name, self.about, self.formula, self.family, self.load)


def with_columns(load: Loader, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Loader:
    """Return a loader of the data with other columns."""

    @cache
    def loaded() -> tuple[pd.DataFrame, str]:
        data, source = load()
        return change(data.copy()), source

    return loaded


def edges(file: str) -> Callable[[], pd.DataFrame]:
    return lambda: found(file)()[0]


def _seeds(data: pd.DataFrame) -> pd.DataFrame:
    return data.assign(x12=data["x1"] * data["x2"])


def _epil(data: pd.DataFrame) -> pd.DataFrame:
    """Centred covariates, and a level for each visit."""
    base, age = np.log(data["base"] / 4.0), np.log(data["age"])
    columns = {"Base": base, "Trt": data["trt"], "BT": base * data["trt"], "Age": age, "Fourth": data["V4"]}
    centred = {name: column - column.mean() for name, column in columns.items()}
    return data.assign(**centred, unit=np.arange(len(data)))


def _salamander(data: pd.DataFrame) -> pd.DataFrame:
    """Animals numbered through the experiments."""
    numbered = {sex: data[sex] + 100 * data["experiment"] for sex in ("female", "male")}
    return data.assign(**numbered, ww=data["wsf"] * data["wsm"])


def _rents(data: pd.DataFrame) -> pd.DataFrame:
    return data.rename(columns=lambda name: name.replace(".", "_"))


_RENTS = (
    "Gute_Wohnlage Beste_Wohnlage Keine_Wwv Keine_Zh Kein_Badkach Besond_Bad Gehobene_Kueche "
    "zim1 zim2 zim3 zim4 zim5 zim6"
)
_counts = prepared(many_counts, "y x g", "g")


def on_lattice(side: int, **more: Any) -> Nested:
    """Return the problem of counts on a square lattice."""
    return Nested(
        f"lattice {side} x {side}", f"Poisson, x and an icar surface on {side * side:,} areas",
        "y ~ x + offset(log(E)) + icar(area, graph=W)", "poisson", partial(lattice, side),
        {"W": partial(lattice_edges, side)}, **more,
    )  # fmt: skip


def in_groups(rows: int) -> Nested:
    """Return the problem of simulated counts with a level for each group of ten rows."""
    load = partial(simulated, "poisson", rows, rows // 10)
    return Nested(
        f"counts, {rows:,} rows", f"Poisson, a level for each of {rows // 10:,} groups", "y ~ x1 + (1 | g)",
        "poisson", load,
    )  # fmt: skip


_TICKS = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
_ticks = prepared(
    found("grouseticks", "lme4"), "TICKS YEAR cHEIGHT BROOD INDEX LOCATION", "YEAR BROOD INDEX LOCATION"
)


def with_nodes(nodes: str) -> Nested:
    """Return the grouse ticks with these nodes for their three hyperparameters."""
    return Nested(f"grouseticks, {nodes}", f"nodes={nodes!r}", _TICKS, "poisson", _ticks, nodes=nodes)


NESTED = {
    problem.name: problem
    for problem in (
        Nested(
            "seeds", "binomial, 21 plates, a level for each", "proportion(r, n) ~ x1 + x2 + x12 + (1 | plate)",
            "binomial", prepared(with_columns(seeds, _seeds), "r n x1 x2 x12 plate", "plate"),
            recorded=(0.27, 0.15), promised=0.03, rivals=ALL,
        ),
        Nested(
            "epil", "Poisson, 59 patients and each of their 236 visits",
            "y ~ Base + Trt + BT + Age + Fourth + (1 | subject) + (1 | unit)", "poisson",
            prepared(with_columns(epil, _epil), "y Base Trt BT Age Fourth subject unit", "subject unit"),
            recorded=(0.52, 0.36), promised=0.08, rivals=ALL,
        ),
        Nested(
            "salamander", "Bernoulli, 60 females crossed with 60 males",
            "y ~ wsf + wsm + ww + (1 | female) + (1 | male)", "bernoulli",
            prepared(
                with_columns(found("salamander_inla"), _salamander), "y wsf wsm ww female male", "female male"
            ),
            recorded=(0.43, 0.30), promised=0.08, rivals=ALL,
        ),
        Nested(
            "Scotland", "Poisson, lip cancer in 56 districts, BYM2",
            "O ~ X10 + offset(log(E)) + bym2(district, graph=W)", "poisson",
            with_columns(found("scotland_geobugs"), lambda data: data.assign(X10=data["X"] / 10.0)),
            {"W": edges("scotland_adjacency_edges_stan_connected")}, recorded=(6.3, 0.22), promised=0.08,
        ),
        Nested(
            "Tokyo", "binomial, rain on 366 days, a cyclic walk of second order",
            "proportion(y, n) ~ 0 + rw2(time, cyclic=True, constrained=False)", "binomial", found("inla_tokyo"),
            priors={"sd": PC(1, 0.01)}, recorded=(0.29, 0.18), promised=0.05,
        ),
        Nested(
            "Munich", "Gaussian, 2,035 rents, walks over year and size, icar on 380 districts",
            f"rent ~ 0 + {' + '.join(_RENTS.split())} + rw2(year) + rw2(floor_size) + icar(location, graph=W)",
            "gaussian", with_columns(found("inla_munich"), _rents), {"W": edges("munich_adjacency_edges")},
            priors=PRIORS | {"sigma2": InverseGamma(1, 5e-5)}, recorded=(2.6, 2.4), promised=0.6,
        ),
        on_lattice(100, recorded=(3.1, 2.4), promised=0.8),
        Nested(
            "counts", "Poisson, 100,000 rows, a level for each of 10,000 groups", "y ~ x + (1 | g)", "poisson", _counts,
            recorded=(5.7, 4.9), promised=1.0, rivals=ALL,
        ),
        Nested(
            "counts, slopes", "the same with a line for each group", "y ~ x + (x | g)", "poisson", _counts,
            priors=CORRELATED, recorded=(20.6, 18.9), promised=3.0, rivals=ALL,
        ),
        Nested(
            "cbpp", "binomial, 15 herds", "proportion(incidence, size) ~ period + (1 | herd)", "binomial",
            prepared(found("cbpp", "lme4"), "incidence size period herd", "period herd"),
            recorded=(0.31, 0.20), rivals=ALL,
        ),
        Nested(
            "grouseticks", "Poisson, chicks within broods within places", _TICKS, "poisson", _ticks,
            recorded=(0.59, 0.42), rivals=ALL,
        ),
    )
}  # fmt: skip

GROWING = {
    problem.name: problem
    for problem in (
        *(on_lattice(side) for side in (25, 50, 200)),
        *(in_groups(rows) for rows in (10_000, 100_000, 1_000_000)),
        *(with_nodes(nodes) for nodes in ("empirical_bayes", "ccd", "grid")),
    )
}
EVERY = NESTED | GROWING

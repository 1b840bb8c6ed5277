"""Built-in data: one real trial, and simulated twins of textbook data sets.

A twin has the layout of the data that it is named after, but its numbers are drawn from the model
with the generating parameters below; every twin says so in its description. It is drawn with
NumPy's frozen legacy generator, so that it is the same on every machine and in every version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.datasets.structured import (
    COUNTIES_INTERCEPT,
    COUNTIES_OUTDOOR,
    COUNTIES_SD,
    GRAPHS,
    RAIN_MEAN,
    RAIN_WAVES,
    counties,
    rain,
)
from bayou.errors import DataError
from bayou.formula.words import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from bayou.design.graphs import Graph

__all__ = ["Dataset", "describe", "graph", "load", "names"]

# clinic, favourable and total on the drug, favourable and total on control
CLINIC = (
    (1, 11, 36, 10, 37),
    (2, 16, 20, 22, 32),
    (3, 14, 19, 7, 19),
    (4, 2, 16, 1, 17),
    (5, 6, 17, 0, 12),
    (6, 1, 11, 0, 10),
    (7, 1, 5, 1, 9),
    (8, 4, 6, 6, 7),
)

# posterior means of Hoff's analysis of the real counts, recomputed with the book's own script
TUMOR_THETA = (-1.36, 6.48, -26.6, 65.9, -44.7)
TUMOR_SIGMA = (
    (2.596182, -27.91729, 92.65915, -120.775, 54.15611),
    (-27.91729, 327.24942, -1115.02777, 1464.993, -656.36254),
    (92.65915, -1115.02777, 3882.88855, -5174.29, 2338.19114),
    (-120.775, 1464.993, -5174.29, 6978.326, -3183.316),
    (54.15611, -656.36254, 2338.19114, -3183.316, 1464.9089),
)

SCHOOL_THETA = (48.13, 2.40)
SCHOOL_SIGMA = ((23.46, 1.40), (1.40, 2.83))
SCHOOL_VARIANCE = 77.8

BASS_BETA = (0.002, 1.910)
BASS_SD = (0.468, 0.662)
BASS_SIGMA = 0.384
BASS_STATIONS = (5, 8, 9, 10, 10, 11, 11, 12, 12, 13, 14, 15, 16, 4, 3, 18)

# log counts of the range trial: seven managements, four seed mixes
RANGE_MANAGEMENT = (2.4, 2.6, 2.9, 2.5, 3.1, 2.2, 2.7)
RANGE_MIX = (0.0, 0.3, -0.2, 0.5)
RANGE_SD = (0.35, 0.25)  # of blocks, of whole plots
RANGE_PHI = 12.0


@dataclass(frozen=True)
class Dataset:
    """What is known about one data set.

    Attributes
    ----------
    name
        For `load`.
    title
        One line.
    source
        Where the numbers come from.
    columns
        Name of each column and what it holds.
    make
        Makes the columns.
    parameters
        Generating parameters of a simulated twin; empty for real data.
    """

    name: str
    title: str
    source: str
    columns: dict[str, str]
    make: Callable[[], dict[str, Any]] = field(repr=False)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the numbers were drawn from a model."""
        return bool(self.parameters)

    def __str__(self) -> str:
        width = max(len(column) for column in self.columns)
        lines = [f"{self.name}: {self.title}", self.source]
        lines += [f"  {column:<{width}}  {meaning}" for column, meaning in self.columns.items()]
        lines += [f"  generated with {name} = {value}" for name, value in self.parameters.items()]
        return "\n".join(lines)


def names() -> tuple[str, ...]:
    """Return the names of the built-in data sets.

    Examples
    --------
    >>> names()
    ('clinic', 'tumor', 'school', 'bass', 'range', 'rain', 'counties')
    """
    return tuple(DATASETS)


def describe(name: str) -> Dataset:
    """Return the description of a data set: source, columns, generating parameters.

    Raises
    ------
    DataError
        For a name that does not exist, with those that do.

    Examples
    --------
    >>> describe("tumor").simulated
    True
    """
    if name not in DATASETS:
        near, known = did_you_mean(str(name), DATASETS), ", ".join(DATASETS)
        raise DataError(f"there is no built-in data set {name!r}.{near} There are {known}.")
    return DATASETS[name]


def load(name: str) -> pd.DataFrame:
    """Return a built-in data set as a pandas frame.

    The frame's ``attrs`` hold its description: ``name``, ``title``, ``source``, ``columns``,
    ``simulated`` and the generating ``parameters``.

    Raises
    ------
    DataError
        For a name that does not exist, with those that do.

    Examples
    --------
    >>> clinic = load("clinic")
    >>> clinic.head(2)
       clinic treatment  favorable  patients
    0       1   control         10        37
    1       1      drug         11        36
    """
    import pandas as pd

    about = describe(name)
    frame = pd.DataFrame(about.make())
    frame.attrs.update(
        name=about.name,
        title=about.title,
        source=about.source,
        columns=dict(about.columns),
        simulated=about.simulated,
        parameters=dict(about.parameters),
    )
    return frame


def graph(name: str) -> Graph:
    """Return the graph of neighbouring areas of a data set that has one.

    Parameters
    ----------
    name
        ``"counties"``.

    Returns
    -------
    bayou.design.graphs.Graph
        ``names`` and ``edges`` (pairs of places); it goes into ``structures={"W": graph}`` as it is.

    Raises
    ------
    DataError
        For a data set without a graph, with those that have one.

    Examples
    --------
    >>> graph("counties")
    Graph(56 areas, 139 edges, 1 part)
    """
    if name not in GRAPHS:
        near, known = did_you_mean(str(name), GRAPHS), ", ".join(GRAPHS)
        raise DataError(f"there is no built-in graph {name!r}.{near} There is that of {known}.")
    from bayou.design.graphs import Graph

    names, edges = GRAPHS[name]()
    return Graph(np.array(names, dtype=object), edges, np.ones(len(edges)))


def _clinic() -> dict[str, Any]:
    rows = [
        row
        for clinic, drug, on_drug, control, on_control in CLINIC
        for row in ((clinic, "control", control, on_control), (clinic, "drug", drug, on_drug))
    ]
    return dict(zip(("clinic", "treatment", "favorable", "patients"), zip(*rows, strict=True), strict=True))


def _group_coefficients(rng: np.random.RandomState, mean: Any, Sigma: Any, groups: int) -> Array:
    """Draw (groups, p) rows of N(mean, Sigma)."""
    L = np.linalg.cholesky(np.asarray(Sigma))
    coefficients: Array = np.asarray(mean) + rng.standard_normal((groups, len(L))) @ L.T
    return coefficients


def _tumor() -> dict[str, Any]:
    rng = np.random.RandomState(7)
    x = np.arange(1, 21) / 20
    coefficients = _group_coefficients(rng, TUMOR_THETA, TUMOR_SIGMA, 21)
    counts = rng.poisson(np.exp(coefficients @ np.vander(x, 5, increasing=True).T))
    return {"mouse": np.repeat(np.arange(1, 22), 20), "x": np.tile(x, 21), "count": counts.ravel()}


def _school() -> dict[str, Any]:
    rng = np.random.RandomState(11)
    pupils = np.clip(np.round(20 + 6 * rng.standard_normal(100)), 4, 32).astype(np.int64)
    school = np.repeat(np.arange(100), pupils)
    ses = np.round((0.5 * rng.standard_normal(100))[school] + 0.88 * rng.standard_normal(len(school)), 3)
    within = _centred(ses, school)
    coefficients = _group_coefficients(rng, SCHOOL_THETA, SCHOOL_SIGMA, 100)[school]
    noise = np.sqrt(SCHOOL_VARIANCE) * rng.standard_normal(len(school))
    score = np.round(coefficients[:, 0] + coefficients[:, 1] * within + noise, 2)
    return {"school": school + 1, "ses": ses, "score": score}


def _bass() -> dict[str, Any]:
    rng = np.random.RandomState(0)
    station = np.repeat(np.arange(16), BASS_STATIONS)
    typical = np.log(40) + 0.14 * rng.standard_normal(16)
    length = np.round(np.exp(typical[station] + 0.17 * rng.standard_normal(len(station))), 1)
    within = _centred(np.log(length), station)
    coefficients = _group_coefficients(rng, BASS_BETA, np.diag(np.square(BASS_SD)), 16)[station]
    noise = BASS_SIGMA * rng.standard_normal(len(station))
    mercury = np.round(np.exp(coefficients[:, 0] + coefficients[:, 1] * within + noise), 3)
    return {"station": [f"s{number + 1:02d}" for number in station], "length": length, "mercury": mercury}


def _range() -> dict[str, Any]:
    rng = np.random.RandomState(3)
    block, management, mix = (x.ravel() for x in np.meshgrid(np.arange(4), np.arange(7), np.arange(4), indexing="ij"))
    blocks, plots = RANGE_SD[0] * rng.standard_normal(4), RANGE_SD[1] * rng.standard_normal((4, 7))
    eta = np.array(RANGE_MANAGEMENT)[management] + np.array(RANGE_MIX)[mix] + blocks[block] + plots[block, management]
    plants = rng.poisson(np.exp(eta) * rng.standard_gamma(RANGE_PHI, len(eta)) / RANGE_PHI)
    return {
        "block": block + 1,
        "management": [f"m{k + 1}" for k in management],
        "mix": [f"s{k + 1}" for k in mix],
        "plants": plants,
    }


def _centred(x: Array, codes: Any) -> Array:
    """Return x minus the mean of its group."""
    centred: Array = x - (np.bincount(codes, x) / np.bincount(codes))[codes]
    return centred


DATASETS = {
    about.name: about
    for about in (
        Dataset(
            "clinic",
            "a trial of a drug in eight clinics, 16 rows",
            "Real data: Beitler and Landis (1985), Biometrics 41, 991-1000.",
            {
                "clinic": "1 to 8",
                "treatment": "control or drug",
                "favorable": "patients with a favourable answer",
                "patients": "patients treated",
            },
            _clinic,
        ),
        Dataset(
            "tumor",
            "tumours along the intestine of 21 mice, 420 rows",
            "Simulated twin of the counts in Haigis et al. (2004) and Hoff (2009), chapter 11: "
            "count ~ Poisson(exp(poly(x, 4, raw=True) b_mouse)), b_mouse ~ N(theta, Sigma).",
            {
                "mouse": "1 to 21",
                "x": "place along the intestine, 0.05 to 1.00",
                "count": "tumours in that twentieth of it",
            },
            _tumor,
            {"theta": TUMOR_THETA, "Sigma": TUMOR_SIGMA},
        ),
        Dataset(
            "school",
            "mathematics scores of pupils in 100 schools",
            "Simulated twin of the NELS scores in Hoff (2009), chapters 8 and 11: "
            "score ~ N(b_school[1] + b_school[2] center(ses, by=school), sigma2), "
            "b_school ~ N(theta, Sigma).",
            {"school": "1 to 100", "ses": "socio-economic status, standardised", "score": "in mathematics"},
            _school,
            {"theta": SCHOOL_THETA, "Sigma": SCHOOL_SIGMA, "sigma2": SCHOOL_VARIANCE},
        ),
        Dataset(
            "bass",
            "mercury in largemouth bass at 16 river stations, 171 rows",
            "Simulated twin of the Lumber and Waccamaw rivers data: log(mercury) ~ N(b_station[1] + "
            "b_station[2] center(log(length), by=station), sigma^2), independent b_station ~ N(beta, sd^2).",
            {"station": "s01 to s16", "length": "of the fish, cm", "mercury": "concentration, ppm"},
            _bass,
            {"beta": BASS_BETA, "sd": BASS_SD, "sigma": BASS_SIGMA},
        ),
        Dataset(
            "range",
            "plants in a split-plot trial of range management, 112 rows",
            "Simulated twin of a range trial whose data are not public: four blocks, seven managements on whole plots, "
            "four seed mixes on sub-plots; plants ~ NegativeBinomial(exp(management + mix + block + whole plot), phi).",
            {
                "block": "1 to 4",
                "management": "m1 to m7, on whole plots",
                "mix": "seed mix, s1 to s4, on sub-plots",
                "plants": "counted",
            },
            _range,
            {"management": RANGE_MANAGEMENT, "mix": RANGE_MIX, "sd": RANGE_SD, "phi": RANGE_PHI},
        ),
        Dataset(
            "rain",
            "days with rain in two years, 366 rows",
            "Simulated twin of the Tokyo rainfall of 1983 and 1984 (Kitagawa 1987, JASA 82): "
            "rain ~ Binomial(years, p), logit p a mean and three waves a year.",
            {
                "day": "1 to 366, 60 is 29 February",
                "rain": "years in which it rained on that day",
                "years": "years that have the day: 2, or 1 for 29 February",
            },
            rain,
            {"mean": RAIN_MEAN, "waves": RAIN_WAVES},
        ),
        Dataset(
            "counties",
            "cases of a disease in 56 counties, and who borders on whom",
            "Simulated twin of the lip cancer of Scotland (Clayton & Kaldor 1987, Biometrics 43) on a map that does "
            "not exist: cases ~ Poisson(expected exp(intercept + slope outdoor + smooth over the map + own)); "
            'the map is bayou.datasets.graph("counties").',
            {
                "county": "c01 to c56",
                "cases": "counted",
                "expected": "from age and sex alone",
                "outdoor": "workers outdoors, percent",
            },
            counties,
            {"intercept": COUNTIES_INTERCEPT, "outdoor": COUNTIES_OUTDOOR, "sd": COUNTIES_SD},
        ),
    )
}

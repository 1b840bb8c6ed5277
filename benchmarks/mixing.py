"""Hard posteriors, each fitted with the default settings: effective draws, the verdict, and a picture.

Run with ``python -m benchmarks.mixing --out FOLDER``. A picture shows the parameters that mix worst: the densities
and paths of the four chains, and below them the autocorrelations. `tests/test_mixing.py` holds bayou to
effective draws of a twentieth of all on every one.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd

import bayou
from bayou import Fit
from bayou._types import Array, Integers
from benchmarks import table
from benchmarks.data import Loader, found
from benchmarks.problems import PROBLEMS, Problem

SHARE = 0.05  # of all draws, which every posterior's least effective sample size has to reach
SHOWN = 3  # parameters in a picture
DOTS = 110  # an inch
HEADINGS = ("name", "draws", "min bulk ESS", "share", "of", "max R-hat", "verdict", "seconds")
Columns = dict[str, Any]


@dataclass(frozen=True)
class Mixing:
    """How the chains of one fit mixed.

    Attributes
    ----------
    draws
        Over all chains.
    effective, worst
        The least bulk effective sample size over all rows of the summary, and the row that has it.
    r_hat
        The largest.
    verdict
        "ok", or what the verdict says is wrong.
    seconds
        Of the fit, warm-up included.
    """

    name: str
    draws: int
    effective: float
    worst: str
    r_hat: float
    verdict: str
    seconds: float

    @property
    def share(self) -> float:
        return self.effective / self.draws

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        short = "ok" if self.verdict == "ok" else "NOT OK"
        return (
            self.name, f"{self.draws:,}", f"{self.effective:,.0f}", f"{self.share:.1%}", self.worst,
            f"{self.r_hat:.3f}", short, f"{self.seconds:.1f}",
        )  # fmt: skip


# ---- the posteriors ------------------------------------------------------------------------


def simulated(draw: Callable[[np.random.Generator], Columns]) -> Loader:
    """Return a loader of what ``draw`` simulates."""

    @cache
    def load() -> tuple[pd.DataFrame, str]:
        return pd.DataFrame(draw(np.random.default_rng(3))), "simulated"

    return load


def groups(number: int, rows: int) -> Integers:
    return np.repeat(np.arange(number), rows)


def no_variance(rng: np.random.Generator) -> Columns:
    return {"y": rng.normal(size=40), "g": groups(8, 5)}


def less_than_no_variance(rng: np.random.Generator) -> Columns:
    """Simulate groups whose means are closer together than chance allows: equal."""
    g = groups(6, 5)
    y = 60.0 * rng.normal(size=30)
    for j in range(6):
        y[g == j] += 1500.0 - y[g == j].mean()
    return {"y": y, "g": g}


def dyestuff2(rng: np.random.Generator) -> Columns:
    """Box and Tiao's (1973) simulated dyestuff, as typed in: the estimate of the variance between batches is zero."""
    y = [
        7.298, 3.846, 2.434, 9.566, 7.990, 5.220, 6.556, 0.608, 11.788, -0.892, 0.110, 10.386, 13.434, 5.510, 8.166,
        2.212, 4.852, 7.092, 9.288, 4.980, 0.282, 9.014, 4.458, 9.446, 7.198, 1.722, 4.782, 8.106, 0.758, 3.758,
    ]  # fmt: skip
    return {"y": y, "g": groups(6, 5)}


def counts_without_variance(rng: np.random.Generator) -> Columns:
    return {"y": rng.poisson(3.0, 40), "g": groups(8, 5)}


def two_rows_a_group(rng: np.random.Generator) -> Columns:
    g, x = groups(1000, 2), rng.normal(size=2000)
    p = 1.0 / (1.0 + np.exp(-0.3 - 0.5 * x - rng.normal(size=1000)[g]))
    return {"y": (rng.random(2000) < p).astype(int), "x": x, "g": g}


def correlated(sign: float) -> Callable[[np.random.Generator], Columns]:
    def draw(rng: np.random.Generator) -> Columns:
        g, x, b = groups(30, 8), rng.normal(size=240), rng.normal(size=30)
        return {"y": b[g] + x * (0.5 + sign * 0.7 * b[g]) + 0.5 * rng.normal(size=240), "x": x, "g": g}

    return draw


def correlated_counts(sign: float) -> Callable[[np.random.Generator], Columns]:
    def draw(rng: np.random.Generator) -> Columns:
        g, x, b = groups(30, 8), rng.normal(size=240), rng.normal(size=30)
        mu = np.exp(0.5 + 0.5 * b[g] + x * (0.2 + sign * 0.3 * b[g]))
        return {"y": rng.poisson(mu), "x": x, "g": g}

    return draw


def a_million_each(rng: np.random.Generator) -> Columns:
    g = groups(20, 5)
    return {"y": rng.poisson(1e6 * np.exp(0.3 * rng.normal(size=20))[g]), "g": g}


def large_counts(size: float, number: int) -> Callable[[np.random.Generator], Columns]:
    def draw(rng: np.random.Generator) -> Columns:
        g, x = groups(number, 5), rng.normal(size=5 * number)
        return {"y": rng.poisson(size * np.exp(0.2 * x + 0.3 * rng.normal(size=number)[g])), "x": x, "g": g}

    return draw


def groups_of_zeros(rng: np.random.Generator) -> Columns:
    g = groups(20, 5)
    y = rng.binomial(1, 0.15, 100)
    y[g < 8] = 0
    return {"y": y, "g": g}


def groups_of_no_counts(number: int, empty: int) -> Callable[[np.random.Generator], Columns]:
    """Simulate groups of which the first ``empty`` have no single event, and the others many."""

    def draw(rng: np.random.Generator) -> Columns:
        g, x = groups(number, 5), rng.normal(size=5 * number)
        y = rng.poisson(4.0 * np.exp(0.3 * x))
        y[g < empty] = 0
        return {"y": y, "x": x, "g": g}

    return draw


def crossed_ratings(rng: np.random.Generator) -> Columns:
    """Simulate InstEval's layout in small: students and lecturers crossed, lecturers within few departments."""
    n, students, lecturers = 3000, 200, 60
    s, d = rng.integers(0, students, n), rng.integers(0, lecturers, n)
    dept, service = d % 7, rng.integers(0, 2, n)
    mean = 3.3 - 0.07 * service + 0.3 * rng.normal(size=students)[s] + 0.5 * rng.normal(size=lecturers)[d]
    y = mean + 0.1 * rng.normal(size=7)[dept] + 1.2 * rng.normal(size=n)
    return {"y": y, "service": service, "s": s, "d": d, "dept": dept}


LEVELS, LINES = "y ~ 1 + (1 | g)", "y ~ x + (x | g)"
POSTERIORS = {
    problem.name: problem
    for problem in (
        Problem("no_variance", "8 groups of 5 rows that do not differ", LEVELS, "gaussian", simulated(no_variance)),
        Problem("less_than_no_variance", "equal means", LEVELS, "gaussian", simulated(less_than_no_variance)),
        Problem("dyestuff2", "variance of batches estimated as zero", LEVELS, "gaussian", simulated(dyestuff2)),
        Problem(
            "counts_without_variance", "8 groups of 5 counts that do not differ", LEVELS, "poisson",
            simulated(counts_without_variance),
        ),
        Problem(
            "two_rows_a_group", "1,000 groups of two Bernoulli rows", "y ~ x + (1 | g)", "bernoulli",
            simulated(two_rows_a_group),
        ),
        Problem("correlation_of_one", "slopes follow levels", LINES, "gaussian", simulated(correlated(1.0))),
        Problem("correlation_of_minus_one", "slopes against levels", LINES, "gaussian", simulated(correlated(-1.0))),
        Problem("correlation_of_one_in_counts", "as the name", LINES, "poisson", simulated(correlated_counts(1.0))),
        Problem(
            "correlation_of_minus_one_in_counts", "as the name", LINES, "poisson", simulated(correlated_counts(-1.0))
        ),
        Problem("a_million_each", "counts around 1e6", LEVELS, "poisson", simulated(a_million_each)),
        Problem(
            "a_billion_each", "counts around 1e9", "y ~ x + (1 | g)", "poisson", simulated(large_counts(1e9, 20))
        ),
        Problem(
            "ten_billion_each", "counts around 1e10", "y ~ x + (1 | g)", "poisson", simulated(large_counts(1e10, 20))
        ),
        Problem(
            "a_trillion_each", "counts around 1e12", "y ~ x + (1 | g)", "poisson", simulated(large_counts(1e12, 50))
        ),
        Problem("groups_of_zeros", "8 of 20 groups all zero", LEVELS, "bernoulli", simulated(groups_of_zeros)),
        Problem(
            "groups_of_no_counts", "20 of 30 groups all zero", "y ~ x + (1 | g)", "poisson",
            simulated(groups_of_no_counts(30, 20)),
        ),
        Problem(
            "mostly_no_counts", "150 of 200 groups all zero", "y ~ x + (1 | g)", "poisson",
            simulated(groups_of_no_counts(200, 150)),
        ),
        Problem(
            "crossed_ratings", "students, lecturers and departments, 3,000 rows",
            "y ~ service + (1 | s) + (1 | d) + (1 | dept)", "gaussian", simulated(crossed_ratings),
        ),
        Problem(
            "ticks_on_grouse", "an effect for each count, within broods, within places",
            "TICKS ~ YEAR + scale(HEIGHT) + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
            found("grouseticks", "lme4"),
        ),
        *(PROBLEMS[name] for name in ("salamander", "VerbAgg", "InstEval", "counts")),
    )
}  # fmt: skip


# ---- fits, figures, pictures ---------------------------------------------------------------


def measured(problem: Problem, seed: int = 1, **settings: Any) -> tuple[Fit, Mixing]:
    """Fit a posterior, with the default settings where none are given, and say how the chains mixed."""
    arguments = problem.arguments()
    sampler = "gibbs" if arguments.get("family", "gaussian") == "gaussian" else "metropolis"  # paths are of chains
    fit = bayou.fit(**arguments, seed=seed, **({"engine": sampler} | settings))
    summary = fit.summary()
    verdict = "ok" if fit.verdict.ok else " ".join(fit.verdict.failures)
    draws = fit.result.chains * fit.result.size
    least, worst = float(summary["ess_bulk"].min()), str(summary["ess_bulk"].idxmin())
    return fit, Mixing(problem.name, draws, least, worst, float(summary["r_hat"].max()), verdict, fit.seconds)


def picture(fit: Fit, path: Path) -> None:
    """Write the paths and, below them, the autocorrelations of the parameters that mix worst."""
    worst = list(fit.summary()["ess_bulk"].nsmallest(SHOWN).index)
    figures = (fit.plot.trace(worst), fit.plot.autocorrelation(parameters=worst))
    parts: list[Array] = []
    for figure in figures:
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=DOTS, facecolor="white")
        written.seek(0)
        parts.append(matplotlib.image.imread(written)[..., :3])
    width = max(part.shape[1] for part in parts)
    white = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=1.0) for p in parts]
    matplotlib.image.imsave(path, np.concatenate(white))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixing", description="Fit hard posteriors.")
    parser.add_argument("--out", type=Path, required=True, help="the folder that the pictures are written to")
    parser.add_argument(
        "--only", action="append", choices=tuple(POSTERIORS), metavar="NAME", help=f"one of {', '.join(POSTERIORS)}"
    )
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    figures: list[Mixing] = []
    missing: list[str] = []
    for name in chosen.only or POSTERIORS:
        try:
            fit, figure = measured(POSTERIORS[name])
        except FileNotFoundError as absent:
            missing.append(f"{name}: left out: {absent}")
            continue
        picture(fit, chosen.out / f"{name}.png")
        figures.append(figure)
        print(f"{name}: {figure.effective:,.0f} of {figure.draws:,}", file=sys.stderr, flush=True)
    text = table.markdown(HEADINGS, [figure.cells for figure in figures], left=(0, 4, 6))
    said = [f"{f.name}: {f.verdict}" for f in figures if f.verdict != "ok"]
    short = [f"{f.name}: {f.worst} has {f.share:.1%} of the draws, not {SHARE:.0%}" for f in figures if f.share < SHARE]
    print("\n\n".join([text, *said, *short, *missing]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

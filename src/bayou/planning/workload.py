"""What there is to do: rows, levels, columns and kept rows, told from a sample of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayou import design
from bayou._types import Integers
from bayou.errors import DataError
from bayou.formula import known_functions
from bayou.formula.syntax import parse_expression
from bayou.formula.tree import names_of
from bayou.formula.words import did_you_mean
from bayou.planning.sampling import sample

if TYPE_CHECKING:
    from bayou.families import Family
    from bayou.formula import Formula
    from bayou.streaming.sources import Source

__all__ = ["Factor", "Workload", "look"]

SAMPLE = 1_000_000
"""Rows that are looked at, in stretches spread over all of them: all of them where there are no more."""
CODED = 20_000
"""Rows of the sample that go through the formula, for the number of columns."""
MERGING = ("bernoulli", "binomial", "poisson")


@dataclass(frozen=True)
class Factor:
    """A grouping factor: its name, how many levels it has, and coefficients a level."""

    name: str
    levels: float
    coefficients: int


@dataclass(frozen=True)
class Workload:
    """What a fit has to do.

    Attributes
    ----------
    text, family : str
    what : str
        Where the rows are.
    rows : int
    exact : bool
        Whether every row was looked at; otherwise levels and kept rows are estimates.
    columns : int
        Of the data, that the formula uses.
    fixed : int
        Fixed effects, P.
    factors : tuple of Factor
    how : {"summed", "merged", "blocks"}
        What becomes of the rows when they are streamed.
    kept : float
        Rows that remain then.
    """

    text: str
    family: str
    what: str
    rows: int
    exact: bool
    columns: int
    fixed: int
    factors: tuple[Factor, ...]
    how: str
    kept: float

    @property
    def width(self) -> int:
        """Numbers of one row: the columns of fixed and group-level effects."""
        return self.fixed + sum(f.coefficients for f in self.factors)

    def scaled(self, rows: int, levels: Mapping[str, float]) -> Workload:
        """Return the same work with more rows, the levels of factors as given or as they are.

        Kept rows grow with the levels of the largest factor, and with the rows where all are kept.
        """
        unknown = [name for name in levels if all(name != f.name for f in self.factors)]
        if unknown:
            names = [f.name for f in self.factors]
            raise DataError(
                f"`{unknown[0]}` is no grouping factor of {self.text!r}.{did_you_mean(unknown[0], names)}"
            )
        factors = tuple(replace(f, levels=float(levels.get(f.name, f.levels))) for f in self.factors)
        grown = max((new.levels / old.levels for new, old in zip(factors, self.factors, strict=True)), default=1.0)
        kept = float(rows) if self.how == "blocks" else min(self.kept * grown, float(rows))
        return replace(self, rows=rows, factors=factors, kept=kept, exact=self.exact and rows == self.rows)


def look(
    formula: Formula,
    data: Any,
    source: Source | None,
    family: Family,
    functions: Mapping[str, Any] | None = None,
    structures: Mapping[str, Any] | None = None,
    weights: str | None = None,
    sigma_by: str | None = None,
) -> Workload:
    """Look at a sample of the data and tell what a fit of the formula has to do.

    Levels and different rows of the whole are estimated by capture and recapture: with d₁ and d₂ different values
    in two halves of the sample and m in both, there are about (d₁ + 1)(d₂ + 1) / (m + 1) − 1 (Chapman 1951, Univ.
    Calif. Publ. Stat. 1), and no more than the sample's number grown with the rows.

    Raises
    ------
    FormulaError, DataError, Unsupported
        As a fit would, for the sample.
    """
    by = [] if sigma_by is None else [part.strip() for part in sigma_by.split(":")]
    used = list(dict.fromkeys([*formula.columns, *([] if weights is None else [weights]), *by]))
    rows, what, sampled, stretch = sample(data, source, used, SAMPLE)
    n = sampled.n
    some = sampled if n <= CODED else sampled.take(np.linspace(0, n - 1, CODED).astype(np.int64))
    built = design.build(
        formula, some, family, weights=weights, sigma_by=sigma_by, missing="drop", functions=functions,
        structures=structures,
    )  # fmt: skip
    known = known_functions | set(functions or {})
    trees = [parse_expression(text, known, limited=False) for text in formula.response.expressions]
    outcome = {name for tree in trees for name in names_of(tree)}

    def different(names: Sequence[str]) -> float:
        return _levels(_combined([sampled[name].factor().codes for name in names]), stretch, rows) if names else 1.0

    factors = tuple(Factor(g.name, different(g.factors), g.Z.shape[1]) for g in built.groupings)
    how, kept = "blocks", float(rows)
    if family.name == "gaussian" and family.link.name == "identity":
        # the cells of all factors; one row for each different column and one more
        factors_of_cells = [name for g in built.groupings for name in g.factors] + by
        cells = different(factors_of_cells)
        points = 1 + _varying(built)
        how, kept = ("summed", cells * points) if cells * points < 0.5 * rows else (how, kept)
    elif family.name in MERGING:
        covariates = [name for name in used if name not in outcome]
        patterns = different(covariates)
        how, kept = ("merged", patterns) if patterns < 0.5 * rows else (how, kept)
    return Workload(
        text=formula.text, family=family.name, what=what, rows=rows, exact=n == rows, columns=len(used),
        fixed=built.X.shape[1], factors=factors, how=how, kept=kept,
    )  # fmt: skip


def _varying(built: design.Design) -> int:
    """Return the number of different columns of X and Z that are not constant."""
    columns = [built.X[:, k] for k in range(built.X.shape[1])]
    columns += [g.Z[:, k] for g in built.groupings for k in range(g.Z.shape[1])]
    return len({column.tobytes() for column in columns if np.ptp(column) > 0.0})


def _combined(codes: Sequence[Integers]) -> Integers:
    """Return one code for each combination of codes."""
    out = np.zeros(len(codes[0]), dtype=np.int64)
    for own in codes:
        out = pd.factorize(out * (int(own.max(initial=0)) + 2) + own + 1)[0].astype(np.int64)
    return out


def _levels(codes: Integers, stretch: Integers, rows: int) -> float:
    """Return how many different codes all rows have, of which these are a sample in stretches."""
    n, found = len(codes), len(np.unique(codes))
    if n == rows:
        return float(found)
    # halves of whole stretches: a level that lies across the border of two would count as seen again
    half = stretch % 2 == 0
    first, second = np.unique(codes[half]), np.unique(codes[~half])
    both = len(np.intersect1d(first, second, assume_unique=True))
    estimate = (len(first) + 1.0) * (len(second) + 1.0) / (both + 1.0) - 1.0
    # of sorted rows a stretch holds one level more than its length tells, cut at both ends
    grown = (found - len(np.unique(stretch))) * rows / n
    return float(max(min(estimate, grown), found))

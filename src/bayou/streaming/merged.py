"""Identical rows of binomial, Bernoulli and Poisson responses merged into one, without loss.

Rows with the same predictor and prior weight w have log densities that add up to one of the same family:
w Σ f (log C(t, y) + y log p + (t − y) log q) is that of Σ f y successes in Σ f t trials but for the binomial
coefficients, and w Σ f (y (eta + o) − exp(eta + o) − log y!), o the offset of a Poisson row, that of Σ f y events at
the offset log Σ f exp(o) but for terms free of eta. What is left over is one number, `Remainder.constant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bayou._types import Array, Integers
from bayou.design import Design, Distinct, NewRows, Reduced, Remainder
from bayou.errors import DataError, Unsupported
from bayou.streaming.patterns import Keys, Patterns
from bayou.streaming.table import Table

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["Blocks", "Saving", "can_merge", "less", "merged", "saving"]

Block: TypeAlias = NewRows | tuple[NewRows, Integers]
Blocks: TypeAlias = Callable[[], Iterable[Block]]

TRIALS = ("bernoulli", "binomial")
FAMILIES = (*TRIALS, "poisson")
WORTH = 0.5  # share of kept rows from which merging is not worth its while


def can_merge(family: Family) -> bool:
    """Return whether the log densities of rows with one predictor add up to one row of the family."""
    return family.name in FAMILIES and not family.own


def merged(template: Design, blocks: Blocks, most: int | None = None) -> Design:
    """Merge rows that are alike in everything but their outcome.

    Parameters
    ----------
    template
        Design of some rows that hold every level, built from what was learnt of all rows.
    blocks
        A fresh pass over all rows, in blocks that `template.recipe.rebuild(block, need_response=True)` made; a block
        may come with how often each of its rows counts, (rows, whole numbers (m,)).
    most
        How many different rows are kept in memory at the most; None for any number.

    Returns
    -------
    Design
        One row for each different predictor (and weight), in the order of the levels of the factor with most
        coefficients; `reduced` tells what they stand for. Its `data` are those of the template.

    Raises
    ------
    Unsupported
        For a family whose rows do not add up; where more than `most` rows are different.
    DataError
        For a level that the template does not hold.

    Examples
    --------
    >>> from bayou import design, families
    >>> data = {"y": [0, 1, 1, 1, 0], "x": [0, 0, 0, 1, 1]}
    >>> whole = design.build("y ~ x", data, families.get("bernoulli"))
    >>> few = merged(whole, lambda: [whole.rebuild(data, need_response=True)])
    >>> few.y, few.trials, few.given
    (array([2., 1.]), array([3., 2.]), 5)
    """
    if not can_merge(template.family):
        raise Unsupported(
            f"rows of a {template.family.name} response do not add up to one of the same family; those of a bernoulli, "
            "binomial or poisson response do."
        )
    keys = Keys(template)
    table = Table(keys.width)
    read = 0
    for block in blocks():
        rows, count = block if isinstance(block, tuple) else (block, None)
        table.add(keys.of(rows, read), count)
        read += rows.n
        if most is not None and len(table) > most:
            raise Unsupported(
                f"{len(table):,} of the first {read:,} rows differ, more than the {most:,} that are kept: rows with "
                "measured covariates have little to be merged."
            )
    if not read:
        raise DataError("the data have 0 rows: look at the files, or at the filter that left none.")
    return _design(template, keys, table)


def _design(template: Design, keys: Keys, table: Table) -> Design:
    """Make the design of the rows in the table."""
    patterns = Table(keys.pattern)
    row = patterns.add(table.words[:, : keys.pattern])
    kept = keys.unpacked(patterns.words)
    # by the factor with most coefficients, which is the one that engines go by
    sizes = [len(g.levels) * g.Z.shape[1] for g in template.groupings]
    largest = kept.codes[int(np.argmax(sizes))] if sizes else np.zeros(len(patterns), dtype=np.int64)
    order = np.argsort(largest, kind="stable").astype(np.int64)
    kept = kept.taken(order)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    row = place[row]
    by_row = np.argsort(row, kind="stable")
    row, outcome = row[by_row], keys.outcome(table.words[by_row])
    distinct = Distinct(
        row=row,
        y=outcome.y,
        trials=outcome.trials,
        # that of a binomial row is part of its pattern
        offset=kept.offset[row] if outcome.offset is None else outcome.offset,
        weights=kept.weights[row],
        frequency=table.counts[by_row].astype(np.float64),
    )
    return _joined(template, kept, distinct)


def _joined(template: Design, kept: Patterns, distinct: Distinct) -> Design:
    """Make the design of the kept rows from the different ones that they stand for."""
    R = len(kept.weights)
    y, trials, offset = _sums(template.family, distinct, R)
    constant = _constant(template.family, distinct, y, trials, offset, kept.weights)
    reduced = Reduced(
        how="merged",
        given=int(distinct.frequency.sum()),
        frequency=np.bincount(distinct.row, weights=distinct.frequency, minlength=R).astype(np.float64),
        remainder=replace(Remainder.nothing(len(template.sigma_levels)), constant=constant),
        distinct=distinct,
    )
    return replace(
        template,
        y=y,
        trials=trials,
        weights=kept.weights,
        offset=offset,
        X=kept.X,
        groupings=tuple(
            replace(g, codes=codes, Z=Z) for g, codes, Z in zip(template.groupings, kept.codes, kept.Z, strict=True)
        ),
        sigma_codes=np.zeros(R, dtype=np.int64),
        structured=tuple(
            replace(term, start=start, replicate=replicate, node=node, value=value)
            for term, (start, replicate, node, value) in zip(template.structured, kept.structured, strict=True)
        ),
        index=np.arange(R),
        reduced=reduced,
    )


def less(design: Design, frequency: Array) -> Design:
    """Return a design of merged rows with other frequencies (m,) of its different rows: those of none are left out.

    Raises
    ------
    DataError
        If no row is left.

    Examples
    --------
    >>> from bayou import design, families
    >>> data = {"y": [0, 1, 1, 1, 0], "x": [0, 0, 0, 1, 1]}
    >>> whole = design.build("y ~ x", data, families.get("bernoulli"))
    >>> few = merged(whole, lambda: [whole.rebuild(data, need_response=True)])
    >>> less(few, few.reduced.distinct.frequency - [0, 1, 0, 0]).trials
    array([2., 2.])
    """
    assert design.reduced is not None and design.reduced.distinct is not None
    there, distinct = frequency > 0.0, design.reduced.distinct
    if not there.any():
        raise DataError("no row is left.")
    rows, row = np.unique(distinct.row[there], return_inverse=True)
    kept = Patterns(
        design.X,
        tuple(g.codes for g in design.groupings),
        tuple(g.Z for g in design.groupings),
        tuple((term.start, term.replicate, term.node, term.value) for term in design.structured),
        design.weights,
        design.offset,
    )
    chosen = {
        name: getattr(distinct, name)[there] for name in ("y", "trials", "offset", "weights")
    }
    fewer = Distinct(row=row.astype(np.int64), frequency=np.asarray(frequency[there], dtype=np.float64), **chosen)
    return _joined(design, kept.taken(rows), fewer)


def _sums(family: Family, distinct: Distinct, rows: int) -> tuple[Array, Array, Array]:
    """Return outcome, trials and offset (R,) of the kept rows."""
    row, f = distinct.row, distinct.frequency

    def added(values: Array) -> Array:
        return np.bincount(row, weights=f * values, minlength=rows).astype(np.float64)

    first = np.searchsorted(row, np.arange(rows))
    if family.name in TRIALS:
        return added(distinct.y), added(distinct.trials), distinct.offset[first]
    top = np.full(rows, -np.inf)
    np.maximum.at(top, row, distinct.offset)
    # through the largest, since exposures may be tiny or huge; a row that stands for itself keeps its offset
    return added(distinct.y), np.ones(rows), top + np.log(added(np.exp(distinct.offset - top[row])))


def _constant(family: Family, distinct: Distinct, y: Array, trials: Array, offset: Array, weights: Array) -> float:
    """Return log p(rows as given) − log p(kept rows): free of eta, and taken where the kept rows are likely."""
    if family.name in TRIALS:
        eta = family.link((y + 0.5) / (trials + 1.0))
        at = eta[distinct.row]
    else:
        eta = np.log(np.maximum(y, 0.5))
        at = eta[distinct.row] + (distinct.offset - offset[distinct.row])
    given = distinct.frequency * family.log_density(
        distinct.y, at, trials=distinct.trials, weights=distinct.weights
    )
    kept = family.log_density(y, eta, trials=trials, weights=weights)
    return float(np.sum(np.bincount(distinct.row, weights=given, minlength=len(y)) - kept))


@dataclass(frozen=True)
class Saving:
    """What merging would do: `rows` looked at, `kept` of them, and `worth` whether it is worth its while."""

    rows: int
    kept: int
    worth: bool


def saving(template: Design, block: Block) -> Saving | None:
    """Tell what merging would save, from some rows; None where the family does not merge.

    A group of which the rows hold few members looks worse than it is: a block of rows sorted by the largest factor, or
    a large one, tells more.

    Examples
    --------
    >>> from bayou import design, families
    >>> data = {"y": [0, 1, 1, 1, 0], "x": [0, 0, 0, 1, 1]}
    >>> whole = design.build("y ~ x", data, families.get("bernoulli"))
    >>> saving(whole, whole.rebuild(data, need_response=True))
    Saving(rows=5, kept=2, worth=True)
    """
    if not can_merge(template.family):
        return None
    keys = Keys(template)
    rows, count = block if isinstance(block, tuple) else (block, None)
    table = Table(keys.pattern)
    table.add(keys.of(rows, 0)[:, : keys.pattern], count)
    given = rows.n if count is None else int(np.sum(count))
    return Saving(given, len(table), len(table) <= WORTH * given)

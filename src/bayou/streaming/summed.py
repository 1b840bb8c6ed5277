"""Rows of a Gaussian response summed: a few rows for each combination of levels, with the sums of all of them.

The likelihood of a Gaussian model sees its rows through X'WX, X'WZ, Z'WZ, X'Wy, Z'Wy and y'Wy alone, by level of sigma.
Rows that share their levels (and nodes of structured effects) make a cell, whose sums a few rows carry as well; what is
left of y'Wy, the number of rows and the constants go to the `Remainder`. Every engine runs on such a design as it
stands, and its time does not depend on the rows that were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from bayou._types import Array, Integers
from bayou.design import Design, NewRows, Reduced, Remainder, StructuredRows, StructuredTerm
from bayou.design.moments import Running
from bayou.errors import DataError, Unsupported
from bayou.streaming.cells import Cells, first_of_each
from bayou.streaming.keys import Keys
from bayou.streaming.simplex import corners, ranks

__all__ = ["Blocks", "summed"]

Blocks: TypeAlias = Callable[[], Iterable[NewRows]]
"""A fresh pass over all rows, block by block, in the order of the rows."""
LOG_2PI = math.log(2.0 * math.pi)


def summed(template: Design, blocks: Blocks, rows: int | None = None) -> Design | None:
    """Sum the rows of a Gaussian response to a few rows for each cell.

    Parameters
    ----------
    template : Design
        Knows all levels, states and nodes; its own rows do not count.
    blocks : callable
        Makes a pass over the rows.
    rows : int, optional
        How many there are, to stop as soon as there are too many cells.

    Returns
    -------
    Design or None
        None where summing does not pay: more cells than half the rows.

    Raises
    ------
    Unsupported
        Unless the response is Gaussian with an identity link.
    DataError
        For levels and nodes that the template does not have.

    Examples
    --------
    >>> from bayou import design, families
    >>> table = {"y": [1.0, 2.0, 4.0, 3.0, 5.0, 4.5], "g": [1, 1, 1, 2, 2, 2]}
    >>> whole = design.build("y ~ 1 + (1 | g)", table, families.get("gaussian"))
    >>> few = summed(whole, lambda: [whole.rebuild(table, need_response=True)])
    >>> few.n, few.given, few.remainder.count
    (2, 6, array([4.]))
    """
    if template.family.name != "gaussian" or template.family.link.name != "identity":
        raise Unsupported(
            f"Summing rows takes a Gaussian response with an identity link, and this one is {template.family.name} "
            f"with the {template.family.link.name} link."
        )
    reading = _Reading(template)
    for block in blocks():
        reading.add(block)
        if rows is not None and 2 * len(reading.keys) > rows:
            return None
    if 2 * len(reading.keys) > reading.given:
        return None
    return reading.design()


class _Patterns:
    """The different ways in which rows see a structured effect."""

    def __init__(self, term: StructuredTerm) -> None:
        self.term = term
        self.width = int(np.diff(term.start).max(initial=1))
        self.simple = self.width == 1 and bool(np.all(term.value == 1.0))
        self.size = len(term.replicates) * len(term.nodes)
        self.keys = Keys(None, 3 * self.width)

    def number(self, rows: StructuredRows) -> Integers:
        """Return the pattern (n,) of each row."""
        counts = np.diff(rows.start)
        if np.any(rows.node < 0) or np.any(rows.replicate < 0) or np.any(counts != self.width):
            raise DataError(
                f"`{self.term.text}`: a row has no node. The data changed between two passes, or a value is missing."
            )
        if self.simple:
            if not np.all(rows.value == 1.0):
                raise DataError(f"`{self.term.text}`: the data changed between two passes.")
            return np.asarray(rows.replicate * len(self.term.nodes) + rows.node)
        entries = np.stack([rows.replicate, rows.node, rows.value.view(np.int64)], axis=1)
        return self.keys.number(list(entries.reshape(len(counts), 3 * self.width).T))

    def rows(self, pattern: Integers) -> StructuredTerm:
        """Return the term with rows of these patterns."""
        start = np.arange(len(pattern) + 1, dtype=np.int64) * self.width
        if self.simple:
            replicate, node = np.divmod(pattern, len(self.term.nodes))
            value = np.ones(len(pattern))
        else:
            entries = self.keys.known[pattern].reshape(-1, 3)
            replicate, node = entries[:, 0].copy(), entries[:, 1].copy()
            value = entries[:, 2].copy().view(np.float64)
        return replace(self.term, start=start, replicate=replicate, node=node, value=value)


@dataclass(frozen=True)
class _Few:
    """The rows that the cells became."""

    cell: Integers
    rows: Array
    weights: Array
    left: Array  # by cell
    count: Integers  # rows of each cell


class _Reading:
    """One pass over the rows, adding them up."""

    def __init__(self, template: Design) -> None:
        self.template = template
        self.patterns = [_Patterns(term) for term in template.structured]
        sizes = [len(g.levels) for g in template.groupings] + [len(template.sigma_levels)]
        sizes += [p.size for p in self.patterns if p.simple]
        whole = all(p.simple for p in self.patterns)
        self.keys = Keys(sizes if whole else None, len(sizes) + sum(not p.simple for p in self.patterns))
        columns = _columns(template.X, [g.Z for g in template.groupings])
        first = first_of_each(columns)
        self.own = sorted(set(first))  # columns that differ from those before them
        self.place = [self.own.index(k) + 1 for k in first]  # of every column, behind the response
        one = len(template.groupings) == 1 and len(template.sigma_levels) == 1 and not self.patterns
        self.cells = Cells(len(self.own) + 1, len(template.groupings[0].levels) if one else 0)
        self.running = Running(len(self.own) + 1)
        self.given = 0
        self.log_weights = 0.0

    def add(self, block: NewRows) -> None:
        """Add a block of rows."""
        assert block.y is not None
        columns = _columns(block.X, block.Z)
        self._twins(columns)
        rows = np.empty((block.n, len(self.own) + 1))
        rows[:, 0] = block.y - block.offset
        for k, c in enumerate(self.own):
            rows[:, k + 1] = columns[c]
        weights = block.weights
        if block.standard_errors is not None:
            weights = weights / np.square(block.standard_errors)
        self.running.add(rows, None, block.weights)
        self.running.offset += float(block.offset.sum() - block.n * self.running.offset) / self.running.count
        if not np.all(weights == 1.0):
            self.log_weights += float(np.log(weights).sum())
        cell = self.keys.number(self._coded(block))
        self.cells.add(rows, np.ascontiguousarray(weights), cell, len(self.keys))
        self.given += block.n

    def _coded(self, block: NewRows) -> list[Integers]:
        """Return what makes a cell, one column each."""
        codes = [*block.codes, block.sigma_codes]
        names = [g.name for g in self.template.groupings] + [str(self.template.sigma_by)]
        for name, code in zip(names, codes, strict=True):
            if code.min(initial=0) < 0:
                raise DataError(f"`{name}` has a missing level, or one that the first pass over the data did not see.")
        numbers = [p.number(rows) for p, rows in zip(self.patterns, block.structured, strict=True)]
        simple = [n for n, p in zip(numbers, self.patterns, strict=True) if p.simple]
        return [*codes, *simple, *(n for n, p in zip(numbers, self.patterns, strict=True) if not p.simple)]

    def _twins(self, columns: list[Array]) -> None:
        """Part columns that were the same up to here."""
        for c, at in enumerate(self.place):
            if c == self.own[at - 1] or np.array_equal(columns[c], columns[self.own[at - 1]]):
                continue
            parted = [k for k in range(c, len(columns)) if self.place[k] == at]
            same = [k for k in parted if k == c or np.array_equal(columns[k], columns[c])]
            self.cells.split(at)
            self.running.split(at)
            self.own.append(c)
            for k in same:
                self.place[k] = len(self.own)

    def design(self) -> Design:
        """Return the design of the sums."""
        template, few = self.template, self._few()
        known = self.keys.known[few.cell]
        frequency = self.cells.count[few.cell] / few.count[few.cell]
        columns = [np.ascontiguousarray(few.rows[:, at]) for at in self.place]
        at, groupings = template.X.shape[1], []
        for k, grouping in enumerate(template.groupings):
            width = grouping.Z.shape[1]
            codes = np.ascontiguousarray(known[:, k])
            groupings.append(replace(grouping, codes=codes, Z=_stacked(columns[at : at + width], len(codes))))
            at += width
        sigma = np.ascontiguousarray(known[:, len(groupings)])
        self.running.places = self._places()
        return replace(
            template,
            y=np.ascontiguousarray(few.rows[:, 0]),
            trials=np.ones(len(sigma)),
            weights=few.weights if template.standard_errors is None else np.ones(len(sigma)),
            offset=np.zeros(len(sigma)),
            standard_errors=None if template.standard_errors is None else 1.0 / np.sqrt(few.weights),
            X=_stacked(columns[: template.X.shape[1]], len(sigma)),
            groupings=tuple(groupings),
            sigma_codes=sigma,
            index=np.arange(len(sigma)),
            structured=self._structured(known),
            reduced=Reduced("summed", self.given, frequency, self._remainder(few), running=self.running),
        )

    def _few(self) -> _Few:
        cells, N = self.cells, len(self.keys)
        # in the order of their levels, which does not depend on that of the rows
        order = np.arange(N) if self.keys.identity else np.lexsort(self.keys.known.T[::-1]).astype(np.int64)
        v = len(cells.moving)
        scratch = np.empty((v, v)), np.empty((v, v)), np.empty(v), np.empty(v, dtype=np.int64)
        count = np.empty(N, dtype=np.int64)
        ranks(cells.sums, cells.width, *scratch, count)
        start = np.concatenate([[0], np.cumsum(count[order])]).astype(np.int64)
        rows, weights, left = np.empty((start[-1], len(self.own) + 1)), np.empty(start[-1]), np.empty(N)
        moving = np.array(cells.moving, dtype=np.int64)
        corners(cells.sums, moving, *scratch, order, start, rows, weights, left)
        by_cell = np.empty(N)
        by_cell[order] = left
        return _Few(np.repeat(order, count[order]), rows, weights, by_cell, count)

    def _remainder(self, few: _Few) -> Remainder:
        levels = len(self.template.sigma_levels)
        N = len(self.keys)
        sigma = self.keys.known[:, len(self.template.groupings)]
        fewer = self.cells.count[:N] - few.count
        constant = 0.5 * (self.log_weights - float(np.log(few.weights).sum()) - LOG_2PI * float(fewer.sum()))
        by_level = [np.bincount(sigma, values, levels).astype(np.float64) for values in (fewer, few.left)]
        return Remainder(constant, *by_level)

    def _structured(self, known: Integers) -> tuple[StructuredTerm, ...]:
        simple = len(self.template.groupings) + 1
        other = simple + sum(p.simple for p in self.patterns)
        out = []
        for pattern in self.patterns:
            out.append(pattern.rows(known[:, simple if pattern.simple else other]))
            simple, other = simple + pattern.simple, other + (not pattern.simple)
        return tuple(out)

    def _places(self) -> tuple[list[int], ...]:
        """Return which running columns are those of X, and of each grouping."""
        at, out = 0, []
        for width in [self.template.X.shape[1], *(g.Z.shape[1] for g in self.template.groupings)]:
            out.append(self.place[at : at + width])
            at += width
        return tuple(out)


def _columns(X: Array, Z: Iterable[Array]) -> list[Array]:
    return [matrix[:, k] for matrix in (X, *Z) for k in range(matrix.shape[1])]


def _stacked(columns: list[Array], n: int) -> Array:
    return np.ascontiguousarray(np.column_stack(columns)) if columns else np.zeros((n, 0))

"""How two grouping factors lie to each other: nested by mistake, the same twice, or in separate parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Integers
from bayou.formula.words import label_text, listing

if TYPE_CHECKING:
    from bayou.design.grouping import Grouping

__all__ = ["crossing_notes"]


def crossing_notes(groupings: Sequence[Grouping]) -> list[str]:
    """Return sentences about pairs of factors that may not be what was meant."""
    notes = _implicit_nesting(groupings)
    for one, other in combinations(groupings, 2):
        cells = _distinct(one, other)
        if len(cells[0]) in (len(one.levels), len(other.levels)):
            if len(one.levels) == len(other.levels) > 1:
                notes.append(
                    f"{one.name} and {other.name} divide the rows in the same way: only the sum of their "
                    "variances is learnt. Leave one out."
                )
            continue  # nested: its parts are the levels of the outer factor
        notes += _separate_parts(one, other, cells)
    return notes


def _distinct(one: Grouping, other: Grouping) -> tuple[Integers, Integers]:
    """Return the pairs of levels that occur together."""
    width = len(other.levels)
    cells = one.codes.astype(np.int64) * width + other.codes
    largest = len(one.levels) * width
    found = np.flatnonzero(np.bincount(cells)) if largest <= 10_000_000 else np.unique(cells)
    return found // width, found % width


def _separate_parts(one: Grouping, other: Grouping, cells: tuple[Integers, Integers]) -> list[str]:
    """Note crossed factors whose levels fall into parts that share no row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    J = len(one.levels)
    size = J + len(other.levels)
    graph = coo_array((np.ones(len(cells[0]), dtype=np.int8), (cells[0], cells[1] + J)), shape=(size, size))
    count, part = connected_components(graph, directed=False)
    if count == 1:
        return []
    sizes = np.bincount(part[:J], minlength=count)
    smallest = int(np.argmin(sizes))
    shown = [
        f"{grouping.name} {listing([label_text(level) for level in grouping.levels[mine == smallest]], 4)}"
        for grouping, mine in ((one, part[:J]), (other, part[J:]))
    ]
    return [
        f"The levels of {one.name} and {other.name} fall into {count:,} parts that share no row; one is "
        f"{' with '.join(shown)}. Between parts, levels are compared through the priors and the other terms alone."
    ]


def _implicit_nesting(groupings: Sequence[Grouping]) -> list[str]:
    """Note factors whose levels repeat in full within another's, which may be meant as nested.

    A crossed trial looks the same, so this is only said where cells are replicated and the inner labels
    are few.
    """
    notes = []
    single = [grouping for grouping in groupings if len(grouping.factors) == 1]
    joint = [set(grouping.factors) for grouping in groupings if len(grouping.factors) > 1]
    for inner in single:
        for outer in single:
            small, large = len(inner.levels), len(outer.levels)
            if not 1 < small < large or small > 10 or {inner.name, outer.name} in joint:
                continue
            cells = np.bincount(outer.codes * small + inner.codes, minlength=small * large)
            if cells.all() and len(inner.codes) >= 2 * small * large:
                notes.append(
                    f"every level of {inner.name} occurs in every level of {outer.name}: read as crossed; "
                    f"if {inner.name} 1 of one {outer.name} is not {inner.name} 1 of another, "
                    f"write (1 | {outer.name}/{inner.name})."
                )
    return notes

"""How two grouping factors lie to each other: nested by mistake, the same twice, or in separate parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Integers
from bayou.formula.words import label_text, listing
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.design.grouping import Grouping

__all__ = ["crossing_notes", "unite"]


@kernel(inner=True)
def unite(parent: Integers, a: int, b: int) -> None:
    """Put two nodes of a forest into one tree: the lower root stays one (path halving, Tarjan & van Leeuwen 1984)."""
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    while parent[b] != b:
        parent[b] = parent[parent[b]]
        b = parent[b]
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@kernel
def _joined(
    one: Integers, other: Integers, partner: Integers, counterpart: Integers, parent: Integers
) -> tuple[bool, bool]:
    """Join levels that share a row; return whether each level of one, and of the other, meets one level only.

    `partner` (J,) and `counterpart` (K,) begin with -1, `parent` (J + K,) with 0, 1, …: a forest whose trees are the
    parts, each with its least level as the root.
    """
    J = len(partner)
    alone, lonely = True, True
    for i in range(len(one)):
        a, b = one[i], other[i]
        if partner[a] == b:
            continue
        if partner[a] < 0:
            partner[a] = b
        else:
            alone = False
        if counterpart[b] < 0:
            counterpart[b] = a
        elif counterpart[b] != a:
            lonely = False
        unite(parent, a, b + J)
    for k in range(len(parent)):
        while parent[parent[k]] != parent[k]:
            parent[k] = parent[parent[k]]
    return alone, lonely


def crossing_notes(groupings: Sequence[Grouping], rows: int | None = None) -> list[str]:
    """Return sentences about pairs of factors that may not be what was meant.

    Parameters
    ----------
    groupings : sequence of Grouping
    rows : int, optional
        How many rows there are, where several of them became one.
    """
    notes = _implicit_nesting(groupings, rows)
    for one, other in combinations(groupings, 2):
        J, K = len(one.levels), len(other.levels)
        parent = np.arange(J + K)
        alone, lonely = _joined(one.codes, other.codes, np.full(J, -1), np.full(K, -1), parent)
        if alone or lonely:
            if alone and lonely and J > 1:
                notes.append(
                    f"{one.name} and {other.name} divide the rows in the same way: only the sum of their "
                    "variances is learnt. Leave one out."
                )
            continue  # nested: its parts are the levels of the outer factor
        notes += _separate_parts(one, other, parent)
    return notes


def _separate_parts(one: Grouping, other: Grouping, parent: Integers) -> list[str]:
    """Note crossed factors whose levels fall into parts that share no row."""
    J = len(one.levels)
    roots, part = np.unique(parent, return_inverse=True)
    if len(roots) == 1:
        return []
    sizes = np.bincount(part[:J], minlength=len(roots))
    smallest = int(np.argmin(sizes))
    shown = [
        f"{grouping.name} {listing([label_text(level) for level in grouping.levels[mine == smallest]], 4)}"
        for grouping, mine in ((one, part[:J]), (other, part[J:]))
    ]
    return [
        f"The levels of {one.name} and {other.name} fall into {len(roots):,} parts that share no row; one is "
        f"{' with '.join(shown)}. Between parts, levels are compared through the priors and the other terms alone."
    ]


def _implicit_nesting(groupings: Sequence[Grouping], rows: int | None) -> list[str]:
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
            n = len(inner.codes) if rows is None else rows
            if n < 2 * small * large:
                continue
            cells = np.zeros(small * large, dtype=np.bool_)
            for start in range(0, len(inner.codes), _at_once):
                part = slice(start, start + _at_once)
                cells[outer.codes[part] * small + inner.codes[part]] = True
            if cells.all():
                notes.append(
                    f"every level of {inner.name} occurs in every level of {outer.name}: read as crossed; "
                    f"if {inner.name} 1 of one {outer.name} is not {inner.name} 1 of another, "
                    f"write (1 | {outer.name}/{inner.name})."
                )
    return notes


_at_once = 2**20

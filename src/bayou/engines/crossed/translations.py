"""What one factor's coefficients may gain and another's lose without any row seeing it."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.design.crossing import unite
from bayou.engines.centring import starts_of
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.design import Grouping


class Translations(NamedTuple):
    """Shifts of one factor's coefficients against another's that no row sees, one for each part of their graph.

    Two factors with the same column (an intercept each) fall into parts that share no row: in one part, all levels
    of the one may gain what all levels of the other lose. Nested factors have as many parts as the outer has levels.
    """

    one: Integers  # (N,) the factors
    other: Integers  # (N,)
    one_column: Integers  # (N,)
    other_column: Integers  # (N,)
    parts: Integers  # (N,) how many
    at_one: Integers  # (N,) where the part of each level begins in ``part``
    at_other: Integers  # (N,)
    part: Integers
    at_count: Integers  # (N,)
    one_count: Array  # levels of the one in each part
    other_count: Array


@kernel
def _parts(one: Integers, other: Integers, J: int, part: Integers) -> int:
    """Give each connected part of the graph whose edges are the rows a number, from ``part`` as 0, 1, 2, … on."""
    for i in range(one.shape[0]):
        unite(part, one[i], J + other[i])
    number = 0
    for a in range(part.shape[0]):
        # a root comes before all that point to it
        if part[a] == a:
            part[a] = number
            number += 1
        else:
            part[a] = part[part[a]]
    return number


def translations_of(used: list[Grouping]) -> Translations:
    """Find the parts of every pair of factors that have a column in common."""
    found: list[tuple[int, int, int, int]] = []
    parts, part_one, part_other = [], [], []
    for f, g in combinations(range(len(used)), 2):
        one, other = used[f], used[g]
        common = [name for name in one.coefficients if name in other.coefficients]
        if not common:
            continue
        J = len(one.levels)
        part = np.arange(J + len(other.levels), dtype=np.int64)
        number = int(_parts(one.codes, other.codes, J, part))
        for name in common:
            found.append((f, g, one.coefficients.index(name), other.coefficients.index(name)))
            parts.append(number)
            part_one.append(part[:J])
            part_other.append(part[J:])
    pieces = [piece for pair in zip(part_one, part_other, strict=True) for piece in pair]
    at = starts_of([len(piece) for piece in pieces])
    columns = np.array(found, dtype=np.int64).reshape(len(found), 4).T
    counts = [
        np.concatenate([np.bincount(p, minlength=m) for p, m in zip(of, parts, strict=True)] + [np.zeros(0)])
        for of in (part_one, part_other)
    ]
    return Translations(
        one=np.ascontiguousarray(columns[0]),
        other=np.ascontiguousarray(columns[1]),
        one_column=np.ascontiguousarray(columns[2]),
        other_column=np.ascontiguousarray(columns[3]),
        parts=np.array(parts, dtype=np.int64),
        at_one=np.ascontiguousarray(at[0::2]),
        at_other=np.ascontiguousarray(at[1::2]),
        part=np.concatenate([np.zeros(0, dtype=np.int64), *pieces]),
        at_count=starts_of(parts),
        one_count=counts[0].astype(np.float64),
        other_count=counts[1].astype(np.float64),
    )

"""Passes over arrays of row size, a part at a time: no mask and no copy of all rows is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayou._types import Array, Integers
from bayou.design.files import RowFiles, constant, row_array
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.design.design import Design

__all__ = [
    "PART",
    "ascending",
    "beyond_memory",
    "copied",
    "counts",
    "cut",
    "equal",
    "largest",
    "parts",
    "require_memory",
    "same",
]

PART = 1 << 18  # rows at a time
MOST = 1 << 20  # rows in files up to which an engine may make arrays of row size in memory

Numbers = npt.NDArray[Any]


def parts(n: int, size: int = PART) -> Iterator[slice]:
    """Yield consecutive slices that make up n rows."""
    for low in range(0, n, size):
        yield slice(low, min(low + size, n))


def beyond_memory(design: Design) -> bool:
    """Return whether rows lie in files and are too many for what makes arrays of row size."""
    return design.reduced is not None and design.reduced.files is not None and design.n > MOST


def require_memory(design: Design, what: str) -> None:
    """Refuse what makes arrays of row size where the rows were put into files.

    Raises
    ------
    Unsupported
        Naming what takes such rows.
    """
    if beyond_memory(design):
        raise Unsupported(
            f"{what} takes rows in memory, and the {design.n:,} rows lie in files. Engines that visit them there are "
            "'metropolis', and with one grouping factor 'laplace' and 'quadrature', and 'inla' with "
            "shards=12; or read the data into memory: stream=False."
        )


def cut(design: Design) -> list[slice]:
    """Return all rows as one part where they are in memory, as many where they are in files."""
    if design.reduced is None or design.reduced.files is None:
        return [slice(0, len(design.y))]
    return list(parts(len(design.y)))


def largest(values: Numbers) -> float:
    """Return the largest absolute value, 0 without rows."""
    return max((float(np.abs(values[part]).max()) for part in parts(len(values))), default=0.0)


def ascending(codes: Integers) -> bool:
    """Return whether no code is less than the one before it."""
    last = -1
    for part in parts(len(codes)):
        own = codes[part]
        if own[0] < last or not np.all(own[1:] >= own[:-1]):
            return False
        last = int(own[-1])
    return True


def counts(codes: Integers, levels: int) -> Integers:
    """Return how many rows each level has, (levels,)."""
    out = np.zeros(levels, dtype=np.int64)
    for part in parts(len(codes)):
        out += np.bincount(codes[part], minlength=levels)
    return out


def same(values: Numbers) -> float | None:
    """Return the number that all rows (n,) have, or None."""
    if not len(values):
        return None
    known = constant(values)
    if known is not None:
        return known
    first = values[0]
    return float(first) if all(np.all(values[part] == first) for part in parts(len(values))) else None


def equal(x: Numbers, z: Numbers) -> bool:
    """Return whether two arrays (n,) are the same numbers."""
    if x is z or (x.strides == z.strides and x.__array_interface__["data"] == z.__array_interface__["data"]):
        return len(x) == len(z)
    return len(x) == len(z) and all(np.array_equal(x[part], z[part]) for part in parts(len(x)))


def copied(values: Numbers, place: Integers | None, files: RowFiles | None, out: Array | None = None) -> Array:
    """Return float64 rows (n,) at these places, into ``out`` or an array of their own; None leaves their order."""
    n = len(values) if place is None else len(place)
    out = row_array(files, (n,)) if out is None else out
    for part in parts(n):
        out[part] = values[part] if place is None else values[place[part]]
    return out

"""Columns of coded terms as products: numbers multiplied, indicators of levels, without a detour over data frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers

__all__ = ["Product", "multiplied", "products"]

_part = re.compile(r"f(\d+)(?:\[(?:(T)\.)?(L?)(\d+)\])?")


@dataclass(frozen=True)
class Product:
    """One column of a matrix: numbers by (factor, column), levels by (factor, level); empty for the intercept.

    The numbers stand in the order in which formulaic multiplies them: first those of factors with several columns.
    """

    several: tuple[tuple[int, int], ...] = ()
    single: tuple[int, ...] = ()
    levels: tuple[tuple[int, int], ...] = ()


def products(names: Sequence[str], widths: Sequence[int]) -> tuple[Product, ...] | None:
    """Read formulaic's names of columns, "f0[T.L2]:f1"; None where a contrast has other values than 0 and 1.

    Parameters
    ----------
    names : sequence of str
    widths : sequence of int
        Columns of each factor; 0 for a category.

    Examples
    --------
    >>> products(["Intercept", "f0[T.L2]:f1"], [0, 1])[1]
    Product(several=(), single=(1,), levels=((0, 2),))
    """
    out = []
    for name in names:
        several, single, levels = [], [], []
        for part in () if name == "Intercept" else name.split(":"):
            match = _part.fullmatch(part)
            if match is None:
                return None
            factor = int(match[1])
            if match[3]:
                levels.append((factor, int(match[4])))
            elif match[4] is not None:
                several.append((factor, int(match[4]) - 1))
            elif widths[factor] == 1:
                single.append(factor)
            else:
                return None
        # a factor of one column that is written as several multiplies like a single one
        alone = [factor for factor, _ in several if widths[factor] == 1]
        if alone:
            return None
        out.append(Product(tuple(several), tuple(single), tuple(levels)))
    return tuple(out)


def multiplied(
    columns: Sequence[Product], n: int, number: Callable[[int], Array], codes: Callable[[int], Integers]
) -> Array:
    """Return the matrix, (n, P) in C order.

    Parameters
    ----------
    columns : sequence of Product
    n : int
    number : callable
        Values of a numeric factor by its place, (n,) or (n, width).
    codes : callable
        Levels of a category by its place, (n,).
    """
    out = np.empty((n, len(columns)))
    for k, column in enumerate(columns):
        parts = [number(factor)[:, j] for factor, j in column.several]
        if column.single:
            alone = number(column.single[0])
            for factor in column.single[1:]:
                alone = alone * number(factor)
            parts.append(alone)
        for factor, level in column.levels:
            parts.append((codes(factor) == level).astype(np.float64))
        if not parts:
            out[:, k] = 1.0
            continue
        value = parts[0]
        for part in parts[1:]:
            value = value * part
        np.add(value, 0.0, out=out[:, k])  # products with a zero of an indicator leave -0.0
    return out

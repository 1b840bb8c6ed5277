"""The names that users see: of variables, of dimensions, of the rows of a summary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Labels

if TYPE_CHECKING:
    from bayou.design.structured import StructuredTerm

__all__ = [
    "coordinate",
    "dimensions",
    "estimated_pairs",
    "factor_names",
    "file_name",
    "hyperparameter_names",
    "node_names",
]

Place = tuple[str, tuple[int, ...]]
RESERVED = ("chain", "draw", "coefficient", "beta")
ROLES = ("sd", "rho", "phi")  # of the hyperparameters of structured effects, in the order of the summary


def factor_names(factors: Sequence[str], dispersion: str | None = None) -> dict[str, str]:
    """Give each grouping factor the name under which its variables are printed.

    That is its own name, unless a variable or dimension is called so already: a factor called
    ``chain``, ``draw`` or ``coefficient`` (or ``sigma`` beside a residual sd) gets a trailing
    underscore.

    >>> factor_names(["clinic", "draw"])
    {'clinic': 'clinic', 'draw': 'draw_'}
    """
    taken = {*RESERVED, *((dispersion,) if dispersion else ())}
    names: dict[str, str] = {}
    for factor in factors:
        name = factor
        while not taken.isdisjoint(_words(name)):
            name += "_"
        taken.update(_words(name))
        names[factor] = name
    return names


def _words(name: str) -> set[str]:
    """Every variable and dimension that a factor of this name brings along, as files name them."""
    name = file_name(name)
    dimensions = {name, f"{name}_coefficient", f"{name}_coefficient_bis"}
    return dimensions | {f"{kind}_{name}" for kind in ("b", "sd", "cor")}


def file_name(name: str) -> str:
    """Replace what netCDF and DataTree forbid in names: slashes, control characters, outer blanks.

    >>> file_name("b_year/month")
    'b_year_month'
    """
    safe = "".join("_" if c == "/" or not c.isprintable() else c for c in name)
    return safe.strip() if safe.strip(" .") else "_"


def coordinate(labels: Labels) -> Labels:
    """Return level labels as an array that xarray indexes and netCDF stores: numbers or text."""
    values = list(labels)
    if all(isinstance(v, (int, np.integer)) and not isinstance(v, (bool, np.bool_)) for v in values):
        kinds = [
            kind
            for kind in (np.int64, np.uint64)
            if all(np.iinfo(kind).min <= int(v) <= np.iinfo(kind).max for v in values)
        ]
        if kinds:
            return np.array([int(v) for v in values], dtype=kinds[0])
    if all(isinstance(v, (float, np.floating)) for v in values):
        return np.array(values, dtype=np.float64)
    return np.array([str(v) for v in values], dtype=object)


def estimated_pairs(blocks: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the pairs of coefficients whose correlation is estimated: those within one block.

    >>> estimated_pairs(((0, 1), (2,)))
    [(0, 1)]
    """
    return [(i, j) for block in blocks for position, i in enumerate(block) for j in block[position + 1 :]]


def hyperparameter_names(name: str, drawn: Collection[str] | Mapping[str, object]) -> list[str]:
    """Return the hyperparameters of a structured effect that there are: ``sd_t``, ``rho_t``, ``phi_t``."""
    return [key for role in ROLES if (key := f"{role}_{name}") in drawn]


def node_names(term: StructuredTerm) -> dict[str, Place]:
    """Return where each coefficient of a structured effect lives: ``f_t[3]``, with ``by`` ``f_t:g[a,3]``."""
    key = f"f_{term.name}"
    if term.by is None:
        return {f"{key}[{node}]": (key, (j,)) for j, node in enumerate(term.nodes)}
    return {
        f"{key}[{copy},{node}]": (key, (r, j))
        for r, copy in enumerate(term.replicates)
        for j, node in enumerate(term.nodes)
    }


def dimensions(
    term: StructuredTerm, coords: dict[str, Labels], variables: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the dimensions of the draws of a structured effect, and put their labels into ``coords``.

    They are called as the effect, with ``by`` also as its factor. A name that already stands for other labels, or
    for a variable, gets trailing underscores.
    """
    wanted = [(term.name, term.nodes)] if term.by is None else [(term.by, term.replicates), (term.name, term.nodes)]
    own: list[str] = []
    for name, labels in wanted:
        dim, values = file_name(name), coordinate(labels)
        taken = {*own, *RESERVED, "row", *map(file_name, variables)}
        while dim in taken or (dim in coords and not _same(coords[dim], values)):
            dim += "_"
        coords[dim] = values
        own.append(dim)
    return tuple(own)


def _same(one: Labels, other: Labels) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)

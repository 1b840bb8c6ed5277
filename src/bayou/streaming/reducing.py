"""Rows that stream to a `Design`: learnt in one pass, then summed, merged, or kept in files."""

from __future__ import annotations

import os
import time
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.design import Design
from bayou.design.crossing import crossing_notes
from bayou.errors import DataError
from bayou.formula import Formula
from bayou.formula.words import plural
from bayou.streaming.learning import Learned, learn
from bayou.streaming.needs import Needs
from bayou.streaming.passes import Passes
from bayou.streaming.sources import Source
from bayou.streaming.stream import Stream, size_text

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["reduced_design"]

SAVES = 4.0
"""Rows per different row from which on merging pays."""
_mergeable = ("bernoulli", "binomial", "poisson")


def reduced_design(
    source: Source,
    formula: Formula,
    family: Family,
    needs: Needs,
    *,
    stream: bool | str | os.PathLike[str] | None,
    weights: Any,
    sigma_by: str | None,
    missing: str,
    size: int,
    **options: Any,
) -> Design:
    """Read a source twice: what the formula needs to know of all rows, then the rows."""
    named = weights if isinstance(weights, str) else None
    if weights is not None and named is None:
        raise DataError("rows that stream take weights= as the name of a column; put the numbers into the data.")
    started, stamp = time.perf_counter(), source.stamp()
    learned = learn(
        source,
        formula,
        family,
        needs,
        weights=named,
        sigma_by=sigma_by,
        missing=missing,
        patterns=family.name in _mergeable and not family.own,
        size=size,
        **options,
    )
    blocks = Passes(source, needs, learned, stamp, size)
    folder = Path(stream) if isinstance(stream, str | os.PathLike) else None
    built, files = _reduced(family, learned, blocks, folder)
    assert built.reduced is not None
    behind = Stream(
        source=source,
        what=source.what,
        columns=needs.columns,
        every=len(source.names),
        rows=learned.rows,
        dropped=learned.rows - learned.used,
        passes=learned.passes + blocks.count,
        seconds=time.perf_counter() - started,
        kept=_kept(built, files),
        nbytes=held(built),
        folder=None if folder is None or files is None else str(folder.absolute()),
        means=learned.means,
    )
    return replace(
        built,
        data=learned.template.data,
        categories=learned.template.categories,
        index=built.index if files is not None else np.arange(built.n),
        notes=with_crossing(built),
        reduced=replace(built.reduced, source=behind),
    )


def _reduced(
    family: Family, learned: Learned, blocks: Passes, folder: Path | None
) -> tuple[Design, Path | None]:
    """Choose how, and do it; also return the folder of rows that are kept in files."""
    template = learned.template
    gaussian = family.name == "gaussian" and family.link.name == "identity" and not family.own
    if gaussian and learned.cells <= learned.used / 2:
        from bayou.streaming.summed import summed

        built = summed(template, blocks, learned.used)
        if built is not None:
            return built, None
    if family.name in _mergeable and not family.own and learned.patterns * SAVES <= learned.used:
        from bayou.streaming.merged import merged

        return merged(template, blocks), None
    from bayou.design.files import temporary_folder
    from bayou.streaming.mapped import mapped

    files = temporary_folder() if folder is None else folder
    return mapped(template, blocks, files), files


def _kept(built: Design, files: Path | None) -> str:
    """Say what was kept of the rows."""
    assert built.reduced is not None
    size = size_text(held(built))
    if built.reduced.how == "summed":
        return f"{plural(built.n, 'row')} with the same likelihood, summed within levels; {size} in memory"
    if built.reduced.how == "merged":
        return f"{plural(built.n, 'different row')}, equal ones merged; {size} in memory"
    return f"{plural(built.n, 'row')} in files in {files}, {size}; blocks of them are in memory"


def held(built: Design) -> int:
    """Return the bytes of the arrays of a design, each counted once."""
    seen: dict[int, int] = {}

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            own = value
            while isinstance(own.base, np.ndarray):
                own = own.base
            seen[id(own)] = own.nbytes
        elif isinstance(value, tuple | list):
            for one in value:
                add(one)
        elif is_dataclass(value) and type(value).__name__ in ("Grouping", "StructuredTerm", "Reduced", "Distinct"):
            for one in fields(value):
                add(getattr(value, one.name))

    for one in fields(built):
        if one.name not in ("data", "categories", "recipe", "index"):
            add(getattr(built, one.name))
    return sum(seen.values())


def with_crossing(built: Design) -> tuple[str, ...]:
    """Return the notes with those about crossed factors, which only all rows tell, in their place."""
    found = crossing_notes(built.groupings, built.given)
    return tuple(
        dict.fromkeys(line for note in built.notes for line in (found if note == "(crossed)" else [note]))
    )


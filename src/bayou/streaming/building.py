"""Formula and rows that need not fit in memory to a `Design`: read whole, summed, merged, or kept in files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import design
from bayou.design import Design
from bayou.design.columns import Column
from bayou.design.crossing import crossing_notes
from bayou.design.design import sigma_factors
from bayou.design.evaluate import Functions
from bayou.design.frames import Frame
from bayou.design.missing import check_columns
from bayou.errors import DataError
from bayou.formula import Formula
from bayou.formula.words import plural
from bayou.streaming.learning import Learned, learn
from bayou.streaming.needs import needs_of
from bayou.streaming.passes import Passes
from bayou.streaming.sources import BLOCK, Source, Table, open_source
from bayou.streaming.stream import Stream, size_text

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["LIMIT", "build"]

LIMIT = 256 * 2**20
"""Bytes of the used columns up to which data from files and queries are read whole, unless ``stream=True``."""
SAVES = 4.0
"""Rows per different row from which on merging pays."""
_mergeable = ("bernoulli", "binomial", "poisson")


def build(
    formula: Formula,
    data: Any,
    family: Family,
    *,
    stream: bool | str | os.PathLike[str] | None = None,
    weights: Any = None,
    sigma_by: str | None = None,
    missing: str = "error",
    functions: Functions | None = None,
    structures: Mapping[str, Any] | None = None,
    size: int = BLOCK,
) -> Design:
    """Build the design of a formula and a table, or of rows that stream.

    Parameters
    ----------
    formula : Formula
    data : table
        Anything that `bayou.design.build` takes, a folder of Parquet files, a pattern or list of them, a polars
        LazyFrame, a DuckDB relation or a pyarrow Dataset.
    family : Family
    stream : bool or path, optional
        None: files and queries stream when their used columns take more than `LIMIT` bytes, tables in memory never.
        True streams always, False never. A path streams, and is the folder for rows that have to be kept in files,
        which otherwise is a temporary one, removed at the end.
    weights, sigma_by, missing, functions, structures
        As in `bayou.design.build`; weights= has to name a column when rows stream.
    size : int
        Rows of a block.

    Returns
    -------
    Design
        With `reduced` when rows stream. How: rows of a Gaussian response with an identity link are summed within the
        combinations of all levels, where there are at least twice as many rows as combinations; equal rows of a
        Bernoulli, binomial or Poisson response are merged, where at least four are equal on average; everything else
        is kept in files.

    Raises
    ------
    FormulaError, DataError, FileError, Unsupported
        As in memory, with row numbers counted over all the data.

    Examples
    --------
    >>> from bayou import families, formula
    >>> data = {"y": [1.0, 2.0, 4.0, 3.0, 5.0, 4.5], "g": [1, 1, 1, 2, 2, 2]}
    >>> whole = build(formula.parse("y ~ 1 + (1 | g)"), data, families.get("gaussian"), stream=True)
    >>> whole.given, whole.reduced.how
    (6, 'summed')
    """
    if stream is not None and not isinstance(stream, bool | str | os.PathLike):
        raise DataError(f"stream={stream!r}: give True, False, None, or a folder for rows that are kept in files.")
    source = open_source(data)
    forced = stream is not None and stream is not False
    options: dict[str, Any] = {"functions": functions, "structures": structures}
    if source is None and not forced:
        return design.build(
            formula, data, family, weights=weights, sigma_by=sigma_by, missing=missing, **options
        )
    if source is None:
        source = Table(data)
    shown = _columns_only(source)
    by = sigma_factors(sigma_by, shown)
    named = weights if isinstance(weights, str) else None
    needs = needs_of(formula, named, by)
    check_columns(shown, list(needs.columns), formula.text)
    if not forced:
        table = source.table(needs.columns, LIMIT if stream is None else np.inf)
        if table is not None:
            return design.build(
                formula, table, family, weights=weights, sigma_by=sigma_by, missing=missing, **options
            )
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


def _columns_only(source: Source) -> Frame:
    """Return a frame that knows the names of the columns and nothing else."""

    def none(name: str) -> Column:
        raise DataError(f"the column `{name}` was not read.")

    return Frame(0, {name: partial(none, name) for name in source.names})


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


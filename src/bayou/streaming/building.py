"""Formula and rows that need not fit in memory to a `Design`: read whole, summed, merged, or kept in files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import design
from bayou.design import Design
from bayou.design.columns import Column
from bayou.design.design import sigma_factors
from bayou.design.evaluate import Functions
from bayou.design.frames import Frame
from bayou.design.missing import check_columns
from bayou.errors import DataError
from bayou.formula import Formula
from bayou.streaming.sources import BLOCK, Source, Table, open_source

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["LIMIT", "build"]

LIMIT = 256 * 2**20
"""Bytes of the used columns up to which data from files and queries are read whole, unless ``stream=True``."""


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
    from bayou.streaming.needs import needs_of  # this and what follows are readers that rows in memory do without

    needs = needs_of(formula, weights if isinstance(weights, str) else None, by)
    check_columns(shown, list(needs.columns), formula.text)
    if not forced:
        table = source.table(needs.columns, LIMIT if stream is None else np.inf)
        if table is not None:
            return design.build(
                formula, table, family, weights=weights, sigma_by=sigma_by, missing=missing, **options
            )
    from bayou.streaming.reducing import reduced_design

    return reduced_design(
        source,
        formula,
        family,
        needs,
        stream=stream,
        weights=weights,
        sigma_by=sigma_by,
        missing=missing,
        size=size,
        **options,
    )


def _columns_only(source: Source) -> Frame:
    """Return a frame that knows the names of the columns and nothing else."""

    def none(name: str) -> Column:
        raise DataError(f"the column `{name}` was not read.")

    return Frame(0, {name: partial(none, name) for name in source.names})

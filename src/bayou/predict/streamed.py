"""Predictions for rows that are read in blocks: memory holds one block and, unless they go to a file, the answers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Integers
from bayou.design.frames import Frame, read
from bayou.design.missing import missing_rows
from bayou.errors import BayouError, DataError, FileError, Unsupported
from bayou.formula.words import plural
from bayou.predict.linear import BLOCK_NUMBERS
from bayou.streaming import LIMIT, Source, Stream, open_source
from bayou.streaming.sources import BLOCK, Table

if TYPE_CHECKING:
    import pandas as pd

    from bayou.design import Design
    from bayou.posterior import Posterior

__all__ = ["Block", "collected", "row_blocks", "source_of", "written"]

Block = tuple[Integers, Frame]
"""Numbers of some rows among all of them, and the rows."""

MOST = LIMIT // 48  # rows whose answers, five numbers and an index, are returned in memory


def source_of(design: Design, new_data: Any, draws: bool, out: Any) -> Source | Stream | None:
    """Return where the rows of a prediction stream from; None for those that are in memory."""
    if new_data is not None:
        found = open_source(new_data)
        return Table(new_data) if found is None and out is not None else found
    behind = None if design.reduced is None else design.reduced.source
    if isinstance(behind, Stream) and behind.source is not None and not draws:
        return behind
    if out is not None and design.reduced is None:
        return Table(read(design.data, {name: list(levels) for name, levels in design.categories.items()}))
    return None


def row_blocks(design: Design, source: Source | Stream, draws: int) -> Iterator[Block]:
    """Return blocks of rows, of a length at which the same numbers are drawn as for all rows at once.

    Of the rows that the model was fitted to, incomplete ones are left out as they were then.
    """
    step = max(1, BLOCK_NUMBERS // max(draws, 1))
    size = step * max(1, BLOCK // step)
    if isinstance(source, Stream):
        for start, frame in source.frames(rows=size):
            absent = missing_rows(frame, frame.names)
            kept = np.arange(frame.n) if absent is None else np.flatnonzero(~absent)
            if len(kept):
                yield start + kept, frame if absent is None else frame.take(kept)
        return
    wanted = [*design.formula.columns, *([design.weights_column] if design.weights_column else [])]
    wanted += [] if design.sigma_by is None else [design.sigma_by, *design.sigma_by.split(":")]
    columns = [name for name in dict.fromkeys(wanted) if name in source.names]
    for start, block in source.blocks(columns, size, exact=True):
        frame = block if isinstance(block, Frame) else read(block)
        yield start + np.arange(frame.n), frame


def named(error: BayouError, positions: Integers) -> BayouError:
    """Say in which rows something went wrong."""
    where = f"rows {positions[0]:,} to {positions[-1]:,}" if len(positions) > 1 else f"row {positions[0]:,}"
    return type(error)(f"{error} (Found in {where}, counted from 0.)")


def collected(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Put the answers of all blocks into one table.

    Raises
    ------
    DataError
        When they would fill more memory than one should.
    """
    import pandas as pd

    found: list[pd.DataFrame] = []
    notes: dict[str, None] = {}
    count = 0
    for table in tables:
        count += len(table)
        if count > MOST:
            raise DataError(
                f"the predictions of more than {plural(MOST, 'row')} are not put into memory: give "
                "out='predictions.parquet' to write them to a file as they come."
            )
        notes |= dict.fromkeys(table.attrs.get("notes", ()))
        table.attrs = {}
        found.append(table)
    if not found:
        raise DataError("the new data have 0 rows.")
    whole = pd.concat(found)
    if notes:
        whole.attrs["notes"] = list(notes)
    return whole


def written(tables: Iterable[pd.DataFrame], out: str | os.PathLike[str]) -> Path:
    """Write the answers of all blocks to a Parquet file, whole or not at all: the number of the row, and its columns.

    Raises
    ------
    FileError
        When the file cannot be written, and for a name that is not that of a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = Path(out)
    if target.suffix.lower() not in (".parquet", ".pq"):
        raise FileError(f"{target}: predictions of many rows go to a .parquet file; name one.")
    if not target.absolute().parent.is_dir():
        raise FileError(f"{target} cannot be written: give a folder that exists.")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    writer = None
    try:
        for table in tables:
            arrow = pa.table({"row": np.asarray(table.index), **{name: table[name].to_numpy() for name in table}})
            writer = pq.ParquetWriter(temporary, arrow.schema) if writer is None else writer
            writer.write_table(arrow)
        if writer is None:
            raise DataError("the new data have 0 rows.")
        writer.close()
        writer = None
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {error}. Free some space, or name another place.") from error
    finally:
        if writer is not None:
            writer.close()
        temporary.unlink(missing_ok=True)
    return target


def refuse_draws(draws: bool, posterior: Posterior) -> None:
    """Refuse every draw for every row of a stream."""
    if draws:
        raise Unsupported(
            f"draws=True returns {posterior.chains * posterior.size:,} numbers for each row; for rows that stream ask "
            "for the summary, or give some of the rows as a table."
        )

"""Where the rows of a design are, to be read again, and in words what was read and what was kept of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayou.design.frames import Frame
from bayou.errors import DataError
from bayou.formula.words import plural

if TYPE_CHECKING:
    from bayou.streaming.sources import Source

__all__ = ["Stream"]


@dataclass(eq=False)
class Stream:
    """The rows behind a design that does not hold them.

    Attributes
    ----------
    source : Source or None
        None after the fit was loaded from a file.
    what : str
        In words.
    columns : tuple of str
        Those that were read.
    rows, dropped, passes : int
    seconds : float
    kept : str
        What was kept of the rows, in words.
    nbytes : int
        Bytes of the arrays that were kept.
    folder : str or None
        Where rows are kept in files.
    means : dict of str to float
        Of the numeric columns, over all rows.
    """

    source: Source | None = field(repr=False)
    what: str
    columns: tuple[str, ...]
    every: int
    rows: int
    dropped: int
    passes: int
    seconds: float
    kept: str = ""
    nbytes: int = 0
    folder: str | None = None
    means: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def lines(self) -> list[str]:
        """What was read and what was kept, a sentence each."""
        read = f"{self.what}: {plural(self.rows, 'row')}, {len(self.columns)} of {plural(self.every, 'column')}"
        read += f", {'1 pass' if self.passes == 1 else f'{self.passes} passes'} in {self.seconds:.3g} s"
        return [read, self.kept]

    def frames(self, columns: Sequence[str] | None = None, rows: int | None = None) -> Iterator[tuple[int, Frame]]:
        """Return (number of the first row, table) for blocks of all rows, with incomplete ones.

        Raises
        ------
        DataError
            When the rows are not at hand any more.
        """
        from bayou.design.frames import read
        from bayou.streaming.sources import BLOCK

        if self.source is None:
            raise DataError(
                f"the rows themselves are not in the saved fit (they were read from {self.what}): give them, as "
                "new_data=…"
            )
        for start, block in self.source.blocks(columns or self.columns, rows or BLOCK, exact=True):
            yield start, block if isinstance(block, Frame) else read(block)

    def facts(self) -> dict[str, Any]:
        """Return what is saved of it."""
        names = ("what", "columns", "every", "rows", "dropped", "passes", "seconds", "kept", "nbytes", "means")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Stream:
        """Take back what was saved."""
        return cls(source=None, **{**facts, "columns": tuple(facts["columns"])})


def size_text(nbytes: float) -> str:
    """Write a number of bytes."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes:.0f} bytes"


def usable_memory() -> float:
    """Return the bytes of memory that are free, infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")

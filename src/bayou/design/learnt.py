"""What one pass over rows that do not fit in memory found, for a design that is built on a few of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bayou._types import Integers
from bayou.design.transforms import State

__all__ = ["Learnt"]


@dataclass(frozen=True, eq=False)
class Learnt:
    """Facts about all rows, where a design is built on witnesses: some rows that hold every level at least once.

    Attributes
    ----------
    rows, dropped : int
        Rows in all, and those left out because of missing values.
    positions : (n,) ndarray of int64
        Place of each witness among all rows.
    states : dict
        What stateful functions learnt from all rows, by their text.
    means : dict of str to float
        Means of the numeric columns over the rows that were used.
    mark : str
        A note that stands where those about crossed factors belong.
    """

    rows: int
    dropped: int
    positions: Integers
    states: Mapping[str, State] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    mark: str = "(crossed)"

"""The rows of a model as they were given, where identical ones were merged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayou.errors import Unsupported
from bayou.predict.linear import Rows, training_rows

if TYPE_CHECKING:
    from bayou.design import Design

__all__ = ["given_rows"]


def given_rows(design: Design) -> Rows:
    """Return the rows as they were given, those that are alike in everything once: where none were merged, all.

    Raises
    ------
    Unsupported
        Where only sums over the rows were kept.
    """
    rows = training_rows(design)
    if design.reduced is None or design.reduced.how == "blocks":
        every = np.arange(design.n, dtype=np.int64)
        return replace(rows, y=design.y, frequency=np.ones(design.n), kept=every)
    distinct = design.reduced.distinct
    if distinct is None:
        raise Unsupported(
            f"The {design.given:,} rows were summed to {design.n:,} as they were read, and this asks for each of them. "
            "Fit a sample of the rows in memory."
        )
    return replace(
        rows.taken(distinct.row),
        offset=distinct.offset,
        trials=distinct.trials,
        weights=distinct.weights,
        index=np.arange(len(distinct.row)),
        y=distinct.y,
        frequency=distinct.frequency,
        kept=distinct.row,
    )

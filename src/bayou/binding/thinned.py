"""A part of the rows that settles for all of them what more rows can only make better.

Columns that are not collinear in some rows are not in all; outcomes that no direction separates in some rows are not
separated in all; a response that some rows do not let be reproduced is not reproduced. So where the rows lie in files
these checks look at some of them, and at all only where the some leave a doubt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayou.design.passes import PART

if TYPE_CHECKING:
    from bayou.design import Design

__all__ = ["thinned"]


def thinned(design: Design) -> Design | None:
    """Return a design in memory of evenly spaced rows, all of them if they are few; None where rows are in memory."""
    if design.reduced is None or design.reduced.files is None:
        return None
    n = design.n
    rows = np.arange(n) if n <= PART else np.linspace(0, n - 1, PART).astype(np.int64)
    return replace(
        design,
        y=design.y[rows],
        trials=design.trials[rows],
        weights=design.weights[rows],
        offset=design.offset[rows],
        standard_errors=None if design.standard_errors is None else design.standard_errors[rows],
        X=np.ascontiguousarray(design.X[rows]),
        groupings=tuple(
            replace(g, codes=g.codes[rows].astype(np.int64), Z=np.ascontiguousarray(g.Z[rows]))
            for g in design.groupings
        ),
        sigma_codes=design.sigma_codes[rows],
        reduced=None,
    )

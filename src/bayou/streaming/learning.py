"""One pass over all rows, and the template that is built on what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayou.design import Design, build
from bayou.design.evaluate import Functions
from bayou.design.learnt import Learnt
from bayou.errors import DataError
from bayou.formula import Formula
from bayou.streaming.faults import refuse_infinite, refuse_missing
from bayou.streaming.needs import Needs
from bayou.streaming.pieces import Declared
from bayou.streaming.reading import Coder, Reading
from bayou.streaming.sources import BLOCK, Source

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["Learned", "learn"]

@dataclass(frozen=True, eq=False)
class Learned:
    """What a pass found.

    Attributes
    ----------
    template : Design
        Built on the witnesses.
    rows, used : int
        Read, and left when incomplete ones were dropped.
    coders : dict of str to Coder
    declared : dict of str to Declared
    cells, patterns : float
        About how many combinations of levels there are, and of all columns but the response.
    passes : int
    means : dict of str to float
        Of the numeric columns.
    """

    template: Design
    rows: int
    used: int
    coders: dict[str, Coder]
    declared: dict[str, Declared] = field(repr=False)
    cells: float
    patterns: float
    passes: int
    means: dict[str, float]


def learn(
    source: Source,
    formula: Formula,
    family: Family,
    needs: Needs,
    *,
    weights: str | None = None,
    sigma_by: str | None = None,
    missing: str = "error",
    functions: Functions | None = None,
    structures: Mapping[str, Any] | None = None,
    patterns: bool = False,
    size: int = BLOCK,
) -> Learned:
    """Read all rows once (more often only for functions within functions) and build the template.

    With `patterns` the combinations of all columns but the response are counted too.

    Raises
    ------
    DataError
        For missing and infinite values, with row numbers counted over all rows from 0, and for all that
        `bayou.design.build` refuses.
    """
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r} is not known; write missing='error' or missing='drop'.")
    own = dict(functions or {})
    reading = Reading(source, needs, own, patterns, size)
    reading.first()
    refuse_missing(reading.missing, reading.rows - reading.used, reading.rows, missing)
    refuse_infinite(reading.infinite, needs.columns)
    witnesses, positions = reading.witnesses()
    passes, again = 1, reading.finish(witnesses)
    while again:
        reading.further()
        passes, again = passes + 1, reading.finish(witnesses)
    learnt = Learnt(reading.rows, reading.rows - reading.used, positions, reading.states, reading.means())
    try:
        template = build(
            formula,
            witnesses,
            family,
            weights=weights,
            sigma_by=sigma_by,
            functions=own,
            structures=structures,
            learnt=learnt,
        )
    except DataError:
        reading.find_fault(formula, family, weights)
        raise
    return Learned(
        template=template,
        rows=reading.rows,
        used=reading.used,
        coders=reading.coders(witnesses),
        declared=reading.declared,
        cells=reading.cell_count(),
        patterns=reading.patterns.count if reading.counted else 1.0,
        passes=passes,
        means=dict(learnt.means),
    )

"""Which rows share a fresh group, and what is said of levels that a fit has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Integers, Labels
from bayou.errors import DataError
from bayou.predict.structured import CURVES, Piece, acts_as_group

if TYPE_CHECKING:
    from bayou.design.structured import StructuredTerm
    from bayou.posterior import Posterior
    from bayou.predict.linear import Rows

__all__ = ["Numbering", "fresh_levels", "is_missing", "numbered", "open_lines", "refuse_lacking"]
__all__ += ["refuse_unseen_structured"]


def is_missing(label: Any) -> bool:
    """Return whether a level label is None, NaN or NA."""
    if label is None:
        return True
    try:
        return bool(label != label)
    except (TypeError, ValueError):
        return True


class Numbering:
    """Numbers of levels in order of appearance, from one block of rows to the next."""

    def __init__(self) -> None:
        self.seen: dict[Any, int] = {}
        self.count = 0

    def of(self, label: Any) -> int:
        """Return the number of a level; a missing one is a new one each time."""
        if not is_missing(label):
            number = self.seen.setdefault(label, self.count)
            if number < self.count:
                return number
        self.count += 1
        return self.count - 1


def numbered(labels: Labels, known: Numbering) -> Integers:
    """Return numbers of the levels in order of appearance; a row of missing level stands alone."""
    return np.array([known.of(label) for label in labels], dtype=np.int64)


def fresh_levels(term: StructuredTerm, piece: Piece, known: Numbering) -> Integers:
    """Return the number of the fresh copy (curves) or area of each row, (n,)."""
    if term.kind in CURVES:
        return numbered(piece.copies, known)
    keys = np.empty(len(piece.labels), dtype=object)
    for i, (area, own) in enumerate(zip(piece.labels, piece.copies, strict=True)):
        keys[i] = None if is_missing(area) or is_missing(own) else (area, own)
    return numbered(keys, known)


def open_lines(posterior: Posterior) -> list[str]:
    """Say which fresh copies of a curve have a part that their prior leaves open, and that it is zero."""
    terms, said = posterior.model.design.structured, list[str]()
    for term, effect in zip(terms, posterior.model.effects if terms else (), strict=True):
        if term.by is not None and effect.null:
            part = "line" if term.kind in ("rw2", "s") else "part"
            said.append(
                f"{term.text}: the prior of a fresh copy says nothing of its {part}, which is zero here; bands of "
                f"fresh copies hold what goes beyond it. A random slope, (1 + {term.column} | {term.by}), gives it a "
                "prior."
            )
    return said


def refuse_lacking(posterior: Posterior, rows: Rows) -> None:
    """Refuse rows in which a curve has no coordinate: it is part of every prediction.

    Raises
    ------
    DataError
        Naming the column.
    """
    for term, piece in zip(posterior.model.design.structured, rows.structured, strict=True):
        if term.kind not in CURVES:
            continue
        if term.column in rows.absent:
            raise DataError(f"the new data lack `{term.column}`, which `{term.text}` needs in every prediction.")
        bad = np.unique(piece.rows[(piece.node < 0) & np.isnan(piece.coordinate)])
        if bad.size:
            raise DataError(
                f"`{term.column}` is missing in {_rows(bad)}, and `{term.text}` needs it in every prediction; fill it "
                "in, or leave those rows out."
            )


def refuse_unseen_structured(posterior: Posterior, rows: Rows, choices: str) -> None:
    """Refuse areas and levels of ``by`` that have no values of their own; ``choices`` says what else there is.

    Raises
    ------
    DataError
        Naming columns, levels and options.
    """
    for term, piece in zip(posterior.model.design.structured, rows.structured, strict=True):
        if not acts_as_group(term):
            continue
        names = [*([] if term.by is None else term.by.split(":")), *([] if term.kind in CURVES else [term.column])]
        absent = [name for name in names if name in rows.absent]
        if absent:
            shown = ", ".join(repr(name) for name in absent)
            raise DataError(f"The new data have no column {shown}, of which `{term.text}` has values. {choices}")
        unknown = np.unique(piece.rows[piece.replicate < 0])
        if unknown.size:
            raise DataError(_unseen(str(term.by), piece.copies[unknown], choices))
        missing = np.unique(piece.rows[piece.node < 0])
        if missing.size and term.kind not in CURVES:
            raise DataError(_unseen(term.column, piece.labels[missing], choices))


def _unseen(column: str, labels: Labels, choices: str) -> str:
    levels = list(dict.fromkeys("(missing)" if is_missing(x) else str(x) for x in labels))
    named = ", ".join(levels[:5]) + (f" and {len(levels) - 5} more" if len(levels) > 5 else "")
    count = "1 row has a level" if len(labels) == 1 else f"{len(labels):,} rows have levels"
    return f"{count} of {column!r} that the fit has not seen: {named}. {choices}"


def _rows(places: Integers) -> str:
    shown = ", ".join(str(k) for k in places[:5]) + (", …" if len(places) > 5 else "")
    return f"{len(places):,} row{'' if len(places) == 1 else 's'} (row {shown}; counted from 0)"

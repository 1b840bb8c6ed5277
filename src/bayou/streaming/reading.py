"""What one pass over all rows keeps from block to block: numbers of levels, states, faults and witnesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bayou._types import Integers, Labels, Mask
from bayou.design.columns import Column
from bayou.design.evaluate import Evaluator, Functions
from bayou.design.frames import Frame, read
from bayou.design.levels import match_levels
from bayou.design.newrows import positive_weights
from bayou.design.places import Places
from bayou.design.response import read_outcome, response_columns
from bayou.design.transforms import State
from bayou.errors import DataError, Unsupported
from bayou.formula import Formula
from bayou.formula.terms import Term, expand, summands
from bayou.formula.tree import Call, Name
from bayou.formula.words import plural
from bayou.streaming.faults import Count, numbered
from bayou.streaming.needs import Needs
from bayou.streaming.pieces import Declared, Piece, block_length, chosen, piece
from bayou.streaming.sketch import Sketch
from bayou.streaming.sources import Source
from bayou.streaming.states import GroupMeans

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["Coder", "Reading"]

WHOLE = 2**31  # numbers of levels are below it


@dataclass(frozen=True, eq=False)
class Coder:
    """The levels of a column, and the code of each value by the whole number that stands for it."""

    labels: Labels
    unused: Labels
    places: Places


class _Numbered:
    """Values that are numbered as they appear, and for each number the witness that brought it."""

    def __init__(self) -> None:
        self.places = Places()
        self.witness: list[Integers] = []

    @property
    def first(self) -> Integers:
        """The witness of each number."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self.witness])


class Reading:
    """What is kept between blocks."""

    def __init__(self, source: Source, needs: Needs, functions: Functions, patterns: bool, size: int) -> None:
        self.source, self.needs, self.functions, self.size = source, needs, functions, size
        self.rows = self.used = self.kept = 0
        self.grew, self.counted = True, patterns and bool(needs.predictors)
        self.kinds: dict[str, str] = {}
        self.declared = {name: Declared() for name in needs.columns}
        self.missing = {name: Count() for name in needs.columns}
        self.infinite = {name: Count() for name in needs.columns}
        self.lost: dict[str, set[str]] = {name: set() for name in needs.columns}
        self.numbered: dict[Any, _Numbered] = {}
        self.sums: dict[str, list[float]] = {}
        self.ends: dict[str, tuple[float, float]] = {}
        self.cells, self.patterns = Sketch(), Sketch()
        self.states: dict[str, State] = {}
        self.taken: list[Any] = []
        self.positions: list[Integers] = []

    def blocks(self) -> Iterator[tuple[int, Any, dict[str, Piece], Mask | None]]:
        """Return first row, complete rows of the block, their columns, and the mask of these rows if some are not."""
        for start, block in self.source.blocks(self.needs.columns, self.size):
            pieces = {name: piece(name, block, self.declared[name]) for name in self.needs.columns}
            absent = [(name, mask) for name, one in pieces.items() if (mask := one.missing()) is not None]
            for name, mask in absent:
                self.missing[name].add(numbered(start, mask))
            complete = None
            self.grew = self.grew or any(one.grew for one in pieces.values())
            if absent:
                complete = ~np.logical_or.reduce([mask for _, mask in absent])
                for name, one in pieces.items():
                    self.lost[name].update(one.texts(~complete))
                block = chosen(block, complete)
                pieces = {name: piece(name, block, self.declared[name]) for name in self.needs.columns}
            yield start, block, pieces, complete

    # ---- the first pass --------------------------------------------------------------------

    def first(self) -> None:
        """Learn everything but what depends on states."""
        for start, block, pieces, complete in self.blocks():
            length = block_length(block)
            self.rows += length if complete is None else len(complete)
            self.used += length
            self._check_kinds(pieces)
            if not length:
                continue
            self._first_block(start, block, pieces, complete)
        if not self.rows:
            raise DataError("the data have 0 rows: look at the file, or at the filter that left none.")

    def _first_block(self, start: int, block: Any, pieces: dict[str, Piece], complete: Mask | None) -> None:
        infinite = [(name, bad) for name, one in pieces.items() if (bad := one.infinite()) is not None]
        positions = None if complete is None else numbered(start, complete)
        for name, bad in infinite:
            self.infinite[name].add(numbered(start, bad) if positions is None else positions[bad])
        if infinite:
            return
        wanted: list[Integers] = [np.zeros(int(self.grew), dtype=np.int64)]  # so that all declared levels are seen
        self.grew = False
        keys = {name: pieces[name].keys() for name in self._keyed()}
        fresh: list[tuple[_Numbered, Integers]] = []
        numbers: dict[Any, Integers] = {}
        for name in self._levels():
            numbers[name] = self._number(name, keys[name], fresh)
        for group in self.needs.groups:
            together = numbers[group[0]]
            for k in range(1, len(group)):
                if k > 1:
                    _refuse_many(self.numbered[group[:k]].places.count)
                together = self._number(group[: k + 1], together * WHOLE + numbers[group[k]], fresh)
            numbers[group] = together
        wanted += self._ends(pieces)
        for name, most in self.needs.few.items():
            if self.numbered.setdefault((name, most), _Numbered()).places.count <= most:
                self._number((name, most), keys[name], fresh)
        rows = self._evaluator(start, block_length(block), pieces, positions)
        for text in self.needs.expressions:
            self._number(f"C({text})", (rows.vector(text) + 0.0).view(np.int64), fresh)
        self._learn_states(rows, numbers)
        if len(self.needs.cells) > 1:
            self.cells.add([numbers.get(name, keys[name]) for name in self.needs.cells])
        if self.counted:
            self.patterns.add([keys[name] for name in self.needs.predictors])
        self._take(block, start, positions, wanted + [rows_ for _, rows_ in fresh], fresh)

    def _number(self, key: Any, values: Integers, fresh: list[tuple[_Numbered, Integers]]) -> Integers:
        own = self.numbered.setdefault(key, _Numbered())
        numbers, new = own.places.add(values)
        fresh.append((own, new))
        return numbers

    def _take(
        self,
        block: Any,
        start: int,
        positions: Integers | None,
        wanted: list[Integers],
        fresh: list[tuple[_Numbered, Integers]],
    ) -> None:
        """Keep the witnesses of a block and remember which brought which number."""
        chosen_rows = np.zeros(block_length(block), dtype=np.bool_)
        for some in wanted:
            chosen_rows[some] = True
        rows = np.flatnonzero(chosen_rows)
        place = self.kept - 1 + np.cumsum(chosen_rows)
        for own, new in fresh:
            own.witness.append(place[new])
        if len(rows):
            self.taken.append(chosen(block, rows))
            self.positions.append(start + rows if positions is None else positions[rows])
            self.kept += len(rows)

    def _check_kinds(self, pieces: dict[str, Piece]) -> None:
        for name, one in pieces.items():
            kind = self.kinds.setdefault(name, one.kind)
            if kind != one.kind:
                raise DataError(
                    f"the column `{name}` is of kind {kind} first and of kind {one.kind} from row {self.rows:,} on. "
                    "Convert it to one type."
                )

    def _levels(self) -> list[str]:
        """Return the columns whose values are numbered."""
        found = [name for name in self.needs.columns if self.kinds[name] in ("category", "boolean")]
        return list(dict.fromkeys([*found, *self.needs.levels]))

    def _keyed(self) -> list[str]:
        more = self.needs.predictors if self.counted else ()
        return list(dict.fromkeys([*self._levels(), *self.needs.cells, *self.needs.few, *more]))

    def _ends(self, pieces: dict[str, Piece]) -> list[Integers]:
        """Add to the means of numbers; return the rows that hold a new least or greatest one."""
        rows = []
        for name, one in pieces.items():
            if one.kind not in ("number", "date") or name in self.needs.levels:
                continue
            values = one.column.values
            low, high = self.ends.get(name, (None, None))
            least, most = values.min(), values.max()
            if low is None or least < low or most > high:
                if low is None or least < low:
                    rows.append(int(values.argmin()))
                if high is None or most > high:
                    rows.append(int(values.argmax()))
                self.ends[name] = (least if low is None else min(low, least), most if high is None else max(high, most))
            if one.kind == "number":
                self.sums.setdefault(name, []).append(float(values.sum(dtype=np.float64)))
        return [np.array(rows, dtype=np.int64)] if rows else []

    # ---- states ----------------------------------------------------------------------------

    def further(self) -> None:
        """Go over the rows once more for functions of what is known by now, and for learners that ask for it."""
        for start, block, pieces, complete in self.blocks():
            if not block_length(block):
                continue
            positions = None if complete is None else numbered(start, complete)
            rows = self._evaluator(start, block_length(block), pieces, positions)
            numbers = {}
            for one in self._open():
                if isinstance(one.learner, GroupMeans):
                    numbers[self._key(one.learner.by)] = self._find(one.learner.by, pieces)
            self._learn_states(rows, numbers)

    def _open(self) -> list[Any]:
        known = set(self.states)
        return [one for one in self.needs.stateful if one.text not in known and self._ready(one)]

    def _ready(self, one: Any) -> bool:
        inner = [other.text for other in self.needs.stateful if other is not one and other.text in one.argument]
        return all(text in self.states for text in inner)

    def _learn_states(self, rows: Evaluator, numbers: Mapping[Any, Integers]) -> None:
        for one in self._open():
            x = rows.vector(one.argument)
            if isinstance(one.learner, GroupMeans):
                one.learner.add(x, numbers[self._key(one.learner.by)])
            else:
                one.learner.add(x)

    def finish(self, witnesses: Frame) -> bool:
        """Take the states that are complete; tell whether some are still open."""
        for one in self._open():
            if isinstance(one.learner, GroupMeans):
                state = one.learner.finish(witnesses, self.numbered[self._key(one.learner.by)].first)
            else:
                state = one.learner.finish()
            if state is not None:
                self.states[one.text] = state
        return any(one.text not in self.states for one in self.needs.stateful)

    @staticmethod
    def _key(by: tuple[str, ...]) -> Any:
        return by[0] if len(by) == 1 else by

    def _find(self, by: tuple[str, ...], pieces: dict[str, Piece]) -> Integers:
        numbers = self.numbered[by[0]].places.find(pieces[by[0]].keys())
        for k in range(1, len(by)):
            other = self.numbered[by[k]].places.find(pieces[by[k]].keys())
            numbers = self.numbered[by[: k + 1]].places.find(numbers * WHOLE + other)
        return numbers

    def _evaluator(self, start: int, n: int, pieces: dict[str, Piece], positions: Integers | None) -> Evaluator:
        frame = Frame(n, {name: partial(getattr, one, "column") for name, one in pieces.items()})
        places = start + np.arange(n) if positions is None else positions
        return Evaluator(frame, self.functions, self.states, learning=False, positions=places)

    def find_fault(self, formula: Formula, family: Family, weights: str | None) -> None:
        """Go over the rows for what the witnesses showed to be wrong, since others before them may be wrong too."""
        for start, block, pieces, complete in self.blocks():
            if not block_length(block):
                continue
            positions = None if complete is None else numbered(start, complete)
            rows = self._evaluator(start, block_length(block), pieces, positions)
            outcome = response_columns(formula.response, rows)[0]
            if not any(self.kinds[name] in ("category", "boolean") for name in outcome):
                read_outcome(formula.response, rows, family)
            for text in [*self._numeric(formula, rows), *formula.offsets]:
                rows.numbers(text)
            if weights is not None:
                positive_weights(weights, pieces[weights].column.numbers(), rows.positions)

    def _numeric(self, formula: Formula, rows: Evaluator) -> list[str]:
        """Return the factors of terms that are numbers."""
        parts = (formula.fixed, *(bar.columns for bar in formula.bars))
        terms = [term for text in parts for term in terms_of(text, rows)]
        nodes = {text: rows.tree(text) for text in dict.fromkeys(text for term in terms for text in term)}
        return [
            text
            for text, node in nodes.items()
            if not (isinstance(node, Name) and self.kinds[node.name] in ("category", "boolean"))
            and not (isinstance(node, Call) and node.function in ("C", "factor"))
        ]

    # ---- at the end ------------------------------------------------------------------------

    def witnesses(self) -> tuple[Frame, Integers]:
        """Return the witnesses as a table and their places among all rows."""
        positions = np.concatenate(self.positions)
        if isinstance(self.taken[0], Frame):
            whole = self.source.table(self.needs.columns)
            assert isinstance(whole, Frame)
            return whole.take(positions), positions
        frame = read(pa.concat_tables(self.taken))
        columns = {name: _with_lost(frame[name], lost) for name, lost in self.lost.items()}
        return Frame(frame.n, {name: partial(columns.__getitem__, name) for name in columns}), positions

    def cell_count(self) -> float:
        """Return about how many combinations of levels there are."""
        if len(self.needs.cells) > 1:
            return self.cells.count
        return float(sum(self.numbered[name].places.count for name in self.needs.cells if name in self.numbered)) or 1.0

    def means(self) -> dict[str, float]:
        """Return the means of the numeric columns."""
        return {name: float(np.sum(sums)) / self.used for name, sums in self.sums.items()}

    def coders(self, witnesses: Frame) -> dict[str, Coder]:
        """Return how the values of columns become codes of their levels."""
        found = {}
        for name in self._levels():
            own, factor = self.numbered[name], witnesses[name].factor()
            own.places.renumber(factor.codes[own.first])
            found[name] = Coder(factor.levels, factor.unused, own.places)
        return found


def terms_of(text: str, rows: Evaluator) -> list[Term]:
    """Read a written-out part of the formula back into terms."""
    return expand(summands(rows.tree(text)))


def _with_lost(column: Column, lost: set[str]) -> Column:
    """Return a column of text that also knows the levels of incomplete rows, which are said to be unused."""
    if not lost or column.levels is None:
        return column
    levels = np.array(sorted(lost.union(column.levels)), dtype=object)
    codes = match_levels(levels, column.levels)[column.values]
    return replace(column, values=codes, levels=levels)


def _refuse_many(count: int) -> None:
    if count >= WHOLE:
        raise Unsupported(f"the factors have {plural(count, 'combination')}, too many to be numbered; nest fewer.")

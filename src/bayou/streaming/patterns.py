"""What makes two rows alike, as words of 64 bits: their columns, levels, nodes and weights, then their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers, Mask
from bayou.design import Design, NewRows
from bayou.errors import DataError
from bayou.formula.words import first_rows
from bayou.streaming.table import as_words

__all__ = ["Keys", "Outcomes", "Patterns"]


class Outcomes(NamedTuple):
    """Outcome, trials and offset (D,) of different rows; no offset where it is part of the pattern."""

    y: Array
    trials: Array
    offset: Array | None


@dataclass(frozen=True, eq=False)
class Patterns:
    """The arrays of a design for R rows; structured effects as (start, replicate, node, value)."""

    X: Array
    codes: tuple[Integers, ...]
    Z: tuple[Array, ...]
    structured: tuple[tuple[Integers, Integers, Integers, Array], ...]
    weights: Array
    offset: Array

    def taken(self, order: Integers) -> Patterns:
        """Return some of the rows, in this order."""
        return Patterns(
            np.ascontiguousarray(self.X[order]),
            tuple(codes[order] for codes in self.codes),
            tuple(np.ascontiguousarray(Z[order]) for Z in self.Z),
            tuple(_entries(*entries, order) for entries in self.structured),
            self.weights[order],
            self.offset[order],
        )


class Keys:
    """Rows as words, and back.

    Parameters
    ----------
    template
        Design whose columns, factors and effects the rows have.

    Attributes
    ----------
    width, pattern
        Words of a row, and how many of them, the first ones, are not of its outcome.
    """

    def __init__(self, template: Design) -> None:
        self.template = template
        self.fixed = _vary(template.coefficients)
        self.varying = [_vary(g.coefficients) for g in template.groupings]
        self.widths = [1 if term.basis is None else term.basis.degree + 1 for term in template.structured]
        weighted, shifted = template.weights_column is not None, bool(template.formula.offsets)
        counts = template.family.name == "poisson"
        self.weighted, self.shifted, self.exposed = weighted, shifted and not counts, shifted and counts
        self.tried = template.formula.response.kind in ("proportion", "cbind")
        self.pattern = int(self.fixed.sum()) + sum(1 + int(own.sum()) for own in self.varying)
        self.pattern += sum(1 + w if w == 1 else 1 + 2 * w for w in self.widths) + weighted + self.shifted
        self.width = self.pattern + 1 + self.tried + self.exposed

    def of(self, rows: NewRows, before: int) -> Integers:
        """Return the words (m, width) of some rows; `before` rows came before them.

        Raises
        ------
        DataError
            For levels, times and areas that the template does not know.
        """
        out = np.empty((rows.n, self.width), dtype=np.int64)
        at = self._columns(rows.X, self.fixed, out, 0)
        for g, codes, Z, own in zip(self.template.groupings, rows.codes, rows.Z, self.varying, strict=True):
            _refuse(codes, f"level of `{g.name}`", before)
            out[:, at] = codes
            at = self._columns(Z, own, out, at + 1)
        for term, new, width in zip(self.template.structured, rows.structured, self.widths, strict=True):
            node, replicate = new.node.reshape(rows.n, width), new.replicate.reshape(rows.n, width)
            _refuse(node.min(axis=1), f"node of `{term.text}`", before)
            _refuse(replicate[:, 0], f"level of `{term.by}`", before)
            out[:, at] = replicate[:, 0]
            out[:, at + 1 : at + 1 + width] = node
            at += 1 + width
            if width > 1:
                at = self._columns(new.value.reshape(rows.n, width), np.ones(width, dtype=bool), out, at)
        assert rows.y is not None
        last = [rows.weights] * self.weighted + [rows.offset] * self.shifted
        for values in [*last, rows.y, *[rows.trials] * self.tried, *[rows.offset] * self.exposed]:
            as_words(values, out[:, at])
            at += 1
        return out

    def unpacked(self, words: Integers) -> Patterns:
        """Return the arrays behind the words (R, pattern) of different patterns."""
        R = len(words)
        X, at = self._uncolumned(words, self.fixed, 0)
        codes, Zs, structured = [], [], []
        for own in self.varying:
            codes.append(words[:, at].copy())
            Z, at = self._uncolumned(words, own, at + 1)
            Zs.append(Z)
        for width in self.widths:
            replicate = np.repeat(words[:, at], width)
            node = np.ascontiguousarray(words[:, at + 1 : at + 1 + width]).ravel()
            at += 1 + width
            value = np.ones(R * width)
            if width > 1:
                values, at = self._uncolumned(words, np.ones(width, dtype=bool), at)
                value = values.ravel()
            structured.append((np.arange(R + 1, dtype=np.int64) * width, replicate, node, value))
        weights = _number(words[:, at]) if self.weighted else np.ones(R)
        offset = _number(words[:, at + self.weighted]) if self.shifted else np.zeros(R)
        return Patterns(X, tuple(codes), tuple(Zs), tuple(structured), weights, offset)

    def outcome(self, words: Integers) -> Outcomes:
        """Return what stands behind the last words of different rows (D, width)."""
        at = self.pattern
        y = _number(words[:, at])
        trials = _number(words[:, at + 1]) if self.tried else np.ones(len(words))
        offset = np.zeros(len(words)) if self.template.family.name == "poisson" else None
        return Outcomes(y, trials, _number(words[:, at + 1 + self.tried]) if self.exposed else offset)

    @staticmethod
    def _columns(values: Array, own: Mask, out: Integers, at: int) -> int:
        """Write the columns that vary from word `at` on; return the next word."""
        for k in np.flatnonzero(own):
            as_words(values[:, k], out[:, at])
            at += 1
        return at

    @staticmethod
    def _uncolumned(words: Integers, own: Mask, at: int) -> tuple[Array, int]:
        """Return columns, ones where they do not vary, and the next word."""
        out = np.ones((len(words), len(own)))
        used = int(own.sum())
        out[:, own] = np.ascontiguousarray(words[:, at : at + used]).view(np.float64)
        return out, at + used


def _entries(
    start: Integers, replicate: Integers, node: Integers, value: Array, order: Integers
) -> tuple[Integers, Integers, Integers, Array]:
    """Return the entries of some rows, of which all have the same number."""
    width = int(start[1]) if len(start) > 1 else 1
    at = (order[:, None] * width + np.arange(width)).ravel()
    return np.arange(len(order) + 1, dtype=np.int64) * width, replicate[at], node[at], value[at]


def _vary(names: tuple[str, ...]) -> Mask:
    """Return which columns say something of a row: an intercept is one in all of them."""
    return np.array([name != "Intercept" for name in names], dtype=bool)


def _number(words: Integers) -> Array:
    return np.ascontiguousarray(words).view(np.float64)


def _refuse(codes: Integers, what: str, before: int) -> None:
    """Refuse what was not seen when levels were learnt."""
    if len(codes) and codes.min() < 0:
        where = first_rows(before + np.flatnonzero(codes < 0))
        raise DataError(f"there is no {what} in {where} among those learnt: the data changed while they were read.")

"""Linear hypotheses in the coefficients, read from text: sums, multiples and equations of names, nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import DataError, FormulaError, UnsafeFormula
from bayou.formula.words import did_you_mean, listing
from bayou.inference.terms import FixedTerm, fixed_terms

if TYPE_CHECKING:
    from bayou.design import Design

__all__ = ["Hypothesis", "in_words", "linear_hypothesis"]

LONGEST, DEEPEST = 10_000, 50
DIVIDERS = (",", ";", "\n")
TURNED = 4  # factors up to which an interaction may be written in any order
SAME = 1e-10  # of the largest singular value: hypotheses that say the same

_number = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_symbol = re.compile(r"==|[-+*/()=,;\n]")
_word = re.compile(r"[^\W\d][\w.]*(?:\[[^\]]*\]|\([^)]*\))*(?::[^\W\d][\w.]*(?:\[[^\]]*\]|\([^)]*\))*)*")


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """L beta = rhs.

    Attributes
    ----------
    L
        (q, P), of full row rank.
    rhs
        (q,).
    words
        Each row as an equation.
    """

    L: Array
    rhs: Array
    words: tuple[str, ...]


def linear_hypothesis(design: Design, hypothesis: Any, rhs: Any = None) -> Hypothesis:
    """Read a hypothesis about the fixed effects.

    Parameters
    ----------
    design
        The design whose coefficients it is about.
    hypothesis
        Equations as text, several of them divided by commas or in a list: ``"x = 0"``, ``"x - 2*z = 1, w = 0"``,
        ``"a[2] = a[3]"``. A coefficient's name stands as it is printed, with or without ``beta[…]``; a term's name
        (``"treatment"``, ``"a:b"``) for each of its columns; an expression without ``=`` is said to be zero. Or a
        matrix (q, P), or one row of it.
    rhs
        With a matrix, what its rows are said to be: one number, or (q,); zero if it is not given.

    Raises
    ------
    FormulaError
        If the text cannot be read, has a name that is no coefficient and no term, or is not linear.
    UnsafeFormula
        If it is too long or too deeply nested.
    DataError
        If a matrix has the wrong shape or numbers that are not finite, or hypotheses repeat or contradict each other.

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> design = bayou.Model("score ~ ses + (1 | school)", school).design
    >>> found = linear_hypothesis(design, "Intercept + 2*ses = 50")
    >>> print(found.L, found.rhs, found.words)
    [[1. 2.]] [50.] ('Intercept + 2*ses = 50',)
    """
    P = len(design.coefficients)
    if isinstance(hypothesis, str) or _texts(hypothesis):
        if rhs is not None:
            raise DataError("rhs= goes with a matrix; in text, write the number to the right of '='.")
        texts = [hypothesis] if isinstance(hypothesis, str) else list(hypothesis)
        known = _known_names(design)
        pairs = [pair for text in texts for pair in _Reader(text, known, design).equations()]
        L = np.vstack([A for A, _ in pairs])
        right = np.concatenate([c for _, c in pairs])
    else:
        L, right = _matrix(hypothesis, rhs, design)
    words = tuple(in_words(row, value, design.coefficients) for row, value in zip(L, right, strict=True))
    _check_rows(L.reshape(-1, P), words)
    return Hypothesis(L, right, words)


def in_words(row: Array, value: float, names: Sequence[str]) -> str:
    """Write one row as an equation."""
    parts = []
    for k in np.flatnonzero(row).tolist():
        size = abs(float(row[k]))
        sign = "-" if row[k] < 0.0 else "+"
        parts.append(f"{sign} " + (names[k] if size == 1.0 else f"{size:.6g}*{names[k]}"))
    text = " ".join(parts).removeprefix("+ ")
    text = "-" + text[2:] if text.startswith("- ") else text
    return f"{text or '0'} = {value + 0.0:.6g}"


def _texts(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and len(given) > 0 and all(isinstance(item, str) for item in given)


def _matrix(given: Any, rhs: Any, design: Design) -> tuple[Array, Array]:
    names = design.coefficients
    try:
        L = np.atleast_2d(np.asarray(given, dtype=np.float64))
        right = np.asarray(0.0 if rhs is None else rhs, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("A hypothesis is text such as 'x = 0', or a matrix of numbers.") from None
    if L.ndim != 2 or L.shape[1] != len(names) or not len(L):
        raise DataError(
            f"The matrix of the hypothesis has shape {np.shape(given)}; it needs {len(names)} columns, one for each of "
            f"{listing(names)}."
        )
    if right.ndim > 1 or right.size not in (1, len(L)):
        raise DataError(f"rhs has shape {right.shape}; give one number, or one for each of {len(L)} rows.")
    if not (np.isfinite(L).all() and np.isfinite(right).all()):
        raise DataError("The hypothesis has numbers that are not finite.")
    return L.copy(), np.broadcast_to(right.ravel(), (len(L),)).copy()


def _check_rows(L: Array, words: tuple[str, ...]) -> None:
    """Refuse rows of zeros and rows that follow from the others."""
    size = np.linalg.norm(L, axis=1)
    if (size == 0.0).any():
        raise DataError(f"{words[int(np.argmin(size))]!r} says nothing about the coefficients: they cancel.")
    scaled = L / size[:, None]
    for k in range(1, len(L)):
        if np.linalg.svd(scaled[: k + 1], compute_uv=False)[-1] <= SAME if k < L.shape[1] else True:
            raise DataError(
                f"{words[k]!r} repeats or contradicts what the hypotheses before it say of the same coefficients; "
                "leave it out."
            )


# ---- names ---------------------------------------------------------------------------------


def _known_names(design: Design) -> dict[str, tuple[int, ...]]:
    """Every way to write a coefficient or a term: name -> columns."""
    known: dict[str, tuple[int, ...]] = {}
    for k, name in enumerate(design.coefficients):
        known[name] = known[f"beta[{name}]"] = (k,)
    terms = fixed_terms(design)
    for term in terms:
        known.setdefault(term.name, term.columns)
    for k, name in enumerate(design.coefficients):
        for turned in _turned(name):
            known.setdefault(turned, (k,))
    for term in terms:
        for turned in _turned(term.name):
            known.setdefault(turned, term.columns)
    _add_inner(known, terms)
    return known


def _add_inner(known: dict[str, tuple[int, ...]], terms: tuple[FixedTerm, ...]) -> None:
    """Let the column inside C(column, …) stand for a term that is nothing else."""
    inner: dict[str, list[tuple[int, ...]]] = {}
    for term in terms:
        match = re.fullmatch(r"(?:C|factor)\(\s*(\w+)\s*[,)].*", term.name)
        if match and len(term.factors) == 1:
            inner.setdefault(match[1], []).append(term.columns)
    for name, columns in inner.items():
        if len(columns) == 1:
            known.setdefault(name, columns[0])


def _turned(name: str) -> list[str]:
    """Return an interaction's name with its factors in every other order."""
    parts, depth, last = [], 0, 0
    for place, character in enumerate(name):
        depth += (character in "[(") - (character in "])")
        if character == ":" and depth == 0:
            parts.append(name[last:place])
            last = place + 1
    parts.append(name[last:])
    if not 2 <= len(parts) <= TURNED:
        return []
    return [":".join(order) for order in itertools.permutations(parts)][1:]


# ---- text ----------------------------------------------------------------------------------


Affine = tuple[Array, Array]  # A (k, P) and c (k,): A beta + c


class _Reader:
    """One text, read from left to right; a value is affine in beta, with one row or one for each of a term's columns.

    sum := product (± product)*;  product := signed (* or / signed)*;  signed := ± signed | (sum) | number | name.
    """

    def __init__(self, text: str, known: dict[str, tuple[int, ...]], design: Design) -> None:
        if len(text) > LONGEST:
            raise UnsafeFormula(f"The hypothesis has {len(text):,} characters; the limit is {LONGEST:,}.")
        self.text, self.names, self.design = text.strip(), known, design
        self.P = len(design.coefficients)
        self.depth = self.place = 0
        self.spaceless = {re.sub(r",\s*", ",", name): name for name in known}
        longest = sorted(known, key=len, reverse=True)
        pattern = "|".join(re.sub(r",(?:\\ )*", r",\\s*", re.escape(name)) for name in longest) or "(?!)"
        self.name = re.compile(rf"(?:{pattern})(?![\w\[(]|\.\w|:\S)")
        self.tokens = list(self._scan())

    def _scan(self) -> Iterator[tuple[str, str]]:
        place, text = 0, self.text
        while place < len(text):
            if text[place] in " \t\r":
                place += 1
                continue
            for kind, pattern in (("name", self.name), ("number", _number), ("symbol", _symbol)):
                match = pattern.match(text, place)
                if match:
                    yield kind, match.group()
                    place = match.end()
                    break
            else:
                raise self._stranger(place)
        yield "end", ""

    def _stranger(self, place: int) -> FormulaError:
        match = _word.match(self.text, place)
        if match is None:
            character = self.text[place]
            if character in "<>!":
                return FormulaError(
                    f"A hypothesis is an equation, such as 'x = 0'; {self.text!r} has {character!r}. The probability "
                    'of an inequality is that of draws: fit.derive("beta[x] > 0").mean().'
                )
            return UnsafeFormula(
                f"{character!r} is not allowed in a hypothesis ({self.text!r}): write names of coefficients, numbers, "
                "+ - * / ( ) and =."
            )
        word = match.group()
        coefficients = list(self.design.coefficients)
        terms = [t.name for t in fixed_terms(self.design) if t.name not in coefficients]
        also = f"; terms: {listing(terms)}" if terms else ""
        near = did_you_mean(word, [*coefficients, *terms])
        shown = listing(coefficients, 12)
        return FormulaError(f"{word!r} is neither a coefficient nor a term.{near} The coefficients are {shown}{also}.")

    def equations(self) -> list[Affine]:
        """Return (L, rhs) of each equation."""
        found: list[Affine] = []
        while True:
            sides = [self._sum()]
            while self._take("=", "=="):
                sides.append(self._sum())
            kind, word = self.tokens[self.place]
            if kind != "end" and word not in DIVIDERS:
                raise self._unreadable()
            if len(sides) == 1:
                sides.append((np.zeros((1, self.P)), np.zeros(1)))
            for left, right in itertools.pairwise(sides):
                A, c = self._added(left, right, -1.0)
                if not len(A) or not A.any():
                    raise FormulaError(f"The hypothesis {self.text!r} has an equation without a coefficient.")
                found.append((A, -c))
            while self._take(*DIVIDERS):
                pass
            if self.tokens[self.place][0] == "end":
                return found

    def _unreadable(self) -> FormulaError:
        kind, word = self.tokens[self.place]
        where = "at its end" if kind == "end" else f"at {word!r}"
        return FormulaError(
            f"The hypothesis {self.text!r} cannot be read {where}; write it as 'x - 2*z = 1, w = 0', names as printed."
        )

    def _take(self, *symbols: str) -> str:
        kind, word = self.tokens[self.place]
        if kind == "symbol" and word in symbols:
            self.place += 1
            return word
        return ""

    def _sum(self) -> Affine:
        value = self._product()
        while sign := self._take("+", "-"):
            value = self._added(value, self._product(), 1.0 if sign == "+" else -1.0)
        return value

    def _product(self) -> Affine:
        value = self._signed()
        while symbol := self._take("*", "/"):
            other = self._signed()
            if other[0].any():
                if symbol == "/" or value[0].any():
                    raise FormulaError(
                        f"The hypothesis {self.text!r} is not linear: it multiplies coefficients or divides by one. "
                        "Derive such quantities from draws with fit.derive()."
                    )
                value, other = other, value
            factor = float(other[1][0])
            if symbol == "/" and factor == 0.0:
                raise FormulaError(f"The hypothesis {self.text!r} divides by zero.")
            factor = 1.0 / factor if symbol == "/" else factor
            value = value[0] * factor, value[1] * factor
        return value

    def _signed(self) -> Affine:
        self.depth += 1
        if self.depth > DEEPEST:
            raise UnsafeFormula(f"The hypothesis is too deeply nested (at most {DEEPEST}).")
        value = self._value()
        self.depth -= 1
        return value

    def _value(self) -> Affine:
        if sign := self._take("+", "-"):
            A, c = self._signed()
            return (A, c) if sign == "+" else (-A, -c)
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                raise self._unreadable()
            return value
        kind, word = self.tokens[self.place]
        if kind not in ("number", "name"):
            raise self._unreadable()
        self.place += 1
        if kind == "number":
            number = float(word)
            if not np.isfinite(number):
                raise FormulaError(f"{word} is no finite number.")
            return np.zeros((1, self.P)), np.array([number])
        columns = self.names[self.spaceless[re.sub(r",\s*", ",", word)]]
        return np.eye(self.P)[list(columns)], np.zeros(len(columns))

    def _added(self, left: Affine, right: Affine, sign: float) -> Affine:
        if len(left[1]) != len(right[1]) and 1 not in (len(left[1]), len(right[1])):
            raise FormulaError(
                f"The hypothesis {self.text!r} sets a term of {len(left[1])} columns against one of {len(right[1])}."
            )
        return left[0] + sign * right[0], left[1] + sign * right[1]

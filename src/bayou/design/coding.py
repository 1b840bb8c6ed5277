"""Terms to columns: formulaic codes the factors and multiplies them out; names are ours.

formulaic sees only columns called f0, f1, … with levels called L0, L1, …, in a formula made of those
names, an empty context apart from them, and no missing values; so nothing in the caller's names or
values can be mistaken for syntax, and no row can get lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.materializers.types import FactorValues

from bayou._types import Array, Integers, Labels
from bayou.design.columns import Factor, from_series
from bayou.design.evaluate import Evaluator, constant
from bayou.design.levels import match_levels, unused_levels
from bayou.design.products import Product, multiplied, products
from bayou.errors import DataError, FormulaError
from bayou.formula.terms import Term
from bayou.formula.tree import Call, Constant, Name, Node, unparse
from bayou.formula.words import did_you_mean, label_text, listing, plain_name

__all__ = ["Coding", "learn_coding"]

largest_matrix = 2**32  # bytes
_column = re.compile(r"(?:C\()?f(\d+)(?:, contr\.\w+\))?(?:\[(?:([A-Z]+)\.)?(L?)(\d+)\])?")
_contrasts = {
    "Treatment": "",
    "contr.treatment": "",
    "Sum": "contr.sum",
    "contr.sum": "contr.sum",
    "Helmert": "contr.helmert",
    "contr.helmert": "contr.helmert",
}


@dataclass(frozen=True)
class CodedFactor:
    """What is remembered of one factor: levels and contrast of a category, columns of a number."""

    text: str
    label: str
    levels: Labels | None
    contrast: str = ""
    width: int = 1


@dataclass(frozen=True, eq=False)
class Coding:
    """How terms become columns, learnt from the first data.

    Attributes
    ----------
    coefficients : tuple of str
    factors : tuple of CodedFactor
    notes : tuple of str
    """

    coefficients: tuple[str, ...]
    factors: tuple[CodedFactor, ...]
    specification: ModelSpec = field(repr=False)
    notes: tuple[str, ...] = ()

    def matrix(self, rows: Evaluator) -> Array:
        """Return the columns for a frame, (n, P) in C order.

        Raises
        ------
        DataError
            For a level that the first data did not have.
        """
        if self._products is None:
            columns = [_values(factor, rows) for factor in self.factors]
            return _materialise(self.specification, columns, rows.frame.n)[0]
        codes = {k: _codes(factor, rows) for k, factor in enumerate(self.factors) if factor.levels is not None}
        return multiplied(
            self._products, rows.frame.n, lambda k: rows.numbers(self.factors[k].text), lambda k: codes[k]
        )

    @property
    def written(self) -> tuple[object, ...]:
        """What the columns are made of: codings of the same rows with the same answer have the same columns."""
        return tuple((f.text, f.contrast) for f in self.factors), tuple(self.specification.column_names)

    @cached_property
    def _products(self) -> tuple[Product, ...] | None:
        widths = [0 if factor.levels is not None else factor.width for factor in self.factors]
        return products(list(self.specification.column_names), widths)


def learn_coding(terms: Sequence[Term], rows: Evaluator) -> tuple[Coding, Array]:
    """Learn the levels and the coding of some terms; return them with the columns, (n, P)."""
    texts = list(dict.fromkeys(factor for term in terms for factor in term))
    notes: list[str] = []
    factors = tuple(_learn_factor(text, rows, notes) for text in texts)
    _check_size(terms, {factor.text: factor for factor in factors}, rows.frame.n)
    names = {factor.text: _code_name(number, factor) for number, factor in enumerate(factors)}
    text = " + ".join(["1" if () in terms else "0", *(":".join(names[f] for f in term) for term in terms if term)])
    columns = [_values(factor, rows) for factor in factors]
    matrix, specification = _materialise(text, columns, rows.frame.n)
    raw_names = list(specification.column_names)
    coefficients = tuple(_coefficient(name, factors) for name in raw_names)
    reduced = {int(number) for name in raw_names for number in re.findall(r"f(\d+)\[T\.", name)}
    notes += [
        f"{factors[number].label}: reference level {label_text(_levels(factors[number])[0])}."
        for number in sorted(reduced)
    ]
    return Coding(coefficients, factors, specification, tuple(notes)), matrix


def _materialise(how: str | ModelSpec, columns: Sequence[Any], n: int) -> tuple[Array, ModelSpec]:
    """Let formulaic build the columns of a formula over f0, f1, and so on."""
    wide = {f"f{i}": column for i, column in enumerate(columns) if isinstance(column, FactorValues)}
    frame = pd.DataFrame(
        {f"f{i}": column for i, column in enumerate(columns) if not isinstance(column, FactorValues)},
        index=pd.RangeIndex(n),
    )
    options = {"context": wide, "na_action": "ignore", "output": "numpy"}
    try:
        made: Any
        if isinstance(how, str):
            made = Formula(how).get_model_matrix(frame, **options)
        else:
            made = how.get_model_matrix(frame, context=wide)
    except Exception as error:  # formulaic raises many kinds, none of which may escape
        raise FormulaError(f"the terms cannot be coded: {type(error).__name__}: {error}") from error
    matrix = np.ascontiguousarray(np.asarray(made), dtype=np.float64).reshape(n, -1)
    matrix += 0.0  # products with a zero of an indicator leave -0.0
    return matrix, made.model_spec


def _code_name(number: int, factor: CodedFactor) -> str:
    return f"C(f{number}, {factor.contrast})" if factor.contrast else f"f{number}"


def _coefficient(name: str, factors: Sequence[CodedFactor]) -> str:
    """Translate formulaic's "f0[T.L2]:f1" to "treatment[drug]:x"."""
    if name == "Intercept":
        return name
    words = []
    for part in name.split(":"):
        match = _column.fullmatch(part)
        if match is None:
            raise FormulaError(f"formulaic returned a column {part!r} that is not understood.")
        factor = factors[int(match[1])]
        tail = "" if match[4] is None else match[4]
        if match[3]:
            tail = label_text(_levels(factor)[int(match[4])])
        words.append(f"{factor.label}[{tail}]" if match[4] is not None else factor.label)
    return ":".join(words)


def _learn_factor(text: str, rows: Evaluator, notes: list[str]) -> CodedFactor:
    node = rows.tree(text)
    if isinstance(node, Name):
        column = rows.column(node.name)
        label = plain_name(node.name)
        if column.kind == "date":
            notes.append(f"{label} is a date: it counts in days since 1970-01-01.")
        if column.kind in ("boolean", "category"):
            return _category(text, label, column.factor(), notes)
        return CodedFactor(text, label, None)
    if isinstance(node, Call) and node.function in ("C", "factor"):
        return _explicit_category(node, rows, notes)
    values = rows.numbers(text)
    return CodedFactor(text, text, None, width=1 if values.ndim == 1 else values.shape[1])


def _category(text: str, label: str, factor: Factor, notes: list[str], contrast: str = "") -> CodedFactor:
    notes += [note] if (note := unused_levels(label, factor)) else []
    if len(factor.levels) < 2:
        only = label_text(factor.levels[0]) if len(factor.levels) else "none"
        raise DataError(f"`{label}` has one level only ({only}) and cannot be an effect; leave it out.")
    return CodedFactor(text, label, factor.levels, contrast)


def _explicit_category(node: Call, rows: Evaluator, notes: list[str]) -> CodedFactor:
    """Read C(x), C(x, Treatment("b")), C(x, Sum), C(x, reference="b"), C(x, levels=["a", "b"])."""
    text = unparse(node)
    options = dict(node.options)
    unknown = set(options) - {"reference", "levels"}
    if unknown or not 1 <= len(node.arguments) <= 2:
        raise FormulaError(
            f'`{text}`: write C(x), C(x, Treatment("b")), C(x, Sum), C(x, Helmert), '
            f'C(x, reference="b") or C(x, levels=[…]).'
        )
    contrast, reference = _contrast(node.arguments[1], text) if len(node.arguments) == 2 else ("", None)
    if "reference" in options:
        reference = constant(options["reference"])
    factor = _raw_factor(node.arguments[0], rows)
    levels = factor.levels
    if "levels" in options:
        levels = _declared(levels, constant(options["levels"]), text)
    if reference is not None:
        first = _declared(levels, [reference], text)[0]
        levels = np.array([first, *(level for level in levels if level != first)], dtype=object)
    return _category(text, text, Factor(factor.codes, levels, factor.unused), notes, contrast)


def _contrast(node: Node, text: str) -> tuple[str, Any]:
    match node:
        case Name(name) if name in _contrasts:
            return _contrasts[name], None
        case Call("Treatment" | "contr.treatment", (Constant(value),), ()):
            return "", value
        case Call("Treatment" | "contr.treatment", (), (("reference" | "base", Constant(value)),)):
            return "", value
    raise FormulaError(f"`{text}`: the contrast `{unparse(node)}` is not known; Treatment, Sum and Helmert are.")


def _declared(levels: Labels, wanted: Any, text: str) -> Labels:
    """Return known levels in the wanted order, or refuse a stranger."""
    asked = np.empty(len(wanted), dtype=object) if isinstance(wanted, list) else np.empty(0, dtype=object)
    asked[:] = wanted if isinstance(wanted, list) else []
    places = match_levels(levels, asked)
    if (places < 0).any() or not len(asked):
        stranger = label_text(asked[int(np.argmin(places))]) if len(asked) else "none"
        texts = [label_text(level) for level in levels]
        raise FormulaError(
            f"`{text}`: {stranger} is not a level.{did_you_mean(stranger, texts)} The levels are {listing(texts)}."
        )
    return levels[places]


def _raw_factor(node: Node, rows: Evaluator) -> Factor:
    if isinstance(node, Name):
        return rows.column(node.name).factor()
    text = unparse(node)
    return from_series(text, pd.Series(rows.vector(text))).factor()


def _values(factor: CodedFactor, rows: Evaluator) -> Any:
    """Return a factor as formulaic takes it: one column, several columns, or a coded category."""
    if factor.levels is None:
        values = rows.numbers(factor.text)
        if values.ndim == 1:
            return values
        columns = {str(k + 1): values[:, k] for k in range(values.shape[1])}
        return FactorValues(columns, kind="numerical", spans_intercept=False)
    tokens = pd.Index([f"L{k}" for k in range(len(factor.levels))])
    return pd.Categorical.from_codes(_codes(factor, rows), categories=tokens)


def _codes(factor: CodedFactor, rows: Evaluator) -> Integers:
    """Return the level of each row, (n,).

    Raises
    ------
    DataError
        For a level that the first data did not have.
    """
    node = rows.tree(factor.text)
    inner = node.arguments[0] if isinstance(node, Call) else node
    found = _raw_factor(inner, rows)
    if found.levels is factor.levels:
        return found.codes
    places = match_levels(_levels(factor), found.levels)
    if (places < 0).any():
        strangers = [label_text(level) for level in found.levels[places < 0]]
        known = [label_text(level) for level in _levels(factor)]
        where = rows.rows(np.append(places, 0)[found.codes] < 0)
        raise DataError(
            f"`{factor.label}` has levels that the model has not seen: {listing(strangers)}, in {where}. "
            f"Known: {listing(known)}."
        )
    return np.append(places, -1)[found.codes].astype(np.int64)


def _levels(factor: CodedFactor) -> Labels:
    return factor.levels if factor.levels is not None else np.empty(0, dtype=object)


def _check_size(terms: Sequence[Term], factors: dict[str, CodedFactor], n: int) -> None:
    """Refuse a matrix that would not fit, such as one column per person."""
    for term in terms:
        sizes = {name: len(_levels(factors[name])) or max(factors[name].width, 1) for name in term}
        width = float(np.prod([float(size) for size in sizes.values()]))
        if width * n * 8.0 > largest_matrix:
            widest = max(sizes, key=lambda name: sizes[name])
            raise DataError(
                f"`{':'.join(term)}` would need {width:,.0f} columns of {n:,} rows as a fixed effect: "
                f"`{widest}` has {sizes[widest]:,} levels. Write it as a group, (1 | {widest})."
            )

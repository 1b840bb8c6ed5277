"""Expressions on columns: a walk over the tree, so that no text is ever handed to Python's eval."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bayou._types import Array, Integers
from bayou.design.columns import Column
from bayou.design.frames import Frame
from bayou.design.transforms import OutsideKnots, State, center_by, settings_of, transform
from bayou.errors import BayouError, DataError, FormulaError
from bayou.formula import arithmetic_functions, known_functions
from bayou.formula.syntax import parse_expression
from bayou.formula.terms import grouping_factors
from bayou.formula.tree import Call, Chain, Constant, Items, Name, Node, Unary, names_of, unparse
from bayou.formula.words import first_rows

__all__ = ["Evaluator", "Functions", "constant"]

Functions = Mapping[str, Callable[..., Any]]

_stateful = frozenset({"center", "scale", "standardize", "poly", "bs"})
_numpy = {name: getattr(np, name) for name in arithmetic_functions - {"ceiling"}} | {"ceiling": np.ceil}
_operators: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": np.divide,
    "%%": np.mod,
    "^": np.power,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Evaluator:
    """The columns of one frame and the expressions on them, each computed once.

    Parameters
    ----------
    frame : Frame
    functions : mapping of str to callable
        The caller's own functions.
    states : dict
        What the stateful functions learnt, by their text; filled when `learning`.
    learning : bool
    positions : (n,) ndarray, optional
        Place of each row in the caller's table, for messages, when rows were dropped.
    """

    def __init__(
        self,
        frame: Frame,
        functions: Functions,
        states: dict[str, State],
        learning: bool,
        positions: Integers | None = None,
    ) -> None:
        self.frame = frame
        self.functions = functions
        self.states = states
        self.learning = learning
        self.positions = positions
        self._known: dict[str, Array] = {}

    def rows(self, where: np.ndarray[Any, Any]) -> str:
        """Name the first rows of a mask as the caller counts them."""
        places = np.flatnonzero(where)
        return first_rows(places if self.positions is None else self.positions[places])

    def tree(self, text: str) -> Node:
        """Read canonical text back into a tree."""
        return parse_expression(text, known_functions | set(self.functions), limited=False)

    def column(self, name: str) -> Column:
        """Return a column, or refuse with the nearest known name."""
        return self.frame[name]

    def numbers(self, text: str) -> Array:
        """Return an expression as finite float64, (n,) or (n, k).

        Raises
        ------
        DataError
            When a value is not finite, naming the first rows.
        """
        if text not in self._known:
            out = np.asarray(self._value(self.tree(text)), dtype=np.float64)
            if out.ndim == 0:
                out = np.full(self.frame.n, float(out))
            self._refuse_infinite(text, out)
            self._known[text] = out
        return self._known[text]

    def vector(self, text: str) -> Array:
        """Return an expression as one finite number per row, (n,)."""
        out = self.numbers(text)
        if out.ndim != 1:
            raise FormulaError(f"`{text}` gives {out.shape[1]} columns where one is needed.")
        return out

    def _refuse_infinite(self, text: str, out: Array) -> None:
        bad = ~np.isfinite(out)
        if not bad.any():
            return
        rows = np.any(bad.reshape(self.frame.n, -1), axis=1)
        first = int(np.flatnonzero(rows)[0])
        shown = []
        for name in names_of(self.tree(text)):
            value = self.frame[name].labels()[first]
            shown.append(f"{name} = {value if value is not None else 'missing'}")
        raise DataError(
            f"`{text}` is not a finite number in {self.rows(rows)}; first: {', '.join(shown)}. Correct these rows or "
            "leave them out."
        )

    def _value(self, node: Node) -> Any:
        match node:
            case Constant(value) if not isinstance(value, str):
                return float(value)
            case Name(name):
                return self.column(name).numbers()
            case Unary(sign, operand):
                return -self._value(operand) if sign == "-" else self._value(operand)
            case Chain(operands, operators):
                return self._chain(node, operands, operators)
            case Call(function, arguments, options):
                return self._call(node, function, arguments, options)
        raise FormulaError(f"`{unparse(node)}` has no numeric value.")

    def _chain(self, node: Chain, operands: tuple[Node, ...], operators: tuple[str, ...]) -> Any:
        if operators[0] in ("==", "!="):
            texts = self._text_comparison(operands[0], operands[1])
            if texts is not None:
                return texts if operators[0] == "==" else 1.0 - texts
        out = self._value(operands[0])
        for symbol, operand in zip(operators, operands[1:], strict=True):
            if symbol not in _operators:
                raise FormulaError(
                    f"`{symbol}` joins terms and is not arithmetic, in `{unparse(node)}`; "
                    f"multiply with `*` inside I(…)."
                )
            left, right = _float(out), _float(self._value(operand))
            if max(left.ndim, right.ndim) > 1 and min(left.ndim, right.ndim) > 0:
                raise FormulaError(f"`{unparse(node)}` joins several columns with another; name them as terms.")
            # Division by zero and overflow are reported once, as values that are not finite.
            with np.errstate(all="ignore"):
                out = _operators[symbol](left, right)
        return _float(out)

    def _text_comparison(self, left: Node, right: Node) -> Array | None:
        """Compare a column of text with a string: 1 where equal."""
        if isinstance(left, Constant):
            left, right = right, left
        if not (isinstance(left, Name) and isinstance(right, Constant) and isinstance(right.value, str)):
            return None
        factor = self.column(left.name).factor()
        equal = np.asarray([*(level == right.value for level in factor.levels), False], dtype=np.float64)
        return np.asarray(equal[factor.codes])

    def _call(
        self, node: Call, function: str, arguments: tuple[Node, ...], options: tuple[tuple[str, Node], ...]
    ) -> Any:
        if not arguments:
            raise FormulaError(f"`{unparse(node)}` needs a column.")
        if function in self.functions:
            return self._own(node)
        if function in _stateful:
            return self._remembered(node)
        if function not in _numpy and function != "I":
            raise FormulaError(f"`{unparse(node)}` has no numeric value here.")
        if len(arguments) != 1 or options:
            raise FormulaError(f"`{unparse(node)}`: {function}() takes one expression.")
        inner = self._value(arguments[0])
        if function == "I":
            return inner
        with np.errstate(all="ignore"):
            return _numpy[function](inner)

    def _remembered(self, node: Call) -> Array:
        """Apply a stateful function with the state kept under its own text."""
        text = unparse(node)
        if text in self._known:
            return self._known[text]
        inner = unparse(node.arguments[0])
        x = self.vector(inner)
        state = self.states.setdefault(text, {}) if self.learning else self.states[text]
        options = dict(node.options)
        try:
            with np.errstate(all="ignore"):
                if node.function == "center" and "by" in options:
                    return self._center_by(node, x, options, state)
                settings = settings_of(
                    node.function,
                    tuple(constant(item) for item in node.arguments[1:]),
                    {name: constant(value) for name, value in options.items()},
                )
                return transform(node.function, x, settings, state, text)
        except OutsideKnots as error:
            raise DataError(f"{error}, {self.rows(error.rows)}.") from None

    def _center_by(self, node: Call, x: Array, options: dict[str, Node], state: State) -> Array:
        if set(options) - {"by", "at"} or len(node.arguments) > 1:
            raise FormulaError(f"`{unparse(node)}`: write center(x, by=g) or center(x, by=g, at=…).")
        by = grouping_factors(options["by"])
        if len(by) != 1:
            raise FormulaError(f"`{unparse(node)}`: by= takes one factor, g or a:b.")
        at = self._value(options["at"]) if "at" in options else None
        return center_by(x, by[0], self.frame, at, state)

    def _own(self, node: Call) -> Array:
        """Call a function of the caller; whatever goes wrong in it is named as such."""
        text = unparse(node)
        arguments = [self._value(item) if names_of(item) else constant(item) for item in node.arguments]
        options = {name: constant(value) for name, value in node.options}
        try:
            out = np.asarray(self.functions[node.function](*arguments, **options), dtype=np.float64)
        except BayouError:
            raise
        except Exception as error:  # the function is the caller's
            raise FormulaError(f"your function in `{text}` fails: {type(error).__name__}: {error}") from error
        if out.ndim not in (1, 2) or len(out) != self.frame.n:
            raise FormulaError(
                f"your function in `{text}` gives shape {out.shape}; it needs one value, or one line of "
                f"values, for each of the {self.frame.n:,} rows."
            )
        return out


def constant(node: Node) -> Any:
    """Return the value of a setting: a number, a string, TRUE / FALSE / T / F, or a list of them."""
    match node:
        case Constant(value):
            return value
        case Name("T"):
            return True
        case Name("F"):
            return False
        case Unary(sign, Constant(value)) if not isinstance(value, str):
            return -value if sign == "-" else value
        case Items(items):
            return [constant(item) for item in items]
    raise FormulaError(f"`{unparse(node)}` cannot be a setting: write a number, a string, TRUE or FALSE.")


def _float(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64)

"""Tokens to a tree: the second half of the white list."""

from __future__ import annotations

import keyword
import math
from collections.abc import Collection

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula.tokens import Token, tokenize
from bayou.formula.tree import Bars, Call, Chain, Constant, Items, Name, Node, Unary, levels_of_precedence
from bayou.formula.words import did_you_mean

__all__ = ["parse_expression", "parse_formula"]

max_depth = 100
max_power = 100

_level = {operator: level for level, group in enumerate(levels_of_precedence) for operator in group}
_truth = {"TRUE": True, "True": True, "FALSE": False, "False": False}


def parse_formula(text: str, functions: Collection[str]) -> tuple[Node, Node]:
    """Read ``left ~ right``; `functions` are the names that may be called."""
    parser = _Parser(text, functions)
    if parser.at("~"):
        raise FormulaError(f"the formula {text!r} has no response: write `y ~ …`.")
    left = parser.expression()
    if parser.here.kind == "end":
        raise FormulaError(f"the formula {text!r} has no `~`: write `response ~ terms`.")
    parser.expect("~")
    right = parser.expression()
    parser.finish()
    return left, right


def parse_expression(text: str, functions: Collection[str], limited: bool = True) -> Node:
    """Read one side of a formula, or one expression.

    Canonical text, written out from a formula that kept the limits, may pass them: `limited=False`.
    """
    parser = _Parser(text, functions, limited)
    node = parser.expression()
    parser.finish()
    return node


class _Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, text: str, functions: Collection[str], limited: bool = True) -> None:
        self.text = text
        self.functions = functions
        self.limited = limited
        self.tokens = tokenize(text, limited)
        self.place = 0
        self.depth = 0

    @property
    def here(self) -> Token:
        return self.tokens[self.place]

    def at(self, *operators: str) -> bool:
        return self.here.kind == "operator" and self.here.text in operators

    def next(self) -> Token:
        token = self.here
        self.place += 1
        return token

    def expect(self, operator: str) -> None:
        if not self.at(operator):
            raise self.unexpected(f"`{operator}` was expected")
        self.place += 1

    def finish(self) -> None:
        if self.here.kind != "end":
            raise self.unexpected("it was not expected")

    def unexpected(self, what: str) -> FormulaError:
        token = self.here
        where = "at the end" if token.kind == "end" else f"at character {token.start + 1}"
        shown = "the formula stops" if token.kind == "end" else f"`{token.text}` stands"
        before = self.tokens[self.place - 1].text if self.place else ""
        if token.text in ("|", "||"):
            return FormulaError(f"a bar {where} of {self.text!r} stands outside parentheses: write (1 + x | group).")
        kind = UnsafeFormula if keyword.iskeyword(token.text) or keyword.iskeyword(before) else FormulaError
        return kind(f"{shown} {where} of {_short(self.text)}, where {what}.")

    def deeper(self) -> None:
        self.depth += 1
        if self.limited and self.depth > max_depth:
            raise UnsafeFormula(f"the formula is nested more than {max_depth} deep.")

    def expression(self) -> Node:
        return self.climb(self.signed(), 0)

    def climb(self, left: Node, level: int) -> Node:
        """Join `left` with what follows, as long as the operators bind at least as tightly as `level`."""
        while (here := self.operator_level()) >= level:
            operands, operators = [left], list[str]()
            while self.operator_level() == here:
                if here == 0 and operators:
                    raise self.unexpected("comparisons cannot be chained")
                operators.append(self.next().text)
                operands.append(self.climb(self.signed(), here + 1))
            left = Chain(tuple(operands), tuple(operators))
        return left

    def operator_level(self) -> int:
        return _level.get(self.here.text, -1) if self.here.kind == "operator" else -1

    def signed(self) -> Node:
        """Read a signed operand or a power; a power binds more tightly than a sign before it."""
        if self.at("+", "-"):
            sign = self.next().text
            self.deeper()
            operand = self.signed()
            self.depth -= 1
            return operand if sign == "+" and isinstance(operand, Constant) else Unary(sign, operand)
        base = self.primary()
        if not self.at("^", "**"):
            return base
        self.next()
        self.deeper()
        exponent = self.signed()
        self.depth -= 1
        _check_power(exponent)
        return Chain((base, exponent), ("^",))

    def primary(self) -> Node:
        token = self.here
        if token.kind == "name" and token.text in _truth:
            self.next()
            return Constant(_truth[token.text])
        if token.kind in ("name", "quoted"):
            self.next()
            return self.call(token.text) if token.kind == "name" and self.at("(") else Name(token.text)
        if token.kind == "number":
            self.next()
            return Constant(_number(token.text))
        if token.kind == "text":
            self.next()
            return Constant(token.text)
        if self.at("("):
            return self.parenthesis()
        if self.at("["):
            self.next()
            self.deeper()
            items, options = self.arguments("]")
            return self.items(items, options)
        raise self.unexpected("a column, a number or a function was expected")

    def parenthesis(self) -> Node:
        self.next()
        self.deeper()
        node = self.expression()
        if self.at("|", "||"):
            correlated = self.next().text == "|"
            factor = self.expression()
            options: tuple[tuple[str, Node], ...] = ()
            if self.at(","):
                self.next()
                extra, options = self.arguments(")")
                if extra:
                    raise FormulaError(f"a bar of {_short(self.text)} takes options only by name.")
            else:
                self.expect(")")
            node = Bars(node, factor, correlated, options)
        else:
            self.expect(")")
        self.depth -= 1
        return node

    def call(self, function: str) -> Node:
        self.next()
        self.deeper()
        if function == "c":
            return self.items(*self.arguments(")"))
        if function not in self.functions:
            known = sorted(self.functions)
            raise UnsafeFormula(
                f"the function `{function}` is not known.{did_you_mean(function, known)} "
                f"Known: {', '.join(known)}; your own go in functions={{name: function}}."
            )
        arguments, options = self.arguments(")")
        self.depth -= 1
        return Call(function, arguments, options)

    def items(self, items: tuple[Node, ...], options: tuple[tuple[str, Node], ...]) -> Node:
        self.depth -= 1
        if options or not all(isinstance(_unsigned(item), Constant) for item in items):
            raise FormulaError(f"a list in {_short(self.text)} may hold only numbers and strings.")
        return Items(items)

    def arguments(self, close: str) -> tuple[tuple[Node, ...], tuple[tuple[str, Node], ...]]:
        arguments: list[Node] = []
        options: dict[str, Node] = {}
        while not self.at(close):
            named = self.here.kind == "name" and self.tokens[self.place + 1].text == "="
            if named and self.tokens[self.place + 1].kind == "operator":
                name = self.next().text
                self.next()
                if name in options:
                    raise FormulaError(f"the option `{name}` is given twice in {_short(self.text)}.")
                options[name] = self.expression()
            elif options:
                raise self.unexpected("an option by name was expected")
            else:
                arguments.append(self.expression())
            if not self.at(close):
                self.expect(",")
        self.next()
        return tuple(arguments), tuple(options.items())


def _number(text: str) -> int | float:
    if text.isdecimal() and len(text) <= 15:
        return int(text)
    number = float(text)
    if math.isinf(number):
        raise UnsafeFormula(f"the number {_short(text)} is too large.")
    return number


def _unsigned(node: Node) -> Node:
    return node.operand if isinstance(node, Unary) else node


def _check_power(exponent: Node) -> None:
    bare = _unsigned(exponent)
    if isinstance(bare, Constant) and isinstance(bare.value, float | int) and bare.value > max_power:
        raise UnsafeFormula(f"the power {bare.value} is larger than {max_power}.")
    if isinstance(bare, Chain) and "^" in bare.operators:
        raise UnsafeFormula("a power of a power is not allowed in a formula; use parentheses and exp().")


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "…")

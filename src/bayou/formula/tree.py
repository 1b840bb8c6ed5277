"""The tree of a formula and how it is written as text.

There are no other nodes than the ones below, so whatever walks a tree can meet nothing else. Chains
of one precedence are flat (``a + b + c`` is one node), which keeps a long formula shallow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bayou.formula.words import quoted

__all__ = ["Bars", "Call", "Chain", "Constant", "Items", "Name", "Node", "Unary", "names_of", "unparse"]
__all__ += ["levels_of_precedence"]

# Loosest first. `|` is read only inside its parentheses and `^` after the unary sign.
levels_of_precedence = (
    frozenset({"<", "<=", ">", ">=", "==", "!="}),
    frozenset({"+", "-"}),
    frozenset({"*", "/"}),
    frozenset({"%in%", "%%"}),
    frozenset({":"}),
)
_unary_level = len(levels_of_precedence)
_power_level = _unary_level + 1


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a string or TRUE / FALSE."""

    value: float | int | str | bool


@dataclass(frozen=True, slots=True)
class Name:
    """A column, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A known function with its arguments and options."""

    function: str
    arguments: tuple[Node, ...]
    options: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """A list of constants: ``[1, 2]`` or ``c(1, 2)``."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """A signed operand."""

    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands joined from left to right by operators of one precedence; ``^`` has two operands."""

    operands: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """``(columns | factor)`` or ``(columns || factor)``, with options after a comma."""

    columns: Node
    factor: Node
    correlated: bool
    options: tuple[tuple[str, Node], ...] = ()


Node: TypeAlias = Constant | Name | Call | Items | Unary | Chain | Bars


_strength = {operator: level for level, group in enumerate(levels_of_precedence) for operator in group}
_strength["^"] = _power_level
_near = {"+": " + ", "-": " - ", "*": " * ", "/": " / ", "^": "^", ":": ":"}


def unparse(node: Node) -> str:
    """Write a tree as text that parses to the same tree: spaces, quotes and powers in one style."""
    match node:
        case Constant(value):
            if isinstance(value, str):
                return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            return repr(value)
        case Name(name):
            return quoted(name)
        case Items(items):
            return "[" + ", ".join(unparse(item) for item in items) + "]"
        case Unary(sign, operand):
            return sign + _inside(operand, _unary_level)
        case Call(function, arguments, options):
            inside = [unparse(item) for item in arguments]
            inside += [f"{name}={unparse(value)}" for name, value in options]
            return f"{function}({', '.join(inside)})"
        case Bars(columns, factor, correlated, options):
            tail = "".join(f", {name}={unparse(value)}" for name, value in options)
            return f"({unparse(columns)} {'|' if correlated else '||'} {unparse(factor)}{tail})"
        case Chain(operands, operators):
            level = _strength[operators[0]]
            words = [_inside(operands[0], level + 1)]
            for operator, operand in zip(operators, operands[1:], strict=True):
                words += [_near.get(operator, f" {operator} "), _inside(operand, level + 1)]
            return "".join(words)


def _inside(node: Node, level: int) -> str:
    """Wrap an operand in parentheses when it binds less tightly than its place asks."""
    strength = _power_level + 1
    if isinstance(node, Chain):
        strength = _strength[node.operators[0]]
    elif isinstance(node, Unary):
        strength = _unary_level
    return f"({unparse(node)})" if strength < level else unparse(node)


def names_of(node: Node, options: tuple[str, ...] = ("by", "at")) -> list[str]:
    """List the columns that a tree reads, in order of first appearance.

    An option is a setting, not a column, except for the groups and the centres of ``center(x, by=, at=)``.
    """
    match node:
        case Name(name):
            found = [name]
        case Call(function, arguments, settings):
            children = list(arguments[:1]) if function in ("C", "factor") else list(arguments)
            children += [value for option, value in settings if option in options]
            found = [name for child in children for name in names_of(child, options)]
        case Chain(operands, _) | Items(operands):
            found = [name for child in operands for name in names_of(child, options)]
        case Unary(_, operand):
            found = names_of(operand, options)
        case Bars(columns, factor, _, settings):
            children = [columns, factor, *(value for option, value in settings if option in options)]
            found = [name for child in children for name in names_of(child, options)]
        case _:
            found = []
    return list(dict.fromkeys(found))

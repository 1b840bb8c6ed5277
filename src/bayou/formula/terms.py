"""The algebra of terms: `a * b`, `a / b`, `(a + b)^2`, `- 1`, written out in full.

A term is a tuple of factor texts; the empty tuple is the intercept. Two terms are the same when they
have the same factors in any order. Rules are those of Wilkinson & Rogers (1973) as R reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula.tree import Call, Chain, Constant, Name, Node, Unary, unparse

__all__ = ["Term", "expand", "grouping_factors", "summands", "write"]

Term: TypeAlias = tuple[str, ...]
max_terms = 10_000


def summands(node: Node) -> list[tuple[int, Node]]:
    """Split a side of a formula at its plus and minus signs into (sign, summand)."""
    if isinstance(node, Unary):
        sign = -1 if node.sign == "-" else 1
        return [(sign * inner, item) for inner, item in summands(node.operand)]
    if not (isinstance(node, Chain) and node.operators[0] in "+-"):
        return [(1, node)]
    signs = [1] + [-1 if operator == "-" else 1 for operator in node.operators]
    return [
        (sign * inner, item)
        for sign, operand in zip(signs, node.operands, strict=True)
        for inner, item in summands(operand)
    ]


def expand(parts: Sequence[tuple[int, Node]], intercept: bool = True) -> list[Term]:
    """Write out signed summands as terms: the intercept first, then by degree, then as written.

    >>> from bayou.formula.syntax import parse_expression
    >>> expand(summands(parse_expression("a * b - 1", ())))
    [('a',), ('b',), ('a', 'b')]
    """
    terms: dict[frozenset[str], Term] = {frozenset(): ()} if intercept else {}
    for sign, node in parts:
        if isinstance(node, Constant) and node.value in (0, 1) and not isinstance(node.value, bool | str):
            keep = (sign > 0) == (node.value == 1)
            found: list[Term] = [()]
        else:
            keep = sign > 0
            found = _terms(node)
        for term in found:
            if keep:
                terms.setdefault(frozenset(term), term)
            else:
                terms.pop(frozenset(term), None)
        _limit(len(terms))
    return sorted(terms.values(), key=len)


def write(terms: Sequence[Term]) -> str:
    """Write terms as text: "1 + x + x:z", or "0 + x" without an intercept."""
    head = "1" if () in terms else "0"
    return " + ".join([head, *(":".join(term) for term in terms if term)])


def grouping_factors(node: Node) -> list[tuple[str, ...]]:
    """Write out the right of a bar: `a/b` is a and a:b, `a:b` is itself."""
    match node:
        case Name(name):
            return [(name,)]
        case Call("C" | "factor", (Name(name),), ()):
            return [(name,)]
        case Chain(operands, operators) if set(operators) == {"/"}:
            found = grouping_factors(operands[0])
            for operand in operands[1:]:
                outer = tuple(dict.fromkeys(name for factors in found for name in factors))
                found += [_joined(outer, inner) for inner in grouping_factors(operand)]
            return found
        case Chain(operands, operators) if set(operators) == {":"}:
            found = grouping_factors(operands[0])
            for operand in operands[1:]:
                found = [_joined(left, right) for left in found for right in grouping_factors(operand)]
            return found
    raise FormulaError(
        f"`{unparse(node)}` cannot stand to the right of a bar: write a column, `a/b` (b within a) or "
        f"`a:b` (their combinations), and one bar for each factor."
    )


def _terms(node: Node) -> list[Term]:
    match node:
        case Name() | Call():
            return [(unparse(node),)]
        case Constant(1):
            return [()]
        case Unary():
            return expand(summands(node), intercept=False)
        case Chain(_, ("+" | "-", *_)):
            return expand(summands(node), intercept=False)
        case Chain((base, Constant(power)), ("^",)) if isinstance(power, int) and power >= 1:
            first = _terms(base)
            found = first
            for _ in range(min(power, len(first)) - 1):
                found = _unique(found + _products(found, first))
            return found
        case Chain(operands, operators) if set(operators) <= set(_fold):
            found = _terms(operands[0])
            for operator, operand in zip(operators, operands[1:], strict=True):
                found = _unique(_fold[operator](found, _terms(operand)))
            return found
    raise FormulaError(f"`{unparse(node)}` is not a term; arithmetic on columns goes inside I(…), for example I(x^2).")


def _nested(left: list[Term], right: list[Term]) -> list[Term]:
    outer = tuple(dict.fromkeys(factor for term in left for factor in term))
    return left + _products([outer], right)


def _products(left: list[Term], right: list[Term]) -> list[Term]:
    _limit(len(left) * len(right))
    return [_joined(a, b) for a in left for b in right]


_fold: dict[str, Callable[[list[Term], list[Term]], list[Term]]] = {
    ":": _products,
    "%in%": _products,
    "*": lambda left, right: left + right + _products(left, right),
    "/": _nested,
}


def _joined(left: Term, right: Term) -> Term:
    return tuple(dict.fromkeys(left + right))


def _unique(terms: list[Term]) -> list[Term]:
    found: dict[frozenset[str], Term] = {}
    for term in terms:
        found.setdefault(frozenset(term), term)
    _limit(len(found))
    return list(found.values())


def _limit(count: int) -> None:
    if count > max_terms:
        raise UnsafeFormula(f"the formula has more than {max_terms:,} terms when written out.")

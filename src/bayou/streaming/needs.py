"""What has to be learnt of each column before rows can be coded one block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayou.design.evaluate import constant
from bayou.design.transforms import settings_of
from bayou.errors import FormulaError, Unsupported
from bayou.formula import Formula, known_functions
from bayou.formula.syntax import parse_expression
from bayou.formula.terms import grouping_factors
from bayou.formula.tree import Bars, Call, Chain, Items, Name, Node, Unary, names_of, unparse
from bayou.streaming.states import GroupMeans, Learner, learner

__all__ = ["Needs", "Stateful", "needs_of"]

_stateful = frozenset({"center", "scale", "standardize", "poly", "bs"})


@dataclass(frozen=True, eq=False)
class Stateful:
    """A call of a function that remembers: its text, its argument, and its learner."""

    text: str
    argument: str
    learner: Learner | GroupMeans


@dataclass(frozen=True, eq=False)
class Needs:
    """What to learn.

    Attributes
    ----------
    columns : tuple of str
        Every column that is used.
    levels : tuple of str
        Columns whose values are levels whatever kind they have.
    groups : tuple of tuple of str
        Factors whose combinations are needed.
    expressions : tuple of str
        Expressions whose values are levels, of C(x > 0).
    stateful : tuple of Stateful
    predictors : tuple of str
        Columns without those of the response.
    cells : tuple of str
        Columns whose combinations make the cells that rows may be summed in.
    few : dict of str to int
        Columns of which so many different values are needed, if there are so many.
    """

    columns: tuple[str, ...]
    levels: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    expressions: tuple[str, ...]
    stateful: tuple[Stateful, ...]
    predictors: tuple[str, ...]
    cells: tuple[str, ...]
    few: dict[str, int]


def needs_of(formula: Formula, weights: str | None, sigma_by: Sequence[str]) -> Needs:
    """Return what a formula needs to know of all rows.

    Raises
    ------
    FormulaError
        For settings of a function that cannot be.
    """
    known = known_functions | formula.functions
    texts = [*formula.response.expressions, formula.fixed, *(bar.columns for bar in formula.bars), *formula.offsets]
    nodes = [parse_expression(text, known, limited=False) for text in texts]
    calls = {unparse(call): call for node in nodes for call in _calls(node)}
    stateful = {text: _stateful_call(call) for text, call in calls.items() if call.function in _stateful}
    levels = [factor for bar in formula.bars for factor in bar.factors] + list(sigma_by)
    groups = [bar.factors for bar in formula.bars] + [tuple(sigma_by)]
    for term in formula.structured:
        levels += [*term.factors, *([term.column] if term.kind != "s" else [])]
        groups.append(term.factors)
    groups += [one.learner.by for one in stateful.values() if one is not None and isinstance(one.learner, GroupMeans)]
    expressions = []
    for call in calls.values():
        if call.function in ("C", "factor") and call.arguments:
            inner = call.arguments[0]
            if isinstance(inner, Name):
                levels.append(inner.name)
            elif any(one.function in _stateful for one in _calls(inner)):
                raise Unsupported(
                    f"`{unparse(call)}`: levels of what a function that remembers gives are not found in rows that "
                    "come in blocks; put the condition into a column of the data."
                )
            else:
                expressions.append(unparse(inner))
    levels += [name for group in groups for name in group]
    response = {name for node in nodes[: len(formula.response.expressions)] for name in names_of(node)}
    right = {name for node in nodes[len(formula.response.expressions) :] for name in names_of(node)}
    right |= set(levels) | {term.column for term in formula.structured}
    columns = tuple(dict.fromkeys([*formula.columns, *([] if weights is None else [weights]), *sigma_by]))
    cells = [factor for bar in formula.bars for factor in bar.factors] + list(sigma_by)
    cells += [name for term in formula.structured for name in term.columns]
    return Needs(
        columns=columns,
        levels=tuple(dict.fromkeys(levels)),
        groups=tuple(dict.fromkeys(group for group in groups if len(group) > 1)),
        expressions=tuple(dict.fromkeys(expressions)),
        stateful=tuple(one for one in stateful.values() if one is not None),
        predictors=tuple(name for name in columns if name in right or name not in response),
        cells=tuple(dict.fromkeys(cells)),
        few={term.column: int(str(term.settings["basis"])) for term in formula.structured if term.kind == "s"},
    )


def _calls(node: Node) -> list[Call]:
    """Return the calls in a tree, inner ones first."""
    match node:
        case Call(_, arguments, options):
            inside = [call for child in [*arguments, *(value for _, value in options)] for call in _calls(child)]
            return [*inside, node]
        case Chain(operands, _) | Items(operands):
            return [call for child in operands for call in _calls(child)]
        case Unary(_, operand):
            return _calls(operand)
        case Bars(columns, factor, _, _):
            return _calls(columns) + _calls(factor)
    return []


def _stateful_call(node: Call) -> Stateful | None:
    if not node.arguments:
        return None  # refused where it is evaluated
    text, argument, options = unparse(node), unparse(node.arguments[0]), dict(node.options)
    if node.function == "center" and "by" in options:
        by = grouping_factors(options["by"])
        if len(by) != 1:
            raise FormulaError(f"`{text}`: by= takes one factor, g or a:b.")
        return Stateful(text, argument, GroupMeans(by[0]))
    settings = settings_of(
        node.function,
        tuple(constant(item) for item in node.arguments[1:]),
        {name: constant(value) for name, value in options.items()},
    )
    found = learner(node.function, settings, text)
    return None if found is None else Stateful(text, argument, found)


"""Structured effects in a formula: which there are, what they are of, and the options that each takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bayou.errors import FormulaError
from bayou.formula.terms import expand, grouping_factors, summands, write
from bayou.formula.tree import Bars, Call, Constant, Name, Node, Unary, unparse
from bayou.formula.words import did_you_mean, listing

__all__ = ["Reference", "Structured", "check_distinct", "read_structured", "structured_functions"]

_all_options = {"cyclic": False, "scale": False, "constrained": False, "period": None}
_all_options |= {"basis": None, "degree": None, "order": None}
_fixed_by_kind: dict[str, dict[str, object]] = {
    "rw1": {"scale": True, "constrained": True, "order": 1},
    "rw2": {"scale": True, "constrained": True, "order": 2},
    "ar1": {},
    "seasonal": {"scale": True, "constrained": True},
    "s": {"scale": True, "constrained": True, "basis": 20, "degree": 3, "order": 2},
    "icar": {"scale": True, "constrained": True},
    "car": {},
    "leroux": {},
    "bym2": {"scale": True, "constrained": True},
    "known": {},
}
_allowed: dict[str, tuple[str, ...]] = {
    "rw1": ("cyclic", "period", "scale", "constrained"),
    "rw2": ("cyclic", "period", "scale", "constrained"),
    "ar1": (),
    "seasonal": ("period", "scale", "constrained"),
    "s": ("basis", "degree", "order", "scale", "constrained"),
    "icar": ("graph", "scale"),
    "car": ("graph",),
    "leroux": ("graph",),
    "bym2": ("graph", "scale"),
    "known": ("covariance", "precision"),
}
_references = ("graph", "covariance", "precision")
_whole = {"basis": (2, 10_000), "degree": (1, 5), "order": (1, 3)}
structured_functions = frozenset(_allowed) - {"known"}


@dataclass(frozen=True)
class Reference:
    """The name of an object that is given beside the data, in ``structures=``."""

    name: str


@dataclass(frozen=True)
class Structured:
    """One structured effect, as the formula says it.

    Attributes
    ----------
    kind : str
        "rw1", "rw2", "ar1", "seasonal", "s", "icar", "car", "leroux", "bym2", or "known" for
        ``(1 | animal, covariance=A)``.
    column : str
        The column of times, of x, of areas or of levels.
    by : str or None
        The factor with one copy of the effect per level; "a:b" for combinations.
    options : tuple of (str, object)
        The options as given, without ``by``; a `Reference` where an object is named.
    text : str
        The term in canonical text.
    factors : tuple of str
        The columns of `by`.
    """

    kind: str
    column: str
    by: str | None
    options: tuple[tuple[str, object], ...]
    text: str
    factors: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, object]:
        """Every option that is no reference, with the defaults of the kind."""
        given = {name: value for name, value in self.options if not isinstance(value, Reference)}
        return {**_all_options, **_fixed_by_kind[self.kind], **given}

    @property
    def reference(self) -> tuple[str, str] | None:
        """The option that names an object, and the name: ("graph", "W")."""
        found = [(option, value.name) for option, value in self.options if isinstance(value, Reference)]
        return found[0] if found else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that it reads."""
        return (self.column, *self.factors)


def read_structured(node: Call | Bars) -> Structured:
    """Read ``rw1(t, cyclic=TRUE)`` or ``(1 | animal, covariance=A)``.

    Raises
    ------
    FormulaError
        For anything but one column, and for options that the effect does not take.

    Examples
    --------
    >>> from bayou.formula.syntax import parse_expression
    >>> read_structured(parse_expression("bym2(area, graph=W)", {"bym2"})).reference
    ('graph', 'W')
    """
    text = unparse(node)
    kind = "known" if isinstance(node, Bars) else node.function
    column = _grouped(node, text) if isinstance(node, Bars) else _only_column(node, text)
    factors: tuple[str, ...] = ()
    options: list[tuple[str, object]] = []
    for name, value in node.options:
        if name == "by":
            factors = _factors(value, text)
        elif name in _allowed[kind]:
            options.append((name, _value(name, value, kind, text)))
        else:
            known = [*_allowed[kind], "by"]
            raise FormulaError(
                f"`{text}` has no option `{name}`.{did_you_mean(name, known)} Options here: {listing(known)}."
            )
    if column in factors:
        raise FormulaError(f"`{text}`: by={column} makes one copy per value of its own column; name another factor.")
    read = Structured(kind, column, ":".join(factors) or None, tuple(options), text, factors)
    _check_together(read)
    return read


def _only_column(node: Call, text: str) -> str:
    match node.arguments:
        case (Name(name),):
            return name
        case (Call("C" | "factor", (Name(name),), ()),) if "graph" in _allowed[node.function]:
            return name
        case (_, Name(second), *_) if "graph" in _allowed[node.function]:
            raise FormulaError(f"`{text}`: name the graph as an option, graph={second}.")
    example = f"{node.function}(area, graph=W)" if "graph" in _allowed[node.function] else f"{node.function}(t)"
    raise FormulaError(
        f"`{text}` takes one column and options by name, as in {example}; an expression goes into a column of the "
        "data first."
    )


def _grouped(node: Bars, text: str) -> str:
    found = grouping_factors(node.factor)
    if len(found) != 1 or len(found[0]) != 1:
        raise FormulaError(f"`{text}`: a known covariance belongs to the levels of one column: (1 | animal, …).")
    if write(expand(summands(node.columns))) != "1":
        raise FormulaError(
            f"`{text}`: a known covariance goes with an intercept alone, (1 | {found[0][0]}, …); slopes go in a bar "
            "of their own without it."
        )
    return found[0][0]


def _factors(value: Node, text: str) -> tuple[str, ...]:
    try:
        found = grouping_factors(value)
    except FormulaError:
        found = []
    if len(found) != 1:
        raise FormulaError(f"`{text}`: by= takes one factor, by=g or by=a:b, not `{unparse(value)}`.")
    return found[0]


def _value(name: str, node: Node, kind: str, text: str) -> object:
    if name in _references:
        if not isinstance(node, Name):
            raise FormulaError(
                f"`{text}`: {name}= takes a name, as in {name}=W, and the object itself goes in "
                f"structures={{'W': …}} beside the data."
            )
        return Reference(node.name)
    value = _literal(node)
    if name in ("cyclic", "scale", "constrained"):
        if not isinstance(value, bool):
            raise FormulaError(f"`{text}`: {name} must be True or False, not `{unparse(node)}`.")
        return value
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if name == "period" and kind != "seasonal":
        if not (math.isfinite(number) and number > 0.0):
            raise FormulaError(f"`{text}`: period must be a positive number, not `{unparse(node)}`.")
        return float(number)
    least, most = (2, 1_000_000) if name == "period" else _whole[name]
    if not (math.isfinite(number) and number == int(number) and least <= number <= most):
        raise FormulaError(f"`{text}`: {name} must be a whole number from {least} to {most:,}, not `{unparse(node)}`.")
    return int(number)


def _literal(node: Node) -> object:
    match node:
        case Constant(value):
            return value
        case Name("T" | "F" as letter):
            return letter == "T"
        case Unary(sign, Constant(value)) if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if sign == "-" else value
    return None


def _check_together(term: Structured) -> None:
    """Refuse options that contradict each other, and the lack of one that is needed."""
    given = [name for name, _ in term.options]
    settings = term.settings
    if "graph" in _allowed[term.kind] and "graph" not in given:
        raise FormulaError(
            f"`{term.text}` needs a graph: {term.kind}({term.column}, graph=W), with structures={{'W': …}} beside "
            "the data."
        )
    if term.kind == "known" and len(set(given) & {"covariance", "precision"}) != 1:
        raise FormulaError(f"`{term.text}` needs one of covariance= and precision=.")
    if term.kind == "seasonal" and "period" not in given:
        raise FormulaError(f"`{term.text}` needs the number of seasons: seasonal({term.column}, period=12).")
    if "period" in given and term.kind in ("rw1", "rw2") and not settings["cyclic"]:
        raise FormulaError(f"`{term.text}`: period= is the length of a cycle; add cyclic=True.")
    basis, degree, order = (settings[name] for name in ("basis", "degree", "order"))
    if term.kind == "s" and isinstance(basis, int) and isinstance(degree, int) and isinstance(order, int):
        least = max(degree, order) + 1
        if basis < least:
            raise FormulaError(f"`{term.text}`: degree={degree} and order={order} need basis={least} or more.")


def check_distinct(terms: Sequence[Structured]) -> None:
    """Refuse the same structured effect a second time.

    Raises
    ------
    FormulaError
        Naming it.
    """
    seen: dict[tuple[object, ...], str] = {}
    for term in terms:
        key = (term.kind, term.column, frozenset(term.factors), frozenset(term.settings.items()), term.reference)
        if key in seen:
            raise FormulaError(f"`{term.text}` stands in the formula twice; leave it out once.")
        seen[key] = term.text

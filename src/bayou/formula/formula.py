"""Formula text to a `Formula`: response, fixed part, offsets and bars. No data are touched here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula.structured import Structured, check_distinct, read_structured, structured_functions
from bayou.formula.syntax import parse_formula
from bayou.formula.terms import expand, grouping_factors, summands, write
from bayou.formula.tree import Bars, Call, Node, names_of, unparse

__all__ = ["Bar", "Formula", "Response", "arithmetic_functions", "known_functions", "parse", "structured_functions"]

_responses = frozenset({"proportion", "cbind", "measured"})
arithmetic_functions = frozenset(
    "log log2 log10 log1p exp expm1 sqrt abs sin cos tan tanh floor ceiling round sign".split()
)
column_functions = frozenset({"I", "C", "factor", "center", "scale", "standardize", "poly", "bs"})
contrast_functions = frozenset({"Treatment", "contr.treatment"})
known_functions = (arithmetic_functions | column_functions | contrast_functions | structured_functions | _responses) | {
    "offset"
}


@dataclass(frozen=True)
class Response:
    """The left side: one expression (plain), or two (proportion, cbind, measured)."""

    kind: str
    expressions: tuple[str, ...]

    @property
    def text(self) -> str:
        """The response as it is printed: ``y`` or ``proportion(y, n)``."""
        inside = ", ".join(self.expressions)
        return inside if self.kind == "plain" else f"{self.kind}({inside})"


@dataclass(frozen=True)
class Bar:
    """One bar, `a/b` already written out: columns that vary by the combinations of the factors."""

    columns: str
    correlated: bool
    factors: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Formula:
    """A formula taken apart; every part is canonical text inside the white list.

    Attributes
    ----------
    text : str
        The formula as the user wrote it.
    response : Response
    fixed : str
        The fixed part written out: "1 + x + z + x:z", "0 + x".
    offsets : tuple of str
        The expressions inside ``offset(…)``.
    bars : tuple of Bar
    structured : tuple of Structured
        Structured effects, such as ``rw1(t)``, and groups of known covariance.
    columns : tuple of str
        Every column that the formula reads, in order of appearance; not the graphs and matrices that it names.
    functions : frozenset of str
        Names of the caller's own functions.
    """

    text: str
    response: Response
    fixed: str
    offsets: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    structured: tuple[Structured, ...] = ()
    columns: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.text


def parse(text: str, functions: Collection[str] = ()) -> Formula:
    """Take formula text apart; nothing is evaluated.

    Parameters
    ----------
    text : str
        ``response ~ terms`` in lme4's language.
    functions : collection of str
        Names of further functions that the formula may call.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        When the text cannot be read; the message names the place.
    UnsafeFormula
        When the text holds something outside the white list, or passes a limit (10,000 characters,
        100 levels of nesting, 10,000 terms).

    References
    ----------
    Bates, Mächler, Bolker & Walker (2015), Journal of Statistical Software 67(1), section 2.1.

    Examples
    --------
    >>> formula = parse("y ~ x + (x | clinic/ward)")
    >>> formula.fixed
    '1 + x'
    >>> [(bar.columns, bar.factors) for bar in formula.bars]
    [('1 + x', ('clinic',)), ('1 + x', ('clinic', 'ward'))]
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula is text such as 'y ~ x + (1 | g)', not {type(text).__name__}.")
    _check_names(functions)
    left, right = parse_formula(text, known_functions | set(functions))
    fixed: list[tuple[int, Node]] = []
    offsets: list[str] = []
    bars: list[Bar] = []
    structured: list[Structured] = []
    for sign, node in summands(right):
        special = isinstance(node, Bars) or (
            isinstance(node, Call) and (node.function == "offset" or node.function in structured_functions)
        )
        if special and sign < 0:
            raise FormulaError(f"`- {unparse(node)}` cannot be taken away; leave it out.")
        if isinstance(node, Bars):
            if node.options:
                structured.append(read_structured(node))
            else:
                bars += _bars(node)
        elif isinstance(node, Call) and node.function in structured_functions:
            structured.append(read_structured(node))
        elif isinstance(node, Call) and node.function == "offset":
            offsets.append(unparse(_only_argument(node)))
        else:
            fixed.append((sign, node))
    for part in [left, *(node for _, node in fixed)]:
        _check_places(part, top=part is left)
    check_distinct(structured)
    columns = dict.fromkeys([*names_of(left), *names_of(right)])
    return Formula(
        text=text.strip() if "`" in text or '"' in text or "'" in text else " ".join(text.split()),
        response=_response(left),
        fixed=write(expand(fixed)),
        offsets=tuple(offsets),
        bars=tuple(bars),
        structured=tuple(structured),
        columns=tuple(columns),
        functions=frozenset(functions),
    )


def _bars(node: Bars) -> list[Bar]:
    _check_places(node.columns)
    columns = write(expand(summands(node.columns)))
    if columns == "0":
        raise FormulaError(f"{unparse(node)} has no column: write (1 | g) or (0 + x | g).")
    return [Bar(columns, node.correlated, factors, unparse(node)) for factors in grouping_factors(node.factor)]


def _response(node: Node) -> Response:
    if isinstance(node, Call) and node.function in _responses:
        if len(node.arguments) != 2 or node.options:
            meaning = {
                "proportion": "proportion(successes, trials)",
                "cbind": "cbind(successes, failures)",
                "measured": "measured(y, se)",
            }[node.function]
            raise FormulaError(f"`{unparse(node)}` needs two columns: write {meaning}.")
        return Response(node.function, tuple(unparse(item) for item in node.arguments))
    if not names_of(node):
        raise FormulaError(f"the response `{unparse(node)}` names no column.")
    return Response("plain", (unparse(node),))


def _only_argument(node: Call) -> Node:
    if len(node.arguments) != 1 or node.options:
        raise FormulaError(f"`{unparse(node)}` needs one expression: write offset(log(exposure)).")
    _check_places(node.arguments[0])
    return node.arguments[0]


def _check_places(node: Node, top: bool = False) -> None:
    """Refuse a bar, an offset, a response or a structured effect where it has no meaning."""
    match node:
        case Bars():
            raise FormulaError(f"`{unparse(node)}` can only be added to a formula: … + {unparse(node)}.")
        case Call(function, arguments, _):
            if function in _responses and not top:
                raise FormulaError(f"`{unparse(node)}` belongs to the left of `~`.")
            if function == "offset" or function in structured_functions:
                raise FormulaError(f"`{unparse(node)}` can only be added to the right of `~`: … + {unparse(node)}.")
            children = arguments
        case _:
            children = getattr(node, "operands", ()) or ((node.operand,) if hasattr(node, "operand") else ())
    for child in children:
        _check_places(child)


def _check_names(functions: Collection[str]) -> None:
    for name in functions:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise UnsafeFormula(f"{name!r} cannot be the name of a function; use letters and digits.")
        if name in known_functions - arithmetic_functions:
            raise FormulaError(f"the function name `{name}` is already taken; choose another.")

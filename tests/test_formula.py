"""The parser: what it understands, what it refuses, and that text and tree agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula import known_functions, parse
from bayou.formula.syntax import parse_expression
from bayou.formula.terms import expand, summands, write
from bayou.formula.tree import Call, Chain, Constant, Items, Name, Unary, unparse


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ 1", "1"),
        ("y ~ x", "1 + x"),
        ("y ~ 0 + x", "0 + x"),
        ("y ~ x - 1", "0 + x"),
        ("y ~ -1 + x", "0 + x"),
        ("y ~ x + 0 + 1", "1 + x"),
        ("y ~ a * b", "1 + a + b + a:b"),
        ("y ~ a / b", "1 + a + a:b"),
        ("y ~ b %in% a", "1 + b:a"),
        ("y ~ (a + b + c)^2", "1 + a + b + c + a:b + a:c + b:c"),
        ("y ~ (a + b)**2 - a:b", "1 + a + b"),
        ("y ~ a:b + b:a + a", "1 + a + a:b"),
        ("y ~ x:x + x", "1 + x"),
        ("y ~ (1 + x):g", "1 + g + x:g"),
        ("y ~ a * b * c - a:b:c", "1 + a + b + c + a:b + a:c + b:c"),
        ("y ~ I(x ** 2) + I(x^2)", "1 + I(x^2)"),
        ("y ~ poly(x,2,raw=TRUE)", "1 + poly(x, 2, raw=True)"),
        ("y ~ bs(x, knots = c(1, -2))", "1 + bs(x, knots=[1, -2])"),
        ("y ~ Sepal.Length + `body mass`", "1 + Sepal.Length + `body mass`"),
        ("y ~ x + offset(log(e))", "1 + x"),
        ("y ~ log(x)\n  + class", "1 + log(x) + class"),
    ],
)
def test_fixed_part_is_written_out(text, fixed):
    assert parse(text).fixed == fixed


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("(1 | g)", [("1", True, ("g",))]),
        ("(x | g)", [("1 + x", True, ("g",))]),
        ("(0 + x | g)", [("0 + x", True, ("g",))]),
        ("(x - 1 | g)", [("0 + x", True, ("g",))]),
        ("(1 + x || g)", [("1 + x", False, ("g",))]),
        ("(1 | a/b)", [("1", True, ("a",)), ("1", True, ("a", "b"))]),
        ("(1 | a/b/c)", [("1", True, ("a",)), ("1", True, ("a", "b")), ("1", True, ("a", "b", "c"))]),
        ("(1 | a:b)", [("1", True, ("a", "b"))]),
        ("(1 | a/b:c)", [("1", True, ("a",)), ("1", True, ("a", "b", "c"))]),
        ("((1 | g) + (0 + x | h))", [("1", True, ("g",)), ("0 + x", True, ("h",))]),
        ("(1 | factor(g))", [("1", True, ("g",))]),
        ("(poly(t, 2) * z | `a b`)", [("1 + poly(t, 2) + z + poly(t, 2):z", True, ("a b",))]),
    ],
)
def test_bars(text, bars):
    found = parse(f"y ~ {text}").bars
    assert [(bar.columns, bar.correlated, bar.factors) for bar in found] == bars


def test_parts():
    formula = parse("cbind(s, n - s) ~ x + offset(log(e)) + offset(z) + (1 | g) + rw1(t)")
    assert formula.response.kind == "cbind"
    assert formula.response.text == "cbind(s, n - s)"
    assert formula.offsets == ("log(e)", "z")
    assert [effect.text for effect in formula.structured] == ["rw1(t)"]
    assert formula.columns == ("s", "n", "x", "e", "z", "g", "t")
    assert parse("proportion(y, 10) ~ 1").response.expressions == ("y", "10")
    assert parse("measured(y, se) ~ 1").response.kind == "measured"
    assert parse("y1 + y2 ~ 1").response.text == "y1 + y2"
    assert parse("y ~ (1 | animal, covariance = A)").structured[0].text == "(1 | animal, covariance=A)"
    assert parse('y ~ C(x, Treatment("b")) + center(z, by=g, at=m)').columns == ("y", "x", "z", "g", "m")


@pytest.mark.parametrize(
    "text",
    [
        "y ~ I(__import__('os').system('ls'))",
        "y ~ x.__class__",
        "y ~ x._private",
        "y ~ __builtins__",
        "y ~ lambda: 1",
        "y ~ I(lambda x: x)",
        "y ~ exec('1')",
        "y ~ os.system('ls')",
        "y ~ (x).real",
        "y ~ f(x).real",
        "y ~ x if x else z",
        "y ~ x; z",
        "y ~ x@z",
        "y ~ {x}",
        "y ~ I(x**9999)",
        "y ~ (a + b)^9999",
        "y ~ I(2^x^3)",
        "y ~ I(9**9**9)",
        "y ~ " + "(" * 200 + "x" + ")" * 200,
        "y ~ " + "-" * 200 + "x",
        "y ~ " + "log(" * 200 + "x" + ")" * 200,
        "y ~ x" + " " * 10_000,
        "y ~ (" + " + ".join(f"x{i}" for i in range(300)) + ")^3",
        "y ~ " + "*".join(f"x{i}" for i in range(40)),
        "y ~ I(" + "9" * 400 + ")",
        "y ~ x\0",
        "y ~ $x",
    ],
)
def test_unsafe(text):
    with pytest.raises(UnsafeFormula):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("y x", "~"),
        ("y", "~"),
        ("~ x", "no response"),
        ("y ~ x ~ z", "`~`"),
        ("y ~", "stops"),
        ("y ~ x +", "stops"),
        ("y ~ x z", "`z`"),
        ("y ~ (x", "stops"),
        ("y ~ x)", "`)`"),
        ("y ~ lgo(x)", "Did you mean `log`"),
        ("y ~ ofset(x)", "Did you mean `offset`"),
        ("y ~ 1 | g", "parentheses"),
        ("y ~ (x | g) | h", "parentheses"),
        ("y ~ (x || g", "stops"),
        ("y ~ (0 | g)", "no column"),
        ("y ~ (1 | g + h)", "one bar for each factor"),
        ("y ~ (1 | log(g))", "right of a bar"),
        ("y ~ (1 | (1 | g))", "right of a bar"),
        ("y ~ ((1 | g) | h)", "can only be added"),
        ("y ~ x * (1 | g)", "can only be added"),
        ("y ~ x - (1 | g)", "taken away"),
        ("y ~ x - offset(z)", "taken away"),
        ("y ~ (offset(x) | g)", "can only be added"),
        ("y ~ offset(x, z)", "one expression"),
        ("y ~ 2 * x", "I(…)"),
        ("y ~ x^2.5", "I(…)"),
        ("y ~ 'a'", "I(…)"),
        ("y ~ x + 3", "I(…)"),
        ("y ~ x < 3", "I(…)"),
        ("y ~ 2x", "backquotes"),
        ("y ~ `x", "does not end"),
        ('y ~ C(x, "a)', "does not end"),
        ("y ~ .", "one by one"),
        ("y ~ proportion(a, b)", "left of `~`"),
        ("proportion(y) ~ x", "proportion(successes, trials)"),
        ("cbind(y, z, w) ~ x", "cbind(successes, failures)"),
        ("1 ~ x", "names no column"),
        ("(1 | y) ~ x", "can only be added"),
        ("y ~ I(1 < x < 3)", "chained"),
        ("y ~ poly(x, degree=2, 3)", "option by name"),
        ("y ~ poly(x, degree=2, degree=3)", "twice"),
        ("y ~ bs(x, knots=c(x, 2))", "list"),
        ("", "stops"),
    ],
)
def test_refused_with_a_reason(text, words):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_not_text():
    with pytest.raises(FormulaError, match="a formula is text"):
        parse(3)


def test_own_functions():
    assert parse("y ~ half(x)", ["half"]).fixed == "1 + half(x)"
    with pytest.raises(UnsafeFormula, match="not known"):
        parse("y ~ half(x)")
    with pytest.raises(FormulaError, match="already taken"):
        parse("y ~ x", ["offset"])
    with pytest.raises(UnsafeFormula):
        parse("y ~ x", ["a.b"])


def test_long_but_flat_formula():
    text = "y ~ " + " + ".join(f"x{i}" for i in range(1_200))
    assert parse(text).fixed.count("+") == 1_200


def test_deepest_allowed_nesting_within_deep_callers():
    text = "y ~ I(" + "(1 + " * 98 + "x" + ")" * 99

    def deep(level):
        return parse(text) if level == 0 else deep(level - 1)

    assert deep(300).columns == ("y", "x")


names = st.one_of(
    st.sampled_from(["x", "y1", "Sepal.Length", "größe", "class"]),
    st.text(min_size=1, max_size=6).filter(str.strip),
)


@st.composite
def trees(draw, depth=3):
    if depth == 0 or draw(st.booleans()):
        return draw(
            st.one_of(
                names.map(Name),
                st.integers(0, 10**6).map(Constant),
                st.floats(0, 1e6).map(Constant),
                st.booleans().map(Constant),
                st.text(max_size=4).map(Constant),
            )
        )
    kind = draw(st.sampled_from(["call", "chain", "power", "unary"]))
    inner = trees(depth=depth - 1)
    if kind == "call":
        function = draw(st.sampled_from(["log", "I", "poly", "C", "bs"]))
        options = {"raw": Constant(True), "knots": Items((Constant(1), Unary("-", Constant(2.5))))}
        chosen = draw(st.lists(st.sampled_from(sorted(options)), unique=True))
        return Call(function, (draw(inner),), tuple((name, options[name]) for name in chosen))
    if kind == "chain":
        group = draw(st.sampled_from([["+", "-"], ["*", "/"], [":"], ["%in%"]]))
        operators = tuple(draw(st.lists(st.sampled_from(group), min_size=1, max_size=3)))
        return Chain(tuple(draw(inner) for _ in range(len(operators) + 1)), operators)
    if kind == "power":
        return Chain((draw(inner), draw(st.integers(0, 9).map(Constant))), ("^",))
    return Unary("-", draw(inner))


@given(trees())
def test_text_and_tree_agree(tree):
    assert parse_expression(unparse(tree), known_functions) == tree


@given(st.text(alphabet="xyg01.~+-*/:^|()`'\"[], \\ %in_lambda=<>#é\0", max_size=40))
def test_any_text_parses_or_is_refused(text):
    try:
        formula = parse("y ~ " + text)
    except FormulaError:
        return
    again = parse_expression(formula.fixed, known_functions, limited=False)
    assert write(expand(summands(again))) == formula.fixed

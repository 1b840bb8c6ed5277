"""Structured effects in the formula language: what is read, what is refused."""

import pytest

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula import Reference, parse


def one(text):
    (effect,) = parse(f"y ~ x + {text}").structured
    return effect


@pytest.mark.parametrize(
    ("text", "kind", "column", "by", "options"),
    [
        ("rw1(t)", "rw1", "t", None, ()),
        ("rw2(t, cyclic=TRUE, period = 366)", "rw2", "t", None, (("cyclic", True), ("period", 366.0))),
        ("rw2(t, scale=F, constrained=False)", "rw2", "t", None, (("scale", False), ("constrained", False))),
        ("ar1(`the day`, by=id)", "ar1", "the day", "id", ()),
        ("seasonal(month, period=12)", "seasonal", "month", None, (("period", 12),)),
        ("s(x, basis=30, degree=2, order=1, by=a:b)", "s", "x", "a:b", (("basis", 30), ("degree", 2), ("order", 1))),
        ("icar(area, graph=W)", "icar", "area", None, (("graph", Reference("W")),)),
        ("car(factor(area), graph=W)", "car", "area", None, (("graph", Reference("W")),)),
        ("leroux(area, by=g, graph=`my map`)", "leroux", "area", "g", (("graph", Reference("my map")),)),
        ("bym2(area, graph=W, scale=FALSE)", "bym2", "area", None, (("graph", Reference("W")), ("scale", False))),
        ("(1 | animal, covariance=A)", "known", "animal", None, (("covariance", Reference("A")),)),
        ("(1 || animal, precision=P, by=year)", "known", "animal", "year", (("precision", Reference("P")),)),
    ],
)
def test_what_is_read(text, kind, column, by, options):
    effect = one(text)
    assert (effect.kind, effect.column, effect.by, effect.options) == (kind, column, by, options)
    # canonical text reads back as the same effect
    assert parse(f"y ~ {effect.text}").structured == (effect,)


def test_columns_are_those_of_the_data_alone():
    formula = parse("y ~ x + bym2(area, graph=W, by=g:h) + (1 | animal, covariance=A, by=u) + (1 | k) + s(`a b`)")
    assert formula.columns == ("y", "x", "area", "g", "h", "animal", "u", "k", "a b")
    assert formula.fixed == "1 + x"
    assert [bar.text for bar in formula.bars] == ["(1 | k)"]
    assert [effect.reference for effect in formula.structured] == [("graph", "W"), ("covariance", "A"), None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rw1(t)", {"order": 1, "cyclic": False, "scale": True, "constrained": True, "period": None}),
        ("rw2(t, cyclic=T)", {"order": 2, "cyclic": True}),
        ("s(x)", {"basis": 20, "degree": 3, "order": 2, "scale": True, "constrained": True}),
        ("seasonal(t, period=4)", {"period": 4, "scale": True}),
        ("ar1(t)", {"scale": False, "constrained": False, "order": None}),
        ("icar(a, graph=W)", {"scale": True, "constrained": True}),
        ("leroux(a, graph=W)", {"scale": False, "constrained": False}),
    ],
)
def test_defaults(text, expected):
    settings = one(text).settings
    assert expected.items() <= settings.items()
    assert set(settings) == {"cyclic", "scale", "constrained", "period", "basis", "degree", "order"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "rw1(t, cycle=T)",
            "no option `cycle`. Did you mean `cyclic`? Options here: cyclic, period, scale, constrained, by",
        ),
        ("car(a, graph=W, scale=F)", "no option `scale`. Options here: graph, by"),
        ("(1 | g, foo=W)", "Options here: covariance, precision, by"),
        ("rw1(t, cyclic=1)", "cyclic must be True or False, not `1`"),
        ("rw1(t, cyclic='yes')", 'cyclic must be True or False, not `"yes"`'),
        ("rw1(t, period=12)", "add cyclic=True"),
        ("rw1(t, cyclic=T, period=-1)", "period must be a positive number, not `-1`"),
        ("rw1(t, cyclic=T, period=T)", "period must be a positive number"),
        ("seasonal(t)", "needs the number of seasons: seasonal(t, period=12)"),
        ("seasonal(t, period=1)", "whole number from 2"),
        ("seasonal(t, period=2.5)", "whole number from 2"),
        ("s(x, basis=3)", "degree=3 and order=2 need basis=4 or more"),
        ("s(x, basis=x)", "basis must be a whole number"),
        ("s(x, degree=0)", "degree must be a whole number from 1 to 5"),
        ("s(x, order=[1])", "order must be a whole number from 1 to 3"),
        ("s(log(x))", "takes one column and options by name"),
        ("rw1()", "takes one column"),
        ("rw1(t, u)", "takes one column"),
        ("rw1(C(t))", "takes one column"),
        ("icar(area)", "needs a graph: icar(area, graph=W)"),
        ("icar(area, W)", "graph=W"),
        ("icar(area, graph='W')", "structures={'W': …}"),
        ("rw1(t, by=t)", "name another factor"),
        ("rw1(t, by=a + b)", "by= takes one factor"),
        ("rw1(t, by=a/b)", "by= takes one factor"),
        ("rw1(t, by=2)", "by= takes one factor"),
        ("(x | g, covariance=A)", "an intercept alone, (1 | g, …)"),
        ("(1 | a/b, covariance=A)", "the levels of one column"),
        ("(1 | a:b, covariance=A)", "the levels of one column"),
        ("(1 | g, covariance=A, precision=P)", "one of covariance= and precision="),
        ("(1 | g, by=h)", "one of covariance= and precision="),
        ("rw1(t) + rw1(t)", "twice"),
        ("s(x) + s(x, basis=20)", "twice"),
        ("leroux(a, by=g:h, graph=W) + leroux(a, by=h:g, graph=W)", "twice"),
        ("x:rw1(t)", "can only be added"),
        ("I(rw1(t))", "can only be added"),
        ("(rw1(t) | g)", "can only be added"),
        ("x - rw1(t)", "cannot be taken away"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(FormulaError) as caught:
        parse(f"y ~ {text}")
    assert words in str(caught.value)


def test_the_white_list_holds_within_options():
    with pytest.raises(UnsafeFormula):
        parse("y ~ icar(a, graph=__import__('os'))")
    with pytest.raises(UnsafeFormula):
        parse("y ~ icar(a, graph=open('f'))")
    with pytest.raises(UnsafeFormula, match="Did you mean `rw2`"):
        parse("y ~ rw3(t)")
    with pytest.raises(FormulaError, match="already taken"):
        parse("y ~ x", {"leroux"})


def test_a_column_may_bear_the_name_of_an_effect():
    formula = parse("cbind(s, car) ~ ar1 + ar1(seasonal)")
    assert formula.columns == ("s", "car", "ar1", "seasonal")
    assert formula.fixed == "1 + ar1"

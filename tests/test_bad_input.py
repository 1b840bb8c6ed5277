"""Bad input is refused before any sampling, by a `BayouError` that names the thing and says what to do.

Each case is a call on a small sound data set with one thing wrong, the error it must raise, and the pieces that
its message must contain. An error of pandas, formulaic or narwhals that escapes fails the case, as does a
chain that starts.
"""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bayou
from bayou.engines import Gibbs, Metropolis
from bayou.engines.chains import ChainEngine
from bayou.errors import (
    BayouError,
    DataError,
    FileError,
    FormulaError,
    ImproperPosterior,
    PriorError,
    UnsafeFormula,
    Unsupported,
)
from bayou.priors import LKJ, Flat, FlatSD, Gamma, HalfNormal, InverseWishart, Jeffreys, Normal, Uniform

Y = "y ~ x + (1 | g)"
K = "k ~ x + (1 | g)"
P = "proportion(k, size) ~ x + (1 | g)"
FLAT = {"beta": Flat(), "sd": FlatSD(), "sigma": Flat()}


def sound():
    rng = np.random.default_rng(1)
    n = 40
    data = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "g": np.repeat(list("abcdefgh"), 5)})
    data["k"] = rng.poisson(3, n)
    data["size"], data["w"], data["t"] = 12, 1.0, np.tile(["u", "v", "w", "z"], 10)
    data["half"] = (data["y"] > 0).astype(int)
    return data


def put(column, rows, value):
    """The sound data with a value in some rows of a column."""
    data = sound()
    kind = object if value is None or isinstance(value, str) else float
    data[column] = data[column].astype(kind)
    data.loc[rows, column] = value
    return data


def fit(formula=Y, data=None, *args, **settings):
    return bayou.fit(formula, sound() if data is None else data, *args, **settings)


def having(**columns):
    return sound().assign(**columns)


def twice(column):
    data = sound()
    return pd.concat([data, data[[column]]], axis=1)


@pytest.fixture(autouse=True)
def nothing_is_sampled(monkeypatch):
    def start(*arguments):
        pytest.fail("a chain was started")

    monkeypatch.setattr(ChainEngine, "_chain", start)


def refuses(call, error, *pieces):
    """The call raises exactly this kind of error, and its message contains every piece."""
    with pytest.raises(BayouError) as caught:
        call()
    assert isinstance(caught.value, error), f"{type(caught.value).__name__}: {caught.value}"
    for piece in pieces:
        assert piece in str(caught.value), f"{piece!r} is not in {str(caught.value)!r}"


def case(name, call, error, *pieces):
    return pytest.param(call, error, pieces, id=name)


NAMES = [
    case("column", lambda: fit("y ~ xx + (1 | g)"), FormulaError, "`xx`", "Did you mean `x`?"),
    case("capital", lambda: fit("y ~ X + (1 | g)"), FormulaError, "`X`", "Did you mean `x`?"),
    case("response", lambda: fit("yy ~ x + (1 | g)"), FormulaError, "`yy`", "Did you mean `y`?"),
    case("group", lambda: fit("y ~ x + (1 | gg)"), FormulaError, "`gg`", "Columns: y, x, g"),
    case("slope", lambda: fit("y ~ x + (xx | g)"), FormulaError, "`xx`", "Did you mean `x`?"),
    case("nested group", lambda: fit("y ~ x + (1 | g/zz)"), FormulaError, "`zz`", "Columns: y, x, g"),
    case("offset", lambda: fit("k ~ x + offset(log(sise))", None, "poisson"), FormulaError, "`sise`", "`size`"),
    case("center by", lambda: fit("y ~ center(x, by=gg)"), FormulaError, "`gg`", "Columns"),
    case("trials", lambda: fit("proportion(k, sise) ~ x", None, "binomial"), FormulaError, "`sise`", "`size`"),
    case("weights", lambda: fit(weights="ww"), FormulaError, "`ww`", "Did you mean `w`?"),
    case("sigma_by", lambda: fit(sigma_by="tt"), FormulaError, "`tt`", "Did you mean `t`?"),
    case("function", lambda: fit("y ~ lgo(x)"), UnsafeFormula, "`lgo`", "Did you mean `log`?", "functions={"),
    case("setting of poly", lambda: fit("y ~ poly(x, 2, rw=True)"), FormulaError, "`rw`", "`raw`"),
    case("family", lambda: fit(K, None, "poison"), Unsupported, "'poison'", "poisson"),
    case("family None", lambda: fit(K, None, None), Unsupported, "None", "gaussian"),
    case("family class", lambda: fit(K, None, bayou.families.Poisson), Unsupported, "Poisson", "gaussian"),
    case("link", lambda: bayou.families.Bernoulli(link="loggit"), Unsupported, "'loggit'", "logit"),
    case("engine", lambda: fit(engine="gibs"), Unsupported, "'gibs'", "Did you mean 'gibbs'?"),
    case("unknown engine", lambda: fit(engine="stan"), Unsupported, "'stan'", "metropolis"),
    case("engine None", lambda: fit(engine=None), Unsupported, "NoneType", "metropolis"),
    case("engine class", lambda: fit(engine=Gibbs), Unsupported, "bayou.engines.Gibbs(draws=2000)"),
    case("setting", lambda: fit(drawz=10), Unsupported, "'drawz'", "Did you mean 'draws'?"),
    case("argument", lambda: fit(prior=FLAT), Unsupported, "'prior'", "not a setting"),
    case("proposal", lambda: Metropolis(proposal="rw"), Unsupported, "'rw'", "'random_walk'"),
    case("parameterization", lambda: Gibbs(parameterization="centred"), Unsupported, "'centred'", "centered"),
    case("missing=", lambda: fit(missing="ignore"), DataError, "'ignore'", "missing='drop'"),
    case("data set", lambda: bayou.datasets.load("clinc"), DataError, "'clinc'", "Did you mean `clinic`?"),
    case("contrast", lambda: fit("y ~ C(t, Helmrt)"), FormulaError, "`Helmrt`", "Helmert"),
    case("reference level", lambda: fit("y ~ C(t, Treatment('q'))"), FormulaError, "q is not a level", "u, v, w, z"),
]

VALUES = [
    case("missing y", lambda: fit(Y, put("y", [3, 7], np.nan)), DataError, "`y`", "row 3, 7", "missing='drop'"),
    case("missing x", lambda: fit(Y, put("x", [3], np.nan)), DataError, "`x`", "row 3", "missing='drop'"),
    case("missing group", lambda: fit(Y, put("g", [3], None)), DataError, "`g`", "row 3", "missing='drop'"),
    case("missing level", lambda: fit("y ~ t", put("t", [1, 2], None)), DataError, "`t`", "row 1, 2"),
    case("missing weight", lambda: fit(Y, put("w", [3], np.nan), weights="w"), DataError, "`w`", "row 3"),
    case("missing sigma_by", lambda: fit(Y, put("t", [3], None), sigma_by="t"), DataError, "`t`", "row 3"),
    case("polars null", lambda: fit(Y, pl.from_pandas(put("y", [3], np.nan))), DataError, "`y`", "row 3"),
    case("arrow null", lambda: fit(Y, pa.Table.from_pandas(put("y", [3], np.nan))), DataError, "`y`", "row 3"),
    case("all missing", lambda: fit(Y, having(y=np.nan), missing="drop"), DataError, "no row is complete", "`y`"),
    case("infinite y", lambda: fit(Y, put("y", [3], np.inf)), DataError, "`y`", "infinite", "row 3"),
    case("infinite x", lambda: fit(Y, put("x", [3], -np.inf)), DataError, "`x`", "infinite", "row 3"),
    case("infinite weight", lambda: fit(Y, put("w", [4], np.inf), weights="w"), DataError, "`w`", "infinite", "row 4"),
    case("log of 0", lambda: fit("y ~ log(w)", put("w", [5], 0)), DataError, "`log(w)`", "row 5", "w = 0"),
    case("log of y", lambda: fit("log(w) ~ x", put("w", [5], -1)), DataError, "`log(w)`", "row 5", "w = -1"),
    case("exposure 0", lambda: fit("k ~ offset(log(w))", put("w", [5], 0), "poisson"), DataError, "`log(w)`", "row 5"),
    case("negative count", lambda: fit(K, put("k", [4], -1), "poisson"), DataError, "negative", "row 4 has -1"),
    case("fractional count", lambda: fit(K, put("k", [4], 1.5), "poisson"), DataError, "whole", "row 4 has 1.5"),
    case("fraction, nb", lambda: fit(K, put("k", [4], 1.5), "negative_binomial"), DataError, "row 4 has 1.5"),
    case("above trials", lambda: fit(P, put("k", [4], 13), "binomial"), DataError, "more successes", "row 4 has 13"),
    case("half a success", lambda: fit(P, put("k", [4], 1.5), "binomial"), DataError, "whole", "row 4 has 1.5"),
    case("negative failures", lambda: fit("cbind(k, w) ~ x", having(w=-1), "binomial"), DataError, "`w`", "negative"),
    case("counts, no trials", lambda: fit(K, None, "binomial"), DataError, "`k`", "proportion(successes, trials)"),
    case("proportion, poisson", lambda: fit(P, None, "poisson"), FormulaError, "proportion(k, size)", "'binomial'"),
    case("proportion, gaussian", lambda: fit(P), FormulaError, "proportion(k, size)", "family='binomial'"),
    case("measured, poisson", lambda: fit("measured(k, w) ~ x", None, "poisson"), FormulaError, "family='gaussian'"),
    case("standard error 0", lambda: fit("measured(y, w) ~ x", put("w", [2], 0)), DataError, "`w`", "row 2"),
    case("gamma 0", lambda: fit(Y, having(y=np.r_[0, np.ones(39)]), "gamma"), DataError, "greater than zero", "row 0"),
    case("four levels", lambda: fit("t ~ x", None, "bernoulli"), DataError, "`t`", "4 levels (u, v, w, z)"),
    case("one level", lambda: fit("t ~ x", having(t="u"), "bernoulli"), DataError, "`t`", "1 level (u)"),
    case("0, 1, 2", lambda: fit("k ~ x", put("k", [9], 2), "bernoulli"), DataError, "0 or 1", "has 2"),
    case("text response", lambda: fit("t ~ x"), DataError, "`t`", "text", "a number is needed"),
    case("log of text", lambda: fit("y ~ log(t)"), DataError, "`t`", "text", "a number is needed"),
    case("poly of text", lambda: fit("y ~ poly(t, 2)"), DataError, "`t`", "text"),
    case("text offset", lambda: fit("y ~ offset(t)"), DataError, "`t`", "text"),
    case("text weights", lambda: fit(weights="t"), DataError, "`t`", "text"),
    case("negative weight", lambda: fit(Y, put("w", [4], -1), weights="w"), DataError, "`w`", "positive", "row 4"),
    case("zero weight", lambda: fit(Y, put("w", [4], 0), weights="w"), DataError, "`w`", "row 4", "Leave rows"),
    case("short weights", lambda: fit(weights=[1.0, 2.0]), DataError, "(2,)", "40 rows"),
    case("mixed types", lambda: fit(Y, having(x=[1, "a"] * 20)), DataError, "`x`", "int (20), str (20)", "row 1, 3"),
    case("complex", lambda: fit(Y, having(x=np.ones(40) * 1j)), DataError, "`x`", "complex"),
    case("lists in cells", lambda: fit(Y, having(x=[[1, 2]] * 40)), DataError, "`x`", "list"),
    case("degree", lambda: fit("y ~ poly(x, 40)"), DataError, "poly(x, 40)", "distinct values", "40"),
    case("degree 0", lambda: fit("y ~ poly(x, 0)"), FormulaError, "poly(x, 0)", "degree"),
    case("constant slope", lambda: fit("y ~ x + (w | g)"), DataError, "`w`", "`g`", "(1 | g)"),
    case("sigma_by, poisson", lambda: fit(K, None, "poisson", sigma_by="t"), Unsupported, "poisson", "sigma_by="),
    case("gibbs, poisson", lambda: fit(K, None, "poisson", engine="gibbs"), Unsupported, "poisson", "'metropolis'"),
]

TABLES = [
    case("0 rows", lambda: fit(Y, sound()[:0]), DataError, "0 rows"),
    case("empty dict", lambda: fit(Y, {}), DataError, "0 rows"),
    case("0 columns", lambda: fit(Y, pd.DataFrame(index=range(3))), FormulaError, "no column `y`"),
    case("duplicate columns", lambda: fit(Y, twice("x")), DataError, "duplicate", "x", "Rename"),
    case("duplicates elsewhere", lambda: fit(Y, twice("t")), DataError, "duplicate", "t", "Rename"),
    case("unequal lengths", lambda: fit(Y, {"y": [1, 2], "x": [1], "g": [1, 2]}), DataError, "`x` 1", "`y` 2"),
    case("scalars", lambda: fit(Y, {"y": 1, "x": 2, "g": 3}), DataError, "`y`", "sequence"),
    case("two dimensions", lambda: fit(Y, {"y": np.zeros((4, 2)), "x": [1] * 4, "g": [1] * 4}), DataError, "`y`", "2"),
    case("list", lambda: fit(Y, [1, 2, 3]), DataError, "list", "a dict of columns"),
    case("array", lambda: fit(Y, np.zeros((3, 3))), DataError, "ndarray", "a dict of columns"),
    case("series", lambda: fit(Y, sound()["y"]), DataError, "Series", "pandas"),
    case("number", lambda: fit(Y, 7), DataError, "int", "pandas"),
    case("no data", lambda: bayou.fit(Y), DataError, "No data", "bayou.fit(formula, data"),
    case("no file", lambda: fit(Y, "nowhere.csv"), FileError, "nowhere.csv"),
    case("strange file", lambda: fit(Y, "table.xlsx"), FileError, "table.xlsx", ".csv"),
    case("columns of columns", lambda: fit(Y, sound().T.set_index([0, 1]).T), DataError, "flatten"),
    case("model and data", lambda: fit(bayou.Model(Y, sound())), DataError, "bound to its data", "alone"),
]

FORMULAS = [
    case("empty", lambda: fit(""), FormulaError, "''", "expected"),
    case("blank", lambda: fit("   "), FormulaError, "expected"),
    case("no tilde", lambda: fit("y + x"), FormulaError, "'y + x'", "response ~ terms"),
    case("two tildes", lambda: fit("y ~ x ~ g"), FormulaError, "`~`", "character 7"),
    case("no right side", lambda: fit("y ~ "), FormulaError, "expected"),
    case("no response", lambda: fit(" ~ x"), FormulaError, "no response", "y ~"),
    case("no factor", lambda: fit("y ~ x + (1 | )"), FormulaError, "character 14", "expected"),
    case("bar outside parentheses", lambda: fit("y ~ x + 1 | g"), FormulaError, "character 11", "(1 + x | group)"),
    case("open parenthesis", lambda: fit("y ~ x + (1 | g"), FormulaError, "`)`", "expected"),
    case("dangling plus", lambda: fit("y ~ x +"), FormulaError, "expected"),
    case("the same bar twice", lambda: fit("y ~ (1 | g) + (1 | g)"), FormulaError, "twice", "(1 | g)", "leave it out"),
    case("structured option", lambda: fit("y ~ rw1(x, cycle=T)"), FormulaError, "`cycle`", "Did you mean `cyclic`?"),
    case("graph not given", lambda: fit("y ~ icar(g, graph=W)"), FormulaError, "`W`", "structures={'W': …}"),
    case("structures", lambda: fit("y ~ icar(g, graph=W)", structures=[1]), DataError, "type list", "structures={"),
    case("walk of one point", lambda: fit("y ~ rw1(x)", sound().assign(x=1)), DataError, "`rw1(x)`", "at least 2"),
    case("walk in text", lambda: fit("y ~ rw1(g)"), DataError, "`rw1(g)`", "text"),
    case("import", lambda: fit("y ~ __import__('os').system('true')"), UnsafeFormula, "`__import__`"),
    case("method", lambda: fit("y ~ x.mean()"), UnsafeFormula, "`x.mean`"),
    case("module", lambda: fit("y ~ np.log(x)"), UnsafeFormula, "`np.log`", "Did you mean `log`?"),
    case("open in I", lambda: fit("y ~ I(open('f'))"), UnsafeFormula, "`open`"),
    case("open in the response", lambda: fit("open('f') ~ x"), UnsafeFormula, "`open`"),
    case("open in the group", lambda: fit("y ~ (1 | open('f'))"), BayouError, "open"),
    case("open in an offset", lambda: fit("y ~ offset(open('f'))"), UnsafeFormula, "`open`"),
    case("eval", lambda: fit("y ~ I(eval('1'))"), UnsafeFormula, "`eval`"),
    case("lambda", lambda: fit("y ~ (lambda: 1)()"), UnsafeFormula, "`lambda`"),
    case("braces", lambda: fit("y ~ {x + 1}"), UnsafeFormula, "'{'", "backquotes"),
    case("index", lambda: fit("y ~ x[0]"), FormulaError, "`[`"),
    case("power", lambda: fit("y ~ I(x**9999999)"), UnsafeFormula, "9999999", "100"),
    case("depth", lambda: fit("y ~ " + "(" * 500 + "x" + ")" * 500), UnsafeFormula, "100 deep"),
    case("length", lambda: fit("y ~ " + "+".join(["x"] * 20_000)), UnsafeFormula, "10,000"),
    case("NUL", lambda: fit("y ~ x\x00"), UnsafeFormula, "\\x00"),
    case("tilde of another alphabet", lambda: fit("y ∼ x"), UnsafeFormula, "∼", "character 3"),
    case("function that fails", lambda: fit("y ~ f(x)", functions={"f": lambda x: x / "a"}), FormulaError, "`f(x)`"),
    case("function too short", lambda: fit("y ~ f(x)", functions={"f": lambda x: x[:3]}), FormulaError, "(3,)", "40"),
]

PRIORS = [
    case("key", lambda: fit(priors={"bta": Normal(0, 1)}), PriorError, "'bta'", "Did you mean 'beta'?", "sd_g"),
    case("coefficient", lambda: fit(priors={"beta[z]": Normal(0, 1)}), PriorError, "'beta[z]'", "'beta[x]'"),
    case("factor", lambda: fit(priors={"sd_h": HalfNormal(1)}), PriorError, "'sd_h'", "Did you mean 'sd_g'?"),
    case("sigma, poisson", lambda: fit(K, None, "poisson", {"sigma": HalfNormal(1)}), PriorError, "'sigma'", "poisson"),
    case("number", lambda: fit(priors={"beta": 3}), PriorError, "'beta'", "Normal(0, 10)"),
    case("class", lambda: fit(priors={"beta": Flat}), PriorError, "'beta'", "Normal(0, 10)"),
    case("text", lambda: fit(priors="weak"), PriorError, "'weak'", "bayou.Priors"),
    case("list", lambda: fit(priors=[Normal(0, 1)]), PriorError, "bayou.Priors"),
    case("negative sd", lambda: Normal(0, -1), PriorError, "Normal", "sd", "-1"),
    case("nan", lambda: Normal(np.nan, 1), PriorError, "Normal", "mean", "nan"),
    case("words", lambda: Normal("a", 1), PriorError, "Normal", "mean", "'a'"),
    case("bounds", lambda: Uniform(2, 1), PriorError, "Uniform"),
    case("normal for an sd", lambda: fit(priors={"sd": Normal(0, 1)}), PriorError, "Normal(0, 1)", "sd", "HalfT"),
    case("LKJ for an sd", lambda: fit(priors={"sd": LKJ(1)}), PriorError, "LKJ(1)", "sd", "HalfT"),
    case("means", lambda: fit(priors={"beta": Normal([0, 0, 0], 1)}), PriorError, "3", "Intercept, x"),
    case(
        "Sigma and sd",
        lambda: fit("y ~ (x | g)", priors={"Sigma_g": InverseWishart(3, np.eye(2)), "sd_g": HalfNormal(1)}),
        PriorError, "Sigma_g", "sd_g", "not both",
    ),
    case(
        "size of Sigma", lambda: fit("y ~ (x | g)", priors={"Sigma": InverseWishart(4, np.eye(3))}), PriorError,
        "Sigma", "3 x 3", "2 coefficients",
    ),
    case("degrees of freedom", lambda: InverseWishart(0.5, np.eye(2)), PriorError, "df", "0.5"),
    case("indefinite", lambda: InverseWishart(4, [[1, 2], [2, 1]]), PriorError, "scale", "positive definite"),
    case("gamma rate", lambda: Gamma(1, 0), PriorError, "Gamma", "rate"),
    case("one group", lambda: fit(Y, having(g="a"), priors=FLAT), ImproperPosterior, "'g'", "1 of 1 levels", "HalfT"),
    case("two groups", lambda: fit(Y, sound()[:10], priors=FLAT), ImproperPosterior, "'g'", "2 of 2 levels", "HalfT"),
    case("group variance", lambda: fit(priors={"sd": Jeffreys()}), ImproperPosterior, "1/tau²", "FlatSD()"),
    case(
        "aliased columns", lambda: fit("y ~ x + x2 + (1 | g)", having(x2=2 * sound()["x"]), priors=FLAT),
        ImproperPosterior, "x2", "Rank-deficient", "Normal(0, 10)",
    ),
    case("constant column", lambda: fit("y ~ w", priors=FLAT), ImproperPosterior, "w does not vary", "Normal(0, 10)"),
    case("more columns than rows", lambda: fit("y ~ poly(x, 3, raw=True)", sound()[:3], priors=FLAT),
         ImproperPosterior, "poly(x, 3, raw=True)[3]", "3 usable rows for 4"),
    case("all counts 0", lambda: fit(K, having(k=0), "poisson", {"beta": Flat()}), ImproperPosterior, "all counts are 0"),
    case(
        "separation", lambda: fit("half ~ y", None, "bernoulli", {"beta": Flat()}), ImproperPosterior,
        "y separates", "Normal(0, 2.5)",
    ),
    case("constant y", lambda: fit(Y, having(y=1.0), priors=FLAT), ImproperPosterior, "y is constant", "sigma"),
    case(
        "a row a group, 1/sigma²", lambda: fit("y ~ (1 | i)", having(i=range(40)), priors={"sigma": Jeffreys()}),
        ImproperPosterior, "sigma", "40 − 40 = 0",
    ),
    case(
        "a row a group, flat", lambda: fit("y ~ (1 | i)", having(i=range(40)), priors=FLAT), PriorError, "'i'",
        "confounded", "measured(y, se)",
    ),
    case("drawing from flat", lambda: bayou.Model(Y, sound(), priors=FLAT).sample_prior(3), PriorError, "flat"),
    case(
        "unit information, no group", lambda: bayou.Priors.unit_information(bayou.Model("y ~ x", sound())), PriorError,
        "grouping factor", "(x | g)",
    ),
]  # fmt: skip

SETTINGS = [
    *(
        case(f"{name}={value!r}", lambda name=name, value=value: fit(**{name: value}), DataError, f"{name}={value!r}")
        for name, values in {
            "draws": (0, -1, 10.5, "100", True, None), "chains": (0, 1.5), "warmup": (-1,), "thin": (0,),
            "cores": (0, "two"), "keep_effects": ("maybe",), "seed": (-1, "a", 1.5),
        }.items()
        for value in values
    ),
    *(
        case(f"scale={value!r}", lambda value=value: Metropolis(scale=value), DataError, f"scale={value!r}", "'adapted'")
        for value in (0, -1, "auto", float("nan"))
    ),
]  # fmt: skip

OTHERS = [
    case("formula None", lambda: bayou.fit(None, sound()), FormulaError),
    case("formula number", lambda: bayou.fit(3, sound()), FormulaError),
    case("formula and data exchanged", lambda: bayou.fit(sound(), Y), FormulaError),
    case("sigma_by as a series", lambda: fit(sigma_by=sound()["t"]), DataError, "sigma_by"),
    case("endless scale", lambda: Metropolis(scale=float("inf")), DataError, "scale=inf"),
    case("negative prior draws", lambda: bayou.Model(Y, sound()).sample_prior(-3), DataError, "-3"),
    case("response on the right", lambda: fit("y ~ y + (1 | g)"), FormulaError, "`y`"),
    case("huge response", lambda: fit(Y, having(y=sound()["y"] * 1e300)), DataError, "`y`"),
    case("huge column", lambda: fit(Y, having(x=sound()["x"] * 1e300)), DataError, "x"),
]


@pytest.mark.parametrize(
    ("call", "error", "pieces"), [*NAMES, *VALUES, *TABLES, *FORMULAS, *PRIORS, *SETTINGS, *OTHERS]
)  # fmt: skip
def test_refused(call, error, pieces):
    refuses(call, error, *pieces)


@pytest.mark.parametrize(
    ("formula", "family", "value", "pieces"),
    [(K, "poisson", -1, ("`k`", "row 4")), (P, "binomial", 13, ("`k`", "row 4", "12"))],
)
def test_impossible_counts_name_their_column(formula, family, value, pieces):
    refuses(lambda: fit(formula, put("k", [4], value), family), DataError, *pieces)


def test_the_sound_data_do_reach_the_sampler():
    """Otherwise the cases above could pass for another reason than their own."""
    for formula, family in ((Y, "gaussian"), (K, "poisson"), (P, "binomial"), ("half ~ x", "bernoulli")):
        with pytest.raises(pytest.fail.Exception, match="a chain was started"):
            bayou.fit(formula, sound(), family=family, engine="metropolis")


@pytest.mark.parametrize(
    "text", ["", "y,x,g\n1,2\n\"3,4,5,6,7\n", "\x00\x01\x02", "y,x,g\n", "y,x,x,g\n1,2,3,a\n"],
    ids=["empty", "ragged", "binary", "header alone", "duplicates"],
)  # fmt: skip
def test_damaged_files(tmp_path, text):
    for name in ("data.csv", "data.parquet"):
        path = tmp_path / name
        path.write_text(text)
        refuses(lambda path=path: fit(Y, path), BayouError)


def test_errors_are_value_errors():
    assert issubclass(BayouError, ValueError)
    for error in (DataError, FileError, FormulaError, ImproperPosterior, PriorError, UnsafeFormula, Unsupported):
        assert issubclass(error, BayouError)


# ---- predictions and what else a fit is asked ------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    settings = {"seed": 1, "draws": 50, "warmup": 50, "chains": 2}
    return {
        "gaussian": bayou.fit("y ~ x + t + (x | g)", sound(), engine="gibbs", **settings),
        "spline": bayou.fit("y ~ bs(x, df=4) + (1 | g)", sound(), engine="gibbs", **settings),
        "binomial": bayou.fit(P, sound(), "binomial", **settings),
        "offset": bayou.fit("k ~ x + offset(log(size)) + (1 | g)", sound(), "poisson", **settings),
    }


def new(**columns):
    return pd.DataFrame({"x": [0.0, 0.5], "t": ["u", "v"], "g": ["a", "b"]}).assign(**columns)


def without(*columns):
    return new().drop(columns=list(columns))


def predicting(name, data, error, *pieces, model="gaussian", **options):
    return pytest.param(model, data, options, error, pieces, id=name)


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "pieces"),
    [
        predicting("unseen level", new(g=["a", "zz"]), DataError, "'g'", "zz", "groups='new'", "groups='population'"),
        predicting("missing level", new(g=["a", None]), DataError, "'g'", "(missing)", "groups='new'"),
        predicting("no group", without("g"), DataError, "'g'", "groups='marginal'"),
        predicting("no column", without("x"), DataError, "`x`", "Columns: t, g"),
        predicting("unseen category", new(t=["u", "q"]), DataError, "`t`", "q", "row 1", "Known: u, v, w, z"),
        predicting("missing x", new(x=[0, np.nan]), DataError, "`x`", "row 1"),
        predicting("infinite x", new(x=[0, np.inf]), DataError, "`x`", "infinite", "row 1"),
        predicting("text x", new(x=["a", "b"]), DataError, "`x`", "a number is needed"),
        predicting("0 rows", new()[:0], DataError, "0 rows"),
        predicting("list", [1, 2], DataError, "list", "a dict of columns"),
        predicting("no file", "nowhere.csv", FileError, "nowhere.csv"),
        predicting("kind", new(), DataError, "'response'", "'outcome'", kind="response"),
        predicting("groups", new(), DataError, "'none'", "'population'", groups="none"),
        predicting("interval 95", new(), DataError, "interval=95", "0.95", interval=95),
        predicting("interval nan", new(), DataError, "interval=nan", "0.95", interval=float("nan")),
        predicting("outside the knots", new(x=[0, 99]), DataError, "bs(x, df=4)", "99", "row 1", model="spline"),
        predicting("no trials", without("t"), DataError, "'size'", "kind='mean'", model="binomial", kind="outcome"),
        predicting("negative trials", new(size=[3, -4]), DataError, "trials", "row 1", model="binomial", kind="outcome"),
        predicting("half a trial", new(size=[3, 4.5]), DataError, "trials", "row 1", model="binomial", kind="outcome"),
        predicting("exposure 0", new(size=[3, 0]), DataError, "`log(size)`", "row 1", "size = 0", model="offset"),
        predicting("no exposure", new(), DataError, "`size`", "Columns", model="offset"),
    ],
)  # fmt: skip
def test_refused_predictions(fitted, model, data, options, error, pieces):
    refuses(lambda: fitted[model].predict(data, **options), error, *pieces)


ASKED = {
    "derive a stranger": (lambda f: f.derive("sd_h[Intercept]"), FormulaError, "sd_h[Intercept]", "sd_g[Intercept]"),
    "derive a call": (lambda f: f.derive("__import__('os')"), UnsafeFormula, "__import__"),
    "derive an attribute": (lambda f: f.derive("sigma.real"), UnsafeFormula, "real"),
    "derive nothing": (lambda f: f.derive(""), FormulaError, "''"),
    "factor": (lambda f: f.random_effects("h"), DataError, "'h'", "'g'"),
    "interval": (lambda f: f.summary(interval=1.5), DataError, "interval=1.5", "0.95"),
    "residuals": (lambda f: f.residuals(kind="deviance"), DataError, "'deviance'", "'pearson'"),
    "aic": (lambda f: f.aic, Unsupported, "AIC", "fit.loo()"),
    "log_marginal": (lambda f: f.log_marginal, Unsupported, "marginal"),
}


@pytest.mark.parametrize("name", ASKED)
def test_refused_questions(fitted, name):
    ask, error, *pieces = ASKED[name]
    refuses(lambda: ask(fitted["gaussian"]), error, *pieces)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: f.predict(new(), interval="95%"),
        lambda f: f.summary(interval="a"),
        lambda f: f.predict(new(), kind="outcome", seed="a"),
        lambda f: f.predict(new(), kind="outcome", seed=1.5),
        lambda f: f.derive(None),
        lambda f: f.save(None),
        lambda f: bayou.load(None),
        lambda f: bayou.compare(f, "another"),
        lambda f: bayou.pooling("y ~ x"),
    ],
    ids=["interval", "summary", "seed", "half a seed", "derive", "save", "load", "compare", "pooling"],
)  # fmt: skip
def test_refused_questions_of_the_wrong_type(fitted, ask):
    refuses(lambda: ask(fitted["gaussian"]), BayouError)


def test_refused_files(fitted, tmp_path):
    saved = fitted["gaussian"].save(tmp_path / "fit.nc")
    whole = saved.read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.nc").write_text("not a fit")
    for name in ("cut.nc", "other.nc", "absent.nc", "."):
        refuses(lambda name=name: bayou.load(tmp_path / name), FileError, str(tmp_path))
    refuses(lambda: fitted["gaussian"].save(tmp_path / "absent" / "fit.nc"), FileError, "absent", "folder")

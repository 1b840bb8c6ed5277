"""Bad input to structured effects, one test each: the message says what is wrong, where, and what to do."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import bayou
from bayou.errors import DataError, FormulaError, ImproperPosterior, PriorError, Unsupported
from bayou.priors import PC, Beta, Flat, Jeffreys, Normal, Uniform

AREAS = [f"a{k}" for k in range(6)]
RING = [(AREAS[k], AREAS[(k + 1) % 6]) for k in range(6)]
NEIGHBOURS = {area: [AREAS[(k + 1) % 6], AREAS[k - 1]] for k, area in enumerate(AREAS)}
RNG = np.random.default_rng(20_260_501)
N = 48
DATA = pd.DataFrame(
    {
        "t": np.arange(N) % 16,
        "x": RNG.normal(size=N),
        "area": np.array(AREAS)[np.arange(N) % 6],
        "g": np.where(np.arange(N) < 24, "u", "v"),
        "k": RNG.poisson(3.0, N),
        "half": np.arange(N) % 2,
    }
)
DATA["y"] = np.sin(DATA["t"] / 3.0) + 0.3 * RNG.normal(size=N)


def adjacency() -> np.ndarray:
    A = np.zeros((6, 6))
    for k in range(6):
        A[k, (k + 1) % 6] = A[(k + 1) % 6, k] = 1.0
    return A


def put(matrix: np.ndarray, i: int, j: int, value: float) -> tuple[list[str], np.ndarray]:
    out = matrix.copy()
    out[i, j] = value
    return AREAS, out


def model(formula: str, data: pd.DataFrame = DATA, W: Any = None, family: str = "gaussian", **more: Any) -> bayou.Model:
    return bayou.Model(formula, data, family, structures=None if W is None else {"W": W}, **more)


def refused(error: type[Exception], pieces: list[str], formula: str, *given: Any, **more: Any) -> None:
    """Check that a model is refused, with every piece in the message, in order."""
    with pytest.raises(error, match=re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)) as caught:
        model(formula, *given, **more)
    assert type(caught.value) is error


def noted(piece: str, formula: str, *given: Any, **more: Any) -> bayou.Model:
    """Check that a model says what it did with odd input, and return it."""
    made = model(formula, *given, **more)
    assert piece in str(made), str(made)
    return made


# ---- graphs -------------------------------------------------------------------------------------

GRAPHS = [
    ("asymmetric matrix", put(adjacency(), 0, 1, 0.0), ["`W`", "not symmetric", "a1", "a0", "Correct the matrix"]),
    ("asymmetric dict", {**NEIGHBOURS, "a0": ["a1"]}, ["`W`", "not symmetric", "a5", "a0", "Correct the dict"]),
    ("self-loop in a matrix", put(adjacency(), 2, 2, 1.0), ["`W`", "self-loops", "a2", "take them out"]),
    ("self-loop in a list", [*RING, ("a3", "a3")], ["`W`", "self-loops", "a3", "take them out"]),
    ("self-loop in a dict", {**NEIGHBOURS, "a0": ["a0", "a1", "a5"]}, ["`W`", "self-loops", "a0", "take them out"]),
    ("negative weight", put(put(adjacency(), 0, 1, -1.0)[1], 1, 0, -1.0), ["`W`", "a0 and a1 is -1", "positive"]),
    ("weight that is no number", [(*RING[0], np.nan), *((*e, 1.0) for e in RING[1:])], ["`W`", "nan", "positive"]),
    ("two weights of one pair", [(*RING[0], 1.0), (*RING[0][::-1], 2.0)], ["`W`", "1 and 2", "one weight"]),
    ("weights in words", pd.DataFrame([(*e, "far") for e in RING], columns=["i", "j", "w"]), ["`W`", "`w`", "numbers"]),
    ("an area that is not there", [(a, b) for a, b in RING if "a4" not in (a, b)], ["`W`", "a4 of the data", "(names"]),
    ("an area by another name", [(a, b.replace("a1", "A1")) for a, b in RING[:1]] + RING[2:], ["`W`", "a1", "mean"]),
    ("a matrix of another size", adjacency()[:5, :5], ["`W`", "5 areas without names", "6 areas", "name its rows"]),
    ("an area without a name", [*RING, ("a0", None)], ["label is missing", "W"]),
    ("entries that are no pairs", ["a0", "a1"], ["`W`", "entry 0", "pair of areas"]),
    ("no graph at all", 3, ["`W`", "of type int", "list of pairs"]),
    ("an empty graph", [], ["`W`", "empty", "at least one area"]),
]


@pytest.mark.parametrize(("graph", "pieces"), [pytest.param(*row[1:], id=row[0]) for row in GRAPHS])
def test_graph_refused(graph, pieces):
    refused(DataError, pieces, "y ~ leroux(area, graph=W)", DATA, graph)


def test_duplicate_edges_are_merged_and_said():
    made = noted("1 duplicate edge merged", "y ~ icar(area, graph=W)", DATA, [*RING, ("a1", "a0")])
    assert len(made.design.structured[0].graph.edges) == 6


def test_islands_are_said():
    made = noted("3 areas without neighbours (a3, a4, a5)", "y ~ icar(area, graph=W)", DATA, (AREAS, RING[:2]))
    assert "an effect of its own, N(0, sd²)" in str(made)


def test_parts_are_said():
    noted(
        "falls into 2 parts of 3, 3 areas",
        "y ~ bym2(area, graph=W)",
        DATA,
        [e for k, e in enumerate(RING) if k % 3 != 2],
    )


def test_areas_without_rows_are_said_and_what_informs_them():
    graph = ([*AREAS, "b0", "b1", "b2"], [*RING, ("a0", "b0"), ("b1", "b2")])
    made = noted("W: 1 of 9 areas without rows (b0); the others inform them.", "y ~ icar(area, graph=W)", DATA, graph)
    assert "W: 2 of 9 areas without rows (b1, b2); only the prior speaks of them." in str(made)


def test_the_order_of_a_matrix_without_names_is_said():
    noted(
        "graph `W` has no names: its rows are taken as the sorted areas, a0, a1",
        "y ~ icar(area, graph=W)",
        DATA,
        adjacency(),
    )
    made = bayou.Model("y ~ (1 | area, covariance=W)", DATA, structures={"W": np.eye(6)})
    assert "matrix `W` has no names: its rows are taken as the sorted levels, a0, a1" in str(made)


def test_bym2_needs_an_edge():
    refused(DataError, ["bym2(area, graph=W)", "no edges", "(1 | area)"], "y ~ bym2(area, graph=W)", DATA, (AREAS, []))


def test_a_graph_that_is_not_given():
    refused(FormulaError, ["`leroux(area, graph=W)`", "`W`", "structures={'W': …}"], "y ~ leroux(area, graph=W)")


def test_a_graph_by_another_name():
    with pytest.raises(FormulaError, match=r"names `W`.*structures= holds V\."):
        bayou.Model("y ~ icar(area, graph=W)", DATA, structures={"V": RING})


def test_structures_that_are_no_dict():
    with pytest.raises(DataError, match=r"structures= is of type list.*give a dict"):
        bayou.Model("y ~ icar(area, graph=W)", DATA, structures=[RING])


def test_an_object_that_no_term_names():
    noted("structures: the formula does not name W", "y ~ rw1(t)", DATA, RING)


# ---- times --------------------------------------------------------------------------------------

TIMES = [
    ("rw2 of two times", "rw2(t)", {"t": DATA["t"] % 2}, ["`rw2(t)`", "at least 3", "it has 2", "(1 | t)"]),
    ("rw1 of one time", "rw1(t)", {"t": 1}, ["`rw1(t)`", "at least 2", "it has 1", "Leave it out"]),
    ("ar1 of one time", "ar1(t)", {"t": 1}, ["`ar1(t)`", "at least 2", "it has 1", "Leave it out"]),
    ("cyclic rw2 of three times", "rw2(t, cyclic=True)", {"t": DATA["t"] % 3}, ["at least 4", "it has 3"]),
    ("a smooth of one value", "s(t)", {"t": 1.0}, ["`s(t)`", "at least 3", "it has 1", "Leave it out"]),
    ("a season longer than the data", "seasonal(t, period=20)", {}, ["0 to 15, 16 seasons", "more than 20"]),
    ("parts of seasons", "seasonal(t, period=4)", {"t": DATA["t"] + 0.5}, ["whole", "0.5", "Number the seasons"]),
    ("a cycle of unknown length", "rw2(t, cyclic=True)", {"t": DATA["t"] ** 2}, ["not evenly spaced", "period=…"]),
    ("times in words", "rw1(g)", {}, ["`rw1(g)`", "text or categories", "(1 | g)"]),
    ("times out of reach", "rw1(t)", {"t": 10.0 ** DATA["t"] * 1e5}, ["`rw1(t)`", "reaches", "origin or unit"]),
    ("times that are very near beside others", "rw2(t)", {"t": np.where(DATA["t"] == 1, 1e-6, DATA["t"])},
     ["rw2(t): rw2 loses its digits", "1e-06 apart (0 and 1e-06)", "2.0e+06 times", "Round the times"]),
    ("an infinite time", "rw1(t)", {"t": np.where(DATA["t"] == 3, np.inf, DATA["t"])}, ["`t`", "infinite", "Correct"]),
    ("a missing time", "rw1(t)", {"t": DATA["t"].where(DATA["t"] != 3)}, ["`t`", "missing='drop'"]),
    ("a missing area", "icar(area, graph=W)", {"area": DATA["area"].where(DATA["t"] != 3)}, ["`area`", "missing='drop'"]),
    ("copies of a number", "rw1(t, by=x)", {}, ["`rw1(t, by=x)`", "not whole", "give a factor"]),
]  # fmt: skip


@pytest.mark.parametrize(("term", "columns", "pieces"), [pytest.param(*row[1:], id=row[0]) for row in TIMES])
def test_times_refused(term, columns, pieces):
    refused(DataError, pieces, f"y ~ {term}", DATA.assign(**columns), RING)


def test_duplicated_times_are_ordinary():
    once, twice = (
        model("y ~ rw1(t)").design.structured[0],
        model("y ~ rw1(t)", pd.concat([DATA, DATA])).design.structured[0],
    )
    assert np.array_equal(once.nodes, twice.nodes)


def test_times_apart_by_rounding_are_joined_and_said():
    moved = DATA.assign(t=DATA["t"] + 1e-11 * (DATA["g"] == "u"))
    made = noted("16 values of t differ by rounding only", "y ~ rw1(t)", moved)
    assert len(made.design.structured[0].nodes) == 16


def test_uneven_times_of_ar1_say_their_step():
    noted("rho over a step of 0.5", "y ~ ar1(t)", DATA.assign(t=0.5 * DATA["t"]))


def test_few_values_make_a_smaller_basis_and_say_so():
    noted("the basis has 5 B-splines instead of 20", "y ~ s(t)", DATA.assign(t=DATA["t"] % 5))


def test_dates_count_in_days_and_say_so():
    noted("dates count in days since 2026-01-01", "y ~ rw1(t)", DATA.assign(t=pd.date_range("2026-01-01", periods=N)))


# ---- formulas -----------------------------------------------------------------------------------

FORMULAS = [
    ("y ~ rw1(t, cyclc=True)", ["no option `cyclc`", "`cyclic`", "Options here"]),
    ("y ~ icar(area, graph=W, constrained=False)", ["no option `constrained`", "Options here: graph, scale, by"]),
    ("y ~ icar(area)", ["needs a graph", "graph=W"]),
    ("y ~ icar(area, W)", ["name the graph as an option", "graph=W"]),
    ("y ~ rw1(log(t))", ["takes one column", "a column of the data first"]),
    ("y ~ x * rw1(t)", ["can only be added", "+ rw1(t)"]),
    ("y ~ (rw1(t) | g)", ["can only be added", "+ rw1(t)"]),
    ("y ~ x - rw1(t)", ["cannot be taken away", "leave it out"]),
    ("y ~ rw1(t) + rw1(t)", ["`rw1(t)`", "twice", "once"]),
    ("y ~ rw1(t, by=t)", ["its own column", "another factor"]),
    ("y ~ rw1(t, period=12)", ["period=", "add cyclic=True"]),
    ("y ~ seasonal(t)", ["number of seasons", "period=12"]),
    ("y ~ s(t, basis=2)", ["degree=3", "basis=4"]),
    ("y ~ s(t, basis=TRUE)", ["basis must be a whole number", "True"]),
    ("y ~ rw1(t, scale=2)", ["scale must be True or False", "2"]),
    ("y ~ rw1(nowhere)", ["no column `nowhere`", "Columns"]),
    ("y ~ (1 | area, covariance=W, precision=W)", ["needs one of covariance= and precision="]),
    ("y ~ (x | area, covariance=W)", ["an intercept alone", "(1 | area"]),
    ("y ~ (1 | area, covariance=W) + icar(area, graph=W)", ["`W`", "a graph and a matrix at once"]),
]


@pytest.mark.parametrize(("formula", "pieces"), FORMULAS)
def test_formula_refused(formula, pieces):
    refused(FormulaError, pieces, formula, DATA, RING)


# ---- known covariances --------------------------------------------------------------------------


def known(matrix: Any, word: str = "covariance") -> bayou.Model:
    return bayou.Model(f"y ~ (1 | area, {word}=A)", DATA, structures={"A": matrix})


NOT_PD = np.eye(6) + np.outer(*2 * [np.eye(6)[0] + np.eye(6)[1]]) - 3.0 * np.diag(np.eye(6)[2])
MATRICES = [
    ("an eigenvalue below zero", "covariance", (AREAS, NOT_PD), ["(1 | area, covariance=A)", "eigenvalue is -2", "wrong"]),
    ("twins", "covariance", (AREAS, np.ones((6, 6))), ["not positive definite", "smallest eigenvalue", "twins"]),
    ("a precision below zero", "precision", (AREAS, NOT_PD), ["precision", "eigenvalue is -2", "wrong"]),
    ("an intrinsic precision", "precision", (AREAS, scipy.sparse.csc_array(2.0 * np.eye(6) - adjacency())),
     ["precision", "smallest eigenvalue", "diagonal; icar, rw1"]),
    ("not symmetric", "covariance", put(np.eye(6), 0, 1, 0.5), ["`A`", "not symmetric", "0.5 at a0, a1"]),
    ("not finite", "covariance", put(np.eye(6), 2, 2, np.nan), ["`A`", "not finite at a2, a2"]),
    ("not square", "covariance", np.ones((5, 6)), ["`A`", "not square", "(5, 6)"]),
    ("levels that are not there", "covariance", (AREAS[:4], np.eye(4)), ["`A`", "lacks the levels a4, a5", "Its 4 levels"]),
    ("another size", "covariance", np.eye(5), ["`A`", "5 rows without names", "6 levels", "name the rows"]),
    ("a name twice", "covariance", ([*AREAS, "a0"], np.eye(7)), ["`A`", "names a0 twice"]),
    ("too few names", "covariance", (AREAS[:5], np.eye(6)), ["`A`", "5 names for 6 rows"]),
    ("words", "covariance", RING, ["`A`", "of type list", "DataFrame with the levels"]),
]  # fmt: skip


@pytest.mark.parametrize(("word", "matrix", "pieces"), [pytest.param(*row[1:], id=row[0]) for row in MATRICES])
def test_matrix_refused(word, matrix, pieces):
    with pytest.raises(DataError, match=re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)):
        known(matrix, word)


def test_variances_in_another_unit_are_said():
    assert "its variances are about 1e+20" in str(known((AREAS, 1e20 * np.eye(6))))
    assert "its variances" not in str(known((AREAS, 2.0 * np.eye(6))))


# ---- priors, and what the data do not tell apart -------------------------------------------------

PRIORS = [
    ("a name that is not there", {"sd_tt": PC(1, 0.1)}, PriorError, ["'sd_tt'", "'sd_t'", "Known keys"]),
    ("a normal correlation", {"rho_t": Normal(0, 1)}, PriorError, ["rho_t takes", "Uniform(-1, 1)", "Normal(0, 1)"]),
    ("a share above one", {"phi_area": Uniform(0, 2)}, PriorError, ["phi_area lies between 0 and 1", "Uniform(0, 2)"]),
    ("a PC prior of no share", {"phi_area": PC(2, 0.1)}, PriorError, ["phi_area", "upper below 1"]),
    ("Beta of a signed correlation", {"rho_t": Beta(1, 1)}, PriorError, ["rho_t takes PC", "Uniform(-1, 1)", "Beta(1, 1)"]),
    ("a normal sd", {"sd_t": Normal(0, 1)}, PriorError, ["Normal(0, 1) is not a prior of a scale", "sd_t takes"]),
    ("an sd given twice", {"sd_t": PC(1, 0.1), "variance_t": PC(1, 0.1)}, PriorError, ["sd_t", "variance_t", "one"]),
    ("a flat log sd", {"sd_t": Jeffreys()}, ImproperPosterior, ["sd_t", "always improper", "proper prior"]),
    ("two flat sds", {"sd": Flat()}, ImproperPosterior, ["sd_t has a flat prior beside other flat ones", "PC(1, 0.01)"]),
]  # fmt: skip


@pytest.mark.parametrize(("priors", "error", "pieces"), [pytest.param(*row[1:], id=row[0]) for row in PRIORS])
def test_prior_refused(priors, error, pieces):
    refused(error, pieces, "y ~ ar1(t) + bym2(area, graph=W)", DATA, RING, priors=priors)


def test_one_flat_sd_with_too_few_nodes():
    two = DATA.assign(t=DATA["t"] % 2)
    refused(ImproperPosterior, ["sd_t", "at least 2", "PC(1, 0.01)"], "y ~ rw1(t)", two, priors={"sd_t": Flat()})


BOTH = {
    "rw2 and its line": ("y ~ t + rw2(t)", ["rw2(t)", "t:", "Leave one of them out"]),
    "s and its line": ("y ~ poly(t, 2) + s(t)", ["s(t)", "poly(t, 2)", "Leave one of them out"]),
    "a level twice": ("y ~ rw1(t, constrained=False)", ["rw1(t)", "Intercept", "Leave one of them out"]),
    "a walk, and copies of it": ("y ~ rw2(t) + rw2(t, by=g)", ["rw2(t)", "g = u", "Leave one of them out"]),
}


@pytest.mark.parametrize("name", BOTH)
def test_flat_directions_that_stand_there_twice(name):
    formula, pieces = BOTH[name]
    refused(ImproperPosterior, pieces, formula, DATA, priors={"beta": Flat()})


@pytest.mark.parametrize("engine", ["ml", "reml", "laplace"])
@pytest.mark.parametrize("name", BOTH)
def test_and_without_priors(name, engine):
    formula, pieces = BOTH[name]
    with pytest.raises(ImproperPosterior, match=re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)):
        bayou.fit(formula, DATA, engine=engine)


def test_a_line_that_stands_there_twice_is_said_with_proper_priors():
    noted("rw2(t) keeps a line in t, and t is a fixed effect as well", "y ~ t + rw2(t)")


def test_outcomes_that_a_free_line_separates():
    pieces = ["rw2(t)", "does not fall to zero", "rw1 or ar1"]
    refused(ImproperPosterior, pieces, "half ~ rw2(t)", DATA.assign(half=DATA["t"] > 7), family="bernoulli")


# ---- engines that cannot ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["quadrature", "pql"])
def test_engines_that_take_groups_only(engine):
    with pytest.raises(Unsupported, match=r"structured effect 't'.*Use engine='laplace'"):
        bayou.fit("k ~ rw1(t)", DATA, "poisson", engine=engine)


def test_pooling_is_of_groups():
    with pytest.raises(Unsupported, match=r"structured effects too: rw1\(t\).*bayou\.compare"):
        bayou.pooling(model("y ~ rw1(t) + (1 | g)"))


# ---- new data -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> bayou.Fit:
    """By maximum likelihood: the priors do not matter here."""
    return bayou.fit("y ~ x + rw1(t) + leroux(area, graph=W)", DATA, engine="ml", structures={"W": RING}, seed=1)


@pytest.fixture(scope="module")
def copies() -> bayou.Fit:
    return bayou.fit("y ~ x + rw2(t, cyclic=True) + rw2(t, by=g)", DATA, engine="ml", seed=1)


NEW = DATA.iloc[:3]


def asked(of: bayou.Fit, rows: pd.DataFrame, pattern: str, **options: Any) -> None:
    with pytest.raises(DataError, match=re.compile(pattern, re.DOTALL)):
        of.predict(rows, **options)


def test_new_rows_without_time(fitted):
    asked(fitted, NEW.drop(columns="t"), r"lack `t`, which `rw1\(t\)` needs in every prediction", groups="population")


def test_new_rows_with_missing_time(fitted):
    pattern = r"`t` is missing in 1 row \(row 1; counted from 0\).*fill it in"
    asked(fitted, NEW.assign(t=[0.0, np.nan, 1.0]), pattern, groups="population")


def test_new_rows_with_infinite_time(fitted, copies):
    for one in (fitted, copies):
        asked(one, NEW.assign(t=[0.0, np.inf, 1.0]), r"`t` holds infinite values in .*row 1.*Correct these rows")


def test_new_rows_with_time_in_words(fitted):
    asked(fitted, NEW.assign(t="late"), r"`rw1\(t\)`: the column `t` holds text")


def test_new_rows_with_dates_for_numbers(fitted):
    asked(fitted, NEW.assign(t=pd.Timestamp("2026-01-01")), r"`t` holds dates; the model was fitted to numbers")


def test_new_areas(fitted):
    pattern = r"`leroux\(area, graph=W\)`: the new data have b7 in `area`, which the graph has not.*or leave `area` out"
    asked(fitted, NEW.assign(area="b7"), pattern, groups="new")


def test_new_rows_without_area(fitted):
    asked(fitted, NEW.drop(columns="area"), r"no column 'area'.*groups='new'")
    assert len(fitted.predict(NEW.drop(columns="area"), groups="population")) == 3


def test_new_rows_with_missing_area(fitted):
    asked(fitted, NEW.assign(area=None), r"'area' that the fit has not seen: \(missing\).*groups='new'")


def test_new_copies(copies):
    asked(copies, NEW.assign(g="w"), r"'g' that the fit has not seen: w.*groups='new'")


def test_times_beyond_the_data_are_said_and_wider(fitted):
    answer = fitted.predict(NEW.assign(t=[15, 20, 40]))
    assert answer.attrs["notes"][0].startswith("rw1(t): 2 rows beyond the range of t, 0 to 15; the effect is extrap")
    assert answer["sd"].is_monotonic_increasing


def test_fresh_copies_with_an_open_line_are_said(copies):
    notes = copies.predict(NEW.assign(g="w"), groups="new").attrs["notes"]
    assert any("a fresh copy says nothing of its line" in note and "(1 + t | g)" in note for note in notes)


def test_an_effect_by_another_name(fitted):
    with pytest.raises(DataError, match=r"no structured effect 'time'; its structured effects: 't', 'area'"):
        fitted.structured("time")
    with pytest.raises(DataError, match=r"no grouping factor 'time'.*fit\.structured\('t'\)"):
        fitted.random_effects("time")
    with pytest.raises(DataError, match=r"no grouping factor.*fit\.plot\.smooth\(\)"):
        fitted.plot.groups()

"""Structured effects bound to data: nodes, copies, rows; the same for new rows; what is refused."""

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou import families
from bayou.design import build
from bayou.errors import DataError, FormulaError

gaussian = families.get("gaussian")
N = 60


@pytest.fixture
def table(rng):
    data = pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "g": np.tile(list("uv"), N // 2)})
    data["t"] = rng.permutation(np.resize(np.arange(1, 13), N))
    data["u"] = rng.permutation(np.resize([0.5, 1.0, 2.5, 7.0], N))
    data["day"] = pd.Timestamp("2024-02-28") + pd.to_timedelta(data["t"], unit="D")
    data["area"] = rng.permutation(np.resize(list("pqr"), N))
    data["one"], data["two"] = 1, np.tile([0, 1], N // 2)
    data["text"] = data["t"].astype(str)
    return data


W = [("p", "q"), ("q", "r"), ("r", "s")]


def bound(formula, data, structures=None, **settings):
    return build(f"y ~ {formula}", data, gaussian, structures=structures, **settings)


def only(formula, data, structures=None, **settings):
    (term,) = bound(formula, data, structures, **settings).structured
    return term


def dense(term, n=None):
    """Row by row: the matrix of an effect, (n, R * m), from its entries."""
    n = len(term.start) - 1 if n is None else n
    m = len(term.nodes)
    out = np.zeros((n, len(term.replicates) * m))
    for i in range(n):
        for k in range(term.start[i], term.start[i + 1]):
            out[i, term.replicate[k] * m + term.node[k]] += term.value[k]
    return out


class TestTimes:
    def test_distinct_sorted_points(self, table):
        term = only("rw1(u)", table)
        assert (term.name, term.kind, term.column, term.by) == ("u", "rw1", "u", None)
        assert list(term.nodes) == [0.5, 1, 2.5, 7] and list(term.coordinate) == [0.5, 1.0, 2.5, 7.0]
        np.testing.assert_array_equal(term.coordinate[term.node], table.u)
        np.testing.assert_array_equal(term.start, np.arange(N + 1))
        np.testing.assert_array_equal(term.value, np.ones(N))
        assert list(term.replicates) == ["all"] and not term.replicate.any()
        assert all(part.dtype == np.int64 for part in (term.start, term.node, term.replicate))
        assert term.options == {
            "cyclic": False, "scale": True, "constrained": True, "period": None, "basis": None, "degree": None, "order": 1,
        }  # fmt: skip

    def test_copies(self, table):
        term = only("rw2(t, by=g)", table)
        assert term.name == "t:g" and list(term.replicates) == ["u", "v"] and term.by == "g"
        expected = np.zeros((N, 24))
        expected[np.arange(N), (table.g == "v") * 12 + table.t - 1] = 1.0
        np.testing.assert_array_equal(dense(term), expected)
        term = only("ar1(t, by=g:area)", table)
        assert term.name == "t:g:area" and list(term.replicates[:2]) == ["u:p", "u:q"]
        np.testing.assert_array_equal(term.replicates[term.replicate], table.g + ":" + table.area)

    def test_dates(self, table):
        design = bound("rw1(day)", table)
        term = design.structured[0]
        assert list(term.nodes[:3]) == ["2024-02-29", "2024-03-01", "2024-03-02"]
        assert list(term.coordinate) == list(range(12))
        assert "rw1(day): dates count in days since 2024-02-29." in design.notes
        new = design.rebuild({"day": np.array(["2024-03-01", "2024-03-20", "NaT"], "M8[us]")}).structured[0]
        assert list(new.node) == [1, -1, -1] and list(new.labels) == ["2024-03-01", "2024-03-20", None]
        np.testing.assert_array_equal(new.coordinate, [1.0, 20.0, np.nan])
        notes = bound("seasonal(day, period=7)", table).notes
        assert any("so a period of 7 is that many days" in note for note in notes)

    def test_rounding_does_not_make_points(self, table):
        table["v"] = 0.1 * table.t + np.where(np.arange(N) % 2, 1e-17, 2e-16)
        assert len(table.v.unique()) > 12
        design = bound("rw2(v)", table)
        assert len(design.structured[0].nodes) == 12
        assert any("differ by rounding only and were joined" in note for note in design.notes)
        np.testing.assert_allclose(design.structured[0].coordinate[design.structured[0].node], table.v, atol=1e-15)
        new = design.rebuild({"v": [0.1 * 3, 0.3, 0.3000001]}).structured[0]
        assert list(new.node) == [2, 2, -1]

    def test_seasons_fill_their_grid(self, table):
        some = table[table.t.isin([2, 3, 7, 12])]
        term = only("seasonal(t, period=4)", some)
        assert list(term.nodes) == list(range(2, 13)) and term.options["period"] == 4
        np.testing.assert_array_equal(term.coordinate[term.node], some.t)

    def test_a_full_cycle(self, table):
        design = bound("rw2(t, cyclic=TRUE)", table)
        assert design.structured[0].options["period"] == 12.0
        assert any("one full cycle of length 12; write period=… for another" in note for note in design.notes)
        new = design.rebuild({"t": [1, 13, 0, 25, 12.5]}).structured[0]
        assert list(new.node) == [0, 0, 11, 0, -1] and new.coordinate[-1] == 12.5
        table["h"] = table.t * 0.5
        assert only("rw1(h, cyclic=T)", table).options["period"] == 6.0

    def test_a_given_period_folds(self, table):
        design = bound("rw1(t, cyclic=T, period=5)", table)
        term = design.structured[0]
        assert list(term.coordinate) == [1, 2, 3, 4, 5]
        np.testing.assert_array_equal(term.coordinate[term.node], (table.t - 1) % 5 + 1)
        assert any("folded into one cycle of 5" in note for note in design.notes)
        table["hour"] = table.t * 2  # 2, …, 24: midnight is 24, or 0
        design = bound("rw2(hour, cyclic=T, period=24)", table)
        assert list(design.structured[0].nodes) == list(range(2, 25, 2))
        assert list(design.rebuild({"hour": [24, 0, 26, 48]}).structured[0].node) == [11, 11, 0, 11]
        table["clock"] = table.hour % 24
        assert only("rw2(clock, cyclic=T, period=24)", table).coordinate[0] == 0.0

    @pytest.mark.parametrize(
        ("term", "words"),
        [
            ("rw1(text)", "`rw1(text)`: the column `text` holds text or categories ('1', '10', '11', … (12 in all)); it needs numbers or dates"),
            ("rw1(one)", "`rw1(one)` needs at least 2 distinct values of `one`; it has 1"),
            ("rw2(two)", "needs at least 3 distinct values of `two`; it has 2"),
            ("ar1(one)", "needs at least 2 distinct values"),
            ("rw1(two, cyclic=T)", "needs at least 3 distinct values"),
            ("rw2(t, cyclic=T, period=3)", "needs at least 4 distinct values of `t`; it has 3"),
            ("rw1(u, cyclic=T)", "not evenly spaced (from 2.5 to 7, elsewhere 0.5), so the length of the cycle is unknown"),
            ("seasonal(u, period=4)", "u must be whole, one unit per season; it holds 0.5"),
            ("seasonal(t, period=12)", "t goes from 1 to 12, 12 seasons; a period of 12 needs more than 12"),
            ("s(two)", "`s(two)` needs at least 3 distinct values of `two`; it has 2"),
            ("s(text)", "holds text or categories"),
            ("rw1(t, by=x)", "by=x makes one copy per level, and `x` holds numbers that are not whole"),
            ("rw1(nope)", "no column `nope`"),
            ("rw1(t, by=nope)", "no column `nope`"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, table, term, words):
        with pytest.raises((DataError, FormulaError)) as caught:
            bound(term, table)
        assert words in str(caught.value)

    def test_wild_numbers(self, table):
        with pytest.raises(DataError, match="t reaches 1.2e\\+301; change its origin or unit"):
            bound("rw1(t)", table.assign(t=table.t * 1e300))
        with pytest.raises(DataError, match="11,000,001 seasons for 12 distinct values"):
            bound("seasonal(t, period=3)", table.assign(t=table.t * 10**6))
        with pytest.raises(DataError, match="infinite values in 1 row"):
            bound("rw1(t)", table.assign(t=np.where(np.arange(N) == 3, np.inf, table.t)))

    def test_missing_rows(self, table):
        table["t"] = table.t.astype(float).where(np.arange(N) != 5)
        with pytest.raises(DataError, match="`t` in 1 row"):
            bound("rw1(t)", table)
        design = bound("rw1(t)", table, missing="drop")
        assert design.dropped == 1 and len(design.structured[0].node) == N - 1 == len(design.data["t"])

    @pytest.mark.parametrize(
        ("formula", "found"),
        [("t + rw2(t)", True), ("scale(t) + rw2(t, by=g)", True), ("poly(t, 2) + s(t)", True), ("center(t) + s(t)", True),
         ("t + rw1(t)", False), ("t + rw2(t, cyclic=T)", False), ("x + rw2(t)", False), ("I(t^2) + rw2(t)", False),
         ("t + s(t, order=1)", False), ("C(t) + rw2(t)", False), ("t:x + rw2(t)", False)],
    )  # fmt: skip
    def test_a_line_that_stands_twice_is_noted(self, table, formula, found):
        assert any("keeps a line in t" in note for note in bound(formula, table).notes) is found


class TestSplines:
    def test_rows(self, table):
        design = bound("s(x, basis=9)", table)
        term = design.structured[0]
        assert list(term.nodes) == list(range(9)) and term.coordinate is None and term.options["basis"] == 9
        assert (term.basis.low, term.basis.high, term.basis.degree) == (table.x.min(), table.x.max(), 3)
        node, value = term.basis.evaluate(table.x.to_numpy())
        expected = np.zeros((N, 9))
        expected[np.arange(N)[:, None], node] = value
        np.testing.assert_array_equal(dense(term), expected)
        np.testing.assert_allclose(dense(term).sum(axis=1), 1.0, atol=1e-14)

    def test_within_groups(self, table):
        term = only("s(x, by=g, basis=6)", table)
        assert term.name == "x:g"
        matrix = dense(term)
        assert not matrix[table.g == "u", 6:].any() and not matrix[table.g == "v", :6].any()

    def test_few_values_reduce_the_basis(self, table):
        design = bound("s(t)", table)
        assert design.structured[0].options["basis"] == 12 == design.structured[0].basis.size
        assert "s(t): t has 12 distinct values, so the basis has 12 B-splines instead of 20." in design.notes
        assert only("s(two, order=1)", table).basis.size == 4

    def test_new_rows(self, table):
        design = bound("s(x, basis=9)", table)
        new = design.rebuild(table[5:9])
        np.testing.assert_array_equal(new.structured[0].node, design.structured[0].node[20:36])
        np.testing.assert_array_equal(new.structured[0].value, design.structured[0].value[20:36])
        assert new.notes == ()
        new = design.rebuild({"x": [0.0, 100.0, None]})
        assert "1 row beyond the range of x" in new.notes[0] and "straight line" in new.notes[0]
        assert list(new.structured[0].node[8:]) == [-1] * 4
        assert new.structured[0].value[4:8].sum() == pytest.approx(1.0, abs=1e-9)


class TestAreas:
    def test_rows(self, table):
        design = bound("bym2(area, graph=W) + leroux(area, graph=W, by=g)", table, {"W": W})
        one, two = design.structured
        assert (one.name, two.name) == ("area", "area:g")
        assert list(one.nodes) == ["p", "q", "r", "s"] and one.graph is two.graph and one.coordinate is None
        np.testing.assert_array_equal(one.nodes[one.node], table.area)
        assert design.structures == {"W": one.graph}
        assert "W: 1 of 4 areas without rows (s); the others inform them." in design.notes

    def test_parts_are_noted(self, table):
        graph = {"p": ["q"], "q": ["p"], "r": [], "s": ["v"], "v": ["s"]}
        notes = bound("icar(area, graph=W)", table, {"W": graph}).notes
        assert "graph `W`: 1 area without neighbours (r), each with an effect of its own, N(0, sd²)." in notes
        assert "graph `W` falls into 2 parts of 2, 2 areas; each is scaled, and sums to zero, by itself." in notes
        notes = bound("car(area, graph=W)", table, {"W": [*W, ("p", "q")]}).notes
        assert any("1 duplicate edge merged" in note for note in notes)

    def test_known_covariance(self, table):
        A = np.eye(3) + 0.5
        design = bound("(1 | area, covariance=A) + (1 | area, precision=P) + (1 | area)", table, {"A": A, "P": A})
        first, second = design.structured
        assert (first.name, second.name) == ("known(area)", "(1 | area, precision=P)")
        np.testing.assert_array_equal(first.covariance, A)
        assert first.precision is None and second.covariance is None
        np.testing.assert_array_equal(second.precision, A)
        assert list(design.structures) == ["A", "P"]
        named = pd.DataFrame(np.eye(5), index=list("rqpab"), columns=list("rqpab"))
        design = bound("(1 | area, covariance=A)", table, {"A": named})
        assert list(design.structured[0].nodes) == list("rqpab") and design.structured[0].name == "area"
        assert "A: 2 of 5 levels without rows (a, b); the others inform them." in design.notes

    def test_one_graph_for_two_columns(self, table):
        table["other"] = np.resize(list("st"), N)
        W5 = np.zeros((5, 5), int)
        W5[range(4), range(1, 5)] = W5[range(1, 5), range(4)] = 1
        one, two = bound("icar(area, graph=W) + icar(other, graph=W)", table, {"W": W5}).structured
        assert list(one.nodes) == list("pqrst") and list(two.nodes[two.node]) == list(table.other)

    def test_declared_levels_name_a_matrix(self, table):
        W4 = np.diag([1, 1, 1], 1) + np.diag([1, 1, 1], -1)
        table["area"] = pd.Categorical(table.area, list("srqp"))
        assert list(only("icar(area, graph=W)", table, {"W": W4}).nodes) == list("srqp")

    @pytest.mark.parametrize(
        ("formula", "structures", "error", "words"),
        [
            ("icar(area, graph=W)", None, FormulaError, "names `W`, which is not given: pass structures={'W': …}"),
            ("icar(area, graph=V)", {"VV": W}, FormulaError, "Did you mean `VV`?"),
            ("icar(area, graph=x)", {}, FormulaError, "`x` is a column of the data"),
            ("icar(area, graph=W)", [W], DataError, "of type list: give a dict"),
            ("icar(area, graph=W) + (1 | g, covariance=W)", {"W": W}, FormulaError, "a graph and a matrix at once"),
            ("icar(area, graph=W)", {"W": W[:1]}, DataError, "the graph `W` has not the area r of the data"),
            ("(1 | area, covariance=W)", {"W": np.eye(2)}, DataError, "2 rows without names"),
        ],
    )
    def test_what_is_refused(self, table, formula, structures, error, words):
        with pytest.raises(error) as caught:
            bound(formula, table, structures)
        assert words in str(caught.value)

    def test_what_is_not_named_is_noted(self, table):
        assert "structures: the formula does not name V." in bound("x", table, {"V": W}).notes


class TestNames:
    @pytest.mark.parametrize(
        ("formula", "names"),
        [
            ("rw1(t)", ["t"]),
            ("rw2(t) + ar1(t)", ["t", "ar1(t)"]),
            ("rw2(t) + (1 | t)", ["rw2(t)"]),
            ("rw1(t) + rw1(t, by=g)", ["t", "t:g"]),
            ("rw1(t, by=g) + (1 | t:g)", ["rw1(t:g)"]),
            ("rw1(t) + rw1(t, scale=F) + rw1(t, cyclic=T)", ["t", "rw1(t)", "rw1(t, cyclic=T)"]),
            ("(1 | t) + rw1(t, scale=F) + rw1(t)", ["rw1(t)", "rw1(t) 2"]),
        ],
    )
    def test_names(self, table, formula, names):
        assert [term.name for term in bound(formula, table).structured] == names


class TestNewRows:
    formula = "rw2(t, by=g) + seasonal(t, period=3) + ar1(u) + s(x) + bym2(area, graph=W) + (1 | g, covariance=A)"

    @pytest.fixture
    def design(self, table):
        return bound(self.formula, table, {"W": W, "A": np.eye(2)})

    def test_same_rows_same_numbers(self, table, design):
        new = design.rebuild(table[10:25].sample(frac=1, random_state=1))
        order = new.index.astype(int)
        for term, rows in zip(design.structured, new.structured, strict=True):
            np.testing.assert_array_equal(dense_rows(term, rows), dense(term)[order])

    def test_what_is_not_there(self, design):
        new = design.rebuild({"z": [1, 2]})
        for term, rows in zip(design.structured, new.structured, strict=True):
            assert (rows.node == -1).all() and len(rows.node) == rows.start[-1] == (8 if term.kind == "s" else 2)
            assert np.isnan(rows.coordinate).all() and list(rows.labels) == [None, None]
        assert new.absent == ("t", "g", "u", "x", "area") and new.notes == ()
        assert list(new.structured[0].replicate) == [-1, -1] and list(new.structured[0].by_labels) == [None, None]

    def test_unseen_times_and_copies(self, design):
        new = design.rebuild({"t": [3, 20, 4], "g": ["u", "v", None], "u": [0.5, 0.7, -3.0]})
        walk, season, ar = new.structured[:3]
        assert list(walk.node) == [2, -1, 3] and list(walk.replicate) == [0, 1, -1]
        assert list(walk.coordinate) == [3.0, 20.0, 4.0] and list(walk.labels) == [3, 20, 4]
        assert list(season.node) == [2, -1, 3] and list(ar.node) == [0, -1, -1]
        assert new.notes == (
            "rw2(t, by=g): 1 row beyond the range of t, 1 to 12; the effect is extrapolated there, with growing uncertainty.",
            "seasonal(t, period=3): 1 row beyond the range of t, 1 to 12; the effect is extrapolated there, with growing uncertainty.",
            "ar1(u): 1 row beyond the range of u, 0.5 to 7; the effect is extrapolated there, with growing uncertainty.",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("new", "words"),
        [
            ({"area": ["p", "t"]}, "the new data have t in `area`, which the graph has not"),
            ({"g": ["w"]}, "the new data have w in `g`, which the matrix has not"),
            ({"t": ["1"]}, "holds text"),
            ({"t": [1.5]}, "`seasonal(t, period=3)`: t must be whole, one unit per season; it holds 1.5"),
            ({"t": np.array(["2020-01-01"], "M8[us]")}, "holds dates; the model was fitted to numbers"),
            ({"u": [np.inf]}, "infinite values in 1 row"),
        ],
    )
    def test_what_is_refused(self, design, new, words):
        with pytest.raises(DataError) as caught:
            design.rebuild(new)
        assert words in str(caught.value)

    def test_areas_of_the_graph_without_rows_are_known(self, design):
        assert list(design.rebuild({"area": ["s", None, "p"]}).structured[4].node) == [3, -1, 0]


def dense_rows(term, rows):
    n, m = len(rows.start) - 1, len(term.nodes)
    out = np.zeros((n, len(term.replicates) * m))
    np.add.at(out, (np.repeat(np.arange(n), np.diff(rows.start)), rows.replicate * m + rows.node), rows.value)
    return out


def test_a_design_is_rebuilt_from_what_it_keeps(table):
    structures = {"W": np.array(W), "A": pd.DataFrame(np.eye(3) + 0.1, list("vzu"), list("vzu")), "unused": 1}
    formula = "rw2(day, by=g) + rw1(u, cyclic=T, period=9) + s(x) + car(area, graph=W) + (1 | g, covariance=A)"
    first = bound(formula, table, structures)
    again = bound(formula, first.data, first.structures, categories=first.categories)
    assert set(first.structures) == {"W", "A"}
    for one, two in zip(first.structured, again.structured, strict=True):
        assert (one.name, one.options, list(one.nodes)) == (two.name, two.options, list(two.nodes))
        for part in ("start", "replicate", "node", "value", "coordinate", "covariance", "replicates"):
            np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
    np.testing.assert_array_equal(first.structured[3].graph.edges, again.structured[3].graph.edges)


def test_a_million_rows(rng):
    n, m = 1_000_000, 10_000
    data = {
        "y": rng.normal(size=n),
        "t": rng.integers(0, 1000, n),
        "area": rng.integers(0, m, n),
        "x": rng.normal(size=n),
    }
    edges = np.stack([np.arange(m - 1), np.arange(1, m)], axis=1)
    design = bound("rw2(t) + s(x) + bym2(area, graph=W)", data, {"W": edges})
    walk, smooth, area = design.structured
    np.testing.assert_array_equal(walk.coordinate[walk.node], data["t"])
    np.testing.assert_array_equal(area.nodes[area.node].astype(int), data["area"])
    np.testing.assert_allclose(np.add.reduceat(smooth.value, smooth.start[:-1]), 1.0, atol=1e-13)


class TestModel:
    def test_structures_pass_through(self, table):
        model = bayou.Model("y ~ 0 + icar(area, graph=W)", table, structures={"W": W})
        assert model.design.structured[0].graph is model.design.structures["W"]
        with pytest.raises(FormulaError, match="pass structures="):
            bayou.Model("y ~ icar(area, graph=W)", table)
        with pytest.raises(FormulaError, match="pass structures="):
            bayou.fit("y ~ icar(area, graph=W)", table)
        with pytest.raises(DataError, match="A Model is bound to its data"):
            bayou.fit(model, structures={"W": W})

    def test_the_response_is_no_time(self, table):
        with pytest.raises(FormulaError, match="`rw1\\(y\\)`: `y` is the response"):
            bayou.Model("y ~ rw1(y)", table)

    def test_an_effect_alone_is_something_to_estimate(self, table):
        assert bayou.Model("t ~ 0 + rw1(u)", table, "poisson").design.structured[0].name == "u"

"""Graphs of areas in every form that they come in, and known covariance matrices; the bad ones by name."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from bayou.design import Graph, graph_neighbours, read_graph
from bayou.design.matrices import read_matrix
from bayou.errors import DataError, FileError, Unsupported


def labels(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


ABC = labels("a", "b", "c")
PATH = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
PAIRS = [("a", "b"), ("b", "c")]


class Network:
    """What networkx offers, as far as it is used."""

    def __init__(self, nodes, edges, directed=False):
        self.nodes, self._edges, self._directed = nodes, edges, directed

    def is_directed(self):
        return self._directed

    def edges(self, data, default):
        return [(u, v, default if w is None else w) for u, v, w in self._edges]


def named(columns, rows="cba", cells=PATH):
    return pd.DataFrame(cells, index=list(rows), columns=list(columns))


FORMS = {
    "pairs": PAIRS,
    "pairs both ways": [*PAIRS, ("b", "a"), ("c", "b")],
    "tuple of pairs": tuple(PAIRS),
    "iterator": zip("ab", "bc", strict=True),
    "set": set(PAIRS),
    "array": np.array(PAIRS),
    "weighted pairs": [("a", "b", 1.0), ("b", "c", 1)],
    "pandas": pd.DataFrame(PAIRS, columns=["i", "j"]),
    "polars": pl.DataFrame({"i": ["a", "b"], "j": ["b", "c"], "w": [1, 1]}),
    "dense": PATH,
    "lists": PATH.tolist(),
    "boolean": PATH.astype(bool),
    "csr": sparse.csr_matrix(PATH),
    "coo array": sparse.coo_array(PATH.astype(float)),
    "frame without labels": pd.DataFrame(PATH),
    "frame": named("abc", "abc"),
    "frame, columns turned": named("cba", "abc", PATH[:, ::-1]),
    "dict": {"a": ["b"], "b": ("a", "c"), "c": np.array(["b"])},
    "dict of weights": {"a": {"b": 1.0}, "b": {"a": 1.0, "c": 1}, "c": {"b": {}}},
    "named pairs": (["a", "b", "c"], PAIRS),
    "named matrix": (np.array(["a", "b", "c"]), sparse.csc_array(PATH)),
    "network": Network(["a", "b", "c"], [("a", "b", None), ("c", "b", 1.0)]),
    "directed both ways": Network("abc", [("a", "b", 1), ("b", "a", 1), ("b", "c", 1), ("c", "b", 1)], True),
    "weights of libpysal": SimpleNamespace(
        neighbors={"a": ["b"], "b": ["a", "c"], "c": ["b"]}, weights={"a": [1.0], "b": [1.0, 1.0], "c": [1.0]}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_graph(form):
    graph = read_graph(FORMS[form], ABC)
    assert list(graph.names) == ["a", "b", "c"]
    assert graph.edges.tolist() == [[0, 1], [1, 2]] and graph.edges.dtype == np.int64
    assert graph.weights.tolist() == [1.0, 1.0] and graph.weights.dtype == np.float64
    assert graph.components.tolist() == [0, 0, 0]
    assert read_graph(graph, ABC) is graph


def test_files(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("i,j\n1,2\n3,2\n")
    graph = read_graph(str(path), labels("1", "2"))
    assert list(graph.names) == [1, 2, 3] and graph.edges.tolist() == [[0, 1], [1, 2]]
    path.write_text("1,2\n3,2\n")
    with pytest.raises(DataError, match=r"first line of its file holds numbers \(1, 2\).*would be lost"):
        read_graph(path, labels(2, 3))
    path.write_text("i,j,w,u\n1,2,3,4\n")
    with pytest.raises(DataError, match="a table with 4 columns"):
        read_graph(path, labels(1, 2))
    with pytest.raises(FileError, match="no file"):
        read_graph(tmp_path / "none.csv", ABC)


def test_labels_meet_as_numbers_and_as_text():
    for source in ([(1, 2), (2, 10)], [("1", "2"), ("2", "10")], np.array([[1.0, 2.0], [2.0, 10.0]])):
        for observed in (labels(1, 2, 10), labels("1", "10", "2")):
            assert len(read_graph(source, observed).edges) == 2
    assert list(read_graph([(2, 10), (1, 2)], labels(1)).names) == [1, 2, 10]


def test_order_of_the_areas():
    assert list(read_graph({"c": ["a"], "a": ["c"]}, labels("a")).names) == ["c", "a"]
    assert list(read_graph((["c", "z", "a"], [("c", "a")]), labels("a")).names) == ["c", "z", "a"]
    declared = labels("c", "b", "a")
    assert list(read_graph(PATH, labels("c", "a"), declared=declared).names) == ["c", "b", "a"]


def test_weights_duplicates_and_zeros():
    graph = read_graph([("b", "a", 2.0), ("b", "c", 0.5), ("a", "b", 2.0), ("a", "c", 0)], ABC)
    assert graph.edges.tolist() == [[0, 1], [1, 2]] and graph.weights.tolist() == [2.0, 0.5]
    assert graph.notes == (
        "graph `W`: 1 edge of weight zero left out.",
        "graph `W`: 1 duplicate edge merged (a pair counts once, in either order).",
    )
    assert read_graph(sparse.csr_matrix(2.5 * PATH), ABC).weights.tolist() == [2.5, 2.5]
    twice = sparse.coo_array((np.ones(4), ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(3, 3))
    assert read_graph((ABC, twice), ABC).notes == ()
    assert read_graph(twice, ABC).notes == ("graph `W` has no names: its rows are taken as the sorted areas, a, b, c.",)
    assert read_graph({"a": ["b", "b"], "b": ["a"], "c": []}, ABC).notes[0].startswith("graph `W`: 2 duplicate edges")


def test_islands_and_components(rng):
    graph = read_graph(({"a": ["d"], "b": [], "c": ["e"], "d": ["a"], "e": ["c"], "f": []}), ABC)
    assert graph.components.tolist() == [0, 1, 2, 0, 2, 3]
    assert graph.islands.tolist() == [1, 5]
    assert repr(graph) == "Graph(6 areas, 2 edges, 4 parts)"
    m = 300
    edges = rng.integers(0, m, (200, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    graph = read_graph((range(m), edges), labels(0))
    dense = sparse.coo_array((np.ones(len(edges)), edges.T), shape=(m, m))
    count, part = connected_components(dense, directed=False)
    assert graph.components.max() + 1 == count
    np.testing.assert_array_equal(graph.components[:, None] == graph.components, part[:, None] == part)
    np.testing.assert_array_equal(graph.edges, np.unique(np.sort(edges, axis=1), axis=0))


def test_ten_thousand_areas_are_quick():
    side = 100
    place = np.arange(side * side).reshape(side, side)
    edges = np.concatenate(
        [
            np.stack([place[:, :-1].ravel(), place[:, 1:].ravel()], 1),
            np.stack([place[:-1].ravel(), place[1:].ravel()], 1),
        ]
    )
    one = read_graph(edges, place.ravel().astype(object))
    matrix = sparse.coo_array((np.ones(len(edges)), edges.T), shape=(side**2, side**2))
    other = read_graph(matrix + matrix.T, place.ravel().astype(object))
    np.testing.assert_array_equal(one.edges, other.edges)
    assert len(one.edges) == 2 * side * (side - 1) and one.components.max() == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([("a", "b"), ("b", "d")], "has not the area c of the data. Its 3 areas: a, b, d. An area without neighbours"),
        ([("a", "a"), ("b", "c")], "self-loops, an area beside itself: a"),
        ([("a", "b", -1.0), ("b", "c", 1)], "the weight of a and b is -1; weights must be positive"),
        ([("a", "b", np.inf), ("b", "c", 1)], "the weight of a and b is inf"),
        ([("a", "b", 2.0), ("b", "a", 1), ("b", "c", 1)], "b and a has the weights 2 and 1"),
        ([("a", "b", "x"), ("b", "c", 1)], "must hold numbers"),
        ([("a", "b"), ("b",)], "entries of 1, 2 items"),
        (["ab", "bc"], "entry 0 is 'ab' where a pair"),
        ([("a", None), ("b", "c")], "a label is missing among the areas of the graph W"),
        ([("a", 1), ("b", "c")], "mixes types"),
        ([], "is empty"),
        ({}, "is empty"),
        (5, "is of type int: give a list of pairs"),
        (None, "is of type NoneType"),
        (np.zeros((2, 2, 2)), "3 dimensions"),
        ({"a": ["b"], "b": ["a", "c"], "c": []}, "not symmetric: b has the neighbour c, but not the other way round. Correct the dict"),
        ({"a": ["b"], "b": ["a", "z"], "c": []}, "b has the neighbour z, which has no entry of its own"),
        ({"a": "b", "b": "a", "c": []}, "the neighbours of a are 'b'; give a list"),
        ({"a": {"b": 2.0}, "b": {"a": 3.0}, "c": {}}, "a and b have the weights 2 and 3"),
        (np.triu(PATH), "not symmetric: 0 has the neighbour 1, but not the other way round (2 such pairs)"),
        (named("abc", "abc", np.triu(PATH)), "not symmetric: a has the neighbour b"),
        (named("abc", "abc", PATH + np.triu(PATH)), "a and b have the weights 2 and 1"),
        (PATH + np.eye(3), "self-loops, an area beside itself: a, b, c"),
        (-PATH, "the weight of a and b is -1"),
        (1j * PATH, "complex"),
        (sparse.csr_matrix(1j * PATH), "complex"),
        (np.where(PATH == 1, np.nan, 0), "the weight of a and b is nan"),
        (np.zeros((4, 4)), "a matrix of 4 areas without names, and the data have 3 areas"),
        (sparse.csr_matrix((3, 4)), "the shape (3, 4): an adjacency matrix is square"),
        (named("abx"), "rows and columns have different labels (c)"),
        ((["a", "b"], PATH), "2 names for 3 rows"),
        ((["a", "b", "b"], PATH), "names b twice"),
        ((["a", "b"], PAIRS), "has edges of c, which its names lack"),
        ((["a", "b"], {"a": [], "b": [], "c": []}), "has the areas c, which its names lack"),
        (pd.DataFrame({"i": ["a", "b"], "j": ["b", None]}), "missing in column `j`, row 1"),
        (pd.DataFrame({"i": ["a", "b"]}), "a table with 1 column"),
        (Network("abc", [("a", "b", 1), ("b", "c", 1)], True), "not symmetric: a has the neighbour b"),
    ],
)  # fmt: skip
def test_bad_graphs_are_named(source, words):
    with pytest.raises(DataError) as caught:
        read_graph(source, ABC)
    assert words in str(caught.value)
    assert "`W`" in str(caught.value) or "graph W" in str(caught.value)


def test_a_misspelt_area_gets_the_nearest():
    with pytest.raises(DataError, match="has not the area Orkny of the data. Did you mean `Orkney`?"):
        read_graph([("Orkney", "Shetland")], labels("Orkny", "Shetland"), "isles")


class Map(pd.DataFrame):
    """A table with a column of shapes, as geopandas has it."""

    geometry = pd.Series(name="shape")


class TestMaps:
    def test_without_libpysal(self, monkeypatch):
        kind = type("GeoDataFrame", (), {"__module__": "geopandas.geodataframe"})
        monkeypatch.setitem(sys.modules, "libpysal", None)
        monkeypatch.setitem(sys.modules, "libpysal.weights", None)
        with pytest.raises(Unsupported, match=r"pip install 'bayou\[spatial\]'"):
            read_graph(kind(), ABC)

    def test_three_boxes(self):
        geopandas = pytest.importorskip("geopandas")
        pytest.importorskip("libpysal")
        from shapely.geometry import box

        boxes = [box(0, 0, 1, 1), box(1, 1, 2, 2), box(5, 5, 6, 6)]  # the first two share a corner
        table = geopandas.GeoDataFrame({"area": ["a", "b", "c"], "count": [1, 1, 2]}, geometry=boxes)
        for source in (table, table.set_index("area")):
            graph = read_graph(source, ABC)
            assert list(graph.names) == ["a", "b", "c"] and graph.edges.tolist() == [[0, 1]]
            assert graph.islands.tolist() == [2]
        with pytest.raises(DataError, match=r"neither its index nor `area` nor `count` names each area .*\(a, x\)"):
            read_graph(table, labels("a", "x"))

    def test_names_are_looked_for_in_index_and_columns(self):
        table = Map({"district": ["u", "v"], "shape": [0, 0]})
        assert list(graph_neighbours._geographic_names(table, labels("v"), "W")) == ["u", "v"]
        assert list(graph_neighbours._geographic_names(table, labels(1), "W")) == [0, 1]


A = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])


class TestMatrices:
    @pytest.mark.parametrize(
        "source",
        [A, A.tolist(), pd.DataFrame(A), named("abc", "abc", A), named("cab", "abc", A[:, [2, 0, 1]]), (list("abc"), A),
         (np.array(list("abc")), A.tolist()), pl.DataFrame(A, schema=["a", "b", "c"])],
    )  # fmt: skip
    def test_forms(self, source):
        names, matrix = read_matrix(source, ABC)
        assert list(names) == ["a", "b", "c"]
        np.testing.assert_array_equal(matrix, A)

    @pytest.mark.parametrize("source", [sparse.csr_matrix(A), sparse.coo_array(A), (list("abc"), sparse.csc_matrix(A))])
    def test_sparse(self, source):
        names, matrix = read_matrix(source, ABC)
        assert list(names) == ["a", "b", "c"] and matrix.format == "csc" and matrix.nnz == 7
        np.testing.assert_array_equal(matrix.toarray(), A)

    def test_more_levels_than_the_data_have(self):
        names, matrix = read_matrix(named("cab", "cab", A), labels("a"))
        assert list(names) == ["c", "a", "b"]
        assert list(read_matrix((range(3), A), labels("2"))[0]) == [0, 1, 2]
        assert list(read_matrix(pd.DataFrame(A), labels(0, 2))[0]) == [0, 1, 2]

    def test_rounding_is_made_symmetric(self):
        rounded = A + np.triu(np.full((3, 3), 1e-12), 1)
        matrix = read_matrix(rounded, ABC)[1]
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(matrix, A, atol=1e-12)
        matrix = read_matrix(sparse.csc_array(rounded), ABC)[1]
        np.testing.assert_array_equal(matrix.toarray(), matrix.toarray().T)

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (A[:2], "not square: its shape is (2, 3)"),
            (pd.DataFrame(A[:2]), "not square: its shape is (2, 3)"),
            (sparse.csr_matrix(A[:2]), "not square"),
            (A + np.triu(A, 1), "not symmetric: 1 at a, b and 0.5 the other way round"),
            (sparse.csr_matrix(A + np.triu(A, 1)), "not symmetric: 1 at a, b and 0.5"),
            (np.where(A == 0.2, np.nan, A), "not finite at b, c"),
            (sparse.csr_matrix(np.where(A == 0.2, np.inf, A)), "not finite at"),
            ((list("abd"), A), "lacks the level c of the data. Its 3 levels: a, b, d"),
            ((list("aab"), A), "names a twice"),
            ((list("ab"), A), "2 names for 3 rows"),
            (np.eye(4), "4 rows without names, and the data have 3 levels"),
            ("A", "of type str and not a matrix of numbers"),
            (None, "of type NoneType"),
            ({"a": 1}, "of type dict"),
            (np.full((3, 3), "x"), "not a matrix of numbers"),
            (1j * A, "not a matrix of numbers"),
            (sparse.csr_matrix(1j * A), "complex"),
            (named("abx", "abc", A), "rows and columns have different labels (c)"),
        ],
    )
    def test_bad_ones_are_named(self, source, words):
        with pytest.raises(DataError) as caught:
            read_matrix(source, ABC)
        assert words in str(caught.value) and "`A`" in str(caught.value)


def test_a_graph_can_be_made_by_hand():
    graph = Graph(ABC, np.array([[0, 1]]), np.ones(1))
    assert graph.islands.tolist() == [2]
    with pytest.raises(DataError, match="has not the area d"):
        read_graph(graph, labels("d"))

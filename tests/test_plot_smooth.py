"""Pictures of curves, maps and densities: what they show, what they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

import bayou
import structured_models as models
from bayou.design.graphs import Graph
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit
from bayou.plot.layouts import layout
from bayou.posterior import Posterior


@pytest.fixture(scope="module")
def plain():
    return Fit(models.posterior())


@pytest.fixture(scope="module")
def densities(plain):
    return Fit(models.approximated(plain.result))


@pytest.fixture(scope="module")
def copies():
    return Fit(models.posterior(models.model("y ~ x + rw1(t, by=g) + leroux(area, graph=W, by=g)")))


def middle(ax):
    """The line of the medians: the widest of a panel."""
    return max(ax.lines, key=lambda line: line.get_linewidth() * (line.get_linestyle() != "None"))


def words(picture):
    return " ".join(text.get_text() for text in picture.texts)


# ---- curves --------------------------------------------------------------------------------


def test_a_curve_of_draws(plain):
    picture = plain.plot.smooth()
    (ax,) = picture.axes
    line = middle(ax)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(24))
    np.testing.assert_allclose(line.get_ydata(), np.median(plain.result.flat("f_t"), axis=0))
    assert picture.get_suptitle() == "rw2(t): the effect" and ax.get_ylabel() == "f(t), log scale"
    assert len(ax.collections) == 2


def test_a_curve_of_densities(densities):
    (ax,) = densities.plot.smooth("t").axes
    np.testing.assert_allclose(middle(ax).get_ydata(), densities.result.approximation.effect("f_t").quantile(0.5))


def test_a_curve_on_the_scale_of_the_data(plain):
    picture = plain.plot.smooth("t", scale="response", interval=0.8)
    (ax,) = picture.axes
    po = plain.result
    rest = po.flat("beta") @ po.model.design.X.mean(axis=0)
    expected = np.exp(po.flat("f_t") + rest[:, None])
    np.testing.assert_allclose(middle(ax).get_ydata(), np.median(expected, axis=0))
    dots = next(line for line in ax.lines if line.get_linestyle() == "None")
    np.testing.assert_array_equal(np.sort(dots.get_ydata()), np.sort(models.data()["y"]))
    assert ax.get_ylabel() == "y" and "h, area at zero" in words(picture).replace("\n", " ")


def test_the_response_of_proportions_lies_between_zero_and_one():
    rain = bayou.datasets.load("rain")
    of = bayou.Model("proportion(rain, years) ~ rw2(day, cyclic=True)", rain, "binomial")
    (ax,) = Fit(models.posterior(of, draws=50)).plot.smooth(scale="response").axes
    assert ax.get_ylabel() == "rain / years"
    dots = next(line for line in ax.lines if line.get_linestyle() == "None")
    assert set(dots.get_ydata()) <= {0.0, 0.5, 1.0} and len(dots.get_xdata()) == 366
    low, high = ax.get_ylim()
    assert -0.1 < low < 0.0 and 1.0 < high < 1.1


def test_a_spline_is_drawn_as_a_curve():
    fit = Fit(models.posterior(models.model("y ~ s(u)")))
    (ax,) = fit.plot.smooth("u").axes
    line, term = middle(ax), fit.model.design.structured[0]
    node, value = term.basis.evaluate(line.get_xdata())
    curves = np.einsum("sik,ik->si", fit.result.flat("f_u")[:, node], value)
    np.testing.assert_allclose(line.get_ydata(), np.median(curves, axis=0), atol=1e-12)
    data = next(x for x in fit.plot.smooth("u", scale="response").axes[0].lines if x.get_linestyle() == "None")
    np.testing.assert_allclose(np.sort(data.get_xdata()), np.sort(models.data()["u"]), rtol=1e-9)


def test_one_panel_for_each_copy(copies):
    picture = copies.plot.smooth("t:g")
    shown = [ax for ax in picture.axes if ax.get_visible()]
    assert [ax.get_title("left") for ax in shown] == ["p", "q", "r"]
    np.testing.assert_allclose(middle(shown[1]).get_ydata(), np.median(copies.result.flat("f_t:g")[:, 1], axis=0))
    few = copies.plot.smooth("t:g", limit=2)
    assert sum(ax.get_visible() for ax in few.axes) == 2 and "2 of 3 levels of g" in words(few)
    data = [line for line in copies.plot.smooth("t:g", scale="response").axes[0].lines if line.get_marker() == "o"]
    assert len(data[0].get_xdata()) == (models.data()["g"] == "p").sum()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "area"}, r"fit\.plot\.areas\('area'\)"),
        ({"name": "tt"}, r"Did you mean.*`?t"),
        ({"scale": "exp"}, "'link' for the effect itself"),
        ({"interval": 1.5}, "interval"),
        ({"limit": 0}, "limit"),
    ],
)
def test_curves_that_cannot_be_drawn(plain, options, said):
    with pytest.raises(DataError, match=said):
        plain.plot.smooth(**options)


def test_a_model_without_curves_says_so():
    fit = Fit(models.posterior(models.model("y ~ x + (1 | h)")))
    with pytest.raises(DataError, match="It has none"):
        fit.plot.smooth()
    with pytest.raises(DataError, match="It has none"):
        fit.plot.areas()


def test_draws_that_were_not_kept_are_named(plain):
    po = plain.result
    bare = Posterior(po.model, po.engine, {k: v for k, v in po.draws.items() if k != "f_t"}, info=po.info)
    with pytest.raises(Unsupported, match="f_t"):
        Fit(bare).plot.smooth()


# ---- maps ----------------------------------------------------------------------------------


def square(x, y):
    ring = SimpleNamespace(coords=[(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)])
    hole = SimpleNamespace(coords=[(x + 0.4, y + 0.4), (x + 0.6, y + 0.4), (x + 0.6, y + 0.6), (x + 0.4, y + 0.4)])
    return SimpleNamespace(exterior=ring, interiors=[hole])


class Shapes(dict):
    """What is read of a GeoDataFrame: columns, an index, the geometry."""

    def __init__(self, names, column=None):
        super().__init__({} if column is None else {column: names})
        self.index = names if column is None else list(range(len(names)))
        self.columns = [*self, "geometry"]
        shapes = [square(k % 3, k // 3) for k in range(len(names))]
        shapes[0] = SimpleNamespace(geoms=[shapes[0], square(5, 5)])
        self.geometry = shapes


def coloured(ax):
    """The collection that holds one value or one outline per area."""
    return next(c for c in ax.collections if isinstance(c, PathCollection))


def test_a_map_of_the_graph(plain):
    picture = plain.plot.areas()
    ax = picture.axes[0]
    np.testing.assert_allclose(coloured(ax).get_array(), plain.structured("area")["mean"])
    edges = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(edges.get_segments()) == 6 and [t.get_text() for t in ax.texts] == list("abcdef")
    norm = coloured(ax).norm
    assert norm.vmin == -norm.vmax and norm.vmax == pytest.approx(plain.structured("area")["mean"].abs().max())
    assert picture.axes[1].get_ylabel() == "f(area), log scale"


@pytest.mark.parametrize("column", [None, "area"])
def test_a_map_of_polygons(plain, column):
    names = list("fedcba")  # in another order than the graph
    picture = plain.plot.areas("area", Shapes(names, column))
    drawn = coloured(picture.axes[0])
    assert len(drawn.get_paths()) == 6
    corners = [path.vertices.min(axis=0).tolist() for path in drawn.get_paths()]
    assert corners == [[k % 3, k // 3] for k in (5, 4, 3, 2, 1, 0)]
    # the area f is of two parts, each with a hole
    assert sum(code == 1 for code in drawn.get_paths()[5].codes) == 4


def test_areas_that_are_surely_not_zero_are_outlined(plain):
    draws = dict(plain.result.draws)
    draws["f_area"] = draws["f_area"] + np.array([40.0, 0, 0, 0, 0, -40.0])
    fit = Fit(Posterior(plain.model, "StandIn()", draws, info=plain.result.info))
    edges = coloured(fit.plot.areas().axes[0]).get_edgecolors()
    assert [tuple(e[:3]) != (1.0, 1.0, 1.0) for e in edges] == [True, False, False, False, False, True]
    assert "95 % interval without zero" in [t.get_text() for t in fit.plot.areas().legends[0].get_texts()]
    assert not plain.plot.areas().legends


def test_one_map_for_each_copy(copies):
    picture = copies.plot.areas()
    shown = [ax for ax in picture.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in shown] == ["p", "q", "r"]
    values = copies.structured("area:g")["mean"].to_numpy().reshape(3, 6)
    np.testing.assert_allclose(coloured(shown[2]).get_array(), values[2])


@pytest.mark.parametrize(
    ("geometry", "said"),
    [(Shapes(list("abcde")), "has not the area f"), ([1, 2], "GeoDataFrame"), (np.zeros((3, 2)), "GeoDataFrame")],
)
def test_polygons_that_do_not_fit(plain, geometry, said):
    with pytest.raises(DataError, match=said):
        plain.plot.areas("area", geometry)


def test_a_known_covariance_has_no_map():
    fit = Fit(models.posterior(models.model("y ~ (1 | animal, covariance=A)")))
    with pytest.raises(DataError, match=r"no graph to draw.*fit\.structured\('animal'\)"):
        fit.plot.areas()


def grid_graph(rows, columns, extra=0):
    number = np.arange(rows * columns).reshape(rows, columns)
    edges = [*zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True)]
    edges += [*zip(number[:-1].ravel(), number[1:].ravel(), strict=True)]
    names = np.arange(rows * columns + extra).astype(object)
    return Graph(names, np.array(edges, dtype=np.int64), np.ones(len(edges)))


@pytest.mark.parametrize("shape", [(6, 9), (30, 40)])
def test_a_lattice_is_laid_out_as_one(shape):
    graph = grid_graph(*shape)
    places = layout(graph)
    lengths = np.linalg.norm(places[graph.edges[:, 0]] - places[graph.edges[:, 1]], axis=1)
    assert lengths.min() > 0.3 * np.median(lengths) and lengths.max() < 2.0 * np.median(lengths)
    # neighbours are nearer than others: no two areas lie on top of each other
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9.0 * np.eye(len(places))
    assert apart.min() > 0.3 * np.median(lengths)


def test_a_large_lattice_keeps_its_distances():
    graph = grid_graph(45, 40)
    places = layout(graph)
    row, column = np.divmod(np.arange(1800), 40)
    steps = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    drawn = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert np.corrcoef(steps.ravel(), drawn.ravel())[0, 1] > 0.95  # 0.977 of the lattice itself


def test_parts_and_islands_lie_beside_each_other():
    graph = grid_graph(4, 5, extra=3)
    places = layout(graph)
    assert np.isfinite(places).all()
    lattice, islands = places[:20], places[20:]
    low, high = lattice.min(axis=0), lattice.max(axis=0)
    inside = ((islands > low - 0.5) & (islands < high + 0.5)).all(axis=1)
    assert not inside.any()
    apart = np.linalg.norm(islands[:, None] - islands[None], axis=2) + 9.0 * np.eye(3)
    assert apart.min() >= 1.0


# ---- densities -----------------------------------------------------------------------------


def test_densities_of_an_approximation(densities):
    picture = densities.plot.marginals()
    assert [ax.get_title("left") for ax in picture.axes] == list(densities.result.rows)
    curve = max(picture.axes[3].lines, key=lambda line: len(line.get_xdata()))
    one = densities.result.approximation.marginals["sd_t"]
    np.testing.assert_allclose(curve.get_ydata(), one.density(curve.get_xdata()))
    assert "INLA, variational, 2 nodes" in words(picture)
    few = densities.plot.marginals(limit=2)
    assert sum(ax.get_visible() for ax in few.axes) == 2 and "first 2 of 6" in words(few)


def test_densities_of_draws_and_of_single_effects(plain, densities):
    for fit in (plain, densities):
        picture = fit.plot.marginals(["beta", "f_t[3]", "b_h[s2,Intercept]"])
        titles = [ax.get_title("left") for ax in picture.axes if ax.get_visible()]
        assert titles == ["beta[Intercept]", "beta[x]", "f_t[3]", "b_h[s2,Intercept]"]
        for ax in (a for a in picture.axes if a.get_visible()):
            curve = max(ax.lines, key=lambda line: len(line.get_xdata()))
            assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(1.0, abs=0.02)
    assert "400 draws" in words(plain.plot.marginals("sd_t"))
    with pytest.raises(DataError, match="no row of the summary"):
        plain.plot.marginals("sd_q")


def test_a_density_of_what_never_moves(plain):
    draws = dict(plain.result.draws)
    draws["sd_t"] = np.full_like(draws["sd_t"], 2.0)
    picture = Fit(Posterior(plain.model, "StandIn()", draws, info=plain.result.info)).plot.marginals("sd_t")
    assert picture.axes[0].lines[0].get_xdata()[0] == 2.0


# ---- the other pictures --------------------------------------------------------------------


def test_chains_are_not_drawn_of_densities(densities):
    for name in ("trace", "autocorrelation"):
        with pytest.raises(Unsupported, match=r"INLA has none.*fit\.plot\.marginals"):
            getattr(densities.plot, name)()


def test_the_forest_holds_hyperparameters_and_reads_densities(densities):
    picture = densities.plot.coefficients(interval=0.9)
    labels = [t.get_text() for ax in picture.axes for t in ax.get_yticklabels()]
    assert labels == ["Intercept", "x", "h: Intercept", "rw2(t)", "bym2(area, graph=W)", "bym2(area, graph=W): phi"]
    ax = picture.axes[0]
    ends = ax.collections[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, densities.result.approximation.marginals["beta[Intercept]"].quantile([0.05, 0.95]))


def test_levels_of_a_group_beside_structured_effects(densities):
    assert sum(ax.get_visible() for ax in densities.plot.groups("h", "t").axes) == 5
    fit = Fit(models.approximated(models.posterior(models.model("y ~ bym2(area, graph=W) + (1 | h)"))))
    (ax,) = fit.plot.groups("h").axes
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    medians = fit.result.approximation.effect("b_h").quantile(0.5)[:, 0]
    np.testing.assert_allclose(dots.get_xdata(), np.sort(medians))


def test_bands_along_times_and_beside_them(plain, copies):
    picture = plain.plot.bands("t", draws=200)
    x = middle(picture.axes[0]).get_xdata()
    np.testing.assert_array_equal(x, np.arange(24))
    assert "typical h and area" in picture.axes[0].get_title("left")
    assert "t = 12" in words(plain.plot.bands("x", draws=200)) or "t = 11" in words(plain.plot.bands("x", draws=200))
    assert len(copies.plot.bands("x", draws=200).axes) == 3
    only = Fit(models.posterior(models.model("y ~ s(u)"), draws=100))
    assert len(only.plot.bands("u").axes) == 2
    assert plain.plot.predictive_check(draws=50).axes

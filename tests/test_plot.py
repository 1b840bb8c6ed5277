"""Pictures hold what they say: the numbers in their lines, their labels, and nothing left open."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import bayou
from bayou.errors import BayouError, DataError, FileError
from bayou.plot import Plots, explore
from bayou.plot.grids import covariates
from bayou.plot.numbers import autocorrelations, density, thinned
from bayou.plot.separate import separate_fit

SMALL = {"draws": 100, "warmup": 200, "chains": 2, "seed": 1}


@pytest.fixture(scope="module")
def clinic():
    data = bayou.datasets.load("clinic")
    return bayou.fit("proportion(favorable, patients) ~ treatment + (1 | clinic)", data, family="binomial", **SMALL)


@pytest.fixture(scope="module")
def tumor():
    data = bayou.datasets.load("tumor")
    return bayou.fit("count ~ poly(x, 2) + (poly(x, 2) | mouse)", data, family="poisson", **SMALL)


@pytest.fixture(scope="module")
def bass():
    data = bayou.datasets.load("bass")
    formula = "log(mercury) ~ center(log(length), by=station) + (center(log(length), by=station) || station)"
    return bayou.fit(formula, data, **SMALL)


@pytest.fixture(scope="module")
def school():
    return bayou.fit("score ~ ses + (ses | school)", bayou.datasets.load("school"), **SMALL)


@pytest.fixture(scope="module")
def mixed():
    """Crossed factors, a category, an exposure, a 0/1 response in text, awkward names."""
    rng = np.random.default_rng(5)
    n = 240
    return {
        "g": [f"unit {k}" for k in rng.integers(0, 8, n)],
        "h": rng.integers(0, 5, n),
        "x$1_$2": rng.normal(3, 1, n),
        "arm": np.array(["a", "b", "c"])[rng.integers(0, 3, n)],
        "time": rng.uniform(0.5, 2.0, n),
        "count": rng.poisson(2.0, n),
        "answer": np.array(["no", "yes"])[rng.integers(0, 2, n)],
        "y": rng.normal(size=n),
    }


def visible(picture):
    return [ax for ax in picture.axes if ax.get_visible()]


def texts(picture):
    """Title, caption and legend in one text."""
    found = [picture.get_suptitle(), picture.get_supxlabel()]
    found += [text.get_text() for legend in picture.legends for text in legend.get_texts()]
    return " ".join(found).replace("\n", " ")


# ---- every picture -------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["clinic", "tumor", "bass", "school"])
@pytest.mark.parametrize("name", ["trace", "autocorrelation", "coefficients", "groups", "predictive_check"])
def test_pictures_draw_without_pyplot_and_without_warnings(which, name, request, tmp_path):
    fit = request.getfixturevalue(which)
    before = pyplot.get_fignums()
    picture = getattr(fit.plot, name)(save=tmp_path / "picture.png")
    assert isinstance(picture, Figure)
    assert pyplot.get_fignums() == before
    assert picture.dpi == 150
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert picture.get_suptitle()
    assert len(picture.legends) <= 1


def test_the_global_style_is_left_alone(clinic):
    import matplotlib

    before = dict(matplotlib.rcParams)
    clinic.plot.coefficients()
    assert dict(matplotlib.rcParams) == before


def test_a_notebook_shows_a_picture(clinic):
    assert clinic.plot.groups()._repr_png_()[:4] == b"\x89PNG"


def test_size_and_path(clinic, tmp_path):
    assert tuple(clinic.plot.trace(size=(4, 3)).get_size_inches()) == (4.0, 3.0)
    with pytest.raises(DataError, match="inches"):
        clinic.plot.trace(size=(0, 3))
    with pytest.raises(FileError, match="cannot be written"):
        clinic.plot.trace(save=tmp_path / "none" / "a.png")
    with pytest.raises(FileError, match="cannot be written"):
        clinic.plot.trace(save=tmp_path / "a.unknown")


def test_plots_name_their_pictures(clinic):
    assert isinstance(clinic.plot, Plots)
    for name in ("trace", "autocorrelation", "coefficients", "groups", "bands", "predictive_check"):
        assert name in repr(clinic.plot)


# ---- chains --------------------------------------------------------------------------------


def test_trace_lines_are_the_draws(school):
    picture = school.plot.trace("sigma")
    _, path = picture.axes
    assert len(path.lines) == 2
    for chain, line in enumerate(path.lines):
        np.testing.assert_array_equal(line.get_ydata(), school.result.draws["sigma"][chain])


def test_trace_thins_long_paths_and_says_so(clinic):
    fit = bayou.fit(clinic.model, engine="metropolis", draws=2500, warmup=50, chains=1, seed=1)
    picture = fit.plot.trace("sd_clinic")
    line = picture.axes[1].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), fit.result.draws["sd_clinic"][0, ::3, 0])
    assert "Every 3rd draw" in texts(picture)
    assert not picture.legends


def test_many_parameters_are_cut_and_counted(tumor):
    picture = tumor.plot.trace(limit=3)
    assert len(picture.axes) == 6
    assert f"first 3 of {len(tumor.result.rows)} parameters" in texts(picture)
    with pytest.raises(DataError, match="no row of the summary"):
        tumor.plot.trace("sd_mous")


def test_autocorrelation_agrees_with_the_definition(school):
    chain = school.result.draws["sigma"][0]
    rho = autocorrelations(chain[None], 5)[0]
    centred = chain - chain.mean()
    direct = [np.sum(centred[k:] * centred[: len(chain) - k]) / np.sum(centred**2) for k in range(6)]
    np.testing.assert_allclose(rho, direct, atol=1e-12)
    picture = school.plot.autocorrelation(parameters="sigma", lags=5)
    drawn = [line.get_ydata() for line in picture.axes[0].lines if len(line.get_ydata()) == 6]
    np.testing.assert_allclose(drawn[0], rho)


def test_autocorrelation_puts_samplers_side_by_side(bass):
    fits = [
        bayou.fit(bass.model, engine="gibbs", parameterization=way, draws=60, warmup=50, chains=2, seed=1)
        for way in ("centered", "uncentered")
    ]
    picture = fits[0].plot.autocorrelation(fits[1])
    assert len(visible(picture)) == 2 * len(fits[0].result.rows)
    headings = [text.get_text() for ax in picture.axes[:2] for text in ax.texts]
    assert any("centered" in h for h in headings)
    assert any("uncentered" in h for h in headings)


def test_a_chain_that_never_moves_is_said_to(school):
    draws = {key: values.copy() for key, values in school.result.draws.items()}
    draws["sigma"][:] = 1.0
    stuck = type(school.result)(school.model, "stuck", draws, info=school.result.info)
    picture = bayou.Fit(stuck).plot.autocorrelation(parameters="sigma")
    assert "never moved" in [text.get_text() for text in picture.axes[0].texts]
    bayou.Fit(stuck).plot.trace("sigma")


# ---- estimates -----------------------------------------------------------------------------


def test_coefficients_hold_medians_and_names(clinic):
    picture = clinic.plot.coefficients()
    fixed = picture.axes[0]
    assert [label.get_text() for label in fixed.get_yticklabels()] == ["Intercept", "treatment[drug]"]
    medians = fixed.lines[-1].get_xdata()
    np.testing.assert_allclose(medians, clinic.fixed_effects["median"])
    assert "logit scale" in texts(picture)


def test_a_far_intercept_gets_its_own_axis(school):
    picture = school.plot.coefficients()
    assert [len(ax.get_yticks()) for ax in picture.axes] == [1, 1, 3]
    assert picture.axes[1].get_xlim()[0] <= 0.0


def test_caterpillar_orders_levels(clinic):
    picture = clinic.plot.groups()
    (ax,) = picture.axes
    medians = ax.lines[-1].get_xdata()
    assert (np.diff(medians) >= 0.0).all()
    expected = np.sort(np.median(clinic.result.flat("b_clinic")[:, :, 0], axis=0))
    np.testing.assert_allclose(medians, expected)
    assert sorted(label.get_text() for label in ax.get_yticklabels()) == [str(k) for k in range(1, 9)]


# ---- groups --------------------------------------------------------------------------------


def test_group_lines_are_predictions_and_least_squares(school):
    picture = school.plot.groups(levels=[7, 12], draws=None)
    assert len(visible(picture)) == 2
    data = bayou.datasets.load("school")
    own = data[data.school == 7]
    points, alone, mixed = picture.axes[0].lines
    np.testing.assert_array_equal(points.get_xdata(), own.ses)
    np.testing.assert_array_equal(points.get_ydata(), own.score)
    slope, intercept = np.polyfit(own.ses, own.score, 1)
    np.testing.assert_allclose(alone.get_ydata(), intercept + slope * alone.get_xdata(), rtol=1e-8)
    x = mixed.get_xdata()
    predicted = school.predict({"ses": x, "school": [7] * len(x)})
    np.testing.assert_allclose(mixed.get_ydata(), predicted["median"])
    assert (alone.get_color(), mixed.get_color()) == ("#2b6cb0", "#1a1a1a")
    assert "2 of 100 levels" in texts(picture)


def test_group_lines_centred_by_group(bass):
    picture = bass.plot.groups(draws=None)
    assert len(visible(picture)) == 16
    mixed = picture.axes[3].lines[-1]
    rows = {"length": mixed.get_xdata(), "station": ["s04"] * len(mixed.get_xdata())}
    np.testing.assert_allclose(mixed.get_ydata(), bass.predict(rows)["median"])


def test_many_groups_are_cut_and_said(school):
    picture = school.plot.groups(limit=6)
    assert len(visible(picture)) == 6
    assert "6 of 100 levels of school, evenly spaced from the smallest (4 rows)" in texts(picture)


def test_crossed_groups_stand_at_the_average_of_the_other(mixed):
    fit = bayou.fit("y ~ `x$1_$2` + arm + (1 | g) + (1 | h)", mixed, **SMALL)
    picture = fit.plot.groups("h", limit=5)
    assert len(visible(picture)) == 5
    assert "g at the average level" in texts(picture)
    assert "(arm)" in texts(picture)
    picture.draw_without_rendering()


def test_a_separate_fit_is_the_maximum_of_the_likelihood(tumor):
    design = tumor.model.design
    mine = design.groupings[0].codes == 3
    A, y = design.X[mine], design.y[mine]
    ones = np.ones(len(y))
    eta = separate_fit(tumor.model.family, A, y, 0 * ones, ones, ones, A)
    np.testing.assert_allclose(A.T @ (y - np.exp(eta)), 0.0, atol=1e-3)


def test_no_line_where_the_rows_do_not_determine_one(clinic):
    family = clinic.model.family
    A = np.column_stack([np.ones(4), np.arange(4.0)])
    ones = np.ones(4)
    # one value of x, a slope wanted; all successes: no maximum
    flat = np.column_stack([ones, ones])
    assert separate_fit(family, flat, ones, 0 * ones, 2 * ones, ones, A) is None
    assert separate_fit(family, A, ones, 0 * ones, ones, ones, A) is None


def test_unknown_things_are_named(school, mixed):
    with pytest.raises(DataError, match="Did you mean `school`"):
        school.plot.groups("scool")
    with pytest.raises(DataError, match="Did you mean `ses`"):
        school.plot.bands("sess")
    with pytest.raises(DataError, match="no level of school"):
        school.plot.groups(levels=["Eton"])
    with pytest.raises(DataError, match="probability"):
        school.plot.groups(interval=95)
    with pytest.raises(DataError, match="at least 1"):
        school.plot.groups(limit=0)
    plain = bayou.fit("y ~ arm", mixed, **SMALL)
    with pytest.raises(DataError, match="no grouping factor"):
        plain.plot.groups()


# ---- bands ---------------------------------------------------------------------------------


def test_bands_are_the_three_predictions(tumor):
    picture = tumor.plot.bands("x", draws=None)
    first, second, third = picture.axes
    assert [ax.get_title("left").split("\n")[0] for ax in picture.axes] == ["exp(θ′x)", "exp(β′x)", "Y | x"]
    x = first.lines[-1].get_xdata()
    population = tumor.predict({"x": x}, groups="population")
    for line, name in zip(first.lines, ("lower", "upper", "median"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), population[name])
    fresh = tumor.predict({"x": x, "mouse": [1] * len(x)}, groups="new")
    np.testing.assert_allclose(second.lines[1].get_ydata(), fresh["upper"])
    assert first.get_ylim() == second.get_ylim() == third.get_ylim()

    def width(ax):
        lower, upper = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == len(x)][:2]
        return np.mean(upper - lower)

    assert width(first) < width(second) < width(third)


def test_bands_of_a_category(clinic):
    picture = clinic.plot.bands("treatment", draws=None)
    first, _, third = picture.axes
    assert [label.get_text() for label in first.get_xticklabels()] == ["control", "drug"]
    population = clinic.predict({"treatment": ["control", "drug"]}, groups="population")
    np.testing.assert_allclose(first.lines[-1].get_ydata(), population["median"])
    observed = [line.get_ydata() for line in third.lines if len(line.get_ydata()) == 16]
    np.testing.assert_allclose(observed[0], clinic.model.design.y / clinic.model.design.trials)
    assert "proportions out of" in texts(picture)


@pytest.mark.parametrize(
    ("formula", "family", "x", "settings"),
    [
        ("count ~ `x$1_$2` + arm + offset(log(time)) + (1 | g)", "poisson", "x$1_$2", {}),
        ("answer ~ `x$1_$2` + (1 | g/h)", "bernoulli", "x$1_$2", {}),
        ("y ~ `x$1_$2` * arm + (1 | g)", "gaussian", "arm", {"sigma_by": "arm"}),
        ("y ~ C(h) + center(`x$1_$2`, by=g)", "gaussian", "x$1_$2", {}),
        ("y ~ bs(`x$1_$2`, df=4) + (1 | h)", "gaussian", "x$1_$2", {"weights": "time"}),
        ("measured(y, time) ~ `x$1_$2` + (1 | g)", "gaussian", "x$1_$2", {}),
        ("time ~ `x$1_$2` + (1 | g)", "gamma", "x$1_$2", {}),
        ("count ~ arm + (arm | g)", "negative_binomial", "arm", {}),
        ("cbind(count, h) ~ arm + (1 | g)", "binomial", "arm", {}),
    ],
)
def test_pictures_of_every_kind_of_model(mixed, formula, family, x, settings):
    if family == "binomial":
        mixed = {**mixed, "count": mixed["count"] + 1}
    fit = bayou.fit(formula, mixed, family=family, **settings, **{**SMALL, "draws": 40, "warmup": 100})
    picture = fit.plot.bands(x)
    assert len(picture.axes) == (3 if fit.model.design.groupings else 2)
    others = [name for name in covariates(fit.model.design).numbers if name != x]
    caption = texts(picture).replace("\\$", "$")
    assert all(f"{name} = " in caption for name in others)
    made = [picture, fit.plot.predictive_check(draws=20), fit.plot.coefficients()]
    made += [fit.plot.groups(limit=4)] if fit.model.design.groupings else []
    for one in made:
        one.draw_without_rendering()


# ---- checks and exploration ----------------------------------------------------------------


def test_predictive_check_counts_the_data(tumor):
    picture = tumor.plot.predictive_check(draws=50)
    left, right = picture.axes
    observed = left.lines[-1].get_ydata()
    np.testing.assert_array_equal(observed, np.bincount(tumor.model.design.y.astype(int), minlength=len(observed)))
    assert "of the rows lie in their 95 % interval" in right.get_title("left")


def test_density_integrates_to_one(rng):
    grid = np.linspace(-6, 6, 400)
    values = rng.normal(size=5000)
    found = density(values, grid)
    assert abs(found.sum() * (grid[1] - grid[0]) - 1.0) < 1e-3
    np.testing.assert_allclose(found, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), atol=0.03)


def test_thinned_keeps_draws_in_step(tumor):
    few = thinned(tumor.result, 20)
    assert few.chains * few.size == 20
    np.testing.assert_array_equal(few.draws["beta"], tumor.result.draws["beta"][:, ::10])
    np.testing.assert_array_equal(few.draws["b_mouse"], tumor.result.draws["b_mouse"][:, ::10])
    with pytest.raises(DataError, match="draws=0"):
        thinned(tumor.result, 0)


def test_exploration_shows_figure_11_4(tumor):
    data = bayou.datasets.load("tumor")
    picture = explore(data, "x", "count", "mouse")
    left, right = picture.axes
    mean = data.groupby("x")["count"].mean()
    assert len(left.lines) == 22
    np.testing.assert_allclose(left.lines[-1].get_ydata(), mean)
    np.testing.assert_array_equal(left.lines[0].get_ydata(), data[data.mouse == 1]["count"])
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.log(mean))
    quartic = np.polynomial.Polynomial.fit(mean.index, np.log(mean), 4)
    np.testing.assert_allclose(right.lines[3].get_ydata(), quartic(right.lines[3].get_xdata()))
    assert all(f"degree {k}" in texts(picture) for k in (2, 3, 4))
    again = tumor.plot.exploration("x")
    np.testing.assert_allclose(again.axes[1].lines[3].get_ydata(), right.lines[3].get_ydata())


def test_exploration_regresses_each_station(bass):
    picture = bass.plot.exploration("length")
    left, right = picture.axes
    assert left.get_xlabel() == "center(log(length), by=station)"
    data = bayou.datasets.load("bass")
    slopes = [np.polyfit(np.log(own.length), np.log(own.mercury), 1)[0] for _, own in data.groupby("station")]
    np.testing.assert_allclose(right.lines[-1].get_xdata(), np.sort(slopes))
    same = explore(data, "center(log(length), by=station)", "log(mercury)", "station")
    np.testing.assert_allclose(same.axes[1].lines[-1].get_xdata(), np.sort(slopes))


def test_exploration_of_bad_input(tumor, mixed):
    data = bayou.datasets.load("tumor")
    with pytest.raises(DataError, match="response and the groups"):
        explore(data, "x")
    with pytest.raises(DataError, match="degrees"):
        explore(data, "x", "count", "mouse", degrees=())
    with pytest.raises(DataError, match="no single column"):
        explore(mixed, "arm", "y", "g")
    with pytest.raises(BayouError, match="place"):
        explore(data, "place", "count", "mouse")
    with pytest.raises(DataError, match="does not read"):
        explore(tumor.model, "weight")

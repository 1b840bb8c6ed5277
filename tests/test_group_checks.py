"""Predictive checks by group: numbers of the picture, and that they find what is wrong."""

import numpy as np
import pytest

import bayou
from bayou.errors import DataError, Unsupported
from bayou.plot.group_checks import STATISTICS


@pytest.fixture(scope="module")
def school() -> bayou.Fit:
    return bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=500)


def dots(picture) -> np.ndarray:
    """Where the data lie: black and orange dots of the left panel."""
    found = [line for line in picture.axes[0].lines if line.get_marker() == "o"]
    return np.concatenate([np.column_stack(line.get_data()) for line in found])


def test_observed_statistics_are_those_of_the_groups(school: bayou.Fit) -> None:
    data = bayou.datasets.load("school")
    picture = school.plot.predictive_check("school", "sd", limit=200)
    wanted = data.groupby("school")["score"].std(ddof=1)
    found = dots(picture)
    labels = [tick.get_text() for tick in picture.axes[0].get_yticklabels()]
    by_place = {labels[int(place)]: value for value, place in found}
    assert len(by_place) == 100
    for level, value in wanted.items():
        assert by_place[str(level)] == pytest.approx(value)
    assert "levels of school" in picture.get_suptitle()
    # the bars of the right panel count the groups
    assert sum(bar.get_height() for bar in picture.axes[1].patches) == 100


def test_intervals_are_those_of_the_predictive_distribution(school: bayou.Fit) -> None:
    picture = school.plot.predictive_check("school", "mean", interval=0.9, draws=2000, limit=200, seed=3)
    sample = school.predict(kind="outcome", draws=True, seed=3).values.reshape(-1, school.model.design.n)
    labels = [tick.get_text() for tick in picture.axes[0].get_yticklabels()]
    segments = {labels[round(s[0, 1])]: s[:, 0] for s in picture.axes[0].collections[0].get_segments()}
    grouping = school.model.design.groupings[0]
    for j in (0, 17, 63):
        own = sample[:, grouping.codes == j].mean(axis=1)
        error = own.std() * 2.1 / np.sqrt(500)  # of a 5 % quantile of a normal
        np.testing.assert_allclose(segments[str(grouping.levels[j])], np.quantile(own, [0.05, 0.95]), atol=4 * error)


def test_a_model_without_groups_is_found_out() -> None:
    """Means of schools lie outside far more often than 5 % where the model has no schools."""
    fit = bayou.fit("score ~ ses + C(school):ses", bayou.datasets.load("school"), seed=1, draws=200)
    title = fit.plot.predictive_check("school").get_suptitle()
    assert int(title.split()[0]) < 80
    good = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1, draws=200)
    assert int(good.plot.predictive_check("school").get_suptitle().split()[0]) > 95
    fresh = good.plot.predictive_check("school", groups="new")  # their spread is that of the model
    assert int(fresh.get_suptitle().split()[0]) >= 89
    assert "new groups" in fresh.get_supxlabel()


def test_binomial_means_are_shares_of_all_trials() -> None:
    clinic = bayou.datasets.load("clinic")
    formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    fit = bayou.fit(formula, clinic, family="binomial", seed=1, draws=200)
    picture = fit.plot.predictive_check("clinic")
    sums = clinic.groupby("clinic")[["favorable", "patients"]].sum()
    np.testing.assert_allclose(np.sort(dots(picture)[:, 0]), np.sort(sums["favorable"] / sums["patients"]))
    spread = fit.plot.predictive_check("clinic", lambda share: share.max() - share.min(), save=None)
    own = (clinic["favorable"] / clinic["patients"]).groupby(clinic["clinic"])
    np.testing.assert_allclose(np.sort(dots(spread)[:, 0]), np.sort(own.max() - own.min()), atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_many_data_sets_are_those_of_each(name: str, rng: np.random.Generator) -> None:
    y = rng.poisson(1.0, (5, 7)).astype(float)
    np.testing.assert_allclose(STATISTICS[name](y), [STATISTICS[name](one) for one in y])


def test_without_by_the_picture_is_the_old_one(school: bayou.Fit) -> None:
    assert "Predictive check" in school.plot.predictive_check().get_suptitle()


def test_wrong_requests_say_so(school: bayou.Fit, tmp_path) -> None:
    with pytest.raises(DataError, match="no grouping factor or column 'class'"):
        school.plot.predictive_check("class")
    with pytest.raises(DataError, match="statistic='range'.*mean, sd, min, max, median, zeros"):
        school.plot.predictive_check("school", "range")
    with pytest.raises(DataError, match="statistic is a int"):
        school.plot.predictive_check("school", 3)
    with pytest.raises(DataError, match="no number in any group"):
        school.plot.predictive_check("school", lambda y: np.nan)
    lean = bayou.fit(school.model, seed=1, draws=50, keep_effects=False)
    path = tmp_path / "check.png"
    lean.plot.predictive_check("school", save=path)
    assert path.stat().st_size > 0
    del lean.result.draws["b_school"]
    with pytest.raises(Unsupported, match="keep_effects"):
        lean.plot.predictive_check("school")

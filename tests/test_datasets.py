"""The built-in data: the clinic trial digit by digit, the twins near their generating parameters."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from bayou import datasets
from bayou.errors import DataError

# favourable/total on the drug, on control: as published
PUBLISHED = """
1: 11/36, 10/37; 2: 16/20, 22/32; 3: 14/19, 7/19; 4: 2/16, 1/17;
5: 6/17, 0/12; 6: 1/11, 0/10; 7: 1/5, 1/9; 8: 4/6, 6/7
"""

COLUMNS = {
    "clinic": ["clinic", "treatment", "favorable", "patients"],
    "tumor": ["mouse", "x", "count"],
    "school": ["school", "ses", "score"],
    "bass": ["station", "length", "mercury"],
    "range": ["block", "management", "mix", "plants"],
    "rain": ["day", "rain", "years"],
    "counties": ["county", "cases", "expected", "outdoor"],
}


def group_lines(frame, x, y, by):
    """Least-squares intercept and slope on x centred within each group."""
    groups = frame.groupby(by).indices.values()
    return np.array([np.polyfit(x[rows] - x[rows].mean(), y[rows], 1)[::-1] for rows in groups])


def test_names_and_columns():
    assert datasets.names() == tuple(COLUMNS)
    for name, columns in COLUMNS.items():
        frame = datasets.load(name)
        assert list(frame.columns) == columns == list(datasets.describe(name).columns)
        assert not frame.isna().any().any()


@pytest.mark.parametrize("name", COLUMNS)
def test_loading_twice_gives_the_same_data_and_a_fresh_frame(name):
    first, second = datasets.load(name), datasets.load(name)
    pd.testing.assert_frame_equal(first, second)
    first.iloc[:, -1] = 0
    pd.testing.assert_frame_equal(datasets.load(name), second)


def test_clinic_is_the_published_table():
    frame = datasets.load("clinic").set_index(["clinic", "treatment"])
    assert len(frame) == 16
    for entry in PUBLISHED.replace("\n", "").split(";"):
        clinic, arms = entry.split(":")
        for arm, cell in zip(("drug", "control"), arms.split(","), strict=True):
            row = frame.loc[(int(clinic), arm)]
            assert [int(v) for v in cell.split("/")] == [row["favorable"], row["patients"]]
    assert frame.attrs["simulated"] is False and "Beitler" in frame.attrs["source"]


@pytest.mark.parametrize("name", ["tumor", "school", "bass", "range", "rain", "counties"])
def test_twins_say_so_and_carry_their_parameters(name):
    attrs = datasets.load(name).attrs
    assert attrs["simulated"] is True and "Simulated twin" in attrs["source"]
    assert attrs["parameters"] and str(
        attrs["parameters"][
            {"bass": "beta", "range": "management", "rain": "waves", "counties": "sd"}.get(name, "theta")
        ]
    ) in str(datasets.describe(name))


def test_tumor_follows_its_generating_parameters():
    frame, parameters = datasets.load("tumor"), datasets.describe("tumor").parameters
    assert frame.groupby("mouse").size().tolist() == [20] * 21
    assert sorted(set(frame["x"])) == [round(0.05 * k, 2) for k in range(1, 21)]
    # marginal mean: exp of the mean plus half the variance of the linear predictor
    X = np.vander(np.arange(1, 21) / 20, 5, increasing=True)
    variance = np.einsum("ij,jk,ik->i", X, parameters["Sigma"], X)
    mean = np.exp(X @ parameters["theta"] + variance / 2)
    spread = np.sqrt(mean + mean**2 * np.expm1(variance)) / np.sqrt(21)
    z = (frame.groupby("x")["count"].mean() - mean) / spread
    assert np.abs(z).max() < 4 and abs(z.mean()) < 1


def test_school_follows_its_generating_parameters():
    frame, parameters = datasets.load("school"), datasets.describe("school").parameters
    sizes = frame.groupby("school").size()
    assert len(sizes) == 100 and sizes.min() >= 4 and sizes.max() <= 32
    lines = group_lines(frame, frame["ses"].to_numpy(), frame["score"].to_numpy(), "school")
    standard_error = lines.std(axis=0) / 10
    assert np.all(np.abs(lines.mean(axis=0) - parameters["theta"]) < 2 * standard_error)
    within = frame["ses"] - frame.groupby("school")["ses"].transform("mean")
    codes = frame["school"].to_numpy() - 1
    residual = frame["score"] - lines[codes, 0] - lines[codes, 1] * within
    df = len(frame) - 200
    assert chi2.ppf(0.01, df) < (residual**2).sum() / parameters["sigma2"] < chi2.ppf(0.99, df)


def test_bass_follows_its_generating_parameters():
    frame, parameters = datasets.load("bass"), datasets.describe("bass").parameters
    assert len(frame) == 171 and frame["station"].nunique() == 16
    length, mercury = (np.log(frame[column].to_numpy()) for column in ("length", "mercury"))
    lines = group_lines(frame, length, mercury, "station")
    standard_error = lines.std(axis=0) / 4
    assert np.all(np.abs(lines.mean(axis=0) - parameters["beta"]) < 2 * standard_error)


def test_an_unknown_name_is_an_error_that_names_the_known_ones():
    with pytest.raises(DataError, match="no built-in data set 'tumour'. Did you mean `tumor`.*clinic"):
        datasets.load("tumour")


def test_rain_follows_its_waves():
    frame, about = datasets.load("rain"), datasets.describe("rain")
    assert frame["day"].tolist() == list(range(1, 367))
    assert frame.loc[frame["years"] == 1, "day"].tolist() == [60] and set(frame["years"]) == {1, 2}
    angle = 2 * np.pi * frame["day"].to_numpy() / 366
    eta = about.parameters["mean"] + sum(
        a * np.cos(k * angle) + b * np.sin(k * angle) for k, (a, b) in enumerate(about.parameters["waves"], start=1)
    )
    p, n, y = 1 / (1 + np.exp(-eta)), frame["years"].to_numpy(), frame["rain"].to_numpy()
    assert 0.03 < p.min() and p.max() < 0.7
    pearson = np.sum((y - n * p) ** 2 / (n * p * (1 - p)))
    assert chi2(366).cdf(pearson) == pytest.approx(0.5, abs=0.4999)
    # by months the counts are near what the truth expects
    month = (frame["day"].to_numpy() - 1) // 31
    excess = np.bincount(month, y - n * p) / np.sqrt(np.bincount(month, n * p * (1 - p)))
    assert np.abs(excess).max() < 3.5


def test_counties_and_their_map():
    frame, graph = datasets.load("counties"), datasets.graph("counties")
    assert frame["county"].tolist() == list(graph.names) and len(graph.names) == 56
    assert graph.components.max() == 0 and len(graph.islands) == 0 and (graph.weights == 1.0).all()
    edges = graph.edges
    assert (edges[:, 0] < edges[:, 1]).all() and len(np.unique(edges, axis=0)) == len(edges) == 139
    ratio = np.log((frame["cases"] + 0.5) / frame["expected"]).to_numpy()
    # the risk rises with work outdoors, and neighbours are alike (Moran's I of what is left)
    slope = np.polyfit(frame["outdoor"], ratio, 1, w=np.sqrt(frame["expected"]))[0]
    assert 0.0 < slope < 0.08
    left = ratio - np.polyval(np.polyfit(frame["outdoor"], ratio, 1), frame["outdoor"])
    left -= left.mean()
    moran = len(left) / len(edges) * (left[edges[:, 0]] * left[edges[:, 1]]).sum() / (left**2).sum()
    assert moran > 0.25
    assert (frame["expected"] >= 1.0).all() and frame["outdoor"].between(0, 25).all()


def test_a_graph_that_does_not_exist():
    with pytest.raises(DataError, match=r"county.*Did you mean.*counties"):
        datasets.graph("county")

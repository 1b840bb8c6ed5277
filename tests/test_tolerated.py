"""What does not matter, or is only refused later: rows, names, types, sizes, new data, processes and clocks.

The faults that do matter are in `test_faults`.
"""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayou
from bayou import families
from bayou.binding.recession import rows_that_stay, tails
from bayou.errors import DataError, FileError, ImproperPosterior
from bayou.priors import FlatSD, HalfNormal, Normal
from sound_data import SOUND, N, fit, having, nul_ends_text
from standin_designs import design as plain_design

Y, H = "y ~ x + (1 | g)", "half ~ x + (1 | g)"
P = "proportion(k, size) ~ x + (1 | g)"


def test_rows_without_trials_say_nothing():
    priors = {"beta": Normal(0, 2), "sd": HalfNormal(1)}
    idle = pd.concat([SOUND, SOUND[:4].assign(size=0, k=0, x=0.0)])
    assert float(families.Binomial().log_density(0, 3.0, trials=0)) == 0.0
    model = bayou.Model(P, idle, "binomial", priors)
    assert model.bound.notes == () and model.design.n == 44
    # a thousand of them leave the answer where it was
    many = pd.concat([SOUND, *[SOUND[:4].assign(size=0, k=0)] * 250])
    one, other = (
        bayou.fit(P, data, "binomial", priors, seed=1, draws=2000, progress=False).summary() for data in (SOUND, many)
    )
    assert (abs(one["mean"] - other["mean"]) < 0.15 * one["sd"]).all()


@pytest.mark.parametrize("size", [1e6, 1e9, 1e12])
def test_huge_counts_cost_no_digits(size):
    """Log means of groups, whose posterior is as narrow as the counts are many."""
    data = having(k=SOUND["k"] * size)
    draws = bayou.fit("k ~ 1 + (1 | g)", data, "poisson", seed=1, draws=100, warmup=300, progress=False).result.draws
    found = (draws["beta"] + draws["b_g"][..., 0]).reshape(-1, 8)
    totals = data.groupby("g")["k"].sum().to_numpy()
    np.testing.assert_allclose((found.mean(axis=0) - np.log(totals / 5)) * np.sqrt(totals), 0, atol=1.0)
    np.testing.assert_allclose(found.std(axis=0) * np.sqrt(totals), 1, rtol=0.3)
    wide = fit("k ~ 1 + (1 | g)", data, "negative_binomial").result.draws
    assert np.abs((wide["beta"] + wide["b_g"][..., 0]).mean(axis=(0, 1)) - np.log(totals / 5)).max() < 1.5


def test_sizes_of_groups_from_one_to_a_hundred_thousand():
    sizes = [1, 1, 2, 30, 1_000, 100_000]
    g = np.repeat(range(6), sizes)
    y = np.random.default_rng(2).normal(size=len(g)) + 0.5 * g
    effects = bayou.fit("y ~ 1 + (1 | g)", {"y": y, "g": g}, seed=1, draws=500, progress=False)
    b = effects.result.draws["beta"] + effects.result.draws["b_g"][..., 0]
    assert abs(b[..., 5].mean() - y[g == 5].mean()) < 0.01 and np.isfinite(b).all()
    assert b[..., 0].std() > 10 * b[..., 4].std()


def test_a_million_groups_are_a_million_numbers():
    n = 1_000_000
    rng = np.random.default_rng(3)
    model = bayou.Model("y ~ x + (1 | g)", {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": np.arange(n)})
    (grouping,) = model.design.groupings
    assert grouping.codes.nbytes == 8 * n and grouping.Z.shape == (n, 1) and len(grouping.levels) == n
    assert any("confounded" in note for note in model.bound.notes)


def test_names_of_columns_of_every_kind():
    names = ["body mass", "größe", "x:z", "a~b", "Intercept", "lambda", "1x", "it's", "a`b", "=1+1", "class"]
    data = having(**{name: SOUND["x"] for name in names})
    for name in names:
        quoted = "`" + name.replace("`", "``") + "`"
        model = bayou.Model(f"y ~ {quoted} + (1 | g)", data)
        np.testing.assert_array_equal(model.design.X[:, 1], SOUND["x"])
        again = bayou.Model(model.text, data)
        assert again.design.coefficients == model.design.coefficients


def test_rows_go_by_position_whatever_their_index():
    sparse = SOUND.set_axis([7] * 20 + list(range(20)), axis=0)
    for data in (
        sparse,
        sparse[sparse["x"] > 0],
        SOUND[::-1],
        SOUND.set_index(["g", "t"], drop=False).rename_axis([None, None]),
    ):
        np.testing.assert_array_equal(bayou.Model(Y, data).design.y, data["y"].to_numpy())
    predicted = fit(Y, sparse).predict(sparse[sparse["x"] > 0])
    assert list(predicted.index) == list(sparse.index[sparse["x"] > 0])


@pytest.mark.parametrize(
    "ids", [2**63 + np.arange(8, dtype=np.uint64), -np.arange(8), np.arange(8) / 4, [10**30 + k for k in range(8)]],
    ids=["beyond 63 bits", "negative", "fractions", "beyond 64 bits"],
)  # fmt: skip
def test_identifiers_stay_exact(ids):
    labels = [ids[k // 5] for k in range(N)]
    made = fit(Y, {"y": list(SOUND["y"]), "x": list(SOUND["x"]), "g": labels})
    levels = list(made.result.model.design.groupings[0].levels)
    assert levels == sorted(np.array(ids, dtype=object))
    one = made.predict({"x": [0.0], "g": [ids[3]]}, kind="linear", draws=True).values[..., 0]
    place = levels.index(ids[3])
    np.testing.assert_allclose(one, made.result.draws["beta"][..., 0] + made.result.draws["b_g"][..., place, 0])


def test_intervals_are_levels():
    cut = pd.cut(SOUND["x"], [-9, 0, 1, 9])
    made = fit("y ~ b + (1 | b)", having(b=cut))
    assert made.result.model.design.coefficients == ("Intercept", "b[(0, 1]]", "b[(1, 9]]")
    predicted = made.predict({"b": pd.cut(np.array([0.5]), [-9, 0, 1, 9])})
    pd.testing.assert_frame_equal(predicted, made.predict({"b": ["(0, 1]"]}))


def test_text_of_every_kind_is_a_level():
    labels = ["a", "a\1" if nul_ends_text() else "a\0", "=1+1", "@b", "-c", "+d", " e", "\tf"]
    made = fit(Y, having(g=np.repeat(np.array(labels, dtype=object), 5)))
    assert list(made.random_effects("g").index.get_level_values("level")) == sorted(labels)


def test_outcomes_as_truth_numbers_or_words():
    truth = SOUND["half"] == 1
    draws = [
        fit(H, having(half=half), "bernoulli").result.draws["beta"]
        for half in (SOUND["half"], truth, truth.astype("boolean"), np.where(truth, "yes", "no"), truth.astype(float))
    ]
    for other in draws[1:]:
        np.testing.assert_array_equal(other, draws[0])


def test_a_new_row_may_be_of_another_type_and_order():
    made = fit("y ~ x + t + (1 | i)", having(i=SOUND["i"] // 5))
    rows = {"i": ["0", "7"], "t": pl.Series(["u", "z"]), "extra": [1, 2], "x": np.array([1, 2], dtype=np.int8)}
    plain = pd.DataFrame({"x": [1.0, 2.0], "t": ["u", "z"], "i": [0.0, 7.0]})
    pd.testing.assert_frame_equal(made.predict(rows), made.predict(plain))


@pytest.mark.parametrize(
    ("change", "options", "pieces"),
    [
        pytest.param({"g": ["a", "zz"]}, {}, ("'g'", "zz", "groups='new'", "groups='population'"), id="unseen group"),
        pytest.param({"g": ["a", None]}, {}, ("'g'", "(missing)", "groups='new'"), id="missing group"),
        pytest.param({"t": ["u", "q"]}, {}, ("`t`", "q", "row 1", "Known: u, v, w, z"), id="unseen category"),
        pytest.param({"x": None, "t": None}, {}, ("lack `x`, `t`", "Columns: g"), id="absent columns"),
        pytest.param({"g": None}, {}, ("no column 'g'", "groups='marginal'"), id="absent group"),
        pytest.param({}, {"groups": "none"}, ("'none'", "'population'"), id="unknown choice"),
    ],
)
def test_predictions_refused(change, options, pieces):
    made = fit("y ~ x + t + (1 | g)")
    rows = {"x": [0.0, 1.0], "t": ["u", "v"], "g": ["a", "b"]} | change
    rows = {name: values for name, values in rows.items() if values is not None}
    with pytest.raises(DataError) as caught:
        made.predict(rows, **options)
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)
    if "g" in change and change["g"] is not None:
        assert np.isfinite(made.predict(rows, groups="new").to_numpy()).all()


# ---- where no rule is written down -------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [kind(link=link) for kind in families.table.FAMILIES.values() for link in kind.codes],
    ids=lambda family: str(family).replace(" ", ""),
)
def test_looking_far_out_finds_what_the_rules_say(family):
    """Which rows keep their likelihood as eta goes to ±∞, by rule and by looking."""
    y, trials = np.array([0.0, 1.0, 2.0, 5.0]), np.full(4, 5.0)
    if family.name == "bernoulli":
        y, trials = np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)
    if family.name == "gamma":
        y = y + 0.5
    built = plain_design(y, {"Intercept": 1.0}, trials=trials)
    built.family = family
    for looked, ruled in zip(tails(family, y, trials), rows_that_stay(built), strict=True):
        np.testing.assert_array_equal(looked, ruled)


def test_sds_of_other_families_that_grow_together():
    """Bernoulli rows in crossed factors, both sds flat: refused or taken as the rank of what cannot move says."""
    rng = np.random.default_rng(4)
    a, b = np.repeat(range(6), 20), np.tile(range(5), 24)
    rows = {"y": rng.integers(0, 2, 120), "a": a, "b": b}
    bayou.Model("y ~ 1 + (1 | a) + (1 | b)", rows, "bernoulli", {"sd": FlatSD()})
    same = {"y": rows["y"], "a": a, "b": a}
    bayou.Model("y ~ 1 + (1 | a) + (1 | b)", same, "bernoulli", {"sd_a": FlatSD()})
    few = {name: np.asarray(values)[a < 2] for name, values in same.items()}
    with pytest.raises(ImproperPosterior, match="sd_a.*sd_b.* have flat priors together"):
        bayou.Model("y ~ 1 + (1 | a) + (1 | b)", few, "bernoulli", {"sd": FlatSD()})


# ---- the machine -------------------------------------------------------------------------------


def test_a_clock_that_jumps(monkeypatch):
    """Batches are timed, draws are not: a clock that stands, jumps or runs backwards changes none."""
    import time

    plain = fit().result.draws
    for clock in (lambda: 5.0, iter(range(10**9, 0, -1000)).__next__):
        monkeypatch.setattr(time, "perf_counter", clock)
        monkeypatch.setattr(time, "time", clock)
        again = fit().result.draws
        for name, values in plain.items():
            np.testing.assert_array_equal(again[name], values)


FORKED = """
import os, signal
import numpy as np
import bayou

rng = np.random.default_rng(1)
data = {"y": rng.normal(size=40), "x": rng.normal(size=40), "g": np.repeat(range(8), 5)}

def draws():
    made = bayou.fit("y ~ x + (1 | g)", data, seed=1, draws=50, warmup=50, cores=2, progress=False)
    return made.result.draws["beta"].tobytes()

before = draws()
signal.alarm(60)  # a child that waits for a lock that no thread holds any more would wait for ever
child = os.fork()
if child == 0:
    os._exit(0 if draws() == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_after_threads():
    """No thread outlives a fit, so that a forked process can fit too, and draws the same."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_that_another_program_holds(tmp_path, monkeypatch):
    import h5netcdf

    def held(*arguments, **options):
        raise BlockingIOError(11, "unable to lock file")

    made = fit()
    path = made.save(tmp_path / "fit.nc")
    monkeypatch.setattr(h5netcdf, "File", held)
    with pytest.raises(FileError, match="fit.nc is locked by another program; close it there and load again"):
        bayou.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["fit.nc"]

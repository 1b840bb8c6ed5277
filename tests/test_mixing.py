"""Hard posteriors: the default settings still give effective draws, at least a twentieth of all, and no false alarm."""

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import bayou

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import mixing
from benchmarks.mixing import POSTERIORS, SHARE, measured

SIMULATED = (
    "no_variance", "less_than_no_variance", "dyestuff2", "counts_without_variance", "two_rows_a_group",
    "correlation_of_one", "correlation_of_minus_one", "correlation_of_one_in_counts",
    "correlation_of_minus_one_in_counts", "a_million_each", "a_billion_each", "ten_billion_each", "a_trillion_each",
    "groups_of_zeros", "groups_of_no_counts", "mostly_no_counts", "crossed_ratings",
)  # fmt: skip
REAL = ("ticks_on_grouse", "VerbAgg", "salamander")
FEWER = {"draws": 500, "warmup": 500}  # a scan of 100,000 rows takes long


def check(name, **settings):
    fit, figure = measured(POSTERIORS[name], **settings)
    assert figure.effective >= SHARE * figure.draws, f"{figure.worst}: {figure.effective:.0f} of {figure.draws}"
    assert fit.verdict.ok, str(fit.verdict)


@pytest.mark.parametrize("name", SIMULATED)
def test_simulated(name):
    check(name)


@pytest.mark.parametrize("name", REAL)
def test_real(name, shared):
    check(name)


@pytest.mark.slow
def test_a_trillion_each_from_many_starting_points():
    """Every chain finds counts that are far from zero: each of 24, not most."""
    for name in ("ten_billion_each", "a_trillion_each"):
        for seed in range(2, 8):
            check(name, seed=seed)


@pytest.mark.slow
def test_students_lecturers_and_departments(shared):
    check("InstEval")


@pytest.mark.slow
def test_ten_thousand_groups_of_counts():
    check("counts", **FEWER)


@pytest.mark.parametrize(
    "name", ["no_variance", "correlation_of_one_in_counts", "groups_of_no_counts", "a_trillion_each"]
)
def test_the_verdict_says_what_a_short_run_lacks(name):
    fit, _ = measured(POSTERIORS[name], draws=60, warmup=60)
    summary = fit.summary()
    sizes = np.fmin(summary["ess_bulk"], summary["ess_tail"])
    assert sizes.min() < 400 and not fit.verdict.ok
    assert f"{sizes.min():.0f} for {sizes.idxmin()}" in " ".join(fit.verdict.failures)


def test_a_chain_elsewhere_is_called_out():
    """What counts of 1e12 once did: three chains agree, one never came."""
    fit, _ = measured(POSTERIORS["a_million_each"], draws=500)
    fit.result.draws["beta"][3] += 3.0  # some twenty of its sds
    again = bayou.Fit(fit.result)
    assert not again.verdict.ok
    assert "The chains do not agree" in again.verdict.line and "beta[Intercept]" in again.verdict.line


def test_the_command_writes_a_table_and_a_picture_each(tmp_path, capsys):
    assert mixing.main(["--out", str(tmp_path), "--only", "no_variance", "--only", "a_million_each"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in table[0].strip("|").split("|")] == list(mixing.HEADINGS)
    for line, name in zip(table[2:], ("no_variance", "a_million_each"), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == name and cells[1] == "8,000" and cells[6] == "ok"
        assert float(cells[3].rstrip("%")) > 5.0
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert picture.shape[0] > 400 and picture.std() > 0.05

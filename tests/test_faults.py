"""Every fault that data, a model, numbers or a machine can have, by name, and what bayou answers.

A fault is refused before any sampling (`REFUSED`), or the fit goes on and its verdict says so in a sentence
(`NOTED`), or it does not matter (`test_tolerated.py`). What other files test at length is listed in `ELSEWHERE`.
None leaves a file behind.
"""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.engines.chains import ChainEngine
from bayou.errors import BayouError, DataError, FormulaError, ImproperPosterior, PriorError, UnsafeFormula, Unsupported
from bayou.priors import Flat, FlatSD, Gamma, InverseGamma, InverseWishart, Jeffreys, Normal
from sound_data import RNG, SOUND, fit, having, put

Y, K, H = "y ~ x + (1 | g)", "k ~ x + (1 | g)", "half ~ x + (1 | g)"
P = "proportion(k, size) ~ x + (1 | g)"
FLAT = {"beta": Flat(), "sd": FlatSD(), "sigma": Flat()}
FLAT_BETA = {"beta": Flat()}


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """Every test runs in an empty folder, and leaves it empty."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def table(rows):
    """Name, then what the test takes, as parameters of one test."""
    return [pytest.param(*row[1:3], row[3:], id=row[0]) for row in rows]


# ---- refused before any sampling: the error and pieces of its message --------------------------

REFUSED = [
    ("missing response", lambda: fit(Y, put("y", 3, np.nan)), DataError, "`y`", "row 3", "missing='drop'"),
    ("missing predictor", lambda: fit(Y, put("x", 3, pd.NA)), DataError, "`x`", "row 3", "missing='drop'"),
    ("missing identifier", lambda: fit(Y, having(g=np.where(SOUND["i"] == 3, np.nan, 1.0 * SOUND["i"] // 5))), DataError,
     "`g`", "row 3", "missing='drop'"),
    ("masked value", lambda: fit(Y, {**SOUND.to_dict("list"), "y": np.ma.masked_equal(SOUND["i"].to_numpy(), 3)}), DataError, "`y`",
     "row 3", "missing='drop'"),
    ("missing group", lambda: fit(Y, put("g", 3, None)), DataError, "`g`", "row 3", "missing='drop'"),
    ("infinite response", lambda: fit(Y, put("y", 3, np.inf)), DataError, "`y`", "infinite", "row 3", "Correct"),
    ("infinite predictor", lambda: fit(Y, put("x", 3, -np.inf)), DataError, "`x`", "infinite", "row 3", "Correct"),
    ("fractional count", lambda: fit(K, put("k", 3, 1.5), "poisson"), DataError, "`k`", "whole", "row 3 has 1.5",
     "family='gaussian'"),
    ("fractional successes", lambda: fit(P, put("k", 3, 1.5), "binomial"), DataError, "whole", "row 3 has 1.5"),
    ("negative count", lambda: fit(K, put("k", 3, -1.0), "poisson"), DataError, "`k`", "negative", "row 3 has -1",
     "Correct"),
    ("more successes than trials", lambda: fit(P, put("k", 3, 13.0), "binomial"), DataError, "row 3 has 13 of 12",
     "The order is"),
    ("three outcomes", lambda: fit("t ~ x", family="bernoulli"), DataError, "`t`", "4 levels (u, v, w, z)", "two",
     "t == 'u'"),
    ("constant response, flat sigma", lambda: fit(Y, having(y=2.0), priors={"sigma": Flat()}), ImproperPosterior,
     "y is constant (2 in 40 rows)", "give sigma a proper prior"),
    ("response computed from a column, flat sigma", lambda: fit("y ~ x", having(y=1 + 2 * SOUND["x"]), priors=FLAT),
     ImproperPosterior, "reproduce the response y", "Check the response"),
    ("response of groups, flat sigma", lambda: fit(Y, having(y=np.repeat(RNG.normal(size=8), 5)), priors=FLAT),
     ImproperPosterior, "y is constant within every level of 'g'", "sigma"),
    ("all counts zero, flat", lambda: fit(K, having(k=0), "poisson", FLAT_BETA), ImproperPosterior,
     "all counts are 0", "Give Intercept", "Normal(0, 2.5)"),
    ("all outcomes successes, flat", lambda: fit(H, having(half=1), "bernoulli", FLAT_BETA), ImproperPosterior,
     "all outcomes are successes", "Give Intercept"),
    ("complete separation, flat", lambda: fit("half ~ x", having(half=SOUND["x"] > 0), "bernoulli", FLAT_BETA),
     ImproperPosterior, "combination of x separates", "Give x proper priors"),
    ("quasi-separation, flat", lambda: fit("half ~ t", having(half=(SOUND["t"] == "u") | (SOUND["i"] % 8 > 3)),
     "bernoulli", FLAT_BETA), ImproperPosterior, "t[v], t[w], t[z] separates", "proper priors"),
    ("aliased columns, flat", lambda: fit("y ~ x + x2", having(x2=2 * SOUND["x"]), priors=FLAT_BETA),
     ImproperPosterior, "x2 can be written by the other columns", "Drop these terms"),
    ("constant column, flat", lambda: fit("y ~ w", priors=FLAT_BETA), ImproperPosterior, "(w does not vary)"),
    ("fewer rows than columns, flat", lambda: fit("y ~ poly(x, 3, raw=True)", SOUND[:3], priors=FLAT_BETA),
     ImproperPosterior, "3 usable rows for 4 coefficients"),
    ("duplicate column names", lambda: fit(Y, pd.concat([SOUND, SOUND[["x"]]], axis=1)), DataError, "duplicate", "x"),
    ("mixed types", lambda: fit(Y, put("x", 3, "3,5")), DataError, "`x` mixes types", "float (39), str (1)", "row 3"),
    ("no rows", lambda: fit(Y, SOUND[:0]), DataError, "the data have 0 rows"),
    ("one row, flat", lambda: fit("y ~ 1", SOUND[:1], priors=FLAT), ImproperPosterior, "sigma", "1 − 1 = 0"),
    ("no trials, flat", lambda: fit("proportion(k, size) ~ x", having(k=0, size=0), "binomial", FLAT_BETA),
     ImproperPosterior, "No row has a trial", "numbers of trials"),
    ("one group, flat", lambda: fit(Y, having(g="a"), priors=FLAT), ImproperPosterior, "1 of 1 levels", "HalfT"),
    ("too few groups, flat", lambda: fit(Y, SOUND[:10], priors=FLAT), ImproperPosterior, "2 of 2 levels", "HalfT"),
    ("flat log variance of groups", lambda: fit(priors={"sd": Jeffreys()}), ImproperPosterior, "always improper"),
    ("one row a group, flat", lambda: fit("y ~ x + (1 | i)", priors=FLAT), PriorError, "'i'", "measured(y, se)"),
    ("slope of a column that no group varies", lambda: fit("y ~ x + (w | g)", having(w=np.repeat(range(8), 5))),
     DataError, "`w` is constant within every level of `g`", "(1 | g)"),
    ("sds that can grow together, flat", lambda: fit("half ~ 1 + (1 | a) + (1 | b)", having(
        a=SOUND["i"] // 20, b=SOUND["i"] // 20), "bernoulli", {"sd": FlatSD()}),
     ImproperPosterior, "sd_a[Intercept], sd_b[Intercept] have flat priors together", "there are 2", "HalfT"),
    ("sds and sigma that can grow together, flat", lambda: fit("y ~ 1 + (1 | a) + (1 | b)", having(
        a=SOUND["i"] // 2, b=(SOUND["i"] + 1) // 2)[:3], priors={"sd": FlatSD(), "sigma": Flat()}),
     ImproperPosterior, "sigma and 2 group sds have flat priors together", "there are 3", "Give sigma a proper prior"),
    ("negative weight", lambda: fit(Y, put("w", 3, -1.0), weights="w"), DataError, "`w`", "positive", "row 3"),
    ("missing weight", lambda: fit(Y, put("w", 3, np.nan), weights="w"), DataError, "`w`", "row 3"),
    ("weights beyond rounding", lambda: fit(Y, having(w=1e-300), weights="w"), DataError, "the weights", "1e-300"),
    ("standard errors beyond rounding", lambda: fit("measured(y, w) ~ x", having(w=1e200)), DataError, "standard errors"),
    ("huge response", lambda: fit(Y, having(y=1e300 * SOUND["y"])), DataError, "`y`", "overflows", "change its unit"),
    ("tiny column", lambda: fit(Y, having(x=1e-300 * SOUND["x"])), DataError, "column x", "vanishes", "change its unit"),
    ("huge slope", lambda: fit("y ~ (x | g)", having(x=1e300 * SOUND["x"])), DataError, "x by g", "change its unit"),
    ("exposure without its log", lambda: fit("k ~ x + offset(size)", having(size=1000), "poisson"), DataError,
     "the offset size reaches 1e+03", "offset(log(exposure))"),
    ("prior beyond rounding", lambda: fit(priors={"beta": Normal(0, 1e-200)}), PriorError, "Normal", "1e-200", "unit"),
    ("infinite offset", lambda: fit("k ~ x + offset(w)", put("w", 3, np.inf), "poisson"), DataError, "`w`", "row 3"),
    ("exposure of zero", lambda: fit("k ~ x + offset(log(w))", put("w", 3, 0.0), "poisson"), DataError,
     "`log(w)`", "row 3", "w = 0. Correct"),
    ("a call to the system", lambda: fit("y ~ I(__import__('os').system('touch x'))"), UnsafeFormula, "__import__"),
    ("an attribute", lambda: fit("y ~ x.__class__"), UnsafeFormula, "__class__"),
    ("a lambda", lambda: fit("y ~ (lambda: 1)()"), UnsafeFormula, "`lambda`"),
    ("a tower of powers", lambda: fit("y ~ I(x**9999999)"), UnsafeFormula, "9999999", "100"),
    ("a deep formula", lambda: fit("y ~ " + "(" * 500 + "x" + ")" * 500), UnsafeFormula, "100 deep"),
    ("a long formula", lambda: fit("y ~ " + "+".join(["x"] * 20_000)), UnsafeFormula, "10,000"),
    ("nothing to estimate", lambda: fit("k ~ 0", family="poisson"), FormulaError, "'k ~ 0'", "k ~ 1"),
    ("an engine that cannot", lambda: fit(K, family="poisson", engine="gibbs"), Unsupported, "'metropolis'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "pieces"), table(REFUSED))
def test_refused(call, error, pieces, monkeypatch):
    monkeypatch.setattr(ChainEngine, "run", lambda *a, **k: pytest.fail("sampling was started"))
    if error is Unsupported:
        monkeypatch.undo()
    with pytest.raises(BayouError) as caught:
        call()
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {caught.value}"
    for piece in pieces:
        assert piece in str(caught.value), f"{piece!r} is not in {str(caught.value)!r}"


# ---- the fit goes on, and its verdict says so --------------------------------------------------

PARTS = having(a=np.repeat(list("ABCD"), 10), b=np.r_[np.tile([1, 2, 3, 2], 5), np.tile([4, 5, 6, 5], 5)])
REUSED = having(a=np.repeat(list("ABCDE"), 8), b=np.tile([1, 1, 2, 2], 10))

NOTED = [
    ("rows dropped", lambda: fit(Y, put("y", 3, np.nan), missing="drop"), "1 row of 40 dropped"),
    ("reference of two outcomes", lambda: fit("t ~ x", having(t=np.tile(["no", "yes"], 20)), "bernoulli"),
     "success is yes, reference no"),
    ("constant response", lambda: fit(Y, having(y=2.0)), "y is constant (2 in 40 rows)", "residual sd goes to 0"),
    ("response computed from a column", lambda: fit("y ~ x", having(y=1 + 2 * SOUND["x"])), "reproduce the response y"),
    ("response of groups", lambda: fit(Y, having(y=np.repeat(RNG.normal(size=8), 5))), "within every level of 'g'"),
    ("response of groups and a column", lambda: fit(Y, having(y=np.repeat(RNG.normal(size=8), 5) - SOUND["x"])),
     "The fixed effects and 'g' reproduce the response y"),
    ("constant gamma response", lambda: fit("y ~ x", having(y=2.0), "gamma"), "y is constant", "shape grows"),
    ("all counts zero", lambda: fit(K, having(k=0), "poisson"), "All counts are 0", "leans on its prior"),
    ("all outcomes successes", lambda: fit(H, having(half=1), "bernoulli"), "All outcomes are successes"),
    ("all outcomes failures", lambda: fit(P, having(k=0), "binomial"), "All outcomes are failures"),
    ("groups of zero counts", lambda: fit(K, having(k=SOUND["k"] * (SOUND["i"] > 9)), "poisson"),
     "Levels of 'g' with counts of 0 only: 2 of 8"),
    ("groups of one outcome", lambda: fit(H, having(half=np.r_[np.zeros(10), np.ones(5), np.tile([0, 1, 1, 0, 1], 5)]),
     "bernoulli"), "Levels of 'g' without a success: 2 of 8; without a failure: 1 of 8"),
    ("complete separation", lambda: fit("half ~ x", having(half=SOUND["x"] > 0), "bernoulli"),
     "Separation: the combination of x predicts outcomes perfectly"),
    ("quasi-separation", lambda: fit("half ~ t", having(half=(SOUND["t"] == "u") | (SOUND["i"] % 8 > 3)), "bernoulli"),
     "Quasi-separation: the combination of t[v], t[w], t[z] predicts 10 of 40 rows"),
    ("counts of zero in one arm", lambda: fit("k ~ t", having(k=SOUND["k"] * (SOUND["t"] != "v")), "poisson"),
     "Every count that the combination of t[v] moves is 0"),
    ("aliased columns", lambda: fit("y ~ x + x2", having(x2=2 * SOUND["x"])), "x2 can be written by the other columns"),
    ("nearly collinear columns", lambda: fit("y ~ k + x + x2", having(x2=SOUND["x"] + 1e-9 * SOUND["y"])),
     "The columns x, x2 of the fixed effects are nearly collinear"),
    ("constant column", lambda: fit("y ~ w"), "(w does not vary)", "the posterior is the prior"),
    ("unused levels", lambda: fit("y ~ t", having(t=pd.Categorical(SOUND["t"], list("quvwz")))),
     "t: 1 unused level dropped (q)"),
    ("residual sds of single rows", lambda: fit("y ~ x", having(t=np.maximum(SOUND["i"], 2)), sigma_by="t"),
     "Levels of 't' with one row: 37 of 38"),
    ("unused levels of groups", lambda: fit(Y, having(g=pd.Categorical(SOUND["g"], list("abcdefghz")))),
     "g: 1 unused level dropped (z)"),
    ("unused levels of residual sds", lambda: fit("y ~ x", having(t=pd.Categorical(SOUND["t"], list("quvwz"))),
     sigma_by="t"), "t: 1 unused level dropped (q)"),
    ("no trials", lambda: fit("proportion(k, size) ~ x", having(k=0, size=0), "binomial"), "No row has a trial"),
    ("one group", lambda: fit(Y, having(g="a")), "'g' has one level", "prior alone"),
    ("vague inverse gamma", lambda: fit(priors={"variance_g": InverseGamma(0.001, 0.001)}), "not vague", "HalfT"),
    ("vague gamma of the precision", lambda: fit(priors={"precision": Gamma(0.001, 0.001)}), "Gelman 2006"),
    ("vague inverse Wishart", lambda: fit(priors={"Sigma": InverseWishart(0.002, [[0.002]])}), "not vague"),
    ("one row a group", lambda: fit("y ~ x + (1 | i)"), "Every level of 'i' has one row", "confounded"),
    ("one outcome a group", lambda: fit("half ~ x + (1 | i)", family="bernoulli"), "one 0/1 outcome", "from the prior"),
    ("one row a group beside phi", lambda: fit("k ~ x + (1 | i)", family="negative_binomial"), "its sd and phi"),
    ("names used again in other groups", lambda: fit("y ~ x + (1 | a) + (1 | b)", REUSED), "read as crossed", "(1 | a/b)"),
    ("more effects than rows", lambda: fit("y ~ (x + k | j)", having(j=SOUND["i"] // 2)),
     "'j' has 60 group coefficients for 40 rows"),
    ("crossed factors in parts", lambda: fit("y ~ x + (1 | a) + (1 | b)", PARTS),
     "a and b fall into 2 parts that share no row; one is a A, B with b 1, 2, 3"),
    ("one factor under two names", lambda: fit("y ~ x + (1 | g) + (1 | j)", having(j=SOUND["i"] // 5)),
     "g and j divide the rows in the same way"),
    ("a factor fixed and grouping", lambda: fit("y ~ g + (1 | g)"), "'g' is a fixed effect and a grouping factor too"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "first", "rest"), table(NOTED))
def test_noted(call, first, rest):
    result = call()
    said = [reason for reason in result.verdict.reasons if first in reason]
    assert said, f"{first!r} is in none of {result.verdict.reasons}"
    for piece in rest:
        assert piece in said[0]
    assert all(sentence in str(result) for sentence in said)
    assert all(np.isfinite(values).all() for values in result.result.draws.values())


SILENT = [
    ("sound data", lambda: bayou.Model(Y, SOUND)),
    ("known standard errors of single rows", lambda: bayou.Model("measured(y, w) ~ x + (1 | i)", SOUND)),
    ("counts with an effect for each row", lambda: bayou.Model("k ~ x + (1 | i)", SOUND, "poisson")),
    ("one row", lambda: bayou.Model("y ~ 1", SOUND[:1])),
    ("a clock in seconds", lambda: bayou.Model("y ~ x", having(x=1.6e9 + SOUND["i"]), priors=FLAT_BETA)),
    ("a column of another size", lambda: bayou.Model("y ~ x", having(x=1e-9 * SOUND["x"]), priors=FLAT_BETA)),
    ("crossed factors in one part", lambda: bayou.Model("y ~ (1 | g) + (1 | t)", having(t=SOUND["i"] % 3))),
    ("nested factors", lambda: bayou.Model("y ~ (1 | j / g)", having(j=SOUND["i"] // 10))),
    ("a column constant in some groups", lambda: bayou.Model("y ~ (z | g)", having(z=SOUND["x"] * (SOUND["i"] > 9)))),
    ("a slope by a column of groups", lambda: bayou.Model("y ~ k + (0 + x | g)", SOUND)),
]  # fmt: skip


@pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in SILENT])
def test_no_false_alarm(build):
    model = build()
    assert [*model.design.notes, *model.bound.notes] == []


# ---- what other files test ---------------------------------------------------------------------

ELSEWHERE = {
    "columns of another scale": "laws/test_invariance.py::test_units_of_a_column",
    "decimals, dates, nullable integers, Arrow and polars": "test_frames.py::test_every_door_gives_the_same_columns",
    "cells that a spreadsheet would run": "test_cli.py::test_csv_cells_that_a_spreadsheet_would_run_are_guarded",
    "overflow of exp(eta)": "test_rows.py::test_far_tails_and_large_counts",
    "a NaN in a kernel": "test_rows.py::test_a_nan_is_never_swallowed",
    "an sd near zero, a correlation near one": (
        "test_verdict_words.py::test_sds_near_zero_and_correlations_near_one_are_notes"
    ),
    "divergences": "test_verdict_words.py::test_divergences_and_draws_that_are_not_finite_fail",
    "chains that do not agree": "test_verdict_words.py::test_chains_apart_are_named_with_what_to_do",
    "a bad verdict stands first": "test_report.py::test_a_bad_verdict_comes_first",
    "constant draws": "test_verdict_words.py::test_constant_draws_are_explained_and_are_no_failure",
    "a random formula": "test_formula_fuzz.py::test_twenty_thousand_strings",
    "no point to start from": "test_starts.py::test_no_start_names_the_term_and_the_row",
    "counts of any size": "test_starts.py::test_counts_of_any_size_are_found",
    "a draw that is no number": "test_chains.py::test_numbers_that_are_none_end_a_chain_and_are_not_kept",
    "no standard error": "test_starts.py::test_without_a_standard_error",
    "a lost covariance matrix": "test_chains.py::test_a_lost_matrix_later_keeps_the_draws_before",
    "a damaged file": "test_storage.py::test_any_flipped_byte_of_the_draws_is_noticed",
    "a hostile file": "test_storage.py::test_foreign_newer_and_hostile_files_are_refused",
    "a disk that is full": "test_storage.py::test_a_failed_write_leaves_the_old_file",
    "Ctrl-C and SIGTERM": "test_chains.py::test_a_signal_in_a_process",
    "other numbers of threads": "test_chains.py::test_same_seed_same_draws_for_any_number_of_threads",
    "too little memory": "test_chains.py::test_a_run_that_would_not_fit_is_refused_before_it_starts",
    "a fit killed in the middle": "test_store.py::test_a_killed_process_loses_nothing_finished",
    "a run that goes on": "test_store.py::test_a_run_that_dies_at_any_write_goes_on_to_the_same_draws",
    "other data or another model in the folder of a run": "test_store.py::test_another_model_is_refused_by_name",
    "another version in the folder of a run": "test_store.py::test_another_version_is_refused_by_name",
    "damaged draws in the folder of a run": (
        "test_store.py::test_a_damaged_file_of_draws_is_named_and_the_others_salvaged"
    ),
    "a full disk in the middle of a run": "test_store.py::test_a_full_disk_keeps_the_draws_so_far",
    "draws beyond memory": "test_store.py::test_many_draws_stay_on_the_disk",
    "two runs in one folder": "test_store.py::test_two_runs_in_one_folder",
    "junk of any kind": "test_junk.py::test_a_model_or_an_error_of_ours",
    "a graph that is none": "test_structured_bad_input.py::test_graph_refused",
    "islands": "test_structured_bad_input.py::test_islands_are_said",
    "several parts of a graph": "test_structured_bad_input.py::test_parts_are_said",
    "duplicate edges": "test_structured_bad_input.py::test_duplicate_edges_are_merged_and_said",
    "areas without rows": "test_structured_bad_input.py::test_areas_without_rows_are_said_and_what_informs_them",
    "a matrix without names": "test_structured_bad_input.py::test_the_order_of_a_matrix_without_names_is_said",
    "times that a walk cannot take": "test_structured_bad_input.py::test_times_refused",
    "duplicated times": "test_structured_bad_input.py::test_duplicated_times_are_ordinary",
    "a covariance that is not positive definite": "test_structured_bad_input.py::test_matrix_refused",
    "priors of structured effects": "test_structured_bad_input.py::test_prior_refused",
    "a line with a flat prior that stands there twice": (
        "test_structured_bad_input.py::test_flat_directions_that_stand_there_twice"
    ),
    "a line that stands there twice without priors": "test_structured_bad_input.py::test_and_without_priors",
    "new areas": "test_structured_bad_input.py::test_new_areas",
    "new times": "test_structured_bad_input.py::test_times_beyond_the_data_are_said_and_wider",
    "likelihoods up to a constant": "test_structured_compare.py::test_free_lines_have_a_constant_of_their_own",
    "no terminal": "test_chains.py::test_progress_is_quiet_without_a_terminal",
}


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_elsewhere(fault):
    file, _, name = ELSEWHERE[fault].partition("::")
    tree = ast.parse((Path(__file__).parent / file).read_text("utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

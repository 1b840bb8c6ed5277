"""The benchmark runs, names the rivals that are not there, and counts what it says it counts."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayou

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import __main__ as command
from benchmarks import (
    data,
    environments,
    growth,
    likelihood,
    likelihood_growth,
    marginal,
    maximum,
    nested,
    nested_growth,
    nested_problems,
    ours_nested,
    outside,
    promises,
    table,
)
from benchmarks.marginal import MARGINAL, Marginal
from benchmarks.maximum import Maximum
from benchmarks.measure import Figure, Outcome, distance, repeated
from benchmarks.nested_figure import CORRECTED, OURS, Nest
from benchmarks.nested_problems import NESTED
from benchmarks.problems import PROBLEMS
from benchmarks.rivals import MAXIMISERS, RIVALS, hoff_numpy, jags, nuts, slides_r
from benchmarks.task import Length, in_r, prepare


def test_a_quick_run_makes_a_table_and_names_the_missing_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rivals = [rival for rival in RIVALS if "sleepstudy" in rival.PROBLEMS]
    for rival in rivals:
        monkeypatch.setattr(rival, "available", lambda name=rival.NAME: f"{name} is away.")
    assert command.main(["--quick", "--only", "sleepstudy", "--out", str(tmp_path / "table.md")]) == 0
    said = capsys.readouterr().out
    assert "| bayou, Gibbs" in said
    assert "too short" in said
    assert len(rivals) >= 3
    for rival in rivals:
        assert f"- {rival.NAME}: {rival.NAME} is away." in said
    assert "| bayou, Gibbs" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_every_rival_is_there_or_says_what_is_missing() -> None:
    for rival in RIVALS:
        assert set(rival.PROBLEMS) <= set(PROBLEMS)
        missing = rival.available()
        assert missing is None or missing.endswith(".")
        assert callable(rival.run)


@pytest.mark.parametrize("rival", [hoff_numpy, slides_r])
def test_the_slides_loops_draw_what_bayou_draws(rival) -> None:
    if rival.available() is not None:
        pytest.skip(rival.available())
    problem = PROBLEMS["tumor"]
    ours = command.OURS["tumor"][0].run(problem, 1, share=0.1)
    theirs = rival.run(problem, 3000, 1)
    assert len(theirs.draws) == 5
    assert theirs.scans == 3000
    for name, x in theirs.draws.items():
        assert x.shape == (1, 300)
        away = (x.mean() - ours.draws[name].mean()) / ours.draws[name].std()
        assert abs(away) < 0.7, f"{name} is {away:.2f} sds away (about 60 effective draws)"


def test_figures_are_medians_and_rates_are_per_second_of_the_call(rng: np.random.Generator) -> None:
    walls = {1: 1.0, 2: 5.0, 3: 2.0}

    def call(seed: int) -> Outcome:
        draws = {"beta[x]": rng.normal(size=(4, 1000)), "lp": np.zeros((4, 1000))}
        return Outcome(draws, walls[seed], walls[seed] / 2, scans=4000, threads=2)

    figure = repeated(PROBLEMS["sleepstudy"], "a program", call, 3)
    assert (figure.wall, figure.best, figure.processor) == (2.0, 1.0, 1.0)
    assert figure.worst == "beta[x]"
    assert 3000 < figure.effective < 5000
    assert figure.rate_a_thread == pytest.approx(figure.effective / 4.0)
    other = Figure("sleepstudy", "another", means={"beta[x]": (3.0, 1.5), "beta[z]": (0.0, 1.0)})
    assert distance(Figure("sleepstudy", "one", means={"beta[x]": (0.0, 1.0)}), other) == 2.0


def test_targets_say_met_or_missed() -> None:
    text = table.targets([("speed", 130.0, 120.0, "least"), ("seconds", 0.4, 0.3, "most")])
    assert "| reached" in text.splitlines()[2]
    assert "NOT REACHED" in text.splitlines()[3]


def test_a_task_holds_bayous_columns_and_priors(tmp_path: Path) -> None:
    task = prepare(PROBLEMS["sleepstudy"])
    task.write(tmp_path, Length(4, 100, 50), seed=3)
    written = json.loads((tmp_path / "task.json").read_text())
    data = pd.read_csv(tmp_path / "data.csv")
    assert list(data) == ["y", "trials", "x1", "g1"]
    assert written["groups"][0]["slopes"] == ["x1"]
    assert (written["family"], written["chains"], written["draws"], written["seed"]) == ("gaussian", 4, 100, 3)
    assert written["level"] == pytest.approx(data["y"].mean())
    assert written["widths"] == pytest.approx([2.5 * data["y"].std(), 2.5 * data["y"].std() / data["x1"].std()])
    assert (data["g1"].min(), data["g1"].max()) == (1, written["groups"][0]["levels"])
    assert task.names["cor_g1_0_1"] == "cor_Subject[Intercept,Days]"
    assert "seed = 3L" in (tmp_path / "task.R").read_text()


def test_the_response_of_a_binomial_task_is_counted() -> None:
    task = prepare(PROBLEMS["seeds"])
    assert task.data["y"].sum() == 424
    assert task.data["trials"].sum() == 831
    assert task.data["y"].dtype == np.int64


def test_plain_data_as_r_writes_it() -> None:
    value = {"a": [1, 2], "b": [{"c": "x"}], "d": None, "e": True, "f": [], "g": 1e-3}
    expected = 'list(a = c(1L, 2L), b = list(list(c = "x")), d = NULL, e = TRUE, f = c(), g = 0.001)'
    assert in_r(value) == expected


def test_what_a_program_leaves_is_read_chain_by_chain() -> None:
    frame = pd.DataFrame({"chain": [0, 0, 1, 1, 1], "beta0": [1.0, 2, 3, 4, 5], "lp": 0.0})
    draws = outside.named(frame, {"beta0": "beta[Intercept]"})
    assert list(draws) == ["beta[Intercept]"]
    assert draws["beta[Intercept]"].tolist() == [[1, 2], [3, 4]]
    took = pd.DataFrame({"what": ["wall", "processor", "note"], "value": ["2.5", "2.0", "3 divergences"]})
    outcome = outside.timings(took, draws, Length(2, 2, 3), outside.Watched(9.0, 9.0, 0.5, ""))
    assert (outcome.wall, outcome.processor, outcome.peak, outcome.scans) == (2.5, 2.0, 0.5, 10)
    assert (outcome.compiling, outcome.note) == (0.0, "3 divergences")


def test_a_program_that_fails_or_passes_a_limit_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = outside.watch([sys.executable, "-c", "print('done')"], tmp_path)
    assert watched.output == "done\n"
    assert 0.0 < watched.processor < 5.0
    with pytest.raises(outside.Stopped, match="failed: no good"):
        outside.watch([sys.executable, "-c", "raise SystemExit('no good')"], tmp_path)
    monkeypatch.setattr(outside, "MINUTES", 0.2 / 60.0)
    with pytest.raises(outside.Stopped, match="killed at .* minutes"):
        outside.watch([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of a process")
def test_a_program_that_takes_too_much_memory_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "GIGABYTES", 0.05)
    greedy = "import time; held = bytearray(b'x') * 100_000_000; time.sleep(60)"
    with pytest.raises(outside.Stopped, match=r"killed at 0\.05 GB"):
        outside.watch([sys.executable, "-c", greedy], tmp_path)


def test_jags_gets_the_model_and_its_nodes_get_bayous_names(rng: np.random.Generator) -> None:
    lines = prepare(PROBLEMS["sleepstudy"])
    text = jags.model(lines.settings)
    assert "bg1[j, 1:2] ~ dmnorm(beta[1:2], Omegag1)" in text
    assert "eta[i] <- bg1[g1[i], 1] + bg1[g1[i], 2] * x1[i]" in text
    crossed = prepare(PROBLEMS["grouseticks"])
    text = jags.model(crossed.settings)
    assert "eta[i] <- beta[1] + beta[2] * x1[i]" in text
    assert "bg3[j] ~ dnorm(0, Omegag3)" in text
    assert jags.monitored(crossed.settings) == ["beta", "sdg1", "sdg2", "sdg3"]
    nodes = {"beta[2]": 0, "sdg1[2]": 1, "corg1[1,2]": 2, "sigma": 3}
    named = jags.named({node: rng.normal(size=(1, 2)) for node in nodes}, lines)
    assert list(named) == ["beta[Days]", "sd_Subject[Days]", "cor_Subject[Intercept,Days]", "sigma"]
    assert list(jags.named({"sdg2": rng.normal(size=(1, 2))}, crossed)) == ["sd_INDEX[Intercept]"]


def test_shortened_lengths() -> None:
    assert nuts.length(PROBLEMS["cbpp"], None) == nuts.USUAL
    assert nuts.length(PROBLEMS["cbpp"], 400) == Length(4, 100, 100)


def _figure(program: str, effective: float, r_hat: float = 1.0, problem: str = "cbpp") -> Figure:
    return Figure(problem, program, scans=100, wall=2.0, processor=1.0, effective=effective, r_hat=r_hat, peak=0.5)


def test_promises_are_held_against_the_best_rival_whose_chains_agree() -> None:
    away = Figure("cbpp", "away", "not installed.")
    figures = [_figure("bayou, default proposal", 1000.0), _figure("slow", 10.0), _figure("fast", 50.0),
               _figure("stuck", 900.0, r_hat=1.3), away]  # fmt: skip
    (line,) = promises.kept(figures)
    assert line == ("cbpp: times the effective draws of fast", 20.0, 10.0, "least")
    assert promises.kept([figures[0], away]) == []
    text = table.comparison(figures)
    assert "not converged" in text
    assert "| not installed" in text
    assert "- away: not installed." in text
    other = [_figure("bayou, Gibbs", 50.0, problem="sleepstudy"), Figure("sleepstudy", "slow", "killed at 12 GB.")]
    heading, _, cbpp, sleepstudy = table.summary([figures, other]).splitlines()
    assert [cell.strip() for cell in heading.split("|")[2:-1]] == [
        "bayou",
        "slow",
        "fast",
        "stuck",
        "away",
        "times the best",
    ]
    assert [cell.strip() for cell in cbpp.split("|")[2:-1]] == ["1,000", "10", "50", "(900)", "–", "20"]
    assert [cell.strip() for cell in sleepstudy.split("|")[2:-1]] == ["50", "stopped", "–", "–", "–", "–"]


def test_a_run_of_bayous_that_is_stopped_keeps_no_promise() -> None:
    figures = [Figure("cbpp", "bayou, default proposal", "killed at 12 GB."), _figure("fast", 50.0)]
    assert "stopped, see below" in table.comparison(figures)
    assert table.targets(promises.kept(figures)).splitlines()[-1].rstrip(" |").endswith("–")


def test_the_promise_on_the_tumour_counts_is_of_the_slides_code_and_a_large_problem_promises_memory() -> None:
    figures = [_figure("bayou, default proposal", 1000.0, problem="tumor"),
               _figure("slides' loop in R", 10.0, problem="tumor"), _figure("JAGS", 90.0, problem="tumor")]  # fmt: skip
    assert promises.kept(figures)[0][:2] == ("tumor: times the effective draws of slides' loop in R", 100.0)
    lines = promises.kept([_figure("bayou, Gibbs", 1.0, problem="InstEval")])
    assert lines == [("InstEval: GB of bayou's process", 0.5, 1.0, "most")]


def test_an_environment_that_is_not_there_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    missing = environments.python_missing("numpyro")
    assert missing is not None
    assert "make rivals" in missing
    assert str(tmp_path / "R") in environments.in_r()["R_LIBS"]


def test_growth_says_whether_a_sweep_depends_on_rows() -> None:
    sizes = [
        growth.Size("gaussian", rows, 1000, sweep=sweep) for rows, sweep in ((10**4, 9.0), (10**5, 2.0), (10**7, 2.1))
    ]
    ((_, times, bound, kind),) = growth.constant(sizes)
    assert times == pytest.approx(1.05)
    assert (bound, kind) == (1.1, "most")
    assert len(sizes[0].cells) == len(growth.HEADINGS)


@pytest.mark.slow
def test_one_line_of_the_growth_table() -> None:
    size = growth.Size("gaussian", 2_000, 20).measured()
    assert 0.0 < size.sweep < 1e-3
    assert 0.0 < size.peak < 2.0


def _program(name: str) -> ModuleType:
    """Return one of the programs that run in their own environments, as a module."""
    spec = importlib.util.spec_from_file_location(name, outside.PROGRAMS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_program_parses(tmp_path: Path) -> None:
    programs = sorted(outside.PROGRAMS.glob("*.py"))
    assert {"stopwatch.py", "glmm_fit.py", "bayou_fit.py"} <= {file.name for file in programs}
    for file in programs:
        ast.parse(file.read_text(encoding="utf-8"), str(file))
    scripts = sorted(outside.PROGRAMS.glob("*.R"))
    assert {"stopwatch.R", "lme4.R", "glmmtmb.R"} <= {file.name for file in scripts}
    if shutil.which("Rscript") is None:
        pytest.skip("there is no Rscript to parse the programs in R")
    parse = "for (file in commandArgs(TRUE)) parse(file)"
    done = subprocess.run(["Rscript", "--vanilla", "-e", parse, *map(str, scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_maximiser_is_there_or_says_what_is_missing() -> None:
    assert len(MAXIMISERS) == 7
    for rival in MAXIMISERS:
        assert set(rival.PROBLEMS) <= set(MARGINAL)
        missing = rival.available()
        assert missing is None or missing.endswith(".")
        assert callable(rival.maximise)
    named = {rival.ENVIRONMENT for rival in MAXIMISERS if hasattr(rival, "ENVIRONMENT")}
    assert named <= set(environments.PYTHON)
    assert {"lme4", "glmmTMB"} <= set(environments.R)


def test_the_likelihood_command_names_the_missing_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for program in likelihood.PROGRAMS:
        monkeypatch.setattr(program, "available", lambda name=program.NAME: f"{name} is not installed here.")
    out = tmp_path / "table.md"
    assert likelihood.main(["--only", "bootstrap", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Reaction ~ Days + (Days | Subject)" in said
    for program in likelihood.PROGRAMS:
        told = f"- {program.NAME}: {program.NAME} is not installed here." in said
        assert told == ("bootstrap" in program.PROBLEMS)
    assert "### bootstrap" in out.read_text(encoding="utf-8")


def test_a_task_of_a_likelihood_is_read_as_it_was_written(tmp_path: Path) -> None:
    problem = MARGINAL["VerbAgg"]
    try:
        data = problem.data
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    marginal.write(problem, tmp_path)
    task, back = _program("stopwatch").read(tmp_path)
    assert (task["criterion"], task["family"], task["refits"]) == ("Laplace", "bernoulli", 0)
    assert list(back) == ["r2", "Anger", "Gender", "btype", "situ", "id", "item"]
    for name in back:
        assert back[name].tolist() == data[name].tolist()
    assert set(back["r2"]) == {0.0, 1.0}
    small, first = _program("stopwatch").read(tmp_path / "small")
    assert small["formula"] == "y ~ x1 + (x1 | g)"
    assert (len(first), set(first["y"])) == (400, {0.0, 1.0})
    assert marginal.megabytes(data) == pytest.approx((2 * 8 + 5 * 4) * len(data) / 2**20)
    assert 'list(name = "btype", factor = 1L, rows = 7584L)' in (tmp_path / "task.R").read_text()


def test_the_stopwatch_leaves_what_a_program_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = _program("stopwatch")
    marginal.write(marginal.line("gaussian", 1_000, 10), tmp_path, seconds=0.05)
    monkeypatch.chdir(tmp_path)
    calls: list[int] = []

    def whole(data: pd.DataFrame, task: dict[str, object]) -> int:
        calls.append(len(data))
        time.sleep(0.01)
        return len(data)

    stopwatch.measured(
        whole, lambda fitted, task: {"version": "1", "log_likelihood": -float(fitted), "converged": True},
        lambda data, task: len(data), lambda built, task: time.sleep(0.002),
    )  # fmt: skip
    took = maximum.read("a problem", "a program", json.loads((tmp_path / "result.json").read_text()))
    assert calls[0] == 400  # the small fit that warms it up
    assert calls[1:] == [1_000] * took.repeats
    assert took.repeats >= 2
    assert took.model < 0.002 <= took.fit < 0.01 <= took.whole < 0.1
    assert took.fit_cpu < 0.002  # asleep
    assert took.log_likelihood == -1_000.0
    assert 0.0 <= took.memory < 50.0


def test_what_a_program_left_before_it_was_stopped_is_kept() -> None:
    problem = marginal.line("poisson", 50, 5)
    leaves = "import pathlib; pathlib.Path('result.json').write_text('{\"whole\": 2.0, \"repeats\": 1, \"note\": null}');"
    kept = maximum.ask("a program", [sys.executable, "-c", leaves + "raise SystemExit('no good')"], problem)
    assert (kept.whole, kept.repeats, kept.note) == (2.0, 1, "failed: no good")
    with pytest.raises(outside.Stopped, match="failed: no good"):
        maximum.ask("a program", [sys.executable, "-c", "raise SystemExit('no good')"], problem)
    with pytest.raises(outside.Stopped, match="left no result"):
        maximum.ask("a program", [sys.executable, "-c", "pass"], problem)
    with pytest.raises(outside.Stopped, match="killed at 0.005 minutes"):
        maximum.ask("a program", [sys.executable, "-c", "import time; time.sleep(60)"], problem, minutes=0.005)


def _maximum(program: str, seconds: float, reached: float, **more: Any) -> Maximum:
    return Maximum("sleepstudy", program, fit_cpu=seconds, whole_cpu=2 * seconds, log_likelihood=reached, **more)


def test_a_table_of_likelihoods_marks_who_did_not_reach_the_maximum() -> None:
    figures = [
        _maximum("bayou", 0.001, -871.8141), _maximum("short", 0.004, -871.9), _maximum("gpboost", 0.002, -876.1, criterion="ML"),
        _maximum("stuck", 0.003, -871.8142, converged=False), Maximum("sleepstudy", "away", "not installed."),
        Maximum("sleepstudy", "slow", "killed at 4 minutes."),
    ]  # fmt: skip
    lines = likelihood.comparison(figures).splitlines()
    by = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert "NOT THE MAXIMUM" in by["short"]
    assert sum("NOT THE MAXIMUM" in line for line in lines) == 1  # another criterion has a maximum of its own
    assert "says it did not converge" in by["stuck"]
    assert by["short"].split("|")[12].strip() == "4"
    assert lines[-2:] == ["- away: not installed.", "- slow: killed at 4 minutes."]
    heading, _, row = likelihood.summary([figures]).splitlines()
    assert [cell.strip() for cell in heading.split("|")[2:-1]] == [f.program for f in figures]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["1.0e-03", "(4.0e-03)", "(2.0e-03)", "3.0e-03", "–", "stopped"]


def test_a_bootstrap_that_refits_something_else_is_marked() -> None:
    figures = [_maximum(name, 1.0, -871.8, spread=s) for name, s in (("a", 1.55), ("b", 1.53), ("c", 0.66))]
    lines = likelihood.comparison(figures).splitlines()
    assert ["NOT THESE REFITS" in line for line in lines[2:]] == [False, False, True]


def test_promises_of_the_likelihoods_are_of_bayous_fit() -> None:
    problem = MARGINAL["counts"]
    ours = Maximum("counts", "bayou", fit_cpu=0.2, whole_cpu=0.5, memory=3 * marginal.megabytes(problem.data))
    (seconds, memory) = likelihood.kept([ours, _maximum("glmm", 1.0, 0.0)], problem)
    assert (seconds[1:], memory[2:]) == ((0.2, 0.3, "most"), (3.0, "most"))
    assert memory[1] == pytest.approx(3.0)
    assert likelihood.kept([Maximum("counts", "bayou", "failed: no good.")], problem) == []


def test_held_figures_are_not_measured_again_unless_asked(tmp_path: Path) -> None:
    file, measured = tmp_path / "held.json", []

    def maximise(problem: Marginal, seconds: float, minutes: float) -> Maximum:
        measured.append(problem.name)
        return Maximum(problem.name, "a program", whole_cpu=float(len(measured)), log_likelihood=-1.0)

    program = SimpleNamespace(NAME="a program", PROBLEMS=tuple(MARGINAL), available=lambda: None, maximise=maximise)
    away = SimpleNamespace(NAME="away", PROBLEMS=tuple(MARGINAL), available=lambda: "away.")

    def once(*again: str) -> list[Maximum]:
        return list(likelihood.contest(MARGINAL["bootstrap"], [program, away], likelihood.Held(file, again)))

    assert [figure.whole_cpu for figure in (once()[0], once()[0], once("a program")[0], once()[0])] == [1.0, 1.0, 2.0, 2.0]
    assert once()[1].missing == "away."
    assert measured == ["bootstrap"] * 2
    assert [one["program"] for one in json.loads(file.read_text())] == ["a program"]


def test_the_growth_of_the_likelihoods_is_a_row_a_size() -> None:
    seen: list[str] = []

    def contest(problem: Marginal, programs: list[Any], *rest: object) -> list[Maximum]:
        seen.append(problem.name)
        return [Maximum(problem.name, program.NAME, whole_cpu=1.5, memory=10.0) for program in programs]

    sizes = likelihood_growth.SIZES
    text = likelihood_growth.report(likelihood.PROGRAMS, None, contest, sizes=sizes[:1])
    assert seen == ["gaussian, 10,000 rows, 1,000 groups, 2 effects"]
    heading, _, row = text.splitlines()
    assert "glmm fit CPU s" in heading
    assert row.split("|")[1].strip() == "gaussian"
    assert row.count(" 1.5 ") == 2 * len(likelihood_growth.GROWING)
    stopped = likelihood_growth.cells(marginal.line("gaussian", 100, 5), ("g",), [Maximum("p", "slow", "killed.")])
    assert stopped[2:] == ("stopped",) * 3


@pytest.mark.slow
@pytest.mark.parametrize("rival", MAXIMISERS, ids=lambda rival: rival.NAME)
def test_a_rival_reaches_the_maximum_of_a_small_problem(rival: ModuleType) -> None:
    if (missing := rival.available()) is not None:
        pytest.skip(f"{rival.NAME}: {missing}")
    try:
        took = rival.maximise(MARGINAL["sleepstudy"], seconds=0.2)
    except FileNotFoundError as missing_data:
        pytest.skip(str(missing_data))
    # gpboost has neither REML nor correlations: its own maximum
    known = -876.00163 if rival.NAME == "gpboost" else -871.81414
    assert took.log_likelihood == pytest.approx(known, abs=1e-3)
    assert took.converged
    assert 0.0 < took.whole < 2.0


def test_every_nested_problem_is_a_model_or_names_its_missing_data() -> None:
    models = 0
    for problem in (*NESTED.values(), nested_problems.EVERY["lattice 25 x 25"], nested_problems.in_groups(1_000)):
        try:
            arguments = problem.arguments()
        except FileNotFoundError as missing:
            assert "not in ../shared/data" in str(missing)
            continue
        model = bayou.Model(**arguments)
        assert model.priors_given
        assert (len(model.design.groupings) > 0) == ("maximised" in problem.rivals or problem.name.startswith("counts"))
        assert set(problem.structures) == set(arguments.get("structures", {}))
        models += 1
    assert models >= 5  # seeds are typed in, the counts and lattices can be simulated
    assert {name for name, problem in NESTED.items() if problem.promised is None} == {"cbpp", "grouseticks"}
    assert all(problem.recorded is not None for problem in NESTED.values())


def test_a_simulated_lattice_has_its_edges_and_a_surface_of_mean_square_one() -> None:
    frame, source = data.lattice(12)
    pairs = data.lattice_edges(12)
    assert "simulated" in source
    assert len(pairs) == 2 * 12 * 11
    row, column = (np.array(pairs[k]) - 1 for k in ("i", "j"))
    assert set((column - row).tolist()) == {1, 12}
    assert not np.any((row % 12 == 11) & (column - row == 1))
    u = frame["u"].to_numpy()
    assert u.mean() == pytest.approx(0.0, abs=1e-12)
    assert np.mean(np.square(u)) == pytest.approx(1.0)
    assert np.mean(u[row] * u[column]) > 0.3  # neighbours are alike
    assert (frame["E"] > 0).all()


def test_the_surface_of_a_lattice_is_a_draw_of_the_intrinsic_autoregression() -> None:
    """A coloured unit vector times its transpose, summed, is the pseudo-inverse of the lattice's Laplacian."""
    side, pairs = 4, data.lattice_edges(4).to_numpy() - 1
    laplacian = np.zeros((16, 16))
    for i, j in pairs:
        laplacian[[i, j], [i, j]] += 1.0
        laplacian[[i, j], [j, i]] -= 1.0
    columns = np.array([data.surface(unit.reshape(side, side)).ravel() for unit in np.eye(16)])
    assert columns.T @ columns == pytest.approx(np.linalg.pinv(laplacian), abs=1e-12)


def test_the_same_nested_problem_goes_to_the_rivals(tmp_path: Path) -> None:
    problem = NESTED["seeds"].marginal
    marginal.write(problem, tmp_path)
    task, back = _program("stopwatch").read(tmp_path)
    assert (task["family"], task["criterion"]) == ("binomial", "Laplace")
    assert task["formula"] == "proportion(r, n) ~ x1 + x2 + x12 + (1 | plate)"
    assert back["x12"].tolist() == (back["x1"] * back["x2"]).tolist()
    assert back["plate"].cat.categories.size == 21
    small, first = _program("stopwatch").read(tmp_path / "small")
    assert (small["family"], set(first["y"])) == ("bernoulli", {0.0, 1.0})


def test_the_nested_command_names_the_missing_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for program in (*nested.INNER.values(), nested.bambi_nutpie):
        monkeypatch.setattr(program, "available", lambda: "It is not installed here.")
    took = {"whole_cpu": 0.01, "whole": 0.02, "hyper": 1, "nodes": 7, "coefficients": 25, "reached": -74.9}
    ours = [Nest("seeds", OURS, **took), Nest("seeds", CORRECTED, **took | {"whole_cpu": 0.07, "k_hat": 0.1})]
    monkeypatch.setattr(nested.ours_nested, "outside", lambda *_: ours)
    out = tmp_path / "table.md"
    assert nested.main(["--only", "seeds", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for name in nested.RIVALS[1:]:
        assert f"- {name}: It is not installed here." in said
    by = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in said.splitlines() if "|" in line}
    assert by["R-INLA"][2] == "0.27"
    assert by["R-INLA"][-2:] == ["27", "recorded on another machine, wall"]
    assert by[CORRECTED][-2] == "7"
    assert by["seeds: CPU s of model and fit"] == ["0.01", "at most 0.03", "reached"]
    assert by["seeds: with the correction, CPU s"] == ["0.07", "at most 0.06", "NOT REACHED"]
    assert "### seeds" in out.read_text(encoding="utf-8")


def test_promises_of_inla_are_of_the_whole_call_and_of_no_stopped_one() -> None:
    stopped = [Nest("Tokyo", OURS, whole_cpu=0.02), Nest("Tokyo", CORRECTED, "killed at 5 minutes.")]
    lines = nested.kept(stopped, NESTED["Tokyo"])
    assert [line[2] for line in lines] == [0.05, 0.1]
    assert table.targets(lines).splitlines()[-1].rstrip(" |").endswith("–")
    assert nested.kept(stopped, NESTED["cbpp"]) == []
    text = nested.comparison(stopped)
    assert "stopped, see below" in text
    assert text.splitlines()[-1] == "- bayou, corrected: killed at 5 minutes."
    both = [Nest("seeds", OURS, whole_cpu=0.02), Nest("seeds", CORRECTED, whole_cpu=0.05), Nest("seeds", "x", "not installed.")]
    assert [cell.strip() for cell in nested.summary([both]).splitlines()[2].split("|")[2:-1]] == ["0.02", "0.05", "–", "2.5"]


def test_bambi_is_timed_until_it_has_enough_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested.bambi_nutpie, "run", lambda *_: None)
    figure = Figure("seeds", "bambi, nutpie", wall=8.0, processor=4.0, effective=100.0, r_hat=1.0, worst="sd_plate")
    monkeypatch.setattr(nested, "summed", lambda *_: figure)
    # half of its scans are warm-up; of the others it would need four times as many
    assert nested._drawn(NESTED["seeds"]).whole_cpu == pytest.approx(4.0 * (1 + 4) / 2)


def test_growth_of_inla_is_a_row_a_size() -> None:
    def measure(problem: nested_problems.Nested, seconds: float, minutes: float | None) -> list[Nest]:
        took: dict[str, Any] = {"nodes": 5, "coefficients": 100, "hyper": 1, "peak": 0.3}
        plain = Nest(problem.name, OURS, fit_cpu=0.5, **took)
        return [plain, Nest(problem.name, CORRECTED, "killed at 1 minutes.")]

    text = nested_growth.report(1.0, 1.0, nested_growth.SIZES[:2], measure)
    _, _, first, second = text.splitlines()
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells[:5] == ["lattice 25 x 25", "625", "100", "1", "5"]
    assert cells[6:9] == ["0.5", "stopped", "1,000"]
    assert "lattice 50 x 50" in second
    assert set(nested_growth.SIZES) <= set(nested_problems.EVERY)


@pytest.mark.slow
def test_inla_is_measured_in_a_process_of_its_own() -> None:
    plain, corrected = ours_nested.outside(NESTED["seeds"], 0.1)
    assert (plain.missing, corrected.missing) == (None, None)
    assert (plain.hyper, plain.coefficients) == (1, 25)
    assert plain.reached == pytest.approx(-74.97, abs=0.05)
    assert corrected.reached == pytest.approx(-74.92, abs=0.08)
    assert corrected.effective > 400
    assert 0.0 < plain.fit_cpu < plain.whole_cpu < 1.0
    assert 0.1 < plain.peak < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("rival", list(nested.INNER.values()), ids=list(nested.INNER))
def test_a_rival_maximises_a_nested_problem(rival: ModuleType) -> None:
    if (missing := rival.available()) is not None:
        pytest.skip(missing)
    took = rival.maximise(NESTED["seeds"].marginal, seconds=0.2)
    assert took.log_likelihood == pytest.approx(-53.7699, abs=2e-3)

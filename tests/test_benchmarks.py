"""The benchmark runs, names the rivals that are not there, and counts what it says it counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import __main__ as command
from benchmarks import environments, growth, outside, promises, table
from benchmarks.measure import Figure, Outcome, distance, repeated
from benchmarks.problems import PROBLEMS
from benchmarks.rivals import RIVALS, hoff_numpy, jags, nuts, slides_r
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

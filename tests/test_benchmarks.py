"""The benchmark runs, names the rivals that are not there, and counts what it says it counts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import __main__ as command
from benchmarks import table
from benchmarks.measure import Figure, Outcome, distance, repeated
from benchmarks.problems import PROBLEMS
from benchmarks.rivals import RIVALS, hoff_numpy, slides_r


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
        assert f"Missing: {rival.NAME}: {rival.NAME} is away." in said
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
    assert "met" in text.splitlines()[2]
    assert "MISSED" in text.splitlines()[3]

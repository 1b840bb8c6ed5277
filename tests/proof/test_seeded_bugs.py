"""Sixteen bugs seeded into copies of the package: Geweke's test sees every one, and so does an exact test."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof.geweke import worst
from proof.mutants import MUTANTS, Mutant, geweke, mutated, outcome

SWEEPS = 20_000


def test_every_bug_has_its_place(tmp_path: Path) -> None:
    """The source that a bug changes is found exactly once: this fails when the code has moved."""
    for number, mutant in enumerate(MUTANTS):
        folder = mutated(tmp_path / str(number), mutant)
        assert mutant.new in (folder / "bayou" / mutant.file).read_text("utf-8")
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 12


@pytest.mark.slow
def test_the_package_as_it_is_passes_there_too(tmp_path: Path) -> None:
    """What fails below fails for the bug: the same processes pass without one."""
    folder = mutated(tmp_path, None)
    for arguments in (MUTANTS[0].geweke, MUTANTS[8].geweke):
        name, value = worst(geweke(folder, arguments, SWEEPS))
        assert abs(value) < 4.0, f"{name}: z = {value:.1f}"
    done = outcome(folder, MUTANTS[2].exact)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_geweke_sees(mutant: Mutant, tmp_path: Path) -> None:
    name, value = worst(geweke(mutated(tmp_path, mutant), mutant.geweke, SWEEPS))
    assert abs(value) > 4.0, f"{name}: z = {value:.1f}"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_an_exact_test_sees(mutant: Mutant, tmp_path: Path) -> None:
    done = outcome(mutated(tmp_path, mutant), mutant.exact)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "1 failed" in done.stdout and "AssertionError" in done.stdout

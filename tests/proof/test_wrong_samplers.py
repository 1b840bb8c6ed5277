"""Wrong samplers, and what finds them: `bayou.calibrate`, an exact reference, Geweke's test.

Twenty-one faults are put around right engines or into a sampler of their own, and sixteen bugs into the kernels of
copies of the package. ``pytest -s`` prints what found each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import bayou
from bayou.posterior.convergence import effective_size
from proof.geweke import worst
from proof.mutants import MUTANTS, Mutant, environment, geweke, mutated
from proof.wrong import FAULTS, MODELS, SLIPS, Hierarchy, Tampered

SURE = 1e-3  # p, all quantities together: chance is out of the question
SUBTLE = ("precisions", "inverse Wishart", "three rows", "Huang-Wand")  # half a degree of freedom takes more
SLOWEST = "walk"


@lru_cache(maxsize=1)
def said() -> list[str]:
    return []


@pytest.fixture(scope="module", autouse=True)
def show():
    """The table, at the end; -s shows it."""
    yield
    print("\n" + "\n".join(["", f"{'fault':<52} {'found by':<60}", *said()]))


def simulations(model: str) -> int:
    return 12 if model == SLOWEST else 200 if model in SUBTLE else 100


def found_by(found: bayou.diagnose.calibration.Calibration) -> tuple[float, str]:
    table = found.table
    name = table["p"].idxmin()
    p = min(1.0, table["p"][name] * len(table))
    fault = f"bias {table['bias'][name]:+.2f} sd, sd x {table['sd_ratio'][name]:.2f}"
    return p, f"calibrate, p = {p:.0e}: {name}, {fault}"


def some(names, first: int) -> list:
    """The first few in every run, the others among the slow tests."""
    return [pytest.param(name, marks=[] if k < first else [pytest.mark.slow]) for k, name in enumerate(names)]


# ---- right engines pass -------------------------------------------------------------------------


@pytest.mark.parametrize("model", some([name for name in MODELS if name != SLOWEST], 2))
def test_right_engines_pass(model: str) -> None:
    """What fails below fails for its fault."""
    p, line = found_by(bayou.calibrate(MODELS[model](), Tampered(), simulations=simulations(model), seed=1, cores=1))
    said().append(f"{'none: ' + model:<52} {'' if p < SURE else 'nothing. '}{line}")
    assert p > SURE, line


def test_the_sampler_by_hand_is_right() -> None:
    found = bayou.calibrate(MODELS["schools"](), Hierarchy(), simulations=100, seed=1, cores=1)
    assert found_by(found)[0] > SURE and abs(against_the_grid("")) < 4.0


# ---- wrong ones do not --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", some(FAULTS, 5))
def test_calibration_finds(fault: str) -> None:
    model = FAULTS[fault].model
    found = bayou.calibrate(MODELS[model](), Tampered(fault=fault), simulations=simulations(model), seed=1, cores=1)
    p, line = found_by(found)
    said().append(f"{fault:<52} {line}")
    assert p < SURE and not found.ok and found.sentences[0].startswith("NOT OK"), line


def against_the_grid(slip: str) -> float:
    """z of the mean of tau in one long run, from its exact value by quadrature."""
    model = MODELS["schools"]()
    tau = Hierarchy(slip=slip, kept=4000).run(model, np.random.default_rng(3)).draws["sd_g"][..., 0]
    mean, sd = Hierarchy().exact(model)
    return float((tau.mean() - mean) / (sd / np.sqrt(effective_size(tau[None], "mean")[0])))


@pytest.mark.parametrize("slip", some(SLIPS, 2))
def test_slips_of_a_sampler_by_hand(slip: str) -> None:
    """Two of the six leave tau alone: they show in the ranks of what depends on b or mu."""
    p, line = found_by(bayou.calibrate(MODELS["schools"](), Hierarchy(slip=slip), simulations=100, seed=1, cores=1))
    z = against_the_grid(slip)
    exact = f"; exact reference, z = {z:.0f}" if abs(z) > 4.0 else ""
    said().append(f"{slip:<52} {line}{exact}")
    assert p < SURE, line
    assert (abs(z) > 4.0) is (slip not in SLIPS[4:])


def test_there_are_enough() -> None:
    assert len(FAULTS) + len(SLIPS) >= 12 + 9


# ---- bugs in the kernels ------------------------------------------------------------------------

SCRIPT = """
import json
import bayou
from bayou.engines import Gibbs, Metropolis
from dataclasses import replace
from proof.models import PRIOR_KINDS, build
model, engine = {arguments}
engine = replace(engine, draws=400, warmup=300, chains=1, thin=4, progress=False)
found = bayou.calibrate(model, engine, simulations={simulations}, seed=1, cores=1)
table = found.table
name = table["p"].idxmin()
p = min(1.0, float(table["p"][name]) * len(table))
print(json.dumps([bayou.__file__, p, name, float(table["bias"][name]), float(table["sd_ratio"][name])]))
"""
SWEEPS = 20_000
SIMULATIONS = 200


def calibrated(folder: Path, arguments: str) -> tuple[float, str]:
    """p of all quantities and words, found by a process that imports the package from ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(arguments=arguments, simulations=SIMULATIONS)],
        env=environment(folder), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    where, p, name, bias, ratio = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(folder)
    return p, f"calibrate, p = {p:.0e}: {name}, bias {bias:+.2f} sd, sd x {ratio:.2f}"


@pytest.mark.slow
def test_the_package_as_it_is_passes_there_too(tmp_path: Path) -> None:
    folder = mutated(tmp_path, None)
    for arguments in (MUTANTS[0].geweke, MUTANTS[8].geweke):
        p, line = calibrated(folder, arguments)
        assert p > SURE, line


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_bugs_in_kernels(mutant: Mutant, tmp_path: Path) -> None:
    """Seen by calibration or, where data sets of twelve rows say too little in their ranks, by Geweke's test."""
    folder = mutated(tmp_path, mutant)
    p, line = calibrated(folder, mutant.geweke)
    if p >= SURE:
        name, z = worst(geweke(folder, mutant.geweke, SWEEPS))
        line = f"Geweke, z = {z:.0f}: {name}; {line}"
        assert abs(z) > 4.0, line
    said().append(f"{'kernel: ' + mutant.name:<52} {line}")

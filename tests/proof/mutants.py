"""Bugs seeded on purpose: each a change of one place in one kernel, and where it has to show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import bayou

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """A change of source, the Geweke test that sees it, and the exact test that does."""

    name: str
    file: str
    old: str
    new: str
    geweke: str  # arguments of `z_scores`, as Python
    exact: str  # a file of this folder and the tests in it


def gibbs(structure: str, parameterization: str, priors: str = "None") -> str:
    return f"build({structure!r}, 'gaussian', {priors}), Gibbs(parameterization={parameterization!r})"


def metropolis(structure: str, family: str, proposal: str, priors: str = "None") -> str:
    return f"build({structure!r}, {family!r}, {priors}), Metropolis(proposal={proposal!r})"


MUTANTS = [
    Mutant(
        "degrees of freedom off by one",
        "engines/moves.py",
        "return draw_inverse_wishart(blocks.df[r] + J, S, L, work[1], work[2], p, rng)",
        "return draw_inverse_wishart(blocks.df[r] + J - 1.0, S, L, work[1], work[2], p, rng)",
        gibbs("slopes", "marginal", "PRIOR_KINDS['inverse Wishart']"),
        "test_covariances.py::test_inverse_wishart_block",
    ),
    Mutant(
        "residual degrees of freedom off by one",
        "engines/lmm/scan.py",
        "state.sigma[s], target.cells.rows[s], ss, target.sigma_code",
        "state.sigma[s], target.cells.rows[s] - 1.0, ss, target.sigma_code",
        gibbs("slopes", "uncentered"),
        "test_covariances.py::test_sliced_sigma",
    ),
    Mutant(
        "a missing prior term: the mean of the fixed effects",
        "engines/lmm/coefficients.py",
        "t = state.residual[at + i] + border.linear[i]",
        "t = state.residual[at + i]",
        gibbs("slopes", "uncentered"),
        "test_conditionals.py::test_fixed_effects_given_the_rest",
    ),
    Mutant(
        "a covariance where its precision belongs",
        "engines/lmm/coefficients.py",
        "L[i, k] = w * arrow.A[j, i, k] + state.Q[0, i, k]",
        "L[i, k] = w * arrow.A[j, i, k] + state.L[0, i, k]",
        gibbs("slopes", "uncentered"),
        "test_conditionals.py::test_group_coefficients_given_the_rest",
    ),
    Mutant(
        "a wrong Jacobian of the covariance factor",
        "engines/moves.py",
        "ratio += (p - i) * math.log(new[i, i] / L[i, i])",
        "ratio += (p - i - 1) * math.log(new[i, i] / L[i, i])",
        gibbs("slopes", "blocked"),
        "test_theta.py::test_whole_factors_proposed",
    ),
    Mutant(
        "a wrong Jacobian of the collapsed coordinates",
        "effects/iid.py",
        "log_jacobian += (2.0 * p + 1.0) * math.log(t[at + i])",
        "log_jacobian += (2.0 * p) * math.log(t[at + i])",
        gibbs("slopes", "collapsed"),
        "../test_iid.py",
    ),
    Mutant(
        "a prior of the variance for one of the sd",
        "engines/moves.py",
        "(1.0 - n) * log_s",
        "(2.0 - n) * log_s",
        gibbs("intercepts", "centered"),
        "test_covariances.py::test_sliced_sd",
    ),
    Mutant(
        "a shift with the wrong sign",
        "engines/centring.py",
        "b[at + j * p + moves.coefficient[e]] -= moves.u[moves.at[e] + j] * d[r]",
        "b[at + j * p + moves.coefficient[e]] += moves.u[moves.at[e] + j] * d[r]",
        gibbs("slopes", "centered"),
        "test_conditionals.py::test_fixed_effects_with_the_lines_of_the_groups_held",
    ),
    Mutant(
        "a proposal ratio forgotten",
        "engines/glmm/groups.py",
        "ok = -rng.standard_exponential() < t + reverse_density(H, g, step, j * p, p, diagonal)",
        "ok = -rng.standard_exponential() < t + math.log(H[0, 0])",
        metropolis("intercepts", "poisson", "laplace"),
        "test_proposals.py::test_levels_of_one_factor",
    ),
    Mutant(
        "half the acceptance exponent",
        "engines/glmm/whitened.py",
        "if not -rng.standard_exponential() < fresh - state.total[0] + log_ratio:",
        "if not -rng.standard_exponential() < 0.5 * (fresh - state.total[0] + log_ratio):",
        metropolis("slopes", "poisson", "laplace"),
        "test_hyperparameters.py::test_scalings",
    ),
    Mutant(
        "groups carried along without their Jacobian",
        "engines/glmm/carried.py",
        "return ratio + math.log(determinant) + likelihood - state.total[0]",
        "return ratio + likelihood - state.total[0]",
        metropolis("slopes", "poisson", "laplace"),
        "test_hyperparameters.py::test_groups_carried_along",
    ),
    Mutant(
        "a stale linear predictor",
        "engines/glmm/groups.py",
        "_scatter(rows, f, a, m, scratch.eta, a - low, eta)",
        "_scatter(rows, f, a, 0, scratch.eta, a - low, eta)",
        metropolis("intercepts", "poisson", "random_walk"),
        "test_proposals.py::test_levels_of_one_factor",
    ),
    Mutant(
        "a group off by one: the last one left out of the scatter",
        "engines/glmm/scan.py",
        "for j in range(J):\n            own = window(state.b, at + j * p, q)",
        "for j in range(J - 1):\n            own = window(state.b, at + j * p, q)",
        metropolis("slopes", "binomial", "random_walk"),
        "test_covariances.py::test_inverse_wishart_block[rows-slopes]",
    ),
    Mutant(
        "the sums of nested factors forgotten",
        "engines/centring.py",
        "sums[moves.map[moves.at_map[pair] + j]] += t",
        "sums[moves.map[moves.at_map[pair] + j]] += 0.0 * t",
        metropolis("nested", "poisson", "random_walk"),
        "test_proposals.py::test_translations",
    ),
    Mutant(
        "prior weights forgotten",
        "engines/glmm/state.py",
        "state.weights[f, r] = prior[(f * n + r) * target.prior_step] / (s * s)",
        "state.weights[f, r] = 1.0 / (s * s)",
        metropolis("weights", "gaussian", "random_walk"),
        "test_proposals.py::test_levels_of_a_second_factor[weights-gaussian-walk]",
    ),
    Mutant(
        "a step of a logarithm without its Jacobian",
        "engines/glmm/scan.py",
        "ratio = fresh - old + move",
        "ratio = fresh - old",
        metropolis("intercepts", "negative_binomial", "random_walk"),
        "test_proposals.py::test_dispersion",
    ),
]


def mutated(folder: Path, mutant: Mutant | None) -> Path:
    """Copy the package into ``folder``, with the bug in it; return what to put on PYTHONPATH."""
    ours = Path(bayou.__file__).parent
    shutil.copytree(ours, folder / "bayou", ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        source = folder / "bayou" / mutant.file
        text = source.read_text("utf-8")
        count = text.count(mutant.old)
        if count != 1:
            raise AssertionError(f"{mutant.file} has {count} places that read {mutant.old!r}: seed this bug anew")
        source.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    return folder


def environment(folder: Path, optimised: bool = False) -> dict[str, str]:
    """Return that of a process that imports the package from ``folder``.

    A changed kernel is compiled anew, which takes longer than to run it: unoptimised it takes half the time. But Numba
    warns then that it cannot keep a kernel that calls another, and tests take warnings for errors.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    paths = os.pathsep.join([str(folder), str(TESTS)])
    quick = {} if optimised else {"NUMBA_OPT": "0"}
    return {**kept, **quick, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(folder)}


SCRIPT = """
import json
import bayou
from bayou.engines import Gibbs, Metropolis
from proof.geweke import z_scores
from proof.models import PRIOR_KINDS, build
print(json.dumps([bayou.__file__, z_scores({arguments}, {sweeps}, 1)]))
"""


def geweke(folder: Path, arguments: str, sweeps: int) -> dict[str, float]:
    """z of all functions, found by a process that imports the package from ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(arguments=arguments, sweeps=sweeps)],
        env=environment(folder), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    where, z = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(folder)
    return {name: float(value) for name, value in z.items()}


def outcome(folder: Path, which: str) -> subprocess.CompletedProcess[str]:
    """Run tests of this folder against the package in ``folder``."""
    file, _, test = which.partition("::")
    name, _, parameters = test.partition("[")
    path = (Path(__file__).parent / file).resolve()
    node = f"{path}::{name}" + (f"[{parameters}" if parameters else "") if name else str(path)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", node]
    return subprocess.run(command, env=environment(folder, True), capture_output=True, text=True, cwd=TESTS.parent)

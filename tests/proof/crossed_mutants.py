"""Bugs seeded into copies of `engines.crossed`: each a change of one place, and the kind of scan that has to show it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from proof.mutants import Mutant, environment, mutated

FOLDER = "engines/crossed/"


@dataclass(frozen=True)
class Bug:
    """A change of source; the model and the scan of `crossed_models` that Geweke's test sees it with."""

    name: str
    file: str
    old: str
    new: str
    model: str
    kind: str

    def mutant(self) -> Mutant:
        return Mutant(self.name, FOLDER + self.file, self.old, self.new, "", "")


BUGS = [
    Bug(
        "a shift without the prior of the other factor",
        "sweep.py",
        "precise[c] = pairs.one_count[at] * state.Q[f, i, i] + pairs.other_count[at] * state.Q[g, m, m]",
        "precise[c] = pairs.one_count[at] * state.Q[f, i, i]",
        "two factors", "crossed",
    ),
    Bug(
        "the last level left out of the density of a covariance",
        "coefficients.py",
        "for j in range(J):\n        base",
        "for j in range(J - 1):\n        base",
        "slope", "plain",
    ),
    Bug(
        "one level of each class counted in the determinant",
        "coefficients.py",
        "log_det += target.alike_levels[g] * math.log(h)",
        "log_det += math.log(h)",
        "two factors", "plain",
    ),
    Bug(
        "the noise of the levels a tenth too large",
        "coefficients.py",
        "b[first + j] = w * t / h + noise * rng",
        "b[first + j] = w * t / h + 1.1 * noise * rng",
        "three factors", "plain",
    ),
    Bug(
        "a third factor forgotten in what the others add up to",
        "passes.py",
        "if f != k:",
        "if f != k and f < 2:",
        "three factors", "crossed",
    ),
    Bug(
        "a level too many in the density of a covariance",
        "theta.py",
        "J = float(target.levels[k])",
        "J = float(target.levels[k] + 1)",
        "slope", "crossed",
    ),
    Bug(
        "log sigma without its Jacobian",
        "theta.py",
        "(1.0 - target.rows[0]) * x[at]",
        "(0.0 - target.rows[0]) * x[at]",
        "two factors", "crossed",
    ),
    Bug(
        "the fixed effects left out of the determinant",
        "theta.py",
        "log_det += log_determinant(state.C, free)",
        "log_det += 0.0 * log_determinant(state.C, free)",
        "two factors", "crossed",
    ),
    Bug(
        "each of two sigmas a tenth too large",
        "sweep.py",
        "state.sigma[s] = draw_scale(",
        "state.sigma[s] = 1.1 * draw_scale(",
        "two sigmas", "crossed",
    ),
    Bug(
        "the last level left out of the scatter of a wide block",
        "sweep.py",
        "for _ in range(target.levels[k]):",
        "for _ in range(target.levels[k] - 1):",
        "wide", "crossed",
    ),
    Bug(
        "degrees of freedom of a wide block off by its levels",
        "sweep.py",
        "J = float(target.levels[k])",
        "J = 2.0 * float(target.levels[k])",
        "wide", "crossed",
    ),
    Bug(
        "joint draws with the precision that a wide block had before it was drawn",
        "sweep.py",
        "return not drawn or precision",
        "return True or precision",
        "the last one wide", "joint",
    ),
    Bug(
        "joint draws without the noise of the prior",
        "solving.py",
        "h[at + i] += z[i]",
        "h[at + i] += 0.0 * z[i]",
        "two factors", "joint",
    ),
    Bug(
        "joint draws that stop at once",
        "system.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1.0",
        "slope", "joint",
    ),
    Bug(
        "joint draws without the weights of the entries in their noise",
        "solving.py",
        "t = root if constant else math.sqrt(",
        "t = root if constant or True else math.sqrt(",
        "weights", "joint",
    ),
    Bug(
        "the fixed effects counted once where they meet the coefficients",
        "sweep.py",
        "t += 2.0 * e * b[target.at_b[k] + i]",
        "t += e * b[target.at_b[k] + i]",
        "two sigmas", "crossed",
    ),
    Bug(
        "rows that differ within an entry add no noise to the joint draw",
        "solving.py",
        "g[c] += solver.within[s, c, e] * t",
        "g[c] += 0.0 * solver.within[s, c, e] * t",
        "few pairs", "joint",
    ),
]  # fmt: skip

SCRIPT = """
import json
import bayou
from proof.crossed_models import Scan, build, z_scores
print(json.dumps([bayou.__file__, z_scores(build({model!r}), Scan({kind!r}), {sweeps})]))
"""


def seeded(folder: Path, bug: Bug | None) -> Path:
    """Copy the package into ``folder``, with the bug in it."""
    return mutated(folder, None if bug is None else bug.mutant())


def geweke(folder: Path, model: str, kind: str, sweeps: int) -> dict[str, float]:
    """z of all functions, found by a process that imports the package from ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(model=model, kind=kind, sweeps=sweeps)],
        env=environment(folder), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    where, z = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(folder)
    return {name: float(value) for name, value in z.items()}

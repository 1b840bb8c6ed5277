"""Small Gaussian models of every structure, and the way between kernels' coordinates and printed ones."""

import numpy as np

from bayou.engines.gibbs import gaussian_target
from bayou.engines.lmm.state import State, Target, new_state
from bayou.linalg.schur import new_factor
from bayou.model import Model
from bayou.priors import LKJ, HalfNormal, HalfT, Normal
from bayou.sufficient import Sufficient, sufficient
from oracle import Point

# frozen and proper, so that they do not change with the data
PRIORS = {"beta": Normal(0.3, 1.5), "sd": HalfNormal(1.0), "cor": LKJ(2.0), "sigma": HalfT(4, 1.0)}

STRUCTURES = {
    "one factor": {"formula": "y ~ x + (x | g)"},
    "no slope at all": {"formula": "y ~ 1 + (1 | g)"},
    "no intercept": {"formula": "y ~ 0 + x + (0 + x | g)"},
    "uncorrelated": {"formula": "y ~ x + (1 + x || g)"},
    "nested": {"formula": "y ~ x + (1 | a/g)"},
    "crossed": {"formula": "y ~ x + (x | g) + (1 | h)"},
    "crossed, the smaller one has slopes": {"formula": "y ~ x + (1 | g) + (1 + x || h)"},
    "three factors": {"formula": "y ~ x * u + (1 | g) + (u | h) + (1 | a)"},
    "no groups": {"formula": "y ~ x + u"},
    "group-level column": {"formula": "y ~ x + v + (x | g)"},
    "sigma within groups": {"formula": "y ~ x + (x | g)", "sigma_by": "s"},
    "sigma across groups": {"formula": "y ~ x + (1 | g) + (1 | h)", "sigma_by": "a"},
    "sigma, no groups": {"formula": "y ~ x", "sigma_by": "s"},
    "weights": {"formula": "y ~ x + (x | g)", "weights": "w"},
    "offset": {"formula": "y ~ x + offset(u) + (1 | g) + (1 | h)", "weights": "w"},
    "measured": {"formula": "measured(y, se) ~ x + (x | g)"},
}


def table(seed=5, groups=6, rows=5):
    rng = np.random.default_rng(seed)
    n = groups * rows
    g = np.repeat(np.arange(groups), rows)
    return {
        "y": 2.0 + rng.normal(size=n),
        "x": 0.5 + rng.normal(size=n),
        "u": rng.normal(size=n),
        "v": rng.normal(size=groups)[g],
        "g": np.array([f"g{i}" for i in g]),
        "h": np.array([f"h{i}" for i in rng.permutation(np.arange(n) % 4)]),
        "a": np.array([f"a{i // 3}" for i in g]),
        "s": np.array([f"s{i}" for i in np.arange(n) % 3]),
        "w": rng.uniform(0.5, 2.0, n),
        "se": rng.uniform(0.5, 1.5, n),
    }


def build(structure, priors=None):
    settings = STRUCTURES[structure]
    wanted = dict(PRIORS if priors is None else priors)
    if "measured" in settings["formula"]:
        del wanted["sigma"]
    return Model(data=table(), priors=wanted, **settings)


def prepared(model: Model) -> tuple[Sufficient, Target, State]:
    """Sums, target and a state of unit covariances."""
    sums = sufficient(model)
    target = gaussian_target(model, sums)
    B, p = target.blocks.A.shape
    L = np.zeros((B, p, p))
    L[:] = np.eye(p)
    return sums, target, new_state(target, new_factor(target.arrow), L, np.ones(len(target.cells.rows)))


def point_of(model: Model, sums: Sufficient, target: Target, state: State) -> Point:
    """The kernels' state in printed coordinates."""
    working = model.working
    border = target.border
    beta = np.array(state.rest[border.fixed :])
    if working.intercept is not None:
        beta[working.intercept] += sums.shift
    b = {}
    for position, g in enumerate(sums.order):
        J, p = int(target.levels[position]), int(target.sizes[position])
        if position == 0:
            b[g] = state.b.copy()
        else:
            at = int(border.start[position - 1])
            b[g] = state.rest[at : at + J * p].reshape(J, p).copy()
    Sigma = []
    for r in range(len(target.blocks.size)):
        q = int(target.blocks.size[r])
        lower = np.tril(state.L[r, :q, :q])
        Sigma.append(lower @ lower.T)
    return Point(working.to_printed @ beta, [b[g] for g in sorted(b)], Sigma, state.sigma.copy())


def put(model: Model, sums: Sufficient, target: Target, state: State, point: Point) -> None:
    """Write a point in printed coordinates into the kernels' state."""
    working = model.working
    border = target.border
    beta = np.linalg.solve(working.to_printed, point.beta) if len(point.beta) else point.beta
    if working.intercept is not None:
        beta[working.intercept] -= sums.shift
    state.rest[border.fixed :] = beta
    for position, g in enumerate(sums.order):
        if position == 0:
            state.b[:] = point.b[g]
        else:
            at = int(border.start[position - 1])
            state.rest[at : at + point.b[g].size] = point.b[g].ravel()
    state.L[:] = 0.0
    for r, Sigma in enumerate(point.Sigma):
        state.L[r, : len(Sigma), : len(Sigma)] = np.linalg.cholesky(Sigma)
    state.sigma[:] = point.dispersion

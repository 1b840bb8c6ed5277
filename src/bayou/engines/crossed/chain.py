"""A chain of the sampler that goes through crossed factors one at a time, and the plan of such a run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.effects.iid import coordinates_into
from bayou.engines.contract import contract
from bayou.engines.crossed.choice import choose, joint_solver, lay_out_state, own_solver
from bayou.engines.crossed.layout import Crossed, Rows, crossed
from bayou.engines.crossed.state import CARRIED, numbers_of
from bayou.engines.crossed.sweep import run_joint_sweeps, run_sweeps
from bayou.engines.crossed.system import Solver
from bayou.engines.draws import Draws, Plan, restore_into, snapshot_of
from bayou.engines.tuning import next_boundary
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model

WIDTH = 2.0  # length of a slice's first interval, in sds of its direction


class CrossedChain:
    """One chain."""

    def __init__(
        self, model: Model, target: Crossed, rows: Rows, solver: Solver | None, rng: np.random.Generator
    ) -> None:
        self.target, self.codes, self.rng = target, rows.codes, rng
        self.state = lay_out_state(model, target, float(np.exp(0.7 * rng.standard_normal())))
        self.packed = packed(target), packed(self.state)
        self.solver = None if solver is None else packed(own_solver(solver))
        self.seen: list[Array] = []

    def boundary(self, scan: int) -> int:
        """Return the next fit of the directions."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the directions of the slices to the draws since the last boundary."""
        if self.seen:
            self._turn(np.concatenate(self.seen))
        self.seen = []

    def _turn(self, seen: Array) -> None:
        """Slice along the principal axes of each factor's coordinates and log sigma, given the draws of them all."""
        at, S = 0, len(self.state.sigma)
        own = S == 1 and not self.target.sigma_known
        for k, numbers in enumerate(self._numbers()):
            columns = [*range(at, at + numbers)] + ([seen.shape[1] - 1] if own else [])
            d = len(columns)
            at += numbers
            if len(seen) < 20 * d or not d:
                continue
            covariance = np.atleast_2d(np.cov(seen[:, columns].T))
            sizes = np.sqrt(np.diag(covariance))
            if not (sizes > 0.0).all():
                continue
            values, axes = np.linalg.eigh(covariance / np.outer(sizes, sizes))
            lengths = WIDTH * np.sqrt(np.clip(values, 1e-6, None))
            self.state.directions[k, :d, :d] = (axes * sizes[:, None] * lengths).T

    def _numbers(self) -> list[int]:
        """Return how many numbers the covariance of each factor has."""
        return [numbers_of(self.target, k) for k in range(len(self.target.levels))]

    def _coordinates(self, out: Draws) -> Array:
        """Return the coordinates of all covariances, factor by factor, then log sigma."""
        blocks = self.target.blocks
        order = [r for k in range(len(self.target.levels)) for r in np.flatnonzero(blocks.grouping == k)]
        numbers = sum(self._numbers())
        x = np.empty((len(out), numbers + 1))
        for i in range(len(out)):
            at = 0
            for r in order:
                p = int(blocks.size[r])
                coordinates_into(out.L[i, r], p, x[i], at)
                at += p * (p + 1) // 2
        x[:, numbers] = np.log(out.dispersion[:, 0])
        return x

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin sweeps."""
        kept = out.beta, out.b, out.L, out.dispersion
        if self.solver is None:
            done = run_sweeps(*self.packed, self.codes, False, 1.0, thin, *kept, self.rng)
        else:
            done = run_joint_sweeps(*self.packed, self.solver, self.codes, False, thin, *kept, self.rng)
        self.seen.append(self._coordinates(out.part(slice(0, int(done)))))
        return int(done)

    def group_statistics(self) -> dict[str, Array]:
        """Nothing by group: every conditional is exact."""
        return {}

    def snapshot(self) -> dict[str, Array]:
        """Return all that a sweep starts from."""
        return {
            **snapshot_of(self.state, CARRIED),
            "directions": self.state.directions.copy(),
            "seen": np.concatenate(self.seen) if self.seen else np.empty((0, sum(self._numbers()) + 1)),
        }

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`."""
        self.seen = [snapshot["seen"]] if len(snapshot["seen"]) else []
        restore_into(self.state, {name: snapshot[name] for name in (*CARRIED, "directions")})


def crossed_plan(model: Model, wanted: str) -> Plan | None:
    """Sum the rows of a model with crossed factors, and plan its chains; None where a dense matrix costs less.

    Parameters
    ----------
    wanted
        "crossed" (sweeps), "joint" (sweeps and joint draws), or "cheapest".
    """
    target, rows = crossed(model)
    # one factor's coefficients and the fixed effects are drawn jointly anyway
    solver = joint_solver(model, target, rows) if wanted == "joint" and len(target.levels) > 1 else None
    name, reason = wanted, "as asked"
    if wanted == "cheapest":
        way, solver = choose(model, target, rows)
        name, reason = way.name, way.reason
    if name == "dense":
        return None
    says = {
        "crossed": "crossed: one factor after the other, fixed effects integrated out",
        "joint": "joint: as crossed, then all coefficients at once by conjugate gradients",
    }[name]
    q = int(target.at_b[-1])
    B, m = target.blocks.A.shape

    def shape(draws: int, with_b: bool) -> Draws:
        return Draws(
            np.empty((draws, len(target.linear))), np.empty((draws, q if with_b else 0)), np.zeros((draws, B, m, m)),
            np.empty((draws, len(target.rows))), {},
        )  # fmt: skip

    return Plan(
        new_chain=partial(CrossedChain, model, target, rows, solver),
        shape=shape,
        coefficients=q,
        finish=lambda chains: contract(model, rows.order, target.blocks, chains, rows.shift),
        messages=(),
        method=f"{says} ({reason})",
    )

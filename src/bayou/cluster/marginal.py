"""The marginal likelihood of a model whose groups are sharded.

log p(y | beta, theta) is a sum over them; log p(y | theta) ties them together by the fixed effects, and takes the
conversation of `bayou.cluster.joint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster.cutting import Parts
from bayou.cluster.fleet import Fleet, Talk
from bayou.cluster.joint import Joint
from bayou.cluster.joint_shard import JointRows
from bayou.cluster.words import Word, added
from bayou.conditional.blocked import BlockedLaplace
from bayou.conditional.choice import in_files
from bayou.conditional.laplace import Laplace
from bayou.conditional.parameters import Parameters
from bayou.engines.marginal.generic import maximised
from bayou.model import Model

if TYPE_CHECKING:
    from bayou.engines.laplace import Laplace as Engine
    from bayou.posterior import Posterior


class MarginalRows:
    """Rows of some groups as a model of their own, in the coordinates of the whole."""

    def __init__(self, model: Model, numbers: Parameters, beta_unit: Array, scale: float) -> None:
        self.model, self.numbers, self.beta_unit, self.scale = model, numbers, beta_unit, scale

    def begin(self, seed: Any) -> MarginalShard:
        """Return the approximation of these rows."""
        of = Laplace(self.model)
        of.numbers, of.beta_unit, of.scale = self.numbers, self.beta_unit, self.scale
        return MarginalShard(of)


class MarginalShard:
    """The Laplace approximation of some groups, which remembers its last mode."""

    def __init__(self, of: Laplace) -> None:
        self.of = of

    def follow(self, message: Sequence[Word]) -> Array:
        """Return value and gradient (1 + size,) at the last of the points."""
        out = np.zeros(0)
        for _, psi in message:
            value, slopes = self.of.evaluate(psi)
            out = np.concatenate([[value], slopes])
        return out

    def snapshot(self) -> dict[str, Any]:
        """Nothing: all points are said again, as each search begins at the mode of the one before."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


class SharedLaplace(Laplace):
    """The approximation of the whole, evaluated on the workers; the result is put together from its rows here."""

    talk: Talk | None = None
    together: Joint | None = None  # where the fixed effects are integrated out

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return minus the log marginal likelihood (with priors: minus the log posterior) and its gradient (size,)."""
        if self.talk is None:  # the run is over
            return super().evaluate(psi)
        if not np.isfinite(psi).all():
            return np.inf, np.zeros(self.size)
        value, slopes = self._apart(psi) if self.together is None else self._together(self.together, psi)
        if not np.isfinite(value):
            return np.inf, np.zeros(self.size)
        return self._criterion(psi, value, slopes)

    def listen(self, talk: Talk) -> None:
        """Have shards answer from now on."""
        self.talk = talk
        if self.integrated:
            border = self.system.border
            self.together = Joint(talk, border.precision, border.linear, self.numbers.shape[1])

    def _apart(self, psi: Array) -> tuple[float, Array]:
        """Add up what the shards have by themselves."""
        assert self.talk is not None
        total = added(self.talk.say([("at", psi.copy())]))
        return -float(total[0]), -total[1:]

    def _together(self, joint: Joint, psi: Array) -> tuple[float, Array]:
        """Find the mode of all coefficients, the fixed effects among them."""
        _, entries, dispersion = self.split(psi)
        numbers = self.numbers
        if len(dispersion) and not np.all((dispersion > 1e-150) & (dispersion < 1e150)):
            return -np.inf, np.zeros(self.size)
        if not joint.place(numbers.held(entries)[0], dispersion if len(dispersion) else np.ones(1)):
            return -np.inf, np.zeros(self.size)
        in_T, in_dispersion = joint.slopes()
        own = np.where(numbers.vanishing(entries), 0.0, in_T[numbers.row, numbers.column] * numbers.unit)
        return joint.value() + self.integrated_terms(), np.concatenate([own, in_dispersion])


class SharedInMemory(SharedLaplace):
    """The same with rows in memory."""

    def again(self, integrated: bool) -> Laplace:
        """Return the approximation here: it is where a maximisation begins."""
        return Laplace(self.model, integrated, self.priors, self.data)


class SharedInFiles(SharedLaplace, BlockedLaplace):
    """The same with rows in files, which are visited chunk by chunk here and sent shard by shard."""


class MarginalCut:
    """The shards of an approximation as they are sent, each made when it is asked for."""

    def __init__(self, of: Laplace, shards: int) -> None:
        self.of, self.parts = of, Parts(of.model, shards)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> MarginalRows | JointRows:
        of, model = self.of, self.parts[k]
        if of.integrated:
            return JointRows(model)
        return MarginalRows(model, of.numbers, of.beta_unit, of.scale)


def run_marginal(engine: Engine, model: Model, rng: np.random.Generator, client: Any, shards: int) -> Posterior:
    """Maximise the Laplace approximation with the groups on the workers of a client."""
    engine.check(model)
    of = (SharedInFiles if in_files(model) else SharedInMemory)(model, engine.reml, model.priors_given)
    fleet = Fleet(client, MarginalCut(of, shards))
    try:
        of.listen(Talk(fleet, [None] * len(fleet.pieces)))
        result = maximised(model, engine, of, rng, method=engine.method)
        if result.estimates is not None:
            result.estimates.se  # noqa: B018  by differences of gradients: while the workers are there
    finally:
        if of.talk is not None:
            of.talk.close()
        of.talk = of.together = None
        with suppress(Exception):
            fleet.close()
    result.info["shards"] = len(fleet.pieces)
    result.info["workers"] = sorted({seat.worker for seat in fleet.seats})
    return result

"""INLA with the groups of one factor sharded over workers: its field, its rows, and the run.

The leader has the hyperparameters and the fixed effects, shards the groups: whatever the engine asks of the Gaussian of
the coefficients or of the rows is a step of `bayou.cluster.joint`. The joint draws and the criteria of prediction are
made from the rows of the leader when somebody looks at them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers
from bayou.cluster.fleet import Fleet, Talk
from bayou.cluster.joint import Joint
from bayou.cluster.joint_shard import JointCut
from bayou.conditional.field import GaussianField
from bayou.engines.metropolis import Metropolis
from bayou.engines.nested.grouped import Divided, factor_of
from bayou.engines.nested.likelihood import Rows, RowsThere
from bayou.engines.nested.result import CHAINS, WARMUP, instead, posterior
from bayou.engines.nested.run import require_one_dispersion, search

if TYPE_CHECKING:
    from bayou.engines.inla import INLA
    from bayou.model import Model
    from bayou.posterior import Posterior

STEP = 1e-5  # of the derivative of a covariance's factor, a smooth function of a few numbers


class SharedField(GaussianField):
    """The Gaussian of the coefficients of a model whose rows are with shards.

    Parameters
    ----------
    model
        With one grouping factor.
    talk
        With its shards.
    edges
        The first group of each shard, and the number of groups.
    """

    divided = True

    def __init__(self, model: Model, talk: Talk, edges: Integers) -> None:
        super().__init__(model)
        working, self.edges = model.working, edges
        self.p = len(model.design.groupings[0].coefficients)
        self.joint = Joint(talk, working.precision, working.precision @ working.mean, self.p)
        self._placed: Array | None = None
        self._x: Array | None = None

    def place(self, psi: Array) -> bool:
        """Find the mode at psi (size,); False where there is none to be found."""
        if self._placed is not None and np.array_equal(psi, self._placed):
            return True
        self._placed = self._x = None
        theta = np.clip(psi, *self.limits)
        if not np.isfinite(psi).all():
            return False
        if self.levels:
            self.dispersion = np.exp(theta[len(theta) - self.levels :])
        self.joint.settled = self.settled
        if self.joint.place(factor_of(self, theta), self.dispersion):
            self._placed = np.array(psi, dtype=np.float64)
        return self._placed is not None

    def value(self) -> float:
        """Return log p(y | theta) at the mode that `place` found, every constant in."""
        return self.joint.value() + 0.5 * self.fixed * np.log(2.0 * np.pi) + self._fixed_constant

    def slopes(self) -> Array:
        """Return the gradient (size,) of `value` at the mode."""
        assert self._placed is not None
        theta = np.clip(self._placed, *self.limits)
        in_T, in_dispersion = self.joint.slopes()
        out = np.zeros(self.size)
        for k in range(self.size - self.levels):
            step = np.zeros(self.size)
            step[k] = STEP
            change = factor_of(self, theta + step) - factor_of(self, theta - step)
            out[k] = float(np.sum(np.tril(in_T) * change)) / (2.0 * STEP)
        out[self.size - self.levels :] = in_dispersion
        out[theta != self._placed] = 0.0
        return out

    @property
    def x(self) -> Array:
        """The mode (N,)."""
        if self._x is None:
            self._x = self._laid_out(self.joint.coefficients(), self.joint.rest)
        return self._x

    def variances(self) -> Array:
        """Return the variances (N,) of the coefficients."""
        return self._laid_out(self.joint.variances(), np.diag(self.joint.V))

    def solve(self, r: Array) -> Array:
        """Return Sigma r for r (N,) or each row of r (S, N)."""
        if r.ndim > 1:
            return np.array([self.solve(one) for one in r]).reshape(r.shape)
        own = np.empty((int(self.edges[-1]), self.p))
        for c in self.parts:
            own[:, list(c.columns)] = r[c.place].reshape(len(own), len(c.columns))
        parts = [own[low:high] for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return self._laid_out(*self.joint.solve(parts, r[self.latent :]))

    def fixed_covariance(self) -> Array:
        """Return the covariance (P, P) of the working fixed effects."""
        return self.joint.V.copy()

    def corrected(self) -> tuple[Array, Array, bool]:
        """Return the move (N,) of the mean, the force (N,), and whether they were found."""
        move, rest, force, on_rest, settled = self.joint.corrected()
        return self._laid_out(move, rest), self._laid_out(force, on_rest), settled

    def _laid_out(self, own: Array, rest: Array) -> Array:
        """Return numbers of the groups (J, p) and of the fixed effects (P,) in the order of x."""
        out = np.empty(self.count)
        for c in self.parts:
            out[c.place] = own[:, list(c.columns)].ravel()
        out[self.latent :] = rest
        return out


class SharedRows(Rows):
    """The rows of a model, with shards."""

    gaussian = False

    def __init__(self, field: SharedField) -> None:
        self.field = field

    def corrected(self, field: GaussianField, theta: Array) -> tuple[Array, Array, bool]:
        """Return move, force and whether they were found; see `Rows`."""
        return self.field.corrected()

    def there(self, field: GaussianField, theta: Array, mean: Array) -> RowsThere | None:
        """Nothing: the rows stay where they are."""
        return None

    def groups(self) -> Divided:
        """Return the likelihood group by group."""
        return SharedGroups(self.field)


class SharedGroups(Divided):
    """log p(y | beta, theta) as a sum over shards."""

    def __init__(self, field: SharedField) -> None:
        self.model, self.joint, self.left_out = field.model, field.joint, 0.0

    def evaluated(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return log p(y | beta, theta) (S,) at fixed effects (S, P); see `Divided`."""
        return self.joint.sum(("evaluated", beta, T, dispersion))

    def refined(self, beta: Array, T: Array, dispersion: Array) -> float:
        """Return what more nodes would add at one place; see `Divided`."""
        return float(self.joint.sum(("refined", beta, T, dispersion))[0])


def run_nested(engine: INLA, model: Model, rng: np.random.Generator, client: Any, shards: int) -> Posterior:
    """Run INLA with the groups of a model on the workers of a client."""
    from bayou.cluster.sharded import run_sharded

    require_one_dispersion(model)
    pieces = JointCut(model, shards)
    fleet = Fleet(client, pieces)
    try:
        field = SharedField(model, Talk(fleet, [None] * len(pieces)), pieces.edges.edges)
        found = search(field, SharedRows(field), engine.strategy, engine.nodes, engine.correct, 1, rng)
        field.place(found.mode.theta)
        field.x  # noqa: B018  what the result is laid out by, while the workers are there
    finally:
        with suppress(Exception):
            fleet.close()
    if engine.go_on and found.failed:
        chain = Metropolis(draws=engine.draws, warmup=WARMUP, chains=CHAINS, progress=False)
        result = instead(run_sharded(chain, model, rng, client, shards), engine.describe(), found)
    else:
        result = posterior(model, engine.describe(), found, engine.draws, int(rng.integers(2**63)))
    result.info["shards"] = len(pieces)
    result.info["workers"] = sorted({seat.worker for seat in fleet.seats})
    return result

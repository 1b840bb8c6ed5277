"""Joint draws of everything from the approximation, made when somebody looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.field import Field
from bayou.engines.nested.design import snake
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.height import height
from bayou.engines.nested.importance import EASY, Forces, Particles, Shifted
from bayou.engines.nested.survey import Nodes, relaxed, stretched

__all__ = ["Sampler"]

WIDTH = 0.25  # of the kernel around a hyperparameter, in sds
CANDIDATES = 4  # pairs of coefficients among which one is taken
FEWEST, MOST = 64, 500  # different hyperparameters
CELL = 0.5  # sds within which draws are neighbours


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws of hyperparameters and coefficients.

    Hyperparameters: from the weighted particles (systematically, so that each is taken as often as its weight says to
    within one), or from the nodes by their weights; then smoothed by a narrow normal kernel whose widening is taken
    back (West 1993). Coefficients: with particles, one of a few candidates from the moved Gaussian at the
    hyperparameter, chosen by exact weights; without, from the Gaussian. Neighbouring draws share hyperparameters: some
    hundreds of these stand for thousands, and each costs as much as many draws.

    Attributes
    ----------
    strategy
        Of the means, as in the engine.
    weights
        Of the particles, if there are some.
    """

    field: Field
    mode: Mode
    nodes: Nodes
    strategy: str
    exact: bool
    drawn: Particles | None
    weights: Array | None

    def __call__(self, chains: int, count: int, seed: int, names: Mapping[str, str]) -> dict[str, Array]:
        """Return draws by the names of the contract, leading axes (chain, draw)."""
        rng = np.random.default_rng(seed)
        total = chains * count
        z = self._hyperparameters(total, rng)
        thetas, X = self.mode.at(z), np.empty((total, self.field.count))
        # every chain gets its share of each stretch of the hyperparameters
        mixed = rng.permutation(total)
        for own in self._groups(z, rng):
            at = own[rng.integers(len(own))]
            thetas[mixed[own]], X[mixed[own]] = self.mode.at(z[at]), self._coefficients(z[at], len(own), rng)
        out = {**self.field.unpack(X, names), **self.field.unpack_theta(thetas, names)}
        return {name: values.reshape(chains, count, *values.shape[1:]) for name, values in out.items()}

    def _hyperparameters(self, count: int, rng: np.random.Generator) -> Array:
        """Return coordinates z (count, d)."""
        d = len(self.mode.theta)
        if self.drawn is None or self.weights is None:
            if self.nodes.kind != "grid":
                return rng.standard_normal((count, d)) if self.nodes.kind == "ccd" else np.zeros((count, d))
            u, weights = relaxed(self.nodes.stacked("z")), np.exp(self.nodes.log_shares)
            # the density that is linear between the nodes
            step = self.nodes.step * rng.triangular(-1.0, 0.0, 1.0, (count, d))
            added = np.full(d, self.nodes.step**2 / 6.0)
        else:
            u, weights = relaxed(self.mode.coordinates(self.drawn.thetas)), self.weights
            step, added = WIDTH * rng.standard_normal((count, d)), np.full(d, np.nan)
        index = _systematic(weights, count, rng)
        mean = weights @ u
        spread = np.sqrt(weights @ np.square(u - mean))
        if self.drawn is not None:
            step, added = step * spread, np.square(WIDTH * spread)
        shrink = np.where(spread > 0.0, spread / np.sqrt(np.square(spread) + added), 1.0)
        return stretched(mean + shrink * (u[index] + step - mean))

    def _groups(self, z: Array, rng: np.random.Generator) -> list[Integers]:
        """Return groups of neighbouring draws: each takes the hyperparameters of one of its members."""
        total, d = z.shape
        work = self.field.model.design.n + self.field.count
        few = int(np.clip(MOST * EASY / max(work, EASY), min(FEWEST, total), min(MOST, total))) if d else 1
        return np.array_split(snake(relaxed(z), CELL), few)

    def _coefficients(self, z: Array, count: int, rng: np.random.Generator) -> Array:
        field, theta = self.field, self.mode.at(z)
        if not np.isfinite(height(field, theta)):
            # beyond where there is a mode: as at the mode of all
            theta, z = self.mode.theta, np.zeros_like(z)
            field.place(theta)
        force = Forces(self.mode, self.nodes).at(z[None])[0]
        if self.strategy == "gaussian" and self.drawn is None:
            force = np.zeros_like(force)
        near = Shifted(field, force)
        if self.exact or self.drawn is None:
            return field.transform(rng.standard_normal((count, field.dimension))) + near.move
        X, logs = near.draw(rng.standard_normal((count * CANDIDATES, field.dimension)))
        weight = np.exp(logs - logs.max())
        if count == 1:
            chosen = np.searchsorted(np.cumsum(weight), rng.random(1) * weight.sum())
        else:
            chosen = rng.permutation(_systematic(weight / weight.sum(), count, rng))
        return np.asarray(X[np.minimum(chosen, len(X) - 1)])


def _systematic(weights: Array, count: int, rng: np.random.Generator) -> Integers:
    """Return indices (count,), each as often as its weight says to within one."""
    edges = np.cumsum(weights / weights.sum())
    at = np.searchsorted(edges, (rng.random() + np.arange(count)) / count)
    return np.minimum(at, len(weights) - 1)

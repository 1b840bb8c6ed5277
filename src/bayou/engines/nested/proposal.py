"""Where the self-check looks: hyperparameters spread wider than their posterior, without gaps.

A multivariate t around the mode; where a grid was laid, most draws follow the grid's own density, flattened and
smoothed, so that long tails (of an sd that may be zero) get their share, and the t covers what the grid has missed.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv, gammaln, ndtri

from bayou._types import Array
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.survey import Nodes, log_slope, relaxed, stretched

__all__ = ["Lattice", "propose", "sequence", "spread", "spread_density"]

DEGREES = 7.0  # of freedom
WIDER = 1.1
AROUND = 0.2  # the share of the t where there is a grid
FLATTER = 0.8  # the power of the grid's density


def propose(mode: Mode, nodes: Nodes, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return coordinates z (count, d) around the mode, and the log density (count,) of their theta (Jacobian in)."""
    d = len(mode.theta)
    if d == 0:
        return np.zeros((count, 0)), np.zeros(count)
    if nodes.kind != "grid":
        z = spread(mode, count, rng)
        return z, spread_density(mode, z)
    lattice = Lattice(mode, nodes)
    few = max(1, int(AROUND * count))
    z = np.concatenate([spread(mode, few, rng), lattice.draw(count - few, rng)])
    share = few / count
    both = np.log(share) + spread_density(mode, z), np.log1p(-share) + lattice.log_density(z)
    return z, np.logaddexp(*both)


def spread(mode: Mode, count: int, rng: np.random.Generator) -> Array:
    """Return coordinates z (count, d) from an overdispersed multivariate t around the mode.

    z = WIDER n / sqrt(g / df), n_k from a normal whose halves have the shares of the axis' spreads, so that theta's
    density has no step at the mode; n and g are quantiles of an additive sequence with a random start.
    """
    d = len(mode.theta)
    u = np.clip(sequence(d + 1, count, rng), 1e-9, 1.0 - 1e-9)
    share = mode.left / (mode.left + mode.right)
    low = u[:, :d] < share
    n = np.where(low, ndtri(0.5 * u[:, :d] / share), ndtri(0.5 + 0.5 * (u[:, :d] - share) / (1.0 - share)))
    return np.asarray(n * (WIDER / np.sqrt(2.0 * gammaincinv(0.5 * DEGREES, u[:, d]) / DEGREES))[:, None])


def spread_density(mode: Mode, z: Array) -> Array:
    """Return the log density (M,) of theta that `spread` gives coordinates z (M, d)."""
    d = z.shape[1]
    squares = np.square(z / WIDER).sum(axis=1)
    one = gammaln(0.5 * (DEGREES + d)) - gammaln(0.5 * DEGREES) - 0.5 * d * np.log(DEGREES * np.pi) - d * np.log(WIDER)
    halves = float(np.log(2.0 / (mode.left + mode.right)).sum())
    return np.asarray(one - 0.5 * (DEGREES + d) * np.log1p(squares / DEGREES) + halves - mode.log_volume)


class Lattice:
    """A density that is linear between the nodes of a grid, in each of its coordinates (products of triangles)."""

    def __init__(self, mode: Mode, nodes: Nodes) -> None:
        self.mode = mode
        z, heights = nodes.refused
        z = np.concatenate([nodes.stacked("z"), z])
        heights = np.concatenate([nodes.stacked("height"), heights]) - mode.height
        self.step = nodes.step
        points = np.rint(relaxed(z) / self.step).astype(np.int64)
        self.low = points.min(axis=0) - 1
        logs = FLATTER * (heights + log_slope(mode, z))  # of one step, as all are
        mass = np.exp(logs - logs.max())
        mass /= mass.sum()
        self.table = np.zeros(tuple(points.max(axis=0) - self.low + 2))
        self.table[tuple((points - self.low).T)] = mass
        self.points, self.mass = points, mass

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Return coordinates z (count, d), without gaps among the nodes and within them."""
        d = self.points.shape[1]
        u = sequence(d + 1, count, rng)
        node = np.searchsorted(np.cumsum(self.mass), u[:, 0] * (1.0 - 1e-12))
        within = u[:, 1:]
        triangle = np.where(within < 0.5, np.sqrt(2.0 * within) - 1.0, 1.0 - np.sqrt(2.0 * (1.0 - within)))
        steps = self.points[np.minimum(node, len(self.mass) - 1)] + triangle
        return stretched(np.asarray(self.step * steps, dtype=np.float64))

    def log_density(self, z: Array) -> Array:
        """Return the log density (M,) of theta at coordinates z (M, d)."""
        u = relaxed(z) / self.step - self.low
        cell = np.floor(u).astype(np.int64)
        part = u - cell
        inside = ((cell >= 0) & (cell < np.array(self.table.shape) - 1)).all(axis=1)
        cell = np.clip(cell, 0, np.array(self.table.shape) - 2)
        total = np.zeros(len(z))
        for corner in np.ndindex(*(2,) * z.shape[1]):
            share = np.prod(np.where(np.array(corner) == 1, part, 1.0 - part), axis=1)
            total += share * self.table[tuple((cell + np.array(corner)).T)]
        with np.errstate(divide="ignore"):
            return np.log(np.where(inside, total, 0.0)) - log_slope(self.mode, z) - z.shape[1] * np.log(self.step)


def sequence(d: int, count: int, rng: np.random.Generator | None = None) -> Array:
    """Return points (count, d) of the unit cube: steps of the generalised golden section (Roberts 2018)."""
    start = np.full(d, 0.5 / count) if rng is None else rng.random(d)
    return np.asarray((start + np.arange(count)[:, None] * _golden(d, count)) % 1.0)


def _golden(d: int, count: int) -> Array:
    """Return the steps of the sequence: 1 / count in the first coordinate, powers of the golden section beyond."""
    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / d)
    steps = root ** -np.arange(1.0, d + 1.0)
    steps[0] = 1.0 / count
    return np.asarray(steps)

"""Where the self-check looks: hyperparameters spread wider than their posterior, without gaps.

A multivariate t around the mode; where a grid was laid, most draws follow the grid's own density, flattened and
smoothed, so that long tails (of an sd that may be zero) get their share, and the t covers what the grid has missed.
Without a grid a part of the draws has such tails, one for each sd. Lower modes that count have a t of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import gammaincinv, gammaln, log_ndtr, ndtri

from bayou._types import Array, Integers
from bayou.engines.nested.climb import Peak
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.survey import Nodes, log_slope, relaxed, stretched

__all__ = ["Lattice", "propose", "sequence", "spread", "spread_density"]

DEGREES = 7.0  # of freedom
WIDER = 1.1
AROUND = 0.2  # the share of the t where there is a grid
SEEN, ELSEWHERE = 0.05, 0.5  # the share of a lower mode at least, of all of them at most
ROUNDING = 1e-6  # of a count
GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
FLATTER = 0.8  # the power of the grid's density
TAIL, TAILS = 0.15, 0.4  # the share of the tail of each sd, of all of them at most
FREED = 0.82  # variance of atanh of a correlation that may be anything: π² / 12


def propose(
    mode: Mode, nodes: Nodes, count: int, rng: np.random.Generator, sds: Mapping[int, Sequence[int]] | None = None
) -> tuple[Array, Array]:
    """Return coordinates z (count, d) around the mode, and the log density (count,) of their theta (Jacobian in).

    ``sds`` are the hyperparameters that are logarithms of sds, whose density falls as e^theta towards zero, each with
    those of which the data say nothing there: its correlations, the share of its structure.
    """
    d = len(mode.theta)
    if d == 0:
        return np.zeros((count, 0)), np.zeros(count)
    others = [_Other(mode, peak) for peak in mode.others]
    counts = shared(np.array([one.share for one in others]), count)
    left = count - int(counts.sum())
    parts: list[tuple[int, Callable[[Array], Array]]] = []
    drawn = []
    tails = [_Tail(mode, k, free) for k, free in (sds or {}).items()] if nodes.kind != "grid" and d > 1 else []
    for tail in tails:
        few = int(min(TAIL, TAILS / len(tails)) * count)
        drawn.append(tail.draw(few, rng))
        parts.append((few, tail.log_density))
        left -= few
    if nodes.kind == "grid":
        lattice = Lattice(mode, nodes)
        around = max(1, int(AROUND * left))
        drawn.append(lattice.draw(left - around, rng))
        parts.append((left - around, lattice.log_density))
        left = around
    drawn.insert(0, spread(mode, left, rng))
    parts.insert(0, (left, lambda z: spread_density(mode, z)))
    for one, few in zip(others, counts, strict=True):
        drawn.append(one.draw(int(few), rng))
        parts.append((int(few), one.log_density))
    z = np.concatenate(drawn)
    logs = np.array([np.log(few / count) + density(z) for few, density in parts if few])
    return z, np.logaddexp.reduce(logs, axis=0)


def shared(shares: Array, count: int) -> Integers:
    """Return how many of so many draws the lower modes have, by their shares.

    Those of shares cut to `ELSEWHERE` are whole numbers but for rounding, which must not decide.
    """
    cut = min(1.0, ELSEWHERE / max(float(shares.sum()), 1e-300))
    return np.maximum((cut * shares * count + ROUNDING).astype(np.int64), 1)


class _Other:
    """An overdispersed t around a lower mode; its share of the draws is about that of the mass, but never small."""

    def __init__(self, mode: Mode, peak: Peak) -> None:
        self.mode, self.peak = mode, peak
        self.root = np.linalg.cholesky(peak.covariance)
        self.log_volume = float(np.log(np.diag(self.root)).sum())
        mass = np.exp(peak.height - mode.height + self.log_volume - mode.log_volume)
        self.share = float(max(mass / (1.0 + mass), SEEN))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Return coordinates z (count, d) of draws around the lower mode."""
        n = students(len(self.root), count, rng)
        return self.mode.coordinates(self.peak.theta + n @ self.root.T)

    def log_density(self, z: Array) -> Array:
        """Return the log density (M,) of theta at coordinates z (M, d)."""
        n = np.linalg.solve(self.root, (self.mode.at(z) - self.peak.theta)[..., None])[..., 0]
        return np.asarray(_student(np.square(n / WIDER).sum(axis=1), z.shape[1]) - self.log_volume)


class _Tail:
    """An overdispersed normal around the mode from which the log of one sd is taken down by an exponential number.

    Where nothing speaks against zero the density of an sd is flat there, that of its logarithm e^theta. Along one axis
    among several a multivariate t thins out far sooner.
    """

    def __init__(self, mode: Mode, k: int, free: Sequence[int]) -> None:
        self.mode, self.k = mode, k
        covariance = WIDER**2 * mode.covariance
        covariance[free, free] += FREED
        self.root = np.linalg.cholesky(covariance)
        self.log_volume = float(np.log(np.diag(self.root)).sum())
        unit = np.zeros(len(self.root))
        unit[k] = 1.0
        axis = np.linalg.solve(self.root, unit)
        self.length = float(np.linalg.norm(axis))
        self.axis = axis / self.length

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Return coordinates z (count, d)."""
        u = np.clip(sequence(len(self.root) + 1, count, rng), 1e-9, 1.0 - 1e-9)
        theta = self.mode.theta + ndtri(u[:, :-1]) @ self.root.T
        theta[:, self.k] += np.log(u[:, -1])
        return self.mode.coordinates(theta)

    def log_density(self, z: Array) -> Array:
        """Return the log density (M,) of theta at coordinates z (M, d): normal, along one axis less an exponential."""
        y = np.linalg.solve(self.root, (self.mode.at(z) - self.mode.theta)[..., None])[..., 0]
        along, rate = y @ self.axis, 1.0 / self.length
        across = np.square(y).sum(axis=1) - along**2
        tail = np.log(rate) + rate * along + 0.5 * rate**2 + log_ndtr(-along - rate)
        return np.asarray(tail - 0.5 * across - 0.5 * (len(self.root) - 1) * np.log(2.0 * np.pi) - self.log_volume)


def spread(mode: Mode, count: int, rng: np.random.Generator) -> Array:
    """Return coordinates z (count, d) from an overdispersed multivariate t around the mode."""
    return students(len(mode.theta), count, rng)


def students(d: int, count: int, rng: np.random.Generator) -> Array:
    """Return points (count, d) of a multivariate t, without gaps.

    z = WIDER n / sqrt(g / df); n (normal) and g (gamma) are quantiles of an additive sequence with a random start.
    """
    u = np.clip(sequence(d + 1, count, rng), 1e-9, 1.0 - 1e-9)
    return np.asarray(ndtri(u[:, :d]) * (WIDER / np.sqrt(2.0 * gammaincinv(0.5 * DEGREES, u[:, d]) / DEGREES))[:, None])


def spread_density(mode: Mode, z: Array) -> Array:
    """Return the log density (M,) of theta that `spread` gives coordinates z (M, d)."""
    return np.asarray(_student(np.square(z / WIDER).sum(axis=1), z.shape[1]) - mode.log_jacobian(z))


def _student(squares: Array, d: int) -> Array:
    """Return the log density of the t at points with these squared distances, in units of WIDER."""
    one = gammaln(0.5 * (DEGREES + d)) - gammaln(0.5 * DEGREES) - 0.5 * d * np.log(DEGREES * np.pi) - d * np.log(WIDER)
    return np.asarray(one - 0.5 * (DEGREES + d) * np.log1p(squares / DEGREES))


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


def sequence(d: int, count: int, rng: np.random.Generator) -> Array:
    """Return points (count, d) of the unit cube, stratified in each coordinate.

    Up to two coordinates: even steps in one, of the golden section in the other. Beyond: a Latin hypercube with random
    pairings (McKay, Beckman & Conover 1979), since fixed steps in many coordinates leave gaps that no start mends.
    """
    if d <= 2:
        steps = np.array([1.0 / count, GOLDEN])[:d]
        return np.asarray((rng.random(d) + np.arange(count)[:, None] * steps) % 1.0)
    order = rng.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T
    return np.asarray((order + rng.random((count, d))) / count)

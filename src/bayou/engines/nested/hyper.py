"""Marginals of the hyperparameters, smooth and integrable, from the nodes that were looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import logsumexp

from bayou._types import Array
from bayou.conditional.field import GaussianField
from bayou.engines.nested.design import product
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.survey import Nodes, relaxed, stretched
from bayou.engines.nested.tilt import reshaped, scores
from bayou.posterior.marginals import SCALES, Marginal

__all__ = ["Interpolant", "falling", "hyper_marginals", "internal_rows"]

POINTS = 33  # of a marginal
REACH = 4.5  # of the integrals over the other hyperparameters, before the stretch
ACROSS = {1: 21, 2: 13}  # points of these integrals in each dimension, by how many the others are
DEEPEST = 10.0  # how far below the top heights are used
FAR = 0.65  # steps of the grid, for each root of a dimension, beyond which no node is near
POWER = 5  # of the distance
SMALL = 1e-7
UNSETTLED = 0.04  # sds by which a marginal and the nodes may differ
HOPELESS, SMOOTH = 0.1, 0.25  # beyond, the marginal is that of the nodes, smoothed over this share of its sd
DEEP, FLAT = 3.0, (0.05, 0.6)  # how far down the shape is doubted, and if it falls by less in one sd, left and right
BEYOND = 3  # sds that a tail is continued
KNOWN = 8  # sds on either side of the mode where the prior is looked at


def internal_rows(field: GaussianField, theta: Array) -> Array:
    """Return the printed hyperparameters (rows,) on the scales where they are about normal."""
    values = field.natural(theta)
    return np.array([float(SCALES[row.scale].internal(v)) for row, v in zip(field.rows, values, strict=True)])


def _directions(field: GaussianField, theta: Array) -> Array:
    """Return the derivatives (rows, d) of `internal_rows` at theta, by central differences."""
    d, h = len(theta), 1e-5
    out = np.empty((len(field.rows), d))
    for i in range(d):
        step = np.zeros(d)
        step[i] = h
        out[:, i] = (internal_rows(field, theta + step) - internal_rows(field, theta - step)) / (2.0 * h)
    return out


class Known:
    """What the prior alone says of one hyperparameter, the others at the mode: linear between points, zero at the mode.

    It need not be exact to be of use: what is left out of the interpolation is put back.
    """

    def __init__(self, field: GaussianField, mode: Mode, j: int) -> None:
        self.j = j
        sd = float(np.sqrt(mode.covariance[j, j]))
        self.points = mode.theta[j] + sd * np.linspace(-KNOWN, KNOWN, 16 * KNOWN + 1)
        at = np.tile(mode.theta, (len(self.points), 1))
        at[:, j] = self.points
        values = np.array([field.log_prior(theta) for theta in at])
        # the edge of a bounded prior is no function to interpolate
        self.values = values - values[8 * KNOWN] if np.isfinite(values).all() else np.zeros(len(values))

    def __call__(self, t: Array) -> Array:
        """Return the function (K,) at values t (K,) of the hyperparameter."""
        return np.asarray(np.interp(t, self.points, self.values))


class Interpolant:
    """The log density of the hyperparameters between the nodes of a grid.

    A quintic radial function of each node plus a parabola: exact at the nodes and nearly so for normal densities
    (Duchon 1977; Wendland 2005, *Scattered data approximation*, chapter 8). The coordinates are those of the grid.
    Farther from all nodes than they are from each other it is minus infinity.

    Known functions of single hyperparameters can be left out, one for each function that comes of it (column of
    ``weights``): of a prior that falls faster and faster a parabola knows nothing.
    """

    def __init__(self, mode: Mode, nodes: Nodes, known: Sequence[Known] = ()) -> None:
        self.mode = mode
        z, heights = nodes.refused
        kept = heights > mode.height - DEEPEST
        thetas = np.concatenate([nodes.thetas, mode.at(z[kept])])
        self.centres = self._smooth(thetas)
        heights = np.concatenate([nodes.stacked("height"), heights[kept]]) - mode.height
        columns = [heights - one(thetas[:, one.j]) for one in known] or [heights]
        values = np.stack(columns, axis=1)
        self.d = self.centres.shape[1]
        basis = self._parabola(self.centres)
        # beside few nodes a lower polynomial
        self.terms = basis.shape[1] if len(values) >= 2 * basis.shape[1] else 1 + self.d
        K, q = len(values), self.terms
        system = np.zeros((K + q, K + q))
        system[:K, :K] = self._radial(self.centres)
        system[:K, K:] = basis[:, :q]
        system[K:, :K] = basis[:, :q].T
        right = np.concatenate([values, np.zeros((q, values.shape[1]))])
        self.weights = np.linalg.lstsq(system, right, rcond=1e-12)[0]

    def _smooth(self, theta: Array) -> Array:
        return relaxed(self.mode.coordinates(theta))

    def _parabola(self, u: Array) -> Array:
        a, b = np.triu_indices(self.d)
        return np.concatenate([np.ones((len(u), 1)), u, u[:, a] * u[:, b]], axis=1)

    def _distances(self, u: Array) -> Array:
        squares = (
            np.square(u).sum(axis=1)[:, None] + np.square(self.centres).sum(axis=1) - 2.0 * u @ self.centres.T
        )
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    def _radial(self, u: Array) -> Array:
        return np.asarray(self._distances(u) ** POWER)

    def __call__(self, theta: Array, column: int = 0) -> Array:
        """Return the log density (M,) at hyperparameters (M, d), zero at the mode, less the known function left out."""
        u = self._smooth(theta)
        r = self._distances(u)
        K = len(self.centres)
        weights = self.weights[:, column]
        out = r**POWER @ weights[:K] + self._parabola(u)[:, : self.terms] @ weights[K:]
        return np.where(r.min(axis=1) > FAR * np.sqrt(self.d), -np.inf, np.minimum(out, 1.0))


def hyper_marginals(field: GaussianField, mode: Mode, nodes: Nodes) -> list[Marginal]:
    """Return the marginal of each printed hyperparameter, in the order of the field's rows.

    On a grid: of one hyperparameter the nodes themselves; of two and three the interpolated log density, integrated
    over the others. Otherwise the density along the path of conditional means, normal with its own spread on either
    side of each principal axis: the integration-free algorithm of Martins, Simpson, Lindgren & Rue (2013, section 3.2).
    """
    d = len(mode.theta)
    if not field.rows:
        return []
    slopes = _directions(field, mode.theta)
    single = [_coordinate(slope) for slope in slopes]
    if nodes.kind == "grid" and d <= 3 and None not in single:
        if d == 1:
            return [_from_nodes(mode, nodes, row.scale) for row in field.rows]
        known = [Known(field, mode, j) for j in single if j is not None]
        between = Interpolant(mode, nodes, known)
        triples = zip(range(len(known)), known, field.rows, strict=True)
        made = [_integrated(mode, nodes, between, k, prior, row.scale) for k, prior, row in triples]
        if all(one is not None for one in made):
            return [_settled(nodes, j, one) for j, one in zip(single, made, strict=True) if one is not None]
    starts = internal_rows(field, mode.theta)
    rows = zip(field.rows, slopes, starts, strict=True)
    return [_along(mode, slope, start, row.scale) for row, slope, start in rows]


def _coordinate(slope: Array) -> int | None:
    """Return which internal coordinate a row is, None for a function of several."""
    j = int(np.abs(slope).argmax())
    rest = np.delete(slope, j)
    return j if abs(slope[j] - 1.0) < 1e-5 and not (np.abs(rest) > SMALL).any() else None


def _from_nodes(mode: Mode, nodes: Nodes, scale: str) -> Marginal:
    z, heights = nodes.refused
    kept = heights > mode.height - DEEPEST
    theta = np.concatenate([nodes.thetas[:, 0], mode.at(z[kept])[:, 0]])
    values = np.concatenate([nodes.stacked("height"), heights[kept]]) - mode.height
    order = np.argsort(theta)
    return Marginal(theta[order], values[order], scale)


def _integrated(
    mode: Mode, nodes: Nodes, between: Interpolant, column: int, prior: Known, scale: str
) -> Marginal | None:
    """Return the marginal of the internal coordinate of a prior, None where the nodes do not carry it."""
    j, d, C = prior.j, len(mode.theta), mode.covariance
    sd = float(np.sqrt(C[j, j]))
    reach = relaxed((nodes.thetas[:, j] - mode.theta[j]) / sd)
    t = stretched(np.linspace(float(reach.min()) - 0.4, float(reach.max()) + 0.4, POINTS)) * sd
    others = np.delete(np.arange(d), j)
    slope = C[others, j] / C[j, j]
    inner = C[np.ix_(others, others)] - np.outer(slope, C[j, others])
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    root = vectors * np.sqrt(np.maximum(values, 1e-12))
    v, log_weights = product(ACROSS[d - 1], REACH, d - 1, stretched)
    theta = np.empty((len(t), len(v), d))
    theta[:, :, j] = mode.theta[j] + t[:, None]
    theta[:, :, others] = _ridge(mode, j, t, slope)[:, None] + (v @ root.T)[None]
    heights = between(theta.reshape(-1, d), column).reshape(len(t), -1) + log_weights
    with np.errstate(divide="ignore"):
        density = np.log(np.exp(heights).sum(axis=1))
    points, density = falling(mode.theta[j] + t, density, sd, prior)
    return Marginal(points, density, scale) if len(points) >= 8 else None


def _settled(nodes: Nodes, j: int | None, one: Marginal) -> Marginal:
    """Return a marginal made to have the moments that the nodes' own sums give, where these differ much.

    Where the density has two arms the conditional means are not where it is.
    """
    shares, values = np.exp(nodes.log_shares), SCALES[one.scale].value(nodes.thetas[:, j])
    wanted = shares @ scores(one, values)
    if np.abs(wanted).max() <= UNSETTLED:
        return one
    new = reshaped(one, wanted)
    return new if np.abs(shares @ scores(new, values)).max() < HOPELESS else _smoothed(nodes, shares, j, one.scale)


def _smoothed(nodes: Nodes, shares: Array, j: int | None, scale: str) -> Marginal:
    """Return the nodes themselves, smoothed to the mean and variance of their sums.

    Where the prior has a cusp at the mode (the correlation of a walk at zero) its curvature is no guide to the rest.
    """
    x = nodes.thetas[:, j]
    mean = float(shares @ x)
    sd = float(np.sqrt(shares @ np.square(x - mean)))
    x = mean + np.sqrt(1.0 - SMOOTH**2) * (x - mean)
    points = np.linspace(float(x.min()) - 3.0 * SMOOTH * sd, float(x.max()) + 3.0 * SMOOTH * sd, 3 * POINTS)
    return Marginal(points, logsumexp(-0.5 * np.square((points[:, None] - x) / (SMOOTH * sd)), axis=1, b=shares), scale)


def _ridge(mode: Mode, j: int, t: Array, slope: Array) -> Array:
    """Return the other coordinates (K, d − 1) where coordinate j is t (K,) beyond the mode: a line bent as the axes."""
    others = np.delete(np.arange(len(mode.theta)), j)
    straight = np.empty((len(t), len(mode.theta)))
    straight[:, j], straight[:, others] = mode.theta[j] + t, mode.theta[others] + t[:, None] * slope
    bent = mode.at(mode.straight(straight))
    if not (np.diff(bent[:, j]) > 0.0).all():
        return straight[:, others]
    return np.stack([np.interp(straight[:, j], bent[:, j], bent[:, i]) for i in others], axis=1)


def falling(t: Array, rest: Array, sd: float, prior: Callable[[Array], Array] = np.zeros_like) -> tuple[Array, Array]:
    """Return points and a log density (K,) without ends that rise or hardly fall, and with ends that fall ever faster.

    Far out the interpolation is an extrapolation; on the scale of an sd a tail that falls too slowly has no moments.
    There the rest, what the prior of this hyperparameter leaves, goes on from its slope as a normal density with this
    sd, and the prior is put back.
    """
    sound = np.isfinite(rest)
    t, rest = t[sound], rest[sound]
    density = rest + prior(t)
    if len(t) < 8:
        return t, density
    top = int(density.argmax())
    first, last = 0, len(t) - 1
    slope = np.diff(density) / np.diff(t)
    while first < top - 2 and density[first] < density[top] - DEEP and slope[first] * sd < FLAT[0]:
        first += 1
    while last > top + 2 and density[last] < density[top] - DEEP and slope[last - 1] * sd > -FLAT[1]:
        last -= 1
    t, density, rest = t[first : last + 1], density[first : last + 1], rest[first : last + 1]
    steps = sd * np.arange(1.0, BEYOND + 1.0)
    bend = 0.5 * np.square(steps / sd)
    ends = np.diff(rest)[[0, -1]] / np.diff(t)[[0, -1]]
    low, high = max(float(ends[0]), 0.0), min(float(ends[1]), 0.0)
    left, right = t[0] - steps[::-1], t[-1] + steps
    before = (rest[0] - low * steps - bend)[::-1] + prior(left)
    after = rest[-1] + high * steps - bend + prior(right)
    return np.concatenate([left, t, right]), np.concatenate([before, density, after])


def _along(mode: Mode, slope: Array, start: float, scale: str) -> Marginal:
    """Return the marginal of a function with this gradient at the mode, by the density on the conditional means."""
    spread = mode.covariance @ slope
    variance = float(slope @ spread)
    t = stretched(np.linspace(-REACH, REACH, POINTS)) * np.sqrt(variance)
    z = mode.straight(mode.theta + t[:, None] * (spread / variance))
    return Marginal(start + t, -0.5 * np.square(z).sum(axis=1), scale)

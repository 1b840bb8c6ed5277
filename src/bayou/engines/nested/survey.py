"""Nodes: hyperparameters that stand for the rest, and what the Gaussian of the coefficients is at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field, GaussianField
from bayou.engines.nested.design import composite, composite_weights, neighbours
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.height import height
from bayou.engines.nested.likelihood import Rows, RowsThere
from bayou.engines.nested.skew import simplified

__all__ = ["Node", "Nodes", "look", "over", "survey"]

CUT = 7.0  # how far below the top the log density of a node may be
CHUNK = 4  # nodes that one thread takes one after the other, from the mode on
LARGE = 4000  # rows and coefficients from which threads pay
STRETCH = 0.3  # of the grid's tails: z = sinh(STRETCH u) / STRETCH for integers u
FARTHEST = 40.0  # steps from the mode to a lower one that the grid may have
FEW = 40_000  # rows and coefficients up to which three hyperparameters are looked at on a grid


@dataclass(frozen=True, eq=False)
class Node:
    """What there is to know at one theta.

    Attributes
    ----------
    z, theta
        (d,) in the coordinates of the mode, and as they are.
    height
        log p(y | theta) + log p(theta).
    mode, mean, sd
        (N,) of the coefficients: of Laplace's Gaussian, and with the strategy's mean.
    skewness
        (N + P,) of the coefficients and of the fixed effects as printed; zeros where the strategy gives none.
    covariance
        (P, P) of the working fixed effects.
    force
        (N,) what moves the mean to that of the variational correction, Sigma force; zeros without one.
    settled
        Whether the correction was found.
    rows
        The linear predictor; None where the rows are elsewhere.
    """

    z: Array
    theta: Array
    height: float
    mode: Array
    mean: Array
    sd: Array
    skewness: Array
    covariance: Array
    force: Array
    settled: bool
    rows: RowsThere | None


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes with log weights: Σ exp(log_weight_k + height_k) g(theta_k) is about ∫ p(y, theta) g(theta) dtheta.

    Attributes
    ----------
    kind
        "grid", "ccd" or "empirical_bayes".
    refused
        Points z and heights beyond the cut: they tell of the tails.
    step
        Of the grid, before the stretch.
    """

    kind: str
    nodes: tuple[Node, ...]
    log_weights: Array
    refused: tuple[Array, Array]
    step: float = 1.0

    @property
    def log_shares(self) -> Array:
        """Logs of the normalised weights (K,)."""
        total = self.log_weights + np.array([node.height for node in self.nodes])
        return np.asarray(total - _log_sum(total))

    @property
    def log_marginal(self) -> float:
        """Log p(y)."""
        return _log_sum(self.log_weights + np.array([node.height for node in self.nodes]))

    @property
    def thetas(self) -> Array:
        """(K, d)."""
        return np.array([node.theta for node in self.nodes])

    def stacked(self, what: str) -> Array:
        """Return one of the arrays of all nodes, (K, …)."""
        return np.array([getattr(node, what) for node in self.nodes])


def stretched(u: Array) -> Array:
    """Return coordinates z = sinh(a u) / a: near the mode as u, in long tails farther and farther apart."""
    return np.asarray(np.sinh(STRETCH * u) / STRETCH)


def relaxed(z: Array) -> Array:
    """Return the inverse of `stretched`."""
    return np.asarray(np.arcsinh(STRETCH * z) / STRETCH)


def log_slope(mode: Mode, z: Array) -> Array:
    """Return log |dtheta / du| (…,) at coordinates z (…, d): dz / du = cosh(a u), the root of 1 + (a z)²."""
    return np.asarray(mode.log_jacobian(z) + 0.5 * np.log1p(np.square(STRETCH * z)).sum(axis=-1))


def _log_sum(values: Array) -> float:
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum())) if np.isfinite(top) else top


def over(
    field: GaussianField, items: Sequence[Any], work: Callable[[Any, Any], Any], cores: int, chunk: int
) -> list[Any]:
    """Return work(field, item) of all items, in order.

    A large model's are shared among threads in chunks, each with a clone of the field that stands where this one
    stands: which chunks there are does not depend on the number of threads, and so neither do the results.
    """
    if not isinstance(field, Field) or field.model.design.n + field.count < LARGE or len(items) < 2:
        return [work(field, item) for item in items]
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]

    def of_one(some: Sequence[Any]) -> list[Any]:
        own = field.clone()
        return [work(own, item) for item in some]

    with ThreadPoolExecutor(max(cores, 1)) as pool:
        return [result for part in pool.map(of_one, chunks) for result in part]


def look(field: GaussianField, rows: Rows, theta: Array, z: Array, strategy: str, least: float) -> Node | float:
    """Return the node at theta, or only its height if that is below ``least``."""
    top = height(field, theta)
    if top < least or not np.isfinite(top):
        return top
    sd = np.sqrt(np.maximum(field.variances(), 0.0))
    mode = field.x.copy()
    skewness = np.zeros(len(mode) + field.fixed)
    move, force, settled = rows.corrected(field, theta)
    if strategy == "gaussian":
        move = np.zeros_like(mode)
    elif strategy == "simplified_laplace" and not rows.gaussian:
        assert isinstance(field, Field)
        first, skewness = simplified(field, _directions(field), np.maximum(field.row_variances(), 0.0))
        if not settled:
            move = first[: len(mode)] * sd
    mean = mode + move
    return Node(
        z, theta, top, mode, mean, sd, skewness, field.fixed_covariance(), force, settled,
        rows.there(field, theta, mean),
    )  # fmt: skip


def _directions(field: Field) -> Array:
    """Return each coefficient, and each fixed effect as printed, as a linear function of the coefficients."""
    N = field.count
    printed = np.zeros((field.fixed, N))
    printed[:, field.columns["beta"]] = field.model.working.to_printed
    return np.concatenate([np.eye(N), printed])


def survey(
    field: GaussianField, rows: Rows, mode: Mode, kind: str, strategy: str, cores: int
) -> Nodes:
    """Look at the nodes of a grid (steps of one sd, wider in the tails, up to `CUT` below the top), or of a design.

    ``kind`` is "auto" (a grid for one and two hyperparameters, and for three where that is cheap), "grid", "ccd" or
    "empirical_bayes", which looks at the mode alone. The grid's points are those of the trapezoidal rule after a smooth
    stretch of each axis. Source: Rue, Martino & Chopin (2009), sections 3.1 and 6.5.
    """
    d = len(mode.theta)
    if kind == "auto":
        kind = "grid" if d <= 2 or (d == 3 and field.model.design.n + field.count <= FEW) else "ccd"
    if d == 0:
        kind = "empirical_bayes"
    field.place(mode.theta)
    least = mode.height - CUT
    # where they cost little, twice as many: one hyperparameter's marginal is a spline through the nodes
    step = 0.5 if d == 1 and field.model.design.n + field.count < LARGE else 1.0

    def at(own: GaussianField, u: Array) -> Node | float:
        z = stretched(step * u) if kind == "grid" else u
        return look(own, rows, mode.at(z), z, strategy, least if kind == "grid" else -np.inf)

    if kind == "grid":
        origins = [relaxed(mode.coordinates(peak.theta)) / step for peak in mode.others]
        found, (points, heights) = _grid(field, at, d, cores, origins)
        weights = [float(log_slope(mode, node.z)) + d * np.log(step) for node in found]
        return Nodes(kind, tuple(found), np.array(weights), (stretched(step * points), heights), step)
    points = composite(d) if kind == "ccd" else np.zeros((1, d))
    results = over(field, list(points), at, cores, CHUNK)
    kept = [k for k, node in enumerate(results) if isinstance(node, Node)]
    if kind == "ccd":
        base = composite_weights(d, len(points))
    else:
        base = np.array([0.5 * d * np.log(2.0 * np.pi)])
    weights = [float(base[k] + mode.log_jacobian(points[k])) for k in kept]
    none = np.zeros((0, d)), np.zeros(0)
    return Nodes(kind, tuple(results[k] for k in kept), np.array(weights), none)


def _grid(
    field: GaussianField, at: Callable[[Any, Array], Any], d: int, cores: int, others: Sequence[Array]
) -> tuple[list[Node], tuple[Array, Array]]:
    """Walk the integer grid outwards from its origin and from lower modes, wave by wave, as far as the density reaches.

    Returns the nodes, and points and heights beyond them.
    """
    begin = {tuple(int(v) for v in np.rint(u)) for u in others if np.abs(u).max() < FARTHEST}
    wave: list[tuple[int, ...]] = [(0,) * d, *sorted(begin - {(0,) * d})]
    seen = set(wave)
    found: list[tuple[tuple[int, ...], Node]] = []
    beyond: list[tuple[tuple[int, ...], float]] = []
    while wave:
        results = over(field, [np.array(p, dtype=np.float64) for p in wave], at, cores, CHUNK)
        following: list[tuple[int, ...]] = []
        for point, result in zip(wave, results, strict=True):
            if not isinstance(result, Node):
                if np.isfinite(result):
                    beyond.append((point, result))
                continue
            found.append((point, result))
            for other in neighbours(point):
                if other not in seen:
                    seen.add(other)
                    following.append(other)
        wave = sorted(following)
    found.sort(key=lambda pair: pair[0])
    beyond.sort(key=lambda pair: pair[0])
    points = np.array([p for p, _ in beyond], dtype=np.float64).reshape(-1, d)
    outside = points, np.array([h for _, h in beyond])
    return [node for _, node in found], outside

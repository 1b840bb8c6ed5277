"""Where to look at the hyperparameters: the points of a grid, and those of a central composite design."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from bayou._types import Array, Integers

__all__ = ["RADIUS", "composite", "composite_weights", "corners", "neighbours", "product", "snake"]

RADIUS = 1.1  # of the composite design's sphere, in units of √d


def corners(d: int) -> Array:
    """Return the points (2^k, d) of a two-level fractional factorial design of resolution five, entries ±1.

    No product of four or fewer columns is constant, so that main effects and products of two are not mixed up with
    each other. The columns are Walsh functions with indices chosen greedily (the rule of Sanchez & Sanchez 2005).

    >>> corners(3).shape, corners(6).shape
    ((8, 3), (32, 6))
    """
    chosen: list[int] = []
    candidate = 1
    while len(chosen) < d:
        sums = {a ^ b for a, b in itertools.combinations(chosen, 2)}
        sums |= {a ^ b ^ c for a, b, c in itertools.combinations(chosen, 3)} | set(chosen)
        if candidate not in sums:
            chosen.append(candidate)
        candidate += 1
    runs = 1 << max(chosen, default=0).bit_length()
    index = np.arange(runs)[:, None] & np.array(chosen, dtype=np.int64)
    ones = np.array([[bin(int(v)).count("1") for v in row] for row in index], dtype=np.int64).reshape(runs, d)
    return np.asarray(1.0 - 2.0 * (ones % 2))


def composite(d: int, radius: float = RADIUS) -> Array:
    """Return a central composite design (K, d): the centre, then points on the sphere of radius ``radius`` √d.

    On the sphere are the points ±radius √d e_k of the axes and, for d > 1, the corners of a fractional factorial.
    """
    if d == 0:
        return np.zeros((1, 0))
    star = radius * np.sqrt(d) * np.concatenate([np.eye(d), -np.eye(d)])
    parts = [np.zeros((1, d)), star] + ([radius * corners(d)] if d > 1 else [])
    return np.concatenate(parts)


def composite_weights(d: int, count: int, radius: float = RADIUS) -> Array:
    """Return log weights (count,) with Σ_k exp(weight_k) f(z_k) about ∫ f(z) dz for an f like a normal density.

    They are equal on the sphere, and such that for f = N(0, I) the integrals of f and of z'z f are exact: the sphere
    has the share 1 / radius² of the mass.

    Source: Rue, Martino & Chopin (2009), section 6.5, whose weights these are up to a common factor.
    """
    half = 0.5 * d * np.log(2.0 * np.pi)
    out = np.full(count, half + 0.5 * d * radius**2 - 2.0 * np.log(radius) - np.log(max(count - 1, 1)))
    out[0] = half + np.log1p(-(radius**-2)) if count > 1 else half
    return np.asarray(out)


def product(count: int, reach: float, d: int, stretch: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return points (count^d, d) and log weights of the trapezoidal rule over a box after a stretch of each axis."""
    u = np.linspace(-reach, reach, count)
    h = 1e-4
    slope = (stretch(u + h) - stretch(u - h)) / (2.0 * h) * (u[1] - u[0])
    points = np.stack(np.meshgrid(*[stretch(u)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    weights = np.stack(np.meshgrid(*[np.log(slope)] * d, indexing="ij"), axis=-1).reshape(-1, d).sum(axis=1)
    return points, weights


def neighbours(point: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the points of the integer grid one step away, in a fixed order."""
    return [
        (*point[:k], point[k] + step, *point[k + 1 :]) for k in range(len(point)) for step in (-1, 1)
    ]


def snake(points: Array, cell: float) -> Integers:
    """Return an order of points (M, d) in which consecutive ones are near: boxes of the given size, back and forth."""
    M, d = points.shape
    if d == 0:
        return np.arange(M)
    boxes = np.rint(points[:, :-1] / cell).astype(np.int64) if d > 1 else np.zeros((M, 0), dtype=np.int64)
    order = sorted(range(M), key=lambda i: _key(boxes[i], float(points[i, -1])))
    return np.array(order, dtype=np.int64)


def _key(box: Integers, last: float) -> tuple[float, ...]:
    """Return a key that walks every second stretch of a coordinate backwards."""
    out: list[float] = []
    forward = True
    for value in box:
        out.append(float(value) if forward else -float(value))
        forward = forward == (int(value) % 2 == 0)
    return (*out, last if forward else -last)

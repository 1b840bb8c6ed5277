"""Simulated twins with a smooth curve and with a map."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayou._types import Array, Integers

__all__ = ["GRAPHS", "counties", "county_map", "rain"]

# logit of the chance of rain: mean, then cosine and sine of one, two and three waves a year
RAIN_MEAN = -1.1
RAIN_WAVES = ((-0.75, 0.25), (-0.15, 0.5), (0.1, -0.3))

COUNTIES_SHAPE = (7, 8)  # rows and columns of the lattice before it is jittered
COUNTIES_INTERCEPT, COUNTIES_OUTDOOR = -0.25, 0.035
COUNTIES_SD = (0.5, 0.3)  # between counties: smooth over the map, and each on its own


def rain() -> dict[str, Any]:
    """Make the days with rain."""
    rng = np.random.RandomState(29)
    day = np.arange(1, 367)
    angle = 2.0 * np.pi * day / 366.0
    eta = np.full(366, RAIN_MEAN)
    for k, (cosine, sine) in enumerate(RAIN_WAVES, start=1):
        eta += cosine * np.cos(k * angle) + sine * np.sin(k * angle)
    years = np.where(day == 60, 1, 2)  # 29 February
    return {"day": day, "rain": rng.binomial(years, 1.0 / (1.0 + np.exp(-eta))), "years": years}


def county_map() -> tuple[list[str], Integers]:
    """Return the counties and their borders: the lattice, and in each cell the shorter diagonal after the jitter."""
    rows, columns = COUNTIES_SHAPE
    rng = np.random.RandomState(41)
    y, x = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    places = np.column_stack([x, y]) + 0.35 * (2.0 * rng.random_sample((rows * columns, 2)) - 1.0)
    number = np.arange(rows * columns).reshape(rows, columns)
    pairs = [*zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True)]
    pairs += zip(number[:-1].ravel(), number[1:].ravel(), strict=True)
    for r in range(rows - 1):
        for c in range(columns - 1):
            falling, rising = (number[r, c], number[r + 1, c + 1]), (number[r, c + 1], number[r + 1, c])
            lengths = [float(np.square(places[a] - places[b]).sum()) for a, b in (falling, rising)]
            pairs.append(falling if lengths[0] < lengths[1] else rising)
    edges = np.sort(np.array(pairs, dtype=np.int64), axis=1)
    return [f"c{k + 1:02d}" for k in range(rows * columns)], edges[np.lexsort((edges[:, 1], edges[:, 0]))]


def counties() -> dict[str, Any]:
    """Make the cases by county."""
    rng = np.random.RandomState(64)
    names, edges = county_map()
    m = len(names)
    neighbours = np.bincount(edges.ravel(), minlength=m)

    def around(values: Array) -> Array:
        total = np.bincount(edges[:, 0], values[edges[:, 1]], m) + np.bincount(edges[:, 1], values[edges[:, 0]], m)
        average: Array = total / neighbours
        return average

    smooth, worked = rng.standard_normal((2, m))
    for _ in range(4):
        smooth = 0.3 * smooth + 0.7 * around(smooth)
    smooth = (smooth - smooth.mean()) / smooth.std()
    worked = 0.6 * around(worked) + 0.6 * worked
    outdoor = np.round(np.clip(8.0 + 9.0 * worked, 0.0, 25.0))
    expected = np.maximum(np.round(np.exp(1.9 + 0.9 * rng.standard_normal(m)), 1), 1.0)
    own = rng.standard_normal(m)
    eta = COUNTIES_INTERCEPT + COUNTIES_OUTDOOR * outdoor + COUNTIES_SD[0] * smooth + COUNTIES_SD[1] * own
    cases = rng.poisson(expected * np.exp(eta))
    return {"county": names, "cases": cases, "expected": expected, "outdoor": outdoor.astype(np.int64)}


GRAPHS = {"counties": county_map}

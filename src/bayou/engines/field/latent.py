"""Coefficients given the hyperparameters: elliptical slices around their own Gaussian.

Murray, Adams & MacKay, "Elliptical slice sampling", AISTATS 9 (2010): z' = z cos a + v sin a with v standard normal,
the angle a from a bracket that shrinks towards zero until the density ratio is above a level drawn first. It has
nothing to tune and never rejects. The closer the Gaussian is to the posterior, the nearer is a step to an independent
draw.
"""

from __future__ import annotations

import math

import numpy as np

from bayou.engines.field.target import Seat

SHRINKS = 200  # of a bracket, after which it is the current point to rounding


def elliptical_slice(seat: Seat, rng: np.random.Generator) -> int:
    """Move z given theta, in place; returns how many points were looked at."""
    field = seat.field
    normals = rng.standard_normal(len(seat.z))
    level = seat.ratio + math.log(max(rng.random(), 1e-300))
    angle = 2.0 * math.pi * rng.random()
    low, high = angle - 2.0 * math.pi, angle
    mode = np.array(field.x)
    here, there = seat.x - mode, field.transform(normals[None])[0] - mode
    for looked in range(1, SHRINKS + 1):
        c, s = math.cos(angle), math.sin(angle)
        x = mode + c * here + s * there
        ratio = seat.log_ratio(x)
        if ratio > level:
            seat.z, seat.x, seat.ratio = c * seat.z + s * normals, x, ratio
            return looked
        if angle < 0.0:
            low = angle
        else:
            high = angle
        angle = low + (high - low) * rng.random()
    return SHRINKS

"""The directions of the average information as images over the rows, for systems without sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.rows import predictor, project, whiten
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.conditional.laplace import Laplace


def images(of: Laplace) -> tuple[Array, list[tuple[Array, Array]]]:
    """Return Z v_a (d, n) of each direction of `bayou.conditional.information`, and whitened Z'W Z v_a."""
    numbers, point, work, border = of.numbers, of.point, of.work, of.system.border
    rows, edges = packed(of.system.rows), packed(border)
    project(rows, point.gradient, of.q, work.score, work.score_rest)
    image = np.zeros((numbers.size, len(point.eta)))
    sides = []
    for a in range(numbers.size):
        f, k, c = int(numbers.factor[a]), int(numbers.row[a]), int(numbers.column[a])
        v, v_rest = np.zeros_like(point.u), np.zeros_like(point.rest)
        if f == 0:
            s, u, out = work.score, point.u, v
        else:
            size = int(border.size[f - 1])
            low, high = int(border.start[f - 1]), int(border.start[f - 1] + size * border.levels[f - 1])
            s, u, out = (x[low:high].reshape(-1, size) for x in (work.score_rest, point.rest, v_rest))
        out[:] = s[:, k, None] * of.T[f, : out.shape[1], c]
        out[:, k] += u[:, c]
        predictor(rows, v, v_rest, of.q, image[a])
        project(rows, point.weight * image[a], of.q, v, v_rest)
        whiten(edges, of.T, v, v_rest)
        sides.append((v, v_rest))
    return image, sides

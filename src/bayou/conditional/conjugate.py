"""Equations of all coefficients that conjugate gradients solve, at weights of the rows that change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.unformed import backward_levels, eliminate, estimate, forward_levels, new_unformed
from bayou.linalg.iterative import conjugate_gradients, precondition
from bayou.linalg.lanczos import log_determinant, random_signs
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.conditional.rows import Sorted
    from bayou.linalg.schur import Border

EXACT = 1e-10  # of a solve, relative
ROUGH = 1e-5  # of a probe's solve: the quadrature is good to its square
NOTHING, NOTHING2 = np.zeros(0), np.zeros((0, 0))


class Equations:
    """The whitened system over the first n columns of the rest, solved without a factor of it.

    Parameters
    ----------
    data
        The sorted rows.
    border
        The other factors, and the prior of the fixed effects.
    n
        Columns of the rest that take part: all, or all but the fixed effects.
    probes
        Vectors of random signs.

    Attributes
    ----------
    log_determinant, standard_error
        As the probes tell, once they were asked.
    """

    def __init__(self, data: Sorted, border: Border, n: int, probes: int) -> None:
        self.n, p = n, data.arrow.a.shape[1]
        self.q = data.rows.others.shape[1] - (len(border.linear) if n == border.fixed else 0)
        self.unformed = new_unformed(data.rows, data.arrow.start, data.arrow.touch, border, n, p)
        u = self.unformed
        self._rows, self._border, self._handed = packed(data.rows), packed(border), packed(u)
        self._operator, self._made, self._run = packed(u.operator), packed(u.made), packed(u.run)
        self.signs = random_signs(probes, n)
        self._pairs: tuple[Array, Array] | None = None
        self.log_determinant = self.standard_error = math.nan

    def fill(self, T: Array, weights: Array, working: Array) -> bool:
        """Take in new factors, weights and right-hand sides; False where the system is not definite."""
        self._pairs = None
        ok, self._levels = eliminate(self._rows, self._border, T, weights, working, self.q, self._handed)
        return bool(ok) and bool(precondition(self._operator, self._made))

    def modes(self, u: Array, rest: Array) -> bool:
        """Solve at the right-hand side taken in, from a guess of the rest (R,); False where the steps ran out."""
        x = rest[: self.n]
        _, reached = conjugate_gradients(self._operator, self._made, self.unformed.v, x, self._run, EXACT)
        rest[self.n :] = 0.0
        u[:] = self.unformed.u
        backward_levels(self._handed, u, rest)
        return bool(reached)

    def solve(self, h: Array, g: Array) -> bool:
        """Overwrite right-hand sides h (J, p) and g (R,) with the solution."""
        forward_levels(self._handed, h, g)
        x = np.zeros(self.n)
        _, reached = conjugate_gradients(self._operator, self._made, g[: self.n].copy(), x, self._run, EXACT)
        g[:] = 0.0
        g[: self.n] = x
        backward_levels(self._handed, h, g)
        return bool(reached)

    def probe(self) -> tuple[Array, Array]:
        """Estimate the log determinant; returns x and y (n, probes) with E x y' = S⁻¹."""
        if self._pairs is None:
            solutions, images = np.empty_like(self.signs), np.empty_like(self.signs)
            found = log_determinant(self._operator, self._made, self.signs, solutions, images, self._run, ROUGH)
            self.log_determinant = self._levels + found.log_determinant if found.converged else math.nan
            self.standard_error = found.standard_error
            self._pairs = np.ascontiguousarray(solutions.T), np.ascontiguousarray(images.T)
        return self._pairs

    def estimate(
        self,
        T: Array,
        moments: Array,
        leverage: Array = NOTHING,
        own: Array = NOTHING2,
        rest: Array = NOTHING,
    ) -> None:
        """Fill what is not empty of `bayou.conditional.unformed.estimate`."""
        x, y = self.probe()
        scratch = np.empty((2, self.unformed.u.shape[1], x.shape[1]))
        parts = self._rows, self._border, T, self.q, self._handed, x, y, scratch
        estimate(*parts, moments, leverage, own, rest)

"""Circulant structures: even steps around a circle, diagonal in the Fourier basis."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.effects.constrained import Anchored


def is_even(t: Array, period: float) -> bool:
    """Return whether the points divide the circle evenly."""
    gaps = np.diff(np.append(t, t[0] + period))
    return bool(np.allclose(gaps, gaps[0], rtol=1e-9))


class Circulant(Anchored):
    """R⁺ of a random walk of ``order`` in m even steps around a circle of length ``period``.

    With steps of length d its eigenvalues are (2 sin(π k/m))^(2 order) / d^(2 order − 1), k = 0 … m − 1.
    """

    def __init__(self, order: int, m: int, period: float) -> None:
        self.size = m
        values = (2.0 * np.sin(np.pi * np.arange(1, m) / m)) ** (2 * order) / (period / m) ** (2 * order - 1)
        self.log_determinant = float(np.log(values).sum())
        self._inverse = np.concatenate([[0.0], 1.0 / values])

    def multiply(self, V: Array) -> Array:
        """Return R⁺ V."""
        return np.asarray(np.fft.ifft(self._inverse[:, None] * np.fft.fft(V, axis=0), axis=0).real)

    def diagonal(self) -> Array:
        """Return the diagonal of R⁺, which is constant."""
        return np.full(self.size, float(self._inverse.mean()))

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Return draws (count, m) from N(0, R⁺)."""
        z = np.fft.fft(rng.standard_normal((count, self.size)), axis=1)
        return np.asarray(np.fft.ifft(np.sqrt(self._inverse) * z, axis=1).real)

"""How far a share phi of spatial variance is from none: 2 KLD(phi) = tr(S) − r − log|S|, S = (1 − phi) I + phi R⁺.

It is taken on the space of the r contrasts among areas that R has a say in, where S stays definite up to phi = 1: the
level of a component belongs to the intercept, and counting it would put a tenth of the prior at phi = 1 itself, where
it vanishes. With g_i = 1 / (positive eigenvalue of R) and h(u) = u − log(1 + u),

    2 KLD = Σ_i h(phi (g_i − 1)).

Of large graphs the sum is found without eigenvalues, from log|(1 − phi) R + phi I| by sparse factors at some phi, and
between these by a cubic spline of the logarithm of its share of phi². Source: Riebler, Sørbye, Simpson & Rue (2016),
see `bym2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.interpolate

from bayou._types import Array
from bayou.effects.scaling import component_variances
from bayou.errors import DataError
from bayou.linalg import sparse
from bayou.linalg.symbolic import analyse
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.effects.areal import Icar

LEFT, RIGHT, STEPS = -8.0, 14.0, 160  # logit phi from and to which large graphs are factorised, and how often


def excess(u: Array) -> Array:
    """Return u − log(1 + u) without cancellation near zero."""
    u = np.asarray(u, dtype=np.float64)
    small = np.abs(u) < 1e-2
    s = np.where(small, u, 0.0)
    series = s * s * (0.5 - s * (1 / 3 - s * (0.25 - s * (0.2 - s * (1 / 6 - s * (1 / 7 - s / 8))))))
    with np.errstate(divide="ignore"):
        return np.where(small, series, u - np.log1p(np.where(small, 0.0, u)))


def divergence(structure: Icar) -> Callable[[float], tuple[float, float]]:
    """Return t -> 2 KLD and its derivative by t, at phi = expit(t).

    Raises
    ------
    DataError
        The graph has no edges: nothing could be spatial.
    """
    r = len(structure.constraints)
    if r == 0:
        raise DataError("the graph has no edges, so that no share of the variance can be spatial.")
    values = structure.spectrum
    sums = _by_eigenvalues(1.0 / values) if values is not None else _by_factors(structure)

    def both(t: float) -> tuple[float, float]:
        e = math.exp(-abs(t))
        phi, other = (1.0 / (1.0 + e), e / (1.0 + e)) if t >= 0.0 else (e / (1.0 + e), 1.0 / (1.0 + e))
        return sums(t, phi, other)

    return both


def _by_eigenvalues(g: Array) -> Callable[[float, float, float], tuple[float, float]]:
    less = g - 1.0

    def sums(t: float, phi: float, other: float) -> tuple[float, float]:
        u = phi * less
        # h'(u) = u / (1 + u), du/dt = (g − 1) phi (1 − phi); 1 + u = (1 − phi) + phi g
        slope = float(((u * less) / (other + phi * g)).sum()) * phi * other
        return float(excess(u).sum()), slope

    return sums


def _by_factors(structure: Icar) -> Callable[[float, float, float], tuple[float, float]]:
    """Tabulate log(Σ h / phi²), which is constant to the left and smooth everywhere."""
    r, m = len(structure.constraints), structure.size
    trace = trace_of_inverse(structure)
    log_det = structure.log_determinant(np.zeros(1))
    symbolic = analyse(structure.indptr, structure.indices)
    s, factor = packed(symbolic), packed(sparse.new_factor(symbolic))
    grid = np.linspace(LEFT, RIGHT, STEPS)
    table = np.empty(STEPS)
    for k, t in enumerate(grid):
        phi, other = 1.0 / (1.0 + math.exp(-t)), 1.0 / (1.0 + math.exp(t))
        matrix = other * structure.matrices[0]
        matrix[structure.indptr[:-1]] += phi
        if not sparse.factorise(s, matrix, factor):
            raise DataError("the structure of the graph is not positive semi-definite.")
        log_mixed = float(sparse.log_determinant(s, factor)) - r * math.log(phi) - log_det
        table[k] = math.log((phi * (trace - (m - r)) - log_mixed) / phi**2)
    curve = scipy.interpolate.CubicSpline(grid, table)
    slope_of = curve.derivative()

    def sums(t: float, phi: float, other: float) -> tuple[float, float]:
        at = min(max(t, LEFT), RIGHT)
        log_share, inside = float(curve(at)), float(slope_of(at))
        if t < LEFT:  # linear in phi
            share = math.exp(t - LEFT)
            log_share += inside * (share - 1.0)
            inside *= share
        elif t > RIGHT:  # linear in 1 − phi
            share = math.exp(RIGHT - t)
            log_share += inside * (1.0 - share)
            inside *= share
        value = math.exp(log_share) * phi * phi
        return value, value * (inside + 2.0 * other)

    return sums


def trace_of_inverse(structure: Icar) -> float:
    """Return tr R⁺: single nodes have a variance of one."""
    graph = structure.graph
    return float(component_variances(structure.inverse, graph.components).sum() + graph.single.sum())

"""The likelihood of some rows at each draw with the coefficients of their groups integrated out.

Given the fixed effects, the covariances and all other coefficients, those of a few levels, b = L u with u ~ N(0, I),
see only their own rows R: log p(y_R | rest) = log ∫ Π_R p(y_i | eta_i + z_i' L u) N(u; 0, I) du. With û the mode of the
integrand and H = C C' its curvature there, u = û + C'⁻¹ x and x on the points of a rule for N(0, I) (adaptive
Gauss-Hermite quadrature: Pinheiro & Bates 1995, J. Comput. Graph. Stat. 4), exact with one point where the response is
Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, ndtri

from bayou._types import Array, Integers
from bayou.conditional.hermite import hermite_grid
from bayou.engines.nested.proposal import sequence
from bayou.errors import BayouError
from bayou.families.rows import row_derivatives

if TYPE_CHECKING:
    from bayou.families import Family
    from bayou.predict.linear import Rows, Sample

__all__ = ["Some", "log_integral", "runs"]

NODES = {1: 11, 2: 7, 3: 5}  # in each dimension
SPREAD = 128  # pairs of points where a product rule would take too many
NUMBERS = 1_000_000  # of draws x rows x coefficients held at a time
COMPILED = "bernoulli", "binomial", "poisson"  # families without a dispersion, which differs from draw to draw
STEPS, SETTLED = 60, 1e-8


def runs(index: Integers) -> list[slice]:
    """Cut increasing numbers of rows into stretches without gaps."""
    if not len(index):
        return []
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    return [slice(int(part[0]), int(part[-1]) + 1) for part in np.split(index, cuts)]


class Some:
    """Some rows at every draw, and the levels whose coefficients are to be integrated out of them.

    Parameters
    ----------
    sample
        The draws, coefficients of groups among them.
    rows
        All rows of the model.
    index
        The rows (m,), increasing. They must hold every row of the levels.
    levels
        Pairs of a grouping factor's number and codes of its levels.

    Attributes
    ----------
    times
        (m,) how many rows as given are like each: ones where none were merged.
    eta
        (S, m) the predictor without the terms of these levels.
    M
        (S, m, d) what u adds to it.
    """

    def __init__(self, sample: Sample, rows: Rows, index: Integers, levels: Sequence[tuple[int, Integers]]) -> None:
        model = sample.posterior.model
        self.family, self.index = model.family, index
        y = model.design.y if rows.y is None else rows.y
        self.y, self.trials, self.weights = y[index], rows.trials[index], rows.weights[index]
        self.times = np.ones(len(index)) if rows.frequency is None else rows.frequency[index]
        parts, S = runs(index), sample.size
        nothing = np.empty((S, 0))
        self.eta = np.concatenate([nothing, *(sample.fixed(rows, p) + sample.observed(rows, p) for p in parts)], axis=1)
        found = [sample.dispersion(rows, part) for part in parts]
        self.dispersion: Array | None = None
        if found and found[0] is not None:
            own = zip(found, parts, strict=True)
            wide = [np.broadcast_to(np.asarray(d), (S, p.stop - p.start)) for d, p in own]
            self.dispersion = np.concatenate(wide, axis=1)
        loadings = [np.empty((S, len(index), 0))]
        for g, codes in levels:
            b, root = sample.flat(sample.b[g]), sample.root(sample.factors[g])
            here, Z = rows.codes[g][index], rows.Z[g][index]
            for code in codes:
                mine = Z * (here == code)[:, None]
                self.eta -= b[:, code] @ mine.T
                loadings.append(mine @ root)
        self.M = np.concatenate(loadings, axis=2)

    def log_density(self, times: Array | None = None) -> Array:
        """Return log p(y_R | rest) (S,), each row ``times`` (m,) times: a mask leaves rows out."""
        times = self.times if times is None else np.asarray(times, dtype=np.float64)
        use = slice(None) if times.all() else np.flatnonzero(times)
        S = len(self.eta)
        m, d = self.M[0, use].shape
        out = np.empty(S)
        block = max(1, NUMBERS // max(1, m * max(d, 1)))
        # equal rows add up: as often as they are there is a power of their density
        y, trials, weights = self.y[use], self.trials[use], self.weights[use] * times[use]
        for start in range(0, S, block):
            part = slice(start, start + block)
            dispersion = None if self.dispersion is None else self.dispersion[part][:, use]
            out[part] = log_integral(
                self.family, y, self.eta[part][:, use], dispersion, trials, weights, self.M[part][:, use]
            )
        return out


def log_integral(
    family: Family, y: Array, eta: Array, dispersion: Array | None, trials: Array, weights: Array, M: Array
) -> Array:
    """Return log ∫ Π_i p(y_i | eta_i + (M u)_i) N(u; 0, I) du for each of S draws.

    Parameters
    ----------
    y, trials, weights
        (m,).
    eta, dispersion
        (S, m).
    M
        (S, m, d).

    Raises
    ------
    BayouError
        If no mode was found.
    """
    S, _, d = M.shape
    rows = _Terms(family, y, eta, dispersion, trials, weights)

    def value(u: Array) -> Array:
        return np.asarray(rows.values(_moved(eta, M, u)).sum(axis=1) - 0.5 * np.square(u).sum(axis=1))

    if d == 0:
        return value(np.zeros((S, 0)))
    u, root = _mode(rows, eta, M, value)
    inverse = np.linalg.inv(root)
    height = value(u)
    log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    if family.name == "gaussian" and family.link.name == "identity":
        return np.asarray(height - log_det)
    points, log_weights = _rule(d)
    logs = np.empty((len(points), S))
    for k, point in enumerate(points):
        logs[k] = value(u + np.einsum("sed,e->sd", inverse, point)) + log_weights[k]
    with np.errstate(invalid="ignore"):
        return np.asarray(logsumexp(np.where(np.isnan(logs), -np.inf, logs), axis=0) - log_det)


def _moved(eta: Array, M: Array, u: Array) -> Array:
    return np.asarray(eta + np.einsum("smd,sd->sm", M, u))


class _Terms:
    """Log densities of the rows (S, m) and their derivatives, by the compiled kernels where these serve."""

    def __init__(
        self, family: Family, y: Array, eta: Array, dispersion: Array | None, trials: Array, weights: Array
    ) -> None:
        self.family, self.known = family, (y, dispersion, trials, weights)
        self.compiled = family.name in COMPILED
        if self.compiled:
            self.tiled = [np.tile(np.asarray(a, dtype=np.float64), len(eta)) for a in (y, trials, weights)]
            # what the kernels leave out does not depend on eta
            self.constant = np.zeros(len(y))
            self.constant = family.log_density(y, eta[:1], None, trials, weights)[0] - self.values(eta)[0]

    def values(self, at: Array) -> Array:
        """Return log p(y_i | eta_i), every constant in."""
        if self.compiled:
            return np.asarray(self._filled(at)[0] + self.constant)
        y, dispersion, trials, weights = self.known
        return self.family.log_density(y, at, dispersion, trials, weights)

    def derivatives(self, at: Array) -> tuple[Array, Array]:
        """Return the slopes and minus the second derivatives, not below zero."""
        if self.compiled:
            _, first, second = self._filled(at)
            return first, np.maximum(second, 0.0)
        y, dispersion, trials, weights = self.known
        slope = self.family.gradient(y, at, dispersion, trials, weights)
        return slope, np.maximum(self.family.curvature(y, at, dispersion, trials, weights), 0.0)

    def _filled(self, at: Array) -> tuple[Array, Array, Array]:
        y, trials, weights = self.tiled
        value, first, second = np.empty(at.size), np.empty(at.size), np.empty(at.size)
        row_derivatives(self.family.code, y, trials, weights, np.ravel(at), 1.0, value, first, second)
        return value.reshape(at.shape), first.reshape(at.shape), second.reshape(at.shape)


def _rule(d: int) -> tuple[Array, Array]:
    """Return points x (K, d) and logs of weight x exp(x'x / 2)."""
    if d in NODES:
        return hermite_grid(NODES[d], d)
    z = ndtri(np.clip(sequence(d, SPREAD, np.random.default_rng(SPREAD)), 1e-9, 1.0 - 1e-9))
    z = np.concatenate([z, -z])
    return z, 0.5 * np.square(z).sum(axis=1) - np.log(len(z))


def _mode(rows: _Terms, eta: Array, M: Array, value: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return the modes (S, d) by Newton's method, and lower factors (S, d, d) of the curvatures there."""
    S, _, d = M.shape
    u, now = np.zeros((S, d)), value(np.zeros((S, d)))
    for _ in range(STEPS):
        first, second = rows.derivatives(_moved(eta, M, u))
        slope = np.einsum("smd,sm->sd", M, first) - u
        H = np.eye(d) + np.einsum("smd,sme->sde", M * second[:, :, None], M)
        step = np.linalg.solve(H, slope[:, :, None])[:, :, 0]
        if (np.einsum("sd,sd->s", step, slope) < SETTLED).all():
            return u, np.asarray(np.linalg.cholesky(H))
        length = np.ones(S)
        for _ in range(30):
            tried = value(u + length[:, None] * step)
            worse = ~(tried >= now - 1e-10 * np.abs(now))
            if not worse.any():
                break
            length[worse] *= 0.5
        u, now = u + length[:, None] * step, tried
    raise BayouError("No mode of a group's coefficients was found at some draws: they are too extreme for the data.")

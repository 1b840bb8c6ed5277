"""Averages over weighted particles: what the exact posterior changes of the nodes' answer, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from bayou._types import Array
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.importance import Particles
from bayou.engines.nested.pareto import smoothed
from bayou.engines.nested.proposal import sequence
from bayou.engines.nested.survey import Nodes

__all__ = ["Averages", "Fitted", "Weighted", "parabola", "weigh"]

ENOUGH = 100  # hyperparameters from which averages over them need no smoothing
VIRTUAL = 2048  # hyperparameters at which a fitted parabola is averaged


class Averages(Protocol):
    """What `weigh` returns.

    Attributes
    ----------
    exact
        (M,) normalised weights of the hyperparameters.
    k_hat
        Of their tail.
    """

    @property
    def exact(self) -> Array: ...  # noqa: D102
    @property
    def k_hat(self) -> float: ...  # noqa: D102

    def change(self, weighted: Array, plain: Array, base: Array) -> tuple[Array, Array]:
        """Return means (…,) of functionals under the exact posterior, and standard errors.

        ``weighted`` and ``plain`` (M, …) are their means over the coefficients at each theta, with and without the
        coefficients' own weights; ``base`` (…,) their means under Laplace's posterior, by the nodes.
        """
        ...

    def log_marginal(self, nodes: Nodes) -> tuple[float, float]:
        """Return log p(y) and its standard error."""
        ...


@dataclass(frozen=True, eq=False)
class Weighted:
    """Self-normalised averages.

    Attributes
    ----------
    drawn
        The particles.
    exact, laplace
        (M,) normalised weights of the hyperparameters, by the estimates of p(y | theta) and by Laplace's.
    k_hat
        Of the exact ones.
    anchored
        Whether averages are taken as the nodes' integral plus what the exact weights change.
    """

    drawn: Particles
    exact: Array
    laplace: Array
    k_hat: float
    anchored: bool

    def change(self, weighted: Array, plain: Array, base: Array) -> tuple[Array, Array]:
        """Return means and standard errors; see `Averages`."""
        exact = np.tensordot(self.exact, weighted, 1)
        shape = (-1,) + (1,) * exact.ndim
        w, a = self.exact.reshape(shape), self.laplace.reshape(shape)
        if self.anchored:
            laplace = np.tensordot(self.laplace, plain, 1)
            influence = w * (weighted - exact) - a * (plain - laplace)
            return base + exact - laplace, np.sqrt(np.square(influence).sum(axis=0))
        return exact, np.sqrt(np.square(w * (weighted - exact)).sum(axis=0))

    def log_marginal(self, nodes: Nodes) -> tuple[float, float]:
        """Return log p(y) and its standard error."""
        logs, laplace = self.drawn.log_weights, self.drawn.log_laplace
        top = float(logs.max())
        if not np.isfinite(top):
            return np.nan, np.nan
        if self.anchored:
            ratio = float(np.log(np.exp(logs - top).sum() / np.exp(laplace - top).sum()))
            return nodes.log_marginal + ratio, float(np.sqrt(np.square(self.exact - self.laplace).sum()))
        M = len(logs)
        off = np.sqrt(max(float(np.square(self.exact).sum()) - 1.0 / M, 0.0))
        return float(np.log(np.exp(logs - top).mean()) + top), float(off)


def parabola(z: Array) -> Array:
    """Return 1, z_i and z_i z_j (M, 1 + d + d (d + 1) / 2) for coordinates z (M, d)."""
    a, b = np.triu_indices(z.shape[1])
    return np.concatenate([np.ones((len(z), 1)), z, z[:, a] * z[:, b]], axis=1)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Averages of large models, whose few hyperparameters are smoothed.

    log p(y | theta) beyond Laplace's approximation, and the means of functionals at theta, are fitted as parabolas in
    the coordinates of the mode (weighted least squares, by Laplace's posterior) and averaged over many hyperparameters
    drawn from normals with the mode's spreads. Standard errors are those of the fits.

    Attributes
    ----------
    exact, laplace, k_hat
        As of `Weighted`.
    features
        (M, q) parabolas at the particles.
    solver
        (q, M) of the least squares; ``covariance`` (q, q) of its coefficients for errors of variance one.
    ratio, ratio_covariance
        (q,) the fitted log ratio, (q, q) the covariance of its coefficients.
    laplace_mean, exact_mean, exact_spread
        Means (q,) of the features under Laplace's and the exact posterior, and their covariance (q, q) there.
    log_mean
        log of the mean of the exponential of the ratio.
    """

    exact: Array
    laplace: Array
    k_hat: float
    features: Array
    solver: Array
    covariance: Array
    ratio: Array
    ratio_covariance: Array
    laplace_mean: Array
    exact_mean: Array
    exact_spread: Array
    log_mean: float

    def _variance(self, residuals: Array) -> Array:
        return _spread(self.laplace, residuals, self.features.shape[1])

    def change(self, weighted: Array, plain: Array, base: Array) -> tuple[Array, Array]:
        """Return means and standard errors; see `Averages`."""
        shape = weighted.shape[1:]
        both = np.concatenate([weighted.reshape(len(weighted), -1), plain.reshape(len(plain), -1)], axis=1)
        fits = self.solver @ both
        size = fits.shape[1] // 2
        high, low = fits[:, :size], fits[:, size:]
        out = base + (self.exact_mean @ high - self.laplace_mean @ low).reshape(shape)
        # what the coefficients' own weights change hangs on the draws at each theta
        own = (both[:, :size] - both[:, size:]) - self.features @ (high - low)
        noise = self._variance(own) * float(self.exact_mean @ self.covariance @ self.exact_mean)
        slope = self.exact_spread @ high
        noise = noise + np.einsum("qs,qr,rs->s", slope, self.ratio_covariance, slope)
        return out, np.sqrt(np.maximum(noise, 0.0)).reshape(shape)

    def log_marginal(self, nodes: Nodes) -> tuple[float, float]:
        """Return log p(y) and its standard error."""
        variance = float(self.exact_mean @ self.ratio_covariance @ self.exact_mean)
        return nodes.log_marginal + self.log_mean, float(np.sqrt(max(variance, 0.0)))


def _spread(weights: Array, residuals: Array, used: int) -> Array:
    """Return the variance (…,) of residuals (M, …) of weighted least squares that used up so many coefficients."""
    effective = 1.0 / float(np.square(weights).sum())
    return np.asarray(np.tensordot(weights, np.square(residuals), 1) * effective / max(effective - used, 1.0))


def weigh(drawn: Particles, mode: Mode, nodes: Nodes) -> Weighted | Fitted:
    """Return the averages over particles."""
    exact, k_hat = smoothed(drawn.log_weights)
    laplace, _ = smoothed(drawn.log_laplace)
    few = len(drawn.thetas) < ENOUGH
    if not few or not np.isfinite(laplace).all():
        return Weighted(drawn, exact, laplace, k_hat, nodes.kind == "grid")
    _, k_hat = smoothed(drawn.joint_log_weights)
    F = parabola(mode.coordinates(drawn.thetas))
    ratio = drawn.log_estimates
    used = np.isfinite(ratio) & np.isfinite(drawn.log_laplace)
    if used.sum() < F.shape[1] + 4:
        return Weighted(drawn, exact, laplace, np.inf, True)
    root = np.sqrt(np.where(used, laplace, 0.0))
    solver: Array = np.asarray(np.linalg.pinv(F * root[:, None]) * root, dtype=np.float64)
    covariance: Array = np.asarray(solver @ solver.T)
    c: Array = np.asarray(solver @ np.where(used, ratio, 0.0))
    residuals = np.where(used, ratio - F @ c, 0.0)
    spread = float(_spread(laplace, residuals, F.shape[1]))
    # two-sided normals, as the proposal's
    u = np.clip(sequence(F[:, 1:].shape[1] and len(mode.theta), VIRTUAL), 1e-9, 1.0 - 1e-9)
    z = ndtri(u)
    sides = np.where(z < 0.0, mode.left, mode.right)
    virtual = parabola(z)
    weight = np.prod(sides, axis=1)  # the map's slope: equal masses in z are not equal in theta
    weight /= weight.sum()
    logs = virtual @ c
    top = float(logs.max())
    tilted = weight * np.exp(logs - top)
    total = float(tilted.sum())
    tilted /= total
    mean = tilted @ virtual
    return Fitted(
        exact, laplace, k_hat, F, solver, covariance, c, spread * covariance, weight @ virtual, mean,
        (virtual - mean).T @ ((virtual - mean) * tilted[:, None]), float(np.log(total) + top),
    )  # fmt: skip

"""Averages over weighted particles: what the exact posterior changes of the nodes' answer, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from bayou._types import Array, Mask
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.importance import Particles
from bayou.engines.nested.pareto import smoothed
from bayou.engines.nested.proposal import sequence
from bayou.engines.nested.survey import Nodes

__all__ = ["Averages", "Fitted", "Weighted", "parabola", "weigh"]

ENOUGH = 100  # hyperparameters from which averages over them need no smoothing
DISAGREE = 3.0  # standard errors of Laplace's mean by the particles, from which the nodes are not believed
CLIP = 5.0  # coordinates beyond are taken as there by the parabola
VIRTUAL = 2048  # hyperparameters at which a fitted parabola is averaged


class Averages(Protocol):
    """What `weigh` returns.

    Attributes
    ----------
    exact
        (M,) normalised weights of the hyperparameters.
    k_hat
        Of their tail.
    shares
        (K,) weights of the nodes, with what the particles say of p(y | theta) beyond Laplace's approximation.
    """

    @property
    def exact(self) -> Array: ...  # noqa: D102
    @property
    def k_hat(self) -> float: ...  # noqa: D102
    @property
    def shares(self) -> Array: ...  # noqa: D102

    def change(self, weighted: Array, plain: Array, base: Array, tilted_base: Array) -> tuple[Array, Array]:
        """Return means (…,) of functionals under the exact posterior, and standard errors.

        ``weighted`` and ``plain`` (M, …) are their means over the coefficients at each theta, with and without the
        coefficients' own weights; ``base`` and ``tilted_base`` (…,) their means under Laplace's posterior by the nodes,
        and with ``shares`` in place of their weights.
        """
        ...

    def log_marginal(self, nodes: Nodes) -> tuple[float, float]:
        """Return log p(y) and its standard error."""
        ...


@dataclass(frozen=True, eq=False)
class Weighted:
    """Self-normalised averages.

    Where the nodes are a grid, the log of what the weights say of p(y | theta) beyond Laplace's approximation is fitted
    as a parabola; the nodes, tilted by it, give the average, and the particles what the exact weights change of the
    tilted ones: an error of the fit goes out again, and two weights that are nearly equal leave little noise (a
    regression estimator; Owen 2013, *Monte Carlo theory, methods and examples*, section 8.9).

    Attributes
    ----------
    drawn
        The particles.
    exact, laplace, tilted
        (M,) normalised weights of the hyperparameters: by the estimates of p(y | theta), by Laplace's, and by Laplace's
        times the fit.
    k_hat
        Of the exact ones.
    anchored
        Whether averages are taken as the nodes' integral plus what the exact weights change, where the particles
        confirm that integral.
    shares
        (K,) of the nodes, tilted.
    log_tilt
        Log of the fit's mean over the nodes, less that of what the weights say it is.
    """

    drawn: Particles
    exact: Array
    laplace: Array
    tilted: Array
    k_hat: float
    anchored: bool
    shares: Array
    log_tilt: float

    def change(self, weighted: Array, plain: Array, base: Array, tilted_base: Array) -> tuple[Array, Array]:
        """Return means and standard errors; see `Averages`."""
        exact = np.tensordot(self.exact, weighted, 1)
        shape = (-1,) + (1,) * exact.ndim
        w, a, t = (one.reshape(shape) for one in (self.exact, self.laplace, self.tilted))
        alone = np.sqrt(np.square(w * (weighted - exact)).sum(axis=0))
        if not self.anchored:
            return exact, alone
        laplace = np.tensordot(self.laplace, plain, 1)
        off = np.sqrt(np.square(a * (plain - laplace)).sum(axis=0))
        # where nodes and particles disagree on Laplace's own posterior the nodes have missed some of it
        astray = np.abs(laplace - base) > DISAGREE * off
        tilted = np.tensordot(self.tilted, plain, 1)
        both = np.sqrt(np.square(w * (weighted - exact) - t * (plain - tilted)).sum(axis=0))
        return np.where(astray, exact, tilted_base + exact - tilted), np.where(astray, alone, both)

    def log_marginal(self, nodes: Nodes) -> tuple[float, float]:
        """Return log p(y) and its standard error."""
        logs = self.drawn.log_weights
        top = float(logs.max())
        if not np.isfinite(top):
            return np.nan, np.nan
        if self.anchored:
            return nodes.log_marginal + self.log_tilt, float(np.sqrt(np.square(self.exact - self.tilted).sum()))
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
    exact, laplace, k_hat, shares
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
    shares: Array

    def _variance(self, residuals: Array) -> Array:
        return _spread(self.laplace, residuals, self.features.shape[1])

    def change(self, weighted: Array, plain: Array, base: Array, tilted_base: Array) -> tuple[Array, Array]:
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


def _weights(drawn: Particles) -> tuple[Array, float]:
    """Return normalised weights (M,) of the hyperparameters and k-hat.

    The tail is smoothed among the hyperparameters or among all pairs of hyperparameters and coefficients, whichever is
    lighter: among a hundred hyperparameters one large weight looks like a heavy tail, among thousands of pairs its rank
    is known; where the coefficients' weights vary a lot their means at each hyperparameter do so less.
    """
    exact, k_hat = smoothed(drawn.log_weights)
    pairs, k_pairs = smoothed(drawn.joint_log_weights)
    if k_pairs < k_hat:
        return pairs.reshape(drawn.log_ratios.shape).sum(axis=1), k_pairs
    return exact, k_hat


def weigh(drawn: Particles, mode: Mode, nodes: Nodes) -> Weighted | Fitted:
    """Return the averages over particles."""
    exact, k_hat = _weights(drawn)
    laplace, _ = smoothed(drawn.log_laplace)
    F = parabola(np.clip(mode.coordinates(drawn.thetas), -CLIP, CLIP))
    ratio = drawn.log_estimates
    used = np.isfinite(ratio) & np.isfinite(drawn.log_laplace)
    usable = bool(np.isfinite(laplace).all() and np.isfinite(exact).all())
    if len(drawn.thetas) >= ENOUGH or not usable or used.sum() < F.shape[1] + 4:
        return _weighted(drawn, mode, nodes, (exact, laplace), k_hat if usable else np.inf, F, used)
    _, k_hat = smoothed(drawn.joint_log_weights)
    root = np.sqrt(np.where(used, laplace, 0.0))
    solver: Array = np.asarray(np.linalg.pinv(F * root[:, None]) * root, dtype=np.float64)
    covariance: Array = np.asarray(solver @ solver.T)
    c: Array = np.asarray(solver @ np.where(used, ratio, 0.0))
    residuals = np.where(used, ratio - F @ c, 0.0)
    spread = float(_spread(laplace, residuals, F.shape[1]))
    # as the proposal's, without gaps; always the same
    u = sequence(F[:, 1:].shape[1] and len(mode.theta), VIRTUAL, np.random.default_rng(VIRTUAL))
    z = ndtri(np.clip(u, 1e-9, 1.0 - 1e-9))
    virtual = parabola(z)
    weight = np.exp(mode.log_jacobian(z))  # equal masses in z are not equal in theta
    weight /= weight.sum()
    logs = virtual @ c
    top = float(logs.max())
    tilted = weight * np.exp(logs - top)
    total = float(tilted.sum())
    tilted /= total
    mean = tilted @ virtual
    at_nodes = nodes.log_shares + _features(mode, nodes) @ c if len(nodes.nodes) > 1 else np.zeros(len(nodes.nodes))
    return Fitted(
        exact, laplace, k_hat, F, solver, covariance, c, spread * covariance, weight @ virtual, mean,
        (virtual - mean).T @ ((virtual - mean) * tilted[:, None]), float(np.log(total) + top), _normalised(at_nodes),
    )  # fmt: skip


def _weighted(
    drawn: Particles, mode: Mode, nodes: Nodes, both: tuple[Array, Array], k_hat: float, F: Array, used: Mask
) -> Weighted:
    """Fit the parabola and tilt; where there is too little for it nothing is tilted."""
    exact, laplace = both
    base = nodes.log_shares
    fit, at_nodes = np.zeros(len(F)), np.zeros(len(base))
    ratio = drawn.log_estimates
    weight = np.sqrt(np.where(used, np.maximum(exact, laplace), 0.0))
    if len(base) > 1 and (weight > 0.0).sum() > 2 * F.shape[1] and ratio[used].any():
        c = np.linalg.lstsq(F[used] * weight[used, None], ratio[used] * weight[used], rcond=1e-10)[0]
        low, high = np.quantile(ratio[used], [0.0, 1.0])
        fit = np.clip(F @ c, low, high)
        at_nodes = np.clip(_features(mode, nodes) @ c, low, high)
    shares = np.exp(base + at_nodes)
    logs = drawn.log_weights
    tilted = _normalised(drawn.log_laplace + fit)
    raw = _normalised(logs)
    # smoothed as the exact ones are, each where they are: two tails that are smoothed apart differ by that alone
    tilted = tilted * np.where(raw > 0.0, exact / np.where(raw > 0.0, raw, 1.0), 1.0)
    tilted /= tilted.sum()
    log_tilt = float(np.log(shares.sum()) + _log_sum(logs) - _log_sum(drawn.log_laplace + fit))
    anchored = nodes.kind == "grid"
    return Weighted(drawn, exact, laplace, tilted, k_hat, anchored, shares / shares.sum(), log_tilt)


def _features(mode: Mode, nodes: Nodes) -> Array:
    return parabola(np.clip(mode.coordinates(nodes.thetas), -CLIP, CLIP))


def _normalised(logs: Array) -> Array:
    top = float(logs.max())
    w = np.exp(logs - (top if np.isfinite(top) else 0.0))
    return np.asarray(w / w.sum())


def _log_sum(logs: Array) -> float:
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).sum())) if np.isfinite(top) else top

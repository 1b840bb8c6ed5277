"""Marginal likelihoods of Gaussian mixed models, the slow and obvious way: dense matrices, numpy and scipy only.

A covariance matrix `Sigma[g]` (p, p) belongs to each grouping factor of the design, in the order of the design;
it may be singular. All constants are in. Rows of results are named as `fit.variance_components` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import linalg, optimize

import oracle
from bayou.model import Model

LOG_TWO_PI = np.log(2 * np.pi)


@dataclass
class DenseFit:
    """What a maximisation found."""

    beta: np.ndarray  # (P,)
    beta_covariance: np.ndarray  # (P, P)
    Sigma: list[np.ndarray]  # (p, p) of each factor
    dispersion: np.ndarray  # (levels of sigma,), empty where the family has none
    log_likelihood: float
    b: np.ndarray  # (q,) factor by factor, level by level, coefficient by coefficient
    theta: np.ndarray  # as `Parameters` packs it
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def se(self) -> np.ndarray:
        return np.sqrt(np.diag(self.beta_covariance))


# ---- parameters ------------------------------------------------------------------------------


class Parameters:
    """Covariance matrices and dispersion as one unbounded vector.

    The entries of one lower triangular factor per block, row by row, then the logs of the dispersion. Factors are
    free in sign, so that a singular optimum is an inner point where the gradient is zero, not a limit.
    """

    def __init__(self, model: Model, dispersion: bool = True) -> None:
        self.model = model
        self.blocks = [(g, block) for g, grouping in enumerate(model.design.groupings) for block in grouping.blocks]
        known = model.family.dispersion is None or model.dispersion_known
        self.scales = len(model.design.sigma_levels) if dispersion and not known else 0

    @property
    def size(self) -> int:
        return sum(len(block) * (len(block) + 1) // 2 for _, block in self.blocks) + self.scales

    def unpack(self, theta: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        shapes = [grouping.Z.shape[1] for grouping in self.model.design.groupings]
        Sigma = [np.zeros((p, p)) for p in shapes]
        at = 0
        for g, block in self.blocks:
            lower = np.zeros((len(block), len(block)))
            rows, columns = np.tril_indices(len(block))
            lower[rows, columns] = theta[at : at + len(rows)]
            Sigma[g][np.ix_(block, block)] = lower @ lower.T
            at += len(rows)
        return Sigma, np.exp(theta[at:])

    def pack(self, Sigma: list[np.ndarray], dispersion: np.ndarray) -> np.ndarray:
        parts = []
        for g, block in self.blocks:
            lower = square_root(Sigma[g][np.ix_(block, block)])
            parts.append(lower[np.tril_indices(len(block))])
        return np.concatenate([*parts, np.log(np.asarray(dispersion)[: self.scales])])

    def start(self, scale: float) -> np.ndarray:
        Sigma = [scale**2 * np.eye(grouping.Z.shape[1]) for grouping in self.model.design.groupings]
        return self.pack(Sigma, np.full(self.scales, scale))


def components(model: Model, Sigma: list[np.ndarray], dispersion: np.ndarray) -> dict[str, float]:
    """Sds, correlations and the dispersion by the names of `fit.variance_components`."""
    out: dict[str, float] = {}
    for grouping, matrix in zip(model.design.groupings, Sigma, strict=True):
        sd = np.sqrt(np.diag(matrix))
        for name, value in zip(grouping.coefficients, sd, strict=True):
            out[f"sd_{grouping.name}[{name}]"] = float(value)
        for block in grouping.blocks:
            for k, i in enumerate(block):
                for j in block[k + 1 :]:
                    pair = f"{grouping.coefficients[i]},{grouping.coefficients[j]}"
                    out[f"cor_{grouping.name}[{pair}]"] = float(matrix[i, j] / (sd[i] * sd[j]))
    if model.family.dispersion is not None:
        for value in dispersion:
            out[model.family.dispersion] = float(value)
    return out


def square_root(Sigma: np.ndarray) -> np.ndarray:
    """A lower triangular L with L L' = Sigma, of a matrix that may be singular (Cholesky, zero columns kept)."""
    L = np.zeros_like(Sigma)
    for j in range(len(Sigma)):
        rest = Sigma[j:, j] - L[j:, :j] @ L[j, :j]
        if rest[0] > 1e-14 * max(Sigma[j, j], 1e-300):
            L[j:, j] = rest / np.sqrt(rest[0])
    return L


# ---- dense pieces ----------------------------------------------------------------------------


def columns(model: Model) -> np.ndarray:
    """One column for every group coefficient, (n, q)."""
    both = oracle.dense(model)
    return both[:, : both.shape[1] - model.design.X.shape[1]]


def effects_matrix(model: Model, parts: list[np.ndarray]) -> np.ndarray:
    """One (p, p) matrix per factor, repeated for each of its levels: block diagonal, (q, q)."""
    repeated = [part for g, part in enumerate(parts) for _ in model.design.groupings[g].levels]
    return np.asarray(linalg.block_diag(*repeated)) if repeated else np.zeros((0, 0))


def residual_variance(model: Model, sigma: np.ndarray) -> np.ndarray:
    """The variance of each row given its mean, (n,)."""
    return np.asarray(1 / oracle.row_precision(model, sigma))


def covariance(model: Model, Sigma: list[np.ndarray], sigma: np.ndarray) -> np.ndarray:
    """V = Z G Z' + R, (n, n)."""
    Z = columns(model)
    return np.asarray(Z @ effects_matrix(model, Sigma) @ Z.T + np.diag(residual_variance(model, sigma)))


def centred(model: Model) -> np.ndarray:
    return model.design.y - model.design.offset


# ---- the Gaussian likelihoods ----------------------------------------------------------------


def log_likelihood(model: Model, beta: np.ndarray, Sigma: list[np.ndarray], sigma: np.ndarray) -> float:
    """log N(y; X beta, V)."""
    V = covariance(model, Sigma, sigma)
    e = centred(model) - model.design.X @ beta
    return float(-0.5 * (len(e) * LOG_TWO_PI + np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)))


def gls(model: Model, Sigma: list[np.ndarray], sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised least squares: (X'V⁻¹X)⁻¹ X'V⁻¹y and (X'V⁻¹X)⁻¹."""
    X, V = model.design.X, covariance(model, Sigma, sigma)
    inverse = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    return inverse @ (X.T @ np.linalg.solve(V, centred(model))), inverse


def restricted_log_likelihood(model: Model, Sigma: list[np.ndarray], sigma: np.ndarray) -> float:
    """log of the integral of N(y; X beta, V) over flat beta: X as written, no log |X'X|. lme4's criterion is -2 of it."""
    beta, inverse = gls(model, Sigma, sigma)
    P = len(beta)
    return float(log_likelihood(model, beta, Sigma, sigma) + 0.5 * (P * LOG_TWO_PI + np.linalg.slogdet(inverse)[1]))


def blups(
    model: Model, Sigma: list[np.ndarray], sigma: np.ndarray, beta_known: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of b and the covariance of their errors, (q,) and (q, q).

    With `beta_known` the errors of beta are left out, as in lme4's conditional variances. Source: Robinson (1991),
    *That BLUP is a good thing*.
    """
    X, Z, G, V = model.design.X, columns(model), effects_matrix(model, Sigma), covariance(model, Sigma, sigma)
    beta, inverse = gls(model, Sigma, sigma)
    b = G @ Z.T @ np.linalg.solve(V, centred(model) - X @ beta)
    projection = np.linalg.inv(V)
    if not beta_known:
        projection = projection - np.linalg.solve(V, X) @ inverse @ np.linalg.solve(V, X).T
    return b, G - G @ Z.T @ projection @ Z @ G


def mixed_model_equations(
    model: Model, Sigma: list[np.ndarray], sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Henderson's equations for (beta, b), regular Sigma: beta, b and the inverse of the matrix, beta first."""
    X, Z, w = model.design.X, columns(model), oracle.row_precision(model, sigma)
    A = np.hstack([X, Z])
    total = (A.T * w) @ A
    total[X.shape[1] :, X.shape[1] :] += np.linalg.inv(effects_matrix(model, Sigma))
    inverse = np.linalg.inv(total)
    solution = inverse @ ((A.T * w) @ centred(model))
    return solution[: X.shape[1]], solution[X.shape[1] :], inverse


def criterion(model: Model, Z: np.ndarray, Sigma: list[np.ndarray], sigma: np.ndarray, reml: bool) -> float:
    """The same (restricted) log likelihood at the best beta, by q x q matrices: for more rows than fit in V.

    |V| = |R| |I + L'Z'R⁻¹Z L| with G = L L', and V⁻¹ by Woodbury's identity.
    """
    X, y, w = model.design.X, centred(model), oracle.row_precision(model, sigma)
    A = Z @ effects_matrix(model, [square_root(part) for part in Sigma])
    M = np.linalg.cholesky((A.T * w) @ A + np.eye(A.shape[1]))

    def inner(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        u, v = (linalg.solve_triangular(M, (A.T * w) @ part, lower=True) for part in (left, right))
        return np.asarray((left.T * w) @ right - u.T @ v)

    XVX = inner(X, X)
    e = y - X @ np.linalg.solve(XVX, inner(X, y[:, None])[:, 0])
    log_det = 2 * np.log(np.diag(M)).sum() - np.log(w).sum()
    value = -0.5 * (len(y) * LOG_TWO_PI + log_det + inner(e[:, None], e[:, None])[0, 0])
    if reml:
        value += 0.5 * (X.shape[1] * LOG_TWO_PI - np.linalg.slogdet(XVX)[1])
    return float(value)


def maximise(model: Model, reml: bool, start: np.ndarray | None = None) -> DenseFit:
    """Maximum (restricted) likelihood of a Gaussian mixed model with identity link."""
    parameters = Parameters(model)
    Z = columns(model)

    def loss(theta: np.ndarray) -> float:
        return -criterion(model, Z, *parameters.unpack(theta), reml)

    theta = minimise(loss, parameters.start(0.7 * float(np.std(model.design.y))) if start is None else start)
    Sigma, sigma = parameters.unpack(theta)
    beta, inverse = gls(model, Sigma, sigma)
    b = blups(model, Sigma, sigma)[0]
    return DenseFit(beta, inverse, Sigma, sigma, -loss(theta), b, theta)


# ---- numerical analysis ----------------------------------------------------------------------


def minimise(loss: Callable[[np.ndarray], float], start: np.ndarray, polish: int = 4) -> np.ndarray:
    """BFGS, then Newton steps with central differences: the gradient ends near 1e-8 of its scale."""
    if len(start) == 0:
        return start
    x = optimize.minimize(loss, start, method="BFGS", jac="3-point", options={"gtol": 1e-5}).x
    for _ in range(polish):
        gradient, hessian = derivatives(loss, x)
        values, vectors = np.linalg.eigh(hessian)
        values = np.maximum(np.abs(values), 1e-6 * max(1.0, np.abs(values).max()))
        step = vectors @ ((vectors.T @ gradient) / values)
        x = x - step
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(x)


def derivatives(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 2e-3) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian by central differences at two steps, extrapolated (Richardson): errors of step⁴."""
    h = step * np.maximum(1.0, np.abs(x))
    (g1, H1), (g2, H2) = _central(f, x, h), _central(f, x, h / 2)
    return (4 * g2 - g1) / 3, (4 * H2 - H1) / 3


def _central(f: Callable[[np.ndarray], float], x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, middle = len(x), f(x)
    steps = np.diag(h)
    up, down = (np.array([f(x + sign * steps[i]) for i in range(n)]) for sign in (1, -1))
    H = np.diag((up - 2 * middle + down) / h**2)
    for i in range(n):
        for j in range(i):
            both = f(x + steps[i] + steps[j]) + f(x - steps[i] - steps[j])
            H[i, j] = H[j, i] = (both - up[i] - up[j] - down[i] - down[j] + 2 * middle) / (2 * h[i] * h[j])
    return (up - down) / (2 * h), H

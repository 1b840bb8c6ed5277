"""log p(y | beta, Sigma, dispersion) of any family, slowly: Laplace's approximation and adaptive quadrature.

Everything is in spherical coordinates, b = L u with u ~ N(0, I) and Sigma = L L', so that Sigma may be singular.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy import linalg

import oracle
from bayou.model import Model
from dense_likelihood import (
    LOG_TWO_PI,
    DenseFit,
    Parameters,
    columns,
    derivatives,
    effects_matrix,
    minimise,
    square_root,
)


def log_density(model: Model, eta: np.ndarray, dispersion: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
    d = model.design
    scale = oracle.row_scale(model, dispersion)
    s = None if scale is None else scale[rows]
    return float(model.family.log_density(d.y[rows], eta, s, d.trials[rows], d.weights[rows]).sum())


def slopes(
    model: Model, eta: np.ndarray, dispersion: np.ndarray, rows: np.ndarray | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and observed curvature of the log density of each row in eta."""
    d = model.design
    scale = oracle.row_scale(model, dispersion)
    s = None if scale is None else scale[rows]
    given = (d.y[rows], eta, s, d.trials[rows], d.weights[rows])
    return model.family.gradient(*given), model.family.curvature(*given)


def mode(
    model: Model,
    eta: np.ndarray,
    A: np.ndarray,
    precision: np.ndarray,
    dispersion: np.ndarray,
    rows: np.ndarray | slice = slice(None),
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Maximise log p(y | eta + A u) - u' diag(precision) u / 2 by damped Newton: u, the maximum, minus the Hessian."""
    u = np.zeros(A.shape[1]) if start is None else start.copy()

    def height(v: np.ndarray) -> float:
        return log_density(model, eta + A @ v, dispersion, rows) - 0.5 * float(v @ (precision * v))

    value = height(u)
    for _ in range(200):
        gradient, curvature = slopes(model, eta + A @ u, dispersion, rows)
        H = (A.T * curvature) @ A + np.diag(precision)
        slope = A.T @ gradient - precision * u
        ridge = 0.0
        while True:
            try:
                step = linalg.cho_solve(linalg.cho_factor(H + ridge * np.eye(len(u))), slope)
                break
            except linalg.LinAlgError:
                ridge = max(10 * ridge, 1e-3 * float(np.abs(np.diag(H)).max()))
        size = 1.0
        while not height(u + size * step) >= value - 1e-12 * abs(value) and size > 1e-10:
            size /= 2
        u = u + size * step
        value = height(u)
        if np.abs(step).max() < 1e-11 * (1 + np.abs(u).max()):
            break
    else:
        raise ArithmeticError("no mode in 200 steps")
    curvature = slopes(model, eta + A @ u, dispersion, rows)[1]
    return u, value, (A.T * curvature) @ A + np.diag(precision)


def spherical(model: Model, Sigma: list[np.ndarray]) -> np.ndarray:
    """Z L, (n, q)."""
    return np.asarray(columns(model) @ effects_matrix(model, [square_root(part) for part in Sigma]))


def laplace(
    model: Model, beta: np.ndarray, Sigma: list[np.ndarray], dispersion: np.ndarray, start: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Laplace's log p(y | beta, Sigma, dispersion) and the mode of u."""
    A = spherical(model, Sigma)
    eta = model.design.X @ beta + model.design.offset
    u, value, H = mode(model, eta, A, np.ones(A.shape[1]), dispersion, start=start)
    return value - 0.5 * float(np.linalg.slogdet(H)[1]), u


def laplace_reml(
    model: Model, Sigma: list[np.ndarray], dispersion: np.ndarray, start: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The same with beta under a flat prior: log p(y | Sigma, dispersion), the joint mode (u, beta), minus the Hessian."""
    A, X = spherical(model, Sigma), model.design.X
    precision = np.concatenate([np.ones(A.shape[1]), np.zeros(X.shape[1])])
    u, value, H = mode(model, model.design.offset, np.hstack([A, X]), precision, dispersion, start=start)
    return value + 0.5 * X.shape[1] * LOG_TWO_PI - 0.5 * float(np.linalg.slogdet(H)[1]), u, H


def quadrature(model: Model, beta: np.ndarray, Sigma: list[np.ndarray], dispersion: np.ndarray, nodes: int) -> float:
    """Adaptive Gauss-Hermite with a product rule, for one grouping factor; one node is Laplace.

    Nodes u = mode + sqrt(2) C x, C C' the inverse of minus the Hessian, C lower triangular. Source: Liu & Pierce
    (1994), *A note on Gauss-Hermite quadrature*.
    """
    (grouping,) = model.design.groupings
    A_rows = grouping.Z @ square_root(Sigma[0])
    p = A_rows.shape[1]
    eta = model.design.X @ beta + model.design.offset
    x, w = np.polynomial.hermite.hermgauss(nodes)
    grid = np.array(list(product(x, repeat=p)))  # (nodes^p, p)
    log_weight = np.array(list(product(np.log(w), repeat=p))).sum(axis=1)
    d = model.design
    scale = oracle.row_scale(model, dispersion)
    total = 0.0
    for level in range(len(grouping.levels)):
        rows = np.flatnonzero(grouping.codes == level)
        if len(rows) == 0:
            continue
        A = A_rows[rows]
        u, _, H = mode(model, eta[rows], A, np.ones(p), dispersion, rows)
        C = np.linalg.cholesky(np.linalg.inv(H))
        points = u + np.sqrt(2) * grid @ C.T
        s = None if scale is None else scale[rows]
        heights = model.family.log_density(
            d.y[rows], eta[rows] + points @ A.T, s, d.trials[rows], d.weights[rows]
        ).sum(axis=1)
        terms = heights - 0.5 * (points**2).sum(axis=1) + log_weight + (grid**2).sum(axis=1)
        top = terms.max()
        total += top + np.log(np.exp(terms - top).sum()) + np.log(np.diag(C)).sum() - 0.5 * p * np.log(np.pi)
    return float(total)


# ---- maximisation ----------------------------------------------------------------------------


def glm(model: Model) -> np.ndarray:
    """Coefficients without groups, by Newton."""
    P = model.design.X.shape[1]
    dispersion = np.ones(len(model.design.sigma_levels))
    # a whisper of a prior keeps the first steps in bounds; only a starting value is wanted
    return mode(model, model.design.offset, model.design.X, np.full(P, 1e-6), dispersion)[0]


def maximise(model: Model, nodes: int | None = None, sd: float = 0.5) -> DenseFit:
    """Maximum of the Laplace (`nodes` None) or quadrature likelihood in (beta, Sigma, dispersion)."""
    parameters, P = Parameters(model), model.design.X.shape[1]
    last: dict[str, np.ndarray | None] = {"u": None}

    def value(x: np.ndarray) -> float:
        Sigma, dispersion = parameters.unpack(x[P:])
        if nodes is not None:
            return quadrature(model, x[:P], Sigma, dispersion, nodes)
        found, last["u"] = laplace(model, x[:P], Sigma, dispersion, last["u"])
        return found

    x = minimise(lambda x: -value(x), np.concatenate([glm(model), parameters.start(sd)]))
    Sigma, dispersion = parameters.unpack(x[P:])
    Hessian = derivatives(lambda x: -value(x), x)[1]
    inverse = np.linalg.inv(Hessian)
    u = laplace(model, x[:P], Sigma, dispersion)[1]
    b = effects_matrix(model, [square_root(part) for part in Sigma]) @ u
    extra = {"covariance": inverse, "se_log_sd": _errors_of_log_sd(parameters, x[P:], inverse[P:, P:])}
    return DenseFit(x[:P], inverse[:P, :P], Sigma, dispersion, value(x), b, x[P:], extra)


def maximise_reml(model: Model, sd: float = 0.5) -> DenseFit:
    """Maximum of Laplace's likelihood with beta integrated out: beta is its mode, with the conditional covariance."""
    parameters, P = Parameters(model), model.design.X.shape[1]
    last: dict[str, np.ndarray | None] = {"u": None}

    def value(theta: np.ndarray) -> float:
        found, last["u"], _ = laplace_reml(model, *parameters.unpack(theta), last["u"])
        return found

    theta = minimise(lambda theta: -value(theta), parameters.start(sd))
    Sigma, dispersion = parameters.unpack(theta)
    best, u, H = laplace_reml(model, Sigma, dispersion)
    inverse = np.linalg.inv(H)
    b = effects_matrix(model, [square_root(part) for part in Sigma]) @ u[: len(u) - P]
    return DenseFit(u[len(u) - P :], inverse[-P:, -P:], Sigma, dispersion, best, b, theta)


def _errors_of_log_sd(parameters: Parameters, theta: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard errors of the log sds of all factors, by the delta method."""

    def log_sd(k: int) -> Callable[[np.ndarray], float]:
        return lambda t: float(0.5 * np.log(np.concatenate([np.diag(S) for S in parameters.unpack(t)[0]])[k]))

    q = sum(grouping.Z.shape[1] for grouping in parameters.model.design.groupings)
    J = np.array([derivatives(log_sd(k), theta, 1e-4)[0] for k in range(q)])
    return np.sqrt(np.diag(J @ covariance @ J.T))

"""Penalised and marginal quasi-likelihood, slowly: a Gaussian mixed model of the working response, again and again.

Source: Breslow & Clayton (1993), *Approximate inference in generalized linear mixed models*. The working response is
y* = eta + (y - mu) / mu'(eta), its variance phi / w with w = trials weights mu'(eta)² / v(mu), and V = phi W⁻¹ + Z G Z'.
PQL works at eta = X beta + Z b, MQL at eta = X beta. Without bars it is a GLM by iterated weighted least squares.
"""

from __future__ import annotations

import numpy as np

from bayou.model import Model
from dense_likelihood import DenseFit, Parameters, columns, effects_matrix, minimise


def working(model: Model, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The working response without the offset, and its weights, at a linear predictor (offset included)."""
    d, link = model.design, model.family.link
    mu, slope = link.inverse(eta), link.derivative(eta)
    response = eta - d.offset + (d.y / d.trials - mu) / slope
    return response, d.trials * d.weights * slope**2 / model.family.variance(mu, np.ones(1))


def gaussian(
    X: np.ndarray, V: np.ndarray, y: np.ndarray, reml: bool
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """(Restricted) log likelihood of N(y; X beta, V) without its 2 pi, beta, its covariance, V⁻¹ (y - X beta)."""
    VX = np.linalg.solve(V, X)
    inverse = np.linalg.inv(X.T @ VX)
    beta = inverse @ (VX.T @ y)
    e = np.linalg.solve(V, y - X @ beta)
    value = -0.5 * (np.linalg.slogdet(V)[1] + (y - X @ beta) @ e)
    return float(value + (0.5 * np.linalg.slogdet(inverse)[1] if reml else 0.0)), beta, inverse, e


def pql(model: Model, method: str = "reml", dispersion: str | int = 1, variant: str = "pql", sd: float = 0.5) -> DenseFit:
    """Iterate to a fixed point; `dispersion` 1 or "free". The log likelihood is that of the last working response."""
    parameters = Parameters(model, dispersion=False)
    X, Z, free = model.design.X, columns(model), dispersion == "free"
    theta = np.concatenate([parameters.start(sd), np.zeros(int(free))])
    # the mean of an empty model, moved half a count from the border
    mean = (model.design.y + 0.5) / (model.design.trials + 1.0)
    eta = model.family.link(mean)
    gone = np.inf
    for _ in range(500):
        response, w = working(model, eta)

        def pieces(t: np.ndarray, w: np.ndarray = w) -> np.ndarray:
            G = effects_matrix(model, parameters.unpack(t[: parameters.size])[0])
            phi = float(np.exp(t[-1])) if free else 1.0
            return np.asarray(phi * np.diag(1 / w) + Z @ G @ Z.T)

        def loss(t: np.ndarray, response: np.ndarray = response, pieces=pieces) -> float:  # type: ignore[no-untyped-def]
            return -gaussian(X, pieces(t), response, method == "reml")[0]

        theta = minimise(loss, theta, polish=2 if gone > 1e-4 else 4)
        _, beta, inverse, e = gaussian(X, pieces(theta), response, method == "reml")
        Sigma, _ = parameters.unpack(theta[: parameters.size])
        b = effects_matrix(model, Sigma) @ Z.T @ e
        new = X @ beta + model.design.offset + (Z @ b if variant == "pql" else 0.0)
        gone, eta = float(np.abs(new - eta).max()), new
        if gone < 1e-9:
            break
    else:
        raise ArithmeticError("PQL did not settle in 500 scans")
    phi = np.exp(theta[-1:]) if free else np.ones(1)
    extra = {"phi": phi, "se_sd": _errors_of_sd(model, parameters, theta, pieces(theta), X, Z, method)}
    return DenseFit(beta, inverse, Sigma, np.sqrt(phi), -loss(theta), b, theta, extra)


def _errors_of_sd(
    model: Model, parameters: Parameters, theta: np.ndarray, V: np.ndarray, X: np.ndarray, Z: np.ndarray, method: str
) -> np.ndarray:
    """Errors of the sds of uncorrelated coefficients from the expected information of the working response.

    tr(P V_j P V_k) / 2 in the variances (ML: V⁻¹ for P), by the delta method.
    """
    inverse = np.linalg.inv(V)
    P = inverse
    if method == "reml":
        P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    Sigma, _ = parameters.unpack(theta[: parameters.size])
    parts, sds = [], []
    for g, grouping in enumerate(model.design.groupings):
        for block in grouping.blocks:
            for a, i in enumerate(block):
                for j in block[: a + 1]:
                    unit = [np.zeros_like(S) for S in Sigma]
                    unit[g][i, j] = unit[g][j, i] = 1.0
                    parts.append(Z @ effects_matrix(model, unit) @ Z.T)
                    sds.append(np.sqrt(Sigma[g][i, i]) if i == j else 0.5)
    if len(theta) > parameters.size:
        parts.append(V - Z @ effects_matrix(model, Sigma) @ Z.T)
        sds.append(0.5)
    if not parts:
        return np.zeros(0)
    information = 0.5 * np.array([[np.trace(P @ A @ P @ B) for A in parts] for B in parts])
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))) / (2 * np.array(sds)))

"""Tests of fixed effects in Gaussian mixed models, slowly: Satterthwaite, Kenward & Roger, profile likelihood.

Sources: Giesbrecht & Burns (1985) and Fai & Cornelius (1996) for Satterthwaite; Kenward & Roger (1997), *Small sample
inference for fixed effects from restricted maximum likelihood*, Biometrics 53, with V linear in its parameters, so
that no second derivatives appear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from bayou.model import Model
from dense_likelihood import (
    DenseFit,
    Parameters,
    columns,
    components,
    covariance,
    criterion,
    derivatives,
    effects_matrix,
    gls,
    log_likelihood,
    minimise,
    residual_variance,
)


@dataclass
class Test:
    """An F test: `statistic` (already scaled) on `numerator` and `denominator` degrees of freedom."""

    __test__ = False  # not for pytest

    statistic: float
    numerator: int
    denominator: float
    scaling: float = 1.0

    @property
    def p(self) -> float:
        return float(f_distribution.sf(self.statistic, self.numerator, self.denominator))


def variance_parts(model: Model, fit: DenseFit) -> list[np.ndarray]:
    """Derivatives of V in every variance and covariance, the residual variance last: V is their linear combination."""
    Z = columns(model)
    parts = []
    for g, grouping in enumerate(model.design.groupings):
        for block in grouping.blocks:
            for a, i in enumerate(block):
                for j in block[: a + 1]:
                    unit = [np.zeros_like(S) for S in fit.Sigma]
                    unit[g][i, j] = unit[g][j, i] = 1.0
                    parts.append(Z @ effects_matrix(model, unit) @ Z.T)
    return [*parts, np.diag(residual_variance(model, np.ones(1)))]


# ---- Kenward and Roger -----------------------------------------------------------------------


@dataclass
class KenwardRoger:
    """Adjusted covariance of beta and what the F test needs besides."""

    Phi: np.ndarray  # (P, P) (X'V⁻¹X)⁻¹
    adjusted: np.ndarray  # (P, P)
    P: list[np.ndarray]  # (P, P) for each variance parameter
    W: np.ndarray  # inverse expected information of the variance parameters


def kenward_roger(model: Model, fit: DenseFit) -> KenwardRoger:
    """Phi_A = Phi + 2 Phi [sum W_ij (Q_ij - P_i Phi P_j)] Phi."""
    X, V = model.design.X, covariance(model, fit.Sigma, fit.dispersion)
    inverse = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ inverse @ X)
    parts = variance_parts(model, fit)
    r = len(parts)
    P = [-X.T @ inverse @ A @ inverse @ X for A in parts]
    Q = [[X.T @ inverse @ A @ inverse @ B @ inverse @ X for B in parts] for A in parts]
    information = np.empty((r, r))
    for i in range(r):
        for j in range(r):
            traces = np.trace(inverse @ parts[i] @ inverse @ parts[j])
            information[i, j] = 0.5 * (traces - np.trace(2 * Phi @ Q[i][j] - Phi @ P[i] @ Phi @ P[j]))
    W = np.linalg.inv(information)
    middle = sum(W[i, j] * (Q[i][j] - P[i] @ Phi @ P[j]) for i in range(r) for j in range(r))
    return KenwardRoger(Phi, Phi + 2 * Phi @ middle @ Phi, P, W)


def kenward_roger_test(model: Model, fit: DenseFit, L: np.ndarray) -> Test:
    """F test of L beta = 0, L (rows, P) of full rank; for one row the scaling is 1 and F = t²."""
    kr = kenward_roger(model, fit)
    q, r = len(L), len(kr.P)
    Theta = L.T @ np.linalg.solve(L @ kr.Phi @ L.T, L)
    turned = [Theta @ kr.Phi @ P @ kr.Phi for P in kr.P]
    A1 = sum(kr.W[i, j] * np.trace(turned[i]) * np.trace(turned[j]) for i in range(r) for j in range(r))
    A2 = sum(kr.W[i, j] * np.trace(turned[i] @ turned[j]) for i in range(r) for j in range(r))
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = (c / (3 * q + 2 * (1 - g)) for c in (g, q - g, q + 2 - g))
    mean = 1 / (1 - A2 / q)
    variance = 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    rho = variance / (2 * mean**2)
    denominator = 4 + (q + 2) / (q * rho - 1)
    scaling = denominator / (mean * (denominator - 2))
    estimate = L @ fit.beta
    wald = estimate @ np.linalg.solve(L @ kr.adjusted @ L.T, estimate) / q
    return Test(float(scaling * wald), q, float(denominator), float(scaling))


# ---- Satterthwaite ---------------------------------------------------------------------------


def satterthwaite(model: Model, fit: DenseFit, L: np.ndarray, reml: bool = True) -> Test:
    """F test of L beta = 0; one row: df = 2 (l'Cl)² / (g' A g), A the inverse observed information of the variances."""
    parameters, Z = Parameters(model), columns(model)
    H = derivatives(lambda t: -criterion(model, Z, *parameters.unpack(t), reml), fit.theta)[1]
    A = np.linalg.inv(H)
    C = fit.beta_covariance
    values, vectors = np.linalg.eigh(L @ C @ L.T)
    df = []
    for k in range(len(L)):
        line = vectors[:, k] @ L

        def variance(t: np.ndarray, line: np.ndarray = line) -> float:
            return float(line @ gls(model, *parameters.unpack(t))[1] @ line)

        g = derivatives(variance, fit.theta)[0]
        df.append(2 * values[k] ** 2 / (g @ A @ g))
    statistic = float(np.mean((vectors.T @ L @ fit.beta) ** 2 / values))
    if len(L) == 1:
        return Test(statistic, 1, float(df[0]))
    # the df whose F has the mean of the sum of the squared t
    E = sum(v / (v - 2) for v in df if v > 2)
    return Test(statistic, len(L), float(2 * E / (E - len(L))))


# ---- profile likelihood ----------------------------------------------------------------------


def profile(model: Model, fit: DenseFit, name: str) -> Callable[[float], float]:
    """Signed root of the deviance against the ML fit, with one coefficient, sd, correlation or log-free sigma held."""
    parameters, Z = Parameters(model), columns(model)
    names = list(model.design.coefficients)

    def held_coefficient(value: float) -> float:
        k = names.index(name)
        keep = [i for i in range(len(names)) if i != k]

        def loss(x: np.ndarray) -> float:
            beta = np.insert(x[: len(keep)], k, value)
            return -log_likelihood(model, beta, *parameters.unpack(x[len(keep) :]))

        return loss(minimise(loss, np.concatenate([fit.beta[keep], fit.theta]), polish=2))

    def held_component(value: float) -> float:
        def gap(theta: np.ndarray) -> float:
            return components(model, *parameters.unpack(theta))[name] - value

        def loss(theta: np.ndarray) -> float:
            return -criterion(model, Z, *parameters.unpack(theta), False)

        found = optimize.minimize(
            loss, fit.theta, method="SLSQP", jac="3-point", constraints={"type": "eq", "fun": gap},
            options={"ftol": 1e-13, "maxiter": 500},
        )  # fmt: skip
        return float(found.fun)

    where = fit.beta[names.index(name)] if name in names else components(model, fit.Sigma, fit.dispersion)[name]

    def zeta(value: float) -> float:
        height = held_coefficient(value) if name in names else held_component(value)
        return float(np.sign(value - where) * np.sqrt(max(2 * (height + fit.log_likelihood), 0.0)))

    return zeta


def profile_interval(
    model: Model, fit: DenseFit, name: str, brackets: tuple[float, float], level: float = 0.95
) -> tuple[float, float]:
    """Where the profile deviance has risen by the quantile of chi² with one degree; `brackets` lie beyond both ends."""
    cut = float(np.sqrt(chi2.ppf(level, 1)))
    zeta = profile(model, fit, name)
    names = list(model.design.coefficients)
    where = fit.beta[names.index(name)] if name in names else components(model, fit.Sigma, fit.dispersion)[name]
    low = optimize.brentq(lambda x: zeta(x) + cut, brackets[0], where, xtol=1e-6 * abs(where) + 1e-9)
    high = optimize.brentq(lambda x: zeta(x) - cut, where, brackets[1], xtol=1e-6 * abs(where) + 1e-9)
    return float(low), float(high)


def rows_of(model: Model, *names: str) -> np.ndarray:
    """The matrix that picks coefficients."""
    return np.array([np.eye(len(model.design.coefficients))[model.design.coefficients.index(name)] for name in names])


def orthogonal_polynomials(levels: int) -> np.ndarray:
    """R's contr.poly: orthonormal columns of degree 1, 2, … over equally spaced levels, (levels, levels - 1)."""
    Q, R = linalg.qr(np.vander(np.arange(levels) - (levels - 1) / 2, increasing=True), mode="economic")
    return np.asarray((Q * np.sign(np.diag(R)))[:, 1:])

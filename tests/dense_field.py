"""The Gaussian of structured effects, slowly: the oracle of `bayou.conditional.field.Field` in plain dense algebra.

    y | x ~ Family(offset + A x),   x = pieces, each N(0, Q(theta)⁻) on the subspace constraints @ x = 0

    log p(y | theta) = l(x*) − ½ x*'Qx* + ½ log|Q|₊ − ½ rank log 2 pi − ½ log|Z'HZ| + ½ dim log 2 pi

with x* the mode on the subspace, Z an orthonormal basis of it, H = A'WA + Q there (W the observed curvature), |Q|₊ the
product of the positive eigenvalues of Z'QZ, of which there are rank. An intrinsic prior has the density
(2 pi)^(−rank/2) |Z'QZ|₊^(1/2) exp(−½ x'Qx) with respect to Lebesgue measure on the subspace; flat directions contribute
nothing. Sources: Rue & Held (2005), *Gaussian Markov Random Fields*, sections 2.3, 3.2 and 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import linalg

LOG_TWO_PI = float(np.log(2.0 * np.pi))


@dataclass
class Piece:
    """One independent part of x a priori: where it stands, its precision as a function of theta, its constraints."""

    where: slice
    precision: Callable[[np.ndarray], np.ndarray]
    constraints: np.ndarray | None = None  # (k, width)
    mean: np.ndarray | None = None


@dataclass
class Placed:
    """The Gaussian at one theta."""

    x: np.ndarray  # (N,) the mode
    eta: np.ndarray  # (n,)
    loglik: float
    value: float
    Q: np.ndarray  # (N, N)
    H: np.ndarray  # (N, N)
    Z: np.ndarray  # (N, dim)
    covariance: np.ndarray  # (N, N), singular if there are constraints
    log_determinant: float  # of Z'HZ
    prior_constant: float
    row_slopes: np.ndarray  # (n,) −l'''
    extra: dict[str, Any] = field(default_factory=dict)


class DenseField:
    """The oracle; `dispersion(theta)` gives (n,) or a number, or is None for a family that has none.

    `beta` not None: fixed effects that are given, with columns `X` (n, P), added to eta; their prior is not counted.
    """

    def __init__(
        self,
        A: np.ndarray,
        pieces: Sequence[Piece],
        family: Any,
        y: np.ndarray,
        *,
        trials: np.ndarray | float = 1.0,
        weights: np.ndarray | float = 1.0,
        offset: np.ndarray | float = 0.0,
        dispersion: Callable[[np.ndarray], np.ndarray | float] | None = None,
        X: np.ndarray | None = None,
    ) -> None:
        n, self.N = A.shape
        self.A, self.pieces, self.family, self.y = A, list(pieces), family, y
        self.trials, self.weights = np.broadcast_to(trials, (n,)), np.broadcast_to(weights, (n,))
        self.offset = np.broadcast_to(offset, (n,)).astype(float)
        self.dispersion, self.X = dispersion, X
        rows = []
        for piece in self.pieces:
            for c in np.zeros((0, 1)) if piece.constraints is None else piece.constraints:
                rows.append(np.zeros(self.N))
                rows[-1][piece.where] = c
        self.constraints = np.array(rows).reshape(-1, self.N)
        self.Z = linalg.null_space(self.constraints) if len(rows) else np.eye(self.N)
        self.mean = np.zeros(self.N)
        for piece in self.pieces:
            if piece.mean is not None:
                self.mean[piece.where] = piece.mean

    # ---- the model --------------------------------------------------------------------------

    def prior(self, theta: np.ndarray) -> tuple[np.ndarray, float]:
        """Q (N, N), and ½ log|Q|₊ − ½ rank log 2 pi."""
        Q, constant = np.zeros((self.N, self.N)), 0.0
        for piece in self.pieces:
            own = piece.precision(theta)
            Q[piece.where, piece.where] = own
            C = piece.constraints
            Z = linalg.null_space(C) if C is not None and len(C) else np.eye(len(own))
            values = linalg.eigvalsh(Z.T @ own @ Z) if len(own) else np.zeros(0)
            positive = values[values > 1e-10 * max(values.max(initial=0.0), 1e-300)]
            constant += 0.5 * float(np.log(positive).sum()) - 0.5 * len(positive) * LOG_TWO_PI
        return Q, constant

    def _rows(self, theta: np.ndarray) -> tuple[np.ndarray | float | None, np.ndarray, np.ndarray]:
        s = None if self.dispersion is None else self.dispersion(theta)
        return s, self.trials, self.weights

    def log_likelihood(self, eta: np.ndarray, theta: np.ndarray) -> float:
        return float(self.family.log_density(self.y, eta, *self._rows(theta)).sum())

    def start(self, beta: np.ndarray | None) -> np.ndarray:
        return self.offset if beta is None else self.offset + self.X @ beta

    # ---- the Gaussian -----------------------------------------------------------------------

    def place(self, theta: np.ndarray, beta: np.ndarray | None = None) -> Placed:
        theta = np.asarray(theta, dtype=float)
        Q, constant = self.prior(theta)
        Z, A, fixed = self.Z, self.A, self.start(beta)
        given = self._rows(theta)

        def height(z: np.ndarray) -> float:
            x = Z @ z
            d = x - self.mean
            return self.log_likelihood(fixed + A @ x, theta) - 0.5 * float(d @ Q @ d)

        z = Z.T @ self.mean
        value = height(z)
        for _ in range(500):
            x = Z @ z
            eta = fixed + A @ x
            g = self.family.gradient(self.y, eta, *given)
            w = self.family.curvature(self.y, eta, *given)
            H = Z.T @ ((A.T * w) @ A + Q) @ Z
            slope = Z.T @ (A.T @ g - Q @ (x - self.mean))
            ridge = 0.0
            while True:
                try:
                    step = linalg.cho_solve(linalg.cho_factor(H + ridge * np.eye(len(z))), slope)
                    break
                except linalg.LinAlgError:
                    ridge = max(10.0 * ridge, 1e-6 * float(np.abs(np.diag(H)).max()))
            size = 1.0
            while not height(z + size * step) >= value - 1e-12 * (1.0 + abs(value)) and size > 1e-12:
                size *= 0.5
            z = z + size * step
            value = height(z)
            if np.abs(size * step).max(initial=0.0) < 1e-12 * (1.0 + np.abs(z).max(initial=0.0)):
                break
        else:
            raise ArithmeticError("no mode in 500 steps")
        x = Z @ z
        eta = fixed + A @ x
        w = self.family.curvature(self.y, eta, *given)
        H = (A.T * w) @ A + Q
        inner = Z.T @ H @ Z
        factor = linalg.cho_factor(inner)
        log_determinant = 2.0 * float(np.log(np.diag(factor[0])).sum())
        covariance = Z @ linalg.cho_solve(factor, Z.T)
        loglik = self.log_likelihood(eta, theta)
        laplace = value + constant - 0.5 * log_determinant + 0.5 * Z.shape[1] * LOG_TWO_PI
        h = 1e-4
        bent = [self.family.curvature(self.y, eta + k * h, *given) for k in (-2, -1, 1, 2)]
        third = (bent[0] - 8.0 * bent[1] + 8.0 * bent[2] - bent[3]) / (12.0 * h)
        return Placed(x, eta, loglik, laplace, Q, H, Z, covariance, log_determinant, constant, third)

    def value(self, theta: np.ndarray, beta: np.ndarray | None = None) -> float:
        return self.place(theta, beta).value

    def slopes(self, theta: np.ndarray, beta: np.ndarray | None = None, h: float = 2e-3) -> np.ndarray:
        """Gradient of the value in (beta if given, theta), differences of fourth order."""
        P = 0 if beta is None else len(beta)
        psi = np.concatenate([[] if beta is None else beta, theta])

        def at(p: np.ndarray) -> float:
            return self.value(p[P:], None if beta is None else p[:P])

        return differences(at, psi, h)

    def variances(self, placed: Placed) -> np.ndarray:
        return np.diag(placed.covariance).copy()

    def row_variances(self, placed: Placed) -> np.ndarray:
        return np.einsum("ij,jk,ik->i", self.A, placed.covariance, self.A)

    def solve(self, placed: Placed, r: np.ndarray) -> np.ndarray:
        return placed.covariance @ r

    def draw(self, placed: Placed, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, N)."""
        L = np.linalg.cholesky(placed.Z.T @ placed.H @ placed.Z)
        z = linalg.solve_triangular(L.T, rng.standard_normal((L.shape[0], count)), lower=False)
        return placed.x + (placed.Z @ z).T

    # ---- densities at any x of the subspace ---------------------------------------------------

    def log_prior_of(self, placed: Placed, x: np.ndarray) -> float:
        d = x - self.mean
        return placed.prior_constant - 0.5 * float(d @ placed.Q @ d)

    def log_joint(self, placed: Placed, x: np.ndarray, theta: np.ndarray, beta: np.ndarray | None = None) -> float:
        return self.log_likelihood(self.start(beta) + self.A @ x, np.asarray(theta)) + self.log_prior_of(placed, x)

    def log_gaussian(self, placed: Placed, x: np.ndarray) -> float:
        z = placed.Z.T @ (x - placed.x)
        inner = placed.Z.T @ placed.H @ placed.Z
        dim = placed.Z.shape[1]
        return 0.5 * placed.log_determinant - 0.5 * dim * LOG_TWO_PI - 0.5 * float(z @ inner @ z)


def differences(of: Callable[[np.ndarray], float], at: np.ndarray, h: float = 2e-3) -> np.ndarray:
    """Gradient by central differences of fourth order."""
    out = np.empty(len(at))
    for i in range(len(at)):
        step = np.zeros(len(at))
        step[i] = h * max(1.0, abs(at[i]))
        far, near = of(at + 2 * step) - of(at - 2 * step), of(at + step) - of(at - step)
        out[i] = (8.0 * near - far) / (12.0 * step[i])
    return out


# ---- from a model --------------------------------------------------------------------------------


def exchangeable(theta: np.ndarray, p: int) -> np.ndarray:
    """Sigma (p, p) of log sds, then atanh of the canonical partial correlations row by row."""
    sds, c = np.exp(theta[:p]), p
    L = np.zeros((p, p))
    for i in range(p):
        left = 1.0
        for j in range(i):
            rho = np.tanh(theta[c])
            c += 1
            L[i, j] = rho * np.sqrt(left)
            left *= 1.0 - rho * rho
        L[i, i] = np.sqrt(left)
    return np.outer(sds, sds) * (L @ L.T)


@dataclass
class Layout:
    """Where things of a model stand: the slices of x by name (as `Field.columns`), of theta by piece."""

    columns: dict[str, slice]
    theta: list[tuple[str, slice]]
    size: int


def layout(model: Any) -> Layout:
    columns: dict[str, slice] = {}
    theta: list[tuple[str, slice]] = []
    at = t = 0
    for g in model.design.groupings:
        for block in g.blocks:
            width, q = len(g.levels) * len(block), len(block)
            name = f"b_{g.name}"
            if len(g.blocks) > 1:
                name += f"[{','.join(g.coefficients[k] for k in block)}]"
            columns[name] = slice(at, at + width)
            at += width
            theta.append((name, slice(t, t + q * (q + 1) // 2)))
            t += q * (q + 1) // 2
    for term, effect in zip(model.design.structured, model.effects, strict=True):
        width = effect.replicates * effect.size
        columns[f"f_{term.name}"] = slice(at, at + width)
        at += width
        d = len(effect.hyperparameters)
        theta.append((f"f_{term.name}", slice(t, t + d)))
        t += d
    if model.family.dispersion is not None and not model.dispersion_known:
        d = len(model.design.sigma_levels)
        theta.append(("dispersion", slice(t, t + d)))
        t += d
    P = model.working.X.shape[1]
    columns["beta"] = slice(at, at + P)
    return Layout(columns, theta, t)


def of_model(model: Any, *, integrated: bool = True, priors: bool = True) -> DenseField:
    """The oracle of a model: each block of b_g level by level (J, q), f_NAME (replicates, size), working beta last."""
    design, working = model.design, model.working
    where = layout(model)
    n, P = working.X.shape
    N = where.columns["beta"].stop if integrated else where.columns["beta"].start
    A = np.zeros((n, N))
    pieces: list[Piece] = []
    slots = iter(where.theta)
    for g in design.groupings:
        for block in g.blocks:
            name, slot = next(slots)
            at, q, J = where.columns[name], len(block), len(g.levels)
            for k, column in enumerate(block):
                A[np.arange(n), at.start + g.codes * q + k] = g.Z[:, column]

            def precision(theta: np.ndarray, slot: slice = slot, q: int = q, J: int = J) -> np.ndarray:
                return np.kron(np.eye(J), np.linalg.inv(exchangeable(theta[slot], q)))

            pieces.append(Piece(at, precision))
    for term, effect in zip(design.structured, model.effects, strict=True):
        at, (_, slot) = where.columns[f"f_{term.name}"], next(slots)
        row = np.repeat(np.arange(n), np.diff(term.start))
        np.add.at(A, (row, at.start + term.replicate * effect.size + term.node), term.value)
        R = effect.replicates
        C = np.asarray(effect.constraints)

        def structured(theta: np.ndarray, effect: Any = effect, slot: slice = slot, R: int = R) -> np.ndarray:
            return np.kron(np.eye(R), effect.dense(theta[slot]))

        pieces.append(Piece(at, structured, np.kron(np.eye(R), C) if len(C) else None))
    if integrated:
        A[:, where.columns["beta"]] = working.X
        precision_of_beta = working.precision if priors else np.zeros((P, P))
        mean = working.mean if priors else np.zeros(P)
        pieces.append(Piece(where.columns["beta"], lambda theta: precision_of_beta, mean=mean))
    dispersion = None
    if model.dispersion_known:
        known = design.standard_errors
        dispersion = lambda theta: known  # noqa: E731
    elif model.family.dispersion is not None:
        last = where.theta[-1][1]
        dispersion = lambda theta: np.exp(theta[last])[design.sigma_codes]  # noqa: E731
    return DenseField(
        A,
        pieces,
        model.family,
        design.y,
        trials=design.trials,
        weights=design.weights,
        offset=design.offset,
        dispersion=dispersion,
        X=working.X,
    )

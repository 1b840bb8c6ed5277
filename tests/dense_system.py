"""The whitened system and the likelihoods of mixed models the slow and obvious way: dense matrices, NumPy, SciPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

import bayou
from bayou.conditional.rows import Sorted, accumulate, sorted_rows
from bayou.linalg.schur import Factor, new_factor
from bayou.linalg.whitened import factorise_whitened
from bayou.model import Model
from bayou.packed import packed

STRUCTURES = {
    "one factor": "y ~ x + (x | g)",
    "no fixed effects": "y ~ 0 + (1 | g)",
    "no groups": "y ~ x + z",
    "three coefficients": "y ~ x + z + (x + z | g)",
    "crossed": "y ~ x + (1 | g) + (x | h)",
    "crossed, sizes 1 to 3": "y ~ x + z + (1 | k) + (x | h) + (x + z | g)",
    "larger blocks behind": "y ~ x + (1 | g) + (x | k)",
    "apart": "y ~ x + (1 + x || g) + (1 | h)",
    "nested": "y ~ 1 + (1 | a/g)",
    "crossed, no fixed effects": "y ~ 0 + (1 | g) + (1 | h)",
}


def table(seed: int = 7, n: int = 48) -> dict[str, np.ndarray]:
    """Rows with three factors that cross, one that nests, and every kind of response."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.arange(n) % 8)
    x, z = rng.normal(size=n), rng.normal(size=n)
    eta = 0.4 + 0.5 * x + 0.8 * rng.normal(size=8)[g]
    trials = rng.integers(1, 7, n)
    return {
        "y": eta + rng.normal(size=n), "x": x, "z": z, "g": g, "h": rng.permutation(np.arange(n) % 5),
        "k": rng.permutation(np.arange(n) % 3), "a": g // 2, "s": np.arange(n) % 3, "u": 0.3 * rng.normal(size=n),
        "w": rng.uniform(0.5, 2.0, n), "se": rng.uniform(0.5, 1.5, n), "count": rng.poisson(np.exp(eta)),
        "wide": rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta))), "positive": rng.gamma(3.0, np.exp(eta) / 3.0),
        "half": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int), "trials": trials,
        "hits": rng.binomial(trials, 1 / (1 + np.exp(-eta))),
    }  # fmt: skip


def columns(data: Sorted) -> np.ndarray:
    """One dense column for every coefficient in the order of the system, rows sorted: (n, J p + R)."""
    rows = data.rows
    J, p = data.arrow.a.shape
    n, R = len(data.y), len(data.arrow.d)
    out = np.zeros((n, J * p + R))
    for j in range(len(rows.start) - 1):
        for i in range(rows.start[j], rows.start[j + 1]):
            if J:
                out[i, j * p : (j + 1) * p] = rows.Z[i]
            out[i, J * p + rows.column[i]] = rows.others[i]
    return out


def colouring(data: Sorted, T: np.ndarray) -> np.ndarray:
    """The matrix that brings (u, fixed effects) to (b, fixed effects): T on the diagonal, once for each level."""
    J, p = data.arrow.a.shape
    R, border = len(data.arrow.d), data.border
    out = np.eye(J * p + R)
    blocks = [(0, J, p)] + [
        (J * p + int(a), int(m), int(q)) for a, m, q in zip(border.start, border.levels, border.size, strict=True)
    ]
    for f, (at, levels, q) in enumerate(blocks):
        for level in range(levels):
            here = slice(at + level * q, at + (level + 1) * q)
            out[here, here] = T[f, :q, :q]
    return out


def factors(data: Sorted, rng: np.random.Generator, singular: bool = False) -> np.ndarray:
    """Lower triangular T of random entries of either sign; singular: the first column of each is zero."""
    sizes = [data.arrow.a.shape[1], *(int(q) for q in data.border.size)]
    p = max(sizes)
    T = np.zeros((max(len(data.order), 1), p, p))
    for f, q in enumerate(sizes[: len(T)]):
        T[f, :q, :q] = np.tril(rng.normal(size=(q, q)))
        if singular and q:
            T[f, :, 0] = 0.0
    return T


@dataclass
class Dense:
    """A system: what the kernels read, and what they should find."""

    model: Model
    data: Sorted
    T: np.ndarray
    n: int
    factor: Factor
    result: tuple[bool, float, float, float]
    A: np.ndarray  # (rows, J p + R), coloured columns
    W: np.ndarray  # the colouring
    M: np.ndarray  # the whitened precision, of what takes part
    right: np.ndarray
    weights: np.ndarray

    @property
    def effects(self) -> int:
        """How many group coefficients there are."""
        return int(self.data.arrow.a.size + self.data.border.fixed)

    def split(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A vector of what takes part as (J, p) and (R,)."""
        J, p = self.data.arrow.a.shape
        rest = np.zeros(len(self.data.arrow.d))
        rest[: self.n] = vector[J * p :]
        return vector[: J * p].reshape(J, p), rest


def dense(
    formula: str, rng: np.random.Generator, *, with_fixed: bool = True, singular: bool = False, priors: bool = False
) -> Dense:
    """Build and factorise a system with random weights, residuals and factors."""
    model = Model(formula, table())
    data = sorted_rows(model)
    if not priors:
        P = len(data.border.linear)
        data = data.__class__(
            **{**data.__dict__, "border": data.border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))}
        )
    R, P = len(data.arrow.d), len(data.border.linear)
    n = R if with_fixed else R - P
    q = data.rows.others.shape[1] - (0 if with_fixed else P)
    w, r = rng.uniform(0.3, 3.0, len(data.y)), rng.normal(size=len(data.y))
    accumulate(packed(data.rows), w, r, q, packed(data.arrow))
    T = factors(data, rng, singular)
    factor = new_factor(data.arrow)
    result = factorise_whitened(packed(data.arrow), packed(data.border), 1.0, T, n, packed(factor))
    A, W = columns(data), colouring(data, T)
    whole = (A @ W).T @ (w[:, None] * (A @ W))
    right = (A @ W).T @ r
    effects = whole.shape[0] - P
    whole[np.arange(effects), np.arange(effects)] += 1.0
    whole[effects:, effects:] += data.border.precision
    right[effects:] += data.border.linear
    taken = data.arrow.a.size + n
    return Dense(model, data, T, n, factor, result, A, W, whole[:taken, :taken], right[:taken], w)


def gradient(of: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """The derivatives of a smooth function by central differences of sixth order: the error goes with h to the 6."""
    out = np.empty(len(x))
    for i in range(len(x)):
        e = np.zeros(len(x))
        e[i] = h
        near, further, far = (of(x + k * e) - of(x - k * e) for k in (1, 2, 3))
        out[i] = (45.0 * near - 9.0 * further + far) / (60.0 * h)
    return out


def laplace(model: Model, beta: np.ndarray | None, Sigma: list[np.ndarray], dispersion: np.ndarray | None) -> float:
    """The Laplace approximation of log p(y | beta, theta); beta None: integrated too, under a flat prior.

    Coefficients on the scale of the data, covariances inverted, a general optimiser and then Newton's method.
    ``Sigma``: covariance matrix of each factor of the design; ``dispersion``: one a level of sigma_by.
    """
    design, family = model.design, model.family
    Z = [np.zeros((design.n, 0))]
    inverses = []
    for grouping, S in zip(design.groupings, Sigma, strict=True):
        J, p = len(grouping.levels), grouping.Z.shape[1]
        part = np.zeros((design.n, J * p))
        for i, code in enumerate(grouping.codes):
            part[i, code * p : (code + 1) * p] = grouping.Z[i]
        Z.append(part)
        inverses += [np.linalg.inv(S)] * J
    A = np.hstack(Z)
    G = np.zeros((A.shape[1], A.shape[1]))
    at = 0
    for inverse in inverses:
        G[at : at + len(inverse), at : at + len(inverse)] = inverse
        at += len(inverse)
    fixed = design.offset.copy()
    count = A.shape[1]
    if beta is None:
        A = np.hstack([A, design.X])
        G = np.pad(G, (0, design.X.shape[1]))
    else:
        fixed = fixed + design.X @ beta
    scale = design.standard_errors
    if scale is None:
        scale = None if dispersion is None else np.asarray(dispersion)[design.sigma_codes]
    rest = (scale, design.trials, design.weights)

    def minus(x: np.ndarray) -> float:
        return -float(np.sum(family.log_density(design.y, fixed + A @ x, *rest))) + 0.5 * x @ G @ x

    def slope(x: np.ndarray) -> np.ndarray:
        return -A.T @ family.gradient(design.y, fixed + A @ x, *rest) + G @ x

    def bend(x: np.ndarray) -> np.ndarray:
        return A.T @ (family.curvature(design.y, fixed + A @ x, *rest)[:, None] * A) + G

    x = np.zeros(A.shape[1])
    if beta is None and family.link.name == "log":
        x[count:] = np.linalg.lstsq(design.X, np.log(np.maximum(design.y, 0.5)) - design.offset, rcond=None)[0]
    if len(x):
        x = optimize.minimize(minus, x, jac=slope, method="L-BFGS-B", options={"maxiter": 2000}).x
        for _ in range(30):
            x = x - np.linalg.solve(bend(x), slope(x))
    H = bend(x)
    log_det = np.linalg.slogdet(H)[1] if len(x) else 0.0
    log_G = sum(np.linalg.slogdet(inverse)[1] for inverse in inverses)
    integrated = 0.5 * (A.shape[1] - count) * np.log(2 * np.pi)
    return -minus(x) + 0.5 * log_G - 0.5 * log_det + integrated


def gaussian(
    model: Model, Sigma: list[np.ndarray], sigma: np.ndarray, restricted: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """The exact (restricted) log likelihood with beta at its GLS estimate, that estimate, and P = V⁻¹ − …"""
    design = model.design
    scale = design.standard_errors if design.standard_errors is not None else np.asarray(sigma)[design.sigma_codes]
    V = np.diag(scale**2 / design.weights)
    for grouping, S in zip(design.groupings, Sigma, strict=True):
        same = grouping.codes[:, None] == grouping.codes
        V += same * (grouping.Z @ S @ grouping.Z.T)
    X, y = design.X, design.y - design.offset
    inverse = np.linalg.inv(V)
    XVX = X.T @ inverse @ X
    beta = np.linalg.solve(XVX, X.T @ inverse @ y)
    P = inverse - inverse @ X @ np.linalg.solve(XVX, X.T @ inverse)
    value = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + y @ P @ y)
    if restricted:
        value -= 0.5 * np.linalg.slogdet(XVX / (2 * np.pi))[1]
    return float(value), beta, P


def covariances(model: Model, order: tuple[int, ...], T: np.ndarray, scale: float = 1.0) -> list[np.ndarray]:
    """The covariance matrix of each factor of the design from factors by position."""
    out = []
    for g, grouping in enumerate(model.design.groupings):
        p = grouping.Z.shape[1]
        own = scale * T[order.index(g), :p, :p]
        out.append(own @ own.T)
    return out


def fitted(formula: str, data: dict, engine: str | object, family: str | object = "gaussian", **settings) -> bayou.Fit:
    """A fit with a seed."""
    return bayou.fit(formula, data, family, engine=engine, seed=1, **settings)

"""The gradient of adaptive Gauss-Hermite quadrature, whose nodes move with the parameters.

They move through the mode û and the factor L of the curvature H. Let q_k be the share of node u_k = û + L'⁻¹ x_k in the
sum, s_k = f'(u_k), and dL = L Phi(L⁻¹ dH L'⁻¹), Phi the lower triangle with half the diagonal. Then

    d log likelihood_j = Σ_k q_k ∂f(u_k) + (Σ_k q_k s_k)' dû − <dH, G>,    G = L'⁻¹ S L⁻¹,

S symmetric with (1 + B_aa)/2 on its diagonal and B_ab/2, a > b, beside it, B = Σ_k q_k x_k s_k' L'⁻¹ (zero for one
node). H moves by itself and with the mode, dû = H⁻¹ ∂f'(û) by the implicit function theorem. With t_i = z_i'T G T'z_i,
w_i' the slope of w_i in eta, h = H⁻¹ (Σ_k q_k s_k − T' Σ_i t_i w_i' z_i), K = Z'WZ and l' at û where no node is named,

    d/d eta_i = Σ_k q_k l_i'(u_k) − t_i w_i' − w_i z_i'T h
    d/d T = Σ_k q_k Z'l'(u_k) u_k' − 2 K T G − Σ_i (t_i w_i' + w_i z_i'T h) z_i û' + Z'l' h'
    d/d log phi = Σ_i Σ_k q_k ∂l_i(u_k) − t_i ∂w_i + z_i'T h ∂l_i'.
"""

from __future__ import annotations

from bayou._types import Array
from bayou.conditional.levels import FactorRows, Levels, LevelWork, level_eta
from bayou.families.codes import GAMMA_LOG, NEGATIVE_BINOMIAL_LOG
from bayou.families.slopes import dispersion_slopes, row_slopes
from bayou.jit import kernel, window

__all__ = ["block_slopes"]


@kernel(inner=True)
def _push(T: Array, levels: Levels, j: int, work: LevelWork, s: int, push: Array, shift: Array) -> None:
    """Push <- Σ q_k s_k and shift <- Σ q_k u_k − û, from the sums over the nodes."""
    p, per = T.shape[0], 1.0 / work.mass[s]
    for a in range(p):
        shift[a] = 0.0
        push[a] = -levels.u[j, a]
        for d in range(a, p):
            shift[a] += work.inverse[s, d, a] * work.mass_x[s, d] * per
            push[a] += T[d, a] * work.mass_c[s, d] * per
        push[a] -= shift[a]


@kernel(inner=True)
def _curvature_slope(T: Array, levels: Levels, j: int, work: LevelWork, s: int) -> None:
    """M <- G, F <- T G, N <- T G T'."""
    p, per = T.shape[0], 1.0 / work.mass[s]
    for a in range(p):  # N <- Σ q_k x_k s_k'
        for d in range(p):
            t = -work.mass_x[s, a] * levels.u[j, d]
            for m in range(d, p):
                t += work.mass_cx[s, m, a] * T[m, d] - work.mass_xx[s, a, m] * work.inverse[s, m, d]
            work.N[a, d] = t * per
    for a in range(p):  # H <- S
        for d in range(a + 1):
            t = 1.0 if a == d else 0.0
            for m in range(d + 1):
                t += work.N[a, m] * work.inverse[s, d, m]
            work.H[a, d] = 0.5 * t
            work.H[d, a] = 0.5 * t
    for a in range(p):
        for d in range(p):
            t = 0.0
            for k in range(a, p):
                for m in range(d, p):
                    t += work.inverse[s, k, a] * work.H[k, m] * work.inverse[s, m, d]
            work.M[a, d] = t
    for a in range(p):
        for d in range(p):
            t = 0.0
            for m in range(a + 1):
                t += T[a, m] * work.M[m, d]
            work.F[a, d] = t
    for a in range(p):
        for d in range(p):
            t = 0.0
            for m in range(d + 1):
                t += work.F[a, m] * T[d, m]
            work.N[a, d] = t


@kernel(inner=True)
def _solve(T: Array, work: LevelWork, s: int, push: Array, y: Array, h: Array, move: Array) -> None:
    """H <- L'⁻¹ L⁻¹ (push − T'y), move <- T h; push is overwritten."""
    p = T.shape[0]
    for a in range(p):
        for d in range(a, p):
            push[a] -= T[d, a] * y[d]
    for a in range(p - 1, -1, -1):
        t = 0.0
        for d in range(a + 1):
            t += work.inverse[s, a, d] * push[d]
        push[a] = t
    for a in range(p):
        h[a] = 0.0
        for d in range(a, p):
            h[a] += work.inverse[s, d, a] * push[d]
    for a in range(p):
        move[a] = 0.0
        for d in range(a + 1):
            move[a] += T[a, d] * h[d]


@kernel(inner=True)
def _in_dispersion(
    rows: FactorRows, at: int, low: int, count: int, dispersion: float, work: LevelWork, per: float, move: Array,
    shift: Array, d_dispersion: Array,
) -> None:  # fmt: skip
    """Fill in the derivatives of a level's rows in the log dispersion; `work.eta` holds t, `shift` is T (ū − û).

    What the slope of l_i in log phi adds over the nodes to its value at the mode is linear in l_i, l_i' and eta_i,
    whose means over the nodes are known: no node needs a slope of its own.
    """
    p = len(move)
    for i in range(count):
        k, r = at + i, low + i
        steer, way = 0.0, 0.0
        for a in range(p):
            steer += rows.Z[r, a] * move[a]
            way += rows.Z[r, a] * shift[a]
        value = work.mean_value[k] * per - work.mode_value[k]
        gradient = work.mean_gradient[k] * per - work.mode_gradient[k]
        if rows.code == NEGATIVE_BINOMIAL_LOG:
            spread = dispersion / (rows.y[r] + dispersion) * (value - rows.weights[r] * rows.y[r] * way) - gradient
        elif rows.code == GAMMA_LOG:
            spread = -rows.weights[r] * dispersion * way - gradient
        else:
            spread = -2.0 * value
        d_dispersion[r] = work.value[k] + spread - work.eta[k] * work.curvature[k] + steer * work.gradient[k]


@kernel(inner=True)
def block_slopes(
    rows: FactorRows, first: int, count: int, T: Array, dispersion: float, levels: Levels, work: LevelWork,
    has_dispersion: bool, d_eta: Array, d_T: Array, d_dispersion: Array,
) -> None:  # fmt: skip
    """Fill in the derivatives in the eta (and dispersion) of the rows of `count` levels; add those in T."""
    p, start = T.shape[0], rows.row_start[first]
    size = rows.row_start[first + count] - start
    push, h = window(work.vectors, 0, p), window(work.vectors, p, p)
    move, shift = window(work.vectors, 2 * p, p), window(work.vectors, 3 * p, p)
    y, side = window(work.vectors, 4 * p, p), window(work.vectors, 5 * p, p)
    for s in range(count):
        low = rows.row_start[first + s]
        u = window(levels.u, (first + s) * p, p)
        level_eta(rows, low, rows.row_start[first + s + 1] - low, T, u, y, work.eta, low - start)
    outcome, weights = window(rows.y, start, size), window(rows.weights, start, size)
    eta = window(work.eta, 0, size)
    row_slopes(
        rows.code, outcome, window(rows.trials, start, size), weights, eta, dispersion, window(work.mode_slope, 0, size)
    )
    if has_dispersion:
        dispersion_slopes(
            rows.code, outcome, weights, eta, dispersion,
            window(work.value, 0, size), window(work.gradient, 0, size), window(work.curvature, 0, size),
        )  # fmt: skip
    for s in range(count):
        j = first + s
        low, n = rows.row_start[j], rows.row_start[j + 1] - rows.row_start[j]
        at, per = low - start, 1.0 / work.mass[s]
        _push(T, levels, j, work, s, push, shift)
        _curvature_slope(T, levels, j, work, s)
        for a in range(p):
            y[a] = 0.0
        for i in range(n):
            t = 0.0
            for a in range(p):
                for d in range(p):
                    t += rows.Z[low + i, a] * work.N[a, d] * rows.Z[low + i, d]
            work.eta[at + i] = t
            t *= work.mode_slope[at + i]
            work.mode_slope[at + i] = t
            for a in range(p):
                y[a] += t * rows.Z[low + i, a]
        _solve(T, work, s, push, y, h, move)
        for i in range(n):
            steer = 0.0
            for a in range(p):
                steer += rows.Z[low + i, a] * move[a]
            d_eta[low + i] = (
                work.mean_gradient[at + i] * per - work.mode_slope[at + i] - work.mode_curvature[at + i] * steer
            )
        for a in range(p):
            for d in range(p):
                y[a] += work.K[s, a, d] * move[d]
        for a in range(p):
            for d in range(a + 1):
                t = (work.mass_c[s, a] * per - y[a]) * levels.u[j, d] + work.c[s, a] * h[d]
                for m in range(p):
                    # of Σ q_k Z'l'(u_k) (L'⁻¹ x_k)', and −2 K T G
                    if m >= d:
                        t += work.mass_cx[s, a, m] * per * work.inverse[s, m, d]
                    t -= 2.0 * work.K[s, a, m] * work.F[m, d]
                d_T[a, d] += t
        if has_dispersion:
            for a in range(p):
                side[a] = 0.0
                for d in range(a + 1):
                    side[a] += T[a, d] * shift[d]
            _in_dispersion(rows, at, low, n, dispersion, work, per, move, side, d_dispersion)

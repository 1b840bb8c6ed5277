"""What a shard does with its rows: one kernel for each word of a message (`bayou.cluster.words`).

The formulas are those of `engines.glmm`, for one grouping factor, with sums where a decision takes all shards.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from bayou._types import Array
from bayou.engines.glmm.groups import batch_end, equations, laplace_levels, walk_levels
from bayou.engines.glmm.regression import add_columns, add_normal_equations, quadratic, total
from bayou.families.rows import LANES, row_derivatives, row_log_density, row_means, row_values
from bayou.jit import kernel, window
from bayou.linalg.small import solve_lower, solve_lower_transposed

# those of `bayou.cluster.shards`: they have the fields of `Rows` and `Scratch` that the kernels of `engines.glmm` read
Block: TypeAlias = Any
Groups: TypeAlias = Any


@kernel(entry=True)
def set_predictor(block: Block, groups: Groups, beta: Array) -> None:
    """Eta from the offset, the fixed effects and the coefficients of the groups."""
    n, P, p = block.offset.shape[0], beta.shape[0], block.sizes[0]
    for r in range(n):
        groups.predictor[r] = block.offset[r]
    add_columns(block.X, 0, n, n, P, beta, 0, groups.predictor)
    for j in range(block.levels[0]):
        a = block.start[j]
        m = block.start[j + 1] - a
        add_columns(block.Z, a, n, m, p, groups.b, j * p, window(groups.predictor, a, m))


@kernel(entry=True)
def set_weights(block: Block, groups: Groups, sigma: Array) -> None:
    """Weights of the rows of a Gaussian response from its residual sds."""
    for r in range(block.offset.shape[0]):
        s = sigma[block.sigma[r]]
        groups.weights[r] = block.prior_weights[r] / (s * s)


@kernel(entry=True)
def likelihood(block: Block, groups: Groups, dispersion: float) -> float:
    """Log likelihood of the rows, up to a constant."""
    return row_log_density(
        block.code, block.y[0], block.trials[0], groups.weights, groups.predictor, dispersion, groups.work
    )


@kernel(entry=True)
def translate(block: Block, groups: Groups, d: Array) -> None:
    """Take u d off the coefficients of every group; the fixed effects gain it, and eta stays."""
    p = block.sizes[0]
    for e in range(d.shape[0]):
        k = block.coefficient[e]
        for j in range(block.levels[0]):
            groups.b[j * p + k] -= block.u[e, j] * d[e]


@kernel(entry=True)
def try_linear(block: Block, groups: Groups, into: int, source: int, factor: float, dispersion: float) -> float:
    """Log likelihood of b[into] + factor b[source] in place of b[into]."""
    n, p = block.offset.shape[0], block.sizes[0]
    for j in range(block.levels[0]):
        move = factor * groups.b[j * p + source]
        a = block.start[j]
        m = block.start[j + 1] - a
        z, here = window(block.Z, into * n + a, m), window(groups.predictor, a, m)
        new = window(groups.there, a, m)
        for r in range(m):
            new[r] = here[r] + z[r] * move
    return row_log_density(
        block.code, block.y[0], block.trials[0], groups.weights, groups.there, dispersion, groups.work
    )


@kernel(entry=True)
def take_linear(block: Block, groups: Groups, into: int, source: int, factor: float) -> None:
    """Accept what `try_linear` tried."""
    p = block.sizes[0]
    for j in range(block.levels[0]):
        groups.b[j * p + into] += factor * groups.b[j * p + source]
    arrive(groups)


@kernel
def arrive(groups: Groups) -> None:
    """Eta <- what was proposed."""
    for r in range(groups.predictor.shape[0]):
        groups.predictor[r] = groups.there[r]


@kernel(entry=True)
def take_there(groups: Groups) -> None:
    """Accept a move of the fixed effects."""
    arrive(groups)


@kernel(inner=True)
def _anchored(block: Block, groups: Groups, j: int, shift: Array, anchor: Array) -> None:
    p = block.sizes[0]
    for i in range(p):
        anchor[i] = groups.anchor[j * p + i]
    for e in range(block.coefficient.shape[0]):
        anchor[block.coefficient[e]] -= block.u[e, j] * shift[e]


@kernel(entry=True)
def carry(
    block: Block,
    groups: Groups,
    Q: Array,
    Q_new: Array,
    shift: Array,
    shift_new: Array,
    change: Array,
    moved: bool,
    dispersion: float,
    out: Array,
) -> None:
    """Carry all groups to proposed hyperparameters (`engines.glmm.carried`).

    ``out`` (2,) <- Σ [log|R_j| − log|R_j'| + ½ b'Q b − ½ b''Q' b'], and the log likelihood there.
    """
    n, P, p, J = block.offset.shape[0], change.shape[0], block.sizes[0], block.levels[0]
    now, new, g = groups.now, groups.new, groups.vectors[0]
    z, anchor, other, step = groups.own[0], groups.own[1], groups.own[2], groups.own[3]
    gradient, curvature, value = groups.gradient, groups.curvature, groups.value
    ratio, sum_of_rows, determinant = 0.0, 0.0, 1.0
    first = 0
    out[0] = -math.inf
    while first < J:
        last = batch_end(block, 0, first)
        low = block.start[first]
        m = block.start[last] - low
        y, trials = window(block.y, low, m), window(block.trials, low, m)
        w, eta = window(groups.weights, low, m), window(groups.predictor, low, m)
        here, there = window(groups.here, 0, m), window(groups.there, low, m)
        for r in range(m):
            here[r] = eta[r]
        for j in range(first, last):
            a, own = block.start[j] - low, block.start[j + 1] - block.start[j]
            _anchored(block, groups, j, shift, anchor)
            for i in range(p):
                step[i] = anchor[i] - groups.b[j * p + i]
            add_columns(block.Z, low + a, n, own, p, step, 0, window(here, a, own))
        for r in range(m):
            there[r] = here[r]
        if moved:
            add_columns(block.X, low, n, m, P, change, 0, there)
            for j in range(first, last):
                a, own = block.start[j] - low, block.start[j + 1] - block.start[j]
                _anchored(block, groups, j, shift, anchor)
                _anchored(block, groups, j, shift_new, other)
                for i in range(p):
                    step[i] = other[i] - anchor[i]
                add_columns(block.Z, low + a, n, own, p, step, 0, window(there, a, own))
        row_derivatives(block.code, y, trials, w, here, dispersion, value, gradient, curvature)
        for j in range(first, last):
            a, own = block.start[j] - low, block.start[j + 1] - block.start[j]
            b = window(groups.b, j * p, p)
            _anchored(block, groups, j, shift, anchor)
            if not equations(block, 0, low, a, own, Q, anchor, gradient, curvature, groups, now, g):
                return
            solve_lower(now, g, p)
            for i in range(p):
                t = -g[i]
                for k in range(i, p):
                    t += now[k, i] * (b[k] - anchor[k])
                groups.d[(j - first) * p + i] = t
                groups.diagonal[(j - first) * p + i] = now[i, i]
            ratio += 0.5 * quadratic(Q, b, p)
        row_derivatives(block.code, y, trials, w, there, dispersion, value, gradient, curvature)
        for j in range(first, last):
            a, own = block.start[j] - low, block.start[j + 1] - block.start[j]
            b_new = window(groups.proposed, j * p, p)
            _anchored(block, groups, j, shift_new, anchor)
            if not equations(block, 0, low, a, own, Q_new, anchor, gradient, curvature, groups, new, g):
                return
            solve_lower(new, g, p)
            for i in range(p):
                z[i] = g[i] + groups.d[(j - first) * p + i]
            solve_lower_transposed(new, z, p)
            for i in range(p):
                b_new[i] = anchor[i] + z[i]
            add_columns(block.Z, low + a, n, own, p, z, 0, window(there, a, own))
            for i in range(p):
                determinant *= groups.diagonal[(j - first) * p + i] / new[i, i]
            if not 1e-100 < determinant < 1e100:
                ratio += math.log(determinant)
                determinant = 1.0
            ratio -= 0.5 * quadratic(Q_new, b_new, p)
        row_values(block.code, y, trials, w, there, dispersion, value)
        sum_of_rows += total(value, 0, m)
        first = last
    out[0] = ratio + math.log(determinant)
    out[1] = sum_of_rows


@kernel(entry=True)
def take_carried(groups: Groups) -> None:
    """Accept what `carry` proposed."""
    for i in range(groups.b.shape[0]):
        groups.b[i] = groups.proposed[i]
    arrive(groups)


@kernel(entry=True)
def move_groups(
    block: Block,
    groups: Groups,
    Q: Array,
    L: Array,
    walking: bool,
    scale: float,
    length: float,
    dispersion: float,
    rng: np.random.Generator,
) -> int:
    """Every group by its own proposal; ``length`` as in `laplace_levels`. Returns how many were accepted."""
    J = block.levels[0]
    count, first = 0, 0
    while first < J:
        last = batch_end(block, 0, first)
        if walking:
            # their log likelihoods are not known: other moves have come between
            known = window(groups.ratio, 0, last - first)
            for j in range(last - first):
                known[j] = math.nan
            count += walk_levels(
                block, groups.weights, dispersion, 0, first, last, scale, L, Q, groups.b, groups.predictor,
                known, window(groups.weighted, 0, last - first), groups, rng,
            )  # fmt: skip
        else:
            count += laplace_levels(
                block, groups.weights, dispersion, 0, first, last, Q, groups.b, groups.predictor, length,
                window(groups.accepted, first, last - first), groups, rng,
            )  # fmt: skip
        first = last
    return count


@kernel(entry=True)
def group_sums(block: Block, groups: Groups, out: Array) -> None:
    """``out`` <- Σ_j b_j b_j' (lower triangle, row by row), then Σ_j u_ej b_j for every translation e."""
    p, J = block.sizes[0], block.levels[0]
    at = 0
    for i in range(p):
        for k in range(i + 1):
            t = 0.0
            for j in range(J):
                t += groups.b[j * p + i] * groups.b[j * p + k]
            out[at] = t
            at += 1
    for e in range(block.coefficient.shape[0]):
        for i in range(p):
            t = 0.0
            for j in range(J):
                t += block.u[e, j] * groups.b[j * p + i]
            out[at] = t
            at += 1


@kernel(entry=True)
def fixed_sums(
    block: Block, groups: Groups, step: Array, tried: bool, dispersion: float, H: Array, g: Array
) -> float:
    """H <- X'WX (lower triangle), g <- X'gradient; returns the log likelihood: here, or after a step of beta."""
    n, P = block.offset.shape[0], step.shape[0]
    for i in range(P):
        g[i] = 0.0
        for k in range(P):
            H[i, k] = 0.0
    sum_of_rows = 0.0
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        eta = window(groups.predictor, a, m)
        if tried:
            new = window(groups.there, a, m)
            for r in range(m):
                new[r] = eta[r]
            add_columns(block.X, a, n, m, P, step, 0, new)
            eta = new
        row_derivatives(
            block.code, window(block.y, a, m), window(block.trials, a, m), window(groups.weights, a, m), eta,
            dispersion, groups.value, groups.gradient, groups.curvature,
        )  # fmt: skip
        sum_of_rows += total(groups.value, 0, m)
        add_normal_equations(
            block.X, a, n, m, P, window(groups.gradient, 0, m), window(groups.curvature, 0, m), groups.weighted, H, g
        )
    return sum_of_rows


@kernel(entry=True)
def residual_squares(block: Block, groups: Groups, out: Array) -> None:
    """``out`` <- weighted squares of the residuals by level of the residual sd."""
    n = block.offset.shape[0]
    for s in range(out.shape[0]):
        out[s] = 0.0
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        mean = window(groups.gradient, 0, m)
        row_means(block.code, window(groups.predictor, a, m), mean)
        for r in range(m):
            e = block.y[0, a + r] - mean[r]
            out[block.sigma[a + r]] += block.prior_weights[a + r] * e * e


@kernel(entry=True)
def note(groups: Groups) -> None:
    """Add the coefficients to their sums."""
    for i in range(groups.b.shape[0]):
        groups.sum[i] += groups.b[i]


@kernel(entry=True)
def anchor(groups: Groups, scans: float) -> None:
    """Set the anchors to the means of the coefficients, and begin their sums anew."""
    for i in range(groups.b.shape[0]):
        groups.anchor[i] = groups.sum[i] / scans
        groups.sum[i] = 0.0

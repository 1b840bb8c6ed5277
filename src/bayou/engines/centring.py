"""Moves that leave the linear predictor as it is: fixed effects and group coefficients trade places.

If column c of X is Z_k times a number u_j for each level j of a factor (u = 1 for an intercept or a slope that
is also random; the value of a covariate that is constant within groups), then beta_c + d and b_jk − u_j d
describe the same rows. Drawing d given the rest is drawing beta_c with each group's own line held: the centred
sampler (Gelfand, Sahu & Carlin 1995; theta given beta_1 … beta_m in Hoff 2009), and it costs nothing per row.
Likewise between nested factors: a ward's intercepts may rise by d if those of its patients fall by d.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.design.passes import equal, parts
from bayou.jit import kernel, window
from bayou.linalg.schur import Border
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed

if TYPE_CHECKING:
    from bayou.design import Grouping
    from bayou.model import Model


class Centring(NamedTuple):
    """The moves of one model, factors counted in the order of an engine."""

    first: Integers  # (K + 1,) entries of each factor
    coefficient: Integers  # (E,) k
    direction: Array  # (E, P) what d does to the working fixed effects
    reading: Array  # (E, P) the printed fixed effect that a working one amounts to
    at: Integers  # (E,) where u begins
    u: Array
    moments: Array  # (E, E) Σ_j u_ej u_e'j within a factor
    prior: Array  # (E, E) direction_e' precision direction_e'
    covered: Integers  # (P,) whether some entry moves the fixed effect
    child: Integers  # (N,) nested pairs
    parent: Integers  # (N,)
    child_coefficient: Integers  # (N,)
    parent_coefficient: Integers  # (N,)
    at_map: Integers  # (N,) where the map from child to parent levels begins
    map: Integers
    at_count: Integers  # (N,)
    children: Array  # child levels of each parent level


def centring(model: Model, order: tuple[int, ...]) -> Centring:
    """Find every move of a model.

    Parameters
    ----------
    order
        The grouping factors in the order of the engine.
    """
    design, working = model.design, model.working
    groupings = [design.groupings[g] for g in order]
    P = len(working.mean)
    inverse = np.linalg.inv(working.to_printed) if P else np.zeros((0, 0))
    gaussian = P - len(working.codes)
    first, coefficient, direction, reading, u = [0], [], [], [], []
    covered = np.zeros(P, dtype=np.int64)
    for grouping in groupings:
        J = len(grouping.levels)
        for c, name in enumerate(design.coefficients):
            moved = inverse[:, c]
            # an awkward prior would have to be accepted or rejected: those effects have their own step
            if moved[gaussian:].any():
                continue
            names = [name] if name in grouping.coefficients else list(grouping.coefficients)
            for other in names:
                k = grouping.coefficients.index(other)
                values = _multiplier(design.X[:, c], grouping.Z[:, k], grouping.codes, J)
                if values is not None:
                    coefficient.append(k)
                    direction.append(moved)
                    reading.append(working.to_printed[c])
                    u.append(values)
                    covered[model.working_position(c)] = 1
                    break
        first.append(len(u))
    E = len(u)
    moments = np.zeros((E, E))
    for low, high in zip(first[:-1], first[1:], strict=True):
        if high > low:
            block = np.stack(u[low:high])
            moments[low:high, low:high] = block @ block.T
    directions = np.array(direction).reshape(E, P)
    at = starts_of([len(v) for v in u])
    for low, high in zip(first[:-1], first[1:], strict=True):
        for e in range(low + 1, high):
            if np.array_equal(u[e], u[e - 1]):
                at[e] = at[e - 1]  # their sums over the levels are computed once
    pairs = _nested(groupings)
    return Centring(
        first=np.array(first, dtype=np.int64),
        coefficient=np.array(coefficient, dtype=np.int64),
        direction=np.ascontiguousarray(directions),
        reading=np.array(reading).reshape(E, P),
        at=at,
        u=np.concatenate(u) if u else np.zeros(0),
        moments=moments,
        prior=directions @ working.precision @ directions.T,
        covered=covered,
        child=np.array([p[0] for p in pairs], dtype=np.int64),
        parent=np.array([p[1] for p in pairs], dtype=np.int64),
        child_coefficient=np.array([p[2] for p in pairs], dtype=np.int64),
        parent_coefficient=np.array([p[3] for p in pairs], dtype=np.int64),
        at_map=starts_of([len(p[4]) for p in pairs]),
        map=np.concatenate([p[4] for p in pairs]) if pairs else np.zeros(0, dtype=np.int64),
        at_count=starts_of([len(p[5]) for p in pairs]),
        children=np.concatenate([p[5] for p in pairs]) if pairs else np.zeros(0),
    )


def _multiplier(x: Array, z: Array, codes: Integers, J: int) -> Array | None:
    """Return u with x = z u[codes], or None."""
    if equal(x, z):
        return np.ones(J)
    u, scale = np.zeros(J), 0.0
    for part in parts(len(x)):
        used = z[part] != 0.0
        u[codes[part][used]] = x[part][used] / z[part][used]
        scale = max(scale, float(np.abs(x[part]).max()))
    if not u.any():
        return None
    for part in parts(len(x)):
        if np.abs(x[part] - z[part] * u[codes[part]]).max() > 1e-12 * (scale or 1.0):
            return None
    return u


def _nested(groupings: list[Grouping]) -> list[tuple[int, int, int, int, Integers, Array]]:
    """Pairs (child, parent, coefficient there and here, parent of each child level, children of each parent)."""
    pairs = []
    for f, child in enumerate(groupings):
        for g, parent in enumerate(groupings):
            if f == g or len(parent.levels) >= len(child.levels):
                continue
            above = np.zeros(len(child.levels), dtype=np.int64)
            for part in parts(len(child.codes)):
                above[child.codes[part]] = parent.codes[part]
            if not all(
                np.array_equal(above[child.codes[part]], parent.codes[part]) for part in parts(len(child.codes))
            ):
                continue
            for k, name in enumerate(child.coefficients):
                if name in parent.coefficients:
                    count = np.bincount(above, minlength=len(parent.levels)).astype(np.float64)
                    pairs.append((f, g, k, parent.coefficients.index(name), above, count))
    return pairs


def starts_of(lengths: list[int]) -> Integers:
    """Return where each piece begins when pieces of these lengths stand one after the other."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)


@kernel(inner=True)
def move_centres(
    moves: Centring,
    f: int,
    J: int,
    p: int,
    b: Array,
    at: int,
    Q: Array,
    border: Border,
    beta: Array,
    work: Array,
    vectors: Array,
    rng: np.random.Generator,
) -> None:
    """Draw all shifts d of factor f; its coefficients stand in ``b`` from ``at`` on, level by level.

    The density of d is N(beta + Σ_e d_e direction_e; prior) Π_j N(b_j − Σ_e d_e u_ej e_k; 0, Q_f⁻¹).
    """
    low = moves.first[f]
    n = moves.first[f + 1] - low
    if n == 0:
        return
    P = beta.shape[0]
    L, d, slack, sums = work[0], vectors[0], vectors[1], vectors[2]
    for a in range(P):
        t = border.linear[a]
        for c in range(P):
            t -= border.precision[a, c] * beta[c]
        slack[a] = t
    for r in range(n):
        e = low + r
        k = moves.coefficient[e]
        if r == 0 or moves.at[e] != moves.at[e - 1]:
            u = window(moves.u, moves.at[e], J)
            for i in range(p):
                sums[i] = 0.0
            for j in range(J):
                for i in range(p):
                    sums[i] += u[j] * b[at + j * p + i]
        t = 0.0
        for i in range(p):
            t += Q[f, k, i] * sums[i]
        for a in range(P):
            t += moves.direction[e, a] * slack[a]
        d[r] = t
        for c in range(r + 1):
            L[r, c] = moves.prior[e, low + c] + moves.moments[e, low + c] * Q[f, k, moves.coefficient[low + c]]
    # flat priors and fewer groups than group-level columns: no such move
    if not cholesky(L, L, n):
        return
    solve_lower(L, d, n)
    for r in range(n):
        d[r] += rng.standard_normal()
    solve_lower_transposed(L, d, n)
    for r in range(n):
        e = low + r
        for a in range(P):
            beta[a] += moves.direction[e, a] * d[r]
        for j in range(J):
            b[at + j * p + moves.coefficient[e]] -= moves.u[moves.at[e] + j] * d[r]


@kernel(inner=True)
def move_nested(
    moves: Centring,
    pair: int,
    child: Array,
    at_child: int,
    p_child: int,
    J_child: int,
    parent: Array,
    at_parent: int,
    p_parent: int,
    J_parent: int,
    Q: Array,
    sums: Array,
    rng: np.random.Generator,
) -> None:
    """For every level of the parent, draw the shift that its coefficient gains and its children's lose.

    ``sums`` is scratch with room for the parent's levels.
    """
    f, g = moves.child[pair], moves.parent[pair]
    k, m = moves.child_coefficient[pair], moves.parent_coefficient[pair]
    for level in range(J_parent):
        t = 0.0
        for i in range(p_parent):
            t -= Q[g, m, i] * parent[at_parent + level * p_parent + i]
        sums[level] = t
    for j in range(J_child):
        t = 0.0
        for i in range(p_child):
            t += Q[f, k, i] * child[at_child + j * p_child + i]
        sums[moves.map[moves.at_map[pair] + j]] += t
    for level in range(J_parent):
        precision = Q[g, m, m] + moves.children[moves.at_count[pair] + level] * Q[f, k, k]
        sums[level] = sums[level] / precision + rng.standard_normal() / math.sqrt(precision)
        parent[at_parent + level * p_parent + m] += sums[level]
    for j in range(J_child):
        child[at_child + j * p_child + k] -= sums[moves.map[moves.at_map[pair] + j]]

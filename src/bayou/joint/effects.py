"""Coefficients of effects from their coordinates, the log density of these, and derivatives through both.

Coordinates are standard normal a priori (whitened) or the coefficients themselves (centred), the latter in a fixed
basis where there are constraints; directions that a prior leaves free are coordinates with density one. Conditional
ones are about standard normal a posteriori, whatever theta is (`bayou.joint.conditional`). With z standard normal,

    groups:      b_j = L z_j,
    structures:  f = B diag(sd s_i) z + F w,     s_i = ((1 − rho) + rho v_i)^power, or 1 where there is only an sd,
    ar1:         f_1 = sd z_1,  f_{i+1} = r f_i + sd √(1 − r²) z_{i+1},   r = rho^gap,

B B' being the covariance of the structure with sd one, F its free directions. B and v are those of the eigenvectors of
the precision (`car`, `leroux`: power −½), or of the covariance of f alone (`bym2`: power ½, its spatial part integrated
out). The log densities leave out constants.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.jit import kernel, window
from bayou.joint.autoregression import build_autoregression, pull_autoregression, step_of
from bayou.joint.bases import build_basis, dot, pull_basis
from bayou.joint.codes import AUTOREGRESSION, BASIS, CONDITIONAL, GROUPS, MIXED_BASIS
from bayou.joint.conditional import fill_right, normal_of
from bayou.joint.groups import build_groups, pull_groups
from bayou.joint.tables import Parts, Work
from bayou.linalg.small import solve_lower

__all__ = ["build", "pull", "unbuild"]


@kernel(inner=True)
def build(parts: Parts, work: Work) -> float:
    """Fill the coefficients u from theta and v; returns the log density of v, and of covariances as blocks."""
    total = 0.0
    for place in range(parts.kind.shape[0]):
        c = parts.order[place]
        if parts.kind[c] == GROUPS:
            total += build_groups(parts, work, c)
        elif parts.kind[c] == AUTOREGRESSION:
            total += build_autoregression(parts, work, c)
        else:
            total += build_basis(parts, work, c)
    return total


@kernel(inner=True)
def pull(parts: Parts, work: Work) -> None:
    """From the slope by u to those by v, and by theta and fixed effects, to which it is added."""
    C = parts.kind.shape[0]
    for place in range(C):
        c = parts.order[C - 1 - place]
        if parts.kind[c] == GROUPS:
            pull_groups(parts, work, c)
        elif parts.kind[c] == AUTOREGRESSION:
            pull_autoregression(parts, work, c)
        else:
            pull_basis(parts, work, c)


@kernel(inner=True)
def unbuild(parts: Parts, work: Work, given: Array) -> None:
    """Fill v from coefficients (N,), the inverse of `build`; factors and scales must be there."""
    P = work.printed.shape[0]
    for j in range(given.shape[0]):
        work.u[j] = given[j]
    for c in range(parts.kind.shape[0]):
        r, m, free, kind = parts.ranks[c], parts.size[c], parts.free[c], parts.kind[c]
        form, first, start = parts.form[c], parts.first[c], parts.start[c]
        if form == CONDITIONAL:
            fill_right(parts, work, c, parts.copies[c] * (r + free))
        for copy in range(parts.copies[c]):
            v = window(work.v, start + copy * (r + free), r + free)
            u = window(given, parts.at[c] + copy * m, m)
            own = start - P + copy * (r + free)
            if kind == BASIS or kind == MIXED_BASIS:
                for i in range(r + free):
                    v[i] = dot(u, window(parts.duals, parts.basis[c] + i * m, m), m)
                    if form and i < r:
                        v[i] /= work.scale[start - P + i]
                    if form == CONDITIONAL and i < r:
                        curvature = parts.curvature[parts.curvature_at[c] + copy * (r + free) + i]
                        v[i] = normal_of(v[i], work.scale[start - P + i], curvature, work.right[own + i])
                continue
            for i in range(m):
                v[i] = u[i]
            if form and kind == GROUPS:
                solve_lower(work.L[c], v, m)
                if form == CONDITIONAL and m == 1:
                    curvature = parts.curvature[parts.curvature_at[c] + copy]
                    v[0] = normal_of(v[0], work.L[c, 0, 0], curvature, work.right[own])
                elif form == CONDITIONAL:
                    # z = C'u − C⁻¹ L'r
                    C = window(work.corner, parts.curvature_at[c] + copy * m * m, m * m)
                    for i in range(m):
                        t, s = 0.0, 0.0
                        for k in range(i, m):
                            t += C[k * m + i] * v[k]
                            s += work.L[c, k, i] * work.right[own + k]
                        for k in range(i):
                            s -= C[i * m + k] * work.line[k]
                        work.line[i] = s / C[i * m + i]
                        v[i] = t - work.line[i]
            elif form:
                sd = math.exp(work.theta[first])
                for i in range(m - 1, 0, -1):
                    gap = parts.weights[parts.weight[c] + i - 1]
                    rho, _, left = step_of(work.theta[first + 1], gap, parts.whole[c])
                    v[i] = (u[i] - rho * u[i - 1]) / (sd * math.sqrt(left))
                v[0] = u[0] / sd

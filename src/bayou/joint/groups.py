"""Coefficients of the levels of a factor from their coordinates, and derivatives; see `bayou.joint.effects`."""

from __future__ import annotations

import math

from bayou.jit import kernel, window
from bayou.joint.blocks import factor_block, matrix_prior, pull_back
from bayou.joint.codes import CONDITIONAL
from bayou.joint.conditional import build_level, build_one, fill_right, give_back, pull_level, pull_one
from bayou.joint.tables import Parts, Work
from bayou.linalg.small import solve_lower, solve_lower_transposed

__all__ = ["build_groups", "pull_groups"]


@kernel(inner=True)
def _build_levels(parts: Parts, work: Work, c: int) -> float:
    """Fill u and return the log density for conditional coefficients, one for each level."""
    J, P, sd, total = parts.copies[c], work.printed.shape[0], work.L[c, 0, 0], 0.0
    start = parts.start[c]
    fill_right(parts, work, c, J)
    for j in range(J):
        curvature, right = parts.curvature[parts.curvature_at[c] + j], work.right[start - P + j]
        normal, value = build_one(work.v[start + j], sd, curvature, right)
        work.normal[start - P + j] = normal
        work.u[parts.at[c] + j] = sd * normal
        total += value
    return total


@kernel(inner=True)
def _build_blocks(parts: Parts, work: Work, c: int) -> float:
    """Fill u and return the log density for conditional coefficients, p for each level."""
    p, J, at, start, total = parts.size[c], parts.copies[c], parts.curvature_at[c], parts.start[c], 0.0
    own = start - work.printed.shape[0]
    fill_right(parts, work, c, J * p)
    for j in range(J):
        total += build_level(
            p, work.L[c], parts.curvature, work.corner, at + j * p * p, window(work.right, own + j * p, p),
            window(work.v, start + j * p, p), window(work.normal, own + j * p, p), work.small,
        )  # fmt: skip
        u = window(work.u, parts.at[c] + j * p, p)
        for i in range(p):
            t = 0.0
            for k in range(i + 1):
                t += work.L[c, i, k] * work.normal[own + j * p + k]
            u[i] = t
    return total


@kernel(inner=True)
def build_groups(parts: Parts, work: Work, c: int) -> float:
    """Fill L, G with the slope of the prior by L, and u; returns the log density of theta's block and of v."""
    p, J, first = parts.size[c], parts.copies[c], parts.first[c]
    v, u = window(work.v, parts.start[c], J * p), window(work.u, parts.at[c], J * p)
    L, G = work.L[c], work.G[c]
    total = 0.0
    if p == 1:
        G[0, 0], L[0, 0] = 0.0, math.exp(work.theta[first])
        if parts.form[c] == CONDITIONAL:
            return _build_levels(parts, work, c)
        sd = L[0, 0] if parts.form[c] else 1.0
        for j in range(J):
            u[j] = sd * v[j]
            total += v[j] * v[j]
        return -0.5 * total if parts.form[c] else -0.5 * total / (L[0, 0] * L[0, 0]) - J * work.theta[first]
    value = factor_block(work.theta, first, p, parts.exponents[c], L, work.slope)
    for i in range(p):
        for k in range(i + 1):
            G[i, k] = 0.0
    if parts.matrix[c]:
        value += matrix_prior(parts.blocks, c, L, G, work.inverse, work.inner)
        for i in range(p):
            value += (p + 1.0) * work.theta[first + i]
            work.slope[first + i] += p + 1.0
    if parts.form[c] == CONDITIONAL:
        return value + _build_blocks(parts, work, c)
    for j in range(J):
        own, out = window(v, j * p, p), window(u, j * p, p)
        if parts.form[c]:
            for i in range(p):
                t = 0.0
                for k in range(i + 1):
                    t += L[i, k] * own[k]
                out[i] = t
                total += own[i] * own[i]
            continue
        for i in range(p):
            out[i] = own[i]
            work.line[i] = own[i]
        solve_lower(L, work.line, p)
        for i in range(p):
            total += work.line[i] * work.line[i]
    value -= 0.5 * total
    if not parts.form[c]:
        for i in range(p):
            value -= J * math.log(L[i, i])
    return value


@kernel(inner=True)
def pull_groups(parts: Parts, work: Work, c: int) -> None:
    """From the slope by u to those by v and by theta."""
    p, J, first = parts.size[c], parts.copies[c], parts.first[c]
    v, out = window(work.v, parts.start[c], J * p), window(work.v_slope, parts.start[c], J * p)
    slope = window(work.u_slope, parts.at[c], J * p)
    L, G = work.L[c], work.G[c]
    if p == 1:
        sd, t = L[0, 0], 0.0
        if parts.form[c] == CONDITIONAL:
            own = parts.start[c] - work.printed.shape[0]
            for j in range(J):
                curvature, normal = parts.curvature[parts.curvature_at[c] + j], work.normal[own + j]
                right = work.right[own + j]
                out[j], by_log, work.right[own + j] = pull_one(v[j], sd, curvature, right, normal, slope[j])
                t += by_log
            work.slope[first] += t
            give_back(parts, work, c, J)
            return
        if parts.form[c]:
            for j in range(J):
                t += slope[j] * v[j]
                out[j] = sd * slope[j] - v[j]
            work.slope[first] += sd * t
            return
        precision = 1.0 / (sd * sd)
        for j in range(J):
            t += v[j] * v[j]
            out[j] = slope[j] - precision * v[j]
        work.slope[first] += precision * t - J
        return
    if parts.form[c] == CONDITIONAL:
        at = parts.start[c] - work.printed.shape[0]
        for j in range(J):
            pull_level(
                p, L, G, parts.curvature, work.corner, parts.curvature_at[c] + j * p * p,
                window(work.right, at + j * p, p), window(v, j * p, p), window(work.normal, at + j * p, p),
                window(slope, j * p, p), window(out, j * p, p), work.line, work.small,
            )  # fmt: skip
        give_back(parts, work, c, J * p)
        pull_back(work.theta, first, p, L, G, work.slope)
        return
    for j in range(J):
        own, here, given = window(v, j * p, p), window(out, j * p, p), window(slope, j * p, p)
        if parts.form[c]:
            for k in range(p):
                t = 0.0
                for i in range(k, p):
                    t += L[i, k] * given[i]
                    G[i, k] += given[i] * own[k]
                here[k] = t - own[k]
            continue
        for i in range(p):
            work.line[i] = own[i]
        solve_lower(L, work.line, p)
        for i in range(p):
            here[i] = work.line[i]
        solve_lower_transposed(L, work.line, p)
        for i in range(p):
            for k in range(i + 1):
                G[i, k] += work.line[i] * here[k]
        for i in range(p):
            here[i] = given[i] - work.line[i]
    if not parts.form[c]:
        for i in range(p):
            G[i, i] -= J / L[i, i]
    pull_back(work.theta, first, p, L, G, work.slope)

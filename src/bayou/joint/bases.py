"""Structured effects on a fixed basis from their coordinates, and derivatives; see `bayou.joint.effects`."""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.jit import kernel, window
from bayou.joint.codes import CONDITIONAL, MIXED_BASIS
from bayou.joint.conditional import build_one, fill_right, give_back, pull_one
from bayou.joint.tables import Parts, Work

__all__ = ["build_basis", "dot", "pull_basis"]


@kernel(inner=True, contract=True)
def dot(a: Array, b: Array, n: int) -> float:
    """Return a'b, in four sums so that it runs in vectors."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    m = n - n % 4
    for i in range(0, m, 4):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
    for i in range(m, n):
        s0 += a[i] * b[i]
    return (s0 + s1) + (s2 + s3)


@kernel(inner=True)
def build_basis(parts: Parts, work: Work, c: int) -> float:
    """Fill the sds of its coordinates, and u; returns the log density of v."""
    r, m, first, free = parts.ranks[c], parts.size[c], parts.first[c], parts.free[c]
    log_sd, power = work.theta[first], parts.power[c]
    sd, start = math.exp(log_sd), parts.start[c] - work.printed.shape[0]
    scale, slope = window(work.scale, start, r), window(work.scale_slope, start, r)
    weights = window(parts.weights, parts.weight[c], r)
    log_scales = r * log_sd
    rho, other = 0.0, 1.0
    if parts.kind[c] == MIXED_BASIS:
        t = work.theta[first + 1]
        e = math.exp(-abs(t))
        larger = 1.0 / (1.0 + e)
        rho, other = (larger, e * larger) if t >= 0.0 else (e * larger, larger)
    for i in range(r):
        scale[i], slope[i] = sd, 0.0
        if parts.kind[c] == MIXED_BASIS:
            mixed = other + rho * weights[i]
            log_mixed = power * math.log(mixed)
            scale[i] *= math.exp(log_mixed)
            slope[i] = power * (weights[i] - 1.0) * rho * other / mixed
            log_scales += log_mixed
    total, extra = 0.0, 0.0
    if parts.form[c] == CONDITIONAL:
        fill_right(parts, work, c, parts.copies[c] * (r + free))
    for copy in range(parts.copies[c]):
        v = window(work.v, parts.start[c] + copy * (r + free), r + free)
        u = window(work.u, parts.at[c] + copy * m, m)
        for k in range(m):
            u[k] = 0.0
        for i in range(r + free):
            t = v[i]
            if i < r and parts.form[c] == CONDITIONAL:
                at = copy * (r + free) + i
                curvature = parts.curvature[parts.curvature_at[c] + at]
                t, value = build_one(v[i], scale[i], curvature, work.right[start + at])
                work.normal[start + at] = t
                extra += value
                t *= scale[i]
            elif i < r and parts.form[c]:
                total += t * t
                t *= scale[i]
            elif i < r:
                total += (t / scale[i]) * (t / scale[i])
            basis = window(parts.bases, parts.basis[c] + i * m, m)
            for k in range(m):
                u[k] += t * basis[k]
    return extra - 0.5 * total - (0.0 if parts.form[c] else parts.copies[c] * log_scales)


@kernel(inner=True)
def pull_basis(parts: Parts, work: Work, c: int) -> None:
    """From the slope by u to those by v and by theta."""
    r, m, first, free = parts.ranks[c], parts.size[c], parts.first[c], parts.free[c]
    start = parts.start[c] - work.printed.shape[0]
    scale, slope = window(work.scale, start, r), window(work.scale_slope, start, r)
    by_sd, by_share = 0.0, 0.0
    for copy in range(parts.copies[c]):
        at = parts.start[c] + copy * (r + free)
        v, out = window(work.v, at, r + free), window(work.v_slope, at, r + free)
        given = window(work.u_slope, parts.at[c] + copy * m, m)
        for i in range(r + free):
            g = dot(given, window(parts.bases, parts.basis[c] + i * m, m), m)
            if i >= r:
                out[i] = g
                if parts.form[c] == CONDITIONAL:
                    work.right[start + copy * (r + free) + i] = 0.0
            elif parts.form[c] == CONDITIONAL:
                k = copy * (r + free) + i
                curvature, normal = parts.curvature[parts.curvature_at[c] + k], work.normal[start + k]
                out[i], t, work.right[start + k] = pull_one(
                    v[i], scale[i], curvature, work.right[start + k], normal, g
                )
                by_sd += t
                by_share += t * slope[i]
            elif parts.form[c]:
                t = g * v[i] * scale[i]
                out[i] = g * scale[i] - v[i]
                by_sd += t
                by_share += t * slope[i]
            else:
                z = v[i] / scale[i]
                out[i] = g - z / scale[i]
                by_sd += z * z - 1.0
                by_share += (z * z - 1.0) * slope[i]
    if parts.form[c] == CONDITIONAL:
        give_back(parts, work, c, parts.copies[c] * (r + free))
    work.slope[first] += by_sd
    if parts.kind[c] == MIXED_BASIS:
        work.slope[first + 1] += by_share

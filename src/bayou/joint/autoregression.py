"""First-order autoregressions from their coordinates, and derivatives; see `bayou.joint.effects`."""

from __future__ import annotations

import math

from bayou.jit import kernel, window
from bayou.joint.tables import Parts, Work

__all__ = ["build_autoregression", "pull_autoregression", "step_of"]


@kernel(inner=True)
def step_of(t: float, gap: float, whole: int) -> tuple[float, float, float]:
    """Return r = rho^gap, dr/dt and 1 − r²; rho = tanh t where gaps are whole, else expit t."""
    if whole:
        e = math.exp(-2.0 * abs(t))
        size = (1.0 - e) / (1.0 + e)
        log_rho = math.log(size) if size > 0.0 else -math.inf
        speed = 4.0 * e / ((1.0 + e) * (1.0 + e))
        odd = gap % 2.0 == 1.0
        below = 1.0 if gap == 1.0 else math.exp((gap - 1.0) * log_rho)
        r = below * size
        sign = -1.0 if t < 0.0 else 1.0
        return (sign * r if odd else r), gap * below * speed * (1.0 if odd else sign), -math.expm1(2.0 * gap * log_rho)
    log_rho = -math.log1p(math.exp(-t)) if t > 0.0 else t - math.log1p(math.exp(t))
    r = math.exp(gap * log_rho)
    return r, gap * r / (1.0 + math.exp(t)), -math.expm1(2.0 * gap * log_rho)


@kernel(inner=True)
def build_autoregression(parts: Parts, work: Work, c: int) -> float:
    """Fill u; returns the log density of v."""
    m, first = parts.size[c], parts.first[c]
    log_sd, t = work.theta[first], work.theta[first + 1]
    sd, total, logs = math.exp(log_sd), 0.0, 0.0
    gaps = window(parts.weights, parts.weight[c], m - 1)
    for copy in range(parts.copies[c]):
        v, u = window(work.v, parts.start[c] + copy * m, m), window(work.u, parts.at[c] + copy * m, m)
        u[0] = sd * v[0] if parts.form[c] else v[0]
        z = u[0] / sd
        total += z * z
        r, left, last = 0.0, 1.0, -1.0
        for i in range(1, m):
            if gaps[i - 1] != last:
                last = gaps[i - 1]
                r, _, left = step_of(t, last, parts.whole[c])
            if parts.form[c]:
                total += v[i] * v[i]
                u[i] = r * u[i - 1] + sd * math.sqrt(left) * v[i]
                continue
            u[i] = v[i]
            z = (u[i] - r * u[i - 1]) / sd
            total += z * z / left
            logs += 0.5 * math.log(left)
    return -0.5 * total - (0.0 if parts.form[c] else parts.copies[c] * m * log_sd + logs)


@kernel(inner=True)
def pull_autoregression(parts: Parts, work: Work, c: int) -> None:
    """From the slope by u to those by v and by theta."""
    m, first = parts.size[c], parts.first[c]
    t = work.theta[first + 1]
    sd, by_sd, by_rho = math.exp(work.theta[first]), 0.0, 0.0
    gaps = window(parts.weights, parts.weight[c], m - 1)
    for copy in range(parts.copies[c]):
        at = parts.start[c] + copy * m
        v, out = window(work.v, at, m), window(work.v_slope, at, m)
        u, given = window(work.u, parts.at[c] + copy * m, m), window(work.u_slope, parts.at[c] + copy * m, m)
        r, speed, left, last, carried = 0.0, 0.0, 1.0, -1.0, 0.0
        if not parts.form[c]:
            for i in range(m):
                out[i] = given[i]
        for i in range(m - 1, 0, -1):
            if gaps[i - 1] != last:
                last = gaps[i - 1]
                r, speed, left = step_of(t, last, parts.whole[c])
            root = math.sqrt(left)
            if parts.form[c]:
                carried += given[i]
                by_sd += given[i] * u[i]
                by_rho += carried * speed * (u[i - 1] - sd * v[i] * r / root)
                out[i] = carried * sd * root - v[i]
                carried *= r
                continue
            z = (u[i] - r * u[i - 1]) / (sd * root)
            by_sd += z * z - 1.0
            # dz/dt = −r' u/(sd root) + z r r'/left, and log root moves by −r r'/left
            by_rho += z * speed * u[i - 1] / (sd * root) + (1.0 - z * z) * r * speed / left
            out[i] -= z / (sd * root)
            out[i - 1] += z * r / (sd * root)
        if parts.form[c]:
            carried += given[0]
            by_sd += given[0] * u[0]
            out[0] = carried * sd - v[0]
        else:
            z = u[0] / sd
            by_sd += z * z - 1.0
            out[0] -= z / sd
    work.slope[first] += by_sd
    work.slope[first + 1] += by_rho

"""The joint log density and its gradient at a position, as one kernel; and the ways there and back for draws."""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.jit import kernel, window
from bayou.joint.effects import build, pull, unbuild
from bayou.joint.hyper import log_expit, place_hyper, prior_slope
from bayou.joint.rows import likelihood
from bayou.joint.tables import Fixed, Job, Map, Work
from bayou.linalg.sparse import backward, forward
from bayou.priors.table import prior_log_density

__all__ = ["BOUNDED", "POSITIVE", "evaluate", "pack", "unpack"]

LINE, POSITIVE, BOUNDED = range(3)  # supports of fixed effects
FARTHEST = 250.0


@kernel(inner=True)
def _spread(map: Map, work: Work, q: Array) -> None:
    """Fill ``raw`` and ``v`` from a position."""
    d = work.theta.shape[0]
    mapped = map.theta_centre.shape[0] > 0
    for k in range(d):
        t = map.theta_centre[k] if mapped else q[k]
        if mapped:
            for j in range(d):
                t += map.theta_root[k, j] * q[j]
        work.raw[k] = t
    if map.sparse:
        for j in range(work.v.shape[0]):
            work.v_slope[j] = q[d + j]
        backward(map.symbolic, map.factor, work.v_slope, work.v)
        for j in range(work.v.shape[0]):
            work.v[j] += map.centre[j]
        return
    for j in range(work.v.shape[0]):
        work.v[j] = map.centre[j] + q[d + j]
    for k in range(map.lead.shape[0]):
        t = map.centre[map.lead[k]]
        for j in range(k + 1):
            t += map.root[k, j] * q[d + map.lead[j]]
        work.v[map.lead[k]] = t


@kernel(inner=True)
def _gathered(map: Map, work: Work, gradient: Array) -> None:
    """Fill the gradient by a position from those by ``raw`` (in ``direct``) and by ``v``."""
    d = work.theta.shape[0]
    mapped = map.theta_centre.shape[0] > 0
    for j in range(d):
        t = 0.0 if mapped else work.direct[j]
        if mapped:
            for k in range(d):
                t += map.theta_root[k, j] * work.direct[k]
        gradient[j] = t
    if map.sparse:
        forward(map.symbolic, map.factor, work.v_slope, work.ordered)
        for j in range(work.v.shape[0]):
            gradient[d + j] = work.ordered[j]
        return
    for j in range(work.v.shape[0]):
        gradient[d + j] = work.v_slope[j]
    K = map.lead.shape[0]
    for k in range(K):
        gradient[d + map.lead[k]] = 0.0
    for k in range(K):
        t = work.v_slope[map.lead[k]]
        for j in range(k + 1):
            gradient[d + map.lead[j]] += map.root[k, j] * t


@kernel(inner=True)
def _place_fixed(fixed: Fixed, work: Work) -> float:
    """Fill the fixed effects, the slope of their log prior in ``side`` and of log Jacobians in ``beta_direct``."""
    P, m = work.beta.shape[0], fixed.codes.shape[0]
    total = 0.0
    for k in range(P):
        t = work.v[k]
        work.beta[k], work.beta_rate[k], work.beta_direct[k] = t, 1.0, 0.0
        if fixed.support[k] == POSITIVE:
            if not abs(t) < FARTHEST:
                return -math.inf
            work.beta[k] = math.exp(t)
            work.beta_rate[k], work.beta_direct[k] = work.beta[k], 1.0
            total += t
        elif fixed.support[k] == BOUNDED:
            log_share, log_rest = log_expit(t), log_expit(-t)
            share, rest, width = math.exp(log_share), math.exp(log_rest), fixed.high[k] - fixed.low[k]
            work.beta[k] = fixed.low[k] + width * share
            work.beta_rate[k], work.beta_direct[k] = width * share * rest, rest - share
            total += math.log(width) + log_share + log_rest
    for k in range(P):
        t = 0.0
        for j in range(P):
            t -= fixed.precision[k, j] * (work.beta[j] - fixed.mean[j])
        work.side[k] = t
        total += 0.5 * t * (work.beta[k] - fixed.mean[k])
    for i in range(m):
        k = P - m + i
        a, b, c = fixed.parameters[i, 0], fixed.parameters[i, 1], fixed.parameters[i, 2]
        if fixed.support[k] != BOUNDED:  # there rounding may reach the ends, and the density is constant
            total += prior_log_density(fixed.codes[i], a, b, c, work.beta[k])
            work.side[k] += prior_slope(fixed.codes[i], a, b, c, work.beta[k])
    for k in range(P):
        t = 0.0
        for j in range(P):
            t += fixed.to_printed[k, j] * work.beta[j]
        work.printed[k] = t
    return total


@kernel(inner=True)
def _pull_fixed(fixed: Fixed, work: Work) -> None:
    P = work.beta.shape[0]
    for j in range(P):
        t = work.side[j]
        for k in range(P):
            t += fixed.to_printed[k, j] * work.printed_slope[k]
        work.v_slope[j] = t * work.beta_rate[j] + work.beta_direct[j]


@kernel(inner=True)
def _place(job: Job, q: Array) -> float:
    """Fill everything up to the coefficients; returns the log prior, Jacobians in, up to a constant."""
    data, work = job.data, job.work
    _spread(data.map, work, q)
    total = place_hyper(data.hyper, work.raw, work.theta, work.rate, work.slope, work.direct)
    if not total > -math.inf:
        return -math.inf
    return total + _place_fixed(data.fixed, work) + build(data.parts, work)


@kernel
def evaluate(job: Job, q: Array, gradient: Array) -> float:
    """Return the log density of everything unknown at a position, and fill in its gradient.

    Parameters
    ----------
    job
        Data and the scratch of one chain, packed.
    q, gradient
        (size,), contiguous. The gradient is of no use where the density is not finite.

    Returns
    -------
    float
        Every constant in; −inf where it cannot be computed.
    """
    value = _place(job, q)
    if not math.isfinite(value):
        return -math.inf
    data, work = job.data, job.work
    value += likelihood(data.rows, work) + data.constant
    if not math.isfinite(value):
        return -math.inf
    pull(data.parts, work)
    _pull_fixed(data.fixed, work)
    for k in range(work.theta.shape[0]):
        work.direct[k] += work.rate[k] * work.slope[k]
    _gathered(data.map, work, gradient)
    return value


@kernel(entry=True)
def unpack(job: Job, Q: Array, thetas: Array, betas: Array, U: Array) -> None:
    """Fill theta (S, d), printed fixed effects (S, P) and coefficients (S, N) at positions Q (S, size)."""
    work = job.work
    d, P, N, size = work.theta.shape[0], work.beta.shape[0], work.u.shape[0], Q.shape[1]
    for s in range(Q.shape[0]):
        _place(job, window(Q, s * size, size))
        for k in range(d):
            thetas[s, k] = work.theta[k]
        for k in range(P):
            betas[s, k] = work.printed[k]
        for j in range(N):
            U[s, j] = work.u[j]


@kernel(entry=True)
def pack(job: Job, raws: Array, V: Array, U: Array, Q: Array) -> None:
    """Fill positions Q from hyperparameters (S, d), coordinates of fixed effects (S, P) and coefficients (S, N)."""
    data, work = job.data, job.work
    d, P, size = work.theta.shape[0], work.beta.shape[0], Q.shape[1]
    N = work.u.shape[0]
    for s in range(Q.shape[0]):
        for j in range(work.v.shape[0]):
            work.v[j] = V[s, j] if j < P else 0.0
        raw = window(raws, s * d, d)
        place_hyper(data.hyper, raw, work.theta, work.rate, work.slope, work.direct)
        _place_fixed(data.fixed, work)
        build(data.parts, work)  # for the factors and the scales
        unbuild(data.parts, work, window(U, s * N, N))
        for k in range(d):
            Q[s, k] = raw[k]
        for j in range(size - d):
            Q[s, d + j] = work.v[j]

"""Moves of a covariance block together with its coefficients, the whitened coefficients held.

Scalings b -> D b and shears b_i -> b_i + d b_k move Sigma along and are accepted on the likelihood and the prior of
Sigma (generalised Gibbs, Liu & Sabatti 2000): group sds near zero and correlations near one mix by them.
"""

from __future__ import annotations

import math

import numpy as np

from bayou.effects.iid import log_prior
from bayou.engines.covariances import scaled, sheared
from bayou.engines.glmm.state import State, Target, forget, log_likelihood, row_dispersion_of
from bayou.families.rows import LANES, add_compensated, add_pairwise, row_values
from bayou.jit import kernel, window

CARRIED_TURNS = 4  # the same where hyperparameters move with every group carried along
TURNS = 6  # scalings of a block in a scan: five of one coefficient, four each of two, …, at least one each
BEST_ONE = 0.44  # acceptance rate aimed at (Roberts & Rosenthal 2001)


@kernel(inner=True)
def _stretch_by_stretch(
    target: Target, state: State, into: int, source: int, factor: float, accepted: bool
) -> float:
    """Eta of all rows as `_try_linear` proposes it for the first factor, in whose order they stand.

    Returns the log likelihood there (of 512 rows at a time, as `row_log_density` has it), or if ``accepted`` moves eta.
    """
    rows, scratch = target.rows, state.scratch
    n, J, p, dispersion = state.eta.shape[0], rows.levels[0], rows.sizes[0], row_dispersion_of(target, state)
    value, lost = 0.0, 0.0
    first = 0
    for low in range(0, n, LANES):
        count = min(LANES, n - low)
        there = window(scratch.eta, 0, count)
        j = first
        while j < J and rows.start[j] < low + count:
            a, b = max(rows.start[j], low), min(rows.start[j + 1], low + count)
            move = factor * state.b[rows.at_b[0] + j * p + source]
            here, z = window(state.eta, a, b - a), window(rows.Z, rows.at_Z[0] + into * n + a, b - a)
            new = window(there, a - low, b - a)
            for r in range(b - a):
                new[r] = here[r] + z[r] * move
            first = j
            j += 1
        if accepted:
            here = window(state.eta, low, count)
            for r in range(count):
                here[r] = there[r]
            continue
        row_values(
            rows.code, window(rows.y, low, count), window(rows.trials, low * rows.trials_step, count),
            window(state.weights, low * rows.weights_step, count), there, dispersion, scratch.work,
        )  # fmt: skip
        value, lost = add_compensated(value, lost, add_pairwise(scratch.work, count))
    return value + lost if math.isfinite(value) else value


@kernel(inner=True)
def _try_linear(
    target: Target,
    state: State,
    f: int,
    into: int,
    source: int,
    factor: float,
    log_ratio: float,
    rng: np.random.Generator,
) -> bool:
    """Propose b[into] += factor b[source] for all levels of factor f; accept on likelihood and ``log_ratio``."""
    rows = target.rows
    n = state.eta.shape[0]
    p = rows.sizes[f]
    if f == 0:
        fresh = _stretch_by_stretch(target, state, into, source, factor, False)
    else:
        there = state.scratch.eta
        for j in range(rows.levels[f]):
            move = factor * state.b[rows.at_b[f] + j * p + source]
            a = rows.start[rows.first[f] + j]
            m = rows.start[rows.first[f] + j + 1] - a
            z = window(rows.Z, rows.at_Z[f] + into * n + a, m)
            for r in range(m):
                place = rows.master[f - 1, a + r]
                there[place] = state.eta[place] + z[r] * move
        fresh = log_likelihood(target, state, there)
    if not -rng.standard_exponential() < fresh - state.total[0] + log_ratio:
        return False
    if f == 0:
        _stretch_by_stretch(target, state, into, source, factor, True)
    else:
        for r in range(n):
            state.eta[r] = state.scratch.eta[r]
    state.total[0] = fresh
    forget(state)
    for j in range(rows.levels[f]):
        base = rows.at_b[f] + j * p
        state.b[base + into] += factor * state.b[base + source]
    return True


@kernel(inner=True)
def move_whitened(target: Target, state: State, adapting: bool, rng: np.random.Generator) -> None:
    """Scalings of every coefficient of every block, and one shear in blocks of two or more."""
    blocks = target.blocks
    new, inverse, product = state.work[0], state.work[1], state.work[2]
    gain = 1.0 / (1.0 + state.counter[0]) ** 0.6
    if math.isnan(state.total[0]):
        state.total[0] = log_likelihood(target, state, state.eta)
    for r in range(blocks.size.shape[0]):
        f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
        L = state.L[r]
        before = log_prior(blocks, r, L, inverse)
        carried = state.carrier.ready[f] == 1 and state.carrier.angle[f] > 0.0
        for turn in range(p * max(1, CARRIED_TURNS - p) if carried else p * max(1, TURNS - p)):
            c = turn % p
            move = math.exp(state.tune[r, c]) * rng.standard_normal()
            factor = math.exp(move)
            scaled(L, p, c, factor, new)
            after = log_prior(blocks, r, new, inverse)
            ok = after > -math.inf and _try_linear(
                target, state, f, s + c, s + c, math.expm1(move), after - before + (p + 1.0) * move, rng
            )
            if ok:
                before = after
                for k in range(c + 1):
                    L[c, k] = new[c, k]
            if adapting:
                state.tune[r, c] += gain * ((1.0 if ok else 0.0) - BEST_ONE)
        if p > 1:
            c = int(rng.random() * p)
            e = int(rng.random() * (p - 1))
            if e >= c:
                e += 1
            size = math.exp(state.tune[r, p]) * rng.standard_normal()
            move, ok = sheared(L, p, c, e, size, new, inverse, product)
            if ok:
                after = log_prior(blocks, r, new, inverse)
                ok = after > -math.inf and _try_linear(target, state, f, s + c, s + e, move, after - before, rng)
            if ok:
                for i in range(p):
                    for k in range(i + 1):
                        L[i, k] = new[i, k]
            if adapting:
                state.tune[r, p] += gain * ((1.0 if ok else 0.0) - BEST_ONE)

"""Sds of nested factors with the coefficients of all but their sums integrated out.

Where a factor's levels lie within those of another (index within brood within place) and both carry the same
coefficient, the rows see only its sum t_j down to the finest level. Given t the effects in between are Gaussian:

    t_j ~ N(m_parent(j), s_1²),   m_k ~ N(m_parent(k), s_2²),   …,   m ~ N(0, s_top²),

so each sd can be drawn from p(s | t, the other sds), a message passed up the tree giving its density, and all m
afterwards exactly, coming down. The rows are not visited. Given the effects themselves a sum of variances is known
well and its split badly, and a sampler that holds them creeps along it.

Coefficients that are correlated with others of their factor are left to the other moves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Integers
from bayou.effects.iid import BlockTable, log_prior
from bayou.engines.centring import Centring, starts_of
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.engines.glmm.state import State, Target

STEPS_OUT = 30


class Lineages(NamedTuple):
    """Chains of nested factors that carry the same coefficient, finest first."""

    first: Integers  # (C + 1,) members of each chain
    factor: Integers  # (M,)
    coefficient: Integers  # (M,) column within the factor
    block: Integers  # (M,)
    at_above: Integers  # (M,) where the map of its levels to those of the next member begins in `Centring.map`
    messages: Integers  # (M,) where the messages to its levels begin


def lineages(moves: Centring, blocks: BlockTable, levels: Integers) -> Lineages:
    """Find the chains: from the finest factor to its finest parent, and so on."""
    single = {
        (int(blocks.grouping[r]), int(blocks.start[r])): r for r in range(len(blocks.size)) if blocks.size[r] == 1
    }
    up: dict[tuple[int, int], tuple[tuple[int, int], int]] = {}
    for pair in range(len(moves.child)):
        child = int(moves.child[pair]), int(moves.child_coefficient[pair])
        parent = int(moves.parent[pair]), int(moves.parent_coefficient[pair])
        if child in single and parent in single:
            known = up.get(child)
            if known is None or levels[parent[0]] > levels[known[0][0]]:
                up[child] = parent, int(moves.at_map[pair])
    first, members, above = [0], [], []
    parents = {parent for parent, _ in up.values()}
    for start in sorted(up, key=lambda member: -levels[member[0]]):
        if start in parents:
            continue
        member = start
        while True:
            members.append(member)
            above.append(up[member][1] if member in up else 0)
            if member not in up:
                break
            member = up[member][0]
        first.append(len(members))
    return Lineages(
        first=np.array(first, dtype=np.int64),
        factor=np.array([f for f, _ in members], dtype=np.int64),
        coefficient=np.array([k for _, k in members], dtype=np.int64),
        block=np.array([single[m] for m in members], dtype=np.int64),
        at_above=np.array(above, dtype=np.int64),
        messages=starts_of([int(levels[f]) for f, _ in members]),
    )


@kernel(inner=True)
def _log_marginal(target: Target, state: State, low: int, high: int) -> float:
    """Log p(t | sds), up to a constant, t standing in b of the finest member; messages are left for `_come_down`."""
    rows, tree, above = target.rows, target.lineages, target.moves.map
    precision, linear = state.messages[0], state.messages[1]
    log_density = 0.0
    for m in range(low, high):
        f = tree.factor[m]
        J, p = rows.levels[f], rows.sizes[f]
        at = rows.at_b[f] + tree.coefficient[m]
        own = tree.messages[m]
        s = state.L[tree.block[m], 0, 0]
        v = s * s
        up, to = 0, 0
        if m + 1 < high:
            up, to = tree.at_above[m], tree.messages[m + 1]
            for k in range(rows.levels[tree.factor[m + 1]]):
                precision[to + k] = 0.0
                linear[to + k] = 0.0
        if m == low:
            squares = 0.0
            for j in range(J):
                t = state.b[at + j * p]
                squares += t * t
                parent = to + above[up + j]
                precision[parent] += 1.0 / v
                linear[parent] += t / v
            log_density -= J * math.log(s) + 0.5 * squares / v
            continue
        for j in range(J):
            P, h = precision[own + j], linear[own + j]
            # what the tree below says of this level's value, integrated over that value given the one above
            log_density += 0.5 * h * h / P - 0.5 * math.log(1.0 + P * v)
            spread, y = 1.0 / P + v, h / P
            if m + 1 < high:
                parent = to + above[up + j]
                precision[parent] += 1.0 / spread
                linear[parent] += y / spread
            log_density -= 0.5 * y * y / spread
    return log_density


@kernel(inner=True)
def _height(target: Target, state: State, low: int, high: int, m: int, x: float) -> float:
    """Log density of the log sd x of member m; the state is left at it."""
    if not abs(x) < 300.0:
        return -math.inf
    r = target.lineages.block[m]
    L = state.L[r]
    L[0, 0] = math.exp(x)
    prior = log_prior(target.blocks, r, L, state.work[0])
    if not prior > -math.inf:
        return -math.inf
    return prior + 2.0 * x + _log_marginal(target, state, low, high)


@kernel(inner=True)
def _slice(target: Target, state: State, low: int, high: int, m: int, rng: np.random.Generator) -> None:
    """One slice update of the sd of member m (Neal 2003)."""
    x = math.log(state.L[target.lineages.block[m], 0, 0])
    level = _height(target, state, low, high, m, x) - rng.standard_exponential()
    left = x - rng.random()
    right = left + 1.0
    t = left
    phase, steps = 0, 0  # 0: left end out, 1: right end out, 2: shrink
    while True:
        if phase == 0:
            t = left
        elif phase == 1:
            t = right
        else:
            t = left + (right - left) * rng.random()
        inside = _height(target, state, low, high, m, t) > level
        if phase < 2:
            steps += 1
            if not inside or steps > STEPS_OUT:
                phase += 1
                steps = 0
            elif phase == 0:
                left -= 1.0
            else:
                right += 1.0
        elif inside:
            return
        else:
            if t < x:
                left = t
            else:
                right = t
            if right - left < 1e-14 * (1.0 + abs(x)):
                state.L[target.lineages.block[m], 0, 0] = math.exp(x)
                return


@kernel(inner=True)
def _come_down(target: Target, state: State, low: int, high: int, rng: np.random.Generator) -> None:
    """Draw the values of all members above the finest given t, from the top, then make effects of values again."""
    rows, tree, above = target.rows, target.lineages, target.moves.map
    precision, linear = state.messages[0], state.messages[1]
    _log_marginal(target, state, low, high)
    for back in range(high - low - 1):
        m = high - 1 - back
        f = tree.factor[m]
        s = state.L[tree.block[m], 0, 0]
        at = rows.at_b[f] + tree.coefficient[m]
        for j in range(rows.levels[f]):
            d = precision[tree.messages[m] + j] + 1.0 / (s * s)
            h = linear[tree.messages[m] + j]
            if m + 1 < high:
                g = tree.factor[m + 1]
                above_it = rows.at_b[g] + above[tree.at_above[m] + j] * rows.sizes[g] + tree.coefficient[m + 1]
                h += state.b[above_it] / (s * s)
            state.b[at + j * rows.sizes[f]] = h / d + rng.standard_normal() / math.sqrt(d)
    _sum_down(target, state, low, high, -1.0)


@kernel(inner=True)
def _sum_down(target: Target, state: State, low: int, high: int, sign: float) -> None:
    """Add to each member's coefficients those of the next (1: effects become values) or take them away (−1)."""
    rows, tree, above = target.rows, target.lineages, target.moves.map
    for i in range(high - low - 1):
        # values are summed from the top down, and taken apart from the bottom up
        m = high - 2 - i if sign > 0.0 else low + i
        f, g = tree.factor[m], tree.factor[m + 1]
        at, to = rows.at_b[f] + tree.coefficient[m], rows.at_b[g] + tree.coefficient[m + 1]
        for j in range(rows.levels[f]):
            state.b[at + j * rows.sizes[f]] += sign * state.b[to + above[tree.at_above[m] + j] * rows.sizes[g]]


@kernel(inner=True)
def move_lineages(target: Target, state: State, rng: np.random.Generator) -> None:
    """Sds of every chain of nested factors, then the effects, with their sums at the finest level held."""
    first = target.lineages.first
    for c in range(first.shape[0] - 1):
        low, high = first[c], first[c + 1]
        _sum_down(target, state, low, high, 1.0)
        for m in range(low, high):
            _slice(target, state, low, high, m, rng)
        _come_down(target, state, low, high, rng)

"""The Gaussian on the subspace C x = 0, from a factor of a matrix that is definite on the whole space.

An intrinsic effect makes H = Q + A'WA singular in directions that its constraints forbid (a level that moves from the
effect into the intercept). H₁ = H + E K E', a positive number added to the diagonal at one *anchor* of each constraint,
is definite. With B = [C' E], V = B' H₁⁻¹ and M = V B − diag(0, K⁻¹),

    Sigma = H₁⁻¹ − V' M⁻¹ V

is the covariance of N(0, H⁻¹) given C x = 0, and |H| on the subspace is |H₁| |K| |det M|: conditioning by kriging
(Rue & Held 2005, section 2.3.3) and the anchors' removal by Sherman, Morrison & Woodbury, in one step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel, window
from bayou.linalg.small import invert_general
from bayou.linalg.sparse import Factor, backward, forward
from bayou.linalg.symbolic import Symbolic

__all__ = ["Constraint", "correct", "multiply", "new_constraint", "prepare", "taken"]


class Constraint(NamedTuple):
    """The rows of C, anchors, and what `prepare` makes of them; k constraints."""

    start: Integers  # (k + 1,)
    column: Integers
    value: Array
    anchor: Integers  # (k,) coefficient
    anchor_at: Integers  # (k,) place of its diagonal element
    kappa: Array  # (k,) what is added there
    V: Array  # (2k, N)
    M: Array  # (2k, 2k) M⁻¹
    MV: Array  # (2k, N) M⁻¹ V, filled by `multiply`
    work: Array  # (2k, 2k)
    side: Array  # (2k,)
    out: Array  # (2k,)
    ordered: Array  # (N,)


def new_constraint(
    start: Integers, column: Integers, value: Array, anchor: Integers, anchor_at: Integers, N: int
) -> Constraint:
    """Allocate for k constraints on N coefficients."""
    k = len(anchor)
    return Constraint(
        start, column, value, anchor, anchor_at, np.ones(k), np.zeros((2 * k, N)), np.zeros((2 * k, 2 * k)),
        np.zeros((2 * k, N)), np.zeros((2 * k, 2 * k)), np.zeros(2 * k), np.zeros(2 * k), np.zeros(N),
    )  # fmt: skip


@kernel(inner=True)
def _take_product(constraint: Constraint, x: Array) -> None:
    """Side (2k,) <- B' x."""
    k = constraint.anchor.shape[0]
    for c in range(k):
        t = 0.0
        for e in range(constraint.start[c], constraint.start[c + 1]):
            t += constraint.value[e] * x[constraint.column[e]]
        constraint.side[c] = t
        constraint.side[k + c] = x[constraint.anchor[c]]


@kernel
def prepare(symbolic: Symbolic, factor: Factor, constraint: Constraint) -> float:
    """Fill V and M⁻¹; returns log |K| + log |det M|, nan where the constraints leave nothing."""
    k, N = constraint.anchor.shape[0], symbolic.n
    if k == 0:
        return 0.0
    for c in range(2 * k):
        v = window(constraint.V, c * N, N)
        for j in range(N):
            v[j] = 0.0
        if c < k:
            for e in range(constraint.start[c], constraint.start[c + 1]):
                v[constraint.column[e]] = constraint.value[e]
        else:
            v[constraint.anchor[c - k]] = 1.0
        forward(symbolic, factor, v, constraint.ordered)
        backward(symbolic, factor, constraint.ordered, v)
        _take_product(constraint, v)
        for d in range(2 * k):
            constraint.work[c, d] = constraint.side[d]
    total = 0.0
    for c in range(k):
        constraint.work[k + c, k + c] -= 1.0 / constraint.kappa[c]
        total += math.log(constraint.kappa[c])
    return total + invert_general(constraint.work, constraint.M)


@kernel
def multiply(constraint: Constraint) -> None:
    """Fill M⁻¹ V."""
    K, N = constraint.V.shape
    for c in range(K):
        out = window(constraint.MV, c * N, N)
        for j in range(N):
            out[j] = 0.0
        for d in range(K):
            t = constraint.M[c, d]
            v = window(constraint.V, d * N, N)
            for j in range(N):
                out[j] += t * v[j]


@kernel(inner=True)
def taken(constraint: Constraint, r: int, c: int) -> float:
    """Element (r, c) of V' M⁻¹ V."""
    t = 0.0
    for a in range(constraint.V.shape[0]):
        t += constraint.V[a, r] * constraint.MV[a, c]
    return t


@kernel
def correct(constraint: Constraint, x: Array) -> None:
    """X <- Sigma r from x = H₁⁻¹ r."""
    K, N = constraint.V.shape
    if K == 0:
        return
    _take_product(constraint, x)
    for c in range(K):
        t = 0.0
        for d in range(K):
            t += constraint.M[c, d] * constraint.side[d]
        constraint.out[c] = t
    for c in range(K):
        t = constraint.out[c]
        v = window(constraint.V, c * N, N)
        for j in range(N):
            x[j] -= t * v[j]

"""Maximum likelihood and REML for a Gaussian model with one residual sd and no priors: the fast road.

The residual variance and the fixed effects are profiled out, so that the descent moves the relative factors only.
"""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.gaussian import (
    Sums,
    Work,
    deviance,
    evaluate_small,
    gaussian_sums,
    information,
    new_work,
    slope,
)
from bayou.conditional.information import scores
from bayou.conditional.parameters import Parameters, parameters
from bayou.conditional.rows import colour
from bayou.engines.marginal.descent import (
    ACCEPTED,
    CONVERGED,
    DECREMENT,
    GOING,
    STALLED,
    Descent,
    aim,
    new_descent,
    take,
    usable_inverse,
)
from bayou.jit import kernel
from bayou.linalg.covariances import BY_HAND, invert
from bayou.linalg.small import cholesky, inverse_from_factor
from bayou.packed import packed, part
from bayou.sufficient import Sufficient, sufficient

if TYPE_CHECKING:
    from bayou.model import Model

AWAY = 1.5  # standard errors of T's diagonal from zero, below which the average information is not trusted
TRUSTED = 1e-3  # of a pivot, relative to its diagonal
SMALLEST, LARGEST = 0.1, 2.0  # of the spreads that a descent begins with, in units of the parameters
RIDGE = 1e-6  # what a mean of Z'Z is lifted by before it is inverted, columns in their own units
ROUGH = 1e-4  # of the decrement, from which the criterion's own curvature is learnt from the steps


@kernel
def _refresh(sums: Sums, work: Work, state: Descent, restricted: bool) -> None:
    """Take the inverse Hessian of the descent from the average information, where that can be trusted.

    Not near the border: there the criterion is curved by its log determinant, of which the average knows nothing.
    """
    d = state.x.shape[0]
    information(sums, work, restricted)
    A, L = work.averages.information, state.matrices[0]
    if not cholesky(A, L, d):
        return
    for i in range(d):
        if not L[i, i] * L[i, i] > TRUSTED * A[i, i]:
            return
        if sums.row[i] == sums.column[i] and state.x[i] * state.x[i] * A[i, i] < AWAY * AWAY:
            return
    inverse_from_factor(L, state.matrices[1], state.H, d)


@kernel(entry=True)
def _minimise(sums: Sums, work: Work, state: Descent, restricted: bool) -> int:
    """Go down to the end, for a Schur complement small enough to be inverted by hand."""
    status = GOING
    while status == GOING:
        value = evaluate_small(sums, work, state.trial, restricted)
        status = take(state, value, work.gradient)
        if status == ACCEPTED:
            if state.facts[DECREMENT] > ROUGH:
                _refresh(sums, work, state, restricted)
            status = aim(state)
    evaluate_small(sums, work, state.x, restricted)
    return status


class Profile:
    """The profiled likelihood of one model, and its maximum.

    Attributes
    ----------
    sums, work
        What the kernels read and write; after `minimise` they stand at the maximum.
    numbers
        The layout of the parameters.
    """

    def __init__(self, model: Model, restricted: bool) -> None:
        self.model, self.restricted = model, restricted
        self.sufficient: Sufficient = sufficient(model)
        self.order = self.sufficient.order
        self.numbers: Parameters = parameters(model, self.order)
        self._take(gaussian_sums(self.sufficient, self.numbers))

    def _take(self, sums: Sums) -> None:
        self.sums = sums
        self.work = new_work(self.sums, self.numbers)
        self._at: Array | None = None  # where the work stands, gradient and all
        self._value = math.inf
        self._sums, self._work = packed(self.sums), packed(self.work)
        R, P = len(self.sums.arrow.d), len(self.sums.border.linear)
        self.columns = R if self.restricted else R - P  # of the rest over which covariances are taken
        self.small = self.columns <= BY_HAND

    def again(self) -> Profile:
        """Return the same profile with scratch of its own."""
        other = copy(self)
        other._take(self.sums)
        return other

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return minus the log likelihood and its gradient (d,) at relative factors psi (d,)."""
        if self._at is None or not np.array_equal(psi, self._at):
            self._at = psi.copy()
            self._value = self._evaluate(psi)
        return self._value, self.work.gradient

    def _evaluate(self, psi: Array) -> float:
        if self.small:
            return float(evaluate_small(self._sums, self._work, psi, self.restricted))
        value = deviance(self._sums, self._work, psi, self.restricted)
        if np.isfinite(value):
            invert(self.work.factor.S, self.columns, self.work.inverse.V)
            slope(self._sums, self._work, self.restricted)
        return float(value)

    def value(self, psi: Array) -> float:
        """Return minus the log likelihood at relative factors psi (d,)."""
        if self._at is not None and np.array_equal(psi, self._at):
            return self._value
        self._at = None
        return float(deviance(self._sums, self._work, psi, self.restricted))

    def score_moments(self) -> Array:
        """Return Σ_j s_jk u_jc (d,), units in, where the model was evaluated last: −½ of the squares' own slope."""
        sums, work = self.sums, self.work
        b, rest = np.empty_like(work.u), np.empty_like(work.rest)
        s, s_rest = np.empty_like(b), np.empty_like(rest)
        arrow, border, _ = self.packed_parts
        colour(border, work.T, work.u, work.rest, b, rest)
        scores(arrow, b, rest, s, s_rest)
        out = np.empty(self.numbers.size)
        for i in range(len(out)):
            f, k, c = int(sums.factor[i]), int(sums.row[i]), int(sums.column[i])
            if f == 0:
                out[i] = s[:, k] @ work.u[:, c]
            else:
                at, q = int(sums.border.start[f - 1]), int(sums.border.size[f - 1])
                levels = at + q * np.arange(int(sums.border.levels[f - 1]))
                out[i] = s_rest[levels + k] @ work.rest[levels + c]
        return out * sums.unit

    def information(self) -> Array:
        """Return the average information (d, d) where the model was evaluated last, sigma profiled out."""
        information(self._sums, self._work, self.restricted)
        return self.work.averages.information.copy()

    def start(self) -> Array:
        """Return relative factors (d,) by moments of the levels' scores around ordinary least squares.

        A level's scores s = Z'(y − X beta) have E ss' = A sigma² + A Sigma A, A = Z'Z, if it stands alone; A is taken
        as proportional to its mean over the levels.
        """
        sums, numbers = self.sums, self.numbers
        arrow, at = sums.arrow, sums.border.fixed
        D = np.tril(arrow.D[at:, at:]) + np.tril(arrow.D[at:, at:], -1).T
        rest = np.zeros_like(arrow.d)
        size = np.sqrt(np.maximum(np.diag(D), 1e-300))
        rest[at:] = np.linalg.lstsq(D / np.outer(size, size), arrow.d[at:] / size, rcond=None)[0] / size
        s, s_rest = np.empty_like(arrow.a), np.empty_like(rest)
        scores(self.packed_parts[0], np.zeros_like(arrow.a), rest, s, s_rest)
        total = float(sums.squares[0] - rest @ arrow.d) / sums.rows
        if not total > 0.0 or not numbers.size:
            return numbers.start()
        moments = [self._moments(f, s, s_rest) for f in range(len(self.order))]
        variance, spread = total, [np.zeros_like(A) for A, _, _ in moments]
        for _ in range(2):
            spread = [_between(A, M - variance * A) / uneven for A, M, uneven in moments]
            taken = sum(
                float(np.sum(S * A)) * levels
                for S, (A, _, _), levels in zip(spread, moments, self._levels(), strict=True)
            )
            variance = max(total - taken / sums.rows, 0.1 * total)
        T = np.zeros(numbers.shape)
        for f, S in enumerate(spread):
            p = len(S)
            unit = np.ones(p)
            unit[numbers.row[numbers.factor == f]] = numbers.unit[numbers.factor == f]
            scaled = S / variance / np.outer(unit, unit)
            values, vectors = np.linalg.eigh(scaled)
            values = np.clip(values, SMALLEST**2, LARGEST**2)
            T[f, :p, :p] = unit[:, None] * np.linalg.cholesky((vectors * values) @ vectors.T)
        psi = numbers.numbers(T)
        diagonal = numbers.row == numbers.column
        return np.where(diagonal, np.clip(psi, SMALLEST, LARGEST), psi)

    def _levels(self) -> list[int]:
        return [len(self.model.design.groupings[g].levels) for g in self.order]

    def _moments(self, f: int, s: Array, s_rest: Array) -> tuple[Array, Array, float]:
        """Return the means of A and of ss' over the levels of a factor, and how unevenly the rows are spread."""
        arrow, border = self.sums.arrow, self.sums.border
        if f == 0:
            A, own = arrow.A, s
        else:
            at, q, J = int(border.start[f - 1]), int(border.size[f - 1]), int(border.levels[f - 1])
            own = s_rest[at : at + q * J].reshape(J, q)
            columns = (at + np.arange(q * J)).reshape(J, q)
            one, other = columns[:, :, None], columns[:, None, :]
            A = arrow.D[np.maximum(one, other), np.minimum(one, other)]
        weight = np.trace(A, axis1=1, axis2=2)
        return A.mean(axis=0), own.T @ own / len(own), float(np.mean(weight**2) / max(np.mean(weight) ** 2, 1e-300))

    @property
    def packed_parts(self) -> tuple[Any, ...]:
        """The system, its border and its factor as kernels take them."""
        return part(self._sums, "arrow"), part(self._sums, "border"), part(self._work, "factor")

    def minimise(self, psi: Array) -> tuple[Descent, int]:
        """Go down from psi; returns the descent and how it ended."""
        value, _ = self.evaluate(psi)
        if not np.isfinite(value):
            return new_descent(psi, np.eye(len(psi))), STALLED
        state = new_descent(psi, usable_inverse(self.information()))
        if not len(psi):
            state.facts[0] = value
            return state, CONVERGED
        if self.small:
            status = int(_minimise(self._sums, self._work, packed(state), self.restricted))
            self._at, self._value = state.x.copy(), float(state.facts[0])
            return state, status
        status, handed = GOING, packed(state)
        while status == GOING:
            status = int(take(handed, *self.evaluate(state.trial)))
            if status == ACCEPTED:
                if state.facts[DECREMENT] > ROUGH:
                    _refresh(self._sums, self._work, handed, self.restricted)
                status = int(aim(handed))
        self.evaluate(state.x)
        return state, status


def _between(A: Array, M: Array) -> Array:
    """Return A⁻¹ M A⁻¹ for a mean of Z'Z that may be singular."""
    size = np.sqrt(np.maximum(np.diag(A), 1e-300))
    scale = size[:, None] * size
    inverse = np.linalg.inv(A / scale + RIDGE * np.eye(len(A))) / scale
    return np.asarray(inverse @ M @ inverse)

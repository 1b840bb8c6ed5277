"""Maximum likelihood and REML for a Gaussian model with one residual sd and no priors: the fast road.

The residual variance and the fixed effects are profiled out, so that the descent moves the relative factors only.
"""

from __future__ import annotations

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
    new_work,
    slope,
)
from bayou.conditional.information import average_information, scores
from bayou.conditional.parameters import Parameters, parameters
from bayou.conditional.rows import colour
from bayou.engines.marginal.descent import GOING, Descent, advance, new_descent, usable_inverse
from bayou.jit import kernel
from bayou.linalg.covariances import BY_HAND, invert
from bayou.packed import packed
from bayou.sufficient import Sufficient, sufficient

if TYPE_CHECKING:
    from bayou.model import Model


@kernel(entry=True)
def _minimise(sums: Sums, work: Work, state: Descent, restricted: bool) -> int:
    """Go down to the end, for a Schur complement small enough to be inverted by hand."""
    status = GOING
    while status == GOING:
        value = evaluate_small(sums, work, state.trial, restricted)
        status = advance(state, value, work.gradient)
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
        if self.small:
            return evaluate_small(self._sums, self._work, psi, self.restricted), self.work.gradient
        value = deviance(self._sums, self._work, psi, self.restricted)
        if np.isfinite(value):
            invert(self.work.factor.S, self.columns, self.work.inverse.V)
            slope(self._sums, self._work, self.restricted)
        return value, self.work.gradient

    def value(self, psi: Array) -> float:
        """Return minus the log likelihood at relative factors psi (d,)."""
        return float(deviance(self._sums, self._work, psi, self.restricted))

    def score_moments(self) -> Array:
        """Return Σ_j s_jk u_jc (d,), units in, where the model was evaluated last: −½ of the squares' own slope."""
        sums, work = self.sums, self.work
        b, rest = np.empty_like(work.u), np.empty_like(work.rest)
        s, s_rest = np.empty_like(b), np.empty_like(rest)
        arrow, border, _ = self._packed_parts
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
        sums, work = self.sums, self.work
        d = self.numbers.size
        b, rest = np.empty_like(work.u), np.empty_like(work.rest)
        s, s_rest = np.empty_like(b), np.empty_like(rest)
        arrow, border, factor = self._packed_parts
        colour(border, work.T, work.u, work.rest, b, rest)
        scores(arrow, b, rest, s, s_rest)
        out, mixed = np.empty((d, d)), np.empty(d)
        entries = sums.factor, sums.row, sums.column, sums.unit
        average_information(
            arrow, border, factor, len(rest), work.T, entries, work.u, work.rest, s, s_rest,
            np.empty_like(b), np.empty_like(rest), np.empty((2, d, *b.shape)), np.empty((2, d, len(rest))), out, mixed,
        )  # fmt: skip
        P = len(border.parts.linear)
        n = sums.rows - P if self.restricted else sums.rows
        if sums.known:
            return np.asarray(out / sums.known)
        precision = n / work.facts[0]
        mixed *= precision
        information: Array = precision * out - np.outer(mixed, mixed) * 2.0 / n
        return information

    def start(self) -> Array:
        """Return relative factors (d,) from the spread of the levels' scores around ordinary least squares.

        A score s = z'(y − X beta) has variance A sigma² + A² tau², A = z'z, if its level stands alone.
        """
        sums, numbers = self.sums, self.numbers
        arrow, at = sums.arrow, sums.border.fixed
        D = np.tril(arrow.D[at:, at:]) + np.tril(arrow.D[at:, at:], -1).T
        rest = np.zeros_like(arrow.d)
        rest[at:] = np.linalg.lstsq(D, arrow.d[at:], rcond=None)[0]
        s, s_rest = np.empty_like(arrow.a), np.empty_like(rest)
        scores(self._packed_parts[0], np.zeros_like(arrow.a), rest, s, s_rest)
        total = (sums.squares[0] - rest @ arrow.d) / sums.rows
        psi = numbers.start()
        ratio = np.zeros(numbers.size)
        for i in np.flatnonzero(numbers.row == numbers.column):
            f, k = int(numbers.factor[i]), int(numbers.row[i])
            if f == 0:
                A, score = arrow.A[:, k, k], s[:, k]
            else:
                first, q = int(sums.border.start[f - 1]), int(sums.border.size[f - 1])
                columns = first + k + q * np.arange(int(sums.border.levels[f - 1]))
                A, score = arrow.D[columns, columns], s_rest[columns]
            seen = A > 0.0
            excess = np.mean(score[seen] ** 2 / A[seen]) - total
            ratio[i] = max(excess / A[seen].mean(), 0.0) / numbers.unit[i] ** 2 / total if total > 0.0 else 1.0
        # columns of one factor see each other's spread
        ratio /= np.bincount(numbers.factor[numbers.row == numbers.column], minlength=1)[numbers.factor]
        left = max(1.0 - ratio.sum(), 0.2)
        psi *= np.clip(np.sqrt(ratio / left), 0.1, 1.5)
        return psi

    @property
    def _packed_parts(self) -> tuple[Any, ...]:
        work = self.work
        return packed(self.sums.arrow), packed(self.sums.border), packed(work.factor)

    def minimise(self, psi: Array) -> tuple[Descent, int]:
        """Go down from psi; returns the descent and how it ended."""
        value, _ = self.evaluate(psi)
        state = new_descent(psi, usable_inverse(self.information()))
        if not len(psi):
            state.facts[0] = value
            return state, 1
        if self.small:
            return state, int(_minimise(self._sums, self._work, packed(state), self.restricted))
        status = GOING
        while status == GOING:
            status = int(advance(packed(state), *self.evaluate(state.trial)))
        self.evaluate(state.x)
        return state, status

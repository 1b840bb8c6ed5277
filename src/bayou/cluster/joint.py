"""The Laplace approximation of all coefficients, the rows with shards: the leader's half of every step.

What `bayou.conditional.mode.find_mode` does in one kernel is a conversation here: shards eliminate their groups, the
leader adds up what that leaves of the fixed effects, solves for these, and shards go on from the solution. Sums are
added in the order of the shards, wherever they are.
"""

from __future__ import annotations

import math
import time

import numpy as np
from scipy.linalg import cho_solve

from bayou._types import Array
from bayou.cluster.fleet import Talk
from bayou.cluster.words import Each, Word, added
from bayou.conditional.mode import FLAT, LIMIT, NEAR, ROUNDING, SETTLED
from bayou.engines.nested.variational import settle

__all__ = ["Joint"]

CHECKPOINT_SECONDS = 5.0
HALVINGS = 60


class Joint:
    """All coefficients of a model in shards; after `place`, the methods speak of their Gaussian there.

    Parameters
    ----------
    talk
        With the shards.
    precision, linear
        (P, P) and (P,): of the fixed effects' normal prior, and times its mean; zeros for a flat one.
    size
        p, of a group's coefficients.

    Attributes
    ----------
    rest
        (P,) the mode of the fixed effects, working coordinates.
    V
        (P, P) their covariance.
    loglik
        The log likelihood at the mode, every constant in.
    """

    def __init__(self, talk: Talk, precision: Array, linear: Array, size: int) -> None:
        self.talk, self.precision, self.linear, self.p = talk, precision, linear, size
        P = len(linear)
        self.rest, self.V = np.zeros(P), np.zeros((P, P))
        self.settled = SETTLED
        self.loglik, self.penalty, self.log_det, self.log_det_fixed = (math.nan,) * 4
        self._root: Array = np.zeros((P, P))
        self._lower = np.tril_indices(P)
        self._spread = False
        self._saved = time.monotonic()

    def say(self, *words: Word) -> list[Array]:
        """Return what each shard answers."""
        return self.talk.say(list(words))

    def sum(self, *words: Word) -> Array:
        """Return the sum of what the shards answer."""
        return added(self.say(*words))

    # ---- the mode --------------------------------------------------------------------------

    def place(self, T: Array, dispersion: Array) -> bool:
        """Find the mode at a covariance T T' (p, p) and dispersions (S,); False where there is none to be found."""
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.talk.checkpoint()
            self._saved = time.monotonic()
        self._spread = False
        if self._find(T, dispersion):
            return True
        self.rest[:] = 0.0
        self.say(("clear",))
        return self._find(T, dispersion)

    def _find(self, T: Array, dispersion: Array) -> bool:
        """Climb by damped Newton steps, as `bayou.conditional.mode.find_mode` does.

        The equations at the end of a step are asked for with the step itself: the whole step is nearly always the one.
        """
        last, clip = math.inf, True
        found = self.sum(("begin", T, dispersion, self.rest), ("eliminated", clip))
        value, penalty = found[:2]
        for _ in range(LIMIT):
            if not math.isfinite(value):
                return False
            to = self._solved(found[2:])
            if to is None and not clip:
                clip = True
                to = self._solved(self.sum(("eliminated", clip)))
            if to is None:
                return False
            step = to - self.rest
            gain, negative = self.sum(("towards", to))
            gain += float(step @ self.precision @ step)
            if not math.isfinite(gain):
                return False
            if gain < self.settled or (gain < FLAT + ROUNDING * abs(value) and gain > 0.25 * last):
                if clip and negative and self._solved(self.sum(("eliminated", False))) is None:
                    return False
                self.penalty = penalty + self._own_penalty(self.rest)
                self.loglik = float(self.sum(("exactly",))[0])
                self.V = np.asarray(cho_solve((self._root, True), np.eye(len(self.rest))))
                return True
            last, clip = gain, gain > NEAR
            found = self._search(step, gain, value, penalty, clip)
            value, penalty = found[:2]
        return False

    def _solved(self, found: Array) -> Array | None:
        """Return the fixed effects (P,) that solve the working equations; None where these are not definite."""
        P = len(self.rest)
        if not np.isfinite(found).all():
            return None
        S = np.zeros((P, P))
        S[self._lower] = found[1 + P :]
        try:
            self._root = np.asarray(np.linalg.cholesky(S + self.precision), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        self.log_det, self.log_det_fixed = float(found[0]), 2.0 * float(np.log(np.diag(self._root)).sum())
        return np.asarray(cho_solve((self._root, True), found[1 : 1 + P] + self.linear))

    def _search(self, step: Array, gain: float, value: float, penalty: float, clip: bool) -> Array:
        """Go along the step, halving it until the objective grows.

        Returns log likelihood, the shards' penalty and the working equations there.
        """
        rest, length = self.rest.copy(), 1.0
        before = value - penalty - self._own_penalty(rest)
        flat = FLAT + ROUNDING * abs(value)
        words: list[Word] = [("turn",)]
        for _ in range(HALVINGS):
            found = self.sum(*words, ("go", length), ("eliminated", clip))
            new, own = found[:2]
            self.rest = rest + length * step
            grown = new - own - self._own_penalty(self.rest) - before
            if grown >= 1e-4 * length * gain or (gain < flat and math.isfinite(new)):
                break
            words = [("go_back", length)]
            length *= 0.5
        return found

    def _own_penalty(self, rest: Array) -> float:
        return float(0.5 * rest @ self.precision @ rest - rest @ self.linear)

    # ---- at the mode -----------------------------------------------------------------------

    def value(self) -> float:
        """Return log p(y | theta), but for constants of the fixed effects' prior and P/2 log 2 pi."""
        return float(self.loglik - self.penalty - 0.5 * (self.log_det + self.log_det_fixed))

    def slopes(self) -> tuple[Array, Array]:
        """Return the gradient of `value` in T (p, p) and in the logarithms of the dispersions (S,)."""
        moved = self.sum(*self._spreading(), ("turned",))
        found = self.sum(("slopes_of", self.V @ moved))
        cut = self.p * self.p
        return found[:cut].reshape(self.p, self.p), found[cut:]

    def _spreading(self) -> list[Word]:
        """Return the word that has each row know its leverage, once at each mode."""
        words: list[Word] = [] if self._spread else [("spread", self.V)]
        self._spread = True
        return words

    def coefficients(self) -> Array:
        """Return the groups' coefficients (J, p) at the mode."""
        return self._joined(self.say(("coefficients",)))

    def variances(self) -> Array:
        """Return their variances (J, p)."""
        return self._joined(self.say(("variances_of", self.V)))

    def _joined(self, parts: list[Array]) -> Array:
        return np.concatenate(parts).reshape(-1, self.p)

    def solve(self, own: list[Array], rest: Array) -> tuple[Array, Array]:
        """Return Sigma r: r is ``own`` (a part for each shard) and rest (P,); the solution (J, p) and (P,)."""
        left = rest.copy()
        left += self.sum(("forward", Each(own)))
        solved = self.V @ left
        return self._joined(self.say(("back", solved))), solved

    def corrected(self) -> tuple[Array, Array, Array, Array, bool]:
        """Return INLA's corrected mean: moves (J, p) and (P,), forces (J, p) and (P,), and whether it was found."""
        self.say(*self._spreading(), ("begin_tilt",))
        tilt = _SharedTilt(self)
        settled = settle(tilt)
        parts = self.say(*tilt.words, ("end_tilt",))
        P = len(self.rest)
        move, own = (self._joined([_halves(one, P)[k] for one in parts]) for k in range(2))
        force = np.zeros(P)
        for one in parts:
            force += one[len(one) - P :]
        if not settled:
            return 0.0 * move, np.zeros(P), 0.0 * own, np.zeros(P), False
        return move, tilt.moved, own, force, True


def _halves(one: Array, P: int) -> tuple[Array, Array]:
    """Return the two halves of an answer of which P numbers at the end are taken off."""
    half = (len(one) - P) // 2
    return one[:half], one[half : 2 * half]


class _SharedTilt:
    """The mean on its way (`bayou.engines.nested.variational.Tilt`), its rows with the shards."""

    def __init__(self, joint: Joint) -> None:
        self.joint, self.moved = joint, np.zeros(len(joint.rest))
        self.words: list[Word] = []

    def look(self) -> float:
        """Find the next step."""
        joint = self.joint
        to = joint.V @ joint.sum(*self.words, ("tilt",))
        self.step = to - self.moved
        far = np.array([one[0] for one in joint.say(("tilted", to))])
        return float(far.max()) if np.isfinite(far).all() else np.nan

    def go(self, size: float) -> None:
        """Take so much of the step."""
        self.moved = self.moved + size * self.step
        self.words = [("take_tilt", size)]



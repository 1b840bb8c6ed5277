"""The proposals of a sweep over shards: the leader makes them, and decides by the sums of what the shards answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster import leader as kernels
from bayou.cluster.fleet import Talk
from bayou.cluster.leader import BEST_ONE, Head
from bayou.cluster.words import Word
from bayou.engines.glmm.carried import GOAL, LOCAL

if TYPE_CHECKING:
    from bayou.cluster.sharded import Sharded

BEST_MANY = 0.28  # acceptance rate aimed at by random walks of groups
WALK_GROUPS, WALK_FIXED = 0.05, 0.1  # shares of random-walk steps among Laplace proposals


class Moves:
    """The moves of one chain; `bayou.cluster.sweep.SweepChain` makes sweeps of them."""

    plan: Sharded
    rng: np.random.Generator
    head: Head
    leader: Any
    packed: Any
    carrier: Any
    talk: Talk
    pending: list[Word]  # said with the next question
    trying: tuple[Array, Array, Array, Array]
    H: Array
    g: Array
    t: Array
    lower: tuple[Any, Any]
    size: tuple[int, int]  # of the sums of coefficients
    fixed: int  # of those of the fixed effects
    total: float  # log likelihood where the chain is, or NaN
    adapting: bool
    counter: int
    tries: int

    def ask(self, *words: Word) -> Array:
        """Say what is pending and these words; returns the sums of the answers, shard by shard in their order."""
        message = [*self.pending, *words]
        self.pending = []
        return added(self.talk.say(message))

    def _take_sums(self, sums: Array) -> None:
        head, (a, b) = self.head, self.size
        head.scatter[self.lower[0]] = sums[:a]
        head.scatter.T[self.lower[0]] = sums[:a]
        head.sums[:] = sums[a : a + b].reshape(head.sums.shape)
        self._take_fixed(sums[a + b :], self.H, self.g)
        self.total = float(sums[a + b])

    def _take_fixed(self, sums: Array, H: Array, g: Array) -> None:
        P = self.plan.P
        g[:] = sums[1 : 1 + P]
        H[:] = 0.0
        H[self.lower[1]] = sums[1 + P :]

    def likelihood_word(self) -> list[Word]:
        """Return the question for the log likelihood, if it is not known."""
        return [("likelihood",)] if math.isnan(self.total) else []

    def whitened(self) -> None:
        """Scale every coefficient of every block, and shear in blocks of two or more: all of it, or one in turn."""
        blocks, head, rng = self.plan.blocks, self.head, self.rng
        turns = [(r, c) for r, p in enumerate(blocks.size) for c in range(p + (p > 1))]
        if self.carrier.ready[0] == 1 and self.carrier.angle[0] > 0.0:
            turns = [turns[int(rng.random() * len(turns))]]  # each is a message; the groups are carried anyway
        for r, c in turns:
            s, p = int(blocks.start[r]), int(blocks.size[r])
            size = math.exp(head.tune[r, c]) * rng.standard_normal()
            if c < p:
                ratio = kernels.propose_scaling(self.leader, self.packed, r, c, size)
                ok = self._try_linear(s + c, s + c, math.expm1(size), ratio)
            else:
                into = int(rng.random() * p)
                source = int(rng.random() * (p - 1))
                source += source >= into
                move, ratio = kernels.propose_shear(self.leader, self.packed, r, into, source, size)
                ok = self._try_linear(s + into, s + source, move, ratio)
            if ok:
                head.L[r] = head.proposed[r]
            if self.adapting:
                head.tune[r, c] += ((1.0 if ok else 0.0) - BEST_ONE) / (1.0 + self.counter) ** 0.6

    def _try_linear(self, into: int, source: int, factor: float, ratio: float) -> bool:
        if not ratio > -math.inf:
            return False
        before = self.likelihood_word()
        found = self.ask(*before, ("try_linear", into, source, factor))
        if before:
            self.total = float(found[0])
        fresh = float(found[-1])
        if not -self.rng.standard_exponential() < fresh - self.total + ratio:
            return False
        self.total = fresh
        self.pending.append(("take_linear", into, source, factor))
        return True

    def carried(self) -> None:
        """One step of the hyperparameters, every group carried along (`engines.glmm.carried`)."""
        carrier, head, rng, plan = self.carrier, self.head, self.rng, self.plan
        t = self.t
        d = len(t)
        spread = carrier.spread[0]
        phi = 0.5 * math.pi / (1.0 + math.exp(-carrier.angle[0]))
        local = rng.random() < LOCAL
        if local:
            phi *= rng.random() ** 2
        at = kernels.coordinates(self.leader, self.packed, t)
        ratio = -kernels.density(self.leader, t, head.proposed, head.Q, head.work)
        u = np.zeros(d)
        for i in range(d):
            u[i] = (t[i] - carrier.centre[i] - spread[i, :i] @ u[:i]) / spread[i, i]
        z = math.cos(phi) * u + math.sin(phi) * rng.standard_normal(d)
        ratio += 0.5 * float(np.sum(z * z - u * u))
        new = carrier.centre + (spread[:d, :d] * z).sum(axis=1)
        ratio += kernels.density(self.leader, new, head.proposed, head.Q_new, head.work)
        moved = at < d
        shift, change = np.zeros((2, plan.E)), np.zeros(plan.P)
        if moved:
            ratio += kernels.prior_of_fixed(self.leader, new[at:].copy())
            ratio -= kernels.prior_of_fixed(self.leader, head.beta)
            change = new[at:] - head.beta
            centre = carrier.centre[at:]
            shift[0] = (plan.leader.reading * (head.beta - centre)).sum(axis=1)
            shift[1] = (plan.leader.reading * (new[at:] - centre)).sum(axis=1)
        ok, fresh = False, math.nan
        if math.isfinite(ratio):
            before = self.likelihood_word()
            found = self.ask(*before, ("carry", head.Q.copy(), head.Q_new.copy(), shift, change, moved))
            if before:
                self.total = float(found[0])
            fresh = float(found[-1])
            ratio += float(found[-2]) + fresh - self.total
            ok = -rng.standard_exponential() < ratio
        if not local:
            carrier.tally[0, 0] += 1.0
            if self.adapting:
                carrier.angle[0] += 2.0 * ((1.0 if ok else 0.0) - GOAL) / (1.0 + carrier.tally[0, 0]) ** 0.6
        if not ok:
            return
        if not local:
            carrier.tally[0, 1] += 1.0
        if moved:
            head.beta[:] = new[at:]
        head.L[:] = head.proposed
        self.total = fresh
        self.pending.append(("take_carried",))

    def groups(self, b: Array | None) -> None:
        """Every group on its own rows; then all sums where the chain is, and the coefficients if they are wanted."""
        head = self.head
        walking = bool(self.rng.random() < WALK_GROUPS)
        scale = math.exp(head.walk[0])
        self.tries += not walking
        message: list[Word] = [
            *self.pending, ("move_groups", head.Q.copy(), head.Sigma.copy(), walking, scale, 0.0), ("group_sums",),
            ("fixed_sums",),
        ]  # fmt: skip
        self.pending = []
        if b is not None:
            message.append(("coefficients",))
        answers = self.talk.say(message)
        size = 1 + sum(self.size) + self.fixed
        if b is not None:
            # nothing after this moves them
            np.concatenate([row[size:] for row in answers], out=b)
        found = added([row[:size] for row in answers])
        if self.adapting and walking:
            head.walk[0] += (found[0] / self.plan.levels - BEST_MANY) / (1.0 + self.counter) ** 0.6
        self._take_sums(found[1:])

    def fixed_effects(self) -> None:
        """One Laplace proposal for all fixed effects given the rest."""
        head, rng = self.head, self.rng
        H, g, step, diagonal = self.trying
        H[:], g[:] = self.H, self.g
        if not kernels.complete(self.leader, head.beta, H, g):
            return
        walking = bool(rng.random() < WALK_FIXED)
        scale = rng.random() if walking else 1.0
        ratio = kernels.propose_fixed(H, g, walking, scale, step, diagonal, rng)
        new = head.beta + step
        found = self.ask(("fixed_sums", step.copy()))
        ratio += found[0] - self.total
        ratio += kernels.prior_of_fixed(self.leader, new) - kernels.prior_of_fixed(self.leader, head.beta)
        if not ratio > -math.inf:
            return
        self._take_fixed(found, H, g)
        if not kernels.complete(self.leader, new, H, g):
            return
        if -rng.standard_exponential() < ratio + kernels.back(H, g, walking, scale, step, diagonal):
            head.beta[:] = new
            self.total = float(found[0])
            self.pending.append(("take_there",))

    def dispersion(self) -> None:
        """Residual sds by their full conditional; phi or shape by a random walk on the log scale."""
        head, rng, plan = self.head, self.rng, self.plan
        code, a = plan.dispersion_code, plan.dispersion_parameters
        if plan.gaussian:
            squares = self.ask(("squares", len(head.dispersion)))
            for s, square in enumerate(squares):
                head.dispersion[s] = kernels.draw_sigma(
                    head.dispersion[s], plan.sigma_rows[s], float(square), code, a, rng
                )
        else:
            root = 1.0 / math.sqrt(head.dispersion[0])
            move = math.exp(head.step[0]) * rng.standard_normal()
            new = root * math.exp(move)
            old, fresh = self.ask(("dispersed", float(head.dispersion[0]), 1.0 / (new * new)))
            ratio = fresh - old + move + kernels.prior_of_scale(code, a, new) - kernels.prior_of_scale(code, a, root)
            ok = -rng.standard_exponential() < ratio
            if ok:
                head.dispersion[0] = 1.0 / (new * new)
            if self.adapting:
                head.step[0] += ((1.0 if ok else 0.0) - BEST_ONE) / (1.0 + self.counter) ** 0.6
            if not ok:
                return
        self.total = math.nan
        self.pending.append(("disperse", head_dispersion(head)))


def added(answers: list[Array]) -> Array:
    """Add the answers of the shards in the order of the shards, wherever these are."""
    total = answers[0].copy()
    for row in answers[1:]:
        total += row
    return total


def head_dispersion(head: Head) -> Array:
    """Return a copy of the dispersions, to be sent."""
    return head.dispersion.copy()

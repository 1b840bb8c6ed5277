"""One chain of Metropolis-within-Gibbs whose rows are elsewhere: the leader proposes, shards answer with sums.

A sweep is that of `engines.glmm.scan` for one grouping factor, four messages long or a few more: fixed effects against
each group's own line and covariances given the scatter of the coefficients, by the leader alone; scalings and shears of
the coefficients; hyperparameters with every group carried along; every group on its own rows; all fixed effects; the
dispersion. Sums of shards are added in the order of the shards, wherever they are.
"""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster import leader as kernels
from bayou.cluster.fleet import Fleet, Talk
from bayou.cluster.leader import BEST_ONE, Head
from bayou.cluster.words import Word
from bayou.engines.draws import Draws
from bayou.engines.glmm.carried import GOAL, LOCAL
from bayou.engines.glmm.carrier import MOST, Fitting
from bayou.engines.tuning import next_boundary
from bayou.errors import Unsupported
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.cluster.sharded import Sharded

REFRESH = 8  # sweeps after which eta is computed afresh: a checkpoint can be made there
CHECKPOINT_SECONDS = 5.0
BYTES_PER_SECOND = 50 * 2**20  # of checkpoints, on average
BEST_MANY = 0.28
WALK_GROUPS, WALK_FIXED = 0.05, 0.1  # shares of random-walk steps among Laplace proposals
ROUNDS, SHORTEST = 40, 1e-8


class SweepChain:
    """One chain."""

    def __init__(self, plan: Sharded, fleet: Fleet, rng: np.random.Generator) -> None:
        self.plan, self.rng = plan, rng
        self.head: Head = plan.new_head(float(np.exp(0.5 * rng.standard_normal())))
        self.leader, self.packed = plan.packed, packed(self.head)
        P, p, E = plan.P, plan.p, plan.E
        self.lower = np.tril_indices(p), np.tril_indices(P)
        self.H, self.g = np.zeros((P, P)), np.zeros(P)
        self.trying = np.zeros((P, P)), np.zeros(P), np.zeros(P), np.zeros(P)
        self.carrier = _carrier(plan)
        self.t = np.zeros(int(self.carrier.first[1]))
        self.fitting = Fitting(SimpleNamespace(blocks=plan.blocks), self.carrier)  # type: ignore[arg-type]
        self.adapting = True
        self.counter, self.tries, self.scans = 0, 0, 0
        self.total = math.nan
        self.size = p * (p + 1) // 2, E * p
        self.fixed = 1 + P + P * (P + 1) // 2
        self.saved, self.bytes = time.monotonic(), 0
        self.talk = Talk(fleet, rng.spawn(len(fleet.pieces)))
        self.pending: list[Word] = [("disperse", self.head.dispersion.copy())]
        self._start()

    # ---- talking ---------------------------------------------------------------------------

    def ask(self, *words: Word) -> Array:
        """Say what is pending and these words; returns the sums of the answers, shard by shard in their order."""
        message = [*self.pending, *words]
        self.pending = []
        return _sum(self.talk.say(message))

    # ---- the start -------------------------------------------------------------------------

    def _start(self) -> None:
        for beta in self.plan.starts(self.rng):
            self.head.beta[:] = beta
            self.pending += [("clear",), ("refresh", self.head.beta.copy())]
            if self._to_mode(False) and self._to_mode(True):
                break
        else:
            raise Unsupported(self.plan.no_start())
        self._look()

    def _look(self) -> None:
        """Ask for the sums of the coefficients and of the fixed effects."""
        sums = self.ask(("group_sums",), ("fixed_sums",))
        self._take_sums(sums)

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

    def _to_mode(self, groups: bool) -> bool:
        """Climb by Newton steps where they go uphill, as `MetropolisChain` does."""
        head, plan = self.head, self.plan
        if not kernels.set_precision(self.leader, self.packed):
            return False
        H, g, step, _ = self.trying
        for _ in range(ROUNDS):
            before = head.beta.copy()
            settled = plan.P == 0
            found = self.ask(("fixed_sums",))
            if not math.isfinite(found[0]):
                return False
            density = found[0] + kernels.prior_of_fixed(self.leader, head.beta)
            length = 1.0
            while length > SHORTEST and not settled:
                self._take_fixed(found, H, g)
                if not kernels.complete(self.leader, head.beta, H, g):
                    break
                if kernels.newton(H, g, length, step) < 1e-8:
                    settled = True
                    break
                tried = self.ask(("fixed_sums", step.copy()))
                gain = tried[0] + kernels.prior_of_fixed(self.leader, head.beta + step) - density
                if gain > 0.0:
                    head.beta[:] += step
                    self.pending.append(("take_there",))
                    break
                length *= 0.25
            done = 0.0
            length = 1.0
            while groups and length > SHORTEST and done < plan.levels:
                done = self.ask(("move_groups", head.Q.copy(), head.Sigma.copy(), False, 1.0, length))[0]
                length *= 0.25
            if np.allclose(before, head.beta, rtol=1e-9, atol=1e-12):
                break
        return True

    # ---- a sweep ---------------------------------------------------------------------------

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin sweeps."""
        head = self.head
        wanted = out.b.shape[1] > 0
        for i in range(draws):
            for k in range(thin):
                b = out.b[i] if wanted and k == thin - 1 else None
                if not self._sweep(b):
                    return i
            out.beta[i], out.L[i] = head.beta, np.tril(head.L)
            out.dispersion[i] = head.dispersion
        if self.adapting:
            self.fitting.see(out)
        return draws

    def _sweep(self, b: Array | None) -> bool:
        head, leader = self.head, self.leader
        self.counter += 1
        if self.counter % REFRESH == 0:
            self._checkpoint()
            self.pending.append(("refresh", head.beta.copy()))
        if not kernels.set_precision(leader, self.packed):
            return False
        if self.plan.E:
            kernels.draw_translations(leader, self.packed, self.rng)
            self.pending.append(("translate", head.d.copy()))
        if not kernels.draw_covariances(leader, self.packed, self.rng):
            return False
        self._whitened()
        if self.carrier.ready[0] == 1:
            self._carried()
        if not kernels.set_precision(leader, self.packed):
            return False
        self._groups(b)
        if self.plan.P:
            self._fixed()
        if self.plan.dispersed:
            self._dispersion()
        if self.adapting:
            self.pending.append(("note",))
            self.scans += 1
        return True

    def _checkpoint(self) -> None:
        due = max(CHECKPOINT_SECONDS, self.bytes / BYTES_PER_SECOND)
        if time.monotonic() - self.saved < due:
            return
        if self.pending:
            self.talk.say(self.pending)
            self.pending = []
        self.talk.checkpoint()
        self.bytes = sum(v.nbytes for s in self.talk.states if s for v in s.values() if isinstance(v, np.ndarray))
        # weights and dispersion follow from it
        self.pending.append(("disperse", head_dispersion(self.head)))
        self.saved = time.monotonic()

    def _likelihood(self) -> list[Word]:
        return [("likelihood",)] if math.isnan(self.total) else []

    def _whitened(self) -> None:
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
        before = self._likelihood()
        found = self.ask(*before, ("try_linear", into, source, factor))
        if before:
            self.total = float(found[0])
        fresh = float(found[-1])
        if not -self.rng.standard_exponential() < fresh - self.total + ratio:
            return False
        self.total = fresh
        self.pending.append(("take_linear", into, source, factor))
        return True

    def _carried(self) -> None:
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
            before = self._likelihood()
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

    def _groups(self, b: Array | None) -> None:
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
        found = _sum([row[:size] for row in answers])
        if self.adapting and walking:
            head.walk[0] += (found[0] / self.plan.levels - BEST_MANY) / (1.0 + self.counter) ** 0.6
        self._take_sums(found[1:])

    def _fixed(self) -> None:
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

    def _dispersion(self) -> None:
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

    # ---- what `ChainEngine` asks for -------------------------------------------------------

    def boundary(self, scan: int) -> int:
        """Return the next fit of the approximation."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the approximation; at the end of the warm-up freeze the steps and start counting acceptance."""
        if self.fitting.fit():
            self.pending.append(("set_anchor", float(self.scans)))
            self.scans = 0
        if scan >= warmup:
            self.adapting = False
            self.fitting.freeze()
            self.tries = 0
            self.pending.append(("forget",))

    def group_statistics(self) -> dict[str, Array]:
        """Return acceptance rates by group."""
        answers = self.talk.say([*self.pending, ("acceptance",)])
        self.pending = []
        self.talk.close()
        return {f"acceptance_{self.plan.name}": np.concatenate(answers) / max(self.tries, 1)}

    def snapshot(self) -> dict[str, Array]:
        """Nothing is stored yet: `Sharded` refuses ``store=``."""
        return {}

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Nothing is stored yet."""


def _sum(answers: list[Array]) -> Array:
    """Add the answers of the shards in the order of the shards, wherever these are."""
    total = answers[0].copy()
    for row in answers[1:]:
        total += row
    return total


def head_dispersion(head: Head) -> Array:
    """Return a copy of the dispersions, to be sent."""
    return head.dispersion.copy()


def _carrier(plan: Sharded) -> Any:
    """Return what `Fitting` fills: one factor, its blocks and then the fixed effects."""
    own = int((plan.blocks.size * (plan.blocks.size + 1) // 2).sum())
    d = own + plan.P if own + plan.P <= MOST else (own if own <= MOST else 0)
    return SimpleNamespace(
        first=np.array([0, d], dtype=np.int64),
        ready=np.zeros(1, dtype=np.int64),
        centre=np.zeros(d),
        spread=np.zeros((1, max(d, 1), max(d, 1))),
        angle=np.zeros(1),
        tally=np.zeros((1, 2)),
    )

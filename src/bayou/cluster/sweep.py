"""One chain of Metropolis-within-Gibbs whose rows are elsewhere: the leader proposes, shards answer with sums.

A sweep is that of `engines.glmm.scan` for one grouping factor, four messages long or a few more: fixed effects against
each group's own line and covariances given the scatter of the coefficients, by the leader alone; scalings and shears of
the coefficients; hyperparameters with every group carried along; every group on its own rows; all fixed effects; the
dispersion. Sums of shards are added in the order of the shards, wherever they are.

The state of the shards is exact where eta is computed afresh, every so many sweeps, and it is fetched only there: eta,
a number for each row, is never sent. What a stored run keeps of a chain is therefore the last such point, the leader's
part and the shards', and how many sweeps were made since; to resume is to make these again. They follow from the point,
so that the draws do not depend on when anything is fetched or written; and to write asks nothing of the workers.
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
from bayou.cluster.proposals import Moves, head_dispersion
from bayou.cluster.words import generator_state, set_generator
from bayou.engines.draws import Draws, restore_into, snapshot_of
from bayou.engines.glmm.carrier import MOST, Fitting
from bayou.engines.tuning import next_boundary
from bayou.errors import FileError, Unsupported
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.cluster.sharded import Sharded

REFRESH = 8  # sweeps after which eta is computed afresh: a checkpoint can be made there
CHECKPOINT_SECONDS = 5.0
BYTES_PER_SECOND = 50 * 2**20  # of checkpoints, on average
ROUNDS, SHORTEST = 40, 1e-8
# what of the leader outlives a sweep; the rest is scratch
HEAD = ("beta", "L", "dispersion", "tune", "step", "walk", "scatter", "sums")
APPROXIMATION = ("ready", "centre", "spread", "angle", "tally")


class SweepChain(Moves):
    """One chain."""

    def __init__(self, plan: Sharded, fleet: Fleet, rng: np.random.Generator) -> None:
        self.plan, self.rng = plan, rng
        self.head = plan.new_head(float(np.exp(0.5 * rng.standard_normal())))
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
        self.pending = [("disperse", self.head.dispersion.copy())]
        self.started = False
        self.point: dict[str, Array] = {}  # where the shards' states were fetched last: the leader's part
        self.adapted: list[tuple[int, int, int]] = []  # since then: after which sweep, and the arguments

    # ---- the start -------------------------------------------------------------------------

    def _start(self) -> None:
        """Go to the start; a chain that is restored to a point does without."""
        if self.started:
            return
        self.started = True
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
        self._start()
        head = self.head
        wanted = out.b.shape[1] > 0
        for i in range(draws):
            for k in range(thin):
                b = out.b[i] if wanted and k == thin - 1 else None
                if not self._sweep(b):
                    return i
            out.beta[i], out.L[i] = head.beta, np.tril(head.L)
            out.dispersion[i] = head.dispersion
            if self.adapting:  # one by one: a point may be taken between any two
                self.fitting.see(out.part(slice(i, i + 1)))
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
        self.whitened()
        if self.carrier.ready[0] == 1:
            self.carried()
        if not kernels.set_precision(leader, self.packed):
            return False
        self.groups(b)
        if self.plan.P:
            self.fixed_effects()
        if self.plan.dispersed:
            self.dispersion()
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
        self.point, self.adapted = self._leads(), []
        self.bytes = sum(v.nbytes for s in self.talk.states if s for v in s.values() if isinstance(v, np.ndarray))
        # weights and dispersion follow from it
        self.pending.append(("disperse", head_dispersion(self.head)))
        self.saved = time.monotonic()

    # ---- what `ChainEngine` asks for -------------------------------------------------------

    def boundary(self, scan: int) -> int:
        """Return the next fit of the approximation."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the approximation; at the end of the warm-up freeze the steps and start counting acceptance."""
        self._start()
        self.adapted.append((self.counter, scan, warmup))
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
        """Return the last point and what was done since; beta tells whether doing it again came to the same."""
        shards = enumerate(self.talk.states) if self.point else ()
        return {
            **{f"leader/{name}": values for name, values in self.point.items()},
            **{f"shard/{k}/{name}": values for k, state in shards for name, values in (state or {}).items()},
            "adapted": np.array(self.adapted, dtype=np.int64).reshape(-1, 3),
            "sweeps": np.array([self.counter]),
            "beta": self.head.beta.copy(),
        }

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Go to the point of a `snapshot`, or to the start if it has none, and do again what was done since.

        Raises
        ------
        FileError
            If that comes to other numbers than it did.
        """
        if "leader/beta" in snapshot:
            self._go_to(snapshot)
        for sweep, scan, warmup in snapshot["adapted"].tolist():
            self._repeat(sweep)
            self.adapt(scan, warmup)
        self._repeat(int(snapshot["sweeps"][0]))
        if not np.array_equal(self.head.beta, snapshot["beta"], equal_nan=True):
            raise FileError(
                "The last sweeps of this run come to other numbers here than where they were made: on another kind of "
                "processor, most often, which rounds differently. Go on there; or bayou.salvage(folder) returns the "
                "draws there are."
            )

    def _repeat(self, until: int) -> None:
        size = until - self.counter
        if size > 0:
            self.advance(size, 1, self.plan.shape(size, False))

    def _leads(self) -> dict[str, Array]:
        """Return copies of all of the leader that the sweep which begins depends on."""
        fitting = self.fitting
        counts = [self.counter - 1, self.tries, self.scans, int(self.adapting)]
        return {
            **snapshot_of(self.head, HEAD),
            **{f"carrier/{name}": v for name, v in snapshot_of(self.carrier, APPROXIMATION).items()},
            "seen": np.concatenate([fitting.before[:0], *fitting.seen]),
            "before": fitting.before,
            "counts": np.array(counts, dtype=np.float64),
            "total": np.array([self.total]),
            "generator": generator_state(self.rng),
        }

    def _go_to(self, snapshot: dict[str, Array]) -> None:
        """Take up the point of a snapshot, here and in the shards."""
        states: list[dict[str, Any]] = [{} for _ in self.talk.states]
        self.point = {}
        for key, values in snapshot.items():
            whose, _, name = key.partition("/")
            if whose == "leader":
                self.point[name] = values
            elif whose == "shard":
                k, _, name = name.partition("/")
                states[int(k)][name] = values
        point = self.point
        restore_into(self.head, {name: point[name] for name in HEAD})
        restore_into(self.carrier, {name: point[f"carrier/{name}"] for name in APPROXIMATION})
        self.fitting.seen = [point["seen"]] if len(point["seen"]) else []
        self.fitting.before = point["before"]
        counter, self.tries, self.scans, adapting = (int(v) for v in point["counts"])
        self.counter, self.adapting = counter, bool(adapting)
        self.total = float(point["total"][0])
        set_generator(self.rng, point["generator"])
        self.talk.restore(states)
        self.adapted, self.started = [], True
        # weights and dispersion follow from it, as after a checkpoint
        self.pending = [("disperse", head_dispersion(self.head))]


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

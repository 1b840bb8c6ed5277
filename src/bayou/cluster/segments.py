"""What a worker does for a chain: about a second of it at a time, from where it stands or from a checkpoint.

The chain stays on its worker between two segments. Its draws, and now and then all that its next scan depends on, go
to the client with each: a chain whose worker is gone goes on elsewhere from the last checkpoint, to the same draws, as
one that is resumed from a folder does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from bayou._types import Array
from bayou.engines.chains import ChainEngine, Progress
from bayou.engines.draws import Chain, Plan
from bayou.engines.record import Record

if TYPE_CHECKING:
    from bayou.model import Model

IDLE_SECONDS = 600.0  # after which a worker forgets a chain that nobody asked for


@dataclass(frozen=True)
class Checkpoint:
    """All that a chain goes on from, beside its generator at the start."""

    scan: int = 0
    made: int = 0
    ended: bool = False
    count: int = 0  # of the running moments of b, if not all are kept
    mean: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))
    state: dict[str, Array] | None = None  # of the chain; None: it has not begun
    generator: dict[str, Any] | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Scans of the warm-up and draws that are made."""
        return self.scan, self.made

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(v.nbytes for v in (self.state or {}).values()) + self.mean.nbytes + self.squares.nbytes


@dataclass(frozen=True)
class Order:
    """A segment as the client asks for it."""

    run: str
    engine: ChainEngine
    number: int
    rng: np.random.Generator  # as the chain begins
    place: tuple[int, int]  # where the chain should stand
    start: Checkpoint | None  # where it goes on from if this worker has not got it; None: say so
    seconds: float | None  # None runs the chain whole
    secure: bool  # whether to send what the next scan depends on
    keep: bool  # every draw of b


@dataclass(frozen=True)
class Segment:
    """What came of it; ``missing`` if the worker has not got the chain and knows no start."""

    missing: bool
    worker: str = ""
    draws: dict[str, Array] = field(default_factory=dict)
    subset: tuple[Array, ...] = ()
    after: Checkpoint = field(default_factory=Checkpoint)
    secured: bool = False
    groups: dict[str, Array] = field(default_factory=dict)


class SegmentRecord(Record):
    """A record that begins where another ended, and holds the chain as it is at its end."""

    def __init__(self, plan: Plan, order: Order, start: Checkpoint, fresh: bool) -> None:
        super().__init__(plan, order.engine.draws, order.keep)
        self.start, self.fresh = start, fresh
        self.scan, self.first, self.made, self.ended = start.scan, start.made, start.made, start.ended
        self.count = start.count
        if len(start.mean):
            self.mean, self.squares = start.mean.copy(), start.squares.copy()
        self.chain: Chain | None = None

    def resume(self, chain: Chain) -> None:
        """Bring a chain that was made anew to the checkpoint."""
        self.chain = chain
        if self.fresh and self.start.state is not None:
            chain.restore(self.start.state)
            generator: Any = self.start.generator
            chain.rng.bit_generator.state = generator

    def after(self, secure: bool) -> Checkpoint:
        """Return where the record stands, with the chain's own state if ``secure``."""
        state: dict[str, Array] | None = None
        generator: Any = None
        if secure and self.chain is not None:
            state, generator = self.chain.snapshot(), self.chain.rng.bit_generator.state
        return Checkpoint(
            self.scan, self.made, self.ended, self.count, self.mean, self.squares, state, generator
        )


@dataclass
class _Held:
    """A chain that a worker has."""

    chain: Chain
    after: Checkpoint
    used: float


_lock = threading.Lock()
_plans: dict[str, tuple[threading.Lock, list[Plan]]] = {}
_held: dict[tuple[str, int], _Held] = {}
_running: dict[tuple[str, int], Progress] = {}
_limited: list[Any] = []


def plan_of(run: str, engine: ChainEngine, model: Model) -> Plan:
    """Return the plan of a run, prepared once in each process."""
    with _lock:
        lock, known = _plans.setdefault(run, (threading.Lock(), []))
    with lock:
        if not known:
            with one_thread():
                known.append(engine.prepare(model))
        return known[0]


def know(run: str, plan: Plan) -> None:
    """Put a plan where the workers of this process find it."""
    with _lock:
        _plans[run] = (threading.Lock(), [plan])


def segment(order: Order, model: Model) -> Segment:
    """Run a chain for about a second, on a worker."""
    key = (order.run, order.number)
    with _lock:
        for old in [k for k, v in _held.items() if time.monotonic() - v.used > IDLE_SECONDS and k != key]:
            del _held[old]
        held = _held.pop(key, None)
    fresh = held is None or held.after.place != order.place
    if fresh and order.start is None:
        return Segment(missing=True)
    engine, plan = order.engine, plan_of(order.run, order.engine, model)
    start = order.start if fresh else held.after  # type: ignore[union-attr]
    assert start is not None
    record = SegmentRecord(plan, order, start, fresh)
    if not fresh:
        chain = held.chain  # type: ignore[union-attr]
        record.chain = chain
        plan = _with_chain(plan, chain)
    progress = Progress(np.zeros(engine.chains, dtype=np.int64))
    clock = None
    with _lock:
        _running[key] = progress
    if order.seconds is not None:
        clock = threading.Timer(order.seconds, progress.stop.set)
        clock.daemon = True
        clock.start()
    try:
        with one_thread():
            engine._chain(plan, order.rng, order.number, record, progress)
    finally:
        if clock is not None:
            clock.cancel()
        with _lock:
            _running.pop(key, None)
    over = record.ended or record.made >= engine.draws
    after = record.after(order.secure)
    if record.chain is not None and not over:
        with _lock:
            _held[key] = _Held(record.chain, after, time.monotonic())
    made = record.made - record.first
    draws = record.buffer.part(slice(0, made)).arrays() if made else {}
    return Segment(False, _own_address(), draws, tuple(record.subset), after, order.secure or over, record.groups)


def _with_chain(plan: Plan, chain: Chain) -> Plan:
    from dataclasses import replace

    return replace(plan, new_chain=lambda rng: chain)


def _own_address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def halt(run: str) -> None:
    """End the segments of a run that this process works at, soon."""
    with _lock:
        for key, progress in _running.items():
            if key[0] == run:
                progress.stop.set()


def scans(run: str) -> dict[int, int]:
    """Return how far the segments of a run are that this process works at, by chain."""
    with _lock:
        return {key[1]: int(p.scans[key[1]]) for key, p in _running.items() if key[0] == run}


def forget(run: str) -> None:
    """Drop what this process holds of a run."""
    with _lock:
        _plans.pop(run, None)
        for key in [key for key in _held if key[0] == run]:
            del _held[key]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for linear algebra while any segment of this process runs: more could change the last bit."""
    with _lock:
        if not _limited:
            _limited.append(threadpool_limits(1, user_api="blas"))
        _limited.append(None)
    try:
        yield
    finally:
        with _lock:
            _limited.pop()
            if len(_limited) == 1:
                _limited.pop().restore_original_limits()

"""Chains over the workers of a cluster: the client asks for a second of each at a time and keeps what comes."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster.connection import allowed_failures, distributed, workers_of
from bayou.cluster.segments import Checkpoint, Order, Segment, forget, halt, know, scans, segment
from bayou.engines.chains import ChainEngine
from bayou.engines.draws import Draws, Plan
from bayou.engines.progress import Bar
from bayou.engines.record import Record
from bayou.engines.resources import noticed
from bayou.engines.stream import CHECKPOINT_SECONDS, CHUNK_BYTES, StoredRecord
from bayou.errors import BayouError, ResourceError

if TYPE_CHECKING:
    from bayou.model import Model

SEGMENT_SECONDS = 1.0
PATIENCE = 120.0  # seconds without a worker
SMALL = 4 * 2**20  # bytes of a checkpoint that comes with every segment
BYTES_PER_SECOND = 20 * 2**20  # of larger ones, on average


class _Standing:
    """The chain as a `StoredRecord` asks for it: what the last checkpoint says."""

    class _Generator:
        state: Any

    def __init__(self, at: Checkpoint) -> None:
        self.at = at
        self.rng: Any = self
        self.bit_generator = self._Generator()
        self.bit_generator.state = at.generator

    def snapshot(self) -> dict[str, Array]:
        return self.at.state or {}

    def restore(self, snapshot: dict[str, Array]) -> None:
        self.at = replace(self.at, state=snapshot)


@dataclass
class _Run:
    """One chain as the client knows it."""

    number: int
    record: Record
    rng: np.random.Generator
    at: Checkpoint = field(default_factory=Checkpoint)  # the last that is secured
    place: tuple[int, int] = (0, 0)  # where its worker has it
    worker: str = ""
    waiting: list[Segment] = field(default_factory=list)  # after the last checkpoint
    safe: list[Segment] = field(default_factory=list)  # up to it, and not in the record yet
    secured: float = field(default_factory=time.monotonic)
    written: float = field(default_factory=time.monotonic)
    deaths: int = 0
    over: bool = False
    lost: str | None = None

    def begin(self) -> None:
        """Take up what the record has already, if it lives in a folder."""
        standing = _Standing(self.at)
        self.record.resume(standing)  # type: ignore[arg-type]
        record = self.record
        if standing.at.state is not None:
            self.at = Checkpoint(
                record.scan, record.made, record.ended, record.count, record.mean, record.squares,
                standing.at.state, standing.bit_generator.state,
            )  # fmt: skip
            self.place = self.at.place
        self.over = record.ended or record.made >= record.draws

    def secure(self, at: Checkpoint, last: bool) -> None:
        """Take note of a checkpoint: the chain goes on from there if its worker dies; what was before is kept."""
        self.at, self.secured = at, time.monotonic()
        self.safe += self.waiting
        self.waiting = []
        if isinstance(self.record, StoredRecord):
            held = sum(v.nbytes for s in self.safe for v in s.draws.values())
            if not (last or held > CHUNK_BYTES or time.monotonic() - self.written > CHECKPOINT_SECONDS):
                return
        self.keep()

    def keep(self) -> None:
        """Put all that is safe into the record."""
        record, at = self.record, self.at
        parts = [Draws.of(s.draws) for s in self.safe if s.draws]
        if isinstance(record, StoredRecord):
            if parts:
                record.buffer = Draws.joined(parts)
                record.made = record.first + len(record.buffer)
        else:
            for part in parts:
                room = record.room(len(part)).arrays()
                for name, values in part.arrays().items():
                    if name != "b" or record.keep:
                        room[name][...] = values
                record.made += len(part)
        for s in self.safe:
            record.subset += s.subset
        if self.safe and self.safe[-1].groups:
            record.groups = self.safe[-1].groups
        record.scan, record.ended, record.count = at.scan, at.ended, at.count
        record.mean, record.squares = at.mean, at.squares
        self.safe, self.written = [], time.monotonic()
        record.checkpoint(_Standing(at), last=True)  # type: ignore[arg-type]

    @property
    def due(self) -> bool:
        """Whether the next segment is to bring a checkpoint."""
        size = self.at.nbytes
        return size < SMALL or time.monotonic() - self.secured > size / BYTES_PER_SECOND


class _Conductor:
    """Asks for segments and keeps what comes, until all chains are over."""

    def __init__(self, client: Any, engine: ChainEngine, model: Model, runs: list[_Run]) -> None:
        self.client, self.engine, self.model, self.runs = client, engine, model, runs
        self.name = uuid.uuid4().hex
        self.allowed = allowed_failures()
        # a chain of NUTS cannot be taken up again: it runs whole
        self.whole = type(engine)._chain is not ChainEngine._chain
        self.futures: dict[Any, _Run] = {}
        self.sent: Any = None
        self.workers: set[str] = set()
        self.failed: BaseException | None = None

    def send_model(self) -> None:
        """Give the model to every worker; one that joins later fetches it from another."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.sent = self.client.scatter(self.model, hash=False, broadcast=True)
                return
            except Exception as error:  # workers come and go, and the scheduler stumbles over it
                if time.monotonic() > until or isinstance(error, (TypeError, pickle.PicklingError)):
                    raise ResourceError(f"The model cannot be sent to the workers ({error}).") from error
                time.sleep(0.2)

    def ask(self, run: _Run, restart: bool = False) -> None:
        """Ask for the next segment of a chain; after a ``restart`` from its last checkpoint."""
        if restart:
            run.waiting, run.place, run.worker = [], run.at.place, ""
        fresh = restart or not run.worker
        seconds = None if self.whole else SEGMENT_SECONDS
        order = Order(
            self.name, self.engine, run.number, run.rng, run.place, run.at if fresh else None, seconds,
            not self.whole and run.due, run.record.keep,
        )  # fmt: skip
        if fresh:
            run.worker = self._free()
        future = self.client.submit(
            segment, order, self.sent, pure=False, workers=[run.worker], allow_other_workers=True
        )
        self.futures[future] = run
        future.add_done_callback(self.answered.put)

    def _free(self) -> str:
        """Return the worker with the fewest chains for its threads: a task goes to its data if nobody says where to."""
        until = time.monotonic() + PATIENCE
        while not (threads := self.client.nthreads()):
            if time.monotonic() > until:
                raise ResourceError(f"The cluster has had no workers for {PATIENCE:.0f} seconds: start some, and fit.")
            time.sleep(0.2)
        at = [run.worker for run in self.futures.values()]
        return str(min(sorted(threads), key=lambda worker: at.count(worker) / max(threads[worker], 1)))

    def take(self, run: _Run, found: Segment) -> None:
        """Take note of a segment."""
        if found.missing:
            self.died(run, 1, "its worker has gone")
            return
        run.waiting.append(found)
        run.place, run.worker = found.after.place, found.worker
        self.workers.add(found.worker)
        run.over = found.after.ended or found.after.made >= self.engine.draws
        if found.secured or run.over:
            if run.at.place != run.place:
                run.deaths = 0  # in a row, without getting on
            run.secure(found.after, run.over)

    def died(self, run: _Run, times: int, said: str) -> None:
        """Count a worker that went down under a chain, and begin again unless it was one too many."""
        run.deaths += times
        if run.deaths > self.allowed:
            run.lost = said
            run.over = True
            return
        self.ask(run, restart=True)

    def answer(self, future: Any) -> None:
        """See what came of a segment."""
        module = distributed()
        run = self.futures.pop(future)
        if future.status == "finished":
            try:
                found = future.result()
            except module.client.FutureCancelledError:
                found = Segment(missing=True)
            self.take(run, found)
            if not run.over and future.status == "finished" and not found.missing:
                self.ask(run)
            return
        if future.status == "error":
            error = future.exception()
            if isinstance(error, module.KilledWorker):
                self.died(run, self.allowed + 1, str(error).split(".")[0])
                return
            if isinstance(error, OSError) and not isinstance(error, BayouError):
                self.died(run, 1, f"{type(error).__name__}: {error}")  # connections that broke
                return
            self.failed = self.failed or error
            run.over = True
            return
        # cancelled or lost: what was sent is gone with the worker that had it
        self.send_model()
        self.died(run, 1, "the worker with its data has gone")

    def conduct(self) -> bool:
        """Run all chains; returns whether they were interrupted."""
        import queue

        self.answered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        total = self.engine.chains * (self.engine.warmup + self.engine.draws * self.engine.thin)
        interrupted = False
        try:
            with noticed() as signals, Bar(total, self.engine.progress) as show:
                self.send_model()
                for run in self.runs:
                    if not run.over:
                        self.ask(run)
                looked = time.monotonic()
                while self.futures and self.failed is None and not signals:
                    with suppress(queue.Empty):
                        self.answer(self.answered.get(timeout=0.1))
                    if self.whole and show.wanted and time.monotonic() - looked > 1.0:
                        self._look()
                        looked = time.monotonic()
                    show.update(sum(self._done(run) for run in self.runs))
                if signals and not all(run.over for run in self.runs):
                    interrupted = True
                    self._stop()
        except KeyboardInterrupt:
            interrupted = True
            self._stop()
        finally:
            self.client.cancel(list(self.futures), force=True)
            with suppress(Exception):
                self.client.run(forget, self.name, on_error="ignore")
        if self.failed is not None:
            raise self.failed
        return interrupted

    def _stop(self) -> None:
        """End what runs, and keep what comes within a few seconds."""
        with suppress(Exception):
            self.client.run(halt, self.name, on_error="ignore")
        deadline = time.monotonic() + 5.0
        for future, run in list(self.futures.items()):
            with suppress(Exception):
                found = future.result(timeout=max(deadline - time.monotonic(), 0.1))
                if not found.missing:
                    run.waiting.append(found)
        for run in self.runs:
            last = run.waiting[-1] if run.waiting else None
            if last is not None and (last.secured or self.whole or not isinstance(run.record, StoredRecord)):
                run.secure(last.after, True)
            elif run.safe:
                run.keep()

    def _done(self, run: _Run) -> int:
        scan, made = run.place
        return scan + made * self.engine.thin

    def _look(self) -> None:
        """Ask the workers how far chains are that run whole."""
        with suppress(Exception):
            for found in self.client.run(scans, self.name, on_error="ignore").values():
                for number, done in found.items():
                    for run in self.runs:
                        if run.number == number and not run.over:
                            run.place = (done, 0)


def run_chains(
    client: Any,
    engine: ChainEngine,
    model: Model,
    plan: Plan,
    generators: Sequence[np.random.Generator],
    records: Sequence[Record],
) -> tuple[list[Record], dict[str, Any], list[str], bool]:
    """Run the chains of an engine over the workers of a client.

    Returns
    -------
    records
        Of the chains that came to their end (or were interrupted): without those that were lost.
    facts
        For ``info`` of the result.
    said
        A sentence for every chain that was lost.
    interrupted
        Whether by Ctrl-C or SIGTERM.

    Raises
    ------
    ResourceError
        If every chain was lost.
    """
    runs = [_Run(c, record, g) for c, (record, g) in enumerate(zip(records, generators, strict=True))]
    for run in runs:
        run.begin()
    conductor = _Conductor(client, replace(engine, store=None), model, runs)
    know(conductor.name, plan)
    try:
        interrupted = conductor.conduct()
    finally:
        forget(conductor.name)
    lost = [run for run in runs if run.lost is not None]
    said = [
        f"Chain {run.number + 1} of {len(runs)} is not here: its worker died {conductor.allowed + 1} times "
        f"({run.lost}). Workers most often die of too little memory."
        for run in lost
    ]
    if len(lost) == len(runs):
        raise ResourceError(" ".join(["Every chain was lost.", *said]))
    facts = {"workers": sorted(conductor.workers) or workers_of(client)}
    return [run.record for run in runs if run.lost is None], facts, said, interrupted

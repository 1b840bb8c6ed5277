"""Running chains: threads, seeds, progress, interruption, and what is kept.

Every chain owns a child of the run's seed and its own state, so that the draws are the same for any
number of threads. Kernels release the GIL and are called in batches of about a twentieth of a second,
between which a chain looks at the stop flag: Ctrl-C and SIGTERM return what has been drawn, and a stored run
writes what is due. How long a batch is has no influence on the draws: adaptation happens at fixed scans.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from bayou._types import Array, Integers
from bayou.engines.assembly import assembled
from bayou.engines.base import Engine
from bayou.engines.draws import Draws, Plan
from bayou.engines.progress import Bar
from bayou.engines.record import Record, kept_effects
from bayou.engines.resources import check_memory, noticed
from bayou.errors import DataError, FileError, Unsupported
from bayou.jit import announce_compilation

if TYPE_CHECKING:
    from bayou.engines.store import Store
    from bayou.model import Model
    from bayou.posterior import Posterior

BATCH_SECONDS = 0.05
BATCH_BYTES = 32 * 2**20  # of group coefficients drawn between two looks at the stop flag
KEEP_BYTES = 512 * 2**20

# what runs the chains in place of threads, if anything: `bayou.cluster` sets it. Of the engine, model, plan, generators
# and records it makes the records that came to something, sentences for the result, and whether it was interrupted
Elsewhere = Callable[..., tuple["list[Record]", dict[str, Any], list[str], bool]]
ELSEWHERE: ContextVar[Elsewhere | None] = ContextVar("ELSEWHERE", default=None)


@dataclass
class Progress:
    """Counts of finished scans by chain, and the flag that stops everything."""

    scans: Integers
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, kw_only=True)
class ChainEngine(Engine):
    """Settings shared by all engines that run Markov chains.

    Parameters
    ----------
    draws
        Draws kept per chain; a chain runs warmup + draws x thin scans.
    warmup
        Scans before the first kept draw, in which proposals are tuned.
    chains
        Independent chains from dispersed starting points.
    thin
        Scans per kept draw.
    cores
        Threads; None uses as many as there are chains and processors. The draws do not depend on it.
    keep_effects
        True keeps every draw of the group coefficients, False running means and sds and a subset;
        "auto" keeps all up to 512 MB.
    store
        A folder to stream the draws to: memory stays bounded however long the run, and what a killed process
        leaves there is gone on with by `bayou.resume`. None keeps the draws in memory.
    progress
        Show a progress bar; None shows one on a terminal.
    """

    draws: int = 2000
    warmup: int = 1000
    chains: int = 4
    thin: int = 1
    cores: int | None = None
    keep_effects: bool | Literal["auto"] = "auto"
    store: str | os.PathLike[str] | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, least in (("draws", 1), ("warmup", 0), ("chains", 1), ("thin", 1)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise DataError(f"{name}={value!r}: {name} must be a whole number of at least {least}.")
        if self.cores is not None and (not isinstance(self.cores, int) or self.cores < 1):
            raise DataError(f"cores={self.cores!r}: cores must be None or a whole number of at least 1.")
        if self.keep_effects not in (True, False, "auto"):
            raise DataError(f"keep_effects={self.keep_effects!r}: use True, False or 'auto'.")
        if self.store is not None and not isinstance(self.store, (str, os.PathLike)):
            raise DataError(f"store={self.store!r}: give the name of a folder, such as 'run-1', or None.")

    @abstractmethod
    def prepare(self, model: Model) -> Plan:
        """Compute once what all chains share; raise `Unsupported` for a model it cannot take."""

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Run the chains.

        Returns
        -------
        Posterior
            With fewer draws than asked for, and a message, if the run was interrupted.

        Raises
        ------
        Unsupported
            The engine cannot take this model.
        ResourceError
            The draws would not fit into the memory that is free.
        FileError
            The folder of ``store`` holds something already or cannot be written.
        """
        with _quietly():
            started = time.perf_counter()
            plan = self.prepare(model)
            if self.store is None:
                check_memory(*self._memory(plan))
                return self._sample(model, rng, plan, started)
            from bayou.engines.store import create

            with create(self.store, self, model, rng, plan.shards) as store:
                return self._sample(model, rng, plan, started, store)

    def resume(self, store: Store) -> Posterior:
        """Go on with a run from where its folder has it, to the same draws as if it had not been interrupted."""
        with _quietly(), store:
            started = time.perf_counter()
            return self._sample(store.model, store.rng, self.prepare(store.model), started, store)

    def salvage(self, store: Store) -> Posterior:
        """Return the sound draws of a folder; messages name what is damaged."""
        with _quietly():
            plan = self.prepare(store.model)
            records = [store.record(c, plan, self.draws, self._keeps_effects(plan)) for c in range(self.chains)]
            said = [sentence for record in records for sentence in record.salvage()]
            if not np.logical_and.reduce([record.good() for record in records]).any():
                raise FileError(
                    f"{store.path} holds a run, but none of its draws can be read. {' '.join(said)}".strip()
                )
            posterior = self._collect(store.model, plan, records, store)
        said.insert(0, f"Salvaged: {posterior.size} of {self.draws} draws per chain could be read.")
        posterior.info["messages"][:0] = said
        return posterior

    def _sample(
        self, model: Model, rng: np.random.Generator, plan: Plan, started: float, store: Store | None = None
    ) -> Posterior:
        """Run the chains, from where ``store`` has them if it is given."""
        prepared = time.perf_counter() - started
        keep = self._keeps_effects(plan)
        generators = rng.spawn(self.chains)
        records = [
            Record(plan, self.draws, keep) if store is None else store.record(c, plan, self.draws, keep)
            for c in range(self.chains)
        ]
        elsewhere = ELSEWHERE.get()
        if elsewhere is None:
            facts, said, interrupted = self._in_threads(plan, generators, records)
        else:
            records, facts, said, interrupted = elsewhere(self, model, plan, generators, records)
        posterior = self._collect(model, plan, records, store)
        posterior.info["messages"][len(plan.messages) : len(plan.messages)] = said
        posterior.info |= {**facts, "seconds_preparing": prepared, "seconds": time.perf_counter() - started}
        if interrupted:
            posterior.info["messages"].insert(
                len(plan.messages),
                f"Interrupted: {posterior.size} of {self.draws} draws per chain were made and are kept.",
            )
        return posterior

    def _in_threads(
        self, plan: Plan, generators: Sequence[np.random.Generator], records: Sequence[Record]
    ) -> tuple[dict[str, Any], list[str], bool]:
        """Run the chains in this process; returns facts, sentences, and whether they were interrupted."""
        progress = Progress(np.zeros(self.chains, dtype=np.int64))
        cores = min(self.cores or os.cpu_count() or 1, self.chains)
        with noticed() as signals, ThreadPoolExecutor(cores) as pool:
            jobs = [
                pool.submit(self._chain, plan, g, c, record, progress)
                for c, (g, record) in enumerate(zip(generators, records, strict=True))
            ]
            interrupted = self._watch(jobs, progress, signals)
            for job in jobs:
                job.result()
        return {"cores": cores}, [], interrupted

    def _collect(self, model: Model, plan: Plan, records: Sequence[Record], store: Store | None) -> Posterior:
        """Make the posterior of what the chains have."""
        from bayou.posterior import Posterior

        mask = np.logical_and.reduce([record.good() for record in records])
        done = int(mask.sum())
        failures = [record.failure for record in records if record.failure is not None]
        if done == 0 and failures:
            raise FileError(f"The folder {self.store} cannot be written: {failures[0].strerror or failures[0]}.")
        if done == 0 and any(record.ended for record in records):
            raise Unsupported(f"A chain stopped before its first draw: {_lost(plan)} prevents this.")
        if done == 0:
            raise KeyboardInterrupt("interrupted before the first kept draw of every chain")
        messages = [*plan.messages]
        if failures:
            messages.append(
                f"The folder {self.store} could not be written ({failures[0].strerror or failures[0]}): {done} of "
                f"{self.draws} draws per chain were made and are here. Free some space; bayou.resume(folder) goes on."
            )
        draws, statistics, kept = assembled(plan, records, mask, None if store is None else store.path / "posterior")
        if any(record.ended for record in records):
            messages.append(
                f"A chain stopped after {done} of {self.draws} draws: {_lost(plan)} prevents this. "
                f"The draws before are kept. Where the chains were then: {_last_state(model, draws)}."
            )
        info: dict[str, Any] = {
            "engine": self.name,
            "settings": self.describe(),
            "method": plan.method,
            "chains": len(records),
            "warmup": self.warmup,
            "thin": self.thin,
            "messages": messages,
        }
        if kept is not None:
            info["effect_draws"] = kept
            messages.append(
                f"The group coefficients ({plan.coefficients:,} numbers a draw) are kept as running means and "
                f"sds and as {len(kept)} evenly spaced draws; keep_effects=True keeps all."
            )
        names = records[0].groups
        return Posterior(
            model=model,
            engine=self.describe(),
            draws=draws,
            statistics=statistics,
            info=info,
            group_statistics={name: np.stack([record.groups[name] for record in records]) for name in names},
        )

    def _keeps_effects(self, plan: Plan) -> bool:
        if self.keep_effects == "auto":
            return self.chains * self.draws * plan.coefficients * 8 <= KEEP_BYTES
        return bool(self.keep_effects)

    def _memory(self, plan: Plan) -> tuple[int, int, int, int]:
        """Return the bytes of all draws while they are put together, draws, chains, and the bytes of the effects."""
        q = plan.coefficients
        effects = 8 * q * len(kept_effects(self.draws, self._keeps_effects(plan), q))
        # the kernels' coordinates and the names of the contract, for a moment both
        needed = 2 * self.chains * (self.draws * plan.shape(1, False).nbytes + effects)
        return needed, self.draws, self.chains, 2 * self.chains * effects

    def _chain(self, plan: Plan, rng: np.random.Generator, number: int, record: Record, progress: Progress) -> None:
        """Run one chain: warm-up with its boundaries, then the kept draws."""
        chain = plan.new_chain(rng)
        record.resume(chain)
        most = max(1, BATCH_BYTES // (8 * max(plan.coefficients, 1)))
        batch = 1
        if self.warmup == 0 and record.made == 0:
            chain.adapt(0, 0)
        while record.scan < self.warmup and not (record.failure or progress.stop.is_set()):
            scan = record.scan
            size = min(batch, chain.boundary(scan) - scan, self.warmup - scan)
            began = time.perf_counter()
            if chain.advance(size, 1, plan.shape(size, False)) < size:
                raise Unsupported(
                    f"The sampler failed at warm-up scan {scan + 1} of chain {number + 1}: {_lost(plan)} prevents this."
                )
            batch = _next_batch(batch, time.perf_counter() - began, 100_000)
            record.scan = scan + size
            if record.scan == chain.boundary(scan) or record.scan == self.warmup:
                chain.adapt(record.scan, self.warmup)
            record.checkpoint(chain)
            progress.scans[number] = record.scan
        batch = max(1, batch // self.thin)
        while record.made < self.draws and not (record.ended or record.failure or progress.stop.is_set()):
            part = record.room(min(batch, self.draws - record.made, most))
            began = time.perf_counter()
            done = chain.advance(len(part), self.thin, part)
            batch = _next_batch(batch, time.perf_counter() - began, 100_000)
            done = min(done, _finite(part))
            record.take(part, done)
            record.ended = done < len(part)
            record.checkpoint(chain)
            progress.scans[number] = self.warmup + record.made * self.thin
        record.checkpoint(chain, last=True)
        if record.failure is not None:
            progress.stop.set()
        record.groups = chain.group_statistics()

    def _watch(self, jobs: list[Future[Any]], progress: Progress, signals: list[int]) -> bool:
        """Wait for the chains, show how far they are, and stop them on Ctrl-C or SIGTERM."""
        total = self.chains * (self.warmup + self.draws * self.thin)
        interrupted = False
        try:
            with Bar(total, self.progress) as show:
                while not signals and wait(jobs, timeout=0.1).not_done:
                    show.update(int(progress.scans.sum()))
                    if any(job.done() and job.exception() for job in jobs):
                        progress.stop.set()
        except KeyboardInterrupt:
            interrupted = True
        if interrupted or signals:
            progress.stop.set()
            wait(jobs)
        return interrupted or bool(signals)


def _next_batch(batch: int, seconds: float, most: int) -> int:
    """Return the size of the next batch, growing at most twofold towards `BATCH_SECONDS`."""
    wanted = batch * BATCH_SECONDS / max(seconds, 1e-7)
    return int(max(1, min(most, 2 * batch, wanted)))


def _finite(draws: Draws) -> int:
    """Return how many draws come before the first that holds something other than numbers: there a chain ends."""
    sound = np.ones(len(draws), dtype=bool)
    for values in (draws.beta, draws.L, draws.dispersion):
        sound &= np.isfinite(values).reshape(len(draws), -1).all(axis=1)
    return len(sound) if sound.all() else int(sound.argmin())


def _last_state(model: Model, draws: dict[str, Array]) -> str:
    """Return the last fixed effects and sds of the chains, for the report of one that stopped."""
    names = list(model.design.coefficients)
    parts = [
        f"chain {c + 1}: "
        + ", ".join(f"{n} {v:.3g}" for n, v in zip(names[:4], beta[-1], strict=False))
        + "".join(f", {key} {v[c, -1].ravel()[0]:.3g}" for key, v in draws.items() if key.startswith("sd_"))
        for c, beta in enumerate(draws["beta"])
    ]
    return "; ".join(parts)


def _lost(plan: Plan) -> str:
    """Say what went wrong when a chain cannot go on, and the remedy."""
    on = "group sds" if plan.coefficients else "fixed effects, or fewer columns that nearly repeat each other,"
    return f"a covariance matrix lost its definiteness or a number overflowed; a proper or tighter prior on the {on}"


@contextmanager
def _quietly() -> Iterator[None]:
    """One thread for linear algebra, and a word on the screen, once, if kernels must be compiled."""

    def say() -> None:
        with suppress(AttributeError, OSError, ValueError):  # no standard error, or a closed one
            print("bayou: compiling (once per machine) ...", file=sys.stderr, flush=True)

    with announce_compilation(say), threadpool_limits(1, user_api="blas"):
        yield

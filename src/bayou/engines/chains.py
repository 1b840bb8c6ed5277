"""Running chains: threads, seeds, progress, interruption, and what is kept.

Every chain owns a child of the run's seed and its own state, so that the draws are the same for any
number of threads. Kernels release the GIL and are called in batches of about a twentieth of a second,
between which a chain looks at the stop flag: Ctrl-C and SIGTERM return what has been drawn. How long a batch is
has no influence on the draws: adaptation happens at fixed scans.
"""

from __future__ import annotations

import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from bayou._types import Array, Integers
from bayou.engines.base import Engine
from bayou.engines.progress import Bar
from bayou.engines.resources import check_memory, terminable
from bayou.errors import DataError, Unsupported
from bayou.jit import announce_compilation

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

BATCH_SECONDS = 0.05
BATCH_BYTES = 32 * 2**20  # of group coefficients drawn between two looks at the stop flag
KEEP_BYTES = 512 * 2**20
SUBSET = 200  # draws of b kept for prediction when not all are


@dataclass
class Draws:
    """Draws of one chain in the coordinates of the kernels; the first axis is the draw."""

    beta: Array
    b: Array
    L: Array
    dispersion: Array
    statistics: dict[str, Array] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Draws:
        """Return views of some draws."""
        some = {k: v[start:stop] for k, v in self.statistics.items()}
        cut = slice(start, stop)
        return Draws(self.beta[cut], self.b[cut], self.L[cut], self.dispersion[cut], some)


class Chain(Protocol):
    """One chain of an engine: it holds its own state and random numbers."""

    def boundary(self, scan: int) -> int:
        """Return the next warm-up scan after ``scan`` at which `adapt` must be called."""

    def adapt(self, scan: int, warmup: int) -> None:
        """Tune the proposals from what was seen, and freeze them when ``scan == warmup``."""

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans, fill ``out`` and return how many draws were made."""

    def group_statistics(self) -> dict[str, Array]:
        """Return arrays by group, such as acceptance rates."""


@dataclass(frozen=True)
class Plan:
    """A model made ready for one engine: what all chains share."""

    new_chain: Callable[[np.random.Generator], Chain]
    shape: Callable[[int, bool], Draws]  # empty draws: how many, with b or without
    coefficients: int  # numbers in one draw of b
    finish: Callable[[list[Draws]], dict[str, Array]]  # kernels' coordinates -> names of the contract
    messages: tuple[str, ...]
    method: str


@dataclass
class _Progress:
    """Counts of finished scans, and the flag that stops everything."""

    scans: Integers
    stop: threading.Event = field(default_factory=threading.Event)


class _Effects:
    """Keeps draws of b, or their running moments and an evenly spaced subset."""

    def __init__(self, draws: int, coefficients: int, keep: bool) -> None:
        self.keep = keep
        every = 1 if keep else max(1, draws // SUBSET)
        self.index = np.arange(every - 1, draws, every)
        self.kept = np.empty((len(self.index), coefficients)) if coefficients else np.empty((0, 0))
        self.count = 0
        self.mean = np.zeros(coefficients)
        self.squares = np.zeros(coefficients)

    def add(self, start: int, b: Array) -> None:
        """Take the draws of b from number ``start`` on."""
        low, high = np.searchsorted(self.index, (start, start + len(b)))
        self.kept[low:high] = b[self.index[low:high] - start]
        if not self.keep:
            for row in b:
                self.count += 1
                step = row - self.mean
                self.mean += step / self.count
                self.squares += step * (row - self.mean)


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
    progress
        Show a progress bar; None shows one on a terminal.
    """

    draws: int = 2000
    warmup: int = 1000
    chains: int = 4
    thin: int = 1
    cores: int | None = None
    keep_effects: bool | Literal["auto"] = "auto"
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
        """
        from bayou.posterior import Posterior

        started = time.perf_counter()
        with _announced(), threadpool_limits(1, user_api="blas"):
            plan = self.prepare(model)
            keep = self._keeps_effects(plan.coefficients)
            check_memory(*self._memory(plan, keep))
            prepared = time.perf_counter() - started
            progress = _Progress(np.zeros(self.chains, dtype=np.int64))
            generators = rng.spawn(self.chains)
            cores = min(self.cores or os.cpu_count() or 1, self.chains)
            with ThreadPoolExecutor(cores) as pool:
                jobs = [pool.submit(self._chain, plan, g, c, keep, progress) for c, g in enumerate(generators)]
                interrupted = self._watch(jobs, progress)
                results = [job.result() for job in jobs]
        done = min(len(draws.beta) for draws, _, _ in results)
        if done == 0:
            raise KeyboardInterrupt("interrupted before the first kept draw of every chain")
        messages = list(plan.messages)
        if interrupted:
            messages.append(f"Interrupted: {done} of {self.draws} draws per chain were made and are kept.")
        elif done < self.draws:
            messages.append(
                f"A chain stopped after {done} of {self.draws} draws: a covariance matrix lost its definiteness. "
                "The draws before are kept; a proper or tighter prior on the group sds prevents this."
            )
        chains = [draws.part(0, done) for draws, _, _ in results]
        effects = [e for _, e, _ in results]
        info: dict[str, Any] = {
            "engine": self.name,
            "settings": self.describe(),
            "method": plan.method,
            "chains": self.chains,
            "warmup": self.warmup,
            "thin": self.thin,
            "cores": cores,
            "seconds_preparing": prepared,
            "messages": messages,
        }
        if plan.coefficients:
            index = effects[0].index[effects[0].index < done]
            for chain, e in zip(chains, effects, strict=True):
                chain.b = e.kept[: len(index)]
            if not keep:
                info["effect_draws"] = index.tolist()
                count = f"{len(index)} evenly spaced draws"
                messages.append(
                    f"The group coefficients ({plan.coefficients:,} numbers a draw) are kept as running means and "
                    f"sds and as {count}; keep_effects=True keeps all."
                )
        draws = plan.finish(chains)
        if plan.coefficients and not keep:
            draws |= _moments(plan, chains, effects)
        names = chains[0].statistics
        statistics = {name: np.stack([chain.statistics[name] for chain in chains]) for name in names}
        groups = [g for _, _, g in results]
        group_statistics = {name: np.stack([g[name] for g in groups]) for name in groups[0]}
        info["seconds"] = time.perf_counter() - started
        return Posterior(
            model=model,
            engine=self.describe(),
            draws=draws,
            statistics=statistics,
            info=info,
            group_statistics=group_statistics,
        )

    def _keeps_effects(self, coefficients: int) -> bool:
        if self.keep_effects == "auto":
            return self.chains * self.draws * coefficients * 8 <= KEEP_BYTES
        return bool(self.keep_effects)

    def _memory(self, plan: Plan, keep: bool) -> tuple[int, int, int, int]:
        """Return the bytes of all draws while they are put together, draws, chains, and the bytes of the effects."""
        one = plan.shape(1, False)
        size = one.beta.nbytes + one.L.nbytes + one.dispersion.nbytes + sum(v.nbytes for v in one.statistics.values())
        kept = self.draws if keep else min(self.draws, SUBSET)
        effects = 8 * plan.coefficients * kept
        # the kernels' coordinates and the names of the contract, for a moment both
        return 2 * self.chains * (self.draws * size + effects), self.draws, self.chains, 2 * self.chains * effects

    def _chain(
        self, plan: Plan, rng: np.random.Generator, number: int, keep: bool, progress: _Progress
    ) -> tuple[Draws, _Effects, dict[str, Array]]:
        """Run one chain: warm-up with its boundaries, then the kept draws."""
        chain = plan.new_chain(rng)
        most = max(1, BATCH_BYTES // (8 * max(plan.coefficients, 1)))
        batch = 1
        scan = 0
        while scan < self.warmup and not progress.stop.is_set():
            size = min(batch, chain.boundary(scan) - scan, self.warmup - scan)
            began = time.perf_counter()
            if chain.advance(size, 1, plan.shape(size, False)) < size:
                raise Unsupported(
                    f"The sampler failed at warm-up scan {scan + 1} of chain {number + 1}: a covariance matrix lost "
                    "its definiteness. A proper or tighter prior on the group sds prevents this."
                )
            scan += size
            if scan == chain.boundary(scan - 1) or scan == self.warmup:
                chain.adapt(scan, self.warmup)
            batch = _next_batch(batch, time.perf_counter() - began, 100_000)
            progress.scans[number] = scan
        if self.warmup == 0:
            chain.adapt(0, 0)
        out = plan.shape(self.draws, False)
        effects = _Effects(self.draws, plan.coefficients, keep)
        made = 0
        batch = max(1, batch // self.thin)
        while made < self.draws and not progress.stop.is_set():
            size = min(batch, self.draws - made, most)
            part = out.part(made, made + size)
            if plan.coefficients:
                part.b = np.empty((size, plan.coefficients))
            began = time.perf_counter()
            done = chain.advance(size, self.thin, part)
            if plan.coefficients:
                effects.add(made, part.b[:done])
            made += done
            if done < size:
                break
            batch = _next_batch(batch, time.perf_counter() - began, 100_000)
            progress.scans[number] = self.warmup + made * self.thin
        return out.part(0, made), effects, chain.group_statistics()

    def _watch(self, jobs: list[Future[Any]], progress: _Progress) -> bool:
        """Wait for the chains, show how far they are, and stop them on Ctrl-C or SIGTERM."""
        total = self.chains * (self.warmup + self.draws * self.thin)
        show = Bar(total, self.progress)
        try:
            with terminable(), show:
                while wait(jobs, timeout=0.1).not_done:
                    show.update(int(progress.scans.sum()))
                    if any(job.done() and job.exception() for job in jobs):
                        progress.stop.set()
        except KeyboardInterrupt:
            progress.stop.set()
            wait(jobs)
            return True
        return False


def _next_batch(batch: int, seconds: float, most: int) -> int:
    """Return the size of the next batch, growing at most twofold towards `BATCH_SECONDS`."""
    wanted = batch * BATCH_SECONDS / max(seconds, 1e-7)
    return int(max(1, min(most, 2 * batch, wanted)))


def _moments(plan: Plan, chains: list[Draws], effects: list[_Effects]) -> dict[str, Array]:
    """Return the running means and sds of b as one-draw-per-chain variables of their own."""
    out: dict[str, Array] = {}
    first = chains[0]
    for name, values in (
        ("mean", [e.mean for e in effects]),
        ("sd_within", [np.sqrt(e.squares / max(e.count - 1, 1)) for e in effects]),
    ):
        fake = [Draws(first.beta[:1], v[None], first.L[:1], first.dispersion[:1]) for v in values]
        for key, value in plan.finish(fake).items():
            if key.startswith("b_"):
                out[f"{name}_{key}"] = value[:, 0]
    return out


def _announced() -> Any:
    """Say on the screen, once, that kernels are being compiled."""
    import sys

    def say() -> None:
        print("bayou: compiling (once per machine) ...", file=sys.stderr, flush=True)

    return announce_compilation(say)

"""One chain of NUTS: where it starts, how its draws are named and kept, and what stands beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.draws import Draws
from bayou.engines.hamiltonian.adapter import STATISTICS, Run, Settings
from bayou.engines.hamiltonian.tape import Tape
from bayou.engines.starts import no_start
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.engines.record import Record
    from bayou.joint import JointDensity
    from bayou.model import Model

EFFECTS = ("b_", "f_")
STARTS = 50  # points that are tried
POLL_SECONDS = 0.02
BLOCK_DRAWS, BLOCK_BYTES = 256, 8 * 2**20  # of draws that are named at a time


class Names:
    """From positions to the names of the contract and back to one row of numbers per draw.

    What is named is found by naming one position; the numbers of groups and structured effects stand apart, as they may
    not all be kept. Chains share the density, whose methods work in one place: they ask it one at a time.
    """

    def __init__(self, density: JointDensity, position: Array) -> None:
        self.density, self.lock = density, threading.Lock()
        named = density.natural(position[None])
        shapes = {key: value.shape[1:] for key, value in named.items()}
        self.effects = {key: shape for key, shape in shapes.items() if key.startswith(EFFECTS)}
        self.others = {key: shape for key, shape in shapes.items() if key not in self.effects}
        self.sizes = tuple(
            sum(int(np.prod(shape)) for shape in shapes.values()) for shapes in (self.others, self.effects)
        )

    def empty(self, draws: int, with_effects: bool) -> Draws:
        """Return room for draws."""
        few, many = self.sizes
        statistics = {name: np.zeros(draws) for name in STATISTICS.values()}
        nothing = np.empty((draws, 0))
        b = np.empty((draws, many if with_effects else 0))
        return Draws(np.empty((draws, few)), b, np.zeros((draws, 0, 1, 1)), nothing, statistics)

    def fill(self, out: Draws, positions: Array) -> None:
        """Name positions (draw, size)."""
        with self.lock:
            named = self.density.natural(positions)
        for rows, shapes in ((out.beta, self.others), (out.b, self.effects)):
            at = 0
            for key, shape in shapes.items():
                width = int(np.prod(shape))
                rows[:, at : at + width] = named[key].reshape(len(positions), width)
                at += width

    def finish(self, chains: list[Draws]) -> dict[str, Array]:
        """Return the draws of chains under their names, axes (chain, draw, …)."""
        out: dict[str, Array] = {}
        for part, shapes in (("beta", self.others), ("b", self.effects)):
            rows = np.stack([getattr(chain, part) for chain in chains])
            at = 0
            for key, shape in shapes.items() if rows.shape[2] else ():
                width = int(np.prod(shape))
                out[key] = rows[:, :, at : at + width].reshape(*rows.shape[:2], *shape)
                at += width
        return out


def starting_points(names: Names, model: Model, rng: np.random.Generator) -> Callable[[], Array]:
    """Return a function that gives the chain's first point, and others if nutpie asks again.

    Raises
    ------
    Unsupported
        If the log density is finite at none.
    """
    density = names.density

    def another() -> Array:
        with names.lock:
            return np.ascontiguousarray(density.start(rng), dtype=np.float64)

    for _ in range(STARTS):
        first = another()
        with names.lock:
            value, gradient = density.evaluate(first)
        if np.isfinite(value) and np.isfinite(gradient).all():
            waiting = [first]
            return lambda: waiting.pop() if waiting else another()
    raise Unsupported(no_start(model))


def run_chain(
    names: Names,
    settings: Settings,
    thin: int,
    start: Callable[[], Array],
    record: Record,
    stop: threading.Event,
    said: Callable[[int], None],
) -> None:
    """Run one chain into its record, until it is finished or ``stop`` is set.

    Parameters
    ----------
    settings
        Of nutpie; its draws are those before thinning.
    said
        Told how many draws are made, with those of the warm-up.

    Notes
    -----
    Positions are named in blocks of one length, so that no draw depends on when it was taken.
    """
    density = names.density
    block = max(1, min(BLOCK_DRAWS, BLOCK_BYTES // (8 * (sum(names.sizes) + density.size))))
    tape = Tape(density.size, settings.warmup, thin, record.draws, block)
    run = Run(density, settings, start, tape)
    try:
        over = False
        while not over:
            if stop.is_set():
                run.stop()
                over = True
            else:
                over = run.wait(POLL_SECONDS)
            while tape.waiting >= block or (over and tape.waiting):
                part = record.room(min(block, tape.waiting))
                names.fill(part, tape.take(len(part)))
                record.take(part, len(part))
            said(tape.steps)
        _keep_statistics(record, run.statistics(), settings.warmup, thin)
    finally:
        tape.close()
        run.stop()


def _keep_statistics(record: Record, statistics: dict[str, Array], warmup: int, thin: int) -> None:
    """Put what nutpie says of the kept draws beside them; a chain that was cut short may know of fewer."""
    for name, values in statistics.items():
        kept = values[warmup:][thin - 1 :: thin]
        record.made = min(record.made, len(kept))
        record.buffer.statistics[name][: record.made] = kept[: record.made]
    record.scan = warmup

"""The words of a message to a shard, and the shards that follow them.

A message is a list of words with their numbers; a shard does what each says and answers with one row of numbers, the
answers of its words side by side. Everything that a shard does follows from its rows, the state that it began with and
the words since: one that is lost is made again by saying them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bayou._types import Array
from bayou.cluster import kernels
from bayou.cluster.shards import CARRIED, Block, new_groups
from bayou.families.rows import row_dispersion
from bayou.packed import packed

Word = tuple[Any, ...]
NOTHING = np.zeros(0)


class Each:
    """Numbers of a word of which every shard gets its own, in the order of the shards."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts


def dealt(message: Sequence[Word], shards: Sequence[int]) -> list[Word]:
    """Return a message with the numbers of some shards only."""
    return [tuple(Each([a.parts[k] for k in shards]) if isinstance(a, Each) else a for a in word) for word in message]


def own(message: Sequence[Word], k: int) -> list[Word]:
    """Return a message as the shard hears it that is the k-th of those it was dealt to."""
    return [tuple(a.parts[k] if isinstance(a, Each) else a for a in word) for word in message]


def added(answers: Sequence[Array]) -> Array:
    """Return the sum of what shards answered, in their order: its last digits do not depend on where they are."""
    total = answers[0].copy()
    for one in answers[1:]:
        total += one
    return total


class Shard(Protocol):
    """What follows messages."""

    def follow(self, message: Sequence[Word]) -> Array:
        """Do what a message says; returns the numbers that it asks for."""

    def snapshot(self) -> dict[str, Any]:
        """Return what all further words start from."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a `snapshot`."""


class Piece(Protocol):
    """The rows of a shard, as they are sent."""

    def begin(self, seed: Any) -> Shard:
        """Return a shard of these rows, for one chain."""


class GroupRows:
    """Rows of some groups, for `GroupShard`."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def begin(self, seed: np.random.Generator) -> GroupShard:
        """Return a shard of these rows with random numbers of its own."""
        return GroupShard(self.block, seed)


class GroupShard:
    """The groups of one shard in one chain of `bayou.cluster.sweep`.

    Parameters
    ----------
    block
        Its rows.
    rng
        Its own random numbers.
    """

    def __init__(self, block: Block, rng: np.random.Generator) -> None:
        self.block, self.rows, self.rng = block, packed(block), rng
        self.groups = new_groups(block)
        self.packed = packed(self.groups)
        self.dispersion = 1.0  # for the row kernels
        self.P = len(block.X) // max(len(block.offset), 1)
        self.H, self.g = np.zeros((self.P, self.P)), np.zeros(self.P)
        self.lower = np.tril_indices(self.P)

    def follow(self, message: Sequence[Word]) -> Array:
        """Do what a message says; returns the numbers that it asks for."""
        answers = [getattr(self, word[0])(*word[1:]) for word in message]
        return np.concatenate([a for a in answers if a is not None] or [NOTHING])

    # ---- words without an answer -----------------------------------------------------------

    def refresh(self, beta: Array) -> None:
        """Compute eta from the coefficients, against the drift of small increments."""
        kernels.set_predictor(self.rows, self.packed, beta)

    def disperse(self, dispersion: Array) -> None:
        """Take note of the dispersions."""
        if self.block.gaussian:
            kernels.set_weights(self.rows, self.packed, dispersion)
        elif len(dispersion):
            self.dispersion = float(dispersion[0])

    def translate(self, d: Array) -> None:
        """Shift the coefficients against the fixed effects."""
        kernels.translate(self.rows, self.packed, d)

    def take_linear(self, into: int, source: int, factor: float) -> None:
        """Accept a scaling or shear."""
        kernels.take_linear(self.rows, self.packed, into, source, factor)

    def take_carried(self) -> None:
        """Accept hyperparameters with all groups carried along."""
        kernels.take_carried(self.packed)

    def take_there(self) -> None:
        """Accept a step of the fixed effects."""
        kernels.take_there(self.packed)

    def note(self) -> None:
        """Add the coefficients to those that the next anchors are the means of."""
        kernels.note(self.packed)

    def set_anchor(self, scans: float) -> None:
        """Set the anchors."""
        kernels.anchor(self.packed, scans)

    def forget(self) -> None:
        """Count acceptance from here on."""
        self.groups.accepted[:] = 0.0

    def clear(self) -> None:
        """Set the coefficients to zero."""
        self.groups.b[:] = 0.0

    # ---- words with an answer --------------------------------------------------------------

    def likelihood(self) -> Array:
        """Log likelihood (1,)."""
        return np.array([kernels.likelihood(self.rows, self.packed, self.dispersion)])

    def try_linear(self, into: int, source: int, factor: float) -> Array:
        """Log likelihood (1,) after a scaling or shear."""
        return np.array([kernels.try_linear(self.rows, self.packed, into, source, factor, self.dispersion)])

    def carry(self, Q: Array, Q_new: Array, shift: Array, change: Array, moved: bool) -> Array:
        """Log ratio without the likelihood, and log likelihood (2,) at proposed hyperparameters."""
        out = np.zeros(2)
        kernels.carry(
            self.rows, self.packed, Q, Q_new, shift[0], shift[1], change, moved, self.dispersion, out
        )
        return out

    def move_groups(self, Q: Array, L: Array, walking: bool, scale: float, length: float) -> Array:
        """How many groups accepted (1,)."""
        count = kernels.move_groups(
            self.rows, self.packed, Q, L, walking, scale, length, self.dispersion, self.rng
        )
        return np.array([float(count)])

    def group_sums(self) -> Array:
        """Σ b b' and Σ u b."""
        p, E = int(self.block.sizes[0]), len(self.block.coefficient)
        out = np.empty(p * (p + 1) // 2 + E * p)
        kernels.group_sums(self.rows, self.packed, out)
        return out

    def fixed_sums(self, step: Array | None = None) -> Array:
        """Log likelihood, X'gradient and X'WX: here, or after a step of the fixed effects."""
        tried = step is not None
        given = np.zeros(self.P) if step is None else step
        value = kernels.fixed_sums(self.rows, self.packed, given, tried, self.dispersion, self.H, self.g)
        return np.concatenate([[value], self.g, self.H[self.lower]])

    def squares(self, levels: int) -> Array:
        """Weighted squares of the residuals, by level of the residual sd."""
        out = np.empty(levels)
        kernels.residual_squares(self.rows, self.packed, out)
        return out

    def dispersed(self, old: float, new: float) -> Array:
        """Log likelihood (2,) as two dispersions have it."""
        block, groups = self.block, self.groups
        given = block.code, block.y[0], block.trials[0], groups.weights, groups.predictor
        return np.array([row_dispersion(*given, old), row_dispersion(*given, new)])

    def coefficients(self) -> Array:
        """All coefficients."""
        return self.groups.b.copy()

    def acceptance(self) -> Array:
        """How many proposals each group accepted."""
        return self.groups.accepted.copy()

    # ---- checkpoints -----------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what the words after a `refresh` start from."""
        state: dict[str, Any] = {name: getattr(self.groups, name).copy() for name in CARRIED}
        return state | {"generator": generator_state(self.rng)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a `snapshot`."""
        for name in CARRIED:
            getattr(self.groups, name)[:] = state[name]
        set_generator(self.rng, state["generator"])


def generator_state(rng: np.random.Generator) -> Any:
    """Return the state of a generator as an array (uint8), which a file of arrays can hold."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), dtype=np.uint8)


def set_generator(rng: np.random.Generator, state: Any) -> None:
    """Take up a `generator_state`."""
    rng.bit_generator.state = json.loads(state.tobytes())

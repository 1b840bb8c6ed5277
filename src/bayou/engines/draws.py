"""The words that engines with chains share: a chain, its draws, and the plan of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bayou._types import Array, Mask


@dataclass
class Draws:
    """Draws of one chain in the coordinates of the kernels; the first axis is the draw."""

    beta: Array
    b: Array
    L: Array
    dispersion: Array
    statistics: dict[str, Array] = field(default_factory=dict)

    def part(self, cut: slice | Mask) -> Draws:
        """Return some draws: views for a slice, copies for a mask."""
        some = {k: v[cut] for k, v in self.statistics.items()}
        return Draws(self.beta[cut], self.b[cut], self.L[cut], self.dispersion[cut], some)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, statistics after the others."""
        own = {"beta": self.beta, "b": self.b, "L": self.L, "dispersion": self.dispersion}
        return own | {f"statistics/{k}": v for k, v in self.statistics.items()}

    @classmethod
    def of(cls, arrays: dict[str, Array]) -> Draws:
        """Return the draws whose `arrays` these are."""
        inner = {k.removeprefix("statistics/"): v for k, v in arrays.items() if k.startswith("statistics/")}
        return cls(arrays["beta"], arrays["b"], arrays["L"], arrays["dispersion"], inner)

    @classmethod
    def joined(cls, parts: Sequence[Draws]) -> Draws:
        """Return several stretches of one chain as one."""
        if len(parts) == 1:
            return parts[0]
        arrays = [p.arrays() for p in parts]
        return cls.of({name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]})

    def __len__(self) -> int:
        return len(self.beta)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(v.nbytes for v in self.arrays().values())


class Chain(Protocol):
    """One chain of an engine: it holds its own state and random numbers."""

    rng: np.random.Generator

    def boundary(self, scan: int) -> int:
        """Return the next warm-up scan after ``scan`` at which `adapt` must be called."""

    def adapt(self, scan: int, warmup: int) -> None:
        """Tune the proposals from what was seen, and freeze them when ``scan == warmup``."""

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans, fill ``out`` and return how many draws were made."""

    def group_statistics(self) -> dict[str, Array]:
        """Return arrays by group, such as acceptance rates."""

    def snapshot(self) -> dict[str, Array]:
        """Return copies of all that the next scan depends on, but the random generator."""

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`: the scans that follow are the same to the last bit."""


@dataclass(frozen=True)
class Plan:
    """A model made ready for one engine: what all chains share."""

    new_chain: Callable[[np.random.Generator], Chain]
    shape: Callable[[int, bool], Draws]  # empty draws: how many, with b or without
    coefficients: int  # numbers in one draw of b
    finish: Callable[[list[Draws]], dict[str, Array]]  # kernels' coordinates -> names of the contract
    messages: tuple[str, ...]
    method: str
    shards: int | None = field(default=None, kw_only=True)  # asked for, if the draws depend on it


def snapshot_of(state: Any, names: Sequence[str]) -> dict[str, Array]:
    """Return copies of these arrays of a chain's state."""
    return {name: getattr(state, name).copy() for name in names}


def restore_into(state: Any, snapshot: dict[str, Array]) -> None:
    """Write a snapshot into the arrays of a state: kernels know these by their address."""
    for name, values in snapshot.items():
        getattr(state, name)[...] = values

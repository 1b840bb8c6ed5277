"""Cutting a model between its groups: shards of about as many rows, each made when it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers
from bayou.cluster.shards import Block
from bayou.cluster.words import GroupRows
from bayou.engines.centring import Centring
from bayou.model import Model

if TYPE_CHECKING:
    from bayou.design import Design


def cuts(rows: Integers, shards: int) -> Integers:
    """Return the first group of each shard, and the number of groups: about as many rows in each.

    Parameters
    ----------
    rows
        (J,) of each group.
    shards
        How many there are to be; no shard is empty, so there may be fewer.
    """
    J = len(rows)
    ends = np.concatenate([[0], np.cumsum(rows)])
    wanted = np.linspace(0, ends[-1], min(shards, J) + 1)
    found = np.searchsorted(ends, wanted)
    found[0], found[-1] = 0, J
    return np.unique(found).astype(np.int64)


class Edges:
    """Where the groups of a model with one grouping factor are cut, and which rows each shard has."""

    def __init__(self, model: Model, shards: int) -> None:
        codes = model.design.groupings[0].codes
        J = len(model.design.groupings[0].levels)
        counts = np.bincount(codes, minlength=J)
        self.start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        sorted_already = bool(np.all(codes[1:] >= codes[:-1]))
        self.order = None if sorted_already else np.argsort(codes, kind="stable")
        self.edges = cuts(counts, shards)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def part(self, k: int) -> tuple[int, int, Any]:
        """Return the first group of shard k, the one after its last, and its rows."""
        low, high = int(self.edges[k]), int(self.edges[k + 1])
        first, last = int(self.start[low]), int(self.start[high])
        return low, high, slice(first, last) if self.order is None else self.order[first:last]


class Cut:
    """The shards of a model as they are sent, each made when it is asked for: rows are not kept twice.

    Parameters
    ----------
    model
        With one grouping factor.
    moves
        Its translations.
    shards
        How many.
    """

    def __init__(self, model: Model, moves: Centring, shards: int) -> None:
        self.model, self.moves, self.edges = model, moves, Edges(model, shards)

    def __len__(self) -> int:
        return len(self.edges)

    def __iter__(self) -> Iterator[GroupRows]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> GroupRows:
        design, moves = self.model.design, self.moves
        low, high, own = self.edges.part(k)
        grouping = design.groupings[0]
        weights = design.weights[own]
        if design.standard_errors is not None:
            weights = weights / design.standard_errors[own] ** 2
        u = np.stack([moves.u[a + low : a + high] for a in moves.at]) if len(moves.at) else np.zeros((0, high - low))
        start = self.edges.start[low : high + 1] - self.edges.start[low]
        return GroupRows(
            block(
                self.model, design.y[own], design.trials[own], weights, design.offset[own], design.sigma_codes[own],
                working_rows(self.model, own), grouping.Z[own], start, u, moves.coefficient,
            )
        )  # fmt: skip


class Parts:
    """The parts of a model with one grouping factor, cut between its groups, each made when it is asked for."""

    def __init__(self, model: Model, shards: int) -> None:
        self.model, self.edges = model, Edges(model, shards)

    def __len__(self) -> int:
        return len(self.edges)

    def __getitem__(self, k: int) -> Model:
        low, high, rows = self.edges.part(k)
        return part_of(self.model, rows, low, high)


def part_of(model: Model, rows: Any, low: int, high: int) -> Model:
    """Return the model of some rows, those of groups ``low`` to ``high``; priors and working coordinates are shared."""
    design: Design = model.design
    grouping = design.groupings[0]
    own = replace(
        grouping, levels=grouping.levels[low:high], codes=np.asarray(grouping.codes[rows]) - low,
        Z=np.array(grouping.Z[rows]),
    )  # fmt: skip
    names = ("y", "trials", "weights", "offset")
    arrays: dict[str, Any] = {name: np.array(getattr(design, name)[rows]) for name in names}  # of files too: copies
    errors = None if design.standard_errors is None else np.array(design.standard_errors[rows])
    smaller = replace(
        design, **arrays, standard_errors=errors, X=np.array(design.X[rows]), groupings=(own,),
        sigma_codes=np.array(design.sigma_codes[rows]), data={}, categories={}, index=design.index[rows], reduced=None,
    )  # fmt: skip
    out = Model.__new__(Model)
    out.priors_given = False
    out._set(smaller, model.bound, ())
    columns = "printed" if hasattr(model.working, "printed") else "X"
    out.__dict__["working"] = replace(model.working, **{columns: getattr(model.working, columns)[rows]})
    return out


def working_rows(model: Model, rows: Any) -> Array:
    """Return the working columns of some rows."""
    part: Any = getattr(model.working, "part", None)
    return np.asarray(model.working.X[rows] if part is None else part(rows))


def block(
    model: Model,
    y: Array,
    trials: Array,
    weights: Array,
    offset: Array,
    sigma: Integers,
    X: Array,
    Z: Array,
    start: Integers,
    u: Array,
    coefficient: Integers,
) -> Block:
    """Return the rows of a shard, sorted by group, in the form of the kernels."""
    zero = np.zeros(1, dtype=np.int64)
    return Block(
        code=int(model.family.code),
        y=np.ascontiguousarray(y, dtype=np.float64)[None],
        trials=np.ascontiguousarray(trials, dtype=np.float64)[None],
        trials_step=1,
        weights_step=1,
        master=np.arange(len(y), dtype=np.int64)[None],
        first=zero,
        start=np.ascontiguousarray(start, dtype=np.int64),
        at_Z=zero,
        Z=np.ascontiguousarray(Z.T).ravel(),
        at_b=zero,
        levels=np.array([len(start) - 1], dtype=np.int64),
        sizes=np.array([Z.shape[1]], dtype=np.int64),
        X=np.ascontiguousarray(X.T).ravel(),
        offset=np.ascontiguousarray(offset, dtype=np.float64),
        prior_weights=np.ascontiguousarray(weights, dtype=np.float64),
        sigma=np.ascontiguousarray(sigma, dtype=np.int64),
        gaussian=model.family.name == "gaussian",
        u=np.ascontiguousarray(u),
        coefficient=np.ascontiguousarray(coefficient),
    )

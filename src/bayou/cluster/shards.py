"""The rows of some groups, and what one chain knows of these groups: the part of a model that a worker keeps.

A model with one grouping factor is cut between its groups into logical shards, whose number does not depend on the
workers. Given the fixed effects, covariances and dispersion, shards are independent; what moves these needs of a shard
are sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.engines.centring import Centring
from bayou.families.rows import LANES

if TYPE_CHECKING:
    from bayou.model import Model


class Block(NamedTuple):
    """Rows of consecutive groups, in their order; the fields that `engines.glmm.groups` reads bear its names."""

    code: int
    y: Array  # (1, n)
    trials: Array  # (1, n)
    trials_step: int
    weights_step: int
    master: Integers  # (1, n)
    first: Integers  # (1,)
    start: Integers  # (J + 1,)
    at_Z: Integers  # (1,)
    Z: Array  # flat, (p, n) column by column
    at_b: Integers  # (1,)
    levels: Integers  # (1,)
    sizes: Integers  # (1,)
    X: Array  # flat, (P, n) column by column
    offset: Array  # (n,)
    prior_weights: Array  # (n,)
    sigma: Integers  # (n,) level of the residual sd
    gaussian: bool  # whether the rows' weights carry the residual variance
    u: Array  # (E, J) multipliers of the translations
    coefficient: Integers  # (E,)


class Groups(NamedTuple):
    """What one chain knows of the groups of a shard, and its scratch."""

    b: Array  # (J p,)
    proposed: Array  # (J p,)
    anchor: Array  # (J p,)
    sum: Array  # (J p,)
    accepted: Array  # (J,)
    predictor: Array  # (n,)
    there: Array  # (n,) a proposed linear predictor
    weights: Array  # (n,)
    eta: Array  # (m,) scratch from here on, as `engines.glmm.regression.Scratch`
    gradient: Array
    curvature: Array
    value: Array
    here: Array
    weighted: Array
    step: Array
    diagonal: Array
    ratio: Array
    work: Array
    H: Array
    vectors: Array
    now: Array
    new: Array
    own: Array  # (4, p)
    d: Array  # (LANES p,)


CARRIED = ("b", "anchor", "sum", "accepted")  # what the next sweep depends on where eta is computed afresh


def new_groups(block: Block) -> Groups:
    """Allocate for the groups of a shard, coefficients at zero."""
    n, J, p = len(block.offset), int(block.levels[0]), int(block.sizes[0])
    m = max(LANES, int(np.diff(block.start).max()) if J else 0)
    return Groups(
        b=np.zeros(J * p),
        proposed=np.zeros(J * p),
        anchor=np.zeros(J * p),
        sum=np.zeros(J * p),
        accepted=np.zeros(J),
        predictor=np.zeros(n),
        there=np.zeros(n),
        weights=block.prior_weights.copy(),
        eta=np.zeros(m),
        gradient=np.zeros(m),
        curvature=np.zeros(m),
        value=np.zeros(m),
        here=np.zeros(m),
        weighted=np.zeros(m),
        step=np.zeros(LANES * p),
        diagonal=np.zeros(LANES * p),
        ratio=np.zeros(LANES),
        work=np.zeros(LANES),
        H=np.zeros((p, p)),
        vectors=np.zeros((2, p)),
        now=np.zeros((p, p)),
        new=np.zeros((p, p)),
        own=np.zeros((4, p)),
        d=np.zeros(LANES * p),
    )


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


def cut(model: Model, moves: Centring, shards: int) -> list[Block]:
    """Cut a model with one grouping factor between its groups."""
    design, grouping = model.design, model.design.groupings[0]
    order = np.argsort(grouping.codes, kind="stable")
    J = len(grouping.levels)
    rows = np.bincount(grouping.codes, minlength=J)
    start = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
    E = len(moves.at)
    u = np.stack([moves.u[a : a + J] for a in moves.at]) if E else np.zeros((0, J))
    edges = cuts(rows, shards)
    X = model.working.X
    out = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        own = order[start[low] : start[high]]
        out.append(
            block(
                model, design.y[own], design.trials[own], weights[own], design.offset[own], design.sigma_codes[own],
                X[own], grouping.Z[own], start[low : high + 1] - start[low], u[:, low:high], moves.coefficient,
            )
        )  # fmt: skip
    return out


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

"""The rows of some groups, and what one chain knows of these groups: the part of a model that a worker keeps.

A model with one grouping factor is cut between its groups into logical shards, whose number does not depend on the
workers. Given the fixed effects, covariances and dispersion, shards are independent; what moves these needs of a shard
are sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.families.rows import LANES


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

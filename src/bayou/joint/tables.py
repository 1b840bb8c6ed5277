"""What the joint log density is made of, as arrays for kernels.

A position q = (hyperparameters, fixed effects, coefficients) goes through three maps before the model sees it: from q
to coordinates v of each block (`Map`), from those of bounded quantities to their values, and from whitened coefficients
to the coefficients themselves. The names here follow that way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable
from bayou.families.rows import LANES
from bayou.linalg.sparse import Factor
from bayou.linalg.symbolic import Symbolic

__all__ = ["Data", "Fixed", "Hyper", "Job", "Map", "Parts", "Rows", "Work", "new_work"]


class Hyper(NamedTuple):
    """Hyperparameters and dispersions: d numbers with a density each, unless their block has one for all of them."""

    kind: Integers  # (d,) of `bayou.joint.hyper`
    code: Integers  # (d,) density of the scale, of `bayou.priors.codes`
    parameters: Array  # (d, 3)
    power: Array  # (d,) scale = exp(power theta); for bounded ones theta = power log value
    low: Array  # (d,) of a bounded value
    high: Array  # (d,)
    table: Integers  # (d,) first row of its table; −1 for none
    mirrored: Integers  # (d,) whether the table is one of |theta|
    tables: Array  # (rows, 4) powers of the distance to the knot before


class Fixed(NamedTuple):
    """Fixed effects: P working coefficients, the last of which may have priors that are not normal."""

    support: Integers  # (P,) whole line, positive or bounded
    low: Array  # (P,)
    high: Array  # (P,)
    codes: Integers  # (m,) of the last ones
    parameters: Array  # (m, 3)
    mean: Array  # (P,)
    precision: Array  # (P, P)
    to_printed: Array  # (P, P)


class Parts(NamedTuple):
    """Effects: first the blocks of the grouping factors, then structures; C in all."""

    kind: Integers  # (C,) of `bayou.joint.codes`
    form: Integers  # (C,) of its coordinates: centred, whitened or conditional
    order: Integers  # (C,) in which they are built: one that is conditional on others comes after them
    size: Integers  # (C,) coefficients of a copy that rows see
    free: Integers  # (C,) directions of a copy that the prior leaves free
    ranks: Integers  # (C,) coordinates of a copy beside those
    copies: Integers  # (C,)
    first: Integers  # (C,) its hyperparameters in theta
    at: Integers  # (C,) its coefficients in u
    start: Integers  # (C,) its coordinates in v
    basis: Integers  # (C,) place of its basis, and of the dual one
    weight: Integers  # (C,) place of its eigenvalues, or of its gaps in time
    power: Array  # (C,) of the eigenvalues' mixture
    whole: Integers  # (C,) whether all gaps are whole and rho may be negative
    bases: Array  # (ranks + free, size) of each, one after the other
    duals: Array
    weights: Array
    blocks: BlockTable
    exponents: Array  # (B,) of 1 − partial correlation², for the first column of a block
    matrix: Integers  # (B,) whether the prior is one of the whole matrix
    curvature: Array  # of conditional ones: of the data in each coefficient, p x p for each level of a group
    curvature_at: Integers  # (C,)
    right: Array  # slope of the data in each coefficient at zero, for what the fixed effects and others were
    right_at: Integers  # (C,)
    cross_at: Integers  # (C,) first row, among `cross_start`, of one that follows fixed effects and others; −1 for none
    cross_start: Integers  # its `right` falls by the sum of these: (coefficients of all that follow + 1,)
    cross_column: Integers  # fixed effect, or P + coefficient in u
    cross: Array


class Rows(NamedTuple):
    """The rows, ordered by level of the dispersion, and what of u and the printed fixed effects each of them sees."""

    code: int
    outside: int  # address of a user's own family; 0 for none
    levels: int  # dispersions that are unknown
    y: Array
    trials: Array
    weights: Array
    offset: Array
    level: Integers  # (levels or 1, + 1) first row of each level of the dispersion
    seen: Integers  # (S, n) coefficient in u
    value: Array  # (V, n)
    value_at: Integers  # (S,) row of `value`; −1 where all are one
    X: Array  # (K, n) columns that no factor takes over
    column: Integers  # (K,) which printed coefficient
    lifted: Integers  # (H, 5): printed coefficient, first place in u, step, count, first place among `lift`
    lift: Array
    distinct: Array  # different responses of a level of the dispersion, for terms without eta
    distinct_weight: Array
    distinct_at: Integers  # (levels or 1, + 1)
    counted: Array  # (levels or 1,) rows with a weight
    squares: Array  # (levels or 1,) of residuals that no row here has: those of rows that were summed


class Map(NamedTuple):
    """From q to coordinates: theta = centre + root q; likewise the leading ones of v, or all by a sparse factor."""

    theta_centre: Array  # (d,), empty for none
    theta_root: Array  # (d, d)
    centre: Array  # (P + M,)
    lead: Integers  # (K,) which of v have a root: the fixed effects, first, and some more
    root: Array  # (K, K), lower
    sparse: int
    symbolic: Symbolic
    factor: Factor


class Data(NamedTuple):
    """All that does not change, shared by chains."""

    constant: float
    hyper: Hyper
    fixed: Fixed
    parts: Parts
    rows: Rows
    map: Map


class Work(NamedTuple):
    """Scratch of one chain."""

    theta: Array  # (d,) internal coordinates
    raw: Array  # (d,)
    rate: Array  # (d,) dtheta / draw
    slope: Array  # (d,) of the log density by theta
    direct: Array  # (d,) of the log density by what theta is made of
    v: Array  # (P + M,)
    v_slope: Array  # (P + M,)
    beta: Array  # (P,) working
    beta_rate: Array  # (P,)
    beta_direct: Array  # (P,)
    side: Array  # (P,)
    printed: Array  # (P,)
    printed_slope: Array  # (P,)
    u: Array  # (N,) coefficients
    u_slope: Array  # (N,)
    seen: Array  # (N,) with the fixed effects that are lifted onto them
    ordered: Array  # (P + M,)
    normal: Array  # (M,) of conditional ones: coefficients in units of their prior
    right: Array  # (M,) the slope of the data at zero
    corner: Array  # factors of conditional precisions, as `curvature` stands
    small: Array  # (3, p, p)
    scale: Array  # (M,) sds of coordinates of structures
    scale_slope: Array  # (M,) derivative of their logarithms by the second hyperparameter
    L: Array  # (B, p, p)
    G: Array  # (B, p, p) slope by L
    inverse: Array  # (p, p)
    inner: Array  # (p, p)
    line: Array  # (p,)
    eta: Array
    gradient: Array
    curvature: Array
    lanes: Array
    slopes: Array  # (3, LANES)


class Job(NamedTuple):
    """What one chain hands to the kernel: `bayou.packed.packed` makes a pointer of it."""

    data: Data
    work: Work


def new_work(data: Data) -> Work:
    """Allocate the scratch of one chain."""
    d, P = len(data.hyper.kind), len(data.fixed.mean)
    parts = data.parts
    M = int(((parts.ranks + parts.free) * parts.copies).sum())
    N = int((parts.size * parts.copies).sum())
    B, p = len(parts.blocks.size), parts.blocks.A.shape[1]
    sizes: dict[str, int | tuple[int, ...]] = {
        **dict.fromkeys(("theta", "raw", "rate", "slope", "direct"), d),
        **dict.fromkeys(("v", "v_slope", "ordered"), P + M),
        **dict.fromkeys(("beta", "beta_rate", "beta_direct", "side", "printed", "printed_slope"), P),
        **dict.fromkeys(("u", "u_slope", "seen"), N),
        **dict.fromkeys(("scale", "scale_slope", "normal", "right"), M),
        "corner": len(parts.curvature),
        "small": (3, p, p),
        **dict.fromkeys(("L", "G"), (B, p, p)),
        **dict.fromkeys(("inverse", "inner"), (p, p)),
        "line": p,
        **dict.fromkeys(("eta", "gradient", "curvature", "lanes"), LANES),
        "slopes": (3, LANES),
    }
    return Work(**{name: np.zeros(sizes[name]) for name in Work._fields})

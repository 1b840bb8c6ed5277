"""Fitting the approximation that `carried.py` moves by to the draws of the warm-up."""

from __future__ import annotations

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import coordinates_into
from bayou.engines.draws import Draws
from bayou.engines.glmm.state import Carrier, Target
from bayou.engines.tuning import refit
from bayou.families.rows import LANES

MOST = 40  # coordinates that one step proposes; with more fixed effects these are left out
FEWEST = 50  # draws that a first approximation needs
FULL = 3.0  # logit of the first angle: nearly independent proposals
USELESS = -3.0  # logit of an angle at the end of the warm-up below which the steps are not worth their cost


def sizes(target: Target) -> list[int]:
    """Return how many coordinates each factor has: of its blocks, and of the fixed effects if it is the only one."""
    blocks, K = target.blocks, len(target.rows.levels)
    own = [
        int((blocks.size[blocks.grouping == f] * (blocks.size[blocks.grouping == f] + 1) // 2).sum()) for f in range(K)
    ]
    P = len(target.border.linear)
    if K == 1 and own[0] + P <= MOST:
        return [own[0] + P]
    return [size if size <= MOST else 0 for size in own]


def new_carrier(target: Target, p: int, batch: int) -> Carrier:
    """Allocate, for factors of at most ``p`` coefficients and batches of ``batch`` rows; no factor is ready."""
    rows = target.rows
    count = sizes(target)
    K, d = max(len(count), 1), max([1, *count])
    most = int((rows.levels * rows.sizes).max()) if len(count) else 0
    return Carrier(
        first=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        ready=np.zeros(K, dtype=np.int64),
        anchor=np.zeros(int((rows.levels * rows.sizes).sum())),
        sum=np.zeros(int((rows.levels * rows.sizes).sum())),
        scans=np.zeros(1, dtype=np.int64),
        centre=np.zeros(sum(count)),
        spread=np.zeros((K, d, d)),
        angle=np.zeros(K),
        tally=np.zeros((K, 2)),
        b=np.zeros(most),
        L=np.zeros((*target.blocks.A.shape, target.blocks.A.shape[1])),
        t=np.zeros((3, d)),
        Q=np.zeros((4, p, p)),
        vectors=np.zeros((4, p)),
        shift=np.zeros((2, max(len(target.moves.at), 1))),
        step=np.zeros(LANES * p),
        diagonal=np.zeros(LANES * p),
        there=np.zeros(batch),
        change=np.zeros(len(target.border.linear)),
        total=np.zeros(1),
    )


class Fitting:
    """The draws of the warm-up that the approximation of one chain is fitted to."""

    def __init__(self, target: Target, carrier: Carrier) -> None:
        self.target, self.carrier = target, carrier
        D = len(carrier.centre)
        self.seen: list[Array] = []
        self.before = np.empty((0, D))

    def see(self, draws: Draws) -> None:
        """Take note of draws."""
        self.seen.append(coordinates(self.target, self.carrier.first, draws))

    def fit(self) -> bool:
        """Fit centre and spread to what was seen, with the stretch before if that is longer; True if they changed."""
        if not self.seen or not len(self.carrier.centre):
            return False
        seen = np.concatenate(self.seen)
        pooled = seen if len(seen) >= len(self.before) else np.concatenate([self.before, seen])
        self.before, self.seen = seen, []
        if len(pooled) < FEWEST:
            return False
        carrier = self.carrier
        for f in range(len(carrier.first) - 1):
            cut = slice(int(carrier.first[f]), int(carrier.first[f + 1]))
            d = cut.stop - cut.start
            if d == 0:
                continue
            draws = pooled[:, cut]
            centre, sds = draws.mean(axis=0), draws.std(axis=0)
            if not (sds > 0.0).all():
                continue
            carrier.centre[cut], spread = refit(draws, centre, np.diag(sds))
            carrier.spread[f, :d, :d] = spread
            if carrier.ready[f] == 0:
                carrier.angle[f] = FULL
            carrier.ready[f] = 1
            carrier.tally[f] = 0.0
        return bool(carrier.ready.any())

    def freeze(self) -> None:
        """Give up where the groups are too far from their approximations for steps of any size."""
        self.carrier.ready[self.carrier.angle < USELESS] = 0


def coordinates(target: Target, first: Integers, draws: Draws) -> Array:
    """Return where each draw is, (n, D)."""
    t = np.empty((len(draws), int(first[-1])))
    blocks = target.blocks
    for f in range(len(first) - 1):
        at = int(first[f])
        if first[f + 1] == at:
            continue
        for r in np.flatnonzero(blocks.grouping == f):
            p = int(blocks.size[r])
            for row, L in zip(t, draws.L[:, r], strict=True):
                coordinates_into(L, p, row, at)
            at += p * (p + 1) // 2
        if at < first[f + 1]:
            t[:, at : first[f + 1]] = draws.beta
    return t

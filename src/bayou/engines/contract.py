"""From the kernels' coordinates to the names of the contract: beta, sd_g, cor_g, b_g, sigma."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.posterior import factor_names

if TYPE_CHECKING:
    from bayou.effects.iid import BlockTable
    from bayou.engines.draws import Draws
    from bayou.model import Model


def contract(
    model: Model, order: tuple[int, ...], blocks: BlockTable, chains: list[Draws], shift: float = 0.0
) -> dict[str, Array]:
    """Name and shape the draws of all chains, leading axes (chain, draw).

    Parameters
    ----------
    order
        The grouping factors (by number in the design) in the order in which their coefficients stand
        in a draw of b and in which ``blocks`` counts them.
    shift
        What was taken off the response: it returns to the intercept.
    """
    working = model.working
    beta = np.stack([c.beta for c in chains])
    if working.intercept is not None:
        beta[..., working.intercept] += shift
    out = {"beta": beta @ working.to_printed.T}
    dispersion = model.family.dispersion
    if dispersion is not None and not model.dispersion_known:
        values = np.stack([c.dispersion for c in chains])
        out[dispersion] = values if model.design.sigma_by is not None else values[..., 0]
    groupings = model.design.groupings
    names = factor_names([g.name for g in groupings], dispersion)
    for position, g in enumerate(order):
        grouping = groupings[g]
        name = names[grouping.name]
        p = grouping.Z.shape[1]
        sd = np.empty((*beta.shape[:2], p))
        correlated = any(len(block) > 1 for block in grouping.blocks)
        cor = np.zeros((*beta.shape[:2], p, p)) if correlated else None
        for r in range(len(blocks.size)):
            if blocks.grouping[r] != position:
                continue
            q, s = int(blocks.size[r]), int(blocks.start[r])
            for c, chain in enumerate(chains):
                L = chain.L[:, r, :q, :q]
                sd[c, :, s : s + q] = np.sqrt((L * L).sum(axis=-1))
                if cor is not None:
                    unit = L / sd[c, :, s : s + q, None]
                    cor[c, :, s : s + q, s : s + q] = unit @ unit.transpose(0, 2, 1)
        out[f"sd_{name}"] = sd
        if cor is not None:
            out[f"cor_{name}"] = cor
    if chains[0].b.shape[1]:
        at = 0
        for g in order:
            grouping = groupings[g]
            J, p = len(grouping.levels), grouping.Z.shape[1]
            b = np.stack([c.b[:, at : at + J * p] for c in chains])
            out[f"b_{names[grouping.name]}"] = b.reshape(*b.shape[:2], J, p)
            at += J * p
    return out

"""One scan of the Gibbs samplers for Gaussian mixed models, on sufficient statistics.

Locations (fixed effects beta and group coefficients b) are drawn in one of four ways:

- UNCENTERED: b | beta, then beta | b;
- CENTERED: b | beta, then beta | (beta + b), that is with each group's own line held (Hoff 2009, ch. 11);
- JOINT: beta and all of b at once, beta first with b integrated out (the slides' marginal update);

then every covariance block given b, optionally once more with the whitened coefficients held, then
sigma. Nothing here visits a row.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.engines.covariances import precision_from_factors
from bayou.engines.lmm.coefficients import draw_centres, draw_coefficients_of_any_prior, draw_fixed, draw_groups
from bayou.engines.lmm.state import State, Target, likelihood_weight, record, scatter_of
from bayou.engines.lmm.whitened import draw_whitened
from bayou.engines.moves import draw_block, draw_scale
from bayou.jit import kernel
from bayou.linalg.schur import draw, factorise
from bayou.sufficient import residual_squares

UNCENTERED, CENTERED, JOINT = 0, 1, 2


@kernel(inner=True)
def draw_sigma(target: Target, state: State, squares: Array, rng: np.random.Generator) -> None:
    """Each residual sd given its sum of squares."""
    residual_squares(target.cells, target.arrow, state.rest, state.b, squares)
    for s in range(state.sigma.shape[0]):
        # a sum of squares that cancelled to nothing must not become a negative scale
        ss = max(squares[s], 1e-14 * target.cells.squares[s])
        state.sigma[s] = draw_scale(
            state.sigma[s], target.cells.rows[s], ss, target.sigma_code, target.sigma_parameters, rng
        )


@kernel(entry=True)
def run_scans(
    target: Target,
    state: State,
    location: int,
    whitened: bool,
    thin: int,
    beta: Array,
    b: Array,
    L: Array,
    sigma: Array,
    rng: np.random.Generator,
) -> int:
    """Fill ``beta`` (draws, P), ``b`` (draws, all coefficients; or none), ``L`` (draws, B, p, p), ``sigma``.

    Returns the number of draws made: fewer than asked only if a matrix lost its definiteness.
    """
    blocks = target.blocks
    squares = state.by_sigma[1]
    for i in range(beta.shape[0] * thin):
        if not precision_from_factors(blocks, state.L, state.Q, state.work[4:]):
            return i // thin
        w = likelihood_weight(target, state)
        if location == JOINT:
            ok, _, _ = factorise(target.arrow, target.ridged, w, state.Q, state.factor)
            if not ok:
                return i // thin
            known = draw_coefficients_of_any_prior(target, state, rng)
            draw(target.arrow, state.factor, state.rest, state.b, known, rng)
        else:
            draw_groups(target, state, w, rng)
            draw_fixed(target, state, w, location == CENTERED, rng)
            if location == CENTERED:
                draw_centres(target, state, rng)
        for r in range(blocks.size.shape[0]):
            scatter_of(target, state, r, state.work[6])
            J = float(target.levels[blocks.grouping[r]])
            if not draw_block(blocks, r, J, state.work[6], state.L[r], state.work[3:6], state.work[2], rng):
                return i // thin
        if whitened:
            draw_whitened(target, state, w, rng)
        if not target.sigma_known:
            draw_sigma(target, state, squares, rng)
        if (i + 1) % thin == 0:
            record(target, state, i // thin, beta, b, L, sigma)
    return beta.shape[0]

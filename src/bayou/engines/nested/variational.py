"""The variational correction of the mean of the Gaussian of x given theta."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field
from bayou.engines.nested.likelihood import Likelihood, normal_rule

__all__ = ["corrected_mean"]

RULE = normal_rule(9)
LIMIT, SETTLED = 30, 1e-5  # iterations; movement, in sds of the predictor


def corrected_mean(
    field: Field, rows: Likelihood, dispersion: Array | None, row_sd: Array
) -> tuple[Array, Array, bool]:
    """Return the move d (N,) of the mean that brings the Gaussian nearest to p(x | theta, y), r (n,), and whether.

    The covariance Sigma stays that of Laplace's approximation; the mean mu = x* + d minimises the Kullback-Leibler
    divergence, −Σ_i E l_i(eta_i) + ½ (mu − m)'Q(mu − m) with eta_i ~ N((A mu)_i, s_i²). Its gradient at the mode x*,
    where A'l' = Q(x* − m), is zero when

        d = Sigma A'r,    r = E l'(eta* + A d) − l'(eta*) + W A d,    W = −l''(eta*),

    which is solved by Newton steps with Sigma in place of the inverse of A'E(−l'')A + Q, halved when they overshoot.
    All of x is corrected, through the same solve that made the mode. Source: van Niekerk & Rue (2024), *Low-rank
    variational Bayes correction to the Laplace method*, JMLR 25, without the low rank.

    Parameters
    ----------
    field
        Placed at theta.
    rows, dispersion
        The likelihood, and its dispersions (n,) at theta.
    row_sd
        Standard deviations s (n,) of the predictor.

    Returns
    -------
    d, r, and whether the iteration settled; zeros where it did not, and for a Gaussian response.
    """
    nothing = np.zeros_like(field.x), np.zeros_like(field.eta), rows.gaussian
    if rows.gaussian:
        return nothing
    move, shift, r = nothing[0].copy(), nothing[1].copy(), nothing[1]
    gradient, curvature = field.point.gradient, field.point.weight
    size, last = 1.0, np.inf
    for _ in range(LIMIT):
        expected, _ = rows.expected_derivatives(field.eta + shift, row_sd, dispersion, RULE)
        r = expected - gradient + curvature * shift
        if not np.isfinite(r).all():
            return nothing
        step = field.solve(field.project(r)) - move
        seen = field.predictor(field.x + step) - field.eta
        moved = float(np.max(np.abs(seen) / np.maximum(row_sd, 1e-12), initial=0.0))
        if moved > last:
            size *= 0.5
        last = moved
        move += size * step
        shift += size * seen
        if moved < SETTLED:
            return move, r, True
    return (move, r, True) if last < 1e-3 else nothing

"""DIC, WAIC, CPO and PIT from the nodes."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.hermite import normal_rule
from bayou.engines.nested.likelihood import Likelihood, RowsThere
from bayou.engines.nested.survey import Nodes
from bayou.posterior.approximation import Scores

__all__ = ["Cavity", "scores"]

RULE, WIDE = normal_rule(21), normal_rule(41)
LEAST = 1e-4  # of a row's precision: what must be left of it without the row
DOUBTFUL = 0.9  # share of one point of the rule in an integral


class Cavity:
    """What the rest of the data says of each row's predictor at one node.

    The posterior N(m, s²) of eta has the row's likelihood in it as a parabola, of curvature w and with the mean slope
    g = E l'; without it the precision is 1/s² − w and the mean m − g / (1/s² − w) (the cavity of Laplace's
    approximation; Vehtari, Mononen, Tolvanen, Sivula & Winther 2016, JMLR 17). The row's likelihood is then integrated
    over that, on points spread as the posterior.

    Attributes
    ----------
    log_cpo
        (n,) log p(y_i | the other rows, theta).
    pit
        (n,) P(Y_i <= y_i | the other rows, theta).
    failed
        (n,) whether the row's own likelihood is nearly all that there is, or the integral hangs on one point.
    """

    def __init__(self, rows: Likelihood, there: RowsThere) -> None:
        mean, sd, dispersion = there.eta, np.maximum(there.row_sd, 1e-12), there.dispersion
        precision = 1.0 / np.square(sd)
        left = precision - there.weight
        self.failed = left < LEAST * precision
        left = np.maximum(left, LEAST * precision)
        gradient, _ = rows.expected_derivatives(mean, sd, dispersion, normal_rule(9))
        centre, width = mean - gradient / left, 1.0 / np.sqrt(left)
        z, weight = RULE
        eta = mean + z[:, None] * sd
        logs = (
            0.5 * np.square(z)[:, None] - 0.5 * np.square((eta - centre) / width) + np.log(sd / width)
            + np.log(weight)[:, None] + rows.log_density(eta, dispersion)
        )  # fmt: skip
        top = logs.max(axis=0)
        w = np.exp(logs - top)
        total = w.sum(axis=0)
        self.log_cpo = np.log(total) + top
        self.failed |= ~np.isfinite(self.log_cpo) | (w.max(axis=0) > DOUBTFUL * total)
        z, weight = WIDE
        self.pit = weight @ rows.cumulative(centre + z[:, None] * width, dispersion)


def scores(rows: Likelihood, nodes: Nodes, log_shares: Array) -> Scores:
    """Return the criteria; rows whose CPO failed have NaN in ``cpo`` and ``pit``.

    Where identical rows were merged ``cpo`` and ``pit`` are of each different row as given once.

    Parameters
    ----------
    rows, nodes
        The likelihood, and the Gaussians of the predictor at each theta.
    log_shares
        Log weights of the nodes (K,), normalised.

    Notes
    -----
    DIC = D(mean) + 2 p, p the mean deviance less the deviance at the means of the predictor and of the hyperparameters
    (Spiegelhalter et al. 2002, with the posterior modes of theta in place of means). WAIC = −2 Σ (log E p − V log p)
    (Watanabe 2010). CPO_i is the harmonic mean over theta of p(y_i | the others, theta), and PIT_i the mean of P(Y_i <=
    y_i | the others, theta) with weights share / CPO_i(theta) (Held, Schrödle & Rue 2010).
    """
    share = np.exp(log_shares)
    z, weight = normal_rule(15)
    rows = rows.given()
    n, K, times = rows.n, len(share), rows.frequency
    mean_log, mean_square = np.zeros(n), np.zeros(n)
    log_mean = np.full(n, -np.inf)
    log_cpo, pit, failed = np.empty((K, n)), np.empty((K, n)), np.zeros(n, dtype=bool)
    eta, best = np.zeros(n), int(np.argmax([node.height for node in nodes.nodes]))
    dispersion: Array | None = None
    for k, each in enumerate(nodes.nodes):
        there = rows.at(each)
        eta += share[k] * there.eta
        dispersion = there.dispersion if k == best else dispersion
        logs = rows.log_density(there.eta + z[:, None] * there.row_sd, there.dispersion)
        mean_log += share[k] * (weight @ logs)
        mean_square += share[k] * (weight @ np.square(logs))
        top = logs.max(axis=0)
        log_mean = np.logaddexp(log_mean, log_shares[k] + top + np.log(weight @ np.exp(logs - top)))
        cavity = Cavity(rows, there)
        log_cpo[k], pit[k] = cavity.log_cpo, cavity.pit
        if share[k] > 0.01:
            failed |= cavity.failed
    at_mean = -2.0 * float((times * rows.log_density(eta, dispersion)).sum())
    mean_deviance = -2.0 * float((times * mean_log).sum())
    variance = np.maximum(mean_square - np.square(mean_log), 0.0)
    inverse = log_shares[:, None] - log_cpo
    top = inverse.max(axis=0)
    w = np.exp(inverse - top)
    cpo = np.exp(-(np.log(w.sum(axis=0)) + top))
    out = (w * pit).sum(axis=0) / w.sum(axis=0)
    return Scores(
        2.0 * mean_deviance - at_mean,
        -2.0 * float((times * (log_mean - variance)).sum()),
        mean_deviance - at_mean,
        float((times * variance).sum()),
        np.where(failed, np.nan, cpo),
        np.where(failed, np.nan, np.clip(out, 0.0, 1.0)),
    )

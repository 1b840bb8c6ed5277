"""The numbers whose ranks are looked at: every row of the summary, of all coefficients some, the log likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.binding import log_density_beta
from bayou.errors import DataError
from bayou.posterior import Posterior
from bayou.posterior.convergence import effective_size
from bayou.predict.loo import LogLikelihood

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Ranked", "effective_draws", "picked", "quantities_of", "ranked"]

LOG_LIKELIHOOD, LOG_PRIOR = "log likelihood", "log prior of beta"


class Ranked(NamedTuple):
    """Ranks of the true values, these, and the mean and sd of the draws, one of each for every quantity."""

    names: tuple[str, ...]
    rank: Integers
    truth: Array
    mean: Array
    sd: Array


def _coefficients(posterior: Posterior) -> dict[str, Array]:
    """Return the first and the last coefficient of every factor and effect, and how large they are: (chain, draw)."""
    model, out = posterior.model, {}
    for g in model.design.groupings:
        name = posterior.names[g.name]
        b = posterior.effects(g.name)
        for k, c in enumerate(g.coefficients):
            for j in dict.fromkeys((0, len(g.levels) - 1)):
                out[f"b_{name}[{g.levels[j]},{c}]"] = b[:, :, j, k]
            out[f"spread of b_{name}[{c}]"] = np.sqrt(np.mean(np.square(b[:, :, :, k]), axis=2))
        out[f"b_{name} in sds"] = _in_sds(posterior, g.name, b)
    for name, term in posterior.structured.items():
        f = posterior.structured_draws(name)
        for j in dict.fromkeys((0, len(term.nodes) - 1)):
            out[f"f_{name}[{term.nodes[j]}]"] = f[:, :, 0, j]
        out[f"spread of f_{name}"] = np.sqrt(np.mean(np.square(f), axis=(2, 3)))
    return out


def _in_sds(posterior: Posterior, factor: str, b: Array) -> Array:
    """Return √(mean over levels and coefficients of b' Sigma⁻¹ b): b and the covariance of the same draw, together."""
    sd, cor = posterior.group("sd", factor), posterior.group("cor", factor)
    assert sd is not None
    z = b / np.maximum(sd, np.finfo(float).tiny)[:, :, None, :]
    if cor is None:
        return np.asarray(np.sqrt(np.mean(np.square(z), axis=(2, 3))))
    values, vectors = np.linalg.eigh(cor)
    # a correlation of one: what a draw cannot have across it has no distance along it
    scores = (z @ vectors) / np.sqrt(np.maximum(values, 1e-12))[:, :, None, :]
    return np.asarray(np.sqrt(np.mean(np.square(scores), axis=(2, 3))))


def _rows(posterior: Posterior) -> dict[str, Array]:
    return {name: posterior.values(place) for name, place in posterior.rows.items()}


def quantities_of(posterior: Posterior) -> dict[str, Array]:
    """Return every quantity of every draw, (draws,) each, chains laid end to end.

    The log likelihood looks at the data: its ranks see errors that parameters do not show, such as draws from the
    prior (Modrák et al. 2023). The log prior of the fixed effects sees a prior that was forgotten: without one the
    intervals of a location are still right on average over the data, but reach further from the prior than the truth.
    """
    found = {**_rows(posterior), **_coefficients(posterior)}
    out = {name: values.reshape(-1) for name, values in found.items()}
    pointwise = LogLikelihood(posterior)
    total = np.zeros(posterior.chains * posterior.size)
    rows = pointwise.shape[2]
    for at in range(0, rows, 4096):
        part = pointwise.all(at, min(at + 4096, rows))
        total += (part * pointwise.frequency[at : at + 4096]).sum(axis=-1).reshape(-1)
    if "beta" in posterior.draws and posterior.model.design.coefficients:
        of_beta = [log_density_beta(posterior.model.bound, beta) for beta in posterior.flat("beta")]
        out[LOG_PRIOR] = np.array(of_beta)
    return {**out, LOG_LIKELIHOOD: total}


def effective_draws(posterior: Posterior) -> float:
    """Return the least effective size among the quantities other than the log likelihood; all draws if independent."""
    whole = _whole(posterior)
    if not posterior.chained:
        return float(whole.chains * whole.size)
    matrix = np.array(list({**_rows(whole), **_coefficients(whole)}.values()))
    varying = matrix[np.ptp(matrix.reshape(len(matrix), -1), axis=1) > 0.0]
    if whole.size < 4 or not len(varying):
        return float(whole.chains * whole.size)
    return float(np.nanmin(effective_size(varying, "bulk")))


def picked(posterior: Posterior, count: int) -> Posterior:
    """Return ``count`` evenly spaced draws of all chains together, as one chain.

    Raises
    ------
    DataError
        If there are fewer.
    """
    whole = _whole(posterior)
    total = whole.chains * whole.size
    if total < count:
        raise DataError(f"the engine returned {total} draws where {count} are needed")
    places = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
    draws = {key: whole.flat(key)[places][None] for key in whole.draws}
    return Posterior(model=posterior.model, engine=posterior.engine, draws=draws)


def _whole(posterior: Posterior) -> Posterior:
    """Return the draws at which everything was kept."""
    every = posterior.effect_draws
    if len(every) == posterior.size:
        return posterior
    draws = {
        key: values if values.shape[1] == len(every) else values[:, every] for key, values in posterior.draws.items()
    }
    return Posterior(model=posterior.model, engine=posterior.engine, draws=draws)


def ranked(model: Model, truth: Mapping[str, Array], sample: Posterior, rng: np.random.Generator) -> Ranked:
    """Return where the true value of each quantity stands among the draws.

    Equal draws count as below the truth or above it by lot.

    Raises
    ------
    DataError
        If the engine returned what has no true value.
    """
    lacking = [key for key in sample.draws if key not in truth]
    if lacking:
        raise DataError(f"the engine returned {', '.join(lacking)}, of which no true value was drawn")
    known = {key: np.asarray(truth[key]) for key in sample.draws}
    true = quantities_of(Posterior(model=model, engine="", draws=known))
    drawn = quantities_of(sample)
    rank = []
    for name, values in drawn.items():
        below, equal = int((values < true[name]).sum()), int((values == true[name]).sum())
        rank.append(below + int(rng.integers(equal + 1)))
    return Ranked(
        tuple(drawn),
        np.array(rank, dtype=np.int64),
        np.array([true[name][0] for name in drawn]),
        np.array([values.mean() for values in drawn.values()]),
        np.array([values.std() for values in drawn.values()]),
    )

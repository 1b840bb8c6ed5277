"""Draws by name, brought back to the coordinates of a field: hyperparameters theta and coefficients x."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.field.naming import internal_coordinates
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.conditional.field import Field
    from bayou.conditional.field.component import Component
    from bayou.posterior import Posterior

__all__ = ["coefficients", "hyperparameters"]

TINY, ROUNDING = 1e-300, 1e-14
MOST_HIDDEN = 500  # coefficients of an effect whose unseen half is drawn again


def hyperparameters(field: Field, posterior: Posterior, places: Integers) -> Array:
    """Return internal coordinates (chains, len(places), size) of draws at these places of each chain."""
    model, names = posterior.model, posterior.names
    kept: dict[str, Array] = {}
    for row in field.rows:
        kind, _, factor = row.variable.partition("_")
        printed = f"{kind}_{names[factor]}" if factor in names else row.variable
        kept[row.variable] = _inside(posterior.draws[printed][:, places], row.variable, row.scale)
    out = np.empty((posterior.chains, len(places), field.size))
    beta = _working(field, posterior, places) / field.beta_unit if field.explicit else None
    for c in range(posterior.chains):
        for s in range(len(places)):
            one = {name: values[c, s] for name, values in kept.items()}
            theta = internal_coordinates(field.parts, one, model.family.dispersion, field.levels)
            out[c, s] = theta if beta is None else np.concatenate([beta[c, s], theta])
    return out


def coefficients(
    field: Field, posterior: Posterior, places: Integers, thetas: Array, rng: np.random.Generator
) -> Array:
    """Return x (chains, len(places), N) of the same draws; ``thetas`` are their hyperparameters.

    Coefficients that are no part of the result (the second half of bym2) are drawn given those that are: nothing else
    depends on them.
    """
    lead = posterior.chains, len(places)
    where = np.searchsorted(posterior.effect_draws, places)
    out = np.empty((*lead, len(field.x)))
    if field.layout.fixed:
        out[..., field.layout.latent :] = _working(field, posterior, places)
    for part in field.parts:
        if part.grouping >= 0:
            b = posterior.effects(part.name)[:, where][..., list(part.columns)]
            out[..., part.place] = b.reshape(*lead, -1)
            continue
        f = posterior.structured_draws(part.name)[:, where]
        if part.effect.size > part.effect.observed:
            f = _completed(part, f, thetas[..., field.explicit :][..., part.hyper], rng)
        out[..., part.place] = f.reshape(*lead, -1)
    return out


def _inside(values: Array, variable: str, scale: str) -> Array:
    """Keep draws off the borders that they reach by rounding."""
    if variable.startswith("cor_"):
        return values + ROUNDING * (np.eye(values.shape[-1]) - values)
    most = 1.0 - ROUNDING
    low, high = {"log": (TINY, np.inf), "logit": (TINY, most), "atanh": (-most, most)}[scale]
    return np.clip(values, low, high)


def _working(field: Field, posterior: Posterior, places: Integers) -> Array:
    """Return the working fixed effects of draws, (chains, len(places), P)."""
    printed = posterior.draws["beta"][:, places]
    return np.asarray(np.linalg.solve(field.model.working.to_printed, printed[..., None])[..., 0])


def _completed(part: Component, f: Array, thetas: Array, rng: np.random.Generator) -> Array:
    """Draw the unseen coefficients (chains, draws, R, size − m) given f (…, m): N(−A⁻¹ B f, A⁻¹) under C x = 0."""
    effect = part.effect
    if effect.size > MOST_HIDDEN:
        raise Unsupported(
            f"The effect {part.name!r} has {effect.size} coefficients of which half are not in the draws; so many are "
            "not drawn again. Fit with engine='inla', which has fit.log_marginal."
        )
    m = effect.observed
    seen, C = effect.constraints[:, :m], effect.constraints[:, m:]
    out = np.empty((*f.shape[:-1], effect.size))
    out[..., :m] = f
    for c, s in np.ndindex(f.shape[:2]):
        Q = effect.dense(thetas[c, s])
        root = np.linalg.cholesky(Q[m:, m:])
        gain = np.linalg.solve(root.T, np.linalg.solve(root, C.T))  # A⁻¹ C'
        for r in range(f.shape[2]):
            mean = -np.linalg.solve(root.T, np.linalg.solve(root, Q[m:, :m] @ f[c, s, r]))
            x = mean + np.linalg.solve(root.T, rng.standard_normal(len(root)))
            if len(C):
                x = x - gain @ np.linalg.solve(C @ gain, C @ x + seen @ f[c, s, r])
            out[c, s, r, m:] = x
    return out

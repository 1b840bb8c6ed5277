"""The priors of one model as numbers, with their densities and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayou._types import Array, Integers
from bayou.errors import PriorError
from bayou.priors import LKJ, HuangWand, InverseWishart, Prior, Priors
from bayou.priors.base import LOG_2PI
from bayou.priors.covariance import log_sd_jacobian, split
from bayou.priors.scalar import from_code


@dataclass(frozen=True)
class BlockPrior:
    """The prior of one correlated block of group coefficients; unused arrays are zeros.

    Attributes
    ----------
    grouping, columns
        Index of the grouping factor, and of the block's columns in its Z.
    kind
        "inverse_wishart" (df, scale), "huang_wand" (df, A) or "sds" (sd_codes, sd_parameters, lkj).
    """

    grouping: int
    columns: tuple[int, ...]
    kind: str
    df: float
    scale: Array
    A: Array
    sd_codes: Integers
    sd_parameters: Array
    lkj: float


@dataclass(frozen=True)
class BoundPriors:
    """Every prior of one model as numbers.

    Attributes
    ----------
    beta_mean, beta_precision
        The Gaussian part, of the coefficients as printed: (P,), (P, P). A singular precision is flat
        in the remaining directions. The default intercept at centred columns is expressed exactly.
    beta_codes, beta_parameters
        (P,), (P, 3): further densities of single coefficients, multiplied on top (code 0: none).
        The row of such a coefficient in ``beta_precision`` is zero unless the default intercept,
        centred on its column too, couples them.
    beta_flat
        (P, k): a basis of the directions without a proper prior.
    blocks
        One per correlated block, in the order of the groupings and their blocks.
    dispersion_code, dispersion_parameters, dispersion_name
        The density of s (sigma, 1/√phi, 1/√shape); the name is None when there is none to estimate.
    explicit
        The same priors by name, every default filled in.
    lines, notes
        Sentences to print: the priors, and warnings about them.
    structured
        For each structured effect one prior per hyperparameter: what the keys in ``explicit`` mean for it.
    """

    beta_mean: Array
    beta_precision: Array
    beta_codes: Integers
    beta_parameters: Array
    beta_flat: Array
    blocks: tuple[BlockPrior, ...]
    dispersion_code: int
    dispersion_parameters: Array
    dispersion_name: str | None
    explicit: Priors
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    structured: tuple[tuple[Prior, ...], ...] = ()

    def as_priors(self) -> Priors:
        """Return the priors by name with frozen numbers; they bind to the same numbers again."""
        return self.explicit


def log_density_block(block: BlockPrior, Sigma: Array) -> float:
    """Return the log density of a covariance matrix (p, p), on its lower triangle.

    "sds" is Π p(sd_k) x LKJ(cor) over the Jacobian of (sd, cor) -> Sigma; "huang_wand" the marginal
    density with its auxiliary variables integrated out.
    """
    if block.kind == "inverse_wishart":
        return float(InverseWishart(block.df, block.scale).log_density(Sigma))
    if block.kind == "huang_wand":
        return float(HuangWand(block.df, block.A).log_density(Sigma))
    sds, cor = split(Sigma)
    scales = zip(block.sd_codes, block.sd_parameters, sds, strict=True)
    total = sum(float(from_code(int(code), numbers).sd_log_density(s)) for code, numbers, s in scales)
    return total + float(LKJ(block.lkj).log_density(cor)) - float(log_sd_jacobian(sds))


def draw_block(block: BlockPrior, rng: np.random.Generator) -> Array:
    """Return one covariance matrix (p, p) drawn from a proper prior."""
    if block.kind == "inverse_wishart":
        return InverseWishart(block.df, block.scale).draw(rng)
    if block.kind == "huang_wand":
        return HuangWand(block.df, block.A).draw(rng)
    numbers = zip(block.sd_codes, block.sd_parameters, strict=True)
    sds = np.array([float(from_code(int(code), row).sd_draw(rng)) for code, row in numbers])
    return LKJ(block.lkj).draw_matrix(rng, len(sds)) * np.outer(sds, sds)


def log_density_beta(bound: BoundPriors, beta: Array) -> float:
    """Return the log prior density of the coefficients (P,) as printed; normalised when proper."""
    total = 0.0
    for k in np.flatnonzero(bound.beta_codes):
        total += float(from_code(int(bound.beta_codes[k]), bound.beta_parameters[k]).log_density(beta[k]))
    scale = np.sqrt(np.diag(bound.beta_precision))
    keep = (bound.beta_codes == 0) & (scale > 0.0)
    scale[scale == 0.0] = 1.0
    unit = bound.beta_precision / np.outer(scale, scale)
    z = (beta - bound.beta_mean) * scale
    total -= 0.5 * float(z @ unit @ z)
    if bound.beta_flat.shape[1] == 0 and np.any(keep):
        determinant = np.linalg.slogdet(unit[np.ix_(keep, keep)])[1] + 2.0 * np.sum(np.log(scale[keep]))
        total += 0.5 * float(determinant) - 0.5 * LOG_2PI * int(keep.sum())
    return total


def draw_beta(bound: BoundPriors, rng: np.random.Generator) -> Array:
    """Return one draw (P,) of the coefficients from a proper prior."""
    if bound.beta_flat.shape[1]:
        flat = np.flatnonzero(np.any(bound.beta_flat != 0.0, axis=1))
        raise PriorError(
            f"The prior is flat in coefficients {', '.join(map(str, flat))}: it cannot be drawn from. "
            "Give proper priors, or leave the defaults."
        )
    beta = bound.beta_mean.copy()
    for k in np.flatnonzero(bound.beta_codes):
        beta[k] = float(from_code(int(bound.beta_codes[k]), bound.beta_parameters[k]).draw(rng))
    keep = np.flatnonzero(bound.beta_codes == 0)
    if len(keep) == 0:
        return beta
    scale = np.sqrt(np.diag(bound.beta_precision))[keep]
    unit = bound.beta_precision[np.ix_(keep, keep)] / np.outer(scale, scale)
    shift = bound.beta_precision[keep] @ (beta - bound.beta_mean) / scale
    factor = np.linalg.cholesky(unit)
    z = np.linalg.solve(factor.T, rng.standard_normal(len(keep)) - np.linalg.solve(factor, shift))
    beta[keep] += z / scale
    return beta


def log_density_dispersion(bound: BoundPriors, s: Array | float) -> Array:
    """Return the log prior density of s (sigma, 1/√phi or 1/√shape)."""
    return from_code(bound.dispersion_code, bound.dispersion_parameters).sd_log_density(s)


def draw_dispersion(bound: BoundPriors, rng: np.random.Generator, levels: int = 1) -> Array:
    """Return draws (levels,) of the dispersion itself: sigma, phi = 1/s² or shape = 1/s².

    Without a dispersion to estimate these are ones.
    """
    if bound.dispersion_name is None:
        return np.ones(levels)
    s = from_code(bound.dispersion_code, bound.dispersion_parameters).sd_draw(rng, levels)
    return s if bound.dispersion_name == "sigma" else np.asarray(1.0 / s**2)

"""Priors by name + Design -> the numbers that engines use."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bayou import effects
from bayou._types import Array, Integers
from bayou.binding import defaults, propriety
from bayou.binding.bound import (
    BlockPrior,
    BoundPriors,
    draw_beta,
    draw_block,
    draw_dispersion,
    log_density_beta,
    log_density_block,
    log_density_dispersion,
)
from bayou.binding.keys import (
    block_names,
    check_keys,
    cor_prior,
    dispersion_prior,
    line,
    matrix_prior,
    scale_prior,
)
from bayou.binding.structured import (
    bind_structured,
    draw_structured,
    log_density_block_internal,
    log_density_structured,
    structured_keys,
    terms_of,
)
from bayou.errors import PriorError
from bayou.priors import LKJ, Flat, HalfCauchy, HalfT, HuangWand, InverseWishart, Normal, Prior, Priors
from bayou.priors import codes as prior_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bayou.design import Design
    from bayou.effects.base import Effect

__all__ = [
    "BlockPrior",
    "BoundPriors",
    "bind",
    "build_effects",
    "draw_beta",
    "draw_block",
    "draw_dispersion",
    "draw_structured",
    "log_density_beta",
    "log_density_block",
    "log_density_block_internal",
    "log_density_dispersion",
    "log_density_structured",
]


def bind(
    priors: Priors | Mapping[str, Prior] | None, design: Design, structured: Sequence[Effect] | None = None
) -> BoundPriors:
    """Fill in the defaults, freeze the numbers and check that the posterior is proper.

    Parameters
    ----------
    priors
        By key; what has no key gets the default.
    design
        The data.
    structured
        The effects of ``design.structured``, built here if they are not given.

    Raises
    ------
    PriorError
        A key that the model does not have, a class that does not fit its key, or a wrong size.
    ImproperPosterior
        The priors and the data do not define a distribution.
    """
    given = Priors.of(priors)
    made = build_effects(design) if structured is None else tuple(structured)
    notes = check_keys(given, design, structured_keys(design, made))
    explicit: dict[str, Prior] = {}
    mean, precision, beta_codes, parameters, flat = _bind_coefficients(given, design, explicit)
    blocks = tuple(
        _bind_block(given, design, index, columns, explicit)
        for index, grouping in enumerate(design.groupings)
        for columns in grouping.blocks
    )
    densities = bind_structured(given, design, made, explicit)
    name, density = dispersion_prior(given, design)
    if name is not None:
        explicit["dispersion" if name in ("phi", "shape") else name] = density
    frozen = Priors.of(explicit)
    bound = BoundPriors(
        beta_mean=mean,
        beta_precision=precision,
        beta_codes=beta_codes,
        beta_parameters=parameters,
        beta_flat=flat,
        blocks=blocks,
        dispersion_code=density.code if name else prior_codes.FLAT,
        dispersion_parameters=np.array(density.parameters if name else (0.0, 0.0, 0.0)),
        dispersion_name=name,
        explicit=frozen,
        lines=tuple(line(key, prior, name) for key, prior in frozen.items()),
        notes=tuple(notes),
        structured=densities,
    )
    return dataclasses.replace(bound, notes=(*notes, *propriety.check(design, bound, made)))


def build_effects(design: Design) -> tuple[Effect, ...]:
    """Return the structured effects of a design, each starting at the scale of the outcome."""
    terms = terms_of(design)
    return tuple(effects.build(term, defaults.outcome_scale(design)) for term in terms)


def _bind_coefficients(
    given: Priors, design: Design, explicit: dict[str, Prior]
) -> tuple[Array, Array, Integers, Array, Array]:
    """Return mean, precision, codes, parameters and flat directions of the fixed effects."""
    count = len(design.coefficients)
    general = given.get("beta")
    own: list[Prior | None] = [given.get(f"beta[{name}]") for name in design.coefficients]
    mean, precision, flat = np.zeros(count), np.zeros((count, count)), np.zeros((count, 0))
    joint = isinstance(general, Normal) and general.size is not None
    if isinstance(general, Normal) and joint:
        if general.size != count:
            names = ", ".join(design.coefficients)
            raise PriorError(f"The prior of beta has {general.size} numbers, the model {count} coefficients: {names}.")
        mean, precision, flat = _marginal(general, [prior is None for prior in own])
        explicit["beta"] = general
    else:
        standard = defaults.coefficient_defaults(design) if None in own and general is None else None
        for k, prior in enumerate(own):
            if prior is None:
                own[k] = general if standard is None else standard.prior(k)
    codes, parameters = np.zeros(count, dtype=np.int64), np.zeros((count, 3))
    rows, targets, loose = [], [], []
    for k, (name, prior) in enumerate(zip(design.coefficients, own, strict=True)):
        if prior is None:
            continue
        explicit[f"beta[{name}]"] = prior
        if isinstance(prior, Normal):
            row, target = _normal_row(prior, k, name, count)
            rows.append(row)
            targets.append(target)
        elif prior.speaks_of not in ("coefficient", "value"):
            raise PriorError(f"{prior} is not a prior of a coefficient: beta[{name}] takes Normal, StudentT, …")
        elif type(prior) is Flat:
            loose.append(k)
        else:
            codes[k], parameters[k] = prior.code, prior.parameters
    if rows:
        weighted = np.array(rows)
        precision = precision + weighted.T @ weighted
        # Least norm in the columns' own units, so that flat coefficients stay at 0.
        scale = np.linalg.norm(weighted, axis=0)
        scale[scale == 0.0] = 1.0
        mean = mean + np.linalg.lstsq(weighted / scale, np.array(targets), rcond=None)[0] / scale
    start = next((p.at for p in own[:1] if isinstance(p, Normal) and p.at is not None), None)
    free = np.zeros((count, len(loose)))
    for column, k in enumerate(loose):
        free[k, column] = 1.0
        if start is not None:
            free[0, column] = -start[k]
    return mean, precision, codes, parameters, np.hstack([flat, free])


def _normal_row(prior: Normal, k: int, name: str, count: int) -> tuple[Array, float]:
    """Return the row and target of ((row·beta) − target)², which is the prior's quadratic."""
    if not prior.is_scalar:
        raise PriorError(f"The prior of beta[{name}] must have one mean and one sd, not {prior}.")
    row = np.zeros(count)
    row[k] = 1.0
    if prior.at is not None:
        if k != 0 or len(prior.at) != count or prior.at[0] != 1.0:
            raise PriorError(
                f"Normal(…, at=) of beta[{name}]: at belongs to the intercept and needs {count} numbers, "
                "the first of them 1."
            )
        row = np.array(prior.at)
    return row / prior.sd, prior.mean / prior.sd


def _marginal(joint: Normal, keep: list[bool]) -> tuple[Array, Array, Array]:
    """Return the joint prior of the kept coefficients, with zeros in the rows of the others."""
    mean, precision = joint.moments(len(keep))
    flat = joint.null_space()
    if all(keep):
        return mean, precision, flat
    kept, out = np.flatnonzero(keep), np.flatnonzero(~np.array(keep))
    cross = precision[np.ix_(out, kept)]
    if np.any(cross) and flat.shape[1]:
        raise PriorError("A singular joint prior of beta excludes priors of single coefficients; give one.")
    reduced = np.zeros_like(precision)
    inner = precision[np.ix_(kept, kept)]
    if np.any(cross):
        inner = inner - cross.T @ np.linalg.solve(precision[np.ix_(out, out)], cross)
    reduced[np.ix_(kept, kept)] = inner
    mean[out] = 0.0
    rest = flat[:, np.any(flat[kept] != 0.0, axis=0)].copy()
    rest[out] = 0.0
    return mean, reduced, rest


def _bind_block(
    given: Priors, design: Design, index: int, columns: tuple[int, ...], explicit: dict[str, Prior]
) -> BlockPrior:
    grouping = design.groupings[index]
    names, p = block_names(grouping, columns), len(columns)
    scales = defaults.group_scales(design, grouping)[list(columns)]
    matrix_rank, matrix, matrix_key = matrix_prior(given, grouping, names)
    sds = [scale_prior(given, grouping, grouping.coefficients[k]) for k in columns]
    cor_rank, cor, cor_key = cor_prior(given, grouping, names) if p > 1 else (-1, None, "")
    rank, _, key = max([*sds, (cor_rank, cor, cor_key)], key=lambda found: found[0])
    if matrix is not None and rank == matrix_rank:
        raise PriorError(f"{matrix_key} speaks of the sds and correlations too; give it or {key}, not both.")
    whole = f"Sigma_{grouping.name}" + (f"[{names}]" if len(grouping.blocks) > 1 else "")
    block = BlockPrior(
        grouping=index,
        columns=tuple(columns),
        kind="huang_wand",
        df=2.0,
        scale=np.zeros((p, p)),
        A=np.zeros(p),
        sd_codes=np.zeros(p, dtype=np.int64),
        sd_parameters=np.zeros((p, 3)),
        lkj=1.0,
    )
    if matrix_rank > rank or rank < 0:
        if matrix is None or (isinstance(matrix, HuangWand) and matrix.scales is None):
            matrix = HuangWand(2.0 if matrix is None else matrix.df, scales)
        try:
            sized = matrix.at(p)
        except PriorError as error:
            raise PriorError(f"{matrix_key or whole}, block ({names}) of {grouping.name!r}: {error}") from None
        if isinstance(sized, InverseWishart):
            explicit[whole] = sized
            scale = np.array(sized.scale)
            return dataclasses.replace(block, kind="inverse_wishart", df=sized.df, scale=scale)
        A = np.array(sized.scales)
        half_t = HalfT(sized.df, float(A[0])) if p == 1 else None
        explicit[f"sd_{grouping.name}[{names}]" if half_t else whole] = half_t or sized
        return dataclasses.replace(block, df=sized.df, A=A)
    found = [prior or HalfT(2.0, float(scale)) for (_, prior, _), scale in zip(sds, scales, strict=True)]
    for k, prior in zip(columns, found, strict=True):
        explicit[f"sd_{grouping.name}[{grouping.coefficients[k]}]"] = prior
    if p == 1 and isinstance(found[0], HalfT | HalfCauchy):
        # A half-t sd is the one-dimensional Huang-Wand: samplers then have its conjugate steps.
        df, half_t_scale, _ = found[0].parameters
        return dataclasses.replace(block, df=df, A=np.array([half_t_scale]))
    cor = cor or LKJ(1.0)
    if p > 1:
        explicit[f"cor_{grouping.name}" + whole.removeprefix(f"Sigma_{grouping.name}")] = cor
    return dataclasses.replace(
        block,
        kind="sds",
        df=0.0,
        sd_codes=np.array([prior.code for prior in found], dtype=np.int64),
        sd_parameters=np.array([prior.parameters for prior in found]),
        lkj=float(cor.eta),
    )

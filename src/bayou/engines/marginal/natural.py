"""From the optimiser's parameters to sds, correlations and dispersions, on a scale where they are about normal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bayou._types import Array
from bayou.posterior import factor_names
from bayou.posterior.posterior import estimated_pairs

if TYPE_CHECKING:
    from bayou.model import Model

EDGE = 1e-10  # an sd relative to its unit, or a correlation's distance from one, that counts as the border


class Row(Protocol):
    """What is needed of a row to place a number on its scale and among the draws."""

    @property
    def scale(self) -> str:
        """Where it is about normal."""

    @property
    def variable(self) -> str:
        """The name of its array among the draws."""

    @property
    def index(self) -> tuple[int, ...]:
        """Where it stands there."""


@dataclass(frozen=True)
class NaturalRow:
    """One hyperparameter as printed.

    Attributes
    ----------
    name
        "sd_g[x]", "cor_g[x,z]" or the dispersion's name.
    scale
        "log", "atanh" or "logit": where it is about normal.
    variable, index
        Where it stands among the draws.
    """

    name: str
    scale: str
    variable: str
    index: tuple[int, ...]


def dispersion_name(model: Model, estimated: bool) -> str | None:
    """Return what the dispersion is called if one is estimated: phi, the factor on the variance, if it has no name."""
    return (model.family.dispersion or "phi") if estimated and not model.dispersion_known else None


def natural_rows(model: Model, dispersions: bool) -> list[NaturalRow]:
    """List the hyperparameters of a model in the order of the summary."""
    design = model.design
    dispersion = dispersion_name(model, dispersions)
    printed = factor_names([g.name for g in design.groupings], model.family.dispersion or dispersion)
    rows = []
    for g in design.groupings:
        name, columns = printed[g.name], g.coefficients
        rows += [NaturalRow(f"sd_{name}[{c}]", "log", f"sd_{name}", (k,)) for k, c in enumerate(columns)]
        rows += [
            NaturalRow(f"cor_{name}[{columns[i]},{columns[j]}]", "atanh", f"cor_{name}", (j, i))
            for i, j in estimated_pairs(g.blocks)
        ]
    if dispersion is not None:
        if design.sigma_by is None:
            rows.append(NaturalRow(dispersion, "log", dispersion, ()))
        else:
            levels = enumerate(design.sigma_levels)
            rows += [NaturalRow(f"{dispersion}[{v}]", "log", dispersion, (k,)) for k, v in levels]
    return rows


def natural_values(
    model: Model, order: tuple[int, ...], T: Array, dispersion: Array, rows: list[NaturalRow]
) -> Array:
    """Return the hyperparameters (rows,) of factors T (K, p, p) and dispersions (S,), on their own scale of numbers."""
    groupings = model.design.groupings
    dispersions = [row.variable for row in rows if not row.variable.startswith(("sd_", "cor_"))]
    name = model.family.dispersion or (dispersions[0] if dispersions else None)
    printed = factor_names([g.name for g in groupings], name)
    arrays: dict[str, Array] = {}
    for place, g in enumerate(order):
        factor, p = printed[groupings[g].name], groupings[g].Z.shape[1]
        Sigma = T[place, :p, :p] @ T[place, :p, :p].T
        sd = np.sqrt(np.diag(Sigma))
        arrays[f"sd_{factor}"] = sd
        safe = np.where(sd > 0.0, sd, 1.0)
        arrays[f"cor_{factor}"] = Sigma / np.outer(safe, safe)
    if dispersions:
        arrays[dispersions[0]] = dispersion if model.design.sigma_by is not None else dispersion[0]
    return np.array([float(arrays[row.variable][row.index]) for row in rows])


def to_scale(values: Array, rows: Sequence[Row]) -> Array:
    """Return values on the scale where they are about normal; NaN at the border."""
    out = np.full(len(rows), np.nan)
    for k, (value, row) in enumerate(zip(values, rows, strict=True)):
        if row.scale == "log" and value > 0.0:
            out[k] = np.log(value)
        elif row.scale == "atanh" and abs(value) < 1.0 - EDGE:
            out[k] = np.arctanh(value)
        elif row.scale == "logit" and EDGE < value < 1.0 - EDGE:
            out[k] = np.log(value) - np.log1p(-value)
    return out


def from_scale(theta: Array, rows: Sequence[Row]) -> Array:
    """Return values (…, rows) from the scale where they are about normal."""
    scale = np.array([row.scale for row in rows])
    with np.errstate(over="ignore"):
        out = np.where(scale == "log", np.exp(np.where(scale == "log", theta, 0.0)), np.tanh(theta))
        logit = np.where(scale == "logit", theta, 0.0)
        return np.where(scale == "logit", 0.5 * (1.0 + np.tanh(0.5 * logit)), out)


def jacobian(of: Callable[[Array], Array], psi: Array) -> Array:
    """Return the derivatives (rows, d) of a smooth function by central differences; NaN rows where it has none."""
    out = np.empty((len(of(psi)), len(psi)))
    for i in range(len(psi)):
        step = np.zeros(len(psi))
        step[i] = 1e-6 * max(1.0, abs(psi[i]))
        out[:, i] = (of(psi + step) - of(psi - step)) / (2.0 * step[i])
    return out

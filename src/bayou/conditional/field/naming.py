"""From positions in x and theta to the names of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.conditional.field.component import Component

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["HyperRow", "hyper_rows", "internal_coordinates", "named_coefficients", "named_hyperparameters"]


@dataclass(frozen=True)
class HyperRow:
    """One hyperparameter as printed.

    Attributes
    ----------
    name
        "sd_g[x]", "cor_g[x,z]", "sd_t", "rho_t", "phi_area", or the dispersion's name.
    variable, index
        Where it stands among the named arrays.
    scale
        "log", "logit" or "atanh": where it is about normal.
    """

    name: str
    variable: str
    index: tuple[int, ...]
    scale: str


def hyper_rows(model: Model, levels: int) -> tuple[HyperRow, ...]:
    """List the hyperparameters of a model in the order of the summary."""
    rows = []
    for g in model.design.groupings:
        columns = g.coefficients
        rows += [HyperRow(f"sd_{g.name}[{c}]", f"sd_{g.name}", (k,), "log") for k, c in enumerate(columns)]
        for block in g.blocks:
            pairs = [(block[i], block[j]) for i in range(len(block)) for j in range(i + 1, len(block))]
            rows += [
                HyperRow(f"cor_{g.name}[{columns[i]},{columns[j]}]", f"cor_{g.name}", (j, i), "atanh")
                for i, j in pairs
            ]
    for term, effect in zip(model.design.structured, model.effects, strict=True):
        for h in effect.hyperparameters:
            rows.append(HyperRow(f"{h.role}_{term.name}", f"{h.role}_{term.name}", (), h.scale))
    name = model.family.dispersion
    if levels and name is not None:
        if model.design.sigma_by is None:
            rows.append(HyperRow(name, name, (), "log"))
        else:
            rows += [HyperRow(f"{name}[{v}]", name, (k,), "log") for k, v in enumerate(model.design.sigma_levels)]
    return tuple(rows)


def named_hyperparameters(
    model: Model, parts: Sequence[Component], thetas: Array, levels: int, names: Mapping[str, str]
) -> dict[str, Array]:
    """Return hyperparameters (S, d) by name: sd_g (S, p), cor_g (S, p, p), sd_t (S,), …, the dispersion."""
    S = len(thetas)
    out: dict[str, Array] = {}
    for g in model.design.groupings:
        name, p = names.get(g.name, g.name), g.Z.shape[1]
        out[f"sd_{name}"] = np.zeros((S, p))
        if any(len(block) > 1 for block in g.blocks):
            out[f"cor_{name}"] = np.tile(np.eye(p), (S, 1, 1))
    for c in parts:
        own = thetas[:, c.hyper]
        if c.grouping < 0:
            name = names.get(c.name, c.name)
            for k, h in enumerate(c.effect.hyperparameters):
                out[f"{h.role}_{name}"] = np.array([h.value(float(t)) for t in own[:, k]])
            continue
        name, at = names.get(c.name, c.name), list(c.columns)
        p = len(at)
        out[f"sd_{name}"][:, at] = np.exp(own[:, :p])
        if p > 1:
            found = correlations(own[:, p:], p)
            for i, row in enumerate(at):
                out[f"cor_{name}"][:, row, at] = found[:, i]
    if levels and model.family.dispersion is not None:
        values = np.exp(thetas[:, thetas.shape[1] - levels :])
        out[model.family.dispersion] = values if model.design.sigma_by is not None else values[:, 0]
    return out


def correlations(partial: Array, p: int) -> Array:
    """Return correlation matrices (S, p, p) of inverse hyperbolic tangents of partial correlations, row by row.

    Lewandowski, Kurowicka & Joe (2009): row i of the factor spends what is left of its unit length, column by column.
    """
    S = len(partial)
    L = np.zeros((S, p, p))
    c = 0
    for i in range(p):
        left = np.ones(S)
        for j in range(i):
            rho = np.tanh(partial[:, c])
            c += 1
            L[:, i, j] = rho * np.sqrt(left)
            left = left * (1.0 - rho * rho)
        L[:, i, i] = np.sqrt(left)
    return np.asarray(L @ L.transpose(0, 2, 1))


def partial_correlations(cor: Array) -> Array:
    """Return the numbers that `correlations` turns into this matrix (p, p), row by row."""
    L = np.linalg.cholesky(cor)
    found = []
    for i in range(len(L)):
        left = 1.0
        for j in range(i):
            rho = L[i, j] / np.sqrt(left)
            found.append(np.arctanh(np.clip(rho, -1.0 + 1e-12, 1.0 - 1e-12)))
            left -= L[i, j] ** 2
    return np.array(found)


def internal_coordinates(
    parts: Sequence[Component], theta: Mapping[str, ArrayLike], dispersion: str | None, levels: int
) -> Array:
    """Return internal coordinates (d,) of hyperparameters given by the names of the contract, all of them there."""
    out: list[Array] = [np.zeros(0)]
    for c in parts:
        if c.grouping < 0:
            values = [float(np.asarray(theta[f"{h.role}_{c.name}"])) for h in c.effect.hyperparameters]
            pairs = zip(c.effect.hyperparameters, values, strict=True)
            out.append(np.array([h.internal(value) for h, value in pairs]))
            continue
        at = list(c.columns)
        sd = np.asarray(theta[f"sd_{c.name}"], dtype=np.float64).reshape(-1)[at]
        out.append(np.array([h.internal(float(s)) for h, s in zip(c.effect.hyperparameters, sd, strict=False)]))
        if len(at) > 1:
            cor = np.asarray(theta.get(f"cor_{c.name}", np.eye(max(at) + 1)), dtype=np.float64)
            out.append(partial_correlations(cor[np.ix_(at, at)]))
    if levels and dispersion is not None:
        out.append(np.log(np.broadcast_to(np.asarray(theta[dispersion], dtype=np.float64), (levels,))))
    return np.concatenate(out)


def named_coefficients(
    model: Model, parts: Sequence[Component], X: Array, names: Mapping[str, str]
) -> dict[str, Array]:
    """Return coefficients (S, N) by name: b_g (S, J, p), f_name (S, m) or (S, replicates, m)."""
    S = len(X)
    out: dict[str, Array] = {}
    for c in parts:
        own = X[:, c.place].reshape(S, c.effect.replicates, c.effect.size)
        name = names.get(c.name, c.name)
        if c.grouping < 0:
            term = model.design.structured[c.term]
            f = own[:, :, : c.effect.observed]
            out[f"f_{name}"] = f if term.by is not None else f[:, 0]
            continue
        g = model.design.groupings[c.grouping]
        if f"b_{name}" not in out:
            out[f"b_{name}"] = np.zeros((S, len(g.levels), g.Z.shape[1]))
        out[f"b_{name}"][:, :, list(c.columns)] = own
    return out

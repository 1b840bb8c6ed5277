"""The keystone: the Gaussian of all coefficients given the hyperparameters, and log p(y | theta)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.conditional.choice import likelihood_of
from bayou.conditional.joint import Conditional
from bayou.conditional.laplace import Laplace
from bayou.errors import DataError, Unsupported

if TYPE_CHECKING:
    from bayou.conditional.field.joint import FieldConditional
    from bayou.design import Grouping
    from bayou.model import Model

__all__ = ["conditional"]


def conditional(
    model: Model, theta: Mapping[str, ArrayLike], beta: ArrayLike | None = None, priors: bool = True
) -> Conditional | FieldConditional:
    """Return the Gaussian of the coefficients given the hyperparameters, with log p(y | theta).

    Exact for a Gaussian response with identity link; otherwise the Laplace approximation at the mode.

    Parameters
    ----------
    model
        The model.
    theta
        ``sd_g`` (p,) of each grouping factor g (by its own name), ``cor_g`` (p, p) where its coefficients are
        correlated (the identity if left out), and the dispersion by its name, a number or one for each level of
        ``sigma_by``; of structured effects ``sd_name``, ``rho_name``, ``phi_name``.
    beta
        Fixed effects (P,) as printed. When given, the Gaussian is that of b | beta, theta, y, with
        log p(y | beta, theta); otherwise beta is part of it and integrated out.
    priors
        Whether beta has the model's prior; a flat one otherwise (and ``log_marginal`` is the restricted likelihood).

    Returns
    -------
    Conditional
        With ``log_marginal``, ``beta``, ``beta_covariance``, ``effects(factor)`` and ``draw(rng, count)``; a
        `bayou.conditional.field.joint.FieldConditional`, with the same names, where there are structured effects.

    Raises
    ------
    DataError
        If theta lacks a name, has one that the model does not know, or values that no hyperparameter can have.
    Unsupported
        If beta is to be integrated out and some of its priors are not normal.

    References
    ----------
    Rue & Martino, J. R. Stat. Soc. B 71 (2009), for the use of it.

    Examples
    --------
    >>> import bayou
    >>> from bayou.conditional import conditional
    >>> clinic = bayou.datasets.load("clinic")
    >>> model = bayou.Model("proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic, family="binomial")
    >>> found = conditional(model, {"sd_clinic": [1.4]}, beta=[-1.2, 0.74])
    >>> round(found.log_marginal, 3)
    -37.101
    """
    if model.design.structured:
        from bayou.conditional.field.joint import field_at

        return field_at(model, theta, beta, priors)
    if beta is None and priors and len(model.working.codes):
        raise Unsupported(
            "Integrating over beta takes priors that are Normal or flat; this model has others. Give beta=, or "
            "priors=False."
        )
    likelihood = likelihood_of(model, integrated=beta is None, priors=priors and beta is None)
    T, dispersion = _factors(model, likelihood, theta)
    working: Array = np.zeros(likelihood.X.shape[1])
    if beta is not None:
        printed = np.asarray(beta, dtype=np.float64)
        if printed.shape != working.shape:
            raise DataError(f"beta has shape {printed.shape}; the model has {len(working)} fixed effects.")
        working = np.asarray(np.linalg.solve(model.working.to_printed, printed))
    if not likelihood.place(likelihood.join(working, T, dispersion)):
        raise DataError("No mode of the coefficients was found at this theta: its values are too extreme for the data.")
    return likelihood.joint(given=beta is not None)


def _factors(model: Model, of: Laplace, theta: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
    """Bring theta into the form of the kernels."""
    groupings, name = model.design.groupings, model.family.dispersion
    needed = [f"sd_{g.name}" for g in groupings] + ([str(name)] if of.levels else [])
    known = {*needed, *(f"cor_{g.name}" for g in groupings)}
    lacking, strange = [k for k in needed if k not in theta], [k for k in theta if k not in known]
    if lacking or strange:
        raise DataError(
            f"theta needs {', '.join(needed) or 'no names'}"
            + (f"; it lacks {', '.join(lacking)}" if lacking else "")
            + (f"; it has {', '.join(strange)}, which the model does not know" if strange else "")
            + "."
        )
    T = np.zeros(of.numbers.shape)
    for place, g in enumerate(of.data.order):
        T[place, : groupings[g].Z.shape[1], : groupings[g].Z.shape[1]] = _root(groupings[g], theta)
    dispersion = np.ones(max(of.levels, 1))
    if of.levels:
        values = np.broadcast_to(np.asarray(theta[str(name)], dtype=np.float64), (of.levels,))
        if not np.all(np.isfinite(values) & (values > 0.0)):
            raise DataError(f"{name} must be above zero; theta has {values}.")
        dispersion[:] = values
    return T, dispersion


def _root(grouping: Grouping, theta: Mapping[str, ArrayLike]) -> Array:
    """Return the lower factor (p, p) of one covariance, singular or not."""
    p = grouping.Z.shape[1]
    sd = np.asarray(theta[f"sd_{grouping.name}"], dtype=np.float64).reshape(-1)
    cor = np.asarray(theta.get(f"cor_{grouping.name}", np.eye(p)), dtype=np.float64)
    if sd.shape != (p,) or not np.all(np.isfinite(sd) & (sd >= 0.0)):
        raise DataError(f"sd_{grouping.name} needs {p} numbers that are not negative; theta has {sd}.")
    if cor.shape != (p, p) or not np.allclose(cor, cor.T) or not np.allclose(np.diag(cor), 1.0):
        raise DataError(f"cor_{grouping.name} must be a symmetric {p} x {p} matrix with ones on its diagonal.")
    values, vectors = np.linalg.eigh(cor)
    if values[0] < -1e-8:
        raise DataError(f"cor_{grouping.name} is no correlation matrix: an eigenvalue is {values[0]:.3g}.")
    _, R = np.linalg.qr((sd[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))).T)
    out = np.zeros((p, p))
    allowed = np.zeros((p, p), dtype=bool)
    for block in grouping.blocks:
        allowed[np.ix_(block, block)] = True
    lower = (R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]).T
    if np.abs(np.where(allowed, 0.0, cor - np.eye(p))).max(initial=0.0) > 0.0:
        raise DataError(f"cor_{grouping.name} correlates coefficients that the formula keeps apart.")
    out[allowed] = lower[allowed]
    return np.asarray(np.tril(out))

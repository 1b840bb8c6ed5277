"""The Gaussian of the coefficients given the hyperparameters, by name: what `bayou.conditional.conditional` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.conditional.field.field import Field
from bayou.conditional.field.naming import internal_coordinates
from bayou.errors import DataError

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["FieldConditional", "field_at"]


def field_at(model: Model, theta: Mapping[str, ArrayLike], beta: ArrayLike | None, priors: bool) -> FieldConditional:
    """Place a field at hyperparameters by name; see `bayou.conditional.conditional`."""
    field = Field(model, integrated=beta is None, priors=priors and beta is None)
    needed = {row.variable for row in field.rows if not row.variable.startswith("cor_")}
    known = {row.variable for row in field.rows}
    lacking, strange = [k for k in sorted(needed) if k not in theta], [k for k in theta if k not in known]
    if lacking or strange:
        raise DataError(
            f"theta needs {', '.join(sorted(needed)) or 'no names'}"
            + (f"; it lacks {', '.join(lacking)}" if lacking else "")
            + (f"; it has {', '.join(strange)}, which the model does not know" if strange else "")
            + "."
        )
    try:
        psi = internal_coordinates(field.parts, theta, model.family.dispersion, field.levels)
    except (ValueError, np.linalg.LinAlgError) as problem:
        raise DataError(f"theta has values that no hyperparameter can have: {problem}") from None
    if beta is not None:
        printed = np.asarray(beta, dtype=np.float64)
        if printed.shape != (field.X.shape[1],):
            raise DataError(f"beta has shape {printed.shape}; the model has {field.X.shape[1]} fixed effects.")
        psi = np.concatenate([np.linalg.solve(model.working.to_printed, printed) / field.beta_unit, psi])
    if not field.place(psi):
        raise DataError("No mode of the coefficients was found at this theta: its values are too extreme for the data.")
    return FieldConditional(field)


class FieldConditional:
    """The Gaussian N(x; mode, Sigma) of the coefficients given hyperparameters and data.

    Parameters
    ----------
    field
        Placed at the hyperparameters; it must stay there.

    Attributes
    ----------
    log_marginal
        log p(y | theta) or log p(y | beta, theta), with every constant.
    """

    def __init__(self, field: Field) -> None:
        self.field, self.model = field, field.model
        self.log_marginal = field.value()

    @property
    def beta(self) -> Array:
        """The mode of the fixed effects as printed, (P,)."""
        return np.asarray(self.field.unpack(self.field.x[None])["beta"][0])

    @property
    def working_covariance(self) -> Array:
        """Covariance (P, P) of the working fixed effects, everything else integrated out."""
        field = self.field
        P = field.X.shape[1]
        if field.explicit or not P:
            return np.zeros((P, P))
        at = field.layout.latent
        out = np.empty((P, P))
        for k in range(P):
            unit = np.zeros(at + P)
            unit[at + k] = 1.0
            out[k] = field.solve(unit)[at:]
        return 0.5 * (out + out.T)

    @property
    def beta_covariance(self) -> Array:
        """Covariance (P, P) of the fixed effects as printed."""
        back = self.model.working.to_printed
        return np.asarray(back @ self.working_covariance @ back.T)

    def effects(self, name: str) -> tuple[Array, Array]:
        """Return modes and standard deviations of the coefficients of a grouping factor (J, p) or of a structure.

        A structured effect has shape (m,), or (replicates, m) with ``by=``.
        """
        key = f"b_{name}" if any(g.name == name for g in self.model.design.groupings) else f"f_{name}"
        both = np.vstack([self.field.x, np.sqrt(np.maximum(self.field.variances(), 0.0))])
        mode, sd = self.field.unpack(both)[key]
        return mode, sd

    def draw(self, rng: np.random.Generator, count: int, covariance: Array | None = None) -> dict[str, Array]:
        """Draw x.

        Parameters
        ----------
        rng
            The generator.
        count
            How many draws.
        covariance
            Of explicit fixed effects (P, P) in working coordinates: they are drawn, and the effects given them.

        Returns
        -------
        dict
            ``beta`` (count, P) as printed, and by name the coefficients of factors and structures.
        """
        field = self.field
        X = field.draw(rng, count)
        shift = np.zeros((count, field.X.shape[1]))
        if field.explicit and covariance is not None:
            values, vectors = np.linalg.eigh(covariance)
            shift = rng.standard_normal((count, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
            # the mode of the effects follows the fixed effects, to first order
            weight = field.point.weight
            follow = [field.solve(field.project(weight * field.X[:, k])) for k in range(field.X.shape[1])]
            X -= shift @ np.array(follow).reshape(len(follow), X.shape[1])
        named = field.unpack(X)
        beta = named.pop("beta") + shift @ self.model.working.to_printed.T
        return {"beta": beta, **{key[2:]: values for key, values in named.items()}}

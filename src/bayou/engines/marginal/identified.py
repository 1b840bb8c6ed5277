"""Likelihoods without a maximum: fixed effects that depend on each other, or that separate the outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding.ranks import aliased_columns, centred
from bayou.binding.recession import recession, rows_that_stay
from bayou.errors import DataError

if TYPE_CHECKING:
    from bayou.model import Model

FAR = 9.0  # a linear predictor on a link scale that makes one look for separation
SOUND = 1e-9  # smallest eigenvalue of the correlation matrix that rules it out


def require_rank(model: Model) -> None:
    """Refuse fixed effects that can be written by each other: without priors nothing tells them apart.

    Raises
    ------
    DataError
        Naming the columns.
    """
    X, names = model.working.X, model.design.coefficients
    if not X.shape[1]:
        return
    product = X.T @ X
    size = np.sqrt(np.diag(product))
    if size.min() > 0.0 and np.linalg.eigvalsh(product / np.outer(size, size))[0] > SOUND:
        return
    aliased = aliased_columns(centred(model.design.X))
    if aliased:
        which = ", ".join(names[k] for k in aliased[:10])
        raise DataError(
            f"The fixed effects are rank-deficient: {which} can be written by the other columns, and without priors "
            "nothing tells them apart. Leave them out of the formula, or give priors=bayou.Priors(beta=Normal(0, 10))."
        )


def require_maximum(model: Model, eta: Array) -> None:
    """Refuse outcomes that some combination of columns predicts perfectly: the estimates would be infinite.

    Raises
    ------
    DataError
        Naming the columns.
    """
    family = model.family.name
    if family in ("gaussian", "gamma") or not len(eta) or np.abs(eta).max() < FAR:
        return
    X = centred(model.design.X)
    direction = recession(X, *rows_that_stay(model.design)) if X.shape[1] else None
    if direction is None:
        return
    size = np.abs(direction) * np.abs(X).max(axis=0, initial=0.0)
    names = [model.design.coefficients[k] for k in np.flatnonzero(size > 1e-6 * size.max())]
    which = ", ".join([name for name in names if name != "Intercept"] or names)
    raise DataError(
        f"The likelihood has no maximum: the combination of {which} predicts outcomes perfectly, so that its estimate "
        "is infinite. Leave it out, or give it a prior, such as priors={'beta': Normal(0, 2.5)}."
    )

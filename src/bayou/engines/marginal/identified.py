"""Likelihoods without a maximum: columns that depend on each other or separate outcomes, variances nothing tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.binding.exact import UNBOUNDED
from bayou.binding.fixed import used_rows
from bayou.binding.fragile import one_row_each
from bayou.binding.ranks import aliased_columns, centred, indicator, rank
from bayou.binding.recession import recession, rows_that_stay
from bayou.binding.thinned import thinned
from bayou.design.passes import cut, same
from bayou.errors import DataError

if TYPE_CHECKING:
    from bayou.design import Design, Grouping
    from bayou.model import Model

FAR = 9.0  # a linear predictor on a link scale that makes one look for separation
VANISHING = 1e-2  # of the response's sd: a residual sd that a search still drives down
SOUND = 1e-9  # smallest eigenvalue of the correlation matrix that rules it out


def require_rank(model: Model) -> None:
    """Refuse fixed effects that can be written by each other: without priors nothing tells them apart.

    Raises
    ------
    DataError
        Naming the columns.
    """
    design, names = model.design, model.design.coefficients
    product, informed = np.zeros((len(names), len(names))), False
    for part in cut(design):
        used = (design.weights[part] > 0.0) & (design.trials[part] > 0.0)
        informed = informed or bool(used.any())
        X = model.working.part(part)
        if not used.all():
            X = X[used]
        product = product + X.T @ X
    if not informed:
        raise DataError("No row has a trial: nothing is known of the coefficients. Check the numbers of trials.")
    if not names:
        return
    size = np.sqrt(np.diag(product))
    if size.min() > 0.0 and np.linalg.eigvalsh(product / np.outer(size, size))[0] > SOUND:
        return
    aliased = aliased_columns(centred(design.X[used_rows(design)]))
    if aliased:
        which = ", ".join(names[k] for k in aliased[:10])
        raise DataError(
            f"The fixed effects are rank-deficient: {which} can be written by the other columns, and without priors "
            "nothing tells them apart. Leave them out of the formula, or give priors=bayou.Priors(beta=Normal(0, 10))."
        )


def require_variances(model: Model, restricted: bool) -> None:
    """Refuse variances that the likelihood cannot tell apart, or that it sends to zero or infinity.

    Parameters
    ----------
    model
        The model.
    restricted
        Whether the fixed effects are integrated out.

    Raises
    ------
    DataError
        Naming the factor, or the response.
    """
    design, family = model.design, model.family
    used = used_rows(design)
    n, P = design.counted(used), design.X.shape[1]
    estimated = family.dispersion in ("sigma", "shape") and not model.dispersion_known
    if estimated:
        name = {"sigma": "residual sd"}.get(str(family.dispersion), family.dispersion)
        if n <= P:
            raise DataError(
                f"{n:,} rows for {P} fixed effects leave nothing to estimate the {name} from. Use fewer "
                "terms, or more rows."
            )
        exact = [note for note in model.bound.notes if UNBOUNDED in note]  # found when the model was built
        if exact:
            raise DataError(f"The likelihood has no maximum. {exact[0]}")
    for grouping in design.groupings:
        levels = int(np.sum(_informed(design, grouping) > 0))
        if levels < 2:
            raise DataError(
                f"{grouping.name} has one level, which tells nothing of a variance between levels. Leave its term out, "
                "or give its sd a prior."
            )
        ones = any(same(grouping.Z[:, k]) == 1.0 for k in range(grouping.Z.shape[1]))
        if estimated and family.name == "gaussian" and family.link.name == "identity":
            if ones and one_row_each(design, grouping):
                raise DataError(
                    f"Every level of {grouping.name} has one row, so that its variance and the residual variance are "
                    f"confounded: only their sum is known. Leave (… | {grouping.name}) out, or give known standard "
                    "errors: measured(y, se)."
                )
        if restricted and ones and levels <= P:
            Z = indicator(grouping.codes, np.ones((len(used), 1)))[used]
            X = design.X[used]
            if rank(np.hstack([X, Z])) == rank(X):
                raise DataError(
                    f"The fixed effects hold every difference between levels of {grouping.name}, so that nothing is "
                    "left to estimate its variance from. Leave one of the two out."
                )


def _informed(design: Design, grouping: Grouping) -> Integers:
    """Return how many rows that carry information each level has."""
    out = np.zeros(len(grouping.levels), dtype=np.int64)
    for part in cut(design):
        used = (design.weights[part] > 0.0) & (design.trials[part] > 0.0)
        out += np.bincount(grouping.codes[part][used], minlength=len(out))
    return out


def stopped(model: Model, promise: float, sigma: float | None = None) -> str:
    """Say that a search ended short of a maximum, and why if it can be seen (``sigma``: the residual sd there)."""
    said = (
        f"The search stopped where a step still promises {promise:.2g} of log likelihood: the estimates are not at its "
        "maximum. "
    )
    if sigma is not None and sigma < VANISHING * model.design.moments.sd:
        return said + (
            "The residual sd goes to zero: the groups reproduce the response. Use fewer terms, or give sigma a prior."
        )
    return said + "Bring columns to similar units, or give priors."


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
    design = thinned(model.design) or model.design
    X = centred(design.X)
    direction = recession(X, *rows_that_stay(design)) if X.shape[1] else None
    if direction is None:
        return
    size = np.abs(direction) * np.abs(X).max(axis=0, initial=0.0)
    names = [model.design.coefficients[k] for k in np.flatnonzero(size > 1e-6 * size.max())]
    which = ", ".join([name for name in names if name != "Intercept"] or names)
    raise DataError(
        f"The likelihood has no maximum: the combination of {which} predicts outcomes perfectly, so that its estimate "
        "is infinite. Leave it out, or give it a prior, such as priors={'beta': Normal(0, 2.5)}."
    )

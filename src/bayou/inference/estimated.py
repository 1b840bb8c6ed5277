"""What tests and intervals need of a fit: its estimates, its likelihood, and the way from one to the other."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.conditional.parameters import Parameters
from bayou.errors import DataError, Unsupported
from bayou.formula.words import did_you_mean, listing
from bayou.posterior import factor_names

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Estimates, Posterior

RESTRICTED = {"REML": "ML", "Laplace (REML)": "Laplace"}
QUADRATURE = re.compile(r"adaptive quadrature, (\d+) nodes?")
OFF_ZERO = 1e-5
LIKELIHOODS = ("ML", "Laplace", *RESTRICTED)


def estimates_of(posterior: Posterior, what: str) -> Estimates:
    """Return the estimates of a fit.

    Raises
    ------
    Unsupported
        After a sampler; ``what`` was asked for.
    """
    found = posterior.estimates
    if found is None:
        engine = posterior.info.get("engine", posterior.engine)
        raise Unsupported(
            f"{what} belongs to engines that maximise a likelihood; this fit was sampled by {engine}. Use the "
            "intervals of fit.summary(), or fit with engine='ml', 'reml' or 'laplace'."
        )
    return found


def likelihood_of(posterior: Posterior, what: str) -> Callable[[Model], Laplace]:
    """Return what makes the marginal likelihood of a model by the method of this fit.

    The fixed effects are among its arguments.

    Raises
    ------
    Unsupported
        After a sampler, a method without a likelihood, a fit that maximised a posterior, or one with structured
        effects; ``what`` was asked for.
    """
    found = estimates_of(posterior, what)
    nodes = QUADRATURE.fullmatch(found.method)
    if found.method not in LIKELIHOODS and nodes is None:
        raise Unsupported(
            f"{what} needs a likelihood, and {found.method} has none: it maximises a criterion in the coefficients of "
            "the groups too. Fit with engine='laplace', or 'quadrature' for one grouping factor."
        )
    if found.priors_used:
        raise Unsupported(
            f"{what} is of the likelihood, and this fit maximised it times prior densities. Use "
            "fit.confidence_intervals(method='wald'), or fit without priors."
        )
    if posterior.model.design.structured:
        raise Unsupported(
            f"{what} is there for grouping factors; this model has structured effects. Use "
            "fit.confidence_intervals(method='wald'), or fit with engine='inla'."
        )
    if nodes is not None:
        from bayou.conditional.adaptive import AdaptiveQuadrature

        count = int(nodes[1])
        return lambda model: AdaptiveQuadrature(model, count)
    return Laplace


def steady(of: Laplace) -> Callable[[Array], tuple[float, Array]]:
    """Return the likelihood (minus its logarithm, and gradient) with the diagonals of factors held off zero.

    At zero the gradient of the entries beside is a limit that rounding spoils. The likelihood is even in every column
    of a factor, so that 1e-5 in the place of zero changes it by some 1e-10.
    """
    diagonal = of.explicit + np.flatnonzero(of.numbers.row == of.numbers.column)

    def evaluate(psi: Array) -> tuple[float, Array]:
        near = diagonal[np.abs(psi[diagonal]) < OFF_ZERO]
        if not len(near):
            return of.evaluate(psi)
        psi = psi.copy()
        psi[near] = np.where(psi[near] < 0.0, -OFF_ZERO, OFF_ZERO)
        value, gradient = of.evaluate(psi)
        gradient = gradient.copy()
        gradient[near] = 0.0
        return value, gradient

    return evaluate


def chosen(rows: Sequence[str], parameters: str | Iterable[str] | None) -> list[str]:
    """Return the summary rows that are meant: by name, by what they begin with (``"beta"``), or all.

    Raises
    ------
    DataError
        For a name that no row has.
    """
    if parameters is None:
        return list(rows)
    found: list[str] = []
    for asked in [parameters] if isinstance(parameters, str) else list(parameters):
        own = [row for row in rows if row == asked] or [row for row in rows if row.partition("[")[0] == str(asked)]
        if not own:
            raise DataError(
                f"{asked!r} is no row of the summary.{did_you_mean(str(asked), rows)} The rows are {listing(rows)}."
            )
        found += own
    return list(dict.fromkeys(found))


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least``, or raise `DataError`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise DataError(f"{name}={value!r}: give a whole number of at least {least}.")
    return int(value)


# ---- covariances ---------------------------------------------------------------------------


def lower_root(Sigma: Array) -> Array:
    """Return the lower triangular L (p, p), diagonal not negative, with L L' = Sigma, which may be singular."""
    values, vectors = np.linalg.eigh(Sigma)
    values = np.where(values > 1e-15 * values[-1], values, 0.0)
    _, R = np.linalg.qr((vectors * np.sqrt(values)).T)
    signs = np.where(np.diag(R) < 0.0, -1.0, 1.0)
    return np.asarray((R * signs[:, None]).T)


def estimated_parts(
    model: Model, found: Estimates, order: Sequence[int], numbers: Parameters
) -> tuple[Array, Array, Array]:
    """Return the working fixed effects (P,), the factors T (K, p, p) and the dispersions (S,) of an estimate.

    Parameters
    ----------
    model
        The model; its group columns may stand in another order than those that were fitted.
    found
        The estimates.
    order, numbers
        Of the likelihood: grouping factors by position, and where the entries of T stand.
    """
    value = dict(zip(found.rows, found.estimate, strict=True))
    P = found.fixed
    beta: Array = np.zeros(0)
    if P:
        beta = np.asarray(np.linalg.solve(model.working.to_printed, found.estimate[:P]), dtype=np.float64)
    T = np.zeros(numbers.shape)
    printed = factor_names([g.name for g in model.design.groupings], model.family.dispersion)
    for g, grouping in enumerate(model.design.groupings):
        name = printed[grouping.name]
        sd = np.array([value[f"sd_{name}[{c}]"] for c in grouping.coefficients])
        place = list(order).index(g)
        for block in grouping.blocks:
            Sigma = np.diag(np.square(sd[list(block)]))
            for i, a in enumerate(block):
                for j, b in enumerate(block[:i]):
                    c, d = grouping.coefficients[a], grouping.coefficients[b]
                    cor = value.get(f"cor_{name}[{d},{c}]", value.get(f"cor_{name}[{c},{d}]", 0.0))
                    Sigma[i, j] = Sigma[j, i] = cor * sd[a] * sd[b]
            L = lower_root(Sigma)
            L[np.abs(L) < 1e-12 * np.abs(L).max(initial=0.0)] = 0.0
            T[place][np.ix_(block, block)] = L
    named = model.family.dispersion
    mine = [float(v) for row, v in value.items() if named is not None and row.partition("[")[0] == named]
    dispersion = np.array(mine, dtype=np.float64)
    return beta, T, dispersion


def reordered(model: Model, factor: int, block: tuple[int, ...], first: Sequence[int]) -> Model:
    """Return the model with some columns of one correlated block of a factor before the others of that block.

    A standard deviation is then the first entry of its covariance's factor, a correlation a ratio in its second row.
    """
    rest = [c for c in block if c not in first]
    grouping = model.design.groupings[factor]
    places = list(range(len(grouping.coefficients)))
    for place, column in zip(sorted(block), [*first, *rest], strict=True):
        places[place] = column
    moved = replace(
        grouping,
        Z=np.ascontiguousarray(grouping.Z[:, places]),
        coefficients=tuple(grouping.coefficients[c] for c in places),
    )
    groupings = tuple(moved if k == factor else g for k, g in enumerate(model.design.groupings))
    other = copy.copy(model)
    other.design = replace(model.design, groupings=groupings)
    return other

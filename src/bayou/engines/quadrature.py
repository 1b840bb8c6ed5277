"""The marginal likelihood by adaptive Gauss-Hermite quadrature, maximised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou.conditional.adaptive import AdaptiveQuadrature
from bayou.conditional.blocked import BlockedLaplace
from bayou.engines.base import Engine
from bayou.engines.marginal.generic import maximised
from bayou.errors import DataError, Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

NODES = {1: 11, 2: 7, 3: 5}  # by dimension, where none are given
MOST = 501
POINTS = 1_000_000  # nodes of a whole grid
TOO_FEW = 0.02  # about the part of a standard error by which more nodes may move an estimate


@dataclass(frozen=True, kw_only=True)
class Quadrature(Engine):
    """Maximum of the marginal likelihood by adaptive Gauss-Hermite quadrature, for one grouping factor.

    The coefficients of each level are integrated out numerically, over a grid of nodes placed by their mode and the
    curvature there. One node is the Laplace approximation; more nodes come closer to the exact likelihood, which few
    rows per level with binary or rare outcomes ask for. The gradient is analytic, with the nodes moving along.

    The result says by a note if more nodes would change the log likelihood at the estimates by more than 0.02 times the
    root of the number of levels: estimates then move by some hundredths of their standard errors.

    Parameters
    ----------
    nodes
        In each dimension, an odd number; None takes 11 for one coefficient per level, 7 for two and 5 for three.

    Raises
    ------
    DataError
        For a number of nodes that is not odd, not positive, or above 501.
    Unsupported
        By `run`, for models without groups, with several grouping factors or with more than three coefficients per
        level, for grids beyond a million nodes, and for one dispersion per level (``sigma_by``) of a family that is
        not Gaussian.

    References
    ----------
    Naylor & Smith, Applied Statistics 31 (1982). Pinheiro & Bates, J. Comput. Graph. Statist. 4 (1995).

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(formula, clinic, family="binomial", engine="quadrature", nodes=25, seed=1)
    >>> round(-2 * fit.log_likelihood, 4)
    74.0382
    """

    name: ClassVar[str] = "quadrature"
    maximises: ClassVar[bool] = True
    nodes: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        nodes = self.nodes
        if nodes is None:
            return
        whole = isinstance(nodes, (int, np.integer)) and not isinstance(nodes, bool)
        if not whole or nodes < 1 or nodes % 2 == 0 or nodes > MOST:
            raise DataError(
                f"nodes={nodes!r}: give an odd whole number from 1 (the Laplace approximation) to {MOST}, so that one "
                "node stands at the mode; or leave it out."
            )

    def check(self, model: Model) -> tuple[int, int]:
        """Return the dimension and the nodes in each; raise `Unsupported` for a model that this engine cannot take."""
        groupings = model.design.groupings
        if model.design.structured:
            raise Unsupported(
                "Quadrature takes one grouping factor; this model has the structured effect "
                f"{model.design.structured[0].name!r}, whose coefficients depend on each other. Use engine='laplace' "
                "for an approximation at the mode, 'inla', or 'metropolis'."
            )
        if len(groupings) != 1:
            names = " and ".join(g.name for g in groupings)
            have = f"this model has {len(groupings)}, {names}" if groupings else "this model has none"
            raise Unsupported(
                f"Quadrature takes one grouping factor; {have}. Use engine='laplace' for an approximation at the mode"
                + (", or engine='metropolis'." if groupings else ".")
            )
        dimension = groupings[0].Z.shape[1]
        if dimension > max(NODES):
            raise Unsupported(
                f"Quadrature takes up to {max(NODES)} coefficients per level, since its nodes are a grid in them; "
                f"{groupings[0].name} has {dimension}: {', '.join(groupings[0].coefficients)}. Use engine='laplace' "
                "for an approximation at the mode, or engine='metropolis'."
            )
        if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
            raise Unsupported(
                f"Quadrature takes one {model.family.dispersion} for all rows; sigma_by= gives a {model.family.name} "
                "response several. Leave sigma_by out, or use engine='metropolis'."
            )
        nodes = NODES[dimension] if self.nodes is None else int(self.nodes)
        if nodes**dimension > POINTS:
            raise Unsupported(
                f"{nodes} nodes in each of {dimension} dimensions are {nodes**dimension:,} for every level; Quadrature "
                f"takes up to {POINTS:,}. Use fewer: {NODES[dimension]} are the default."
            )
        return dimension, nodes

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        dimension, nodes = self.check(model)
        likelihood: AdaptiveQuadrature | BlockedLaplace
        if model.design.reduced is not None and model.design.reduced.files is not None:
            likelihood = BlockedLaplace(model, priors=model.priors_given, nodes=nodes)
        else:
            likelihood = AdaptiveQuadrature(model, nodes, model.priors_given)
        word = "node" if nodes == 1 else "nodes"
        found = maximised(model, self, likelihood, rng, method=f"adaptive quadrature, {nodes} {word}")
        more = max(2 * nodes + 1 if dimension == 1 else nodes + 4, NODES[dimension])
        change = likelihood.change(more) if more <= MOST else 0.0
        # errors of the levels add up in the log likelihood, and in the estimates only against their standard errors
        levels = len(model.design.groupings[0].levels)
        if found.estimates is not None and abs(change) > TOO_FEW * np.sqrt(levels):
            value = likelihood.value()
            note = (
                f"{nodes} {word} may be too few: with {more} the log likelihood at these estimates is "
                f"{value + change:.4f}, not {value:.4f}. Use Quadrature(nodes={more})."
            )
            found.estimates = replace(found.estimates, notes=(*found.estimates.notes, note))
        return found

"""Integrated nested Laplace approximation that measures its own error."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou.engines.base import Engine
from bayou.errors import DataError, Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

STRATEGIES = ("variational", "gaussian", "simplified_laplace")
NODES = ("auto", "grid", "ccd", "empirical_bayes")


@dataclass(frozen=True, kw_only=True)
class INLA(Engine):
    """Integrated nested Laplace approximation (Rue, Martino & Chopin 2009), corrected by importance sampling.

    The hyperparameters are explored around their mode; at each node the coefficients have a Gaussian, exact for a
    Gaussian response, whose mean is corrected; marginals are mixtures over the nodes. Then it checks itself: it draws
    hyperparameters from an overdispersed density and coefficients at each, weights them by the exact posterior, and
    reports the weighted answer with its shift, effective size and k-hat. Where these say that it cannot be trusted it
    goes on by Markov chain and reports that.

    Parameters
    ----------
    strategy
        Of the coefficients given the hyperparameters: "variational" corrects the mean (van Niekerk & Rue 2024),
        "simplified_laplace" the skewness too, "gaussian" neither.
    nodes
        "grid", "ccd" (a central composite design), "empirical_bayes" (the mode alone), or "auto": a grid for one or two
        hyperparameters, and for three where that is cheap.
    correct
        Whether to check and correct.
    go_on
        Whether to go on by Markov chain where the check fails; otherwise the answer is returned with a verdict that
        it cannot be used.
    draws
        Joint draws per chain, in four chains; they are made when they are looked at.
    cores
        Threads for large models; None for all. Results do not depend on it.

    Raises
    ------
    Unsupported
        By `run`, for fixed effects whose priors are neither normal nor flat nor uniform.

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(formula, clinic, family="binomial", engine="inla", seed=1)
    >>> fit.result.approximation.check["ok"]
    True
    """

    name: ClassVar[str] = "inla"
    strategy: str = "variational"
    nodes: str = "auto"
    correct: bool = True
    go_on: bool = True
    draws: int = 1000
    cores: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.strategy not in STRATEGIES:
            raise Unsupported(f"strategy={self.strategy!r} is not known: INLA takes {', '.join(STRATEGIES)}.")
        if self.nodes not in NODES:
            raise Unsupported(f"nodes={self.nodes!r} is not known: INLA takes {', '.join(NODES)}.")
        for name in ("correct", "go_on"):
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise Unsupported(f"{name}={value!r} is not known: INLA takes {name}=True or {name}=False.")
        for name in ("draws", "cores"):
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
            if not whole and not (name == "cores" and value is None):
                raise DataError(f"{name}={value!r}: give a whole number of at least 1.")

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        from bayou.engines.nested.result import continued, posterior
        from bayou.engines.nested.run import find

        cores = int(self.cores or os.cpu_count() or 1)
        found = find(model, self.strategy, self.nodes, self.correct, cores, rng)
        if self.go_on and found.failed:
            return continued(model, self.describe(), found, self.draws, cores, rng)
        return posterior(model, self.describe(), found, self.draws, int(rng.integers(2**63)))

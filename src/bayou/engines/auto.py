"""The engine that chooses: Gibbs where a Gaussian model allows it, Metropolis otherwise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou.engines.chains import ChainEngine
from bayou.engines.draws import Plan
from bayou.engines.gibbs import Gibbs
from bayou.engines.metropolis import Metropolis
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class Auto(ChainEngine):
    """Gibbs for a Gaussian response with identity link, Metropolis-within-Gibbs otherwise.

    Examples
    --------
    >>> import bayou
    >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1)
    >>> fit.result.info["engine"]
    'gibbs'
    """

    name: ClassVar[str] = "auto"

    def choose(self, model: Model) -> ChainEngine:
        """Return the engine for this model, with these settings."""
        settings = {f.name: getattr(self, f.name) for f in fields(ChainEngine)}
        gibbs = Gibbs(**settings)
        if model.family.name == "gaussian" and model.family.link.name == "identity":
            try:
                gibbs.check(model)
            except Unsupported:
                return Metropolis(**settings)
            return gibbs
        return Metropolis(**settings)

    def prepare(self, model: Model) -> Plan:
        """Prepare the chosen engine."""
        return self.choose(model).prepare(model)

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Run the chosen engine."""
        return self.choose(model).run(model, rng)

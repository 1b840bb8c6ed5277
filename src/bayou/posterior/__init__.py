"""The one result of every engine: draws and estimates, their names, their diagnostics and their files."""

from bayou.posterior.approximation import Approximation, Marginal, Mixture, Scores
from bayou.posterior.estimates import Errors, Estimates
from bayou.posterior.lazy import DrawnOnDemand
from bayou.posterior.names import factor_names
from bayou.posterior.posterior import Posterior

__all__ = [
    "Approximation",
    "DrawnOnDemand",
    "Errors",
    "Estimates",
    "Marginal",
    "Mixture",
    "Posterior",
    "Scores",
    "factor_names",
]

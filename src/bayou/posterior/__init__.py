"""The one result of every engine: draws and estimates, their names, their diagnostics and their files."""

from bayou.posterior.estimates import Errors, Estimates
from bayou.posterior.lazy import DrawnOnDemand
from bayou.posterior.posterior import Posterior, factor_names

__all__ = ["DrawnOnDemand", "Errors", "Estimates", "Posterior", "factor_names"]

"""The one result of every engine: draws, their names, their diagnostics and their files."""

from bayou.posterior.posterior import Posterior, factor_names

__all__ = ["Posterior", "factor_names"]

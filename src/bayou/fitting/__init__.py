"""The face: `fit`, the `Fit` it returns, and what they print."""

from bayou.fitting.fitted import Fit
from bayou.fitting.fitting import fit, load
from bayou.fitting.resuming import resume, salvage

__all__ = ["Fit", "fit", "load", "resume", "salvage"]

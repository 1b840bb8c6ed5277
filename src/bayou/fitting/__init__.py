"""The face: `fit`, the `Fit` it returns, and what they print."""

from bayou.fitting.fitted import Fit
from bayou.fitting.fitting import fit, load

__all__ = ["Fit", "fit", "load"]

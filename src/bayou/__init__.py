"""Bayesian (generalized) linear mixed models from one formula, by any engine of the textbooks.

>>> import bayou
>>> clinic = bayou.datasets.load("clinic")
>>> clinic.shape
(16, 4)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Fit",
    "Model",
    "Priors",
    "__version__",
    "agreement",
    "calibrate",
    "compare",
    "datasets",
    "engines",
    "errors",
    "families",
    "fit",
    "links",
    "load",
    "plan",
    "plot",
    "pooling",
    "priors",
    "resume",
    "salvage",
]

if TYPE_CHECKING:
    from . import datasets, engines, errors, families, links, plot, priors
    from .comparison import compare, pooling
    from .diagnose.agreement import agreement
    from .diagnose.calibration import calibrate
    from .fitting import Fit, fit, load, resume, salvage
    from .model import Model
    from .planning import plan
    from .priors import Priors

# Where each public name lives; an empty name means the module itself. Nothing here is imported
# before it is asked for, which keeps `import bayou` free of pandas, xarray, formulaic, numba and
# matplotlib.
_HOMES = {
    "Fit": ("fitting", "Fit"),
    "Model": ("model", "Model"),
    "Priors": ("priors", "Priors"),
    "agreement": ("diagnose.agreement", "agreement"),
    "calibrate": ("diagnose.calibration", "calibrate"),
    "compare": ("comparison", "compare"),
    "datasets": ("datasets", ""),
    "engines": ("engines", ""),
    "errors": ("errors", ""),
    "families": ("families", ""),
    "fit": ("fitting", "fit"),
    "links": ("links", ""),
    "load": ("fitting", "load"),
    "plan": ("planning", "plan"),
    "plot": ("plot", ""),
    "pooling": ("comparison", "pooling"),
    "priors": ("priors", ""),
    "resume": ("fitting", "resume"),
    "salvage": ("fitting", "salvage"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bayou' has no attribute {name!r}; it has {', '.join(__all__)}")
    home, attribute = _HOMES[name]
    module = import_module(f"{__name__}.{home}")
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Integer codes of the (family, link) pairs: what a kernel gets instead of a `Family`."""

from __future__ import annotations

from typing import Final

GAUSSIAN_IDENTITY: Final = 0
GAUSSIAN_LOG: Final = 1
BINOMIAL_LOGIT: Final = 2
BINOMIAL_PROBIT: Final = 3
BINOMIAL_CLOGLOG: Final = 4
POISSON_LOG: Final = 5
NEGATIVE_BINOMIAL_LOG: Final = 6
GAMMA_LOG: Final = 7

__all__ = [
    "BINOMIAL_CLOGLOG",
    "BINOMIAL_LOGIT",
    "BINOMIAL_PROBIT",
    "GAMMA_LOG",
    "GAUSSIAN_IDENTITY",
    "GAUSSIAN_LOG",
    "NEGATIVE_BINOMIAL_LOG",
    "POISSON_LOG",
]

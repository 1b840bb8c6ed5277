"""Families of response distributions, and the row kernels that every engine shares."""

from typing import Any

from bayou.families.base import Family
from bayou.families.custom import Custom
from bayou.families.table import Bernoulli, Binomial, Gamma, Gaussian, NegativeBinomial, Poisson, get

__all__ = [
    "Bernoulli",
    "Binomial",
    "Custom",
    "Family",
    "Gamma",
    "Gaussian",
    "NegativeBinomial",
    "Poisson",
    "get",
    "log_gamma",
]


def __getattr__(name: str) -> Any:
    if name == "log_gamma":  # brings the compiler
        from bayou.families.special import log_gamma

        return log_gamma
    raise AttributeError(f"module 'bayou.families' has no attribute {name!r}")

"""Priors: one frozen class per distribution, and the collection of them that a model takes.

>>> from bayou.priors import HalfT, Normal, Priors
>>> print(Priors(beta=Normal(0, 10), sd=HalfT(3, 1)))
beta ~ Normal(0, 10)
sd ~ HalfT(3, 1)
"""

from bayou.priors.base import Prior
from bayou.priors.coefficient import Normal
from bayou.priors.collection import Priors
from bayou.priors.covariance import LKJ, HuangWand, InverseWishart, Wishart
from bayou.priors.scalar import (
    PC,
    Exponential,
    Flat,
    FlatSD,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    Jeffreys,
    OfPrecision,
    OfVariance,
    StudentT,
    Uniform,
)
from bayou.priors.structured import Beta

__all__ = [
    "LKJ",
    "PC",
    "Beta",
    "Exponential",
    "Flat",
    "FlatSD",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfT",
    "HuangWand",
    "InverseGamma",
    "InverseWishart",
    "Jeffreys",
    "Normal",
    "OfPrecision",
    "OfVariance",
    "Prior",
    "Priors",
    "StudentT",
    "Uniform",
    "Wishart",
]

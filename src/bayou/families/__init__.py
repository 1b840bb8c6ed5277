"""Families of response distributions, and the row kernels that every engine shares."""

from bayou.families.base import Family
from bayou.families.table import Bernoulli, Binomial, Gamma, Gaussian, NegativeBinomial, Poisson, get

__all__ = ["Bernoulli", "Binomial", "Family", "Gamma", "Gaussian", "NegativeBinomial", "Poisson", "get"]

"""Tests of hypotheses: linear ones in the fixed effects, their degrees of freedom, tables of terms, marginal means."""

from bayou.inference.tests import Tests
from bayou.inference.wald import Test

__all__ = ["Test", "Tests"]

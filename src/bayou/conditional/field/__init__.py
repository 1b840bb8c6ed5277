"""The keystone for coefficients with a sparse precision: groups, smooth and spatial structures, with constraints."""

from bayou.conditional.field.field import Field
from bayou.conditional.field.gaussian_field import GaussianField
from bayou.conditional.field.naming import HyperRow

__all__ = ["Field", "GaussianField", "HyperRow"]

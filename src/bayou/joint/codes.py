"""Integer names of the kinds of effects and of forms of coordinates, for kernels."""

from __future__ import annotations

GROUPS, BASIS, MIXED_BASIS, AUTOREGRESSION = range(4)
"""Levels of a factor; a structure on a fixed basis with an sd; one whose eigenvalues a share mixes; `ar1`."""

CENTRED, WHITENED, CONDITIONAL = range(3)
"""Coefficients themselves; standard normal a priori; about standard normal a posteriori (`bayou.joint.conditional`)."""

__all__ = ["AUTOREGRESSION", "BASIS", "CENTRED", "CONDITIONAL", "GROUPS", "MIXED_BASIS", "WHITENED"]

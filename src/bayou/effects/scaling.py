"""Structures in one unit: the geometric mean of the marginal variances is 1, so that an sd means the same everywhere.

Without it the sd of an intrinsic structure speaks of increments, and one prior of it says different things for 10
nodes and for 1000. Sources: Sørbye & Rue (2014), Scaling intrinsic Gaussian Markov random field priors in spatial
modelling, Spatial Statistics 8; for graphs in several parts Freni-Sterrantino, Ventrucci & Rue (2018), A note on
intrinsic conditional autoregressive models for disconnected graphs, Spatial and Spatio-temporal Epidemiology 26.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.constrained import Anchored, variances


def reference_variance(inverse: Anchored, null: Array) -> float:
    """Return the geometric mean of the diagonal of R⁺."""
    return float(np.exp(np.log(variances(inverse, null)).mean()))


def component_variances(inverse: Anchored, components: Integers) -> Array:
    """Return the diagonal of R⁺ of a graph whose parts have the null space of constants each.

    One solve for all parts, since G is block diagonal: diag(P G P) with P the centring of each part.
    """
    count = np.bincount(components)
    solved = inverse.multiply(np.ones((inverse.size, 1)))[:, 0]
    total = np.bincount(components, weights=solved)
    n = count[components]
    return np.asarray(inverse.diagonal() - 2.0 * solved / n + total[components] / (n * n))


def component_scales(inverse: Anchored, components: Integers) -> Array:
    """Return for each part the geometric mean of its marginal variances; 1 for single nodes."""
    count = np.bincount(components)
    single = count[components] == 1
    log_variance = np.zeros(inverse.size)
    v = component_variances(inverse, components)
    log_variance[~single] = np.log(v[~single])
    return np.asarray(np.exp(np.bincount(components, weights=log_variance) / count))

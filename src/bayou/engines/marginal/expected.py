"""Expected information of variance components, as Fisher scoring has it: what published PQL tables print.

With V = R + Z G Z', G_a = dG/da and B = Z'PZ (P projects the fixed effects out for REML, is V⁻¹ for ML),

    I_ab = ½ tr(G_a B G_b B),   I_as = ½ tr(G_a B) s²,   I_ss = n/2   for s² the residual variance, per log s²

(Searle, Casella & McCulloch, *Variance Components*, 1992, section 6.6).
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.rows import whiten
from bayou.engines.marginal.climb import inverse_of_free
from bayou.engines.marginal.curvature import ProfileUncertainty
from bayou.engines.marginal.profile import Profile
from bayou.linalg.whitened import forward
from bayou.packed import packed

LARGEST = 1500  # group coefficients: B is a dense matrix of them


class ExpectedUncertainty(ProfileUncertainty):
    """Covariance of the hyperparameters by their expected information; by the observed one for large systems."""

    def _hyperparameters(self, own: Profile, H: Array) -> Array:
        arrow, border = own.sums.arrow, own.sums.border
        if arrow.a.size + border.fixed > LARGEST or not own.numbers.size:
            return super()._hyperparameters(own, H)
        own.evaluate(self.found.psi)
        B = _projected(own)
        d = own.numbers.size
        slopes = [_slope(own, a) for a in range(d)]
        products = [G @ B for G in slopes]
        free = not own.sums.known
        whole = np.zeros((d + 1, d + 1))
        information = np.zeros((d + free, d + free))
        for a in range(d):
            for b in range(a + 1):
                information[a, b] = information[b, a] = 0.5 * float(np.sum(products[a] * products[b].T))
        if free:
            # in log sigma, half of log sigma²: twice the slope
            for a in range(d):
                information[a, d] = information[d, a] = float(np.trace(products[a]))
            information[d, d] = 2.0 * (own.sums.rows - (len(border.linear) if own.restricted else 0))
        # nothing is expected of a factor at zero
        told = np.diag(information) > 0.0
        whole[: d + free, : d + free] = inverse_of_free(information, told)
        return self._on_their_scale(own, whole)


def _projected(own: Profile) -> Array:
    """Return B = Z'PZ (q, q) at unit residual variance, coefficients in the order of the system."""
    arrow, border = own.sums.arrow, own.sums.border
    (J, p), fixed, R = arrow.a.shape, border.fixed, len(arrow.d)
    D = np.tril(arrow.D) + np.tril(arrow.D, -1).T
    q = J * p + fixed
    whole = np.zeros((q, J * p + R))  # rows of [Z'WZ Z'WX]
    for j in range(J):
        at = slice(j * p, (j + 1) * p)
        first, last = int(arrow.start[j]), int(arrow.start[j + 1])
        C = arrow.C[p * first : p * last].reshape(p, last - first)
        columns = J * p + arrow.touch[first:last]
        whole[at, at] = arrow.A[j]
        whole[at, columns] = C
        inner = arrow.touch[first:last] < fixed
        whole[columns[inner], at] = C[:, inner].T
    whole[J * p :, J * p :] = D[:fixed]
    solved = np.empty((q, J * p + own.columns))
    factor, layout, edge = packed(own.work.factor), packed(arrow), packed(border)
    for k in range(q):
        h, g = whole[k, : J * p].reshape(J, p).copy(), whole[k, J * p :].copy()
        whiten(edge, own.work.T, h, g)
        forward(layout, factor, own.columns, h, g)
        solved[k, : J * p], solved[k, J * p :] = h.ravel(), g[: own.columns]
    return np.asarray(whole[:, :q] - solved @ solved.T)


def _slope(own: Profile, a: int) -> Array:
    """Return dG/da (q, q) of one entry of the factors."""
    numbers, T = own.numbers, own.work.T
    f, k, c = int(numbers.factor[a]), int(numbers.row[a]), int(numbers.column[a])
    arrow, border = own.sums.arrow, own.sums.border
    J, p = arrow.a.shape
    levels, size, at = (J, p, 0) if f == 0 else (int(border.levels[f - 1]), int(border.size[f - 1]), J * p)
    if f > 0:
        at += int(border.start[f - 1])
    E = np.zeros((size, size))
    E[k] = T[f, :size, c]
    block = numbers.unit[a] * (E + E.T)
    out = np.zeros((J * p + border.fixed,) * 2)
    for level in range(levels):
        here = slice(at + level * size, at + (level + 1) * size)
        out[here, here] = block
    return out

"""The hyperparameters as the numbers that an optimiser moves: entries of the factors T, logarithms of dispersions.

A block's covariance is T T' with T lower triangular, its entries free to take either sign: the likelihood is even in
each column of T, so that a variance of zero is an ordinary minimum, reached without bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers, Mask
from bayou.jit import kernel

if TYPE_CHECKING:
    from bayou.model import Model


LEAST = 1e-7


@dataclass(frozen=True)
class Parameters:
    """Where each entry of the factors stands.

    Attributes
    ----------
    factor, row, column
        (d,) position of the grouping factor, row and column in its T.
    unit
        (d,) T's entry for a parameter of one.
    block
        (d,) which covariance block (of the model's bound priors) it belongs to.
    shape
        Of T: (factors, p, p).
    """

    factor: Integers
    row: Integers
    column: Integers
    unit: Array
    block: Integers
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """How many numbers the factors have."""
        return len(self.unit)

    def factors(self, psi: Array) -> Array:
        """Return T (K, p, p) for parameters (d,)."""
        T: Array = np.zeros(self.shape)
        T[self.factor, self.row, self.column] = self.unit * psi
        return T

    def held(self, psi: Array) -> Array:
        """Return T with its diagonal held off zero by `LEAST` units: where a criterion and its gradient are taken.

        At zero itself the gradient is a quotient of zeros; so close to it, the value is the same to 1e-14 a row.
        """
        diagonal = self.row == self.column
        return self.factors(np.where(diagonal & (np.abs(psi) < LEAST), np.where(psi < 0.0, -LEAST, LEAST), psi))

    def vanishing(self, psi: Array) -> Mask:
        """Return which parameters (d,) are a diagonal entry held off zero in a column of zeros."""
        columns = np.abs(self.factors(psi)).sum(axis=1)
        least = LEAST * self.unit
        small = columns[self.factor, self.column] < least
        return np.asarray((self.row == self.column) & small)

    def numbers(self, T: Array) -> Array:
        """Return the parameters (d,) of T."""
        return np.asarray(T[self.factor, self.row, self.column] / self.unit)

    def start(self) -> Array:
        """Return parameters whose T is diagonal, one unit for each column."""
        return np.where(self.row == self.column, 1.0, 0.0)


def parameters(model: Model, order: tuple[int, ...], scale: float = 1.0) -> Parameters:
    """Lay out the factors of a model whose grouping factors stand in this order; ``scale`` is a typical effect."""
    groupings = model.design.groupings
    position = {g: k for k, g in enumerate(order)}
    factor, row, column, unit, block = [], [], [], [], []
    for r, bound in enumerate(model.bound.blocks):
        for i, at in enumerate(bound.columns):
            size = model.design.moments.size(bound.grouping, at) or 1.0
            for c in range(i + 1):
                factor.append(position[bound.grouping])
                row.append(at)
                column.append(bound.columns[c])
                unit.append(scale / size)
                block.append(r)
    p = max((g.Z.shape[1] for g in groupings), default=0)
    made = [np.array(x, dtype=np.int64) for x in (factor, row, column, block)]
    return Parameters(made[0], made[1], made[2], np.array(unit), made[3], (max(len(order), 1), p, p))


@kernel
def set_factors(factor: Integers, row: Integers, column: Integers, unit: Array, psi: Array, T: Array) -> None:
    """T <- the factors at these parameters, `held` off zero; entries outside all blocks stay as they are."""
    for i in range(unit.shape[0]):
        x = psi[i]
        if row[i] == column[i] and abs(x) < LEAST:
            x = -LEAST if x < 0.0 else LEAST
        T[factor[i], row[i], column[i]] = unit[i] * x

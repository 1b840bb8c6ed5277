"""The gradient of the Laplace approximation in the elements of Q, in what a row's eta is given, and in a dispersion.

f = l(eta) − ½ x'Qx + x'm − ½ log|H| at the mode, Sigma = H⁻¹ on the subspace of the constraints. With the leverages
h = a'Sigma a, w' = dw/deta, t = −½ h w' and v = Sigma A't (how the log determinant moves the mode),

    df/dQ_rc = −(2 − [r = c]) (½ x_r x_c + ½ Sigma_rc + ½ v_r x_c + ½ v_c x_r),
    df/deta_i = l' + t − w a'v,    df/dlog phi = Σ ∂l − ½ h ∂w + (a'v) ∂l'

(Skaug & Fournier 2006, Comp. Stat. Data Anal. 51, have the scheme: the mode enters only through the log determinant).
Only elements of Sigma on the pattern of the factor are needed: Takahashi's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array
from bayou.conditional.field.constraint import Constraint, correct, multiply, taken
from bayou.conditional.field.mode import Point, System
from bayou.conditional.field.rows import leverages, predictor, project
from bayou.families.slopes import dispersion_slopes, row_slopes
from bayou.jit import kernel
from bayou.linalg.selected import selected_inverse
from bayou.linalg.sparse import Factor, backward, forward
from bayou.linalg.symbolic import Symbolic

__all__ = ["Adjoint", "gradient", "invert", "new_adjoint", "solve", "variances"]


class Adjoint(NamedTuple):
    """What the gradient is made of, and scratch."""

    inverse: Array  # elements of H₁⁻¹ in the factor's layout
    leverage: Array  # (n,)
    slope: Array  # (n,) dw/deta
    t: Array  # (n,)
    av: Array  # (n,)
    v: Array  # (N,)
    eta: Array  # (n,) the gradient in what a row's eta is given
    element: Array  # (nnz,) the gradient in each element of Q
    rows: Array  # (3, n) derivatives in the dispersion
    by_row: Array  # (n,) the gradient in log dispersion, row by row


def new_adjoint(n: int, N: int, stored: int, elements: int) -> Adjoint:
    """Allocate."""
    own: dict[str, Any] = {"inverse": stored, "v": N, "element": elements, "rows": (3, n)}
    return Adjoint(**{name: np.zeros(own.get(name, n)) for name in Adjoint._fields})


@kernel
def solve(symbolic: Symbolic, factor: Factor, constraint: Constraint, ordered: Array, x: Array) -> None:
    """X <- Sigma x."""
    forward(symbolic, factor, x, ordered)
    backward(symbolic, factor, ordered, x)
    correct(constraint, x)


@kernel(entry=True)
def invert(system: System, work: Adjoint) -> None:
    """Fill ``inverse`` and the leverages."""
    constraint = system.constraint
    selected_inverse(system.symbolic, system.factor, work.inverse)
    multiply(constraint)
    leverages(system.rows, work.inverse, constraint.V, constraint.MV, work.leverage)


@kernel(entry=True)
def variances(system: System, work: Adjoint, out: Array) -> None:
    """Out (N,) <- the diagonal of Sigma; ``inverse`` must be filled."""
    symbolic = system.symbolic
    for j in range(symbolic.n):
        out[j] = work.inverse[symbolic.start[symbolic.inverse[j]]] - taken(system.constraint, j, j)


@kernel(entry=True)
def gradient(system: System, point: Point, work: Adjoint, dispersion: float) -> None:
    """Fill ``eta`` and ``element`` at the mode; `invert` comes before."""
    prior, x, v, n = system.prior, point.x, work.v, point.eta.shape[0]
    row_slopes(system.code, system.y, system.trials, system.weights, point.eta, dispersion, work.slope)
    for j in range(v.shape[0]):
        v[j] = 0.0
    for i in range(n):
        work.t[i] = -0.5 * work.leverage[i] * work.slope[i]
        work.av[i] = 0.0
    project(system.rows, work.t, v)
    solve(system.symbolic, system.factor, system.constraint, point.ordered, v)
    predictor(system.rows, v, work.av)
    for i in range(n):
        work.eta[i] = point.gradient[i] + work.t[i] - point.weight[i] * work.av[i]
    for e in range(prior.value.shape[0]):
        r, c = prior.row[e], prior.column[e]
        covariance = work.inverse[prior.at[e]] - taken(system.constraint, r, c)
        g = x[r] * x[c] + covariance + v[r] * x[c] + v[c] * x[r]
        work.element[e] = -0.5 * g if r == c else -g


@kernel(entry=True)
def dispersion_gradient(system: System, point: Point, work: Adjoint, dispersion: float) -> None:
    """Fill ``by_row`` with each row's part of df / d log(dispersion)."""
    dispersion_slopes(
        system.code, system.y, system.weights, point.eta, dispersion, work.rows[0], work.rows[1], work.rows[2]
    )
    for i in range(point.eta.shape[0]):
        work.by_row[i] = work.rows[0, i] - 0.5 * work.leverage[i] * work.rows[2, i] + work.av[i] * work.rows[1, i]

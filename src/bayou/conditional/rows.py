"""The rows of a model in the order of the eliminated factor, and the sums of a weighted regression over them.

Given weights w_i and working residuals r_i, the joint equations of (b, beta) need Z'WZ, Z'WX, X'WX, Z'r and X'r: an
`Arrow`. Here it is filled again and again as the weights change, for any family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel, window
from bayou.linalg.schur import Arrow, Border
from bayou.sufficient import layout

if TYPE_CHECKING:
    from bayou.model import Model


class Rows(NamedTuple):
    """Rows sorted by the level of the eliminated factor (all in one stretch when there is no factor)."""

    start: Integers  # (J + 1,) the rows of level j are start[j] … start[j + 1]
    Z: Array  # (n, p)
    others: Array  # (n, q) numbers in the rest: the other factors' columns, then the fixed effects
    column: Integers  # (n, q) their columns in the rest
    slot: Integers  # (n, q) where those stand in the list of what the level touches


@dataclass(frozen=True)
class Sorted:
    """The rows with all that a likelihood needs of them, and the empty system that they fill."""

    rows: Rows
    order: tuple[int, ...]  # grouping factors by position
    place: Integers  # (n,) where each sorted row stands in the data
    y: Array
    trials: Array
    weights: Array
    offset: Array
    sigma: Integers
    arrow: Arrow
    border: Border


def sorted_rows(model: Model, sums: bool = True) -> Sorted:
    """Sort the rows of a model by the levels of its largest factor and lay out the system of its coefficients.

    Without ``sums`` the system has its layout and vectors only: nothing of the size of the rest squared.
    """
    design = model.design
    plan = layout(model)
    J = len(plan.start) - 1
    codes = plan.codes
    ordered = bool(np.all(codes[1:] >= codes[:-1]))
    place = np.arange(design.n) if ordered else np.argsort(codes, kind="stable")

    def take(x: Any) -> Any:
        return np.ascontiguousarray(x if ordered else x[place])

    counts = np.bincount(codes, minlength=max(J, 1))
    rows = Rows(
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        Z=take(plan.Z),
        others=take(plan.others),
        column=take(plan.column),
        slot=take(plan.slot),
    )
    p, R = plan.Z.shape[1], plan.border.fixed + len(plan.border.linear)
    arrow = Arrow(
        A=np.zeros((J if sums else 0, p, p)),
        a=np.zeros((J, p)),
        start=plan.start,
        touch=plan.touch,
        C=np.zeros(int(p * plan.start[-1]) if sums else 0),
        D=np.zeros((R, R) if sums else (0, 0)),
        d=np.zeros(R),
    )
    weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
    return Sorted(
        rows=rows,
        order=plan.order,
        place=place.astype(np.int64),
        y=take(design.y),
        trials=take(design.trials),
        weights=take(weights),
        offset=take(design.offset),
        sigma=take(design.sigma_codes),
        arrow=arrow,
        border=plan.border,
    )


def deviation(model: Model, data: Sorted) -> float:
    """Return the standard deviation of the response less its offset, over the rows as given."""
    return float(np.std(data.y - data.offset)) if model.design.reduced is None else model.design.moments.sd


def copied(arrow: Arrow) -> Arrow:
    """Return the same system with sums of its own; the layout is shared."""
    sums = {name: getattr(arrow, name).copy() for name in ("A", "a", "C", "D", "d")}
    return arrow._replace(**sums)


@kernel(inner=True, contract=True)
def _own_sums(rows: Rows, w: Array, r: Array, low: int, high: int, p: int, A: Array, a: Array) -> None:
    """Fill A with Z'WZ and a with Z'r of the rows of one level; one and two columns in registers."""
    Z = rows.Z
    if p == 1:
        s, t = 0.0, 0.0
        for i in range(low, high):
            z = Z[i, 0]
            s += w[i] * z * z
            t += z * r[i]
        A[0, 0], a[0] = s, t
    elif p == 2:
        s, t, u, first, second = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(low, high):
            z, v = Z[i, 0], Z[i, 1]
            e = w[i] * z
            s += e * z
            t += e * v
            u += w[i] * v * v
            first += z * r[i]
            second += v * r[i]
        A[0, 0], A[1, 0], A[0, 1], A[1, 1] = s, t, t, u
        a[0], a[1] = first, second
    else:
        for k in range(p):
            a[k] = 0.0
            for e in range(p):
                A[k, e] = 0.0
        for i in range(low, high):
            for k in range(p):
                z = w[i] * Z[i, k]
                a[k] += Z[i, k] * r[i]
                for e in range(k + 1):
                    A[k, e] += z * Z[i, e]
        for k in range(p):
            for e in range(k):
                A[e, k] = A[k, e]


@kernel(inner=True, contract=True)
def _cross_sums(rows: Rows, w: Array, low: int, high: int, p: int, q: int, stride: int, C: Array) -> None:
    """C <- Z'WX of the rows of one level."""
    for k in range(p * stride):
        C[k] = 0.0
    for i in range(low, high):
        for k in range(p):
            z = w[i] * rows.Z[i, k]
            for e in range(q):
                C[k * stride + rows.slot[i, e]] += z * rows.others[i, e]


@kernel(inner=True, contract=True)
def _rest_sums(rows: Rows, w: Array, r: Array, low: int, high: int, q: int, D: Array, d: Array) -> None:
    """Add X'WX (lower triangle) and X'r of some rows."""
    X, column = rows.others, rows.column
    for i in range(low, high):
        for k in range(q):
            x = w[i] * X[i, k]
            row = column[i, k]
            d[row] += X[i, k] * r[i]
            for e in range(k + 1):
                D[row, column[i, e]] += x * X[i, e]


@kernel
def accumulate(rows: Rows, w: Array, r: Array, q: int, arrow: Arrow) -> None:
    """Fill the sums at weights w (n,) and working residuals r (n,), the first q columns of the rest taking part.

    A = Z'WZ, C = Z'WX, D = X'WX, a = Z'r, d = X'r, where X stands for all columns of the rest.
    """
    J, p = arrow.a.shape
    R = arrow.d.shape[0]
    A, C, D, a, d = arrow.A, arrow.C, arrow.D, arrow.a, arrow.d
    for i in range(R):
        d[i] = 0.0
        for k in range(i + 1):
            D[i, k] = 0.0
    for j in range(rows.start.shape[0] - 1):
        low, high = rows.start[j], rows.start[j + 1]
        if j < J:
            _own_sums(rows, w, r, low, high, p, A[j], a[j])
            if p > 0 and q > 0:
                stride = arrow.start[j + 1] - arrow.start[j]
                _cross_sums(rows, w, low, high, p, q, stride, window(C, p * arrow.start[j], p * stride))
        if q > 0:
            _rest_sums(rows, w, r, low, high, q, D, d)


@kernel
def project(rows: Rows, r: Array, q: int, a: Array, d: Array) -> None:
    """Fill a (J, p) with Z'r and d (R,) with X'r for the first q columns of the rest."""
    J, p = a.shape
    for i in range(d.shape[0]):
        d[i] = 0.0
    for j in range(rows.start.shape[0] - 1):
        if j < J:
            for k in range(p):
                a[j, k] = 0.0
        for i in range(rows.start[j], rows.start[j + 1]):
            for k in range(p):
                a[j, k] += rows.Z[i, k] * r[i]
            for k in range(q):
                d[rows.column[i, k]] += rows.others[i, k] * r[i]


@kernel
def predictor(rows: Rows, b: Array, rest: Array, q: int, eta: Array) -> None:
    """Eta (n,) += Z b + X rest, the first q columns of the rest taking part."""
    J, p = b.shape
    for j in range(rows.start.shape[0] - 1):
        for i in range(rows.start[j], rows.start[j + 1]):
            t = eta[i]
            for k in range(p):
                t += rows.Z[i, k] * b[j, k]
            for k in range(q):
                t += rows.others[i, k] * rest[rows.column[i, k]]
            eta[i] = t


@kernel
def colour(border: Border, T: Array, u: Array, rest: Array, b: Array, coloured: Array) -> None:
    """Return from whitened coordinates: b <- T u, and the same for the other factors' part of the rest."""
    J, p = u.shape
    for j in range(J):
        for i in range(p):
            t = 0.0
            for k in range(i + 1):
                t += T[0, i, k] * u[j, k]
            b[j, i] = t
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                t = 0.0
                for k in range(i + 1):
                    t += T[f + 1, i, k] * rest[at + k]
                coloured[at + i] = t
    for i in range(border.fixed, rest.shape[0]):
        coloured[i] = rest[i]


@kernel
def whiten(border: Border, T: Array, a: Array, d: Array) -> None:
    """Right-hand sides into whitened coordinates, in place: a <- T'a, and the same for the other factors' part of d."""
    J, p = a.shape
    for j in range(J):
        for k in range(p):
            t = 0.0
            for i in range(k, p):
                t += T[0, i, k] * a[j, i]
            a[j, k] = t
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for k in range(q):
                t = 0.0
                for i in range(k, q):
                    t += T[f + 1, i, k] * d[at + i]
                d[at + k] = t

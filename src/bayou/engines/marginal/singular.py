"""Covariances at the border of their space: found, set there exactly, and said in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayou._types import Array
from bayou.conditional.parameters import Parameters

if TYPE_CHECKING:
    from bayou.model import Model

SUSPECT = 1e-2  # in units of the parameters: below, the border itself is tried
SLACK = 1e-8  # of log likelihood that the border may lack
PROBE = 3e-2  # a spread at which a variance that was set to zero is tried again


def _lower(root: Array) -> Array:
    """Return the lower triangular L, diagonal not negative, with L L' = root root'.

    It has a column of zeros for each row that adds no direction to those above it, so that one covariance has one L.
    """
    p = len(root)
    L = np.zeros((p, p))
    directions = np.zeros((p, p))
    largest = float(np.abs(root).max(initial=0.0))
    for i in range(p):
        left = root[i].copy()
        for _ in range(2):  # the second time for the last digits
            along = directions @ left
            left -= along @ directions
            L[i] += along
        size = float(np.linalg.norm(left))
        if size > 1e-14 * largest:
            L[i, i] = size
            directions[i] = left / size
    return L


def snap(evaluate: Callable[[Array], float], numbers: Parameters, psi: Array, at: int, value: float) -> Array:
    """Set directions of a covariance that have all but vanished to zero where the likelihood agrees.

    Parameters
    ----------
    evaluate
        Minus the log likelihood at a whole parameter vector.
    numbers, at
        Layout of the covariance parameters, and where they begin in psi.
    psi, value
        The minimum found, and the value there.

    Returns
    -------
    ndarray
        psi, its covariance parameters in the normal form (diagonal not negative), border exact.
    """
    psi = psi.copy()
    for r in range(int(numbers.block[-1]) + 1 if numbers.size else 0):
        mine = np.flatnonzero(numbers.block == r)
        if len(mine) == 1 and abs(psi[at + mine[0]]) >= SUSPECT:
            psi[at + mine[0]] = abs(psi[at + mine[0]])
            continue
        rows = np.unique(numbers.row[mine])
        p = len(rows)
        place = {int(row): i for i, row in enumerate(rows)}
        T = np.zeros((p, p))
        where = [(place[int(numbers.row[i])], place[int(numbers.column[i])]) for i in mine]
        for i, (a, b) in zip(mine, where, strict=True):
            T[a, b] = psi[at + i]
        U, s, _ = np.linalg.svd(T)
        for small in np.flatnonzero(s < max(SUSPECT, 1e-2 * s[0])):
            tried = s.copy()
            tried[small:] = 0.0
            candidate = psi.copy()
            L = _lower(U * tried)
            L[np.abs(L) < 1e-14] = 0.0
            for i, (a, b) in zip(mine, where, strict=True):
                candidate[at + i] = L[a, b]
            new = evaluate(candidate)
            if new <= value + SLACK:
                psi, s = candidate, tried
                break
        else:
            L = _lower(T)
            for i, (a, b) in zip(mine, where, strict=True):
                psi[at + i] = L[a, b]
    return psi


def probe(evaluate: Callable[[Array], float], numbers: Parameters, psi: Array, at: int, value: float) -> Array | None:
    """Return a point with a lower value where a variance now zero is not, or None: a border may be a saddle."""
    for i in np.flatnonzero(numbers.row == numbers.column):
        if abs(psi[at + i]) < 1e-6:
            candidate = psi.copy()
            candidate[at + i] = PROBE
            if evaluate(candidate) < value - SLACK:
                return candidate
    return None


def free(numbers: Parameters, psi: Array, at: int = 0) -> NDArray[np.bool_]:
    """Return which parameters (d,) the likelihood bends in: not entries below a diagonal that is exactly zero.

    Where T_ii is zero, an entry T_ki below it only does what T_kk does, to second order in it: not at all.
    """
    out = np.ones(len(psi), dtype=bool)
    diagonal = numbers.row == numbers.column
    nothing = np.flatnonzero(diagonal & (psi[at : at + numbers.size] == 0.0))
    zero = {(int(numbers.factor[i]), int(numbers.row[i])) for i in nothing}
    for i in np.flatnonzero(~diagonal):
        out[at + i] = (int(numbers.factor[i]), int(numbers.column[i])) not in zero
    return out


def describe(model: Model, order: tuple[int, ...], numbers: Parameters, T: Array) -> list[str]:
    """Say which effects, or combinations of them, have no variance at factors T (K, p, p) in the parameters' units."""
    said = []
    groupings = model.design.groupings
    unit = np.ones(numbers.shape[:2])
    unit[numbers.factor, numbers.row] = numbers.unit
    for block in model.bound.blocks:
        place = order.index(block.grouping)
        grouping = groupings[block.grouping]
        columns = list(block.columns)
        scaled = T[place][np.ix_(columns, columns)] / unit[place][columns][:, None]
        names = [grouping.coefficients[c] for c in columns]
        sds = np.sqrt(np.sum(np.square(scaled), axis=1))
        largest = max(float(sds.max()), 1e-300)
        zero = [k for k in range(len(columns)) if sds[k] <= 1e-10]
        for k in zero:
            said.append(
                f"sd_{grouping.name}[{names[k]}] is zero, the border of what it can be: the levels of {grouping.name} "
                f"differ no more in it than chance allows. Leave it out, or give its sd a prior."
            )
        U, s, _ = np.linalg.svd(scaled)
        lost = int(np.sum(s <= 1e-8 * largest)) - len(zero)
        if lost > 0:
            weight = U[:, -1 if not zero else -(len(zero) + 1)]
            parts = [(w, name) for w, name in zip(weight, names, strict=True) if abs(w) > 5e-3]
            shown = " ".join(f"{'+' if w >= 0 else '−'} {abs(w):.2g} {name}" for w, name in parts).removeprefix("+ ")
            said.append(
                f"The covariance of ({', '.join(names)}) by {grouping.name} is singular: {shown} (each in its own "
                f"unit) has no variance: a correlation is at ±1. Write (… || {grouping.name}), leave a term out, or "
                "give the covariance a prior."
            )
    return said

"""The rows of a model in the order of each factor's levels, without copies of what is there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.design.files import RowFiles, row_array
from bayou.design.passes import ascending, copied, counts, equal, parts, same
from bayou.engines.glmm.regression import Rows
from bayou.engines.glmm.state import is_gaussian
from bayou.families.rows import LANES

if TYPE_CHECKING:
    from bayou.model import Model


@dataclass(frozen=True)
class LaidOut:
    """The rows, and what of the residual variances goes row by row."""

    rows: Rows
    sigma: Integers
    sigma_rows: Array
    weights: Array
    weights_step: int


def lay_out(model: Model, order: tuple[int, ...]) -> LaidOut:
    """Lay out the rows of a model for the Metropolis kernels; ``order``: its factors, that of most levels first."""
    design, working = model.design, model.working
    files = None if design.reduced is None else design.reduced.files
    used = [design.groupings[g] for g in order]
    n, K = design.n, len(used)
    place = None if not used or ascending(used[0].codes) else np.argsort(used[0].codes, kind="stable")
    # where each row of a further factor's order stands among those of the first
    master = np.empty((max(K - 1, 0), n), dtype=np.int64) if files is None else files.scratch((max(K - 1, 0), n), int)
    for k, g in enumerate(used[1:]):
        master[k] = np.argsort(g.codes if place is None else g.codes[place], kind="stable")
    sources: list[Integers | None] = [place, *(at if place is None else place[at] for at in master)]
    starts = [np.concatenate([[0], np.cumsum(counts(g.codes, len(g.levels)))]) for g in used]
    sizes = np.array([g.Z.shape[1] for g in used], dtype=np.int64)
    levels = np.array([len(g.levels) for g in used], dtype=np.int64)
    largest = max([1, *(int(np.diff(start).max()) for start in starts)])

    def each(values: Array) -> tuple[Array, int]:
        """Return values (n,) in the order of every factor, or one batch of them where all are alike."""
        value = same(values)
        if value is not None:
            return np.full((1, min(max(LANES, largest), n)), value), 0
        return _ordered(values, sources, files), 1

    weights, weights_step = each(_weights(model))
    trials, trials_step = each(design.trials)
    offset = same(design.offset)
    X = _columns(design.X, working.order, place, files)
    rows = Rows(
        code=int(model.family.code),
        y=_ordered(design.y, sources, files),
        trials=trials,
        trials_step=trials_step,
        weights_step=1 if is_gaussian(int(model.family.code)) else weights_step,
        master=master,
        first=_starts([len(start) for start in starts]),
        start=np.concatenate(starts).astype(np.int64) if K else np.zeros(1, dtype=np.int64),
        at_Z=np.zeros(0, dtype=np.int64),
        Z=X.reshape(-1),
        at_b=_starts([int(a) for a in sizes * levels]),
        levels=levels,
        sizes=sizes,
        X=X.reshape(-1),
        shift=working.shift,
        offset=np.full(1, offset) if offset is not None else _ordered(design.offset, [place], files)[0],
        offset_step=int(offset is None),
    )
    at_Z, Z = _group_columns(model, order, sources, X, files)
    rows = rows._replace(at_Z=at_Z, Z=Z)
    alone = len(design.sigma_levels) == 1
    return LaidOut(
        rows=rows,
        sigma=np.zeros(1, dtype=np.int64) if alone else _codes(design.sigma_codes, place),
        sigma_rows=np.array([float(n)]) if alone else _shares(model),
        weights=weights,
        weights_step=weights_step,
    )


def _starts(lengths: list[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)


def _shares(model: Model) -> Array:
    """Return how many rows each level of sigma has, (S,)."""
    return counts(model.design.sigma_codes, len(model.design.sigma_levels)).astype(np.float64)


def _weights(model: Model) -> Array:
    """Return prior weights over squared standard errors, where there are any."""
    design = model.design
    if design.standard_errors is None:
        return design.weights
    if design.reduced is None or design.reduced.files is None:
        return np.asarray(design.weights / design.standard_errors**2)
    out = design.reduced.files.scratch((design.n,))
    for part in parts(design.n):
        out[part] = design.weights[part] / design.standard_errors[part] ** 2
    return out


def _ordered(values: Array, sources: list[Integers | None], files: RowFiles | None) -> Array:
    """Return values (n,) in the order of every factor (K, n); a copy of the kernels' own, unless they are in a file."""
    if files is not None and len(sources) == 1 and sources[0] is None and values.flags.c_contiguous:
        return values[None]
    out = row_array(files, (len(sources), len(values)))
    for own, place in zip(out, sources, strict=True):
        copied(values, place, files, own)
    return out


def _codes(codes: Integers, place: Integers | None) -> Integers:
    return np.ascontiguousarray(codes if place is None else codes[place], dtype=np.int64)


def _columns(X: Array, order: Integers, place: Integers | None, files: RowFiles | None) -> Array:
    """Return columns (P, n) one after the other, in this order and with the rows at these places."""
    if place is None and X.T.flags.c_contiguous and np.array_equal(order, np.arange(X.shape[1])):
        return X.T
    out = row_array(files, (len(order), len(X)))
    for own, c in zip(out, order, strict=True):
        copied(X[:, c], place, files, own)
    return out


def _group_columns(
    model: Model, order: tuple[int, ...], sources: list[Integers | None], X: Array, files: RowFiles | None
) -> tuple[Integers, Array]:
    """Return where each factor's columns begin, and all of them; those of one factor may stand among X (P, n)."""
    design = model.design
    used = [design.groupings[g] for g in order]
    n = design.n
    if not used:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    if len(used) == 1:
        Z, place = used[0].Z, sources[0]
        p, P = Z.shape[1], len(X)
        for first in range(P - p + 1):
            columns = [int(c) for c in model.working.order[first : first + p]]
            if all(equal(Z[:, k], design.X[:, c]) for k, c in enumerate(columns)):
                return np.array([first * n]), X.reshape(-1)
        if place is None and Z.T.flags.c_contiguous:
            return np.zeros(1, dtype=np.int64), Z.T.reshape(-1)
    sizes = [g.Z.shape[1] for g in used]
    out = row_array(files, (sum(sizes), n))
    at = 0
    for g, place in zip(used, sources, strict=True):
        for k in range(g.Z.shape[1]):
            copied(g.Z[:, k], place, files, out[at])
            at += 1
    return n * _starts(sizes), out.reshape(-1)

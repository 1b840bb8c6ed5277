"""Structured effects in given rows: at their own nodes, at new ones, in fresh copies, or as a variance.

A smooth curve of a coordinate without ``by`` belongs to the population and is in every prediction. Copies of a curve
(``by``), areas and levels of a known covariance act as groups: their own values, fresh ones, zero, or averaged over.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.posterior.marginals import SCALES

if TYPE_CHECKING:
    from bayou.design.structured import StructuredTerm
    from bayou.effects.base import Effect

__all__ = ["CURVES", "Piece", "StructuredSample", "acts_as_group", "is_curve", "training_piece"]

CURVES = ("rw1", "rw2", "ar1", "seasonal", "s")
DENSE = 3000  # nodes up to which prior variances are from the dense covariance, beyond from draws
PRIOR_DRAWS = 500
GRID = 9  # values of rho or phi between which prior variances are interpolated


def is_curve(term: StructuredTerm) -> bool:
    """Return whether an effect is a curve of a coordinate."""
    return term.kind in CURVES


def acts_as_group(term: StructuredTerm) -> bool:
    """Return whether an effect is one of groups: areas, known levels, copies of a curve."""
    return not is_curve(term) or term.by is not None


@dataclass(frozen=True, eq=False)
class Piece:
    """One structured effect in n rows: row i has Σ value f[replicate, node] over its entries.

    Attributes
    ----------
    start
        Where the entries of each row begin, (n + 1,).
    replicate, node
        −1 where a level of ``by`` is unseen, where a coordinate is no node; (nnz,).
    value
        (nnz,).
    coordinate
        Of each entry, NaN for areas; (nnz,).
    labels, copies
        Area (or coordinate) and level of ``by`` of each row, None where missing; (n,).
    """

    start: Integers
    replicate: Integers
    node: Integers
    value: Array
    coordinate: Array
    labels: Labels
    copies: Labels

    def entries(self, part: slice) -> slice:
        """Return the entries of some rows."""
        return slice(int(self.start[part.start]), int(self.start[part.stop]))

    @cached_property
    def rows(self) -> Integers:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


    def taken(self, at: Integers) -> Piece:
        """Return the effect in some of the rows, as often as they are named."""
        counts = np.diff(self.start)[at]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        entry = np.arange(start[-1]) + np.repeat(self.start[at] - start[:-1], counts)
        return Piece(
            start,
            self.replicate[entry],
            self.node[entry],
            self.value[entry],
            self.coordinate[entry],
            self.labels[at],
            self.copies[at],
        )


def training_piece(term: StructuredTerm) -> Piece:
    """Return an effect in the rows that the model was fitted to."""
    first = term.start[:-1]
    where = np.full(len(term.node), np.nan) if term.coordinate is None else term.coordinate[term.node]
    labels, copies = term.nodes[term.node[first]], term.replicates[term.replicate[first]]
    return Piece(term.start, term.replicate, term.node, term.value, where, labels, copies)


@dataclass(eq=False)
class StructuredSample:
    """Draws of one structured effect, and what follows from them.

    Parameters
    ----------
    term, effect
        Of the model.
    thetas
        Draws of its hyperparameters as printed, (S, d).
    f
        Draws of the coefficients (S, R, m), or None where they are not needed.
    seed
        Of the draws at new coordinates and of fresh copies.
    branch
        Of the seed.
    """

    term: StructuredTerm
    effect: Effect
    thetas: Array
    f: Array | None
    seed: int
    branch: int
    _extended: list[tuple[Piece, Array, Integers]] = field(default_factory=list)

    @cached_property
    def internal(self) -> Array:
        """Draws of the hyperparameters in internal coordinates, (S, d)."""
        columns = [
            SCALES[h.scale].internal(np.clip(values, *_inside(h.scale)))
            for h, values in zip(self.effect.hyperparameters, self.thetas.T, strict=True)
        ]
        return np.column_stack(columns)

    @property
    def sd(self) -> Array:
        """Draws of the sd, (S,)."""
        return np.asarray(self.thetas[:, [h.role for h in self.effect.hyperparameters].index("sd")])

    @property
    def only_scale(self) -> bool:
        """Whether the sd is its only hyperparameter: then draws at sd = 1 are scaled."""
        return len(self.effect.hyperparameters) == 1

    def generator(self, *more: int) -> np.random.Generator:
        """Return the random numbers of one purpose: the same for whichever rows are asked for."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(self.branch, *more))))

    # ---- own values ------------------------------------------------------------------------

    def observed(self, piece: Piece, part: slice) -> Array:
        """Return the effect's own values in some rows, (S, rows); at a new coordinate drawn given those."""
        assert self.f is not None
        values, columns = self._with_new(piece)
        return self._total(piece, part, values, columns)

    def _total(self, piece: Piece, part: slice, values: Array, columns: Integers) -> Array:
        """Add up the entries of rows: column of ``values`` (S, …) times value; a column of −1 counts nothing."""
        total = np.zeros((len(values), part.stop - part.start))
        own = piece.entries(part)
        rows, at, weight = piece.rows[own] - part.start, columns[own], piece.value[own]
        rank = np.arange(own.start, own.stop) - piece.start[piece.rows[own]]
        for k in range(int(rank.max(initial=-1)) + 1):
            use = (rank == k) & (at >= 0)
            total[:, rows[use]] += values[:, at[use]] * weight[use]
        return total

    def _with_new(self, piece: Piece) -> tuple[Array, Integers]:
        """Return f (S, R m), beside it draws at new coordinates, and the column of each entry."""
        for found in self._extended:
            if found[0] is piece:
                return found[1:]
        assert self.f is not None
        S, R, m = self.f.shape
        here = (piece.replicate >= 0) & (piece.node >= 0)
        columns: Integers = np.where(here, piece.replicate * m + piece.node, -1).astype(np.int64)
        parts, size = [self.f.reshape(S, R * m)], R * m
        new = (piece.node < 0) & (piece.replicate >= 0) & ~np.isnan(piece.coordinate)
        for r in np.unique(piece.replicate[new]):
            mine = new & (piece.replicate == r)
            coordinates, place = np.unique(piece.coordinate[mine], return_inverse=True)
            columns[mine] = size + place
            parts.append(self.extend(self.f[:, r], coordinates, self.generator(0, int(r))))
            size += len(coordinates)
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        self._extended.append((piece, values, columns))
        return values, columns

    def extend(self, f: Array, coordinates: Array, rng: np.random.Generator) -> Array:
        """Draw f at new coordinates (q,) given f (S, m) of one copy, each draw with its own theta: (S, q)."""
        z = rng.standard_normal((len(f), len(coordinates)))
        if self.only_scale:
            from bayou.effects.extending import square_root

            W, V = self.effect.extend_mean(np.zeros(1), coordinates)
            return np.asarray(f @ W.T + self.sd[:, None] * (z @ square_root(V).T))
        return self.effect.extend_each(self.internal, f, coordinates, z)

    # ---- fresh copies ----------------------------------------------------------------------

    def fresh(self, piece: Piece, levels: Integers, part: slice) -> Array:
        """Return the values of fresh copies (curves) or areas, (S, rows); rows of one level share theirs.

        Parameters
        ----------
        piece
            The effect in the rows.
        levels
            Number of the fresh copy, or area, of each row; (n,).
        part
            Which rows.
        """
        total = np.zeros((len(self.thetas), part.stop - part.start))
        curve = self.term.kind in CURVES
        spread = None if curve else np.sqrt(self.typical_variance)
        for level in np.unique(levels[part]):
            mine = np.flatnonzero(levels[part] == level)
            if spread is not None:
                z = self.generator(1, int(level)).standard_normal(len(spread))
                total[:, mine] = (spread * z)[:, None]
                continue
            own = Piece(
                piece.start,
                np.where(levels[piece.rows] == level, 0, -1),
                piece.node,
                piece.value,
                piece.coordinate,
                piece.labels,
                piece.copies,
            )
            copied = StructuredSample(
                self.term, self.effect, self.thetas, self._new_copy(int(level)), self.seed, self.branch
            )
            total[:, mine] = copied.observed(own, part)[:, mine]
        return total

    def _new_copy(self, level: int) -> Array:
        """Draw one copy from the prior for each theta, (S, 1, m)."""
        single = copy.copy(self.effect)
        single.replicates = 1
        return np.asarray(single.draw_each(self.internal, self.generator(1, level))[:, :, : single.observed])

    # ---- variances -------------------------------------------------------------------------

    @cached_property
    def typical_variance(self) -> Array:
        """The prior variance of one area: the geometric mean over areas at each draw of theta, (S,)."""
        return self._over_theta(lambda theta: np.array([np.exp(np.log(self._node_variances(theta)).mean())]))[:, 0]

    def spread(self, piece: Piece, part: slice) -> Array:
        """Return the prior variance of the effect over groups in some rows, (S, rows)."""
        if self.term.kind not in CURVES:
            return np.broadcast_to(self.typical_variance[:, None], (len(self.thetas), part.stop - part.start))
        own = piece.entries(part)
        # a coordinate counts only where there is no node
        keys = np.column_stack([piece.node[own], np.nan_to_num(piece.coordinate[own]), piece.value[own]])
        keys = keys.reshape(part.stop - part.start, -1)
        different, place = np.unique(keys, axis=0, return_inverse=True)
        return self._over_theta(lambda theta: self._row_variances(theta, different))[:, place.ravel()]

    def _row_variances(self, theta: Array, keys: Array) -> Array:
        """Return the prior variances of rows that are written as (node, coordinate, value) for each entry."""
        m = self.effect.observed
        entries = keys.reshape(len(keys), -1, 3)
        T = np.zeros((len(keys), m))
        own = np.zeros(len(keys))
        for node, coordinate, value in np.moveaxis(entries, 1, 0).transpose(0, 2, 1):
            there = np.flatnonzero(node >= 0)
            np.add.at(T, (there, node[there].astype(np.int64)), value[there])
            new = np.flatnonzero(node < 0)
            if new.size:
                W, V = self.effect.extend_mean(theta, coordinate[new])
                T[new] += value[new, None] * W
                own[new] += np.square(value[new]) * np.diag(V)
        if m <= DENSE:
            C = self.effect.covariance(theta)[:m, :m]
            return np.asarray(own + np.einsum("ij,jk,ik->i", T, C, T, optimize=True))
        return np.asarray(own + np.square(self._prior(theta) @ T.T).mean(axis=0))

    def _prior(self, theta: Array) -> Array:
        single = copy.copy(self.effect)
        single.replicates = 1
        return np.asarray(single.draw(theta, self.generator(2), PRIOR_DRAWS)[:, 0, : single.observed])

    def _node_variances(self, theta: Array) -> Array:
        m = self.effect.observed
        if m <= DENSE:
            return np.asarray(np.diag(self.effect.covariance(theta))[:m])
        return np.asarray(np.square(self._prior(theta)).mean(axis=0))

    def _over_theta(self, variances: Any) -> Array:
        """Return variances (S, …) at every theta: exact in the sd, interpolated in what else there is."""
        roles = [h.role for h in self.effect.hyperparameters]
        other = [k for k, role in enumerate(roles) if role != "sd"]
        start = np.zeros(len(roles))
        scale = np.square(self.sd)[:, None]
        if not other:
            return np.asarray(scale * variances(start))
        t = self.internal[:, other[0]]
        nodes = np.unique(np.quantile(t, np.linspace(0.0, 1.0, GRID)))
        found = []
        for node in nodes:
            start[other[0]] = node
            found.append(np.log(np.maximum(variances(start), 1e-300)))
        table = np.array(found)
        if len(nodes) == 1:
            return np.asarray(scale * np.exp(table[:1]))
        k = np.clip(np.searchsorted(nodes, t) - 1, 0, len(nodes) - 2)
        u = ((t - nodes[k]) / (nodes[k + 1] - nodes[k]))[:, None]
        return np.asarray(scale * np.exp((1.0 - u) * table[k] + u * table[k + 1]))


def _inside(scale: str) -> tuple[float, float]:
    """Return the ends of what a hyperparameter can be, a hair inside."""
    return {"log": (1e-100, np.inf), "logit": (1e-12, 1.0 - 1e-12), "atanh": (-1.0 + 1e-12, 1.0 - 1e-12)}[scale]

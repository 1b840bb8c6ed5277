"""The linear predictor of given rows at the draws of a posterior, a block of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.errors import DataError, Unsupported
from bayou.predict.structured import Piece, StructuredSample, acts_as_group, training_piece

if TYPE_CHECKING:
    from bayou.design import Design, NewRows
    from bayou.posterior import Posterior

__all__ = ["Rows", "Sample", "blocks", "coded_rows", "new_rows", "require_memory", "training_rows"]

BLOCK_NUMBERS = 4_000_000  # numbers in one (draws, rows) block: 32 MB
BRANCH = 10  # of the seed, of the first structured effect


@dataclass(frozen=True)
class Rows:
    """What predictions need to know of n rows, seen before or not.

    ``codes`` are -1 where a level is unseen or missing; ``absent`` are columns that are not there; ``structured`` has
    a `Piece` for each structured effect of the model; ``notes`` say what lies beyond the fitted data. Of `given_rows`
    also the outcomes ``y``, how many rows as given are like each, ``frequency``, and the row of the design, ``kept``.
    """

    X: Array
    offset: Array
    trials: Array
    weights: Array
    standard_errors: Array | None
    sigma_codes: Integers
    codes: tuple[Integers, ...]
    labels: tuple[Labels, ...]
    Z: tuple[Array, ...]
    index: Any
    absent: tuple[str, ...] = ()
    structured: tuple[Piece, ...] = ()
    notes: tuple[str, ...] = ()
    y: Array | None = None
    frequency: Array | None = None
    kept: Integers | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.X)

    def taken(self, at: Integers) -> Rows:
        """Return some of the rows, as often as they are named."""
        errors = self.standard_errors
        return replace(
            self,
            X=self.X[at],
            offset=self.offset[at],
            trials=self.trials[at],
            weights=self.weights[at],
            standard_errors=None if errors is None else errors[at],
            sigma_codes=self.sigma_codes[at],
            codes=tuple(codes[at] for codes in self.codes),
            labels=tuple(labels[at] for labels in self.labels),
            Z=tuple(Z[at] for Z in self.Z),
            index=np.asarray(self.index)[at],
            structured=tuple(piece.taken(at) for piece in self.structured),
        )


def training_rows(design: Design) -> Rows:
    """Return the rows that the model was fitted to.

    Raises
    ------
    Unsupported
        Where they lie in files, in another order than they were given in.
    """
    if design.reduced is not None and design.reduced.files is not None:
        raise Unsupported(
            f"This goes over the rows of the fit one by one, and its {design.n:,} rows lie in files, sorted by level. "
            "Name rows: fit.predict(data) takes any table, and what streamed goes on streaming."
        )
    groupings = design.groupings
    return Rows(
        design.X,
        design.offset,
        design.trials,
        design.weights,
        design.standard_errors,
        design.sigma_codes,
        tuple(g.codes for g in groupings),
        tuple(g.codes for g in groupings),
        tuple(g.Z for g in groupings),
        design.index,
        structured=tuple(training_piece(term) for term in design.structured),
    )


def new_rows(design: Design, data: Any) -> Rows:
    """Return the rows of new data, built with the means, knots and levels remembered by the design."""
    return data if isinstance(data, Rows) else coded_rows(design.rebuild(data))


def coded_rows(new: NewRows) -> Rows:
    """Return rows that a design has coded."""
    return Rows(
        new.X,
        new.offset,
        new.trials,
        new.weights,
        new.standard_errors,
        new.sigma_codes,
        tuple(new.codes),
        tuple(new.labels),
        tuple(new.Z),
        new.index,
        new.absent,
        tuple(
            Piece(p.start, p.replicate, p.node, p.value, p.coordinate, p.labels, p.by_labels) for p in new.structured
        ),
        new.notes,
    )


def blocks(n: int, draws: int) -> Iterator[slice]:
    """Cut n rows into blocks that hold at most `BLOCK_NUMBERS` numbers over all draws."""
    size = max(1, BLOCK_NUMBERS // max(draws, 1))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def require_memory(numbers: int, what: str) -> None:
    """Refuse an array of float64 that is larger than the memory that is free."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if 8 * numbers > free:
        raise DataError(
            f"{what} needs {8 * numbers / 2**30:.1f} GB, and {free / 2**30:.1f} GB of memory "
            "are free. Take fewer rows at a time, or fewer draws."
        )


class Sample:
    """The draws of a posterior laid end to end, S in all.

    Parameters
    ----------
    posterior
        The result of a fit.
    effects
        Whether the group coefficients are needed: then only the draws at which they were kept are
        used, and `Unsupported` is raised if there are none. Curves without ``by`` belong to the fixed part and are
        needed always.
    seed
        Of what is drawn anew: structured effects at new coordinates and in new groups.
    """

    def __init__(self, posterior: Posterior, effects: bool, seed: int = 0) -> None:
        self.posterior = posterior
        terms = posterior.model.design.structured
        self.factors = [g.name for g in posterior.model.design.groupings]
        self.curves = [k for k, term in enumerate(terms) if not acts_as_group(term)]
        self.areas = [k for k, term in enumerate(terms) if acts_as_group(term)]
        self.b = [posterior.effects(name) for name in self.factors] if effects else []
        partial = bool(self.curves or (effects and (self.factors or self.areas)))
        self.draws = posterior.effect_draws if partial else np.arange(posterior.size)
        self.chains = posterior.chains
        self.size = self.chains * len(self.draws)
        self.structured = [
            self._structured(k, k in self.curves or effects, seed)
            for k in range(len(posterior.model.design.structured))
        ]

    @property
    def has_groups(self) -> bool:
        """Whether something differs between groups: factors, areas, copies of a curve."""
        return bool(self.factors or self.areas)

    def _structured(self, k: int, drawn: bool, seed: int) -> StructuredSample:
        posterior = self.posterior
        term, effect = posterior.model.design.structured[k], posterior.model.effects[k]
        names = [f"{h.role}_{term.name}" for h in effect.hyperparameters]
        thetas = np.column_stack([self.flat(posterior.draws[name]) for name in names])
        f = self.flat(posterior.structured_draws(term.name)) if drawn else None
        return StructuredSample(term, effect, thetas, f, seed, BRANCH + k)

    def flat(self, values: Array) -> Array:
        """Return draws (chain, draw, …) at the chosen draws as (S, …)."""
        if values.shape[1] != len(self.draws):
            values = values[:, self.draws]
        return values.reshape(self.size, *values.shape[2:])

    def fixed(self, rows: Rows, part: slice) -> Array:
        """Return offset + X beta + curves that belong to no group, shape (S, rows)."""
        eta = np.empty((self.size, part.stop - part.start))
        eta[:] = rows.offset[part]
        if rows.X.shape[1]:
            eta += self.flat(self.posterior.draws["beta"]) @ rows.X[part].T
        for k in self.curves:
            eta += self.structured[k].observed(rows.structured[k], part)
        return eta

    def observed(self, rows: Rows, part: slice) -> Array:
        """Return the sum of the groups' own terms, shape (S, rows)."""
        total = np.zeros((self.size, part.stop - part.start))
        for draws, codes, Z in zip(self.b, rows.codes, rows.Z, strict=True):
            b = self.flat(draws)
            for k in range(Z.shape[1]):
                total += b[:, codes[part], k] * Z[part, k]
        for place in self.areas:
            total += self.structured[place].observed(rows.structured[place], part)
        return total

    def root(self, factor: str) -> Array:
        """Return L with L L' = Sigma of a factor, shape (S, p, p)."""
        sd, cor = self.posterior.group("sd", factor), self.posterior.group("cor", factor)
        if sd is None:
            raise DataError(f"This result has no covariance of {factor!r}.")
        sds = self.flat(sd)
        if cor is None:
            return np.asarray(sds[:, :, None] * np.eye(sds.shape[1]))
        return np.asarray(sds[:, :, None] * _roots(self.flat(cor)))

    def spread(self, rows: Rows, part: slice) -> Array:
        """Return the variance of the sum of group terms over groups, z' Sigma z, shape (S, rows)."""
        total = np.zeros((self.size, part.stop - part.start))
        for factor, Z in zip(self.factors, rows.Z, strict=True):
            root = self.root(factor)
            for k in range(root.shape[1]):
                total += np.square(root[:, :, k] @ Z[part].T)
        for place in self.areas:
            total += self.structured[place].spread(rows.structured[place], part)
        return total

    def dispersion(self, rows: Rows, part: slice) -> Array | None:
        """Return the dispersion, broadcasting to (S, rows); None in families without one."""
        model = self.posterior.model
        if model.family.dispersion is None:
            return None
        if model.design.standard_errors is not None:
            if rows.standard_errors is None:
                raise DataError(
                    "Outcomes of a measured() response need the standard errors: add their "
                    "column to the new data, or ask for kind='mean'."
                )
            return rows.standard_errors[None, part]
        values = self.flat(self.posterior.draws[model.family.dispersion])
        if values.ndim == 1:
            return values[:, None]
        codes = rows.sigma_codes[part]
        if (codes < 0).any():
            raise DataError(
                f"Rows with an unseen level of {model.design.sigma_by!r} have no residual sd; ask for kind='mean'."
            )
        return np.asarray(values[:, codes])


def _roots(correlations: Array) -> Array:
    """Cholesky factors, or symmetric roots where a draw lies on the border."""
    try:
        return np.asarray(np.linalg.cholesky(correlations))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(correlations)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])

"""Pointwise log likelihood, computed when it is read, and its importance weights without each row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.posterior.convergence import effective_size
from bayou.predict.given import given_rows
from bayou.predict.linear import Sample, blocks

if TYPE_CHECKING:
    import xarray as xr

    from bayou.posterior import Posterior

__all__ = ["LogLikelihood", "Weighted", "lazy_log_likelihood", "relative_efficiency", "smoothed", "weighted"]

REFF_COLUMNS = 1000


class LogLikelihood:
    """log p(y_i | draw) for any block of rows as given, with every constant; nothing is kept.

    Attributes
    ----------
    rows
        The rows; where identical ones were merged each different one once, as often as its ``frequency`` says.
    """

    def __init__(self, posterior: Posterior) -> None:
        self.design = posterior.model.design
        self.family = posterior.model.family
        self.rows = given_rows(self.design)
        assert self.rows.y is not None and self.rows.frequency is not None and self.rows.kept is not None
        self.y, self.frequency, self.kept = self.rows.y, self.rows.frequency, self.rows.kept
        self.sample = Sample(posterior, effects=True)
        self.shape = (self.sample.chains, len(self.sample.draws), self.rows.n)

    def block(self, part: slice) -> Array:
        """Return the block of rows ``part``, shape (chain, draw, rows)."""
        eta = self.sample.fixed(self.rows, part) + self.sample.observed(self.rows, part)
        values = self.family.log_density(
            self.y[part],
            eta,
            self.sample.dispersion(self.rows, part),
            trials=self.rows.trials[part],
            weights=self.rows.weights[part],
        )
        return np.asarray(values).reshape(*self.shape[:2], -1)

    def all(self, start: int = 0, stop: int | None = None) -> Array:
        """Return rows from ``start`` to ``stop``, computed in blocks."""
        stop = self.rows.n if stop is None else stop
        out = np.empty((*self.shape[:2], stop - start))
        for part in blocks(stop - start, self.sample.size):
            out[:, :, part] = self.block(slice(start + part.start, start + part.stop))
        return out


def lazy_log_likelihood(posterior: Posterior) -> xr.Dataset:
    """Return the ``log_likelihood`` group: its numbers are computed when they are first read."""
    import xarray as xr
    from xarray.backends import BackendArray
    from xarray.core import indexing as xarray_indexing

    indexing: Any = xarray_indexing

    try:
        pointwise = LogLikelihood(posterior)
    except Unsupported:
        return xr.Dataset()

    class Lazy(BackendArray):
        shape = pointwise.shape
        dtype = np.dtype(np.float64)

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

        def _read(self, key: tuple[Any, ...]) -> Any:
            chain, draw, row = key
            if isinstance(row, (int, np.integer)):
                return pointwise.all(int(row), int(row) + 1)[chain, draw, 0]
            wanted = range(*row.indices(self.shape[2]))
            if not wanted:
                return np.empty(self.shape)[chain, draw, row]
            low, high = min(wanted), max(wanted) + 1
            return pointwise.all(low, high)[chain, draw][..., np.asarray(wanted) - low]

    # the wrappers that xarray puts around the arrays of a file: read on demand, then kept
    array = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(indexing.LazilyIndexedArray(Lazy())))
    coords: dict[str, Any] = {
        "chain": np.arange(pointwise.shape[0]),
        "draw": pointwise.sample.draws,
        "row": np.arange(pointwise.shape[2]),
    }
    if pointwise.design.reduced is not None and pointwise.design.reduced.distinct is not None:
        # of each different row once: how many there are, and the row of the other groups that it is part of
        coords |= {"frequency": ("row", pointwise.frequency), "merged_row": ("row", pointwise.kept)}
    return xr.Dataset({"y": xr.Variable(("chain", "draw", "row"), array)}, coords)


def relative_efficiency(posterior: Posterior) -> float:
    """Return the average effective size of the mean over the draws, as ArviZ's loo does."""
    if posterior.chains == 1:
        return 1.0
    sizes = []
    for values in posterior.draws.values():
        flat = np.moveaxis(values, (0, 1), (-2, -1)).reshape(-1, *values.shape[:2])
        chosen = np.unique(np.linspace(0, len(flat) - 1, min(len(flat), REFF_COLUMNS)).astype(int))
        sizes.append(effective_size(flat[chosen], "mean") / flat[0].size)
    return float(np.concatenate(sizes).mean())


@dataclass(frozen=True, eq=False)
class Weighted:
    """What importance weights say of each row without it.

    Attributes
    ----------
    elpd_i, pareto_k
        (n,) log p(y_i | all other rows), and k-hat of the weights.
    lppd_i
        (n,) log of the mean density of each row.
    good_k
        Up to which k-hat the weights can be trusted: min(1 − 1/log10 S, .7) for S draws.
    efficiency
        Of the draws.
    """

    elpd_i: Array
    pareto_k: Array
    lppd_i: Array
    good_k: float
    efficiency: float


def weighted(density: LogLikelihood) -> Weighted:
    """Weigh the draws by 1 / p(y_i | draw), Pareto-smoothed, for each row: arviz_stats' loo, in blocks of rows.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432.
    """
    import arviz_stats
    import xarray as xr

    library: Any = arviz_stats  # without type hints of its own
    chains, draws, n = density.shape
    efficiency = relative_efficiency(density.sample.posterior)
    scalar = xr.Dataset(
        {"x": (("chain", "draw"), np.zeros((chains, draws)))},
        {"chain": np.arange(chains), "draw": density.sample.draws},
    )
    elpd, k, lppd, good = np.empty(n), np.empty(n), np.empty(n), 0.7
    for part in blocks(n, chains * draws):
        values = density.block(part)
        coords = {**scalar.coords, "row": np.arange(part.start, part.stop)}
        data = xr.Dataset({"y": (("chain", "draw", "row"), values)}, coords)
        tree = xr.DataTree.from_dict({"/posterior": scalar, "/log_likelihood": data})
        with warnings.catch_warnings():
            # what it warns of, large Pareto k, is told by `warning` and by the table of the printed result
            warnings.simplefilter("ignore", UserWarning)
            result = library.loo(tree, pointwise=True, reff=efficiency)
        elpd[part], k[part], good = result.elpd_i.values, result.pareto_k.values, float(result.good_k)
        lppd[part] = logsumexp(values, axis=(0, 1)) - np.log(chains * draws)
    return Weighted(elpd, k, lppd, good, efficiency)


def smoothed(log_density: Array, efficiency: float) -> tuple[float, float]:
    """Return log p(y_i | all else) and k-hat from log p(y_i | all else, draw) (S,)."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]  # not told to type checkers

    library: Any = array_stats
    elpd, k, _ = library.loo(log_density, chain_axis=None, draw_axis=-1, r_eff=efficiency)
    return float(elpd), float(k)

"""Pointwise log likelihood, computed when it is read, and leave-one-out cross-validation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.posterior.convergence import effective_size
from bayou.predict.linear import Sample, blocks, training_rows

if TYPE_CHECKING:
    import xarray as xr

    from bayou.posterior import Posterior

__all__ = ["LogLikelihood", "lazy_log_likelihood", "loo"]

REFF_COLUMNS = 1000


class LogLikelihood:
    """log p(y_i | draw) for any block of rows, with every constant; nothing is kept."""

    def __init__(self, posterior: Posterior) -> None:
        self.design = posterior.model.design
        self.family = posterior.model.family
        self.rows = training_rows(self.design)
        self.sample = Sample(posterior, effects=True)
        self.shape = (self.sample.chains, len(self.sample.draws), self.design.n)

    def block(self, part: slice) -> Array:
        """Return the block of rows ``part``, shape (chain, draw, rows)."""
        eta = self.sample.fixed(self.rows, part) + self.sample.observed(self.rows, part)
        values = self.family.log_density(
            self.design.y[part],
            eta,
            self.sample.dispersion(self.rows, part),
            trials=self.design.trials[part],
            weights=self.design.weights[part],
        )
        return np.asarray(values).reshape(*self.shape[:2], -1)

    def all(self, start: int = 0, stop: int | None = None) -> Array:
        """Return rows from ``start`` to ``stop``, computed in blocks."""
        stop = self.design.n if stop is None else stop
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
    coords = {
        "chain": np.arange(pointwise.shape[0]),
        "draw": pointwise.sample.draws,
        "row": np.arange(pointwise.shape[2]),
    }
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


def loo(posterior: Posterior, pointwise: bool = True) -> Any:
    """Pareto-smoothed leave-one-out cross-validation, by arviz_stats, in blocks of rows.

    Parameters
    ----------
    posterior
        A result that kept draws of the group coefficients.
    pointwise
        Keep ``elpd_i`` and ``pareto_k`` of each row.

    Returns
    -------
    arviz_stats.ELPDData
        ``elpd``, ``se``, ``p`` and, by row, ``elpd_i`` and ``pareto_k``; ``warning`` is True where some
        Pareto k is too large for the estimate to be trusted.

    Raises
    ------
    Unsupported
        If no draws of the group coefficients were kept.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432.
    """
    import arviz_stats
    import xarray as xr

    library: Any = arviz_stats  # without type hints of its own
    density = LogLikelihood(posterior)
    chains, draws, n = density.shape
    efficiency = relative_efficiency(posterior)
    scalar = xr.Dataset(
        {"x": (("chain", "draw"), np.zeros((chains, draws)))},
        {"chain": np.arange(chains), "draw": density.sample.draws},
    )
    results, effective = [], []
    for part in blocks(n, chains * draws):
        values = density.block(part)
        coords = {**scalar.coords, "row": np.arange(part.start, part.stop)}
        data = xr.Dataset({"y": (("chain", "draw", "row"), values)}, coords)
        tree = xr.DataTree.from_dict({"/posterior": scalar, "/log_likelihood": data})
        with warnings.catch_warnings():
            # what it warns of, large Pareto k, is told by `warning` and by the table of the printed result
            warnings.simplefilter("ignore", UserWarning)
            result = library.loo(tree, pointwise=True, reff=efficiency)
        results.append(result)
        effective.append(logsumexp(values, axis=(0, 1)) - np.log(chains * draws) - result.elpd_i.values)
    first = results[0]
    elpd_i = xr.concat([r.elpd_i for r in results], "row")
    pareto_k = xr.concat([r.pareto_k for r in results], "row")
    return library.ELPDData(
        kind="loo",
        elpd=float(elpd_i.sum()),
        se=float(np.sqrt(n * np.var(elpd_i.values))),
        p=float(np.concatenate(effective).sum()),
        n_samples=chains * draws,
        n_data_points=n,
        scale="log",
        warning=any(r.warning for r in results),
        good_k=first.good_k,
        elpd_i=elpd_i if pointwise else None,
        pareto_k=pareto_k if pointwise else None,
    )

"""The face of the house: `fit`, `load`, and the `Fit` they return."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import engines
from bayou.engines.resources import heard
from bayou.errors import DataError, Unsupported
from bayou.fitting.fitted import Fit
from bayou.model import Model
from bayou.posterior import storage

if TYPE_CHECKING:
    from bayou.engines import Engine
    from bayou.families import Family
    from bayou.formula import Formula
    from bayou.posterior import Posterior
    from bayou.priors import Priors

__all__ = ["Fit", "fit", "load"]

TAKE_OWN = ("nuts", "auto")  # engines for a user's own family


def fit(
    formula: str | Formula | Model,
    data: Any = None,
    family: str | Family = "gaussian",
    priors: Priors | Mapping[str, Any] | None = None,
    engine: str | Engine = "auto",
    seed: int | None = None,
    missing: str = "error",
    weights: str | None = None,
    sigma_by: str | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    structures: Mapping[str, Any] | None = None,
    stream: bool | str | os.PathLike[str] | None = None,
    client: Any = None,
    shards: int | None = None,
    **settings: Any,
) -> Fit:
    """Fit a Bayesian (generalized) linear mixed model.

    The model is y | x ~ Family(inverse link(offset + X beta + Σ Z_g b_g + Σ A_k f_k), dispersion) with
    b_g ~ N(0, Sigma_g) for each grouping factor g and f_k ~ N(0, Q_k⁻¹) for each structured effect k.

    Parameters
    ----------
    formula
        Text as in ``"y ~ x + (1 + x | g)"``, a `Formula`, or a `Model` (then without data).
    data
        pandas, polars or pyarrow table, dict of columns, or a path to CSV or Parquet; a folder of Parquet files, a
        pattern such as ``"sales/*.parquet"`` or a list of files, a polars LazyFrame, a DuckDB relation or a pyarrow
        Dataset; or a data frame of Dask, whose used columns are fetched and fitted over its workers.
    family
        A name ("gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma") or a family
        from `bayou.families`.
    priors
        `bayou.Priors`, a dict with the same keys, or None for the defaults.
    engine
        A name ("auto", "gibbs", "metropolis", "inla", "laplace", …) or an engine from `bayou.engines`; "auto" takes
        the fastest that passes its own check (`bayou.engines.Auto`).
    seed
        The same seed gives the same draws, for any number of threads.
    missing
        "error", or "drop" to drop and count rows with missing values.
    weights, sigma_by
        Names of columns: prior weights (Gaussian: variance sigma² / w); a factor with one residual
        sd per level.
    functions
        Functions of one column that the formula may call, by name.
    structures
        What structured effects name, ``structures={"W": graph, "A": matrix}``. The graph of
        ``icar(area, graph=W)``, ``car``, ``leroux`` or ``bym2``: a list of pairs of neighbours, a table with two
        columns (a third holds weights) or its path, an adjacency matrix (dense, sparse, a labelled DataFrame), a
        dict of area -> neighbours, a networkx graph, a GeoDataFrame, or ``(names, any of these)``. The matrix of
        ``(1 | animal, covariance=A)`` or ``precision=``: a labelled DataFrame, ``(names, matrix)``, or a matrix,
        dense or sparse, in the order of the sorted levels.
    stream
        Whether rows are read in blocks, in two or three passes over the data, instead of into memory. Those of a
        Gaussian response are summed within levels, equal ones of a Bernoulli, binomial or Poisson response are merged,
        all others are kept in files; the likelihood is that of the rows as given. None: rows of files and queries are
        read in blocks when the columns in use take more than 256 MB. True: always, False: never. A path: always, and
        there is the folder for files of rows, which otherwise is a temporary one.
    client
        A ``distributed.Client``: chains run over the workers of its cluster, to the same draws. "local" makes one in
        this process; None (default) takes none.
    shards
        The groups of the grouping factor are divided over the workers of ``client`` ("local" if there is none) in so
        many shards (12 suits most; of many rows about 80,000 a shard), which keep their rows. The draws depend on the
        number of shards, not on that of the workers.
    **settings
        Settings of the engine, such as ``draws=2000, chains=4``.

    Returns
    -------
    Fit

    Raises
    ------
    FormulaError, DataError, PriorError, ImproperPosterior, Unsupported
        Before any sampling, saying what is wrong and what to do.

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> fit = bayou.fit("proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic,
    ...                 family="binomial", seed=1, draws=500)
    >>> list(fit.fixed_effects.index)
    ['Intercept', 'treatment[drug]']
    """
    chosen = engines.get(engine, **settings)

    def bound(table: Any) -> Model:
        model = _model(formula, table, family, priors, missing, weights, sigma_by, functions, structures, stream)
        if model.family.own and chosen.name not in TAKE_OWN:
            raise Unsupported(
                f"engine={chosen.name!r} works with families that bayou knows; {model.family.name!r} is your own. Use "
                "engine='nuts', which needs no more than its log density."
            )
        return model

    sequence = _seed_sequence(seed)
    rng = np.random.default_rng(sequence)
    with heard():
        if type(data).__module__.startswith("dask."):
            from bayou.cluster import fit_frame

            started = time.perf_counter()
            result = fit_frame(bound, data, chosen, rng, client, shards)
        else:
            model = bound(data)
            started = time.perf_counter()
            result = _run(chosen, model, rng, client, shards)
    result.info["seconds"] = time.perf_counter() - started
    # without a seed the entropy is kept, so that this run too can be repeated
    result.info["seed"] = int(sequence.entropy)  # type: ignore[arg-type]
    return Fit(result)


def _run(engine: Engine, model: Model, rng: np.random.Generator, client: Any, shards: int | None) -> Posterior:
    """Run the engine here, or over a cluster."""
    if client is None and shards is None:
        return engine.run(model, rng)
    from bayou.cluster import over, run_shards

    if shards is not None:
        return run_shards(engine, model, rng, "local" if client is None else client, shards)
    with over(client, getattr(engine, "cores", None)):
        return engine.run(model, rng)


def _model(
    formula: str | Formula | Model,
    data: Any,
    family: str | Family,
    priors: Any,
    missing: str,
    weights: str | None,
    sigma_by: str | None,
    functions: Mapping[str, Callable[..., Any]] | None,
    structures: Mapping[str, Any] | None,
    stream: bool | str | os.PathLike[str] | None,
) -> Model:
    if not isinstance(formula, Model):
        if data is None:
            raise DataError("No data were given: bayou.fit(formula, data, ...).")
        return Model(
            formula,
            data,
            family,
            priors,
            weights=weights,
            sigma_by=sigma_by,
            missing=missing,
            functions=functions,
            structures=structures,
            stream=stream,
        )
    if (family, missing) != ("gaussian", "error") or any(
        x is not None for x in (data, priors, weights, sigma_by, functions, structures, stream)
    ):
        raise DataError(
            "A Model is bound to its data, family and priors already: give bayou.fit(model, "
            "engine=, seed=) alone, or the formula and data instead of the model."
        )
    return formula


def _seed_sequence(seed: int | None) -> np.random.SeedSequence:
    if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0):
        raise DataError(f"seed={seed!r}: give a whole number of at least 0, or None.")
    return np.random.SeedSequence(None if seed is None else int(seed))


def load(path: str | os.PathLike[str], functions: Mapping[str, Callable[..., Any]] | None = None) -> Fit:
    """Read a fit that `Fit.save` wrote; it predicts, summarises and prints like the original.

    Parameters
    ----------
    path
        The file.
    functions
        Functions of the caller that the formula uses; code is never stored.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, not bayou's, or from a newer version.
    """
    return Fit(storage.load(path, functions))

"""Runs that live in a folder: going on with one, and saving what can be read of a damaged one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bayou.fitting.fitted import Fit

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["resume", "salvage"]

Functions = Mapping[str, Callable[..., Any]]


def resume(
    folder: str | os.PathLike[str],
    model: Model | None = None,
    functions: Functions | None = None,
    cores: int | None = None,
    progress: bool | None = None,
    client: Any = None,
) -> Fit:
    """Go on with a run that ``bayou.fit(..., store=folder)`` began, however it ended.

    The draws are the same, to the last bit, as if the run had never been interrupted. A run that is complete is
    returned as it is.

    Parameters
    ----------
    folder
        As it was given to ``store``.
    model
        The model that you take it to be of, to be sure; by default the one that the folder holds.
    functions
        Functions of the caller that the formula uses; code is never stored.
    cores, progress
        As in the engines.
    client
        As of `bayou.fit`: the chains go on over the workers of a cluster. A run with ``shards=`` goes on with as many;
        None makes a cluster in this process for it.

    Raises
    ------
    FileError
        If the folder holds no run, the run of another model, other data or another version, if a file is damaged,
        or if another process works in it.

    Examples
    --------
    >>> import bayou, tempfile
    >>> clinic = bayou.datasets.load("clinic")
    >>> folder = tempfile.mkdtemp()
    >>> text = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(text, clinic, family="binomial", seed=1, draws=100, store=folder)
    >>> again = bayou.resume(folder)
    >>> bool((again.result.draws["beta"] == fit.result.draws["beta"]).all())
    True
    """
    from bayou.engines.store import open_store

    store = open_store(folder, model, functions, store=folder, cores=cores, progress=progress)
    started = time.perf_counter()
    if store.shards is not None:
        from bayou.cluster.sharded import resume_sharded

        return _fit(resume_sharded(store, client, cores), store.seed, started)
    if client is None:
        return _fit(store.engine.resume(store), store.seed, started)
    from bayou.cluster import over

    with over(client, cores):
        return _fit(store.engine.resume(store), store.seed, started)


def salvage(folder: str | os.PathLike[str], functions: Functions | None = None) -> Fit:
    """Return the draws of a stored run that can be read, without going on with it.

    A run may be unfinished or have damaged files: draws that all chains have whole are returned, and the messages
    of the fit name the files that are damaged.

    Parameters
    ----------
    folder
        As it was given to ``store``.
    functions
        Functions of the caller that the formula uses; code is never stored.

    Raises
    ------
    FileError
        If the folder holds no run, or its model or all of its draws are damaged.
    """
    from bayou.engines.store import open_store

    store = open_store(folder, None, functions, exactly=False, store=folder)
    started = time.perf_counter()
    if store.shards is not None:
        from bayou.cluster.sharded import salvage_sharded

        return _fit(salvage_sharded(store), store.seed, started)
    return _fit(store.engine.salvage(store), store.seed, started)


def _fit(result: Any, seed: Any, started: float) -> Fit:
    result.info["seconds"] = time.perf_counter() - started
    result.info["seed"] = seed
    return Fit(result)

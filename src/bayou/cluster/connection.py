"""The cluster that a run is given: a client of Dask's, or one made in this process; what its workers must have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from bayou.engines.chains import ELSEWHERE
from bayou.engines.store import versions
from bayou.errors import DataError, ResourceError, Unsupported

ALLOWED_FAILURES = 3  # of Dask's own setting, where it cannot be read


def distributed() -> Any:
    """Return Dask's `distributed`.

    Raises
    ------
    Unsupported
        Where it is not installed.
    """
    try:
        import distributed as module
    except ImportError as error:
        raise Unsupported(
            "client= runs the model on a cluster of Dask, which is not installed here: pip install 'bayou[cluster]'."
        ) from error
    return module


@contextmanager
def connected(client: Any, cores: int | None = None) -> Iterator[Any]:
    """Return a client that works, for the time of the block: the one given, or one in this process for "local".

    Raises
    ------
    DataError
        If it is neither, or has been closed.
    ResourceError
        If it has no workers.
    Unsupported
        Without Dask, or where a worker has not the bayou, NumPy or Numba of this process.
    """
    module = distributed()
    if isinstance(client, str):
        if client != "local":
            raise DataError(
                f"client={client!r}: give 'local' for a run in this process, or distributed.Client({client!r})."
            )
        with module.Client(
            processes=False, n_workers=1, threads_per_worker=cores or os.cpu_count() or 1, dashboard_address=":0"
        ) as own:
            yield own
        return
    if not isinstance(client, module.Client) or client.asynchronous:
        kind = "an asynchronous Client" if isinstance(client, module.Client) else f"a {type(client).__name__}"
        raise DataError(f"client is {kind}: give a distributed.Client that is not asynchronous, or 'local'.")
    if client.status != "running":
        raise DataError(f"The client is {client.status}: connect again, distributed.Client(address).")
    check_workers(client)
    yield client


def present() -> Any:
    """Return Dask's default client, or "local" if there is none."""
    try:
        return distributed().default_client()
    except ValueError:
        return "local"


def workers_of(client: Any) -> list[str]:
    """Return the addresses of the workers that there are, in their order."""
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


def check_workers(client: Any) -> None:
    """Hold the workers to this process: the draws of another version or machine would be others.

    Raises
    ------
    ResourceError
        If there are none.
    Unsupported
        If one of them cannot import bayou, or has other versions: which.
    """
    try:
        found = client.run(versions, on_error="return")
    except Exception as error:  # a cluster fails in many ways
        said = f"The cluster does not answer ({error}): connect again, distributed.Client(address)."
        raise DataError(said) from error
    if not found:
        raise ResourceError("The cluster has no workers: start some (dask worker tcp://scheduler:8786), then fit.")
    for address, theirs in sorted(found.items()):
        if not isinstance(theirs, Mapping):
            raise Unsupported(
                f"The worker {address} cannot load bayou ({type(theirs).__name__}: {theirs}): install the same version "
                "of bayou there."
            )
        difference = different(theirs)
        if difference is not None:
            raise Unsupported(f"The worker {address} {difference}")


def different(theirs: Mapping[str, str]) -> str | None:
    """Say in what another process differs so that its draws would, or None."""
    for name, ours in versions().items():
        if theirs.get(name) != ours:
            return (
                f"has {name} {theirs.get(name)}, and this process {ours}: it would not make the same draws. Install "
                "the same on all machines."
            )
    return None


def allowed_failures() -> int:
    """Return how many workers a task may lose before it is given up, as Dask is configured."""
    import dask

    return int(dask.config.get("distributed.scheduler.allowed-failures", ALLOWED_FAILURES))


@contextmanager
def over(client: Any, cores: int | None = None) -> Iterator[Any]:
    """Within this block chains run over the workers of ``client``, or of a cluster in this process for "local".

    Parameters
    ----------
    client
        A ``distributed.Client``, or "local".
    cores
        Threads of the cluster in this process; None takes one for each processor.

    Raises
    ------
    DataError, ResourceError, Unsupported
        As `connected`.
    """
    with connected(client, cores) as chosen:
        from bayou.cluster.chains import run_chains

        token = ELSEWHERE.set(partial(run_chains, chosen))
        try:
            yield chosen
        finally:
            ELSEWHERE.reset(token)

"""Many machines: chains over the workers of a Dask cluster, and the groups of one large model over them.

Dask is imported here and in the files of this room only, when a ``client=`` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayou.cluster.connection import connected, over, present
from bayou.cluster.frames import Partitions, is_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["fit_frame", "is_frame", "over", "run_shards"]


def run_shards(engine: Engine, model: Model, rng: np.random.Generator, client: Any, shards: int) -> Posterior:
    """Run an engine with the groups of a model sharded over the workers of a client."""
    from bayou.cluster.sharded import check, run_sharded
    from bayou.engines.inla import INLA
    from bayou.engines.laplace import Laplace
    from bayou.engines.metropolis import Metropolis

    chosen = check(engine, model, shards)
    with connected(client, getattr(chosen, "cores", None)) as cluster:
        if isinstance(chosen, Laplace):
            from bayou.cluster.marginal import run_marginal

            return run_marginal(chosen, model, rng, cluster, shards)
        if isinstance(chosen, INLA):
            from bayou.cluster.nested import run_nested

            return run_nested(chosen, model, rng, cluster, shards)
        assert isinstance(chosen, Metropolis)
        return run_sharded(chosen, model, rng, cluster, shards)


def fit_frame(
    bound: Callable[[Any], Model], data: Any, engine: Engine, rng: np.random.Generator, client: Any, shards: int | None
) -> Posterior:
    """Fit a model to a data frame of Dask, over the workers that hold it.

    Parameters
    ----------
    bound
        Makes the model of a table, or of rows that stream.
    data
        The data frame.
    client
        None takes Dask's default client, or a cluster in this process if there is none.
    shards
        None takes `usual_shards` where engine and model can be sharded, and else runs chains over the workers.
    """
    from bayou.cluster.sharded import shardable, usual_shards

    with connected(present() if client is None else client, getattr(engine, "cores", None)) as cluster:
        model = bound(Partitions(data, cluster))
        if shards is None and shardable(engine, model):
            shards = usual_shards(model)
        if shards is not None:
            return run_shards(engine, model, rng, cluster, shards)
        with over(cluster):
            return engine.run(model, rng)

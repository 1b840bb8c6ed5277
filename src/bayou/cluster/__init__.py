"""Many machines: chains over the workers of a Dask cluster, and the groups of one large model over them.

Dask is imported here and in the files of this room only, when a ``client=`` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayou.cluster.connection import connected, over

if TYPE_CHECKING:
    import numpy as np

    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["over", "run_shards"]


def run_shards(engine: Engine, model: Model, rng: np.random.Generator, client: Any, shards: int) -> Posterior:
    """Run an engine with the groups of a model sharded over the workers of a client."""
    from bayou.cluster.sharded import check, run_sharded
    from bayou.engines.laplace import Laplace
    from bayou.engines.metropolis import Metropolis

    chosen = check(engine, model, shards)
    with connected(client, getattr(chosen, "cores", None)) as cluster:
        if isinstance(chosen, Laplace):
            from bayou.cluster.marginal import run_marginal

            return run_marginal(chosen, model, rng, cluster, shards)
        assert isinstance(chosen, Metropolis)
        return run_sharded(chosen, model, rng, cluster, shards)

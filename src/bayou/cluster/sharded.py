"""Metropolis-within-Gibbs with the groups of one factor sharded over workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster.cutting import Cut
from bayou.cluster.fleet import Fleet
from bayou.cluster.leader import Head, Leader
from bayou.cluster.sweep import SweepChain
from bayou.effects.iid import tabulate
from bayou.engines.centring import centring
from bayou.engines.contract import contract
from bayou.engines.draws import Draws, Plan
from bayou.engines.inla import INLA
from bayou.engines.laplace import Laplace
from bayou.engines.metropolis import Metropolis
from bayou.engines.nested.grouped import suitable
from bayou.engines.starts import no_start, starting_effects, starting_factors, starting_scale
from bayou.errors import DataError, Unsupported
from bayou.linalg.schur import Border
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior

SHARDS = 12  # at least: as many workers as divide it have the same work
ROWS = 80_000  # of a shard, above that: they stay in the cache through all that a message asks for
THREADS = 64  # leaders that wait for answers take no processor


def check(engine: Engine, model: Model, shards: Any) -> Metropolis | Laplace | INLA:
    """Return the engine that shards the groups of a model.

    Raises
    ------
    DataError
        For an impossible number of shards.
    Unsupported
        For an engine or a model that cannot be sharded: what to do instead.
    """
    if not isinstance(shards, (int, np.integer)) or isinstance(shards, bool) or shards < 1:
        raise DataError(f"shards={shards!r}: give a whole number of at least 1, such as 12.")
    if engine.name == "auto":
        names = {f.name for f in fields(Metropolis)}
        own = {f.name: getattr(engine, f.name) for f in fields(engine) if f.name in names}
        engine = Metropolis(**own)
    if isinstance(engine, Laplace):
        _check_model(model)
        return engine
    if isinstance(engine, INLA):
        _check_model(model)
        _check_nested(engine, model)
        return engine
    if not isinstance(engine, Metropolis):
        raise Unsupported(
            "shards= divides the groups of a model over workers, which engine='metropolis', 'laplace' and 'inla' can; "
            f"this is engine={engine.name!r}. Leave shards= out: its chains run over the workers."
        )
    if engine.proposal != "laplace":
        raise Unsupported("shards= works with proposal='laplace'. Leave shards= out for the random walk.")
    if engine.store is not None:
        raise Unsupported(
            "A sharded run has its checkpoints with its leader, not in a folder: leave store= out, or shards=."
        )
    _check_model(model)
    return engine


def usual_shards(model: Model) -> int:
    """Return how many shards a model is cut into: by its rows alone, since the last digits of sums follow from it."""
    return SHARDS * max(1, round(model.design.n / (SHARDS * ROWS)))


def shardable(engine: Engine, model: Model) -> bool:
    """Whether this engine is one that shards, and takes this model in shards."""
    if engine.name not in (Metropolis.name, Laplace.name, INLA.name):
        return False
    try:
        check(engine, model, SHARDS)
    except Unsupported:
        return False
    return True


def _check_model(model: Model) -> None:
    design = model.design
    if design.given != design.n:
        raise Unsupported(
            f"The {design.given:,} rows were reduced to {design.n:,}, which need no shards: leave shards= out."
        )
    if design.structured or len(design.groupings) != 1:
        what = "structured effects" if design.structured else f"{len(design.groupings)} grouping factors"
        raise Unsupported(
            f"shards= divides the groups of one grouping factor over workers; this model has {what}. Leave shards= "
            "out: its chains run over the workers."
        )
    if len(design.sigma_levels) > 1 and model.family.name != "gaussian":
        raise Unsupported("shards= takes one dispersion for all rows; leave sigma_by= or shards= out.")
    if model.family.own:
        raise Unsupported("shards= works with families that bayou knows. Leave shards= out.")


def _check_nested(engine: INLA, model: Model) -> None:
    if model.family.name == "gaussian":
        raise Unsupported(
            "shards= takes INLA for counts, proportions and the like: rows of a Gaussian response are summed, and need "
            "no shards. Leave shards= out."
        )
    if not suitable(model):
        raise Unsupported(
            "shards= takes INLA with one or two coefficients a group, which its check integrates by quadrature. Use "
            "engine='metropolis', or leave shards= out."
        )
    if engine.strategy == "simplified_laplace":
        raise Unsupported(
            "strategy='simplified_laplace' solves for every coefficient one by one, which shards= is not for. Leave "
            "strategy= out."
        )


class Sharded:
    """A model whose rows are with a fleet: what leaders know of it."""

    def __init__(self, model: Model) -> None:
        working = model.working
        grouping = model.design.groupings[0]
        self.model, self.name = model, grouping.name
        self.P, self.p = len(working.mean), len(grouping.coefficients)
        self.levels = len(grouping.levels)
        moves = centring(model, (0,))
        self.moves, self.E = moves, len(moves.at)
        self.blocks = tabulate(model.bound.blocks)
        none = np.zeros(0, dtype=np.int64)
        self.leader = Leader(
            blocks=self.blocks,
            border=Border(none, none, none, 0, working.precision, working.precision @ working.mean),
            beta_codes=working.codes,
            beta_parameters=working.parameters,
            curvature=working.curvature,
            levels=float(self.levels),
            coefficient=moves.coefficient,
            direction=moves.direction,
            reading=moves.reading,
            moments=moves.moments,
            prior=moves.prior,
        )
        self.packed = packed(self.leader)
        self.gaussian = model.family.name == "gaussian"
        self.dispersed = model.family.dispersion is not None and not model.dispersion_known
        self.dispersion_code = int(model.bound.dispersion_code)
        self.dispersion_parameters = np.asarray(model.bound.dispersion_parameters, dtype=np.float64)
        codes = model.design.sigma_codes
        self.sigma_rows = np.bincount(codes, minlength=len(model.design.sigma_levels)).astype(np.float64)

    def new_head(self, spread: float) -> Head:
        """Allocate the leader of one chain."""
        model, P, p, E = self.model, self.P, self.p, self.E
        B, m = self.blocks.A.shape
        k = max(P, p, m, E, p * (p + 1) // 2, 1)
        sigma = starting_scale(model, 1.0)
        if model.family.dispersion is None:
            dispersion = np.zeros(0)
        else:
            dispersion = sigma if self.gaussian else 1.0 / sigma**2
        return Head(
            beta=np.zeros(P),
            L=starting_factors(model, self.blocks, spread),
            dispersion=dispersion,
            tune=np.full((B, m + 1), -1.0),
            step=np.full(1, -1.0),
            walk=np.full(1, np.log(0.5)),
            scatter=np.zeros((p, p)),
            sums=np.zeros((E, p)),
            Q=np.zeros((p, p)),
            Sigma=np.zeros((p, p)),
            proposed=np.zeros((B, m, m)),
            Q_new=np.zeros((p, p)),
            d=np.zeros(E),
            vectors=np.zeros((4, k)),
            work=np.zeros((7, k, k)),
        )

    def starts(self, rng: np.random.Generator) -> Iterator[Array]:
        """Yield starting points of the fixed effects, the best first."""
        yield from starting_effects(self.model, rng)

    def no_start(self) -> str:
        """Say why there is none."""
        return no_start(self.model)


def run_sharded(
    engine: Metropolis, model: Model, rng: np.random.Generator, client: Any, shards: int
) -> Posterior:
    """Run the sampler with the groups of the model on the workers of a client."""
    sharded = Sharded(model)
    fleet = Fleet(client, Cut(model, sharded.moves, shards))
    try:
        values = {f.name: getattr(engine, f.name) for f in fields(Metropolis)} | {"cores": THREADS}
        result = _Running(**values).over(sharded, fleet).run(model, rng)
    finally:
        with suppress(Exception):
            fleet.close()
    result.engine = result.info["settings"] = engine.describe()
    result.info["shards"] = len(fleet.pieces)
    result.info["workers"] = sorted({seat.worker for seat in fleet.seats})
    result.info.pop("cores", None)
    return result


@dataclass(frozen=True, kw_only=True)
class _Running(Metropolis):
    """The settings of a `Metropolis`, with what runs them."""

    def over(self, sharded: Sharded, fleet: Fleet) -> _Running:
        """Take the model and its workers."""
        object.__setattr__(self, "_over", (sharded, fleet))
        return self

    def prepare(self, model: Model) -> Plan:
        """Return chains that lead shards."""
        sharded: Sharded
        fleet: Fleet
        sharded, fleet = self._over  # type: ignore[attr-defined]
        q = sharded.levels * sharded.p
        B, m = sharded.blocks.A.shape
        S = len(sharded.sigma_rows) if model.family.dispersion is not None else 0

        def shape(draws: int, with_b: bool) -> Draws:
            return Draws(
                np.empty((draws, sharded.P)), np.empty((draws, q if with_b else 0)), np.zeros((draws, B, m, m)),
                np.empty((draws, S)), {},
            )  # fmt: skip

        return Plan(
            new_chain=lambda rng: SweepChain(sharded, fleet, rng),
            shape=shape,
            coefficients=q,
            finish=lambda chains: contract(model, (0,), sharded.blocks, chains),
            messages=(),
            method=f"Laplace proposals by group, in {len(fleet.pieces)} shards",
        )

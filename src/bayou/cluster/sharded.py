"""Metropolis-within-Gibbs with the groups of one factor sharded over workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster.connection import connected
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
from bayou.engines.record import Record
from bayou.engines.starts import no_start, starting_effects, starting_factors, starting_scale
from bayou.engines.stream import StoredRecord
from bayou.errors import DataError, FileError, Unsupported
from bayou.linalg.schur import Border
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.engines.chains import Progress
    from bayou.engines.store import Store
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

    def shape(self, draws: int, with_b: bool) -> Draws:
        """Return empty draws."""
        B, m = self.blocks.A.shape
        S = len(self.sigma_rows) if self.model.family.dispersion is not None else 0
        return Draws(
            np.empty((draws, self.P)), np.empty((draws, self.levels * self.p if with_b else 0)),
            np.zeros((draws, B, m, m)), np.empty((draws, S)), {},
        )  # fmt: skip

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
    running = _Running.of(engine, model, shards, nullcontext(client))
    return running.told(running.run(model, rng), engine)


def resume_sharded(store: Store, client: Any, cores: int | None = None) -> Posterior:
    """Go on with a stored run on the workers of a client, or of a cluster in this process if that is None.

    A run that is complete takes neither.

    Raises
    ------
    FileError
        If its rows were in files that are not there any more, or as `StoredRecord.take_up`.
    """
    reduced = store.model.design.reduced
    if reduced is not None and reduced.how == "gone":
        raise FileError(
            f"The {reduced.given:,} rows of the run in {store.path} were in temporary files, which are gone: read them "
            "again and give the model, bayou.resume(folder, model). With stream='rows' they stay in a folder 'rows'."
        )
    engine = store.engine
    assert isinstance(engine, Metropolis) and store.shards is not None
    cluster = connected("local" if client is None else client, cores)
    running = _Running.of(engine, store.model, store.shards, cluster)
    return running.told(running.resume(store), engine)


def salvage_sharded(store: Store) -> Posterior:
    """Return the sound draws of a folder; this takes no cluster."""
    engine = store.engine
    assert isinstance(engine, Metropolis) and store.shards is not None
    running = _Running.of(engine, store.model, store.shards, nullcontext())
    return running.told(running.salvage(store), engine)


@dataclass(frozen=True, kw_only=True)
class _Running(Metropolis):
    """The settings of a `Metropolis`, with what runs them."""

    @classmethod
    def of(
        cls, engine: Metropolis, model: Model, shards: int, cluster: AbstractContextManager[Any]
    ) -> _Running:
        """Take the settings, the model, and what enters a cluster when there are chains to run."""
        values = {f.name: getattr(engine, f.name) for f in fields(Metropolis)} | {"cores": THREADS}
        made = cls(**values)
        sharded = Sharded(model)
        object.__setattr__(made, "_crew", _Crew(sharded, Cut(model, sharded.moves, shards), shards, cluster))
        return made

    @property
    def crew(self) -> _Crew:
        """The model, how it is cut, and who has its rows."""
        return self._crew  # type: ignore[attr-defined]

    def told(self, result: Posterior, engine: Metropolis) -> Posterior:
        """Say of a result what the user's settings were, and what ran them."""
        crew = self.crew
        result.engine = result.info["settings"] = engine.describe()
        result.info["shards"] = len(crew.cut)
        if crew.fleet is not None:
            result.info["workers"] = sorted({seat.worker for seat in crew.fleet.seats})
        result.info.pop("cores", None)
        return result

    def complete(self, plan: Plan, store: Store) -> Posterior | None:
        """Return the result of a stored run that is complete, or None if there is something left to do."""
        keep = self._keeps_effects(plan)
        records = [store.record(c, plan, self.draws, keep) for c in range(self.chains)]
        for record in records:
            if record.take_up() is None or not record.take_groups():
                return None
        return self._collect(store.model, plan, records, store)

    def _sample(
        self, model: Model, rng: np.random.Generator, plan: Plan, started: float, store: Store | None = None
    ) -> Posterior:
        """Send the rows to the workers, after the folder has been found in order, and run the chains."""
        crew, result = self.crew, None if store is None else self.complete(plan, store)
        if result is not None:
            return result
        with crew.cluster as client:
            crew.fleet = Fleet(client, crew.cut)
            try:
                return super()._sample(model, rng, plan, started, store)
            finally:
                with suppress(Exception):
                    crew.fleet.close()

    def _chain(self, plan: Plan, rng: np.random.Generator, number: int, record: Record, progress: Progress) -> None:
        super()._chain(plan, rng, number, record, progress)
        if isinstance(record, StoredRecord):
            record.keep_groups()

    def prepare(self, model: Model) -> Plan:
        """Return chains that lead shards."""
        crew = self.crew
        sharded, cut = crew.sharded, crew.cut

        def new_chain(rng: np.random.Generator) -> SweepChain:
            assert crew.fleet is not None
            return SweepChain(sharded, crew.fleet, rng)

        return Plan(
            new_chain=new_chain,
            shape=sharded.shape,
            coefficients=sharded.levels * sharded.p,
            finish=lambda chains: contract(model, (0,), sharded.blocks, chains),
            messages=(),
            method=f"Laplace proposals by group, in {len(cut)} shards",
            shards=crew.shards,
        )


@dataclass
class _Crew:
    sharded: Sharded
    cut: Cut
    shards: int  # asked for; there are no more than groups
    cluster: AbstractContextManager[Any]
    fleet: Fleet | None = None

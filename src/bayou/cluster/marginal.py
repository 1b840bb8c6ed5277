"""The marginal likelihood of a model whose groups are sharded: log p(y | beta, theta) is a sum over them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.cluster.cutting import Edges
from bayou.cluster.fleet import Fleet, Talk
from bayou.cluster.words import Word
from bayou.conditional.laplace import Laplace
from bayou.conditional.parameters import Parameters
from bayou.engines.marginal.generic import maximised
from bayou.errors import Unsupported
from bayou.model import Model

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.engines.laplace import Laplace as Engine
    from bayou.posterior import Posterior


class MarginalRows:
    """Rows of some groups as a model of their own, in the coordinates of the whole."""

    def __init__(self, model: Model, numbers: Parameters, beta_unit: Array, scale: float) -> None:
        self.model, self.numbers, self.beta_unit, self.scale = model, numbers, beta_unit, scale

    def begin(self, seed: Any) -> MarginalShard:
        """Return the approximation of these rows."""
        of = Laplace(self.model)
        of.numbers, of.beta_unit, of.scale = self.numbers, self.beta_unit, self.scale
        return MarginalShard(of)


class MarginalShard:
    """The Laplace approximation of some groups, which remembers its last mode."""

    def __init__(self, of: Laplace) -> None:
        self.of = of

    def follow(self, message: Sequence[Word]) -> Array:
        """Return value and gradient (1 + size,) at the last of the points."""
        out = np.zeros(0)
        for _, psi in message:
            value, slopes = self.of.evaluate(psi)
            out = np.concatenate([[value], slopes])
        return out

    def snapshot(self) -> dict[str, Any]:
        """Nothing: all points are said again, as each search begins at the mode of the one before."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


class ShardedLaplace(Laplace):
    """The approximation of the whole, evaluated on the workers; the result is put together from its rows here."""

    talk: Talk | None = None

    def again(self, integrated: bool) -> Laplace:
        """Return the approximation here: it is where a maximisation begins."""
        return Laplace(self.model, integrated, self.priors, self.data)

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return minus the log marginal likelihood (with priors: minus the log posterior) and its gradient (size,)."""
        if self.talk is None:  # the run is over
            return super().evaluate(psi)
        if not np.isfinite(psi).all():
            return np.inf, np.zeros(self.size)
        answers = self.talk.say([("at", psi.copy())])
        total = answers[0].copy()
        for row in answers[1:]:
            total += row
        value, slopes = float(total[0]), total[1:]
        if not np.isfinite(value):
            return np.inf, np.zeros(self.size)
        if self.priors:
            prior = self.log_prior(psi)
            if not np.isfinite(prior):
                return np.inf, np.zeros(self.size)
            value, slopes = value - prior, slopes - self._prior_slopes(psi)
        return value, slopes


def part_of(model: Model, rows: Any, low: int, high: int) -> Model:
    """Return the model of some rows, those of groups ``low`` to ``high``; priors and working coordinates are shared."""
    design: Design = model.design
    grouping = design.groupings[0]
    own = replace(
        grouping, levels=grouping.levels[low:high], codes=grouping.codes[rows] - low,
        Z=np.ascontiguousarray(grouping.Z[rows]),
    )  # fmt: skip
    names = ("y", "trials", "weights", "offset")
    arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(design, name)[rows]) for name in names}
    errors = None if design.standard_errors is None else design.standard_errors[rows]
    smaller = replace(
        design, **arrays, standard_errors=errors, X=design.X[rows], groupings=(own,),
        sigma_codes=design.sigma_codes[rows], data={}, categories={}, index=design.index[rows],
    )  # fmt: skip
    out = Model.__new__(Model)
    out.priors_given = False
    out._set(smaller, model.bound, ())
    columns = "printed" if hasattr(model.working, "printed") else "X"
    out.__dict__["working"] = replace(model.working, **{columns: getattr(model.working, columns)[rows]})
    return out


def pieces_of(of: Laplace, shards: int) -> list[MarginalRows]:
    """Cut a model with one grouping factor between its groups."""
    edges = Edges(of.model, shards)
    parts = (edges.part(k) for k in range(len(edges)))
    return [
        MarginalRows(part_of(of.model, rows, low, high), of.numbers, of.beta_unit, of.scale)
        for low, high, rows in parts
    ]


def run_marginal(engine: Engine, model: Model, rng: np.random.Generator, client: Any, shards: int) -> Posterior:
    """Maximise the Laplace approximation with the groups on the workers of a client."""
    if engine.reml:
        raise Unsupported(
            "shards= works with Laplace(), whose criterion is a sum over groups; with reml=True the fixed effects tie "
            "them together. Leave shards= or reml= out."
        )
    of = ShardedLaplace(model, False, model.priors_given)
    fleet = Fleet(client, pieces_of(of, shards))
    try:
        of.talk = Talk(fleet, [None] * len(fleet.pieces))
        result = maximised(model, engine, of, rng, method="Laplace")
        if result.estimates is not None:
            result.estimates.se  # noqa: B018  by differences of gradients: while the workers are there
    finally:
        if of.talk is not None:
            of.talk.close()
        of.talk = None
        with suppress(Exception):
            fleet.close()
    result.info["shards"] = len(fleet.pieces)
    result.info["workers"] = sorted({seat.worker for seat in fleet.seats})
    return result

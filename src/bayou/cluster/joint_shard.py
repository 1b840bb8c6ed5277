"""The rows of some groups for engines that approximate: a shard that follows `bayou.cluster.joint`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bayou._types import Array
from bayou.cluster.cutting import Parts
from bayou.cluster.words import NOTHING, Word
from bayou.conditional.partial import PartialLaplace
from bayou.conditional.rows import project
from bayou.engines.nested.grouped import GroupLikelihood
from bayou.engines.nested.likelihood import Likelihood
from bayou.engines.nested.variational import farthest, force
from bayou.model import Model

__all__ = ["JointCut", "JointRows", "JointShard"]


class JointRows:
    """Rows of some groups as a model of their own, in the coordinates of the whole."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def begin(self, seed: Any) -> JointShard:
        """Return the approximation of these rows; it takes no random numbers."""
        return JointShard(self.model)


class JointCut:
    """The shards of a model as they are sent, each made when it is asked for."""

    def __init__(self, model: Model, shards: int) -> None:
        self.parts = Parts(model, shards)
        self.edges = self.parts.edges

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> JointRows:
        return JointRows(self.parts[k])


class JointShard(PartialLaplace):
    """The approximation of some groups, with what INLA asks of their rows.

    Messages are words named as the methods are; answers add up over the shards, if nothing else is said.
    """

    def follow(self, message: Sequence[Word]) -> Array:
        """Do what a message says; returns the numbers that it asks for."""
        answers = [getattr(self, word[0])(*word[1:]) for word in message]
        return np.concatenate([a for a in answers if a is not None] or [NOTHING])

    def snapshot(self) -> dict[str, Any]:
        """Return what a search begins from; every other word follows one, and is said again."""
        state = {"u": self.point.u.copy()}
        if "divided" in self.__dict__:
            state["divided"] = self.divided.states.u.copy()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a `snapshot`."""
        self.point.u[:] = state["u"]
        if "divided" in state:
            self.divided.states.u[:] = state["divided"]

    # ---- the corrected mean ------------------------------------------------------------------

    @cached_property
    def likelihood_of_rows(self) -> Likelihood:
        """The rows, in the order of the groups."""
        return Likelihood(self.model)

    def begin_tilt(self) -> None:
        """Start at the mode; `spread` comes before."""
        self.shift, self.r = np.zeros(len(self.data.y)), np.zeros(len(self.data.y))
        self.moved = np.zeros(self.point.u.size)
        self.sd = np.sqrt(np.maximum(self.work.leverage, 0.0))
        phi = self.row_dispersion if self.levels else None
        self.by_row = None if phi is None else np.full(len(self.data.y), phi)

    def tilt(self) -> Array:
        """Return what the force on the rows leaves for the fixed effects (P,)."""
        there = self.point.eta, self.point.gradient, self.point.weight
        self.r = force(self.likelihood_of_rows, self.by_row, there, self.shift, self.sd)
        own, rest = self._forces()
        return self.forward(own) + rest

    def _forces(self) -> tuple[Array, Array]:
        own, rest = np.zeros_like(self.point.u), np.zeros(len(self._linear))
        project(self._rows, self.r, self.q, own, rest)
        return own, rest

    def tilted(self, rest: Array) -> Array:
        """Return how far the step to a move of the fixed effects (P,) takes a row at most (1,): no sum, the largest."""
        self.step = self.back(rest) - self.moved
        # of the whole move: what is left of it is the step
        self.change = self.seen() - self.shift
        return np.array([farthest(self.change, self.sd) if np.isfinite(self.change).all() else np.nan])

    def take_tilt(self, size: float) -> None:
        """Take so much of the step."""
        self.moved += size * self.step
        self.shift += size * self.change

    def end_tilt(self) -> Array:
        """Return the move of the coefficients and the force on them (2 J p,), then that on the fixed effects (P,)."""
        own, rest = self._forces()
        return np.concatenate([self.moved, own.ravel(), rest])

    # ---- groups by quadrature ----------------------------------------------------------------

    @cached_property
    def divided(self) -> GroupLikelihood:
        """The groups integrated one by one."""
        return GroupLikelihood(self.model)

    def evaluated(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return log p(y | beta, theta) (S,) at fixed effects (S, P)."""
        return self.divided.evaluated(beta, T, dispersion)

    def refined(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return what more nodes would add (1,)."""
        return np.array([self.divided.refined(beta, T, dispersion)])

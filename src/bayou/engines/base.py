"""What every engine is: frozen settings and one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class Engine(ABC):
    """Abstract engine: `run` takes a model and a generator and returns a `Posterior`.

    A subclass is a frozen dataclass of settings. `run` raises `bayou.errors.Unsupported`, before any
    work, for a model it cannot take: what it needs, what this model has, which engine can.
    """

    name: ClassVar[str]
    maximises: ClassVar[bool] = False
    """Whether it maximises a likelihood, and uses priors only where some are given."""

    @abstractmethod
    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit ``model``."""

    def describe(self) -> str:
        """Return the engine and the settings that differ from its defaults, as one would type them."""
        shown = [f for f in fields(self) if f.name != "store"]  # where a run is kept is no part of what it is
        changed = [f"{f.name}={getattr(self, f.name)!r}" for f in shown if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(changed)})"

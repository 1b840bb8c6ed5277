"""Proposals for the hyperparameters, z held: a random walk and an independent t, fitted in warm-up, then frozen."""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.tuning import looks_normal, refit

DF = 5.0  # of the independent proposal
WIDEN = 1.1  # its scale over that of the fitted normal
TARGET = 0.3  # acceptance of the random walk
AGED = 20  # draws of the random walk before its scale moves by less


class Proposals:
    """Centre and spread of theta as known so far, and the two proposals made from them.

    Parameters
    ----------
    centre
        (d,), the mode at first.
    spread
        (d, d) a factor of the covariance.
    """

    def __init__(self, centre: Array, spread: Array) -> None:
        self.centre, self.spread = centre.copy(), spread.copy()
        self.scale = 2.4 / math.sqrt(max(len(centre), 1))
        self.walked = 0
        self.frozen = False
        self.skewed = True  # slices, one coordinate at a time, until the draws look normal
        self.seen: list[Array] = []
        self.before = np.empty((0, len(centre)))

    def walk(self, theta: Array, rng: np.random.Generator) -> Array:
        """Return a random-walk proposal."""
        return np.asarray(theta + self.scale * self.spread @ rng.standard_normal(len(theta)))

    def walked_with(self, chance: float) -> None:
        """Adapt the scale of the walk to the acceptance probability of a proposal, in warm-up."""
        if not self.frozen:
            self.walked += 1
            rate = min(1.0, AGED / (AGED + self.walked)) ** 0.6
            self.scale *= math.exp(rate * (chance - TARGET))

    def independent(self, rng: np.random.Generator) -> Array:
        """Return a draw of the t around the centre."""
        mixing = math.sqrt(DF / rng.chisquare(DF))
        return np.asarray(self.centre + WIDEN * mixing * self.spread @ rng.standard_normal(len(self.centre)))

    def log_density(self, theta: Array) -> float:
        """Return the log density of `independent`, up to a constant."""
        u = np.linalg.solve(self.spread, theta - self.centre) / WIDEN
        return float(-0.5 * (DF + len(theta)) * math.log1p(float(u @ u) / DF))

    @property
    def widths(self) -> Array:
        """Spread of each coordinate, for slices."""
        return np.asarray(2.0 * np.sqrt(np.square(self.spread).sum(axis=1)))

    def fit(self) -> None:
        """Fit centre and spread to the draws since the last time, with those before if they are more."""
        if not self.seen:
            return
        seen = np.array(self.seen)
        pooled = seen if len(seen) >= len(self.before) else np.concatenate([self.before, seen])
        self.centre, self.spread = refit(pooled, self.centre, self.spread)
        self.skewed = not looks_normal(pooled)
        self.before, self.seen = seen, []

    def snapshot(self) -> dict[str, Array]:
        """Return all that it knows."""
        d = len(self.centre)
        return {
            "centre": self.centre,
            "spread": self.spread,
            "facts": np.array([self.scale, self.walked, self.frozen, self.skewed], dtype=np.float64),
            "seen": np.array(self.seen).reshape(len(self.seen), d),
            "before": self.before,
        }

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up what a `snapshot` knew."""
        self.centre, self.spread, self.before = snapshot["centre"], snapshot["spread"], snapshot["before"]
        self.scale = float(snapshot["facts"][0])
        self.walked = int(snapshot["facts"][1])
        self.frozen, self.skewed = bool(snapshot["facts"][2]), bool(snapshot["facts"][3])
        self.seen = list(snapshot["seen"])

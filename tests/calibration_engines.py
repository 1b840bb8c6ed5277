"""Engines for the tests of calibration: the exact posterior of a linear model with known residual sds, and wrong ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayou.engines.base import Engine
from bayou.errors import Unsupported
from bayou.model import Model
from bayou.posterior import Posterior
from bayou.priors import Normal


def linear_model(rows: int = 12, **priors: object) -> Model:
    """measured(y, se) ~ x with normal priors: its posterior is a normal distribution in closed form."""
    rng = np.random.default_rng(4)
    data = {"y": rng.normal(size=rows), "x": rng.normal(size=rows), "se": rng.uniform(0.5, 1.5, rows)}
    return Model("measured(y, se) ~ x", data, priors=priors or {"beta": Normal(0.3, 0.8)})


@dataclass(frozen=True, kw_only=True)
class Exact(Engine):
    """Independent draws of the posterior, wrong by as much as is asked for."""

    name: ClassVar[str] = "exact"
    draws: int = 250
    chains: int = 2
    bias: float = 0.0
    ratio: float = 1.0
    of_prior: bool = False
    no_prior: bool = False
    fails_above: float = np.inf  # of the mean response
    refuses: bool = False
    dies: bool = False

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Draw from the posterior, or do what is asked for instead."""
        design, bound = model.design, model.bound
        if self.refuses:
            raise Unsupported("Exact takes no models today.")
        if design.y.mean() > self.fails_above:
            raise ArithmeticError(f"the mean of y is {design.y.mean():.3f}\nand more")
        if self.dies:
            os._exit(3)
        W = (0.0 if self.of_prior else 1.0) * design.X.T / design.standard_errors**2
        P = (0.0 if self.no_prior else 1.0) * bound.beta_precision
        precision, linear = P + W @ design.X, P @ bound.beta_mean + W @ design.y
        root = np.linalg.inv(np.linalg.cholesky(precision)).T
        sd = np.sqrt(np.diag(root @ root.T))
        z = rng.standard_normal((self.chains, self.draws, len(sd)))
        beta = np.linalg.solve(precision, linear) + self.bias * sd + self.ratio * (z @ root.T)
        return Posterior(model=model, engine=self.describe(), draws={"beta": beta}, info={"messages": []})

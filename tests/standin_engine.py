"""An engine that maximises a likelihood in closed form: least squares, and the balanced one-way layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayou.engines.base import Engine
from bayou.errors import Unsupported
from bayou.model import Model
from bayou.posterior import DrawnOnDemand, Errors, Estimates, Posterior

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, kw_only=True)
class ClosedForm(Engine):
    """REML for ``y ~ columns`` without groups, or ``y ~ 1 + (1 | g)`` with groups of one size."""

    name: ClassVar[str] = "closed_form"
    chains: int = 4
    draws: int = 1000

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        design = model.design
        if model.family.name != "gaussian" or len(design.groupings) > 1:
            raise Unsupported("ClosedForm takes Gaussian models with one grouping factor at most.")
        seed = int(rng.integers(2**63))
        return self._one_way(model, seed) if design.groupings else self._least_squares(model, seed)

    def _least_squares(self, model: Model, seed: int) -> Posterior:
        X, y = model.design.X, model.design.y
        n, P = X.shape
        beta = np.linalg.lstsq(X, y, rcond=None)[0]
        df = n - P
        rss = float(np.sum((y - X @ beta) ** 2))
        sigma = np.sqrt(rss / df)
        covariance = sigma**2 * np.linalg.inv(X.T @ X)
        log_error = 1.0 / np.sqrt(2.0 * df)  # of log sigma
        determinant = np.linalg.slogdet(X.T @ X)[1]
        found = Estimates(
            method="REML",
            rows=(*(f"beta[{c}]" for c in model.design.coefficients), "sigma"),
            estimate=np.append(beta, sigma),
            scale=("identity",) * P + ("log",),
            theta=np.array([np.log(sigma)]),
            errors=Errors(
                np.append(np.sqrt(np.diag(covariance)), sigma * log_error), covariance, np.array([[log_error**2]])
            ),
            log_likelihood=float(-0.5 * (df * (LOG_2PI + 2.0 * np.log(sigma)) + determinant + df)),
            parameters=P + 1,
            observations=n,
            criterion="restricted log likelihood",
            converged=True,
            gradient=2e-9,
            iterations=1,
            df=np.full(P, float(df)),
        )

        def draw() -> dict[str, np.ndarray]:
            rng, shape = np.random.default_rng(seed), (self.chains, self.draws)
            root = np.linalg.cholesky(covariance)
            return {
                "beta": beta + rng.normal(size=(*shape, P)) @ root.T,
                "sigma": sigma * np.exp(log_error * rng.normal(size=shape)),
            }

        shapes = {"beta": (self.chains, self.draws, P), "sigma": (self.chains, self.draws)}
        return self._posterior(model, found, shapes, draw)

    def _one_way(self, model: Model, seed: int) -> Posterior:
        (grouping,) = model.design.groupings
        y, J, g = model.design.y, len(grouping.levels), grouping.name
        counts = np.bincount(grouping.codes)
        if model.design.coefficients != ("Intercept",) or grouping.Z.shape[1] != 1 or np.ptp(counts):
            raise Unsupported("ClosedForm takes y ~ 1 + (1 | g) with groups of one size.")
        N, n = len(y), int(counts[0])
        means = np.bincount(grouping.codes, y) / n
        mean = y.mean()
        within = float(np.sum((y - means[grouping.codes]) ** 2))
        between = float(n * np.sum((means - mean) ** 2))
        s2, lam = within / (N - J), between / (J - 1)  # lam = sigma² + n tau²
        singular: tuple[str, ...] = ()
        if lam <= s2:
            s2 = lam = (within + between) / (N - 1)
            singular = (f"sd_{g}[Intercept] is zero: the levels of {g} differ no more than their rows do.",)
        t2 = (lam - s2) / n
        tau, sigma = np.sqrt(t2), np.sqrt(s2)
        log_covariance = np.full((2, 2), np.nan)
        if singular:
            log_covariance[1, 1] = 1.0 / (2.0 * (N - 1))
        else:
            of_s2, of_lam = 2.0 * s2**2 / (N - J), 2.0 * lam**2 / (J - 1)
            scale = np.array([1.0 / (2.0 * t2), 1.0 / (2.0 * s2)])  # d log sd / d variance
            variances = np.array([[(of_lam + of_s2) / n**2, -of_s2 / n], [-of_s2 / n, of_s2]])
            log_covariance = variances * np.outer(scale, scale)
        log_errors = np.sqrt(np.diag(log_covariance))
        k = n * t2 / lam
        found = Estimates(
            method="REML",
            rows=("beta[Intercept]", f"sd_{g}[Intercept]", "sigma"),
            estimate=np.array([mean, tau, sigma]),
            scale=("identity", "log", "log"),
            theta=np.log([max(tau, 1e-300), sigma]),
            errors=lambda: Errors(
                np.array([np.sqrt(lam / N), tau * log_errors[0], sigma * log_errors[1]]),
                np.array([[lam / N]]),
                log_covariance,
            ),
            log_likelihood=-0.5
            * float(
                (N - 1) * LOG_2PI
                + (N - J) * np.log(s2)
                + J * np.log(lam)
                + np.log(N / lam)
                + within / s2
                + between / lam
            ),
            parameters=3,
            observations=N,
            criterion="restricted log likelihood",
            converged=True,
            gradient=2e-9,
            iterations=9,
            singular=singular,
            df=lambda: np.array([J - 1.0]),
            effects=lambda factor: (
                (k * (means - mean))[:, None],
                np.full((J, 1), np.sqrt(t2 * (1.0 - k) + k**2 * lam / N)),
            ),
        )

        def draw() -> dict[str, np.ndarray]:
            rng, shape = np.random.default_rng(seed), (self.chains, self.draws)
            mu = mean + np.sqrt(lam / N) * rng.normal(size=(*shape, 1))
            b = k * (means - mu) + np.sqrt(t2 * (1.0 - k)) * rng.normal(size=(*shape, J))
            root = np.linalg.cholesky(log_covariance) if not singular else np.diag([0.0, log_errors[1]])
            sds = np.array([tau, sigma]) * np.exp(rng.normal(size=(*shape, 2)) @ root.T)
            return {"beta": mu, f"sd_{g}": sds[..., :1], f"b_{g}": b[..., None], "sigma": sds[..., 1]}

        lead = (self.chains, self.draws)
        shapes = {"beta": (*lead, 1), f"sd_{g}": (*lead, 1), f"b_{g}": (*lead, J, 1), "sigma": lead}
        return self._posterior(model, found, shapes, draw)

    def _posterior(
        self,
        model: Model,
        found: Estimates,
        shapes: dict[str, tuple[int, ...]],
        draw: Callable[[], dict[str, np.ndarray]],
    ) -> Posterior:
        info = {"engine": self.name, "messages": []}
        return Posterior(model, self.describe(), DrawnOnDemand(shapes, draw), info=info, estimates=found)

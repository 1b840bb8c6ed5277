"""Deliberately wrong engines: a right one on a model that was tampered with, draws that were, and a wrong sampler.

What goes wrong in `Tampered` is what a slip in a sampler does to its target: a row with another group's code, a weight
or a prior term that was forgotten. `Hierarchy` is a sampler of its own, small enough to be right by inspection, with
slips of Metropolis-Hastings; its posterior is known on a grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bayou.engines import Gibbs, Metropolis
from bayou.engines.base import Engine
from bayou.model import Model
from bayou.posterior import Posterior
from bayou.priors import LKJ, Gamma, HalfNormal, HuangWand, InverseGamma, InverseWishart, Normal

Array = np.ndarray
Draws = dict[str, Array]
PRIOR_OF_TAU = HalfNormal(0.25)


def table(groups: int = 6, rows: int = 4) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    n = groups * rows
    return {
        "y": rng.normal(size=n),
        "x": np.round(rng.normal(size=n), 2) + 1.0,
        "u": np.round(rng.normal(size=n), 2),
        "w": np.round(np.exp(rng.normal(size=n)), 2),
        "k": np.arange(n) % 4,
        "size": np.full(n, 3.0),
        "se": np.round(rng.uniform(1.0, 2.0, n), 2),
        "t": np.arange(n) % 8,
        "g": np.repeat(np.arange(groups), rows),
    }


ONE: dict[str, Any] = {"beta": Normal(0.2, 0.7), "sd": HalfNormal(0.7)}
SLOPES: dict[str, Any] = {**ONE, "cor": LKJ(2.0), "sigma": HalfNormal(1.0)}
STRONG: dict[str, Any] = {"beta": Normal(0.2, 0.2), "sd": HalfNormal(0.7), "sigma": HalfNormal(1.0)}
GAMMAS: dict[str, Any] = {"beta": Normal(0, 1), "precision": Gamma(1.0, 0.5), "sigma": HalfNormal(0.5)}
MATRIX: dict[str, Any] = {"beta": Normal(0, 1), "sigma": HalfNormal(0.5)}


def _few(groups: int, rows: int, priors: dict[str, Any], formula: str = "y ~ x + (1 | g)") -> Callable[[], Model]:
    return lambda: Model(formula, table(groups, rows), priors=priors)


MODELS: dict[str, Callable[[], Model]] = {
    "slopes": lambda: Model("y ~ x + offset(u) + (x | g)", table(), priors=SLOPES, weights="w"),
    "intercepts": _few(4, 3, STRONG),
    "precisions": _few(2, 6, GAMMAS),
    "three rows": _few(1, 3, {"beta": Normal(0, 1), "sigma2": InverseGamma(0.75, 0.5)}, "y ~ 1"),
    "inverse Wishart": _few(2, 10, {**MATRIX, "Sigma": InverseWishart(4, 1.0)}, "y ~ x + (x | g)"),
    "Huang-Wand": _few(4, 5, {**MATRIX, "Sigma": HuangWand(2, 0.2)}, "y ~ x + (x | g)"),
    "binomial": lambda: Model("proportion(k, size) ~ x + (1 | g)", table(), "binomial", ONE),
    "negative binomial": lambda: Model(
        "k ~ x + (1 | g)", table(), "negative_binomial", {**ONE, "dispersion": HalfNormal(1.0)}
    ),
    "walk": lambda: Model("y ~ 1 + rw1(t)", table(), priors={**MATRIX, "sd_t": HalfNormal(1.0)}),
    "schools": lambda: Model(
        "measured(y, se) ~ 1 + (1 | g)", table(), priors={"beta": Normal(0.2, 0.3), "sd": PRIOR_OF_TAU}
    ),
}


# ---- tampering ----------------------------------------------------------------------------------


def _changed(model: Model, design: dict[str, Any] | None = None, bound: dict[str, Any] | None = None) -> Model:
    other = copy.copy(model)
    other.design = replace(model.design, **(design or {}))
    other.bound = replace(model.bound, **(bound or {}))
    for name in ("working", "structure"):
        other.__dict__.pop(name, None)
    return other


def _grouping(model: Model, **changes: Any) -> Model:
    (g,) = model.design.groupings
    return _changed(model, {"groupings": (replace(g, **changes),)})


def _block(model: Model, **changes: Any) -> Model:
    (block,) = model.bound.blocks
    return _changed(model, bound={"blocks": (replace(block, **changes),)})


def _off_by_one_group(model: Model) -> Model:
    return _grouping(model, codes=np.roll(model.design.groupings[0].codes, 1))


def _no_prior_of_beta(model: Model) -> Model:
    return _changed(model, bound={"beta_precision": 1e-4 * model.bound.beta_precision})


def _no_jacobian(model: Model) -> Model:
    """p(log s) where p(s) belongs: s⁻¹ more, half a degree of freedom of the precision's gamma."""
    parameters = model.bound.blocks[0].sd_parameters.copy()
    parameters[:, 0] += 0.5
    return _block(model, sd_parameters=parameters)


def _sigma_degrees(model: Model) -> Model:
    parameters = model.bound.dispersion_parameters.copy()
    parameters[0] -= 0.5
    return _changed(model, bound={"dispersion_parameters": parameters})


def _degrees(model: Model) -> Model:
    return _block(model, df=model.bound.blocks[0].df - 1.0)


def _scales_of_huang_wand(model: Model) -> Model:
    return _block(model, A=model.bound.blocks[0].A ** 2)


def _node_off_by_one(model: Model) -> Model:
    (term,) = model.design.structured
    return _changed(model, {"structured": (replace(term, node=(term.node + 1) % len(term.nodes)),)})


def _of_draws(**changes: Callable[[Draws, Model], Array]) -> Callable[[Draws, Model], Draws]:
    return lambda draws, model: draws | {name: change(draws, model) for name, change in changes.items()}


def _at_centred_columns(draws: Draws, model: Model) -> Array:
    beta = draws["beta"].copy()
    beta[..., 0] += beta[..., 1:] @ model.design.X[:, 1:].mean(axis=0)
    return beta


def _flipped(draws: Draws, model: Model) -> Array:
    cor = -draws["cor_g"]
    cor[..., range(cor.shape[-1]), range(cor.shape[-1])] = 1.0
    return cor


@dataclass(frozen=True)
class Fault:
    """A slip: which model shows it, what is done to that model, or to the draws."""

    model: str
    tamper: Callable[[Model], Model] | None = None
    draws: Callable[[Draws, Model], Draws] | None = None


FAULTS: dict[str, Fault] = {
    "a missing prior term: of the fixed effects": Fault("intercepts", _no_prior_of_beta),
    "a missing Jacobian of a group sd": Fault("precisions", _no_jacobian),
    "a group off by one": Fault("slopes", _off_by_one_group),
    "a residual sd times 1.1": Fault("slopes", draws=_of_draws(sigma=lambda d, m: 1.1 * d["sigma"])),
    "inverse Wishart: degrees of freedom off by one": Fault("inverse Wishart", _degrees),
    "Huang-Wand: scales squared": Fault("Huang-Wand", _scales_of_huang_wand),
    "residual degrees of freedom off by one": Fault("three rows", _sigma_degrees),
    "a forgotten offset": Fault("slopes", lambda m: _changed(m, {"offset": 0.0 * m.design.offset})),
    "forgotten weights": Fault("slopes", lambda m: _changed(m, {"weights": np.ones(m.design.n)})),
    "a correlation with the wrong sign": Fault("slopes", draws=_of_draws(cor_g=_flipped)),
    "an intercept left at centred columns": Fault("intercepts", draws=_of_draws(beta=_at_centred_columns)),
    "one trial too many": Fault("binomial", lambda m: _changed(m, {"trials": m.design.trials + 1.0})),
    "a dispersion for its inverse": Fault("negative binomial", draws=_of_draws(phi=lambda d, m: 1.0 / d["phi"])),
    "standard errors squared": Fault(
        "schools", lambda m: _changed(m, {"standard_errors": m.design.standard_errors**2})
    ),
    "a node off by one": Fault("walk", _node_off_by_one),
}


@dataclass(frozen=True, kw_only=True)
class Tampered(Engine):
    """A right engine with a fault about it; without one it is right."""

    name: ClassVar[str] = "tampered"
    fault: str = ""
    thin: int = 2

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Run Gibbs or Metropolis on what the fault makes of the model."""
        fault = FAULTS.get(self.fault, Fault(""))
        wrong = fault.tamper(model) if fault.tamper is not None else model
        if model.design.structured:  # sampled by its slowest engine: few draws, nearly independent
            return self._named(Gibbs(draws=400, warmup=200, chains=1, progress=False), wrong, model, rng, fault)
        kind = Gibbs if model.family.name == "gaussian" else Metropolis
        return self._named(
            kind(draws=500, warmup=200, chains=1, thin=self.thin, progress=False), wrong, model, rng, fault
        )

    def _named(self, engine: Engine, wrong: Model, model: Model, rng: np.random.Generator, fault: Fault) -> Posterior:
        draws = dict(engine.run(wrong, rng).draws)
        if fault.draws is not None:
            draws = fault.draws(draws, model)
        return Posterior(model=model, engine=self.describe(), draws=draws, info={"messages": []})


# ---- a sampler of its own -----------------------------------------------------------------------

SLIPS = (
    "log scale without its Jacobian",
    "a forgotten proposal ratio",
    "a prior of the variance read as one of the sd",
    "half the acceptance exponent",
    "coefficients drawn at the last sd",
    "the mean's prior forgotten",
)


@dataclass(frozen=True, kw_only=True)
class Hierarchy(Engine):
    """measured(y, se) ~ 1 + (1 | g): Metropolis for tau given y, then mu and b given tau, exactly.

    y_j, the weighted mean of group j with variance v_j, is N(mu, v_j + tau²); mu ~ N(m, s²) is integrated out.
    """

    name: ClassVar[str] = "hierarchy"
    slip: str = ""
    kept: int = 400

    def log_target(self, tau: Array, y: Array, v: Array, prior: Normal) -> Array:
        """log p(y | tau) + log p(tau) up to a constant."""
        w = 1.0 / (v + np.square(np.asarray(tau))[..., None])
        h = 0.0 if self.slip == SLIPS[5] else float(prior.sd) ** -2.0
        linear, precision = w @ y + h * float(prior.mean), w.sum(axis=-1) + h
        of_data = (
            0.5 * np.log(w).sum(axis=-1)
            - 0.5 * w @ np.square(y)
            - 0.5 * np.log(precision)
            + 0.5 * linear**2 / precision
        )
        of_sd = np.square(tau) if self.slip == SLIPS[2] else tau
        return of_data + PRIOR_OF_TAU.log_density(of_sd)

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Draw tau by Metropolis-Hastings, the rest given it."""
        y, v = means(model)
        prior = Normal(0.2, 0.3)
        uneven, steps = self.slip == SLIPS[1], 4
        tau, here = 0.5, float(self.log_target(0.5, y, v, prior))
        taus = np.empty(self.kept)
        for i in range(-100, self.kept):
            for _ in range(steps):
                new = tau * np.exp((0.4 if uneven else 0.0) + 0.9 * rng.standard_normal())
                there = float(self.log_target(new, y, v, prior))
                # a step of log tau: its Jacobian, and the ratio of a proposal that is drawn to larger values
                ratio = there - here + (0.0 if self.slip == SLIPS[0] else np.log(new / tau))
                if self.slip == SLIPS[3]:
                    ratio *= 0.5
                if -rng.standard_exponential() < ratio:
                    tau, here = new, there
            if i >= 0:
                taus[i] = tau
        used = np.roll(taus, 1) if self.slip == SLIPS[4] else taus
        w = 1.0 / (v + np.square(used)[:, None])
        h = 0.0 if self.slip == SLIPS[5] else float(prior.sd) ** -2.0
        precision = w.sum(axis=1) + h
        mu = (w @ y + h * float(prior.mean)) / precision + rng.standard_normal(self.kept) / np.sqrt(precision)
        part = 1.0 / v + 1.0 / np.square(used)[:, None]
        b = (y - mu[:, None]) / v / part + rng.standard_normal((self.kept, len(y))) / np.sqrt(part)
        draws = {"beta": mu[None, :, None], "sd_g": taus[None, :, None], "b_g": b[None, :, :, None]}
        return Posterior(model=model, engine=self.describe(), draws=draws, info={"messages": []})

    def exact(self, model: Model) -> tuple[float, float]:
        """Mean and sd of tau on a fine grid."""
        y, v = means(model)
        grid = np.linspace(1e-4, 6.0, 20_001)
        log = self.log_target(grid, y, v, Normal(0.2, 0.3))
        p = np.exp(log - log.max())
        p /= p.sum()
        mean = float(p @ grid)
        return mean, float(np.sqrt(p @ (grid - mean) ** 2))


def means(model: Model) -> tuple[Array, Array]:
    """Weighted means of the groups, and their variances."""
    design = model.design
    codes, w = design.groupings[0].codes, design.standard_errors**-2.0
    total = np.bincount(codes, w)
    return np.bincount(codes, w * design.y) / total, 1.0 / total

"""The sampler of structured effects under Geweke's joint-distribution test ("Getting it right", JASA 99, 2004).

As `proof.geweke`: a scan of the sampler and new data given the parameters in turn, against independent draws of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bayou
from bayou import binding
from bayou.engines.field import field_plan
from bayou.engines.field.chain import FieldChain
from field_models import structures, table
from oracle import clone
from proof.geweke import standard_error

WARMUP = 300
SD, BETA = bayou.priors.HalfNormal(0.7), bayou.priors.Normal(0.0, 0.6)


def small(structure: str, family: str) -> bayou.Model:
    """A model of 18 rows with proper, frozen priors."""
    data = {name: np.asarray(values)[:18] for name, values in table(family).items()}
    priors: dict[str, Any] = {"sd": SD, "beta": BETA}
    if family == "gaussian":
        priors["sigma"] = bayou.priors.HalfNormal(1.0)
    if family in ("negative_binomial", "gamma"):
        priors["dispersion"] = bayou.priors.HalfNormal(0.7)
    response = "proportion(y, trials)" if family == "binomial" else "y"
    return bayou.Model(f"{response} ~ x + {structure}", data, family, priors, structures=structures())


def prior_draws(model: bayou.Model, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Theta (draws, d) and x (draws, N), effects from their own definition."""
    plan_field = field_plan(model).new_chain(np.random.default_rng(0).spawn(1)[0]).here.field
    d, N = plan_field.size, len(plan_field.x)
    theta, x = np.empty((draws, d)), np.empty((draws, N))
    places = plan_field.columns
    working = np.linalg.inv(model.working.to_printed)
    numbers: dict[tuple[int, int], np.ndarray] = {}
    for component in plan_field.parts:
        if component.grouping < 0:
            pairs = zip(model.bound.structured[component.term], component.effect.hyperparameters, strict=True)
            for k, (prior, h) in enumerate(pairs):
                numbers[component.term, k] = np.asarray(
                    prior.sd_draw(rng, draws) if h.role == "sd" else prior.draw(rng, draws)
                )
    for i in range(draws):
        at = 0
        for component in plan_field.parts:
            own = np.empty(len(component.effect.hyperparameters))
            if component.grouping >= 0:
                block = next(b for b in model.bound.blocks if b.grouping == component.grouping)
                own[0] = 0.5 * np.log(binding.draw_block(block, rng)[0, 0])
            else:
                for k, h in enumerate(component.effect.hyperparameters):
                    # a share that is one to rounding is the largest number below
                    value = min(float(numbers[component.term, k][i]), 1.0 - 1e-15 if h.scale == "logit" else np.inf)
                    own[k] = h.internal(value)
            theta[i, at : at + len(own)] = own
            at += len(own)
            x[i, component.place] = component.effect.draw(own, rng, 1)[0].ravel()
        if at < d:
            theta[i, at:] = np.log(binding.draw_dispersion(model.bound, rng, d - at))
        x[i, places["beta"]] = working @ binding.draw_beta(model.bound, rng)
    return theta, x


def respond(model: bayou.Model, field: Any, theta: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """New data given theta and x."""
    eta = model.design.offset + field.predictor(x) - field.predictor(np.zeros_like(x))
    dispersion = np.exp(theta[-1]) if field.levels else None
    return model.family.sample(rng, eta, dispersion, model.design.trials, model.design.weights)


class Successive:
    """One chain whose data are replaced between two scans."""

    def __init__(self, model: bayou.Model, rng: np.random.Generator) -> None:
        theta, x = prior_draws(model, 1, rng)
        first = field_plan(model).new_chain(rng.spawn(1)[0]).here.field
        model_of_data = clone(model, np.array(respond(model, first, theta[0], x[0], rng)))
        model_of_data.effects = model.effects
        self.model, self.rng = model_of_data, rng
        self.plan = field_plan(model_of_data)
        self.chain: FieldChain = self.plan.new_chain(rng.spawn(1)[0])  # type: ignore[assignment]
        scan = 0
        while scan < WARMUP:
            size = min(self.chain.boundary(scan), WARMUP) - scan
            self.chain.advance(size, 1, self.plan.shape(size, False))
            scan += size
            self.chain.adapt(scan, WARMUP)

    def replace(self, y: np.ndarray, theta: np.ndarray, x: np.ndarray) -> None:
        """Put new data where the chain has its own, and make it see that its density has changed."""
        self.model.design.y[:] = y
        for seat in (self.chain.here, self.chain.there):
            seat.field.system.y[:] = y
            seat._placed = seat.field._placed = seat.field._constant = None
        here = self.chain.here
        if self.chain.target.exact:
            assert here.sit(theta, np.zeros(0))
        else:
            assert here.sit_with(theta.copy(), x.copy(), self.rng.standard_normal(len(here.z)))

    def run(self, sweeps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        field = self.chain.here.field
        thetas, X, Y = np.empty((sweeps, field.size)), np.empty((sweeps, len(field.x))), np.empty((sweeps, len(field.eta)))
        out = self.plan.shape(1, True)
        for i in range(sweeps):
            assert self.chain.advance(1, 1, out) == 1
            thetas[i], X[i] = out.dispersion[0], np.concatenate([out.b[0], out.beta[0]])
            Y[i] = respond(self.model, self.chain.here.field, thetas[i], X[i], self.rng)
            self.replace(Y[i], thetas[i], X[i])
        return thetas, X, Y


def functions(model: bayou.Model, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    t = np.arcsinh(y) if model.family.name != "gamma" else np.log(y)
    out: dict[str, np.ndarray] = {}
    for k in range(theta.shape[1]):
        out[f"tanh theta{k}"] = np.tanh(theta[:, k])
        out[f"sd{k}"] = np.exp(np.minimum(0.5 * theta[:, k], 3.0))
        out[f"small{k}"] = 1.0 / (1.0 + np.exp(-theta[:, k] - 2.0))
    N = x.shape[1]
    for j in (0, N // 3, N // 2, N - 2, N - 1):
        out[f"x{j}"] = np.tanh(x[:, j])
        out[f"x{j}²"] = np.tanh(x[:, j]) ** 2
    out["x0 x1"] = np.tanh(x[:, 0]) * np.tanh(x[:, 1])
    out["theta x²"] = np.tanh(theta[:, 0]) * np.tanh(x[:, 0]) ** 2
    out["y"], out["y²"] = t.mean(axis=1), (t**2).mean(axis=1)
    out["y spread"], out["y0 y1"] = t.std(axis=1), t[:, 0] * t[:, 1]
    out["y0 x0"] = np.tanh(t[:, 0]) * np.tanh(x[:, 0])
    return out


def z_scores(model: bayou.Model, sweeps: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    theta, x = prior_draws(model, 3 * sweeps, rng)
    field = field_plan(model).new_chain(rng.spawn(1)[0]).here.field
    y = np.array([respond(model, field, t, v, rng) for t, v in zip(theta, x, strict=True)])
    wanted = functions(model, theta, x, y)
    found = functions(model, *Successive(model, rng).run(sweeps))
    out = {}
    for name, values in found.items():
        reference = wanted[name]
        error = np.hypot(standard_error(values), reference.std() / np.sqrt(len(reference)))
        out[name] = float((values.mean() - reference.mean()) / error)
    return out


def check(structure: str, family: str, sweeps: int, seed: int = 1) -> None:
    z = z_scores(small(structure, family), sweeps, seed)
    name = max(z, key=lambda key: abs(z[key]))
    assert abs(z[name]) < 4.0, f"{name}: z = {z[name]:.1f}"


@pytest.mark.slow
@pytest.mark.parametrize(("structure", "family"), [
    ("rw1(t)", "poisson"),
    ("icar(area, graph=W)", "bernoulli"),
    ("rw1(t)", "gaussian"),
    ("(1 | animal, covariance=A) + icar(area, graph=W)", "binomial"),
    ("rw1(t) + (1 | g)", "negative_binomial"),
    ("bym2(area, graph=W)", "poisson"),
    ("leroux(area, graph=W)", "gamma"),
])  # fmt: skip
def test_geweke(structure: str, family: str) -> None:
    check(structure, family, 8_000)

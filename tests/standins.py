"""Small models and hand-made draws, so that results are tested apart from samplers."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from bayou import families
from bayou.design.moments import Moments
from bayou.posterior import Posterior


@dataclass
class Grouping:
    """The fields of a design's grouping that results read."""

    name: str
    levels: np.ndarray
    codes: np.ndarray
    Z: np.ndarray
    coefficients: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]
    factors: tuple[str, ...] = ()


@dataclass
class Design:
    """The fields of a design that results read."""

    y: np.ndarray
    X: np.ndarray
    coefficients: tuple[str, ...]
    groupings: tuple[Grouping, ...]
    trials: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    standard_errors: np.ndarray | None = None
    sigma_by: str | None = None
    sigma_codes: Any = None
    sigma_levels: Any = None
    response_name: str = "y"
    notes: tuple[str, ...] = ()
    data: dict = field(default_factory=dict)
    recipe: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(weights=None))
    structured: tuple = ()
    structures: dict = field(default_factory=dict)
    reduced: Any = None

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def given(self) -> int:
        return len(self.y)

    @property
    def moments(self) -> Moments:
        return Moments(self)

    def require_rows(self, what: str) -> None:
        """Every row is there."""

    def require_data(self, what: str) -> None:
        """Every column is there."""

    @property
    def index(self) -> np.ndarray:
        return np.arange(self.n)

    def rebuild(self, data: dict, need_response: bool = False) -> SimpleNamespace:
        """New rows with the columns x and those of the factors."""
        x = np.asarray(data["x"], dtype=float)
        columns = {"Intercept": np.ones(len(x)), "x": x}
        labels = [np.array(data.get(g.name, [None] * len(x)), dtype=object) for g in self.groupings]
        codes = [
            np.array([{v: k for k, v in enumerate(g.levels)}.get(v, -1) for v in own], dtype=np.int64)
            for g, own in zip(self.groupings, labels, strict=True)
        ]
        return SimpleNamespace(
            n=len(x),
            X=np.column_stack([columns[c] for c in self.coefficients]),
            offset=np.zeros(len(x)),
            trials=np.asarray(data.get("trials", np.ones(len(x))), float),
            weights=np.ones(len(x)),
            standard_errors=None,
            absent=tuple(name for name in (*(g.name for g in self.groupings), "trials") if name not in data),
            sigma_codes=np.zeros(len(x), dtype=np.int64),
            codes=tuple(codes),
            labels=tuple(labels),
            index=np.asarray(data.get("index", np.arange(len(x)))),
            Z=tuple(np.column_stack([columns[c] for c in g.coefficients]) for g in self.groupings),
            structured=(),
            notes=(),
        )


def model(
    family: str = "poisson",
    link: str | None = None,
    factor: str = "clinic",
    levels: int = 6,
    rows: int = 8,
    slopes: bool = True,
    seed: int = 1,
    sigma_by: bool = False,
) -> SimpleNamespace:
    """y ~ x + (1 + x | factor), simulated."""
    rng = np.random.default_rng(seed)
    kind = families.get(family)
    if link:
        kind = type(kind)(link=link)
    n = levels * rows
    x = rng.normal(size=n)
    codes = np.repeat(np.arange(levels), rows)
    Z = np.column_stack([np.ones(n), x]) if slopes else np.ones((n, 1))
    names = ("Intercept", "x") if slopes else ("Intercept",)
    grouping = Grouping(
        factor,
        np.array([f"level {j}" for j in range(levels)], dtype=object),
        codes,
        Z,
        names,
        ((0, 1),) if slopes else ((0,),),
        (factor,),
    )
    trials = np.full(n, 12.0) if family == "binomial" else np.ones(n)
    eta = 0.5 + 0.3 * x + 0.4 * rng.normal(size=levels)[codes]
    dispersion = 0.7 if kind.dispersion else None
    y = kind.sample(rng, eta, dispersion, trials)
    sigma_levels = np.array(["a", "b"] if sigma_by else ["all"], dtype=object)
    design = Design(
        y,
        np.column_stack([np.ones(n), x]),
        ("Intercept", "x"),
        (grouping,),
        trials,
        np.ones(n),
        np.zeros(n),
        sigma_by="arm" if sigma_by else None,
        sigma_levels=sigma_levels,
        sigma_codes=np.arange(n) % len(sigma_levels),
    )
    bound = SimpleNamespace(
        lines=("beta[Intercept] ~ Normal(0, 2.5)", f"sd_{factor}[Intercept] ~ HalfT(2, 2.5)"), notes=()
    )
    return SimpleNamespace(design=design, family=kind, bound=bound, text=f"y ~ x + (1 + x | {factor})")


def posterior(of: SimpleNamespace | None = None, chains: int = 4, draws: int = 500, seed: int = 2) -> Posterior:
    """Independent draws about plausible values."""
    of = model() if of is None else of
    rng = np.random.default_rng(seed)
    shape = (chains, draws)
    out = {"beta": np.array([0.5, 0.3]) + 0.1 * rng.normal(size=(*shape, 2))}
    groups = {}
    for g in of.design.groupings:
        p, J = g.Z.shape[1], len(g.levels)
        name = g.name + "_" if g.name in ("draw", "chain", "coefficient", "sigma") else g.name
        out[f"sd_{name}"] = 0.4 * np.exp(0.2 * rng.normal(size=(*shape, p)))
        if p > 1:
            rho = np.tanh(0.3 + 0.2 * rng.normal(size=shape))
            cor = np.broadcast_to(np.eye(p), (*shape, p, p)).copy()
            cor[..., 0, 1] = cor[..., 1, 0] = rho
            out[f"cor_{name}"] = cor
        out[f"b_{name}"] = 0.4 * rng.normal(size=(J, p)) + 0.1 * rng.normal(size=(*shape, J, p))
        groups[f"acceptance_{name}"] = np.full((chains, J), 0.6)
    if of.family.dispersion and of.design.standard_errors is None:
        size = (*shape, len(of.design.sigma_levels)) if of.design.sigma_by else shape
        out[of.family.dispersion] = 0.7 * np.exp(0.1 * rng.normal(size=size))
    info = {"engine": "gibbs", "seconds": 0.5, "seed": 1, "warmup": 500, "thin": 1, "messages": []}
    return Posterior(of, "Gibbs(draws=500)", out, {"log_density": rng.normal(size=shape)}, info, groups)

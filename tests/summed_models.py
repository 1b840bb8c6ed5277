"""Models of rows in memory beside the same models of rows that were summed block by block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import bayou
from bayou import binding
from bayou.design import Design, NewRows
from bayou.priors import Priors
from bayou.streaming.summed import summed


def blocks_of(design: Design, data: dict[str, Any], count: int) -> Any:
    """Return a function that passes over the rows of a table in so many blocks."""
    columns = {name: np.asarray(values) for name, values in data.items()}
    n = len(next(iter(columns.values())))
    cut = np.linspace(0, n, count + 1).astype(int)

    def blocks() -> Any:
        for low, high in zip(cut[:-1], cut[1:], strict=True):
            block: NewRows = design.rebuild({name: v[low:high] for name, v in columns.items()}, need_response=True)
            yield block

    return blocks


def of_design(few: Design, priors: Any = None) -> bayou.Model:
    """Return a model of a design."""
    model = bayou.Model.__new__(bayou.Model)
    model.priors_given = priors is not None
    effects = binding.build_effects(few)
    model._set(few, binding.bind(None if priors is None else Priors.of(priors), few, effects), effects)
    return model


@dataclass
class Case:
    """A formula with what `Model` takes beside it."""

    formula: str
    settings: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def pair(self, data: dict[str, Any], count: int = 3, priors: Any = None) -> tuple[bayou.Model, bayou.Model]:
        """Return the model in memory and the one whose rows were summed."""
        whole = bayou.Model(self.formula, data, priors=priors, **self.settings)
        few = summed(whole.design, blocks_of(whole.design, data, count))
        assert few is not None and few.n < whole.design.n
        return whole, of_design(few, priors)


def table(n: int = 600, seed: int = 3) -> dict[str, Any]:
    """Return rows with factors, slopes, weights, standard errors, times and an offset."""
    rng = np.random.default_rng(seed)
    g, h, t = rng.integers(0, 12, n), rng.integers(0, 4, n), rng.integers(0, 9, n)
    x, e = rng.normal(size=n), rng.normal(size=n)
    z = 0.4 * x + rng.normal(size=n) + 3.0
    b, s, c = rng.normal(size=12), 0.5 * rng.normal(size=12), 0.7 * rng.normal(size=4)
    w, se = rng.uniform(0.5, 3.0, n), rng.uniform(0.5, 2.0, n)
    half = np.array(["lab", "field"])[(rng.random(n) < 0.4).astype(int)]
    noise = np.where(half == "lab", 0.8, 1.3) * rng.normal(size=n)
    y = 2.0 + 0.7 * x - 0.3 * z + b[g] + s[g] * x + c[h] + np.sin(0.6 * t) + noise
    arm = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    return {
        "y": y, "x": x, "z": z, "e": e, "g": g, "h": h, "t": t, "w": w, "se": se, "half": half, "arm": arm,
        "far": 1e8 + rng.normal(size=n), "level": (g % 5).astype(float), "area": np.array(list("abcd"))[h],
    }  # fmt: skip


CASES = {
    "slope": Case("y ~ x + (1 + x | g)"),
    "uncorrelated": Case("y ~ x + z + level + arm + (1 + x + z || g)"),
    "nested": Case("y ~ x + (1 | h/arm)"),
    "crossed": Case("y ~ x + arm + (1 | h) + (1 | half)"),
    "sigma": Case("y ~ x + (1 + x | g)", {"sigma_by": "half"}),
    "measured": Case("measured(y, se) ~ x + (1 | g)"),
    "weights": Case("y ~ x + (1 + x | g)", {"weights": "w"}),
    "none": Case("y ~ 0 + x + z + (0 + x | g) + offset(e)"),
    "regression": Case("y ~ x + z + I(x + 2)"),
    "ar1": Case("y ~ x + ar1(t) + (1 | h)"),
    "walk": Case("y ~ x + rw1(t) + (0 + x | h)", {"sigma_by": "half"}),
    "spline": Case("y ~ x + s(t) + (1 | h)", {"weights": "w"}),
    "areas": Case("y ~ x + bym2(area, graph=W) + (1 | g)", {"structures": {"W": [("a", "b"), ("b", "c"), ("c", "d")]}}),
}

"""The samplers of `engines.crossed` for Geweke's test: small crossed models, kinds of scan, functions.

Each model takes another way through the kernels: entries that are one row each, or several with a weight and columns
that differ within them; two factors of an intercept each, or more, or slopes; levels alike or not; shifts that no row
sees, of one part or many, or none; covariances of more numbers than slices visit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

import oracle
from bayou.engines.crossed.chain import CrossedChain, crossed_plan
from bayou.engines.crossed.choice import joint_solver
from bayou.engines.crossed.layout import crossed
from bayou.engines.crossed.translations import translations_of
from bayou.engines.draws import Plan
from bayou.model import Model
from bayou.priors import HuangWand, InverseWishart, Normal
from proof import geweke
from proof.geweke import Sample, Successive, prior_sample, standard_error
from proof.models import PRIORS, SCALE

Array = np.ndarray
ONE: dict[str, Any] = {"beta": PRIORS["beta"], "sd": PRIORS["sd"]}
KINDS = ("plain", "crossed", "joint")
LEVEL = 1e-3  # chance that any function of a right sampler is beyond the bound

# formula, settings, priors
MODELS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "two factors": ("x + (1 | g) + (1 | h)", {}, ONE),
    "two factors, a row a pair": ("x + (1 | g) + (1 | o)", {}, ONE),
    "few pairs": ("x + (1 | h) + (1 | i)", {}, ONE),
    "three factors": ("x + (1 | g) + (1 | h) + (1 | f)", {}, ONE),
    "slope": ("x + (x | g) + (1 | h)", {}, PRIORS),
    "slopes of two": ("x + (x | g) + (x | h)", {}, PRIORS),
    "no column in common": ("x + (1 | g) + (0 + x | h)", {}, ONE),
    "weights": ("x + offset(u) + (1 | g) + (1 | h)", {"weights": "w"}, ONE),
    "two parts": ("x + (1 | g) + (1 | i)", {}, ONE),
    "two sigmas": ("x + (1 | g) + (1 | h) + (1 | f)", {"sigma_by": "s"}, ONE),
    "measured": ("x + (1 | g) + (1 | h)", {}, ONE),
    "many fixed effects": ("x * u + f + (1 | g) + (1 | h)", {"weights": "w"}, ONE),
    "no fixed effects": ("0 + (1 | g) + (1 | h)", {}, ONE),
    "wide": ("x + (x + u | g) + (1 | h)", {}, {"beta": Normal(0.2, 0.7), "Sigma": InverseWishart(9, 1.5)}),
    "wide, Huang-Wand": ("x + (x + u | g) + (1 | h)", {}, {"beta": Normal(0.2, 0.7), "Sigma": HuangWand(6, 0.5)}),
    "wide, sds": ("x + (x + u | g) + (1 | h)", {}, PRIORS),
    "the last one wide": ("x + (x | g) + (x + u | h)", {}, PRIORS),
}


def table(seed: int = 6) -> dict[str, Array]:
    """Fourteen rows: five levels of g and three of h, of whose pairs two come twice; g and i meet in two parts."""
    rng = np.random.default_rng(seed)
    g = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4])
    h = np.array([0, 0, 1, 2, 0, 1, 2, 0, 1, 1, 1, 2, 2, 0])
    n = len(g)
    return {
        "y": rng.normal(size=n),
        "x": np.round(rng.normal(size=n), 2),
        "u": np.round(0.5 * rng.normal(size=n), 2),
        "g": np.array(list("abcde"))[g],
        "h": np.array(list("pqr"))[h],
        "f": np.array(["k", "l", "m"])[(np.arange(n) * 2) % 3],
        "o": np.array(list("stuv"))[np.arange(n) - np.searchsorted(g, g)],
        "i": np.where(g < 3, 2, 0) + h % 2,
        "s": np.array(["s", "t"])[np.arange(n) % 2],
        "w": np.round(rng.uniform(0.5, 2.0, n), 2),
        "se": np.round(rng.uniform(0.5, 1.5, n), 2),
    }


def build(name: str) -> Model:
    """One of the models; its priors are proper and do not look at the data."""
    formula, settings, priors = MODELS[name]
    left = "measured(y, se)" if name == "measured" else "y"
    return Model(
        f"{left} ~ {formula}", table(), priors=priors if name == "measured" else {**priors, "sigma": SCALE}, **settings
    )


@dataclass(frozen=True)
class Scan:
    """One kind of scan, in the place of an engine: "plain" (no shifts between factors), "crossed" or "joint"."""

    kind: str

    def prepare(self, model: Model) -> Plan:
        if self.kind != "plain":
            plan = crossed_plan(model, self.kind)
            assert plan is not None and plan.method.startswith(self.kind)
            return plan
        plan = crossed_plan(model, "crossed")
        assert plan is not None
        target, rows = crossed(model)
        bare = target._replace(translations=translations_of([]))
        return replace(plan, new_chain=partial(CrossedChain, model, bare, rows, None))


@dataclass(frozen=True)
class Altered:
    """A scan that is handed wrong numbers: a bug that needs no compilation.

    ``target`` and ``solver`` name fields of what the kernels see, and what to multiply them by.
    """

    kind: str
    target: dict[str, float] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)
    solver: dict[str, float] = field(default_factory=dict)

    def prepare(self, model: Model) -> Plan:
        plan = Scan(self.kind).prepare(model)
        target, rows = crossed(model)
        solver = _scaled(joint_solver(model, target, rows), self.solver) if self.kind == "joint" else None
        target = _scaled(target, self.target)._replace(translations=_scaled(target.translations, self.shifts))
        return replace(plan, new_chain=partial(CrossedChain, model, target, rows, solver))


def _scaled(parts: Any, factors: dict[str, float]) -> Any:
    return parts._replace(**{name: factor * getattr(parts, name) for name, factor in factors.items()})


# ---- functions ----------------------------------------------------------------------------------


def functions(model: Model, sample: Sample) -> dict[str, Array]:
    """Those of `proof.geweke`, and some whose distribution is known whatever the parameters: squares, each over its variance."""
    out = geweke.functions(model, sample)
    design = model.design
    scaled = [b / sd[:, None] for b, sd in zip(sample.b, sample.sd, strict=True)]
    for g, z in enumerate(scaled):
        out[f"z²{g}"] = (z**2).mean(axis=(1, 2))
        out[f"last z²{g}"] = (z[:, -1] ** 2).mean(axis=1)
        out[f"sum z{g}"] = z[:, :, 0].mean(axis=1) * np.sqrt(z.shape[1])
        out[f"sum² z{g}"] = out[f"sum z{g}"] ** 2
        cor = sample.cor[g]
        if cor is not None:
            out[f"z z{g} - cor"] = (z[:, :, 0] * z[:, :, 1]).mean(axis=1) - cor
    for f in range(1, len(scaled)):
        out[f"sum z0 sum z{f}"] = out["sum z0"] * out[f"sum z{f}"]
        out[f"sd0 sd'{f}"] = np.sqrt(sample.sd[0][:, 0] * sample.sd[f][:, 0])
    scale = np.ones(1) if sample.scale is None else sample.scale[:, design.sigma_codes]
    weights = design.weights if design.standard_errors is None else design.weights / design.standard_errors**2
    eta = geweke.linear_predictor(model, sample.beta, sample.b)
    e = np.sqrt(weights) * (sample.y - eta) / scale
    out["e²"], out["sum e"] = (e**2).mean(axis=1), e.mean(axis=1)
    out["e x"] = (e * table()["x"]).mean(axis=1)
    for g, grouping in enumerate(design.groupings):
        out[f"e z{g}"] = (e * scaled[g][:, grouping.codes, 0]).mean(axis=1)
    return out


def _wide_prior(model: Model, draws: int, rng: np.random.Generator) -> Sample:
    """`prior_sample` for covariances of any size."""
    points = [oracle.draw_from_prior(model, rng) for _ in range(draws)]
    y = np.array([oracle.draw_response(model, point, rng) for point in points])
    of = [block.grouping for block in model.bound.blocks]
    first = [of.index(g) for g in range(len(model.design.groupings))]  # one block for each factor
    Sigma = [np.array([point.Sigma[r] for point in points]) for r in first]
    sd = [np.sqrt(np.diagonal(S, axis1=1, axis2=2)) for S in Sigma]
    cor = [S[:, 0, 1] / s[:, 0] / s[:, 1] if s.shape[1] > 1 else None for S, s in zip(Sigma, sd, strict=True)]
    b = [np.array([point.b[g] for point in points]) for g in range(len(first))]
    scale = np.array([point.dispersion for point in points])
    return Sample(np.array([point.beta for point in points]), b, sd, cor, scale, y)


def prior_of(model: Model, draws: int, rng: np.random.Generator) -> Sample:
    """Independent draws of parameters and data, some fewer where each is made on its own."""
    wide = any(len(block.columns) > 2 for block in model.bound.blocks)
    return _wide_prior(model, draws // 8, rng) if wide else prior_sample(model, draws, rng)


# ---- the comparison -----------------------------------------------------------------------------


def z_scores(model: Model, scan: Any, sweeps: int, seed: int = 1) -> dict[str, float]:
    """z of every function: the sampler and new data in turn against independent draws.

    Data are put beside the parameters that were drawn given them, not beside those that they were drawn from: both
    pairs have the joint distribution, and the first one does not forgive a wrong conditional mean.
    """
    rng = np.random.default_rng(seed)
    wanted = functions(model, prior_of(model, 4 * sweeps, rng))
    first = oracle.draw_response(model, oracle.draw_from_prior(model, rng), rng)
    chain = Successive(oracle.clone(model, first), scan, rng, keep_data=True).run(sweeps + 1)
    after: Callable[[Any], Any] = lambda x: None if x is None else x[1:]  # noqa: E731
    chain = Sample(
        chain.beta[1:], [b[1:] for b in chain.b], [sd[1:] for sd in chain.sd], [after(cor) for cor in chain.cor],
        after(chain.scale), chain.y[:-1],
    )  # fmt: skip
    out = {}
    for name, x in functions(model, chain).items():
        assert np.isfinite(x).all(), name
        reference = wanted[name]
        error = np.hypot(standard_error(x), reference.std() / np.sqrt(len(reference)))
        out[name] = float((x.mean() - reference.mean()) / error)
    return out


def bound(z: dict[str, float]) -> float:
    """Bonferroni's: by how many standard errors one of so many functions may be off."""
    return float(stats.norm.isf(0.5 * LEVEL / len(z)))

"""One problem as files that any program can read: bayou's own columns, and the figures of its priors.

Every rival gets the same design matrix, so that no two programs code a factor differently, and the same priors
as far as it can take them. ``data.csv`` holds y, trials, the fixed effects' columns x1, x2, … (the intercept is
understood) and the groups' codes g1, g2, … from 1; ``task.json`` and ``task.R`` hold the rest.

A parameter travels under a short name, since not every program can have bayou's: ``beta0``, ``beta1``, …,
``sd_g1_0`` (the sd of the first coefficient of the first grouping), ``cor_g1_0_1`` and ``sigma``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayou
from bayou.binding.defaults import coefficient_defaults, group_scales, outcome_scale
from benchmarks.problems import Problem


@dataclass(frozen=True)
class Length:
    """How long a chain runs; ``draws`` are kept, ``warmup`` are not."""

    chains: int
    draws: int
    warmup: int

    @property
    def scans(self) -> int:
        return self.chains * (self.draws + self.warmup)

    def shortened(self, scans: int | None) -> Length:
        """Return a length of about that many draws, or this one for None."""
        if scans is None:
            return self
        draws = max(scans // self.chains, 100)
        return Length(self.chains, min(draws, self.draws), min(draws, self.warmup))


@dataclass(frozen=True)
class Task:
    """A problem made ready for other programs.

    Attributes
    ----------
    data
        The columns of ``data.csv``.
    settings
        What ``task.json`` holds: family, priors, groups.
    names
        By short name the name in bayou's summary.
    """

    data: pd.DataFrame
    settings: dict[str, Any]
    names: dict[str, str]

    def write(self, folder: Path, length: Length, seed: int) -> None:
        """Write the three files into a folder."""
        chosen = self.settings | {
            "chains": length.chains, "draws": length.draws, "warmup": length.warmup, "seed": seed,
        }  # fmt: skip
        self.data.to_csv(folder / "data.csv", index=False, float_format="%.17g")
        (folder / "task.json").write_text(json.dumps(chosen, indent=1), encoding="utf-8")
        (folder / "task.R").write_text(f"task <- {in_r(chosen)}\n", encoding="utf-8")


def in_r(value: Any) -> str:
    """Return plain data as R would write it: lists of one kind become vectors, dictionaries named lists."""
    if isinstance(value, dict):
        return f"list({', '.join(f'{name} = {in_r(part)}' for name, part in value.items())})"
    if isinstance(value, list):
        plain = all(isinstance(part, int | float | str) for part in value)
        return f"{'c' if plain else 'list'}({', '.join(map(in_r, value))})"
    if isinstance(value, str):
        return json.dumps(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return f"{value}L" if isinstance(value, int) else repr(float(value))


def prepare(problem: Problem) -> Task:
    """Read columns and priors off bayou's model; every slope of a group must be among the fixed effects."""
    model = bayou.Model(**problem.arguments())
    design = model.design
    X, y = design.X, np.asarray(design.y)
    trials = np.asarray(design.trials) if design.family.name == "binomial" else np.ones(len(y))
    data: dict[str, Any] = {"y": y, "trials": trials}
    data |= {f"x{k}": X[:, k] for k in range(1, X.shape[1])}
    names = {f"beta{k}": f"beta[{name}]" for k, name in enumerate(design.coefficients)}
    groups = []
    for number, grouping in enumerate(design.groupings, start=1):
        short, inner = f"g{number}", grouping.coefficients
        data[short] = np.asarray(grouping.codes) + 1
        names |= {f"sd_{short}_{k}": f"sd_{grouping.name}[{name}]" for k, name in enumerate(inner)}
        pairs = [(i, k) for k in range(len(inner)) for i in range(k)]
        names |= {f"cor_{short}_{i}_{k}": f"cor_{grouping.name}[{inner[i]},{inner[k]}]" for i, k in pairs}
        slopes = [f"x{design.coefficients.index(name)}" for name in inner[1:]]
        scales = group_scales(design, grouping).tolist()
        groups.append({"column": short, "levels": len(grouping.levels), "slopes": slopes, "scales": scales})
    defaults = coefficient_defaults(design)
    settings: dict[str, Any] = {
        "problem": problem.name, "family": design.family.name, "n": len(y),
        "level": float(defaults.mean[0]), "widths": defaults.sd.tolist(), "centre": X.mean(axis=0).tolist(),
        "groups": groups, "sigma_scale": None, "unit": None,
    }  # fmt: skip
    if problem.unit_information:
        coefficients: Any = model.priors["beta"]
        covariance: Any = model.priors[f"Sigma_{design.groupings[0].name}"]
        settings["unit"] = {
            "mean": np.asarray(coefficients.mean).tolist(),
            "precision": np.linalg.inv(coefficients.cov).tolist(),
            "S0": np.asarray(covariance.scale).tolist(),
        }  # fmt: skip
    if design.family.name == "gaussian":
        names["sigma"] = "sigma"
        settings["sigma_scale"] = 2.5 * outcome_scale(design)
    frame = pd.DataFrame(data)
    whole = [name for name in data if name in ("y", "trials") or name.startswith("g")]
    if design.family.name == "gaussian":
        whole.remove("y")
    return Task(frame.astype({name: np.int64 for name in whole}), settings, names)

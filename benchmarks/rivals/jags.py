"""JAGS with its glm module: bayou's priors to the letter, chains one after the other.

``dscaled.wishart`` is the Huang-Wand prior of bayou's covariances and ``dscaled.gamma`` a half-t of an sd, so that
the posterior is the same one.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bayou._types import Array
from benchmarks.measure import Outcome
from benchmarks.outside import Stopped, Watched, watch
from benchmarks.problems import Problem
from benchmarks.task import Length, Task, in_r, prepare

NAME = "JAGS, glm module"
PROBLEMS = (
    "tumor", "sleepstudy", "cbpp", "seeds", "epil", "salamander", "grouseticks", "VerbAgg", "InstEval", "counts",
)  # fmt: skip
USUAL = Length(4, 5_000, 1_000)
LONG = {"VerbAgg": Length(1, 1_000, 500), "InstEval": Length(1, 500, 200), "counts": Length(1, 200, 200)}
OUTCOMES = {
    "gaussian": "y[i] ~ dnorm(eta[i], tau)", "poisson": "y[i] ~ dpois(mu[i])\n    log(mu[i]) <- eta[i]",
    "bernoulli": "y[i] ~ dbern(mu[i])\n    logit(mu[i]) <- eta[i]",
    "binomial": "y[i] ~ dbin(mu[i], trials[i])\n    logit(mu[i]) <- eta[i]",
}  # fmt: skip


def available() -> str | None:
    return None if shutil.which("jags") else "the program jags is not installed (Debian: apt-get install jags)."


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    length = LONG.get(problem.name, USUAL).shortened(scans)
    task = prepare(problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.bug").write_text(model(task.settings))
        (folder / "data.R").write_text(data(task))
        building = _jags(folder, "", seed, length)
        monitors = "".join(f"monitor {name}\n" for name in monitored(task.settings))
        whole = f"update {length.warmup}\n{monitors}update {length.draws}\ncoda *\n"
        full = _jags(folder, whole, seed, length)
        chains = [np.loadtxt(folder / f"CODAchain{c + 1}.txt")[:, 1] for c in range(length.chains)]
        index = re.findall(r"(\S+) (\d+) (\d+)", (folder / "CODAindex.txt").read_text())
    found = {k: np.stack([x[int(a) - 1 : int(b)] for x in chains]) for k, a, b in index}
    # reading the model is the same in both calls
    return Outcome(
        named(found, task), full.wall - building.wall, full.processor - building.processor, length.scans,
        compiling=building.wall, peak=full.peak,
    )  # fmt: skip


def model(settings: dict[str, Any]) -> str:
    """Return the model in JAGS's language; a factor's effects stand around its own share of the coefficients.

    With one factor the group coefficients are centred at the fixed effects where these are the same columns;
    levels alone only for Gaussian responses (not centred the glm module mixes 1.5 to 3.6 times as well on cbpp and
    seeds). All others have mean zero.
    """
    count, groups = len(settings["widths"]), settings["groups"]
    centred = _centred(settings)
    outside = [k for k in range(1, count) if k not in centred] if centred else list(range(1, count))
    terms = [] if centred else ["beta[1]"]
    terms += [f"beta[{k + 1}] * x{k}[i]" for k in outside]
    for group in groups:
        g, p = group["column"], len(group["scales"])
        at = [f"b{g}[{g}[i]]"] if p == 1 else [f"b{g}[{g}[i], {k + 1}]" for k in range(p)]
        terms += [at[0], *(f"{b} * {x}[i]" for b, x in zip(at[1:], group["slopes"], strict=True))]
    lines = [f"for (i in 1:n) {{\n    {OUTCOMES[settings['family']]}\n    eta[i] <- {' + '.join(terms)}\n  }}"]
    if settings["unit"] is None:
        slopes = "".join(f" - beta[{k + 1}] * centre[{k + 1}]" for k in range(1, count))
        lines += ["level ~ dnorm(m, pow(widths[1], -2))", f"beta[1] <- level{slopes}"]
        lines += [f"beta[{k + 1}] ~ dnorm(0, pow(widths[{k + 1}], -2))" for k in range(1, count)]
    else:
        lines.append(f"beta[1:{count}] ~ dmnorm(mean, precision)")
    for group in groups:
        g, p, size = group["column"], len(group["scales"]), group["levels"]
        if p == 1:
            lines.append(f"for (j in 1:{size}) {{ b{g}[j] ~ dnorm({'beta[1]' if centred else '0'}, Omega{g}) }}")
            lines += [f"Omega{g} ~ dscaled.gamma(A{g}, 2)", f"sd{g} <- pow(Omega{g}, -0.5)"]
            continue
        location = f"beta[1:{p}]" if centred else f"zero{g}"
        lines.append(f"for (j in 1:{size}) {{ b{g}[j, 1:{p}] ~ dmnorm({location}, Omega{g}) }}")
        prior = f"dscaled.wishart(A{g}, 2)" if settings["unit"] is None else f"dwish(S0, {p + 2})"
        lines += [f"Omega{g} ~ {prior}", f"Sigma{g} <- inverse(Omega{g})"]
        lines.append(f"for (k in 1:{p}) {{ sd{g}[k] <- sqrt(Sigma{g}[k, k]) }}")
        pairs = [(i, k) for k in range(1, p + 1) for i in range(1, k)]
        lines += [f"cor{g}[{i}, {k}] <- Sigma{g}[{i}, {k}] / (sd{g}[{i}] * sd{g}[{k}])" for i, k in pairs]
    if settings["sigma_scale"] is not None:
        lines += ["tau ~ dscaled.gamma(sigma_scale, 3)", "sigma <- pow(tau, -0.5)"]
    return "model {\n  " + "\n  ".join(lines) + "\n}\n"


def _centred(settings: dict[str, Any]) -> list[int]:
    """Return the fixed effects that one factor's coefficients stand around: its own columns, counted from 0."""
    if len(settings["groups"]) != 1 or not (settings["groups"][0]["slopes"] or settings["family"] == "gaussian"):
        return []
    columns = [0, *(int(x[1:]) for x in settings["groups"][0]["slopes"])]
    # `beta[1:p]` has to be a run from the first
    return columns if columns == list(range(len(columns))) else []


def monitored(settings: dict[str, Any]) -> list[str]:
    short = [group["column"] for group in settings["groups"]]
    several = [group["column"] for group in settings["groups"] if group["slopes"]]
    sigma = ["sigma"] if settings["sigma_scale"] is not None else []
    return ["beta", *(f"sd{g}" for g in short), *(f"cor{g}" for g in several), *sigma]


def data(task: Task) -> str:
    settings = task.settings
    given: dict[str, Any] = {str(name): task.data[name].tolist() for name in task.data if name != "trials"}
    if settings["family"] == "binomial":
        given["trials"] = task.data["trials"].tolist()
    given |= {f"A{group['column']}": group["scales"] for group in settings["groups"]}
    given |= {f"zero{group['column']}": [0.0] * len(group["scales"]) for group in settings["groups"]}
    given |= {"n": settings["n"], "m": settings["level"], "widths": settings["widths"], "centre": settings["centre"]}
    given["sigma_scale"] = settings["sigma_scale"]
    lines = [f"{name} <- {in_r(value)}" for name, value in given.items() if value is not None]
    for name, matrix in (settings["unit"] or {}).items():
        flat = np.asarray(matrix, dtype=float)
        shape = f".Dim = {in_r(list(flat.shape))}"
        lines.append(f"{name} <- structure({in_r(flat.T.ravel().tolist())}, {shape})" if flat.ndim == 2
                     else f"{name} <- {in_r(flat.tolist())}")  # fmt: skip
    return "\n".join(lines) + "\n"


def named(found: dict[str, Array], task: Task) -> dict[str, Array]:
    """Give JAGS's nodes bayou's names; the nodes count from 1 and a lone one has no index."""
    draws = {}
    for node, values in found.items():
        letters, numbers = re.fullmatch(r"(beta|sigma|sdg\d+|corg\d+)(?:\[([\d,]+)\])?", node).groups()  # type: ignore[union-attr]
        at = [str(int(k) - 1) for k in numbers.split(",")] if numbers else ["0"]
        if letters == "beta":
            short = f"beta{at[0]}"
        elif letters == "sigma":
            short = "sigma"
        else:
            kind, group = re.fullmatch(r"(sd|cor)(g\d+)", letters).groups()  # type: ignore[union-attr]
            short = "_".join((kind, group, *at))
        draws[task.names[short]] = values
    return draws


def _jags(folder: Path, sampling: str, seed: int, length: Length) -> Watched:
    start = "".join(f'parameters in "start{c}.R", chain({c})\n' for c in range(1, length.chains + 1))
    for c in range(1, length.chains + 1):
        (folder / f"start{c}.R").write_text(f'.RNG.name <- "base::Wichmann-Hill"\n.RNG.seed <- {10 * seed + c}\n')
    script = f'load glm\nmodel in "model.bug"\ndata in "data.R"\ncompile, nchains({length.chains})\n{start}initialize\n'
    (folder / "script").write_text(script + sampling)
    watched = watch(["jags", "script"], folder)
    if "rror" in watched.output:
        raise Stopped(f"failed: {watched.output.strip()[-300:]}.")
    return watched

"""JAGS with its glm module, the same priors as bayou's defaults, four chains one after the other."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Outcome, timed
from benchmarks.problems import Problem

NAME = "JAGS, glm module"
PROBLEMS = ("sleepstudy",)
SCANS, WARMUP, CHAINS = 5_000, 1_000, 4
NAMES = {
    "beta[1]": "beta[Intercept]", "beta[2]": "beta[Days]", "sigma": "sigma", "sd[1]": "sd_Subject[Intercept]",
    "sd[2]": "sd_Subject[Days]", "cor": "cor_Subject[Intercept,Days]",
}  # fmt: skip
# dscaled.wishart is the Huang-Wand prior, dscaled.gamma a half-t of the sd
MODEL = """model {
  for (i in 1:n) { y[i] ~ dnorm(b[g[i], 1] + b[g[i], 2] * x[i], tau) }
  for (j in 1:J) { b[j, 1:2] ~ dmnorm(beta, Omega) }
  level ~ dnorm(m, pow(2.5 * s, -2))
  beta[1] <- level - beta[2] * centre
  beta[2] ~ dnorm(0, pow(A[2], -2))
  Omega ~ dscaled.wishart(A, 2)
  tau ~ dscaled.gamma(2.5 * s, 3)
  sigma <- pow(tau, -0.5)
  Sigma <- inverse(Omega)
  sd[1] <- sqrt(Sigma[1, 1])
  sd[2] <- sqrt(Sigma[2, 2])
  cor <- Sigma[1, 2] / (sd[1] * sd[2])
}
"""


def available() -> str | None:
    return None if shutil.which("jags") else "the program jags is not installed (Debian: apt-get install jags)."


def run(problem: Problem, scans: int | None, seed: int) -> Outcome:
    draws = max((scans or SCANS * CHAINS) // CHAINS, 100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.bug").write_text(MODEL)
        (folder / "data.R").write_text(_data(problem))
        building, _ = timed(lambda: _jags(folder, "", seed))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        sampling = f"update {WARMUP}\n" + "".join(f"monitor {v}\n" for v in ("beta", "sd", "cor", "sigma"))
        wall, _ = timed(lambda: _jags(folder, f"{sampling}update {draws}\ncoda *\n", seed))
        processor = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        chains = [np.loadtxt(folder / f"CODAchain{c + 1}.txt")[:, 1] for c in range(CHAINS)]
        index = re.findall(r"(\S+) (\d+) (\d+)", (folder / "CODAindex.txt").read_text())
    values = {NAMES[k]: np.stack([x[int(a) - 1 : int(b)] for x in chains]) for k, a, b in index}
    return Outcome(values, wall - building, processor - building, (draws + WARMUP) * CHAINS, compiling=building)


def _jags(folder: Path, sampling: str, seed: int) -> None:
    start = "".join(f'parameters in "start{c}.R", chain({c})\n' for c in range(1, CHAINS + 1))
    for c in range(1, CHAINS + 1):
        (folder / f"start{c}.R").write_text(f'.RNG.name <- "base::Wichmann-Hill"\n.RNG.seed <- {10 * seed + c}\n')
    script = f'load glm\nmodel in "model.bug"\ndata in "data.R"\ncompile, nchains({CHAINS})\n{start}initialize\n'
    (folder / "script").write_text(script + sampling)
    done = subprocess.run(["jags", "script"], cwd=folder, capture_output=True, text=True)
    if done.returncode or "rror" in done.stdout + done.stderr:
        raise RuntimeError(f"jags failed: {(done.stdout + done.stderr).strip()[-500:]}")


def _data(problem: Problem) -> str:
    data = problem.data
    y, x = data["Reaction"].to_numpy(float), data["Days"].to_numpy(float)
    group = np.unique(data["Subject"], return_inverse=True)[1] + 1
    s, m, J = y.std(ddof=1), y.mean(), group.max()
    vectors = {"y": y, "x": x, "g": group, "A": [2.5 * s, 2.5 * s / x.std(ddof=1)]}
    lines = [f"{k} <- c({', '.join(map(str, np.asarray(v).tolist()))})" for k, v in vectors.items()]
    return "\n".join([*lines, f"n <- {len(y)}", f"J <- {J}", f"m <- {m}", f"s <- {s}", f"centre <- {x.mean()}"]) + "\n"

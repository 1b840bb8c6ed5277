"""Crossed factors at scale: effective draws a second, a sweep and a row, of plain Gibbs, factor by factor, and jointly.

Run with ``python -m benchmarks.crossed_scale``; ``--rows 10000000`` takes 2.1 GB. Ratings fall on 1e5 x 1e4 levels at
random; InstEval is beside them where ../shared is. Each line is one chain after a warm-up, timed by the processor's
seconds. `least b` is the least effective size among 500 coefficients drawn at random: of independent draws that share
is .24 for 200 draws, .50 for 500 and .64 for 1,000, so that only what lies well below says anything. Plain Gibbs,
the oracle of the mixing, draws the intercept, the coefficients of each factor, the covariances and sigma, each given
all else. ``--rival 20`` runs bambi with nutpie beside them (its own priors), for twenty minutes at most a line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayou
import bayou.engines.draws
from bayou._types import Array
from bayou.engines.covariances import precision_from_factors
from bayou.engines.crossed.chain import CrossedChain
from bayou.engines.crossed.choice import choose, joint_solver
from bayou.engines.crossed.coefficients import draw_levels
from bayou.engines.crossed.layout import Codes, Crossed, Rows, crossed
from bayou.engines.crossed.passes import cross_sums, remember
from bayou.engines.crossed.state import CrossState
from bayou.engines.crossed.sweep import scatter_of_block, write_down
from bayou.engines.moves import draw_block, draw_scale
from bayou.jit import kernel
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed
from bayou.posterior.convergence import effective_size
from benchmarks import table
from benchmarks.environments import python, python_missing
from benchmarks.outside import PROGRAMS, Stopped, watch

HEADINGS = (
    "data", "rows", "levels", "sampler", "ms a sweep", "ns a row", "intercept", "sd 1", "sd 2", "sigma", "least b",
    "intercept/s", "least of sds, sigma/s", "least b/s",
)  # fmt: skip
GROWTH = ("levels", "rows", "plain Gibbs", "factor by factor")
WATCHED = 500  # coefficients
SAMPLERS = ("plain", "crossed", "joint")
ENVIRONMENT = "bambi-nutpie"
LONGEST = 90  # of what a rival says when it fails
CHUNK = 20  # draws of all coefficients held at a time


def ratings(rows: int, levels: Sequence[int], seed: int = 1) -> dict[str, Any]:
    """Simulate ratings missing completely at random: sds .5 and .4 of the factors, 1 of the noise."""
    rng = np.random.default_rng(seed)
    g, h = (rng.integers(0, J, rows) for J in levels)
    y = 1.0 + rng.normal(size=rows)
    y += 0.5 * rng.normal(size=levels[0])[g]
    y += 0.4 * rng.normal(size=levels[1])[h]
    return {"y": y, "g": g, "h": h}


def circle(rows: int, levels: Sequence[int], width: float, seed: int = 1) -> dict[str, Any]:
    """Simulate ratings between neighbours on a circle: a graph through which news travel slowly."""
    rng = np.random.default_rng(seed)
    u = rng.random(rows)
    g = (u * levels[0]).astype(np.int64)
    h = ((u + width * rng.random(rows)) % 1.0 * levels[1]).astype(np.int64)
    y = 1.0 + 2.0 * rng.normal(size=levels[0])[g] + 2.0 * rng.normal(size=levels[1])[h] + rng.normal(size=rows)
    return {"y": y, "g": g, "h": h}


@kernel(entry=True)
def plain_gibbs(
    target: Crossed, state: CrossState, codes: Codes, beta: Array, b: Array, L: Array, sigma: Array,
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """Plain Gibbs: one sweep for each draw, every full conditional in turn; sigma of one level, Gaussian priors."""
    K, P, blocks = target.levels.shape[0], state.beta.shape[0], target.blocks
    for i in range(beta.shape[0]):
        if not precision_from_factors(blocks, state.L, state.Q, state.work[4:]):
            return i
        w = 1.0 / (state.sigma[0] * state.sigma[0])
        for k in range(K):
            remember(target, state, k)
        for c in range(P):
            t = state.d[c]
            for k in range(K):
                t -= state.pull[k, c]
            state.m[c] = w * t + target.linear[c]
            for e in range(c + 1):
                state.S[c, e] = w * state.D[c, e] + target.precision[c, e]
        if not cholesky(state.S, state.S, P):
            return i
        solve_lower(state.S, state.m, P)
        for c in range(P):
            state.m[c] += rng.standard_normal()
        solve_lower_transposed(state.S, state.m, P)
        for c in range(P):
            state.beta[c] = state.m[c]
        squares = 0.0
        for k in range(K):
            squares = target.squares[0] + cross_sums(target, state, codes, k)
            draw_levels(target, state, k, w, 1.0, rng)
            remember(target, state, k)
        last = K - 1
        for c in range(P):
            t = -2.0 * state.d[c] + 2.0 * state.pull[last, c]
            for k in range(last):
                t += 2.0 * state.pull[k, c]
            for e in range(P):
                t += state.D[c, e] * state.beta[e]
            squares += t * state.beta[c]
        for k in range(last):
            squares -= 2.0 * state.seen[k]
        for j in range(target.levels[last]):
            at = target.at_b[last] + j
            squares += state.b[at] * (state.A[target.at_A[last] + j] * state.b[at] - 2.0 * state.r[at])
        for r in range(blocks.size.shape[0]):
            scatter_of_block(target, state, r, state.work[6])
            J = float(target.levels[blocks.grouping[r]])
            if not draw_block(blocks, r, J, state.work[6], state.L[r], state.work[3:6], state.work[2], rng):
                return i
        state.sigma[0] = draw_scale(
            state.sigma[0], target.rows[0], squares, target.sigma_code, target.sigma_parameters, rng
        )
        write_down(state, i, beta, b, L, sigma)
    return int(beta.shape[0])


class PlainChain(CrossedChain):
    """A chain of plain Gibbs."""

    def advance(self, draws: int, thin: int, out: Any) -> int:
        """Run so many sweeps."""
        done: int = plain_gibbs(*self.packed, self.codes, out.beta, out.b, out.L, out.dispersion, self.rng)
        return done


@dataclass(frozen=True)
class Line:
    """One sampler on one set of ratings: processor seconds a sweep, and effective shares of the draws."""

    seconds: float
    intercept: float
    sds: tuple[float, float]
    sigma: float
    least: float


def measured(chain: CrossedChain, warmup: int, draws: int) -> Line:
    """Run one chain and count its effective draws."""
    target, q = chain.target, int(chain.target.at_b[-1])
    watched = np.sort(np.random.default_rng(0).permutation(q)[:WATCHED])
    B, m = target.blocks.A.shape

    def room(size: int, with_b: bool) -> bayou.engines.draws.Draws:
        b = np.empty((size, q if with_b else 0))
        return bayou.engines.draws.Draws(
            np.empty((size, len(target.linear))), b, np.zeros((size, B, m, m)), np.empty((size, 1)), {}
        )

    scan = 0
    while scan < warmup:
        size = min(chain.boundary(scan), warmup) - scan
        chain.advance(size, 1, room(size, False))
        scan += size
        chain.adapt(scan, warmup)
    numbers, coefficients, seconds = [], [], 0.0
    for low in range(0, draws, CHUNK):
        out = room(min(CHUNK, draws - low), True)
        before = time.process_time()
        chain.advance(len(out), 1, out)
        seconds += time.process_time() - before
        sds = np.abs(out.L[:, :, 0, 0])
        numbers.append(np.column_stack([out.beta[:, 0], sds[:, :2], out.dispersion[:, 0]]))
        coefficients.append(out.b[:, watched].copy())
    return line_of(np.concatenate(numbers), np.concatenate(coefficients), seconds / draws)


def line_of(numbers: Array, coefficients: Array, seconds: float) -> Line:
    """Count the effective draws of the intercept, sds and sigma (draws, 4) and of coefficients (draws, q)."""
    sizes = effective_size(numbers.T[:, None, :]) / len(numbers)
    least = float(effective_size(coefficients.T[:, None, :]).min()) / len(numbers)
    return Line(seconds, float(sizes[0]), (float(sizes[1]), float(sizes[2])), float(sizes[3]), least)


def chains(model: bayou.Model, target: Crossed, rows: Rows, which: Sequence[str]) -> dict[str, CrossedChain]:
    """Return a chain of each sampler, all from one seed."""
    out: dict[str, CrossedChain] = {}
    for name in which:
        rng = np.random.default_rng(1)
        kind = PlainChain if name == "plain" else CrossedChain
        solver = joint_solver(model, target, rows) if name == "joint" else None
        out[name] = kind(model, target, rows, solver, rng)
    return out


def lines(name: str, data: Any, which: Sequence[str], warmup: int, draws: int, formula: str) -> list[tuple[str, ...]]:
    """Return the lines of one set of ratings, told as they come."""
    model = bayou.Model(formula, data)
    target, rows = crossed(model)
    way, _ = choose(model, target, rows)
    n = model.design.n
    levels = " x ".join(f"{J:,}" for J in target.levels)
    made = []
    for sampler, chain in chains(model, target, rows, which).items():
        chain.advance(1, 1, _first(chain))
        said = sampler + (" (chosen)" if sampler == way.name else "")
        made.append((name, f"{n:,}", levels, said, *cells(measured(chain, warmup, draws), n)))
        print(" | ".join(made[-1]), flush=True)
    return made


def cells(line: Line, n: int) -> tuple[str, ...]:
    """Return what the table says of a chain on so many rows."""
    shares = (line.intercept, *line.sds, line.sigma, line.least)
    rates = (line.intercept, min(*line.sds, line.sigma), line.least)
    return (
        f"{1e3 * line.seconds:.2f}", f"{1e9 * line.seconds / n:.1f}", *(f"{share:.2f}" for share in shares),
        *(table.number(share / line.seconds) for share in rates),
    )  # fmt: skip


def beside(name: str, data: Any, levels: str, tune: int, draws: int, minutes: float) -> tuple[str, ...]:
    """Return the line of bambi with nutpie on the same ratings: seconds of sampling alone, warm-up and draws alike."""
    head = (name, f"{len(data['y']):,}", levels, "bambi, nutpie")
    gone = python_missing(ENVIRONMENT)
    if gone is None:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "data.npz", Path(folder) / "draws.npz"
            np.savez(source, y=np.asarray(data["y"]), g=np.asarray(data["g"]), h=np.asarray(data["h"]))
            numbers = (str(tune), str(draws), str(WATCHED))
            command = [str(python(ENVIRONMENT)), str(PROGRAMS / "bambi_crossed.py"), str(source), str(target), *numbers]
            try:
                said = json.loads(watch(command, Path(folder), minutes=minutes).output.splitlines()[-1])
                found = np.load(target)
                line = line_of(found["numbers"], found["b"], said["seconds"] / (tune + draws))
                made = (*head, *cells(line, len(data["y"])))
            except Stopped as stopped:
                gone = f"… {str(stopped)[-LONGEST:]}"
    if gone is not None:
        made = (*head, *["–"] * 9, gone)
    print(" | ".join(made), flush=True)
    return made


def _first(chain: CrossedChain) -> Any:
    target = chain.target
    B, m = target.blocks.A.shape
    parts = np.empty((1, len(target.linear))), np.empty((1, 0)), np.zeros((1, B, m, m)), np.empty((1, 1))
    return bayou.engines.draws.Draws(*parts, {})


def growth(sizes: Sequence[int] = (25, 100, 400, 1600), share: float = 0.1, draws: int = 4000) -> str:
    """Return sweeps for an independent draw of the intercept as levels grow, a share of all pairs rated."""
    rows = []
    for J in sizes:
        n = int(share * J * J)
        model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", ratings(n, (J, J)))
        target, laid = crossed(model)
        few = draws if J < 1000 else draws // 4
        each = chains(model, target, laid, ("plain", "crossed"))
        times = [f"{1.0 / measured(chain, 300, few).intercept:.1f}" for chain in each.values()]
        rows.append((f"{J:,} x {J:,}", f"{n:,}", *times))
        print(" | ".join(rows[-1]), flush=True)
    return table.markdown(GROWTH, rows, left=(0,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="ratings; by default 100,000 and 1,000,000")
    parser.add_argument("--levels", type=int, nargs=2, default=(100_000, 10_000))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--sampler", action="append", choices=SAMPLERS, help="only these")
    parser.add_argument("--without", action="append", default=[], help="leave out: circle, InstEval, growth")
    parser.add_argument("--rival", type=float, metavar="MINUTES", help="also bambi with nutpie, for so long at most")
    parser.add_argument("--out", type=Path, help="a file for the tables")
    given = parser.parse_args(arguments)
    formula, made = "y ~ 1 + (1 | g) + (1 | h)", []
    for n in given.rows or (100_000, 1_000_000):
        draws = given.draws if n < 5_000_000 else given.draws // 4
        data = ratings(n, given.levels)
        made += lines("ratings", data, given.sampler or SAMPLERS, 300, draws, formula)
        if given.rival is not None:
            made.append(beside("ratings", data, made[-1][2], 300, 300, given.rival))
    if "circle" not in given.without:
        data = circle(1_000_000, (3_000, 2_900), 5e-4)
        made += lines("neighbours", data, given.sampler or SAMPLERS, 300, given.draws, formula)
    path = Path(__file__).parents[2] / "shared" / "data" / "InstEval.csv"
    if path.is_file() and "InstEval" not in given.without:
        frame = pd.read_csv(path)
        made += lines("InstEval", frame, given.sampler or SAMPLERS, 300, given.draws, "y ~ 1 + (1 | s) + (1 | d)")
        if given.rival is not None:
            data = {"y": frame["y"], "g": frame["s"], "h": frame["d"]}
            made.append(beside("InstEval", data, made[-1][2], 300, 300, given.rival))
    elif "InstEval" not in given.without:
        print("InstEval: needs ../shared/data, which is not beside this clone")
    text = table.markdown(HEADINGS, made, left=(0, 3))
    if "growth" not in given.without:
        text += "\n" + growth()
    print(text)
    if given.out is not None:
        given.out.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

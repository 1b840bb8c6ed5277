"""bayou itself, with the settings that each problem is measured with, in a process of its own as the rivals."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import bayou
from benchmarks.measure import Outcome, timed
from benchmarks.outside import watch
from benchmarks.problems import PROBLEMS, Problem


@dataclass(frozen=True)
class Contestant:
    """One way to run bayou on one problem; the whole call of `bayou.fit` on one thread is timed."""

    name: str
    engine: str
    settings: dict[str, Any]

    def run(self, problem: Problem, seed: int, *, share: float = 1.0) -> Outcome:
        """Fit once; ``share`` of the draws, none for a call that only makes the kernels ready."""
        arguments = problem.arguments() | self.settings
        arguments["draws"] = draws = max(int(arguments["draws"] * share), 100)
        if share == 0.0:
            arguments |= {"draws": (draws := 10), "warmup": 10, "chains": 1}
        fits: list[bayou.Fit] = []
        wall, processor = timed(
            lambda: fits.append(bayou.fit(**arguments, engine=self.engine, seed=seed, cores=1, progress=False))
        )
        result = fits[0].result
        matrix = result.matrix()
        scans = result.chains * (result.info["warmup"] + draws * result.info["thin"])
        return Outcome({name: matrix[k] for k, name in enumerate(result.rows)}, wall, processor, scans)

    def outside(self, problem: Problem, repeats: int, *, share: float = 1.0) -> list[Outcome]:
        """Fit with the seeds 1 to ``repeats`` in a fresh process on one core, so that its memory can be told."""
        number = [c.name for c in OURS[problem.name]].index(self.name)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            asked = [problem.name, str(number), str(repeats), repr(share), str(folder)]
            watched = watch([sys.executable, "-m", "benchmarks.ours", *asked], Path(__file__).parents[1])
            outcomes = [_read(folder / f"{seed}.npz") for seed in range(1, repeats + 1)]
        return [replace(outcome, peak=watched.peak) for outcome in outcomes]


def _write(file: Path, outcome: Outcome, compiling: float) -> None:
    figures = [outcome.wall, outcome.processor, outcome.scans, compiling]
    names, draws = list(outcome.draws), np.stack(list(outcome.draws.values()))
    np.savez(file, names=np.array(names), draws=draws, figures=np.array(figures))


def _read(file: Path) -> Outcome:
    with np.load(file) as held:
        draws = dict(zip(held["names"].tolist(), held["draws"], strict=True))
        wall, processor, scans, compiling = held["figures"].tolist()
    return Outcome(draws, wall, processor, int(scans), compiling=compiling)


WALK = Contestant(
    "bayou, random walk", "metropolis",
    {"proposal": "random_walk", "chains": 1, "warmup": 0, "draws": 5_000, "thin": 10},
)  # fmt: skip
GIBBS = Contestant("bayou, Gibbs", "gibbs", {"chains": 4, "draws": 50_000})
METROPOLIS = Contestant("bayou, default proposal", "metropolis", {"chains": 4, "draws": 5_000})


# bayou's own default length: with less the warm-up would be most of the call
USUAL = Contestant("bayou, default proposal", "metropolis", {"chains": 4, "draws": 2_000})
# two chains: the rate is that of four
LARGE = Contestant("bayou, default proposal", "metropolis", {"chains": 2, "draws": 2_000})
LARGE_GIBBS = Contestant("bayou, Gibbs", "gibbs", {"chains": 2, "draws": 2_000})

# the first of each problem is what the rivals are held against
OURS: dict[str, tuple[Contestant, ...]] = {
    "tumor": (METROPOLIS, WALK),
    "sleepstudy": (GIBBS,),
    "cbpp": (METROPOLIS,),
    "seeds": (METROPOLIS,),
    "epil": (METROPOLIS,),
    "salamander": (METROPOLIS,),
    "grouseticks": (USUAL,),
    "VerbAgg": (USUAL,),
    "InstEval": (LARGE_GIBBS,),
    "counts": (LARGE,),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit as `Contestant.outside` asks; the first call reads the kernels from the disk, or compiles them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours")
    parser.add_argument("problem")
    parser.add_argument("number", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("share", type=float)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    problem = PROBLEMS[given.problem]
    contestant = OURS[given.problem][given.number]
    first = contestant.run(problem, 0, share=0.0).wall
    for seed in range(1, given.repeats + 1):
        _write(given.folder / f"{seed}.npz", contestant.run(problem, seed, share=given.share), first)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""bayou itself, with the settings that each problem is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bayou
from benchmarks.measure import Outcome, timed
from benchmarks.problems import Problem


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


WALK = Contestant(
    "bayou, random walk", "metropolis",
    {"proposal": "random_walk", "chains": 1, "warmup": 0, "draws": 5_000, "thin": 10},
)  # fmt: skip
GIBBS = Contestant("bayou, Gibbs", "gibbs", {"chains": 4, "draws": 50_000})
METROPOLIS = Contestant("bayou, default proposal", "metropolis", {"chains": 4, "draws": 5_000})


def _fewer(contestant: Contestant, draws: int) -> Contestant:
    return Contestant(contestant.name, contestant.engine, contestant.settings | {"draws": draws})


# the first of each problem is what the rivals are held against
OURS: dict[str, tuple[Contestant, ...]] = {
    "tumor": (METROPOLIS, WALK),
    "sleepstudy": (GIBBS,),
    "cbpp": (METROPOLIS,),
    "grouseticks": (_fewer(METROPOLIS, 2_000),),
    "VerbAgg": (_fewer(METROPOLIS, 500),),
    "InstEval": (_fewer(GIBBS, 250),),
    "counts": (_fewer(METROPOLIS, 250),),
}

"""How seconds and memory grow with rows, groups and coefficients: ``python -m benchmarks --only growth``.

Each line is a fresh process on one core that simulates its data, builds the model and runs it for few and for many
sweeps: the difference is the time of a sweep, what is left of the shorter run is the start (sums over the rows,
starting values, a hundred sweeps of warm-up). Seconds are the processor's, so that other work on the machine changes
little.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import table
from benchmarks.outside import Stopped, watch
from benchmarks.promises import Target

WARMUP = 100
HEADINGS = ("family", "rows", "groups", "fixed effects", "model s", "start s", "µs a sweep", "ns a row", "peak GB")
PROGRAM = """
import json, time
import numpy as np, pandas as pd
import bayou

rows, groups, effects, family = {rows}, {groups}, {effects}, {family!r}
engine = "gibbs" if family == "gaussian" else "metropolis"


def simulated(rows, groups):
    rng = np.random.default_rng(1)
    data = {{f"x{{k}}": rng.normal(size=rows) for k in range(1, effects)}}
    data["g"] = rng.permutation(rows) % groups
    level, slope = 0.5 * rng.normal(size=groups), 0.3 * rng.normal(size=groups)
    eta = 0.5 + level[data["g"]] + (0.2 + slope[data["g"]]) * data["x1"]
    data["y"] = eta + rng.normal(size=rows) if family == "gaussian" else rng.poisson(np.exp(eta))
    return pd.DataFrame(data)


def fitted(model, draws):
    began = time.process_time()
    fit = bayou.fit(
        model, engine=engine, seed=1, chains=1, cores=1, draws=draws, warmup={warmup}, keep_effects=False,
        progress=False,
    )
    return time.process_time() - began


formula = "y ~ " + " + ".join(f"x{{k}}" for k in range(1, effects)) + " + (x1 | g)"
fitted(bayou.Model(formula, simulated(max(1000, 20 * effects), 20), family), 10)  # imports and kernels
data = simulated(rows, groups)
began = time.process_time()
model = bayou.Model(formula, data, family)
building = time.process_time() - began
shortest, short = fitted(model, 50), fitted(model, 250)
# as many sweeps as take some four seconds
more = int(min(max(4.0 * 200 / max(short - shortest, 1e-3), 250), 40_000))
sweep = (fitted(model, 250 + more) - short) / more
print(json.dumps([building, short - 250 * sweep, sweep]))
"""


@dataclass(frozen=True)
class Size:
    """One line: what is simulated, and what it took (seconds, GB)."""

    family: str
    rows: int
    groups: int
    effects: int = 2
    model: float = float("nan")
    start: float = float("nan")
    sweep: float = float("nan")
    peak: float = float("nan")

    def measured(self) -> Size:
        """Run the line; nan where its process was stopped at a limit."""
        given = {"rows": self.rows, "groups": self.groups, "effects": self.effects, "family": self.family}
        program = PROGRAM.format(**given, warmup=WARMUP)
        try:
            watched = watch([sys.executable, "-c", program], Path(__file__).parents[1])
        except Stopped:
            return self
        took = json.loads(watched.output.splitlines()[-1])
        return replace(self, model=took[0], start=took[1], sweep=took[2], peak=watched.peak)

    @property
    def cells(self) -> tuple[str, ...]:
        number = table.number
        return (
            self.family, f"{self.rows:,}", f"{self.groups:,}", str(self.effects), number(self.model),
            number(self.start), number(1e6 * self.sweep), number(1e9 * self.sweep / self.rows), number(self.peak),
        )  # fmt: skip


ROWS = [Size("gaussian", rows, 1_000) for rows in (10_000, 100_000, 1_000_000, 10_000_000)]
GROUPS = [Size("gaussian", 1_000_000, groups) for groups in (100, 1_000, 10_000, 100_000)]
EFFECTS = [Size("gaussian", 100_000, 1_000, effects) for effects in (2, 5, 10, 20, 50)]
COUNTS = [Size("poisson", rows, 1_000) for rows in (10_000, 100_000, 1_000_000)]
COUNT_GROUPS = [Size("poisson", 100_000, groups) for groups in (100, 10_000)]
COUNT_EFFECTS = [Size("poisson", 100_000, 1_000, effects) for effects in (10, 50)]

FULL = """
import time
import numpy as np, pandas as pd
import bayou

rng = np.random.default_rng(1)
rows, groups = 1_000_000, 100_000
group, x = rng.integers(0, groups, rows), rng.normal(size=rows)
b = rng.normal(size=(groups, 2)) * [0.5, 0.3]
data = pd.DataFrame({"y": 1 + b[group, 0] + (0.2 + b[group, 1]) * x + rng.normal(size=rows), "x": x, "g": group})
settings = {"engine": "gibbs", "seed": 1, "chains": 1, "cores": 1, "progress": False}
bayou.fit("y ~ x + (x | g)", data.head(1000).assign(g=np.arange(1000) % 20), draws=10, warmup=10, **settings)
model = bayou.Model("y ~ x + (x | g)", data)
began = time.process_time()
bayou.fit(model, draws=1000, warmup=1000, **settings)
print(time.process_time() - began)
"""


def full() -> list[Target]:
    """Return the promise of 2,000 sweeps of a million rows in 100,000 groups, whole call, effects kept as usual."""
    what = "2,000 Gibbs sweeps, 1e6 rows in 1e5 groups with a slope"
    try:
        watched = watch([sys.executable, "-c", FULL], Path(__file__).parents[1])
    except Stopped:
        return [(f"{what}, s", float("nan"), 60.0, "most")]
    return [(f"{what}, CPU s of the whole call", float(watched.output.split()[-1]), 60.0, "most")]


def constant(sizes: Sequence[Size]) -> list[Target]:
    """Return the promise that a sweep costs the same from 1e5 rows to 1e7 in the same groups."""
    sweeps = [size.sweep for size in sizes if size.family == "gaussian" and size.rows >= 100_000]
    what = "Gaussian sweep, most against least from 1e5 to 1e7 rows in 1,000 groups, times"
    # a tenth is what one run differs from the next
    return [(what, max(sweeps) / min(sweeps), 1.1, "most")]


def report() -> tuple[str, list[Target]]:
    """Return the table and the promises that it answers; each line is told on stderr as it comes."""
    sizes = []
    for size in (*ROWS, *GROUPS, *EFFECTS, *COUNTS, *COUNT_GROUPS, *COUNT_EFFECTS):
        sizes.append(size.measured())
        print("growth:", *sizes[-1].cells, file=sys.stderr, flush=True)
    cells = [size.cells for size in sizes]
    return table.markdown(HEADINGS, cells, left=(0,)), [*constant(sizes[: len(ROWS)]), *full()]


if __name__ == "__main__":
    text, lines = report()
    print(f"{text}\n\n{table.targets(lines)}")

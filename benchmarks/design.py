"""From formula to design with 1,000,000 rows, 100,000 groups and a random slope: seconds and peak memory.

The peak is of a fresh process, above what the imports and the data themselves take.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, time
import numpy as np, pandas as pd
import bayou
from bayou import design, families
from bayou.formula import parse

rows, groups = {rows}, {groups}
rng = np.random.default_rng(1)
data = pd.DataFrame({{"y": rng.normal(size=rows), "x": rng.normal(size=rows), "g": rng.integers(0, groups, rows)}})
family = families.get("gaussian")
design.build(parse("y ~ x + (1 | g)"), data.head(100).assign(g=np.arange(100) % 5), family)  # imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
built = design.build(parse("y ~ x + (x | g)"), data, family)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert built.X.shape == (rows, 2) and len(built.groupings[0].levels) == min(groups, len(np.unique(data["g"])))
print(seconds, (peak - before) / 2**20, peak / 2**20)
"""


def measure(rows: int = 1_000_000, groups: int = 100_000) -> tuple[float, float, float]:
    """Return seconds, GB above imports and data, and GB of the whole process."""
    command = [sys.executable, "-c", PROGRAM.format(rows=rows, groups=groups)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, above, whole = map(float, done.stdout.split())
    return seconds, above, whole


def targets() -> list[tuple[str, float, float, str]]:
    """Return the figures with their targets."""
    seconds, _, whole = measure()
    what = "formula to design, 1e6 rows in 1e5 groups with a slope"
    return [(f"{what}, s", seconds, 2.0, "most"), (f"{what}, GB of the process", whole, 1.0, "most")]


if __name__ == "__main__":
    from benchmarks.table import targets as table

    print(table(targets()))

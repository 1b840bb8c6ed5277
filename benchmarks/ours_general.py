"""One fit by bayou in a fresh process, timed from the start of Python to a posterior, and again once all is warm."""

from __future__ import annotations

import time

started = time.perf_counter()  # before the imports: they are what a user waits for, too

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import bayou  # noqa: E402
from benchmarks.problems import PROBLEMS  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, write the draws and the seconds; a second fit tells what the sampling alone takes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours_general")
    parser.add_argument("problem")
    parser.add_argument("engine")
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    asked = PROBLEMS[given.problem].arguments() | {"engine": given.engine} | given.settings
    fit = bayou.fit(**asked, seed=1)
    whole = {"wall": time.perf_counter() - started, "processor": time.process_time()}
    wall, processor = time.perf_counter(), time.process_time()
    fit = bayou.fit(**asked, seed=2)
    warm = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    result = fit.result
    approximation = result.approximation
    check = {} if approximation is None else dict(approximation.check)
    weighted = float(check.get("effective_size", np.inf)) if check.get("ok") else np.inf
    note = str(result.info.get("engine", given.engine)) if given.engine == "auto" else ""
    if "diverging" in result.statistics and (count := int(np.sum(result.statistics["diverging"]))):
        note = f"{count} divergences"
    matrix = result.matrix()
    np.savez(given.folder / "draws.npz", names=np.array(list(result.rows)), draws=matrix)
    told = {"whole": whole, "warm": warm, "weighted": weighted, "note": note, "ok": bool(fit.verdict.ok)}
    (given.folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

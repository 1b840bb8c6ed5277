"""More rows than memory: ``python -m benchmarks.streaming --folder DIR``.

Parquet files of 10⁶ to 10⁸ rows, read by Polars alone (a group-by of the same columns) and by bayou, every step in a
process of its own with every core. Normal rows, 100 a group, with a random slope: their sums, then REML and 1,000
draws. Binary rows with four binary covariates, 1,000 a group: merged, then Laplace and Metropolis. Counts with a
random slope, 100 a group: kept in files, then Laplace and a few scans of Metropolis. The files stay in the folder: 10⁸
rows are 3 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.outside import Stopped, watch
from benchmarks.table import markdown, number

HEADINGS = (
    "rows", "groups", "read as", "group-by s", "model s", "times", "kept rows", "engine", "fit s", "peak GB", "",
)  # fmt: skip
CHAINS = {"draws": 1000, "warmup": 200, "chains": 1, "cores": 1, "progress": False, "keep_effects": False}
STEPS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "normal": (("reml", {}), ("gibbs", CHAINS)),
    "binary": (("laplace", {}), ("metropolis", CHAINS)),
    "counts": (("laplace", {}), ("metropolis", CHAINS | {"draws": 30, "warmup": 20})),
}
IN_MEMORY = 10**6
"""Up to so many rows the same fit runs in memory too."""


@dataclass(frozen=True)
class Line:
    """One fit: what it took and what it found."""

    kind: str
    rows: int
    streamed: bool
    engine: str
    bare: float
    peak: float = float("nan")
    said: dict[str, Any] | None = None
    missing: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table."""
        groups = f"{self.rows // (1000 if self.kind == 'binary' else 100):,}"
        how = "streamed" if self.streamed else "in memory"
        if self.said is None:
            gone = ["–"] * 3
            return (f"{self.rows:,}", groups, how, number(self.bare), *gone, self.engine, "–", "–", self.missing)
        return (
            f"{self.rows:,}", groups, how, number(self.bare), number(self.said["model"]),
            number(self.said["model"] / self.bare), f"{self.said['kept']:,}", self.engine, number(self.said["fit"]),
            number(self.peak), "",
        )  # fmt: skip


def _step(*arguments: str) -> tuple[dict[str, Any], float]:
    command = [sys.executable, "-m", "benchmarks.ours_streaming", *arguments]
    watched = watch(command, Path(__file__).parents[1], every_core=True)
    said: dict[str, Any] = json.loads(watched.output.splitlines()[-1])
    return said, watched.peak


def lines(kind: str, rows: int, folder: Path, engines: Sequence[str]) -> list[Line]:
    """Measure all fits of one size; the bare group-by is run twice, and its faster run counts."""
    data = folder / f"{kind}{rows}"
    if not data.is_dir():
        _step("simulate", kind, str(rows), str(data))
    bare = min(_step("bare", kind, str(rows), str(data))[0]["group-by"] for _ in range(2))
    out = []
    for streamed in (True, False) if rows <= IN_MEMORY else (True,):
        for engine, settings in STEPS[kind]:
            if engines and engine not in engines:
                continue
            given = ["fit", kind, str(rows), str(data), "--engine", engine, "--settings", json.dumps(settings)]
            try:
                said, peak = _step(*given, *([] if streamed else ["--in-memory"]))
                out.append(Line(kind, rows, streamed, engine, bare, peak, said))
            except Stopped as error:
                out.append(Line(kind, rows, streamed, engine, bare, missing=str(error)))
            print("|", " | ".join(out[-1].cells()), "|", file=sys.stderr, flush=True)
    return out


def differences(measured: Sequence[Line]) -> list[str]:
    """Say how far the streamed and the in-memory fits of the same rows lie apart, in posterior or standard sds."""
    out = []
    held = {(x.kind, x.rows, x.engine): x.said for x in measured if not x.streamed and x.said}
    for line in measured:
        other = held.get((line.kind, line.rows, line.engine))
        if not line.streamed or line.said is None or other is None:
            continue
        sds = {name: sd for name, sd in other["sd"].items() if sd > 0.0}
        most = max(abs(line.said["mean"][name] - other["mean"][name]) / sd for name, sd in sds.items())
        out.append(f"{line.kind}, {line.rows:,} rows, {line.engine}: at most {most:.1e} sd apart")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--rows", type=float, nargs="*", default=[1e6, 1e7, 1e8])
    parser.add_argument("--kind", choices=sorted(STEPS), action="append")
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if given.folder is None else given.folder
        for kind in given.kind or sorted(STEPS, reverse=True):
            found = [line for rows in given.rows for line in lines(kind, int(rows), folder, given.engine)]
            print(f"\n## {kind}\n\n{markdown(HEADINGS, [line.cells() for line in found], left=(2, 7, 10))}\n")
            for sentence in differences(found):
                print(f"- {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

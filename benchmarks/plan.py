"""What `bayou plan` says beside what it took: ``python -m benchmarks.plan --folder DIR`` (the files of streaming).

Each line is a fit of `benchmarks.streaming`, in a process of its own: seconds of reading and of a draw, and memory, as
planned and as measured, and their ratio. The figures of `bayou.planning.costs` are held to these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import bayou
from benchmarks.ours_streaming import formula
from benchmarks.streaming import CHAINS, STEPS, Line, lines
from benchmarks.table import markdown, number

HEADINGS = ("data", "rows", "way", "what", "planned", "measured", "ratio")
SAMPLERS = ("gibbs", "metropolis")


def beside(line: Line, folder: Path) -> list[tuple[str, ...]]:
    """Return the lines of the table for one fit."""
    text, family = formula(line.kind)
    told = bayou.plan(text, folder / f"{line.kind}{line.rows}", family, chains=1, draws=CHAINS["draws"])
    way = told.ways[1 if line.streamed else 0]
    if line.said is None:
        return []
    sampled = line.engine in SAMPLERS
    settings = dict(STEPS[line.kind])[line.engine] if sampled else {}
    scans = settings.get("draws", 0) + settings.get("warmup", 0)
    pairs = [
        ("reading s", way.reading, line.said["model"]),
        ("draw ms" if sampled else "maximum s",
         1e3 * way.draw if sampled else way.maximum,
         1e3 * line.said["fit"] / scans if sampled else line.said["fit"]),
        ("GB", way.memory / 2**30, line.peak),
    ]  # fmt: skip
    return [
        (line.kind, f"{line.rows:,}", way.name, f"{line.engine}: {what}", number(a), number(b), number(a / b))
        for what, a, b in pairs
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--rows", type=float, nargs="*", default=[1e6, 1e7])
    parser.add_argument("--kind", choices=sorted(STEPS), action="append")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    found: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if given.folder is None else given.folder
        for kind in given.kind or sorted(STEPS):
            for rows in given.rows:
                for line in lines(kind, int(rows), folder, []):
                    found += beside(line, folder)
    print(markdown(HEADINGS, found, left=(0, 2, 3)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

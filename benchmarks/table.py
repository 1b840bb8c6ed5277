"""The tables: markdown that also reads as plain text, with the ratios of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.measure import Figure, distance

HEADINGS = (
    "program", "scans", "wall s", "CPU s", "compiling s", "µs a scan", "least ESS", "of", "R-hat", "ESS/s a thread",
    "times slower", "means off",
)  # fmt: skip


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return a table whose columns are padded: numbers to the right, the columns ``left`` to the left."""
    widths = [max(len(row[k]) for row in [headings, *rows]) for k in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join("-" * w if k in left else "-" * (w - 1) + ":" for k, w in enumerate(widths)) + " |"
    return "\n".join([line(headings), rule, *map(line, rows)])


def number(value: float) -> str:
    """Return three digits or so, the way a table wants them."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def comparison(figures: Sequence[Figure]) -> str:
    """Return the table of one problem; the first line is what the others are held against.

    "times slower" compares effective draws per second of one thread; "means off" is the largest difference
    of a posterior mean from the first line's, in posterior sds.
    """
    first = figures[0]
    rows = []
    for figure in figures:
        if figure.missing is not None:
            continue
        slower = first.rate_a_thread / figure.rate_a_thread
        rows.append((
            figure.program, f"{figure.scans:,}", number(figure.wall), number(figure.processor),
            number(figure.compiling), number(figure.scan * 1e6), number(figure.effective), figure.worst,
            f"{figure.r_hat:.3f}", number(figure.rate_a_thread), number(slower), f"{distance(first, figure):.2f}",
        ))  # fmt: skip
    text = markdown(HEADINGS, rows, left=(0, 7)) if rows else ""
    missing = [f"Missing: {figure.program}: {figure.missing}" for figure in figures if figure.missing is not None]
    return "\n".join([text, "", *missing]).strip()


def targets(lines: Sequence[tuple[str, float, float, str]]) -> str:
    """Return a table of what was promised: (what, measured, target, "least" or "most")."""
    rows = []
    for what, measured, target, bound in lines:
        met = measured >= target if bound == "least" else measured <= target
        rows.append((what, number(measured), f"at {bound} {number(target)}", "met" if met else "MISSED"))
    return markdown(("target", "measured", "promised", ""), rows, left=(0, 3))

"""The tables: markdown that also reads as plain text, with the ratios of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.measure import Figure, distance
from benchmarks.promises import best, ours

HEADINGS = (
    "program", "scans", "wall s", "CPU s", "compiling s", "peak GB", "least ESS", "of", "R-hat", "ESS/s",
    "ESS/CPU s", "times slower", "means off", "",
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

    "times slower" compares effective draws per second of the processor; "means off" is the largest difference
    of a posterior mean from the first line's, in posterior sds.
    """
    first = figures[0]
    rows: list[tuple[str, ...]] = []
    missing: list[str] = []
    for figure in figures:
        if figure.missing is not None:
            short = "not installed" if "not installed" in figure.missing else "stopped, see below"
            rows.append((figure.program, *["–"] * (len(HEADINGS) - 2), short))
            missing.append(f"- {figure.program}: {figure.missing}")
            continue
        slower = first.rate_processor / figure.rate_processor
        notes = [figure.note] if figure.note else []
        notes += ["not converged"] if not figure.converged else []
        rows.append((
            figure.program, f"{figure.scans:,}", number(figure.wall), number(figure.processor),
            number(figure.compiling), number(figure.peak), number(figure.effective), figure.worst,
            f"{figure.r_hat:.3f}", number(figure.rate_a_thread), number(figure.rate_processor), number(slower),
            f"{distance(first, figure):.2f}", "; ".join(notes),
        ))  # fmt: skip
    text = markdown(HEADINGS, rows, left=(0, 7, len(HEADINGS) - 1))
    return "\n".join([text, "", *missing]).strip()


def summary(contests: Sequence[Sequence[Figure]]) -> str:
    """Return one line a problem, effective draws per second of the processor; bayou's is its first figure's.

    In brackets stands what is not counted, since its chains disagree.
    """
    programs = list(dict.fromkeys(f.program for figures in contests for f in figures if not ours(f)))
    rows = []
    for figures in contests:
        by = {figure.program: figure for figure in figures}
        first, rival = figures[0], best(figures)
        cells = []
        for program in programs:
            figure = by.get(program)
            if figure is None or figure.missing is not None:
                absent = figure is None or "not installed" in (figure.missing or "")
                cells.append("–" if absent else "stopped")
            else:
                rate = number(figure.rate_processor)
                cells.append(rate if figure.converged else f"({rate})")
        times = number(first.rate_processor / rival.rate_processor) if rival is not None else "–"
        rows.append((first.problem, number(first.rate_processor), *cells, times))
    return markdown(("ESS/CPU s", "bayou", *programs, "times the best"), rows, left=(0,))


def targets(lines: Sequence[tuple[str, float, float, str]]) -> str:
    """Return a table of what was promised: (what, measured, target, "least" or "most")."""
    rows = []
    for what, measured, target, bound in lines:
        met = measured >= target if bound == "least" else measured <= target
        verdict = "reached" if met else "NOT REACHED"
        rows.append((what, number(measured), f"at {bound} {number(target)}", verdict if measured == measured else "–"))
    return markdown(("target", "measured", "promised", ""), rows, left=(0, 3))

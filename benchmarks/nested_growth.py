"""How the seconds of INLA grow with the side of a lattice, with rows and groups, and with nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import ours_nested, table
from benchmarks.nested_figure import CORRECTED, OURS, Nest, by_program
from benchmarks.nested_problems import EVERY, Nested

SIZES = (
    "lattice 25 x 25", "lattice 50 x 50", "lattice 100 x 100", "lattice 200 x 200",
    "counts, 10,000 rows", "counts, 100,000 rows", "counts, 1,000,000 rows",
    "grouseticks, empirical_bayes", "grouseticks, ccd", "grouseticks, grid",
)  # fmt: skip
HEADINGS = (
    "problem", "rows", "coefficients", "hyperparameters", "nodes", "model CPU s", "fit CPU s", "corrected fit CPU s",
    "fit, µs a coefficient and node", "effective", "peak GB", "",
)  # fmt: skip
Measure = Callable[[Nested, float, float | None], Sequence[Nest]]


def report(
    seconds: float, minutes: float, sizes: Sequence[str] = SIZES, measure: Measure = ours_nested.outside
) -> str:
    """Return the table; each line is told as it comes."""
    rows = []
    for name in sizes:
        problem = EVERY[name]
        try:
            count = len(problem.data)
        except FileNotFoundError as missing:
            rows.append((name, *["–"] * (len(HEADINGS) - 2), str(missing)))
            continue
        rows.append(cells(name, count, measure(problem, seconds, minutes)))
        print("growth:", *rows[-1], file=sys.stderr, flush=True)
    return table.markdown(HEADINGS, rows, left=(0, len(HEADINGS) - 1))


def cells(name: str, count: int, figures: Sequence[Nest]) -> tuple[str, ...]:
    """Return one row; a fit that was stopped has a word in place of its seconds."""
    by = by_program(figures)
    plain, corrected = by.get(OURS), by.get(CORRECTED)
    notes = [figure.missing or figure.note for figure in figures]
    known = plain or corrected
    if known is None:
        return name, f"{count:,}", *["–"] * (len(HEADINGS) - 3), "; ".join(filter(None, notes))
    each = plain.fit_cpu / known.coefficients / max(known.nodes, 1) * 1e6 if plain is not None else float("nan")
    return (
        name, f"{count:,}", f"{known.coefficients:,}", str(known.hyper), str(known.nodes),
        table.number(known.model_cpu), table.number(plain.fit_cpu) if plain is not None else "stopped",
        table.number(corrected.fit_cpu) if corrected is not None else "stopped", table.number(each),
        table.number(corrected.effective) if corrected is not None else "–",
        table.number(max(figure.peak for figure in by.values())), "; ".join(filter(None, notes)),
    )  # fmt: skip

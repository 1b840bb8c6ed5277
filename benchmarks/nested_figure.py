"""What one program took for one problem of INLA, and what its answer is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

NAN = float("nan")
ENOUGH = 400
"""Effective draws until which a program that draws is timed."""
OURS, CORRECTED, RECORDED = "bayou", "bayou, corrected", "R-INLA"


@dataclass(frozen=True)
class Nest:
    """One line of the table; ``missing`` says in a sentence why there is nothing to show.

    Attributes
    ----------
    model, fit, whole
        Seconds of building the model, of fitting what was built (with the marginals of the printed rows), and both.
    model_cpu, fit_cpu, whole_cpu
        The processor's.
    repeats
        Of which the least counts, or with a correction the median.
    peak
        GB of the process.
    reached
        The log marginal likelihood, or of a program that maximises the log likelihood.
    hyper, nodes, coefficients
        How many there are.
    effective, k_hat, shift
        Of the self-check; of a program that draws the effective draws.
    note
        What else has to be known.
    """

    problem: str
    program: str
    missing: str | None = None
    model: float = NAN
    fit: float = NAN
    whole: float = NAN
    model_cpu: float = NAN
    fit_cpu: float = NAN
    whole_cpu: float = NAN
    repeats: int = 0
    peak: float = NAN
    reached: float = NAN
    hyper: int = 0
    nodes: int = 0
    coefficients: int = 0
    effective: float = NAN
    k_hat: float = NAN
    shift: float = NAN
    note: str = ""

    @property
    def compared(self) -> float:
        """Seconds that ratios are of: the processor's of the whole call, the wall's where only that is known."""
        return self.whole_cpu if self.whole_cpu == self.whole_cpu else self.whole

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def by_program(figures: Sequence[Nest]) -> dict[str, Nest]:
    """Return the figures that are there."""
    return {figure.program: figure for figure in figures if figure.missing is None}

"""Where a variance may be zero and a correlation one: no failure, and worth knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayou.posterior import Marginal, Posterior

__all__ = ["boundaries"]

NEAR_ZERO = 0.05


def boundaries(posterior: Posterior) -> list[str]:
    """Say where a group sd may be zero or a correlation one in size."""
    notes = []
    design = posterior.model.design
    unit = 1.0
    if posterior.dispersion == "sigma":
        known = _marginal(posterior, "sigma")
        unit = float(posterior.draws["sigma"].mean()) if known is None else known.mean
    for grouping, moments in zip(design.groupings, design.moments.groups, strict=True):
        name = posterior.names[grouping.name]
        sizes = moments.rms
        for k, column in enumerate(grouping.coefficients):
            row = f"sd_{name}[{column}]"
            if row not in posterior.rows:
                continue
            bar = NEAR_ZERO * unit / sizes[k] if sizes[k] > 0.0 else 0.0
            chance = _chance(posterior, row, bar, below=True)
            if chance > 0.05:
                notes.append(f"{row} may be zero: P(sd < {bar:.2g}) = {chance:.2f}. The groups may hardly differ here.")
    for row in posterior.rows:
        if row.startswith("cor_"):
            chance = _chance(posterior, row, 0.99, below=False) + _chance(posterior, row, -0.99, below=True)
            if chance > 0.05:
                notes.append(
                    f"{row} may be ±1: P(|cor| > 0.99) = {chance:.2f}. Consider uncorrelated coefficients, (… || g)."
                )
    return notes + _structured_boundaries(posterior, NEAR_ZERO * unit)


def _structured_boundaries(posterior: Posterior, bar: float) -> list[str]:
    """Say where a structured effect may be nothing, or an autoregression a random walk."""
    notes = []
    for name, term in posterior.structured.items():
        chance = _chance(posterior, f"sd_{name}", bar, below=True)
        if chance > 0.05:
            notes.append(
                f"sd_{name} may be zero: P(sd < {bar:.2g}) = {chance:.2f}. {term.text} may hardly matter here."
            )
        chance = _chance(posterior, f"rho_{name}", 0.99, below=False) if term.kind == "ar1" else 0.0
        if chance > 0.05:
            notes.append(f"rho_{name} may be one: P(rho > 0.99) = {chance:.2f}. Consider rw1({term.column}).")
    return notes


def _marginal(posterior: Posterior, row: str) -> Marginal | None:
    """Return the density of a row where there is one: nothing need be drawn."""
    found = posterior.approximation
    return None if found is None else found.marginals.get(row)


def _chance(posterior: Posterior, row: str, bar: float, below: bool) -> float:
    """Return the probability of a row below or above a bar; zero for one that the model does not have."""
    if row not in posterior.rows:
        return 0.0
    known = _marginal(posterior, row)
    if known is None:
        draws = posterior.values(posterior.rows[row])
        return float(((draws < bar) if below else (draws > bar)).mean())
    share = float(known.cumulative(bar))
    return share if below else 1.0 - share

"""What the posterior would be with a little more of the prior, or of the data: power-scaling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.diagnose.log_prior import log_prior_parts
from bayou.errors import DataError
from bayou.formula.words import listing
from bayou.predict.linear import blocks
from bayou.predict.loo import LogLikelihood

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Posterior

__all__ = ["Sensitivity", "sensitivity"]

THRESHOLD = 0.05
CONFLICT, STRONG, FINE = "prior-data conflict", "strong prior or weak likelihood", "–"
TOP = (
    "Scaled are the priors of {parts}; the distribution of group coefficients and structured effects given these is "
    "part of the model and stays."
)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """How much each row of the summary moves when the prior, or the likelihood, is raised to a power near one.

    Attributes
    ----------
    table
        By row: ``prior``, ``likelihood`` (distance between the posterior's distribution functions per doubling of the
        power) and ``diagnosis``.
    sentences
        What stands out and what to do, or that nothing does.
    notes
        What was scaled.
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no row stands out."""
        return bool((self.table["diagnosis"] == FINE).all())

    def __str__(self) -> str:
        title = "Sensitivity to the prior and to the likelihood (power-scaling)"
        return "\n".join([title, "", self.table.to_string(float_format="%.3f"), "", *self.sentences, *self.notes])


def sensitivity(
    posterior: Posterior, priors: str | Iterable[str] | None = None, threshold: float = THRESHOLD
) -> Sensitivity:
    """Scale the prior and the likelihood by a power near one, by importance weights of the draws.

    Parameters
    ----------
    posterior
        Of a sampler or an approximation, with draws of the group coefficients.
    priors
        Parts of the prior to scale: ``"beta"``, ``"sd_g"``, ``"cor_g"``, ``"Sigma_g"``, ``"sigma"``, …; None: all.
    threshold
        From which a row is called sensitive.

    Raises
    ------
    DataError
        For a part that the prior does not have.
    Unsupported
        If no draws of the group coefficients were kept.

    References
    ----------
    Kallioinen, Paananen, Bürkner & Vehtari (2024), Statistics and Computing 34, 57.
    """
    import arviz_stats
    import pandas as pd
    import xarray as xr

    measure: Any = arviz_stats.psense  # type: ignore[attr-defined]  # not told to type checkers
    parts = log_prior_parts(posterior)
    chosen = _chosen(parts, priors)
    density = LogLikelihood(posterior)
    kept = density.sample.draws
    coords = {"chain": np.arange(posterior.chains), "draw": np.arange(len(kept))}

    def dataset(arrays: dict[str, Array]) -> xr.Dataset:
        return xr.Dataset({name: (("chain", "draw"), values) for name, values in arrays.items()}, coords)

    rows = {f"x{k}": posterior.values(place)[:, kept] for k, place in enumerate(posterior.rows.values())}
    priors_at = {f"p{k}": parts[name]()[:, kept] for k, name in enumerate(chosen)}
    flat = [name for name, values in zip(chosen, priors_at.values(), strict=True) if np.ptp(values) == 0.0]
    tree = xr.DataTree.from_dict(
        {
            "/posterior": dataset(rows),
            "/log_prior": dataset(priors_at),
            "/log_likelihood": dataset({"y": _log_likelihood(density)}),
        }
    )
    columns = {}
    for group in ("prior", "likelihood"):
        if group == "prior" and len(flat) == len(chosen):
            columns[group] = np.zeros(len(rows))
            continue
        found = measure(tree, group=group)
        columns[group] = np.array([float(found[name]) for name in rows])
    table = pd.DataFrame(columns, index=list(posterior.rows))
    table["diagnosis"] = [
        (CONFLICT if likelihood >= threshold else STRONG) if prior >= threshold else FINE
        for prior, likelihood in zip(table["prior"], table["likelihood"], strict=True)
    ]
    notes = [TOP.format(parts=", ".join(chosen))]
    if flat:
        notes.append(f"Flat, and without effect: {', '.join(flat)}.")
    return Sensitivity(table, _sentences(table), tuple(notes))


def _chosen(parts: dict[str, Any], priors: str | Iterable[str] | None) -> list[str]:
    if priors is None:
        return list(parts)
    wanted = [priors] if isinstance(priors, str) else list(priors)
    strange = [name for name in wanted if name not in parts]
    if strange or not wanted:
        raise DataError(
            f"priors={priors!r}: {', '.join(map(repr, strange)) or 'an empty list'} is no part of this prior; its "
            f"parts are {', '.join(parts)}."
        )
    return wanted


def _log_likelihood(density: LogLikelihood) -> Array:
    """Return the log likelihood of all rows at each draw, (chain, draw)."""
    total = np.zeros(density.shape[:2])
    for part in blocks(density.shape[2], density.sample.size):
        total += (density.block(part) * density.frequency[part]).sum(axis=2)
    return total


def _sentences(table: pd.DataFrame) -> tuple[str, ...]:
    said = []
    conflict = list(table.index[table["diagnosis"] == CONFLICT])
    if conflict:
        said.append(
            f"Prior and data pull {listing(conflict)} apart: both matter. See whether the prior says what is meant, on "
            "the right scale."
        )
    strong = list(table.index[table["diagnosis"] == STRONG])
    if strong:
        said.append(
            f"The prior matters for {listing(strong)} and the data hardly do: a strong prior, or data that say little "
            "of it. Report the prior with it."
        )
    return tuple(said) or ("No row of the summary depends much on the prior.",)

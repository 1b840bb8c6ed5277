"""The result of cross-validation: ArviZ's, with what was done where its weights could not be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import arviz_stats
import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.posterior.names import coordinate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Elpd", "assembled", "standard_error"]

@dataclass(repr=False)
class Elpd(arviz_stats.ELPDData):
    """Expected log predictive density of what was left out, row by row or group by group.

    Attributes
    ----------
    elpd, se, p
        Sum over rows (groups), its standard error √(n V elpd_i), effective number of parameters.
    elpd_i, pareto_k
        By row (group): log p(y_i | all others), and k-hat of the weights behind it, zero after a fit without it. Where
        identical rows were merged they are of each different row once, and ``rows`` says how many are like it.
    method
        By row (group): "psis", "integrated" (weights of p(y_i | the others, draw) with the group's own coefficients
        integrated out), "marginal" (weights of p(y_i | the others, hyperparameters)) or "refit" (the model was fitted
        without it).
    notes
        Sentences: what was done, what is left to do.
    of
        What was left out: "row", or the name of the groups.
    rows
        How many rows as given each stands for, (n,).
    frequency
        How often each counts in the sums, (n,): ones for groups, and where no rows were merged.
    warning
        Whether some k-hat is still too large.
    """

    method: Any = None
    notes: tuple[str, ...] = ()
    of: str = "row"
    rows: Any = None
    frequency: Any = None

    @property
    def table(self) -> pd.DataFrame:
        """One row for each row or group: rows, elpd, pareto_k, method."""
        import pandas as pd

        index = pd.Index(np.asarray(self.elpd_i.coords[self.elpd_i.dims[0]]), name=self.of)
        columns = {
            "rows": self.rows, "elpd": self.elpd_i.values, "pareto_k": self.pareto_k.values, "method": self.method
        }  # fmt: skip
        return pd.DataFrame(columns, index=index)

    def __str__(self) -> str:
        if self.of == "row":
            return "\n".join([str(super().__str__()), *self.notes])  # type: ignore[no-untyped-call]
        n = self.n_data_points
        lines = [
            f"Leave one group out: {n} levels of {self.of}, {self.n_samples} draws",
            "",
            f"{'':10}{'Estimate':>10}{'SE':>8}",
            f"{'elpd':10}{self.elpd:10.2f}{self.se:8.2f}",
            f"{'p':10}{self.p:10.2f}{'-':>8}",
            "",
            f"Each is the predictive density of a new level of {self.of}, whose own coefficients are unknown.",
            *self.notes,
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def assembled(
    elpd_i: Array,
    lppd: float,
    pareto_k: Array,
    method: Array,
    *,
    of: str,
    labels: Labels,
    rows: Integers,
    samples: int,
    good_k: float,
    notes: tuple[str, ...],
    frequency: Array | None = None,
) -> Elpd:
    """Put the parts of a result together; ``lppd`` is the log density of the data at hand, summed up."""
    import xarray as xr

    coords = {of: np.arange(len(labels)) if of == "row" else coordinate(labels)}
    times = np.ones(len(elpd_i)) if frequency is None else frequency
    n = int(times.sum())
    elpd = float(np.sum(times * elpd_i))
    return Elpd(
        kind="loo",
        elpd=elpd,
        se=standard_error(elpd_i, times),
        p=float(lppd - elpd),
        n_samples=samples,
        n_data_points=n,
        scale="log",
        warning=bool((pareto_k > good_k).any()),
        good_k=good_k,
        elpd_i=xr.DataArray(elpd_i, coords, (of,), name="elpd_i"),
        pareto_k=xr.DataArray(pareto_k, coords, (of,), name="pareto_k"),
        method=method,
        notes=notes,
        of=of,
        rows=rows,
        frequency=times,
    )


def standard_error(values: Array, times: Array) -> float:
    """Return √(n V) of numbers (m,) that each stand n times in a sum, n = Σ times."""
    mean = np.sum(times * values) / times.sum()
    return float(np.sqrt(np.sum(times * np.square(values - mean))))

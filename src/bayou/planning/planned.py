"""`bayou.plan`: what a fit will take, and the cheapest way to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bayou import families
from bayou.errors import DataError
from bayou.formula import Formula, parse
from bayou.planning.costs import Machine, Way, ways
from bayou.planning.workload import Workload, look
from bayou.streaming.sources import open_source

if TYPE_CHECKING:
    import pandas as pd

    from bayou.families import Family

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """What a fit will take.

    Attributes
    ----------
    work : Workload
        Rows, levels, columns, kept rows.
    machine : Machine
    ways : tuple of Way
    draws, chains : int
        Of the sampler whose seconds are compared.
    """

    work: Workload
    machine: Machine
    ways: tuple[Way, ...]
    draws: int
    chains: int

    @property
    def engine(self) -> str:
        """The sampler whose draws are counted."""
        return "gibbs" if self.work.family == "gaussian" else "metropolis"

    @property
    def maximiser(self) -> str:
        """The engine whose maximum is counted."""
        return "reml" if self.work.family == "gaussian" else "laplace"

    @property
    def cheapest(self) -> Way | None:
        """The first way, of those whose memory is there, within a tenth of the least seconds times machines."""
        possible = [way for way in self.ways if way.fits]
        if not possible:
            return None
        costs = [way.workers * self.seconds(way) for way in possible]
        return next(way for way, cost in zip(possible, costs, strict=True) if cost <= 1.1 * min(costs))

    def seconds(self, way: Way) -> float:
        """Return the seconds of all draws by one way, reading included."""
        return way.seconds(self.draws, self.chains, self.machine.cores)

    @property
    def table(self) -> pd.DataFrame:
        """One row per way: memory and disk in GB; seconds of reading, a draw, all draws, a maximum."""
        import pandas as pd

        rows = {
            way.name: {
                "memory_gb": way.memory / 2**30,
                "disk_gb": way.disk / 2**30,
                "reading": way.reading,
                "draw": way.draw,
                "draws": self.seconds(way),
                "maximum": way.reading + way.maximum,
                "fits": way.fits,
            }
            for way in self.ways
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        return "\n".join([*self._head(), "", *self._rows(), "", self._advice()])

    def _head(self) -> list[str]:
        work, groups = self.work, self.work.factors
        size = [f"{work.rows:,} rows", f"{_many(work.columns, 'column')} used", _many(work.fixed, "fixed effect")]
        becomes = {
            "summed": f"Streamed, the rows are summed to {self._about(work.kept)}.",
            "merged": f"Streamed, identical rows are merged to {self._about(work.kept)}.",
            "blocks": "Streamed, all rows are kept in files on the disk.",
        }
        return [
            f"{work.text}, {work.family}",
            f"{work.what}: {', '.join(size)}",
            *(f"{g.name}: {self._about(g.levels)} levels, {_many(g.coefficients, 'coefficient')}" for g in groups),
            becomes[work.how],
            f"This machine: {self.machine.memory / 2**30:.0f} GB, {_many(self.machine.cores, 'core')}.",
        ]

    def _about(self, count: float) -> str:
        """Return a number, of which three digits are known unless every row was looked at."""
        return f"{count:,.0f}" if self.work.exact else f"about {float(f'{count:.3g}'):,.0f}"

    def _rows(self) -> list[str]:
        draws = f"{self.chains} x {self.draws:,} draws"
        titles = ("", "memory", "disk", "reading", f"a draw ({self.engine})", draws, self.maximiser)
        lines: list[tuple[str, ...]] = [titles]
        for way in self.ways:
            name = way.name + ("" if way.fits else " (no room)")
            disk = _bytes(way.disk) if way.disk else "–"
            times = (way.reading, way.draw, self.seconds(way), way.reading + way.maximum)
            lines.append((name, _bytes(way.memory), disk, *map(_time, times)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]

    def _advice(self) -> str:
        best = self.cheapest
        if best is None:
            return "No way has the memory it needs: take larger machines, fewer columns, or a sample of the rows."
        call = f'bayou.fit("{self.work.text}", data, family="{self.work.family}", engine="{self.engine}"'
        more = {"in memory": "", "streamed": ", stream=True"}.get(best.name, ", client=client")
        return f"Cheapest: {best.name}, {_time(self.seconds(best))}: {call}{more})"


def plan(
    formula: str | Formula,
    data: Any,
    family: str | Family = "gaussian",
    *,
    weights: str | None = None,
    sigma_by: str | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    structures: Mapping[str, Any] | None = None,
    rows: float | None = None,
    levels: Mapping[str, float] | None = None,
    memory: float | None = None,
    cores: int | None = None,
    draws: int = 2000,
    chains: int = 4,
) -> Plan:
    """Tell what a fit will take before anything runs, and the cheapest way to run it.

    At most a million rows are looked at, spread over all of them. Seconds come from a cost model whose figures were
    measured on a machine with two cores; another machine is faster or slower by a factor.

    Parameters
    ----------
    formula, data, family, weights, sigma_by, functions, structures
        As for `bayou.fit`.
    rows : float, optional
        Count with so many rows instead of those that there are.
    levels : mapping of str to float, optional
        Levels of grouping factors to count with.
    memory : float, optional
        GB of this machine, and of each worker; by default what there is.
    cores : int, optional
        Cores of this machine, and of each worker.
    draws, chains : int
        Scans of each chain, and how many chains.

    Returns
    -------
    Plan

    Raises
    ------
    FormulaError, DataError, FileError, Unsupported
        As a fit would, for the rows that are looked at.

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> told = bayou.plan("score ~ ses + (1 + ses | school)", school, memory=16, cores=2)
    >>> told.work.rows, told.work.factors[0].levels, told.cheapest.name
    (2008, 100.0, 'in memory')
    """
    chosen = families.get(family)
    parsed = parse(formula, functions or {}) if isinstance(formula, str) else formula
    for name, value in (("rows", rows), ("memory", memory), ("cores", cores), ("draws", draws), ("chains", chains)):
        if value is not None and not value > 0:
            raise DataError(f"{name}={value!r}: give a number above 0.")
    work = look(
        parsed, data, open_source(data), chosen, functions=functions, structures=structures, weights=weights,
        sigma_by=sigma_by,
    )  # fmt: skip
    if rows is not None or levels:
        work = work.scaled(work.rows if rows is None else int(rows), levels or {})
    here = Machine.here()
    machine = Machine(here.memory if memory is None else memory * 2**30, here.cores if cores is None else int(cores))
    return Plan(work, machine, tuple(ways(work, machine)), int(draws), int(chains))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _bytes(size: float) -> str:
    gigabytes = size / 2**30
    return f"{gigabytes:,.0f} GB" if gigabytes >= 10 else f"{gigabytes:.1f} GB"


def _time(seconds: float) -> str:
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if seconds >= (2.0 * size if size > 1.0 else size):
            return f"{seconds / size:,.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 1e-6:,.0f} µs"

"""What a calibration found: ranks, whether they can be uniform, and what such a study can see."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from bayou._types import Array, Integers
from bayou.diagnose.calibration.bands import least_tail, power, tail_probability
from bayou.diagnose.calibration.study import Outcome, Study
from bayou.errors import Unsupported
from bayou.formula.words import plural
from bayou.verdict.sentences import listed

if TYPE_CHECKING:
    import pandas as pd

    from bayou.plot.style import Picture

__all__ = ["Calibration"]

LEVEL = 0.05  # of each band, and of all quantities together in the verdict
FEW = 10  # ranks below which nothing is said
FAILING = 0.1  # share of failed fits from which an engine is not said to be right
SURE = 0.001  # p below which chance is out of the question
CLEARLY = 3.0  # standard errors from which a bias or a ratio is put into words
BIAS, RATIO = 0.1, 1.1


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of true values among the draws of an engine, and what follows from them.

    Attributes
    ----------
    study
        The model, the engine, and how true values were drawn.
    outcomes
        One for each simulation that was made, failed ones too.
    asked
        Simulations that were wanted.
    interrupted
        Whether Ctrl-C ended it before.
    seconds
        What it took.
    """

    study: Study = field(repr=False)
    outcomes: tuple[Outcome, ...] = field(repr=False)
    asked: int
    interrupted: bool
    seconds: float

    # ---- numbers ---------------------------------------------------------------------------

    @cached_property
    def _ended(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.ranks is not None]

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities whose ranks were looked at."""
        return self._ended[0].ranks.names if self._ended and self._ended[0].ranks else ()

    @property
    def draws(self) -> int:
        """Among how many draws each truth is ranked."""
        return self.study.draws

    @cached_property
    def ranks(self) -> Integers:
        """Ranks from 0 to `draws`, (simulations that ended well, quantities)."""
        kept = [one.ranks.rank for one in self._ended if one.ranks is not None]
        return np.array(kept, dtype=np.int64).reshape(len(kept), len(self.quantities))

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per quantity.

        ``p``: probability that uniform ranks leave a simultaneous band at least as wide. ``bias``: by how much the
        draws are too high, in posterior sds, and ``sd_ratio``: how much too wide they are, both read off the normal
        scores of the ranks, with standard errors. ``outside``: whether the ranks leave their 95 % band.
        """
        import pandas as pd

        N, columns = len(self.ranks), ["p", "bias", "bias_se", "sd_ratio", "sd_ratio_se", "outside"]
        if N < 2:
            return pd.DataFrame(columns=columns)
        scores = ndtri((self.ranks + 0.5) / (self.draws + 1.0))
        # the scores of uniform ranks have a variance a little below one
        unit = float(np.std(ndtri((np.arange(self.draws + 1) + 0.5) / (self.draws + 1.0))))
        spread = scores.std(axis=0, ddof=1) / unit
        p = self._p
        frame = pd.DataFrame(
            {
                "p": p,
                "bias": -scores.mean(axis=0) / unit / np.maximum(spread, 1e-3),
                "bias_se": 1.0 / np.sqrt(N),
                "sd_ratio": 1.0 / np.maximum(spread, 1e-3),
                "sd_ratio_se": 1.0 / np.maximum(spread, 1e-3) / np.sqrt(2.0 * N),
                "outside": p < LEVEL,
            },
            index=pd.Index(self.quantities, name="quantity"),
        )
        return frame[columns]

    @cached_property
    def _p(self) -> Array:
        tails = least_tail(self.ranks.T, self.draws)
        return np.array([tail_probability(float(tail), len(self.ranks), self.draws) for tail in tails])

    @property
    def band_level(self) -> float:
        """The level of each quantity's band at which one of all quantities decides: 5 % over their number."""
        return LEVEL / max(len(self.quantities), 1)

    @property
    def failures(self) -> dict[str, int]:
        """How many simulations failed, by what went wrong."""
        return {text: count for text, count, _ in self._failures}

    @cached_property
    def _failures(self) -> list[tuple[str, int, bool]]:
        kinds: dict[tuple[str, bool], list[str]] = {}
        for one in self.outcomes:
            if one.failure is not None:
                kinds.setdefault((one.kind, one.drawn), []).append(one.failure)
        found = [(texts[0], len(texts), drawn) for (_, drawn), texts in kinds.items()]
        return sorted(found, key=lambda kind: -kind[1])

    @property
    def ok(self) -> bool:
        """True when the ranks may be uniform and the engine failed in fewer than a tenth of the simulations.

        All quantities are looked at together: one of a right engine is wrong in 5 % of studies.
        """
        return not self._wrong and len(self.ranks) >= FEW and self._failed_fits < FAILING * len(self.outcomes)

    @property
    def _failed_fits(self) -> int:
        return sum(count for _, count, drawn in self._failures if drawn)

    @property
    def _unsettled(self) -> int:
        return sum(one.effective < self.draws for one in self._ended)

    @property
    def _wrong(self) -> list[str]:
        """Quantities that decide against the engine, the worst first."""
        if len(self.ranks) < FEW:
            return []
        order = np.argsort(self._p, kind="stable")
        return [self.quantities[k] for k in order if self._p[k] < self.band_level]

    def power(self, bias: float = 0.0, sd_ratio: float = 1.0, level: float | None = None) -> float:
        """Return the probability that the ranks of one quantity leave their band if its posterior is wrong.

        Parameters
        ----------
        bias
            Mean of the draws minus that of the posterior, in posterior sds.
        sd_ratio
            Sd of the draws over that of the posterior.
        level
            Of the band: by default that of the verdict, `band_level`.
        """
        level = self.band_level if level is None else level
        return power(len(self.ranks), self.draws, level, bias, sd_ratio)

    # ---- words -----------------------------------------------------------------------------

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The verdict, what such a study can see, and what went wrong on the way."""
        out = [*self._verdict(), *self._power()]
        if self.interrupted:
            out.append(f"Interrupted: {len(self.outcomes):,} of {self.asked:,} simulations were made and are kept.")
        for text, count, drawn in self._failures:
            what = "the engine failed" if drawn else "no response could be drawn from the priors"
            text = text if text.endswith(".") else f"{text}."
            out.append(f"In {count:,} of {len(self.outcomes):,} simulations {what}: {text}")
        undrawn = sum(count for _, count, drawn in self._failures if not drawn)
        if undrawn:
            out.append("Narrower priors would draw parameters that give responses.")
        if self._unsettled:
            out.append(
                f"In {self._unsettled:,} simulations the chains had fewer than {self.draws} effective draws, which "
                "pushes ranks to the ends: a longer run (draws=, thin=) shows whether that is all."
            )
        continued = sum(one.continued for one in self._ended)
        if continued:
            out.append(
                f"In {continued:,} simulations the engine's own check failed and it went on by Markov chain: what is "
                "calibrated is the answer that it gave."
            )
        return tuple(out)

    def _verdict(self) -> list[str]:
        N = len(self.ranks)
        if N < FEW:
            return [f"{N} simulations ended well, which says nothing: ask for 100 or more."]
        wrong, table = self._wrong, self.table
        if wrong:
            numbers = table[["bias", "bias_se", "sd_ratio", "sd_ratio_se"]]
            said = [f"{name} ({_fault(*numbers.loc[name])})" for name in wrong]
            p = min(1.0, float(table["p"].min()) * len(table))
            why = "The posterior that this engine returns for this model is not the right one."
            if p >= SURE:
                why = (
                    "One right engine in twenty looks like this: another seed, or more simulations, shows whether this "
                    "is chance."
                )
            elif self._unsettled >= FAILING * N:
                why = f"The chains were too short in {self._unsettled:,} simulations, or the engine is wrong."
            return [
                f"NOT OK: the ranks of {listed(said)} are not uniform (p = {p:.2g}, all quantities together). {why}"
            ]
        outside = [name for name in self.quantities if table.loc[name, "outside"]]
        chance = f"; by chance alone it is about {LEVEL * len(table):.1f}"
        more = f" ({len(outside)} outside its own 95 % band: {listed(outside)}{chance})" if outside else ""
        if self._failed_fits >= FAILING * len(self.outcomes):
            return [f"NOT OK: the engine failed in {self._failed_fits:,} of {len(self.outcomes):,} simulations."]
        return [f"ok: the ranks of all {len(table)} quantities may be uniform{more}."]

    def _power(self) -> list[str]:
        N = len(self.ranks)
        if N < FEW:
            return []

        def percent(level: float, bias: float = 0.0, ratio: float = 1.0) -> str:
            return f"{100.0 * self.power(bias, ratio, level):.0f} %"

        one, all_ = LEVEL, self.band_level
        return [
            f"Power: with {plural(N, 'simulation')}, a quantity whose posterior is off by {BIAS:g} sd leaves its 95 % "
            f"band with probability {percent(one, BIAS)}, one whose sd is {RATIO:g} times too large with "
            f"{percent(one, 0.0, RATIO)}; at the level of the verdict ({100 * all_:.2g} %) {percent(all_, BIAS)} and "
            f"{percent(all_, 0.0, RATIO)}. "
            f"What the verdict finds four times in five: a bias of {self._found(True):.2g} sd, an sd ratio of "
            f"{self._found(False):.2g}."
        ]

    def _found(self, bias: bool) -> float:
        """Return the fault that is found with probability .8."""
        low, high = (0.0, 4.0) if bias else (1.0, 20.0)
        while high - low > 0.01:
            middle = 0.5 * (low + high)
            chance = self.power(bias=middle) if bias else self.power(sd_ratio=middle)
            low, high = (low, middle) if chance >= 0.8 else (middle, high)
        return high

    def __str__(self) -> str:
        study, N = self.study, len(self.outcomes)
        source = "the posterior given the data" if study.pool is not None else "the priors"
        head = [
            f"Simulation-based calibration of {_described(study.engine)}",
            f"{study.model.text}, {study.model.family}",
            f"{plural(N, 'simulation')} with parameters from {source}, ranked among {self.draws} draws, "
            f"{self.seconds:.1f} s, seed {study.entropy}",
        ]
        table = self.table.to_string(float_format=lambda x: f"{x:.2g}" if abs(x) < 0.01 else f"{x:.3f}")
        return "\n".join([*head, "", *([table, ""] if len(self.table) else []), *self.sentences])

    __repr__ = __str__

    # ---- the picture -----------------------------------------------------------------------

    def plot(
        self,
        quantities: str | Iterable[str] | None = None,
        limit: int = 16,
        size: tuple[float, float] | None = None,
        save: str | os.PathLike[str] | None = None,
    ) -> Picture:
        """Draw how far the cumulative distribution of each quantity's ranks is from uniform, with its band.

        Parameters
        ----------
        quantities
            Names, or what they begin with; None takes the first ``limit``.
        limit
            Panels at most.
        size
            Inches: (width, height).
        save
            Path to write to; its ending chooses the format.

        Raises
        ------
        Unsupported
            If too few simulations ended well.
        DataError
            For a quantity that there is not.
        """
        from bayou.plot.calibration import draw_calibration

        if len(self.ranks) < FEW:
            raise Unsupported(f"{len(self.ranks)} simulations ended well: there is nothing to draw yet.")
        return draw_calibration(self, quantities, limit, size, save)


def _described(engine: Any) -> str:
    """Return the settings that matter to what it finds."""
    same = {f.name: f.default for f in fields(engine) if f.name in ("cores", "progress", "keep_effects")}
    return str(replace(engine, **same).describe())


def _fault(bias: float, bias_se: float, ratio: float, ratio_se: float) -> str:
    """Say in words how the draws are wrong."""
    said = []
    if abs(bias) > CLEARLY * bias_se:
        said.append(f"{abs(bias):.2f} sd too {'high' if bias > 0.0 else 'low'}")
    if abs(ratio - 1.0) > CLEARLY * ratio_se:
        said.append(f"sd {ratio:.2f} times what it should be")
    return ", ".join(said) or "wrong in shape"

"""The engine that chooses: the fastest that takes the model and passes its own check."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayou.engines.base import Engine
from bayou.engines.chains import ChainEngine
from bayou.engines.choice import Choice, chosen
from bayou.engines.draws import Plan
from bayou.errors import BayouError, DataError, FileError, ResourceError, Unsupported
from bayou.verdict import examine, judge, of_the_engine
from bayou.verdict.chains import ESS_BAR

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

OF_CHAINS = ("draws", "warmup", "chains", "thin", "keep_effects", "store")
FAILS = (BayouError, ArithmeticError, np.linalg.LinAlgError)
ENDS = (DataError, FileError, ResourceError)  # what another engine would meet too
MARGIN, LONGEST = 1.3, 10.0  # how many more effective draws than needed a longer run aims at; how much longer it may be


@dataclass
class _Attempt:
    """One engine that was tried: what it said, and what it found."""

    name: str
    settings: str
    seconds: float
    said: str
    result: Posterior | None = None
    passed: bool = False
    least: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Return what is kept of it, as JSON has it."""
        return {"engine": self.settings, "seconds": self.seconds, "passed": self.passed, "said": self.said}


@dataclass(frozen=True, kw_only=True)
class Auto(ChainEngine):
    """The fastest engine that takes the model and passes its own check.

    The first row of this table that applies says what is tried, in turn:

    | where | it tries, in turn | because |
    |---|---|---|
    | a family of your own | `nuts` | its log density is all that is known of it |
    | rows that lie in files, a million and more | `metropolis` | it visits the rows where they are |
    | Gaussian, structures or over 300 crossed columns | `inla`, `gibbs`, `metropolis`, `nuts` | a draw costs much |
    | other Gaussian response, identity link | `gibbs`, `metropolis`, `nuts` | a draw needs only sums over the rows |
    | draws, warmup, chains, thin, keep_effects or store given | `metropolis`, `nuts` | only Markov chains have these |
    | more than 8 hyperparameters | `metropolis`, `nuts` | too many for the weights of INLA's check |
    | any other model | `inla`, `metropolis`, `nuts` | INLA is faster than a chain, and measures its own error |

    An engine that cannot take the model is passed over. One whose verdict is not ok is followed by the next: where
    a Markov chain mixes and only has too few effective draws, by the same one with as many draws as it takes (up to
    ten times as many). Heavy tails are the model's own, and no reason to go on. If none passes, the result with the
    most effective draws is returned with its verdict. What was tried, why, what it said and the seconds of each are
    printed with the fit and kept as ``fit.result.info["auto"]``. The draws are those of the engine itself with the
    same seed.

    Settings that only Markov chains have (``draws``, ``warmup``, ``chains``, ``thin``, ``keep_effects``, ``store``),
    where they differ from their defaults, ask for a Markov chain: the first that takes the model runs with exactly
    these settings, once, whatever its verdict. ``cores`` and ``progress`` decide nothing.

    Raises
    ------
    Unsupported
        By `run`, if no engine takes the model, with what each said.

    Examples
    --------
    >>> import bayou
    >>> fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), seed=1)
    >>> fit.result.info["engine"]
    'gibbs'
    >>> clinic = bayou.datasets.load("clinic")
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> bayou.fit(formula, clinic, family="binomial", seed=1).result.info["engine"]
    'inla'
    """

    name: ClassVar[str] = "auto"

    @property
    def names_chains(self) -> bool:
        """Whether a setting that only Markov chains have differs from its default."""
        return any(getattr(self, f.name) != f.default for f in fields(ChainEngine) if f.name in OF_CHAINS)

    def choice(self, model: Model) -> Choice:
        """Return the row of the table for this model."""
        return chosen(model, self.names_chains)

    def candidate(self, name: str, model: Model) -> Engine:
        """Return the engine of this name with these settings.

        Raises
        ------
        Unsupported
            If there is none of this name.
        """
        from bayou import engines

        if name == "inla":
            # with groups alone the chain that it would go on by is the next engine of the table
            return engines.get(name, cores=self.cores, go_on=bool(model.design.structured))
        return engines.get(name, **{f.name: getattr(self, f.name) for f in fields(ChainEngine)})

    def prepare(self, model: Model) -> Plan:
        """Prepare the first engine of the table that runs chains and takes the model.

        Raises
        ------
        Unsupported
            If there is none.
        """
        refused = []
        for name in self.choice(model).engines:
            try:
                engine = self.candidate(name, model)
                if isinstance(engine, ChainEngine):
                    return engine.prepare(model)
            except Unsupported as error:
                refused.append(f"{name}: {error}")
        raise Unsupported(f"No engine with chains takes this model. {' '.join(refused)}")

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Run the engines of the table in turn until one passes its check."""
        row = self.choice(model)
        tried: list[_Attempt] = []
        for name in row.engines:
            try:
                engine = self.candidate(name, model)
            except Unsupported as error:
                tried.append(_Attempt(name, name, 0.0, str(error)))
                continue
            tried += self._attempts(engine, model, rng)
            if tried[-1].passed:
                break
        found = [one for one in tried if one.result is not None]
        if not found:
            refused = [f"{one.name}: {one.said}" for one in tried]
            raise Unsupported(f"No engine takes this model. {' '.join(refused)}")
        best = found[-1] if found[-1].passed else max(found, key=lambda one: one.least)
        return _told(best, tried, row)

    def _attempts(self, engine: Engine, model: Model, rng: np.random.Generator) -> list[_Attempt]:
        """Run one engine, and a chain that mixes and is too short once more, longer."""
        first = self._attempt(engine, model, rng)
        longer = ESS_BAR * MARGIN / max(first.least, 1.0)
        short = first.result is not None and first.result.chained and not first.passed and 1.0 < longer <= LONGEST
        if not short or not isinstance(engine, ChainEngine):
            return [first]
        more = replace(engine, draws=int(np.ceil(longer * engine.draws)), warmup=2 * engine.warmup)
        return [first, self._attempt(more, model, rng)]

    def _attempt(self, engine: Engine, model: Model, rng: np.random.Generator) -> _Attempt:
        started = time.perf_counter()
        try:
            # each starts where a run of its own would
            result = engine.run(model, copy.deepcopy(rng))
        except ENDS:
            raise
        except FAILS as error:
            said = str(error) or type(error).__name__
            return _Attempt(engine.name, _words(engine), time.perf_counter() - started, said)
        seconds = time.perf_counter() - started
        stopped = any(said.startswith("Interrupted") for said in result.info.get("messages", ()))
        if stopped or self.names_chains:
            return _Attempt(engine.name, _words(engine), seconds, "not judged", result, True)
        numbers = examine(result, keep=True)
        failures = of_the_engine(result, judge(result, numbers), numbers)
        sizes = np.fmin(numbers.ess_bulk, numbers.ess_tail)
        least = 0.0 if np.isnan(sizes).all() else float(np.nanmin(sizes))
        said = " ".join(failures) or "ok"
        return _Attempt(engine.name, _words(engine), seconds, said, result, not failures, least)


def _words(engine: Engine) -> str:
    """Return an engine as one would type it: whether INLA goes on by itself is decided here."""
    from bayou.engines.inla import INLA

    return replace(engine, go_on=True).describe() if isinstance(engine, INLA) else engine.describe()


def _told(best: _Attempt, tried: list[_Attempt], row: Choice) -> Posterior:
    """Return the result with what was tried, and why."""
    result = best.result
    assert result is not None
    result.info.setdefault("engine", best.name)
    result.engine = best.settings
    result.info["auto"] = {
        "where": row.when, "because": row.why, "engine": best.name, "attempts": [one.facts() for one in tried],
    }  # fmt: skip
    said = [
        f"engine='auto' tried {one.settings} ({one.seconds:.2g} s): {one.said}"
        for one in tried
        if one is not best
    ]
    if not best.passed and len(tried) > 1:
        said.append("No engine passed its own check: this is the result with the most effective draws.")
    result.info["messages"] = [*said, *result.info.get("messages", ())]
    return result

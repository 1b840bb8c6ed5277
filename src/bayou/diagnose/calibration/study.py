"""One simulation of a calibration: true values, a response, a fit, the ranks; the same wherever it is run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.diagnose.calibration.quantities import Ranked, effective_draws, picked, ranked
from bayou.diagnose.calibration.truths import drawn_from_prior, joined, new_response, with_response
from bayou.errors import DataError, Unsupported

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["Outcome", "Study", "settled"]

ROUNDS = 3  # runs of one fit, each longer than the last, until it has the effective draws that ranks need
LONGEST = 64  # times the length asked for
SIMULATION, RESPONSE, POOL = 1, 2, 3  # branches of the seed


@dataclass(frozen=True)
class Outcome:
    """What one simulation gave.

    Attributes
    ----------
    number
        From 0.
    failure
        None, or in words what went wrong: then there are no ranks.
    drawn
        Whether there was a response: if not, the failure is one of the priors and not of the engine.
    ranks
        Of all quantities.
    effective
        The least effective size of any of them before draws were picked.
    refused
        Whether the engine said that it does not take such a model.
    continued
        Whether an approximation failed its own check and went on by Markov chain.
    seconds
        What it took.
    """

    number: int
    failure: str | None
    drawn: bool
    ranks: Ranked | None
    effective: float
    refused: bool
    continued: bool
    seconds: float

    @property
    def kind(self) -> str:
        """The failure without its numbers, which differ between simulations with the same fault."""
        return re.sub(r"\d[\d.,e+-]*", "#", self.failure or "")


@dataclass(frozen=True)
class Study:
    """What all simulations share; it can be sent to another process.

    Attributes
    ----------
    model, engine
        The model with its frozen priors; the engine as it runs in each simulation.
    draws
        Among how many draws the truth is ranked.
    entropy
        Of the seed. Simulation k has its own child of it, whichever process runs it.
    pool
        True values, draws (1, simulations, …) of the posterior given the data; None draws them from the priors.
    """

    model: Model
    engine: Engine
    draws: int
    entropy: int
    pool: Mapping[str, Array] | None = field(default=None, repr=False)

    @cached_property
    def _base(self) -> Model:
        model = self.model if self.pool is None else joined(self.model)
        _ = model.working  # computed once, and shared by all copies with other responses
        return model

    def generator(self, *branch: int) -> np.random.Generator:
        """Return the random numbers of one purpose."""
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=branch))

    def truth(self, number: int) -> tuple[Mapping[str, Array], Model]:
        """Return the true values of a simulation, (1, 1, …), and the model with the response that they gave.

        Raises
        ------
        DataError
            If no response can be drawn.
        """
        rng = self.generator(RESPONSE, number)
        if self.pool is None:
            truth: Mapping[str, Array] = drawn_from_prior(self.model, rng)
        else:
            truth = {key: values[:, number : number + 1] for key, values in self.pool.items()}
        y = new_response(self.model, truth, rng)
        return truth, with_response(self._base, y if self.pool is None else np.concatenate([self.model.design.y, y]))

    def simulate(self, number: int) -> Outcome:
        """Run one simulation.

        Raises
        ------
        KeyboardInterrupt
            Also where the engine took it as the end of its run.
        """
        started = time.perf_counter()
        drawn = refused = continued = False
        effective, ranks, failure = np.nan, None, None
        try:
            truth, there = self.truth(number)
            drawn = True
            result, effective = settled(self.engine, there, self.generator(SIMULATION, number), self.draws)
            continued = result.approximation is not None and result.chained
            ranks = ranked(there, truth, picked(result, self.draws), self.generator(SIMULATION, number, 1))
        except Exception as error:  # whatever an engine raises at simulated data is counted and named
            failure, refused = _in_words(error), drawn and isinstance(error, Unsupported)
        return Outcome(number, failure, drawn, ranks, effective, refused, continued, time.perf_counter() - started)


def _in_words(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0] or "no message"
    return text if isinstance(error, (DataError, Unsupported)) else f"{type(error).__name__}: {text}"


def settled(engine: Any, model: Model, rng: np.random.Generator, wanted: int) -> tuple[Posterior, float]:
    """Run an engine, and again for longer while it has fewer effective draws than wanted.

    Chains are thinned more, so that what is kept does not grow. After the last round the result is taken as it is.

    Returns
    -------
    Posterior, float
        And its least effective size.

    Raises
    ------
    Unsupported
        If the result is that of a likelihood engine.
    DataError
        If a chain stopped before its end.
    """
    known = {f.name for f in fields(engine)}
    factor = 1
    for last in range(ROUNDS):
        longer: dict[str, Any] = {}
        if factor > 1 and "thin" in known:
            longer["thin"] = engine.thin * factor
        elif factor > 1:
            longer["draws"] = engine.draws * factor
        result: Posterior = replace(engine, **longer).run(model, rng.spawn(1)[0])
        if result.estimates is not None:
            raise Unsupported(likelihood_refused(engine))
        if any(str(said).startswith("Interrupted") for said in result.info.get("messages", ())):
            raise KeyboardInterrupt
        effective = effective_draws(result)
        if result.info.get("engine", engine.name) != engine.name:
            break  # an engine that chooses another: how long that runs is its own decision
        asked = longer.get("draws", getattr(engine, "draws", None))
        if result.chained and asked is not None and "chains" in known and result.size < asked:
            raise DataError(f"a chain stopped after {result.size} of {asked} draws")
        if effective >= wanted or factor >= LONGEST or last == ROUNDS - 1 or "draws" not in known:
            break
        factor = min(int(np.ceil(1.5 * factor * wanted / max(effective, 1.0))), LONGEST)
    return result, effective


def likelihood_refused(engine: Engine) -> str:
    """Say why a likelihood engine cannot be calibrated."""
    return (
        f"{type(engine).__name__} returns estimates, not draws of a posterior, so that there are no ranks to look at. "
        "Calibrate an engine that samples or approximates the posterior: 'gibbs', 'metropolis', 'nuts' or 'inla'. "
        "How far estimates are off shows in fit.confidence_intervals(method='bootstrap')."
    )

"""`bayou.calibrate`: all simulations of a study, in this process and others, kept as they come."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from bayou import engines
from bayou.diagnose.calibration.folder import Folder
from bayou.diagnose.calibration.quantities import picked
from bayou.diagnose.calibration.result import Calibration
from bayou.diagnose.calibration.study import POOL, Outcome, Study, likelihood_refused, settled
from bayou.diagnose.calibration.truths import check_priors, check_response
from bayou.diagnose.calibration.workers import NotImportable, in_processes
from bayou.engines.progress import Bar
from bayou.engines.resources import terminable
from bayou.errors import DataError, Unsupported
from bayou.model import Model

if TYPE_CHECKING:
    from bayou.engines.base import Engine

__all__ = ["calibrate"]

RANKED = 199  # draws among which a truth is ranked: ranks 0 … 199, half a percent each
FEWEST = 19
SHORT: dict[str, Any] = {"draws": 500, "warmup": 500, "chains": 2}  # of a fit, where nothing else is asked for
ALONE: dict[str, Any] = {"cores": 1, "progress": False, "keep_effects": True, "store": None}
TRIED = 3  # simulations that must all be refused before the engine is taken to refuse the model
WORTH = 6.0  # seconds of work left from which other processes pay for their start


def calibrate(
    model: Model,
    engine: str | Engine = "auto",
    *,
    simulations: int = 100,
    seed: int | None = None,
    cores: int | None = None,
    store: str | os.PathLike[str] | None = None,
    posterior: bool = False,
    **settings: Any,
) -> Calibration:
    """Check by simulation whether the posteriors of an engine are where and as wide as they should be.

    Simulation-based calibration: draw parameters from the priors and a response given them, fit the same model with
    the same frozen priors to that response, and rank each true value among the draws of its posterior. If the engine
    is right, the rank among L independent draws is uniform on 0 … L, for every quantity. Ranks are judged by their
    cumulative counts within a simultaneous band, whose level and power are computed exactly.

    With ``posterior=True`` the parameters are drawn from the posterior of the model's own data y instead: each draw
    theta, with all group coefficients and structured effects, gives a second response y' in the same rows, and the
    model is fitted to y and y' together, both depending on the same coefficients. Given (y, y') the true values and
    the draws of that fit are exchangeable, so that ranks are uniform again. This looks where the data say that the
    parameters are, and needs a proper posterior only. The first fit is by the same engine, so that what is checked is
    whether its two posteriors fit together.

    Parameters
    ----------
    model
        Its design and frozen priors are those of every simulation; with ``posterior=False`` its response is not used.
        Defaults of priors depend on the response that the model was made with, and are often so wide that responses
        drawn from them are like no data: give priors that say what you would believe.
    engine
        A name or an engine that samples or approximates the posterior.
    simulations
        100 find gross faults; the print-out says what so many find, and how surely.
    seed
        The same seed gives the same ranks for any number of cores; more simulations begin with those of fewer
        (``posterior=False``).
    cores
        Processes; None takes as many as there are processors, if there is work enough to start them.
    store
        A folder in which every simulation is kept as it is made. The same call goes on where an earlier one stopped,
        however it ended.
    posterior
        Draw the parameters from the posterior instead of the priors.
    **settings
        Of the engine. An engine given by name runs short chains here, ``draws=500, warmup=500, chains=2``, longer
        where they have fewer than 199 effective draws; an engine object runs as it is, and so does "auto", which
        chooses by such settings.

    Returns
    -------
    Calibration
        With fewer simulations, and a message, if it was interrupted by Ctrl-C.

    Raises
    ------
    PriorError
        For improper priors, which cannot be drawn from: which, and what to give instead.
    Unsupported
        For likelihood engines, which return no draws; for prior weights of a family that is not Gaussian.
    DataError
        For settings that make no sense.
    FileError
        If the folder holds something else or cannot be written.

    Notes
    -----
    Simulations in which the engine fails are counted and named, and are not among the ranks. What an engine sees is the
    response alone; so among those at which it does not fail the ranks are still uniform if it is right. Parameters at
    which no response can be drawn (an infinite count) are counted apart: they cut the priors that the fits go on to
    use, so that there should be next to none.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788. Säilynoja, Bürkner & Vehtari (2022),
    Statistics and Computing 32 (bands). Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari (2023),
    Bayesian Analysis (quantities that look at the data). Säilynoja, Schmitt, Bürkner & Vehtari (2025),
    arXiv:2502.03279 (given the data).

    Examples
    --------
    >>> import bayou
    >>> from bayou.priors import HalfNormal, Normal
    >>> clinic = bayou.datasets.load("clinic")
    >>> priors = {"beta": Normal(0, 1), "sd": HalfNormal(1)}
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> model = bayou.Model(formula, clinic, "binomial", priors)
    >>> found = bayou.calibrate(model, "metropolis", simulations=20, seed=1)
    >>> found.ok, len(found.table)
    (True, 9)
    """
    started = time.perf_counter()
    _check(model, simulations, seed, cores, posterior)
    chosen = _engine(engine, settings)
    check_response(model)
    if not posterior:
        check_priors(model)
    folder = None if store is None else Folder(store)
    with nullcontext() if folder is None else folder.locked():
        if seed is None and folder is not None:
            seed = folder.entropy()
        entropy = int(np.random.SeedSequence(seed).entropy)  # type: ignore[arg-type]
        study = Study(model, chosen, _ranked_among(chosen), entropy)
        pool = None if folder is None else folder.open(study, posterior, simulations)
        if posterior:
            study = replace(study, pool=pool or _pool(study, simulations))
        if folder is not None and not folder.begun:
            folder.begin(study)
        outcomes, interrupted = _all(study, simulations, cores, folder)
    return Calibration(study, tuple(outcomes), simulations, interrupted, time.perf_counter() - started)


def _check(model: Any, simulations: Any, seed: Any, cores: Any, posterior: Any) -> None:
    if not isinstance(model, Model):
        raise DataError(
            f"calibrate takes a Model, not {type(model).__name__}: "
            "calibrate(bayou.Model(formula, data, family, priors))."
        )
    for name, value, least in (("simulations", simulations, 1), ("seed", seed, 0), ("cores", cores, 1)):
        if value is None and name != "simulations":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise DataError(f"{name}={value!r}: give a whole number of at least {least}.")
    if not isinstance(posterior, (bool, np.bool_)):
        raise DataError(f"posterior={posterior!r}: give True or False.")


def _engine(engine: str | Engine, settings: dict[str, Any]) -> Engine:
    """Return the engine as it runs in each simulation."""
    chosen = engines.get(engine, **settings)
    if chosen.maximises or chosen.name == "pql":
        raise Unsupported(likelihood_refused(chosen))
    known = {f.name for f in fields(chosen)}
    wanted = ALONE | (SHORT if isinstance(engine, str) else {})
    if chosen.name == "auto":  # it chooses by these settings
        wanted = {name: value for name, value in wanted.items() if name not in (*SHORT, "keep_effects")}
    defaults = {name: value for name, value in wanted.items() if name in known and name not in settings}
    return replace(chosen, **defaults)


def _ranked_among(engine: Any) -> int:
    """Return among how many draws a truth is ranked: half of all that a fit returns, if that is less than usual."""
    draws = getattr(engine, "draws", None)
    if draws is None:
        return RANKED
    all_ = draws * getattr(engine, "chains", 1)
    if all_ < 2 * FEWEST:
        raise DataError(
            f"draws={draws!r}: a truth is ranked among half of the draws, and these must be {FEWEST} at least, better "
            f"{RANKED}: ask for more."
        )
    return int(min(RANKED, all_ // 2))


def _pool(study: Study, simulations: int) -> dict[str, Any]:
    """Return draws of the posterior given the data, one for each simulation."""
    engine: Any = study.engine
    if "draws" in {f.name for f in fields(engine)}:
        engine = replace(engine, draws=max(engine.draws, simulations))
    with threadpool_limits(1, user_api="blas"):
        found, _ = settled(engine, study.model, study.generator(POOL), simulations)
    return dict(picked(found, simulations).draws)


def _all(study: Study, simulations: int, cores: int | None, folder: Folder | None) -> tuple[list[Outcome], bool]:
    """Return all simulations in order, and whether Ctrl-C ended it; those of the folder are not made again."""
    outcomes: dict[int, Outcome] = {}
    for number in range(simulations if folder is not None else 0):
        assert folder is not None
        known = folder.read(number)
        if known is not None:
            outcomes[number] = known
    left = [number for number in range(simulations) if number not in outcomes]

    def take(outcome: Outcome) -> None:
        outcomes[outcome.number] = outcome
        if folder is not None:
            folder.keep(outcome)

    interrupted = False
    try:
        with (
            terminable(),
            Bar(simulations, None, "calibrating", "simulations") as bar,
            closing(_made(study, left, cores, len(outcomes))) as made,  # which ends other processes
        ):
            for one in made:
                if one is not None:
                    take(one)
                bar.update(len(outcomes))
    except KeyboardInterrupt:
        interrupted = True
        if not outcomes:
            raise
    return [outcomes[number] for number in sorted(outcomes)], interrupted


def _made(study: Study, left: list[int], cores: int | None, before: int) -> Generator[Outcome | None, None, None]:
    """Make simulations: the first few here, which compiles what must be compiled and shows what they take."""
    most = min(os.cpu_count() or 1 if cores is None else int(cores), len(left))
    refused, seconds = 0, 0.0
    with threadpool_limits(1, user_api="blas"):
        for place, number in enumerate(left):
            rest = len(left) - place
            if place >= 2 and most > 1 and not refused and seconds * rest > WORTH:
                sent = _packed(study, cores)
                if sent is not None and (yield from _elsewhere(sent, left[place:], min(most, rest), cores)):
                    return
                most = 1
            outcome = study.simulate(number)
            refused, seconds = refused + outcome.refused, outcome.seconds
            if refused == place + 1 == min(TRIED, len(left)) and not before:
                raise Unsupported(outcome.failure)
            yield outcome


def _elsewhere(sent: bytes, left: list[int], count: int, cores: int | None) -> Generator[Outcome | None, None, bool]:
    """Make simulations in other processes; returns False if these cannot take the study and nobody asked for them."""
    try:
        yield from in_processes(sent, left, count)
    except NotImportable:
        if cores is not None:
            raise
        return False
    return True


def _packed(study: Study, cores: int | None) -> bytes | None:
    """Return the study as other processes take it; None if it cannot be sent, and nobody asked for it."""
    try:
        return pickle.dumps(study)
    except Exception as error:
        if cores is None:
            return None
        raise Unsupported(
            f"cores={cores}: this model or engine cannot be sent to another process ({error}). Give cores=1, or define "
            "its functions and classes in a module."
        ) from error

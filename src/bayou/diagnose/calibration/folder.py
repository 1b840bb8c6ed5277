"""The folder of a calibration: what is studied, and one small file for each simulation that was made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.diagnose.calibration.quantities import Ranked
from bayou.diagnose.calibration.study import Outcome
from bayou.engines.store import LOCK, _locked, versions
from bayou.errors import FileError
from bayou.posterior import container
from bayou.posterior.packing import difference, pack

if TYPE_CHECKING:
    from bayou._types import Array
    from bayou.diagnose.calibration.study import Study

__all__ = ["Folder"]

HEADER = "calibration.bayou"
FACTS = ("number", "failure", "drawn", "refused", "continued", "seconds")
POOL = "true_"  # what the names of the true values begin with in the header


class Folder:
    """A folder that holds the simulations of one study.

    Parameters
    ----------
    path
        Empty, not there yet, or the folder of the same study.

    Raises
    ------
    FileError
        If it cannot be made, or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FileError(f"{self.path} is a file: give a folder that is empty or not there yet.")
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise FileError(
                f"{self.path} cannot be made ({error.strerror or error}): its parent must be there."
            ) from error
        others = sorted(p.name for p in self.path.iterdir() if p.name != LOCK)
        self.begun = HEADER in others
        if others and not self.begun:
            raise FileError(f"{self.path} holds {others[0]} already: give a folder that is empty or not there yet.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here."""
        with _locked(self.path):
            yield

    def entropy(self) -> int | None:
        """Return the seed that the study began with, or None where there is none yet."""
        return int(container.read(self.path / HEADER)[0]["entropy"]) if self.begun else None

    def open(self, study: Study, posterior: bool, simulations: int) -> dict[str, Array] | None:
        """Return the true values that the folder has, after a look at whether it is of this study; None without.

        Raises
        ------
        FileError
            For another model, engine, seed or version, or fewer true values than simulations.
        """
        if not self.begun:
            return None
        facts, arrays = container.read(self.path / HEADER)
        own = {k: v for k, v in arrays.items() if not k.startswith(POOL)}
        other = difference((facts["model"], own), pack(study.model))
        now = _facts(study, posterior)
        for name in ("engine", "entropy", "posterior", "draws"):
            if other is None and facts[name] != now[name]:
                other = f"{name} {facts[name]} there, {now[name]} here"
        if other is not None:
            raise FileError(f"{self.path} holds the calibration of something else: {other}. Give another folder.")
        for name, was in facts["versions"].items():
            if was != now["versions"].get(name):
                raise FileError(
                    f"{self.path} was begun with {name} {was}; this is {name} {now['versions'].get(name)}, whose "
                    "draws may differ. Go on with that version, or give another folder."
                )
        if not posterior:
            return None
        pool = {k.removeprefix(POOL): v for k, v in arrays.items() if k.startswith(POOL)}
        have = next(iter(pool.values())).shape[1]
        if have < simulations:
            raise FileError(
                f"{self.path} was begun with {have:,} draws of the posterior, one for each simulation: ask for at "
                f"most simulations={have}, or give another folder."
            )
        return pool

    def begin(self, study: Study) -> None:
        """Write what is studied."""
        facts, arrays = pack(study.model)
        arrays |= {f"{POOL}{name}": values for name, values in (study.pool or {}).items()}
        try:
            container.write(self.path / HEADER, {**_facts(study, study.pool is not None), "model": facts}, arrays)
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror or error}.") from error
        self.begun = True

    def keep(self, outcome: Outcome) -> None:
        """Write one simulation, whole or not at all."""
        facts = {name: getattr(outcome, name) for name in FACTS}
        facts["effective"] = outcome.effective if math.isfinite(outcome.effective) else None
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        if outcome.ranks is not None:
            facts["names"] = list(outcome.ranks.names)
            arrays = {name: values for name, values in outcome.ranks._asdict().items() if name != "names"}
        try:
            container.write(self._file(outcome.number), facts, arrays)
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def read(self, number: int) -> Outcome | None:
        """Return a simulation, or None if it was not made or its file is damaged: then it is made again."""
        path = self._file(number)
        if not path.is_file():
            return None
        try:
            facts, arrays = container.read(path)
        except FileError:
            return None
        names = facts.pop("names", None)
        ranks = None if names is None else Ranked(tuple(names), **arrays)
        effective = facts.pop("effective")
        return Outcome(ranks=ranks, effective=np.nan if effective is None else effective, **facts)

    def _file(self, number: int) -> Path:
        return self.path / f"simulation-{number + 1:06d}.bayou"


def _facts(study: Study, posterior: bool) -> dict[str, Any]:
    return {
        "engine": study.engine.describe(),
        "entropy": study.entropy,
        "posterior": posterior,
        "draws": study.draws,
        "versions": versions(),
    }

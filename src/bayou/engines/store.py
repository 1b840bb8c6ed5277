"""A run that lives in a folder, so that a process that dies loses nothing finished.

- ``run.bayou``: the model with its data, the engine, the seed, the versions, and how many shards if there are any
- ``chain-1/draws-000000000.bayou``: a stretch of draws, named by the number of its first
- ``chain-1/state.bayou``: the chain after so many scans, with its random generator
- ``chain-1/groups.bayou``: of a chain in shards that is over, its statistics by group
- ``lock``: held by the one process that writes here
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bayou.engines.draws import Plan
from bayou.engines.stream import StoredRecord
from bayou.errors import FileError
from bayou.posterior import container
from bayou.posterior.packing import difference, pack, unpack

if TYPE_CHECKING:
    from bayou.engines.chains import ChainEngine
    from bayou.model import Model

RUN, LOCK = "run.bayou", "lock"
OWN = ("store", "cores", "progress")  # settings that the draws do not depend on
RESUME = "bayou.resume(folder) goes on with it"


class Store:
    """The folder of one run.

    Attributes
    ----------
    path
        The folder.
    engine, model, rng
        What runs: the settings, the model as it was packed, and the generator at its start.
    shards
        Into how many its groups are divided over a cluster (`bayou.cluster`), or None.
    """

    def __init__(
        self, path: Path, engine: ChainEngine, model: Model, rng: np.random.Generator, shards: int | None = None
    ) -> None:
        self.path, self.engine, self.model, self.rng, self.shards = path, engine, model, rng, shards
        self.lock: IO[str] | None = None

    @property
    def seed(self) -> int:
        """Entropy that the run began with."""
        sequence: Any = self.rng.bit_generator.seed_seq
        return int(sequence.entropy)

    def record(self, chain: int, plan: Plan, draws: int, keep: bool) -> StoredRecord:
        """Return the record of a chain, counted from 0."""
        return StoredRecord(plan, draws, keep, self.path / f"chain-{chain + 1}")

    def __enter__(self) -> Store:
        """Lock the folder, unless it is."""
        self.lock = self.lock or _locked(self.path)
        return self

    def __exit__(self, *problem: object) -> None:
        """Unlock it."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def create(
    path: str | os.PathLike[str],
    engine: ChainEngine,
    model: Model,
    rng: np.random.Generator,
    shards: int | None = None,
) -> Store:
    """Make the folder of a new run.

    Raises
    ------
    FileError
        If it holds a run or anything else already, or cannot be written.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give a folder that is empty or not there yet.")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made ({error.strerror or error}): its parent must be there.") from error
    store = Store(folder, engine, model, rng, shards)
    _check_empty(folder)
    store.lock = _locked(folder)
    try:
        _check_empty(folder)  # another process may have been faster
        container.write(folder / RUN, *_header(store))
    except OSError as error:
        store.__exit__()
        raise FileError(f"{folder} cannot be written: {error.strerror or error}.") from error
    except FileError:
        store.__exit__()
        raise
    return store


def _check_empty(folder: Path) -> None:
    if (folder / RUN).exists():
        raise FileError(f"{folder} holds a run already: {RESUME}; give another folder for a new one.")
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK)
    if others:
        raise FileError(f"{folder} holds {others[0]} already: give a folder that is empty or not there yet.")


def _header(store: Store) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return what `open_store` makes the run from."""
    facts, arrays = pack(store.model)
    seed: Any = store.rng.bit_generator.seed_seq
    settings = {f.name: getattr(store.engine, f.name) for f in fields(store.engine) if f.name not in OWN}
    return {
        "versions": versions(),
        "engine": store.engine.name,
        "settings": {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()},
        "seed": {
            "entropy": seed.entropy,
            "spawn_key": list(seed.spawn_key),
            "n_children_spawned": seed.n_children_spawned,
        },
        "shards": store.shards,
        "model": facts,
    }, arrays


def open_store(
    path: str | os.PathLike[str],
    model: Model | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    exactly: bool = True,
    **settings: Any,
) -> Store:
    """Open the folder of a run that was begun.

    Parameters
    ----------
    model
        If given, what the caller takes the run to be of.
    functions
        Functions of the caller that the formula uses; code is never stored.
    exactly
        Refuse what another version of bayou, NumPy or Numba began: it would not go on to the same draws.
    **settings
        Of the engine, that the draws do not depend on.

    Raises
    ------
    FileError
        If there is no run, if it is damaged, or of another model, data or version: which.
    """
    from bayou import engines

    folder = Path(path)
    if not (folder / RUN).is_file():
        raise FileError(f"{folder} holds no run: bayou.fit(..., store=folder) begins one.")
    facts, arrays = container.read(folder / RUN)
    now = versions()
    for name, was in facts["versions"].items():
        if exactly and was != now.get(name):
            raise FileError(
                f"{folder} was begun with {name} {was}; this is {name} {now.get(name)}, which would not go on to the "
                "same draws. Go on with that version, or fit again; bayou.salvage(folder) returns the draws there are."
            )
    if model is not None:
        other = difference((facts["model"], arrays), pack(model))
        if other is not None:
            raise FileError(f"{folder} holds the run of another model: {other}. Leave the model out to go on with it.")
    try:
        engine: Any = engines.get(facts["engine"], **facts["settings"], **settings)
        model = model or unpack(facts["model"], arrays, functions or {})
    except ValueError as error:
        raise FileError(f"{folder} cannot be gone on with: {error}") from error
    seed = np.random.SeedSequence(**facts["seed"])
    return Store(folder, engine, model, np.random.default_rng(seed), facts.get("shards"))


def versions() -> dict[str, str]:
    """Return what must be the same for a chain to go on to the same draws."""
    import numba

    import bayou
    from bayou.jit import kernels_digest

    return {
        "bayou": bayou.__version__,
        "NumPy": np.__version__,
        "Numba": numba.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "kernels": kernels_digest(),
    }


def _locked(folder: Path) -> IO[str]:
    """Lock the folder for this process until it ends, however it ends."""
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise FileError(f"{folder} cannot be written: {error.strerror or error}.") from error
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            windows: Any = msvcrt
            file.seek(0)
            windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        who = f" (process {holder})" if holder else ""
        raise FileError(
            f"{folder} is in use by another run{who}: wait until it ends, or give another folder."
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file

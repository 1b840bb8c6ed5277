"""Several fits beside each other, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bayou
from bayou import engines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compared", "everyone"]

POSTERIORS = ("gibbs", "metropolis", "inla", "nuts")


def compared(
    folders: Sequence[Path], names: str | None, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of `bayou.compare` for fits that were kept, and its notes.

    Parameters
    ----------
    folders
        Folders with a fit.nc, or such files.
    names
        What to call the fits, with commas between; the names of the folders if None.
    bootstrap, seed
        As for `bayou.compare`.

    Raises
    ------
    FileError
        If a fit cannot be read.
    DataError
        If the fits cannot be compared.
    """
    fits = [bayou.load(folder / "fit.nc" if folder.is_dir() else folder) for folder in folders]
    labels = [folder.name for folder in folders] if names is None else [name.strip() for name in names.split(",")]
    own = labels if names is not None or len(set(labels)) == len(labels) else None
    table = bayou.compare(*fits, names=own, bootstrap=bootstrap, seed=seed)
    return table, list(table.attrs.get("notes", ()))


def everyone() -> list[str]:
    """Return the engines that give a posterior."""
    return [name for name in POSTERIORS if name in engines.NAMES]

"""Arrays of row size in files that are mapped into memory: what a design of more rows than memory is made of.

The pages of such an array belong to its file. The system reads them ahead while they are visited in order, and drops
them when memory is short: they count as resident, but a process never runs out of memory by them.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayou._types import Array
from bayou.errors import FileError

__all__ = ["RowFiles", "constant", "temporary_folder"]

VERSION = 1
HEADER = "rows.json"
SPARE = 16 * 2**20  # bytes of a disk that are left free
PART = 16 * 2**20  # bytes read at a time for a checksum

Mapped = npt.NDArray[Any]

_temporary: set[Path] = set()


def temporary_folder(parent: Path | str | None = None) -> Path:
    """Make a folder that is removed with the design whose rows it holds, at the end of the process at the latest.

    Raises
    ------
    FileError
        If ``parent`` (the system's folder for temporary files by default) cannot be written.
    """
    where = Path(tempfile.gettempdir() if parent is None else parent)
    try:
        made = Path(tempfile.mkdtemp(prefix="bayou-rows-", dir=where))
    except OSError as error:
        raise FileError(f"No folder for the rows can be made in {str(where)!r} ({_reason(error)}).") from None
    _temporary.add(made)
    return made


def constant(values: npt.NDArray[Any]) -> float | None:
    """Return the one number that an array (n,) repeats without storing it, or None where every row has its own."""
    return float(values[0]) if values.ndim == 1 and len(values) > 1 and values.strides == (0,) else None


class RowFiles:
    """A folder of arrays, one ``.npy`` file each, and room for scratch of row size beside them.

    Parameters
    ----------
    folder : Path
        Made if it is not there. One of `temporary_folder` is removed when this object is gone.

    Raises
    ------
    FileError
        If the folder cannot be made or written.

    Examples
    --------
    >>> import numpy as np
    >>> files = RowFiles(temporary_folder())
    >>> x = files.create("x", (3,), np.float64)
    >>> x[:] = [1.0, 2.0, 3.0]
    >>> files.finish({"rows": 3})
    >>> files.read("x").tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.names: list[str] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise FileError(
                f"The folder {str(self.folder)!r} for the rows cannot be written ({_reason(error)}). Name another one."
            ) from None
        if self.folder in _temporary:
            weakref.finalize(self, _remove, self.folder, os.getpid())

    def require(self, needed: int, what: str) -> None:
        """Refuse to begin what the disk cannot hold; ``needed`` in bytes.

        Raises
        ------
        FileError
            Saying how much is needed and how much is free.
        """
        free = shutil.disk_usage(self.folder).free - SPARE
        if needed > free:
            raise FileError(
                f"{what} need {_size(needed)} in {str(self.folder)!r}, where {_size(max(free, 0))} are free. Name a "
                "folder on a larger disk, or free some space."
            )

    def create(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Mapped:
        """Return a new array that lies in a file, to be filled; two dimensions are stored column by column.

        Raises
        ------
        FileError
            If the disk is full.
        """
        path = self.folder / f"{name}.npy"
        try:
            order = len(shape) == 2
            made = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape, fortran_order=order)
            with open(path, "r+b") as file:  # a hole in the file, written to on a full disk, would end the process
                _allocate(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise self._full(error, f"The rows' file {path.name!r}", shape, dtype) from None
        self.names.append(name)
        return np.asarray(made)

    def scratch(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> Mapped:
        """Return an array of zeros whose pages belong to a file that nobody else sees; it goes with the array.

        Raises
        ------
        FileError
            If the disk is full.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size == 0:
            return np.zeros(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _allocate(file.fileno(), size)
                return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).reshape(shape)
        except OSError as error:
            raise self._full(error, "Scratch for the rows", shape, dtype) from None

    def _full(self, error: OSError, what: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> FileError:
        size = _size(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = _size(shutil.disk_usage(self.folder).free)
            where = f"{str(self.folder)!r}, where {free} are free"
            why = f"of {size} does not fit into {where}. Name a folder on a larger disk"
        else:
            why = f"cannot be written in {str(self.folder)!r} ({_reason(error)}). Name another folder"
        return FileError(f"{what} {why}.")

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the header: the facts, and a checksum of every array; without one the folder holds no rows."""
        sums = {name: self._checksum(name) for name in self.names}
        text = json.dumps({"version": VERSION, "arrays": sums, **facts}, indent=1)
        path = self.folder / HEADER
        written = path.with_suffix(".part")
        try:
            written.write_text(text, "utf-8")
            written.replace(path)
        except OSError as error:
            raise FileError(f"{str(path)!r} cannot be written ({_reason(error)}).") from None

    def facts(self) -> dict[str, Any]:
        """Return the header of a folder that was written before, every array checked.

        Raises
        ------
        FileError
            For a folder without a header, of another version, or with an array that is missing or damaged.
        """
        path = self.folder / HEADER
        try:
            facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
            version, sums = facts["version"], dict(facts["arrays"])
        except (OSError, ValueError, KeyError, TypeError):
            raise FileError(
                f"{str(self.folder)!r} holds no rows of bayou: {HEADER!r} is missing or damaged. Read the data again."
            ) from None
        if version != VERSION:
            raise FileError(
                f"The rows in {str(self.folder)!r} were written in version {version}; this is version {VERSION}. Read "
                "the data again."
            )
        for name, known in sums.items():
            if self._checksum(name) != known:
                raise FileError(
                    f"The file {name + '.npy'!r} in {str(self.folder)!r} is missing or damaged. Read the data again."
                )
        self.names = list(sums)
        return facts

    def read(self, name: str) -> Mapped:
        """Return an array of the folder. What is written to it stays in this process and leaves the file as it is."""
        try:
            return np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
        except (OSError, ValueError):
            raise FileError(
                f"The file {name + '.npy'!r} in {str(self.folder)!r} is missing or damaged. Read the data again."
            ) from None

    def _checksum(self, name: str) -> int:
        try:
            total = 0
            with open(self.folder / f"{name}.npy", "rb") as file:
                while part := file.read(PART):
                    total = zlib.crc32(part, total)
            return total
        except OSError:
            return -1


def _allocate(file: int, size: int) -> None:
    """Take the space of a file now, so that a full disk is an error here and not a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # pragma: no cover - macOS and Windows
        os.truncate(file, size)


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder with its files; a forked process leaves it to the one that made it."""
    if os.getpid() == process:
        _temporary.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}"
        size /= 1000.0
    return f"{size:.3g} GB"


def row_array(files: RowFiles | None, shape: tuple[int, ...]) -> Array:
    """Return zeros of row size: in memory, or in a file where the rows themselves are in files."""
    return np.zeros(shape) if files is None else files.scratch(shape)

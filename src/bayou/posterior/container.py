"""One file of JSON facts and arrays that is either whole or said to be damaged.

The first line names the format, a checksum over everything after it, and the two lengths; then the facts as
JSON, then the numbers of the arrays. A file is written under a temporary name, flushed to the disk and renamed,
so that a program killed at any moment leaves the old file or the new one. Nothing in it is code.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bayou.errors import FileError

__all__ = ["read", "write"]

MAGIC = "bayou-file"
FORMAT = 1
Arrays = Mapping[str, np.ndarray[Any, Any]]


def write(path: Path, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Write facts and arrays, whole or not at all.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; nothing is left behind then.
    """
    ordered = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    layout = [[name, v.dtype.newbyteorder("<").str, list(v.shape)] for name, v in ordered.items()]
    text = json.dumps({"facts": facts, "arrays": layout}, indent=1).encode() + b"\n"
    parts = [v.astype(v.dtype.newbyteorder("<"), copy=False).tobytes() for v in ordered.values()]
    total = zlib.crc32(text)
    for part in parts:
        total = zlib.crc32(part, total)
    line = f"{MAGIC} {FORMAT} {total:08x} {len(text)} {sum(map(len, parts))}\n".encode()
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            for part in (line, text, *parts):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make a rename in this folder outlive a loss of power, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Read a file that `write` wrote.

    Raises
    ------
    FileError
        If it is missing, damaged, or from a newer version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    end = data.find(b"\n", 0, 200)
    words = data[: max(end, 0)].decode("ascii", "replace").split(" ")
    if len(words) != 5 or words[0] != MAGIC:
        raise FileError(f"{path} is damaged or not a file of bayou: its first line is not one of bayou's.")
    if words[1] not in map(str, range(1, 100)):
        raise FileError(f"{path} is damaged: {words[1]!r} is no format.")
    if int(words[1]) > FORMAT:
        raise FileError(f"{path} has format {words[1]}; this version of bayou reads up to {FORMAT}: upgrade bayou.")
    body = memoryview(data)[end + 1 :]
    lengths = [int(w) if w.isdigit() else -1 for w in words[3:]]
    if sum(lengths) != len(body) or min(lengths) < 0:
        raise FileError(f"{path} is damaged: it has {len(body):,} bytes where its first line says {sum(lengths):,}.")
    if f"{zlib.crc32(body):08x}" != words[2]:
        raise FileError(f"{path} is damaged: its content does not match its checksum.")
    content = json.loads(bytes(body[: lengths[0]]))
    at = lengths[0]
    arrays = {}
    for name, kind, shape in content["arrays"]:
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(body, dtype, count, at).reshape(shape)
        arrays[name] = values.astype(dtype.newbyteorder("="))
        at += values.nbytes
    return content["facts"], arrays

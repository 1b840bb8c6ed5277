"""A result in one netCDF file that any tool can read and that becomes a full result again.

The groups of ArviZ's scheme stand beside a group ``bayou`` with what rebuilds the model: formula text,
family, priors and the columns used. Nothing in the file is code: the formula passes the white list
again, priors are known classes with numbers, and every array carries a checksum.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bayou._types import Array
from bayou.errors import BayouError, FileError
from bayou.posterior.approximation import pack_approximation, unpack_approximation
from bayou.posterior.estimates import pack_estimates, unpack_estimates
from bayou.posterior.names import file_name
from bayou.posterior.packing import pack, unpack
from bayou.posterior.posterior import Posterior

__all__ = ["load", "save"]

FORMAT = 3  # of files with structured effects or densities; 2 has estimates, 1 neither
GROUP = "bayou"


# ---- writing -------------------------------------------------------------------------------


def save(posterior: Posterior, path: str | os.PathLike[str]) -> Path:
    """Write a result to a netCDF file, whole or not at all.

    The file is written under a temporary name in the same folder, flushed to disk and renamed.

    Raises
    ------
    FileError
        If the folder is missing, full or cannot be written, or the file is locked.
    """
    target = _path(path)
    if not target.absolute().parent.is_dir():
        raise FileError(f"{target} cannot be written: give a folder that exists.")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        _write(posterior, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(
            f"{target} cannot be written: {error}. Free some space, or close the program that has the file open."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _write(posterior: Posterior, path: Path) -> None:
    import xarray as xr

    groups = posterior.datasets()
    facts, arrays = pack(posterior.model)
    estimates = None
    if posterior.estimates is not None:
        estimates, own_arrays = pack_estimates(posterior.estimates, [*posterior.names, *posterior.structured])
        arrays = {**arrays, **own_arrays}
    approximation = None
    if posterior.approximation is not None:
        approximation, own_arrays = pack_approximation(posterior.approximation)
        arrays = {**arrays, **own_arrays}
    written_as = FORMAT if approximation or posterior.structured else 1 if estimates is None else 2
    arrays = {name: values for name, values in arrays.items() if values.size}
    everything = (*_stored(posterior), *((f"{GROUP}/{k}", v) for k, v in arrays.items()))
    header = {
        "format": written_as,
        "version": _version(),
        "engine": posterior.engine,
        "info": posterior.info,
        "variables": _variables(posterior),
        "model": facts,
        "estimates": estimates,
        "approximation": approximation,
        "checksums": {place: _checksum(values) for place, values in everything},
    }
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    columns = {k: ((f"{k}_row",), v) for k, v in arrays.items()}
    own = xr.Dataset({"header": ("byte", text), **columns}, attrs={"checksum": _checksum(text)})
    tree = xr.DataTree.from_dict({f"/{k}": v for k, v in {**groups, GROUP: own}.items()})
    tree.attrs.update(inference_library="bayou", inference_library_version=_version(), format=written_as)
    plain: dict[str, Any] = {
        f"/{k}": {str(v): {"_FillValue": None} for v in data.variables} for k, data in {**groups, GROUP: own}.items()
    }
    tree.to_netcdf(path, engine="h5netcdf", encoding=plain)


def _stored(posterior: Posterior) -> list[tuple[str, Array]]:
    return [
        (f"{posterior.place(key)}/{file_name(key)}", values)
        for _, arrays in _families_of_arrays(posterior)
        for key, values in arrays.items()
        if values.size
    ]


def _families_of_arrays(posterior: Posterior) -> tuple[tuple[str, dict[str, Array]], ...]:
    return (
        ("draws", dict(posterior.draws)),
        ("moments", posterior.moments),
        ("statistics", posterior.statistics),
        ("group_statistics", posterior.group_statistics),
    )


def _variables(posterior: Posterior) -> dict[str, Any]:
    """Return where each array stands, by kind and name."""
    return {
        family: {
            key: {
                "place": f"{posterior.place(key)}/{file_name(key)}",
                "shape": values.shape,
                "dtype": str(values.dtype),
            }
            for key, values in members.items()
        }
        for family, members in _families_of_arrays(posterior)
    }


def _checksum(values: np.ndarray[Any, Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data if values.size else b"")


def _version() -> str:
    from bayou import __version__

    return __version__


# ---- reading -------------------------------------------------------------------------------


def _path(path: object) -> Path:
    """Return the path of a file, refusing what is not one."""
    if not isinstance(path, (str, os.PathLike)):
        raise FileError(f"{path!r} is not the name of a file: give text such as 'fit.nc'.")
    return Path(path)


def load(path: str | os.PathLike[str], functions: Mapping[str, Callable[..., Any]] | None = None) -> Posterior:
    """Read a result that `save` wrote; the file is closed again before this returns.

    Parameters
    ----------
    path
        The file.
    functions
        Functions of the caller that the formula uses; code is never stored.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, not bayou's, or from a newer version.
    """
    import h5netcdf

    source = _path(path)
    if (source / "run.bayou").exists():
        raise FileError(f"{source} is the folder of a stored run: bayou.resume goes on with it or returns it.")
    if not source.is_file():
        raise FileError(f"There is no file {source}.")
    try:
        with h5netcdf.File(source, "r") as file:
            header = _read_header(file)
            read = _Reader(file, header["checksums"])
            found = {
                family: {key: read.variable(facts) for key, facts in members.items()}
                for family, members in header["variables"].items()
            }
            own = [place for place in read.checksums if place.startswith(f"{GROUP}/")]
            arrays = {place.removeprefix(f"{GROUP}/"): read.array(place) for place in own}
        model = unpack(header["model"], arrays, functions or {})
        draws = {**found["draws"], **found["moments"]}
        estimates = unpack_estimates(header["estimates"], arrays) if header.get("estimates") else None
        approximation = unpack_approximation(header["approximation"], arrays) if header.get("approximation") else None
        return Posterior(
            model,
            header["engine"],
            draws,
            found["statistics"],
            header["info"],
            found["group_statistics"],
            estimates=estimates,
            approximation=approximation,
        )
    except BayouError as error:
        raise FileError(f"{source} cannot be read: {error}") from error
    except BlockingIOError as error:
        raise FileError(f"{source} is locked by another program; close it there and load again.") from error
    except Exception as error:  # h5py raises nearly anything on a damaged file
        raise FileError(
            f"{source} is damaged or not a netCDF file that bayou wrote ({type(error).__name__}: {error}). "
            "Save the fit again, or take an older copy."
        ) from error


def _read_header(file: Any) -> dict[str, Any]:
    if GROUP not in file.groups or "header" not in file.groups[GROUP].variables:
        raise FileError("it is a netCDF file, but no result of bayou; bayou.load reads what fit.save wrote.")
    group = file.groups[GROUP]
    data = np.asarray(group.variables["header"][...], dtype=np.uint8)
    if _checksum(data) != int(group.attrs["checksum"]):
        raise FileError("it is damaged: its header does not match its checksum.")
    header: dict[str, Any] = json.loads(data.tobytes().decode())
    if header["format"] > FORMAT:
        raise FileError(
            f"bayou {header['version']} wrote it in a newer format "
            f"({header['format']}; this version reads up to {FORMAT}). Upgrade bayou to read it."
        )
    return header


class _Reader:
    """Reads arrays by their place in the file and checks them."""

    def __init__(self, file: Any, checksums: Mapping[str, int]) -> None:
        self.file, self.checksums = file, checksums

    def array(self, place: str) -> np.ndarray[Any, Any]:
        group, _, name = place.partition("/")
        values = np.asarray(self.file.groups[group].variables[name][...])
        if _checksum(values) != self.checksums[place]:
            raise FileError(f"it is damaged: {place} does not match its checksum.")
        return values

    def variable(self, facts: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
        if 0 in shape:
            return np.empty(shape, dtype)
        return self.array(facts["place"]).astype(dtype, copy=False).reshape(shape)

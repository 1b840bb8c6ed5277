"""A result in one netCDF file that any tool can read and that becomes a full result again.

The groups of ArviZ's scheme stand beside a group ``bayou`` with what rebuilds the model: formula text,
family, priors and the columns used. Nothing in the file is code: the formula passes the white list
again, priors are known classes with numbers, and every array carries a checksum.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import BayouError, FileError
from bayou.posterior import Posterior, file_name

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.model import Model
    from bayou.priors import Priors

__all__ = ["load", "save"]

FORMAT = 1
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
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise FileError(
            f"{target} cannot be written: {error.strerror}. Give a folder that exists and that you "
            "may write to."
        ) from error
    temporary = Path(name)
    try:
        _write(posterior, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(
            f"{target} cannot be written: {error}. Free some space, or close the program that has the "
            "file open."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(posterior: Posterior, path: Path) -> None:
    import xarray as xr

    groups = posterior.datasets()
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    header = _header(posterior, arrays)
    for place, values in (*_stored(posterior), *((f"{GROUP}/{k}", v) for k, v in arrays.items())):
        header["checksums"][place] = _checksum(values)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    columns = {k: ((f"{k}_row",), v) for k, v in arrays.items()}
    own = xr.Dataset({"header": ("byte", text), **columns}, attrs={"checksum": _checksum(text)})
    tree = xr.DataTree.from_dict({f"/{k}": v for k, v in {**groups, GROUP: own}.items()})
    tree.attrs.update(inference_library="bayou", inference_library_version=_version(), format=FORMAT)
    plain: dict[str, Any] = {
        f"/{k}": {str(v): {"_FillValue": None} for v in data.variables}
        for k, data in {**groups, GROUP: own}.items()
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
        ("draws", posterior.draws),
        ("moments", posterior.moments),
        ("statistics", posterior.statistics),
        ("group_statistics", posterior.group_statistics),
    )


def _header(posterior: Posterior, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Return what is not an array; the columns used are put into ``arrays``."""
    model = posterior.model
    design = model.design
    columns = [
        _encode(name, values, f"column_{k}", arrays) for k, (name, values) in enumerate(design.data.items())
    ]
    weights = design.recipe.weights
    if weights is None and not np.all(design.weights == 1.0):
        arrays["weights"] = design.weights  # given as numbers, not as a column
    index = np.empty(design.n, dtype=object)
    index[:] = [_label(v) for v in design.index]
    return {
        "format": FORMAT,
        "version": _version(),
        "engine": posterior.engine,
        "info": posterior.info,
        "variables": {
            family: {
                key: {
                    "place": f"{posterior.place(key)}/{file_name(key)}",
                    "shape": values.shape,
                    "dtype": str(values.dtype),
                }
                for key, values in members.items()
            }
            for family, members in _families_of_arrays(posterior)
        },
        "model": {
            "formula": model.text,
            "functions": sorted(design.formula.functions),
            "family": model.family.name,
            "link": model.family.link.name,
            "weights": weights,
            "sigma_by": design.sigma_by,
            "priors": {key: _prior_out(prior) for key, prior in model.priors.items()},
            "columns": columns,
            "index": _encode("index", index, "index", arrays),
            "notes": design.notes,
            "dropped": design.dropped,
            "categories": {name: [_plain(v) for v in levels] for name, levels in design.categories.items()},
        },
        "shape": _shape(design),
        "checksums": {},
    }


def _shape(design: Design) -> dict[str, Any]:
    """What the rebuilt model must have in common with the saved one."""
    return {
        "rows": design.n,
        "coefficients": list(design.coefficients),
        "groupings": [[g.name, len(g.levels), list(g.coefficients)] for g in design.groupings],
    }


def _encode(
    name: str, values: np.ndarray[Any, Any], key: str, arrays: dict[str, np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """Put one raw column into ``arrays`` as numbers; text becomes codes with its levels in the header."""
    kind = values.dtype.kind
    if kind in "OUS":
        places: dict[Any, int] = {}
        codes = [-1 if v is None else places.setdefault((type(v), v), len(places)) for v in values]
        arrays[key] = np.array(codes, dtype=np.int64)
        return {"name": name, "key": key, "kind": "levels", "levels": [_plain(v) for _, v in places]}
    if kind == "b":
        arrays[key] = values.astype(np.int8)
    elif kind == "M":
        arrays[key] = values.astype("datetime64[us]").astype(np.int64)
    else:
        arrays[key] = np.ascontiguousarray(values)
    return {"name": name, "key": key, "kind": {"b": "boolean", "M": "date"}.get(kind, "number")}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _label(value: Any) -> Any:
    """A row label as JSON has it: numbers and text stay, dates and tuples become text."""
    value = _plain(value)
    return value if isinstance(value, (str, int, float)) else str(value)


def _prior_out(prior: Any) -> dict[str, Any]:
    from bayou.priors import Prior

    def out(value: Any) -> Any:
        if isinstance(value, Prior):
            return _prior_out(value)
        return value.tolist() if isinstance(value, np.ndarray) else _plain(value)

    return {
        "class": type(prior).__name__,
        "fields": {f.name: out(getattr(prior, f.name)) for f in fields(prior)},
    }


def _checksum(values: np.ndarray[Any, Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data if values.size else b"")


def _version() -> str:
    from bayou import __version__

    return __version__


# ---- reading -------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str], functions: Mapping[str, Callable[..., Any]] | None = None
) -> Posterior:
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

    source = Path(path)
    if not source.is_file():
        raise FileError(f"There is no file {source}.")
    try:
        with h5netcdf.File(source, "r") as file:
            header = _read_header(file, source)
            read = _Reader(file, source, header["checksums"])
            found = {
                family: {key: read.variable(facts) for key, facts in members.items()}
                for family, members in header["variables"].items()
            }
            weights = read.array(f"{GROUP}/weights") if f"{GROUP}/weights" in read.checksums else None
            columns = {
                c["name"]: _decode(c, read.array(f"{GROUP}/{c['key']}")) for c in header["model"]["columns"]
            }
            index = _decode(header["model"]["index"], read.array(f"{GROUP}/index"))
        model = _rebuild(header, columns, weights, functions or {}, source)
        # what was said of the whole table is not to be read off the rows that were kept
        model.design = replace(
            model.design,
            notes=tuple(header["model"]["notes"]),
            dropped=header["model"]["dropped"],
            index=index,
        )
        draws = {**found["draws"], **found["moments"]}
        return Posterior(
            model, header["engine"], draws, found["statistics"], header["info"], found["group_statistics"]
        )
    except FileError:
        raise
    except BayouError as error:
        raise FileError(f"{source}: the model cannot be rebuilt: {error}") from error
    except BlockingIOError as error:
        raise FileError(f"{source} is locked by another program; close it there and load again.") from error
    except Exception as error:  # h5py raises nearly anything on a damaged file
        raise FileError(
            f"{source} is damaged or not a netCDF file that bayou wrote ({type(error).__name__}: {error}). "
            "Save the fit again, or take an older copy."
        ) from error


def _read_header(file: Any, source: Path) -> dict[str, Any]:
    if GROUP not in file.groups or "header" not in file.groups[GROUP].variables:
        raise FileError(
            f"{source} is a netCDF file, but no result of bayou: bayou.load reads what fit.save wrote."
        )
    group = file.groups[GROUP]
    data = np.asarray(group.variables["header"][...], dtype=np.uint8)
    if _checksum(data) != int(group.attrs["checksum"]):
        raise FileError(f"{source} is damaged: its header does not match its checksum.")
    header: dict[str, Any] = json.loads(data.tobytes().decode())
    if header["format"] > FORMAT:
        raise FileError(
            f"{source} was written by bayou {header['version']} in a newer format "
            f"({header['format']}; this version reads up to {FORMAT}). Upgrade bayou to read it."
        )
    return header


class _Reader:
    """Reads arrays by their place in the file and checks them."""

    def __init__(self, file: Any, source: Path, checksums: Mapping[str, int]) -> None:
        self.file, self.source, self.checksums = file, source, checksums

    def array(self, place: str) -> np.ndarray[Any, Any]:
        group, _, name = place.partition("/")
        values = np.asarray(self.file.groups[group].variables[name][...])
        if _checksum(values) != self.checksums[place]:
            raise FileError(f"{self.source} is damaged: {place} does not match its checksum.")
        return values

    def variable(self, facts: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
        if 0 in shape:
            return np.empty(shape, dtype)
        return self.array(facts["place"]).astype(dtype, copy=False).reshape(shape)


def _decode(facts: Mapping[str, Any], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    kind = facts["kind"]
    if kind == "levels":
        levels = np.empty(len(facts["levels"]) + 1, dtype=object)
        levels[:-1] = facts["levels"]
        return np.asarray(levels[values])
    if kind == "boolean":
        return values.astype(bool)
    return values.astype("datetime64[us]") if kind == "date" else values


def _rebuild(
    header: Mapping[str, Any],
    columns: dict[str, Any],
    weights: Array | None,
    functions: Mapping[str, Callable[..., Any]],
    source: Path,
) -> Model:
    from bayou import families, frames
    from bayou.model import Model

    facts = header["model"]
    missing = set(facts["functions"]) - set(functions)
    if missing:
        raise FileError(
            f"The formula in {source} calls your own functions {', '.join(sorted(missing))}, and files "
            "hold no code: give them as functions={...}."
        )
    family = type(families.get(facts["family"]))(link=facts["link"])
    model = Model(
        facts["formula"],
        frames.read(columns, facts["categories"]),
        family,
        _priors_in(facts["priors"]),
        weights=facts["weights"] if weights is None else weights,
        sigma_by=facts["sigma_by"],
        functions=functions or None,
    )
    if _shape(model.design) != header["shape"]:
        raise FileError(
            f"{source}: the rebuilt model has other coefficients or levels than the saved one "
            f"(saved by bayou {header['version']}). Fit again with this version."
        )
    return model


def _priors_in(stored: Mapping[str, Any]) -> Priors:
    from bayou import priors

    known = {
        name: value
        for name in priors.__all__
        if isinstance(value := getattr(priors, name), type) and issubclass(value, priors.Prior)
    }

    def made(facts: Any) -> Any:
        if not isinstance(facts, dict):
            return facts
        return known[facts["class"]](**{name: made(value) for name, value in facts["fields"].items()})

    return priors.Priors.of({key: made(facts) for key, facts in stored.items()})

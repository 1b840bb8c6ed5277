"""Rows that can be neither summed nor merged: kept in files, sorted by the factor with most coefficients.

Two passes over the data. The first counts the rows of each level and looks at what needs no storage: weights of one,
offsets of zero, columns that vary by level and stand among the fixed effects too. The second places the rows. Rows
that come sorted go straight to their places. Others are first written to the stretch of some consecutive levels, at
its end so far, and then every stretch, short enough for memory, is sorted where it lies (stably: rows of one level
keep their order). So all files are read and written in a few long runs, and memory holds counts and one stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayou._types import Array, Integers
from bayou.design import passes
from bayou.design.files import RowFiles
from bayou.design.moments import Running
from bayou.design.reduced import Reduced, Remainder
from bayou.errors import DataError, FileError, Unsupported

if TYPE_CHECKING:
    from bayou.design import Design, Grouping, NewRows

__all__ = ["Blocks", "mapped", "opened"]

Blocks = Callable[[], Iterable["NewRows"]]
STRETCH = 1 << 21  # rows that are sorted at a time


@dataclass
class _Survey:
    """What the first pass learns.

    Attributes
    ----------
    counts : (J,) ndarray
        Rows of each level of the factor that they are sorted by.
    sorted : bool
        Whether they come in this order.
    shared : list of (p, P) ndarray of bool
        For each grouping which of its columns equal which column of X.
    """

    counts: Integers
    shared: list[npt.NDArray[np.bool_]]
    running: Running
    rows: int = 0
    sorted: bool = True
    last: int = -1
    trials: bool = False
    weights: bool = False
    offset: bool = False
    sigma: bool = False


def mapped(template: Design, blocks: Blocks, folder: Path) -> Design:
    """Keep all rows in memory-mapped files.

    Parameters
    ----------
    template : Design
        Built on rows that hold every level of every factor; its recipe made the blocks.
    blocks : callable
        A fresh pass over all blocks of rows.
    folder : Path
        Where the files go; one of `bayou.design.files.temporary_folder` is removed with the design.

    Returns
    -------
    Design
        With ``reduced.how == "blocks"``: arrays (n,) lie in files, codes of millions of rows as int32; X and Z are
        stored column by column, and Z is a part of X where its columns are. Weights and trials of one and offsets of
        zero are repeated numbers without storage. `data` and `index` are empty.

    Raises
    ------
    FileError
        Before anything is written, if the disk has not the space; if the folder cannot be written.
    Unsupported
        For structured effects.
    DataError
        For blocks without rows, or levels that the template does not have.
    """
    if template.structured:
        names = ", ".join(term.text for term in template.structured)
        raise Unsupported(
            f"Rows in files take coefficients of grouping factors, and the model has structured effects: {names}. Read "
            "the data into memory: stream=False."
        )
    files = RowFiles(folder)
    by = largest(template)
    survey = _look(template, blocks, by)
    arrays = _places(template, survey, by, files)
    offsets = np.concatenate([[0], np.cumsum(survey.counts)])
    if survey.sorted:
        _append(template, blocks, by, arrays, np.array([0, survey.rows]), None)
    else:
        bounds = _stretches(offsets)
        of_level = np.searchsorted(bounds, np.arange(len(survey.counts)), side="right") - 1
        _append(template, blocks, by, arrays, offsets[bounds], of_level)
        _sort(arrays, by, offsets[bounds])
    sigma = len(template.sigma_levels)
    facts = {
        "rows": survey.rows,
        "by": by,
        "formula": template.formula.text,
        "sharing": [_run(shared) for shared in survey.shared],
        "levels": [len(g.levels) for g in template.groupings],
        "sigma_levels": sigma,
    }
    files.finish(facts)
    return _design(template, files, facts, survey.running)


def opened(template: Design, folder: Path) -> Design:
    """Return the design whose rows `mapped` left in a folder.

    Raises
    ------
    FileError
        For a folder with other rows than the template's, or with damaged files.
    """
    files = RowFiles(folder)
    facts = files.facts()
    known = [len(g.levels) for g in template.groupings]
    if facts.get("formula") != template.formula.text or facts.get("levels") != known:
        raise FileError(f"The rows in {str(folder)!r} are those of another model: {facts.get('formula')!r}.")
    return _design(template, files, facts, None)


def largest(design: Design) -> int | None:
    """Return which grouping the rows are sorted by: that with most coefficients, as engines eliminate it."""
    sizes = [g.Z.shape[1] * len(g.levels) for g in design.groupings]
    return int(np.argmax(sizes)) if sizes else None


# ---- the first pass ----------------------------------------------------------------------------


def _look(template: Design, blocks: Blocks, by: int | None) -> _Survey:
    levels = 1 if by is None else len(template.groupings[by].levels)
    widths = [template.X.shape[1], *(g.Z.shape[1] for g in template.groupings)]
    ends = 1 + np.cumsum(widths)  # the response stands first
    places = tuple(range(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True))
    survey = _Survey(
        counts=np.zeros(levels, dtype=np.int64),
        shared=[np.ones((width, widths[0]), dtype=bool) for width in widths[1:]],
        running=Running(int(ends[-1]), places),
    )
    identity = template.family.link.name == "identity"
    for block in blocks():
        if not block.n:
            continue
        _check(template, block)
        codes = np.zeros(block.n, dtype=np.int64) if by is None else block.codes[by]
        survey.counts += np.bincount(codes, minlength=levels)
        survey.sorted = survey.sorted and codes[0] >= survey.last and bool(np.all(codes[1:] >= codes[:-1]))
        survey.last = int(codes[-1])
        survey.rows += block.n
        survey.trials = survey.trials or not np.all(block.trials == 1.0)
        survey.weights = survey.weights or not np.all(block.weights == 1.0)
        survey.offset = survey.offset or bool(np.any(block.offset))
        survey.sigma = survey.sigma or bool(np.any(block.sigma_codes))
        for shared, Z in zip(survey.shared, block.Z, strict=True):
            for k, c in zip(*np.nonzero(shared), strict=True):
                shared[k, c] = np.array_equal(Z[:, k], block.X[:, c])
        assert block.y is not None
        y = block.y - block.offset if identity else block.y
        running = survey.running
        running.add(np.column_stack([y, block.X, *block.Z]), None, block.weights)
        running.offset += float(block.offset.sum() - block.n * running.offset) / running.count
    if not survey.rows:
        raise DataError("the data have 0 rows: look at the file, or at the filter that left none.")
    return survey


def _check(template: Design, block: NewRows) -> None:
    if block.y is None:
        raise DataError("a block of rows came without its response.")
    for grouping, codes in zip(template.groupings, block.codes, strict=True):
        if codes.min() < 0:
            where = int(np.flatnonzero(codes < 0)[0])
            raise DataError(
                f"row {block.index[where]} has a level of {grouping.name!r} that was not there when the levels were "
                "read: the data changed in between. Read them again."
            )


def _run(shared: npt.NDArray[np.bool_]) -> int | None:
    """Return the column of X at which a stretch of columns begins that equals all columns of Z, or None."""
    p, P = shared.shape
    for first in range(P - p + 1):
        if all(shared[k, first + k] for k in range(p)):
            return first
    return None


# ---- the second --------------------------------------------------------------------------------


def _places(template: Design, survey: _Survey, by: int | None, files: RowFiles) -> dict[str, npt.NDArray[Any]]:
    """Make the files, empty; what is the same in all rows gets none."""
    n, P = survey.rows, template.X.shape[1]
    asked: dict[str, tuple[tuple[int, ...], Any]] = {"y": ((n,), np.float64)}
    if P:
        asked["X"] = ((n, P), np.float64)
    for name, wanted in (("trials", survey.trials), ("weights", survey.weights), ("offset", survey.offset)):
        if wanted:
            asked[name] = ((n,), np.float64)
    if template.standard_errors is not None:
        asked["standard_errors"] = ((n,), np.float64)
    if survey.sigma:
        asked["sigma"] = ((n,), np.int64)
    for k, grouping in enumerate(template.groupings):
        narrow = n > passes.MOST and len(grouping.levels) < 2**31
        asked[f"codes_{k}"] = ((n,), np.int32 if narrow else np.int64)
        if _run(survey.shared[k]) is None:
            asked[f"Z_{k}"] = ((n, grouping.Z.shape[1]), np.float64)
    size = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in asked.values())
    files.require(size, f"{n:,} rows")
    return {name: files.create(name, shape, kind) for name, (shape, kind) in asked.items()}


def _of_block(block: NewRows, name: str) -> npt.NDArray[Any]:
    """Return what of a block goes into a file."""
    if name.startswith("codes_"):
        return block.codes[int(name[6:])]
    if name.startswith("Z_"):
        return block.Z[int(name[2:])]
    found: npt.NDArray[Any] = block.sigma_codes if name == "sigma" else getattr(block, name)
    return found


def _append(
    template: Design,
    blocks: Blocks,
    by: int | None,
    arrays: dict[str, npt.NDArray[Any]],
    starts: Integers,
    of_level: Integers | None,
) -> None:
    """Write every row at the end so far of its stretch."""
    at = starts[:-1].copy()
    for block in blocks():
        if not block.n:
            continue
        if of_level is None:
            order, cuts = None, [(0, 0, block.n)]
        else:
            assert by is not None
            stretch = of_level[block.codes[by]]
            order = np.argsort(stretch, kind="stable")
            ends = np.cumsum(np.bincount(stretch, minlength=len(at)))
            begins = np.concatenate([[0], ends[:-1]])
            cuts = [(int(k), int(begins[k]), int(ends[k])) for k in np.flatnonzero(ends > begins)]
        if any(at[k] + high - low > starts[k + 1] for k, low, high in cuts):
            raise DataError("the second pass over the data found more rows than the first. Read them again.")
        for name, array in arrays.items():
            values = _of_block(block, name)
            if order is not None:
                values = values[order]
            for k, low, high in cuts:
                array[at[k] : at[k] + high - low] = values[low:high]
        for k, low, high in cuts:
            at[k] += high - low
    if not np.array_equal(at, starts[1:]):
        raise DataError("the second pass over the data found fewer rows than the first. Read them again.")


def _stretches(offsets: Integers) -> Integers:
    """Return the levels at which stretches of about `STRETCH` rows begin, and the number of levels at the end."""
    bounds, levels = [0], len(offsets) - 1
    while bounds[-1] < levels:
        end = int(np.searchsorted(offsets, offsets[bounds[-1]] + STRETCH, side="right")) - 1
        bounds.append(max(end, bounds[-1] + 1))
    return np.array(bounds, dtype=np.int64)


def _sort(arrays: dict[str, npt.NDArray[Any]], by: int | None, starts: Integers) -> None:
    """Sort the rows of each stretch by their level, where they lie."""
    key = arrays[f"codes_{by}"]
    for low, high in zip(starts[:-1], starts[1:], strict=True):
        codes = key[low:high]
        if np.all(codes[1:] >= codes[:-1]):
            continue
        order = np.argsort(codes, kind="stable")
        for array in arrays.values():
            if array.ndim == 1:
                array[low:high] = array[low:high][order]
            else:
                for k in range(array.shape[1]):
                    array[low:high, k] = array[low:high, k][order]


# ---- the design --------------------------------------------------------------------------------


def _design(template: Design, files: RowFiles, facts: dict[str, Any], running: Running | None) -> Design:
    n = int(facts["rows"])
    there = set(files.names)

    def array(name: str, otherwise: float = 1.0) -> Array:
        return files.read(name) if name in there else np.broadcast_to(np.float64(otherwise), (n,))

    P = template.X.shape[1]
    X = files.read("X") if P else np.zeros((n, 0))
    groupings: list[Grouping] = []
    for k, (grouping, first) in enumerate(zip(template.groupings, facts["sharing"], strict=True)):
        Z = files.read(f"Z_{k}") if first is None else X[:, first : first + grouping.Z.shape[1]]
        groupings.append(replace(grouping, codes=files.read(f"codes_{k}"), Z=Z))
    sigma = files.read("sigma") if "sigma" in there else np.broadcast_to(np.int64(0), (n,))
    reduced = Reduced(
        how="blocks",
        given=n,
        frequency=np.broadcast_to(np.float64(1.0), (n,)),
        remainder=Remainder.nothing(len(template.sigma_levels)),
        running=running,
        files=files,
    )
    return replace(
        template,
        y=array("y"),
        trials=array("trials"),
        weights=array("weights"),
        offset=array("offset", 0.0),
        standard_errors=None if template.standard_errors is None else array("standard_errors"),
        X=X,
        groupings=tuple(groupings),
        sigma_codes=sigma,
        data={},
        index=np.empty(0, dtype=object),
        reduced=reduced,
    )

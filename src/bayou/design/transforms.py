"""Functions of a column that remember what they learnt from the first data.

Each takes the column, its settings and a state; it fills an empty state and obeys a full one, so that
new rows get the same centre, scale, polynomials and knots. poly and bs are formulaic's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from formulaic.transforms import basis_spline, poly

from bayou._types import Array
from bayou.design.frames import Frame
from bayou.design.levels import Levels, learn_levels
from bayou.errors import DataError, FormulaError
from bayou.formula.words import did_you_mean, plural

__all__ = ["OutsideKnots", "State", "center_by", "learnt_scale", "settings_of", "spline_ends", "transform"]

State = dict[str, Any]

_signatures: dict[str, dict[str, Any]] = {
    "center": {},
    "scale": {"center": True, "scale": True, "ddof": 1},
    "standardize": {"center": True, "scale": True, "ddof": 1},
    "poly": {"degree": 1, "raw": False},
    "bs": {
        "df": None,
        "knots": None,
        "degree": 3,
        "include_intercept": False,
        "lower_bound": None,
        "upper_bound": None,
    },
}


class OutsideKnots(DataError):
    """Values outside the knots of a spline; `rows` tells which, so that the caller can number them."""

    def __init__(self, message: str, rows: np.ndarray[Any, Any]) -> None:
        super().__init__(message)
        self.rows = rows


def settings_of(function: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Match positional and named settings to those of a function.

    Raises
    ------
    FormulaError
        For an unknown, doubled or superfluous setting.
    """
    settings = dict(_signatures[function])
    names = list(settings)
    if len(arguments) > len(names):
        raise FormulaError(f"{function}() takes one column and at most {plural(len(names), 'setting')}.")
    given = dict(zip(names, arguments, strict=False))
    for name, value in options.items():
        if name not in settings:
            raise FormulaError(f"{function}() has no setting `{name}`.{did_you_mean(name, names)}")
        if name in given:
            raise FormulaError(f"{function}() is given `{name}` twice.")
        given[name] = value
    return settings | given


def transform(function: str, x: Array, settings: Mapping[str, Any], state: State, text: str) -> Array:
    """Apply a function of one column, (n,) to (n,) or (n, k).

    Raises
    ------
    DataError
        When the values of `x` do not allow it.
    """
    return _functions[function](x, settings, state, text)


def center_by(x: Array, by: tuple[str, ...], frame: Frame, at: Array | float | None, state: State) -> Array:
    """Subtract each group's mean; a group not seen before gets `at`, or its own rows' mean."""
    if not state:
        levels, codes = learn_levels(by, frame)
        counts = np.bincount(codes, minlength=len(levels.labels))
        state.update(levels=levels, means=np.bincount(codes, x, len(levels.labels)) / counts)
        return np.asarray(x - state["means"][codes])
    known: Levels = state["levels"]
    codes, labels = known.look_up(frame)
    fresh = codes < 0
    means = state["means"][codes]
    if at is not None:
        means = np.where(fresh, at, means)
    elif fresh.any():
        rows: dict[Any, list[int]] = {}
        for row in np.flatnonzero(fresh):
            rows.setdefault(labels[row], []).append(int(row))
        for own in rows.values():
            means[own] = np.mean(x[own])
    return np.asarray(x - means)


def _center(x: Array, settings: Mapping[str, Any], state: State, text: str) -> Array:
    state.setdefault("mean", float(np.mean(x)))
    return np.asarray(x - state["mean"])


def _scale(x: Array, settings: Mapping[str, Any], state: State, text: str) -> Array:
    if not state:
        most = float(np.max(np.abs(x), initial=0.0))

        def squares(about: float) -> float:
            return float(np.sum((x - about) ** 2))

        state.update(learnt_scale(settings, text, len(x), float(np.mean(x)), squares, most))
    return np.asarray((x - state["mean"]) / state["sd"])


def learnt_scale(
    settings: Mapping[str, Any], text: str, n: int, mean: float, squares: Callable[[float], float], most: float
) -> State:
    """Return what scale() remembers of n values.

    Parameters
    ----------
    settings, text
        Of the call.
    n, mean, most
        Number, mean and largest size of the values.
    squares : callable
        The sum of squares about a number.

    Raises
    ------
    DataError
        For too few values, and for values that are all the same.
    """
    ddof = _whole(settings["ddof"], "ddof", text, least=0)
    if n <= ddof:
        raise DataError(f"`{text}` needs more than {plural(ddof, 'row')}.")
    middle = mean if _truth(settings["center"], "center", text) else 0.0
    sd = 1.0
    if _truth(settings["scale"], "scale", text):
        sd = float(np.sqrt(squares(middle) / (n - ddof)))
    # A column without spread has a sd of rounding errors, seldom exactly zero.
    if not sd > 1e-14 * most:
        raise DataError(f"`{text}`: the column has the same value in every row, so its sd is zero.")
    return {"mean": middle, "sd": sd}


def _poly(x: Array, settings: Mapping[str, Any], state: State, text: str) -> Array:
    degree = _whole(settings["degree"], "degree", text, least=1)
    if _truth(settings["raw"], "raw", text):
        return np.asarray(np.stack([x**k for k in range(1, degree + 1)], axis=1))
    if not state:
        distinct = len(np.unique(x))
        if distinct <= degree:
            raise DataError(f"`{text}` needs more than {plural(degree, 'distinct value')}; the column has {distinct}.")
        # Powers of a far-off or wide column would overflow or cancel: the basis is the same after shift
        # and scale, up to the sign, so the recurrence runs on [-1, 1].
        low, high = float(np.min(x)), float(np.max(x))
        state.update(middle=low / 2.0 + high / 2.0, half=high / 2.0 - low / 2.0, inner={})
    inside = (x - state["middle"]) / state["half"]
    return np.asarray(poly(inside, degree=degree, _state=state["inner"]))


def _bs(x: Array, settings: Mapping[str, Any], state: State, text: str) -> Array:
    if not state:
        state.update(spline_ends(settings, text, float(np.min(x)), float(np.max(x))))
    outside = (x < state["low"]) | (x > state["high"])
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise OutsideKnots(
            f"`{text}`: {plural(int(outside.sum()), 'value')} outside its knots, which span "
            f"{state['low']:g} to {state['high']:g}; the first is {x[row]:g}",
            outside,
        )
    try:
        columns = basis_spline(x, **settings, _state=state["inner"])
    except (ValueError, TypeError, IndexError) as error:
        raise FormulaError(f"`{text}`: {error}.") from error
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)


def spline_ends(settings: Mapping[str, Any], text: str, least: float, most: float) -> State:
    """Return what bs() remembers of a column between two values: its ends, with the rest to be filled in.

    Raises
    ------
    FormulaError
        For settings that cannot be, and knots beyond the ends.
    """
    _check_bs(settings, text)
    low, high = settings["lower_bound"], settings["upper_bound"]
    low, high = least if low is None else float(low), most if high is None else float(high)
    strangers = [k for k in settings["knots"] or () if not low < k < high]
    if strangers:
        raise FormulaError(f"`{text}`: the knot {strangers[0]:g} does not lie between {low:g} and {high:g}.")
    return {"low": low, "high": high, "inner": {"lower_bound": low, "upper_bound": high}}


def _check_bs(settings: Mapping[str, Any], text: str) -> None:
    _whole(settings["degree"], "degree", text, least=0)
    _truth(settings["include_intercept"], "include_intercept", text)
    if settings["df"] is not None:
        _whole(settings["df"], "df", text, least=1)
    knots = settings["knots"] if isinstance(settings["knots"], list) else []
    if settings["knots"] is not None and not knots:
        raise FormulaError(f"`{text}`: knots must be a list of numbers, c(1, 2).")
    for name, value in [("knots", knot) for knot in knots] + [
        (name, settings[name]) for name in ("lower_bound", "upper_bound") if settings[name] is not None
    ]:
        if isinstance(value, bool | str | list):
            raise FormulaError(f"`{text}`: {name} must hold numbers, not {value!r}.")


_functions: dict[str, Callable[[Array, Mapping[str, Any], State, str], Array]] = {
    "center": _center,
    "scale": _scale,
    "standardize": _scale,
    "poly": _poly,
    "bs": _bs,
}


def _whole(value: Any, name: str, text: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 100:
        raise FormulaError(f"`{text}`: {name} must be a whole number from {least} to 100, not {value!r}.")
    return value


def _truth(value: Any, name: str, text: str) -> bool:
    if not isinstance(value, bool):
        raise FormulaError(f"`{text}`: {name} must be True or False, not {value!r}.")
    return value

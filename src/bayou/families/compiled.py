"""A user's log density in machine code: over arrays for Python, and as a pointer that the joint density calls.

The kernels of the joint density are compiled once per machine and know nothing of users' functions; they call them
through an address, as C code would. What is compiled anew in every session is only what stands in this file's closures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import NumbaError

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.jit import array_at, callback, foreign

__all__ = ["Compiled", "compiled"]

STEP = 1e-20  # so small that its square is nothing beside one

_types: Any = types
_NUMBERS = _types.CPointer(_types.float64)
_SIGNATURE = _types.float64(
    _types.int64, _NUMBERS, _NUMBERS, _NUMBERS, _types.float64, _NUMBERS, _NUMBERS, _NUMBERS
)  # rows, y, weights, eta, dispersion; fills values, gradients, slopes; returns the sum of the values


@dataclass(frozen=True)
class Compiled:
    """What Python and kernels call.

    Attributes
    ----------
    pointer
        The object whose ``address`` kernels get.
    """

    pointer: Any
    fill: Callable[..., None]

    def values(self, y: Array, eta: Array, dispersion: Array) -> Array:
        """Return the log density; arrays broadcast."""
        return self._filled(y, eta, dispersion)[0]

    def derivatives(self, y: Array, eta: Array, dispersion: Array) -> tuple[Array, Array]:
        """Return the derivatives by eta and by the dispersion (zeros where there is none)."""
        return self._filled(y, eta, dispersion)[1:]

    def _filled(self, y: Array, eta: Array, dispersion: Array) -> tuple[Array, Array, Array]:
        given = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (y, eta, dispersion)))
        out = np.empty((3, given[0].size))
        self.fill(*(np.array(a).ravel() for a in given), out)
        one, two, three = out.reshape(3, *given[0].shape)
        return one, two, three


@cache
def compiled(function: Callable[..., Any], slopes: Callable[..., Any] | None, dispersed: bool) -> Compiled:
    """Compile a log density, its gradient given or by complex step.

    Raises
    ------
    Unsupported
        With the first line of what the compiler said.
    """
    log_density = foreign(function)
    try:
        row = _dispersed_row(log_density, slopes) if dispersed else _plain_row(log_density, slopes)
        return _over_rows(foreign(row))
    except NumbaError as error:
        remedy = (
            "Use numbers, np.exp, np.log, bayou.families.log_gamma and the like"
            if slopes is not None
            else "Use functions that take complex numbers (np.exp, np.log, bayou.families.log_gamma), no abs and no "
            "comparison of eta, or give its derivatives as gradient="
        )
        said = _reason(str(error))
        raise Unsupported(
            f"The log density {getattr(function, '__name__', 'given')!r} could not be compiled: {said} {remedy}."
        ) from error


def _reason(said: str) -> str:
    """Return the line of a compiler's message that says what is wrong, without its colours."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in said.splitlines()]
    telling = [line for line in lines if re.match(r"(>>>|No |Untyped|Unknown|NameError|Cannot|Invalid)", line)]
    return f"{' '.join(telling[:2]) or lines[0]}.".replace("..", ".")


def _plain_row(log_density: Any, slopes: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a function of (y, eta, _): value, derivative by eta, zero."""
    if slopes is None:

        def stepped(y: float, eta: float, _: float) -> tuple[float, float, float]:
            return log_density(y, eta), log_density(y, complex(eta, STEP)).imag / STEP, 0.0

        return stepped
    given = foreign(slopes)

    def by_hand(y: float, eta: float, _: float) -> tuple[float, float, float]:
        return log_density(y, eta), given(y, eta), 0.0

    return by_hand


def _dispersed_row(log_density: Any, slopes: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a function of (y, eta, dispersion): value, derivatives by eta and by the dispersion."""
    if slopes is None:

        def stepped(y: float, eta: float, dispersion: float) -> tuple[float, float, float]:
            value = log_density(y, eta, dispersion)
            by_eta = log_density(y, complex(eta, STEP), dispersion).imag / STEP
            return value, by_eta, log_density(y, eta, complex(dispersion, STEP)).imag / STEP

        return stepped
    given = foreign(slopes)

    def by_hand(y: float, eta: float, dispersion: float) -> tuple[float, float, float]:
        by_eta, by_dispersion = given(y, eta, dispersion)
        return log_density(y, eta, dispersion), by_eta, by_dispersion

    return by_hand


def _over_rows(row: Any) -> Compiled:
    """Return loops over rows around a compiled function of one row."""

    def fill(y: Array, eta: Array, dispersion: Array, out: Array) -> None:
        for i in range(len(y)):
            out[0, i], out[1, i], out[2, i] = row(y[i], eta[i], dispersion[i])

    def rows(
        n: int, y_: Any, weights_: Any, eta_: Any, dispersion: float, value_: Any, gradient_: Any, slope_: Any
    ) -> float:
        y, weights, eta = array_at(y_, n), array_at(weights_, n), array_at(eta_, n)
        value, gradient, slope = array_at(value_, n), array_at(gradient_, n), array_at(slope_, n)
        total = 0.0
        for i in range(n):
            v, g, s = row(y[i], eta[i], dispersion)
            value[i], gradient[i], slope[i] = weights[i] * v, weights[i] * g, weights[i] * dispersion * s
            total += value[i]
        return total

    return Compiled(callback(rows, _SIGNATURE, session=True), foreign(fill))

"""The joint log density as a pointer that code outside Python calls: no lookup, no lock of Python's.

Python goes the same way, so that there is one thing to compile.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Any

from numba import types

from bayou._types import Array
from bayou.jit import array_at, callback
from bayou.joint.evaluate import evaluate
from bayou.joint.tables import Job

__all__ = ["FAILED", "call", "log_density"]

_types: Any = types
_NUMBERS = _types.CPointer(_types.float64)
FAILED = 1  # a code that samplers take for a divergence
_prototype = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


def _log_density(size: int, position: Any, gradient: Any, value: Any, job: Job) -> int:
    """Evaluate the joint density of one chain, its gradient with it."""
    slope = array_at(gradient, size)
    found = evaluate(job, array_at(position, size), slope)
    total = found
    for i in range(size):
        total += slope[i]
    array_at(value, 1)[0] = found
    return 0 if math.isfinite(total) else FAILED


@cache
def log_density(kind: Any) -> Any:
    """Return the pointer for the type of a packed job, the same for every model.

    It is a C function (size, position, gradient, value, job) -> 0, or `FAILED` where density or gradient are not
    finite; its last argument is the job's ``address``.
    """
    return callback(_log_density, _types.int64(_types.uint64, _NUMBERS, _NUMBERS, _NUMBERS, kind))


@cache
def _function(kind: Any) -> Any:
    return _prototype(log_density(kind).address)


def call(job: Any, q: Array, gradient: Array) -> float:
    """Return the log density at a contiguous position (size,) and fill in its gradient (size,); job is packed."""
    value = ctypes.c_double()
    at, slope = q.__array_interface__["data"][0], gradient.__array_interface__["data"][0]
    _function(job.kind)(len(q), at, slope, ctypes.addressof(value), job.address)
    return value.value

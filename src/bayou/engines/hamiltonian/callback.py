"""The function that the sampler calls for every draw, as a pointer; that for every gradient is the density's own.

Its last argument is the address of a packed tuple: no lookup, no lock of Python's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import extending, types

from bayou.engines.hamiltonian.tape import Ring
from bayou.jit import array_at, callback

_types: Any = types
_intrinsic: Any = extending.intrinsic
_NUMBERS = _types.CPointer(_types.float64)


def _ordered(typing_context: Any, array: Any, place: Any) -> Any:
    """Read an element of an int64 array that another thread writes, in order with what it wrote before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        return builder.load_atomic(builder.gep(view.data, [arguments[1]]), "acquire", 8)

    return _types.int64(array, _types.intp), generate


def _announced(typing_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Write an element of an int64 array for another thread, after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        builder.store_atomic(arguments[2], builder.gep(view.data, [arguments[1]]), "release", 8)
        return ir.Constant(ir.IntType(64), 0)

    return _types.int64(array, _types.intp, _types.int64), generate


read_ordered: Any = _intrinsic(_ordered)
write_ordered: Any = _intrinsic(_announced)


def _put_down(size: int, expanded: int, position: Any, out: Any, ring: Ring) -> int:
    """Put a draw into the ring; wait while it is full and somebody takes from it."""
    x = array_at(position, size)
    counts = ring.counts
    written = read_ordered(counts, 0)
    number = written - ring.warmup + 1
    capacity = ring.positions.shape[0]
    if number > 0 and number % ring.thin == 0:
        kept = number // ring.thin - 1
        while kept - read_ordered(counts, 1) >= capacity and read_ordered(counts, 2) == 1:
            pass
        if read_ordered(counts, 2) == 1:
            place = kept % capacity
            for i in range(size):
                ring.positions[place, i] = x[i]
    array_at(out, expanded)[0] = 0.0  # nutpie's own record is of one number a draw
    write_ordered(counts, 0, written + 1)
    return 0


@cache
def put_down(ring: Any) -> Any:
    """Return the pointer to `_put_down` for the type of the packed ring."""
    signature = _types.int64(_types.uint64, _types.uint64, _NUMBERS, _NUMBERS, ring)
    return callback(_put_down, signature)

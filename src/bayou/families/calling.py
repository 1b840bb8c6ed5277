"""How a kernel calls the rows of a user's own family, which it knows by an address alone."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types

__all__ = ["outside_rows"]

_types: Any = types


def _outside_rows(
    typing_context: Any, address: Any, y: Any, weights: Any, eta: Any, dispersion: Any, value: Any, gradient: Any,
    slope: Any,
) -> Any:  # fmt: skip
    """Call the rows at an address: ``outside_rows(address, y, weights, eta, dispersion, value, gradient, slope)``.

    Fills the log density of each row, its derivative by eta and by the logarithm of the dispersion, weights in, and
    returns the sum of the values; all arrays (n,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(k: int) -> Any:
            view = context.make_array(signature.args[k])(context, builder, value=arguments[k])
            return view.data

        number, word = ir.DoubleType(), ir.IntType(64)
        pointer = number.as_pointer()
        kind = ir.FunctionType(number, [word, pointer, pointer, pointer, number, pointer, pointer, pointer])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        rows = context.make_array(signature.args[1])(context, builder, value=arguments[1])
        (count,) = rows.shape if isinstance(rows.shape, tuple) else (builder.extract_value(rows.shape, 0),)
        given = [count, data(1), data(2), data(3), arguments[4], data(5), data(6), data(7)]
        return builder.call(function, given)

    return _types.float64(address, y, weights, eta, dispersion, value, gradient, slope), generate


_intrinsic: Any = extending.intrinsic
outside_rows: Any = _intrinsic(_outside_rows)

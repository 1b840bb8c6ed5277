"""Named tuples of arrays handed to kernels as one pointer.

Numba passes a tuple of arrays as seven numbers for each, through every call: for the hundred arrays of a model
and a chain that is most of what there is to compile, and microseconds at each call from Python. A `Packed` tuple is
a table of addresses and shapes instead; a kernel reads its fields by the same names, and no kernel can tell.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.typing import templates
from numba.np import arrayobj

# without annotations of their own
_numba: Any = types
_arrayobj: Any = arrayobj
_extending: Any = extending
_templates: Any = templates
_cgutils: Any = cgutils
WORD = ir.IntType(64)


class PackedType(types.Type):
    """What Numba knows of a packed tuple: the name, type and place of each field."""

    def __init__(self, name: str, fields: tuple[tuple[str, Any, int], ...]) -> None:
        self.fields = fields
        self.layout = {field: (kind, at) for field, kind, at in fields}
        digest = hashlib.sha256(repr(fields).encode()).hexdigest()[:12]
        super().__init__(name=f"{name}{digest}")


@cache
def _array_kind(real: bool, dimensions: int) -> Any:
    """Return Numba's type of a contiguous array: to make one takes longer than many a kernel."""
    return _numba.Array(_numba.float64 if real else _numba.int64, dimensions, "C")


@cache
def _packed_kind(name: str, fields: tuple[tuple[str, Any, int], ...]) -> PackedType:
    return PackedType(name, fields)


class Packed:
    """A named tuple of contiguous arrays, numbers and further such tuples, as kernels take it.

    The arrays are those of the tuple, not copies: what a kernel writes is seen there. It keeps them alive.

    Parameters
    ----------
    parts
        The named tuple.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> import numpy as np
    >>> from bayou.packed import Packed
    >>> Point = NamedTuple("Point", [("x", np.ndarray), ("weight", float)])
    >>> Packed(Point(np.ones(3), 2.0)).kind.layout["weight"]
    (float64, 2)
    """

    __slots__ = ("address", "kind", "parts", "table", "within")

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.within: list[Packed] = []
        fields: list[tuple[str, Any, int]] = []
        words: list[int] = []
        for name, value in zip(parts._fields, parts, strict=True):
            kind, content = self._field(name, value)
            fields.append((name, kind, len(words)))
            words += content
        self.table = np.array(words, dtype=np.int64)
        self.address: int = self.table.ctypes.data
        self.kind = _packed_kind(type(parts).__name__, tuple(fields))

    def _field(self, name: str, value: Any) -> tuple[Any, list[int]]:
        if isinstance(value, np.ndarray):
            if not value.flags.c_contiguous or value.dtype not in (np.float64, np.int64):
                raise TypeError(f"field {name}: a kernel takes contiguous arrays of float64 or int64")
            return _array_kind(value.dtype == np.float64, value.ndim), [value.ctypes.data, *value.shape]
        if isinstance(value, (bool, np.bool_)):
            return _numba.boolean, [int(value)]
        if isinstance(value, (int, np.integer)):
            return _numba.int64, [int(value)]
        if isinstance(value, (float, np.floating)):
            return _numba.float64, [int(np.float64(value).view(np.int64))]
        inner = Packed(value)
        self.within.append(inner)
        return inner.kind, [inner.address]


def packed(parts: NamedTuple) -> Any:
    """Return the tuple as kernels take it; where none is compiled, tests put the tuple itself in its place."""
    return Packed(parts)


@_extending.typeof_impl.register(Packed)  # type: ignore[untyped-decorator]
def _typeof(value: Packed, context: Any) -> PackedType:
    return value.kind


@_extending.register_model(PackedType)
class _Model(_extending.models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: PackedType) -> None:
        super().__init__(manager, kind, WORD.as_pointer())


@_extending.unbox(PackedType)  # type: ignore[untyped-decorator]
def _unbox(kind: PackedType, value: Any, context: Any) -> Any:
    address = context.pyapi.object_getattr_string(value, "address")
    number = context.pyapi.long_as_longlong(address)
    context.pyapi.decref(address)
    return _extending.NativeValue(context.builder.inttoptr(number, WORD.as_pointer()))


@_templates.infer_getattr
class _Attributes(_templates.AttributeTemplate):  # type: ignore[misc]
    key = PackedType

    def generic_resolve(self, kind: PackedType, name: str) -> Any:
        return kind.layout[name][0] if name in kind.layout else None


@_extending.lower_getattr_generic(PackedType)  # type: ignore[untyped-decorator]
def _read(context: Any, builder: Any, kind: PackedType, table: Any, name: str) -> Any:
    field, at = kind.layout[name]

    def word(k: int) -> Any:
        value = builder.load(_cgutils.gep_inbounds(builder, table, at + k))
        # the table never changes: a loop need not read it again after each number that it writes
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    if isinstance(field, PackedType):
        return builder.inttoptr(word(0), WORD.as_pointer())
    if isinstance(field, _numba.Array):
        view = context.make_array(field)(context, builder)
        shape = [word(1 + d) for d in range(field.ndim)]
        size = context.get_constant(_numba.intp, 8)
        strides = [size]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        data = builder.inttoptr(word(0), context.get_data_type(field.dtype).as_pointer())
        _arrayobj.populate_array(view, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return view._getvalue()
    if field == _numba.float64:
        return builder.bitcast(word(0), ir.DoubleType())
    if field == _numba.boolean:
        return builder.trunc(word(0), ir.IntType(1))
    return word(0)

"""Named tuples of arrays handed to kernels as one pointer.

Numba passes a tuple of arrays as seven numbers for each, through every call: for the hundred arrays of a model
and a chain that is most of what there is to compile, and microseconds at each call from Python. A `Packed` tuple is
a table of addresses and shapes instead; a kernel reads its fields by the same names, and no kernel can tell.
"""

from __future__ import annotations

import hashlib
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

    __slots__ = ("address", "key", "kind", "parts", "table", "within")

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.within: dict[str, Packed] = {}
        words: list[int] = []
        keys: list[Any] = []
        for name, value in zip(parts._fields, parts, strict=True):
            keys.append(self._field(name, value, words))
        self.table = np.array(words, dtype=np.int64)
        self.address: int = self.table.ctypes.data
        # the type is found again by what it is made of: to make one, or to hash it, takes longer than many a kernel
        self.key = (type(parts).__name__, parts._fields, *keys)
        kind = _KINDS.get(self.key)
        self.kind: PackedType = _new_kind(self) if kind is None else kind

    def _field(self, name: str, value: Any, words: list[int]) -> Any:
        """Add the words of one field, and return what its type goes by."""
        if isinstance(value, np.ndarray):
            if not value.flags.c_contiguous or value.dtype not in (np.float64, np.int64):
                raise TypeError(f"field {name}: a kernel takes contiguous arrays of float64 or int64")
            words.append(value.__array_interface__["data"][0])
            words.extend(value.shape)
            return value.dtype.kind, value.ndim
        if isinstance(value, (bool, np.bool_)):
            words.append(int(value))
            return "bool"
        if isinstance(value, (int, np.integer)):
            words.append(int(value))
            return "int"
        if isinstance(value, (float, np.floating)):
            words.append(int(np.float64(value).view(np.int64)))
            return "float"
        inner = Packed(value)
        self.within[name] = inner
        words.append(inner.address)
        return inner.key


_KINDS: dict[Any, PackedType] = {}
_SCALARS = {"bool": _numba.boolean, "int": _numba.int64, "float": _numba.float64}


def _new_kind(of: Packed) -> PackedType:
    """Make the type of a packed tuple, and keep it."""
    fields: list[tuple[str, Any, int]] = []
    at = 0
    for name, key in zip(of.parts._fields, of.key[2:], strict=True):
        if name in of.within:
            fields.append((name, of.within[name].kind, at))
        elif isinstance(key, tuple):
            element = _numba.float64 if key[0] == "f" else _numba.int64
            fields.append((name, _numba.Array(element, key[1], "C"), at))
            at += key[1]
        else:
            fields.append((name, _SCALARS[key], at))
        at += 1
    kind = PackedType(of.key[0], tuple(fields))
    _KINDS[of.key] = kind
    return kind


def packed(parts: NamedTuple) -> Any:
    """Return the tuple as kernels take it; where none is compiled, tests put the tuple itself in its place."""
    return Packed(parts)


def part(whole: Any, name: str) -> Any:
    """Return a named tuple within a packed one, packed as it is there."""
    return whole.within[name] if isinstance(whole, Packed) else getattr(whole, name)


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

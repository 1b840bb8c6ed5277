"""BLAS and LAPACK inside kernels, as SciPy has them, without the GIL and without ``np.linalg``.

The routines are registered with LLVM under names of our own when this module is loaded: compiled code kept on
the disk holds the name, not an address, and each process finds its own. Fortran takes everything by
reference: the numbers that a kernel passes are put on its stack. Matrices are column-major, given as the
array that holds them and the place of their first element.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.np import linalg as numba_linalg

# without annotations of their own
_numba: Any = types
_extending: Any = extending
_cgutils: Any = cgutils
_linalg: Any = numba_linalg
_linalg.ensure_blas()  # raises if its integers are not as wide as Numba was built for
_INTEGER = ir.IntType(_linalg.F_INT_nbtype.bitwidth)


def _routine(module: str, name: str, letters: str, returns: bool = False) -> Callable[..., Any]:
    """Make a Fortran routine callable by kernels.

    ``letters`` has one for each argument: c a character (as a number), i an integer, d a double, a an array
    followed by the place of its first element. With ``returns``, LAPACK's info, its last argument, is returned.
    """
    symbol = f"bayou_{name}"
    llvmlite.binding.add_symbol(symbol, _extending.get_cython_function_address(f"scipy.linalg.{module}", name))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointers = []
        given = iter(zip(signature.args, values, strict=True))
        for letter in letters:
            kind, value = next(given)
            if letter == "a":
                view = context.make_array(kind)(context, builder, value=value)
                pointers.append(builder.gep(view.data, [next(given)[1]]))
                continue
            if letter == "c":
                value = builder.trunc(value, ir.IntType(8))
            elif letter == "i" and _INTEGER.width < 64:
                value = builder.trunc(value, _INTEGER)
            pointers.append(_cgutils.alloca_once_value(builder, value))
        if returns:
            pointers.append(_cgutils.alloca_once_value(builder, ir.Constant(_INTEGER, 0)))
        kind = ir.FunctionType(ir.VoidType(), [pointer.type for pointer in pointers])
        builder.call(_cgutils.get_or_insert_function(builder.module, kind, symbol), pointers)
        if not returns:
            return context.get_dummy_value()
        info = builder.load(pointers[-1])
        return info if _INTEGER.width == 64 else builder.sext(info, ir.IntType(64))

    def typed(context: Any, *given: Any) -> Any:
        kinds: list[Any] = []
        for letter in letters:
            if letter == "a":
                kinds.append(given[len(kinds)])
            kinds.append(_numba.float64 if letter == "d" else _numba.intp)
        return (_numba.intp if returns else _numba.none)(*kinds), generate

    # Numba wants to see each argument
    count = len(letters) + letters.count("a")
    names = ["context", *(f"argument_{k}" for k in range(count))]
    typed.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names])  # type: ignore[attr-defined]
    typed.__name__ = name
    return _extending.intrinsic(typed)


LEFT, RIGHT, LOWER, PLAIN, TRANSPOSED, NOT_UNIT = (ord(letter) for letter in "LRLNTN")

symmetric_update = _routine("cython_blas", "dsyrk", "cciidaidai")
"""``(uplo, trans, n, k, alpha, A, at, lda, beta, C, at, ldc)``: C <- alpha A A' + beta C, one triangle."""
triangular_solve = _routine("cython_blas", "dtrsm", "cccciidaiai")
"""``(side, uplo, trans, diag, m, n, alpha, A, at, lda, B, at, ldb)``: B <- alpha A⁻¹ B or alpha B A⁻¹."""
symmetric_product = _routine("cython_blas", "dsymm", "cciidaiaidai")
"""``(side, uplo, m, n, alpha, A, at, lda, B, at, ldb, beta, C, at, ldc)``: C <- alpha A B + beta C, A = A'."""
product = _routine("cython_blas", "dgemm", "cciiidaiaidai")
"""``(transa, transb, m, n, k, alpha, A, at, lda, B, at, ldb, beta, C, at, ldc)``: C <- alpha A B + beta C."""
factor = _routine("cython_lapack", "dpotrf", "ciai", returns=True)
"""``(uplo, n, A, at, lda)``: Cholesky factor in place; 0 if it worked (nan passes)."""
inverse_of_factored = _routine("cython_lapack", "dpotri", "ciai", returns=True)
"""``(uplo, n, A, at, lda)``: (L L')⁻¹ in place of L, one triangle."""

"""The one decorator of kernels, and where their compiled code is kept.

Numba's own disk cache looks at the file of a function only, so that an edit in a callee of another
file leaves a stale answer behind. The cache folder here carries a hash of every file that defines a
kernel or is imported by one, and of the versions that matter: an edit opens a new folder, and nothing
stale can be read.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, overload

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils, compiler, compiler_machinery, config, event, typed_passes
from numba.core.registry import CPUDispatcher
from numba.np import arrayobj

make_function: Any = import_module("numba._dynfunc").make_function
F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = Path(__file__).parent


def _texts() -> dict[Path, bytes]:
    """Return the package's sources; folders of byte code and of kernels are not searched."""
    found: dict[Path, bytes] = {}
    for folder, folders, files in os.walk(PACKAGE):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {path: path.read_bytes() for name in files if (path := Path(folder, name)).suffix == ".py"}
    return found


def kernel_sources() -> dict[Path, bytes]:
    """Return the files that define kernels, and those that they import, with their texts: what kernels depend on."""
    texts = _texts()
    decorates = re.compile(rb"^from bayou\.jit import .*kernel", re.M)
    waiting = [path for path, text in texts.items() if b"from bayou.jit import" in text and decorates.search(text)]
    found: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in found or source not in texts:
            continue
        found.add(source)
        for module in re.findall(rb"^from bayou\.([\w.]+) import", texts[source], re.M):
            path = PACKAGE.joinpath(*module.decode().split("."))
            waiting += [path.with_suffix(".py"), path / "__init__.py"]
    return {path: texts[path] for path in sorted(found)}


def _forget_old(parent: Path, folder: Path) -> None:
    """Delete the compiled code of older sources, all but the four newest folders."""
    others = sorted((p for p in parent.glob("kernels-*") if p != folder), key=lambda p: p.stat().st_mtime)
    for old in others[:-4]:
        shutil.rmtree(old, ignore_errors=True)


def kernels_digest() -> str:
    """Return a hash of all that compiled code depends on: sources and versions."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {numba.__version__} {np.__version__}".encode())
    for source, text in kernel_sources().items():
        digest.update(f"{source.relative_to(PACKAGE)} {len(text)} ".encode())
        digest.update(text)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return the folder of compiled kernels, or None when no folder can be written."""
    name = f"kernels-{kernels_digest()}"
    user = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bayou"
    own = Path(tempfile.gettempdir()) / f"bayou-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    for parent in (PACKAGE / "__pycache__", user, own):
        try:
            folder = parent / name
            fresh = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                pass
            if fresh:
                _forget_old(parent, folder)
            return folder
        except OSError:
            continue
    warnings.warn(
        "bayou found no folder to keep its compiled kernels in; it compiles anew in every process. "
        "Set XDG_CACHE_HOME to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


@overload
def kernel(function: F) -> F: ...


@overload
def kernel(
    *, inline: bool = False, contract: bool = False, inner: bool = False, entry: bool = False
) -> Callable[[F], F]: ...


def kernel(
    function: F | None = None,
    *,
    inline: bool = False,
    contract: bool = False,
    inner: bool = False,
    entry: bool = False,
) -> Any:
    """Compile a module-level function of arrays and scalars; it runs without the GIL.

    Parameters
    ----------
    inline
        Paste the body into its callers, so that loops over it vectorise. LLVM does the pasting, whatever
        the size of the body; Numba's own `inline="always"` makes slower code and takes longer.
    contract
        Allow fused multiply-add (never reassociation: compensated sums stay as written).
    inner
        Called by other kernels only: Python gets no entry, which for a kernel that takes dozens of arrays
        is most of what there is to compile.
    entry
        Called by Python with a random generator, or makes arrays. All other kernels count no references to
        their arrays: their caller holds them until they return. Counting, for tuples of dozens of arrays,
        takes more time than the arithmetic of a small model, and half of the compilation.
    """
    if function is None:
        return lambda f: _compile(f, inline, contract, inner, entry)
    return _compile(function, inline, contract, inner, entry)


_setting = threading.RLock()


@contextmanager
def _kept_in(folder: Path | None) -> Iterator[None]:
    """Have Numba keep what is decorated meanwhile in a folder: its setting belongs to the process, not to a thread."""
    settings: Any = config
    with _setting:
        before = settings.CACHE_DIR
        if folder is not None:
            settings.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            settings.CACHE_DIR = before


def _compile(function: Callable[..., Any], inline: bool, contract: bool, inner: bool, entry: bool) -> Any:
    folder = cache_folder()

    def made(within: bool) -> Any:
        njit: Any = numba.njit  # its stubs do not know all options
        return njit(
            function,
            cache=folder is not None and not within,
            nogil=True,
            error_model="numpy",
            fastmath={"contract"} if contract else False,
            forceinline=inline,
            no_cpython_wrapper=within,
            no_cfunc_wrapper=True,
            _nrt=entry,
            pipeline_class=_InnerCompiler if within else compiler.Compiler,
        )

    with _kept_in(folder):
        if entry:
            return made(within=False)
        kernel = made(within=True)
        if not inner:
            kernel.__class__ = _Callable
            kernel.from_python = made(within=False)
        return kernel


def callback(function: Callable[..., Any], signature: Any, *, session: bool = False) -> Any:
    """Compile a function to a pointer that code outside Python can call; kernels that it calls come along.

    Parameters
    ----------
    function
        At module level, of numbers, pointers and packed tuples.
    signature
        What Numba calls its types; the pointer to a packed tuple is the tuple's own type.
    session
        Made while the program runs, as a user's function is: it is compiled anew in every process.

    Returns
    -------
    numba.core.ccallback.CFunc
        Its ``address`` is the pointer; whoever uses that must hold the object. It takes no lock of Python's.
    """
    folder = None if session else cache_folder()
    with _kept_in(folder):
        cfunc: Any = numba.cfunc
        return cfunc(signature, cache=folder is not None, error_model="numpy", _nrt=False)(function)


def foreign(function: Callable[..., Any]) -> Any:
    """Return a user's function compiled for this session, to be called by kernels; it is never kept on the disk."""
    if isinstance(function, CPUDispatcher):
        return function
    njit: Any = numba.njit
    return njit(error_model="numpy")(function)


class _Callable(CPUDispatcher):
    """A kernel that kernels take in as an inner one, and that has code of its own for Python once it is called."""

    from_python: Any

    def __call__(self, *arguments: Any) -> Any:
        return self.from_python(*arguments)


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class _InnerLowering(typed_passes.NativeLowering):
    """Lower an inner kernel and stop there: no optimisation, no machine code.

    Left to itself Numba optimises a kernel together with all that it calls and makes machine code of it, then does
    so again with every kernel that calls it, and so on up: of a scan of thirty kernels, half of the compilation. The
    kernel that Python calls has all of them in it and is optimised once.
    """

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        library = state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library._optimize_functions = library._optimize_final_module = lambda *_: None
        library._finalize_final_module = lambda: setattr(library, "_finalized", True)
        state.flags.no_compile = True
        super().run_pass(state)  # type: ignore[no-untyped-call]
        lowered = state["cr"]
        # what stands for it among the callable things; there is no code behind
        names = lowered.fndesc.lookup_module(), state.func_id.func_name, "called by kernels only"
        entry = make_function(*names, 0, lowered.env, (library,))
        state.targetctx.insert_user_function(entry, lowered.fndesc, [library])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _InnerCompiler(compiler.CompilerBase):
    """Numba's compiler with `_InnerLowering` at its end."""

    def define_pipelines(self) -> list[Any]:
        builder: Any = compiler.DefaultPassBuilder
        passes = builder.define_nopython_pipeline(self.state)
        passes._finalized = False
        passes.passes = [
            (_InnerLowering, what) if one is typed_passes.NativeLowering else (one, what) for one, what in passes.passes
        ]
        passes.finalize()
        return [passes]


def _window(typing_context: Any, array: Any, at: Any, n: Any) -> Any:
    """Return ``n`` elements of a contiguous array from flat position ``at`` on: ``y = window(x, at, n)``.

    What a slice is, at a tenth of its cost: positions are taken as they are, not counted from the end when
    negative nor cut to the array, and no reference is counted.
    """
    if not isinstance(array, types.Array) or array.layout != "C":
        return None
    kinds: Any = types
    result = kinds.Array(array.dtype, 1, "C")
    populate: Any = arrayobj.populate_array

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        data = builder.gep(whole.data, [arguments[1]])
        view = context.make_array(signature.return_type)(context, builder)
        size = context.get_constant(kinds.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        populate(view, data=data, shape=[arguments[2]], strides=[size], itemsize=size, meminfo=None)
        return view._getvalue()

    return result(array, kinds.intp, kinds.intp), generate


_intrinsic: Any = extending.intrinsic
window: Callable[[Any, int, int], Any] = _intrinsic(_window)


def _array_at(typing_context: Any, pointer: Any, size: Any) -> Any:
    """Return the ``size`` numbers at a pointer as an array that counts no references."""
    kinds: Any = types
    populate: Any = arrayobj.populate_array
    result = kinds.Array(pointer.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.return_type)(context, builder)
        length = context.cast(builder, arguments[1], signature.args[1], kinds.intp)
        step = context.get_constant(kinds.intp, 8)
        populate(view, data=arguments[0], shape=[length], strides=[step], itemsize=step, meminfo=None)
        return view._getvalue()

    return result(pointer, size), generate


array_at: Callable[[Any, int], Any] = _intrinsic(_array_at)


def _prefetch(typing_context: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the memory of an element of a two-dimensional array ahead of its use; what follows does not wait."""
    kinds: Any = types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        integer, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        at = builder.ptrtoint(view.data, integer)
        for k in range(2):
            place = context.cast(builder, arguments[1 + k], signature.args[1 + k], kinds.int64)
            at = builder.add(at, builder.mul(place, builder.extract_value(view.strides, k)))
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        insert: Any = cgutils.get_or_insert_function
        function = insert(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [builder.inttoptr(at, byte), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return kinds.none(array, row, column), generate


prefetch: Callable[[Any, int, int], None] = _intrinsic(_prefetch)


class _CompileListener(event.Listener):
    """Calls back once, at the first kernel that is really compiled (not read from the cache)."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.say: Callable[[], None] | None = say

    def on_start(self, event: Any) -> None:
        if self.say is not None:
            say, self.say = self.say, None
            # a compiler makes millions of objects and no garbage to speak of: a tenth of its time went into
            # looking for some
            gc.set_threshold(200_000, 50, 100)
            say()

    def on_end(self, event: Any) -> None:
        """Nothing to do: only the start is told."""


@contextmanager
def announce_compilation(say: Callable[[], None]) -> Iterator[None]:
    """Within this block, call ``say`` once if a kernel has to be compiled."""
    listener = _CompileListener(say)
    usual = gc.get_threshold()
    try:
        with event.install_listener("numba:compile", listener):
            yield
    finally:
        gc.set_threshold(*usual)

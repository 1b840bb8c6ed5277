"""Where compiled kernels are kept, when they are compiled, and what `kernel` and `window` promise."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest

from bayou import jit
from bayou._types import Array
from bayou.jit import announce_compilation, cache_folder, kernel, window


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder of its own, with two source files; the cache folder is sought anew."""
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "caller.py").write_text("from bayou.inner.callee import callee\nfrom bayou.jit import kernel\n")
    (folder / "bystander.py").write_text("bystander = 1\n")
    (folder / "inner" / "callee.py").write_text("callee = 1\n")
    monkeypatch.setattr(jit, "PACKAGE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    cache_folder.cache_clear()
    yield folder
    cache_folder.cache_clear()


def sought_again() -> Path | None:
    cache_folder.cache_clear()
    return cache_folder()


def test_an_edit_in_a_kernel_or_its_callee_opens_a_new_folder(package: Path) -> None:
    first = sought_again()
    assert first is not None
    assert first.parent == package / "__pycache__"
    assert sought_again() == first
    callee = package / "inner" / "callee.py"
    callee.write_text("callee = 2\n")
    second = sought_again()
    assert second != first
    callee.write_text("callee = 1\n")
    assert sought_again() == first
    (package / "added.py").write_text("from bayou.jit import kernel\n")
    assert sought_again() not in (first, second)


def test_an_edit_outside_the_kernels_compiles_nothing_anew(package: Path) -> None:
    first = sought_again()
    (package / "bystander.py").write_text("bystander = 2\n")
    assert sought_again() == first


def test_compiled_code_of_old_sources_is_deleted(package: Path) -> None:
    for i in range(8):
        (package / "inner" / "callee.py").write_text(f"callee = {i}\n")
        newest = sought_again()
    assert newest is not None
    kept = list(newest.parent.glob("kernels-*"))
    assert newest in kept
    assert len(kept) <= 6


def test_other_versions_have_other_folders(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sought_again()
    monkeypatch.setattr(jit.numba, "__version__", "0.0.1")
    assert sought_again() != first


def test_unwritable_folders_fall_back_and_at_last_warn_once(package: Path, tmp_path: Path) -> None:
    # a file where a folder should be cannot be written into, whoever asks
    (package / "__pycache__").write_text("")
    folder = sought_again()
    assert folder is not None
    assert folder.parent == tmp_path / "user" / "bayou"
    (tmp_path / "user" / "bayou").rename(tmp_path / "moved")
    (tmp_path / "user" / "bayou").write_text("")
    (tmp_path / "temporary").mkdir()
    folder = sought_again()
    assert folder is not None
    assert folder.parent.parent == tmp_path / "temporary"
    for path in (tmp_path / "temporary").iterdir():
        path.rename(tmp_path / "moved too")
        path.write_text("")
    with pytest.warns(RuntimeWarning, match="compiles anew in every process"):
        assert sought_again() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() is None  # remembered: said once only
        plain = kernel(_double)
    assert plain(2.0) == 4.0


def _double(x: float) -> float:
    return 2.0 * x


def _triple(x: float) -> float:
    return 3.0 * x


def test_compilation_is_announced_once_and_only_when_there_is_any(package: Path) -> None:
    sought_again()
    said: list[str] = []
    first, second = kernel(_double), kernel(_triple)
    with announce_compilation(lambda: said.append("compiling")):
        first(1.0)
        second(1.0)
    assert said == ["compiling"]
    with announce_compilation(lambda: said.append("again")):
        first(3.0)
        kernel(_triple)(3.0)  # read from the cache
    assert said == ["compiling"]
    kernel(_double)(1)  # another signature, outside of the block: nobody listens
    assert said == ["compiling"]


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from bayou import jit
jit.PACKAGE = Path({folder!r})
import caller
said = []
with jit.announce_compilation(lambda: said.append(1)):
    print(caller.twice(3.0), len(said))
"""


def test_an_edit_in_a_callee_of_another_file_is_seen_by_the_next_process(tmp_path: Path) -> None:
    package = tmp_path / "edited"
    package.mkdir()
    callee = "from bayou.jit import kernel\n@kernel\ndef once(x):\n    return x + {}\n"
    caller = callee.replace("x + {}", "2.0 * once(x)").replace("once(x):", "twice(x):")
    caller = "from callee import once\n" + caller
    (package / "caller.py").write_text(caller)
    (package / "callee.py").write_text(callee.format(1.0))

    def run() -> list[str]:
        script = SCRIPT.format(folder=str(package))
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        return done.stdout.split()

    assert run() == ["8.0", "1"]
    assert run() == ["8.0", "0"]  # from the cache
    (package / "callee.py").write_text(callee.format(10.0))
    assert run() == ["26.0", "1"]


@kernel(inline=True, contract=True)
def _square(x: float) -> float:
    return x * x


def _squares(x: Array) -> float:
    total = 0.0
    for i in range(len(x)):
        total += _square(x[i : i + 1][0])
    return total


_sum_of_squares = kernel(_squares)


@kernel(entry=True)
def _entry(x: Array, rng: np.random.Generator) -> float:
    made = np.empty(len(x))
    for i in range(len(x)):
        made[i] = x[i] + 0.0 * rng.standard_normal()
    return _sum_of_squares(made)


def test_no_kind_of_kernel_leaves_a_reference_behind() -> None:
    x, rng = np.arange(5.0), np.random.default_rng(1)
    before = sys.getrefcount(x), sys.getrefcount(rng)
    for _ in range(10):
        assert _sum_of_squares(x) == 30.0
        assert _entry(x, rng) == 30.0
    assert (sys.getrefcount(x), sys.getrefcount(rng)) == before
    assert _square(3.0) == 9.0


def test_only_entries_may_make_arrays() -> None:
    """Without reference counts nobody would free them: refused at compilation, not leaked."""

    def makes(n: int) -> float:
        return np.empty(n)[0]

    with pytest.raises(numba.core.errors.NumbaError, match="Only accept returning of array passed"):
        kernel(makes)(3)


@kernel
def _row_sum(A: Array, i: int) -> float:
    part = window(A, i * A.shape[1], A.shape[1])
    part[0] += 0.5
    total = 0.0
    for k in range(len(part)):
        total += part[k]
    return total


def test_a_window_is_a_view() -> None:
    A = np.arange(12.0).reshape(3, 4)
    assert _row_sum(A, 1) == 4.5 + 5 + 6 + 7
    assert A[1, 0] == 4.5
    assert A.sum() == 66.5
    with pytest.raises(numba.core.errors.TypingError):
        _row_sum(A.T, 1)


def test_division_by_zero_is_infinite_as_in_numpy() -> None:
    assert kernel(_reciprocal)(0.0) == np.inf


def _reciprocal(x: float) -> float:
    return 1.0 / x


def test_kernels_release_the_interpreter_lock_and_never_reassociate() -> None:
    for function in (_square, _sum_of_squares):
        options = function.targetoptions  # type: ignore[attr-defined]
        assert options["nogil"] is True
        assert not options["fastmath"] or set(options["fastmath"]) == {"contract"}


def test_threads_that_compile_at_once_keep_their_code_where_it_belongs(tmp_path):
    """Numba's folder is a setting of the process: a thread that set it back too early left files where Python ran."""
    seen, before = [], jit.config.CACHE_DIR

    def compile_something(folder):
        with jit._kept_in(folder):
            for _ in range(20):
                seen.append(jit.config.CACHE_DIR == str(folder))
                time.sleep(0.001)

    threads = [threading.Thread(target=compile_something, args=(tmp_path / str(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert all(seen)
    assert jit.config.CACHE_DIR == before

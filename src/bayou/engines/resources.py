"""What a run takes of the machine, looked at before it starts, and the signals that end it early."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bayou.errors import ResourceError

__all__ = ["available_memory", "check_memory", "heard", "noticed", "terminable"]


def available_memory() -> int | None:
    """Return the bytes that a process may still take, or None where the system does not say.

    The least of the machine's free memory and what is left of the limits of the process's control groups.
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        groups = [line.rsplit(":", 1)[1] for line in Path("/proc/self/cgroup").read_text("ascii").splitlines()]
    except (OSError, ValueError, IndexError):
        groups = []
    for group in {"/", *groups}:
        folder = Path("/sys/fs/cgroup") / group.strip("/")
        try:
            limit = (folder / "memory.max").read_text("ascii").strip()
            if limit != "max":
                used = int((folder / "memory.current").read_text("ascii"))
                files = (folder / "memory.stat").read_text("ascii").split()
                # pages of files are given back when they are needed
                given_back = int(files[files.index("inactive_file") + 1])
                found.append(int(limit) - used + given_back)
        except (OSError, ValueError, IndexError):
            continue
    return max(min(found), 0) if found else None


def check_memory(needed: int, draws: int, chains: int, effects: int) -> None:
    """Refuse a run whose draws would not fit.

    Parameters
    ----------
    needed
        Bytes of all draws while they are being put together.
    draws, chains
        Of the run.
    effects
        How many bytes of these are draws of group coefficients.

    Raises
    ------
    ResourceError
        Saying how much is needed, how much there is, and what to do.
    """
    available = available_memory()
    if available is None or needed <= available:
        return
    less = "keep_effects=False, " if effects > needed // 2 else ""
    raise ResourceError(
        f"{chains} chains of {draws:,} draws would take {_in_words(needed)} of memory and {_in_words(available)} "
        f"are free. Stream them to a folder, store='run-1', or keep fewer: {less}thin=10 with a tenth of the draws, or "
        f"draws={draws // 10:,}."
    )


def _in_words(size: int) -> str:
    return f"{size / 2**30:,.1f} GB" if size >= 2**29 else f"{size / 2**20:,.0f} MB"


@contextmanager
def heard() -> Iterator[None]:
    """End the block where Ctrl-C strikes, or, if the exception was lost there, at the next `noticed` or at its end.

    An exception that a handler raises is lost where Python happens to be in a callback of another library: the search
    for threaded libraries, an object's end. An application's own handler of SIGINT is left alone.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def raising(number: int, frame: Any) -> None:
        _lost.append(number)
        raise KeyboardInterrupt

    _lost.clear()
    signal.signal(signal.SIGINT, raising)
    try:
        yield
    except KeyboardInterrupt:
        _lost.clear()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if _lost:
        _lost.clear()
        raise KeyboardInterrupt


_lost: list[int] = []  # signals whose exception has not arrived yet, in the main thread


@contextmanager
def noticed() -> Iterator[list[int]]:
    """Within this block Ctrl-C and SIGTERM are put into a list, if this is the main thread; a second one interrupts.

    An exception that a handler raises is lost where Python happens to be in a callback of another library.
    """
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    # a shell has its background jobs ignore Ctrl-C; they go on doing so
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    seen += _lost
    _lost.clear()
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[None]:
    """Within this block SIGTERM is a Ctrl-C, if this is the main thread: what was drawn is returned, not lost."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

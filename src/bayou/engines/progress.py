"""The progress bar of a run: scans (or refits) done, how many a second, time left; nothing without a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any


def _on_a_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no standard error at all, or a closed one
        return False


class Bar:
    """A progress bar of rich, or nothing without a terminal; it appears after half a second."""

    def __init__(self, total: int, wanted: bool | None, doing: str = "sampling", unit: str = "scans") -> None:
        self.total, self.doing, self.unit = total, doing, unit
        self.wanted = _on_a_terminal() if wanted is None else wanted
        self.started = time.perf_counter()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.total if error[0] is None else None)
            self.bar.stop()

    def update(self, done: int) -> None:
        """Show ``done`` scans, or what else is counted."""
        if not self.wanted or time.perf_counter() - self.started < 0.5:
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn(self.doing),
                BarColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + self.unit + ", {task.fields[speed]:,.0f}/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.bar.add_task(self.doing, total=self.total, speed=0.0)
            self.bar.start()
        speed = done / (time.perf_counter() - self.started)
        self.bar.update(self.task, completed=done, speed=speed)

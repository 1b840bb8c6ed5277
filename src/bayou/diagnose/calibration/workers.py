"""Simulations in processes of their own, which end with the one that started them.

A worker is a fresh interpreter: no fork of a program with threads, and no second run of the user's script. It is sent
the study once, then numbers of simulations, one at a time, and answers each with its outcome.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

from bayou.diagnose.calibration.study import Outcome, Study
from bayou.errors import ResourceError

__all__ = ["NotImportable", "in_processes", "work"]

START = "from bayou.diagnose.calibration.workers import work; work()"


class NotImportable(ResourceError):
    """Another process does not know a class or function of the model or engine."""


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(struct.pack("<Q", len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes | None:
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack("<Q", head)[0]
    content = stream.read(size)
    return content if len(content) == size else None


def work() -> None:
    """Answer numbers of simulations with their outcomes until there are no more: what a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who waits
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine prints must not get among the answers
    from threadpoolctl import threadpool_limits

    content = _receive(questions)
    if content is None:
        return
    try:
        study: Study = pickle.loads(content)
    except Exception as error:
        _send(answers, pickle.dumps(f"{type(error).__name__}: {error}"))
        return
    _send(answers, pickle.dumps(None))
    with threadpool_limits(1, user_api="blas"):
        while (content := _receive(questions)) is not None:
            _send(answers, pickle.dumps(study.simulate(pickle.loads(content))))


class _Worker:
    """One process, and the conversation with it."""

    def __init__(self, study: bytes) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-P", *(f"-W{one}" for one in sys.warnoptions), "-c", START]
        # a session of its own: the terminal's Ctrl-C does not reach it before it can ignore it
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        self.study = study

    def ask(self, content: bytes) -> Any:
        """Send something and return the answer.

        Raises
        ------
        ResourceError
            If the process ended instead.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            _send(self.process.stdin, content)
            answer = _receive(self.process.stdout)
        except (BrokenPipeError, ValueError):
            answer = None
        if answer is None:
            raise ResourceError(
                f"A process that ran simulations ended with status {self.process.wait()}, perhaps for lack of memory. "
                "Simulations that were made are kept where store= was given; take fewer with cores=1."
            )
        return pickle.loads(answer)

    def end(self) -> None:
        """End the process, wherever it is."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


def in_processes(study: bytes, numbers: Iterable[int], cores: int) -> Iterator[Outcome | None]:
    """Run simulations in so many processes; outcomes come in the order in which they are ready.

    None comes every tenth of a second, so that the caller can look at the clock, or be interrupted.

    Parameters
    ----------
    study
        A pickled `Study`.

    Raises
    ------
    ResourceError
        If a process ends, or cannot take the study.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    left = 0
    for number in numbers:
        waiting.put(number)
        left += 1
    made: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()
    workers = [_Worker(study) for _ in range(min(cores, left))]

    def converse(worker: _Worker) -> None:
        try:
            refused = worker.ask(worker.study)
            if refused is not None:
                raise NotImportable(
                    f"A second process cannot take this model or engine ({refused}): classes and functions must be "
                    "importable there. Give cores=1."
                )
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                made.put(worker.ask(pickle.dumps(number)))
        except Exception as error:
            made.put(error)

    threads = [threading.Thread(target=converse, args=(worker,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        while left:
            try:
                found = made.get(timeout=0.1)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, Exception):
                raise found
            left -= 1
            yield found
    finally:
        for worker in workers:
            worker.end()
        for thread in threads:
            thread.join()

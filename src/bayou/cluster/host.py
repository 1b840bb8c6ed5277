"""What lives on a worker: an actor of Dask's that keeps the rows of its shards and answers each chain on its own line.

A round trip of an actor's method takes Dask some milliseconds; a line is a socket between the leader of a chain and
the worker, authenticated by a key that goes through Dask, and takes a tenth of one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from typing import Any

import numpy as np

from bayou._types import Array
from bayou.cluster.words import Piece, Shard, own


class Host:
    """Some shards on a worker, for all chains of a run."""

    def __init__(self, threads: int) -> None:
        from distributed import get_worker

        address = get_worker().address
        where = address.split("://")[-1].rsplit(":", 1)[0] if address.startswith(("tcp://", "tls://")) else "127.0.0.1"
        self.key = os.urandom(32)
        self.listener = Listener((where.strip("[]"), 0), backlog=64, authkey=self.key)
        self.closed = False
        self.pieces: list[Piece] = []
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        threading.Thread(target=self._listen, daemon=True, name="bayou-host").start()

    def line(self) -> tuple[Any, bytes]:
        """Return where to call, and the key."""
        return self.listener.address, self.key

    def close(self) -> None:
        """Let go of the rows, and take no more calls."""
        self.closed = True
        self.pieces = []
        # a thread that waits for calls is not woken by closing what it waits on
        with suppress(OSError):
            socket.create_connection(self.listener.address, timeout=1.0).close()
        self.listener.close()
        if self.pool is not None:
            self.pool.shutdown(wait=False)

    def _listen(self) -> None:
        while True:
            try:
                line = self.listener.accept()
            except Exception:  # somebody without the key, or who hung up; or the last call
                if self.closed:
                    return
                time.sleep(0.01)
                continue
            threading.Thread(target=self._answer, args=(line,), daemon=True, name="bayou-line").start()

    def _answer(self, line: Connection) -> None:
        """Follow what comes on a line until it ends."""
        shards: list[Shard] = []
        try:
            while True:
                what, content = line.recv()
                try:
                    found = self._do(what, content, shards)
                except Exception as error:  # the leader says what went wrong
                    line.send((False, f"{type(error).__name__}: {error}"))
                    continue
                line.send((True, found))
        except (EOFError, OSError):
            line.close()

    def _do(self, what: str, content: Any, shards: list[Shard]) -> Any:
        if what == "say":
            return self._all(shards, lambda k, shard: shard.follow(own(content, k)))
        if what == "rows":
            self.pieces = content
        elif what == "begin":
            shards[:] = [piece.begin(seed) for piece, seed in zip(self.pieces, content, strict=True)]
        elif what == "snapshot":
            return [shard.snapshot() for shard in shards]
        elif what == "close":
            self.close()
        elif what == "restore":
            states, log = content
            self._all(shards, lambda k, shard: _again(shard, states[k], [own(message, k) for message in log]))
        return None

    def _all(self, shards: list[Shard], do: Any) -> list[Array]:
        if self.pool is None or len(shards) < 2:
            return [do(k, shard) for k, shard in enumerate(shards)]
        return list(self.pool.map(do, range(len(shards)), shards))


def _again(shard: Shard, state: dict[str, Any] | None, log: list[Any]) -> Array:
    """Bring a shard to where it was: its state, then all messages since."""
    if state is not None:
        shard.restore(state)
    for message in log:
        shard.follow(message)
    return np.zeros(0)

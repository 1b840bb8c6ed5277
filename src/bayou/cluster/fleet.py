"""The workers of a sharded run: who has which shards, how a chain talks to them, and what happens when one dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Client as call
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from bayou._types import Array
from bayou.cluster.connection import allowed_failures, workers_of
from bayou.cluster.host import Host
from bayou.cluster.words import Piece, Word, dealt
from bayou.errors import ResourceError

PATIENCE = 120.0  # seconds that a replacement of a worker is waited for
LOOK = 5.0  # seconds without an answer after which the scheduler is asked whether the worker is there


class Lost(Exception):
    """A worker that does not answer any more."""


class Pieces(Protocol):
    """The rows of all shards: a list, or what makes them when they are asked for."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, k: int) -> Piece:
        """Return the rows of shard k."""


class Seat:
    """Some shards and the worker that has them now."""

    def __init__(self, shards: list[int]) -> None:
        self.shards = shards
        self.worker = ""
        self.host: Any = None
        self.at: tuple[Any, bytes] = ((), b"")
        self.turn = 0  # how often it was filled
        self.deaths = 0  # since a chain got on
        self.lock = threading.Lock()


class Fleet:
    """Shards on the workers of a client.

    Parameters
    ----------
    client
        Of a cluster.
    pieces
        The rows of all shards; they stay here too, for a worker that must be replaced.
    """

    def __init__(self, client: Any, pieces: Pieces) -> None:
        self.client, self.pieces = client, pieces
        self.allowed = allowed_failures()
        self.talks: list[Talk] = []
        self.left: list[tuple[str, tuple[Any, bytes]]] = []  # given up, their workers perhaps not gone
        workers = workers_of(client)
        self.threads = client.nthreads()
        count = min(len(workers), len(pieces))
        self.seats = [Seat(list(range(len(pieces)))[k::count]) for k in range(count)]
        for seat, worker in zip(self.seats, workers, strict=False):
            self._fill(seat, worker)

    def _fill(self, seat: Seat, worker: str) -> None:
        """Put the shards of a seat on a worker."""
        threads = self.client.nthreads().get(worker, 1)
        future = self.client.submit(Host, threads, actor=True, workers=[worker], pure=False)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                seat.host = future.result(timeout=1.0)
                break
            except TimeoutError:
                if worker not in workers_of(self.client) or time.monotonic() > until:
                    future.cancel()
                    raise
        seat.at = seat.host.line().result(timeout=LOOK)
        seat.worker, seat.turn = worker, seat.turn + 1
        with call(seat.at[0], authkey=seat.at[1]) as line:
            _ask(line, "rows", [self.pieces[k] for k in seat.shards])

    def replace(self, seat: Seat, turn: int) -> None:
        """See that a seat whose worker died on turn ``turn`` is filled again.

        Raises
        ------
        ResourceError
            If it has died too often, or there is no other worker.
        """
        with seat.lock:
            if seat.turn != turn:
                return  # another chain has seen to it
            seat.deaths += 1
            if seat.deaths > self.allowed:
                raise ResourceError(
                    f"The worker with shards {seat.shards[0] + 1}, … died {seat.deaths} times without getting on: "
                    "most often for want of memory. Use more workers, or more shards."
                )
            self.left.append((seat.worker, seat.at))
            began = time.monotonic()
            until = began + PATIENCE
            while True:
                try:
                    busy = [other.worker for other in self.seats if other is not seat]
                    # the same one only if nothing but the line was cut
                    again = time.monotonic() - began > LOOK
                    there = [w for w in workers_of(self.client) if again or w != seat.worker]
                    if there:
                        self._fill(seat, min(there, key=lambda w: (busy.count(w), w)))
                        return
                except Exception:  # it went down while it was being filled, or the cluster is between two states
                    if time.monotonic() > until:
                        raise
                if time.monotonic() > until:
                    raise ResourceError(f"No worker took the place of {seat.worker} within {PATIENCE:.0f} seconds.")
                time.sleep(0.2)

    def close(self) -> None:
        """Hang up, and let the workers forget the shards."""
        for talk in self.talks:
            talk.close()
        there = workers_of(self.client)
        for worker, at in [*self.left, *((seat.worker, seat.at) for seat in self.seats)]:
            if worker in there:
                with suppress(Exception), call(at[0], authkey=at[1]) as line:
                    _ask(line, "close", None)
        self.left.clear()
        for seat in self.seats:
            seat.host = None


def _ask(line: Connection, what: str, content: Any) -> Any:
    line.send((what, content))
    return _heard(line)


def _heard(line: Connection) -> Any:
    ok, found = line.recv()
    if not ok:
        raise ResourceError(f"A worker failed: {found}")
    return found


class Talk:
    """The lines of one chain, or of an optimiser, to all seats; what it said since its last checkpoint is kept."""

    def __init__(self, fleet: Fleet, seeds: Sequence[Any]) -> None:
        self.fleet, self.seeds = fleet, seeds
        fleet.talks.append(self)
        self.log: list[list[Word]] = []
        self.states: list[dict[str, Any] | None] = [None] * len(seeds)
        self.lines: list[Connection | None] = [None] * len(fleet.seats)
        self.turns = [0] * len(fleet.seats)
        self.rounds = 0
        for k in range(len(fleet.seats)):
            self._until_well(k, lambda k=k: self._open(k))

    def say(self, message: list[Word]) -> list[Array]:
        """Send a message to all shards and return their answers, in the order of the shards."""
        self.log.append(message)
        self.rounds += 1
        seats = self.fleet.seats
        sent = [self._send(k, message) for k in range(len(seats))]
        rows: list[Any] = [None] * len(self.seeds)
        for k, seat in enumerate(seats):
            found = self._hear(k) if sent[k] else None
            if found is None:
                found = self._until_well(k, lambda k=k: self._again(k))
            for shard, row in zip(seat.shards, found, strict=True):
                rows[shard] = row
        return rows

    def checkpoint(self) -> None:
        """Fetch the state of all shards: what was said before need not be said again."""
        found = list(self.states)
        for k, seat in enumerate(self.fleet.seats):
            while True:
                try:
                    line = self.lines[k]
                    assert line is not None
                    for shard, state in zip(seat.shards, _ask(line, "snapshot", None), strict=True):
                        found[shard] = state
                    break
                except (EOFError, OSError):
                    self._until_well(k, lambda k=k: self._again(k, last=True))
            seat.deaths = 0
        self.states, self.log = found, []

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Bring all shards to these states."""
        self.states, self.log = list(states), []
        for k, seat in enumerate(self.fleet.seats):
            try:
                line = self.lines[k]
                assert line is not None
                _ask(line, "restore", ([self.states[shard] for shard in seat.shards], []))
            except (EOFError, OSError):
                self._until_well(k, lambda k=k: self._again(k, last=True))

    def close(self) -> None:
        """Hang up."""
        for line in self.lines:
            if line is not None:
                line.close()

    # ---- one seat --------------------------------------------------------------------------

    def _send(self, k: int, message: list[Word]) -> bool:
        line = self.lines[k]
        try:
            assert line is not None
            line.send(("say", dealt(message, self.fleet.seats[k].shards)))
        except OSError:
            return False
        return True

    def _hear(self, k: int) -> Any:
        """Return the answer of a seat, or None if its worker is gone."""
        line = self.lines[k]
        assert line is not None
        try:
            while not wait([line], timeout=LOOK):
                if self.fleet.seats[k].worker not in workers_of(self.fleet.client):
                    return None
            return _heard(line)
        except (EOFError, OSError):
            return None

    def _open(self, k: int) -> None:
        """Open the line to a seat, and begin the shards there."""
        seat = self.fleet.seats[k]
        self.turns[k] = seat.turn
        line = call(seat.at[0], authkey=seat.at[1])
        self.lines[k] = line
        _ask(line, "begin", [self.seeds[shard] for shard in seat.shards])

    def _again(self, k: int, last: bool = False) -> Any:
        """Bring the shards of a seat to where they were, by what was said; returns their answer to the last message."""
        self._open(k)
        line, seat = self.lines[k], self.fleet.seats[k]
        assert line is not None
        log = [dealt(message, seat.shards) for message in self.log]
        before = log if last else log[:-1]
        _ask(line, "restore", ([self.states[shard] for shard in seat.shards], before))
        return None if last else _ask(line, "say", log[-1])

    def _until_well(self, k: int, do: Any) -> Any:
        """Do something with a seat, on other workers if the one it is on dies."""
        first = self.lines[k] is None
        while True:
            seat = self.fleet.seats[k]
            if not first:
                old = self.lines[k]
                if old is not None:
                    old.close()
                self.fleet.replace(seat, self.turns[k])
            first = False
            try:
                return do()
            except (EOFError, OSError):
                continue

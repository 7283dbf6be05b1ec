"""Reads that are under way, for stores where an answer takes longer to come than to read.

All requests of a batch are started at once; of a store's requests at most `concurrency` are with
the server at a time, in the order in which they were started, and the others wait for their turn.
A large request counts as several: what shares a line that is full arrives together, at the end, and
nothing can be decoded meanwhile. Each row has an answer of its own: an error is raised where that
row is asked for, and the others go on. What nobody will ask for any more is given up: the requests
of a `ReadsInFlight` that is forgotten, of a read that is stopped or interrupted, and all of them
when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from gpuzarr.errors import StoreError
from gpuzarr.stores.remote.event_loop import background_loop, note_answer
from gpuzarr.stores.store import Blob, place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence

    from gpuzarr.stores.store import Buffer

T = TypeVar("T")

CONCURRENCY = 64
"""Requests of a store that are with the server at a time (`benchmarks/remote.py`)."""

PLACE_NBYTES = 1 << 18
"""A request counts as one for each so many bytes of it (likewise measured)."""

GAP_NBYTES = 1 << 17
"""Bytes of an object that are read for nothing to save a request: what one of 64 connections brings
in the 20 ms that a request takes, over a line of 400 MB/s."""

LOOK_AGAIN_S = 0.1
"""How long a thread waits before it asks whether anybody still wants what it waits for."""


class Answer(Generic[T]):
    """What a request brings once it is there. One thread waits for it.

    It is made of a lock alone: an interrupt that comes while `concurrent.futures` waits may leave
    a lock taken, and then nothing answers any more.
    """

    __slots__ = ("_error", "_found", "_silent", "cancel", "is_there")

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._silent = threading.Lock()
        self._silent.acquire()
        self._found: T
        self._error: BaseException | None = None
        self.is_there = False
        self.cancel: Callable[[], None] = _nothing
        """Gives the request up."""

    def give(self, found: T) -> None:
        """It is there; only the loop's thread calls this, and `fail`."""
        if not self.is_there:
            self._found = found
            self._ring()

    def fail(self, error: BaseException) -> None:
        """It will not come, unless it is there."""
        if not self.is_there:
            self._error = error
            self._ring()

    def wait(self, stopped: Callable[[], bool] | None = None) -> T:
        """Wait for it.

        Raises:
            StoreError: it was given up: `stopped` says so, or the interpreter ends.
        """
        given_up = True
        try:
            while not self.is_there and not self._silent.acquire(timeout=LOOK_AGAIN_S):
                if (stopped is not None and stopped()) or not threading.main_thread().is_alive():
                    break
            given_up = not self.is_there
        finally:  # an interrupt as well
            if given_up:
                self.cancel()
        if given_up:
            raise _given_up()
        if self._error is not None:
            raise self._error
        return self._found

    def _ring(self) -> None:
        self.is_there = True
        self._silent.release()


@dataclass(frozen=True, slots=True, eq=False)
class Arriving:
    """An object whose size is known and whose bytes are fetched when somebody has memory for them.

    Objects of unexpected size wait in this way: they are no reason to take memory.
    """

    key: str
    nbytes: int
    """Bytes that come."""
    validator: Hashable
    size: int
    """Bytes of the whole object."""
    fill: Callable[[memoryview], Answer[None]]
    """Starts to fetch them."""


Found: TypeAlias = "Blob | Arriving | None"


class InFlight:
    """The requests of one store, as coroutines in an event loop."""

    def __init__(
        self,
        concurrency: int = CONCURRENCY,
        find_loop: Callable[[], asyncio.AbstractEventLoop] = background_loop,
    ) -> None:
        """Prepare for requests.

        Args:
            concurrency: how many are under way at a time.
            find_loop: gives the loop, which runs in another thread than those that wait for
                answers; asked once a process.
        """
        self.concurrency = concurrency
        self._find_loop = find_loop
        self._here: tuple[int, asyncio.AbstractEventLoop, _Turns] | None = None

    def start(
        self, gets: Sequence[Callable[[], Awaitable[Found]]], nbytes: Sequence[int]
    ) -> ReadsInFlight:
        """Start reads.

        Args:
            gets: coroutine functions without arguments.
            nbytes: how much each brings, or less than 0 where that is not known.
        """
        loop, turns = self._loop()
        places = [-(-count // PLACE_NBYTES) for count in nbytes]
        answers: list[Answer[Found]] = [Answer() for _ in gets]
        tasks: list[asyncio.Task[None]] = []

        def launch() -> None:
            tasks.extend(
                loop.create_task(_fly(get, answer, turns, count))
                for get, answer, count in zip(gets, answers, places, strict=True)
            )

        def cancel() -> None:
            for task, answer in zip(tasks, answers, strict=True):
                task.cancel()
                answer.fail(_given_up())  # a task that has not begun would say nothing

        def give_up() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(cancel)

        _call(loop, launch)
        return ReadsInFlight(answers, give_up)

    def read(
        self, get: Callable[[], Awaitable[Found]], allocate: Callable[[int], Buffer]
    ) -> Blob | None:
        """One read, which does not wait for its turn: a thread is waiting for it already."""
        answer = self.submit(get)
        return ReadsInFlight([answer], answer.cancel).result(0, allocate)

    def submit(self, get: Callable[[], Awaitable[T]]) -> Answer[T]:
        """Start one coroutine at once."""
        loop, _ = self._loop()
        answer: Answer[T] = Answer()
        tasks: list[asyncio.Task[None]] = []

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

        answer.cancel = cancel
        _call(loop, lambda: tasks.append(loop.create_task(_fly(get, answer))))
        return answer

    def run(self, get: Callable[[], Awaitable[T]]) -> T:
        """Run one coroutine, and wait for what it gives."""
        return self.submit(get).wait()

    def _loop(self) -> tuple[asyncio.AbstractEventLoop, _Turns]:
        # Two threads may both make it, to no harm but that of a higher limit for a moment; a lock
        # could be held by another thread at a fork.
        here = self._here
        if here is None or here[0] != os.getpid():
            here = self._here = (os.getpid(), self._find_loop(), _Turns(self.concurrency))
        return here[1], here[2]

    def __reduce__(self) -> tuple[object, ...]:
        return (InFlight, (self.concurrency, self._find_loop))


class ReadsInFlight:
    """What `Store.start_reads` gives: see `gpuzarr.stores.store.Pending`."""

    def __init__(self, answers: Sequence[Answer[Found]], give_up: Callable[[], None]) -> None:
        """Wait for answers.

        Args:
            answers: one a row.
            give_up: cancels those that are not there.
        """
        self._answers: list[Answer[Found] | None] = list(answers)
        self._left = len(answers)
        self._give_up = give_up
        self._stopped: Callable[[], bool] | None = None

    def __del__(self) -> None:
        if self._left:
            self._give_up()

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Give up once this says so, which threads that wait for a row ask."""
        self._stopped = stopped

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Wait for one row; its bytes are not kept here."""
        answer = self._answers[row]
        if answer is None:
            raise RuntimeError(f"row {row} was asked for already")
        self._answers[row] = None
        found = answer.wait(self._wants_no_more)
        self._left -= 1
        if not isinstance(found, Arriving):
            return found
        memory = place(allocate, found.nbytes, found.key)
        found.fill(memory).wait(self._stopped)
        return Blob(memory, found.validator, found.size)

    def _wants_no_more(self) -> bool:
        if self._stopped is None or not self._stopped():
            return False
        self._give_up()
        return True


class _Turns:
    """A number of places; who wants some gets them in the order of asking. For one event loop."""

    def __init__(self, places: int) -> None:
        self._most = self._free = places
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold so many places, or all where that is less."""
        count = min(max(1, count), self._most)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        self._grant()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                self._free += count
            self._grant()

    def _grant(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.cancelled():
                if count > self._free:
                    return
                self._free -= count
                turn.set_result(None)
            self._waiting.popleft()


async def _fly(
    get: Callable[[], Awaitable[T]],
    answer: Answer[T],
    turns: _Turns | None = None,
    places: int = 1,
) -> None:
    """One request, once it is its turn, to its answer."""
    try:
        if turns is None:
            found = await get()
        else:
            async with turns.taken(places):
                found = await get()
    except asyncio.CancelledError:
        note_answer()
        answer.fail(_given_up())
        raise
    except BaseException as error:  # noqa: BLE001  it is the asker's
        note_answer()
        answer.fail(error)
    else:
        note_answer()
        answer.give(found)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError as error:  # it is closed
        raise StoreError("the interpreter is ending: nothing is read any more") from error


def _given_up() -> StoreError:
    return StoreError("this read was given up")


def _nothing() -> None:
    """There is nothing to give up."""

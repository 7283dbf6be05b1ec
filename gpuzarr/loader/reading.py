"""Reads the batches of an epoch, one after another, in whichever thread it is asked.

Where answers take longer to come than to read, the requests of the next batch are sent before this
one is waited for.
"""

from __future__ import annotations

import reprlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuzarr.errors import ChunkError, GpuzarrError
from gpuzarr.loader.epoch import CropKey
from gpuzarr.many import make_request, start_batch
from gpuzarr.stores.store import reads_when_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpuzarr.chunk_cache import ChunkCache
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.loader.epoch import Epoch
    from gpuzarr.loader.variables import Variables
    from gpuzarr.pending import PendingRead, Request

    Window = tuple[Any, ...]

SHOWN_WINDOWS = 4
"""Windows that are named in an error."""


class BatchReader:
    """Reads batches; it knows neither the loader nor the iterator."""

    def __init__(
        self,
        variables: Variables,
        epoch: Epoch,
        caches: Mapping[int, ChunkCache],
        streams: Mapping[str, Any],
        step: int = 0,
    ) -> None:
        """Read of an epoch.

        Args:
            variables: what is read.
            epoch: which windows.
            caches: as in `start_batch`.
            streams: as in `start_batch`.
            step: from the number of a batch to that of the one that will be asked for after it, so
                that its reads may be started; 0: that is not known.
        """
        self._variables = variables
        self._epoch = epoch
        self._caches = caches
        self._streams = streams
        # A cache knows what a batch brings only when that is there.
        self._step = 0 if caches or not _is_late(variables) else step
        self._next: tuple[int, _Started] | None = None

    def __call__(self, number: int, stopped: Callable[[], bool]) -> list[Any]:
        """The arrays of a batch, one a variable; not all of it is read once `stopped` says so."""
        started = self._started(number, stopped)
        following = number + self._step
        if self._step and following < self._epoch.rules.nbatches:
            with suppress(GpuzarrError):  # it is told when that batch is asked for
                self._next = following, self._start_batch(following, stopped)
        try:
            return started.result()
        finally:
            if stopped():
                self._next = None

    def read_windows(self, numbers: Sequence[int]) -> list[Any]:
        """The arrays, one a variable, of the windows with these numbers."""
        windows = [key for number in numbers for key in self._epoch.windows(number, number + 1)]
        return self._start(windows, f"in epoch {self._epoch.number}", lambda: False).result()

    def _started(self, number: int, stopped: Callable[[], bool]) -> _Started:
        """A batch whose reads are started: before, or now."""
        before, self._next = self._next, None
        if before is not None and before[0] == number:
            return before[1]
        return self._start_batch(number, stopped)

    def _start_batch(self, number: int, stopped: Callable[[], bool]) -> _Started:
        first, stop = self._epoch.batch(number)
        windows = self._epoch.windows(first, stop)
        stopped()
        return self._start(windows, f"in batch {number} of epoch {self._epoch.number}", stopped)

    def _start(
        self, windows: Sequence[Window], where: str, stopped: Callable[[], bool]
    ) -> _Started:
        requests = window_requests(self._variables, windows)
        stopped()
        stacks = [len(windows)] * len(self._variables.all)
        with _named_windows(windows, where):
            pending = start_batch(
                requests, stacks, streams=self._streams, stopped=stopped, caches=self._caches
            )
        return _Started(pending, windows, where)


class _Started(NamedTuple):
    """A batch that is read."""

    pending: PendingRead
    windows: Sequence[Window]
    where: str

    def result(self) -> list[Any]:
        """Wait for its arrays."""
        with _named_windows(self.windows, self.where):
            results: list[Any] = self.pending.result()
        return results


@contextmanager
def _named_windows(windows: Sequence[Window], where: str) -> Iterator[None]:
    """Errors inside say which windows they are about."""
    try:
        yield
    except GpuzarrError as error:
        failures = error.failures if isinstance(error, ChunkError) else ()
        hit = _windows_of(failures, windows)
        error.message += f"\n  {where}, at the windows {hit or _shown(windows)}"
        raise


def _is_late(variables: Variables) -> bool:
    """Whether requests take long and results are in host memory, so that two batches may overlap.

    On a GPU everything is ordered on one stream.
    """
    arrays = [variable.array for variable in variables.all]
    return all(array.device == "cpu" for array in arrays) and not all(
        reads_when_asked(array.store) for array in arrays
    )


def window_requests(variables: Variables, windows: Sequence[Window]) -> list[Request]:
    """The requests of windows: for one variable after another, all windows."""
    found = []
    for variable in variables.all:
        array = variable.array
        for window in windows:
            key = window
            if isinstance(window, CropKey):
                key = window[len(window) - array.ndim :]
            found.append(
                make_request(
                    array,
                    key,
                    dtype=variable.dtype,
                    scale=variable.scale,
                    offset=variable.offset,
                )
            )
    return found


def current_streams(variables: Variables) -> dict[str, Any]:
    """For each device the stream that this thread's work goes to."""
    engines = [make_request(variable.array, ()).source.engine for variable in variables.all]
    return {engine.device: engine.current_stream() for engine in engines}


def _windows_of(failures: Sequence[ChunkFailure], windows: Sequence[Window]) -> str:
    """The windows that need failed chunks."""
    numbers = {number % len(windows) for failure in failures for number in failure.requests}
    return _shown([windows[number] for number in sorted(numbers)])


def _shown(windows: Sequence[Window]) -> str:
    """Some windows, as one types them."""
    more = ", ..." if len(windows) > SHOWN_WINDOWS else ""
    return ", ".join(f"[{_text(window)}]" for window in windows[:SHOWN_WINDOWS]) + more


def _text(window: Any) -> str:
    entries = window if isinstance(window, tuple) else (window,)
    return ", ".join(_entry_text(entry) for entry in entries)


def _entry_text(entry: Any) -> str:
    if not isinstance(entry, slice):
        return reprlib.repr(entry)
    ends = (
        [entry.start, entry.stop] if entry.step is None else [entry.start, entry.stop, entry.step]
    )
    return ":".join("" if end is None else str(end) for end in ends)

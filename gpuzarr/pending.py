"""A read that is under way: its hops 6 to 9 are started, and `result` is hop 10.

`read_selection` starts the read of one selection, hops 4 and 5 of which are plain;
`gpuzarr.many.read_batch` starts those of many.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from copy import copy as copied
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.engine import Output
from gpuzarr.engines.failures import combine
from gpuzarr.errors import ChunkError, ChunkFailure, GpuzarrError, MemoryLimitError, StoreError
from gpuzarr.few import read_few
from gpuzarr.locate import object_keys
from gpuzarr.plan.chunk_table import ChunkPlan, plan_chunks
from gpuzarr.read import EngineShare, Part, read_share
from gpuzarr.stores.mounted import original_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.engine import Conversion, DeviceArray, Engine, Landing, Session
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Store

    ReadError = ChunkError | StoreError

array_log = logging.getLogger("gpuzarr.array")
store_log = logging.getLogger("gpuzarr.store")
engine_log = logging.getLogger("gpuzarr.engine")

SHOWN_KEYS = 3
"""Objects that are named when none was found."""

SLOW_SECONDS = 10.0
"""A read that takes longer says, at INFO, where to look for the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A result that is read into memory of its own, since no view of `out` has its shape."""

    engine: Engine
    out: DeviceArray
    values: DeviceArray
    stream: Any


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What is to be read of an array, checked."""

    source: ArraySource
    selection: Selection
    conversion: Conversion


def read_selection(
    request: Request,
    out: DeviceArray | None = None,
    stopped: Callable[[], bool] | None = None,
    stream: Any = None,
) -> PendingRead:
    """Start to read one selection of one array.

    Args:
        request: what to read.
        out: where to write; exact shape and dtype, may be strided. None: a new C-contiguous array
            in native byte order.
        stopped: whether to give up the read; asked often, in any thread.
        stream: what the work is ordered on, on a device that has streams.
    """
    source, selection, conversion = request.source, request.selection, request.conversion
    array_log.debug("select: %s of %s", selection.shape, source.path or "/")
    engine = source.engine
    if out is None:
        out = engine.empty(selection.shape, conversion.result, stream)
    view = out.reshape(selection.canonical_shape)
    output = Output(view, source.fill, conversion)
    copies = copies_to(engine, out, view, selection.shape, stream)
    if not copies and stopped is None:
        landing = read_few(source, selection, output, stream)
        if landing is not None:
            return PendingRead((), out, landing=landing)
    plan = plan_chunks(selection, source.chunks, source.codecs.program.layout.dtype.itemsize)
    array_log.debug("plan: %d chunks", plan.nchunks)
    share = EngineShare(engine, (output,), (Part((source,), plan),), stream)
    return PendingRead((share,), out, copies=copies, stopped=stopped)


def copies_to(
    engine: Engine, out: DeviceArray, view: DeviceArray, shape: tuple[int, ...], stream: Any
) -> tuple[Copy, ...]:
    """What is to be done at last where `view`, a reshape of `out`, could not be a view of it."""
    if not view.size or np.may_share_memory(view, out):
        return ()
    return (Copy(engine, out, view.reshape(shape), stream),)


class NamedErrors:
    """Errors inside say which array they are about; lack of memory is an error of ours.

    A class, since every read begins with it, and a generator takes three times as long.
    """

    __slots__ = ("_path", "_store")

    def __init__(self, store: str | None, path: str | None) -> None:
        """Take the names of the store and of the array in it."""
        self._store, self._path = store, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """Name them."""
        if isinstance(error, GpuzarrError):
            error.at(store=self._store, path=self._path)
        elif isinstance(error, MemoryError):
            message = f"there is not enough memory for this selection: {error}"
            raise MemoryLimitError(message, store=self._store, path=self._path) from error


class PendingRead:
    """A read whose work is started; `result` waits for it, and says how it ended.

    Until then, only work that is ordered behind it on the same stream may use the output.
    """

    def __init__(  # noqa: PLR0913  all that a read may have
        self,
        shares: Sequence[EngineShare],
        result: Any,
        *,
        copies: Sequence[Copy] = (),
        landing: Landing | None = None,
        stopped: Callable[[], bool] | None = None,
        explain_failure: Callable[[ChunkFailure, Store], ChunkFailure] | None = None,
    ) -> None:
        """Start a read.

        Args:
            shares: what each engine does.
            result: what `result` gives.
            copies: what is to be done when all is there.
            landing: what else is to be waited for.
            stopped: whether to give up the read; asked often, in any thread.
            explain_failure: adds to a failure in a store what else is known of it, in reads of
                many selections.
        """
        self._began = time.perf_counter()
        self._shares = shares
        self._parts = [part for share in shares for part in share.parts]
        self._result = result
        self._copies = copies
        self._landing = landing
        self._stopped = stopped
        self._explain_failure = explain_failure
        self._missing = 0
        self._sessions: list[Session] | None = None if shares else []
        self._error: GpuzarrError | None = None
        self._done = False
        if shares:
            with suppress(ChunkError, StoreError):  # `result` looks whether it is worth another try
                self._sessions = self._start()

    def result(self) -> Any:
        """Wait for the read.

        Returns:
            The array that was read into, or the arrays; the same at every call.

        Raises:
            ChunkError: or one of its kinds, naming every failed chunk.
            StoreError: where the storage failed for all of them.
            DeviceError: the device failed.
        """
        if self._done:
            return self._result
        sources = [source for part in self._parts for source in part.sources]
        with NamedErrors(*common_place(sources)):
            if self._landing is not None:
                self._landing.wait()
            try:
                missing = self._finish()
            except (ChunkError, StoreError) as error:
                # A writer may have replaced shards whose indexes were read before: look once more.
                # Damage that is found again shall be told of the chunks that have it, not of their
                # neighbours.
                failed = _failed_keys(error)
                forgotten = [source.indexes.forget(failed) for source in sources]
                if not any(forgotten):
                    raise
                store_log.debug("locate: reading shard indexes again after: %s", error)
                self._sessions = self._start(careful=True)
                missing = self._finish()
        self._done = True
        for copy in self._copies:
            copy.engine.assign(copy.out, copy.values, copy.stream)
        self._tell(missing, sources)
        return self._result

    def _start(self, *, careful: bool = False) -> list[Session]:
        """Hops 6 to 9: a session for each engine."""
        sessions: list[Session] = []
        self._missing, self._error = 0, None
        try:
            for share in self._shares:
                session = share.engine.begin(share.outputs, share.stream, self._stopped)
                sessions.append(session)
                self._missing += read_share(share, session, self._stopped, careful=careful)
        except BaseException as error:
            self._give_up(sessions)
            if isinstance(error, (ChunkError, StoreError)):
                self._error = copied(error).with_traceback(None)  # which leads here: no circle
            raise
        return sessions

    def _finish(self) -> int:
        """Hop 10; gives the number of chunks that are not stored."""
        sessions = self._sessions
        if sessions is None:  # it failed, when it was started or when it was waited for
            raise self._error or RuntimeError("this read was given up")
        try:
            self._sessions = None
            missing = self._missing + self._finish_all(sessions)
        except BaseException as error:
            self._give_up(sessions)
            if isinstance(error, GpuzarrError):
                self._error = copied(error).with_traceback(None)  # which leads here: no circle
            raise
        whole = self._stopped is None or not self._stopped()
        for part in self._parts:
            for cache in part.caches:
                if whole:
                    cache.keep()
                else:  # not all of it was read
                    cache.forget()
        return missing

    def _finish_all(self, sessions: Sequence[Session]) -> int:
        missing = 0
        explain = self._explain_failure
        errors: list[GpuzarrError] = []
        failed: dict[object, ChunkFailure] = {}
        for share, session in zip(self._shares, sessions, strict=True):
            try:
                missing += session.finish()
            except (ChunkError, StoreError, MemoryLimitError) as error:
                if explain is None:  # of one selection, the engine's error says all
                    raise
                errors.append(error)
                if not isinstance(error, ChunkError):
                    _give_original_key(error, share.stores)
                    continue
                for mounted in error.failures:
                    failure, store = _original_failure(mounted, share.stores)
                    chunk = (id(store), failure.key, failure.coords)
                    if chunk not in failed:
                        failed[chunk] = explain(failure, store)
        if errors:
            raise combine(list(failed.values())) if failed else errors[0]
        return missing

    def _give_up(self, sessions: Sequence[Session]) -> None:
        """Nothing writes any more when this returns."""
        for session in sessions:
            session.abort()
        for part in self._parts:
            for cache in part.caches:
                cache.forget()

    def _tell(self, missing: int, sources: Sequence[ArraySource]) -> None:
        """Log what is worth it."""
        seconds = time.perf_counter() - self._began
        if engine_log.isEnabledFor(logging.DEBUG):
            nbytes = sum(output.array.nbytes for share in self._shares for output in share.outputs)
            engine_log.debug("finish: %d bytes in %.2f ms", nbytes, 1e3 * seconds)
        if seconds > SLOW_SECONDS:
            what = (sources[0].path or "/") if len(sources) == 1 else f"{len(sources)} arrays"
            message = "this read of %s took %.0f s; array.explain(key) tells what it did"
            array_log.info(message, what, seconds)
        if len(sources) == 1:
            plan = self._shares[0].parts[0].plan
            if isinstance(plan, ChunkPlan) and missing == plan.nchunks > 0:
                _tell_all_missing(sources[0], plan)


def common_place(sources: Sequence[ArraySource]) -> tuple[str | None, str | None]:
    """The store's name and the array's path, where there is one for all."""
    if len(sources) == 1:
        return sources[0].store.name, sources[0].path
    if not sources:  # of few chunks, which a landing is of
        return None, None
    names = {source.store.name for source in sources}
    paths = {source.path for source in sources}
    if len(names) > 1:
        return None, None
    return next(iter(names), None), next(iter(paths)) if len(paths) == 1 else None


def _original_failure(failure: ChunkFailure, stores: Sequence[Store]) -> tuple[ChunkFailure, Store]:
    """The failure with the key as it is in the store itself, and that store."""
    if len(stores) == 1:
        return failure, stores[0]
    number, key = original_key(failure.key)
    return replace(failure, key=key, store=stores[number].name), stores[number]


def _give_original_key(error: GpuzarrError, stores: Sequence[Store]) -> None:
    """Name the key as it is in the store itself, and that store."""
    if len(stores) > 1 and error.key is not None:
        number, error.key = original_key(error.key)
        error.store = stores[number].name


def _tell_all_missing(source: ArraySource, plan: ChunkPlan) -> None:
    """Say once that nothing was found: often the sign of a wrong path or of moved chunks."""
    if "all missing" in source.told or not array_log.isEnabledFor(logging.INFO):
        return
    source.told.add("all missing")
    keys = object_keys(source, plan.first_coords(SHOWN_KEYS))
    array_log.info(
        "none of the %d chunks of %s that were read is stored in %s, so every value is the fill"
        " value %r; looked for %s%s",
        plan.nchunks,
        source.path or "/",
        source.store.name,
        source.fill.item(),
        ", ".join(keys),
        "" if source.codecs.shard is not None else "; array.explain() looks under other keys",
    )


def _failed_keys(error: ReadError) -> set[str] | None:
    """The objects that an error is about; None where it names one for all."""
    if isinstance(error, StoreError):
        return None
    return {failure.key for failure in error.failures}

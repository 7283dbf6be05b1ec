"""Whole objects in memory, made once however many threads ask, bounded by bytes.

Two stores serve ranges out of objects that must be produced as a whole: `DecodedObjects`, and
`ZipStore` for compressed entries. A shard's hundred chunks are asked for by many threads at once;
each object is produced by the first of them, and the others wait for it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.stores.store import Blob


class ObjectCache:
    """The most recently used objects, up to a number of bytes."""

    def __init__(self, limit_nbytes: int) -> None:
        """Start empty; an object larger than `limit_nbytes` is given to its askers but not kept."""
        self.limit_nbytes = limit_nbytes
        self._state = _State()

    def __reduce__(self) -> tuple[object, ...]:
        return (ObjectCache, (self.limit_nbytes,))

    def get(
        self,
        key: str,
        make: Callable[[], Blob | None],
        is_current: Callable[[Blob], bool] = lambda _: True,
    ) -> Blob | None:
        """The object of `key`, from memory or from `make`, which one thread calls for all.

        One in memory is given only where `is_current` says that it is what is stored now.

        An error of `make` is raised in every thread that waited for it, and not remembered; nor is
        None, which says that there is no such object.
        """
        state = self._current()
        while True:
            kept = state.kept.get(key)
            current = kept is not None and is_current(kept)
            mine, making = False, _Making()
            try:
                with state.lock:
                    blob = state.kept.get(key)
                    if blob is not None and blob is kept and not current:
                        state.nbytes -= state.kept.pop(key).data.nbytes
                        blob = None
                    if blob is not None:
                        state.kept.move_to_end(key)
                        return blob
                    others = state.making.get(key)
                    if others is None:
                        mine = True  # no call between this line and the next, so no Ctrl-C either
                        state.making[key] = making
                if others is None:
                    making.blob = make()
                    with state.lock:
                        self._keep(state, key, making.blob)
                    return making.blob
            except BaseException as error:
                making.error = error
                raise
            finally:
                if mine:  # whatever happened: nobody may wait for ever
                    try:
                        state.making.pop(key)
                    finally:
                        making.under_way.release()
            with others.under_way:
                pass
            if isinstance(others.error, Exception):
                raise others.error
            if others.error is None:
                return others.blob
            # The thread that made it was interrupted (Ctrl-C), which is its own affair: try again.

    def holds(self, key: str) -> bool:
        """Whether the object is in memory, or about to be."""
        state = self._current()
        return key in state.kept or key in state.making

    def _keep(self, state: _State, key: str, blob: Blob | None) -> None:
        if blob is None or blob.data.nbytes > self.limit_nbytes:
            return
        state.kept[key] = blob
        state.nbytes += blob.data.nbytes
        while state.nbytes > self.limit_nbytes:
            _, oldest = state.kept.popitem(last=False)
            state.nbytes -= oldest.data.nbytes

    def _current(self) -> _State:
        # A forked child inherits the lock as some thread of the parent held it, and waits for
        # objects that nobody makes any more. It starts anew instead.
        state = self._state
        if state.process != os.getpid():
            state = self._state = _State()
        return state


class _State:
    """What belongs together in one process; replaced as a whole, so it needs no outer lock."""

    __slots__ = ("kept", "lock", "making", "nbytes", "process")

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.kept: OrderedDict[str, Blob] = OrderedDict()
        self.making: dict[str, _Making] = {}
        self.nbytes = 0


class _Making:
    """An object that some thread is making."""

    __slots__ = ("blob", "error", "under_way")

    def __init__(self) -> None:
        # A lock and no event: giving it back is one call of C, which Ctrl-C cannot come between.
        self.under_way = threading.Lock()
        self.under_way.acquire()
        self.blob: Blob | None = None
        self.error: BaseException | None = None

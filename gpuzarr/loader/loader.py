"""`Loader`: an array, or several, as batches of windows: shuffled, split among ranks, read ahead.

An epoch is a list of windows that is never written out: window number i of rank r is found by
arithmetic on (seed, epoch, i) alone, on every machine, so that resuming costs nothing and needs no
memory. Batches are read by one thread, some ahead, each as one `read_batch`.
"""

from __future__ import annotations

import operator
import os
import threading
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gpuzarr.chunk_cache import ChunkCache
from gpuzarr.errors import MemoryLimitError, SelectionError
from gpuzarr.loader.epoch import EpochRules, at_least
from gpuzarr.loader.explain import LoaderExplanation, explain_loader
from gpuzarr.loader.iteration import LoaderIterator, Progress
from gpuzarr.loader.prefetch import Prefetch
from gpuzarr.loader.reading import BatchReader, current_streams, window_requests
from gpuzarr.loader.variables import check_alike, check_given, find_variables, whole_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpuzarr.loader.tensors import ZarrIterableDataset
    from gpuzarr.loader.variables import Source

    Windows = Literal["grid", "random"] | Sequence[Any]

STATE_VERSION = 1

AHEAD_NBYTES = 64 << 20
"""Bytes of batches that are read ahead, if nobody says how many..."""
LEAST_AHEAD = 2
"""... which are at least so many, one that is made while the other is taken..."""
MOST_AHEAD = 8
"""... and at most so many: enough for batches that take longer than others."""


class Loader:
    """Batches of windows of an array, for training loops; iterating is one epoch.

    >>> array = gpuzarr.open_array(store, path="temperature")
    >>> loader = gpuzarr.Loader(array, crop=(2, 2), batch_size=4, shuffle=True, seed=7)
    >>> len(loader)
    2
    >>> [batch.shape for batch in loader]
    [(4, 2, 2), (2, 2, 2)]

    Each `iter()` is the next epoch, or goes on behind the last batch of one that was left early;
    `set_epoch` begins any. The order of the windows depends on `seed` and the epoch alone: it is
    the same on every machine, and every rank reads its own share of it. Batches are new arrays, on
    the device of the source; on a GPU all work is ordered on the stream that was current when the
    iteration began.

    A loader pickles with its position, and without its cache, for workers in other processes. After
    `fork()` the child makes iterators of its own. One iteration is active at a time: a new one ends
    the one before it.
    """

    def __init__(  # noqa: PLR0913  everything that one may wish
        self,
        source: Source,
        *,
        batch_size: int,
        crop: int | Sequence[int | None] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        windows: Windows = "grid",
        samples_per_epoch: int | None = None,
        dtype: Any = None,
        scale: Any = None,
        offset: Any = None,
        stride: int | Sequence[int] | None = None,
        locality: int | None = None,
        prefetch: int | None = None,
        cache_nbytes: int = 0,
        memory_limit: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        remainder: Literal["keep", "drop", "pad"] = "keep",
        drop_last: bool = False,
    ) -> None:
        """Choose windows; nothing is read.

        Args:
            source: an array; or several that are read at the same windows: a tuple or list (batches
                are tuples), or a mapping or group (batches are dicts; of a group, the arrays with
                as many dimensions as `crop` has). Arrays with fewer dimensions than the largest
                are cut by the last entries of `crop`.
            batch_size: windows in a batch.
            crop: elements of a window along each dimension; None or -1 for all of them.
            shuffle: the grid, or the given windows, in another order each epoch.
            seed: of the order and of random places.
            windows: "grid": all whole crops, `stride` apart; "random": `samples_per_epoch` places
                that are drawn anew each epoch; or a sequence of selections of one shape, as
                `array[key]` takes them.
            samples_per_epoch: for "random".
            dtype: of the batches; a mapping by name, or a sequence, chooses for each variable.
            scale: as in `Array.read`, or for each variable.
            offset: as in `Array.read`, or for each variable.
            stride: elements between windows of the grid; default `crop`.
            locality: windows lie in groups, those that begin in the same stored object (or in as
                many as a crop is long); the windows of so many groups are mixed at a time, so
                that chunks are used again while they are in the cache. None: windows are mixed
                over all of the array. `explain` shows what it saves.
            prefetch: batches that are read ahead; 0 reads in the consumer's thread. None: as many
                as 64 MiB hold, from 2 to 8, and not more than leave reading half of
                `memory_limit`. Many help where reading a batch takes about as long as working on
                one, and some take longer than others.
            cache_nbytes: memory, on the device, for decoded chunks that are kept between batches.
            memory_limit: bytes for batches read ahead, the cache and reading together, beyond the
                batch that the consumer has.
            rank: which share of the epoch this loader reads.
            world_size: number of shares.
            remainder: shares of unequal length are kept ("keep"), cut to the shortest ("drop"), or
                filled from the epoch's beginning ("pad"): with the last two all ranks have the
                same number of batches.
            drop_last: leave out a last batch that is not full.

        Raises:
            SelectionError: windows that do not fit into the array.
            MemoryLimitError: `memory_limit` is too small for what was asked for.
            UnsupportedError: a codec or conversion that is not available.
        """
        given = not isinstance(windows, str)
        ndim = None if given or crop is None else 1 if isinstance(crop, int) else len(crop)
        self._variables = find_variables(source, ndim, dtype=dtype, scale=scale, offset=offset)
        self._batch_size = at_least("batch_size", batch_size, 1)
        self._prefetch = None if prefetch is None else at_least("prefetch", prefetch, 0)
        self._cache_nbytes = at_least("cache_nbytes", cache_nbytes, 0)
        if given == (crop is not None):
            raise ValueError(
                "windows that are given have shapes of their own; leave crop= out"
                if given
                else "crop= says how large windows are; or give a sequence of selections"
            )
        largest = self._variables.largest
        whole = None if crop is None else whole_crop(crop, largest)
        if whole is not None:
            check_alike(self._variables, whole)
        if given:
            windows = tuple(windows)
            check_given(self._variables, windows)
        self._rules = EpochRules.make(
            largest,
            windows,
            crop=whole,
            stride=stride,
            samples=samples_per_epoch,
            shuffle=shuffle,
            seed=seed,
            locality=locality,
            rank=rank,
            world_size=world_size,
            remainder=remainder,
            batch_size=self._batch_size,
            drop_last=drop_last,
        )
        self._limit_memory(memory_limit)
        self._reset()

    def _reset(self) -> None:
        """Begin at the first epoch, with nothing read."""
        self._epoch, self._batch = 0, 0
        self._progress = Progress(0, 0, len(self), 0, 0, 0.0, 0.0)
        self._current: weakref.ref[LoaderIterator] | None = None
        self._own()

    def _own(self) -> None:
        """Have nothing in common with the process that this one was forked from."""
        self._end_before: Callable[[], None] | None = None
        self._caches: dict[int, ChunkCache] | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    # ------------------------------------------------------------------------------------ epochs

    def __len__(self) -> int:
        """Batches of an epoch, on this rank."""
        return self._rules.nbatches

    def __iter__(self) -> LoaderIterator:
        return self.iterate()

    def iterate(self, step: int = 1) -> LoaderIterator:
        """What `iter()` gives, or only each `step`-th batch of it: workers can share an epoch."""
        step = at_least("step", step, 1)
        if self._process != os.getpid():
            self._own()
        with self._lock:  # two readers at once would spoil the caches
            if self._end_before is not None:
                self._end_before()
            epoch, first = self._rules.epoch(self._epoch), min(self._batch, len(self))
            streams = current_streams(self._variables)
            caches, ahead = self._make_caches(streams), step if self.prefetch else 0
            read = BatchReader(self._variables, epoch, caches, streams, ahead)
            batches = Prefetch(read, first, len(self), self.prefetch, step)
            self._end_before = batches.end
            iterator = LoaderIterator(batches, self._variables, epoch, first, step, self._delivered)
            self._current = weakref.ref(iterator)
            self._delivered(iterator)
            return iterator

    def _delivered(self, iterator: LoaderIterator) -> None:
        """Remember how far the active iteration is; behind its last batch comes the next epoch."""
        if self._current is None or self._current() is not iterator:
            return
        self._progress = progress = iterator.progress
        self._epoch, self._batch = progress.epoch, progress.batches
        if progress.batches == progress.of:
            self._epoch, self._batch = progress.epoch + 1, 0

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Make the next `iter()` this epoch, from its beginning or from one of its batches."""
        self._epoch, self._batch = at_least("epoch", epoch, 0), at_least("batch", batch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer is: what `load_state_dict` needs to go on behind the last batch."""
        return {
            "version": STATE_VERSION,
            "epoch": self._epoch,
            "batch": self._batch,
            **self._rules.fingerprint(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next `iter()` go on where a loader was that gave this state.

        Raises:
            ValueError: it was of another order: other windows, seed, ranks or batches.
        """
        mine = {"version": STATE_VERSION, **self._rules.fingerprint()}
        differ = [name for name, value in mine.items() if state.get(name) != value]
        if differ:
            raise ValueError(
                "this state is of a loader with another "
                + ", ".join(f"{name} ({state.get(name)!r}, not {mine[name]!r})" for name in differ)
            )
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])

    @property
    def progress(self) -> Progress:
        """How far the current epoch is, and how fast; it prints."""
        return self._progress

    def explain(self, batches: int = 32) -> LoaderExplanation:
        """What reading an epoch does, from the plans of its first batches: a report that prints.

        Args:
            batches: so many are planned; nothing is read.
        """
        return explain_loader(
            self._rules.epoch(self._epoch),
            partial(window_requests, self._variables),
            batches=batches,
            cache_nbytes=self._cache_nbytes,
            prefetch=self.prefetch,
            batch_nbytes=self.batch_nbytes,
        )

    def __repr__(self) -> str:
        names = ", ".join(variable.array.name for variable in self._variables.all)
        return (
            f"<gpuzarr.Loader of {names}: {self._rules.length:,} windows in {len(self):,} batches"
            f" of {self._batch_size}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        kept = (
            *("_variables", "_batch_size", "_prefetch", "_cache_nbytes"),
            *("_rules", "_epoch", "_batch"),
        )
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        epoch, batch = self._epoch, self._batch
        self._reset()
        self._epoch, self._batch = epoch, batch

    # ----------------------------------------------------------------------------------- reading

    def read_windows(self, numbers: Sequence[int]) -> Any:
        """Read windows by their numbers in the epoch that comes next, as one batch and one read.

        Args:
            numbers: at least one, in any order; negative ones count from the end.

        Returns:
            What iterating gives, with the windows in this order.

        Raises:
            SelectionError: there is no such window.
        """
        length = self._rules.length
        wanted = [operator.index(number) for number in numbers]
        if not wanted or min(wanted) < -length or max(wanted) >= length:
            raise SelectionError(f"windows {wanted} are asked for, of {length:,}")
        streams = current_streams(self._variables)
        reader = BatchReader(self._variables, self._rules.epoch(self._epoch), {}, streams)
        return self._variables.batch(reader.read_windows([number % length for number in wanted]))

    def torch(self) -> ZarrIterableDataset:
        """The batches as PyTorch tensors, without a copy: a `torch.utils.data.IterableDataset`.

        It can be iterated as it is, and split among the workers of a `torch.utils.data.DataLoader`;
        see `gpuzarr.integrations.torch.ZarrIterableDataset`.
        """
        from gpuzarr.loader.tensors import ZarrIterableDataset  # noqa: PLC0415  imports PyTorch

        return ZarrIterableDataset(self)

    @property
    def devices(self) -> frozenset[str]:
        """Where the arrays of batches live: "cpu", "cuda:0", ..."""
        return frozenset(variable.array.device for variable in self._variables.all)

    @property
    def batch_nbytes(self) -> int:
        """Bytes of a full batch."""
        if not self._rules.length:
            return 0
        window = self._rules.epoch(0).windows(0, 1)
        requests = window_requests(self._variables, window)
        return self._batch_size * sum(
            request.selection.size * request.conversion.result.itemsize for request in requests
        )

    @property
    def prefetch(self) -> int:
        """Batches that are read ahead."""
        if self._prefetch is not None:
            return self._prefetch
        return max(LEAST_AHEAD, min(MOST_AHEAD, AHEAD_NBYTES // max(1, self.batch_nbytes)))

    def _limit_memory(self, limit: int | None) -> None:
        """Give what is left of the memory to reading."""
        if limit is None:
            return
        if self._prefetch is None:
            left = (limit - self._cache_nbytes) // 2
            self._prefetch = max(1, min(self.prefetch, left // max(1, self.batch_nbytes)))
        held = self._prefetch * self.batch_nbytes + self._cache_nbytes
        if held >= limit:
            raise MemoryLimitError(
                f"{self._prefetch} batches of {self.batch_nbytes:,} bytes and a cache of"
                f" {self._cache_nbytes:,} need more than memory_limit={limit:,}; lower prefetch=,"
                " batch_size= or cache_nbytes="
            )
        self._variables = replace(
            self._variables,
            all=tuple(
                replace(variable, array=variable.array.with_options(memory_limit=limit - held))
                for variable in self._variables.all
            ),
        )

    def _make_caches(self, streams: Mapping[str, Any]) -> dict[int, ChunkCache]:
        """A cache for each array, as large as its share of what a window needs."""
        if self._caches is None:
            self._caches = {}
            if self._cache_nbytes and self._rules.length:
                window = self._rules.epoch(0).windows(0, 1)
                requests = {id(r.source): r for r in window_requests(self._variables, window)}
                sizes = {
                    key: request.selection.size * request.conversion.stored.itemsize
                    for key, request in requests.items()
                }
                total = max(1, sum(sizes.values()))
                self._caches = {
                    key: ChunkCache(
                        request.source,
                        self._cache_nbytes * sizes[key] // total,
                        streams[request.source.engine.device],
                    )
                    for key, request in requests.items()
                }
        return self._caches

"""The readers of `batches.py`: each reads many crops of one array into one array, over and over.

A reader lives in a process of its own, since peers have settings and threads for the whole process,
and reads when it is told to through a pipe. Peers are set as their documentation recommends, or
better where something better was found; what that is stands in their functions.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import gpuzarr
from gpuzarr.engines.pool import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from numpy.typing import NDArray

    Key = tuple[slice, ...]
    Read = Callable[[], Any]


def one_call(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """`read_batch`."""
    array = gpuzarr.open_array(path)
    return lambda: gpuzarr.read_batch([(array, key) for key in keys], out=out)


def loop(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """A read for each crop, one after another; each may use all CPUs."""
    array = gpuzarr.open_array(path)

    def read() -> None:
        for row, key in enumerate(keys):
            array.read(key, out=out[row])

    return read


def pool(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """A read for each crop, in as many threads as there are CPUs, each of which uses one."""
    array = gpuzarr.open_array(path, threads=1)
    return in_threads(lambda row: array.read(keys[row], out=out[row]), len(keys), cpu_count())


def zarrs_loop(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """Crop after crop, straight into the rows, which saves a copy; zarrs uses all CPUs for each.

    Its settings are left alone: `chunk_concurrent_minimum` from 1 to 8 made no difference.
    """
    return zarr_loop(path, keys, out, pipeline="zarrs.ZarrsCodecPipeline")


def zarrs_pool(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """The same from twice as many threads as there are CPUs.

    That was the fastest: before twice as many threads with `threading.max_workers` of 1, and
    before `asyncio.gather` over the crops.
    """
    read = zarr_row(path, keys, out, pipeline="zarrs.ZarrsCodecPipeline")
    return in_threads(read, len(keys), 2 * cpu_count())


def zarr_loop(
    path: str, keys: Sequence[Key], out: NDArray[Any], *, pipeline: str | None = None
) -> Read:
    """Crop after crop with zarr-python, straight into the rows."""
    read_row = zarr_row(path, keys, out, pipeline=pipeline)

    def read() -> None:
        for row in range(len(keys)):
            read_row(row)

    return read


def zarr_row(
    path: str, keys: Sequence[Key], out: NDArray[Any], *, pipeline: str | None
) -> Callable[[int], Any]:
    """What reads one crop with zarr-python."""
    import zarr  # noqa: PLC0415  in this reader's process alone
    from zarr.buffer.cpu import NDBuffer  # noqa: PLC0415

    if pipeline is not None:
        # strict: an error where it would hand over to zarr-python's own pipeline.
        zarr.config.set({"codec_pipeline.path": pipeline, "codec_pipeline.strict": True})
    array = zarr.open_array(path, mode="r")
    rows = [NDBuffer.from_numpy_array(row) for row in out]
    return lambda row: array.get_basic_selection(keys[row], out=rows[row])


def tensorstore_batch(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """A read for each crop in one `Batch`, copied to its row while others are under way."""
    import tensorstore  # noqa: PLC0415  in this reader's process alone

    array = open_tensorstore(path)

    def read() -> None:
        with tensorstore.Batch() as batch:
            futures = [array[key].read(batch=batch) for key in keys]
        for row, future in zip(out, futures, strict=True):
            row[...] = future.result()

    return read


def tensorstore_stack(path: str, keys: Sequence[Key], out: NDArray[Any]) -> Read:
    """One copy of a virtual stack of all crops, which needs no results in between."""
    import tensorstore  # noqa: PLC0415  in this reader's process alone

    array = open_tensorstore(path)
    target = tensorstore.array(out)

    def read() -> None:
        crops = [array[key].translate_to[0, 0, 0] for key in keys]
        target.write(tensorstore.stack(crops)).result()

    return read


def open_tensorstore(path: str) -> Any:
    """The array, without a cache of chunks: rounds would find them decoded."""
    import tensorstore  # noqa: PLC0415

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    return tensorstore.open(spec, read=True).result()


def in_threads(read_row: Callable[[int], Any], count: int, nthreads: int) -> Read:
    """Read rows in threads that stay."""
    threads = ThreadPoolExecutor(nthreads)
    return lambda: list(threads.map(read_row, range(count)))


@dataclass(frozen=True)
class Reader:
    """One way to read crops."""

    name: str
    start: Callable[[str, Sequence[Key], NDArray[Any]], Read]
    needs: tuple[str, ...] = ()
    """Packages; without them this reader is left out."""

    @property
    def here(self) -> bool:
        """Whether it can run."""
        return all(find_spec(name) is not None for name in self.needs)


READERS = (
    Reader("gpuzarr read_batch", one_call),
    Reader("gpuzarr loop", loop),
    Reader("gpuzarr loop, threads", pool),
    Reader("zarrs loop", zarrs_loop, ("zarr", "zarrs")),
    Reader("zarrs loop, threads", zarrs_pool, ("zarr", "zarrs")),
    Reader("zarr-python loop", zarr_loop, ("zarr",)),
    Reader("tensorstore Batch", tensorstore_batch, ("tensorstore",)),
    Reader("tensorstore stack", tensorstore_stack, ("tensorstore",)),
)


class ReaderProcess:
    """A reader that waits to be told."""

    def __init__(self, reader: Reader, path: str, keys: Sequence[Key], dtype: str) -> None:
        """Start it."""
        self._name = reader.name
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (theirs, READERS.index(reader), path, keys, dtype)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._pipe.close()
        self._process.join()

    def digest(self) -> str:
        """Read once, and give the digest of the crops."""
        return str(self._ask("digest"))

    def seconds(self) -> tuple[float, float]:
        """Read once, and give how long it took, and the CPU time of all its threads."""
        elapsed, cpu = self._ask("seconds")
        return elapsed, cpu

    def _ask(self, what: str) -> Any:
        with suppress(BrokenPipeError):  # it failed before, and has told why
            self._pipe.send(what)
        failed, answer = self._pipe.recv()
        if failed:
            raise RuntimeError(f"{self._name} failed:\n{answer}")
        return answer


def serve(pipe: Connection, number: int, path: str, keys: Sequence[Key], dtype: str) -> None:
    """Read when told to, until the pipe is closed."""
    try:
        shape = tuple(part.stop - part.start for part in keys[0])
        out = np.full((len(keys), *shape), 0xA5, dtype)  # a place that is not written to shows
        read = READERS[number].start(path, keys, out)
        while True:
            what = pipe.recv()
            begin, cpu_begin = time.perf_counter(), time.process_time()
            read()
            taken = time.perf_counter() - begin, time.process_time() - cpu_begin
            pipe.send((False, taken if what == "seconds" else digest_of(out)))
    except EOFError:
        return
    except Exception:  # noqa: BLE001  told to whoever asked
        pipe.send((True, traceback.format_exc()))


def digest_of(crops: NDArray[Any]) -> str:
    """The digest of crops that lie one behind another."""
    return hashlib.sha256(crops.data).hexdigest()

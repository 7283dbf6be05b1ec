"""What the machine does at most: reads into pinned memory, copies, nvCOMP alone, checksums."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from gpu_bench import GB, KIB, MIB
from gpu_limit import Ceilings

from gpuzarr.engines.cuda import kvikio_reader
from gpuzarr.engines.cuda.device import Streams
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.kernels import COPY_TILE, WARPS
from gpuzarr.engines.pool import cpu_count
from tests.gpu.nvcomp_batch import ENCODERS, Batch, smooth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpu_bench import Bench
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.frames.streams import StreamTable

    Row = dict[str, Any]
    Measures = Iterator[tuple[str, Callable[[], Row]]]

READ = "file in the page cache to pinned memory, all cores"
UP = "pinned memory to device"
INSIDE = "inside the device, kernel copy_ranges"
BY_DRIVER = "inside the device, CuPy's copy"
PIECE = 1 << 20
"""Bytes of one read of a file."""


class WrongDataError(Exception):
    """What came out is not what it has to be."""


def rate(bench: Bench, start: Callable[[], object], nbytes: int) -> Row:
    """How fast something moves so many bytes."""
    taken = bench.seconds(start)
    return {"GB/s": nbytes / taken / GB, "ms": 1e3 * taken}


def read_files(bench: Bench, file: Path) -> Row:
    """A file in the page cache to pinned memory, a piece at a time, by all cores."""
    nbytes, threads = bench.size.copy, cpu_count()
    file.write_bytes(np.random.default_rng(0).bytes(nbytes))
    pinned = bench.pinned(nbytes)
    places = [(start, min(PIECE, nbytes - start)) for start in range(0, nbytes, PIECE)]
    descriptor = os.open(file, os.O_RDONLY)

    def run(every: Sequence[tuple[int, int]]) -> None:
        for start, size in every:
            view = memoryview(pinned)[start : start + size]
            while view:
                view = view[os.preadv(descriptor, [view], start + size - len(view)) :]

    with ThreadPoolExecutor(threads) as pool:
        runs = [places[i::threads] for i in range(threads)]
        found = rate(bench, lambda: list(pool.map(run, runs)), nbytes)
    os.close(descriptor)
    if pinned.tobytes() != file.read_bytes():
        raise WrongDataError
    return {**found, "threads": threads}


def read_by_kvikio(bench: Bench, file: Path) -> Row:
    """A file to device memory."""
    import kvikio  # noqa: PLC0415  where there is none, the row is not asked for

    nbytes = bench.size.copy
    file.write_bytes(np.random.default_rng(0).bytes(nbytes))
    memory = bench.memory(nbytes)
    with kvikio.CuFile(str(file), "r") as opened:
        buffer = bench.device.buffer(memory.address, nbytes)
        found = rate(bench, lambda: opened.pread(buffer, nbytes).get(), nbytes)
    if bench.get(memory.address, nbytes).tobytes() != file.read_bytes():
        raise WrongDataError
    return {**found, "GPUDirect Storage": kvikio_reader.gds_available()}


def copy_up(bench: Bench) -> Row:
    """Pinned memory to the device."""
    pinned, memory = bench.pinned(bench.size.copy), bench.memory(bench.size.copy)

    def start() -> None:
        bench.device.upload(pinned, memory.address, bench.stream)

    return rate(bench, start, bench.size.copy)


def copy_down(bench: Bench) -> Row:
    """The device to pinned memory."""
    pinned, memory = bench.pinned(bench.size.copy), bench.memory(bench.size.copy)

    def start() -> None:
        bench.device.download(memory.address, pinned, bench.stream)

    return rate(bench, start, bench.size.copy)


def copy_inside(bench: Bench) -> Row:
    """Device memory to other device memory, by the kernel that gpuzarr copies with."""
    nbytes = bench.size.copy
    memory, other = bench.memory(nbytes), bench.memory(nbytes)
    blocks = -(-nbytes // COPY_TILE)
    table, at, _ = bench.table(memory.address, other.address, nbytes, [0, blocks])

    def start() -> None:
        bench.device.launch("copy_ranges", blocks, (*at, 1), bench.stream)

    found = rate(bench, start, nbytes)
    del table
    return found


def copy_by_driver(bench: Bench) -> Row:
    """The same by CuPy."""
    nbytes = bench.size.copy
    source, target = (bench.xp.zeros(nbytes, bench.xp.uint8) for _ in range(2))

    def start() -> None:
        target[...] = source

    return rate(bench, start, nbytes)


def ceilings(bench: Bench, folder: Path) -> Measures:
    """Reads of files, copies to the device, from it, and inside it; each byte is counted once."""
    file = folder / "ceiling"
    yield READ, lambda: read_files(bench, file)
    if bench.real and kvikio_reader.unavailable() is None:
        yield "file in the page cache to device, kvikio", lambda: read_by_kvikio(bench, file)
    yield UP, lambda: copy_up(bench)
    yield "device to pinned memory", lambda: copy_down(bench)
    yield INSIDE, lambda: copy_inside(bench)
    yield BY_DRIVER, lambda: copy_by_driver(bench)
    file.unlink(missing_ok=True)
    bench.give_back()


def measured(rows: Sequence[Row]) -> Ceilings:
    """The ceilings of rows that were measured.

    Raises:
        LookupError: some were not.
    """
    found = {row["name"]: row["GB/s"] * GB for row in rows if "GB/s" in row}
    missing = {READ, UP, INSIDE} - set(found)
    if missing:
        raise LookupError(f"ceilings are not known: {', '.join(sorted(missing))}")
    return Ceilings(found[READ], found[UP], 2 * max(found[INSIDE], found.get(BY_DRIVER, 0)))


# --------------------------------------------------------------------------------- nvCOMP alone


class Alone:
    """Stored chunks on the device, whose streams can be decoded as often as one likes.

    Args:
        bench: the device.
        name: of the chunks' format, as `walk_frames` knows it.
        chunks: as they are stored.
        nbytes: bytes that each decodes to.

    Raises:
        WrongDataError: chunks that the device cannot decode.
    """

    def __init__(self, bench: Bench, name: str, chunks: Sequence[bytes], nbytes: int) -> None:
        self._bench, self._room = bench, -(-nbytes // 16) * 16
        sizes = np.array([len(chunk) for chunk in chunks], np.int64)
        places = np.cumsum(-(-sizes // 16) * 16) - -(-sizes // 16) * 16
        data = np.zeros(int(places[-1] + sizes[-1]) + 64, np.uint8)
        for place, chunk in zip(places.tolist(), chunks, strict=True):
            data[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
        frames = walk_frames(name, EncodedChunks(data, places, sizes, 0 * sizes + nbytes))
        if frames.failures or frames.host:
            raise WrongDataError({**frames.failures, **frames.host})
        self._source = bench.memory(len(data))
        bench.put(data, self._source.address)
        self._target = bench.memory(self._room * len(chunks))
        self._calls = [self._call(form, table) for form, table in frames.streams.items()]
        tables = frames.streams.values()
        self.streams = sum(len(table) for table in tables)
        self.nbytes = sum(int(table.nbytes.sum() + table.decoded.sum()) for table in tables)
        """Bytes of all streams, encoded and decoded."""

    def _call(self, form: str, table: StreamTable) -> tuple[str, StreamTable, Any, Streams, Any]:
        n = len(table)
        columns = (
            self._source.address + table.source,
            table.nbytes,
            self._target.address + self._room * table.chunk + table.target,
            table.decoded,
        )
        memory, at, behind = self._bench.table(*columns, room=16 * n)
        streams = Streams(n, *at, actual=behind, status=behind + 8 * n)
        temp = None
        if form != "blosclz":
            count = max(n, int(table.blocks.sum())) if form == "zstd" else n
            sizes = int(table.decoded.max()), int(table.decoded.sum())
            temp = self._bench.memory(
                max(8, self._bench.device.decompressor.temp_nbytes(form, count, *sizes))
            )
        return form, table, memory, streams, temp

    def start(self) -> None:
        """Put the decoding of all streams on the stream."""
        device, stream = self._bench.device, self._bench.stream
        for form, table, _, streams, temp in self._calls:
            if temp is None:
                columns = (streams.source, streams.nbytes, streams.target, streams.capacity)
                blocks = -(-streams.count // WARPS)
                arguments = (*columns, streams.actual, streams.status, streams.count)
                device.launch("blosclz", blocks, arguments, stream)
            else:
                device.decompressor.decompress(
                    form,
                    streams,
                    most=int(table.decoded.max()),
                    temp=temp.address,
                    temp_nbytes=temp.nbytes,
                    stream=stream,
                )

    def check(self) -> None:
        """Every stream was decoded to its size.

        Raises:
            WrongDataError: one was not.
        """
        for _, table, _, streams, _ in self._calls:
            status = self._bench.get(streams.status, 4 * streams.count).view(np.int32)
            actual = self._bench.get(streams.actual, 8 * streams.count).view(np.int64)
            if status.any() or (actual != table.decoded).any():
                raise WrongDataError("nvCOMP did not decode every stream")

    def decoded(self, chunk: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """What the streams of a chunk were decoded to: the first byte in the chunk, and bytes."""
        for _, table, *_ in self._calls:
            for row in np.flatnonzero(table.chunk == chunk).tolist():
                begin, size = int(table.target[row]), int(table.decoded[row])
                place = self._target.address + self._room * chunk + begin
                yield begin, self._bench.get(place, size)


def decompression(bench: Bench) -> Measures:
    """nvCOMP alone by the size of its streams, with everything on the device before."""
    for name in ("zstd", "lz4", "deflate"):
        for nbytes, count in ((64 * KIB, None), (MIB, None), (MIB, 8)):
            streams = max(1, count or bench.size.decoded // nbytes)
            text = f"{nbytes // KIB} KiB" if nbytes < MIB else f"{nbytes // MIB} MiB"

            def measure(name: str = name, nbytes: int = nbytes, streams: int = streams) -> Row:
                data = [smooth(nbytes, seed) for seed in range(min(streams, 16))]
                encoded = [ENCODERS[name](part) for part in data]
                all_of_them = list(itertools.islice(itertools.cycle(encoded), streams))
                batch = Batch(name, all_of_them, [nbytes] * streams)
                found = rate(bench, batch.run, nbytes * streams)
                outcome = batch.outcome()
                if any(out != data[i % len(data)] for i, out in enumerate(outcome.data)):
                    raise WrongDataError
                ratio = sum(map(len, encoded)) / (nbytes * len(encoded))
                temp = batch.temp_nbytes / MIB
                return {**found, "streams": streams, "stored / decoded": ratio, "temp, MiB": temp}

            yield f"{name}, {streams:,} streams of {text}", measure


def checksums(bench: Bench) -> Measures:
    """CRC-32C of the same bytes on the host and on the device."""
    nbytes = bench.size.decoded
    data = np.frombuffer(np.random.default_rng(0).bytes(nbytes), np.uint8)

    def host(each: int) -> Row:
        def compute() -> None:
            for start in range(0, nbytes, each):
                google_crc32c.value(data[start : start + each])

        return rate(bench, compute, nbytes)

    def on_device(each: int) -> Row:
        count = nbytes // each
        memory = bench.memory(nbytes)
        bench.put(data, memory.address)
        starts = memory.address + each * np.arange(count)
        table, (source, sizes), value = bench.table(starts, np.full(count, each), room=4 * count)

        def compute() -> None:
            bench.device.decompressor.checksum(
                "crc32c",
                source=source,
                nbytes=sizes,
                count=count,
                most=each,
                value=value,
                stream=bench.stream,
            )

        found = rate(bench, compute, nbytes)
        values = bench.get(value, 4 * count).view(np.uint32).tolist()
        del table
        if values != [google_crc32c.value(data[each * i : each * (i + 1)]) for i in range(count)]:
            raise WrongDataError
        return found

    for each in (64 * KIB, MIB):
        text = f"chunks of {each // KIB} KiB"
        yield f"host, one core, {text}", lambda each=each: host(each)  # type: ignore[misc]
        yield f"device (nvCOMP), {text}", lambda each=each: on_device(each)  # type: ignore[misc]

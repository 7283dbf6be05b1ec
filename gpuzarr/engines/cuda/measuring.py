"""Measures how fast both sides decode, for `gpuzarr calibrate`: a few seconds.

The host decodes chunks with the decoders that reads use. The device is given streams as a walk over
such chunks finds them, through the seam that reads use: once a single chunk, whose largest stream
tells the rate of one, and once as many as make the device busy, which take that long and a time for
each byte on top. What a batch and a chunk cost the engine itself is not measured.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numcodecs
import numpy as np
import zstandard

from gpuzarr.engines.cuda.device import Streams
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.cuda.tuning import DEFAULTS, CodecRates, Rates
from gpuzarr.engines.pool import cpu_count, do_all
from gpuzarr.errors import DeviceError
from gpuzarr.program import DecodeProgram, Decompress, Layout, Unshuffle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Memory
    from gpuzarr.engines.cuda.frames.streams import StreamFormat, StreamTable
    from gpuzarr.engines.cuda.staging import DecoderFor, HostDecoder
    from gpuzarr.program import Step

CHUNK_NBYTES = 1 << 20
TOTAL_NBYTES = 1 << 28
"""Decoded bytes that make the device busy, where a quarter of what is free suffices for them."""
TEMP_FACTOR = 8
"""Device memory that decoding takes, for each decoded byte, and rather too much."""
SAMPLE_S = 0.05
"""How long something is done again and again; the shortest time counts."""
LEAST_S = 1e-9
LEAST_SHARE = 0.1
"""Of the time of many streams, what bytes take at least, beside the largest stream."""

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    "gzip": lambda data: gzip.compress(data, 5),
    "zlib": lambda data: zlib.compress(data, 5),
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data)),
    # What is inside nobody knows before a read, so the slower of what is common on the host.
    "blosc": lambda data: bytes(numcodecs.Blosc("zstd", 5, 1).encode(np.frombuffer(data, "<i4"))),
}


def measure(device: Device, decoder_for: DecoderFor, total_nbytes: int = TOTAL_NBYTES) -> Rates:
    """How fast this machine is.

    Args:
        device: a GPU.
        decoder_for: prepares the host's decoders.
        total_nbytes: decoded bytes that make the device busy.

    Raises:
        DeviceError: the device does not decode what it is given.
    """
    nbytes = min(CHUNK_NBYTES, total_nbytes)
    total = min(total_nbytes, device.free_nbytes() // (4 * TEMP_FACTOR))
    count = max(2, total // nbytes)
    sample = _sample(nbytes)
    codecs = {}
    for name, encode in ENCODERS.items():
        encoded = encode(sample)
        host = _host_rate(Decompress(name), encoded, nbytes, decoder_for)  # type: ignore[arg-type]
        codecs[name] = CodecRates(host, *_device_rates(device, name, encoded, nbytes, count))
    shuffled = Unshuffle(4)
    zstd = _decoding(Decompress("zstd"), ENCODERS["zstd"](sample), nbytes, decoder_for)
    return replace(
        DEFAULTS,
        codecs=codecs,
        further_core=_further_core(zstd),
        filters=_host_rate(shuffled, sample, nbytes, decoder_for),
        upload=_upload_rate(device, total),
        read=_read_rate(nbytes),
    )


def _sample(nbytes: int) -> bytes:
    """Numbers that change slowly, as measured ones do: zstd makes a quarter of them."""
    steps = np.random.default_rng(0).integers(-3, 4, nbytes // 4, np.int32)
    return np.cumsum(steps, dtype=np.int32).tobytes()


def _best(work: Callable[[], object]) -> float:
    """The shortest of the times that something takes, in seconds."""
    work()
    best, end = float("inf"), perf_counter() + SAMPLE_S
    while perf_counter() < end or best == float("inf"):
        begin = perf_counter()
        work()
        best = min(best, perf_counter() - begin)
    return max(best, LEAST_S)


# ------------------------------------------------------------------------------------------ host


def _decoding(
    step: Step, encoded: bytes, nbytes: int, decoder_for: DecoderFor
) -> Callable[[], object]:
    """What decodes a chunk."""
    layout = Layout(np.dtype("<i4"), (0,))
    decoder: HostDecoder = decoder_for(DecodeProgram((step,), layout), (nbytes // 4,))
    return lambda: decoder.decode_bytes(memoryview(encoded), 1, memoryview(bytearray(nbytes)))


def _host_rate(step: Step, encoded: bytes, nbytes: int, decoder_for: DecoderFor) -> float:
    """Bytes a second of one core."""
    return nbytes / _best(_decoding(step, encoded, nbytes, decoder_for))


def _further_core(work: Callable[[], object]) -> float:
    """What another core adds, by what all of them do."""
    cores = cpu_count()
    if cores == 1:
        return DEFAULTS.further_core
    one = _best(work)

    def run(_: int) -> None:
        work()

    every = _best(partial(do_all, run, range(4 * cores))) / 4
    return float(np.clip((cores * one / every - 1) / (cores - 1), 0.05, 1.0))


def _read_rate(nbytes: int) -> float:
    """Bytes a second of one thread from the page cache."""
    memory = bytearray(nbytes)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(memory)

        def read() -> None:
            file.seek(0)
            file.readinto(memory)

        return nbytes / _best(read)


# ---------------------------------------------------------------------------------------- device


def _upload_rate(device: Device, nbytes: int) -> float:
    """Bytes a second from pinned memory to the device."""
    source, target = device.pin(nbytes).array, device.allocate(nbytes, device.copy_stream)
    source[:] = 0
    upload = partial(device.upload, source, target.address, device.copy_stream)
    return nbytes / _seconds(device, upload, device.copy_stream)


def _seconds(device: Device, start: Callable[[], object], stream: object, rounds: int = 3) -> float:
    """The shortest time of work on a stream, on the device's clock; once is not timed."""
    found = []
    for _ in range(1 + rounds):
        begin = device.record(stream, timed=True)
        start()
        end = device.record(stream, timed=True)
        end.wait()
        found.append(end.seconds_since(begin))
    return max(min(found[1:]), LEAST_S)


def _device_rates(
    device: Device, codec: str, encoded: bytes, nbytes: int, count: int
) -> tuple[float, float]:
    """Decoded bytes a second of one stream, and of many."""
    largest, one_s = _decode(device, codec, [encoded], nbytes)
    _, many_s = _decode(device, codec, [encoded] * count, nbytes)
    return largest / one_s, nbytes * count / max(many_s - one_s, LEAST_SHARE * many_s)


def _decode(device: Device, codec: str, chunks: list[bytes], nbytes: int) -> tuple[int, float]:
    """Decode chunks on the device; gives the bytes of the largest stream, and the seconds."""
    sizes = np.array([len(chunk) for chunk in chunks], np.int64)
    data = np.frombuffer(b"".join(chunks), np.uint8)
    offset, decoded = np.cumsum(sizes) - sizes, np.full(len(chunks), nbytes)
    frames = walk_frames(codec, EncodedChunks(data, offset, sizes, decoded))
    if frames.failures or frames.host:
        why = frames.failures or frames.host
        raise DeviceError(f"{device.name} cannot be given {codec}: {why}")
    largest, seconds = 1, LEAST_S
    for name, table in frames.streams.items():
        largest = max(largest, int(table.decoded.max()))
        seconds += _Call(device, name, table, data).seconds()
    return largest, seconds


class _Call:
    """One call of nvCOMP, with all that it needs on the device."""

    def __init__(
        self, device: Device, name: StreamFormat, table: StreamTable, data: NDArray[np.uint8]
    ) -> None:
        self._device, self._name, self._table = device, name, table
        self._stream = device.current_stream()
        self._kept: list[Memory] = []
        count = len(table)
        place, source_nbytes = slots(table.nbytes)
        packed = np.zeros(source_nbytes, np.uint8)
        for begin, start, size in zip(place, table.source, table.nbytes, strict=True):
            packed[begin : begin + size] = data[start : start + size]
        target, target_nbytes = slots(table.decoded)
        self._streams = Streams(
            count,
            source=self._column(self._put(packed) + place),
            nbytes=self._column(table.nbytes),
            target=self._column(self._take(target_nbytes) + target),
            capacity=self._column(table.decoded),
            actual=self._take(8 * count),
            status=self._take(4 * count),
        )
        most, total = int(table.decoded.max()), int(table.decoded.sum())
        blocks = max(count, int(table.blocks.sum()))
        self._temp_nbytes = device.decompressor.temp_nbytes(name, blocks, most, total)
        self._temp = self._take(self._temp_nbytes)
        self._most = most

    def seconds(self) -> float:
        """How long it takes.

        Raises:
            DeviceError: a stream was not decoded.
        """
        seconds = _seconds(self._device, self._start, self._stream)
        status = self._device.pin(4 * self._streams.count).array
        self._device.download(self._streams.status, status, self._stream)
        self._device.record(self._stream).wait()
        if status.any():
            raise DeviceError(f"{self._device.name} does not decode {self._name} as it should")
        return seconds

    def _start(self) -> None:
        self._device.decompressor.decompress(
            self._name,
            self._streams,
            most=self._most,
            temp=self._temp,
            temp_nbytes=self._temp_nbytes,
            stream=self._stream,
        )

    def _take(self, nbytes: int) -> int:
        memory = self._device.allocate(max(nbytes, 1), self._stream)
        self._kept.append(memory)
        return memory.address

    def _column(self, values: NDArray[np.int64]) -> int:
        return self._put(values.view(np.uint8))

    def _put(self, values: NDArray[np.uint8]) -> int:
        """Upload bytes, and wait."""
        address = self._take(len(values))
        pinned = self._device.pin(len(values)).array
        pinned[:] = values
        self._device.upload(pinned, address, self._stream)
        self._device.record(self._stream).wait()
        return address

"""Throughput on a GPU: the ceilings of the machine, nvCOMP alone, whole reads, and checksums.

Needs the checkout on PYTHONPATH, as `gpu_check.sh` has it. Whole reads are compared with decoding
on the CPU, straight into pinned memory, and uploading the result, in turn. Results are kept row by
row, so that a run that is ended keeps what it had; what fails is a row too. `--describe` writes
only what the machine is; `--fake` rehearses in the host's memory, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from counted_device import counted
from gpu_layouts import field, written
from gpu_machine import describe
from gpu_results import Results
from report import write_json

import gpuzarr
from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.kernels import COPY_TILE
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.gpu.nvcomp_batch import ENCODERS, Batch, smooth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.engines.cuda.device import Device

    Row = dict[str, Any]

KIB, MIB, GB = 1 << 10, 1 << 20, 1e9


@dataclass(frozen=True)
class Size:
    """How much is moved."""

    copy: int
    """Bytes of copies, of checksums, and of what nvCOMP decodes."""
    chunks: int
    """Along a side of the square array."""
    rounds: int


REAL, FAKE = Size(256 * MIB, 16, 9), Size(2 * MIB, 1, 2)


# ------------------------------------------------------------------------------------- measuring


@dataclass
class Bench:
    """A device, and what every measurement needs of it."""

    device: Device
    size: Size
    real: bool

    def __post_init__(self) -> None:
        """Make memory for copies, full of what does not compress."""
        self.stream = self.device.current_stream()
        self.pool = SlabPool(self.device)
        self.slab = self.pool.take(self.size.copy)
        self.slab.array[:] = np.frombuffer(np.random.default_rng(0).bytes(self.size.copy), np.uint8)
        self.memory = self.device.allocate(self.size.copy, self.stream)
        self.upload(self.slab.array, self.memory.address)

    def wait(self) -> None:
        """Until the device is done."""
        self.device.record(self.stream).wait()

    def upload(self, source: Any, target: int) -> None:
        """Copy, and wait."""
        self.device.upload(source, target, self.stream)
        self.wait()

    def table(self, *columns: Any, room: int = 0) -> tuple[Any, int]:
        """Columns of 64-bit numbers on the device, and memory behind them; and its address."""
        words = np.concatenate([np.asarray(column, np.int64) for column in columns])
        memory = self.device.allocate(words.nbytes + room + 64, self.stream)
        slab = self.pool.take(words.nbytes)
        slab.array[:] = words.view(np.uint8)
        self.upload(slab.array, memory.address)
        slab.give_back()
        return memory, memory.address

    def seconds(self, run: Callable[[], None]) -> float:
        """The median time of a run that waits for the device; one untimed run goes first."""
        run()
        times = []
        for _ in range(self.size.rounds):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def rate(self, run: Callable[[], None], nbytes: int) -> Row:
        """How fast a run moves its bytes."""
        taken = self.seconds(run)
        return {"GB/s": nbytes / taken / GB, "ms": 1e3 * taken}


def ceilings(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Copies to the device, from it, and inside it; each byte is counted once."""
    device, nbytes = bench.device, bench.size.copy

    def up() -> None:
        bench.upload(bench.slab.array, bench.memory.address)

    def down() -> None:
        device.download(bench.memory.address, bench.slab.array, bench.stream)
        bench.wait()

    def inside() -> Row:
        other = device.allocate(nbytes, bench.stream)
        blocks = -(-nbytes // COPY_TILE)
        table, at = bench.table([bench.memory.address], [other.address], [nbytes], [0, blocks])

        def copy() -> None:
            arguments = (at, at + 8, at + 16, at + 24, 1)
            device.launch("copy_ranges", blocks, arguments, bench.stream)
            bench.wait()

        found = bench.rate(copy, nbytes)
        del table
        return found

    def by_driver() -> Row:
        import cupy  # noqa: PLC0415  there is none on the fake device

        source, target = cupy.zeros(nbytes, cupy.uint8), cupy.empty(nbytes, cupy.uint8)

        def copy() -> None:
            target[...] = source
            bench.wait()

        return bench.rate(copy, nbytes)

    yield "pinned memory to device", lambda: bench.rate(up, nbytes)
    yield "device to pinned memory", lambda: bench.rate(down, nbytes)
    yield "inside the device, kernel copy_ranges", inside
    if bench.real:
        yield "inside the device, CuPy's copy", by_driver


def decompression(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """nvCOMP alone, with everything on the device before."""
    for name in ("zstd", "lz4", "deflate"):
        for nbytes, count in ((64 * KIB, None), (MIB, None), (MIB, 8)):
            streams = max(1, count or bench.size.copy // nbytes)
            text = f"{nbytes // KIB} KiB" if nbytes < MIB else f"{nbytes // MIB} MiB"

            def measure(name: str = name, nbytes: int = nbytes, streams: int = streams) -> Row:
                data = [smooth(nbytes, seed) for seed in range(min(streams, 16))]
                encoded = [ENCODERS[name](part) for part in data]
                batch = Batch(
                    name, [encoded[i % len(encoded)] for i in range(streams)], [nbytes] * streams
                )
                found = bench.rate(batch.run, nbytes * streams)
                outcome = batch.outcome()
                if any(out != data[i % len(data)] for i, out in enumerate(outcome.data)):
                    raise ValueError("wrong data")
                ratio = sum(map(len, encoded)) / (nbytes * len(encoded))
                temp = batch.temp_nbytes / MIB
                return {**found, "streams": streams, "stored / decoded": ratio, "temp, MiB": temp}

            yield f"{name}, {streams:,} streams of {text}", measure


def checksums(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """CRC-32C of the same bytes on the host and on the device."""
    data, nbytes = bench.slab.array, bench.size.copy

    def host(each: int) -> Row:
        def compute() -> None:
            for start in range(0, nbytes, each):
                google_crc32c.value(data[start : start + each])

        return bench.rate(compute, nbytes)

    def on_device(each: int) -> Row:
        count = nbytes // each
        starts = bench.memory.address + each * np.arange(count)
        bench.upload(data, bench.memory.address)
        table, at = bench.table(starts, np.full(count, each), room=4 * count)
        value = at + 16 * count

        def compute() -> None:
            bench.device.decompressor.checksum(
                "crc32c",
                source=at,
                nbytes=at + 8 * count,
                count=count,
                most=each,
                value=value,
                stream=bench.stream,
            )
            bench.wait()

        found = bench.rate(compute, nbytes)
        slab = bench.pool.take(4 * count)
        bench.device.download(value, slab.array, bench.stream)
        bench.wait()
        values = slab.array.view(np.uint32).tolist()
        expected = [google_crc32c.value(data[each * i : each * (i + 1)]) for i in range(count)]
        del table
        if values != expected:
            raise ValueError("wrong checksums")
        return found

    for each in (64 * KIB, MIB):
        yield (
            f"host, one core, chunks of {each // KIB} KiB",
            lambda each=each: host(each),  # type: ignore[misc]
        )
        yield (
            f"device (nvCOMP), chunks of {each // KIB} KiB",
            lambda each=each: on_device(each),  # type: ignore[misc]
        )


def reads(bench: Bench, folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Whole reads of each layout from files in the page cache, in turn with the CPU's."""
    numbers = field(bench.size.chunks)
    for name, place, write in written(numbers, folder):

        def measure(place: Path = place, write: Callable[[], int] = write) -> Row:
            stored = write()
            try:
                return {
                    "stored / decoded": stored / numbers.nbytes,
                    **compare(bench, place, numbers),
                }
            finally:
                shutil.rmtree(place)

        yield name, measure


def compare(bench: Bench, place: Path, numbers: np.ndarray[Any, Any]) -> Row:
    """Read an array with gpuzarr on the GPU, and on the CPU with an upload behind it."""
    on_device, on_host = (gpuzarr.open_array(place, device=name) for name in ("cuda", "cpu"))
    memory = bench.device.allocate(numbers.nbytes, bench.stream)
    slab = bench.pool.take(numbers.nbytes)
    pinned = slab.array.view(numbers.dtype).reshape(numbers.shape)

    def by_cpu() -> None:
        on_host.read(out=pinned)
        bench.upload(slab.array, memory.address)

    result: Any = on_device[...]
    by_cpu()
    for found in (result.get() if bench.real else result, pinned):
        if not np.array_equal(found, numbers):
            raise ValueError("wrong values")
    del result
    times, others = [], []
    for _ in range(bench.size.rounds):
        begin = time.perf_counter()
        on_device[...]
        between = time.perf_counter()
        by_cpu()
        times.append(between - begin)
        others.append(time.perf_counter() - between)
    slab.give_back()
    ratios = [other / own for own, other in zip(times, others, strict=True)]
    with counted() as device:
        gpuzarr.open_array(place, device="cuda")[...]
    return {
        "GB/s": numbers.nbytes / statistics.median(times) / GB,
        "CPU + upload, GB/s": numbers.nbytes / statistics.median(others) / GB,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "launches": device.counts["launches"],
        "nvCOMP calls": device.counts["nvCOMP calls"],
        "copies": device.counts["copies"],
        "MiB up": device.counts["bytes up"] / MIB,
        "beyond the result, MiB": device.peak / MIB,
        "engine": on_device.engine,
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--seconds", type=float, default=420, help="begin nothing new after them")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    machine = describe()
    if arguments.describe:
        write_json(arguments.json, machine)
        print("\n".join(f"{name}: {value}" for name, value in machine.items()))
        return
    if arguments.fake:
        from tests.engines.cuda.fake_device import FakeDevice  # noqa: PLC0415

        fake = FakeDevice(free=1 << 32)
        availability.open_device = lambda _: fake
    results = Results(arguments.json, arguments.seconds, {"machine": machine})
    device = availability.open_device(None)
    bench = Bench(device, FAKE if arguments.fake else REAL, not arguments.fake)
    print(f"{device.name}, {device.decompressor.version}, {'; '.join(machine['gpus'])}")
    rates = ("GB/s", "ms")
    with tempfile.TemporaryDirectory() as folder:
        for section, measures, heads in (
            ("ceilings", ceilings(bench), rates),
            ("decompression", decompression(bench), (*rates, "stored / decoded", "temp, MiB")),
            ("checksums", checksums(bench), rates),
            ("reads", reads(bench, Path(folder)), READ_HEADS),
        ):
            for name, measure in measures:
                results.add(section, name, measure)
            results.show(section, heads)
    write_json(arguments.json, results.kept)
    if results.failed:
        raise SystemExit("some rows failed")


READ_HEADS = (
    *("stored / decoded", "GB/s", "CPU + upload, GB/s", "ratio", "least", "most"),
    *("launches", "nvCOMP calls", "copies", "MiB up", "beyond the result, MiB", "engine"),
)


if __name__ == "__main__":
    main()

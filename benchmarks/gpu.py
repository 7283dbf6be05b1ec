"""Throughput on a GPU: the ceilings of the machine, whole reads, and what checksums cost.

Needs the checkout on PYTHONPATH, as `gpu_check.sh` has it. Whole reads are compared with decoding
on the CPU and uploading the result, in turn. `--describe` writes only what the machine is;
`--fake` rehearses in the host's memory, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numpy as np
from report import conditions, print_table, write_json

import gpuzarr
from gpuzarr.engines.cuda import availability, kvikio_reader
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.arrays import plain_store, sharded_store
from tests.gpu.nvcomp_batch import ENCODERS, smooth

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cuda.device import Device

GPU_LIBRARIES = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-libnvcomp-cu13", "kvikio-cu13", "zarr")
ROUNDS = 7
MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """How much is moved."""

    copy: int
    side: int
    """Chunks along a side of the square array."""


def describe() -> dict[str, Any]:
    """The machine, as far as results depend on it."""
    found = conditions()
    for name in GPU_LIBRARIES:
        try:
            found["libraries"][name] = version(name)
        except PackageNotFoundError:
            continue
    query = "--query-gpu=name,memory.total,compute_cap,driver_version,clocks.max.sm,clocks.max.mem"
    try:
        done = subprocess.run(  # noqa: S603
            ["nvidia-smi", query, "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        found["gpus"] = done.stdout.strip().splitlines()
    except OSError:
        found["gpus"] = []
    commit = Path(".gpu-wheels/commit")
    if found["commit"] in {None, "", "unknown"} and commit.exists():
        found["commit"] = commit.read_text().strip()
    found["kvikio"] = kvikio_reader.unavailable() or "ok"
    found["gpudirect storage"] = kvikio_reader.gds_available()
    found["missing"] = availability.missing()
    return found


def seconds(run: Callable[[], None], rounds: int = ROUNDS) -> float:
    """The median time of a run that waits for the device; one untimed run goes first."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ceilings(device: Device, size: Size) -> list[list[str]]:
    """Copies from pinned memory to the device and back, and inside it."""
    stream, pool = device.current_stream(), SlabPool(device)
    slab = pool.take(size.copy)
    slab.array[:] = np.frombuffer(np.random.default_rng(0).bytes(size.copy), np.uint8)
    memory = device.allocate(size.copy, stream)

    def up() -> None:
        device.upload(slab.array, memory.address, stream)
        device.record(stream).wait()

    def down() -> None:
        device.download(memory.address, slab.array, stream)
        device.record(stream).wait()

    rows = [
        ["pinned memory to device", f"{size.copy / seconds(up) / 1e9:.1f}"],
        ["device to pinned memory", f"{size.copy / seconds(down) / 1e9:.1f}"],
    ]
    encoded = slab.array.data

    def host_crc() -> None:
        google_crc32c.value(np.frombuffer(encoded, np.uint8))

    rows.append(["CRC-32C on one core of the host", f"{size.copy / seconds(host_crc) / 1e9:.1f}"])
    count = size.copy // MIB
    table = np.concatenate([memory.address + MIB * np.arange(count), np.full(count, MIB)]).astype(
        np.int64
    )
    columns = device.allocate(24 * count + 64, stream)
    small = pool.take(table.nbytes)
    small.array[:] = table.view(np.uint8)
    device.upload(small.array, columns.address, stream)

    def device_crc() -> None:
        device.decompressor.checksum(
            "crc32c",
            source=columns.address,
            nbytes=columns.address + 8 * count,
            count=count,
            most=MIB,
            value=columns.address + 16 * count,
            stream=stream,
        )
        device.record(stream).wait()

    crc = size.copy / seconds(device_crc) / 1e9
    rows.append([f"CRC-32C by nvCOMP, {count} chunks of 1 MiB", f"{crc:.1f}"])
    return rows


def layouts(size: Size) -> dict[str, tuple[dict[str, bytes], np.ndarray]]:
    """Stores in memory of 1 MiB chunks (16 KiB for the small ones) of float32 fields."""
    side = 512 * size.side
    field = np.frombuffer(smooth(4 * side * side), "<f4").reshape(side, side)
    numbers = field.view("<i4")
    zstd = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
    gz = {"name": "gzip", "configuration": {"level": 5}}
    crc = {"name": "crc32c"}
    blosc = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}
    lz4 = {"name": "blosc", "configuration": blosc}
    bits = {"name": "blosc", "configuration": {**blosc, "cname": "zstd", "shuffle": "bitshuffle"}}

    def by_blosc(cname: str, shuffle: int) -> Callable[[bytes], bytes]:
        codec = numcodecs.Blosc(cname=cname, shuffle=shuffle)
        return lambda data: bytes(codec.encode(np.frombuffer(data, "<i4")))

    def with_crc(data: bytes) -> bytes:
        return bytes(numcodecs.CRC32C().encode(np.frombuffer(ENCODERS["zstd"](data), np.uint8)))

    chunk = (512, 512)
    stores = {
        "uncompressed": plain_store(numbers, chunk),
        "zstd": plain_store(numbers, chunk, encode=ENCODERS["zstd"], codecs=("bytes", zstd)),
        "zstd, crc32c": plain_store(numbers, chunk, encode=with_crc, codecs=("bytes", zstd, crc)),
        "Blosc lz4 shuffle": plain_store(
            numbers, chunk, encode=by_blosc("lz4", 1), codecs=("bytes", lz4)
        ),
        "Blosc zstd bitshuffle": plain_store(
            numbers, chunk, encode=by_blosc("zstd", 2), codecs=("bytes", bits)
        ),
        "gzip": plain_store(
            numbers, chunk, encode=lambda data: gzip.compress(data, 5), codecs=("bytes", gz)
        ),
        "shards of 16 KiB chunks, zstd": sharded_store(
            numbers, chunk, (64, 64), encode=ENCODERS["zstd"], inner_codecs=("bytes", zstd)
        ),
    }
    return {name: (store, numbers) for name, store in stores.items()}


def reads(device: Device, size: Size, folder: Path, wrap: Any) -> list[list[str]]:
    """Whole reads of each layout: on the device, and on the CPU with an upload behind."""
    rows = []
    stream, pool = device.current_stream(), SlabPool(device)
    for name, (store, numbers) in layouts(size).items():
        place = folder / name.replace(" ", "-")
        for key, value in store.items():
            (place / key).parent.mkdir(parents=True, exist_ok=True)
            (place / key).write_bytes(value)
        on_device = gpuzarr.open_array(place, device="cuda")
        on_host = gpuzarr.open_array(place, device="cpu")
        memory = device.allocate(numbers.nbytes, stream)
        slab = pool.take(numbers.nbytes)

        def upload(on_host: Any = on_host, slab: Any = slab, memory: Any = memory) -> None:
            slab.array[:] = on_host[...].reshape(-1).view(np.uint8)
            device.upload(slab.array, memory.address, stream)
            device.record(stream).wait()

        def read(on_device: Any = on_device) -> None:
            on_device[...]

        if not np.array_equal(wrap(on_device[...]), numbers):
            raise SystemExit(f"{name}: wrong values")
        ratios, times = [], []
        read()
        upload()
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            read()
            between = time.perf_counter()
            upload()
            times.append(between - begin)
            ratios.append((time.perf_counter() - between) / (between - begin))
        stored = sum(map(len, store.values()))
        rows.append(
            [
                name,
                f"{stored / numbers.nbytes:.2f}",
                f"{numbers.nbytes / statistics.median(times) / 1e9:.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
        slab.give_back()
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    machine = describe()
    if arguments.describe:
        write_json(arguments.json, machine)
        print(machine)
        return
    size = Size(256 * MIB, 16)
    if arguments.fake:
        from tests.engines.cuda.fake_device import FakeDevice  # noqa: PLC0415

        fake = FakeDevice(free=1 << 32)
        availability.open_device = lambda _: fake
        size = Size(MIB, 1)
    device = availability.open_device(None)
    top = ceilings(device, size)
    with tempfile.TemporaryDirectory() as folder:
        rows = reads(device, size, Path(folder), lambda a: a if arguments.fake else a.get())
    print(f"{device.name}, {device.decompressor.version}, {machine['gpus']}\n")
    print_table(["ceiling", "GB/s"], top)
    print()
    heads = ["layout", "stored / decoded", "GB/s decoded", "CPU + upload / gpuzarr", "range"]
    print_table(heads, rows)
    write_json(arguments.json, {"machine": machine, "ceilings": top, "reads": rows})


if __name__ == "__main__":
    main()

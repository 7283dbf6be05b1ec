"""nvCOMP on a real GPU: what the engine relies on is required, what it must know is observed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tests.gpu.nvcomp_batch import ENCODERS, count_blocks, decompress, raw_deflate, smooth
from tests.gpu.observed import observe

pytestmark = pytest.mark.gpu

DATA = smooth(1 << 20)
NOISE = np.random.default_rng(0).bytes(1 << 18)
MIXED = [DATA, NOISE, bytes(300_000), b"x", smooth(77_777)]


@pytest.mark.parametrize("name", ENCODERS)
def test_streams_of_every_kind(name: str) -> None:
    found = decompress(name, [ENCODERS[name](data) for data in MIXED], [len(d) for d in MIXED])
    assert found.status == [0] * len(MIXED)
    assert found.actual == [len(data) for data in MIXED]
    assert found.data == MIXED
    assert found.guards


@pytest.mark.parametrize("name", ["zstd", "lz4", "gzip", "snappy"])
@pytest.mark.parametrize("skew", [1, 3, 6])
def test_streams_at_any_address(name: str, skew: int) -> None:
    found = decompress(name, [ENCODERS[name](DATA)] * 5, [len(DATA)] * 5, skew=skew)
    assert found.data == [DATA] * 5


@pytest.mark.parametrize("skew", [0, 4, 8])
def test_deflate_at_multiples_of_four(skew: int) -> None:
    found = decompress("deflate", [raw_deflate(DATA)] * 3, [len(DATA)] * 3, skew=skew)
    assert found.data == [DATA] * 3


@pytest.mark.parametrize("level", [1, 3, 9, 16, 19, 22])
def test_zstd_levels_with_memory_for_all_blocks(level: int) -> None:
    frame = zstandard.ZstdCompressor(level=level).compress(DATA)
    blocks = count_blocks(frame, len(DATA))
    found = decompress("zstd", [frame] * 4, [len(DATA)] * 4)
    assert found.status == [0] * 4
    assert found.data == [DATA] * 4
    few = decompress("zstd", [frame] * 4, [len(DATA)] * 4, blocks=4)
    observe(f"zstd level {level}: {blocks} blocks, temporary memory by streams", few.status)


def test_a_large_frame() -> None:
    data = smooth(64 << 20)
    frame = zstandard.ZstdCompressor().compress(data)
    assert decompress("zstd", [frame], [len(data)]).data == [data]


@pytest.mark.parametrize("name", ["zstd", "lz4", "deflate", "gzip"])
def test_outputs_that_are_too_small(name: str) -> None:
    """Nothing may be written beside them."""
    found = decompress(name, [ENCODERS[name](DATA)] * 2, [len(DATA) - 1000, len(DATA)])
    assert found.guards
    assert found.status[0] != 0 or found.actual[0] != len(DATA) - 1000
    assert found.data[1] == DATA
    observe(f"{name}: output too small", {"status": found.status[0], "actual": found.actual[0]})


@pytest.mark.parametrize("name", ["zstd", "lz4", "deflate", "gzip"])
def test_outputs_that_are_too_large(name: str) -> None:
    found = decompress(name, [ENCODERS[name](DATA)], [len(DATA) + 1000])
    assert found.actual == [len(DATA)]
    assert found.data[0][: len(DATA)] == DATA


def frames_of_other_kinds() -> dict[str, tuple[str, bytes]]:
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
    plain = zstandard.ZstdCompressor().compress
    half = len(DATA) // 2
    member = gzip.compress(DATA)
    return {
        "zstd with a wrong checksum": ("zstd", checked[:-1] + bytes([checked[-1] ^ 1])),
        "zstd without a size": (
            "zstd",
            zstandard.ZstdCompressor(write_content_size=False).compress(DATA),
        ),
        "zstd of two frames": ("zstd", plain(DATA[:half]) + plain(DATA[half:])),
        "zstd behind a skippable frame": ("zstd", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + plain(DATA)),
        "gzip of two members": ("gzip", gzip.compress(DATA[:half]) + gzip.compress(DATA[half:])),
        "gzip with a wrong CRC": ("gzip", member[:-8] + b"abcd" + member[-4:]),
        "deflate with bytes behind": ("deflate", raw_deflate(DATA) + b"abcdefgh"),
        "deflate without its end": ("deflate", raw_deflate(DATA, zlib.Z_SYNC_FLUSH)),
    }


@pytest.mark.parametrize("kind", frames_of_other_kinds())
def test_frames_that_the_engine_does_not_rely_on(kind: str) -> None:
    name, frame = frames_of_other_kinds()[kind]
    found = decompress(name, [frame], [len(DATA)])
    assert found.guards
    seen = {"status": found.status[0], "actual": found.actual[0], "right": found.data[0] == DATA}
    observe(kind, seen)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ENCODERS)
def test_damaged_payloads(name: str, seed: int) -> None:
    """Each in a process of its own, since it may not survive."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.nvcomp_batch", name, str(seed)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    seen: Any = {"context survives": False, "error": done.stderr.strip().splitlines()[-1:]}
    if done.returncode == 0:
        seen = json.loads(done.stdout)
        assert seen["guards"], "nothing may be written beside the outputs"
        assert seen["neighbour right"]
    observe(f"damaged {name}, {seed}", seen)


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c"])
def test_checksums(algorithm: str) -> None:
    import google_crc32c  # noqa: PLC0415

    from gpuzarr.engines.cuda import availability  # noqa: PLC0415
    from gpuzarr.engines.cuda.slabs import SlabPool  # noqa: PLC0415

    device = availability.open_device(None)
    stream = device.current_stream()
    ranges = [DATA, NOISE[1:], b"123456789", NOISE[3:4], DATA[:100_001]]
    offsets = np.cumsum([0, *(len(r) + 3 for r in ranges)])
    memory = device.allocate(int(offsets[-1]) + 1024, stream)
    slab = SlabPool(device).take(memory.nbytes)
    slab.array[:] = 0
    for offset, data in zip(offsets.tolist(), ranges, strict=False):
        slab.array[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
    base = -(-int(offsets[-1]) // 8) * 8
    n = len(ranges)
    columns = np.concatenate([memory.address + offsets[:-1], [len(r) for r in ranges]])
    slab.array[base : base + 16 * n] = columns.astype(np.int64).view(np.uint8)
    device.upload(slab.array, memory.address, stream)
    value = memory.address + base + 16 * n
    device.decompressor.checksum(
        algorithm,
        source=memory.address + base,
        nbytes=memory.address + base + 8 * n,
        count=n,
        most=max(map(len, ranges)),
        value=value,
        stream=stream,
    )
    device.record(stream).wait()
    device.download(value, slab.array[: 4 * n], stream)
    device.record(stream).wait()
    compute = zlib.crc32 if algorithm == "crc32" else google_crc32c.value
    assert slab.array[: 4 * n].view(np.uint32).tolist() == [compute(r) for r in ranges]

"""nvCOMP on a real GPU: what the engine relies on is required, what it must know is observed."""

from __future__ import annotations

import zlib

import google_crc32c
import numpy as np
import pytest
import zstandard

from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.gpu.nvcomp_batch import ENCODERS, decompress, raw_deflate, smooth
from tests.gpu.observed import observe
from tests.gpu.own_process import DIED, ask
from tests.gpu.questions import DAMAGED, DATA, OPEN, SMALLER, SURVIVES, TOO_SMALL

pytestmark = pytest.mark.gpu

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
    found = decompress("zstd", [frame] * 4, [len(DATA)] * 4)
    assert found.status == [0] * 4
    assert found.data == [DATA] * 4


def test_zstd_with_a_checksum() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
    assert decompress("zstd", [frame], [len(DATA)]).data == [DATA]


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_a_large_stream(name: str) -> None:
    data = smooth(64 << 20)
    assert decompress(name, [ENCODERS[name](data)], [len(data)]).data == [data]


@pytest.mark.parametrize("name", ENCODERS)
def test_outputs_that_are_too_large(name: str) -> None:
    found = decompress(name, [ENCODERS[name](DATA)], [len(DATA) + 1000])
    assert found.actual == [len(DATA)]
    assert found.data[0][: len(DATA)] == DATA
    assert found.guards


@pytest.mark.parametrize("question", TOO_SMALL)
def test_outputs_that_are_too_small(question: str) -> None:
    """The streams are good: nothing may be written beside the outputs."""
    seen = ask("tests.gpu.questions", question)
    observe(question, seen)
    assert seen.get(SURVIVES), seen
    assert seen["guards"]
    assert seen["neighbour right"]
    assert seen["status"] != 0 or seen["actual"] != len(DATA) - SMALLER


@pytest.mark.parametrize("question", DAMAGED)
def test_damaged_payloads(question: str) -> None:
    """nvCOMP promises for LZ4 alone that it notices, so for others a lost process is a fact."""
    seen = ask("tests.gpu.questions", question)
    observe(question, seen)
    if question.startswith("damaged lz4"):
        assert seen.get(SURVIVES), seen
    if "verdict" in seen:
        assert seen["guards"], "nothing may be written beside the outputs"
        assert seen["neighbour right"], "the good stream of the same call is right"


@pytest.mark.parametrize("question", OPEN)
def test_open_questions(question: str) -> None:
    """Any answer is one; none means that the question was not asked."""
    seen = ask("tests.gpu.questions", question)
    observe(question, seen)
    assert SURVIVES in seen or DIED in seen
    assert "ModuleNotFoundError" not in str(seen.get(DIED))
    assert "UnsupportedError" not in str(seen.get("error"))


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c"])
def test_checksums(algorithm: str) -> None:
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

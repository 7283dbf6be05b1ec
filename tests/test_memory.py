"""How much memory a read takes: what cannot be is refused, and the rest stays within its bound."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import crew
from gpuzarr.engines.pool import Pool
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import assert_result, compress

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr import Blob

GZIP = {"name": "gzip", "configuration": {"level": 1}}


def test_a_result_that_cannot_be_is_refused_before_memory_is_taken() -> None:
    side = 2**40
    array = gpuzarr.open_array({"zarr.json": encoded(v3_metadata((side, side), (1000, 1000)))})
    for key in (..., (slice(None), slice(None, 2**20)), slice(None, None, -1)):
        with pytest.raises(gpuzarr.MemoryLimitError) as raised:
            array[key]
        assert isinstance(raised.value, MemoryError)
        assert raised.value.path == ""
    assert array[5, 5] == 0


@pytest.mark.parametrize("codecs", [("bytes",), ("bytes", GZIP)], ids=["plain", "gzip"])
def test_a_chunk_that_cannot_be_is_refused_before_memory_is_taken(codecs: Any) -> None:
    document = v3_metadata((2**60,), (2**60,), codecs=codecs)
    array = gpuzarr.open_array({"zarr.json": encoded(document), "c/0": compress(b"abcd")})
    with pytest.raises((gpuzarr.MemoryLimitError, gpuzarr.DecodeError)):
        array[:3]
    assert gpuzarr.open_array({"zarr.json": encoded(document)})[2**59] == 0


def test_memory_limit_is_a_limit() -> None:
    values = plain_store(
        np.ones((64, 4096), "u1"), (16, 4096), encode=compress, codecs=("bytes", GZIP)
    )
    array = gpuzarr.open_array(values, memory_limit=1 << 20)
    assert_result(array[...], np.ones((64, 4096), "u1"))
    small = gpuzarr.open_array(values, memory_limit=1 << 10)
    with pytest.raises(gpuzarr.MemoryLimitError, match="memory_limit"):
        small[...]


class CrowdStore(CountingStore):
    """Counts how many threads read chunks at once, and gives them the time to be many."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.inside = 0
        self.most = 0
        self.change = threading.Condition()

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if key.startswith("c/"):
            with self.change:
                self.inside += 1
                self.most = max(self.most, self.inside)
                self.change.notify_all()
                self.change.wait_for(lambda: self.most > 4, timeout=0.03)
                self.inside -= 1
        return super().read(key, offset, nbytes, allocate)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ({"threads": 1}, 1),
        ({"threads": 2}, 2),
        ({"threads": 8, "memory_limit": 3 * 600_000}, 3),
        ({"threads": 8, "memory_limit": 600_000}, 1),
    ],
    ids=str,
)
def test_no_more_chunks_are_in_memory_at_once_than_allowed(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], most: int
) -> None:
    """On a machine with more threads than the read may use."""
    store = CrowdStore(
        plain_store(
            np.ones((16, 262_144), "u1"), (1, 262_144), encode=compress, codecs=("bytes", GZIP)
        )
    )
    pool = Pool(8)
    monkeypatch.setattr(crew, "shared_pool", lambda: pool)
    array = gpuzarr.open_array(store, **arguments)
    assert array[...].all()
    pool.end(time.monotonic() + 60)
    assert store.most == most


MEASURE = """
import resource, sys, zlib
import numpy as np
import gpuzarr
from gpuzarr.engines.cpu import session
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, encoded, v3_metadata

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {unit}

def gzip(data):
    compressor = zlib.compressobj(1, wbits=31)
    return compressor.compress(data) + compressor.flush()

shape, chunks, key, threads = {case}
codec = {{"name": "gzip", "configuration": {{"level": 1}}}}
document = v3_metadata(shape, chunks, data_type="uint8", codecs=("bytes", codec))
chunk = gzip(bytes(int(np.prod(chunks))))

class Same(dict):
    def __missing__(self, key):
        if key.startswith("c/"):
            return chunk
        raise KeyError(key)

values = Same()
values["zarr.json"] = encoded(document)
array = gpuzarr.open_array(values, threads=threads)
array[0, :10]
before = peak()
result = array[key]
used = peak() - before
assert not result.any()
print(used - result.nbytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
@pytest.mark.parametrize(
    ("shape", "chunks", "key", "threads", "most"),
    [
        # Chunks that go straight into the output, and chunks that are copied there.
        ((192, 1 << 20), (1, 1 << 20), "...", None, 64 << 20),
        ((192, 1 << 20), (1, 1 << 20), "(slice(None), slice(1, None))", None, 64 << 20),
        # Large chunks: one a thread, encoded (little) and decoded.
        ((6, 40 << 20), (1, 40 << 20), "(slice(None), slice(1, None))", 2, 2 * (42 << 20)),
    ],
    ids=["straight", "copied", "large"],
)
def test_the_peak_of_a_full_read(
    shape: tuple[int, ...], chunks: tuple[int, ...], key: str, threads: int | None, most: int
) -> None:
    """Output and 64 MiB, or one chunk a thread; what a read keeps too long would be 192 MiB."""
    case = f"({shape}, {chunks}, {key}, {threads})"
    unit = 1 if sys.platform == "darwin" else 1024
    found = run(MEASURE.format(unit=unit, case=case))
    assert int(found) < most


def run(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(  # noqa: PLW1510  the assertion shows what it wrote
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

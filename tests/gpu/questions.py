"""What nvCOMP's documentation leaves open, each question by its name.

    python -m tests.gpu.questions QUESTION

asks a GPU, in this process, which may not survive it, and prints the answer: what was seen, and
whether the CUDA context works afterwards. `tests.gpu.own_process.ask` runs that.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import zstandard

from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.nvcomp import Nvcomp, Options
from tests.gpu.nvcomp_batch import ENCODERS, count_blocks, decompress, raw_deflate, smooth
from tests.gpu.own_process import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gpu.nvcomp_batch import Outcome

    Seen = dict[str, Any]

DATA = smooth(1 << 20)
SMALLER = 1000
"""Bytes by which an output is too small."""
HEADER = 20
"""Bytes at the beginning of a stream that stay as they are: what frames say of themselves is
verified before a GPU sees them."""
SURVIVES = "context survives"
REFUSED, OTHER_SIZE, WRONG, RIGHT = "refused", "another size", "wrong data", "right data"


# ------------------------------------------------------------------------------------------ damage


def flip(stream: bytes, seed: int) -> bytes:
    """Three bytes become others."""
    rng, out = np.random.default_rng(seed), bytearray(stream)
    for _ in range(3):
        out[int(rng.integers(HEADER, len(out)))] ^= int(rng.integers(1, 256))
    return bytes(out)


def overwrite(stream: bytes, patch_with: bytes) -> bytes:
    """The same bytes in the middle."""
    middle = len(stream) // 2
    return stream[:middle] + patch_with + stream[middle + len(patch_with) :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    **{f"three bytes, {seed}": partial(flip, seed=seed) for seed in range(6)},
    "zeros in the middle": partial(overwrite, patch_with=bytes(64)),
    "ones in the middle": partial(overwrite, patch_with=b"\xff" * 64),
    "second half is noise": lambda stream: (
        stream[: len(stream) // 2] + np.random.default_rng(0).bytes(len(stream) - len(stream) // 2)
    ),
    "cut to two thirds": lambda stream: stream[: len(stream) * 2 // 3],
}


def verdict(found: Outcome, expected: bytes) -> str:
    """What nvCOMP made of the first stream, as the engine would take it."""
    if found.status[0] != 0:
        return REFUSED
    if found.actual[0] != len(expected):
        return OTHER_SIZE
    return RIGHT if found.data[0] == expected else WRONG


def damaged(name: str, damage: str) -> Seen:
    """A damaged stream beside a good one."""
    good = ENCODERS[name](DATA)
    found = decompress(name, [DAMAGE[damage](good), good], [len(DATA)] * 2)
    return {
        "verdict": verdict(found, DATA),
        "status": found.status[0],
        "actual": found.actual[0],
        "neighbour right": found.data[1] == DATA,
        "guards": found.guards,
    }


# ----------------------------------------------------------------------------------------- the rest


def too_small(name: str) -> Seen:
    """An output with too little room, beside one with enough."""
    found = decompress(name, [ENCODERS[name](DATA)] * 2, [len(DATA) - SMALLER, len(DATA)])
    return {
        "status": found.status[0],
        "actual": found.actual[0],
        "neighbour right": found.data[1] == DATA,
        "guards": found.guards,
    }


def few_blocks(level: int) -> Seen:
    """zstd, with temporary memory for as many blocks as there are streams."""
    frame = zstandard.ZstdCompressor(level=level).compress(DATA)
    found = decompress("zstd", [frame] * 4, [len(DATA)] * 4, blocks=4)
    return {
        "blocks of a stream": count_blocks(frame),
        "status": found.status,
        "right": found.data == [DATA] * 4,
        "guards": found.guards,
    }


def other_frame(name: str, frame: bytes) -> Seen:
    """A frame that the engine does not rely on."""
    found = decompress(name, [frame], [len(DATA)])
    return {
        "verdict": verdict(found, DATA),
        "status": found.status[0],
        "actual": found.actual[0],
        "guards": found.guards,
    }


def off_by_two() -> Seen:
    """Deflate, which wants streams at multiples of four."""
    found = decompress("deflate", [raw_deflate(DATA)] * 3, [len(DATA)] * 3, skew=2)
    return {"status": found.status, "right": found.data == [DATA] * 3, "guards": found.guards}


def own_backend() -> Seen:
    """LZ4, where nvCOMP chooses between its kernels and the decompression engine."""
    decompressor = availability.open_device(None).decompressor
    if not isinstance(decompressor, Nvcomp):
        return {"error": "this is not nvCOMP"}
    with patch.object(decompressor, "_options", Options(backend=0)):
        found = decompress("lz4", [ENCODERS["lz4"](DATA)] * 4, [len(DATA)] * 4)
    return {"status": found.status, "right": found.data == [DATA] * 4}


def other_frames() -> dict[str, tuple[str, bytes]]:
    """Frames that the engine does not rely on: their format, and one of each."""
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    plain = zstandard.ZstdCompressor().compress
    half, member = len(DATA) // 2, gzip.compress(DATA)
    return {
        "zstd with a wrong checksum": ("zstd", checked[:-1] + bytes([checked[-1] ^ 1])),
        "zstd without a size": ("zstd", unsized),
        "zstd of two frames": ("zstd", plain(DATA[:half]) + plain(DATA[half:])),
        "zstd behind a skippable frame": ("zstd", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + plain(DATA)),
        "gzip of two members": ("gzip", gzip.compress(DATA[:half]) + gzip.compress(DATA[half:])),
        "gzip with a wrong CRC": ("gzip", member[:-8] + b"abcd" + member[-4:]),
        "deflate with bytes behind": ("deflate", raw_deflate(DATA) + b"abcdefgh"),
        "deflate without its end": ("deflate", raw_deflate(DATA, zlib.Z_SYNC_FLUSH)),
    }


Questions = dict[str, "Callable[[], Seen]"]
DAMAGED: Questions = {
    f"damaged {name}: {kind}": partial(damaged, name, kind) for name in ENCODERS for kind in DAMAGE
}
TOO_SMALL: Questions = {f"{name}: output too small": partial(too_small, name) for name in ENCODERS}
OPEN: Questions = {
    **{
        f"zstd level {level}: memory for one block a stream": partial(few_blocks, level)
        for level in (1, 3, 9, 16, 19, 22)
    },
    **{kind: partial(other_frame, *frame) for kind, frame in other_frames().items()},
    "deflate at odd multiples of two": off_by_two,
    "lz4, nvCOMP chooses the backend": own_backend,
}
QUESTIONS = DAMAGED | TOO_SMALL | OPEN


def answer_to(question: str) -> Seen:
    """Ask, then see whether the device still works."""
    try:
        seen = QUESTIONS[question]()
    except Exception as error:  # noqa: BLE001  whatever comes is what was seen
        seen = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
    try:
        good = decompress("lz4", [ENCODERS["lz4"](DATA)], [len(DATA)])
        seen[SURVIVES] = good.data == [DATA]
    except Exception as error:  # noqa: BLE001  the same
        seen |= {SURVIVES: False, "afterwards": f"{type(error).__name__}: {error}"[:200]}
    return seen


if __name__ == "__main__":
    answer(answer_to(sys.argv[1]))

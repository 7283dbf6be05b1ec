"""How fast both sides decode, and how large batches are: tables that the cost model reads.

A rate is of decoded bytes a second; what a chunk, a stream or a batch costs whatever its size
stands beside it. So a table says for any size and number how long something takes. These are
defaults; what `gpuzarr calibrate` measured on a machine takes their place there
(`calibration.py`).

Where they come from. Nothing has been measured on a GPU for this project yet, so figures of a
device are what others published, and of several the one that speaks for the device: what is done
by default, decoding there, changes only where even that is clearly slower.

    host        one core (x86-64, of 2026): lz4 5.7 GB/s, zstd 1.0, deflate 0.25 by zlib, and 2.8
                times that by libdeflate, which decodes it here. Blosc counts as zstd: what is
                inside nobody knows before it is read, and lz4 would speak for the host.
    cores       damacy's CPU executor, zstd: 0.594 GB/s with 1 worker; 1.815, 2.730 and 4.104 with
                4, 8 and 16 (nclack/damacy, dev/cpu-pipeline-validation.md): a further core gives
                0.4 to 0.7 of the first.
    zstd        34 GB/s: czarr on an H100, 2 GiB of blosc-zstd in 74.4 ms and 1 GiB in 42.6
                (srivarra/czarr, bench/results/zarr-read.jsonl); damacy's kernels on an L40 17.6
                (the page above). One stream 0.13 GB/s: 8 chunks of 8 MiB in 63.7 ms on an A40
                (czarr, docs/planning/phase6-results.md); 400 of 1 MB took 25 to 45 ms, so 0.04 at
                best (T. Augspurger, "GPU-Accelerated Zarr", 2025-12-11).
    lz4         31 GB/s: ERA5, `decode_batch` (rapidsai/kvikio#293). One stream: as zstd's.
    deflate     none was found: as zstd's.
    uploads     25 GB/s (nclack/damacy, docs/optimization.md); the other figure, 52, is of
                T. Augspurger's, and would speak for the host, which uploads more.
    read        5.3 GB/s: ranges of 1 MiB from the page cache, one thread.
    a batch     0.5 ms more of the host's time if the device decodes it (walk, tables, more
                launches), and 10 us for a chunk that the host decodes, by one thread at a time;
                1.2 to 1.6 ms more for a small read that goes by columns and launches than for
                one that is one copy, the least of which counts (1 to 64 chunks of zstd,
                decode="host" both: benchmarks/small_reads.py): this engine's own work, timed
                on the fake device of its tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
CODECS = ("zstd", "gzip", "zlib", "lz4", "blosc")
"""Formats of `program.Decompress` that both sides decode."""


@dataclass(frozen=True, slots=True)
class CodecRates:
    """Decoded bytes a second of one format."""

    host: float
    """By one core."""
    stream: float
    """By the device, of one stream, however many others there are..."""
    device: float
    """...and of all streams together, where there are many."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a machine is. Bytes a second, and seconds."""

    codecs: Mapping[str, CodecRates]
    """For each of `CODECS`."""
    further_core: float
    """What a second core, and each behind it, adds to the rate of the first; 1.0 at best."""
    filters: float
    """Bytes that one core takes through another step than a decompression."""
    chunk_s: float
    """What a chunk costs the host that decodes it, whatever its size, one thread at a time."""
    batch_s: float
    """What a batch costs more where the device decodes it, whatever its size..."""
    columns_s: float
    """...and what a small read costs more that goes by columns, tables and launches at all, and not
    as one copy from the host (`few.py`)."""
    upload: float
    """From pinned memory to the device."""
    read: float
    """From the page cache to pinned memory."""


DEFAULTS: Final = Rates(
    codecs=MappingProxyType(
        {
            "zstd": CodecRates(host=1.0e9, stream=0.13e9, device=34e9),
            "gzip": CodecRates(host=0.7e9, stream=0.13e9, device=34e9),
            "zlib": CodecRates(host=0.7e9, stream=0.13e9, device=34e9),
            "lz4": CodecRates(host=5.7e9, stream=0.13e9, device=31e9),
            "blosc": CodecRates(host=1.0e9, stream=0.13e9, device=34e9),
        }
    ),
    further_core=0.5,
    filters=3.1e9,  # numcodecs' shuffle: 2 MiB in 675 us
    chunk_s=10e-6,
    batch_s=0.5e-3,
    columns_s=1.2e-3,
    upload=25e9,
    read=5.3e9,
)

STREAM_NBYTES: Final[Mapping[str, int]] = MappingProxyType({"blosc": 128 << 10})
"""Decoded bytes of a stream, where a chunk has several. What is inside a frame is known only when
it was read; with default options Blosc makes streams of 128 KiB in chunks from 1 MiB on."""

UNKNOWN_RATIO: Final = 2.0
"""Decoded bytes for each encoded one, where an object's size is not known before it is read."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """How large batches of a format are made, where the memory limit allows it."""

    nbytes: int
    """Encoded and decoded bytes together: enough streams for every part of a large GPU, and not so
    many that one batch could no longer be read while the one before it is decoded."""
    chunk_nbytes: int
    """Bytes that a chunk counts as on top of its own: for memory on the device that does not grow
    with its size, over what a byte of a chunk takes there (for zstd 7.5 KiB over 5)."""


SHAPES: Final[Mapping[str | None, BatchShape]] = MappingProxyType(
    {
        # 256 MiB of output a call of nvCOMP or more: a GPU of 132 multiprocessors wants thousands
        # of streams, and Blosc has about 8 in a MiB. zstd takes 6,936 bytes for each block.
        "zstd": BatchShape(384 * MIB, 1536),
        "blosc": BatchShape(384 * MIB, 512),
        "gzip": BatchShape(384 * MIB, 512),
        "zlib": BatchShape(384 * MIB, 512),
        "lz4": BatchShape(384 * MIB, 512),
        # Nothing is decoded: 64 MiB are uploaded in 2.6 ms, many times what starting that costs.
        None: BatchShape(128 * MIB, 256),
    }
)
"""By the decompression that the device runs; None: there is none."""

JOINED_NBYTES: Final = 32 * MIB
"""Memory on the device up to which a batch waits for the next one, of another program, to share its
upload of tables and its calls of nvCOMP: at the rates above it holds about 10 MiB, which are
decoded in less than what starting a batch costs."""

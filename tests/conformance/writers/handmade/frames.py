"""Compressed streams that encoders rarely write and decoders must read: several members, odd headers, odd blocks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ...samples import numbers
from .build import LITTLE, little, write_v2, write_v3
from .streams import Forms, Squeeze, blosc_forms, thirds, zstd_forms

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ...case import Built, Recipes

GZIP = {"name": "gzip", "configuration": {"level": 5}}
ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
BLOSC = {
    "name": "blosc",
    "configuration": {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "shuffle",
        "typesize": 4,
        "blocksize": 0,
    },
}


def add_all(recipes: Recipes) -> None:
    """Every stream, under v2 and v3 names."""
    both = [
        ("gzip", GZIP, {"id": "gzip", "level": 5}, _gzips()),
        ("zstd", ZSTD, {"id": "zstd", "level": 0}, zstd_forms()),
    ]
    both.append(
        (
            "blosc",
            BLOSC,
            {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
            blosc_forms(),
        )
    )
    older: list[tuple[str, Any, dict[str, Squeeze]]] = [
        ("bz2", {"id": "bz2", "level": 1}, _bz2s()),
        ("zlib", {"id": "zlib", "level": 1}, _zlibs()),
        ("lzma", {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None}, _xzs()),
        ("lz4", {"id": "lz4", "acceleration": 1}, _lz4s()),
    ]
    for family, v3, v2, forms in both:
        for name, (squeeze, needs) in forms.items():
            _add_v3(recipes, f"{family}-{name}", v3, squeeze, needs)
            _add_v2(recipes, f"{family}-{name}", v2, squeeze, needs)
    for family, v2, plain in older:
        for name, squeeze in plain.items():
            _add_v2(recipes, f"{family}-{name}", v2, squeeze, ())
            v3 = {
                "name": f"numcodecs.{family}",
                "configuration": {key: item for key, item in v2.items() if key != "id"},
            }
            _add_v3(recipes, f"numcodecs-{family}-{name}", v3, squeeze, ())
    alone = {"id": "lzma", "format": 2, "check": -1, "preset": 1, "filters": None}
    _add_v2(
        recipes, "lzma-alone", alone, lambda content: lzma.compress(content, lzma.FORMAT_ALONE), ()
    )
    filters = [{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
    raw = {"id": "lzma", "format": 3, "check": -1, "preset": None, "filters": filters}
    _add_v2(
        recipes,
        "lzma-raw",
        raw,
        lambda content: lzma.compress(content, lzma.FORMAT_RAW, filters=filters),
        (),
    )


def _add_v3(
    recipes: Recipes, name: str, codec: Any, squeeze: Squeeze, needs: tuple[str, ...]
) -> None:
    def build(store: Path) -> Built:
        return write_v3(
            store,
            _values(),
            (6, 16),
            codecs=[LITTLE, codec],
            encode=lambda block: squeeze(little(block)),
        )

    row = "v3-numcodecs" if name.startswith("numcodecs") else "v3-codecs"
    demand: Any = (
        "optional" if name.endswith("padded") else None
    )  # Python's own lzma stops at the padding
    recipes.add(
        f"frames-{name}",
        build,
        "frames",
        row,
        demand=demand,
        tags=(f"codec:{codec['name']}", "dtype:int32"),
        needs=needs,
    )


def _add_v2(
    recipes: Recipes, name: str, codec: Any, squeeze: Squeeze, needs: tuple[str, ...]
) -> None:
    def build(store: Path) -> Built:
        return write_v2(
            store, _values(), (6, 16), compressor=codec, encode=lambda block: squeeze(little(block))
        )

    tags = (f"codec:{codec['id']}", "dtype:int32")
    demand: Any = "optional" if name.endswith("padded") else None
    recipes.add(
        f"frames-{name}",
        build,
        "frames",
        "v2-compressors",
        demand=demand,
        zarr_format=2,
        tags=tags,
        needs=needs,
    )


def _values() -> np.ndarray[Any, Any]:
    return numbers("i4", (17, 21), seed=12)


def _gzips() -> Forms:
    def member(content: bytes, flags: int = 0, extra: bytes = b"", level: int = 6) -> bytes:
        engine = zlib.compressobj(level, zlib.DEFLATED, -15)
        body = engine.compress(content) + engine.flush()
        head = b"\x1f\x8b\x08" + bytes([flags]) + struct.pack("<I", 1234567890) + b"\0\xff" + extra
        return head + body + struct.pack("<II", zlib.crc32(content), len(content))

    def named(content: bytes) -> bytes:
        """Every optional header field: extra field, name, comment, header checksum."""
        fields = struct.pack("<H", 6) + b"ZZ\2\0ab" + b"chunk.bin\0" + b"a comment\0"
        head = (
            b"\x1f\x8b\x08"
            + bytes([2 | 4 | 8 | 16])
            + struct.pack("<I", 1234567890)
            + b"\0\xff"
            + fields
        )
        return member(
            content, 2 | 4 | 8 | 16, fields + struct.pack("<H", zlib.crc32(head) & 0xFFFF)
        )

    forms: dict[str, Squeeze] = {
        "one-member": member,
        "members": lambda content: b"".join(member(part) for part in thirds(content)),
        "empty-members": lambda content: member(b"") + member(content) + member(b""),
        "headers": named,
        "mixed-members": lambda content: (
            named(content[:100]) + gzip.compress(content[100:], 1, mtime=0)
        ),
        "stored": lambda content: member(content, level=0),
        "byte-members": lambda content: b"".join(
            member(content[at : at + 97]) for at in range(0, len(content), 97)
        ),
    }
    return {name: (squeeze, ()) for name, squeeze in forms.items()}


def _bz2s() -> dict[str, Squeeze]:
    return {
        "streams": lambda content: b"".join(bz2.compress(part, 1) for part in thirds(content)),
        "empty-stream": lambda content: bz2.compress(b"") + bz2.compress(content, 9),
    }


def _zlibs() -> dict[str, Squeeze]:
    def windowed(bits: int, strategy: int) -> Squeeze:
        def squeeze(content: bytes) -> bytes:
            engine = zlib.compressobj(9, zlib.DEFLATED, bits, 9, strategy)
            return engine.compress(content) + engine.flush()

        return squeeze

    def flushed(content: bytes) -> bytes:
        """Blocks ended by full flushes: empty stored blocks in the middle."""
        engine = zlib.compressobj(6)
        parts = [
            engine.compress(part) + engine.flush(zlib.Z_FULL_FLUSH) for part in thirds(content)
        ]
        return b"".join(parts) + engine.flush()

    return {
        "small-window": windowed(9, zlib.Z_DEFAULT_STRATEGY),
        "huffman-only": windowed(15, zlib.Z_HUFFMAN_ONLY),
        "fixed-codes": windowed(15, zlib.Z_FIXED),
        "flushed": flushed,
    }


def _xzs() -> dict[str, Squeeze]:
    def checked(check: int) -> Squeeze:
        return lambda content: lzma.compress(content, lzma.FORMAT_XZ, check=check, preset=1)

    forms = {
        f"check-{name}": checked(getattr(lzma, f"CHECK_{name.upper()}"))
        for name in ("none", "crc32", "crc64", "sha256")
    }
    forms["streams"] = lambda content: b"".join(lzma.compress(part) for part in thirds(content))
    forms["streams-padded"] = lambda content: (
        lzma.compress(content[:50]) + b"\0" * 8 + lzma.compress(content[50:])
    )
    return forms


def _lz4s() -> dict[str, Squeeze]:
    """Blocks after a four-byte size: literals only, and with one long overlapping match."""

    def length(count: int) -> bytes:
        return b"" if count < 15 else b"\xff" * ((count - 15) // 255) + bytes([(count - 15) % 255])

    def literals(content: bytes) -> bytes:
        return bytes([min(len(content), 15) << 4]) + length(len(content)) + content

    def repeated(content: bytes) -> bytes:
        """Literals, with one match copied from just before it wherever a run of five equal bytes allows."""
        for at in range(1, len(content) - 24):
            run = len(content) - at
            run = next((n for n in range(run) if content[at + n] != content[at - 1]), run)
            run = min(run, len(content) - at - 12)
            if run >= 8:
                token = bytes([min(at, 15) << 4 | min(run - 4, 15)])
                return (
                    token
                    + length(at)
                    + content[:at]
                    + b"\1\0"
                    + length(run - 4)
                    + literals(content[at + run :])
                )
        return literals(content)

    return {
        "literals": lambda content: struct.pack("<I", len(content)) + literals(content),
        "overlap": lambda content: struct.pack("<I", len(content)) + repeated(content),
    }

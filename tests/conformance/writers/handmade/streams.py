"""Encoders of zstd and Blosc streams that no library writes when asked plainly."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

Squeeze = Callable[[bytes], bytes]
Forms = dict[str, tuple[Squeeze, tuple[str, ...]]]
"""Encoders by name, with the modules that each takes."""


def thirds(content: bytes) -> list[bytes]:
    cut = len(content) // 3
    return [content[:cut], content[cut : 2 * cut + 1], content[2 * cut + 1 :]]


def zstd_forms() -> Forms:
    magic = b"\x28\xb5\x2f\xfd"
    skippable = b"\x53\x2a\x4d\x18" + struct.pack("<I", 7) + b"skip me"

    def block(kind: int, size: int, *, last: bool) -> bytes:
        return struct.pack("<I", size << 3 | kind << 1 | int(last))[:3]

    def raw(
        content: bytes, *, descriptor: int = 0xA0, size: bytes | None = None, parts: int = 1
    ) -> bytes:
        """A frame of raw blocks; single segment with a four-byte content size unless told otherwise."""
        step = max(-(-len(content) // parts), 1)
        cuts = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
        body = b"".join(block(0, len(cut), last=cut is cuts[-1]) + cut for cut in cuts)
        return (
            magic
            + bytes([descriptor])
            + (struct.pack("<I", len(content)) if size is None else size)
            + body
        )

    def runs(content: bytes) -> bytes:
        """Run-length blocks wherever a byte repeats, raw blocks between."""
        out, at = b"", 0
        while at < len(content):
            end = next(
                (n for n in range(at, len(content)) if content[n] != content[at]), len(content)
            )
            out += block(1, end - at, last=end == len(content)) + content[at : at + 1]
            at = end
        return magic + b"\xa0" + struct.pack("<I", len(content)) + out

    def real(**settings: Any) -> Squeeze:
        def squeeze(content: bytes) -> bytes:
            import zstandard

            return zstandard.ZstdCompressor(level=3, **settings).compress(content)

        return squeeze

    plain, checked = real(), real(write_checksum=True)
    needs = ("zstandard",)
    return {
        "raw-block": (raw, ()),
        "raw-blocks": (lambda content: raw(content, parts=5), ()),
        "run-blocks": (runs, ()),
        "empty-last-block": (
            lambda content: (
                raw(content)[:9]
                + block(0, len(content), last=False)
                + content
                + block(0, 0, last=True)
            ),
            (),
        ),
        "eight-byte-size": (
            lambda content: raw(content, descriptor=0xE0, size=struct.pack("<Q", len(content))),
            (),
        ),
        "two-byte-size": (
            lambda content: raw(
                content, descriptor=0x60, size=struct.pack("<H", len(content) - 256)
            ),
            (),
        ),
        "window-no-size": (lambda content: raw(content, descriptor=0x00, size=b"\x58"), ()),
        "window-and-size": (
            lambda content: raw(
                content, descriptor=0x80, size=b"\x58" + struct.pack("<I", len(content))
            ),
            (),
        ),
        "dictionary-id-zero": (
            lambda content: raw(
                content, descriptor=0xA1, size=b"\0" + struct.pack("<I", len(content))
            ),
            (),
        ),
        "raw-frames": (lambda content: b"".join(raw(part) for part in thirds(content)), ()),
        "skippable-first": (lambda content: skippable + raw(content), ()),
        "skippable-between": (
            lambda content: raw(content[:99]) + skippable * 2 + raw(content[99:]) + skippable,
            (),
        ),
        "empty-frame": (lambda content: raw(b"") + raw(content) + raw(b""), ()),
        "no-content-size": (real(write_content_size=False), needs),
        "checksum": (checked, needs),
        "checksum-no-size": (real(write_checksum=True, write_content_size=False), needs),
        "frames": (lambda content: b"".join(plain(part) for part in thirds(content)), needs),
        "frames-mixed": (
            lambda content: (
                checked(content[:64]) + skippable + raw(content[64:128]) + plain(content[128:])
            ),
            needs,
        ),
        "frames-no-size": (
            lambda content: b"".join(
                real(write_content_size=False)(part) for part in thirds(content)
            ),
            needs,
        ),
    }


def blosc_forms() -> Forms:
    def header(flags: int, typesize: int, nbytes: int, blocksize: int, cbytes: int) -> bytes:
        return struct.pack("<BBBBIII", 2, 1, flags, typesize, nbytes, blocksize, cbytes)

    def copied(content: bytes, flags: int = 2, typesize: int = 4) -> bytes:
        return header(flags, typesize, len(content), len(content), len(content) + 16) + content

    def stored(content: bytes) -> bytes:
        """One lz4 block that was not worth compressing: its size equals the block's, shuffled nevertheless."""
        rows = np.frombuffer(content, np.uint8).reshape(-1, 4).T.tobytes()
        body = struct.pack("<I", 20) + struct.pack("<I", len(rows)) + rows
        return header(0x01 | 0x10 | 1 << 5, 4, len(content), len(content), 16 + len(body)) + body

    def real(**settings: Any) -> Squeeze:
        def squeeze(content: bytes) -> bytes:
            from numcodecs import blosc

            chosen = {
                "cname": b"lz4",
                "clevel": 5,
                "shuffle": 1,
                "blocksize": 0,
                "typesize": 4,
            } | settings
            view = np.frombuffer(content, f"V{chosen.pop('typesize')}")
            return bytes(
                blosc.compress(
                    view, chosen["cname"], chosen["clevel"], chosen["shuffle"], chosen["blocksize"]
                )
            )

        return squeeze

    codec = ("numcodecs",)
    return {
        "copied": (copied, ()),
        "copied-bytes": (lambda content: copied(content, typesize=1), ()),
        "copied-shuffle-flag": (lambda content: copied(content, flags=3), ()),
        "stored-block": (stored, ()),
        "other-typesize": (real(typesize=8), codec),
        "other-cname": (real(cname=b"zstd"), codec),
        "other-shuffle": (real(shuffle=2), codec),
        "small-blocks": (real(blocksize=64), codec),
        "no-shuffle": (real(shuffle=0), codec),
    }

"""Decompressors: for each format the fastest library that is kept, behind one form.

Measured on 2 shared cores against numcodecs' `decode(out=)`, best of alternating runs:

    zstd, 4 KiB     zstandard with one context a thread     2.0x  (a context a call costs 9 us)
    zstd, 64 KiB    the same                                1.0x
    zstd, 256 KiB   numcodecs                               1.1x zstandard
    gzip, 4 MiB     libdeflate (deflate)                    4.6x
    zlib, 4 MiB     libdeflate                              3.9x
    lz4, blosc      numcodecs                               1.0x

Everything that those paths do not take (several members, no size in the header, a size that is not
known beforehand) goes through Python's own incremental decompressors, which stop at a limit.
"""

from __future__ import annotations

import bz2
import lzma
import threading
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, assert_never

import deflate
import numcodecs.lz4

from gpuzarr.engines.cpu import blosc, blosc_parts, zstd
from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.cpu.prepared import Limit, Prepared, new_bytes
from gpuzarr.engines.step_error import DamageError, expect_nbytes
from gpuzarr.program import Decompress

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Run, RunBytes
    from gpuzarr.program import DecodeProgram

PIECE = 1 << 16
"""Members are fed in pieces of this size, since what follows a member is copied."""
MEMORY_LIMIT = 1 << 30
"""The most memory for an LZMA dictionary (the largest preset needs 65 MiB)."""
SIZE_PREFIX = 4
"""Bytes of the size in front of numcodecs' LZ4 blocks."""


def unsupported(step: Decompress) -> tuple[str, ...]:
    """Why this machine cannot undo a compressor."""
    if step.format == "blosc" and load(step.configuration).get("cname") == "snappy":
        return ("Blosc with snappy cannot be decoded: numcodecs is built without it",)
    return ()


def prepare(name: str, step: Decompress, nbytes: int | None, limit: Limit) -> Prepared:
    """The function of a compressor's step."""
    run: Run
    match step.format:
        case "zstd":
            return zstd.prepare(name, nbytes, limit)
        case "gzip":
            run = _gzip(nbytes, limit)
        case "zlib":
            run = _zlib(nbytes, limit)
        case "lz4":
            run = _lz4(nbytes, limit)
        case "blosc":
            run = blosc.prepare(nbytes, limit)
        case "bz2":
            run = _members(bz2.BZ2Decompressor, nbytes, limit, lenient=True)
        case "lzma":
            run = _lzma(load(step.configuration), nbytes, limit)
        case _:
            assert_never(step.format)
    writes = step.format in ("lz4", "blosc")
    by_parts = step.format == "blosc" and nbytes is not None
    spans = blosc_parts.decode_spans if by_parts else None
    return Prepared(name, run, nbytes, writes, run_spans=spans)


def may_run_here(program: DecodeProgram) -> bool:
    """Whether this thread may decode such chunks beside others.

    In the main thread numcodecs would let Blosc start threads of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return True
    return all(
        not (isinstance(step, Decompress) and step.format == "blosc") for step in program.steps
    )


# ------------------------------------------------------------------------------ gzip and zlib

GZIP_WBITS = 31


def _gzip(nbytes: int | None, limit: Limit) -> RunBytes:
    slow = _members(lambda: zlib.decompressobj(GZIP_WBITS), nbytes, limit)

    def decode_gzip(encoded: memoryview, target: memoryview | None) -> memoryview:
        # libdeflate stops after the first member without saying where; that the size at the very
        # end is the expected one tells that there is but one.
        if nbytes and int.from_bytes(encoded[-4:], "little") == nbytes & 0xFFFFFFFF:
            with suppress(deflate.DeflateError):
                data = deflate.gzip_decompress(encoded, nbytes)
                if len(data) == nbytes:
                    return memoryview(data)
        return slow(encoded, target)

    return decode_gzip


def _zlib(nbytes: int | None, limit: Limit) -> RunBytes:
    # zlib streams have no members; like zlib.decompress, this ignores what follows.
    slow = _members(zlib.decompressobj, nbytes, limit, several=False)

    def decode_zlib(encoded: memoryview, target: memoryview | None) -> memoryview:
        if nbytes:
            with suppress(deflate.DeflateError):
                data = deflate.zlib_decompress(encoded, nbytes)
                if len(data) == nbytes:
                    return memoryview(data)
        return slow(encoded, target)

    return decode_zlib


# ----------------------------------------------------------------- incremental decompressors


def _members(
    start: Callable[[], Any],
    nbytes: int | None,
    limit: Limit,
    *,
    several: bool = True,
    lenient: bool = False,
) -> RunBytes:
    """Decode members one after the other.

    Args:
        start: makes a new decompressor for each member.
        nbytes: bytes that all members together must give, where that is known.
        limit: the most that they may give, where it is not.
        several: whether there may be more than one; else what follows is ignored.
        lenient: whether what follows is ignored where it is no member, as Python's bz2 and lzma do.
    """

    def decode_members(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        most = limit.of(encoded) if nbytes is None else nbytes
        data = bytearray()
        used = 0
        while True:
            used = _decode_member(start(), encoded, used, data, most)
            rest = encoded[used:]
            # Zeros behind the last member are padding, as for Python's gzip module.
            if not several or not bytes(rest[:PIECE]).strip(b"\0"):
                return memoryview(data)
            if lenient and not _begins_member(start(), rest):
                return memoryview(data)

    return decode_members


def _begins_member(decompressor: Any, rest: memoryview) -> bool:
    try:
        decompressor.decompress(rest[:PIECE], 1)
    except (OSError, lzma.LZMAError):
        return False
    return True


def _decode_member(
    decompressor: Any, encoded: memoryview, used: int, data: bytearray, most: int
) -> int:
    """Append one member to `data`; gives where it ends in `encoded`."""
    while not decompressor.eof:
        piece: Any = encoded[used : used + PIECE]
        if not piece:
            raise DamageError(f"the data end early, after {len(data)} bytes")
        used += len(piece)
        while True:
            # One byte more than there may be shows that there is more.
            data += decompressor.decompress(piece, most + 1 - len(data))
            if len(data) > most:
                raise DamageError(f"more than {most} bytes came out")
            # zlib hands back what it did not take, the others keep it.
            piece = getattr(decompressor, "unconsumed_tail", b"")
            if decompressor.eof or (not piece and getattr(decompressor, "needs_input", True)):
                break
    return used - len(decompressor.unused_data)


def _lzma(configuration: dict[str, Any], nbytes: int | None, limit: Limit) -> RunBytes:
    form = configuration["format"]
    filters = configuration.get("filters")

    def start() -> lzma.LZMADecompressor:
        if form == lzma.FORMAT_RAW:
            return lzma.LZMADecompressor(form, filters=filters)
        return lzma.LZMADecompressor(form, memlimit=MEMORY_LIMIT)

    return _members(start, nbytes, limit, several=form != lzma.FORMAT_RAW, lenient=True)


# ----------------------------------------------------------------------------------------- lz4


def _lz4(nbytes: int | None, limit: Limit) -> RunBytes:
    def decode_lz4(encoded: memoryview, target: memoryview | None) -> memoryview:
        if len(encoded) < SIZE_PREFIX:
            raise DamageError(f"{len(encoded)} bytes are too few to hold a size")
        size = int.from_bytes(encoded[:SIZE_PREFIX], "little")
        if nbytes is not None:
            expect_nbytes(size, nbytes)
        elif size > limit.of(encoded):
            raise DamageError(f"{size} bytes are more than these chunks can have")
        if size == 0:
            # numcodecs takes a size of zero for an error; the block is a token or nothing.
            if any(encoded):
                raise DamageError("a block of zero bytes holds some")
            return memoryview(b"")
        place = new_bytes(size) if target is None else target
        numcodecs.lz4.decompress(encoded, place)
        return place

    return decode_lz4

"""How a compressed zip entry becomes its object again: piece by piece, never more than it promised.

The declared size bounds what is decompressed and is compared with what came out, and the checksum
is compared whenever all bytes were seen, so neither a bomb nor damage becomes data.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Protocol

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.zip.entries import DEFLATED, LZMA, check_crc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.stores.zip.entries import Entry

_PIECE_IN = 1 << 18
_PIECE_OUT = 1 << 20
_DOUBTFUL_NBYTES = 16 << 20
_DOUBTFUL_RATIO = 64


def inflate(
    read: Callable[[int, int], bytes], entry: Entry, key: str, start: int, memory: memoryview
) -> None:
    """Fill `memory` with the object's bytes from `start` on, decompressing no more than needed.

    Args:
        read: gives the stored bytes from an offset in the entry's data, so many.
        entry: the entry.
        key: its name, for errors.
        start: first byte of the object that is wanted.
        memory: where the bytes go.

    Raises:
        StoreError: the stream is damaged, of another size than promised, or its checksum is wrong.
            The checksum can only be known when the last byte is among those wanted.
    """
    stop = start + len(memory)
    done = crc = 0
    for piece in _inflate_pieces(read, entry, key):
        done, before = done + len(piece), done
        if done > entry.size:
            break
        first, last = max(before, start), min(done, stop)
        if first < last:
            memory[first - start : last - start] = memoryview(piece)[first - before : last - before]
        if done >= stop and stop < entry.size:
            return
        crc = zlib.crc32(piece, crc)
    if done != entry.size:
        raise StoreError(
            f"the archive is damaged: the entry holds {'more' if done > entry.size else 'fewer'} "
            f"than the {entry.size} bytes it promises",
            key=key,
        )
    check_crc(entry, key, crc)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflater:
    """`zlib.decompressobj` with the interface of the other two."""

    __slots__ = ("_filled", "_stream")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._filled = False

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not (self._stream.unconsumed_tail or self._filled)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        piece = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self._filled = len(piece) == max_length
        return piece


def check_promise(read: Callable[[int, int], bytes], entry: Entry, key: str) -> None:
    """Before memory is taken for an object that promises to be very much larger than it is stored.

    Decompresses it once to nowhere. Rare: hardly anything but a constant compresses so well.

    Raises:
        StoreError: as `inflate`.
    """
    if entry.size > _DOUBTFUL_NBYTES and entry.size > entry.stored * _DOUBTFUL_RATIO:
        inflate(read, entry, key, entry.size, memoryview(b""))


def _inflate_pieces(read: Callable[[int, int], bytes], entry: Entry, key: str) -> Iterator[bytes]:
    """The object in pieces of bounded size, one after the other."""
    position = 0
    if entry.method == LZMA:
        position, stream = _open_lzma(read, entry, key)
    else:
        stream = _open_stream(entry.method, key)
    try:
        while position < entry.stored and not stream.eof:
            data = read(position, min(_PIECE_IN, entry.stored - position))
            position += len(data)
            yield stream.decompress(data, _PIECE_OUT)
            while not (stream.needs_input or stream.eof):
                yield stream.decompress(b"", _PIECE_OUT)
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # zlib.error, OSError, LZMAError and EOFError, all by damage
        raise StoreError(
            f"the archive is damaged: the entry cannot be decompressed ({error})", key=key
        ) from error


def _open_stream(method: int, key: str) -> _Decompressor:
    if method == DEFLATED:
        return _Inflater()
    try:
        import bz2  # noqa: PLC0415 -- rare
    except ImportError as error:
        raise UnsupportedError("this Python was built without bzip2", key=key) from error
    return bz2.BZ2Decompressor()


def _open_lzma(
    read: Callable[[int, int], bytes], entry: Entry, key: str
) -> tuple[int, _Decompressor]:
    """Where the stream begins behind its properties, and a decompressor for them."""
    try:
        import lzma  # noqa: PLC0415 -- rare
    except ImportError as error:
        raise UnsupportedError("this Python was built without LZMA", key=key) from error
    if entry.stored < 9:  # noqa: PLR2004 -- version, length, and the five bytes of properties
        raise StoreError("the archive is damaged: the entry is too short for LZMA", key=key)
    _, length, packed, dictionary = struct.unpack("<HHBI", read(0, 9))
    rest, literal_context = divmod(packed, 9)
    positions, literal_positions = divmod(rest, 5)
    lzma1 = {
        "id": lzma.FILTER_LZMA1,
        # The dictionary's memory is taken at once, but no entry can refer further back than its
        # own first byte.
        "dict_size": max(4096, min(dictionary, entry.size)),
        "lc": literal_context,
        "lp": literal_positions,
        "pb": positions,
    }
    try:
        return 4 + length, lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1])
    except (lzma.LZMAError, ValueError, MemoryError) as error:
        raise StoreError(
            f"the archive is damaged: wrong LZMA properties ({error})", key=key
        ) from error
